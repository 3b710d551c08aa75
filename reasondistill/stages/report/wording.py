"""The report's sentences and tables as text, shared by Markdown and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from reasondistill.config import CONTROLS
from reasondistill.durations import duration
from reasondistill.foreign_text import shortened
from reasondistill.records import OUTCOMES, Completion, Difference, Score, Student
from reasondistill.runs.figures import (
    LOOK_ALIKE,
    ExamplesFigures,
    ProblemsFigures,
    VerdictsFigures,
    WorkFigures,
    cost_of_verified,
    seconds_spent,
)
from reasondistill.runs.layout import LEAKS_MARKDOWN
from reasondistill.runs.missing import REFUSED, in_brackets
from reasondistill.runs.store import Manifest
from reasondistill.stages.report.facts import (
    EVALS,
    EXAMPLES,
    PROBLEMS,
    STUDENTS,
    TRACES,
    VERDICTS,
    Facts,
    FunnelStep,
)
from reasondistill.tables import (
    MINUS,
    UNANSWERED,
    ScoreRow,
    Table,
    gap_text,
    interval,
    percent,
    score_table,
    score_text,
    whole,
    whole_or_blank,
)

STEP_NAMES = {PROBLEMS: "Problems", TRACES: "Traces", VERDICTS: "Verdicts", EXAMPLES: "Examples"}


def ended(completion: Completion) -> str:
    """How a completion came to its end."""
    if completion.finish == "unknown":
        return "nobody says how it ended"
    return f"ended by {completion.finish}"


# ---- the headline --------------------------------------------------------------------------------


def headline(facts: Facts) -> list[str]:
    """What came out, and what failed."""
    return [*findings(facts), *faults(facts)]


def findings(facts: Facts) -> list[str]:
    """One sentence for each distilled student on each benchmark; what there is to say when there is
    none. With students of several seeds, the one with the highest score speaks for all.
    """
    return _sentences(facts)


def faults(facts: Facts) -> list[str]:
    """What the run lacks, in a sentence each: stages and students that are not there or not
    finished, samples that failed, and what its forecast could not say.
    """
    sentences: list[str] = []
    if facts.absent:
        names = few(facts.absent, MOST_MISSING)
        sentences.append(f"Of what the pipeline file asks for, these are not made: {names}.")
    unfinished = [_unfinished(facts, place) for place in facts.unfinished]
    if unfinished:
        listed = ", ".join(unfinished)
        sentences.append(f"This run is not finished: {listed}. Numbers here may still change.")
    traces = facts.missing.get(TRACES)
    if traces is not None and traces.lost and facts.own_scores:
        sentences.append(f"The teacher's traces are not all there: {traces.words()}.")
    failed = list(_failed_samples(facts))
    if failed:
        sentences.append(f"Answers are missing: {few(failed, MOST_MISSING)}.")
    unknown = _not_forecast(facts)
    if unknown:
        sentences.append(f"The forecast does not know what these take: {few(unknown)}.")
    return sentences


def _unfinished(facts: Facts, place: str) -> str:
    """`5-students/sft (stopped after step 45)`."""
    for student in facts.students:
        if place == f"{STUDENTS}/{student.name}":
            steps = [line.step for line in student.metrics if line.step is not None]
            if steps:
                return f"{place} (stopped after step {whole(max(steps))})"
    return place


def _failed_samples(facts: Facts) -> Iterator[str]:
    """`sft on gsm8k (3 lost, 1 refused)`, for each model whose score is made without some."""
    for benchmark in dict.fromkeys(score.benchmark for score in facts.scores):
        lost, refused = facts.lost.get(benchmark, {}), facts.refused.get(benchmark, {})
        for model in dict.fromkeys((*lost, *refused)):
            counts: list[str] = []
            if lost.get(model):
                counts.append(f"{counted(len(lost[model]), 'sample')} lost")
            if refused.get(model):
                counts.append(f"{counted(len(refused[model]), 'problem')} refused")
            if counts:
                yield f"{model} on {benchmark} ({', '.join(counts)})"


def _not_forecast(facts: Facts) -> list[str]:
    if facts.forecast is None:
        return []
    return [stage.stage for stage in facts.forecast.stages if stage.unknown is not None]


def _sentences(facts: Facts) -> list[str]:
    scores = main_means(facts)
    students: list[Score] = []
    for score in scores:
        method = facts.method(score.model)
        if method not in CONTROLS and method != "teacher":
            students.append(score)
    if facts.seeds.members and students:
        return _at_most(list(_highest(facts, students)))
    if students:
        return _at_most([_student_sentence(facts, score) for score in students])
    if len(scores) > MOST_SENTENCES:
        return [_counts(scores)]
    if scores:
        return [_plain_sentence(facts, score) for score in scores]
    return [_progress(facts)]


def main_means(facts: Facts) -> list[Score]:
    """pass@1 of every model on every benchmark, students that differ in their seed together."""
    return [score for score in facts.main_scores if score.metric == "pass@1"]


def _highest(facts: Facts, students: Sequence[Score]) -> Iterator[str]:
    """One sentence for each benchmark: `gkd has the highest score of 9 students on gsm8k: gkd
    answers …`.
    """
    for benchmark in dict.fromkeys(score.benchmark for score in students):
        rivals = [score for score in students if score.benchmark == benchmark]
        best = max(rivals, key=attrgetter("mean"))
        sentence = _student_sentence(facts, best)
        if len(rivals) > 1:
            sentence = f"{best.model} has the highest score of {len(rivals)} students: {sentence}"
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
    place = (score.model, score.benchmark)
    against: list[str] = []
    for row in facts.main_differences:
        is_own = (row.model, row.benchmark) == place
        if is_own and facts.method(row.baseline) != "teacher":
            against.append(_comparison(row))
    sentence = _plain_sentence(facts, score).removesuffix(".")
    if against:
        sentence += ": " + ", ".join(against)
    clauses = [sentence]
    for other in main_means(facts):
        is_same = other.benchmark == score.benchmark
        if is_same and facts.method(other.model) == "teacher":
            name = other.model
            if name == "teacher":
                name = "the teacher"
            clauses.append(f"{name} has {percent(other.mean)} %")
    return "; ".join(clauses) + "."


def _plain_sentence(facts: Facts, score: Score) -> str:
    members = facts.members(score.model)
    lost_samples = facts.lost.get(score.benchmark, {})
    lost = 0
    for member in members:
        lost += len(lost_samples.get(member, ()))
    drawn = f"n={score.n}, k={score.k}"
    if len(members) > 1:
        drawn += f" over {len(members)} seeds"
    if lost:
        drawn += f"; {counted(lost, 'sample')} lost"
    share = f"{percent(score.mean)} % of {score.benchmark}"
    return f"{score.model} answers {share} {interval(score)} ({drawn})."


def _comparison(row: Difference) -> str:
    than = f"{row.word} than {row.baseline}"
    if row.word == "tied":
        than = f"tied with {row.baseline} at this n"
    return f"{than} ({gap_text(row)})"


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
    widest: set[str] = set()
    for score in facts.own_scores:
        if score.metric == "pass@1" or score.metric.endswith(f"@{score.k}"):
            widest.add(score.metric)
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
    if REFUSED in outcome_names(facts):
        return (*UNANSWERED, REFUSED)
    return UNANSWERED


def scores_table(facts: Facts, scores: Iterable[Score] | None = None) -> Table:
    """One row for each model on each benchmark; of `scores`, or of all with the seeds of a student
    together.
    """
    if scores is None:
        scores = facts.main_scores
    others: dict[tuple[str, str], dict[str, str]] = {}
    for score in facts.own_scores:
        cells = others.setdefault((score.model, score.benchmark), {})
        cells[score.metric] = score_text(score)
    rows: list[ScoreRow] = []
    for score in scores:
        if score.metric != "pass@1":
            continue
        row = ScoreRow(
            model=score.model,
            benchmark=score.benchmark,
            score=score,
            metrics=others.get((score.model, score.benchmark), {}),
            outcomes=outcome_shares(facts, score),
            tokens=facts.mean_tokens.get(score.benchmark, {}).get(score.model),
        )
        rows.append(row)
    return score_table(rows, metrics(facts)[1:], _unanswered(facts))


def funnel_table(facts: Facts) -> Table:
    rows: list[tuple[str, ...]] = []
    for step in facts.funnel:
        words = "; ".join(funnel_words(step))
        name = STEP_NAMES[step.step]
        rows.append((name, count_text(step.came_in), whole(step.came_out), words))
    return Table(("stage", "in", "out", "what happened"), tuple(rows))


def sources_table(facts: Facts) -> Table:
    """What became of the rows of each of several sources of problems; no rows where there is one
    source.
    """
    rows: list[tuple[str, ...]] = []
    for stage in facts.stages:
        if stage.place != PROBLEMS:
            continue
        for source in ProblemsFigures.of(stage.manifest).sources:
            counts = (whole(source.rows), whole(source.problems), source.reasons)
            rows.append((source.name, source.tag, source.dataset, *counts))
    return Table(("source", "tag", "dataset", "rows", "problems", "set aside"), tuple(rows))


def mixture_table(facts: Facts) -> Table:
    """What became of each group of a mixture; no rows where there is none."""
    rows: list[tuple[str, ...]] = []
    for stage in facts.stages:
        if stage.place == EXAMPLES:
            for group in ExamplesFigures.of(stage.manifest).mixture:
                counts = (group.examples, group.tokens, group.rows, group.mixed_tokens)
                rows.append((group.name, f"{group.weight:g}", *map(whole, counts), group.fate))
    header = ("group", "weight", "examples", "tokens", "rows", "tokens of these", "mixture")
    return Table(header, tuple(rows))


def writers_table(facts: Facts) -> Table:
    """Who has written how much of what was trained on; no rows where there is one writer."""
    rows: list[tuple[str, ...]] = []
    for stage in facts.stages:
        if stage.place == EXAMPLES:
            for writer in ExamplesFigures.of(stage.manifest).writers:
                counts = (writer.traces, writer.correct, writer.kept)
                rows.append((writer.name, writer.whose, *map(whole, counts), writer.reasons))
    header = ("writer", "who", "traces", "correct", "examples", "dropped")
    return Table(header, tuple(rows))


def funnel_words(step: FunnelStep) -> list[str]:
    """`1,204 correct`, `12 set aside: duplicate question`."""
    words: list[str] = []
    for part, count in step.parts.items():
        words.append(f"{whole(count)} {label(part)}")
    most_first = sorted(step.dropped.items(), key=lambda item: -item[1])
    for reason, count in most_first:
        words.append(f"{whole(count)} {step.verb}: {label(reason)}")
    return words


LEAKS_NOTE = (
    "Problems that hold a question of a benchmark, by the way in which they were found: equal "
    "texts; near, most of its runs of five words; words in a row. They are set aside. Look-alikes "
    "have the words and other numbers, and are kept. "
    f"{PROBLEMS}/{LEAKS_MARKDOWN} shows them side by side."
)


def leaks_table(facts: Facts) -> Table:
    """How many pairs of each benchmark were found; no rows where nobody looked."""
    rows: list[tuple[str, ...]] = []
    for stage in facts.stages:
        if stage.place == PROBLEMS:
            for benchmark, counts in ProblemsFigures.of(stage.manifest).leaks.items():
                ways = (counts.get(way, 0) for way in ("equal", "near", "run", LOOK_ALIKE))
                rows.append((benchmark, *map(whole, ways)))
    return Table(("benchmark", "equal", "near", "words in a row", "look-alikes"), tuple(rows))


def suspects_note(facts: Facts) -> str:
    """How many golds are under suspicion; empty where none is."""
    for stage in facts.stages:
        if stage.place == EXAMPLES and facts.suspects:
            count = ExamplesFigures.of(stage.manifest).suspect_golds
            problems = "problem has" if count == 1 else "problems have"
            fate = "They make examples like others"
            if stage.manifest.section.get("suspect_golds") == "leave_out":
                fate = "They make no examples"
            return (
                f"{whole(count)} {problems} samples that agree with each other and not with the "
                f"gold: either the gold is wrong, or the question misleads its teacher. {fate}; "
                f"all are in {EXAMPLES}/suspects.jsonl."
            )
    return ""


def suspects_table(facts: Facts) -> Table:
    """The first golds under suspicion."""
    rows: list[tuple[str, ...]] = []
    for suspect in facts.suspects:
        answers = (shortened(text, 200) for text in (suspect.gold, suspect.answer))
        votes = f"{suspect.votes} of {suspect.n}"
        rows.append((suspect.problem_id, *answers, votes, whole(suspect.correct)))
    return Table(("problem", "gold", "samples say", "how many", "say the gold"), tuple(rows), 3)


def label(name: str) -> str:
    """Our own words without their underscores; names that others gave stay as they are."""
    if name in (*OUTCOMES, *CONTROLS):
        return name.replace("_", " ")
    return name


def shown_of_all(facts: Facts) -> str:
    """`15 of 4,416 traces are shown here.`"""
    shown = len(facts.shown) + sum(len(side.answers) for side in facts.side_by_side)
    words = f"{whole(shown)} of {whole(facts.traces)} traces are shown here"
    if facts.has_browser:
        return f"{words}."
    return f"{words}; reasondistill view shows all."


def lengths_table(facts: Facts) -> Table:
    headers = ("what", "answers", "median", "90 % are below", "longest")
    lengths: list[tuple[str, Sequence[int]]] = []
    for outcome, tokens in facts.trace_tokens.items():
        lengths.append((f"traces: {label(outcome)}", tokens))
    for (benchmark, model), tokens in facts.eval_tokens.items():
        lengths.append((f"{benchmark}: {model}", tokens))
    rows: list[tuple[str, ...]] = []
    for name, tokens in lengths:
        if tokens:
            rows.append((name, *_quantiles(tokens)))
    return Table(headers, tuple(rows))


def _quantiles(tokens: Sequence[int]) -> Iterator[str]:
    """How many there are, their median, their 90 % quantile and the largest."""
    ranked = sorted(tokens)
    last = len(ranked) - 1
    yield whole(len(ranked))
    for share in (0.5, 0.9, 1.0):
        place = round(share * last)
        yield whole(ranked[place])


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work; `tokens_per_s` where tokens were made or trained on. None is
    not known: a stage says it at its end.
    """

    name: str
    seconds: float | None
    came_in: float | None
    came_out: float | None
    tokens_per_s: float | None


