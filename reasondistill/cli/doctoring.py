"""`doctor`: what would fail in a run, looked at before anything is paid for."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reasondistill.cli.console import (
    ClusterFile,
    PipelineFile,
    RunsDir,
    app,
    block,
    named,
    out,
    plain_table,
    print_json,
    say,
)
from reasondistill.cli.rounding import rounds_of, say_not_counted
from reasondistill.config import resources
from reasondistill.durations import duration
from reasondistill.errors import ReasonDistillError
from reasondistill.tables import counted

if TYPE_CHECKING:
    from reasondistill.checks import Finding
    from reasondistill.config import Pipeline
    from reasondistill.doctor import Examined
    from reasondistill.pipeline import Run
    from reasondistill.stages.students.batch import Batch, BatchText, Part

# Of a text so many characters are shown at each end of a part, and so many texts of a batch.
_ENDS = 240
_MOST_TEXTS = 2
# How what is learnt is marked where there are no colours.
_OPEN, _CLOSE = "⟦", "⟧"
_FILE = "file"


@app.command(
    epilog="Examples:\n\n"
    "  reasondistill doctor demo\n\n"
    "  reasondistill doctor gsm8k_sft.toml --no-weights\n\n"
    "  reasondistill doctor gsm8k_sft.toml --on single_gpu --json"
)
def doctor(
    file: PipelineFile,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key, as for `run`: traces.temperature=1.0"),
    ] = None,
    on: ClusterFile = "local",
    no_weights: Annotated[
        bool,
        typer.Option("--no-weights", help="Load no model: only what can be known without."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every check and the batch as JSON.")
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Make every check of a pipeline file and show a batch as training will see it: what is learnt
    in green, between ⟦ and ⟧. Nothing is written; exit code 2 where something is wrong.

    A dry run and a run make the same checks, but for those that read all problems or load models.
    """
    from reasondistill.checks import COSTS, all_checks
    from reasondistill.doctor import batches_in, examine

    started = time.monotonic()
    costs = list(COSTS)
    if no_weights:
        costs.remove("weights")
    examined: list[Examined] = []
    wrong_file = ""
    pipeline: Pipeline | None = None
    try:
        run = _run_of(file, set_ or [], on, runs)
        pipeline = run.pipeline
        rounds_of(run)
        for one in examine(run, costs):
            examined.append(one)
    except ReasonDistillError as error:
        wrong_file = str(error)
    seconds = time.monotonic() - started
    batches = batches_in(examined)
    shown_file = shlex.quote(file)
    if as_json:
        print_json(as_value(examined, batches, wrong_file, seconds, shown_file))
    else:
        print_batches(batches)
        print_examined(examined, wrong_file, shown_file, seconds)
        if pipeline is not None:
            say_not_counted(pipeline)
        _say_not_here(examined)
        if no_weights and examined:
            number = sum(one.cost == "weights" for one in all_checks())
            out.print(f"[dim]{number} checks that load models were not made (--no-weights).[/]")
    if wrong_file or any(one.faults for one in examined):
        raise typer.Exit(2)


def _run_of(file: str, overrides: list[str], on: str, runs: Path) -> Run:
    from reasondistill import config, pipeline

    source = resources.find("pipelines", file)
    settings = config.load_pipeline(source, overrides)
    cluster = config.load_cluster(resources.find("clusters", on))
    return pipeline.Run(settings, cluster, runs / settings.name, source)


# ---- what is printed -----------------------------------------------------------------------------


def print_examined(
    examined: Sequence[Examined], wrong_file: str, file: str, seconds: float
) -> None:
    """What was looked at, what was found, with a command for each, and how much of it."""
    _print_checks(examined)
    if wrong_file:
        out.print(f"[bold red]{_FILE}[/] {block(wrong_file)}")
    findings = list(_each_once(chain.from_iterable(one.findings for one in examined)))
    for finding in findings:
        colour = "bold red" if finding.is_fault else "yellow"
        out.print(f"[{colour}]{named(finding.check)}[/] {block(finding.text)}")
        say(f"  [dim]$ {named(_command(finding, file))}[/]")
    faults = sum(finding.is_fault for finding in findings)
    told = len(findings) - faults
    words, colour = "nothing is wrong", "green"
    if faults or wrong_file:
        words, colour = f"{faults + bool(wrong_file)} wrong", "bold red"
    if told:
        words += f", {told} better otherwise"
    made = len({one.check.name for one in examined})
    out.print(f"[{colour}]{words}[/] · {counted(made, 'check')} · {duration(seconds)}")


def _not_here(examined: Iterable[Examined]) -> list[str]:
    """Models and students that are out of reach, each once."""
    return list(dict.fromkeys(one.whose for one in examined if one.is_out_of_reach))


def _say_not_here(examined: Sequence[Examined]) -> None:
    """Name what was not looked at: that nothing was found of it means nothing."""
    missing = _not_here(examined)
    if missing:
        names = "\n".join(f"  {named(whose)}" for whose in missing)
        out.print(
            "[yellow]Not here, and the hub does not answer for them[/]: templates, tokens and "
            "weights of these were not looked at (a folder may stand in a hub id's place).\n"
            f"{names}"
        )


