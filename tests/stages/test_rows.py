"""Training rows on disk: made once, shared, never held in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_students import job, make_tokenizer, scratch

from reasondistill.errors import Interrupted, StageError
from reasondistill.methods.texts import IGNORE
from reasondistill.records import Dropped
from reasondistill.runs.store import StopSignal
from reasondistill.stages.students import run_student
from reasondistill.stages.students.parallel import in_order
from reasondistill.stages.students.rows import RowStore, lengths_of, rows_key
from reasondistill.stages.students.tokens import Row

ROWS = [Row([1, 2, 3 + i], [IGNORE, 2, 3 + i], f"p/{i}", None) for i in range(200)]
LONG = Dropped(trace_id="t", problem_id="p", reason="longer than max_length")


def unread() -> Iterator[Row | Dropped]:
    raise AssertionError("rows that stand on disk are not made again")
    yield


def test_rows_come_back_as_they_were_and_are_made_once(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    store.keep("key", lambda: [*ROWS, LONG])
    rows = store.keep("key", unread)
    assert list(rows) == ROWS
    assert rows[5:7] == ROWS[5:7] and rows[-1] == ROWS[-1]
    assert rows.dropped == {"longer than max_length": 1} and rows.set_aside == [LONG]
    assert (rows.tokens, rows.loss_tokens, rows.longest) == (600, 400, 3)
    with_blank = rows.dataset(with_blank=True)
    assert lengths_of(with_blank) == [3] * 200 + [2]
    assert with_blank[-1]["labels"] == [IGNORE, IGNORE]


def test_no_rows_at_all_are_a_set_too(tmp_path: Path) -> None:
    rows = RowStore(tmp_path).keep("key", lambda: [LONG])
    assert list(rows) == [] and not rows
    assert rows.tokens == rows.loss_tokens == rows.longest == 0


def test_a_stop_while_rows_are_made_leaves_nothing_behind(tmp_path: Path) -> None:
    stop = StopSignal()

    def asked_to_stop() -> Iterator[Row | Dropped]:
        yield ROWS[0]
        stop.requested = True
        yield ROWS[1]

    with pytest.raises(Interrupted):
        RowStore(tmp_path, stop).keep("key", asked_to_stop)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_that_ends_the_processes_too_is_no_fault_of_theirs(tmp_path: Path) -> None:
    """A scheduler sends its signal to all processes of a task."""
    stop = StopSignal()

    def tokenised(number: int) -> Row:
        os.kill(os.getpid(), signal.SIGTERM)
        return ROWS[number]

    def signalled() -> Iterator[Row | Dropped]:
        stop.requested = True
        yield from in_order(tokenised, range(200), alone_s=0.0, processes=2)

    with pytest.raises(Interrupted):
        RowStore(tmp_path, stop).keep("key", signalled)
    assert list(tmp_path.iterdir()) == []


def test_too_many_faults_leave_nothing_behind(tmp_path: Path) -> None:
    def faulty() -> Iterator[Row | Dropped]:
        yield LONG
        raise StageError("too many of them")

    with pytest.raises(StageError):
        RowStore(tmp_path).keep("key", faulty)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["key.arrow", "key.set_aside.jsonl", "key.sums.json"])
def test_a_damaged_set_is_made_again(tmp_path: Path, name: str) -> None:
    store = RowStore(tmp_path)
    store.keep("key", lambda: [*ROWS, LONG])
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    content = bytearray(whole[name])
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    assert list(store.keep("key", lambda: [*ROWS, LONG])) == ROWS
    for kept in ("key.arrow", "key.set_aside.jsonl"):
        assert (tmp_path / kept).read_bytes() == whole[kept]


def test_the_key_knows_whatever_the_tokens_depend_on() -> None:
    how = {"plain": False, "max_length": 200, "split": "train"}
    tokenizer = make_tokenizer()
    keys = {rows_key("examples", tokenizer, how), rows_key("others", tokenizer, how)}
    keys |= {rows_key("examples", tokenizer, how | {"max_length": 100})}
    keys |= {rows_key("examples", tokenizer, how | {"split": "validation"})}
    assert rows_key("examples", make_tokenizer(), how) in keys
    assert len(keys) == 4
    tokenizer.chat_template = f"{tokenizer.chat_template} "
    assert rows_key("examples", tokenizer, how) not in keys
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<new>"])
    assert rows_key("examples", tokenizer, how) not in keys
    tokenizer = make_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token  # which a template may write
    assert rows_key("examples", tokenizer, how) not in keys


def test_students_of_a_run_share_rows_and_a_second_training_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import reasondistill.stages.students.rows as rows
    from reasondistill.stages.students.tokens import tokenise_each

    tokenised: list[Any] = []

    def counted(*arguments: Any, **named: Any) -> Iterator[Row | Dropped]:
        tokenised.append(arguments)
        return tokenise_each(*arguments, **named)

    monkeypatch.setattr(rows, "tokenise_each", counted)
    folder = tmp_path / "tokens"
    for name, rate in (("one", 5e-3), ("two", 1e-3)):
        student = job(tmp_path, scratch(name=name, epochs=1, learning_rate=rate), name=name)
        run_student(replace(student, tokens=folder))
    assert len(tokenised) == 2  # the rows to train on, and those to validate on
    assert len(list(folder.glob("*.arrow"))) == 2


MEASURED = """
import sys
from pathlib import Path
from reasondistill.stages.students.rows import RowStore
from reasondistill.stages.students.tokens import Row

def anonymous() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

def made(count):
    for number in range(count):
        ids = [number + place for place in range(1000)]
        yield Row(ids, ids, str(number), str(number))

store = RowStore(Path(sys.argv[1]))
store.keep("small", lambda: made(200)).loss_tokens
before = anonymous()
rows = store.keep("large", lambda: made(5000))
dataset = rows.dataset()
assert rows.tokens == rows.loss_tokens == 5_000_000
assert sum(len(dataset[place]["labels"]) for place in range(0, 5000, 7)) == 715_000
print(anonymous() - before)
"""


def test_millions_of_tokens_are_not_held_in_memory(tmp_path: Path) -> None:
    """Held as lists, these would be 80 MB of pointers alone."""
    command = [sys.executable, "-c", MEASURED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40