def timings(facts: Facts) -> list[Timing]:
    """One row per stage and student; evals as one row for each model's sampling and one for all
    grading.
    """
    rows = list(_eval_timings(facts))
    for stage in facts.stages:
        if not stage.place.startswith(f"{EVALS}/"):
            rows.append(_timing(stage.place, [stage.manifest]))
    return sorted(rows, key=attrgetter("name"))


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
    tokens = work_seconds = 0.0
    times: list[float | None] = []
    for manifest in manifests:
        figures = WorkFigures.of(manifest)
        tokens += figures.worked_tokens
        work_seconds += figures.seconds
        is_known = manifest.status == "complete" or manifest.seconds > 0
        times.append(seconds_spent(manifest) if is_known else None)
    tokens_per_s = None
    if tokens and work_seconds:
        tokens_per_s = tokens / work_seconds
    if any(manifest.status != "complete" for manifest in manifests):
        name = f"{name} (unfinished)"
    came_in = _known_sum(manifest.counts.get("in") for manifest in manifests)
    came_out = _known_sum(manifest.counts.get("out") for manifest in manifests)
    return Timing(name, _known_sum(times), came_in, came_out, tokens_per_s)


def _known_sum(amounts: Iterable[float | None]) -> float | None:
    """None where one of them is not known."""
    known: list[float] = []
    for amount in amounts:
        if amount is None:
            return None
        known.append(amount)
    return sum(known)


