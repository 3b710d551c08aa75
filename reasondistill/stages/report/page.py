"""Facts as one HTML page: inline style, inline SVG, no network (its own content policy forbids it),
light and dark, phone to desktop.

Every text that a model, a dataset or a user wrote passes `text()`, which escapes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from reasondistill.durations import duration
from reasondistill.records import OUTCOMES
from reasondistill.runs import layout
from reasondistill.runs.metrics import TrainingLine
from reasondistill.runs.missing import LOST, REFUSED
from reasondistill.stages.report import evidence, forecast_check, wording
from reasondistill.stages.report.browser.page import KATEX, script_of
from reasondistill.stages.report.facts import (
    NOT_GRADED,
    STUDENTS,
    Facts,
    FunnelStep,
    Shown,
    SideBySide,
    StudentFolder,
    environments,
    flatten,
)
from reasondistill.stages.report.html import (
    facts_list,
    figure,
    folded,
    plain,
    stack,
    table,
    text,
    tone,
)
from reasondistill.stages.report.look import SCRIPT, STYLE
from reasondistill.stages.report.plots import Line, histogram, line_chart
from reasondistill.stages.report.scores import (
    differences_section,
    evidence_section,
    methods_section,
    published_section,
    scores_section,
)
from reasondistill.tables import MINUS, whole

# Benchmarks whose lengths and matrices are open from the start; the others fold.
OPEN_BENCHMARKS = 2


def render_page(facts: Facts, *, title: str, about: str) -> str:
    """The whole page. Sections without content are left out, from the navigation too."""
    links = bodies = ""
    for key, name, body in _sections(facts):
        if body:
            links += f'<a href="#{key}">{name}</a>'
            heading = f'<h2 id="h-{key}">{name}</h2>'
            bodies += f'<section id="{key}" aria-labelledby="h-{key}">{heading}{body}</section>'
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">',
        f"<title>{text(title)}</title><style>{STYLE}</style></head>",
        f"<body{_katex_of(facts)}>",
        f"<header><div>{_top(facts, title, about)}</div></header>",
        f"<nav aria-label='Sections'><div>{links}</div></nav><main>{bodies}</main>",
        f"<footer>Run {text(facts.run)}. Made by reasondistill; the ",
        "same numbers stand in report.json.</footer>",
        f"<script>{_script()}</script></body></html>\n",
    ]
    return "".join(parts)


def _script() -> str:
    return script_of("formulas") + SCRIPT


def _katex_of(facts: Facts) -> str:
    """Where KaTeX lies, for formulas; this page is whole without it."""
    if not facts.has_browser:
        return ""
    return f' data-katex="{layout.BROWSER}/{KATEX}"'


def _policy() -> str:
    """Nothing is sent, and no script runs but ours and what it loads, whatever a trace contains."""
    digest = hashlib.sha256(_script().encode()).digest()
    code = base64.b64encode(digest).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; font-src data:; "
        f"script-src 'sha256-{code}' 'strict-dynamic'; "
        "base-uri 'none'; form-action 'none'"
    )


def _top(facts: Facts, title: str, about: str) -> str:
    lines = f'<h1>{text(title)}</h1><p class="about">{text(about)}</p>'
    for line in wording.headline(facts):
        lines += f'<p class="headline">{_with_words(line)}</p>'
    for line in (*wording.caveats(facts), *evidence.unlike_caveat(facts)):
        lines += f'<p class="caveat">{text(line)}</p>'
    return lines


def _with_words(sentence: str) -> str:
    """The verdicts coloured, the numbers unbroken."""
    verdict = r"\b(better|worse|tied)(?= (?:than|with) )"
    words = re.sub(verdict, r'<span class="\1">\1</span>', text(sentence))
    number = rf"\[[{MINUS}\d., ]+\]|[+{MINUS}]\d+\.\d points|\d+\.\d %"
    return re.sub(number, r'<span class="unbroken">\g<0></span>', words)


def _sections(facts: Facts) -> Iterator[tuple[str, str, str]]:
    yield "scores", "Scores", scores_section(facts)
    yield "differences", "Against its baselines", differences_section(facts)
    yield "methods", "Methods", methods_section(facts)
    yield "evidence", "Behind the scores", evidence_section(facts)
    yield "published", "Published numbers", published_section(facts)
    yield "funnel", "From problems to examples", _funnel(facts)
    yield "leaks", "Questions of benchmarks", _leaks(facts)
    yield "suspects", "Golds under suspicion", _suspects(facts)
    yield "training", "Training", _training(facts)
    yield "lengths", "Lengths", _lengths(facts)
    yield "timings", "Time and speed", _timings(facts)
    yield "forecast", "Forecast and fact", _forecast(facts)
    yield "read", "Traces to read", _read(facts)
    yield "made", "How it was made", _students(facts)


# ---- the funnel ----------------------------------------------------------------------------------


def _funnel(facts: Facts) -> str:
    if not facts.funnel:
        return ""
    steps = "".join(_step(step) for step in facts.funnel)
    figure = (
        f"<figure>{steps}<figcaption>Nothing disappears: what is not kept is written "
        "beside it with its reason.</figcaption></figure>"
    )
    tables = (
        wording.sources_table(facts),
        wording.mixture_table(facts),
        wording.writers_table(facts),
    )
    return figure + "".join(plain(table) for table in tables if table.rows)


def _step(step: FunnelStep) -> str:
    parts = dict(step.parts) or {"out": step.came_out}
    dropped = sum(step.dropped.values())
    if dropped:
        parts[step.verb] = dropped
    counts = f"{whole(step.came_in)} in, {whole(step.came_out)} out"
    bar = f'<div>{stack(parts, is_share=False)}<span class="soft">{counts}</span></div>'
    items = ""
    for line in wording.funnel_words(step):
        items += f"<li>{_swatch(line)}{text(line)}</li>"
    name = f"<strong>{text(wording.STEP_NAMES[step.step])}</strong>"
    return f'<div class="step">{name}{bar}<ul class="legend">{items}</ul></div>'


def _swatch(line: str) -> str:
    """The colour that the bar has for this line: `1,204 no answer` is the no_answer one."""
    name = line.partition(" ")[2]
    outcome = name.replace(" ", "_")
    if ": " in name:
        outcome = "dropped"
    return f'<i class="{tone(outcome)}"></i>'


def _leaks(facts: Facts) -> str:
    found = wording.leaks_table(facts)
    if not found.rows:
        return ""
    return f"<p>{text(wording.LEAKS_NOTE)}</p>{plain(found)}"


def _suspects(facts: Facts) -> str:
    if not facts.suspects:
        return ""
    note = text(wording.suspects_note(facts))
    return f"<p>{note}</p>{plain(wording.suspects_table(facts))}"


# ---- training ------------------------------------------------------------------------------------


def _training(facts: Facts) -> str:
    if not facts.students:
        return ""
    table = plain(wording.students_table(facts))
    if facts.seeds.members:
        table = f"<details><summary>Every student: {len(facts.students)}</summary>{table}</details>"
    return _curves(facts) + table


def _curves(facts: Facts) -> str:
    lines: list[Line] = []
    rates: list[Line] = []
    trained = [student for student in facts.students if has_losses(student)]
    trained = [student for student in trained if not facts.is_later_seed(student.name)]
    for colour, student in enumerate(trained):
        on_validation = f"{student.name} (validation)"
        losses = _points(student, lambda line: line.loss)
        validation_losses = _points(student, lambda line: line.validation_loss)
        lines.append(Line(student.name, losses, colour))
        lines.append(Line(on_validation, validation_losses, colour, dashed=True))
        rates.append(Line(student.name, _points(student, lambda line: line.learning_rate), colour))
    if not trained:
        return ""
    caption = "Loss by step; dashed on the validation split."
    if facts.seeds.members:
        caption += " The first seed of each student."
    chart = line_chart(lines, across="step", up="loss", label="Loss over steps")
    loss = figure(chart, lines, caption)
    label = "Learning rate over steps"
    chart = line_chart(rates, across="step", up="learning rate", label=label)
    rate = figure(chart, rates, "Learning rate by step.")
    return f'<div class="grid-2">{loss}{rate}</div>'


def has_losses(student: StudentFolder) -> bool:
    """True for a student whose training wrote a loss, on either split."""
    return any(
        line.loss is not None or line.validation_loss is not None for line in student.metrics
    )


def _points(
    student: StudentFolder, value_of: Callable[[TrainingLine], float | None]
) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for line in student.metrics:
        value = value_of(line)
        if value is not None and line.step is not None:
            points.append((float(line.step), value))
    return points


# ---- lengths and timings -------------------------------------------------------------------------


def _lengths(facts: Facts) -> str:
    outcomes = {name: (tokens, tone(name)) for name, tokens in facts.trace_tokens.items()}
    figures = _histograms("Teacher traces by outcome", outcomes)
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in facts.eval_tokens))
    for benchmark in benchmarks[:OPEN_BENCHMARKS]:
        models: dict[str, tuple[Sequence[int], str]] = {}
        for (where, model), tokens in facts.eval_tokens.items():
            if where == benchmark:
                colour = len(models) % 6
                models[model] = (tokens, f"s{colour}")
        figures += _histograms(f"Answers on {benchmark} by model", models)
    if not figures:
        return ""
    numbers = plain(wording.lengths_table(facts))
    folded_numbers = f"<details><summary>Medians and longest, as numbers</summary>{numbers}"
    return f'<div class="grid-2">{figures}</div>{folded_numbers}</details>'


def _histograms(caption: str, groups: Mapping[str, tuple[Sequence[int], str]]) -> str:
    groups = {name: group for name, group in groups.items() if len(group[0])}
    if not groups:
        return ""
    end = max(max(tokens) for tokens, _ in groups.values()) + 1
    last = list(groups)[-1]
    rows = ""
    for name, (tokens, colour) in groups.items():
        label = text(wording.label(name))
        count = whole(len(tokens))
        rows += (
            f'<div class="row-label"><span>{label}</span><span class="soft">{count}</span></div>'
        )
        rows += histogram(
            tokens,
            start=0,
            end=end,
            tone=colour,
            label=f"Tokens per answer: {name}",
            is_last=name == last,
        )
    return (
        f"<figure>{rows}<figcaption>{text(caption)}: tokens per answer; each row has its "
        "own height.</figcaption></figure>"
    )


def _timings(facts: Facts) -> str:
    rows = wording.timings(facts)
    if not rows:
        return ""
    longest = max(row.seconds for row in rows) or 1
    cells: list[list[str]] = []
    for row in rows:
        width = 100 * row.seconds / longest
        meter = f'<span class="meter" style="width:{width:.1f}%"></span>'
        speed = ""
        if row.tokens_per_s is not None:
            speed = whole(row.tokens_per_s)
        cells.append(
            [
                text(row.name),
                duration(row.seconds),
                f'<div class="meter-cell">{meter}</div>',
                whole(row.came_in),
                whole(row.came_out),
                speed,
            ]
        )
    total = duration(sum(row.seconds for row in rows))
    note = f"{total} in all stages together. {text(wording.costs(facts))}".rstrip()
    return f'<p class="note">{note}</p>' + table(
        ("stage", "time", "", "in", "out", "tokens/s"), cells, numbers={1, 3, 4, 5}
    )


def _forecast(facts: Facts) -> str:
    table = forecast_check.table(facts)
    if not table.rows:
        return ""
    note = text(forecast_check.note(facts))
    return f'<p class="note">{note}</p>{plain(table)}'


# ---- reading -------------------------------------------------------------------------------------


def _read(facts: Facts) -> str:
    if not facts.shown and not facts.side_by_side:
        return ""
    outcomes = {shown.outcome for shown in facts.shown}
    for side in facts.side_by_side:
        outcomes.update(answer.outcome for _, answer in side.answers)
    options = ""
    for outcome in (*OUTCOMES, REFUSED, LOST, NOT_GRADED):
        if outcome in outcomes:
            label = text(wording.label(outcome))
            options += f'<option value="{text(outcome)}">{label}</option>'
    tools = (
        '<div class="tools">'
        '<input type="search" id="search" placeholder="Search in questions, reasoning '
        'and answers" aria-label="Search traces">'
        '<select id="outcome" aria-label="Outcome"><option value="">every '
        f"outcome</option>{options}</select>"
        '<span class="soft" id="found" aria-live="polite"></span></div>'
    )
    parts = [_all_traces(facts), tools]
    if facts.shown:
        parts.append("<h3>Traces of the teacher</h3>")
        parts += [_trace(shown) for shown in facts.shown]
    if facts.side_by_side:
        parts.append("<h3>The same problem, every model</h3>")
        parts += [_side(side) for side in facts.side_by_side]
    return "".join(parts)


def _all_traces(facts: Facts) -> str:
    """How many of the run's traces stand on this page, and where all of them are."""
    words = text(wording.shown_of_all(facts))
    if facts.has_browser:
        page = f"{layout.BROWSER}/{layout.BROWSER_PAGE}"
        words += f' <a href="{page}">All of them, with search and filters</a>.'
    return f"<p>{words}</p>"


