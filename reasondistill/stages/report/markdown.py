"""Facts as Markdown: the same sentences and tables as the page, readable in a terminal or on a
forge.
"""

from __future__ import annotations

from collections.abc import Iterator

from reasondistill.bounds import MARKDOWN_VALUE
from reasondistill.foreign_text import shortened
from reasondistill.markdown import fenced, inline
from reasondistill.stages.report import evidence, forecast_check, methods, wording
from reasondistill.stages.report.facts import Facts, Shown, SideBySide, environments, flatten
from reasondistill.tables import (
    CASCADE_NOTE,
    Table,
    cascade_sentences,
    cascade_table,
    difference_table,
    score_grid,
)


def render_markdown(facts: Facts, *, title: str, about: str) -> str:
    """The whole report; sections without content are left out."""
    parts = [f"# {inline(title)}", inline(about)]
    for line in wording.headline(facts):
        parts.append(f"**{inline(line)}**")
    for line in (*wording.caveats(facts), *evidence.unlike_caveat(facts)):
        parts.append(f"> {inline(line)}")
    for name, body in _sections(facts):
        content = [part for part in body if part]
        if content:
            parts += [f"## {name}", *content]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(content: Table) -> str:
    """A pipe table, or nothing when it has no rows."""
    if not content.rows:
        return ""
    texts = min(content.numbers, len(content.headers))
    numbers = len(content.headers) - texts
    lines = [
        _pipes([inline(cell) for cell in content.headers]),
        _pipes(["---"] * texts + ["---:"] * numbers),
    ]
    for row in content.rows:
        lines.append(_pipes([inline(cell) for cell in row]))
    return "\n".join(lines)


def _pipes(cells: list[str]) -> str:
    inside = " | ".join(cells)
    return f"| {inside} |"


