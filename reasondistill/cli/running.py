"""`run`: the stages of a pipeline file, with progress on the terminal; what every run prints at its
end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reasondistill.cli.console import RunsDir, app, out
from reasondistill.config import resources
from reasondistill.durations import duration
from reasondistill.errors import DataError, StageError
from reasondistill.records import VARIANT
from reasondistill.runs.missing import REFUSED

if TYPE_CHECKING:
    from reasondistill.pipeline import Run, Task


@app.command(
    epilog="Examples:\n\n  reasondistill run pipelines/demo.toml\n\n  reasondistill run "
    "gsm8k_sft --dry-run\n\n"
    "  reasondistill run demo --set name=hot --set traces.temperature=1.0\n\n  "
    "reasondistill run demo --until examples\n\n"
    "  reasondistill run r1_distill_qwen_1_5b --on slurm --dry-run"
)
def run(
    file: Annotated[
        str,
        typer.Argument(
            help="A pipeline file, or the name of a shipped one (see `list pipelines`)."
        ),
    ],
    only: Annotated[str | None, typer.Option(help="Do this stage alone.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Begin with this stage; earlier ones must be complete."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: traces.temperature=1.0")
    ] = None,
    on: Annotated[
        str, typer.Option(help="A cluster file, or the name of one in pipelines/clusters.")
    ] = "local",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything that needs no weights, print the plan, do nothing."
        ),
    ] = False,
    keep_old: Annotated[
        bool,
        typer.Option(
            "--keep-old", help="Go on with finished stages although settings have changed since."
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="On a cluster: stay until all jobs are over.")
    ] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Run a pipeline file; what is complete is skipped, what is partial is resumed.

    On Slurm the jobs are sent and this returns: see `status`, `logs`, `cancel`, `resume`.

    Stages: problems, traces, verdicts, examples, students, evals, report.
    """
    from reasondistill import config, pipeline

    source = resources.find("pipelines", file)
    settings = config.load_pipeline(source, set_ or [])
    cluster = config.load_cluster(resources.find("clusters", on))
    stages = pipeline.select_stages(only, from_, until)
    start(
        pipeline.Run(settings, cluster, runs / settings.name, source, keep_old, tuple(stages)),
        stages,
        dry_run=dry_run,
        wait=wait,
    )


def start(job: Run, stages: list[str], *, dry_run: bool = False, wait: bool = False) -> None:
    """Check, then do these stages of a run with progress on the terminal, and print what came out.
    Raises a user's errors.
    """
    from reasondistill import doctor, pipeline
    from reasondistill.launch import local
    from reasondistill.launch.exclusive import refuse_if_busy

    doctor.check(job, reads_data=dry_run)
    is_local = job.cluster.kind == "local"
    tasks = pipeline.plan(
        job, stages, share_engine_process=is_local and local.shares_engine_process()
    )
    if dry_run:
        _print_plan(job, tasks)
        return
    about = f" · {escape(job.pipeline.about)}" if job.pipeline.about else ""
    out.print(f"[bold]{job.pipeline.name}[/]{about}", soft_wrap=True)
    refuse_if_busy(job)
    if job.folder.exists() and not os.access(job.folder, os.W_OK):
        _refuse_if_unfinished(job, tasks)
        out.print(
            f"[dim]{escape(str(job.folder))}: all is done; nothing is written here, nor "
            "could it be[/]",
            soft_wrap=True,
        )
        print_result(job)
        return
    with _stored(job):
        _launch(job, tasks, wait=wait)


def _refuse_if_unfinished(job: Run, tasks: list[Task]) -> None:
    """Raise StageError when something is left to do in a folder that cannot be written."""
    from reasondistill import pipeline

    left = pipeline.remaining(job, tasks)
    if left:
        names = ", ".join(task.label for task in left[:3]) + (
            f" and {len(left) - 3} more" if len(left) > 3 else ""
        )
        raise StageError(
            f"{job.folder}: not writable (a read-only file system, or no right to), and "
            f"this is left to do: {names}."
        )


