"""Facts as one HTML page: inline style, inline SVG, no network (its own content policy forbids it),
light and dark, phone to desktop, screen and paper.

What a model, a dataset or a user wrote goes as text into templates/, where everything is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reasondistill.durations import duration
from reasondistill.records import OUTCOMES
from reasondistill.runs import layout
from reasondistill.runs.metrics import TrainingLine
from reasondistill.runs.missing import LOST, REFUSED
from reasondistill.stages.report import evidence, forecast_check, wording
from reasondistill.stages.report.browser.page import KATEX, script_of, sums_of
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
    figure,
    folded,
    joined,
    note_line,
    piece,
    plain,
    stack,
    table,
    tone,
)
from reasondistill.stages.report.look import SCRIPT, STYLE
from reasondistill.stages.report.plots import Line, histogram, line_chart
from reasondistill.stages.report.rendering import macro, render
from reasondistill.stages.report.scores import (
    cascades_section,
    differences_section,
    evidence_section,
    methods_section,
    published_section,
    scores_section,
)
from reasondistill.tables import MINUS, whole

# Benchmarks whose lengths and matrices are open from the start; the others fold.
OPEN_BENCHMARKS = 2
# The verdicts are coloured, the numbers unbroken.
_WORDS = re.compile(
    r"(?P<verdict>\b(?:better|worse|tied)(?= (?:than|with) ))"
    rf"|\[[{MINUS}\d., ]+\]|[+{MINUS}]\d+\.\d points|\d+\.\d %"
)


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading."""

    key: str
    name: str
    body: Markup


def render_page(facts: Facts, *, title: str, about: str) -> str:
    """The whole page. Sections without content are left out, from the navigation too."""
    katex = ""
    if facts.has_browser:
        katex = f"{layout.BROWSER}/{KATEX}"  # for formulas; the page is whole without it
    page = render(
        layout.REPORT_PAGE,
        policy=_policy(),
        title=title,
        about=about,
        style=Markup(STYLE),
        script=Markup(_script()),
        katex=katex,
        headline=[list(_pieces(line)) for line in wording.findings(facts)],
        faults=wording.faults(facts),
        caveats=[*wording.caveats(facts), *evidence.unlike_caveat(facts)],
        sections=[section for section in _sections(facts) if section.body.strip()],
        run=facts.run,
    )
    return str(page)


def _script() -> str:
    return script_of("formulas") + SCRIPT


def _policy() -> str:
    """Nothing is sent, and no style or script is taken but ours and what that loads, whatever a
    trace contains.
    """
    return (
        f"default-src 'none'; style-src {sums_of([STYLE])}; font-src data:; "
        f"script-src {sums_of([_script()])} 'strict-dynamic'; base-uri 'none'; form-action 'none'"
    )


def _pieces(sentence: str) -> Iterator[tuple[str, str]]:
    """The sentence in pieces, each with its class."""
    at = 0
    for found in _WORDS.finditer(sentence):
        yield "", sentence[at : found.start()]
        yield found["verdict"] or "unbroken", found[0]
        at = found.end()
    yield "", sentence[at:]


def _sections(facts: Facts) -> Iterator[Section]:
    yield Section("scores", "Scores", scores_section(facts))
    yield Section("differences", "Against its baselines", differences_section(facts))
    yield Section("methods", "Methods", methods_section(facts))
    yield Section("cascades", "Student first, then its teacher", cascades_section(facts))
    yield Section("evidence", "Behind the scores", evidence_section(facts))
    yield Section("published", "Published numbers", published_section(facts))
    yield Section("funnel", "From problems to examples", _funnel(facts))
    yield Section("leaks", "Questions of benchmarks", _leaks(facts))
    yield Section("suspects", "Golds under suspicion", _suspects(facts))
    yield Section("training", "Training", _training(facts))
    yield Section("lengths", "Lengths", _lengths(facts))
    yield Section("timings", "Time and speed", _timings(facts))
    yield Section("forecast", "Forecast and fact", _forecast(facts))
    yield Section("read", "Traces to read", _read(facts))
    yield Section("made", "How it was made", _students(facts))