UNKNOWN = "unknown"


def count_text(count: float | None) -> str:
    if count is None:
        return UNKNOWN
    return whole(count)


def costs(facts: Facts) -> str:
    """What a verified trace cost, and what was saved; empty where that is not known."""
    traces = facts.stage(TRACES)
    if traces is None:
        return ""
    sentences = cost_of_verified(traces, facts.stage(VERDICTS))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def timing_cells(row: Timing) -> tuple[str, ...]:
    """Time, inputs, outputs, and tokens per second where there are tokens."""
    time = UNKNOWN
    if row.seconds is not None:
        time = duration(row.seconds)
    counts = (count_text(row.came_in), count_text(row.came_out))
    return (time, *counts, whole_or_blank(row.tokens_per_s))


def timings_table(facts: Facts) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in timings(facts):
        rows.append((row.name, *timing_cells(row)))
    return Table(("stage", "time", "in", "out", "tokens/s"), tuple(rows))


def students_table(facts: Facts) -> Table:
    headers = ("student", "method", "base", "parameters", "trained", "steps", "epochs", "examples")
    headers += ("tokens", "train loss", "validation loss")
    rows: list[tuple[str, ...]] = []
    for student in facts.students:
        cells = [student.name, *_student_cells(student.record)]
        blank = len(headers) - len(cells)
        rows.append((*cells, *[""] * blank))
    return Table(headers, tuple(rows), numbers=3)


