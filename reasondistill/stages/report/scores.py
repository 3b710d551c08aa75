"""The page's sections about scores: the overview, each benchmark, differences, what stands behind
them, what others published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reasondistill.records import Difference, Score
from reasondistill.stages.report import evidence, methods, wording
from reasondistill.stages.report.facts import Facts
from reasondistill.stages.report.html import figure, legend, plain, stack, table, text
from reasondistill.stages.report.plots import line_chart, whisker

# Benchmarks whose curves are open from the start; the others fold.
OPEN_BENCHMARKS = 2
# From this many scores on the single ones fold and the overview stands alone.
_FOLDS = 13
_MOST_DIFFERENCES = 24


def scores_section(facts: Facts) -> str:
    if not facts.own_scores:
        return ""
    benchmarks = list(dict.fromkeys(score.benchmark for score in facts.own_scores))
    names = wording.metrics(facts)
    tables = "".join(_scores_of(facts, benchmark, names) for benchmark in benchmarks)
    if len(wording.overview_cells(facts)) >= _FOLDS:
        tables = (
            "<details><summary>Every score with its outcomes</summary><div "
            f'class="inside">{tables}</div></details>'
        )
    notes = [wording.SCORES_NOTE]
    if len(names) > 1:
        notes.append(wording.METRICS_NOTE)
    notes.append(facts.seeds.note)
    parts: list[str] = []
    if len(benchmarks) > 1:
        parts.append(_overview(facts, benchmarks))
    parts += [f'<p class="note">{text(note)}</p>' for note in notes if note]
    parts += [tables, _seeds_alone(facts, names)]
    parts += [legend(wording.outcome_names(facts)), _bootstrap(facts)]
    return "".join(parts)


def _seeds_alone(facts: Facts, names: list[str]) -> str:
    """The scores of each seed, folded."""
    found = [score for score in facts.single_scores if score.metric == "pass@1"]
    if not found:
        return ""
    return _folded(
        f"Each seed alone: {len(found)} scores",
        "",
        _score_table(facts, found, ["benchmark"], names[1:]),
    )


def _overview(facts: Facts, benchmarks: list[str]) -> str:
    """Models down, benchmarks across: the mean, and half of its interval small behind it; the best
    of a column is bold.
    """
    cells = wording.overview_cells(facts)
    best: dict[str, float] = {}
    for name in benchmarks:
        best[name] = max(score.mean for (_, where), score in cells.items() if where == name)

    def cell(model: str, name: str) -> str:
        score = cells.get((model, name))
        if score is None:
            return ""
        mean = wording.percent(score.mean)
        shown = mean
        if score.mean == best[name]:
            shown = f"<b>{mean}</b>"
        title = (
            f"{model} on {name}: {mean} {wording.interval(score.low, score.high)}, "
            f"n={score.n}, k={score.k}"
        )
        half = wording.percent((score.high - score.low) / 2)
        return f'<span title="{text(title)}">{shown}<small>±{half}</small></span>'

    models = list(dict.fromkeys(model for model, _ in cells))
    rows = [[text(model), *(cell(model, name) for name in benchmarks)] for model in models]
    note = (
        "pass@1 in percent; ± is half of the 95 % interval, the exact bounds show on "
        "hovering. Bold: the highest, which need not be better."
    )
    grid = table(("model", *benchmarks), rows, numbers=set(range(1, len(benchmarks) + 1)))
    return f'<div class="tight">{grid}</div><p class="note">{text(note)}</p>'


def _scores_of(facts: Facts, benchmark: str, names: list[str]) -> str:
    found = [
        score
        for score in facts.main_scores
        if score.benchmark == benchmark and score.metric == "pass@1"
    ]
    measured = {score.metric for score in facts.main_scores if score.benchmark == benchmark}
    others = [name for name in names[1:] if name in measured]
    return f"<h3>{text(benchmark)}</h3>" + _score_table(facts, found, [], others)


def _score_table(facts: Facts, scores: list[Score], also: list[str], others: list[str]) -> str:
    """One row for each score; `also` is "benchmark" where the scores are of several."""
    headers = (
        "model",
        *also,
        "%",
        "95 % interval",
        "0 … 100",
        "outcomes",
        *others,
        "n",
        "k",
        "tokens",
    )
    rows: list[list[str]] = []
    for score in scores:
        where: list[str] = []
        if also:
            where.append(score.benchmark)
        rows.append(_score_row(facts, score, others, where))
    first = 1 + len(also)
    return table(headers, rows, numbers={first, first + 1, *range(first + 4, len(headers))})


def _score_row(facts: Facts, score: Score, others: list[str], where: list[str]) -> list[str]:
    tokens = facts.mean_tokens.get(score.benchmark, {}).get(score.model)
    mean_tokens = ""
    if tokens is not None:
        mean_tokens = wording.whole(tokens)
    shares = wording.outcome_shares(facts, score)
    outcomes = {name: shares[name] for name in wording.outcome_names(facts) if shares.get(name)}
    return [
        text(score.model),
        *map(text, where),
        wording.percent(score.mean),
        wording.interval(score.low, score.high),
        whisker(score.mean, score.low, score.high, start=0, end=1, tone="s0"),
        stack(outcomes, is_share=True),
        *(text(cell) for cell in wording.also(facts, score, others)),
        wording.whole(score.n),
        str(score.k),
        mean_tokens,
    ]


def _bootstrap(facts: Facts) -> str:
    if not facts.bootstrap:
        return ""
    rows: list[list[str]] = []
    for row in facts.bootstrap:
        bounds = wording.interval(row.low, row.high)
        rows.append([text(row.model), text(row.benchmark), bounds, text(row.method)])
    found = table(("model", "benchmark", "95 % interval", "method"), rows, numbers={2})
    return (
        "<details><summary>The same intervals by another road: hierarchical "
        f"bootstrap</summary>{found}</details>"
    )


# ---- differences ---------------------------------------------------------------------------------


def differences_section(facts: Facts) -> str:
    if not facts.main_differences:
        return ""
    found = _differences(facts.main_differences)
    if len(facts.main_differences) > _MOST_DIFFERENCES:
        found = f"<details><summary>{_counted(facts.main_differences)}</summary>{found}</details>"
    if facts.single_differences:
        found += _folded(
            f"Each seed alone: {_counted(facts.single_differences)}",
            "",
            _differences(facts.single_differences),
        )
    return f'<p class="note">{text(wording.DIFFERENCES_NOTE)}</p>{found}'


def _differences(rows: Sequence[Difference]) -> str:
    reach = 0.05
    for row in rows:
        reach = max(reach, abs(row.low), abs(row.high))
    end = f"{100 * reach:.0f}"
    scale = f"{wording.MINUS}{end} … +{end}"
    headers = (
        "model",
        "",
        "against",
        "points",
        "95 % interval",
        scale,
        "benchmark",
        "p",
        "p (Holm)",
        "flips",
        "n × k",
    )
    return table(
        headers,
        [_difference_row(row, reach) for row in rows],
        numbers={3, 4, *range(7, len(headers))},
    )


def _counted(rows: Sequence[Difference]) -> str:
    words = [row.word for row in rows]
    counts = ", ".join(
        f"{words.count(word)} {word}" for word in ("better", "worse", "tied") if word in words
    )
    return f"{len(words)} comparisons: {counts}"


def _difference_row(row: Difference, reach: float) -> list[str]:
    tone = {"better": "correct", "worse": "wrong", "tied": "other"}[row.word]
    return [
        text(row.model),
        f'<span class="{row.word}">{row.word}</span>',
        text(row.baseline),
        wording.points(row.mean),
        wording.interval(row.low, row.high),
        whisker(row.mean, row.low, row.high, start=-reach, end=reach, zero=0, tone=tone),
        text(row.benchmark),
        text(wording.p_value(row.p_value)),
        text(wording.p_value(row.p_adjusted)),
        wording.flips(row),
        f"{wording.whole(row.n)} × {row.k}",
    ]


# ---- methods -------------------------------------------------------------------------------------


def methods_section(facts: Facts) -> str:
    """Methods side by side: what each reached on each benchmark, what it cost, how large the models
    are.
    """
    if not methods.has_methods(facts):
        return ""
    drawn = list(methods.reached_tables(facts))
    parts: list[str] = []
    if drawn:
        parts.append(f'<p class="note">{text(methods.METHODS_NOTE)}</p>')
    for benchmark, rows, content in drawn:
        parts.append(f"<h3>{text(benchmark)}</h3>")
        parts.append(_reached(rows, content))
    for name, note, content in (
        ("Cost", methods.COSTS_NOTE, methods.costs_table(facts)),
        ("Sizes", methods.SIZES_NOTE, methods.sizes_table(facts)),
        ("Cut out of a larger model", "", methods.shrunk_table(facts)),
    ):
        if not content.rows:
            continue
        parts.append(f"<h3>{name}</h3>")
        if note:
            parts.append(f'<p class="note">{text(note)}</p>')
        parts.append(f'<div class="tight">{plain(content)}</div>')
    return "".join(parts)


def _reached(rows: Sequence[methods.Reached], content: wording.Table) -> str:
    """The table with a picture of each interval; all on the scale that holds them."""
    low = min(row.score.low for row in rows)
    high = max(row.score.high for row in rows)
    margin = (high - low) / 20
    start, end = max(0.0, low - margin), min(1.0, high + margin)
    place = content.headers.index("95 % interval") + 1
    cells: list[list[str]] = []
    for row, words in zip(rows, content.rows, strict=True):
        score = row.score
        line = [_coloured(word) for word in words]
        line.insert(
            place, whisker(score.mean, score.low, score.high, start=start, end=end, tone="s0")
        )
        cells.append(line)
    headers = (
        *content.headers[:place],
        f"{100 * start:.0f} … {100 * end:.0f}",
        *content.headers[place:],
    )
    numbers = {
        at for at, name in enumerate(headers) if at >= content.numbers and at != place and name
    }
    return f'<div class="tight">{table(headers, cells, numbers=numbers)}</div>'


def _coloured(cell: str) -> str:
    if cell in ("better", "worse", "tied"):
        return f'<span class="{cell}">{cell}</span>'
    return text(cell)


# ---- behind the scores ---------------------------------------------------------------------------


def evidence_section(facts: Facts) -> str:
    parts = [*_steps(facts), *_curves(facts), *_groups(facts)]
    if facts.prompts:
        parts.append(
            _folded(
                "Under other prompts",
                evidence.PROMPTS_NOTE,
                plain(evidence.prompts_table(facts)),
                is_open=True,
            )
        )
    said = evidence.repeatability(facts)
    if said:
        parts.append(f'<p class="note">{text(said)}</p>')
    return "".join(parts)


def _steps(facts: Facts) -> Iterator[str]:
    benchmarks = list(dict.fromkeys(score.benchmark for score in facts.scores))
    charts: list[str] = []
    for name in benchmarks:
        lines = evidence.step_lines(facts, name)
        if lines:
            label = f"Accuracy on {name} over steps"
            chart = line_chart(lines, across="step", up="pass@1, %", label=label)
            charts.append(figure(chart, lines, f"{name}: pass@1 by step."))
    if charts:
        yield f'<div class="grid-2">{"".join(charts)}</div>' + _folded(
            "Accuracy by step, as numbers", "", plain(evidence.steps_table(facts))
        )


def _curves(facts: Facts) -> Iterator[str]:
    """pass@k and maj@k over k, and accuracy over token budgets, benchmark by benchmark."""
    for place, name in enumerate(dict.fromkeys(score.benchmark for score in facts.own_scores)):
        samples, budgets = evidence.samples_lines(facts, name), evidence.budget_lines(facts, name)
        charts: list[str] = []
        if samples:
            chart = line_chart(
                samples,
                across="samples k",
                up="%",
                label=f"pass@k and maj@k on {name}",
                powers_of_two=True,
            )
            charts.append(
                figure(
                    chart,
                    samples,
                    f"{name}: pass@k, and dashed maj@k, over k.{evidence.chosen_note(facts, name)}",
                )
            )
        if budgets:
            said = (
                f"{name}: accuracy within a token budget.{evidence.chosen_note(facts, name)} "
                f"{evidence.BUDGET_NOTE}"
            )
            chart = line_chart(
                budgets,
                across="tokens",
                up="pass@1, %",
                label=f"Accuracy on {name} by token budget",
                powers_of_two=True,
            )
            charts.append(figure(chart, budgets, said))
        if charts:
            drawn = f'<div class="grid-2">{"".join(charts)}</div>'
            if place < OPEN_BENCHMARKS:
                yield drawn
            else:
                yield _folded(f"{name}: curves", "", drawn)


def _groups(facts: Facts) -> Iterator[str]:
    for kind in ("overlap", "subject", "level"):
        for benchmark, found in evidence.parts_tables(facts, kind):
            note = ""
            if kind == "overlap":
                note = evidence.overlap_note(facts, benchmark)
            yield _folded(f"{benchmark} by {kind}", note, plain(found))


def _folded(title: str, note: str, inside: str, *, is_open: bool = False) -> str:
    said = ""
    if note:
        said = f'<p class="note">{text(note)}</p>'
    opened = ""
    if is_open:
        opened = " open"
    return (
        f"<details{opened}><summary>{text(title)}</summary><div "
        f'class="inside">{said}{inside}</div></details>'
    )


def published_section(facts: Facts) -> str:
    found = evidence.published_table(facts)
    if not found.rows:
        return ""
    rows = [[text(cell) for cell in row] for row in found.rows]
    return f'<p class="note">{text(evidence.PUBLISHED_NOTE)}</p>' + table(
        found.headers, rows, numbers={2, 4}, texts={5, 6, 7, 8}
    )
