"""The page's sections about scores: the overview, each benchmark, differences, their
details, published numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from markupsafe import Markup

from reasondistill.records import Difference, Score
from reasondistill.stages.report import evidence, methods, wording
from reasondistill.stages.report.facts import Facts
from reasondistill.stages.report.html import (
    Pictures,
    figure,
    folded,
    joined,
    legend,
    note_line,
    piece,
    plain,
    stack,
    table,
)
from reasondistill.stages.report.plots import Estimate, forest, line_chart
from reasondistill.tables import (
    CASCADE_NOTE,
    Table,
    cascade_sentences,
    cascade_table,
    difference_table,
    gap_text,
    half_text,
    interval,
    metric_header,
    p_value,
    points,
    score_grid,
    score_text,
    share_header,
)

# Benchmarks whose curves are open from the start; the others fold.
OPEN_BENCHMARKS = 2
# From this many scores on the single ones fold and the overview stands alone.
_FOLDS = 13
_MOST_DIFFERENCES = 24
_TONES = {"better": "correct", "worse": "wrong", "tied": "other"}


def scores_section(facts: Facts) -> Markup:
    if not facts.own_scores:
        return Markup("")
    benchmarks = list(dict.fromkeys(score.benchmark for score in facts.own_scores))
    shown: list[Markup] = []
    for benchmark in benchmarks:
        scores = [score for score in facts.main_scores if score.benchmark == benchmark]
        shown.append(piece("heading", benchmark))
        shown.append(_score_forest(scores, benchmark))
        label = f"Scores of {benchmark}"
        shown.append(_score_table(facts, scores, hidden=("benchmark",), label=label))
    tables = joined(shown)
    if len(wording.main_means(facts)) >= _FOLDS:
        tables = folded("Every score with its outcomes", tables)
    parts: list[Markup] = []
    if len(benchmarks) > 1:
        parts.append(_overview(facts))
    parts.append(note_line(wording.SCORES_NOTE))
    if len(wording.metrics(facts)) > 1:
        parts.append(note_line(wording.METRICS_NOTE))
    parts.append(note_line(facts.seeds.note))
    parts.append(tables)
    parts.append(_seeds_alone(facts))
    parts.append(legend(wording.outcome_names(facts)))
    parts.append(_bootstrap(facts))
    return joined(parts)


def _seeds_alone(facts: Facts) -> Markup:
    """The scores of each seed, folded."""
    single = [score for score in facts.single_scores if score.metric == "pass@1"]
    if not single:
        return Markup("")
    shown = _score_table(facts, single, label="Scores of each seed alone")
    return folded(f"Each seed alone: {len(single)} scores", shown)


def _overview(facts: Facts) -> Markup:
    """Models down, benchmarks across: the mean, and half of its interval small behind it; the best
    of a column is bold.
    """
    scores = wording.main_means(facts)
    best: dict[str, float] = {}
    for score in scores:
        best[score.benchmark] = max(score.mean, best.get(score.benchmark, score.mean))

    def cell(score: Score) -> Markup:
        mean, half = half_text(score).split("±")
        is_best = score.mean == best[score.benchmark]
        return piece("halved", mean, half, is_best, _score_words(score))

    grid = score_grid(scores, cell)
    note = (
        "pass@1 in percent; ± is half of the 95 % interval, the exact bounds show on "
        "hovering. Bold: the highest, which need not be better."
    )
    numbers = range(1, len(grid.headers))
    shown = table(grid.headers, grid.rows, numbers=numbers, label="Models by benchmark")
    return shown + note_line(note)


def _score_words(score: Score) -> str:
    """All that a picture says of a score."""
    size = f"n={score.n}, k={score.k}"
    return f"{score.model} on {score.benchmark}: {score_text(score)} %, {size}"


def _score_forest(
    scores: Sequence[Score], benchmark: str, *, start: float = 0, end: float = 1
) -> Markup:
    """pass@1 of each model with its interval."""
    rows: list[Estimate] = []
    for score in scores:
        if score.metric == "pass@1":
            bounds = (score.mean, score.low, score.high)
            words = _score_words(score)
            rows.append(Estimate(score.model, *bounds, shown=score_text(score), words=words))
    if not rows:
        return Markup("")
    label = f"pass@1 of each model on {benchmark} with its 95 % interval"
    picture = forest(rows, start=start, end=end, label=label)
    return piece("figure", picture, (), f"{benchmark}: pass@1 in percent, with 95 % intervals.")


def _score_table(
    facts: Facts, scores: Sequence[Score], *, label: str, hidden: Collection[str] = ()
) -> Markup:
    """Their rows with a picture of the outcomes, without what is `hidden` and without metrics that
    none of them has.
    """
    scores = [score for score in scores if score.metric == "pass@1"]
    content = wording.scores_table(facts, scores)
    headers = [metric_header(name) for name in wording.metrics(facts)[1:]]
    blank = [header for header in headers if not any(content.column(header))]
    shares = [share_header(name) for name in wording.outcome_names(facts)]
    content = content.without({*hidden, *blank, *shares})
    stacks: list[Markup] = []
    for score in scores:
        shares = wording.outcome_shares(facts, score)
        names = [name for name in wording.outcome_names(facts) if shares.get(name)]
        stacks.append(_outcomes({name: shares[name] for name in names}))
    return plain(content, Pictures("95 % interval", "outcomes", stacks), label=label)


def _outcomes(shares: dict[str, float]) -> Markup:
    if not shares:
        return Markup("unknown")
    return stack(shares, is_share=True)


def _bootstrap(facts: Facts) -> Markup:
    if not facts.bootstrap:
        return Markup("")
    rows: list[tuple[str, ...]] = []
    for row in facts.bootstrap:
        rows.append((row.model, row.benchmark, interval(row), row.method))
    title = "The same intervals by another road: hierarchical bootstrap"
    headers = ("model", "benchmark", "95 % interval", "method")
    return folded(title, table(headers, rows, numbers={2}, label="Bootstrap intervals"))


# ---- differences ---------------------------------------------------------------------------------


def differences_section(facts: Facts) -> Markup:
    if not facts.main_differences:
        return Markup("")
    shown = _differences(facts.main_differences, "Differences")
    if len(facts.main_differences) > _MOST_DIFFERENCES:
        shown = folded(_counted(facts.main_differences), shown)
    if facts.single_differences:
        title = f"Each seed alone: {_counted(facts.single_differences)}"
        shown += folded(title, _differences(facts.single_differences, "Differences of seeds"))
    return note_line(wording.DIFFERENCES_NOTE) + shown


def _differences(rows: Sequence[Difference], label: str) -> Markup:
    """A forest plot for each benchmark, all on one scale, and the table."""
    reach = 0.05
    for row in rows:
        reach = max(reach, abs(row.low), abs(row.high))
    figures: list[Markup] = []
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        estimates = [_estimate(row) for row in rows if row.benchmark == benchmark]
        name = f"{label} on {benchmark} with their 95 % intervals"
        picture = forest(estimates, start=-reach, end=reach, zero=True, label=name)
        caption = (
            f"{benchmark}: model against baseline, paired, in points. Right of the line the model "
            "is ahead; an interval that crosses it leaves open who is."
        )
        figures.append(piece("figure", picture, (), caption))
    return piece("side_by_side", figures) + plain(difference_table(rows), label=label)


def _estimate(row: Difference) -> Estimate:
    words = (
        f"{row.model} against {row.baseline} on {row.benchmark}: {gap_text(row)}, "
        f"{row.word}, p (Holm) {p_value(row.p_adjusted)}, n={row.n}, k={row.k}"
    )
    return Estimate(
        name=f"{row.model} − {row.baseline}",
        mean=row.mean,
        low=row.low,
        high=row.high,
        shown=f"{points(row.mean)} {interval(row)}",
        words=words,
        tone=_TONES[row.word],
    )


def _counted(rows: Sequence[Difference]) -> str:
    words = [row.word for row in rows]
    counts: list[str] = []
    for word in _TONES:
        if word in words:
            counts.append(f"{words.count(word)} {word}")
    return f"{len(words)} comparisons: {', '.join(counts)}"


# ---- methods -------------------------------------------------------------------------------------


def methods_section(facts: Facts) -> Markup:
    """Methods side by side: what each reached on each benchmark, what it cost, how large the models
    are.
    """
    if not methods.has_sizes(facts):
        return Markup("")
    parts: list[Markup] = []
    tables: list[tuple[str, list[methods.Reached], Table]] = []
    if methods.has_methods(facts):
        tables = list(methods.reached_tables(facts))
    if tables:
        parts.append(note_line(methods.METHODS_NOTE))
    for benchmark, rows, content in tables:
        parts.append(piece("heading", benchmark))
        parts.append(_reached(rows, content, benchmark))
    for name, note, content in methods.other_tables(facts):
        parts.append(piece("heading", name))
        parts.append(note_line(note))
        parts.append(plain(content, label=name))
    return joined(parts)


def _reached(rows: Sequence[methods.Reached], content: Table, benchmark: str) -> Markup:
    """The table below a picture of the intervals, on the scale that holds them."""
    scores = [row.score for row in rows]
    low = min(score.low for score in scores)
    high = max(score.high for score in scores)
    margin = (high - low) / 20 or 0.01
    start = max(0.0, low - margin)
    end = min(1.0, high + margin)
    picture = _score_forest(scores, benchmark, start=start, end=end)
    return picture + plain(content, label=f"Methods on {benchmark}")


# ---- behind the scores ---------------------------------------------------------------------------


def evidence_section(facts: Facts) -> Markup:
    parts = [*_steps(facts), *_curves(facts), *_groups(facts)]
    if facts.prompts:
        prompts = plain(evidence.prompts_table(facts), label="Under other prompts")
        note = evidence.PROMPTS_NOTE
        parts.append(folded("Under other prompts", prompts, note=note, is_open=True))
    parts.append(note_line(evidence.repeatability(facts)))
    return joined(parts)


def cascades_section(facts: Facts) -> Markup:
    """Accuracy against cost where a teacher is asked what its student's samples disagree about."""
    if not facts.cascades:
        return Markup("")
    parts = [note_line(CASCADE_NOTE)]
    for cascade in facts.cascades:
        lines = evidence.cascade_lines(cascade)
        who = f"{cascade.student} and {cascade.teacher} on {cascade.benchmark}"
        chart = line_chart(lines, across="tokens a problem", up="%", label=f"Cascade of {who}")
        parts.append(piece("heading", who))
        parts += [Markup("<p>{}</p>").format(sentence) for sentence in cascade_sentences(cascade)]
        parts.append(figure(chart, lines, f"{who}: accuracy over cost."))
        numbers = plain(cascade_table(cascade), label=f"Cascade of {who}")
        parts.append(folded("The same by threshold, as numbers", numbers))
    return joined(parts)


