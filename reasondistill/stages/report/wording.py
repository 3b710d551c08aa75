"""What the report says, as sentences and tables of text: shared by Markdown and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reasondistill.config import CONTROLS
from reasondistill.durations import duration
from reasondistill.records import OUTCOMES, Difference, Score
from reasondistill.runs.figures import VerdictsFigures, WorkFigures
from reasondistill.runs.missing import REFUSED, in_brackets
from reasondistill.runs.store import Manifest
from reasondistill.stages.report.facts import (
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
    if p < 0.0001:
        return "< 0.0001"
    if p < 0.1:
        return f"{p:.4f}"
    return f"{p:.2f}"


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
        score for score in scores if facts.method(score.model) not in (*CONTROLS, "teacher")
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
        sentence = _student_sentence(facts, best)
        if len(found) > 1:
            sentence = f"{best.model} has the highest score of {len(found)} students: {sentence}"
        yield sentence


# More sentences than this nobody reads: the overview says it.
MOST_SENTENCES = 6


def _at_most(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SENTENCES
    if rest <= 0:
        return sentences
    return [*sentences[:MOST_SENTENCES], f"{rest} more in the table."]


def _counts(scores: Sequence[Score]) -> str:
    models = len({score.model for score in scores})
    benchmarks = len({score.benchmark for score in scores})
    samples = whole(sum(score.n * score.k for score in scores))
    return f"{models} models on {benchmarks} benchmarks, {samples} graded samples."


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
    clauses = [sentence]
    for other in facts.main_scores:
        is_same = (other.metric, other.benchmark) == ("pass@1", score.benchmark)
        if is_same and facts.method(other.model) == "teacher":
            name = "the teacher" if other.model == "teacher" else other.model
            clauses.append(f"{name} has {percent(other.mean)} %")
    return "; ".join(clauses) + "."


def _plain_sentence(facts: Facts, score: Score) -> str:
    members = facts.members(score.model)
    lost_samples = facts.lost.get(score.benchmark, {})
    lost = sum(len(lost_samples.get(member, ())) for member in members)
    drawn = f"n={score.n}, k={score.k}"
    if len(members) > 1:
        drawn += f" over {len(members)} seeds"
    if lost:
        drawn += f"; {counted(lost, 'sample')} lost"
    return (
        f"{score.model} answers {percent(score.mean)} % of {score.benchmark} "
        f"{interval(score.low, score.high)} ({drawn})."
    )


def _comparison(row: Difference) -> str:
    than = f"{row.word} than {row.baseline}"
    if row.word == "tied":
        than = f"tied with {row.baseline} at this n"
    return f"{than} ({points(row.mean)} points {interval(row.low, row.high)})"


def _progress(facts: Facts) -> str:
    """What a run without scores has: traces and how many of them are correct, or problems only."""
    counts = {outcome: len(tokens) for outcome, tokens in facts.trace_tokens.items()}
    total = sum(counts.values())
    graded = sum(counts.get(outcome, 0) for outcome in OUTCOMES)
    correct = percent(counts.get("correct", 0) / max(1, graded))
    missing = facts.missing.get(TRACES)
    if missing is not None and graded:
        of_graded = f"{correct} % of the {whole(graded)} graded ones correct"
        return f"{missing.words()}. {of_graded}; no evals yet."
    if missing is not None:
        return f"{missing.words()}. Not graded yet; no evals yet."
    if graded:
        return f"{whole(total)} traces, {correct} % of the graded ones correct; no evals yet."
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

    def rank(name: str) -> tuple[bool, int, int]:
        kind, _, k = name.partition("@")
        return name != "pass@1", order.index(kind), int(k)

    return sorted(widest, key=rank)


def outcome_names(facts: Facts) -> tuple[str, ...]:
    """The outcomes that a score can have; `refused` only where some are."""
    for models in facts.outcomes.values():
        if any(shares.get(REFUSED) for shares in models.values()):
            return (*OUTCOMES, REFUSED)
    return OUTCOMES


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
    if scores is None:
        scores = facts.main_scores
    rows = [score for score in scores if score.metric == "pass@1"]
    return Table(headers, tuple(_score_row(facts, score, names[1:]) for score in rows), numbers=2)


def also(facts: Facts, score: Score, names: Sequence[str]) -> list[str]:
    """The other metrics of the same samples; blank where there is none."""
    cells: dict[str, str] = {}
    for other in facts.own_scores:
        if (other.model, other.benchmark) == (score.model, score.benchmark):
            cells[other.metric] = score_text(other)
    return [cells.get(name, "") for name in names]


def score_text(score: Score) -> str:
    """`41.7 [28.2, 56.6]`: the mean and its interval, in percent."""
    return f"{percent(score.mean)} {interval(score.low, score.high)}"


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
        whole_or_blank(tokens),
    )


def whole_or_blank(count: float | None) -> str:
    """Nothing for what is not known."""
    if count is None:
        return ""
    return whole(count)


def overview_table(facts: Facts) -> Table:
    """Models down, benchmarks across: readable in one screen for many of both."""
    cells = overview_cells(facts)
    benchmarks = list(dict.fromkeys(benchmark for _, benchmark in cells))
    models = list(dict.fromkeys(model for model, _ in cells))

    texts = {place: score_text(score) for place, score in cells.items()}
    rows: list[tuple[str, ...]] = []
    for model in models:
        row = [texts.get((model, benchmark), "") for benchmark in benchmarks]
        rows.append((model, *row))
    return Table(("model", *benchmarks), tuple(rows))


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
    if row.gained is None or row.lost is None:
        return ""
    return f"+{whole(row.gained)} {MINUS}{whole(row.lost)}"


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
    words = [f"{whole(count)} {label(part)}" for part, count in step.parts.items()]
    for reason in sorted(step.dropped, key=lambda reason: -step.dropped[reason]):
        words.append(f"{whole(step.dropped[reason])} {step.verb}: {label(reason)}")
    return words


def label(name: str) -> str:
    """Our own words without their underscores; names that others gave stay as they are."""
    if name in (*OUTCOMES, *CONTROLS):
        return name.replace("_", " ")
    return name


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
        work = place[-1]
        if work == "traces" and len(place) == 4:
            work = f"sampling: {place[2]}"
        groups.setdefault(f"{EVALS}/{work}", []).append(stage.manifest)
    for name, manifests in groups.items():
        yield _timing(name, manifests)


def _timing(name: str, manifests: Sequence[Manifest]) -> Timing:
    figures = [WorkFigures.of(manifest) for manifest in manifests]
    tokens = sum(work.tokens for work in figures)
    seconds = sum(work.seconds for work in figures)
    tokens_per_s = None
    if tokens and seconds:
        tokens_per_s = tokens / seconds
    if any(manifest.status != "complete" for manifest in manifests):
        name = f"{name} (unfinished)"
    return Timing(
        name=name,
        seconds=sum(manifest.seconds for manifest in manifests),
        came_in=sum(manifest.counts.get("in", 0) for manifest in manifests),
        came_out=sum(manifest.counts.get("out", 0) for manifest in manifests),
        tokens_per_s=tokens_per_s,
    )


def timings_table(facts: Facts) -> Table:
    rows = tuple(
        (
            row.name,
            duration(row.seconds),
            whole(row.came_in),
            whole(row.came_out),
            whole_or_blank(row.tokens_per_s),
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
        _loss_text(figures.train_loss),
        _loss_text(figures.validation_loss),
    )


def _loss_text(loss: float | None) -> str:
    if loss is None:
        return ""
    return f"{loss:.4f}"


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
    undecided = _above(facts, "undecided", 0.01)
    if undecided:
        found.append(
            f"The checker gave up on more than 1 % of the answers of {undecided}; undecided "
            "answers count as not correct."
        )
    truncated = _above(facts, "truncated", 0.05)
    if truncated:
        found.append(
            f"More than 5 % of the answers of {truncated} were cut at max_tokens; they count as "
            "not correct."
        )
    judged = ", ".join(_judged(facts))
    if judged:
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
    why = ""
    if lacking is not None:
        why = in_brackets(lacking.causes)
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
    plural = "" if count == 1 else "s"
    return f"{whole(count)} {name}{plural}"


def few(names: Iterable[str], most: int = 3) -> str:
    """`a/1, a/2, a/7 and 12 more`."""
    ordered = sorted(names)
    listed = ", ".join(ordered[:most])
    rest = len(ordered) - most
    if rest > 0:
        listed += f" and {whole(rest)} more"
    return listed


def _judged(facts: Facts) -> Iterator[str]:
    """`12 of 300 in 3-verdicts by wise-model@0123`, for each folder of verdicts that a judge
    decided some of.
    """
    for stage in facts.stages:
        if not stage.place.endswith("verdicts"):
            continue
        figures = VerdictsFigures.of(stage.manifest)
        decided = figures.judged_correct + figures.judged_wrong
        if decided:
            name = stage.manifest.identity["inputs"]["judge"].split()[0]
            verdicts = whole(stage.manifest.counts["out"])
            yield f"{whole(decided)} of {verdicts} in {stage.place} by {name}"


def _above(facts: Facts, outcome: str, share: float) -> str:
    names: list[str] = []
    for models in facts.outcomes.values():
        for model, shares in models.items():
            is_above = shares.get(outcome, 0.0) > share
            if is_above and facts.seeds.of(model) is None and model not in names:
                names.append(model)
    return ", ".join(names)


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
