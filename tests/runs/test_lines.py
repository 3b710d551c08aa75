"""What a stopped or killed session left is verified before another one goes on with it: a line that
is not one that was written is never read, and its record is made again.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reasondistill.errors import DataError, StageError
from reasondistill.records import Dropped
from reasondistill.runs.store import (
    Identity,
    Shard,
    append_metrics,
    append_shard,
    drop_lines,
    finish_stage,
    list_beside,
    mend,
    open_stage,
    read_keys,
    read_metrics,
    read_records,
    reopen_stage,
    require_complete,
    seal,
    sort_shard,
    unseal,
    write_records,
)
from reasondistill.runs.store import lines as store_lines
from reasondistill.runs.store.appending import AppendedFile
from reasondistill.runs.store.lines import digest_of_line
from reasondistill.runs.store.verified import open_verified

IDENTITY = Identity("verdicts", 1, {"n": 1}, {})
WRITTEN = [f"p:{i}" for i in range(40)]


def record(name: str) -> Dropped:
    return Dropped(trace_id=name, problem_id="p", reason=f"reason {name}")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard of forty records that four calls wrote, in an open stage folder."""
    folder = tmp_path / "3-verdicts"
    open_stage(folder, IDENTITY)
    with Shard(folder / "rows.jsonl") as shard:
        for start in range(0, 40, 10):
            shard.append(map(record, WRITTEN[start : start + 10]))
    return folder / "rows.jsonl"


def keys(path: Path) -> list[str]:
    return list(read_keys(path, "trace_id"))


def another_digit(content: bytes) -> bytes:
    return content.replace(b'"p:17"', b'"p:18"')


def a_bit(content: bytes) -> bytes:
    place = content.index(b"reason p:17") + 3
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def a_newline(content: bytes) -> bytes:
    """Two lines have become one."""
    place = content.index(b'{"trace_id":"p:18"') - 1
    return content[:place] + b" " + content[place + 1 :]


def lost_lines(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:11], *lines[19:]])


def zeros_at_the_end(content: bytes) -> bytes:
    """Size right, tail zero: what a power cut leaves."""
    kept = content.index(b'"p:25"')
    return content[:kept] + bytes(len(content) - kept)


def zeros_in_the_middle(content: bytes) -> bytes:
    first, last = content.index(b'"p:25"'), content.index(b'"p:31"')
    return content[:first] + bytes(last - first) + content[last:]


def a_cut_tail(content: bytes) -> bytes:
    return content[: content.index(b'"p:25"')]


def another_block(content: bytes) -> bytes:
    """Lines stand where others did."""
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:5], *lines[20:25], *lines[10:]])


DAMAGES = {
    another_digit: {17},
    a_bit: {17},
    a_newline: {17, 18},
    lost_lines: set(range(11, 19)),
    zeros_at_the_end: set(range(25, 40)),
    zeros_in_the_middle: set(range(25, 32)),
    a_cut_tail: set(range(25, 40)),
    another_block: set(range(5, 10)),
}