# ---- the funnel ----------------------------------------------------------------------------------


def _funnel(facts: Facts) -> Markup:
    if not facts.funnel:
        return Markup("")
    parts = [macro("sections.html", "funnel", [_step(step) for step in facts.funnel])]
    tables = {
        "Sources of problems": wording.sources_table(facts),
        "Mixture of examples": wording.mixture_table(facts),
        "Writers of examples": wording.writers_table(facts),
    }
    parts += [plain(content, label=label) for label, content in tables.items() if content.rows]
    return joined(parts)


def _step(step: FunnelStep) -> dict[str, object]:
    parts = dict(step.parts) or {"out": step.came_out}
    dropped = sum(step.dropped.values())
    if dropped:
        parts[step.verb] = dropped
    return {
        "name": wording.STEP_NAMES[step.step],
        "bar": stack(parts, is_share=False),
        "came_in": wording.count_text(step.came_in),
        "came_out": whole(step.came_out),
        "signs": [(_swatch(line), line) for line in wording.funnel_words(step)],
    }


def _swatch(line: str) -> str:
    """The colour that the bar has for this line: `1,204 no answer` is the no_answer one."""
    name = line.partition(" ")[2]
    outcome = name.replace(" ", "_")
    if ": " in name:
        outcome = "dropped"
    return tone(outcome)


def _leaks(facts: Facts) -> Markup:
    found = wording.leaks_table(facts)
    if not found.rows:
        return Markup("")
    return note_line(wording.LEAKS_NOTE) + plain(found, label="Questions of benchmarks")


def _suspects(facts: Facts) -> Markup:
    if not facts.suspects:
        return Markup("")
    note = note_line(wording.suspects_note(facts))
    return note + plain(wording.suspects_table(facts), label="Golds under suspicion")


# ---- training ------------------------------------------------------------------------------------


def _training(facts: Facts) -> Markup:
    if not facts.students:
        return Markup("")
    table = plain(wording.students_table(facts), label="Students")
    if facts.seeds.members:
        table = folded(f"Every student: {len(facts.students)}", table)
    return _curves(facts) + table


def _curves(facts: Facts) -> Markup:
    lines: list[Line] = []
    rates: list[Line] = []
    known: list[Line] = []
    trained = [student for student in facts.students if has_losses(student)]
    trained = [student for student in trained if not facts.is_later_seed(student.name)]
    for colour, student in enumerate(trained):
        on_validation = f"{student.name} (validation)"
        losses = _points(student, lambda line: line.loss)
        validation_losses = _points(student, lambda line: line.validation_loss)
        lines.append(Line(student.name, losses, colour))
        lines.append(Line(on_validation, validation_losses, colour, dashed=True))
        rates.append(Line(student.name, _points(student, lambda line: line.learning_rate), colour))
        known.append(Line(student.name, _points(student, _likeliest), colour))
    if not trained:
        return Markup("")
    caption = "Loss by step; dashed on the validation split."
    if facts.seeds.members:
        caption += " The first seed of each student."
    chart = line_chart(lines, across="step", up="loss", label="Loss over steps")
    figures = [figure(chart, lines, caption)]
    label = "Likeliest tokens over steps"
    chart = line_chart(known, across="step", up="likeliest tokens, %", label=label)
    caption = (
        "The traces' tokens that were the student's likeliest; near 100 it knows them by heart."
    )
    figures.append(figure(chart, known, caption))
    label = "Learning rate over steps"
    chart = line_chart(rates, across="step", up="learning rate", label=label)
    figures.append(figure(chart, rates, "Learning rate by step."))
    return piece("side_by_side", figures)


def _likeliest(line: TrainingLine) -> float | None:
    if line.accuracy is None:
        return None
    return 100 * line.accuracy


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


