"""A comparison of methods: scores, training costs, sizes of the models. Records and
tables, no layout.

A row is a trained student, or all students that differ in their seed alone; of these, figures of
training are means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from reasondistill.stages.report.wording import label, main_means
from reasondistill.tables import (
    MINUS,
    Table,
    interval,
    p_value,
    percent,
    points,
    size_text,
    whole,
    whole_or_blank,
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
    if facts.seeds.members:
        return True
    trained = [folder.record for folder in facts.students if folder.record is not None]
    return any(student.method in METHODS for student in trained)


# ---- what each reached ---------------------------------------------------------------------------


def reached(facts: Facts) -> list[Reached]:
    """Every trained student that was measured, on every benchmark; the highest score of a benchmark
    first.
    """
    scores = [score for score in main_means(facts) if _figures(facts, score.model)]
    benchmarks = list(dict.fromkeys(score.benchmark for score in scores))
    scores.sort(key=lambda score: (benchmarks.index(score.benchmark), -score.mean))
    against = reference(facts)
    differences: dict[tuple[str, str], Difference] = {}
    for row in facts.main_differences:
        if row.baseline == against:
            differences.setdefault((row.model, row.benchmark), row)
    spreads = {(row.model, row.benchmark): row for row in facts.seeds.spread}
    rows: list[Reached] = []
    for score in scores:
        place = (score.model, score.benchmark)
        row = Reached(
            score=score,
            method=facts.method(score.model),
            difference=differences.get(place),
            gap_closed=gap_closed(facts, score),
            spread=spreads.get(place),
        )
        rows.append(row)
    return rows


def reference(facts: Facts) -> str | None:
    """Whom methods are compared with: the one that [evals] against names first, else `sft`, else an
    untouched base.
    """
    compared = {row.baseline for row in facts.main_differences}
    reference = facts.reference or ""
    candidates = [facts.seeds.of(reference) or reference, "sft"]
    candidates += [name for name in sorted(compared) if facts.method(name) == "base"]
    return next((name for name in candidates if name in compared), None)


def gap_closed(facts: Facts, score: Score) -> float | None:
    """(student − base) / (teacher − base), base the untouched model that its training began with.

    None unless exactly one teacher and that base were measured, and the teacher is the better of
    the two.
    """
    teachers, base = teachers_of(facts), base_of(facts, score.model)
    if len(teachers) != 1 or base is None:
        return None
    teacher = teachers[0]
    means: dict[str, float] = {}
    for other in main_means(facts):
        if other.benchmark == score.benchmark:
            means[other.model] = other.mean
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
    names = dict.fromkeys(row.score.model for row in reached(facts))
    for student in facts.students:
        if _figures(facts, student.name):
            names.setdefault(facts.seeds.of(student.name) or student.name)
    return [_cost(facts, name) for name in names]


def _cost(facts: Facts, name: str) -> Cost:
    trained = _figures(facts, name)
    tokens = [figures.tokens for figures in trained]
    seconds = [figures.seconds for figures in trained]
    teacher_seconds = [figures.teacher_seconds or None for figures in trained]
    rollout_seconds = [figures.rollout_seconds or None for figures in trained]
    return Cost(
        model=name,
        method=facts.method(name),
        perplexity=_mean(figures.perplexity for figures in trained),
        teacher_kl=_mean(figures.teacher_kl for figures in trained),
        loss_tokens=_mean(figures.loss_tokens for figures in trained),
        tokens=_mean(tokens),
        tokens_per_s=_mean(map(_ratio, tokens, seconds)),
        peak_memory_gib=_mean(figures.peak_memory_gib for figures in trained),
        teacher_share=_mean(map(_ratio, teacher_seconds, seconds)),
        rollout_share=_mean(map(_ratio, rollout_seconds, seconds)),
        rollouts_correct=_mean(figures.rollouts_correct for figures in trained),
    )


def _ratio(amount: float | None, of: float | None) -> float | None:
    """None where one of the two is not known, or there is nothing to divide by."""
    if amount is None or not of:
        return None
    return amount / of


def _students(facts: Facts, name: str) -> Iterator[Student]:
    members = facts.members(name)
    for student in facts.students:
        if student.name in members and student.record is not None:
            yield student.record


def _figures(facts: Facts, name: str) -> list[TrainingFigures]:
    """Of the trained students of this name; untouched ones have none."""
    return [student.figures for student in _students(facts, name) if student.figures is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    """None unless all are known."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    if not known:
        return None
    return sum(known) / len(known)


# ---- how large -----------------------------------------------------------------------------------


