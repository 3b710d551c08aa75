"""The evals folder: the samples and grades of every model on every benchmark are joined into
records.jsonl and scores.json, once, and again when one of them has changed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.records import STEP, VARIANT, EvalRecord, MeasuredModel, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.figures import EvalsFigures
from reasondistill.runs.layout import EvalsFolder
from reasondistill.runs.scores import ScoresFile
from reasondistill.runs.store import (
    MANIFEST,
    Identity,
    Manifest,
    finish_stage,
    open_stage,
    require_complete,
    write_json,
    write_records,
)
from reasondistill.stages.evals.outcomes import Sheet, asked_problems, fill, read_problems
from reasondistill.stages.evals.seeds import pool_seeds
from reasondistill.stages.evals.summary import main_sheets, summarise

VERSION = 2
RECORDS, SCORES = layout.EVAL_RECORDS, layout.SCORES
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variants:
    """Who answered what besides each model under its own prompt: `<model>@<prompt>` and
    `<model>@step@<n>`, by benchmark.

    `steps` are those of each student's snapshots, measured on `step_benchmarks` with `step_n`
    samples per problem.
    """

    prompts: tuple[str, ...] = ()
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    step_benchmarks: tuple[str, ...] = ()
    step_n: int = 1

    def of(self, benchmark: str, models: Sequence[str]) -> Iterator[str]:
        """The names of the variants on a benchmark."""
        for model in models:
            for prompt in self.prompts:
                yield f"{model}{VARIANT}{prompt}"
        if benchmark not in self.step_benchmarks:
            return
        for model in models:
            for step in self.steps.get(model, ()):
                yield f"{model}{STEP}{step}"

    def samples(self, name: str, n: int) -> int:
        """Samples per problem of a model or variant, where models have `n`."""
        return self.step_n if STEP in name else n


def collect(
    evals_folder: Path,
    *,
    benchmarks: Mapping[str, int],
    models: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    pool: GradingPool,
    variants: Variants | None = None,
    training: Path | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    about: Sequence[MeasuredModel] = (),
    reference: str | None = None,
    failures_allowed: float = 0.0,
    seed: int = 0,
) -> Manifest:
    """Join samples and grades of every model on every benchmark; write records.jsonl and
    scores.json.

    `benchmarks` says how many samples per problem are wanted of each; more than that on disk are
    left aside. `baselines` maps a model to those it is compared with. `training` is the problems
    file that students were trained on: benchmark problems that it may give away are scored apart.
    The `pool` groups equivalent answers for maj@k. `groups` maps a name to the models that differ
    in their seed alone: they are scored and compared together too. `about` says who the models are,
    and `reference` whom the report compares methods with; both are handed on as they are.
    `failures_allowed` is the share of a model's samples on a benchmark that may be lost. Raises
    StageError when a set is missing, unfinished, incomplete or has lost more than that.
    """
    started = time.monotonic()
    variants, groups = variants or Variants(), groups or {}
    _refuse_shared_names(evals_folder, models, groups)
    wanted = _wanted_samples(benchmarks, models, variants)
    request: dict[str, Any] = {
        "benchmarks": dict(benchmarks),
        "models": models,
        "baselines": {model: list(others) for model, others in baselines.items()},
        "variants": asdict(variants),
        "policy": pool.policy,
        "seed": seed,
    }
    if groups:
        request["groups"] = {name: list(members) for name, members in groups.items()}
    if reference is not None:
        request["reference"] = reference
    inputs = {"asked": fingerprint(request), **_outputs(evals_folder, wanted)}
    if training is not None:
        inputs["training"] = require_complete(training.parent).output
    # All of it is an input, nothing a setting: a new model remakes the cheap tables instead of
    # stopping with a drift.
    identity = Identity("evals", VERSION, {}, inputs)
    state = open_stage(
        evals_folder, identity, derived=True, beside=_benchmark_folders(evals_folder)
    )
    if state == "complete":
        return require_complete(evals_folder)

    sheets: dict[tuple[str, str], Sheet] = {}
    records = _join(evals_folder, wanted, sheets, failures_allowed)
    total = write_records(evals_folder / RECORDS, records)
    summary = summarise(
        evals_folder,
        sheets,
        models=models,
        baselines=baselines,
        pool=pool,
        training=training,
        prompts=variants.prompts,
        seed=seed,
    )
    pooled = None
    if groups:
        pooled = pool_seeds(main_sheets(sheets, models), groups, baselines)
    summary = summary.model_copy(
        update={"groups": pooled, "models": tuple(about), "reference": reference}
    )
    write_json(evals_folder / SCORES, summary.to_dict())
    return finish_stage(
        evals_folder,
        counts={"in": total, "out": total, "benchmarks": len(benchmarks), "models": len(models)},
        figures=_figures(summary).to_dict(),
        seconds=time.monotonic() - started,
    )


def _refuse_shared_names(
    folder: Path, models: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> None:
    shared = sorted(groups.keys() & set(models))
    if shared:
        raise StageError(
            f"{folder}: {shared[0]} is both a model and a student of several seeds; "
            "give the model another name."
        )


def _wanted_samples(
    benchmarks: Mapping[str, int], models: Sequence[str], variants: Variants
) -> dict[tuple[str, str], int]:
    """Benchmark and model or variant → samples per problem."""
    wanted: dict[tuple[str, str], int] = {}
    for benchmark, n in benchmarks.items():
        for model in (*models, *variants.of(benchmark, models)):
            wanted[benchmark, model] = variants.samples(model, n)
    return wanted


def _benchmark_folders(folder: Path) -> set[str]:
    """The benchmark folders: those of this run, and of an earlier one that asked for others."""
    return {path.parent.parent.name for path in folder.glob(f"*/problems/{MANIFEST}")}


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
) -> Iterator[EvalRecord]:
    """Yield every record, benchmark by benchmark and model by model, and leave one filled Sheet of
    each in `sheets`.
    """
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in wanted):
        known = read_problems(folder / benchmark)
        files = EvalsFolder(folder).benchmark(benchmark)
        models = [model for where, model in wanted if where == benchmark]
        problems_of = {
            model: asked_problems(known, files.cell(model).traces_folder) for model in models
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