@contextmanager
def _stored(job: Run) -> Generator[None]:
    """With `storage`: begin with what is there, and publish what this run makes."""
    from reasondistill.launch import ray_jobs
    from reasondistill.launch.local import only_one, url_of
    from reasondistill.runs.remote import Remote

    url = url_of(job)
    if url is None or (
        ray_jobs.is_far(job) and ray_jobs.INSIDE not in os.environ
    ):  # there the job does it
        yield
        return
    with only_one(job.folder), Remote(url, job.folder) as remote:
        out.print(
            f"[dim]{remote.fetch(is_first=True):,} files fetched from {escape(url)}[/]",
            soft_wrap=True,
        )
        yield


def _launch(job: Run, tasks: list[Task], *, wait: bool) -> None:
    """Do the tasks where the cluster file says."""
    from reasondistill import pipeline
    from reasondistill.cli.jobs import submit_to_ray, submit_to_slurm
    from reasondistill.launch import local

    started = time.monotonic()
    if job.cluster.kind == "slurm":
        submit_to_slurm(job, pipeline.remaining(job, tasks), wait=wait)
        if wait:
            print_result(job)
        return
    if job.cluster.kind == "ray":
        from reasondistill.launch import ray, ray_jobs

        if ray_jobs.is_far(job) and ray_jobs.INSIDE not in os.environ:
            submit_to_ray(job, wait=wait)
            return
        ray.run_tasks(job, pipeline.remaining(job, tasks), _print_line, _done_printer(job))
    else:
        local.run_tasks(job, tasks, _print_line, _done_printer(job))
    out.print(f"[dim]{duration(time.monotonic() - started)} in all[/]")
    print_result(job)


def _print_line(task: Task, line: str) -> None:
    out.print(f"  [dim]{escape(task.label)}[/] {escape(line)}", soft_wrap=True)


def _done_printer(job: Run) -> Callable[[Task, float], None]:
    """Print one line when a task ends: what went in, what came out, how long it took."""
    from reasondistill.pipeline import folder_of
    from reasondistill.runs.store import read_manifest

    def done(task: Task, seconds: float) -> None:
        is_partial = (task.stage == "evals" and task.units) or (
            task.share is not None and task.share.role != "close"
        )
        manifest = None if is_partial else read_manifest(folder_of(job, task))
        counts = (
            f"{manifest.counts.get('in', 0):,} in · {manifest.counts.get('out', 0):,} out · "
            if manifest
            else ""
        )
        dropped = "".join(
            f" · {number:,} {reason}"
            for reason, number in (manifest.dropped if manifest else {}).items()
        )
        out.print(
            f"[green]✓[/] {escape(task.label)} · "
            f"{counts}{duration(seconds)}[dim]{escape(dropped)}[/]",
            soft_wrap=True,
        )

    return done


# More rows than this are read as models × benchmarks.
_MOST_ROWS = 12


def print_result(job: Run, *, says_missing: bool = True) -> None:
    """The scores, what is missing of their samples, the differences, and where the report is."""
    report = job.layout.report
    if not report.exists():
        return
    together = _report_rows(report)
    scores = [
        row
        for row in together["scores"]
        if row["metric"] == "pass@1" and VARIANT not in row["model"]
    ]
    if scores:
        out.print(_score_rows(scores) if len(scores) <= _MOST_ROWS else _score_grid(scores))
    for sentence in _missing_now(job, together["missing"]) if says_missing else ():
        out.print(f"  [yellow]{escape(sentence)}[/]", soft_wrap=True)
    for row in together["differences"][:_MOST_ROWS]:
        interval = f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        gap = f"{100 * row['mean']:+.1f} points {escape(interval)} {row['word']}"
        out.print(f"  {row['model']} − {row['baseline']} on {row['benchmark']}: {gap}")
    if len(together["differences"]) > _MOST_ROWS:
        out.print(f"  … {len(together['differences']) - _MOST_ROWS} more differences in the report")
    for path in job.layout.report_files:
        if path.exists():
            out.print(f"{path.name}: file://{path.resolve()}", soft_wrap=True)


