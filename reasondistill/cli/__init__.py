"""Arguments and printing. What is done stands in pipeline/, where it runs in launch/."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

import reasondistill
from reasondistill.cli import forecasting, grading, jobs, measuring, planning, running, schema
from reasondistill.cli.console import (
    RunsDir,
    app,
    count_text,
    err,
    log_lines,
    out,
    run_folder,
)
from reasondistill.cli.running import print_result
from reasondistill.config import resources
from reasondistill.durations import duration
from reasondistill.errors import (
    ConfigError,
    ElsewhereError,
    Interrupted,
    ReasonDistillError,
    StageError,
    Stopped,
    StorageError,
)
from reasondistill.runs.store import disk_error, write_json

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "app",
    "forecasting",
    "grading",
    "jobs",
    "main",
    "measuring",
    "planning",
    "running",
    "schema",
]


def main() -> None:
    """Do what the arguments say. A ReasonDistillError is one clear message and exit code 2, a
    requested stop 130 or 143.

    So is what a disk refuses. Every other error is a fault of ours, and crashes.
    """
    try:
        try:
            app()
        finally:
            _leave()
    except (Interrupted, Stopped) as error:
        err.print(f"[yellow]{escape(str(error))}[/]", soft_wrap=True)
        sys.exit(error.exit_code)
    except ReasonDistillError as error:
        _refuse(error)
    except Exception as error:
        told = _of_the_disk(error)
        if told is None:
            raise
        _refuse(told)


def _leave() -> None:
    """From here on a signal ends the process without a word, and it does not matter whether anybody
    reads what was printed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(error: ReasonDistillError) -> NoReturn:
    err.print(f"[bold red]{type(error).__name__}:[/] {escape(str(error))}", soft_wrap=True)
    sys.exit(2)


def _of_the_disk(error: Exception, place: Path | None = None) -> StageError | None:
    """What a disk refused, wherever that was, as one clear error; None for any other. `place`
    stands for a file that is not named.
    """
    name = getattr(error, "filename", None)
    where = Path(name) if isinstance(name, str) else place
    if where is None:
        return None
    return disk_error(error, where)


def _version(value: bool) -> None:
    if value:
        out.print(reasondistill.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


# ---- looking -------------------------------------------------------------------------------------


@app.command(epilog="Example:\n\n  reasondistill show demo")
def show(
    name: Annotated[str, typer.Argument(help="A run's name or folder.")],
    runs: RunsDir = Path("runs"),
) -> None:
    """The state of each stage of a run: counts, drops, time, what is stale, and which samples are
    missing.
    """
    from reasondistill import pipeline

    job = pipeline.load_run(run_folder(name, runs))
    table = Table("stage", "state", "in", "out", "dropped", "time", box=None, header_style="bold")
    colours = {"complete": "green", "partial": "yellow", "stale": "red", "new": "dim"}
    states = pipeline.stage_states(job)
    for row in states:
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in row.dropped.items())
        state = f"[{colours.get(row.state.split()[0], 'red')}]{escape(row.state)}[/]"
        seconds = duration(row.seconds) if row.seconds else ""
        table.add_row(
            row.name,
            state,
            count_text(row.counts.get("in")),
            count_text(row.counts.get("out")),
            escape(dropped),
            seconds,
        )
    out.print(table)
    for sentence in (sentence for row in states for sentence in row.missing):
        out.print(f"  [yellow]{escape(sentence)}[/]", soft_wrap=True)
    print_result(job, says_missing=False)


@app.command(epilog="Example:\n\n  reasondistill walk demo gsm_symbolic/seed1/12")
def walk(
    name: Annotated[str, typer.Argument(help="A run's name or folder.")],
    problem_id: Annotated[str, typer.Argument(help="A problem's id, as in problems.jsonl.")],
    runs: RunsDir = Path("runs"),
) -> None:
    """One problem through all stages: question, traces, verdicts, examples, and the evals' samples."""
    from reasondistill import pipeline

    job = pipeline.load_run(run_folder(name, runs))
    found = False
    for title, rows in pipeline.walk(job, problem_id):
        for row in rows:
            found = True
            out.print(f"[bold]{escape(title)}[/]")
            for key, value in row.items():
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                out.print(f"  [cyan]{key}[/] {escape(text)}", soft_wrap=True)
    if not found:
        raise StageError(
            f"{job.folder}: no problem {problem_id!r}. Ids stand in "
            f"{job.stage('problems')}/problems.jsonl."
        )


@app.command(name="list", epilog="Example:\n\n  reasondistill list pipelines")
def list_(
    kind: Annotated[str, typer.Argument(help="prompts, pipelines, benchmarks or clusters")],
) -> None:
    """What is at hand, with a line about each."""
    if kind not in ("prompts", "pipelines", "benchmarks", "clusters"):
        raise ConfigError(f"list {kind}: unknown. Known: prompts, pipelines, benchmarks, clusters.")
    import tomllib

    table = Table(box=None, show_header=False)
    for name, path in resources.available(kind).items():
        try:
            about = str(tomllib.loads(path.read_text(encoding="utf-8")).get("about", ""))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            about = f"not readable: {error}"
        table.add_row(f"[bold]{name}[/]", escape(about), f"[dim]{path}[/]")
    out.print(table)