def damage(path: Path, how: Callable[[bytes], bytes]) -> None:
    content = path.read_bytes()
    damaged = how(content)
    assert damaged != content
    path.write_bytes(damaged)


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DAMAGES, ids=lambda how: how.__name__)
def test_a_damaged_line_is_not_read_and_is_taken_out_by_the_next_session_which_says_so(
    shard: Path, how: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    damage(shard, how)
    sound = {name for place, name in enumerate(WRITTEN) if place not in DAMAGES[how]}
    assert set(keys(shard)) == sound
    assert all(row == record(row.trace_id) for row in read_records(shard, Dropped))
    assert open_stage(shard.parent, IDENTITY) == "partial"
    [said] = [line.message for line in caplog.records if line.levelno == logging.WARNING]
    assert str(shard) in said and "damaged since it was written" in said
    assert "lines are taken out (line " in said or "lines are missing" in said
    assert set(keys(shard)) == sound
    with Shard(shard) as again:
        again.append(record(name) for name in WRITTEN if name not in sound)
    sort_shard(shard, lambda name: int(name.removeprefix("p:")), "trace_id")
    assert keys(shard) == WRITTEN
    caplog.clear()
    open_stage(shard.parent, IDENTITY)  # what was mended is not missed any more
    assert not [line for line in caplog.records if line.levelno == logging.WARNING]


def test_the_line_is_named(shard: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(shard, another_digit)
    mend(shard)
    assert "1 lines are taken out (line 18). What is lost of records is made again." in caplog.text


def test_damage_while_the_stage_is_at_work_is_not_sorted_or_summed(shard: Path) -> None:
    damage(shard, a_bit)
    with pytest.raises(DataError, match=r"rows.jsonl:18: damaged: .* The same command"):
        sort_shard(shard, lambda name: int(name.removeprefix("p:")), "trace_id")
    with pytest.raises(DataError, match=r"rows.jsonl:18: damaged"):
        finish_stage(shard.parent, counts={"in": 40, "out": 40}, seconds=0.0)
    open_stage(shard.parent, IDENTITY)
    with open(shard, "ab") as file:
        file.write(b"{}")
    with pytest.raises(DataError, match=r"rows.jsonl:40: damaged"):
        finish_stage(shard.parent, counts={"in": 40, "out": 40}, seconds=0.0)


def test_metrics_are_guarded_too(tmp_path: Path) -> None:
    for done in range(3):
        append_metrics(tmp_path, done=done, seconds=10 * done)
    damage(tmp_path / "metrics.jsonl", lambda content: content.replace(b"20", b"90"))
    assert [line["seconds"] for line in read_metrics(tmp_path)] == [0, 10]


# ---- the list ------------------------------------------------------------------------------------


def test_a_damaged_list_costs_the_lines_that_only_it_knew(
    shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(list_beside(shard), lambda content: content[:300] + b"x" + content[301:])
    open_stage(shard.parent, IDENTITY)
    assert keys(shard) == WRITTEN[:10] + WRITTEN[20:]
    assert "10 lines are taken out (line 11, 12, 13, …)" in caplog.text


def test_a_list_that_says_nothing_is_refused_and_the_records_stay(shard: Path) -> None:
    content = shard.read_bytes()
    damage(list_beside(shard), lambda content: bytes(len(content)))
    with pytest.raises(DataError, match=r"sums: damaged: .* Ways out"):
        open_stage(shard.parent, IDENTITY)
    assert shard.read_bytes() == content
    list_beside(shard).unlink()
    open_stage(shard.parent, IDENTITY)
    assert keys(shard) == WRITTEN


def test_a_damage_of_the_list_costs_a_hundred_lines_of_a_large_append(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = tmp_path / "part.jsonl", tmp_path / "rows.jsonl"
    names = [f"p:{number}" for number in range(2_050)]
    with Shard(source) as shard:
        shard.append(map(record, names))
    append_shard(source, target)  # all lines are one append
    mend(target)
    assert keys(target) == names and "damaged" not in caplog.text
    damage(list_beside(target), lambda content: content[:5_000] + b"x" + content[5_001:])
    mend(target)
    left = keys(target)
    assert left == names[:300] + names[400:]
    assert "100 lines are taken out (line 301, 302, 303, …)" in caplog.text


def test_a_large_append_that_did_not_come_to_its_end_is_not_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.jsonl"
    with Shard(path) as shard:
        shard.append(map(record, WRITTEN))
    digests = [digest_of_line(record(f"p:{number}").to_json().encode()) for number in range(250)]
    with open(list_beside(path), "ab") as file:
        file.write(store_lines.as_listed(digests))
    mend(path)
    assert keys(path) == WRITTEN and "damaged" not in caplog.text


def test_what_is_taken_out_stays_beside_the_shard(
    shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of a run at work: the list is older than the lines."""
    older = list_beside(shard).read_bytes()
    with Shard(shard) as again:
        again.append([record("p:40"), record("p:41")])
    list_beside(shard).write_bytes(older)
    open_stage(shard.parent, IDENTITY)
    assert keys(shard) == WRITTEN
    taken_out = shard.with_name(".rows.jsonl.taken-out")
    assert taken_out.read_text() == "".join(f"{record(f'p:{i}').to_json()}\n" for i in (40, 41))
    assert taken_out.name in caplog.text
    damage(shard, another_digit)
    mend(shard)
    assert len(taken_out.read_text().splitlines()) == 3
    done = finish_stage(shard.parent, counts={"in": 39, "out": 39}, seconds=0.0)
    assert list(done.files) == ["rows.jsonl"]


def test_numbers_over_time_whose_list_is_lost_do_not_refuse_the_stage(
    shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shard.parent
    append_metrics(folder, done=1)
    list_beside(folder / "metrics.jsonl").write_bytes(b"")
    assert open_stage(folder, IDENTITY) == "partial"
    assert read_metrics(folder) == [] and "metrics.jsonl: damaged" in caplog.text
    assert (folder / ".metrics.jsonl.taken-out").read_text() == '{"done": 1}\n'
    append_metrics(folder, done=2)
    assert read_metrics(folder) == [{"done": 2}] and open_stage(folder, IDENTITY) == "partial"


def test_a_shard_of_an_earlier_version_is_taken_as_it_is_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{record(name).to_json()}\n" for name in WRITTEN[:5]) + "{torn")
    with Shard(path) as shard:
        shard.append([record(WRITTEN[5])])
    Shard(path).close()
    assert caplog.text.count("has no sums of its lines (an earlier version)") == 1
    damage(path, lambda content: content.replace(b'"p:3"', b'"p:8"'))
    assert keys(path) == ["p:0", "p:1", "p:2", "p:4", "p:5"]


def test_a_kill_at_any_moment_leaves_no_whole_line_that_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = (
        "import sys; from pathlib import Path; from reasondistill.records import Dropped\n"
        "from reasondistill.runs.store import Shard\n"
        "shard, number = Shard(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    rows = range(number, number + 7)\n"
        "    shard.append(Dropped(trace_id=f'p:{i}', problem_id='p', reason='x' * 900) "
        "for i in rows)\n"
        "    number += 7\n"
        "    print(number, flush=True)\n"
    )
    path = tmp_path / "rows.jsonl"
    for kills in range(1, 6):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", program, str(path)]
        acknowledged = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(37 * kills):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
        whole = path.read_bytes().count(b"\n")
        mend(path)
        found = keys(path)
        assert found == [f"p:{number}" for number in range(whole)] and whole >= acknowledged
        mend(path)
    assert "damaged" not in caplog.text


def test_an_append_that_fails_is_not_missed(
    shard: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    appended = AppendedFile.append

    def full(self: AppendedFile, content: bytes) -> None:
        if content.startswith(b"{"):
            raise StageError("the disk is full")
        appended(self, content)

    monkeypatch.setattr(AppendedFile, "append", full)
    with Shard(shard) as again, pytest.raises(StageError):
        again.append([record("p:40")])
    monkeypatch.undo()
    for _ in range(2):
        mend(shard)
        with Shard(shard) as again:
            again.append([record("p:41")])
    assert "damaged" not in caplog.text


def test_lines_that_are_taken_out_or_written_anew_on_purpose_are_not_missed(
    shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drop_lines(shard, {"p:3"}, "trace_id")
    mend(shard)
    write_records(shard, [record("p:5"), record("new")])
    mend(shard)
    assert keys(shard) == ["p:5", "new"] and "damaged" not in caplog.text


def test_a_kill_between_the_list_and_the_new_lines_loses_neither_old_nor_new(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reasondistill.runs.store.shards.list_anew", kill)
    with pytest.raises(KeyboardInterrupt):
        write_records(shard, [record("p:5"), record("new")])
    assert keys(shard) == ["p:5", "new"]
    monkeypatch.undo()
    mend(shard)
    assert keys(shard) == ["p:5", "new"]


def test_a_reader_beside_the_writer_reads_what_has_been_appended_since(shard: Path) -> None:
    with open_verified(shard) as file:
        lines = store_lines.counted_lines(shard, file)
        assert next(lines)[0] == 1
        with Shard(shard) as again:
            again.append([record("p:40")])
        assert len(list(lines)) == 40


# ---- its end and its beginning -------------------------------------------------------------------


def test_a_finished_folder_has_no_lists_and_an_opened_one_lists_what_it_verified(
    shard: Path,
) -> None:
    folder = shard.parent
    finish_stage(folder, counts={"in": 40, "out": 40}, seconds=0.0)
    assert list(require_complete(folder).files) == ["rows.jsonl"]
    assert [path.name for path in folder.glob("*.sums")] == []
    assert reopen_stage(folder, IDENTITY, lambda _: True)
    damage(shard, another_digit)
    assert set(WRITTEN) - set(keys(shard)) == {"p:17"}
    (folder / "rows.jsonl.sums").write_bytes(list_beside(shard).read_bytes())
    open_stage(folder, IDENTITY)
    finish_stage(folder, counts={"in": 40, "out": 39}, seconds=0.0)
    list_beside(shard).write_text("left by a kill")
    assert open_stage(folder, IDENTITY) == "complete" and not list_beside(shard).exists()


def test_a_folder_that_grows_lists_what_stands(shard: Path) -> None:
    finish_stage(shard.parent, counts={"in": 40, "out": 40}, seconds=0.0)
    grown = Identity("verdicts", 1, {"n": 2}, {})
    assert open_stage(shard.parent, grown, grows=("n",)) == "partial"
    damage(shard, a_bit)
    assert set(WRITTEN) - set(keys(shard)) == {"p:17"}


def test_what_is_opened_for_an_addition_is_guarded_until_it_is_sealed(shard: Path) -> None:
    folder = shard.parent
    write_records(folder / "others.jsonl", map(record, WRITTEN))
    finish_stage(folder, counts={"in": 40, "out": 40}, seconds=0.0)
    unseal(folder, ["rows.jsonl"])
    damage(shard, another_digit)
    assert "p:17" not in keys(shard)
    with pytest.raises(DataError, match="rows.jsonl:18: damaged"):
        seal(folder, ["rows.jsonl"])
    mend(shard)
    assert "rows.jsonl" in seal(folder, ["rows.jsonl"]).files and not list_beside(shard).exists()


def test_an_addition_that_was_not_sealed_stays_guarded_when_the_folder_is_opened_again(
    shard: Path,
) -> None:
    folder = shard.parent
    write_records(folder / "others.jsonl", map(record, WRITTEN))
    finish_stage(folder, counts={"in": 40, "out": 40}, seconds=0.0)
    unseal(folder, ["rows.jsonl"])  # and its process is killed
    list_beside(folder / "others.jsonl").write_text("left by a kill")
    damage(shard, another_digit)
    assert open_stage(folder, IDENTITY) == "complete"
    assert not list_beside(folder / "others.jsonl").exists()
    assert set(WRITTEN) - set(keys(shard)) == {"p:17"}
    with pytest.raises(DataError, match="rows.jsonl:18: damaged"):
        seal(folder, ["rows.jsonl"])


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_stays_when_a_stage_is_made_anew_is_guarded(shard: Path, is_finished: bool) -> None:
    if is_finished:
        finish_stage(shard.parent, counts={"in": 40, "out": 40}, seconds=0.0)
    else:
        damage(shard, another_digit)
    other = Identity("verdicts", 1, {"n": 1}, {"traces": "others"})
    assert open_stage(shard.parent, other, derived=True, beside={"rows.jsonl"}) == "new"
    if is_finished:
        damage(shard, another_digit)
    assert set(WRITTEN) - set(keys(shard)) == {"p:17"}


def test_where_the_place_says_what_a_line_is_about_nothing_stays_behind_a_damaged_one(
    shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(shard, lost_lines)
    mend(shard, in_order=True)
    assert keys(shard) == WRITTEN[:11] and "damaged" in caplog.text
