"""`cascade`: what a student first, and its teacher where it disagrees, would cost and bring."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from reasondistill.cli.console import RunsDir, app, coloured, named, out, print_json, say
from reasondistill.errors import ConfigError
from reasondistill.tables import CASCADE_NOTE, cascade_sentences, cascade_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reasondistill.records import Cascade


@app.command(
    epilog="Examples:\n\n  reasondistill cascade voted/distilled voted/teacher\n\n"
    "  reasondistill cascade voted/distilled voted/teacher --samples 2 --price 10\n\n"
    "  reasondistill cascade small=voted/distilled large=voted/teacher --markdown"
)
def cascade(
    student: Annotated[
        str, typer.Argument(help="Who is asked first: RUN/MODEL or NAME=RUN/MODEL, k ≥ 2 samples.")
    ],
    teacher: Annotated[
        str, typer.Argument(help="Who is asked where the student's samples disagree.")
    ],
    benchmark: Annotated[
        str | None, typer.Option(help="Only this one; by default all that both answered.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=2, help="The first samples of the student only; by default all."),
    ] = None,
    teacher_votes: Annotated[
        int,
        typer.Option(
            "--teacher-votes", min=1, help="The teacher answers by the majority of so many samples."
        ),
    ] = 1,
    price: Annotated[
        float,
        typer.Option(help="What a token of the teacher costs, in tokens of the student."),
    ] = 1.0,
    common: Annotated[
        bool,
        typer.Option("--common", help="Where problem sets differ, take what both answered."),
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print tables and sentences in Markdown.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """A cascade from stored samples: the student's samples vote, and where too few agree the
    teacher is asked. Accuracy against cost for every threshold, beside both alone and beside random
    routing at the same cost; nothing is sampled.
    """
    from reasondistill.grading import GradingPool
    from reasondistill.stages.evals.cascading import first_samples, stored_cascades

    if not (price > 0 and math.isfinite(price)):
        raise ConfigError(f"--price {price}: want a number above 0.")
    first, second = first_samples(student, runs, samples), first_samples(teacher, runs)
    with GradingPool() as pool:
        found = list(
            stored_cascades(
                first,
                second,
                pool,
                benchmark=benchmark,
                common=common,
                teacher_votes=teacher_votes,
                price=price,
            )
        )
    if as_json:
        print_json([one.model_dump() for one in found])
    elif markdown:
        print_markdown(found)
    else:
        print_cascades(found)


def print_cascades(found: Sequence[Cascade]) -> None:
    """The table and the sentences of each benchmark."""
    for one in found:
        out.print(f"[bold]{named(one.benchmark)}[/]")
        out.print(coloured(cascade_table(one).without_blanks()))
        for sentence in cascade_sentences(one):
            out.print(named(sentence))
    out.print(f"[dim]{escape(CASCADE_NOTE)}[/]")


def print_markdown(found: Sequence[Cascade]) -> None:
    """The same in Markdown."""
    from reasondistill.markdown import inline
    from reasondistill.stages.report.markdown import table

    for one in found:
        say(escape(table(cascade_table(one).without_blanks())))
        for sentence in cascade_sentences(one):
            say(f"\n{escape(inline(sentence))}")
        say("")
    say(escape(CASCADE_NOTE))
