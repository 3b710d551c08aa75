"""Arguments and printing. What is done stands in pipeline.py, where it runs in launch/."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import reasondistill
from reasondistill import resources
from reasondistill.errors import ConfigError, Interrupted, ReasonDistillError, StageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from reasondistill.grade_file.matrix import Matrix
    from reasondistill.pipeline import Run, Task

app = typer.Typer(
    help="Distil a reasoning model into a small one, and say honestly by how much it worked.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

RunsDir = Annotated[Path, typer.Option("--runs", help="Where run folders are.")]


def main() -> None:
    """Entry point: a ReasonDistillError is one clear message and exit code 2, a requested stop exit code 130."""
    try:
        app()
    except Interrupted as error:
        err.print(f"[yellow]{escape(str(error))}[/]", soft_wrap=True)
        sys.exit(130)
    except ReasonDistillError as error:
        err.print(f"[bold red]{type(error).__name__}:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


def _version(value: bool) -> None:
    if value:
        out.print(reasondistill.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None: ...


# ---- run ----------------------------------------------------------------------------------------------------------


@app.command(
    epilog="Examples:\n\n  reasondistill run pipelines/demo.toml\n\n  reasondistill run gsm8k_sft --dry-run\n\n"
    "  reasondistill run demo --set name=hot --set traces.temperature=1.0\n\n  reasondistill run demo --until examples"
)
def run(
    file: Annotated[str, typer.Argument(help="A pipeline file, or the name of a shipped one (see `list pipelines`).")],
    only: Annotated[str | None, typer.Option(help="Do this stage alone.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Begin with this stage; earlier ones must be complete.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one key: traces.temperature=1.0")] = None,
    on: Annotated[str, typer.Option(help="A cluster file, or the name of one in pipelines/clusters.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything that needs no weights, print the plan, do nothing.")] = False,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Go on with finished stages although settings have changed since.")] = False,
    runs: RunsDir = Path("runs"),
) -> None:
    """Run a pipeline file; what is complete is skipped, what is partial is resumed.

    Stages: problems, traces, verdicts, examples, students, evals, report.
    """
    from reasondistill import config, pipeline, preflight
    from reasondistill.launch import local

    source = resources.find("pipelines", file)
    settings = config.load_pipeline(source, set_ or [])
    cluster = config.load_cluster(resources.find("clusters", on))
    job = pipeline.Run(settings, cluster, runs / settings.name, source, keep_old)
    stages = pipeline.select_stages(only, from_, until)
    preflight.check(job, reads_data=dry_run)
    tasks = pipeline.plan(job, stages, share_engine_process=local.shares_engine_process())
    if dry_run:
        _print_plan(job, tasks)
        return
    about = f" · {escape(settings.about)}" if settings.about else ""
    out.print(f"[bold]{settings.name}[/]{about}", soft_wrap=True)
    started = time.monotonic()
    local.run_tasks(job, tasks, _print_line, _done_printer(job))
    out.print(f"[dim]{_duration(time.monotonic() - started)} in all[/]")
    _print_result(job)


def _print_line(task: Task, line: str) -> None:
    out.print(f"  [dim]{task.name}[/] {escape(line)}", soft_wrap=True)


def _done_printer(job: Run) -> Callable[[Task, float], None]:
    """Print one line when a task ends: what went in, what came out, how long it took."""
    from reasondistill.pipeline import folder_of
    from reasondistill.store import read_manifest

    def done(task: Task, seconds: float) -> None:
        manifest = read_manifest(folder_of(job, task)) if task.stage != "evals" or not task.units else None
        counts = f"{manifest.counts.get('in', 0):,} in · {manifest.counts.get('out', 0):,} out · " if manifest else ""
        dropped = "".join(f" · {number:,} {reason}" for reason, number in (manifest.dropped if manifest else {}).items())
        out.print(f"[green]✓[/] {task.name} · {counts}{_duration(seconds)}[dim]{escape(dropped)}[/]", soft_wrap=True)

    return done


def _print_result(job: Run) -> None:
    """The score table, the differences, and where the report is."""
    folder = job.stage("report")
    if not (folder / "report.json").exists():
        return
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if report.get("headline"):
        out.print(f"\n[bold]{escape(report['headline'])}[/]", soft_wrap=True)
    if report["scores"]:
        table = Table("model", "benchmark", "metric", "score", "95 % interval", "n × k", box=None, header_style="bold")
        for row in report["scores"]:
            interval = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            table.add_row(
                row["model"], row["benchmark"], row["metric"], f"{100 * row['mean']:.1f} %", escape(interval), f"{row['n']} × {row['k']}"
            )
        out.print(table)
    for row in report["differences"]:
        interval = f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        out.print(f"  {row['model']} − {row['baseline']} on {row['benchmark']}: {100 * row['mean']:+.1f} points {escape(interval)}")
    for name in ("report.html", "report.md", "report.json"):
        if (folder / name).exists():
            out.print(f"{name}: file://{(folder / name).resolve()}", soft_wrap=True)


def _print_plan(job: Run, tasks: list[Task]) -> None:
    """What would be done, with counts and an estimate."""
    from reasondistill import pipeline, preflight

    out.print(f"[bold]{job.pipeline.name}[/] → {job.folder} (nothing is done: --dry-run)")
    table = Table("task", "state", "expected", box=None, header_style="bold")
    states = pipeline.stage_states(job)
    for task in tasks:
        state = next((s.state for s in states if s.name == task.name or (task.units and s.name == f"{task.stage}/{task.units[0]}")), "new")
        table.add_row(escape(task.name), state, escape(preflight.estimate(job, task)))
    out.print(table)


# ---- grade --------------------------------------------------------------------------------------------------------


@app.command(
    epilog="Examples:\n\n  reasondistill grade answers.jsonl --out verdicts.jsonl\n\n"
    "  reasondistill grade answers.jsonl --out strict.jsonl --policy strict --workers 8\n\n"
    'A row that goes in: {"id": "7", "prediction": "So it is $\\\\frac12$.", "gold": "0.5"}'
)
def grade(
    file: Annotated[Path, typer.Argument(help="JSONL; each row has id, prediction (a completion or an answer), gold.")],
    target: Annotated[Path, typer.Option("--out", help="Where the verdicts go: id, outcome, extracted, layer, reason, seconds.")],
    policy: Annotated[str, typer.Option(help="Strictness, or another grader's rules: default, strict, lenient, lighteval, …")] = "default",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for what needs sympy; by default one per core.")] = None,
    deadline_s: Annotated[float, typer.Option("--deadline-s", min=0.05, help="Seconds that one row may take; then it is undecided.")] = 5.0,
) -> None:
    """Grade a file of answers against their golds; killed, the same command goes on where it stopped."""
    from reasondistill.grade_file import grade_file
    from reasondistill.records import OUTCOMES
    from reasondistill.store import StopSignal

    _log_lines("  ")
    with StopSignal() as stop:
        outcomes = grade_file(file, target, policy=policy, workers=workers, deadline_s=deadline_s, stop=stop)
    table = Table("outcome", "rows", "share", box=None, header_style="bold")
    for name in OUTCOMES:
        table.add_row(name, f"{outcomes[name]:,}", f"{100 * outcomes[name] / max(1, outcomes.total()):.1f} %")
    out.print(table)
    out.print(f"{target}: {outcomes.total():,} rows", soft_wrap=True)


@app.command(
    epilog="Examples:\n\n  reasondistill matrix answers.jsonl\n\n"
    "  reasondistill matrix answers.jsonl --policies default,lighteval --out matrix\n\n"
    "  reasondistill matrix demo --benchmark gsm_symbolic_12"
)
def matrix(
    answers: Annotated[str, typer.Argument(help="JSONL as for `grade`; or, with --benchmark, a run's name or folder.")],
    benchmark: Annotated[str | None, typer.Option(help="Compare on the samples that the run's evals stored for this benchmark.")] = None,
    policies: Annotated[str | None, typer.Option(help="Names with commas between them; by default all that we know.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="A folder for matrix.json and disagreements.jsonl.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for what needs sympy; by default one per core.")] = None,
    deadline_s: Annotated[float, typer.Option("--deadline-s", min=0.05, help="Seconds per answer; then it is undecided.")] = 5.0,
    runs: RunsDir = Path("runs"),
) -> None:
    """Grade stored answers under several policies: what each accepts, and on how many answers any two disagree. Nothing is generated."""
    from reasondistill.grade_file.matrix import compare_policies, file_answers, find_policies, run_answers
    from reasondistill.grading import GradingPool
    from reasondistill.pipeline import load_run
    from reasondistill.store import StopSignal

    _log_lines("  ")
    names = find_policies(policies)
    if benchmark is not None:
        sources = run_answers(load_run(_run_folder(answers, runs)).stage("evals"), benchmark)
    elif (folder := _run_folder(answers, runs)).is_dir() and not Path(answers).is_file():
        raise ConfigError(f"{folder}: is a run; say which samples with --benchmark NAME.")
    else:
        sources = [file_answers(Path(answers))]
    with GradingPool(workers=workers, deadline_s=deadline_s) as pool, StopSignal() as stop:
        made = compare_policies(sources, names, pool, out=target, stop=stop)
    _print_matrix(made)
    if target is not None:
        out.print(f"{target}: matrix.json; disagreements.jsonl, {made.differing:,} answers", soft_wrap=True)


def _print_matrix(made: Matrix) -> None:
    """Accuracies, then for each source who accepts what another does not."""
    table = Table("answers", "policy", "correct", "95 % interval", "n × k", "undecided", box=None, header_style="bold")
    for row in made.scores:
        interval = f"[{100 * row.low:.1f}, {100 * row.high:.1f}]"
        table.add_row(
            *(escape(row.source), row.policy, f"{100 * row.mean:.1f} %", escape(interval)),
            *(f"{row.n:,} × {row.k}", f"{row.outcomes.get('undecided', 0):,}"),
        )
    out.print(table)
    for source in dict.fromkeys(row.source for row in made.scores):
        counts = Table(f"{escape(source)}: accepted by ↓ but not by →", *made.policies, box=None, header_style="bold")
        for first in made.policies:
            cells = ("·" if first == second else f"{made.accepted_by_one[source, first, second]:,}" for second in made.policies)
            counts.add_row(first, *cells)
        out.print()
        out.print(counts)


def _log_lines(mark: str) -> None:
    """Our own log lines on standard output, each with a mark before it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(mark + "%(message)s"))
    logger = logging.getLogger("reasondistill")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


