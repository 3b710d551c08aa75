"""Looking at a run: the state of its stages, and one problem on its way through them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

from reasondistill import __version__, foreign_json
from reasondistill.errors import DataError
from reasondistill.foreign_files import read_bytes, read_text
from reasondistill.grading import GRADER
from reasondistill.pipeline.runs import Run, Task, parents_of
from reasondistill.records import fingerprint
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.figures import (
    ExamplesFigures,
    ProblemsFigures,
    TracesFigures,
    VerdictsFigures,
    cost_of_verified,
    seconds_spent,
)
from reasondistill.runs.kept import is_kept, kept_students
from reasondistill.runs.metrics import TrainingLine, WorkLine
from reasondistill.runs.missing import read_missing
from reasondistill.runs.remote import left_at_url
from reasondistill.runs.staleness import changed_inputs, outputs_of, read_manifests
from reasondistill.runs.store import (
    MANIFEST,
    Manifest,
    check_files,
    count_lines,
    open_verified,
    read_keys,
    read_manifest,
    write_text,
)

# `show` reads files of another time up to this size.
_LOOKED_AT = 256 << 20


@dataclass(frozen=True)
class StageState:
    """One line of `show`: `state` is new, skipped (the command leaves it out), partial, complete,
    `stale (…)` with what has changed since, or damaged. Of a stage under way the counts are those
    of now.

    Of a student that was trained anew the earlier one is `kept (…)`. `peak_memory_gib` is what the
    process that finished it held at most, 0 where it is not known.
    `missing` says of each folder of samples in the stage what is lost or refused, why, and what to
    do, and which file is damaged; `sources` of each of several sources of problems what its rows
    became; `costs` what a verified trace cost, and what was saved; `kept` of each folder in it that
    was kept as it is (--keep-old) what was asked for.
    """

    name: str
    state: str
    counts: Mapping[str, int]
    dropped: Mapping[str, int]
    seconds: float
    missing: tuple[str, ...] = ()
    peak_memory_gib: float = 0.0
    sources: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def stage_states(run: Run) -> list[StageState]:
    """The state of every stage and student folder of a run."""
    folders: dict[str, Path] = {}
    for stage in run.stages:
        if stage != "students":
            folders[stage] = run.stage(stage)
            continue
        for student in run.pipeline.all_students():
            folders[f"students/{student.name}"] = run.layout.student(student.name).path
        for kept, _ in kept_students(run.layout):
            folders[f"students/{kept.path.name}"] = kept.path
    # What the pipeline file no longer names may be damaged; its own folders are read below.
    manifests = read_manifests(run.layout, skips_damaged=True)
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
    kept = tuple(kept_in(place, manifests))
    manifest = read_manifest(folder)
    if manifest is None:
        return _without_manifest(run, name, folder, missing, kept)
    damages = tuple(damages_of(run, folder))
    if damages:
        return StageState(name, "damaged", {}, {}, 0.0, (*missing, *damages))
    state: str = manifest.status
    if place.startswith(layout.FOLDERS["students"]) and is_kept(folder, manifest):
        state = f"kept (an earlier {manifest.section.get('name', 'student')})"
    changed = changed_inputs(place, manifest, outputs)
    if changed:
        state = f"stale ({', '.join(changed)} changed)"
    counts, seconds = manifest.counts, seconds_spent(manifest)
    if manifest.status == "partial":
        counts, seconds = so_far(run, name, folder)
    return StageState(
        name,
        state,
        counts,
        manifest.dropped,
        seconds,
        missing,
        manifest.peak_memory_gib,
        sources_of(manifest),
        _costs_of(name, manifests),
        kept,
    )


def _costs_of(name: str, manifests: Mapping[str, Manifest]) -> tuple[str, ...]:
    traces = manifests.get(layout.FOLDERS["traces"])
    if name != "traces" or traces is None:
        return ()
    return tuple(cost_of_verified(traces, manifests.get(layout.FOLDERS["verdicts"])))


def kept_in(place: str, manifests: Mapping[str, Manifest]) -> Iterator[str]:
    """A sentence for each folder at a place, or below it, that a run has kept as it is."""
    for one, manifest in manifests.items():
        is_here = one == place or (one.startswith(f"{place}/") and place == layout.FOLDERS["evals"])
        if is_here and manifest.kept:
            asked = "; ".join(manifest.kept)
            yield f"{one}: kept as it is (--keep-old), and was asked for otherwise: {asked}"


def _without_manifest(
    run: Run, name: str, folder: Path, missing: tuple[str, ...], kept: tuple[str, ...]
) -> StageState:
    """The state of a stage that no process has opened, or one that has none of its own yet."""
    if folder.exists():
        counts, seconds = so_far(run, name, folder)
        return StageState(name, "partial", counts, {}, seconds, missing, kept=kept)
    stage = name.partition("/")[0]
    is_left_out = bool(run.only) and stage not in run.only
    has_nothing_to_do = stage == "evals" and not run.pipeline.evals.benchmarks
    state = "skipped" if is_left_out or has_nothing_to_do else "new"
    return StageState(name, state, {}, {}, 0.0, missing)


def so_far(run: Run, name: str, folder: Path) -> tuple[dict[str, int], float]:
    """The counts and the seconds of a stage under way; none where its files cannot be read, of
    which others tell.
    """
    try:
        return counts_now(run, name, folder), seconds_now(folder)
    except DataError:
        return {}, 0.0


def counts_now(run: Run, name: str, folder: Path) -> dict[str, int]:
    """How many records went into a stage under way, and how many it has made so far; of a student
    its examples, and the steps that it has learnt from them.
    """
    stage = name.partition("/")[0]
    before: Mapping[str, tuple[str, str]] = {
        "traces": ("problems", layout.PROBLEMS),
        "verdicts": ("traces", layout.TRACES),
        "examples": ("verdicts", layout.VERDICTS),
        "students": ("examples", layout.EXAMPLES),
    }
    own = {
        "traces": layout.TRACES,
        "verdicts": layout.VERDICTS,
        "examples": layout.EXAMPLES,
    }
    counts: dict[str, int] = {}
    if stage in before:
        earlier, file = before[stage]
        counts["in"] = finished_records(run.stage(earlier), file)
    if stage in own:
        counts["out"] = finished_records(folder, own[stage])
    if stage == "students":
        steps = [line.step for line in TrainingLine.of(folder) if line.step is not None]
        if steps:
            counts["steps"] = steps[-1]
    if stage == "evals":
        cells = run.layout.evals.cells()
        counts["out"] = sum(finished_records(cell.traces_folder, layout.TRACES) for cell in cells)
    return counts


def seconds_now(folder: Path) -> float:
    """How long the sessions of a stage under way, those of its workers too, have worked so far, as
    far as they said.
    """
    total = before = 0.0
    sessions: dict[str, float] = {}
    for part in (folder, *work_sharing.worker_folders(folder)):
        for line in WorkLine.of(part):
            if line.session:
                sessions[line.session] = line.seconds
                continue
            if line.seconds < before:  # a training that was stopped and goes on
                total += before
            before = line.seconds
    return total + before + sum(sessions.values())


def sources_of(manifest: Manifest) -> tuple[str, ...]:
    """A sentence for each of several sources of problems, or writers of examples."""
    match manifest.identity.get("stage"):
        case "problems":
            return tuple(source.sentence for source in ProblemsFigures.of(manifest).sources)
        case "examples":
            return tuple(writer.sentence for writer in ExamplesFigures.of(manifest).writers)
        case _:
            return ()


def damages_of(run: Run, folder: Path) -> Iterator[str]:
    """What is wrong with a file of a stage folder, and of those of measured models below that of
    the evals, in a sentence for each folder. Only `check` reads files whose size and time are
    right, and large ones; weights that a copy of a run at a URL never had are no damage.
    """
    for place in run.layout.stage_folders():
        is_below = folder == run.stage("evals") and place.is_relative_to(folder)
        if place != folder and not is_below:
            continue
        try:
            manifest = read_manifest(place)
            if manifest is not None and manifest.status == "complete":
                elsewhere = _left_at_url(run, place, manifest)
                check_files(place, manifest, up_to=_LOOKED_AT, but=elsewhere)
        except DataError as error:
            yield str(error)


def _left_at_url(run: Run, folder: Path, manifest: Manifest) -> set[str]:
    """The files of a stage folder that this copy of a run never had."""
    place = run.layout.place_of(folder)
    left = left_at_url(run.folder, (f"{place}/{name}" for name in manifest.files))
    return {name.removeprefix(f"{place}/") for name in left}


def missing_of(run: Run, name: str) -> Iterator[str]:
    """What the folders of samples of a stage lack, a sentence each."""
    folders: list[Path] = []
    if name == "traces":
        folders = [run.stage("traces")]
    elif name == "evals":
        folders = [cell.traces_folder for cell in run.layout.evals.cells()]
    for folder in folders:
        lacking, place = read_missing(folder), run.layout.place_of(folder)
        if not lacking.is_short:
            continue
        yield f"{place}: {lacking.words()}. {lacking.remedy(place)}"
        manifest = read_manifest(folder)
        if manifest is None or manifest.status != "partial":
            continue
        stopped = TracesFigures.of(manifest).stopped
        if stopped is not None:
            yield f"It stopped: {stopped}"


def remaining(run: Run, tasks: Sequence[Task]) -> list[Task]:
    """The tasks without those at the beginning that would find nothing to do; whatever comes behind
    the first that would, may change.

    Of a stage that several workers fill, no more workers than there are chunks missing. A task that
    is sent for nothing does no harm: when in doubt it is kept.
    """
    unsettled = list(dropwhile(lambda task: is_settled(run, task), tasks))
    if not unsettled or unsettled[0].share is None:
        return unsettled
    chunks = missing_chunks(run, unsettled[0])
    if chunks is None:
        return unsettled
    needed: list[Task] = []
    for task in unsettled:
        share = task.share
        if task.stage != unsettled[0].stage or share is None:
            needed.append(task)
        elif share.role != "work" or share.number < chunks:
            fewer = replace(share, of=min(share.of, chunks))
            needed.append(replace(task, share=fewer))
    return needed


# ---- what needs no doing -------------------------------------------------------------------------


def settle(run: Run, task: Task) -> None:
    """Note that a task left its folder finished, by this file and with what stood before it. What
    says so already is left alone.
    """
    note, standing = _note(run, task), _standing(run, task)
    if not note.exists() or read_text(note) != standing:
        write_text(note, standing)


def is_settled(run: Run, task: Task) -> bool:
    """Whether a task has finished its folder by the very same file, nothing before it has changed
    since, and nothing failed in it.
    """
    note, manifest = _note(run, task), read_manifest(folder_of(run, task))
    if manifest is None or manifest.status != "complete" or not note.exists():
        return False
    counts = manifest.counts
    if counts.get("failed") or counts.get("refused"):
        return False
    if task.stage == "verdicts" and VerdictsFigures.of(manifest).judge_failed:
        return False
    return read_text(note) == _standing(run, task)


def folder_of(run: Run, task: Task) -> Path:
    """The folder that a task finishes."""
    if task.stage == "students":
        return run.layout.student(task.units[0]).path
    return run.stage(task.stage)


def _note(run: Run, task: Task) -> Path:
    if task.stage == "students":
        return run.layout.settled(f"students-{task.units[0]}")
    return run.layout.settled(task.stage)


def _standing(run: Run, task: Task) -> str:
    """A fingerprint of the file, of who grades, and of every manifest that stands before this
    task's own.
    """
    earlier = run.stages[: run.stages.index(task.stage)]
    before = [run.stage(stage) for stage in earlier if stage != "students"]
    students = {student.name: student for student in run.pipeline.all_students()}
    names: Iterable[str] = ()
    if task.stage == "students":
        names = parents_of(run, students[task.units[0]])
    elif task.stage in ("evals", "report"):
        names = students
    before += [run.layout.student(name).path for name in names]
    manifests: list[str] = []
    for folder in before:
        path = folder / MANIFEST
        content = b""
        if path.exists():
            content = read_bytes(path)
        manifests.append(content.hex())
    return fingerprint(
        {
            "file": run.pipeline.model_dump(mode="json"),
            "grader": GRADER,
            "program": __version__,
            "before": manifests,
        }
    )


# ---- how far -------------------------------------------------------------------------------------


def missing_chunks(run: Run, task: Task) -> int | None:
    """How many chunks of traces are not drawn yet, at least 1; None where nobody has begun or knows
    how many there are, or nothing is claimed in chunks.
    """
    from reasondistill.stages.traces import chunk_of, summary

    folder, problems = run.stage(task.stage), read_manifest(run.stage("problems"))
    if task.stage != "traces" or run.pipeline.traces is None or task.share is None:
        return None
    if run.pipeline.traces.accepted is not None:
        return None
    if problems is None or not folder.exists():
        return None
    count, n = problems.counts.get("out", 0), run.pipeline.traces.samples
    chunk = chunk_of(count, n, task.share.of)
    paths = [part / layout.TRACES for part in (folder, *work_sharing.worker_folders(folder))]
    drawn = sum(summary.count_settled(path, n) for path in paths if path.exists())
    return max(1, math.ceil((count * n - drawn) / (n * chunk)))


def progress_of(run: Run, stage: str) -> str:
    """How far a stage is in its own units, as a short text; empty where that is not known."""
    problems, written = read_manifest(run.stage("problems")), run.pipeline.traces
    if stage not in ("traces", "verdicts") or written is None or problems is None:
        return ""
    name = {"traces": layout.TRACES, "verdicts": layout.VERDICTS}[stage]
    finished = finished_records(run.stage(stage), name)
    if written.accepted is not None:
        return f"{finished:,} {stage}"  # nobody knows how many it will be
    total = problems.counts.get("out", 0) * written.samples
    drawn = read_manifest(run.stage("traces"))
    if drawn is not None:
        total += TracesFigures.of(drawn).beyond - drawn.counts.get("absent", 0)
    return f"{finished:,}/{total:,} {stage}"


def finished_records(folder: Path, name: str) -> int:
    """Records of a stage: its own, and as many as its workers reported last; their files may be
    large and far.
    """
    manifest = read_manifest(folder)
    if manifest is not None and manifest.status == "complete":
        return manifest.counts.get("out", 0)
    count = count_lines(folder / name)
    for part in work_sharing.worker_folders(folder):
        reports = WorkLine.of(part)
        if reports:
            count += reports[-1].finished
    return count


def walk(run: Run, problem_id: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What each stage holds about one problem: (place, records), training side first, then each
    benchmark and model.
    """
    here = run.layout
    files = [here.problems, here.set_aside, here.left_out, here.near_duplicates, here.leaks]
    files += [here.traces, here.trimmed, here.endings, here.fewer, here.verdicts]
    files += [here.examples, here.dropped, here.suspects, here.unverified]
    benchmarks = list(here.evals.benchmarks())
    files += [benchmark.problems for benchmark in benchmarks]
    for benchmark in benchmarks:
        for cell in benchmark.cells():
            files += [cell.traces, cell.verdicts]
    for path in files:
        if path.exists():
            yield str(path.relative_to(run.folder)), list(records_about(path, problem_id))


def problem_ids(run: Run) -> Iterator[str]:
    """The ids of all problems of a run, and of its benchmarks; of rows that were set aside too."""
    here = run.layout
    files = [here.problems, here.set_aside]
    files += [benchmark.problems for benchmark in here.evals.benchmarks()]
    for path in files:
        if path.exists():
            yield from read_keys(path)


def records_about(path: Path, problem_id: str) -> Iterator[dict[str, Any]]:
    """The records of a shard that belong to a problem; lines without its id are not parsed."""
    needle = json.dumps(problem_id, ensure_ascii=False)[1:-1].encode()
    with open_verified(path) as file:
        for number, line in enumerate(foreign_json.bounded_lines(file, path), start=1):
            if needle in line and line.endswith(b"\n"):
                try:
                    record = foreign_json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}:{number}: not a JSON line: {error}") from error
                if not isinstance(record, dict):
                    raise DataError(f"{path}:{number}: not a JSON object.")
                if problem_id in (record.get("problem_id"), record.get("id")):
                    yield record
