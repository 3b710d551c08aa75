"""What the traces stage would find in its folder, told before a model is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reasondistill.config import TraceSettings, VerdictSettings
from reasondistill.models.prompts import load_prompt
from reasondistill.runs import layout
from reasondistill.runs.store import Foreseen, Identity, count_lines, foresee
from reasondistill.stages.traces.stage import VERSION
from reasondistill.stages.traces.work import grows_in, has_grown, inputs_of, section_of


def foresee_traces(
    traces: TraceSettings,
    problems_folder: Path,
    folder: Path,
    *,
    limit: int | None = None,
    heal: bool = False,
    keep_old: bool = False,
    verdicts: VerdictSettings | None = None,
) -> Foreseen:
    """What `run_traces` would find in the folder; nothing is changed. With `heal` a finished one
    that has lost samples is begun again. Raises ConfigError, StageError and DriftError as it does.
    """
    inputs = inputs_of(traces, problems_folder)
    count = count_lines(problems_folder / layout.PROBLEMS)
    if limit is not None:
        count = min(count, limit)
    policy = (verdicts or VerdictSettings()).policy
    section = section_of(traces, load_prompt(traces.prompt), count, policy)
    found = foresee(
        folder,
        Identity("traces", VERSION, section, inputs),
        grows=grows_in(traces),
        has_grown=has_grown(traces, problems_folder, folder),
        keep_old=keep_old,
    )
    is_short = found.before is not None and bool(found.before.counts.get("failed"))
    if heal and is_short and found.state == "complete":
        return replace(found, state="partial")
    return found
