"""Grade a file of predictions: `reasondistill grade`, without a run folder.

    outcomes = grade_file(Path("answers.jsonl"), Path("verdicts.jsonl"), policy="default", workers=2)

Rows with `id`, `prediction` (a whole completion or a bare answer) and `gold` (bare, `$…$`, `\\\\boxed{}` or a text that ends in one) come
in; rows with `id`, `outcome`, `extracted`, `layer`, `reason` and `seconds` go out, one each, in input order. Killed, it goes on behind
its last whole line; what it is a function of stands beside the output, so that no file mixes two policies or two inputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from reasondistill.errors import ConfigError, DataError, DriftError, StageError
from reasondistill.grading import GRADER, GradeItem, GradingPool
from reasondistill.records import OUTCOMES, Finish, GradedRow
from reasondistill.store import Shard, StopSignal, changed_keys, numbered_rows, read_rows, repair_tail, write_json

_CHUNK = 1_000
_TELL_SECONDS = 5.0

log = logging.getLogger(__name__)


def grade_file(
    source: Path,
    target: Path,
    *,
    policy: str = "default",
    workers: int | None = None,
    deadline_s: float = 5.0,
    memory_mib: int = 1024,
    stop: StopSignal | None = None,
) -> Counter[str]:
    """Grade every row of `source` into `target`; return how many rows have each outcome, those of an earlier session included.

    Raises StageError (no such input), DataError (`path:line`, a row that is none; what stands before it is graded), DriftError (the
    output was made from something else), ConfigError (no such policy, a foreign file in the way) and Interrupted.
    """
    with GradingPool(workers=workers, deadline_s=deadline_s, memory_mib=memory_mib, policy=policy) as pool:
        total = _count(source)
        _claim(target, {"grader": GRADER, "policy": policy, "deadline_s": deadline_s, "input": _digest(source)})
        outcomes = Counter(row["outcome"] for row in read_rows(target)) if target.exists() else Counter[str]()
        if outcomes.total() > total:
            raise DataError(f"{target}: holds more rows than {source}; two commands wrote it. Remove it and {target.name}.manifest.json.")
        if outcomes.total():
            log.info("%s: %s rows are graded already", target, f"{outcomes.total():,}")
        progress = _Progress(total, outcomes.total())
        with Shard(target) as shard:
            graded = _graded(islice(_rows(source), outcomes.total(), None), pool)
            while chunk := _chunk(graded, shard):
                outcomes.update(row.outcome for row in chunk)
                progress.tell(outcomes)
                if stop is not None:
                    stop.check()
    return outcomes


def _chunk(graded: Iterator[GradedRow], shard: Shard) -> list[GradedRow]:
    """The next rows, on disk; a row that cannot be read takes none of those before it along."""
    chunk: list[GradedRow] = []
    try:
        chunk.extend(islice(graded, _CHUNK))
    finally:
        shard.append(chunk)
    return chunk


def _graded(rows: Iterable[tuple[Any, GradeItem]], pool: GradingPool) -> Iterator[GradedRow]:
    """One GradedRow each, in order; a row that cannot be read is raised behind those before it.

    Ids go round the pool: they may be numbers, and need not differ.
    """
    names: deque[Any] = deque()
    faults: list[DataError] = []

    def items() -> Iterator[GradeItem]:
        try:
            for name, item in rows:
                names.append(name)
                yield item
        except DataError as error:
            faults.append(error)

    for _, grade in pool.grade_many(items()):
        yield GradedRow(
            id=names.popleft(),
            outcome=grade.outcome,
            extracted=grade.extracted,
            layer=grade.layer,
            reason=grade.reason,
            seconds=grade.seconds,
        )
    for fault in faults:
        raise fault


# ---- the input ----------------------------------------------------------------------------------------------------


def _rows(source: Path) -> Iterator[tuple[Any, GradeItem]]:
    """Each row's id and what the grader needs of it. Raises DataError, naming the line."""
    for number, row in numbered_rows(source):
        if not isinstance(row, dict):
            raise DataError(f"{source}:{number}: not a JSON object.")
        if missing := [key for key in ("id", "prediction", "gold") if key not in row]:
            raise DataError(f"{source}:{number}: no field {missing[0]!r}; this row has {', '.join(map(repr, row)) or 'none'}.")
        if isinstance(row["id"], bool | list | dict):
            raise DataError(f"{source}:{number}: id = {json.dumps(row['id'])}; a text or a number is wanted.")
        finish = row.get("finish", "stop")
        if finish not in get_args(Finish):
            raise DataError(f"{source}:{number}: finish = {finish!r}; one of {', '.join(get_args(Finish))} is wanted.")
        yield row["id"], GradeItem(str(number), _text(row["prediction"]), _text(row["gold"]), finish)


def _text(value: Any) -> str:
    """A string as it is, null as nothing, a number or a list as JSON writes it."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _count(source: Path) -> int:
    if not source.is_file():
        raise StageError(f"{source}: no such file.")
    with open(source, "rb") as file:
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                raise DataError(f"{source}: its last line does not end; is it still being written? Add a newline when it is whole.")
    with open(source, "rb") as file:
        return sum(not line.isspace() for line in file)


def _digest(source: Path) -> str:
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# ---- the output ---------------------------------------------------------------------------------------------------


def _claim(target: Path, made_from: dict[str, Any]) -> None:
    """Put down what the output is made from, or compare with what was put down. Raises ConfigError or DriftError."""
    if target.is_dir() or not target.parent.is_dir():
        raise ConfigError(f"{target}: {'is a folder' if target.is_dir() else 'its folder does not exist'}; name a file with --out.")
    beside = target.with_name(f"{target.name}.manifest.json")
    if beside.exists():
        old = json.loads(beside.read_text(encoding="utf-8"))
        if changed := changed_keys(old, made_from):
            names = "; ".join(f"{name} was {a}, is {b}" for name, a, b in changed)
            raise DriftError(f"{target}: made from something else: {names}. Name another file with --out, or remove this one and {beside}.")
        if target.exists():
            repair_tail(target)
        return
    if target.exists():
        raise ConfigError(f"{target}: exists and is not ours (no {beside.name} beside it). Name another file with --out.")
    write_json(beside, made_from)


class _Progress:
    """A line every five seconds, and one at the end."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._before = total, done
        self._start = self._told = time.monotonic()

    def tell(self, outcomes: Counter[str]) -> None:
        done, now = outcomes.total(), time.monotonic()
        if now - self._told < _TELL_SECONDS and done < self._total:
            return
        self._told = now
        speed = (done - self._before) / max(now - self._start, 1e-9)
        left = "" if done >= self._total else f" · {(self._total - done) / max(speed, 1e-9):,.0f} s left"
        shares = ", ".join(f"{100 * outcomes[name] / done:.1f} % {name}" for name in OUTCOMES if outcomes[name])
        log.info("%s/%s · %s/s · %s%s", f"{done:,}", f"{self._total:,}", f"{speed:,.0f}", shares, left)