def _trace(shown: Shown) -> str:
    question, gold = shown.trace.problem_id, None
    if shown.problem is not None:
        question, gold = shown.problem.question, shown.problem.answer
    summary = _badge(shown.outcome) + text(_first_line(question))
    inside = _part("Question", question) + _written(shown) + _verdict(shown, gold)
    return _foldable([shown.outcome], summary, inside)


def _side(side: SideBySide) -> str:
    badges = cards = ""
    for model, shown in side.answers:
        badges += _badge(shown.outcome, model)
        head = f"<strong>{text(model)}</strong> {_badge(shown.outcome)}"
        cards += f"<div>{head}{_written(shown)}{_verdict(shown, None)}</div>"
    problem = side.problem
    facts = {"gold answer": problem.answer, "problem": problem.id, "benchmark": side.benchmark}
    inside = _part("Question", problem.question) + facts_list(facts)
    inside += f'<div class="side">{cards}</div>'
    outcomes = [shown.outcome for _, shown in side.answers]
    return _foldable(outcomes, badges + text(_first_line(problem.question)), inside)


def _foldable(outcomes: Iterable[str], summary: str, inside: str) -> str:
    """What the search box looks through; `summary` and `inside` are HTML already."""
    names = " ".join(sorted(set(outcomes)))
    head = f'<details class="trace" data-outcomes="{text(names)}"><summary>{summary}</summary>'
    return f'{head}<div class="inside">{inside}</div></details>'


