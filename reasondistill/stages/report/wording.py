"""What the report says, as sentences and tables of text: shared by Markdown and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasondistill.durations import duration
from reasondistill.records import OUTCOMES, Difference, Score
from reasondistill.runs.missing import REFUSED, in_brackets
from reasondistill.runs.store import Manifest
from reasondistill.stages.report.facts import (
    BASELINE_METHODS,
    EVALS,
    EXAMPLES,
    PROBLEMS,
    TRACES,
    VERDICTS,
    Facts,
    FunnelStep,
)

STEP_NAMES = {PROBLEMS: "Problems", TRACES: "Traces", VERDICTS: "Verdicts", EXAMPLES: "Examples"}
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Table:
    """A heading row and rows of text; columns from `numbers` on hold numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 1


# ---- numbers -------------------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def points(gap: float) -> str:
    """`+36.0` or `−1.2`: percentage points with their sign."""
    return f"{100 * gap:+.1f}".replace("-", MINUS)


def interval(low: float, high: float) -> str:
    return f"[{percent(low)}, {percent(high)}]".replace("-", MINUS)


def whole(count: float) -> str:
    return f"{count:,.0f}"


def p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


# ---- the headline --------------------------------------------------------------------------------


def headline(facts: Facts) -> list[str]:
    """One sentence for each distilled student on each benchmark; what there is to say when there is
    none.

    With students of several seeds, the one with the highest score speaks for all. Where the
    teacher's samples were lost, the last sentence says so.
    """
    sentences = _sentences(facts)
    found = facts.missing.get(TRACES)
    if found is not None and found.lost and facts.own_scores:
        sentences.append(f"The teacher's traces are not all there: {found.words()}.")
    return sentences


def _sentences(facts: Facts) -> list[str]:
    scores = [score for score in facts.main_scores if score.metric == "pass@1"]
    students = [
        score for score in scores if facts.method(score.model) not in (*BASELINE_METHODS, "teacher")
    ]
    if facts.seeds.members and students:
        return _at_most(list(_highest(facts, students)))
    if students:
        return _at_most([_student_sentence(facts, score) for score in students])
    if len(scores) > MOST_SENTENCES:
        return [_counts(scores)]
    return [_plain_sentence(facts, score) for score in scores] or [_progress(facts)]


def _highest(facts: Facts, students: Sequence[Score]) -> Iterator[str]:
    """One sentence for each benchmark: `gkd has the highest score of 9 students on gsm8k: gkd
    answers …`.
    """
    for benchmark in dict.fromkeys(score.benchmark for score in students):
        found = [score for score in students if score.benchmark == benchmark]
        best = max(found, key=lambda score: score.mean)
        said = _student_sentence(facts, best)
        yield (
            f"{best.model} has the highest score of {len(found)} students: {said}"
            if len(found) > 1
            else said
        )


# More sentences than this nobody reads: the overview says it.
MOST_SENTENCES = 6


