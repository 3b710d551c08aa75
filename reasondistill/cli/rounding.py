"""The rounds behind the first, where a pipeline file has `[rounds]`: what `run` and `resume` do
when the first one is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reasondistill.cli.console import named, out, plain_table, say
from reasondistill.cli.speaking import Speech, warn
from reasondistill.cli.starting import start

if TYPE_CHECKING:
    from reasondistill.config import Pipeline
    from reasondistill.pipeline import Run
    from reasondistill.pipeline.rounds import Rounds


def rounds_of(run: Run) -> Rounds | None:
    """The rounds of a run's file; None where it has one alone. Raises ConfigError."""
    if run.pipeline.rounds is None:
        return None
    from reasondistill.pipeline.rounds import Rounds

    return Rounds.of(run)


def say_not_counted(pipeline: Pipeline) -> None:
    """That of several rounds only the first is looked at."""
    if pipeline.rounds is not None and pipeline.rounds.count > 1:
        say(
            f"[dim]Round 1 of {pipeline.rounds.count} alone: what the others are depends on the "
            "student of the one before.[/]"
        )


def do_later_rounds(
    rounds: Rounds,
    stages: Sequence[str],
    *,
    dry_run: bool,
    wait: bool,
    trust: bool,
    speech: Speech | None = None,
) -> None:
    """Do one round after another, each when the one before is done; a dry run says what they are.

    Where jobs of a round are left that nobody waits for, it says how the next one comes, with
    --quiet too.
    """
    from reasondistill.launch.exclusive import only_one
    from reasondistill.pipeline.rounds import take_over

    speech = speech or Speech("resume", quiet=False, as_json=False)
    if dry_run:
        with speech.last():
            print_rounds(rounds)
        return
    before = rounds.first
    if set(stages) != set(before.stages):
        warn(
            f"[yellow]Round 1 of {rounds.settings.count} alone:[/] not all of its stages were "
            "asked for. The command without --only, --from and --until does the others."
        )
        return
    for number in rounds.numbers:
        if not is_over(before):
            warn(
                f"Round {number} of {rounds.settings.count} begins when all of "
                f"{named(before.folder)} is done: give the same command again then, or with --wait."
            )
            return
        # First, for a link is refused there.
        following = rounds.after(before, number)
        with only_one(following.folder):
            take_over(rounds.first, before, following)
        say(f"\n[bold]Round {number} of {rounds.settings.count}[/] → {named(following.folder)}")
        start(following, list(stages), wait=wait, trust=trust, speech=speech)
        before = following


def is_over(run: Run) -> bool:
    """Whether nothing is left to do in a run; one whose launcher ends with its command is over."""
    from reasondistill import pipeline
    from reasondistill.launch.launcher import launcher_of

    launcher = launcher_of(run)
    if not launcher.is_detached:
        return True
    if launcher.unfinished():
        return False
    shares = launcher.shares_engine_process()
    tasks = pipeline.plan(run, run.stages, share_engine_process=shares)
    return not pipeline.remaining(run, tasks)


def print_rounds(rounds: Rounds) -> None:
    """What each later round takes over, draws and trains, and how far it is."""
    from reasondistill.pipeline.foreseeing import is_complete
    from reasondistill.pipeline.rounds import name_of

    table = plain_table("round", "folder", "state", "takes over", "draws", "trains")
    student = rounds.student.name
    for number in rounds.numbers:
        folder = rounds.folder(number)
        run = replace(rounds.first, folder=folder)
        state = "new"
        if run.layout.state.exists():
            state = "partial"
            if is_complete(run.stage("report")):
                state = "complete"
        draws = f"{rounds.settings.n} for each problem by {name_of(student, number - 1)}"
        cells = (folder.name, state, "problems, traces, verdicts of round 1", draws, student)
        table.add_row(str(number), *map(named, cells))
    out.print(table)
    say("[dim]What later rounds cost is not counted here: their writers are not trained yet.[/]")
