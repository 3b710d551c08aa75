"""The evals folder: the samples and grades of every model on every benchmark are joined into
records.jsonl and scores.json, and again when one of them has changed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.records import STEP, EvalRecord
from reasondistill.runs import layout
from reasondistill.runs.figures import EvalsFigures
from reasondistill.runs.layout import EvalsFolder
from reasondistill.runs.scores import ScoresFile
from reasondistill.runs.store import (
    MANIFEST,
    Identity,
    Manifest,
    content_of,
    count_lines,
    finish_stage,
    open_stage,
    require_complete,
    write_json,
    write_records,
)
from reasondistill.stages.evals.outcomes import Sheet, asked_problems, fill, read_problems
from reasondistill.stages.evals.plan import EvalPlan
from reasondistill.stages.evals.summary import summarise

VERSION = 2
RECORDS, SCORES = layout.EVAL_RECORDS, layout.SCORES
log = logging.getLogger(__name__)


def collect(
    evals_folder: Path, plan: EvalPlan, pool: GradingPool, *, failures_allowed: float = 0.0
) -> Manifest:
    """Join samples and grades of every model on every benchmark; write records.jsonl and
    scores.json.

    The `pool` groups equivalent answers for maj@k. `failures_allowed` is the share of a model's
    samples on a benchmark that may be lost. Raises StageError when a set is missing, unfinished,
    incomplete or has lost more than that.
    """
    started = time.monotonic()
    _refuse_shared_names(evals_folder, plan)
    wanted = plan.wanted_samples()
    inputs = {"asked": plan.fingerprint(pool.policy), **_outputs(evals_folder, wanted)}
    if plan.training is not None:
        inputs["training"] = require_complete(plan.training.parent).output
        left_out = plan.training.with_name(layout.LEFT_OUT)
        if count_lines(left_out):
            inputs["left_out"] = content_of(left_out.parent, [left_out.name])
    if plan.limit is not None:
        cells = (evals_folder / benchmark / model / "traces" for benchmark, model in wanted)
        asked = [require_complete(cell).section.get("limit", 0) for cell in cells]
        if any(count > plan.limit for count in asked):  # an earlier limit was larger
            inputs["limit"] = str(plan.limit)
    # All of it is an input, nothing a setting: a new model remakes the cheap tables instead of
    # stopping with a drift.
    identity = Identity("evals", VERSION, {}, inputs)
    state = open_stage(
        evals_folder, identity, derived=True, beside=_benchmark_folders(evals_folder)
    )
    if state == "complete":
        return require_complete(evals_folder)

    sheets: dict[tuple[str, str], Sheet] = {}
    records = _join(evals_folder, wanted, sheets, failures_allowed, limit=plan.limit)
    total = write_records(evals_folder / RECORDS, records)
    summary = summarise(evals_folder, sheets, plan, pool)
    write_json(evals_folder / SCORES, summary.to_dict())
    return finish_stage(
        evals_folder,
        counts={
            "in": total,
            "out": total,
            "benchmarks": len(plan.benchmarks),
            "models": len(plan.models),
        },
        figures=_figures(summary).to_dict(),
        seconds=time.monotonic() - started,
        beside=_folders_in(evals_folder),
    )


def _refuse_shared_names(folder: Path, plan: EvalPlan) -> None:
    shared = sorted(plan.groups.keys() & set(plan.models))
    if shared:
        raise StageError(
            f"{folder}: {shared[0]} is both a model and a student of several seeds; "
            "give the model another name."
        )


def _benchmark_folders(folder: Path) -> set[str]:
    """The benchmark folders: those of this run, and of an earlier one that asked for others."""
    return {path.parent.parent.name for path in folder.glob(f"*/problems/{MANIFEST}")}


def _folders_in(folder: Path) -> set[str]:
    """The names of all folders: each has manifests of its own."""
    return {path.name for path in folder.iterdir() if path.is_dir()}


def _outputs(folder: Path, wanted: Mapping[tuple[str, str], int]) -> dict[str, str]:
    """What each stage that is joined here has written."""
    outputs: dict[str, str] = {}
    for benchmark, model in wanted:
        for stage in ("traces", "verdicts"):
            manifest = require_complete(folder / benchmark / model / stage)
            outputs[f"{benchmark}/{model}/{stage}"] = manifest.output
    return outputs


def _join(
    folder: Path,
    wanted: Mapping[tuple[str, str], int],
    sheets: dict[tuple[str, str], Sheet],
    failures_allowed: float,
    *,
    limit: int | None,
) -> Iterator[EvalRecord]:
    """Yield every record, benchmark by benchmark and model by model, and leave one filled Sheet of
    each in `sheets`. The first `limit` problems of each benchmark count.
    """
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in wanted):
        known = read_problems(folder / benchmark)
        files = EvalsFolder(folder).benchmark(benchmark)
        models = [model for where, model in wanted if where == benchmark]
        problems_of = {
            model: asked_problems(known, files.cell(model).traces_folder)[:limit]
            for model in models
        }
        whole = {model: names for model, names in problems_of.items() if STEP not in model}
        _refuse_other_problems(folder / benchmark, whole)
        for model in models:
            sheet = Sheet.empty(model, benchmark, problems_of[model], wanted[benchmark, model])
            yield from fill(sheet, folder / benchmark / model, failures_allowed=failures_allowed)
            sheets[benchmark, model] = sheet
            log.info("%s on %s: %d samples collected", model, benchmark, sheet.samples)


def _refuse_other_problems(folder: Path, problems_of: Mapping[str, Sequence[str]]) -> None:
    """Models of one benchmark answer the same problems, and at least one."""
    sizes = {model: len(problems) for model, problems in problems_of.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{model} {size}" for model, size in sizes.items())
        raise StageError(
            f"{folder}: models answered different numbers of problems ({listed}); run the "
            "evals of all with the same limit."
        )
    if 0 in sizes.values():
        raise StageError(f"{folder}: holds no problems; there is nothing to score.")


def _figures(summary: ScoresFile) -> EvalsFigures:
    """One line of text per model, and per group of seeds, and benchmark."""
    scores = list(summary.scores)
    if summary.groups is not None:
        scores = [*summary.groups.scores, *scores]
    lines: dict[str, str] = {}
    for score in scores:
        if score.metric == "pass@1":
            mean, low, high = 100 * score.mean, 100 * score.low, 100 * score.high
            lines[f"{score.model} on {score.benchmark}"] = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    return EvalsFigures.model_validate(lines)