def _badge(outcome: str, of: str | None = None) -> str:
    label = wording.label(outcome)
    if of is not None:
        label = f"{of}: {label}"
    return f'<span class="badge {tone(outcome)}">{text(label)}</span>'


def _written(shown: Shown) -> str:
    completion = shown.trace.completion
    parts = ""
    if completion.reasoning:
        name = "Reasoning"
        if completion.think == "open":
            name = "Reasoning, never closed"
        parts += _part(name, completion.reasoning)
    if completion.answer_text.strip():
        parts += _part("Answer", completion.answer_text)
    if completion.finish == "error":
        parts += _part("Failed", completion.error or "no cause was told")
    return parts


def _part(name: str, value: str) -> str:
    body = text(value.strip("\n"))
    return f'<div class="part">{text(name)}</div><pre>{body}</pre>'


def _verdict(shown: Shown, gold: str | None) -> str:
    completion, grade = shown.trace.completion, shown.grade
    facts: dict[str, object] = {}
    if gold is not None:
        facts["gold answer"] = gold
    if grade is not None:
        facts["extracted"] = "nothing"
        if grade.extracted is not None:
            facts["extracted"] = grade.extracted
        facts["verdict"] = wording.label(grade.outcome)
        facts["because"] = f"{grade.reason} ({grade.layer})"
    facts["trace"] = shown.trace.id
    facts["model"] = shown.trace.model
    published = shown.trace.published
    if published is not None:
        facts["published"] = f"{published.dataset}, row {published.row}"
        facts["written by"] = published.teacher or "nobody says"
    facts["tokens"] = f"{completion.tokens:,}, {wording.ended(completion)}"
    return facts_list(facts)