# ---- looking ------------------------------------------------------------------------------------------------------


@app.command(epilog="Example:\n\n  reasondistill show demo")
def show(
    name: Annotated[str, typer.Argument(help="A run's name or folder.")],
    runs: RunsDir = Path("runs"),
) -> None:
    """The state of each stage of a run: counts, drops, time, and what is stale."""
    from reasondistill import pipeline

    job = pipeline.load_run(_run_folder(name, runs))
    table = Table("stage", "state", "in", "out", "dropped", "time", box=None, header_style="bold")
    colours = {"complete": "green", "partial": "yellow", "stale": "red", "new": "dim"}
    for row in pipeline.stage_states(job):
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in row.dropped.items())
        state = f"[{colours.get(row.state.split()[0], 'red')}]{escape(row.state)}[/]"
        seconds = _duration(row.seconds) if row.seconds else ""
        table.add_row(row.name, state, _number(row.counts.get("in")), _number(row.counts.get("out")), escape(dropped), seconds)
    out.print(table)
    _print_result(job)


@app.command(epilog="Example:\n\n  reasondistill walk demo gsm_symbolic/seed1/12")
def walk(
    name: Annotated[str, typer.Argument(help="A run's name or folder.")],
    problem_id: Annotated[str, typer.Argument(help="A problem's id, as in problems.jsonl.")],
    runs: RunsDir = Path("runs"),
) -> None:
    """One problem through all stages: question, traces, verdicts, examples, and the evals' samples."""
    from reasondistill import pipeline

    job = pipeline.load_run(_run_folder(name, runs))
    found = False
    for title, rows in pipeline.walk(job, problem_id):
        for row in rows:
            found = True
            out.print(f"[bold]{escape(title)}[/]")
            for key, value in row.items():
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                out.print(f"  [cyan]{key}[/] {escape(text)}", soft_wrap=True)
    if not found:
        raise StageError(f"{job.folder}: no problem {problem_id!r}. Ids stand in {job.stage('problems')}/problems.jsonl.")


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
    name: Annotated[str, typer.Argument(help="The name of a shipped pipeline, prompt, benchmark or cluster file.")],
    to: Annotated[Path | None, typer.Argument(help="Where to; by default its own file name, here.")] = None,
) -> None:
    """Copy a shipped file here, to change it."""
    for kind in ("pipelines", "prompts", "benchmarks", "clusters"):
        if (path := resources.available(kind).get(name.removesuffix(".toml"))) is not None:
            target = to or Path(path.name)
            target = target / path.name if target.is_dir() else target
            if not target.parent.is_dir():
                raise ConfigError(f"{target.parent}: no such folder.")
            if target.exists():
                raise ConfigError(f"{target}: exists already; name another file.")
            shutil.copyfile(path, target)
            out.print(f"{path} → {target}")
            return
    raise ConfigError(f"{name}: no shipped file of that name. See `reasondistill list pipelines` (prompts, benchmarks, clusters).")


def _run_folder(name: str, runs: Path) -> Path:
    given = Path(name)
    return given if (given / "run.json").exists() else runs / name


# ---- the process of one task --------------------------------------------------------------------------------------


@app.command(hidden=True)
def task(folder: Path, stage: str, units: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Do one task of a run folder; launchers call this."""
    from reasondistill import pipeline
    from reasondistill.launch.leash import Leash
    from reasondistill.launch.local import ERROR_WORD, MARK
    from reasondistill.store import StopSignal

    _log_lines(MARK)
    with Leash(), _reporting_errors(MARK + ERROR_WORD), StopSignal() as stop:
        pipeline.run_task(pipeline.load_run(folder), pipeline.Task(stage, tuple(units or ())), stop)


@contextmanager
def _reporting_errors(mark: str) -> Generator[None]:
    """Send a user's error to the launcher as one marked line; exit as the launcher would."""
    try:
        yield
    except ReasonDistillError as error:
        kind, message = type(error).__name__, str(error)
        print(mark + json.dumps({"kind": kind, "message": message}), flush=True)
        sys.exit(130 if isinstance(error, Interrupted) else 2)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
