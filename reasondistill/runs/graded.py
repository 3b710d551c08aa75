"""Traces and their verdicts, side by side: exactly one verdict per trace, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.records import Graded, Trace, Verdict
from reasondistill.runs.store import read_records


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
    answers: Iterator[Verdict] = iter(())
    if verdicts.exists():
        answers = read_records(verdicts, Verdict)
    verdict = next(answers, None)
    for trace in read_records(traces, Trace):
        if verdict is not None and verdict.trace_id == trace.id:
            yield trace, verdict
            verdict = next(answers, None)
        else:
            yield trace, None
