"""Methods side by side: what each reached, what it cost, how large the models are. Records and
tables, no layout.

A row is a trained student, or all students that differ in their seed alone; of these, figures of
training are means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from reasondistill.methods import METHODS
from reasondistill.records import (
    Difference,
    MeasuredModel,
    Score,
    SeedSpread,
    Shrunk,
    Student,
    TrainingFigures,
)
from reasondistill.runs.figures import WorkFigures
from reasondistill.runs.missing import failed_in
from reasondistill.stages.report.content import Cost, MethodRow, Size
from reasondistill.stages.report.facts import EVALS, Facts
from reasondistill.stages.report.wording import (
    MINUS,
    Table,
    interval,
    label,
    p_value,
    percent,
    points,
    whole,
)


@dataclass(frozen=True)
class Reached:
    """One method on one benchmark; `gap_closed` is a share of the way from the untouched base to
    the teacher.
    """

    score: Score
    method: str
    difference: Difference | None
    gap_closed: float | None
    spread: SeedSpread | None


def has_methods(facts: Facts) -> bool:
    """True when a student distils, or students were made for several seeds: there is something to
    compare.
    """
    return bool(facts.seeds.members) or any(
        made.student is not None and made.student.method in METHODS for made in facts.students
    )


# ---- what each reached ---------------------------------------------------------------------------


def reached(facts: Facts) -> list[Reached]:
    """Every trained student that was measured, on every benchmark; the highest score of a benchmark
    first.
    """
    scores = [
        score
        for score in facts.main_scores
        if score.metric == "pass@1" and _figures(facts, score.model)
    ]
    spreads = {(row.model, row.benchmark): row for row in facts.seeds.spread}
    benchmarks = list(dict.fromkeys(score.benchmark for score in scores))
    scores.sort(key=lambda score: (benchmarks.index(score.benchmark), -score.mean))
    return [
        Reached(
            score=score,
            method=facts.method(score.model),
            difference=_difference(facts, score),
            gap_closed=gap_closed(facts, score),
            spread=spreads.get((score.model, score.benchmark)),
        )
        for score in scores
    ]


def reference(facts: Facts) -> str | None:
    """Whom methods are compared with: the one that [evals] against names first, else `sft`, else an
    untouched base.
    """
    compared = {row.baseline for row in facts.main_differences}
    asked = facts.seeds.of(facts.reference or "") or facts.reference
    bases = [name for name in sorted(compared) if facts.method(name) == "base"]
    return next((name for name in (asked, "sft", *bases) if name in compared), None)


def _difference(facts: Facts, score: Score) -> Difference | None:
    sought = (score.model, reference(facts), score.benchmark)
    return next(
        (
            row
            for row in facts.main_differences
            if (row.model, row.baseline, row.benchmark) == sought
        ),
        None,
    )


def gap_closed(facts: Facts, score: Score) -> float | None:
    """(student − base) / (teacher − base), base the untouched model that its training began with.

    None unless exactly one teacher and that base were measured, and the teacher is the better of
    the two.
    """
    teachers, base = teachers_of(facts), base_of(facts, score.model)
    if len(teachers) != 1 or base is None:
        return None
    teacher = teachers[0]
    means = {
        other.model: other.mean
        for other in facts.main_scores
        if (other.benchmark, other.metric) == (score.benchmark, "pass@1")
    }
    if teacher not in means or base not in means:
        return None
    gap = means[teacher] - means[base]
    if gap <= 0:
        return None
    return (score.mean - means[base]) / gap


def teachers_of(facts: Facts) -> list[str]:
    return [model.name for model in facts.models.values() if model.is_teacher]


def base_of(facts: Facts, name: str) -> str | None:
    """The untouched model that all students of this name began with, or the name of these where
    each seed has its own.
    """
    names: set[str] = set()
    for member in facts.members(name):
        base = _about(facts, member).base
        if base is not None:
            names.add(facts.seeds.of(base) or base)
    if len(names) != 1:
        return None
    return names.pop()


def _about(facts: Facts, model: str) -> MeasuredModel:
    return facts.models.get(model) or MeasuredModel(name=model)


# ---- what it cost --------------------------------------------------------------------------------


def costs(facts: Facts) -> list[Cost]:
    """Every trained student, in the order of their scores."""
    trained = dict.fromkeys(
        facts.seeds.of(made.name) or made.name
        for made in facts.students
        if _figures(facts, made.name)
    )
    ranked = dict.fromkeys(row.score.model for row in reached(facts))
    return [_cost(facts, name) for name in ranked | trained]


def _cost(facts: Facts, name: str) -> Cost:
    found = _figures(facts, name)
    return Cost(
        model=name,
        method=facts.method(name),
        perplexity=_mean(found, lambda one: one.perplexity),
        teacher_kl=_mean(found, lambda one: one.teacher_kl),
        loss_tokens=_mean(found, lambda one: one.loss_tokens),
        tokens=_mean(found, lambda one: one.tokens),
        tokens_per_s=_mean(found, lambda one: _ratio(one.tokens, one.seconds)),
        peak_memory_gib=_mean(found, lambda one: one.peak_memory_gib),
        teacher_share=_mean(found, lambda one: _ratio(one.teacher_seconds or None, one.seconds)),
        rollout_share=_mean(found, lambda one: _ratio(one.rollout_seconds or None, one.seconds)),
        rollouts_correct=_mean(found, lambda one: one.rollouts_correct),
    )


def _ratio(amount: float | None, of: float | None) -> float | None:
    """None where one of the two is not known, or there is nothing to divide by."""
    if amount is None or not of:
        return None
    return amount / of


def _students(facts: Facts, name: str) -> list[Student]:
    members = facts.members(name)
    return [
        made.student for made in facts.students if made.name in members and made.student is not None
    ]


def _figures(facts: Facts, name: str) -> list[TrainingFigures]:
    """Of the trained students of this name; untouched ones have none."""
    return [student.figures for student in _students(facts, name) if student.figures is not None]


def _mean(
    found: Sequence[TrainingFigures], value: Callable[[TrainingFigures], float | None]
) -> float | None:
    """None unless it is known of all."""
    values = [value(figures) for figures in found]
    known = [number for number in values if number is not None]
    if not known or len(known) < len(values):
        return None
    return sum(known) / len(known)


# ---- how large -----------------------------------------------------------------------------------


def sizes(facts: Facts) -> list[Size]:
    """Teachers first, then every other model that was measured."""
    teachers = teachers_of(facts)
    names = dict.fromkeys(score.model for score in facts.main_scores)
    largest = _about(facts, teachers[0]).parameters if len(teachers) == 1 else None
    return [
        _size(facts, name, largest) for name in sorted(names, key=lambda name: name not in teachers)
    ]


def _size(facts: Facts, name: str, largest: int | None) -> Size:
    first = _about(facts, facts.members(name)[0])
    trained = _figures(facts, name)
    parameters = first.parameters
    if not parameters and trained:
        parameters = trained[0].parameters
    tokens_per_s, seconds_per_answer = _speed(facts, name)
    timed = [facts.latency[member] for member in facts.members(name) if member in facts.latency]
    if len(timed) < len(facts.members(name)):
        timed = []
    per_token = sum(latency["ms_per_token"] for latency in timed)
    per_answer = sum(latency["seconds_per_answer"] for latency in timed)
    compression = None
    if not first.is_teacher:
        compression = _ratio(largest, parameters)
    return Size(
        model=name,
        parameters=parameters,
        compression=compression,
        size_bytes=first.size_bytes,
        tokens_per_s=tokens_per_s,
        seconds_per_answer=seconds_per_answer,
        latency_ms_per_token=_ratio(per_token, len(timed)),
        latency_s_per_answer=_ratio(per_answer, len(timed)),
    )


def _speed(facts: Facts, name: str) -> tuple[float | None, float | None]:
    """Tokens per second and seconds per answer while the evals were sampled, many answers at once;
    failed ones are none.
    """
    members = facts.members(name)
    manifests = [stage.manifest for stage in facts.stages if _is_sampling(stage.place, members)]
    figures = [WorkFigures.of(manifest) for manifest in manifests]
    tokens = sum(work.tokens for work in figures)
    seconds = sum(work.seconds for work in figures)
    samples = sum(work.samples for work in figures)
    samples -= sum(failed_in(manifest) for manifest in manifests)
    if not (tokens and samples and seconds):
        return None, None
    return tokens / seconds, seconds / samples


def _is_sampling(place: str, members: Sequence[str]) -> bool:
    parts = place.split("/")
    return len(parts) == 4 and (parts[0], parts[3]) == (EVALS, "traces") and parts[2] in members


# ---- tables --------------------------------------------------------------------------------------


def reached_tables(facts: Facts) -> Iterator[tuple[str, list[Reached], Table]]:
    """Each benchmark with its rows, as they are and as text."""
    against = reference(facts)
    headers = (
        "student",
        "method",
        "pass@1",
        "95 % interval",
        f"points against {against}" if against else "points",
        "its interval",
    )
    headers += ("p (Holm)", "", "gap closed %", "seeds: sd", "seeds: range", "n × k")
    rows = reached(facts)
    for benchmark in dict.fromkeys(row.score.benchmark for row in rows):
        found = [row for row in rows if row.score.benchmark == benchmark]
        yield (
            benchmark,
            found,
            _without_blanks(headers, [_reached_cells(row) for row in found], numbers=1),
        )


def _reached_cells(row: Reached) -> tuple[str, ...]:
    score, gap, spread = row.score, row.difference, row.spread
    against = ("", "", "", "")
    if gap is not None:
        bounds = interval(gap.low, gap.high)
        against = (points(gap.mean), bounds, p_value(gap.p_adjusted), gap.word)
    seeds = ("", "")
    if spread is not None:
        seeds = (percent(spread.deviation), f"{percent(spread.low)} … {percent(spread.high)}")
    closed = _said(row.gap_closed, percent).replace("-", MINUS)
    head = (
        score.model,
        _method(score.model, row.method),
        percent(score.mean),
        interval(score.low, score.high),
    )
    return (*head, *against, closed, *seeds, f"{whole(score.n)} × {score.k}")


def _method(name: str, method: str) -> str:
    """Blank for a student that is called like its method."""
    if name.replace("-", "_") == method:
        return ""
    return label(method)


def _without_blanks(
    headers: Sequence[str], rows: Sequence[tuple[str, ...]], *, numbers: int
) -> Table:
    """The table without the columns that are blank in every row; `numbers` is right for what is
    left.
    """
    columns = range(len(headers))
    kept = [place for place in columns if any(row[place] for row in rows)]
    text_columns = sum(place <= numbers for place in kept)
    shown: list[tuple[str, ...]] = []
    for row in rows:
        shown.append(tuple(row[place] for place in kept))
    return Table(tuple(headers[place] for place in kept), tuple(shown), text_columns)


def costs_table(facts: Facts) -> Table:
    headers = (
        "student",
        "method",
        "perplexity",
        "KL to teacher",
        "tokens in loss",
        "tokens",
        "tokens/s",
        "peak GiB",
    )
    headers += ("teacher %", "rollouts %", "rollouts correct %")
    rows = [
        (
            row.model,
            _method(row.model, row.method),
            _said(row.perplexity, lambda value: f"{value:.3f}"),
            _said(row.teacher_kl, lambda value: f"{value:.4f}"),
            *(_said(value, whole) for value in (row.loss_tokens, row.tokens, row.tokens_per_s)),
            _said(row.peak_memory_gib, lambda value: f"{value:.2f}"),
            *(
                _said(value, percent)
                for value in (row.teacher_share, row.rollout_share, row.rollouts_correct)
            ),
        )
        for row in costs(facts)
    ]
    return _without_blanks(headers, rows, numbers=1)


def sizes_table(facts: Facts) -> Table:
    headers = (
        "model",
        "parameters",
        "smaller than teacher",
        "MiB on disk",
        "sampling: tokens/s",
        "sampling: seconds per answer",
    )
    headers += ("alone: ms per token", "alone: seconds per answer")
    rows = [
        (
            row.model,
            _said(row.parameters, whole),
            _said(row.compression, lambda value: f"{value:.1f}×"),
            _said(row.size_bytes, lambda value: f"{value / 2**20:,.1f}"),
            _said(row.tokens_per_s, whole),
            _said(row.seconds_per_answer, lambda value: f"{value:.3g}"),
            _said(row.latency_ms_per_token, lambda value: f"{value:.2f}"),
            _said(row.latency_s_per_answer, lambda value: f"{value:.3g}"),
        )
        for row in sizes(facts)
    ]
    return _without_blanks(headers, rows, numbers=0)


def shrunk_table(facts: Facts) -> Table:
    """Students that were cut out of a larger model; none otherwise."""
    headers = (
        "student",
        "parameters",
        "of",
        "layers kept",
        "perplexity: larger",
        "cut",
        "trained",
        "KL to larger: cut",
        "trained",
    )
    rows: list[tuple[str, ...]] = []
    for made in facts.students:
        if made.student is not None and made.student.shrunk is not None:
            rows.append((made.student.name, *_shrunk_cells(made.student.shrunk)))
    return Table(headers, tuple(rows))


def _shrunk_cells(found: Shrunk) -> tuple[str, ...]:
    perplexities = (found.perplexity_base, found.perplexity_before, found.perplexity_after)
    return (
        whole(found.parameters),
        whole(found.parameters_before),
        f"{len(found.layers)}: {', '.join(map(str, found.layers))}",
        *(_said(value, lambda one: f"{one:.3f}") for value in perplexities),
        *(_said(value, lambda one: f"{one:.4f}") for value in (found.kl_before, found.kl_after)),
    )


def _said(value: float | None, words: Callable[[float], str]) -> str:
    if value is None:
        return ""
    return words(value)


def method_rows(facts: Facts) -> Iterator[MethodRow]:
    """The same numbers for scripts."""
    for row in reached(facts):
        yield MethodRow(
            model=row.score.model,
            method=row.method,
            score=row.score,
            gap_closed=row.gap_closed,
            difference=row.difference,
            spread=row.spread,
        )


METHODS_NOTE = (
    "The highest score first. Of several equally good students chance puts one on "
    "top: go by the comparison, not by the place. "
    "p: adjusted (Holm) over all models that are compared with the same one. gap "
    "closed: (student − base) / (teacher − base), base the "
    "untouched model that its training began with, whatever it learnt in between; it "
    "has no interval of its own. "
    "seeds: standard deviation and range of pass@1, in points, over students that "
    "differ in their seed alone."
)
COSTS_NOTE = (
    "perplexity and KL(teacher ‖ student), in nats per token, on held-out traces of "
    "the teacher. teacher %, rollouts %: the teacher's "
    "forward passes and the student's own writing as shares of all training time. Of "
    "several seeds: means."
)
SIZES_NOTE = (
    "smaller than teacher: its parameters divided by the model's. Sampling speed is "
    "that of the evals, many answers at once, on whatever "
    "else the machine did; alone: one answer at a time, greedy, at most 128 tokens."
)
