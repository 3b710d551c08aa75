"""What is on disk survives kills, full disks and changed settings, or says what happened."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasondistill.errors import DataError, DriftError, Interrupted, StageError
from reasondistill.records import Dropped, fingerprint
from reasondistill.runs import store
from reasondistill.runs.store import Identity, Shard, StopSignal


def record(number: int, reason: str = "why") -> Dropped:
    return Dropped(trace_id=f"p/{number}:0", problem_id=f"p/{number}", reason=reason)


def identity(
    stage: str = "traces", version: int = 1, inputs: dict[str, str] | None = None, **section: object
) -> Identity:
    return Identity(
        stage,
        version,
        {"n": 4, "teacher": {"model": "a"}} | section,
        inputs or {"problems": "1111"},
    )


def keys(path: Path) -> list[str]:
    return list(store.read_keys(path, "trace_id"))


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """The kernel refuses to write past `size` bytes and writes what still fits: a disk that fills
    up in the middle of a line.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- shards --------------------------------------------------------------------------------------


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with Shard(tmp_path / "deep" / "s.jsonl") as shard:
        shard.append([record(0), record(1)])
        shard.append([])
        shard.append([record(2)])
    assert list(store.read_records(shard.path, Dropped)) == [record(0), record(1), record(2)]
    assert store.count_lines(shard.path) == 3


def test_appended_records_are_on_disk_before_the_shard_is_closed(tmp_path: Path) -> None:
    with Shard(tmp_path / "s.jsonl") as shard:
        shard.append([record(0)])
        assert keys(shard.path) == ["p/0:0"]


def test_newlines_quotes_and_lone_surrogates_come_back_as_they_were(tmp_path: Path) -> None:
    reasons = ["a\nb", 'quo"te', "\u2028", "\ud800 torn", "日本", "\x00", "\\boxed{1}"]
    with Shard(tmp_path / "s.jsonl") as shard:
        shard.append(record(number, reason) for number, reason in enumerate(reasons))
    assert [row.reason for row in store.read_records(shard.path, Dropped)] == reasons
    assert len(keys(shard.path)) == len(reasons)
    assert store.count_lines(shard.path) == len(reasons)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=draws(60))
@given(reasons=st.lists(st.text(), min_size=1, max_size=6), data=st.data())
def test_a_file_cut_anywhere_is_repaired_to_whole_lines_and_goes_on(
    tmp_path: Path, reasons: list[str], data: st.DataObject
) -> None:
    path = tmp_path / "s.jsonl"
    rows = [record(number, reason) for number, reason in enumerate(reasons)]
    store.write_records(path, rows)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert list(store.read_records(path, Dropped)) == rows[:kept], (
        "a reader passes a torn line over"
    )
    with Shard(path) as shard:
        shard.append(rows[kept:])
    assert path.read_bytes() == whole


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + b"x" * 200_000)
    assert store.repair_tail(path) == 200_000
    assert path.read_bytes() == b'{"id":"a"}\n'
    path.write_bytes(b"x" * 200_000)
    assert store.repair_tail(path) == 200_000
    assert path.read_bytes() == b""
    assert store.repair_tail(tmp_path / "none") == 0


def test_a_failing_source_of_records_leaves_the_shard_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[Dropped]:
        yield record(1)
        raise ValueError("source broke")

    with Shard(tmp_path / "s.jsonl") as shard:
        shard.append([record(0)])
        with pytest.raises(ValueError, match="source broke"):
            shard.append(broken())
        shard.append([record(2)])
    assert keys(shard.path) == ["p/0:0", "p/2:0"]


