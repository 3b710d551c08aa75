"""Looking at a run: the state of its stages, and one problem on its way through them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

from reasondistill import __version__
from reasondistill.grading import GRADER
from reasondistill.pipeline.runs import Run, Task, parents_of
from reasondistill.records import fingerprint
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.missing import STOPPED, read_missing
from reasondistill.runs.staleness import changed_inputs, outputs_of, read_manifests
from reasondistill.runs.store import (
    MANIFEST,
    Manifest,
    count_lines,
    read_manifest,
    read_metrics,
    write_text,
)
from reasondistill.stages import traces
from reasondistill.stages.traces import summary


@dataclass(frozen=True)
class StageState:
    """One line of `show`: `state` is new, partial, complete, or `stale (…)` with what has changed
    since.

    `missing` says of each folder of samples in the stage what is lost or refused, why, and what to
    do.
    """

    name: str
    state: str
    counts: Mapping[str, int]
    dropped: Mapping[str, int]
    seconds: float
    missing: tuple[str, ...] = ()


def stage_states(run: Run) -> list[StageState]:
    """The state of every stage and student folder of a run."""
    folders: dict[str, Path] = {}
    for stage in run.stages:
        if stage != "students":
            folders[stage] = run.stage(stage)
            continue
        for student in run.pipeline.all_students():
            folders[f"students/{student.name}"] = run.layout.student(student.name).path
    manifests = read_manifests(run.layout)
    outputs = outputs_of(run.layout, manifests)
    return [_state(run, name, folder, manifests, outputs) for name, folder in folders.items()]


def _state(
    run: Run,
    name: str,
    folder: Path,
    manifests: Mapping[str, Manifest],
    outputs: Mapping[str, str],
) -> StageState:
    missing = tuple(missing_of(run, name))
    place = run.layout.place_of(folder)
    manifest = manifests.get(place)
    if manifest is None:
        state = "partial" if folder.exists() else "new"
        return StageState(name, state, {}, {}, 0.0, missing)
    state = manifest.status
    changed = changed_inputs(place, manifest, outputs)
    if changed:
        state = f"stale ({', '.join(changed)} changed)"
    return StageState(name, state, manifest.counts, manifest.dropped, manifest.seconds, missing)


def missing_of(run: Run, name: str) -> Iterator[str]:
    """What the folders of samples of a stage lack, a sentence each."""
    folders = {
        "traces": [run.stage("traces")],
        "evals": sorted(run.stage("evals").glob("*/*/traces")),
    }
    for folder in folders.get(name, ()):
        found, place = read_missing(folder), folder.relative_to(run.folder).as_posix()
        if found.is_short:
            yield f"{place}: {found.words()}. {found.remedy(place)}"
            yield from _why_stopped(folder)


def _why_stopped(folder: Path) -> Iterator[str]:
    manifest = read_manifest(folder)
    if manifest is not None and manifest.status == "partial" and STOPPED in manifest.figures:
        yield f"It stopped: {manifest.figures[STOPPED]}"


def remaining(run: Run, tasks: Sequence[Task]) -> list[Task]:
    """The tasks without those at the beginning that would find nothing to do; whatever comes behind
    the first that would, may change.

    Of a stage that several workers fill, no more workers than there are chunks missing. A task that
    is sent for nothing does no harm: when in doubt it is kept.
    """
    kept = list(dropwhile(lambda task: is_settled(run, task), tasks))
    if not kept or kept[0].share is None or (missing := _missing_chunks(run, kept[0])) is None:
        return kept
    return [
        _among(task, missing) if task.stage == kept[0].stage else task
        for task in kept
        if not _is_idle(task, kept[0].stage, missing)
    ]


# ---- what needs no doing -------------------------------------------------------------------------


def settle(run: Run, task: Task) -> None:
    """Note that a task left its folder finished, by this file and with what stood before it. What
    says so already is left alone.
    """
    note, standing = _note(run, task), _standing(run, task)
    if not note.exists() or note.read_text(encoding="utf-8") != standing:
        write_text(note, standing)


def is_settled(run: Run, task: Task) -> bool:
    """Whether a task has finished its folder by the very same file, nothing before it has changed
    since, and nothing failed in it.
    """
    note, manifest = _note(run, task), read_manifest(folder_of(run, task))
    if manifest is None or manifest.status != "complete" or not note.exists():
        return False
    failures = [
        manifest.counts.get("failed"),
        manifest.counts.get("refused"),
        manifest.figures.get("judge_failed"),
    ]
    return not any(failures) and note.read_text(encoding="utf-8") == _standing(run, task)


def folder_of(run: Run, task: Task) -> Path:
    """The folder that a task finishes."""
    return (
        run.stage("students") / task.units[0] if task.stage == "students" else run.stage(task.stage)
    )


def _note(run: Run, task: Task) -> Path:
    if task.stage == "students":
        return run.layout.settled(f"students-{task.units[0]}")
    return run.layout.settled(task.stage)


def _standing(run: Run, task: Task) -> str:
    """A fingerprint of the file, of who grades, and of every manifest that stands before this
    task's own.
    """
    before = [
        run.stage(stage)
        for stage in run.stages[: run.stages.index(task.stage)]
        if stage != "students"
    ]
    students = {student.name: student for student in run.pipeline.all_students()}
    names = parents_of(run, students[task.units[0]]) if task.stage == "students" else list(students)
    if task.stage in ("students", "evals", "report"):
        before += [run.stage("students") / name for name in names]
    manifests = [
        (folder / MANIFEST).read_bytes().hex() if (folder / MANIFEST).exists() else ""
        for folder in before
    ]
    return fingerprint(
        {
            "file": run.pipeline.model_dump(mode="json"),
            "grader": GRADER,
            "program": __version__,
            "before": manifests,
        }
    )


# ---- how far -------------------------------------------------------------------------------------


def _is_idle(task: Task, stage: str, chunks: int) -> bool:
    return (
        task.stage == stage
        and task.share is not None
        and task.share.role == "work"
        and task.share.number >= chunks
    )


def _among(task: Task, chunks: int) -> Task:
    """The same among no more workers than chunks."""
    return (
        replace(task, share=replace(task.share, of=min(task.share.of, chunks)))
        if task.share is not None
        else task
    )


def _missing_chunks(run: Run, task: Task) -> int | None:
    """How many chunks of traces are not drawn yet, at least 1; None where nobody has begun, or
    nothing is claimed in chunks.
    """
    folder, problems = run.stage(task.stage), read_manifest(run.stage("problems"))
    if (
        task.stage != "traces"
        or run.pipeline.traces is None
        or problems is None
        or not folder.exists()
        or task.share is None
    ):
        return None
    count, n = problems.counts.get("out", 0), run.pipeline.traces.n
    whole = sum(map(summary.count_settled, _files(folder, layout.TRACES)))
    return max(1, math.ceil((count * n - whole) / (n * traces.chunk_of(count, n, task.share.of))))


def _files(folder: Path, name: str) -> list[Path]:
    """The stage's own file and those of its workers, as far as they are there."""
    return [
        path
        for path in (folder / name, *(part / name for part in work_sharing.worker_folders(folder)))
        if path.exists()
    ]


