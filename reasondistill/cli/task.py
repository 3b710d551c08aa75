"""`task`: the process that does one task of a run; launchers call it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from reasondistill.cli.console import app, log_lines, refused_by_disk
from reasondistill.errors import (
    DataError,
    ElsewhereError,
    Interrupted,
    ReasonDistillError,
    StageError,
    StorageError,
    is_panic,
)
from reasondistill.foreign_text import write_as_is
from reasondistill.interpreter import safe_environment
from reasondistill.runs.store import write_json


@app.command(name="task", hidden=True)
def task_command(
    folder: str,
    stage: str,
    units: Annotated[list[str] | None, typer.Argument()] = None,
    share: Annotated[
        str | None, typer.Option(help="open:OF, work:NUMBER:OF or close:OF, of several workers.")
    ] = None,
) -> None:
    """Do one task of a run's folder; launchers call this. Several processes may train a student
    together: the first one speaks.
    """
    from reasondistill import pipeline
    from reasondistill.launch.noise import quiet_libraries
    from reasondistill.launch.process_group import Leash
    from reasondistill.launch.reporting import CHANNEL, ERROR_FILE
    from reasondistill.launch.task_process import die_with_parent, do_together
    from reasondistill.launch.training import is_shared
    from reasondistill.runs import remote, seals
    from reasondistill.runs.store import StopSignal
    from reasondistill.runs.work_sharing import parsed
    from reasondistill.stages.students import processes

    processes.forget_other_launchers()
    # What a task starts, an engine's processes, is started as it was.
    os.environ.update(safe_environment(os.environ))
    quiet_libraries(os.environ)
    seals.make_key_where_none_is(False)
    error_file = os.environ.get(ERROR_FILE)
    if processes.world_size() > 1:
        die_with_parent()
    if processes.is_first():
        log_lines(word=os.environ.get(CHANNEL))
    else:
        log_lines(f"process {processes.rank()}: ")
    # The command that has started the task has named the files that hide shipped ones.
    logging.getLogger("reasondistill.config.resources").setLevel(logging.ERROR)
    parts = tuple(units or ())
    place = Path(folder, pipeline.FOLDERS.get(stage, stage))
    if stage == "students":
        place = place.joinpath(*parts)
    with Leash(), reported_errors(error_file, place), StopSignal() as stop:
        task = pipeline.Task(stage, parts)
        if share:
            task = pipeline.Task(stage, parts, share=parsed(share))

        def is_needed(name: str) -> bool:
            return pipeline.is_needed(task, name)

        with remote.lent(folder, is_needed) as here:
            # The command that started the task has looked at what the run would execute.
            run = pipeline.load_run(here, trust=True)
            if processes.world_size() == 1 and is_shared(run, task):
                do_together(run, task, stop)
            else:
                pipeline.run_task(run, task, stop)
    if stage in _SAMPLING and CHANNEL in os.environ:
        end_at_once()


# A training's trackers finish their runs when the interpreter ends.
_SAMPLING = ("traces", "verdicts", "evals")


def end_at_once() -> NoReturn:
    """End this process without taking the interpreter apart, which with the modules of an engine
    takes as long as a fifth of importing them. All is closed, written and said.
    """
    logging.shutdown()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def reported_errors(error_file: str | None, place: Path) -> Generator[None]:
    """Send a user's error to the launcher, as one message or into a file; exit as the launcher
    would.

    What a disk refused, in whatever library's words, is such an error, and so is want of memory;
    `place` is where the task writes, for words that name no file. Of several processes one that
    fails in a way that nobody expected says so too: what starts them only tells that one is gone.
    """
    from reasondistill.stages.students import processes

    try:
        yield
    except ReasonDistillError as error:
        # The error of another process is that process's to report.
        is_own = not isinstance(error, Interrupted | ElsewhereError)
        if processes.is_first() or is_own:
            report(error_file, {"kind": type(error).__name__, "message": str(error)})
        sys.exit(exit_code(error))
    except Exception as error:
        refused = refused_by_disk(error, place) or for_want_of_memory(error, place)
        if refused is not None:
            report(error_file, {"kind": type(refused).__name__, "message": str(refused)})
            sys.exit(exit_code(refused))
        if processes.world_size() > 1:
            message = processes.what_failed(error)
            report(error_file, {"kind": StageError.__name__, "message": message, "crashed": True})
        raise
    except BaseException as error:
        if not is_panic(error):
            raise
        words = f"a library gave up ({error}): a tokenizer that is no good, perhaps."
        report(error_file, {"kind": DataError.__name__, "message": words})
        sys.exit(exit_code(DataError(words)))


# Which settings lower what a stage holds; a training names its own.
_LESS_MEMORY = {
    "traces": "[vllm] max_num_seqs, max_model_len and cpu_kvcache_gib (on a GPU "
    "gpu_memory_utilization) in the cluster file, or a smaller model",
    "verdicts": "[grade] workers in the cluster file",
    "students": "[train] micro_batch_size and gradient_checkpointing in the cluster file",
}
_LESS_MEMORY["evals"] = _LESS_MEMORY["traces"]


def for_want_of_memory(error: Exception, place: Path) -> StageError | None:
    """An error that says that memory is out as one clear error; None for any other."""
    from reasondistill.runs.layout import FOLDERS
    from reasondistill.runs.memory import wanting, words_of

    cause = wanting(error)
    if cause is None:
        return None
    stage = next((name for name, folder in FOLDERS.items() if folder in place.parts), "")
    less = ""
    if stage in _LESS_MEMORY:
        less = f" Less is taken with other values of {_LESS_MEMORY[stage]}."
    return StageError(
        f"{place}: out of memory ({words_of(cause)}). What was written before is "
        f"safe.{less} End what else runs here, and give the same command."
    )


def report(error_file: str | None, error: dict[str, object]) -> None:
    """Tell the launcher of an error: its kind, its message, and whether it was a crash."""
    from reasondistill.launch.reporting import CHANNEL, message
    from reasondistill.stages.students import processes

    word = os.environ.get(CHANNEL)
    if error_file:
        path = Path(error_file)
        # The first error is the cause: the other processes lose the one that had it.
        is_late = processes.world_size() > 1 and path.exists()
        if not is_late:
            with suppress(StageError):  # the same full disk, perhaps
                write_json(path, error)
    # One write each: the lines of several processes go into one pipe.
    if word and not error_file:
        line = message(word, {"error": error})
        write_as_is(sys.stdout, f"{line}\n")
    else:
        sys.stdout.write(f"{error['kind']}: {error['message']}\n")
        sys.stdout.flush()


def exit_code(error: ReasonDistillError) -> int:
    """How the process ends: after 1, as after a crash, the task is tried again."""
    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, StorageError):
        return 1
    return 2
