"""One launcher is one file: it registers itself, the cluster file names it, every command works
with it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_kit import Recorder
from contributing_kit import block_of
from test_pipeline import demo
from typer.testing import CliRunner

from reasondistill.cli import app
from reasondistill.config import Cluster
from reasondistill.errors import ConfigError, StageError
from reasondistill.launch import launcher as launchers
from reasondistill.launch.launcher import (
    JobState,
    Launcher,
    Watcher,
    launcher_of,
    refuse_if_busy,
    register,
    sent_jobs,
)
from reasondistill.launch.local import LocalLauncher
from reasondistill.launch.ray import RayLauncher
from reasondistill.launch.ray_jobs import INSIDE, RayJobLauncher
from reasondistill.launch.slurm import SlurmLauncher
from reasondistill.pipeline import Run, Task, remaining, save_run

# What a stranger writes, and all of it.
THREADS = block_of("A launcher")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[type[Launcher]]]:
    """The registry, which is as it was after the test."""
    known = launchers.known_launchers()
    monkeypatch.setattr(launchers, "_launchers", known)
    yield known


@pytest.fixture
def threads(
    registry: list[type[Launcher]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The package has one file more."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "threads.py").write_text(THREADS)
    package = importlib.import_module("reasondistill.launch")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    sys.modules.pop("reasondistill.launch.threads", None)
    if hasattr(package, "threads"):
        delattr(package, "threads")


def call(workplace: Path, *arguments: str) -> str:
    """What the command prints; it must end well."""
    runs = ("--runs", str(workplace / "runs"))
    result = CliRunner().invoke(app, [*arguments, *runs], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def records(run: Path, name: str) -> list[object]:
    rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
    for row in rows:
        for part in (row, row.get("completion", {}), row.get("grade", {})):
            part.pop("seconds", None)
    return rows


@pytest.mark.usefixtures("threads")
def test_a_launcher_is_one_file_that_registers_itself(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    Path("threads.toml").write_text('kind = "threads"\n[launcher]\nthreads = 2\n')
    printed = call(workplace, "run", "small.toml", "--on", "threads.toml")
    assert "traces one of 2 threads takes it" in printed
    assert "✓ examples · 20 in · 10 out" in printed
    call(workplace, "run", "small.toml", "--set", "name=processes")
    runs = workplace / "runs"
    for name in (
        "1-problems/problems.jsonl",
        "2-traces/traces.jsonl",
        "3-verdicts/verdicts.jsonl",
        "4-examples/examples.jsonl",
    ):
        assert records(runs / "small", name) == records(runs / "processes", name)
    assert "✓ traces" in call(workplace, "resume", "small")
    assert "No job of this run" in call(workplace, "cancel", "small")
    with pytest.raises(StageError, match="no job of this run was sent to a cluster"):
        call(workplace, "status", "small")


def test_a_launcher_that_leaves_out_what_is_finished_says_that_nothing_is_left(
    registry: list[type[Launcher]], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @register
    class OnlyTheRest(LocalLauncher):  # pyright: ignore[reportUnusedClass]
        kind = "rest"

        def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
            return super().start(remaining(self.run, tasks), watcher)

    monkeypatch.chdir(workplace)
    Path("rest.toml").write_text('kind = "rest"\n')
    printed = call(workplace, "run", "small.toml", "--on", "rest.toml")
    assert "✓ examples" in printed and "Nothing is left to do." not in printed
    printed = call(workplace, "resume", "small")
    assert "✓" not in printed and "Nothing is left to do." in printed


@pytest.mark.usefixtures("threads")
def test_settings_of_such_a_launcher_are_checked(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    Path("threads.toml").write_text('kind = "threads"\n[launcher]\nthreds = 2\n')
    with pytest.raises(ConfigError, match=r"\[launcher\] threds: unknown key. Did you mean thr"):
        call(workplace, "run", "small.toml", "--on", "threads.toml")


# ---- which one -----------------------------------------------------------------------------------


def on(folder: Path, **cluster: object) -> Run:
    return replace(demo(folder), cluster=Cluster.model_validate(cluster))


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({}, LocalLauncher),
        ({"kind": "slurm"}, SlurmLauncher),
        ({"kind": "ray"}, RayLauncher),
        ({"kind": "ray", "ray": {"address": "ray://head:10001"}}, RayLauncher),
        ({"kind": "ray", "ray": {"address": "http://head:8265"}}, RayJobLauncher),
    ],
)
def test_the_cluster_file_names_the_launcher(
    tmp_path: Path, cluster: dict[str, object], expected: type[Launcher]
) -> None:
    assert type(launcher_of(on(tmp_path, **cluster))) is expected


def test_inside_a_job_of_ray_the_run_is_not_handed_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INSIDE, "1")
    run = on(tmp_path, kind="ray", ray={"address": "http://head:8265"})
    assert type(launcher_of(run)) is RayLauncher


def test_an_unknown_launcher_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kind = 'slrum': .* Did you mean slurm\?"):
        launcher_of(on(tmp_path, kind="slrum"))


def test_what_a_cluster_cannot_do_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    run = on(tmp_path, kind="slurm", storage="s3://bucket/runs")
    with pytest.raises(ConfigError, match="storage: on Slurm all nodes see"):
        launcher_of(run).check(run.stages)
    run = on(tmp_path, kind="ray", stages={"students": {"nodes": 2}})
    launcher_of(run).check(["traces"])
    with pytest.raises(ConfigError, match="on Ray a task has one node"):
        launcher_of(run).check(["students"])


def test_this_machine_gives_each_task_what_it_has(tmp_path: Path) -> None:
    stages = {"default": {"cpus": 3, "nodes": 4}, "traces": {"max_concurrent": 2}}
    run = on(tmp_path, stages=stages, train={"parallel": 5})
    launcher = launcher_of(run)
    assert launcher.resources("students").nodes == 1
    assert launcher.resources("students").max_concurrent == 5
    assert launcher.resources("traces").max_concurrent == 2
    elsewhere = launcher_of(replace(run, cluster=run.cluster.model_copy(update={"kind": "slurm"})))
    assert elsewhere.resources("students").nodes == 4
    assert elsewhere.resources("students").cpus == 3


# ---- jobs that were sent -------------------------------------------------------------------------


class SentElsewhere(Launcher):
    """Has two jobs, and cannot be asked where `answers` is False."""

    kind = "elsewhere"
    answers = True
    waiting = 2

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        return self.states()

    def states(self) -> list[JobState]:
        if not self.answers:
            raise StageError("nobody answers")
        jobs = [JobState("1", "71", {"running": 1}), JobState("2", "72", {"waiting": 1})]
        return jobs[: self.waiting]


def test_jobs_of_any_launcher_keep_a_run_from_being_started_here(
    registry: list[type[Launcher]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = demo(tmp_path)
    save_run(run)
    refuse_if_busy(run)
    assert sent_jobs(run) is None
    register(SentElsewhere)
    with pytest.raises(StageError, match="its jobs 71, 72 are still in the queue"):
        refuse_if_busy(run)
    sent = sent_jobs(run)
    assert sent is not None and type(sent.launcher) is SentElsewhere
    monkeypatch.setattr(SentElsewhere, "waiting", 1)
    with pytest.raises(StageError, match=r"its job 71 is running. `reasondistill status "):
        refuse_if_busy(run)
    monkeypatch.setattr(SentElsewhere, "waiting", 0)
    refuse_if_busy(run)
    monkeypatch.setattr(SentElsewhere, "answers", False)
    refuse_if_busy(run)
    assert "jobs were sent to elsewhere, which cannot be asked" in caplog.text


def test_a_cluster_is_asked_once_before_a_run_is_refused(
    registry: list[type[Launcher]], tmp_path: Path
) -> None:
    asked: list[str] = []

    @register
    class Counting(SentElsewhere):  # pyright: ignore[reportUnusedClass]
        def states(self) -> list[JobState]:
            asked.append("states")
            return super().states()

    with pytest.raises(StageError, match="its jobs 71, 72 are still in the queue"):
        refuse_if_busy(demo(tmp_path))
    assert asked == ["states"]


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_a_cluster_is_asked_once_by_status_and_cancel(
    registry: list[type[Launcher]],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    run = demo(workplace / "runs" / "small")
    save_run(run)
    asked: list[str] = []

    @register
    class Counting(SentElsewhere):  # pyright: ignore[reportUnusedClass]
        def states(self) -> list[JobState]:
            asked.append("states")
            return super().states()

        def cancel(self, jobs: Sequence[JobState]) -> list[str]:
            return [job.job_id for job in jobs if not job.is_over]

    printed = call(workplace, command, run.folder.name)
    assert "71" in printed and "72" in printed
    assert asked == ["states"]


def test_the_worst_of_its_elements_is_the_state_of_a_job() -> None:
    assert JobState("1", "7", {"running": 2, "failed": 1}).state == "failed"
    assert not JobState("1", "7", {"running": 2, "failed": 1}).is_over
    assert JobState("1", "7", {"done": 3}).state == "done"


def test_this_machine_tells_its_watcher_of_each_task(workplace: Path) -> None:
    from reasondistill.config import load_pipeline
    from reasondistill.pipeline import plan

    source = workplace / "small.toml"
    run = Run(load_pipeline(source), Cluster(), workplace / "runs" / "small", source)
    watcher = Recorder()
    tasks = plan(run, ["problems", "traces"], share_engine_process=True)
    assert launcher_of(run).start(tasks, watcher) == []
    assert watcher.ended == ["problems", "traces"]
    assert any(line.startswith("traces: ") for line in watcher.lines)