def progress_of(run: Run, stage: str) -> str:
    """How far a stage is in its own units, as a short text; empty where that is not known."""
    problems, written = read_manifest(run.stage("problems")), run.pipeline.traces
    if stage not in ("traces", "verdicts") or written is None or problems is None:
        return ""
    total = problems.counts.get("out", 0) * written.n
    name = {"traces": layout.TRACES, "verdicts": layout.VERDICTS}[stage]
    return f"{_finished(run.stage(stage), name):,}/{total:,} {stage}"


def _finished(folder: Path, name: str) -> int:
    """Records of a stage: its own, and what its workers said last that they have; their files may
    be large and far.
    """
    manifest = read_manifest(folder)
    if manifest is not None and manifest.status == "complete":
        return manifest.counts.get("out", 0)
    told = [read_metrics(part) for part in work_sharing.worker_folders(folder)]
    return count_lines(folder / name) + sum(
        int(lines[-1].get("drawn", lines[-1]["done"])) for lines in told if lines
    )


def walk(run: Run, problem_id: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What each stage holds about one problem: (place, records), training side first, then each
    benchmark and model.
    """
    here = run.layout
    files = [here.problems, here.set_aside, here.traces, here.verdicts]
    files += [here.examples, here.dropped, here.unverified]
    benchmarks = list(here.evals.benchmarks())
    files += [benchmark.problems for benchmark in benchmarks]
    for benchmark in benchmarks:
        for cell in benchmark.cells():
            files += [cell.traces, cell.verdicts]
    for path in files:
        if path.exists():
            yield str(path.relative_to(run.folder)), list(_lines_about(path, problem_id))


def _lines_about(path: Path, problem_id: str) -> Iterator[dict[str, Any]]:
    """The records of a shard that belong to a problem; lines without its id in them are not parsed."""
    needle = json.dumps(problem_id, ensure_ascii=False)[1:-1].encode()
    with open(path, "rb") as file:
        for line in file:
            if needle in line and line.endswith(b"\n"):
                record = json.loads(line)
                if problem_id in (record.get("problem_id"), record.get("id")):
                    yield record
