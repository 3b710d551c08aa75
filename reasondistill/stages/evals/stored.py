"""Models of several runs side by side, or of logs that another tool wrote: `reasondistill
compare`. Their stored samples are read and compared problem by problem.

ours, base = parse_entrant("demo/distilled", runs), parse_entrant("demo/base", runs)
comparison = compare([ours], [base])
comparison.differences[0].word, comparison.flips["gsm8k"][0].problem_id
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reasondistill.errors import ConfigError, StageError
from reasondistill.foreign_logs.surveying import Survey, chosen_metrics
from reasondistill.records import Difference, Problem
from reasondistill.stages.evals.comparing import Flip, Pair, differences, flips, paired
from reasondistill.stages.evals.entrants import Entrant, LogEntrant, LoggedProblem
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.evals.settings import Change, changes, differing
from reasondistill.statistics.several import PooledEstimate, holm, pooled_difference

# (problems, samples)
Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Everything that was found. `pooled` is by model and baseline, its p-values are adjusted
    (Holm); benchmarks of one problem are not in it.

    `flips` and `changes` are of the first entrant against the first baseline, by benchmark.
    `left_out` says which problems a comparison does without, because one of its two models has not
    answered them. Of logs `metrics` has by what a benchmark's samples are right, and `notes` what
    else there is to know.
    """

    sheets: Mapping[tuple[str, str], Sheet]
    differences: list[Difference]
    pooled: Mapping[tuple[str, str], PooledEstimate]
    flips: Mapping[str, list[Flip]]
    changes: Mapping[str, list[Change]]
    left_out: Sequence[LeftOut] = ()
    metrics: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LeftOut:
    """The problems that were lost or refused for one of two models, each with the reason, and how
    many are left to compare.
    """

    benchmark: str
    model: str
    baseline: str
    problems: Mapping[str, str]
    left: int


def compare(
    entrants: Sequence[Entrant],
    against: Sequence[Entrant],
    *,
    benchmark: str | None = None,
    common: bool = False,
    wanted_metrics: Sequence[str] = (),
) -> Comparison:
    """Each entrant against each of the others, on every benchmark that all have answered, or on one
    of them. Logs are compared by the metric that they have in common, or the wanted one of several.

    With `common` only the problems that all of them answered count; without it different problem
    sets are refused (StageError): a score over other problems is another score. Problems that were
    lost or refused for a model are left out of its comparison by name.
    """
    everyone = [*entrants, *against]
    labels = [entrant.label for entrant in everyone]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ConfigError(
            f"{twice[0]}: named twice; a model is not compared with itself. Two of one name are "
            "told apart by NAME= before each."
        )
    require_one_tool(everyone)
    names = shared_benchmarks(everyone, benchmark)
    metrics = metrics_of(everyone, names, wanted_metrics)
    sheets: dict[tuple[str, str], Sheet] = {}
    notes: list[str] = []
    for name in names:
        for sheet in aligned(everyone, name, metrics[name], common=common):
            sheets[name, sheet.model] = sheet
        for entrant in everyone:
            said = entrant.notes(name, metrics[name])
            notes += [f"{entrant.label} on {name}: {note}" for note in said]
    pairs: dict[tuple[str, str, str], Pair] = {}
    for name, entrant, other in product(names, entrants, against):
        ours, theirs = sheets[name, entrant.label], sheets[name, other.label]
        pairs[name, entrant.label, other.label] = paired(ours, theirs)
    left_out: list[LeftOut] = []
    for (name, model, other), pair in pairs.items():
        if pair.left_out:
            left = len(pair.ours.problems)
            left_out.append(LeftOut(name, model, other, pair.left_out, left))
    first, second = entrants[0], against[0]
    baselines = [entrant.label for entrant in against]
    return Comparison(
        sheets,
        differences(sheets, {entrant.label: baselines for entrant in entrants}),
        _adjusted(_pooled(pairs)),
        {name: flips(sheets[name, first.label], sheets[name, second.label]) for name in names},
        {name: differing(first.settings(name), second.settings(name)) for name in names},
        left_out,
        metrics,
        notes,
    )


