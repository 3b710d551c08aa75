"""Run folders that live at a URL: what comes, what goes, and workers without a common folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import Bed, SlowTeacher, seen_whole, wait_until

from reasondistill.cli import app
from reasondistill.errors import ConfigError, StageError, StorageError
from reasondistill.pipeline import Task, is_needed
from reasondistill.records import Dropped
from reasondistill.runs import layout, remote
from reasondistill.runs.remote import Remote
from reasondistill.runs.remote.folder import _version  # pyright: ignore[reportPrivateUsage]
from reasondistill.runs.store import Shard, read_keys
from reasondistill.runs.work_sharing import Share


def url(folder: Path) -> str:
    return f"file://{folder}"


def test_what_changed_is_published_and_fetched_and_nothing_else(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "a").mkdir(parents=True)
    (here / "a" / "x.jsonl").write_text("1\n")
    (here / "a" / "manifest.json").write_text("{}")
    (here / ".lock").write_text("")
    with Remote(url(there), here) as first:
        assert first.publish() == 2 and first.publish() == 0
    assert sorted(path.name for path in there.rglob("*") if path.is_file()) == [
        "manifest.json",
        "x.jsonl",
    ]
    with Remote(url(there), tmp_path / "other") as other:
        assert other.fetch(lambda name: name.startswith("a/")) == 2 and other.fetch() == 0
        (tmp_path / "other" / "a" / "x.jsonl").write_text("2\n")
    with Remote(url(there), here) as first:
        assert first.fetch() == 1 and (here / "a" / "x.jsonl").read_text() == "2\n"
        (here / "a" / "x.jsonl").unlink()
    assert not (there / "a" / "x.jsonl").exists()


def test_what_is_kept_here_is_not_removed_when_the_url_is_empty(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "x.jsonl").write_text("1\n")
    with Remote(url(there), here) as first:
        first.publish()
    (there / "x.jsonl").unlink()
    (here / "run.json").write_text("changed")
    for _ in range(2):  # nor after what changed here would have been published
        with (
            pytest.raises(StageError, match="is empty, although 1 files"),
            Remote(url(there), here) as made,
        ):
            made.fetch()
    assert (here / "x.jsonl").read_text() == "1\n" and not list(there.iterdir())
    (here / ".remote.jsonl").unlink()
    with Remote(url(there), here) as again:
        assert again.fetch() == 0
    assert (there / "x.jsonl").read_text() == "1\n"


def filled(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_what_is_there_is_not_removed_when_the_folder_here_vanishes_or_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (
        filled(tmp_path / "here", **{"run.json": "{}", "a/x.jsonl": "1"}),
        tmp_path / "there",
    )
    made = Remote(url(there), here)
    assert made.publish() == 2
    scandir = os.scandir

    def failing(path: str) -> Any:
        return scandir(path) if Path(path).name != "a" else full()

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        with pytest.raises(StorageError, match="Too many open files"):
            made.publish()
    shutil.rmtree(here)
    with pytest.raises(StageError, match="has vanished"):
        made.publish()
    assert (there / "a" / "x.jsonl").exists() and (there / "run.json").exists()


def test_what_grew_here_is_not_overwritten_by_what_had_been_published_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is killed between a put and what comes after, or the network goes: the same
    folder goes on.
    """
    here, there = (
        filled(tmp_path / "here", **{"x.jsonl": "1\n", "y.jsonl": "1\n"}),
        tmp_path / "there",
    )
    made = Remote(url(there), here)
    put = made._put  # pyright: ignore[reportPrivateUsage]

    def one_alone(name: str, state: tuple[int, int]) -> bool:
        if name == "y.jsonl":
            raise OSError("no route")
        return put(name, state)

    monkeypatch.setattr(made, "_put", one_alone)
    with pytest.raises(StorageError, match="no route"):
        made.publish()
    filled(here, **{"x.jsonl": "1\n2\n3\n"})
    again = Remote(url(there), here)
    assert again.fetch(is_first=True) == 0 and (here / "x.jsonl").read_text() == "1\n2\n3\n"
    assert again.publish() == 2 and (there / "x.jsonl").read_text() == "1\n2\n3\n"


