"""The page's sections about scores: the overview, each benchmark, differences, their
details, published numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from reasondistill.records import Difference, Score
from reasondistill.stages.report import evidence, methods, wording
from reasondistill.stages.report.facts import Facts
from reasondistill.stages.report.html import (
    Pictures,
    figure,
    folded,
    legend,
    note_line,
    plain,
    stack,
    table,
    text,
)
from reasondistill.stages.report.plots import line_chart, whisker
from reasondistill.tables import (
    CASCADE_NOTE,
    MINUS,
    Bounds,
    Table,
    cascade_sentences,
    cascade_table,
    difference_table,
    half_text,
    interval,
    metric_header,
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


def scores_section(facts: Facts) -> str:
    if not facts.own_scores:
        return ""
    benchmarks = list(dict.fromkeys(score.benchmark for score in facts.own_scores))
    tables = ""
    for benchmark in benchmarks:
        scores = [score for score in facts.main_scores if score.benchmark == benchmark]
        tables += f"<h3>{text(benchmark)}</h3>"
        tables += _score_table(facts, scores, hidden=("benchmark",))
    if len(wording.main_means(facts)) >= _FOLDS:
        tables = folded("Every score with its outcomes", tables)
    parts: list[str] = []
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
    return "".join(parts)


def _seeds_alone(facts: Facts) -> str:
    """The scores of each seed, folded."""
    single = [score for score in facts.single_scores if score.metric == "pass@1"]
    if not single:
        return ""
    return folded(f"Each seed alone: {len(single)} scores", _score_table(facts, single))


def _overview(facts: Facts) -> str:
    """Models down, benchmarks across: the mean, and half of its interval small behind it; the best
    of a column is bold.
    """
    scores = wording.main_means(facts)
    best: dict[str, float] = {}
    for score in scores:
        best[score.benchmark] = max(score.mean, best.get(score.benchmark, score.mean))

    def cell(score: Score) -> str:
        mean, half = half_text(score).split("±")
        if score.mean == best[score.benchmark]:
            mean = f"<b>{mean}</b>"
        size = f"n={score.n}, k={score.k}"
        title = text(f"{score.model} on {score.benchmark}: {score_text(score)}, {size}")
        return f'<span title="{title}">{mean}<small>±{half}</small></span>'

    grid = score_grid(scores, cell)
    rows = [(text(model), *cells) for model, *cells in grid.rows]
    note = (
        "pass@1 in percent; ± is half of the 95 % interval, the exact bounds show on "
        "hovering. Bold: the highest, which need not be better."
    )
    shown = table(grid.headers, rows, numbers=range(1, len(grid.headers)))
    return f'<div class="tight">{shown}</div>{note_line(note)}'


def _score_table(facts: Facts, scores: Sequence[Score], hidden: Collection[str] = ()) -> str:
    """Their rows with a picture of each interval and of the outcomes, without what is `hidden` and
    without metrics that none of them has.
    """
    scores = [score for score in scores if score.metric == "pass@1"]
    content = wording.scores_table(facts, scores)
    headers = [metric_header(name) for name in wording.metrics(facts)[1:]]
    blank = [header for header in headers if not any(content.column(header))]
    shares = [share_header(name) for name in wording.outcome_names(facts)]
    content = content.without({*hidden, *blank, *shares})
    stacks: list[str] = []
    for score in scores:
        shares = wording.outcome_shares(facts, score)
        names = [name for name in wording.outcome_names(facts) if shares.get(name)]
        stacks.append(stack({name: shares[name] for name in names}, is_share=True))
    intervals = [_whisker(score, start=0, end=1) for score in scores]
    return plain(
        content,
        Pictures("95 % interval", "0 … 100", intervals),
        Pictures("0 … 100", "outcomes", stacks),
    )


def _whisker(
    row: Bounds, *, start: float, end: float, zero: float | None = None, tone: str = "s0"
) -> str:
    return whisker(row.mean, row.low, row.high, start=start, end=end, zero=zero, tone=tone)


def _bootstrap(facts: Facts) -> str:
    if not facts.bootstrap:
        return ""
    rows: list[tuple[str, ...]] = []
    for row in facts.bootstrap:
        rows.append((text(row.model), text(row.benchmark), interval(row), text(row.method)))
    shown = table(("model", "benchmark", "95 % interval", "method"), rows, numbers={2})
    title = "The same intervals by another road: hierarchical bootstrap"
    return f"<details><summary>{title}</summary>{shown}</details>"


# ---- differences ---------------------------------------------------------------------------------


def differences_section(facts: Facts) -> str:
    if not facts.main_differences:
        return ""
    shown = _differences(facts.main_differences)
    if len(facts.main_differences) > _MOST_DIFFERENCES:
        counts = _counted(facts.main_differences)
        shown = f"<details><summary>{counts}</summary>{shown}</details>"
    if facts.single_differences:
        title = f"Each seed alone: {_counted(facts.single_differences)}"
        shown += folded(title, _differences(facts.single_differences))
    return note_line(wording.DIFFERENCES_NOTE) + shown


def _differences(rows: Sequence[Difference]) -> str:
    reach = 0.05
    for row in rows:
        reach = max(reach, abs(row.low), abs(row.high))
    whiskers: list[str] = []
    for row in rows:
        tone = _TONES[row.word]
        whiskers.append(_whisker(row, start=-reach, end=reach, zero=0, tone=tone))
    end = f"{100 * reach:.0f}"
    scale = f"{MINUS}{end} … +{end}"
    return plain(difference_table(rows), Pictures("95 % interval", scale, whiskers))


def _counted(rows: Sequence[Difference]) -> str:
    words = [row.word for row in rows]
    counts: list[str] = []
    for word in _TONES:
        if word in words:
            counts.append(f"{words.count(word)} {word}")
    return f"{len(words)} comparisons: {', '.join(counts)}"


# ---- methods -------------------------------------------------------------------------------------


def methods_section(facts: Facts) -> str:
    """Methods side by side: what each reached on each benchmark, what it cost, how large the models
    are.
    """
    if not methods.has_sizes(facts):
        return ""
    parts: list[str] = []
    tables: list[tuple[str, list[methods.Reached], Table]] = []
    if methods.has_methods(facts):
        tables = list(methods.reached_tables(facts))
    if tables:
        parts.append(note_line(methods.METHODS_NOTE))
    for benchmark, rows, content in tables:
        parts.append(f"<h3>{text(benchmark)}</h3>")
        parts.append(_reached(rows, content))
    for name, note, content in methods.other_tables(facts):
        parts.append(f"<h3>{name}</h3>{note_line(note)}")
        parts.append(f'<div class="tight">{plain(content)}</div>')
    return "".join(parts)


def _reached(rows: Sequence[methods.Reached], content: Table) -> str:
    """The table with a picture of each interval; all on the scale that holds them."""
    scores = [row.score for row in rows]
    low = min(score.low for score in scores)
    high = max(score.high for score in scores)
    margin = (high - low) / 20
    start = max(0.0, low - margin)
    end = min(1.0, high + margin)
    whiskers = [_whisker(score, start=start, end=end) for score in scores]
    scale = f"{100 * start:.0f} … {100 * end:.0f}"
    shown = plain(content, Pictures("95 % interval", scale, whiskers))
    return f'<div class="tight">{shown}</div>'


# ---- behind the scores ---------------------------------------------------------------------------


def evidence_section(facts: Facts) -> str:
    parts = [*_steps(facts), *_curves(facts), *_groups(facts)]
    if facts.prompts:
        prompts = plain(evidence.prompts_table(facts))
        note = evidence.PROMPTS_NOTE
        parts.append(folded("Under other prompts", prompts, note=note, is_open=True))
    parts.append(note_line(evidence.repeatability(facts)))
    return "".join(parts)


def cascades_section(facts: Facts) -> str:
    """Accuracy against cost where a teacher is asked what its student's samples disagree about."""
    if not facts.cascades:
        return ""
    parts = [note_line(CASCADE_NOTE)]
    for cascade in facts.cascades:
        lines = evidence.cascade_lines(cascade)
        who = f"{cascade.student} and {cascade.teacher} on {cascade.benchmark}"
        chart = line_chart(lines, across="tokens a problem", up="%", label=f"Cascade of {who}")
        parts.append(f"<h3>{text(who)}</h3>")
        parts += [f"<p>{text(sentence)}</p>" for sentence in cascade_sentences(cascade)]
        parts.append(figure(chart, lines, f"{who}: accuracy over cost."))
        parts.append(folded("The same by threshold, as numbers", plain(cascade_table(cascade))))
    return "".join(parts)


