"""Samples in, comparisons out: every value of a varied key against the first one.

    found = finished(ablation, planned)
    found.rules[0].word             # "helps"

A comparison is paired on the problems, with seeds as replicates (`statistics/seeds.py`). Where
several keys are varied, a value is compared over all values of the others: each variant counts in
one comparison of each key. Holm's correction is over all comparisons of the ablation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from reasondistill import statistics
from reasondistill.config.pipeline import seed_name
from reasondistill.config.varying import Choice, writes_itself
from reasondistill.errors import StageError
from reasondistill.pipeline.ablating import wording
from reasondistill.pipeline.ablating.equal_tokens import TOLERANCE, Budget, Training
from reasondistill.pipeline.ablating.folders import Ablation, VariantRun
from reasondistill.pipeline.ablating.record import (
    AblationRecord,
    RuleRecord,
    VariantRecord,
    VariantScore,
    Word,
)
from reasondistill.pipeline.runs import benchmarks
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.store import read_manifest, require_complete
from reasondistill.secrets import cleaned
from reasondistill.stages.evals.outcomes import Sheet, read_sheet

_WORDS: Mapping[statistics.Word, Word] = {
    "better": "helps",
    "worse": "hurts",
    "tied": "cannot be told",
}


def finished(ablation: Ablation, planned: AblationRecord) -> AblationRecord:
    """What came out, when all variants are measured. Raises StageError where one is not."""
    variants: dict[str, VariantRecord] = {}
    for run, record in zip(ablation.runs, planned.variants, strict=True):
        variants[run.name] = measured(run, record)
    rules = compare(ablation, variants)
    own_texts = [record.label for record in variants.values() if not record.is_exact]
    notes = wording.notes_of(ablation.asked.variants, own_texts, rules)
    return planned.model_copy(
        update={
            "state": "measured",
            "variants": tuple(variants.values()),
            "rules": tuple(rules),
            "notes": tuple(notes),
        }
    )


# ---- variants ------------------------------------------------------------------------------------


def describe(
    run: VariantRun,
    budget: Budget | None = None,
    training: Training | None = None,
    taken: Mapping[str, str] | None = None,
) -> VariantRecord:
    """What is known of a variant before it is measured."""
    variant = run.variant
    record = VariantRecord(
        name=variant.name,
        label=variant.label,
        choices={choice.key: cleaned(choice.value) for choice in variant.choices},
        student=variant.student.name,
        method=variant.student.method,
        seeds=variant.seeds,
        is_exact=not writes_itself(variant.student),
        teacher_tokens=teacher_tokens(run),
        taken=dict(taken or {}),
    )
    if budget is None or training is None:
        return record
    steps = budget.steps[run.name]
    rows = training.rows
    tokens = training.tokens(steps).values()
    return record.model_copy(
        update={
            "steps": steps,
            "epochs": round(rows.epochs_after(steps), 2),
            "rows": rows.rows_seen(steps),
            "of_rows": rows.rows,
            "loss_tokens": dict(zip(variant.members, tokens, strict=True)),
        }
    )


def teacher_tokens(run: VariantRun) -> int | None:
    """What teachers wrote for a variant, used or not; None before they have."""
    manifest = read_manifest(run.run.stage("traces"))
    if manifest is None or manifest.status != "complete":
        return None
    return TracesFigures.of(manifest).worked_tokens


def measured(run: VariantRun, record: VariantRecord) -> VariantRecord:
    """The same with what its trainings really had in their loss, and with its scores."""
    tokens = dict(record.loss_tokens)
    if not record.is_exact:
        for name in run.variant.members:
            figures = require_complete(run.run.layout.student(name).path).figures
            tokens[name] = int(figures["loss_tokens"])
    scores: list[VariantScore] = []
    for name, every in sheets_of(run).items():
        sheets = on_common_problems(every)
        together = np.hstack([sheet.correct for sheet in sheets])
        score = statistics.mean_interval(together)
        scores.append(
            VariantScore(
                benchmark=name,
                mean=score.mean,
                low=score.low,
                high=score.high,
                n=score.n,
                k=sheets[0].k,
                seeds={sheet.model: float(sheet.correct.mean()) for sheet in sheets},
            )
        )
    return record.model_copy(
        update={
            "loss_tokens": tokens,
            "tokens_before": tokens_before(run),
            "scores": tuple(scores),
        }
    )


def tokens_before(run: VariantRun) -> int:
    """Tokens in the loss of the students that the compared one goes on from, as their trainings
    recorded them, averaged over the seeds of each.
    """
    total = 0.0
    for student in run.variant.pipeline.students[:-1]:
        names = [seed_name(student.name, seed) for seed in student.seeds] or [student.name]
        for name in names:
            figures = require_complete(run.run.layout.student(name).path).figures
            total += figures.get("loss_tokens", 0) / len(names)
    return round(total)


def sheets_of(run: VariantRun) -> dict[str, list[Sheet]]:
    """Benchmark → the samples of each seed."""
    evals = run.run.layout.evals.path
    found: dict[str, list[Sheet]] = {}
    for benchmark in benchmarks(run.run):
        members = run.variant.members
        found[benchmark.name] = [read_sheet(evals, benchmark.name, name) for name in members]
    return found


def on_common_problems(sheets: Sequence[Sheet]) -> list[Sheet]:
    """The same sheets without the problems that were lost or refused for any of them. Raises
    StageError where they differ by others, or none is left.
    """
    gone: set[str] = set()
    for sheet in sheets:
        gone |= sheet.lost_problems | set(sheet.refused)
    first = sheets[0]
    common = [name for name in first.problems if name not in gone]
    for sheet in sheets:
        if set(sheet.problems) - gone != set(common):
            raise StageError(
                f"{first.benchmark}: {first.model} and {sheet.model} did not answer the same "
                "problems."
            )
    if not common:
        raise StageError(f"{first.benchmark}: no problem that all have answered.")
    return [sheet.only(common) for sheet in sheets]


# ---- rules ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A value of a key, and the first value of that key; `ours` and `theirs` are the variants that
    have them, each beside the one that is like it in all else.
    """

    choice: Choice
    baseline: Choice
    ours: tuple[VariantRun, ...]
    theirs: tuple[VariantRun, ...]