@app.command(epilog="Example:\n\n  reasondistill copy gsm8k_sft mine.toml")
def copy(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a shipped pipeline, prompt, benchmark or cluster file, skypilot "
            "or kubernetes."
        ),
    ],
    to: Annotated[
        Path | None, typer.Argument(help="Where to; by default its own file name, here.")
    ] = None,
) -> None:
    """Copy a shipped file here, to change it."""
    for kind in ("pipelines", "prompts", "benchmarks", "clusters", "orchestrators"):
        if (path := resources.available(kind).get(Path(name).stem)) is not None:
            target = to or Path(path.name)
            target = target / path.name if target.is_dir() else target
            if not target.parent.is_dir():
                raise ConfigError(f"{target.parent}: no such folder.")
            if target.exists():
                raise ConfigError(f"{target}: exists already; name another file.")
            shutil.copyfile(path, target)
            out.print(f"{path} → {target}")
            return
    raise ConfigError(
        f"{name}: no shipped file of that name. See `reasondistill list pipelines` "
        "(prompts, benchmarks, clusters)."
    )


# ---- the process of one task ---------------------------------------------------------------------


@app.command(hidden=True)
def task(
    folder: str,
    stage: str,
    units: Annotated[list[str] | None, typer.Argument()] = None,
    share: Annotated[
        str | None, typer.Option(help="open:OF, work:NUMBER:OF or close:OF, of several workers.")
    ] = None,
) -> None:
    """Do one task of a run folder; launchers call this. Several processes may train a student
    together: the first one speaks.
    """
    from reasondistill import pipeline
    from reasondistill.launch.local import (
        ERROR_FILE,
        ERROR_WORD,
        KEEP_MARKS,
        MARK,
        die_with_parent,
        do_together,
    )
    from reasondistill.launch.process_group import Leash
    from reasondistill.launch.training import is_shared
    from reasondistill.runs import remote
    from reasondistill.runs.store import StopSignal
    from reasondistill.runs.work_sharing import parsed
    from reasondistill.stages.students import processes

    processes.forget_other_launchers()
    errors = os.environ.get(ERROR_FILE)
    if processes.world_size() > 1:
        die_with_parent()
    is_told = not errors or KEEP_MARKS in os.environ
    log_lines(
        f"process {processes.rank()}: " if not processes.is_first() else MARK if is_told else ""
    )
    place = Path(
        folder, pipeline.FOLDERS.get(stage, stage), *(units or () if stage == "students" else ())
    )
    with (
        Leash(),
        _reporting_errors(MARK + ERROR_WORD, Path(errors) if errors else None, place),
        StopSignal() as stop,
    ):
        asked = pipeline.Task(stage, tuple(units or ()), share=parsed(share) if share else None)
        with remote.lent(folder, lambda name: pipeline.is_needed(asked, name)) as here:
            run = pipeline.load_run(here)
            if processes.world_size() == 1 and is_shared(run, asked):
                do_together(run, asked, stop)
            else:
                pipeline.run_task(run, asked, stop)


@contextmanager
def _reporting_errors(mark: str, file: Path | None, place: Path) -> Generator[None]:
    """Send a user's error to the launcher, as one marked line or into a file; exit as the launcher
    would.

    What a disk refused, in whatever library's words, is such an error; `place` is where the task
    writes, for words that name no file. Of several processes one that fails in a way that nobody
    expected says so too: what starts them only tells that one is gone.
    """
    from reasondistill.stages.students import processes

    def tell(kind: str, message: str, *, crashed: bool = False) -> None:
        value = {"kind": kind, "message": message} | ({"crashed": True} if crashed else {})
        if file is not None and not (
            processes.world_size() > 1 and file.exists()
        ):  # the first is the cause: the others lose that process
            with suppress(StageError):  # the same full disk, perhaps
                write_json(file, value)
        # One write: the lines of several processes go into one pipe.
        sys.stdout.write(
            (mark + json.dumps(value) if file is None else f"{kind}: {message}") + "\n"
        )
        sys.stdout.flush()

    try:
        yield
    except ReasonDistillError as error:
        if processes.is_first() or not isinstance(error, Interrupted | ElsewhereError):
            tell(type(error).__name__, str(error))
        sys.exit(_exit_code(error))
    except Exception as error:
        told = _of_the_disk(error, place)
        if told is not None:
            tell(type(told).__name__, str(told))
            sys.exit(_exit_code(told))
        if processes.world_size() > 1:
            tell(StageError.__name__, processes.what_failed(error), crashed=True)
        raise


def _exit_code(error: ReasonDistillError) -> int:
    if isinstance(error, Interrupted):
        return error.exit_code
    return 1 if isinstance(error, StorageError) else 2  # 1: as after a crash, it is tried again