def test_a_writer_killed_at_any_moment_loses_at_most_the_call_in_hand(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from reasondistill.records import "
        "Dropped; from reasondistill.runs.store import Shard\n"
        "shard, number = Shard(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    shard.append(Dropped(trace_id=f'p/{i}:0', problem_id='p', reason='x' * 500) "
        "for i in range(number, number + 50))\n"
        "    number += 50\n"
        "    print(number, flush=True)\n"
    )
    path = tmp_path / "s.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(3):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
    Shard(path).close()
    found = keys(path)
    assert len(found) >= acknowledged
    assert found == [f"p/{number}:0" for number in range(len(found))]


# ---- disks that refuse ---------------------------------------------------------------------------


def test_a_full_device_is_a_clear_error() -> None:
    with (
        Shard(Path("/dev/full")) as shard,
        pytest.raises(StageError, match="the disk is full. What was written before is safe"),
    ):
        shard.append([record(0)])


def test_a_write_that_fails_half_way_leaves_whole_lines_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    with Shard(tmp_path / "s.jsonl") as shard:
        shard.append([record(0)])
        size = shard.path.stat().st_size
        with no_file_grows_beyond(size + 100), pytest.raises(StageError, match="cannot be written"):
            shard.append([record(1, "x" * 50), record(2, "x" * 50_000)])
        assert shard.path.stat().st_size == size
        shard.append([record(3)])
    assert keys(shard.path) == ["p/0:0", "p/3:0"], (
        "nothing of the failed write comes back when the file is closed"
    )


def test_a_whole_file_that_does_not_fit_leaves_the_old_one_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    store.write_json(path, {"old": 1})
    with no_file_grows_beyond(1000), pytest.raises(StageError):
        store.write_json(path, {"new": "x" * 5000})
    with no_file_grows_beyond(1000), pytest.raises(StageError):
        store.write_records(path, [record(0, "x" * 5000)])
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["m.json"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_missing_permission_is_a_clear_error(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(StageError, match=r"s.jsonl: not writable \("),
        store.disk_errors(tmp_path / "s.jsonl"),
    ):
        raise OSError(code, os.strerror(code))


def test_other_faults_of_the_system_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), store.disk_errors(tmp_path):
        raise InterruptedError(errno.EINTR, "interrupted")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StageError, match="not writable"):
        Shard(tmp_path / "s.jsonl")


def test_a_file_where_a_folder_should_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(StageError, match="runs is a file, where a folder is needed"):
        Shard(tmp_path / "runs" / "s.jsonl")
    with pytest.raises(StageError, match="runs is a file, where a folder is needed"):
        store.write_json(tmp_path / "runs" / "m.json", {})
    with pytest.raises(StageError, match="runs is a file, where a folder is needed"):
        store.append_metrics(tmp_path / "runs", step=1)
    with pytest.raises(DriftError, match="is a file"):
        store.open_stage(tmp_path / "runs", identity())


# ---- reading -------------------------------------------------------------------------------------


def test_a_line_that_is_no_record_is_named_with_its_number_and_fault(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(record(0).to_json() + '\n{"trace_id":"x"}\n')
    with pytest.raises(DataError, match=r"s.jsonl:2: not a Dropped: problem_id: Field required"):
        list(store.read_records(path, Dropped))


@pytest.mark.parametrize("line", ["", "{", "[1]", "7", "null", '{"other": 1}', "\x00\x00"])
def test_a_line_without_the_key_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(record(0).to_json() + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"s.jsonl:2: no field 'trace_id'"):
        keys(path)
    with pytest.raises(DataError, match=r"s.jsonl:2: not a Dropped"):
        list(store.read_records(path, Dropped))


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"trace_id":"\xff\xfe"}\n')
    with pytest.raises(DataError, match="s.jsonl:1"):
        keys(path)
    with pytest.raises(DataError, match="s.jsonl:1"):
        list(store.read_records(path, Dropped))


def test_a_missing_shard_says_which_stage_is_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Run the stage that writes it first"):
        keys(tmp_path / "s.jsonl")
    assert store.count_lines(tmp_path / "s.jsonl") == 0