def _lengths(facts: Facts) -> Markup:
    outcomes = {name: (tokens, tone(name)) for name, tokens in facts.trace_tokens.items()}
    figures = [_histograms("Teacher traces by outcome", outcomes)]
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in facts.eval_tokens))
    for benchmark in benchmarks[:OPEN_BENCHMARKS]:
        models: dict[str, tuple[Sequence[int], str]] = {}
        for (where, model), tokens in facts.eval_tokens.items():
            if where == benchmark:
                colour = len(models) % 6
                models[model] = (tokens, f"s{colour}")
        figures.append(_histograms(f"Answers on {benchmark} by model", models))
    figures = [figure for figure in figures if figure]
    if not figures:
        return Markup("")
    numbers = plain(wording.lengths_table(facts), label="Lengths")
    return piece("side_by_side", figures) + folded("Medians and longest, as numbers", numbers)


def _histograms(caption: str, groups: Mapping[str, tuple[Sequence[int], str]]) -> Markup:
    groups = {name: group for name, group in groups.items() if len(group[0])}
    if not groups:
        return Markup("")
    end = max(max(tokens) for tokens, _ in groups.values()) + 1
    last = list(groups)[-1]
    rows: list[dict[str, object]] = []
    for name, (tokens, colour) in groups.items():
        picture = histogram(
            tokens,
            start=0,
            end=end,
            tone=colour,
            label=f"Tokens per answer: {name}",
            is_last=name == last,
        )
        row: dict[str, object] = {"name": wording.label(name), "picture": picture}
        rows.append(row | {"count": whole(len(tokens))})
    return macro("sections.html", "lengths", rows, caption)


def _timings(facts: Facts) -> Markup:
    rows = wording.timings(facts)
    if not rows:
        return Markup("")
    known = [row.seconds for row in rows if row.seconds is not None]
    longest = max(known, default=0) or 1
    cells: list[list[str]] = []
    for row in rows:
        time, *counts = wording.timing_cells(row)
        meter = Markup("")
        if row.seconds is not None:
            meter = piece("meter", 100 * row.seconds / longest, f"{row.name}: {time}")
        cells.append([row.name, time, meter, *counts])
    together = "in all stages together"
    if len(known) < len(rows):
        together = "in all stages together whose time is known"
    note = f"{duration(sum(known))} {together}. {wording.costs(facts)}".rstrip()
    headers = ("stage", "time", "of the longest", "in", "out", "tokens/s")
    shown = table(headers, cells, numbers={1, 3, 4, 5}, label="Time of each stage")
    return note_line(note) + shown


def _forecast(facts: Facts) -> Markup:
    table = forecast_check.table(facts)
    note = note_line(forecast_check.note(facts))
    if not table.rows:
        return Markup("")
    return note + plain(table, label="Forecast and fact")


# ---- reading -------------------------------------------------------------------------------------


def _read(facts: Facts) -> Markup:
    if not facts.shown and not facts.side_by_side:
        return Markup("")
    outcomes = {shown.outcome for shown in facts.shown}
    for side in facts.side_by_side:
        outcomes.update(answer.outcome for _, answer in side.answers)
    options: list[tuple[str, str]] = []
    for outcome in (*OUTCOMES, REFUSED, LOST, NOT_GRADED):
        if outcome in outcomes:
            options.append((outcome, wording.label(outcome)))
    parts = [_all_traces(facts), macro("sections.html", "tools", options)]
    if facts.shown:
        parts.append(piece("heading", "Traces of the teacher"))
        parts += [_trace(shown) for shown in facts.shown]
    if facts.side_by_side:
        parts.append(piece("heading", "The same problem, every model"))
        parts += [_side(side) for side in facts.side_by_side]
    return joined(parts)


def _all_traces(facts: Facts) -> Markup:
    """How many of the run's traces stand on this page, and where all of them are."""
    page = ""
    if facts.has_browser:
        page = f"{layout.BROWSER}/{layout.BROWSER_PAGE}"
    more = "All of them, with search and filters"
    return piece("links", wording.shown_of_all(facts), page, more)


