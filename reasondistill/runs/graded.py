"""Traces and their verdicts, side by side: exactly one verdict per trace, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.records import Graded, Trace, Verdict
from reasondistill.runs.store import located_records, read_records


@dataclass(frozen=True)
class Located:
    """A trace with its verdict, while it has one, and the byte offsets at which their lines begin.

    Without a verdict `verdict_at` is where the next one would be looked for.
    """

    trace: Trace
    verdict: Verdict | None
    trace_at: int
    verdict_at: int


def read_graded(traces: Path, verdicts: Path) -> Iterator[Graded]:
    """Each trace of the file `traces` with its verdict of the file `verdicts`, one at a time.

    Raises StageError when there is not exactly one verdict per trace.
    """
    answers = read_records(verdicts, Verdict)
    remedy = f"Remove {verdicts.parent} and grade again."
    for trace in read_records(traces, Trace):
        verdict = next(answers, None)
        if verdict is None:
            raise StageError(f"{verdicts}: the verdict on {trace.id} is missing. {remedy}")
        if verdict.trace_id != trace.id:
            raise StageError(
                f"{verdicts}: expected the verdict on {trace.id}, found {verdict.trace_id}. "
                f"{remedy}"
            )
        yield Graded(trace, verdict)
    extra = next(answers, None)
    if extra is not None:
        raise StageError(f"{verdicts}: the verdict on {extra.trace_id} has no trace. {remedy}")


def read_as_far_as_graded(traces: Path, verdicts: Path) -> Iterator[tuple[Trace, Verdict | None]]:
    """Each trace with its verdict, or with None while it has none.

    Verdicts may lag behind while traces are still sampled, but are in the order of the traces.
    """
    for located in located_graded(traces, verdicts):
        yield located.trace, located.verdict


def located_graded(
    traces: Path, verdicts: Path, *, trace_at: int = 0, verdict_at: int = 0
) -> Iterator[Located]:
    """The same with the places of both lines, from which another reader goes on."""
    answers: Iterator[tuple[int, Verdict]] = iter(())
    if verdicts.exists():
        answers = located_records(verdicts, Verdict, verdict_at)
    place, verdict = next(answers, (verdict_at, None))
    for at, trace in located_records(traces, Trace, trace_at):
        if verdict is not None and verdict.trace_id == trace.id:
            yield Located(trace, verdict, at, place)
            place, verdict = next(answers, (place, None))
        else:
            yield Located(trace, None, at, place)