def require_one_tool(everyone: Sequence[Entrant]) -> None:
    """Raise ConfigError for models that different tools asked and graded."""
    tools = {entrant.label: entrant.tool for entrant in everyone}
    if len(set(tools.values())) > 1:
        listed = ", ".join(f"{label}: {tool}" for label, tool in tools.items())
        raise ConfigError(
            f"not graded by the same tool ({listed}): each has its own names for problems and its "
            "own rules, and a difference of rules would pass for one of models. Compare what one "
            "tool measured; `matrix` grades the answers of a log by our rules."
        )


def metrics_of(
    everyone: Sequence[Entrant], names: Sequence[str], wanted: Sequence[str]
) -> dict[str, str | None]:
    """By what the samples of each benchmark are right: a metric of logs, None for runs. Raises
    ConfigError where there are several, and none of them is wanted.
    """
    surveys: dict[str, dict[str, Survey]] = {name: {} for name in names}
    for entrant in everyone:
        if isinstance(entrant, LogEntrant):
            for name in names:
                surveys[name][entrant.label] = entrant.survey(name)
        elif wanted:
            raise ConfigError(
                f"--metric {wanted[0]}: {entrant.label} is of a run, which has one way to be right."
            )
    if not all(surveys.values()):
        return dict.fromkeys(names)
    return {**chosen_metrics(surveys, wanted)}


def _pooled(
    pairs: Mapping[tuple[str, str, str], Pair],
) -> dict[tuple[str, str], PooledEstimate]:
    """Each entrant against each baseline over all benchmarks of more than one problem; nothing
    where there are less than two of them.
    """
    large: dict[tuple[str, str], list[tuple[Correct, Correct]]] = {}
    for (_, model, other), pair in pairs.items():
        if len(pair.ours.problems) > 1:
            both = (pair.ours.correct, pair.theirs.correct)
            large.setdefault((model, other), []).append(both)
    return {who: pooled_difference(several) for who, several in large.items() if len(several) > 1}


def _adjusted(
    pooled: Mapping[tuple[str, str], PooledEstimate],
) -> dict[tuple[str, str], PooledEstimate]:
    """The same with Holm's p-values over all comparisons, for each of the two ways to pool."""
    names = list(pooled)
    by_problem = holm([pooled[name].by_problem.p_value for name in names]).tolist()
    by_benchmark = holm([pooled[name].by_benchmark.p_value for name in names]).tolist()
    adjusted: dict[tuple[str, str], PooledEstimate] = {}
    for name, p_problem, p_benchmark in zip(names, by_problem, by_benchmark, strict=True):
        adjusted[name] = PooledEstimate(
            replace(pooled[name].by_problem, p_value=p_problem),
            replace(pooled[name].by_benchmark, p_value=p_benchmark),
        )
    return adjusted


def shared_benchmarks(everyone: Sequence[Entrant], benchmark: str | None) -> list[str]:
    """The benchmarks that all have answered, or the wanted one of them. Raises StageError."""
    answered = {entrant.label: entrant.benchmarks() for entrant in everyone}
    common = set.intersection(*(set(names) for names in answered.values()))
    shared = sorted(common)
    if benchmark is not None and benchmark in shared:
        return [benchmark]
    if benchmark is None and shared:
        return shared
    wanted = "no benchmark" if benchmark is None else f"no benchmark {benchmark!r}"
    listed = "; ".join(f"{label}: {', '.join(names)}" for label, names in answered.items())
    raise StageError(f"{wanted} that all have answered. {listed}.")


# ---- the same problems ---------------------------------------------------------------------------


def aligned(
    everyone: Sequence[Entrant], benchmark: str, metric: str | None, *, common: bool
) -> list[Sheet]:
    """One sheet each, of the same problems but for those that a model lost. A problem is the same
    when id, question and gold answer are.
    """
    sheets: list[Sheet] = []
    contents: list[dict[str, str]] = []
    for entrant in everyone:
        sheet = replace(entrant.sheet(benchmark, metric), model=entrant.label)
        sheets.append(sheet)
        contents.append(asked_of(entrant.asked(benchmark), sheet))
    shared = set.intersection(*(set(content.items()) for content in contents))
    sizes = {sheet.model: len(content) for sheet, content in zip(sheets, contents, strict=True)}
    listed = ", ".join(f"{model}: {size}" for model, size in sizes.items())
    if not shared:
        raise StageError(f"{benchmark}: not one problem in common ({listed}).")
    if not common and any(len(shared) < size for size in sizes.values()):
        raise StageError(
            f"{benchmark}: not the same problems ({listed}; {len(shared)} in common). "
            "Compare on the common ones with --common, or run "
            "both with the same benchmark file and limit."
        )
    shared_names = {name for name, _ in shared}
    return [_only_shared(sheet, shared_names) for sheet in sheets]