def test_a_kill_while_a_file_comes_or_goes_is_known_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, other = (
        filled(tmp_path / "here", **{"x.jsonl": "1"}),
        tmp_path / "there",
        tmp_path / "other",
    )
    made = Remote(url(there), here)
    monkeypatch.setattr(made._fs, "info", killed)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(Killed):
        made.publish()
    monkeypatch.undo()
    filled(here, **{"x.jsonl": "1 2"})
    made = Remote(url(there), here)
    assert (
        made.fetch(is_first=True) == 0
        and made.publish() == 1
        and (there / "x.jsonl").read_text() == "1 2"
    )
    got = Remote(url(there), other)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killed)
        got.fetch()
    filled(other, **{"x.jsonl": "1"})  # had it come to that, in an older version
    filled(here, **{"x.jsonl": "1 2 3"})
    assert made.publish() == 1
    got = Remote(url(there), other)
    assert (
        got.publish() == 0
        and got.fetch(is_first=True) == 1
        and (other / "x.jsonl").read_text() == "1 2 3"
    )


class Killed(BaseException): ...


def killed(*_: object) -> None:
    raise Killed


def test_two_machines_take_turns_and_two_histories_are_refused(tmp_path: Path) -> None:
    first, second, there = (
        filled(tmp_path / "a", **{"x.jsonl": "1"}),
        tmp_path / "b",
        tmp_path / "there",
    )
    Remote(url(there), first).publish()
    for here, other in ((second, first), (first, second), (second, first)):
        made = Remote(url(there), here)
        assert made.fetch(is_first=True) == 1 and (here / "x.jsonl").read_text() == (
            (other / "x.jsonl").read_text()
        )
        filled(here, **{"x.jsonl": (here / "x.jsonl").read_text() + "1"})
        assert made.publish() == 1
    filled(first, **{"x.jsonl": "another way"})  # and is killed
    with pytest.raises(
        StageError, match=r"1 files, x.jsonl among them, changed here and at .*remove .*a\."
    ):
        Remote(url(there), first).fetch(is_first=True)
    assert (first / "x.jsonl").read_text() == "another way" and (
        there / "x.jsonl"
    ).read_text() == "1111"


def test_a_stage_that_ends_while_it_is_published_is_not_finished_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (
        filled(tmp_path / "here", **{"s/manifest.json": "partial", "s/traces.jsonl": "1"}),
        tmp_path / "there",
    )
    made = Remote(url(there), here)
    put = made._put  # pyright: ignore[reportPrivateUsage]

    def ending(name: str, state: tuple[int, int]) -> bool:
        went = put(name, state)
        if name == "s/traces.jsonl":
            filled(
                here,
                **{"s/traces.jsonl": "1 2", "s/more.jsonl": "3", "s/manifest.json": "complete"},
            )
        return went

    monkeypatch.setattr(made, "_put", ending)
    assert made.publish() == 1 and not (there / "s" / "manifest.json").exists()
    monkeypatch.undo()
    assert made.publish() == 3 and (there / "s" / "manifest.json").read_text() == "complete"


def test_the_index_of_split_weights_is_published_too(tmp_path: Path) -> None:
    """torch's name for it is .metadata; without it a checkpoint of FSDP cannot be loaded."""
    place = "5-students/a/checkpoints/checkpoint-1/optimizer_0"
    here = filled(
        tmp_path / "here",
        **{f"{place}/.metadata": "i", f"{place}/.metadata.tmp": "", f"{place}/__0_0.distcp": "w"},
    )
    assert Remote(url(tmp_path / "there"), here).publish() == 2
    assert (tmp_path / "there" / place / ".metadata").exists()


def test_what_a_repair_or_a_person_may_put_back_is_published_too(tmp_path: Path) -> None:
    names = ["2-traces/topk/.topk.copy.json", "2-traces/.traces.jsonl.taken-out"]
    made = Remote(
        url(tmp_path / "there"),
        filled(tmp_path / "here", **dict.fromkeys([*names, "2-traces/.times.json"], "{}")),
    )
    assert made.publish() == 2
    assert all((tmp_path / "there" / name).exists() for name in names)