def _steps(facts: Facts) -> Iterator[str]:
    charts = ""
    for name in dict.fromkeys(score.benchmark for score in facts.scores):
        lines = evidence.step_lines(facts, name)
        if lines:
            label = f"Accuracy on {name} over steps"
            chart = line_chart(lines, across="step", up="pass@1, %", label=label)
            charts += figure(chart, lines, f"{name}: pass@1 by step.")
    if charts:
        yield f'<div class="grid-2">{charts}</div>'
        yield folded("Accuracy by step, as numbers", plain(evidence.steps_table(facts)))


def _curves(facts: Facts) -> Iterator[str]:
    """pass@k and maj@k over k, and accuracy over token budgets, benchmark by benchmark."""
    benchmarks = dict.fromkeys(score.benchmark for score in facts.own_scores)
    for place, name in enumerate(benchmarks):
        charts = _samples_chart(facts, name) + _budget_chart(facts, name)
        if not charts:
            continue
        charts = f'<div class="grid-2">{charts}</div>'
        if place >= OPEN_BENCHMARKS:
            charts = folded(f"{name}: curves", charts)
        yield charts


def _samples_chart(facts: Facts, benchmark: str) -> str:
    lines = evidence.samples_lines(facts, benchmark)
    label = f"pass@k and maj@k on {benchmark}"
    chart = line_chart(lines, across="samples k", up="%", label=label, powers_of_two=True)
    note = evidence.chosen_note(facts, benchmark)
    return figure(chart, lines, f"{benchmark}: pass@k, and dashed maj@k, over k.{note}")


def _budget_chart(facts: Facts, benchmark: str) -> str:
    lines = evidence.budget_lines(facts, benchmark)
    label = f"Accuracy on {benchmark} by token budget"
    chart = line_chart(lines, across="tokens", up="pass@1, %", label=label, powers_of_two=True)
    note = f"{evidence.chosen_note(facts, benchmark)} {evidence.BUDGET_NOTE}"
    return figure(chart, lines, f"{benchmark}: accuracy within a token budget.{note}")


def _groups(facts: Facts) -> Iterator[str]:
    for kind in ("overlap", "subject", "level", "difficulty"):
        for benchmark, content in evidence.parts_tables(facts, kind):
            note = ""
            if kind == "overlap":
                note = evidence.overlap_note(facts, benchmark)
            yield folded(f"{benchmark} by {kind}", plain(content), note=note)


def published_section(facts: Facts) -> str:
    content = evidence.published_table(facts)
    if not content.rows:
        return ""
    rows: list[list[str]] = []
    for row in content.rows:
        rows.append([text(cell) for cell in row])
    shown = table(content.headers, rows, numbers={2, 4}, texts={5, 6, 7, 8})
    return note_line(evidence.PUBLISHED_NOTE) + shown