def rules_of(ablation: Ablation) -> Iterator[Rule]:
    """All comparisons, key by key."""
    for key, choices in enumerate(ablation.asked.varied):
        for choice in choices[1:]:
            theirs = _with(ablation.runs, key, choices[0])
            yield Rule(choice, choices[0], _with(ablation.runs, key, choice), theirs)


def _with(runs: Iterable[VariantRun], key: int, choice: Choice) -> tuple[VariantRun, ...]:
    """Those that have this value of this key. The order of the other values is always the same."""
    return tuple(run for run in runs if run.variant.choices[key] == choice)


def compare(ablation: Ablation, variants: Mapping[str, VariantRecord]) -> list[RuleRecord]:
    """Every rule on every benchmark; the words are those of the adjusted p-values."""
    sheets = {run.name: sheets_of(run) for run in ablation.runs}
    rows: list[RuleRecord] = []
    rules, names = list(rules_of(ablation)), list(sheets[ablation.runs[0].name])
    # What the least p-value has to pass by Holm's method.
    level = 1 - (1 - statistics.LEVEL) / (len(rules) * len(names))
    for rule in rules:
        for benchmark in names:
            ours = [sheets[run.name][benchmark] for run in rule.ours]
            theirs = [sheets[run.name][benchmark] for run in rule.theirs]
            rows.append(_compared(rule, benchmark, ours, theirs, variants, level))
    adjusted = statistics.holm([row.p_value for row in rows]).tolist()
    finished: list[RuleRecord] = []
    for row, p_value in zip(rows, adjusted, strict=True):
        gap = _Tested(row.low, row.high, p_value)
        word = _WORDS[statistics.verdict_word(gap)]
        if row.tokens_apart > TOLERANCE:
            word = "not compared"
        judged = row.model_copy(update={"p_adjusted": p_value, "word": word})
        sentence = wording.sentence(judged, comparisons=len(rows))
        finished.append(judged.model_copy(update={"sentence": sentence}))
    return finished


@dataclass(frozen=True)
class _Tested:
    """An interval and a p-value that was adjusted."""

    low: float
    high: float
    p_value: float


def _compared(
    rule: Rule,
    benchmark: str,
    ours: Sequence[Sequence[Sheet]],
    theirs: Sequence[Sequence[Sheet]],
    variants: Mapping[str, VariantRecord],
    level: float,
) -> RuleRecord:
    """One comparison, before it is known among how many it stands."""
    every = list(chain(*ours, *theirs))
    asked = max(len(sheet.problems) + len(sheet.lost_problems) for sheet in every)
    problems = on_common_problems(every)[0].problems
    our_cells = _cells(ours, problems)
    their_cells = _cells(theirs, problems)
    gap = statistics.seeded_difference(our_cells, their_cells)
    tokens: list[int] = []
    before: list[int] = []
    for run in (*rule.ours, *rule.theirs):
        tokens += variants[run.name].loss_tokens.values()
        before.append(variants[run.name].tokens_before)
    row = RuleRecord(
        rule=rule.choice.label,
        baseline=rule.baseline.label,
        variants=tuple(run.name for run in rule.ours),
        against=tuple(run.name for run in rule.theirs),
        benchmark=benchmark,
        is_again=rule.choice.meaning == rule.baseline.meaning,
        word="cannot be told",
        mean=gap.mean,
        low=gap.low,
        high=gap.high,
        p_value=gap.p_value,
        p_adjusted=gap.p_value,
        n=gap.n,
        k=gap.k,
        seeds=gap.seeds,
        left_out=asked - gap.n,
        model_low=gap.of_these_models.low,
        model_high=gap.of_these_models.high,
        model_p_value=gap.of_these_models.p_value,
        seed_deviation=gap.deviation,
        tokens_apart=max(tokens) / min(tokens) - 1,
        before_apart=(max(before) - min(before)) / max(1, *before),
        sentence="",
    )
    if gap.n < 2:
        return row
    size = statistics.needed_size(gap, our_cells, their_cells, level=level)
    return row.model_copy(
        update={
            "needed_problems": size.problems,
            "needed_seeds": size.seeds,
            "smallest": size.smallest,
        }
    )


def _cells(cells: Sequence[Sequence[Sheet]], problems: Sequence[str]) -> list[list[np.ndarray]]:
    """The outcomes of each cell and seed on these problems."""
    found: list[list[np.ndarray]] = []
    for cell in cells:
        found.append([sheet.only(problems).correct for sheet in cell])
    return found