def _missing_now(job: Run, told: list[str]) -> Iterator[str]:
    """What the report says is missing of the scores, and what is missing of the traces now: the
    report may be older.
    """
    from reasondistill.pipeline import missing_of

    place = f"{job.stage('traces').name}:"
    yield from missing_of(job, "traces")
    yield from (sentence for sentence in told if not sentence.startswith(place))


def _report_rows(path: Path) -> dict[str, list[Any]]:
    """Scores, differences and sentences about what is missing, of a report. Raises DataError for a
    file that is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        together = report.get("groups", report)  # students of several seeds are one row
        rows: dict[str, list[Any]] = {
            name: [dict(row) for row in together[name]] for name in ("scores", "differences")
        }
        return rows | {"missing": [str(sentence) for sentence in report.get("missing", ())]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a report: {error}. `reasondistill run FILE --only report` writes it anew."
        ) from error


def _score_rows(scores: list[dict[str, Any]]) -> Table:
    """One line per score, its interval beside it, and how many samples were cut off, had no answer,
    stayed undecided, or were refused.
    """
    named = {"truncated": "cut", "no_answer": "none", "undecided": "?"}
    if any(row["outcomes"].get(REFUSED) for row in scores):
        named[REFUSED] = "refused"
    table = Table(
        "model",
        "benchmark",
        "pass@1",
        "95 % interval",
        "n × k",
        f"{'·'.join(named.values())} %",
        box=None,
        header_style="bold",
    )
    for row in scores:
        interval = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        shares = "·".join(f"{100 * row['outcomes'].get(name, 0):.1f}" for name in named)
        table.add_row(
            row["model"],
            row["benchmark"],
            f"{100 * row['mean']:.1f} %",
            escape(interval),
            f"{row['n']} × {row['k']}",
            shares,
        )
    return table


def _score_grid(scores: list[dict[str, Any]]) -> Table:
    """Models down, benchmarks across; each cell has half the width of its interval behind it."""
    benchmarks = list(dict.fromkeys(row["benchmark"] for row in scores))
    cells = {
        (
            row["model"],
            row["benchmark"],
        ): f"{100 * row['mean']:.1f}[dim]±{50 * (row['high'] - row['low']):.1f}[/]"
        for row in scores
    }
    table = Table("model", *benchmarks, box=None, header_style="bold")
    for model in dict.fromkeys(row["model"] for row in scores):
        table.add_row(model, *(cells.get((model, benchmark), "") for benchmark in benchmarks))
    return table


def _print_plan(job: Run, tasks: list[Task]) -> None:
    """What would be done, with counts and an estimate."""
    from reasondistill import doctor, pipeline

    out.print(f"[bold]{job.pipeline.name}[/] → {job.folder} (nothing is done: --dry-run)")
    table = Table("task", "state", "expected", box=None, header_style="bold")
    states = pipeline.stage_states(job)
    for task in tasks:
        state = next(
            (
                s.state
                for s in states
                if s.name == task.name or (task.units and s.name == f"{task.stage}/{task.units[0]}")
            ),
            "new",
        )
        table.add_row(escape(task.label), state, escape(doctor.estimate(job, task)))
    out.print(table)
    if job.cluster.kind == "slurm":
        _print_scripts(job, tasks)


def _print_scripts(job: Run, tasks: list[Task]) -> None:
    """What Slurm would be sent, in files that can be sent by hand."""
    from reasondistill import pipeline
    from reasondistill.launch import slurm

    folder = job.folder / slurm.FOLDER / "by-hand"
    written = [path for _, path in slurm.write_scripts(job, pipeline.remaining(job, tasks), folder)]
    for path in (*written, folder / "submit.sh"):
        out.print(f"\n[bold]{path}[/]", soft_wrap=True)
        out.print(escape(path.read_text(encoding="utf-8")), soft_wrap=True)
