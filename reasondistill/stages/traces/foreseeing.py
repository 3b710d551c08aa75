"""What the traces stage would find in its folder, told before a model is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reasondistill.config import Cluster, TraceSettings, VerdictSettings
from reasondistill.models.prompts import load_prompt
from reasondistill.runs import layout
from reasondistill.runs.store import Foreseen, Identity, count_lines, foresee
from reasondistill.stages.traces import capture
from reasondistill.stages.traces.stage import VERSION, is_worth_another_try
from reasondistill.stages.traces.work import grows_in, has_grown, inputs_of, section_of


def foresee_traces(
    traces: TraceSettings,
    problems_folder: Path,
    folder: Path,
    cluster: Cluster,
    *,
    limit: int | None = None,
    heal: bool = True,
    keep_old: bool = False,
    verdicts: VerdictSettings | None = None,
) -> Foreseen:
    """What `run_traces` would find in the folder; nothing is changed. A finished one is begun again
    with `heal` where it has lost samples, and where it lacks top K that are asked for: then the
    traces stay what they are. Raises ConfigError, StageError and DriftError as it does.
    """
    inputs = inputs_of(traces, problems_folder)
    count = count_lines(problems_folder / layout.PROBLEMS)
    if limit is not None:
        count = min(count, limit)
    policy = (verdicts or VerdictSettings()).policy
    section = section_of(traces, load_prompt(traces.prompt), count, policy)
    identity = Identity("traces", VERSION, section, inputs)
    found = foresee(
        folder,
        identity,
        grows=grows_in(traces),
        has_grown=has_grown(traces, problems_folder, folder),
        keep_old=keep_old,
    )
    if found.state != "complete" or found.before is None:
        return found
    is_same = found.before.fingerprint == identity.fingerprint
    if heal and is_same and is_worth_another_try(found.before, cluster):
        return replace(found, state="partial")
    if not capture.is_captured(traces, folder, found.before):
        return replace(found, state="partial", stays=True)
    return found