def sizes(facts: Facts) -> list[Size]:
    """Teachers first, then every other model that was measured."""
    teachers = teachers_of(facts)
    names = list(dict.fromkeys(score.model for score in facts.main_scores))
    names.sort(key=lambda name: name not in teachers)
    largest = None
    if len(teachers) == 1:
        largest = _about(facts, teachers[0]).parameters
    rows = [_size(facts, name, largest) for name in names]
    against = reference(facts)
    base = next((row.latency_ms_per_token for row in rows if row.model == against), None)
    if base is None:
        return rows
    compared: list[Size] = []
    for row in rows:
        share = _ratio(row.latency_ms_per_token, base)
        compared.append(row.model_copy(update={"latency_share": share}))
    return compared


def has_sizes(facts: Facts) -> bool:
    """Whether there is more to say of sizes than that models have some: methods to compare, or how
    long an answer takes.
    """
    return has_methods(facts) or any(facts.latency.values())


def _size(facts: Facts, name: str, largest: int | None) -> Size:
    members = facts.members(name)
    first = _about(facts, members[0])
    parameters = first.parameters
    trained = _figures(facts, name)
    if not parameters and trained:
        parameters = trained[0].parameters
    compression = None
    if not first.is_teacher:
        compression = _ratio(largest, parameters)
    tokens_per_s, seconds_per_answer = _speed(facts, name)
    per_token: list[float] = []
    per_answer: list[float] = []
    first_token: list[float | None] = []
    for member in members:
        latency = facts.latency.get(member)
        if latency:
            per_token.append(latency["ms_per_token"])
            per_answer.append(latency["seconds_per_answer"])
            first_token.append(latency.get("seconds_to_first_token"))
    if len(per_token) < len(members):
        per_token, per_answer, first_token = [], [], []
    return Size(
        model=name,
        parameters=parameters,
        compression=compression,
        size_bytes=first.size_bytes,
        tokens_per_s=tokens_per_s,
        seconds_per_answer=seconds_per_answer,
        latency_ms_per_token=_mean(per_token),
        latency_s_per_answer=_mean(per_answer),
        latency_s_to_first_token=_mean(first_token),
    )


def _speed(facts: Facts, name: str) -> tuple[float | None, float | None]:
    """Tokens per second and seconds per answer while the evals were sampled, many answers at once;
    failed ones are none.
    """
    members = facts.members(name)
    tokens = samples = 0
    seconds = 0.0
    for stage in facts.stages:
        if _is_sampling(stage.place, members):
            work = WorkFigures.of(stage.manifest)
            tokens += work.tokens
            seconds += work.seconds
            samples += work.samples - failed_in(stage.manifest)
    if not (tokens and samples and seconds):
        return None, None
    return tokens / seconds, seconds / samples


def _is_sampling(place: str, members: Sequence[str]) -> bool:
    parts = place.split("/")
    if len(parts) != 4:
        return False
    stage, _, model, work = parts
    return stage == EVALS and work == "traces" and model in members


# ---- tables --------------------------------------------------------------------------------------


def reached_tables(facts: Facts) -> Iterator[tuple[str, list[Reached], Table]]:
    """Each benchmark with its rows, as they are and as text."""
    gap_header = "points"
    against = reference(facts)
    if against is not None:
        gap_header = f"points against {against}"
    headers = ("student", "method", "pass@1", "95 % interval", gap_header, "its interval")
    headers += ("p", "p (Holm)", "", "gap closed %", "seeds: sd", "seeds: range", "n × k")
    rows = reached(facts)
    for benchmark in dict.fromkeys(row.score.benchmark for row in rows):
        scored = [row for row in rows if row.score.benchmark == benchmark]
        cells = [tuple(_reached_cells(row)) for row in scored]
        yield benchmark, scored, Table(headers, tuple(cells), numbers=2).without_blanks()


def _reached_cells(row: Reached) -> Iterator[str]:
    score, gap, spread = row.score, row.difference, row.spread
    yield score.model
    yield _method(score.model, row.method)
    yield percent(score.mean)
    yield interval(score)
    if gap is None:
        yield from ("", "", "", "", "")
    else:
        yield points(gap.mean)
        yield interval(gap)
        yield p_value(gap.p_value)
        yield p_value(gap.p_adjusted)
        yield gap.word
    yield percent_or_blank(row.gap_closed).replace("-", MINUS)
    if spread is None:
        yield from ("", "")
    else:
        yield percent(spread.deviation)
        yield f"{percent(spread.low)} … {percent(spread.high)}"
    yield size_text(score)


def percent_or_blank(share: float | None) -> str:
    """Nothing for what is not known."""
    if share is None:
        return ""
    return percent(share)


