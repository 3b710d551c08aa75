"""Grade a file of predictions: `reasondistill grade`, without a run folder.

    outcomes = grade_file(Path("answers.jsonl"), Path("verdicts.jsonl"), policy="default")

Rows with `id`, `prediction` (a whole completion or a bare answer) and `gold` (bare, `$…$`,
`\\\\boxed{}` or a text that ends in one) come in; rows with `id`, `outcome`, `extracted`, `layer`,
`reason` and `seconds` go out, one each, in input order. Killed, it goes on behind its last whole
line; what it is a function of stands beside the output, so that no file mixes two policies or two
inputs.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.errors import ConfigError, DataError, DriftError
from reasondistill.foreign_files import read_bytes
from reasondistill.grade_file.progress import EVERY_S, tell
from reasondistill.grade_file.rows import count_answers, digest_of, read_answers
from reasondistill.grading import GRADER, GradeItem, GradingPool
from reasondistill.progress import Progress
from reasondistill.records import OUTCOMES, GradedRow
from reasondistill.runs.store import (
    Shard,
    StopSignal,
    changed_keys,
    mend,
    read_rows,
    write_json,
)

_CHUNK = 1_000

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
    """Grade every row of `source` into `target`; return how many rows have each outcome, those of
    an earlier session included.

    Raises StageError (no such input), DataError (`path:line`, a row that is none; what stands
    before it is graded), DriftError (the output was made from something else), ConfigError (no such
    policy, a foreign file in the way) and Interrupted.
    """
    with GradingPool(
        workers=workers, deadline_s=deadline_s, memory_mib=memory_mib, policy=policy
    ) as pool:
        total = count_answers(source)
        made_from = {
            "grader": GRADER,
            "policy": policy,
            "deadline_s": deadline_s,
            "input": digest_of(source),
        }
        claim_output(target, made_from)
        outcomes = Counter[str]()
        if target.exists():
            outcomes.update(row["outcome"] for row in read_rows(target))
        done = outcomes.total()
        if done > total:
            raise DataError(
                f"{target}: holds more rows than {source}; two commands wrote it. Remove it "
                f"and {target.name}.manifest.json."
            )
        if done:
            log.info("%s: %s rows are graded already", target, f"{done:,}")
        progress = Progress(total, done, every_s=EVERY_S)
        with Shard(target) as shard:
            graded = _graded(islice(read_answers(source), done, None), pool)
            while True:
                chunk = append_next(graded, shard)
                if not chunk:
                    return outcomes
                outcomes.update(row.outcome for row in chunk)
                shares = {name: outcomes[name] for name in OUTCOMES if outcomes[name]}
                tell(progress, outcomes.total(), shares)
                if stop is not None:
                    stop.check()


def append_next(graded: Iterator[GradedRow], shard: Shard) -> list[GradedRow]:
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


# ---- the output ----------------------------------------------------------------------------------


def claim_output(target: Path, made_from: dict[str, Any]) -> None:
    """Put down what the output is made from, or compare with what was put down. Raises ConfigError
    or DriftError.
    """
    if target.is_dir():
        raise ConfigError(f"{target}: is a folder; name a file with --out.")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: its folder does not exist; name a file with --out.")
    beside = target.with_name(f"{target.name}.manifest.json")
    if not beside.exists():
        if target.exists():
            raise ConfigError(
                f"{target}: exists and is not ours (no {beside.name} beside it). Name another "
                "file with --out."
            )
        write_json(beside, made_from)
        return
    try:
        old = foreign_json.loads(read_bytes(beside))
    except ValueError as error:
        raise DataError(f"{beside}: broken JSON: {error}. Name another file with --out.") from error
    if not isinstance(old, dict):
        raise DataError(f"{beside}: not what --out was made from. Name another file with --out.")
    changed = changed_keys(cast("dict[str, Any]", old), made_from)
    if changed:
        names = "; ".join(f"{name} was {a}, is {b}" for name, a, b in changed)
        raise DriftError(
            f"{target}: made from something else: {names}. Name another file with "
            f"--out, or remove this one and {beside}."
        )
    if target.exists():
        mend(target, in_order=True)