def _steps(facts: Facts) -> Iterator[Markup]:
    charts: list[Markup] = []
    for name in dict.fromkeys(score.benchmark for score in facts.scores):
        lines = evidence.step_lines(facts, name)
        if lines:
            label = f"Accuracy on {name} over training steps"
            chart = line_chart(lines, across="step", up="pass@1, %", label=label)
            caption = f"{name}: pass@1 by training step, with 95 % intervals."
            charts.append(figure(chart, lines, caption))
    if charts:
        yield piece("side_by_side", charts)
        numbers = plain(evidence.steps_table(facts), label="Accuracy by step")
        yield folded("Accuracy by step, as numbers", numbers)


def _curves(facts: Facts) -> Iterator[Markup]:
    """pass@k and maj@k over k, and accuracy over token budgets, benchmark by benchmark."""
    benchmarks = dict.fromkeys(score.benchmark for score in facts.own_scores)
    for place, name in enumerate(benchmarks):
        charts = [_samples_chart(facts, name), _budget_chart(facts, name)]
        charts = [chart for chart in charts if chart]
        if not charts:
            continue
        shown = piece("side_by_side", charts)
        if place >= OPEN_BENCHMARKS:
            shown = folded(f"{name}: curves", shown)
        yield shown


def _samples_chart(facts: Facts, benchmark: str) -> Markup:
    lines = evidence.samples_lines(facts, benchmark)
    label = f"pass@k and maj@k on {benchmark}"
    chart = line_chart(lines, across="samples k", up="%", label=label, powers_of_two=True)
    note = evidence.chosen_note(facts, benchmark)
    return figure(chart, lines, f"{benchmark}: pass@k, and dashed maj@k, over k.{note}")


def _budget_chart(facts: Facts, benchmark: str) -> Markup:
    lines = evidence.budget_lines(facts, benchmark)
    label = f"Accuracy on {benchmark} by token budget"
    chart = line_chart(lines, across="tokens", up="pass@1, %", label=label, powers_of_two=True)
    note = f"{evidence.chosen_note(facts, benchmark)} {evidence.BUDGET_NOTE}"
    return figure(chart, lines, f"{benchmark}: accuracy within a token budget.{note}")


def _groups(facts: Facts) -> Iterator[Markup]:
    for kind in ("overlap", "subject", "level", "difficulty"):
        for benchmark, content in evidence.parts_tables(facts, kind):
            note = ""
            if kind == "overlap":
                note = evidence.overlap_note(facts, benchmark)
            title = f"{benchmark} by {kind}"
            yield folded(title, plain(content, label=title), note=note)


def published_section(facts: Facts) -> Markup:
    content = evidence.published_table(facts)
    if not content.rows:
        return Markup("")
    shown = table(
        content.headers, content.rows, numbers={2, 4}, texts={5, 6, 7, 8}, label="Published numbers"
    )
    return note_line(evidence.PUBLISHED_NOTE) + shown