def _student_cells(student: Student | None) -> Iterator[str]:
    """What is known of it; without a training, or before its end, that is less."""
    if student is None:
        yield "unfinished"
        return
    yield label(student.method)
    yield student.base
    figures = student.figures
    if figures is None:
        return
    yield whole(figures.parameters)
    yield whole(figures.trained_parameters)
    steps = whole(figures.steps)
    if figures.delivered_step is not None:
        steps += f", the best is {whole(figures.delivered_step)}"
    yield steps
    yield f"{figures.epochs:.3g}"
    yield whole(figures.examples)
    yield whole(figures.tokens)
    yield _loss_text(figures.train_loss)
    yield _loss_text(figures.validation_loss)


def _loss_text(loss: float | None) -> str:
    if loss is None:
        return ""
    return f"{loss:.4f}"


def caveats(facts: Facts) -> list[str]:
    """What a reader must know before quoting a number."""
    notes: list[str] = []
    for place, changed in facts.stale.items():
        notes.append(
            f"{place} is stale: {', '.join(changed)} has changed since. Run the pipeline "
            "again before quoting its numbers."
        )
    notes += kept_though(facts)
    notes += missing(facts)
    undecided = _above(facts, "undecided", 0.01)
    if undecided:
        notes.append(
            f"The checker gave up on more than 1 % of the answers of {undecided}; undecided "
            "answers count as not correct."
        )
    truncated = _above(facts, "truncated", 0.05)
    if truncated:
        notes.append(
            f"More than 5 % of the answers of {truncated} were cut at max_tokens; they count as "
            "not correct."
        )
    judged = ", ".join(_judged(facts))
    if judged:
        notes.append(
            f"Where the grader could not decide, a model judged, and its verdicts count: {judged}."
        )
    if any(s.n < 100 for s in facts.own_scores):
        notes.append(
            "Fewer than 100 problems: expect wide intervals, and read 'tied' as 'not "
            "shown', not as 'equal'."
        )
    return notes