def test_rows_are_plain_json(tmp_path: Path) -> None:
    store.write_records(tmp_path / "s.jsonl", [record(0), record(1, "\ud800")])
    assert [row["reason"] for row in store.read_rows(tmp_path / "s.jsonl")] == ["why", "\ud800"]


# ---- canonical order -----------------------------------------------------------------------------


def number_of(name: str) -> int:
    return int(name.removeprefix("p/").removesuffix(":0"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=draws(40))
@given(order=st.permutations(range(8)), repeated=st.lists(st.integers(0, 7), max_size=4))
def test_any_order_of_arrival_gives_the_same_file(
    tmp_path: Path, order: list[int], repeated: list[int]
) -> None:
    path, wanted = tmp_path / "s.jsonl", tmp_path / "wanted.jsonl"
    store.write_records(wanted, [record(number) for number in range(8)])
    store.write_records(
        path,
        [*(record(number) for number in order), *(record(number, "again") for number in repeated)],
    )
    assert store.sort_shard(path, number_of, "trace_id") == 8
    assert path.read_bytes() == wanted.read_bytes()


def test_sorting_cuts_a_torn_line_off_even_when_the_rest_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store.write_records(path, [record(0), record(1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"trace_id":"p/2')
    assert store.sort_shard(path, number_of, "trace_id") == 2
    assert path.read_bytes() == whole


def test_a_file_in_order_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store.write_records(path, [record(0), record(1)])
    before = path.stat().st_ino
    store.sort_shard(path, number_of, "trace_id")
    assert path.stat().st_ino == before


def test_dropped_lines_leave_the_others_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store.write_records(path, [record(0), record(1, "日本"), record(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    store.drop_lines(path, {"p/0:0", "p/9:0"}, "trace_id")
    assert path.read_bytes() == b"".join(lines[1:])


# ---- identity and manifests ----------------------------------------------------------------------


def test_equal_identities_have_equal_fingerprints_whatever_the_order_of_keys() -> None:
    one = Identity("traces", 1, {"a": 1, "b": [1, 2]}, {"x": "1", "y": "2"})
    other = Identity("traces", 1, {"b": (1, 2), "a": 1}, {"y": "2", "x": "1"})
    assert one.fingerprint == other.fingerprint
    assert len(one.fingerprint) == 16


@pytest.mark.parametrize(
    "other",
    [
        identity("verdicts"),
        identity(version=2),
        identity(n=5),
        identity(inputs={"problems": "2222"}),
        identity(teacher={"model": "b"}),
    ],
)
def test_any_change_changes_the_fingerprint(other: Identity) -> None:
    assert other.fingerprint != identity().fingerprint


def test_a_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint({"b": 1, "a": ["é", 0.1]}) == "ebaad9bbb904d508"


def test_a_stage_goes_from_new_over_partial_to_complete(tmp_path: Path) -> None:
    folder = tmp_path / "2-traces"
    assert store.open_stage(folder, identity()) == "new"
    assert store.open_stage(folder, identity()) == "partial"
    done = store.finish_stage(
        folder,
        counts={"in": 2, "out": 1},
        dropped={"too long": 1},
        figures={"speed": 2.5},
        seconds=1.5,
    )
    assert store.open_stage(folder, identity()) == "complete"
    assert store.read_manifest(folder) == done == store.require_complete(folder)
    assert (done.counts, done.dropped, done.figures, done.section["n"]) == (
        {"in": 2, "out": 1},
        {"too long": 1},
        {"speed": 2.5},
        4,
    )


def test_an_output_is_what_was_written_and_else_what_it_was_made_from(tmp_path: Path) -> None:
    outputs: list[str] = []
    for text in ("a", "b", "a"):
        (tmp_path / "manifest.json").unlink(missing_ok=True)
        (tmp_path / "x.jsonl").unlink(missing_ok=True)
        store.open_stage(tmp_path, identity())
        (tmp_path / "x.jsonl").write_text(text)
        outputs.append(store.finish_stage(tmp_path, counts={}, seconds=0, files=["x.jsonl"]).output)
    assert outputs[0] == outputs[2] != outputs[1]
    bare = store.finish_stage(tmp_path, counts={}, seconds=0)
    assert bare.output == bare.fingerprint == identity().fingerprint


def test_what_was_recorded_of_the_environment_is_kept_and_bears_no_identity(tmp_path: Path) -> None:
    store.open_stage(tmp_path, identity(), environment={"commit": "abc"})
    store.finish_stage(tmp_path, counts={"in": 0, "out": 0}, seconds=0)
    assert store.open_stage(tmp_path, identity(), environment={"commit": "def"}) == "complete"
    assert store.require_complete(tmp_path).environment == {"commit": "abc"}


def complete(folder: Path, of: Identity) -> None:
    store.open_stage(folder, of)
    (folder / "s.jsonl").write_text("{}\n")
    store.finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0)


def test_another_setting_is_drift_and_the_message_names_key_values_and_ways_out(
    tmp_path: Path,
) -> None:
    complete(tmp_path, identity())
    with pytest.raises(DriftError) as caught:
        store.open_stage(tmp_path, identity(teacher={"model": "b"}, extra=True))
    message = str(caught.value)
    for words in (
        'teacher.model was "a", is "b"',
        "extra was absent, is true",
        "--set name=",
        "remove that folder",
        "--keep-old",
    ):
        assert words in message, message
    assert store.open_stage(tmp_path, identity()) == "complete", "a refusal changes nothing"


def test_only_a_complete_folder_is_offered_to_be_kept(tmp_path: Path) -> None:
    store.open_stage(tmp_path, identity())
    with pytest.raises(DriftError) as caught:
        store.open_stage(tmp_path, identity(n=1))
    with pytest.raises(DriftError) as caught_worker:
        store.require_open(tmp_path, identity(n=1))
    for message in (str(caught.value), str(caught_worker.value)):
        assert "--keep-old" not in message, message
        assert "not finished" in message and "undo the changes" in message, message
        assert "--set name=" in message and "remove that folder" in message, message


def test_a_long_list_of_changes_is_cut_with_its_count(tmp_path: Path) -> None:
    complete(tmp_path, identity())
    with pytest.raises(DriftError, match=r"\(and 3 more\)") as caught:
        store.open_stage(tmp_path, identity(**{f"k{number}": "x" * 500 for number in range(8)}))
    assert len(str(caught.value)) < 1200


def test_keep_old_goes_on_with_a_complete_folder_but_never_with_half_a_one(tmp_path: Path) -> None:
    complete(tmp_path / "whole", identity())
    assert store.open_stage(tmp_path / "whole", identity(n=1), keep_old=True) == "complete"
    store.open_stage(tmp_path / "half", identity())
    with pytest.raises(DriftError):
        store.open_stage(tmp_path / "half", identity(n=1), keep_old=True)


def test_a_raised_n_tops_up_and_keeps_the_files(tmp_path: Path) -> None:
    complete(tmp_path, identity())
    assert store.open_stage(tmp_path, identity(n=16), grows=("n",)) == "partial"
    assert (tmp_path / "s.jsonl").exists()
    assert store.open_stage(tmp_path, identity(n=16), grows=("n",)) == "partial"


@pytest.mark.parametrize(
    "changed",
    [identity(n=2), identity(n=16, teacher={"model": "b"}), identity(n="16"), identity(n=None)],
)
def test_a_lowered_n_or_another_change_beside_it_is_drift(
    tmp_path: Path, changed: Identity
) -> None:
    complete(tmp_path, identity())
    with pytest.raises(DriftError):
        store.open_stage(tmp_path, changed, grows=("n",))


@pytest.mark.parametrize(
    "changed",
    [identity(inputs={"problems": "2222"}), identity(inputs={"other": "1"}), identity(version=2)],
)
def test_a_derived_stage_is_made_anew_when_only_its_inputs_or_its_version_changed(
    tmp_path: Path, changed: Identity
) -> None:
    complete(tmp_path, identity())
    assert store.open_stage(tmp_path, changed, derived=True) == "new"
    assert sorted(os.listdir(tmp_path)) == [".manifest.copy.json", "manifest.json"]
    assert store.open_stage(tmp_path, changed, derived=True) == "partial"


def test_a_derived_stage_with_other_settings_is_drift_all_the_same(tmp_path: Path) -> None:
    complete(tmp_path, identity())
    with pytest.raises(DriftError):
        store.open_stage(tmp_path, identity(n=1, inputs={"problems": "2222"}), derived=True)
    assert (tmp_path / "s.jsonl").exists()


def test_a_kill_while_a_derived_stage_is_emptied_leaves_a_folder_that_is_still_ours(
    tmp_path: Path,
) -> None:
    complete(tmp_path, identity())
    for number in range(5):
        (tmp_path / f"{number}.jsonl").write_text("{}\n")
    program = (
        "import os, sys; from pathlib import Path; from reasondistill.runs.store import "
        "Identity, open_stage\n"
        "left = 6\n"
        "def killed_before_the_last_removal(event, arguments):\n"
        "    global left\n"
        "    if event == 'os.remove' and str(arguments[0]).endswith('.jsonl'):\n"
        "        left -= 1\n"
        "        left or os._exit(9)\n"
        "sys.addaudithook(killed_before_the_last_removal)\n"
        "section = {'n': 4, 'teacher': {'model': 'a'}}\n"
        "open_stage(Path(sys.argv[1]), Identity('traces', 1, section, {'problems': "
        "'2222'}), derived=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 9
    manifest = store.read_manifest(tmp_path)
    assert manifest is not None and manifest.status == "partial"
    assert store.open_stage(tmp_path, identity(inputs={"problems": "2222"}), derived=True) == "new"


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(
        DriftError,
        match=r"holds thesis.tex but no manifest.json: not a run folder of reasondistill",
    ):
        store.open_stage(tmp_path, identity(), derived=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_an_empty_or_hidden_leftover_folder_is_new(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.123.tmp").write_text("torn")
    assert store.open_stage(tmp_path, identity()) == "new"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {}}', '{"unknown": 1}'])
def test_a_broken_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="manifest.json: not a manifest"):
        store.open_stage(tmp_path, identity())


def test_an_unfinished_or_missing_stage_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="missing. Run that stage first"):
        store.require_complete(tmp_path / "none")
    store.open_stage(tmp_path, identity())
    with pytest.raises(StageError, match="not finished"):
        store.require_complete(tmp_path)
    with pytest.raises(StageError, match="call open_stage first"):
        store.finish_stage(tmp_path / "none", counts={}, seconds=0)


# ---- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_next_safe_point(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal("Say resume.") as stop:
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(Interrupted, match="saved. Say resume."):
            stop.check()
    assert signal.getsignal(number) is before


@pytest.fixture
def heard_interrupt() -> Iterator[None]:
    """SIGINT as a foreground command has it: a shell's background job ignores it, and so would its
    tests.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupt")
def test_a_second_signal_acts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal did not act")


def test_outside_the_main_thread_it_does_nothing() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopSignal() as stop:
            stop.check()
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


# ---- metrics -------------------------------------------------------------------------------------


def test_metrics_are_read_back_and_a_torn_line_is_passed_over_and_then_cut(tmp_path: Path) -> None:
    assert store.read_metrics(tmp_path) == []
    store.append_metrics(tmp_path, step=1, loss=2.5)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert store.read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}]
    store.append_metrics(tmp_path, step=3, loss=float("nan"))
    assert [row["step"] for row in store.read_metrics(tmp_path)] == [1, 3]