def asked_of(asked: Mapping[str, str], sheet: Sheet) -> dict[str, str]:
    """The hashes of the problems that the model was asked; those that it lost, too."""
    names = {*sheet.problems, *sheet.lost_problems}
    return {name: content for name, content in asked.items() if name in names}


def _only_shared(sheet: Sheet, shared_names: Set[str]) -> Sheet:
    lost = tuple(sample for sample in sheet.lost if sample.rpartition(":")[0] in shared_names)
    left = sheet.only([name for name in sheet.problems if name in shared_names])
    return replace(left, lost=lost)


# ---- reading a flip ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FlipToRead:
    """A problem that two models answer differently, with what they extracted and wrote at their
    first sample.
    """

    benchmark: str
    flip: Flip
    problem: Problem | LoggedProblem
    answers: tuple[str | None, str | None]
    texts: tuple[str, str]


def read_flips(
    entrant: Entrant,
    against: Entrant,
    benchmark: str,
    chosen: Sequence[Flip],
    metric: str | None = None,
) -> list[FlipToRead]:
    """The question, both extracted answers and both completions of some flips."""
    wanted = {flip.problem_id for flip in chosen}
    problems = entrant.problems(benchmark, wanted)
    ours = entrant.first_samples(benchmark, wanted, metric)
    theirs = against.first_samples(benchmark, wanted, metric)
    to_read: list[FlipToRead] = []
    for flip in chosen:
        name = flip.problem_id
        our, their = ours[name], theirs[name]
        answers, texts = (our.answer, their.answer), (our.text, their.text)
        to_read.append(FlipToRead(benchmark, flip, problems[name], answers, texts))
    return to_read


# ---- settings ------------------------------------------------------------------------------------


def changed_settings(
    ours: tuple[Path, str | None], theirs: tuple[Path, str | None]
) -> dict[str, list[Change]]:
    """`benchmark: model` → the settings that differ between two evals folders, for each benchmark
    that both have.

    Without models, those that both runs have are set beside each other. Raises StageError when
    nothing can be.
    """
    changed: dict[str, list[Change]] = {}
    our_benchmarks = {path.parent.name for path in ours[0].glob("*/problems")}
    their_benchmarks = {path.parent.name for path in theirs[0].glob("*/problems")}
    for benchmark in sorted(our_benchmarks & their_benchmarks):
        for first, second in _model_pairs(ours, theirs, benchmark):
            label = first if first == second else f"{first} and {second}"
            cells = ours[0] / benchmark / first, theirs[0] / benchmark / second
            changed[f"{label} on {benchmark}"] = changes(*cells)
    if not changed:
        raise StageError(
            f"{ours[0].parent} and {theirs[0].parent}: no benchmark that both have measured "
            "one of these models on."
        )
    return changed


def _model_pairs(
    ours: tuple[Path, str | None], theirs: tuple[Path, str | None], benchmark: str
) -> list[tuple[str, str]]:
    """Who is set beside whom: the two models that are named, one of them twice where the other is
    not, or every model of both.
    """
    (our_folder, our_model), (their_folder, their_model) = ours, theirs
    pattern = f"{benchmark}/*/verdicts"
    our_models = {path.parent.name for path in our_folder.glob(pattern)}
    their_models = {path.parent.name for path in their_folder.glob(pattern)}
    if our_model is None and their_model is None:
        return [(model, model) for model in sorted(our_models & their_models)]
    first = our_model or their_model or ""
    second = their_model or our_model or ""
    if first in our_models and second in their_models:
        return [(first, second)]
    return []