def _at_most(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SENTENCES
    return [*sentences[:MOST_SENTENCES], *([f"{rest} more in the table."] if rest > 0 else [])]


def _counts(scores: Sequence[Score]) -> str:
    models, benchmarks = (
        len({score.model for score in scores}),
        len({score.benchmark for score in scores}),
    )
    return (
        f"{models} models on {benchmarks} benchmarks, "
        f"{whole(sum(score.n * score.k for score in scores))} graded samples."
    )


def _student_sentence(facts: Facts, score: Score) -> str:
    rows = [
        row
        for row in facts.main_differences
        if (row.model, row.benchmark) == (score.model, score.benchmark)
    ]
    against = [_comparison(row) for row in rows if facts.method(row.baseline) != "teacher"]
    sentence = _plain_sentence(facts, score).removesuffix(".")
    if against:
        sentence += ": " + ", ".join(against)
    others = [
        s
        for s in facts.main_scores
        if s.metric == "pass@1"
        and s.benchmark == score.benchmark
        and facts.method(s.model) == "teacher"
    ]
    tails = [f"{_the(other.model)} has {percent(other.mean)} %" for other in others]
    return "; ".join([sentence, *tails]) + "."


def _the(model: str) -> str:
    return "the teacher" if model == "teacher" else model


def _plain_sentence(facts: Facts, score: Score) -> str:
    members = facts.members(score.model)
    lost = sum(len(facts.lost.get(score.benchmark, {}).get(member, ())) for member in members)
    drawn = f"n={score.n}, k={score.k}" + (
        f" over {len(members)} seeds" if len(members) > 1 else ""
    )
    drawn += f"; {counted(lost, 'sample')} lost" if lost else ""
    return (
        f"{score.model} answers {percent(score.mean)} % of {score.benchmark} "
        f"{interval(score.low, score.high)} ({drawn})."
    )


def _comparison(row: Difference) -> str:
    word = row.word
    than = (
        f"tied with {row.baseline} at this n" if word == "tied" else f"{word} than {row.baseline}"
    )
    return f"{than} ({points(row.mean)} points {interval(row.low, row.high)})"


def _progress(facts: Facts) -> str:
    """What a run without scores has: traces and how many of them are correct, or problems only."""
    counts = {outcome: len(tokens) for outcome, tokens in facts.trace_tokens.items()}
    total, graded = sum(counts.values()), sum(counts.get(outcome, 0) for outcome in OUTCOMES)
    if (missing := facts.missing.get(TRACES)) is not None:
        right = (
            f"{percent(counts.get('correct', 0) / graded)} % of the {whole(graded)} graded "
            "ones correct"
            if graded
            else "not graded yet"
        )
        return f"{missing.words()}. {right[:1].upper()}{right[1:]}; no evals yet."
    if graded:
        return (
            f"{whole(total)} traces, {percent(counts.get('correct', 0) / graded)} % of the "
            "graded ones correct; no evals yet."
        )
    if total:
        return f"{whole(total)} traces, not graded yet."
    return f"{len(facts.stages)} stage folders, no traces yet."


# ---- tables --------------------------------------------------------------------------------------


def outcome_shares(facts: Facts, score: Score) -> dict[str, float]:
    return dict(facts.outcomes.get(score.benchmark, {}).get(score.model, {}))


def metrics(facts: Facts) -> list[str]:
    """pass@1 and, with several samples, pass@k, maj@k and mG-Pass@k of all k samples, on any
    benchmark.
    """
    widest = {
        score.metric
        for score in facts.own_scores
        if score.metric == "pass@1" or score.metric.endswith(f"@{score.k}")
    }
    order = ("pass", "maj", "mg-pass")
    return sorted(
        widest,
        key=lambda name: (
            name != "pass@1",
            order.index(name.partition("@")[0]),
            int(name.partition("@")[2]),
        ),
    )


def outcome_names(facts: Facts) -> tuple[str, ...]:
    """The outcomes that a score can have; `refused` only where some are."""
    every = [shares for models in facts.outcomes.values() for shares in models.values()]
    return (*OUTCOMES, REFUSED) if any(shares.get(REFUSED) for shares in every) else OUTCOMES


def _unanswered(facts: Facts) -> tuple[str, ...]:
    """The outcomes that stand beside a score: whatever is neither right nor wrong."""
    first = ("truncated", "no_answer", "undecided")
    return (*first, REFUSED) if REFUSED in outcome_names(facts) else first


def scores_table(facts: Facts, scores: Sequence[Score] | None = None) -> Table:
    """One row for each model on each benchmark; of `scores`, or of all with the seeds of a student
    together.
    """
    names = metrics(facts)
    unanswered = [f"{label(outcome)} %" for outcome in _unanswered(facts)]
    headers = (
        "model",
        "benchmark",
        names[0],
        "95 % interval",
        *names[1:],
        "n",
        "k",
        *unanswered,
        "tokens",
    )
    rows = [
        score
        for score in (facts.main_scores if scores is None else scores)
        if score.metric == "pass@1"
    ]
    return Table(headers, tuple(_score_row(facts, score, names[1:]) for score in rows), numbers=2)


def also(facts: Facts, score: Score, names: Sequence[str]) -> list[str]:
    """The other metrics of the same samples; blank where there is none."""
    found = {
        other.metric: other
        for other in facts.own_scores
        if (other.model, other.benchmark) == (score.model, score.benchmark)
    }
    return [
        f"{percent(found[name].mean)} {interval(found[name].low, found[name].high)}"
        if name in found
        else ""
        for name in names
    ]


def _score_row(facts: Facts, score: Score, names: Sequence[str]) -> tuple[str, ...]:
    shares = outcome_shares(facts, score)
    tokens = facts.mean_tokens.get(score.benchmark, {}).get(score.model)
    return (
        score.model,
        score.benchmark,
        percent(score.mean),
        interval(score.low, score.high),
        *also(facts, score, names),
        whole(score.n),
        str(score.k),
        *(percent(shares.get(outcome, 0.0)) for outcome in _unanswered(facts)),
        "" if tokens is None else whole(tokens),
    )


def overview_table(facts: Facts) -> Table:
    """Models down, benchmarks across: readable in one screen for many of both."""
    cells = overview_cells(facts)
    benchmarks = list(dict.fromkeys(benchmark for _, benchmark in cells))
    models = list(dict.fromkeys(model for model, _ in cells))

    def said(model: str, benchmark: str) -> str:
        score = cells.get((model, benchmark))
        return (
            f"{percent(score.mean)} {interval(score.low, score.high)}" if score is not None else ""
        )

    return Table(
        ("model", *benchmarks),
        tuple((model, *(said(model, benchmark) for benchmark in benchmarks)) for model in models),
    )


def overview_cells(facts: Facts) -> dict[tuple[str, str], Score]:
    """pass@1 by model and benchmark."""
    return {
        (score.model, score.benchmark): score
        for score in facts.main_scores
        if score.metric == "pass@1"
    }


def differences_table(differences: Sequence[Difference]) -> Table:
    headers = (
        "model",
        "against",
        "benchmark",
        "",
        "points",
        "95 % interval",
        "p",
        "p (Holm)",
        "flips",
        "n",
        "k",
    )
    return Table(headers, tuple(_difference_row(row) for row in differences), numbers=4)


def _difference_row(row: Difference) -> tuple[str, ...]:
    return (
        row.model,
        row.baseline,
        row.benchmark,
        row.word,
        points(row.mean),
        interval(row.low, row.high),
        p_value(row.p_value),
        p_value(row.p_adjusted),
        flips(row),
        whole(row.n),
        str(row.k),
    )


def flips(row: Difference) -> str:
    """`+4 −1`: problems that only the model, and that only its baseline, solved; blank for several
    samples.
    """
    return (
        ""
        if row.gained is None or row.lost is None
        else f"+{whole(row.gained)} {MINUS}{whole(row.lost)}"
    )


def funnel_table(facts: Facts) -> Table:
    return Table(
        ("stage", "in", "out", "what happened"), tuple(_funnel_row(step) for step in facts.funnel)
    )


def _funnel_row(step: FunnelStep) -> tuple[str, ...]:
    return (
        STEP_NAMES[step.step],
        whole(step.came_in),
        whole(step.came_out),
        "; ".join(funnel_words(step)),
    )


def funnel_words(step: FunnelStep) -> list[str]:
    """`1,204 correct`, `12 set aside: duplicate question`."""
    parts = [f"{whole(count)} {label(part)}" for part, count in step.parts.items()]
    return parts + [
        f"{whole(count)} {step.verb}: {label(reason)}"
        for reason, count in sorted(step.dropped.items(), key=lambda pair: -pair[1])
    ]


def label(name: str) -> str:
    """Our own words without their underscores; names that others gave stay as they are."""
    return name.replace("_", " ") if name in (*OUTCOMES, *BASELINE_METHODS) else name


def lengths_table(facts: Facts) -> Table:
    headers = ("what", "answers", "median", "90 % are below", "longest")
    traces = [
        (f"traces: {label(outcome)}", tokens) for outcome, tokens in facts.trace_tokens.items()
    ]
    evals = [
        (f"{benchmark}: {model}", tokens)
        for (benchmark, model), tokens in facts.eval_tokens.items()
    ]
    return Table(
        headers,
        tuple((name, *_quantiles(tokens)) for name, tokens in traces + evals if len(tokens)),
    )


def _quantiles(tokens: Sequence[int]) -> tuple[str, ...]:
    ranked = sorted(tokens)
    last = len(ranked) - 1
    return (
        whole(len(ranked)),
        whole(ranked[round(0.5 * last)]),
        whole(ranked[round(0.9 * last)]),
        whole(ranked[last]),
    )


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work; `tokens_per_s` where tokens were made or trained on."""

    name: str
    seconds: float
    came_in: int
    came_out: int
    tokens_per_s: float | None


def timings(facts: Facts) -> list[Timing]:
    """One row per stage and student; evals as one row for each model's sampling and one for all
    grading.
    """
    rows = [
        _timing(stage.place, [stage.manifest])
        for stage in facts.stages
        if not stage.place.startswith(f"{EVALS}/")
    ]
    return sorted(rows + list(_eval_timings(facts)), key=lambda row: row.name)


def _eval_timings(facts: Facts) -> Iterator[Timing]:
    groups: dict[str, list[Manifest]] = {}
    for stage in facts.stages:
        place = stage.place.split("/")
        if place[0] != EVALS or len(place) == 1:
            continue
        is_sampling = place[-1] == "traces" and len(place) == 4
        groups.setdefault(
            f"{EVALS}/{'sampling: ' + place[2] if is_sampling else place[-1]}", []
        ).append(stage.manifest)
    yield from (_timing(name, manifests) for name, manifests in groups.items())


def _timing(name: str, manifests: Sequence[Manifest]) -> Timing:
    tokens = sum(_number(m.figures.get("tokens")) for m in manifests)
    working = sum(_number(m.figures.get("seconds")) for m in manifests)
    is_done = all(manifest.status == "complete" for manifest in manifests)
    return Timing(
        name=name if is_done else f"{name} (unfinished)",
        seconds=sum(m.seconds for m in manifests),
        came_in=sum(m.counts.get("in", 0) for m in manifests),
        came_out=sum(m.counts.get("out", 0) for m in manifests),
        tokens_per_s=tokens / working if tokens and working else None,
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def timings_table(facts: Facts) -> Table:
    rows = tuple(
        (
            row.name,
            duration(row.seconds),
            whole(row.came_in),
            whole(row.came_out),
            "" if row.tokens_per_s is None else whole(row.tokens_per_s),
        )
        for row in timings(facts)
    )
    return Table(("stage", "time", "in", "out", "tokens/s"), rows)


def students_table(facts: Facts) -> Table:
    headers = (
        "student",
        "method",
        "base",
        "parameters",
        "trained",
        "steps",
        "epochs",
        "examples",
        "tokens",
        "train loss",
        "validation loss",
    )
    return Table(
        headers, tuple(_student_row(facts, made.name) for made in facts.students), numbers=3
    )


def _student_row(facts: Facts, name: str) -> tuple[str, ...]:
    student = next(made.student for made in facts.students if made.name == name)
    if student is None:
        return (name, "unfinished", *[""] * 9)
    figures = student.figures
    if figures is None:
        return (name, label(student.method), student.base, *[""] * 8)
    return (
        name,
        label(student.method),
        student.base,
        whole(figures.parameters),
        whole(figures.trained_parameters),
        whole(figures.steps),
        f"{figures.epochs:.3g}",
        whole(figures.examples),
        whole(figures.tokens),
        *(
            "" if loss is None else f"{loss:.4f}"
            for loss in (figures.train_loss, figures.validation_loss)
        ),
    )


def is_training(facts: Facts) -> bool:
    return any(
        "loss" in line or "validation_loss" in line
        for made in facts.students
        for line in made.metrics
    )


def caveats(facts: Facts) -> list[str]:
    """What a reader must know before quoting a number."""
    found: list[str] = []
    if facts.unfinished:
        found.append(
            f"This run is not finished: {', '.join(facts.unfinished)}. Numbers here may "
            "still change."
        )
    for place, changed in facts.stale.items():
        found.append(
            f"{place} is stale: {', '.join(changed)} has changed since. Run the pipeline "
            "again before quoting its numbers."
        )
    found += missing(facts)
    if names := _above(facts, "undecided", 0.01):
        found.append(
            f"The checker gave up on more than 1 % of the answers of {names}; undecided "
            "answers count as not correct."
        )
    if names := _above(facts, "truncated", 0.05):
        found.append(
            f"More than 5 % of the answers of {names} were cut at max_tokens; they count as "
            "not correct."
        )
    if judged := ", ".join(_judged(facts)):
        found.append(
            f"Where the grader could not decide, a model judged, and its verdicts count: {judged}."
        )
    if any(s.n < 100 for s in facts.own_scores):
        found.append(
            "Fewer than 100 problems: expect wide intervals, and read 'tied' as 'not "
            "shown', not as 'equal'."
        )
    return found


# So many cells with missing samples are told one by one.
MOST_MISSING = 8


def missing(facts: Facts) -> list[str]:
    """What samples are missing of the teacher and of each model, why, and what that does to the
    numbers.
    """
    found = [
        f"{place}: {lacking.words()}. {lacking.remedy(place)}"
        for place, lacking in facts.missing.items()
        if place == TRACES
    ]
    measured = {score.benchmark: None for score in facts.scores}
    if not measured:
        found += [
            f"{place}: {lacking.words()}. {lacking.remedy(place)}"
            for place, lacking in facts.missing.items()
            if place != TRACES
        ]
    for benchmark in measured:
        found += [
            _lost_words(facts, model, benchmark, samples)
            for model, samples in facts.lost.get(benchmark, {}).items()
        ]
        found += [
            _refused_words(model, benchmark, problems)
            for model, problems in facts.refused.get(benchmark, {}).items()
        ]
    rest = len(found) - MOST_MISSING
    if rest > 0:
        found[MOST_MISSING:] = [
            f"{whole(rest)} more of this kind: see `lost` and `refused` in report.json."
        ]
    if facts.lost or facts.refused:
        found.append(
            "Two models are compared on the problems that both have; n says how many these are."
        )
    return found


def _lost_words(facts: Facts, model: str, benchmark: str, samples: Sequence[str]) -> str:
    problems = {sample.rpartition(":")[0] for sample in samples}
    lacking = facts.missing.get(f"{EVALS}/{benchmark}/{model}/traces")
    why = in_brackets(lacking.causes) if lacking is not None else ""
    gone = f"{counted(len(problems), 'problem')} left out of its score: {few(problems)}"
    return (
        f"{model} on {benchmark}: {counted(len(samples), 'sample')} lost{why}, {gone}. "
        "The same command draws them again."
    )


def _refused_words(model: str, benchmark: str, problems: Mapping[str, str]) -> str:
    why = in_brackets(Counter(problems.values()))
    return (
        f"{model} on {benchmark}: {counted(len(problems), 'problem')} refused{why}, which "
        f"count as not correct: {few(problems)}."
    )


def counted(count: int, name: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{whole(count)} {name}{'' if count == 1 else 's'}"


def few(names: Iterable[str], most: int = 3) -> str:
    """`a/1, a/2, a/7 and 12 more`."""
    ordered = sorted(names)
    rest = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {whole(rest)} more" if rest > 0 else "")


def _judged(facts: Facts) -> Iterator[str]:
    """`12 of 300 in 3-verdicts by wise-model@0123`, for each folder of verdicts that a judge
    decided some of.
    """
    for stage in facts.stages:
        figures = stage.manifest.figures
        if decided := figures.get("judged_correct", 0) + figures.get("judged_wrong", 0):
            name = stage.manifest.identity["inputs"]["judge"].split()[0]
            yield (
                f"{whole(decided)} of {whole(stage.manifest.counts['out'])} in {stage.place} by "
                f"{name}"
            )


def _above(facts: Facts, outcome: str, share: float) -> str:
    names = [
        model
        for models in facts.outcomes.values()
        for model, shares in models.items()
        if shares.get(outcome, 0.0) > share
    ]
    names = [name for name in names if facts.seeds.of(name) is None]
    return ", ".join(dict.fromkeys(names))


SCORES_NOTE = (
    "pass@1 is the mean over all k samples of all n problems (also called avg@k). "
    "Intervals hold 95 % and cover the choice of problems and "
    "the choice of samples: Wilson for one sample per problem, Wilson with the "
    "effective number of samples for more. Truncated, unanswered "
    "and undecided answers count as not correct; their shares stand beside every score."
)
METRICS_NOTE = (
    "pass@k: at least one of k samples is right (Chen et al. 2021, unbiased). maj@k: "
    "the answer that most of k samples give is right, "
    "answers counted by equivalence, over all subsets of k, ties by chance (Wang et "
    "al. 2022). mg-pass@k: how steadily it is right, the "
    "mean over shares from half to all of k samples (Liu et al. 2024)."
)
DIFFERENCES_NOTE = (
    "Paired over the same problems, in percentage points. Interval: Tango's score "
    "interval (k = 1) or Agresti-Min t (k > 1). p: exact "
    "McNemar or sign-flip permutation test, then adjusted (Holm) over all models "
    "that are compared with the same baseline on the same "
    "benchmark. 'better' and 'worse' need interval and adjusted p to agree; "
    "otherwise the two are tied at this n. flips: problems that "
    "only the model (+), or only its baseline (" + MINUS + "), solved (k = 1)."
)
