"""Run folders that live at a URL: what comes, what goes, and workers that have no folder in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import Bed, SlowTeacher

from reasondistill import remote
from reasondistill.remote import Remote


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
    assert sorted(path.name for path in there.rglob("*") if path.is_file()) == ["manifest.json", "x.jsonl"]
    with Remote(url(there), tmp_path / "other") as other:
        assert other.fetch(lambda name: name.startswith("a/")) == 2 and other.fetch() == 0
        (tmp_path / "other" / "a" / "x.jsonl").write_text("2\n")
    with Remote(url(there), here) as first:
        assert first.fetch() == 1 and (here / "a" / "x.jsonl").read_text() == "2\n"
        (here / "a" / "x.jsonl").unlink()
    assert not (there / "a" / "x.jsonl").exists()


def test_marks_of_being_finished_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    here = tmp_path / "here"
    for name in ("2-traces/manifest.json", "2-traces/traces.jsonl", "2-traces/parts/attempt.json", "1-problems/manifest.json", "run.json"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x")
    with Remote(url(tmp_path / "there"), here) as made:
        put = made._put  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(made, "_put", lambda name: order.append(name) or put(name))
        made.publish()
    assert order[:2] == ["2-traces/traces.jsonl", "run.json"] and order[2].endswith("attempt.json")


def test_only_one_makes_an_object(tmp_path: Path) -> None:
    fs, place = remote.file_system(url(tmp_path / "claims"))
    won: list[int] = []
    threads = [threading.Thread(target=lambda n=n: won.append(n) if remote.create(fs, place, "7", b"w") else None) for n in range(8)]
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
    first.call("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    second = Bed(tmp_path / "b", slow_teacher, CLUSTER.replace("{{store}}", store))
    slow_teacher.asked.clear()
    second.call("run", "sums.toml", "--on", "cluster.toml", "--until", "examples")
    assert not slow_teacher.asked
    for name, records in undisturbed.items():
        assert second.records(name) == records, name
    assert not list((tmp_path / "store").rglob("w*-*")), "parts are gathered there too"


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URL where runs may live; the S3 is moto's and needs `pip install s3fs "moto[server]"`."""
    if request.param == "file":
        yield url(tmp_path / "store")
        return
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "DEFAULT_REGION": "us-east-1", "ENDPOINT_URL": f"http://{host}:{port}"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    remote.file_system("s3://bucket")[0].mkdir("bucket")
    yield "s3://bucket/runs"
    server.stop()


def test_workers_without_a_common_folder_make_the_same_records(
    tmp_path: Path, store: str, slow_teacher: SlowTeacher, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """As Ray's tasks on nodes that share nothing: each has a copy of its own."""
    bed = Bed(tmp_path, slow_teacher, CLUSTER.replace('storage = "{{store}}"\n', ""))
    bed.call("run", "sums.toml", "--on", "cluster.toml", "--until", "problems")
    with Remote(f"{store}/sums", bed.run) as made:
        made.publish()
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def task(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reasondistill", "task", f"{store}/sums", *arguments]
        environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")} | bed.environment
        environment["REASONDISTILL_SCRATCH"] = str(scratch)
        return subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def done(process: subprocess.Popen[str]) -> None:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said

    done(task("traces", "--share", "open:0:2"))
    slow_teacher.delay_s = 0.1
    for process in [task("traces", "--share", f"work:{number}:2") for number in range(2)]:
        done(process)
    done(task("traces", "--share", "close:0:2"))
    assert len(slow_teacher.asked) == 120 and set(slow_teacher.asked.values()) == {1}
    assert not list(scratch.iterdir())
    fs, place = remote.file_system(f"{store}/sums/2-traces")
    fs.invalidate_cache()
    lines = fs.cat_file(f"{place}/traces.jsonl").splitlines()
    assert [json.loads(line)["key"] for line in lines] == [row["key"] for row in undisturbed["2-traces/traces.jsonl"]]
    assert sorted(path.rpartition("/")[2] for path in fs.find(place)) == ["manifest.json", "metrics.jsonl", "traces.jsonl"]