def test_tokenised_rows_are_not_published(tmp_path: Path) -> None:
    here = filled(tmp_path / "here", **{"run.json": "{}"})
    rows = here / layout.TOKENS / "0123456789abcdef.arrow"
    rows.parent.mkdir()
    rows.write_bytes(b"rows")
    with Remote(url(tmp_path / "there"), here) as copy:
        copy.publish()
    assert (tmp_path / "there" / "run.json").exists()
    assert not (tmp_path / "there" / layout.TOKENS).exists()


def test_a_version_is_the_etag_where_there_is_one() -> None:
    """MinIO gives the time of an object in seconds or in milliseconds, by what it is asked."""
    listed = {"size": 3, "ETag": '"abc"', "LastModified": "2026-01-01 10:00:00.123"}
    assert _version(listed) == _version(
        {"size": 3, "ETag": '"abc"', "LastModified": "2026-01-01 10:00:00"}
    )
    assert _version(listed) != _version(listed | {"ETag": '"abd"'})
    assert _version({"size": 3, "mtime": 1.5}) != _version({"size": 3, "mtime": 2.5})


def test_a_part_that_is_gathered_while_it_is_published_stays_there_until_its_lines_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = "2-traces/traces.jsonl", "2-traces/parts/a/w0-1/traces.jsonl"
    here, there = filled(tmp_path / "here", **{whole: "1", part: "2"}), tmp_path / "there"
    made = Remote(url(there), here)
    made.publish()
    states, calls = made._states, list[int]()  # pyright: ignore[reportPrivateUsage]

    def torn() -> Iterator[tuple[str, tuple[int, int]]]:
        """A walk that has passed the stage's own file when the part is gathered, and comes to the
        part afterwards.
        """
        calls.append(1)
        found = list(states())
        if len(calls) == 3:
            filled(here, **{whole: "1 2"})
            (here / part).unlink()
            found = [(name, state) for name, state in found if name != part]
        yield from found

    monkeypatch.setattr(made, "_states", torn)
    made.publish()
    assert (there / part).exists() and len(calls) == 3
    monkeypatch.undo()
    made.publish()
    assert not (there / part).exists() and (there / whole).read_text() == "1 2"