def kept_though(facts: Facts) -> Iterator[str]:
    """The stages with which the run went on although other settings were asked for."""
    for stage in facts.stages:
        if stage.manifest.kept:
            yield (
                f"{stage.place} was kept as it is (--keep-old), although the run was asked for "
                f"otherwise: {'; '.join(stage.manifest.kept)}."
            )


# So many cells with missing samples are told one by one.
MOST_MISSING = 8


def missing(facts: Facts) -> list[str]:
    """What samples are missing of the teacher and of each model, why, and what that does to the
    numbers.
    """
    benchmarks = dict.fromkeys(score.benchmark for score in facts.scores)
    sentences: list[str] = []
    for place, lacking in facts.missing.items():
        if place == TRACES:
            sentences.append(f"{place}: {lacking.words()}. {lacking.remedy(place)}")
    for place, lacking in facts.missing.items():
        if place != TRACES and not benchmarks:
            sentences.append(f"{place}: {lacking.words()}. {lacking.remedy(place)}")
    for benchmark in benchmarks:
        for model, samples in facts.lost.get(benchmark, {}).items():
            sentences.append(_lost_words(facts, model, benchmark, samples))
        for model, problems in facts.refused.get(benchmark, {}).items():
            sentences.append(_refused_words(model, benchmark, problems))
    rest = len(sentences) - MOST_MISSING
    if rest > 0:
        del sentences[MOST_MISSING:]
        sentences.append(
            f"{whole(rest)} more of this kind: see `lost` and `refused` in report.json."
        )
    if facts.lost or facts.refused:
        sentences.append(
            "Two models are compared on the problems that both have; n says how many these are."
        )
    return sentences