def _sections(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    yield "Scores", list(_scores(facts))
    yield "Against its baselines", list(_differences(facts))
    yield "Methods", list(_methods(facts))
    yield "Student first, then its teacher", list(_cascades(facts))
    yield "Behind the scores", list(_evidence(facts))
    yield "Published numbers", _noted(evidence.PUBLISHED_NOTE, evidence.published_table(facts))
    yield "From problems to examples", _funnel(facts)
    yield "Questions of benchmarks", _noted(wording.LEAKS_NOTE, wording.leaks_table(facts))
    suspects = wording.suspects_table(facts)
    yield "Golds under suspicion", _noted(wording.suspects_note(facts), suspects)
    yield "Training", [table(wording.students_table(facts)), _losses(facts)]
    yield "Lengths", [table(wording.lengths_table(facts))]
    yield "Time and speed", [table(wording.timings_table(facts)), inline(wording.costs(facts))]
    note = inline(forecast_check.note(facts))
    yield "Forecast and fact", _noted(note, forecast_check.table(facts))
    yield "Traces to read", list(_to_read(facts))
    yield "How it was made", _students(facts)


def _to_read(facts: Facts) -> Iterator[str]:
    if facts.shown or facts.side_by_side:
        yield inline(wording.shown_of_all(facts))
    yield from map(_trace, facts.shown)
    yield from map(_side, facts.side_by_side)


def _funnel(facts: Facts) -> list[str]:
    tables = [
        wording.funnel_table(facts),
        wording.sources_table(facts),
        wording.mixture_table(facts),
        wording.writers_table(facts),
    ]
    return [table(content) for content in tables if content.rows]


def _noted(note: str, content: Table) -> list[str]:
    """A note and its table; nothing where the table has no rows."""
    if not content.rows:
        return []
    return [note, table(content)]


def _scores(facts: Facts) -> Iterator[str]:
    if not facts.own_scores:
        return
    yield wording.SCORES_NOTE
    if len(wording.metrics(facts)) > 1:
        yield wording.METRICS_NOTE
    yield inline(facts.seeds.note)
    if len({score.benchmark for score in facts.own_scores}) > 1:
        yield table(score_grid(wording.main_means(facts)))
    yield table(wording.scores_table(facts))
    if facts.single_scores:
        yield "### Each seed alone"
        yield table(wording.scores_table(facts, facts.single_scores))


def _differences(facts: Facts) -> Iterator[str]:
    if not facts.main_differences:
        return
    yield wording.DIFFERENCES_NOTE
    yield table(difference_table(facts.main_differences))
    if facts.single_differences:
        yield "### Each seed alone"
        yield table(difference_table(facts.single_differences))


def _methods(facts: Facts) -> Iterator[str]:
    if not methods.has_sizes(facts):
        return
    tables: list[tuple[str, list[methods.Reached], Table]] = []
    if methods.has_methods(facts):
        tables = list(methods.reached_tables(facts))
    if tables:
        yield methods.METHODS_NOTE
    for benchmark, _, content in tables:
        yield f"### {inline(benchmark)}"
        yield table(content)
    for name, note, content in methods.other_tables(facts):
        yield f"### {name}"
        yield note
        yield table(content)


def _cascades(facts: Facts) -> Iterator[str]:
    if facts.cascades:
        yield CASCADE_NOTE
    for cascade in facts.cascades:
        for sentence in cascade_sentences(cascade):
            yield inline(sentence)
        yield table(cascade_table(cascade).without_blanks())


def _evidence(facts: Facts) -> Iterator[str]:
    for kind in ("subject", "level", "difficulty", "overlap"):
        for benchmark, content in evidence.parts_tables(facts, kind):
            yield f"### {inline(benchmark)} by {kind}"
            if kind == "overlap":
                yield inline(evidence.overlap_note(facts, benchmark))
            yield table(content)
    for benchmark, content in evidence.parts_tables(facts, "tokens"):
        yield f"### {inline(benchmark)} within token budgets"
        yield evidence.BUDGET_NOTE
        yield table(content)
    if facts.prompts:
        yield "### Under other prompts"
        yield evidence.PROMPTS_NOTE
        yield table(evidence.prompts_table(facts))
    steps = table(evidence.steps_table(facts))
    if steps:
        yield "### During training"
        yield steps
    repeatability = evidence.repeatability(facts)
    if repeatability:
        yield repeatability


def _losses(facts: Facts) -> str:
    """The loss of each student at ten points of its training: a curve without a picture."""
    rows: list[tuple[str, ...]] = []
    for student in facts.students:
        losses = [line.loss for line in student.metrics if line.loss is not None]
        shown = [f"{loss:.3f}" for loss in _ten_of(losses)]
        if shown:
            rows.append((student.name, " → ".join(shown)))
    return table(Table(("student", "loss, start to end"), tuple(rows), numbers=2))


def _ten_of(losses: list[float]) -> list[float]:
    """Ten of them, first and last too, evenly apart; all where there are fewer."""
    if len(losses) < 10:
        return losses
    step = (len(losses) - 1) / 9
    return [losses[round(place * step)] for place in range(10)]


def _trace(shown: Shown) -> str:
    outcome = inline(wording.label(shown.outcome))
    title = f"### {inline(shown.trace.id)}: {outcome}"
    question = shown.trace.problem_id
    if shown.problem is not None:
        question = shown.problem.question
        title += f", gold {inline(shown.problem.answer)}"
    return f"{title}\n\n{fenced(question)}\n\n{_written(shown)}"


def _side(side: SideBySide) -> str:
    problem = side.problem
    gold = inline(problem.answer)
    parts = [f"### {inline(problem.id)}, every model; gold {gold}", fenced(problem.question)]
    for model, shown in side.answers:
        outcome = inline(wording.label(shown.outcome))
        parts.append(f"**{inline(model)}: {outcome}**")
        parts.append(_written(shown))
    return "\n\n".join(parts)


def _written(shown: Shown) -> str:
    completion = shown.trace.completion
    facts: list[str] = []
    if shown.grade is not None:
        facts.append(f"{inline(shown.grade.reason)} ({inline(shown.grade.layer)})")
    if completion.finish == "error":
        facts.append(inline(completion.error or "no cause was told"))
    facts.append(f"{completion.tokens:,} tokens")
    facts.append(wording.ended(completion))
    whole = (completion.reasoning or "") + completion.answer_text
    return f"{fenced(whole)}\n\n{', '.join(facts)}"


def _students(facts: Facts) -> list[str]:
    surroundings: list[tuple[str, ...]] = []
    for key, values in environments(facts.stages).items():
        for value, places in values.items():
            stages = ", ".join(places)
            if len(values) == 1:
                stages = "all"
            surroundings.append((key, value, stages))
    settings: list[tuple[str, ...]] = []
    for stage in facts.stages:
        manifest = stage.manifest
        pairs: list[str] = []
        for key, value in flatten(manifest.section):
            pairs.append(f"{key} = {shortened(value, MARKDOWN_VALUE.most)}")
        settings.append((stage.place, manifest.fingerprint, "; ".join(pairs)))
    environment = Table(("environment", "value", "stages"), tuple(surroundings), numbers=3)
    sections = Table(("stage", "fingerprint", "settings"), tuple(settings), numbers=3)
    return [table(environment), table(sections)]