def _trace(shown: Shown) -> Markup:
    question, gold = shown.trace.problem_id, None
    if shown.problem is not None:
        question, gold = shown.problem.question, shown.problem.answer
    written = {"parts": list(_parts(shown)), "facts": _verdict(shown, gold)}
    inside = macro("sections.html", "one_trace", question.strip("\n"), written)
    return _foldable([shown.outcome], [_badge(shown.outcome)], question, inside)


def _side(side: SideBySide) -> Markup:
    answers: list[dict[str, object]] = []
    badges: list[tuple[str, str]] = []
    for model, shown in side.answers:
        badges.append(_badge(shown.outcome, model))
        outcome_tone, label = _badge(shown.outcome)
        answer: dict[str, object] = {"model": model, "tone": outcome_tone, "label": label}
        answer |= {"parts": list(_parts(shown)), "facts": _verdict(shown, None)}
        answers.append(answer)
    problem = side.problem
    facts = {"gold answer": problem.answer, "problem": problem.id, "benchmark": side.benchmark}
    inside = macro("sections.html", "side", problem.question.strip("\n"), facts, answers)
    outcomes = [shown.outcome for _, shown in side.answers]
    return _foldable(outcomes, badges, problem.question, inside)


def _foldable(
    outcomes: Iterable[str], badges: list[tuple[str, str]], question: str, inside: Markup
) -> Markup:
    """What the search box looks through."""
    names = " ".join(sorted(set(outcomes)))
    return macro("sections.html", "foldable", names, badges, _first_line(question), inside)


def _badge(outcome: str, of: str | None = None) -> tuple[str, str]:
    """The tone of an outcome, and its words."""
    label = wording.label(outcome)
    if of is not None:
        label = f"{of}: {label}"
    return tone(outcome), label


def _parts(shown: Shown) -> Iterator[tuple[str, str]]:
    """What was written, by its name."""
    completion = shown.trace.completion
    if completion.reasoning:
        name = "Reasoning"
        if completion.think == "open":
            name = "Reasoning, never closed"
        yield name, completion.reasoning.strip("\n")
    if completion.answer_text.strip():
        yield "Answer", completion.answer_text.strip("\n")
    if completion.finish == "error":
        yield "Failed", (completion.error or "no cause was told").strip("\n")


def _verdict(shown: Shown, gold: str | None) -> dict[str, object]:
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
    return facts


def _first_line(question: str) -> str:
    line = " ".join(question.split())
    if len(line) <= 150:
        return line
    return line[:149] + "…"


# ---- how it was made -----------------------------------------------------------------------------


def _students(facts: Facts) -> Markup:
    if not facts.stages:
        return Markup("")
    surroundings: list[list[str]] = []
    for key, values in environments(facts.stages).items():
        for value, places in values.items():
            stages = ", ".join(places)
            if len(values) == 1:
                stages = "all"
            surroundings.append([key, value, stages])
    parts: list[Markup] = []
    if surroundings:
        headers = ("environment", "value", "stages")
        parts.append(table(headers, surroundings, texts={1, 2}, label="Environment"))
    parts.append(_example(facts))
    parts += [_settings(facts, stage.place) for stage in facts.stages]
    return joined(parts)


def _example(facts: Facts) -> Markup:
    if facts.example is None:
        return Markup("")
    turns = [(message.role, message.content.strip("\n")) for message in facts.example.messages]
    title = f"One training example as the student sees it ({facts.example.id})"
    return folded(title, macro("sections.html", "turns", turns))


def _settings(facts: Facts, place: str) -> Markup:
    """One stage: fingerprints, settings, inputs. Students show what training cost."""
    manifest = facts.stage(place)
    if manifest is None:
        return Markup("")
    shown = dict(flatten(manifest.section))
    for key, value in manifest.identity.get("inputs", {}).items():
        shown[f"input: {key}"] = value
    if not place.startswith(STUDENTS):
        for key, value in flatten(manifest.figures):
            shown[f"figure: {key}"] = value
    version = manifest.identity.get("version", "unknown")
    about = f"{manifest.fingerprint}, {manifest.status}, version {version}"
    return macro("sections.html", "stage", place, about, shown)