def _print_checks(examined: Sequence[Examined]) -> None:
    """A line for each cost: how many checks were made, and which of them found something."""
    from reasondistill.checks import COST_WORDS

    if not examined:
        return
    table = plain_table("checks", "that", "found", "time")
    for cost, words in COST_WORDS.items():
        of_cost = [one for one in examined if one.check.cost == cost]
        if not of_cost:
            continue
        names = {one.check.name for one in of_cost}
        faults = {one.check.name for one in of_cost if one.faults}
        told = {one.check.name for one in of_cost if one.findings} - faults
        found = "[green]nothing[/]"
        if faults or told:
            marked = [f"[red]{named(name)}[/]" for name in sorted(faults)]
            marked += [f"[yellow]{named(name)}[/]" for name in sorted(told)]
            found = ", ".join(marked)
        seconds = sum(one.seconds for one in of_cost)
        table.add_row(str(len(names)), named(words), found, duration(seconds))
    out.print(table)


def _each_once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Several students may have the same fault in the same words, and one that keeps several checks
    from looking is said by each; faults first.
    """
    seen: set[str] = set()
    for finding in sorted(findings, key=lambda one: not one.is_fault):
        if finding.text not in seen:
            seen.add(finding.text)
            yield finding


def _command(finding: Finding, file: str) -> str:
    # The first alone: a value behind it may have these letters.
    return finding.remedy.replace("FILE", file, 1)


def print_batches(batches: Sequence[Batch]) -> None:
    """The first texts of each batch, what is learnt of them in green."""
    for batch in batches:
        stands_in = ""
        if not batch.are_real:
            stands_in = (
                " (no examples yet: questions with their golds, and made-up reasoning where "
                "a teacher may write some, stand in for them)"
            )
        learnt = sum(text.learnt for text in batch.texts)
        tokens = sum(len(text.ids) for text in batch.texts)
        out.print(
            f"[bold]{named(batch.whose)}[/]: a batch of {len(batch.texts)} texts, {learnt:,} of "
            f"{tokens:,} tokens learnt{stands_in}"
        )
        for text in batch.texts[:_MOST_TEXTS]:
            _print_text(batch, text)
        more = len(batch.texts) - _MOST_TEXTS
        if more > 0:
            out.print(f"[dim]… and {more} more[/]")


def _print_text(batch: Batch, text: BatchText) -> None:
    pieces: list[str] = []
    for part in text.parts(batch.tokenizer):
        shown = block(_shortened(part))
        pieces.append(f"[green]{_OPEN}{shown}{_CLOSE}[/]" if part.is_learnt else f"[dim]{shown}[/]")
    if text.padding:
        pieces.append(f"[dim] + {text.padding} of padding[/]")
    out.print(f"  {''.join(pieces)}")


def _shortened(part: Part) -> str:
    if len(part.text) <= 2 * _ENDS:
        return part.text
    left_out = len(part.text) - 2 * _ENDS
    return f"{part.text[:_ENDS]} … {left_out:,} characters … {part.text[-_ENDS:]}"


# ---- as JSON -------------------------------------------------------------------------------------


def as_value(
    examined: Sequence[Examined],
    batches: Sequence[Batch],
    wrong_file: str,
    seconds: float,
    file: str,
) -> dict[str, Any]:
    """All that was looked at and found, for machines."""
    checks: list[dict[str, Any]] = []
    if wrong_file:
        found = {"fault": True, "stops": True, "text": wrong_file, "remedy": ""}
        checks.append(
            {
                "name": _FILE,
                "about": "The files can be read.",
                "cost": "files",
                "whose": "",
                "seconds": 0.0,
                "found": [found | {"remedy": "reasondistill schema pipeline"}],
            }
        )
    for one in examined:
        found_here = [
            {
                "fault": finding.is_fault,
                "stops": finding.stops,
                "text": finding.text,
                "remedy": _command(finding, file),
            }
            for finding in one.findings
        ]
        checks.append(
            {
                "name": one.check.name,
                "about": one.check.about,
                "cost": one.check.cost,
                "whose": one.whose,
                "seconds": round(one.seconds, 3),
                "found": found_here,
            }
        )
    return {
        "checks": checks,
        "batches": [_batch_value(batch) for batch in batches],
        "not_here": _not_here(examined),
        "seconds": round(seconds, 2),
    }


def _batch_value(batch: Batch) -> dict[str, Any]:
    texts: list[dict[str, Any]] = []
    for text in batch.texts:
        parts = [
            {"text": part.text, "learnt": part.is_learnt, "tokens": part.tokens}
            for part in text.parts(batch.tokenizer)
        ]
        texts.append({"parts": parts, "padding": text.padding})
    return {"whose": batch.whose, "real": batch.are_real, "texts": texts}