def test_no_line_is_published_before_its_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the machine is lost, whatever is at the URL counts."""
    here, there = tmp_path / "here", tmp_path / "there"
    shard = Shard(here / "2-traces" / "traces.jsonl")
    numbers = itertools.count()

    def append() -> None:
        rows = (Dropped(trace_id=f"p:{next(numbers)}", problem_id="p", reason="x") for _ in "123")
        shard.append(rows)

    append()
    made = Remote(url(there), here)
    put, told = made._put, list[str]()  # pyright: ignore[reportPrivateUsage]

    def growing(name: str, state: tuple[int, int]) -> bool:
        append()
        was_put = put(name, state)
        append()
        told.append(name.rpartition("/")[2])
        copy = tmp_path / f"copy-{len(told)}"
        shutil.copytree(there, copy)
        published = copy / "2-traces" / "traces.jsonl"
        if published.exists():
            lines = published.read_bytes().count(b"\n")
            assert lines == len(list(read_keys(published, "trace_id"))) > 0
        return was_put

    monkeypatch.setattr(made, "_put", growing)
    for _ in range(3):
        made.publish()
    assert told == 3 * ["traces.jsonl.sums", "traces.jsonl"]
    monkeypatch.undo()
    made.publish()
    assert (there / "2-traces" / "traces.jsonl").read_bytes() == shard.path.read_bytes()


def test_nothing_is_published_before_it_is_known_that_nobody_else_worked_on_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (
        filled(tmp_path / "here", **{"x.jsonl": "old"}),
        filled(tmp_path / "there", **{"x.jsonl": "new"}),
    )
    monkeypatch.setenv(remote.PUBLISH_S, "0.05")
    made = Remote(url(there), here)
    found = made._found  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(made, "_found", lambda: time.sleep(0.5) or found())
    with pytest.raises(StageError, match="another machine"), made:
        made.fetch(is_first=True)
    assert (there / "x.jsonl").read_text() == "new" and (here / "x.jsonl").read_text() == "old"


def test_a_copy_that_cannot_be_listed_at_the_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, scratch = (
        filled(tmp_path / "there", **{"run/run.json": "{}"}),
        filled(tmp_path / "scratch", **{"s/other": ""}),
    )
    monkeypatch.setenv(remote.SCRATCH, str(scratch))
    monkeypatch.setattr("reasondistill.runs.remote.folder.PATIENCE_S", 0.0)
    scandir = os.scandir
    with (
        pytest.raises(StorageError, match="Too many"),
        remote.lent(f"{url(there)}/run", lambda _: True) as here,
    ):
        filled(here, **{"a/x.jsonl": "hours of work"})
        monkeypatch.setattr(
            os, "scandir", lambda path: scandir(path) if Path(path).name != "a" else full()
        )
    assert (here / "a" / "x.jsonl").read_text() == "hours of work"


def full() -> None:
    raise OSError(24, "Too many open files")


def test_what_cannot_be_published_stays_and_copies_of_the_killed_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, there = tmp_path / "scratch", tmp_path / "there"
    scratch.mkdir()
    filled(there, **{"run/run.json": "{}"})
    monkeypatch.setenv(remote.SCRATCH, str(scratch))
    monkeypatch.setattr("reasondistill.runs.remote.folder.PATIENCE_S", 2.0)
    with remote.lent(f"{url(there)}/run", lambda _: True) as here:
        code = (
            f"import os, sys; sys.path[:0] = [{os.getcwd()!r}]\n"
            "from reasondistill.runs import remote\n"
        )
        code += (
            f"with remote.lent({f'{url(there)}/run'!r}, lambda _: True): os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code], check=False)
        assert len(list(scratch.iterdir())) == 2
        with remote.lent(f"{url(there)}/run", lambda _: True):
            assert len(list(scratch.iterdir())) == 2 and here.exists()
    assert not list(scratch.iterdir())
    with (
        pytest.raises(StorageError, match="All work is in") as caught,
        remote.lent(f"{url(there)}/run", lambda _: True) as here,
    ):
        filled(here, **{"x.jsonl": "hours of work"})
        shutil.rmtree(there)
        there.write_text("no folder any more")
    assert str(here) in str(caught.value) and (here / "x.jsonl").read_text() == "hours of work"
    there.unlink()
    filled(there, **{"run/run.json": "{}"})
    with remote.lent(f"{url(there)}/run", lambda _: True):
        assert here.exists()


def test_the_last_publishing_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = filled(tmp_path / "here", **{"x.jsonl": "1"}), tmp_path / "there"
    made = Remote(url(there), here)
    put, failures = made._put, [OSError("no route")] * 2  # pyright: ignore[reportPrivateUsage]

    def at_last(name: str, state: tuple[int, int]) -> bool:
        if failures:
            raise failures.pop()
        return put(name, state)

    monkeypatch.setattr(made, "_put", at_last)
    with made:
        made.fetch()
    assert (there / "x.jsonl").exists()


def test_what_a_file_system_raises_is_said_and_publishing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """botocore's errors are no OSErrors."""
    monkeypatch.setenv(remote.PUBLISH_S, "0.05")
    here = tmp_path / "here"
    here.mkdir()
    (here / "x.jsonl").write_text("1\n")
    with Remote(url(tmp_path / "there"), here) as made:
        made.fetch()
        put, fails = made._put, [True]  # pyright: ignore[reportPrivateUsage]

        def lost(name: str, state: tuple[int, int]) -> bool:
            if fails:
                raise RuntimeError("no route")
            return put(name, state)

        monkeypatch.setattr(made, "_put", lost)
        wait_until(
            lambda: "cannot be written: RuntimeError: no route. All work is in" in caplog.text
        )
        fails.clear()
        wait_until((tmp_path / "there" / "x.jsonl").exists)


