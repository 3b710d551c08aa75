"""Stage 6: graded samples of models on benchmarks → EvalRecord, scores with intervals, paired
differences.

Sampling and grading exist once: the stages of traces and verdicts have filled one folder per
benchmark and model,

    6-evals/<benchmark>/problems/problems.jsonl
    6-evals/<benchmark>/<model>/traces/traces.jsonl
    6-evals/<benchmark>/<model>/verdicts/verdicts.jsonl

and `collect` joins them into 6-evals/records.jsonl and 6-evals/scores.json. A model that lacks
samples is refused by name: fewer samples than asked never deflate a score. `undecided` samples (the
checker gave up) and refused ones (no model takes their input) count as not correct, and their
shares stand beside every score. Lost samples, where they are allowed, take their problems out of
the model's score. A model may stand there several times, `<model>@<prompt>` and `<model>@step@<n>`:
see `Variants`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reasondistill import statistics
from reasondistill.curation.overlap import N_GRAM, overlapping
from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.records import STEP, VARIANT, EvalRecord, MeasuredModel, Problem, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.layout import EvalsFolder
from reasondistill.runs.store import (
    MANIFEST,
    Identity,
    Manifest,
    finish_stage,
    open_stage,
    read_records,
    require_complete,
    write_json,
    write_records,
)
from reasondistill.stages.evals.comparing import Sheets, differences
from reasondistill.stages.evals.outcomes import Sheet, asked_problems, fill, read_problems
from reasondistill.stages.evals.scoring import score_parts, score_sheet
from reasondistill.stages.evals.seeds import pool_seeds
from reasondistill.stages.evals.votes import wrong_classes
from reasondistill.statistics.several import exchangeable_p_value

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
        yield from (f"{model}{VARIANT}{prompt}" for model in models for prompt in self.prompts)
        if benchmark in self.step_benchmarks:
            yield from (
                f"{model}{STEP}{step}" for model in models for step in self.steps.get(model, ())
            )

    def samples(self, name: str, n: int) -> int:
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
    if twice := sorted(groups.keys() & set(models)):
        raise StageError(
            f"{evals_folder}: {twice[0]} is both a model and a student of several seeds; "
            "give the model another name."
        )
    cells = [
        (name, model) for name in benchmarks for model in (*models, *variants.of(name, models))
    ]
    asked = {
        "benchmarks": dict(benchmarks),
        "models": models,
        "baselines": {m: list(b) for m, b in baselines.items()},
    }
    asked |= {"variants": asdict(variants), "policy": pool.policy, "seed": seed}
    asked |= {"groups": {name: list(members) for name, members in groups.items()}} if groups else {}
    asked |= {"reference": reference} if reference is not None else {}
    inputs = {"asked": fingerprint(asked), **_inputs(evals_folder, cells)}
    inputs |= {"training": require_complete(training.parent).output} if training is not None else {}
    # All of it is an input, nothing a setting: a new model remakes the cheap tables instead of
    # stopping with a drift.
    identity = Identity("evals", VERSION, {}, inputs)
    if (
        open_stage(evals_folder, identity, derived=True, beside=_measured(evals_folder))
        == "complete"
    ):
        return require_complete(evals_folder)
    sheets: dict[tuple[str, str], Sheet] = {}
    wanted = {(name, model): variants.samples(model, benchmarks[name]) for name, model in cells}
    total = write_records(
        evals_folder / RECORDS, _records(evals_folder, wanted, sheets, failures_allowed)
    )
    scores = _summary(evals_folder, sheets, models, baselines, pool, training, variants, seed)
    scores |= {"groups": pool_seeds(_own(sheets, models), groups, baselines)} if groups else {}
    scores |= {"models": [model.model_dump() for model in about], "reference": reference}
    write_json(evals_folder / SCORES, scores)
    counts = {"in": total, "out": total, "benchmarks": len(benchmarks), "models": len(models)}
    return finish_stage(
        evals_folder, counts=counts, figures=_figures(scores), seconds=time.monotonic() - started
    )


def _measured(folder: Path) -> set[str]:
    """The benchmark folders: those of this run, and of an earlier one that asked for others."""
    return {path.parent.parent.name for path in folder.glob(f"*/problems/{MANIFEST}")}


def _inputs(folder: Path, cells: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {
        f"{benchmark}/{model}/{stage}": require_complete(folder / benchmark / model / stage).output
        for benchmark, model in cells
        for stage in ("traces", "verdicts")
    }


# ---- joining -------------------------------------------------------------------------------------


def _records(
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
        models = [model for where, model in wanted if where == benchmark]
        asked = {
            model: asked_problems(
                known, EvalsFolder(folder).benchmark(benchmark).cell(model).traces_folder
            )
            for model in models
        }
        _same_problems(
            folder / benchmark,
            {model: names for model, names in asked.items() if STEP not in model},
        )
        for model in models:
            sheet = Sheet.empty(model, benchmark, asked[model], wanted[benchmark, model])
            yield from fill(sheet, folder / benchmark / model, failures_allowed=failures_allowed)
            sheets[benchmark, model] = sheet
            log.info("%s on %s: %d samples collected", model, benchmark, sheet.samples)


def _same_problems(folder: Path, asked: Mapping[str, Sequence[str]]) -> None:
    sizes = {model: len(problems) for model, problems in asked.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{model} {size}" for model, size in sizes.items())
        raise StageError(
            f"{folder}: models answered different numbers of problems ({found}); run the "
            "evals of all with the same limit."
        )
    if 0 in sizes.values():
        raise StageError(f"{folder}: holds no problems; there is nothing to score.")


# ---- the content of scores.json ------------------------------------------------------------------


def _summary(
    folder: Path,
    sheets: Mapping[tuple[str, str], Sheet],
    models: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    pool: GradingPool,
    training: Path | None,
    variants: Variants,
    seed: int,
) -> dict[str, Any]:
    own = _own(sheets, models)
    every = list(sheets.values())
    classes = wrong_classes(every, pool)
    problems = {
        benchmark: read_problems(folder / benchmark)
        for benchmark in dict.fromkeys(benchmark for benchmark, _ in sheets)
    }
    asked = {
        name: {
            problem
            for sheet in own.values()
            if sheet.benchmark == name
            for problem in sheet.problems
        }
        for name in problems
    }
    suspects = {
        name: _suspects({key: known[key] for key in known if key in asked[name]}, training)
        for name, known in problems.items()
    }
    return {
        "scores": [
            score.model_dump()
            for sheet, wrong in zip(every, classes, strict=True)
            for score in score_sheet(sheet, wrong)
        ],
        "parts": [
            part.model_dump()
            for sheet in own.values()
            for part in score_parts(sheet, problems[sheet.benchmark], suspects[sheet.benchmark])
        ],
        "differences": [row.model_dump() for row in differences(own, baselines)],
        "prompts": list(_spreads(own, sheets, variants.prompts, seed)),
        "overlap": {
            name: {"suspect": len(found), "of": len(asked[name]), "n_gram": N_GRAM}
            for name, found in suspects.items()
            if found
        },
        "bootstrap": [_bootstrap_row(sheet, seed) for sheet in own.values() if sheet.k > 1],
        "outcomes": _nested(sheets, Sheet.shares),
        "tokens": _nested(sheets, Sheet.mean_tokens),
        "refused": _nested(_some(sheets, lambda sheet: sheet.refused), lambda sheet: sheet.refused),
        "lost": _nested(_some(sheets, lambda sheet: sheet.lost), lambda sheet: list(sheet.lost)),
    }


def _some(sheets: Sheets, has: Callable[[Sheet], object]) -> Sheets:
    return {key: sheet for key, sheet in sheets.items() if has(sheet)}


def _own(
    sheets: Mapping[tuple[str, str], Sheet], models: Sequence[str]
) -> dict[tuple[str, str], Sheet]:
    """The sheets of the models under their own prompt, at the end of their training."""
    return {key: sheet for key, sheet in sheets.items() if key[1] in models}


def _nested(sheets: Mapping[tuple[str, str], Sheet], value: Any) -> dict[str, dict[str, Any]]:
    """Benchmark → model → value."""
    found: dict[str, dict[str, Any]] = {}
    for (benchmark, model), sheet in sheets.items():
        found.setdefault(benchmark, {})[model] = value(sheet)
    return found


def _suspects(problems: Mapping[str, Problem], training: Path | None) -> frozenset[str] | None:
    if training is None:
        return None
    questions = {name: problem.question for name, problem in problems.items()}
    return overlapping(questions, (problem.question for problem in read_records(training, Problem)))


def _spreads(
    own: Mapping[tuple[str, str], Sheet],
    sheets: Mapping[tuple[str, str], Sheet],
    prompts: Sequence[str],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """How much the prompt matters to each model on each benchmark: lowest and highest score, and
    the p-value of "not at all".

    Over the problems that the model has under every prompt.
    """
    for (benchmark, model), sheet in own.items() if prompts else ():
        under = {"its own": sheet} | {
            prompt: sheets[benchmark, f"{model}{VARIANT}{prompt}"] for prompt in prompts
        }
        gone = set[str]().union(
            *(other.refused.keys() | other.lost_problems for other in under.values())
        )
        kept = [name for name in sheet.problems if name not in gone]
        if not kept:
            log.warning(
                "%s on %s: no problem was answered under every prompt; prompts are not compared",
                model,
                benchmark,
            )
            continue
        under = {prompt: other.only(kept) for prompt, other in under.items()}
        hits = np.stack([other.correct.sum(axis=1) for other in under.values()], axis=1)
        means = {prompt: float(other.correct.mean()) for prompt, other in under.items()}
        low, high = min(means.values()), max(means.values())
        row = {"model": model, "benchmark": benchmark, "scores": means, "low": low, "high": high}
        yield row | {"p_value": exchangeable_p_value(hits, seed=seed), "n": len(kept), "k": sheet.k}


def _bootstrap_row(sheet: Sheet, seed: int) -> dict[str, Any]:
    """The interval by another road, to stand beside the closed form."""
    found = statistics.bootstrap_interval(sheet.correct, seed=seed)
    return {
        "model": sheet.model,
        "benchmark": sheet.benchmark,
        "metric": "pass@1",
        "low": found.low,
        "high": found.high,
        "method": found.method,
    }


def _figures(scores: Mapping[str, Any]) -> dict[str, Any]:
    """One line of text per model, and per group of seeds, and benchmark."""
    return {
        f"{row['model']} on {row['benchmark']}": f"{100 * row['mean']:.1f} "
        f"[{100 * row['low']:.1f}, "
        f"{100 * row['high']:.1f}]"
        for row in (*scores.get("groups", {}).get("scores", ()), *scores["scores"])
        if row["metric"] == "pass@1"
    }
