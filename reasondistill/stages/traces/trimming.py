"""The traces of a folder are those that its rule keeps; what was drawn besides stands beside them.

Taken in again when the folder is opened: with a larger `accepted` they may be wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reasondistill.models.samplers import problem_and_sample
from reasondistill.records import Ending, Trace
from reasondistill.runs import layout
from reasondistill.runs.figures import DrawingFigures
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import (
    append_shard,
    drop_rows,
    read_records,
    remove_with_list,
    write_records,
)
from reasondistill.stages.traces import capture


def take_in(folder: Path) -> None:
    """Put what was trimmed back among the traces. After a kill some may stand there twice: sorting
    drops them.
    """
    path = folder / layout.TRIMMED
    if path.exists():
        append_shard(path, folder / layout.TRACES)
    for name in (layout.TRIMMED, layout.ENDINGS):
        remove_with_list(folder / name)


def trim(folder: Path, endings: Sequence[Ending], most: int) -> DrawingFigures:
    """Take the samples behind the end of their problem out of the traces, which are in their order;
    return what was saved of `most` samples of each problem.
    """
    path = folder / layout.TRACES
    kept = {ending.problem_id: ending.kept for ending in endings}
    samples: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    trimmed: dict[str, int] = {}
    for row in read_samples(path):
        problem_id, number = problem_and_sample(row["id"])
        samples[problem_id] += 1
        tokens[problem_id] += row["completion"]["tokens"]
        if number >= kept[problem_id]:
            trimmed[row["id"]] = row["completion"]["tokens"]
    if trimmed:
        traces = (trace for trace in read_records(path, Trace) if trace.id in trimmed)
        write_records(folder / layout.TRIMMED, traces)
        drop_rows(path, lambda row: row["id"] in trimmed)
        capture.forget_all_but(folder, {row["id"] for row in read_samples(path)})
    write_records(folder / layout.ENDINGS, endings)
    reasons = Counter(ending.reason for ending in endings)
    mean_tokens = tokens.total() / max(1, samples.total())
    spared_tokens = 0.0
    for problem_id in kept:
        mean_here = mean_tokens
        if samples[problem_id]:
            mean_here = tokens[problem_id] / samples[problem_id]
        spared_tokens += (most - samples[problem_id]) * mean_here
    return DrawingFigures(
        accepted=reasons["accepted"],
        exhausted=reasons["exhausted"],
        hopeless=reasons["hopeless"],
        budget=reasons["budget"],
        verified=sum(ending.correct for ending in endings),
        drawn=samples.total(),
        drawn_tokens=tokens.total(),
        trimmed=len(trimmed),
        trimmed_tokens=sum(trimmed.values()),
        spared=most * len(endings) - samples.total(),
        spared_tokens=round(spared_tokens),
    )