def test_marks_of_being_finished_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    here = tmp_path / "here"
    for name in (
        "2-traces/manifest.json",
        "2-traces/traces.jsonl",
        "2-traces/parts/attempt.json",
        "1-problems/manifest.json",
        "1-problems/.manifest.copy.json",
        "5-students/a/checkpoints/checkpoint-1/sums.json",
        "5-students/a/checkpoints/checkpoint-1/trainer_state.json",
        "run.json",
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x")
    with Remote(url(tmp_path / "there"), here) as made:
        put = made._put  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(
            made, "_put", lambda name, state: order.append(name) or put(name, state)
        )
        made.publish()
    assert order == [
        "2-traces/traces.jsonl",
        "run.json",
        "5-students/a/checkpoints/checkpoint-1/trainer_state.json",
        "5-students/a/checkpoints/checkpoint-1/sums.json",
        "2-traces/parts/attempt.json",
        "1-problems/.manifest.copy.json",
        "1-problems/manifest.json",
        "2-traces/manifest.json",
    ]


def test_only_one_makes_an_object(tmp_path: Path) -> None:
    fs, place = remote.file_system(url(tmp_path / "claims"))
    won: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: won.append(n) if remote.create(fs, place, "7", b"w") else None
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and remote.names_in(fs, place) == ["7"]


CLUSTER = """\
storage = "{{store}}"
[stages.traces]
shards = {shards}
[stages.verdicts]
shards = 2
[grade]
workers = 1
"""


def test_a_run_on_one_machine_lives_at_its_url_and_goes_on_from_an_empty_folder(
    tmp_path: Path, slow_teacher: SlowTeacher, undisturbed: dict[str, object]
) -> None:
    store = url(tmp_path / "store")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = Bed(tmp_path / "a", slow_teacher, CLUSTER.replace("{{store}}", store))
    first.call_forked("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    second = Bed(tmp_path / "b", slow_teacher, CLUSTER.replace("{{store}}", store))
    slow_teacher.asked.clear()
    second.call_forked("run", "sums.toml", "--on", "cluster.toml", "--until", "examples")
    assert not slow_teacher.asked
    for name, records in undisturbed.items():
        assert second.records(name) == records, name
    assert not list((tmp_path / "store").rglob("w*-*")), "parts are gathered there too"


@pytest.fixture(params=["file", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A URL where runs may live; the S3 is moto's and needs `pip install s3fs "moto[server]"`."""
    if request.param == "file":
        yield url(tmp_path / "store")
        return
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "y",
        "DEFAULT_REGION": "us-east-1",
        "ENDPOINT_URL": f"http://{host}:{port}",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fs, _ = remote.file_system("s3://bucket")
    fs.clear_instance_cache()  # it knows the server of the test before
    remote.file_system("s3://bucket")[0].mkdir(
        f"bucket-{port}"
    )  # a server remembers those of the one before
    yield f"s3://bucket-{port}/runs"
    server.stop()


@pytest.fixture
def apart(tmp_path: Path, store: str, slow_teacher: SlowTeacher) -> Apart:
    return Apart(tmp_path, f"{store}/sums", slow_teacher)


class Apart:
    """A run at a URL whose problems are made, and processes with nothing in common but that, as
    Ray's tasks where nodes share no folder.
    """

    def __init__(self, folder: Path, store: str, teacher: SlowTeacher) -> None:
        bed = Bed(folder, teacher, CLUSTER.replace('storage = "{{store}}"\n', ""))
        bed.call_forked("run", "sums.toml", "--on", "cluster.toml", "--until", "problems")
        with Remote(store, bed.run) as made:
            made.publish()
        self.store, self.scratch = store, folder / "scratch"
        self.scratch.mkdir()
        aws = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        self._environment = bed.environment | aws | {remote.SCRATCH: str(self.scratch)}

    def task(self, share: str, **environment: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "reasondistill",
            "task",
            self.store,
            "traces",
            "--share",
            share,
        ]
        told = subprocess.PIPE
        return subprocess.Popen(
            command,
            env=self._environment | environment,
            cwd=self.scratch.parent,
            stdout=told,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def all_done(self, *shares: str) -> None:
        for process in [self.task(share) for share in shares]:
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said

    def files(self) -> dict[str, bytes]:
        """What is there of the traces."""
        fs, place = remote.file_system(f"{self.store}/2-traces")

        def read() -> dict[str, bytes]:
            fs.invalidate_cache()
            return {path[len(place) + 1 :]: fs.cat_file(path) for path in fs.find(place)}

        return seen_whole(read)

    def keys(self) -> list[str]:
        return [json.loads(line)["key"] for line in self.files()["traces.jsonl"].splitlines()]

    def drawn(self, worker: int) -> int:
        """Traces that a worker has published and nobody has gathered."""
        return sum(
            text.count(b"\n")
            for name, text in self.files().items()
            if f"/w{worker}-" in name and name.endswith("/traces.jsonl")
        )


def test_workers_without_a_common_folder_make_the_same_records(
    apart: Apart, slow_teacher: SlowTeacher, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    apart.all_done("open:0:2")
    slow_teacher.delay_s = 0.1
    apart.all_done("work:0:2", "work:1:2")
    apart.all_done("close:0:2")
    assert len(slow_teacher.asked) == 120 and set(slow_teacher.asked.values()) == {1}
    assert not list(apart.scratch.iterdir())
    assert apart.keys() == [row["key"] for row in undisturbed["2-traces/traces.jsonl"]]
    assert sorted(apart.files()) == [
        ".manifest.copy.json",
        "manifest.json",
        "metrics.jsonl",
        "servers.jsonl",
        "traces.jsonl",
    ]


def test_what_a_killed_worker_had_published_stays_done_and_the_rest_is_done_again(
    apart: Apart, slow_teacher: SlowTeacher, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """Worker 0 dies after it published some, worker 1 before it published any; each claimed chunks
    that nobody else will do.
    """
    apart.all_done("open:0:2")
    slow_teacher.delay_s = 0.3
    first, second = apart.task("work:0:2", **{remote.PUBLISH_S: "0.3"}), apart.task("work:1:2")
    wait_until(lambda: apart.drawn(0) >= 10)
    for process in (first, second):
        process.kill()
        process.communicate()
    time.sleep(2 * slow_teacher.delay_s)  # what was being asked is counted
    published, asked = apart.drawn(0), slow_teacher.asked.total()
    assert published >= 10 and apart.drawn(1) == 0 and asked < 100
    slow_teacher.delay_s = 0.0
    apart.all_done("work:0:2", "work:1:2")
    apart.all_done("close:0:2")
    assert slow_teacher.asked.total() == asked + 120 - published
    assert apart.keys() == [row["key"] for row in undisturbed["2-traces/traces.jsonl"]]
    assert sorted(apart.files()) == [
        ".manifest.copy.json",
        "manifest.json",
        "metrics.jsonl",
        "servers.jsonl",
        "traces.jsonl",
    ]


def test_a_task_whose_url_fails_ends_as_after_a_crash_so_that_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(remote.SCRATCH, str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        app(["task", f"{url(tmp_path)}/run", "traces", "--share", "work:0:2"])
    assert ended.value.code == 2 and "/run: not a run folder" in capsys.readouterr().out
    monkeypatch.setattr(remote.Remote, "_found", lambda _: [][1])
    with pytest.raises(SystemExit) as ended:
        app(["task", f"{url(tmp_path)}/run", "traces", "--share", "work:0:2"])
    assert ended.value.code == 1 and "/run: cannot be read: IndexError" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["traces", "verdicts", "students", "evals"])
def test_every_task_sees_which_stages_are_finished(stage: str) -> None:
    """For whether something may be drawn again depends on what was made from it."""
    assert is_needed(Task(stage, share=Share("work", 0, 2)), "5-students/sft/manifest.json")
    assert not is_needed(Task(stage), "7-report/report.html")


def test_tasks_see_what_a_run_that_grows_keeps() -> None:
    assert is_needed(Task("problems"), "2-traces/traces.jsonl")
    assert is_needed(Task("problems"), "2-traces/parts/a1/w0-x/traces.jsonl")
    assert not is_needed(Task("problems"), "2-traces/topk/topk.bin")
    assert is_needed(Task("students", ("sft",)), "6-evals/gsm8k/sft/traces/traces.jsonl")


@pytest.mark.parametrize("text", ["often", "0", "-3", "inf"])
def test_an_interval_that_is_none_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.PUBLISH_S, text)
    with pytest.raises(ConfigError, match=f"REASONDISTILL_PUBLISH_S={text}"):
        Remote(url(tmp_path), tmp_path / "here")
