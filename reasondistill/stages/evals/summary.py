"""The content of scores.json: filled sheets → scores, parts, paired differences, the effect of
prompts, and overlap with the training set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from reasondistill import statistics
from reasondistill.curation.overlap import N_GRAM, overlapping
from reasondistill.grading import GradingPool
from reasondistill.records import VARIANT, Cascade, Problem, Score
from reasondistill.runs import layout
from reasondistill.runs.scores import BootstrapInterval, Overlap, PromptSpread, ScoresFile
from reasondistill.runs.store import read_keys, read_records
from reasondistill.stages.evals.cascading import Voters, cascade_of
from reasondistill.stages.evals.comparing import Sheets, differences
from reasondistill.stages.evals.outcomes import Sheet, read_problems
from reasondistill.stages.evals.plan import EvalPlan
from reasondistill.stages.evals.scoring import score_by_difficulty, score_parts, score_sheet
from reasondistill.stages.evals.seeds import pool_seeds
from reasondistill.stages.evals.votes import wrong_classes
from reasondistill.statistics.several import exchangeable_p_value

log = logging.getLogger(__name__)

Value = TypeVar("Value")
# Of each sheet and each of its problems: the sizes of the classes of wrong answers.
WrongOf = Mapping[tuple[str, str], Sequence[tuple[int, ...]]]


def summarise(folder: Path, sheets: Sheets, plan: EvalPlan, pool: GradingPool) -> ScoresFile:
    """What scores.json is to say. The models of the plan are measured under their own prompt, at
    the end of their training; the other sheets are their variants.
    """
    main = main_sheets(sheets, plan.models)
    benchmarks = dict.fromkeys(benchmark for benchmark, _ in sheets)
    problems = {name: read_problems(folder / name) for name in benchmarks}
    problems_asked = {name: _problems_asked(problems[name], main, name) for name in benchmarks}
    suspects = {name: _suspects(problems_asked[name], plan.training) for name in benchmarks}
    parts: list[Score] = []
    for sheet in main.values():
        name = sheet.benchmark
        parts += score_parts(sheet, problems[name], suspects[name])
        other = main.get((name, plan.difficulty or ""))
        if other is not None and other is not sheet:
            parts += score_by_difficulty(sheet, other)
    wrong = dict(zip(sheets, wrong_classes(list(sheets.values()), pool), strict=True))
    groups = None
    if plan.groups:
        groups = pool_seeds(main, plan.groups, plan.baselines)
    return ScoresFile(
        scores=tuple(_scores(sheets, wrong)),
        parts=tuple(parts),
        differences=tuple(differences(main, plan.baselines)),
        prompts=tuple(_prompt_spreads(main, sheets, plan)),
        overlap={
            name: Overlap(suspect=len(names), of=len(problems_asked[name]), n_gram=N_GRAM)
            for name, names in suspects.items()
            if names
        },
        bootstrap=tuple(_bootstrap(sheet, plan.seed) for sheet in main.values() if sheet.k > 1),
        outcomes=by_benchmark(sheets.values(), Sheet.shares),
        tokens=by_benchmark(sheets.values(), Sheet.mean_tokens),
        refused=by_benchmark(
            [sheet for sheet in sheets.values() if sheet.refused], lambda sheet: sheet.refused
        ),
        lost=by_benchmark(
            [sheet for sheet in sheets.values() if sheet.lost], lambda sheet: sheet.lost
        ),
        groups=groups,
        models=tuple(plan.about),
        reference=plan.reference,
        cascades=tuple(_cascades(main, wrong, plan)),
    )


def main_sheets(sheets: Sheets, models: Sequence[str]) -> dict[tuple[str, str], Sheet]:
    """The sheets of the models under their own prompt, at the end of their training."""
    return {key: sheet for key, sheet in sheets.items() if key[1] in models}


def by_benchmark(
    sheets: Iterable[Sheet], value: Callable[[Sheet], Value]
) -> dict[str, dict[str, Value]]:
    """Benchmark → model → value."""
    values: dict[str, dict[str, Value]] = {}
    for sheet in sheets:
        values.setdefault(sheet.benchmark, {})[sheet.model] = value(sheet)
    return values


def _scores(sheets: Sheets, wrong: WrongOf) -> Iterator[Score]:
    for key, sheet in sheets.items():
        yield from score_sheet(sheet, wrong[key])


def _cascades(main: Sheets, wrong: WrongOf, plan: EvalPlan) -> Iterator[Cascade]:
    """Of each model that has several samples with each teacher that it is compared with."""
    teachers = {model.name for model in plan.about if model.is_teacher}
    for (benchmark, model), sheet in main.items():
        for other in plan.baselines.get(model, ()):
            if other not in teachers or (benchmark, other) not in main or sheet.k < 2:
                continue
            teacher = main[benchmark, other]
            voters = Voters(sheet, wrong[benchmark, model])
            cascade = cascade_of(voters, Voters(teacher, wrong[benchmark, other]))
            if cascade is not None:
                yield cascade


def _problems_asked(
    problems: Mapping[str, Problem], main: Sheets, benchmark: str
) -> dict[str, Problem]:
    """The problems of a benchmark that at least one model was asked."""
    names: set[str] = set()
    for sheet in main.values():
        if sheet.benchmark == benchmark:
            names.update(sheet.problems)
    return {name: problem for name, problem in problems.items() if name in names}


def _suspects(problems: Mapping[str, Problem], training: Path | None) -> frozenset[str] | None:
    """The problems that the training set may have given away; None where there is none. Of problems
    that are left out no example was made.
    """
    if training is None:
        return None
    left_out: frozenset[str] = frozenset()
    beside = training.with_name(layout.LEFT_OUT)
    if beside.exists():
        left_out = frozenset(read_keys(beside))
    questions = {name: problem.question for name, problem in problems.items()}
    trained_on = (
        problem.question
        for problem in read_records(training, Problem)
        if problem.id not in left_out
    )
    return overlapping(questions, trained_on)


def _prompt_spreads(main: Sheets, sheets: Sheets, plan: EvalPlan) -> Iterator[PromptSpread]:
    """How much the prompt matters to each model on each benchmark.

    Over the problems that the model has under every prompt.
    """
    prompts = plan.variants.prompts
    if not prompts:
        return
    for (benchmark, model), sheet in main.items():
        under = {"its own": sheet}
        for prompt in prompts:
            under[prompt] = sheets[benchmark, f"{model}{VARIANT}{prompt}"]
        gone: set[str] = set()
        for other in under.values():
            gone |= other.refused.keys() | other.lost_problems
        answered = [name for name in sheet.problems if name not in gone]
        if not answered:
            log.warning(
                "%s on %s: no problem was answered under every prompt; prompts are not compared",
                model,
                benchmark,
            )
            continue
        common = {prompt: other.only(answered) for prompt, other in under.items()}
        hits = np.stack([other.correct.sum(axis=1) for other in common.values()], axis=1)
        means = {prompt: float(other.correct.mean()) for prompt, other in common.items()}
        yield PromptSpread(
            model=model,
            benchmark=benchmark,
            scores=means,
            low=min(means.values()),
            high=max(means.values()),
            p_value=exchangeable_p_value(hits, seed=plan.seed),
            n=len(answered),
            k=sheet.k,
        )


def _bootstrap(sheet: Sheet, seed: int) -> BootstrapInterval:
    estimate = statistics.bootstrap_interval(sheet.correct, seed=seed)
    return BootstrapInterval(
        model=sheet.model,
        benchmark=sheet.benchmark,
        metric="pass@1",
        low=estimate.low,
        high=estimate.high,
        method=estimate.method,
    )