def in_format(value: float | None, format_spec: str) -> str:
    """`in_format(2.5, ".3f")` is `2.500`; nothing for what is not known."""
    if value is None:
        return ""
    return format(value, format_spec)


def _method(name: str, method: str) -> str:
    """Blank for a student that is called like its method."""
    if name.replace("-", "_") == method:
        return ""
    return label(method)


def costs_table(facts: Facts) -> Table:
    headers = ("student", "method", "perplexity", "KL to teacher", "tokens in loss", "tokens")
    headers += ("tokens/s", "peak GiB", "teacher %", "rollouts %", "rollouts correct %")
    rows = [tuple(_cost_cells(row)) for row in costs(facts)]
    return Table(headers, tuple(rows), numbers=2).without_blanks()


def _cost_cells(row: Cost) -> Iterator[str]:
    yield row.model
    yield _method(row.model, row.method)
    yield in_format(row.perplexity, ".3f")
    yield in_format(row.teacher_kl, ".4f")
    yield whole_or_blank(row.loss_tokens)
    yield whole_or_blank(row.tokens)
    yield whole_or_blank(row.tokens_per_s)
    yield in_format(row.peak_memory_gib, ".2f")
    yield percent_or_blank(row.teacher_share)
    yield percent_or_blank(row.rollout_share)
    yield percent_or_blank(row.rollouts_correct)


def sizes_table(facts: Facts) -> Table:
    headers = ("model", "parameters", "smaller than teacher", "MiB on disk", "sampling: tokens/s")
    headers += ("sampling: seconds per answer", "alone: ms per token", "alone: seconds per answer")
    headers += ("alone: ms to first token", "alone: time by that of the compared")
    rows = [tuple(_size_cells(row)) for row in sizes(facts)]
    return Table(headers, tuple(rows)).without_blanks()


def _size_cells(row: Size) -> Iterator[str]:
    compression = ""
    if row.compression is not None:
        compression = f"{row.compression:.1f}×"
    yield row.model
    yield whole_or_blank(row.parameters)
    yield compression
    yield in_format(_ratio(row.size_bytes, 2**20), ",.1f")
    yield whole_or_blank(row.tokens_per_s)
    yield in_format(row.seconds_per_answer, ".3g")
    yield in_format(row.latency_ms_per_token, ".2f")
    yield in_format(row.latency_s_per_answer, ".3g")
    yield in_format(_ratio(row.latency_s_to_first_token, 1e-3), ".2f")
    yield in_format(row.latency_share, ".2f")


def shrunk_table(facts: Facts) -> Table:
    """Students that were cut out of a larger model; none otherwise."""
    headers = ("student", "parameters", "of", "layers kept", "perplexity: larger", "cut")
    headers += ("trained", "KL to larger: cut", "trained")
    rows: list[tuple[str, ...]] = []
    for student in facts.students:
        if student.record is not None and student.record.shrunk is not None:
            rows.append((student.record.name, *_shrunk_cells(student.record.shrunk)))
    return Table(headers, tuple(rows))


def other_tables(facts: Facts) -> Iterator[tuple[str, str, Table]]:
    """Heading, note and table of what is there to say besides scores."""
    tables: list[tuple[str, str, Table]] = [("Sizes", SIZES_NOTE, sizes_table(facts))]
    if has_methods(facts):
        tables.insert(0, ("Cost", COSTS_NOTE, costs_table(facts)))
        tables.append(("Cut out of a larger model", "", shrunk_table(facts)))
    for name, note, content in tables:
        if content.rows:
            yield name, note, content


def _shrunk_cells(shrunk: Shrunk) -> Iterator[str]:
    yield whole(shrunk.parameters)
    yield whole(shrunk.parameters_before)
    layers = ", ".join(map(str, shrunk.layers))
    yield f"{len(shrunk.layers)}: {layers}"
    yield in_format(shrunk.perplexity_base, ".3f")
    yield in_format(shrunk.perplexity_before, ".3f")
    yield in_format(shrunk.perplexity_after, ".3f")
    yield in_format(shrunk.kl_before, ".4f")
    yield in_format(shrunk.kl_after, ".4f")


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
    "p (Holm): adjusted within two families on the benchmark, all models that are compared with "
    "the same one and all that the same model is compared with; interval and p are those of one "
    "comparison alone. gap closed: (student − base) / (teacher − base), base the "
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
    "else the machine did; alone: one answer at a time, greedy, at most 128 tokens, all in one "
    "run, one model after the other; the last column is time per token by that of the model that "
    "the others are compared with."
)