def _lost_words(facts: Facts, model: str, benchmark: str, samples: Sequence[str]) -> str:
    problems = {sample.rpartition(":")[0] for sample in samples}
    lacking = facts.missing.get(f"{EVALS}/{benchmark}/{model}/traces")
    why = ""
    if lacking is not None:
        why = in_brackets(lacking.causes)
    lost = counted(len(samples), "sample")
    left_out = counted(len(problems), "problem")
    gone = f"{left_out} left out of its score: {few(problems)}"
    return f"{model} on {benchmark}: {lost} lost{why}, {gone}. The same command draws them again."


def _refused_words(model: str, benchmark: str, problems: Mapping[str, str]) -> str:
    reasons = Counter(problems.values())
    refused = f"{counted(len(problems), 'problem')} refused{in_brackets(reasons)}"
    return f"{model} on {benchmark}: {refused}, which count as not correct: {few(problems)}."


def counted(count: int, name: str) -> str:
    """`1 problem`, `2 problems`."""
    if count == 1:
        return f"{whole(count)} {name}"
    return f"{whole(count)} {name}s"


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
            judge: str = stage.manifest.identity["inputs"].get("judge", "")
            name = judge.partition(" ")[0] or "a judge without a name"
            verdicts = whole(stage.manifest.count("out"))
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
    "effective number of samples for more. A model at temperature 0 answers each problem once "
    "(k = 1), whatever n was asked for. Truncated, unanswered "
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
    "interval (k = 1) or Agresti-Min t, wider on its long side where the differences are skewed (k "
    "> 1); it leaves 0 out exactly where p is at most 0.05. p: exact McNemar or sign-flip "
    "permutation test. p (Holm): adjusted within two families on the same benchmark, all models "
    "that are compared with the same baseline and all baselines of the same model; the larger of "
    "the two. Benchmarks are families of their own. 'better' and 'worse' go by p (Holm); otherwise "
    "the two are tied at this n, also where the interval, which is that of one comparison alone, "
    "leaves 0 out. flips: problems that "
    "only the model (+), or only its baseline (" + MINUS + "), solved (k = 1)."
)
