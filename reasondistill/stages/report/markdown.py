"""Facts as Markdown: the same sentences and tables as the page, readable in a terminal or on a
forge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reasondistill.stages.report import evidence, forecast_check, methods, wording
from reasondistill.stages.report.facts import Facts, Shown, SideBySide, environments, flatten

# A text longer than this is cut here; the page and the run folder have more of it.
LONGEST_TEXT = 4_000


def render_markdown(facts: Facts, *, title: str, about: str) -> str:
    """The whole report; sections without content are left out."""
    parts = [
        f"# {inline(title)}",
        inline(about),
        *(f"**{inline(line)}**" for line in wording.headline(facts)),
    ]
    parts += [
        f"> {inline(line)}" for line in (*wording.caveats(facts), *evidence.unlike_caveat(facts))
    ]
    for name, body in _sections(facts):
        if body:
            parts += [f"## {name}", *body]
    return "\n\n".join(part for part in parts if part) + "\n"


def inline(value: object) -> str:
    """Text that stays text in a line or table cell: no tags, no table bars, no line breaks."""
    return re.sub(r"([|<>`*_\[\]\\])", r"\\\1", " ".join(str(value).split()))


def fenced(value: str) -> str:
    """A code block with a fence longer than any in the text, so nothing inside can end it."""
    body = value.strip("\n")
    if len(body) > LONGEST_TEXT:
        body = f"{body[:LONGEST_TEXT]}\n… {len(body) - LONGEST_TEXT:,} characters more"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return f"{fence}text\n{body}\n{fence}"


def table(content: wording.Table) -> str:
    """A pipe table, or nothing when it has no rows."""
    if not content.rows:
        return ""
    rule = ["---:" if place >= content.numbers else "---" for place in range(len(content.headers))]
    lines = [
        [inline(cell) for cell in content.headers],
        rule,
        *([inline(cell) for cell in row] for row in content.rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _sections(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    yield "Scores", _scores(facts) if facts.own_scores else []
    yield "Against its baselines", _differences(facts) if facts.main_differences else []
    yield "Methods", list(_methods(facts)) if methods.has_methods(facts) else []
    yield "Behind the scores", list(_evidence(facts))
    yield "Published numbers", _noted(evidence.PUBLISHED_NOTE, evidence.published_table(facts))
    yield "From problems to examples", [table(wording.funnel_table(facts))] if facts.funnel else []
    yield (
        "Training",
        [table(wording.students_table(facts)), _losses(facts)] if facts.students else [],
    )
    yield (
        "Lengths",
        [table(wording.lengths_table(facts))] if facts.trace_tokens or facts.eval_tokens else [],
    )
    yield "Time and speed", [table(wording.timings_table(facts))]
    yield "Forecast and fact", _noted(forecast_check.note(facts), forecast_check.table(facts))
    yield "Traces to read", [*map(_trace, facts.shown), *map(_side, facts.side_by_side)]
    yield "How it was made", _made(facts)


def _noted(note: str, content: wording.Table) -> list[str]:
    """A note and its table; nothing where the table has no rows."""
    if not content.rows:
        return []
    return [note, table(content)]


def _scores(facts: Facts) -> list[str]:
    notes = [
        wording.SCORES_NOTE,
        *([wording.METRICS_NOTE] if len(wording.metrics(facts)) > 1 else []),
        facts.seeds.note,
    ]
    several = len({score.benchmark for score in facts.own_scores}) > 1
    shown = [
        *notes,
        *([table(wording.overview_table(facts))] if several else []),
        table(wording.scores_table(facts)),
    ]
    if facts.single_scores:
        shown += ["### Each seed alone", table(wording.scores_table(facts, facts.single_scores))]
    return shown


def _differences(facts: Facts) -> list[str]:
    shown = [wording.DIFFERENCES_NOTE, table(wording.differences_table(facts.main_differences))]
    if facts.single_differences:
        shown += ["### Each seed alone", table(wording.differences_table(facts.single_differences))]
    return shown


def _methods(facts: Facts) -> Iterator[str]:
    tables = list(methods.reached_tables(facts))
    if tables:
        yield methods.METHODS_NOTE
    for benchmark, _, content in tables:
        yield f"### {inline(benchmark)}"
        yield table(content)
    for name, note, content in (
        ("Cost", methods.COSTS_NOTE, methods.costs_table(facts)),
        ("Sizes", methods.SIZES_NOTE, methods.sizes_table(facts)),
        ("Cut out of a larger model", "", methods.shrunk_table(facts)),
    ):
        if content.rows:
            yield "\n\n".join(part for part in (f"### {name}", note, table(content)) if part)


def _evidence(facts: Facts) -> Iterator[str]:
    for kind in ("subject", "level", "overlap"):
        for benchmark, content in evidence.parts_tables(facts, kind):
            yield f"### {inline(benchmark)} by {kind}"
            if kind == "overlap":
                yield evidence.overlap_note(facts, benchmark)
            yield table(content)
    for benchmark, content in evidence.parts_tables(facts, "tokens"):
        yield f"### {inline(benchmark)} within token budgets\n\n{evidence.BUDGET_NOTE}"
        yield table(content)
    if facts.prompts:
        yield (
            f"### Under other prompts\n\n{evidence.PROMPTS_NOTE}\n\n"
            f"{table(evidence.prompts_table(facts))}"
        )
    steps = table(evidence.steps_table(facts))
    if steps:
        yield f"### During training\n\n{steps}"
    repeatability = evidence.repeatability(facts)
    if repeatability:
        yield repeatability


def _losses(facts: Facts) -> str:
    """The loss of each student at ten points of its training: a curve without a picture."""
    rows: list[tuple[str, ...]] = []
    for made in facts.students:
        lines = [line for line in made.metrics if line.get("loss") is not None]
        picked = (
            [lines[round(place * (len(lines) - 1) / 9)] for place in range(10)]
            if len(lines) >= 10
            else lines
        )
        if picked:
            rows.append((made.name, " → ".join(f"{line['loss']:.3f}" for line in picked)))
    return table(wording.Table(("student", "loss, start to end"), tuple(rows), numbers=2))


def _trace(shown: Shown) -> str:
    question = shown.problem.question if shown.problem else shown.trace.problem_id
    gold = f", gold {inline(shown.problem.answer)}" if shown.problem else ""
    return (
        f"### {inline(shown.trace.id)}: {inline(wording.label(shown.outcome))}{gold}\n\n"
        f"{inline(question)}\n\n{_written(shown)}"
    )


def _side(side: SideBySide) -> str:
    head = (
        f"### {inline(side.problem.id)}, every model; gold {inline(side.problem.answer)}\n"
        f"\n{inline(side.problem.question)}"
    )
    answers = [
        f"**{inline(model)}: {inline(wording.label(shown.outcome))}**\n\n{_written(shown)}"
        for model, shown in side.answers
    ]
    return "\n\n".join([head, *answers])


def _written(shown: Shown) -> str:
    completion, grade = shown.trace.completion, shown.grade
    because = "" if grade is None else f"{inline(grade.reason)} ({inline(grade.layer)}), "
    whole = (completion.reasoning or "") + completion.answer_text
    if completion.finish == "error":
        because += f"{inline(completion.error or 'no cause was told')}, "
    return f"{fenced(whole)}\n\n{because}{completion.tokens:,} tokens, ended by {completion.finish}"


def _made(facts: Facts) -> list[str]:
    surroundings = tuple(
        (key, value, "all" if len(values) == 1 else ", ".join(places))
        for key, values in environments(facts.stages).items()
        for value, places in values.items()
    )
    settings = tuple(
        (
            stage.place,
            stage.manifest.fingerprint,
            "; ".join(f"{key} = {value}" for key, value in flatten(stage.manifest.section)),
        )
        for stage in facts.stages
    )
    return [
        table(wording.Table(("environment", "value", "stages"), surroundings, numbers=3)),
        table(wording.Table(("stage", "fingerprint", "settings"), settings, numbers=3)),
    ]