def _first_line(question: str) -> str:
    line = " ".join(question.split())
    if len(line) <= 150:
        return line
    return line[:149] + "…"


# ---- how it was made -----------------------------------------------------------------------------


def _students(facts: Facts) -> str:
    if not facts.stages:
        return ""
    surroundings: list[list[str]] = []
    for key, values in environments(facts.stages).items():
        for value, places in values.items():
            stages = ", ".join(places)
            if len(values) == 1:
                stages = "all"
            surroundings.append([text(key), text(value), text(stages)])
    shown = ""
    if surroundings:
        shown = table(("environment", "value", "stages"), surroundings, texts={1, 2})
    settings = "".join(_settings(facts, stage.place) for stage in facts.stages)
    return shown + _example(facts) + settings


def _example(facts: Facts) -> str:
    if facts.example is None:
        return ""
    turns = ""
    for message in facts.example.messages:
        turns += _part(message.role, message.content)
    return folded(f"One training example as the student sees it ({facts.example.id})", turns)


def _settings(facts: Facts, place: str) -> str:
    """One stage: fingerprints, settings, inputs. Students show what training cost."""
    manifest = facts.stage(place)
    if manifest is None:
        return ""
    shown = dict(flatten(manifest.section))
    for key, value in manifest.identity.get("inputs", {}).items():
        shown[f"input: {key}"] = value
    if not place.startswith(STUDENTS):
        for key, value in flatten(manifest.figures):
            shown[f"figure: {key}"] = value
    version = text(manifest.identity.get("version"))
    about = f"{text(manifest.fingerprint)}, {text(manifest.status)}, version {version}"
    head = f'<summary>{text(place)} <span class="soft">{about}</span></summary>'
    return f'<details>{head}<div class="inside">{facts_list(shown)}</div></details>'
