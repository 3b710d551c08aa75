"""Looking at a run: the state of its stages, and one problem on its way through them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

from reasondistill import crew, examples, traces, verdicts
from reasondistill.pipeline.runs import Run, Task
from reasondistill.store import Manifest, content_of, count_lines, read_manifest


@dataclass(frozen=True)
class StageState:
    """One line of `show`: `state` is new, partial, complete, or `stale (…)` with what has changed since."""

    name: str
    state: str
    counts: Mapping[str, int]
    dropped: Mapping[str, int]
    seconds: float


def stage_states(run: Run) -> list[StageState]:
    """The state of every stage and student folder of a run."""
    places = [(stage, run.stage(stage)) for stage in run.stages if stage != "students"]
    at = len(places) - 2
    places[at:at] = [(f"students/{s.name}", run.stage("students") / s.name) for s in run.pipeline.all_students()]
    current = {stage: m.output for stage in run.stages if (m := read_manifest(run.stage(stage))) is not None}
    if (run.stage("examples") / examples.UNVERIFIED).exists():
        current["unverified"] = content_of(run.stage("examples"), [examples.UNVERIFIED])
    return [_state(name, read_manifest(folder), current, has_files=folder.exists()) for name, folder in places]


def remaining(run: Run, tasks: Sequence[Task]) -> list[Task]:
    """The tasks without those of finished stages, up to the first stage that is unfinished or stale; everything behind it may change.

    Of a stage that several workers fill, no more workers than there are chunks missing.
    """
    states = {state.name: state.state for state in stage_states(run)}
    kept = list(dropwhile(lambda task: states.get(_folder_name(task)) == "complete", tasks))
    first = kept[0].stage if kept else None
    missing = _missing_chunks(run, first) if first is not None else None
    if missing is None or kept[0].share is None:
        return kept
    return [_among(task, missing) for task in kept if not _is_idle(task, first, missing)]


def _folder_name(task: Task) -> str:
    return f"students/{task.units[0]}" if task.stage == "students" else task.stage


def _is_idle(task: Task, stage: str | None, chunks: int) -> bool:
    return task.stage == stage and task.share is not None and task.share.role == "work" and task.share.number >= chunks


def _among(task: Task, chunks: int) -> Task:
    """The same among no more workers than chunks."""
    return replace(task, share=replace(task.share, of=min(task.share.of, chunks))) if task.share is not None else task


def _missing_chunks(run: Run, stage: str) -> int | None:
    """How many chunks of traces are not drawn yet, at least 1; None where nobody has begun, or nothing is claimed in chunks."""
    folder, problems = run.stage(stage), read_manifest(run.stage("problems"))
    if stage != "traces" or run.pipeline.traces is None or problems is None or not folder.exists():
        return None
    total = problems.counts.get("out", 0) * run.pipeline.traces.n
    return max(1, math.ceil((total - traces_drawn(folder)) / traces.CHUNK_SAMPLES))


def traces_drawn(folder: Path) -> int:
    """The traces of a folder, those of its workers included."""
    files = [folder / traces.FILE, *(part / traces.FILE for part in crew.worker_folders(folder))]
    return sum(count_lines(path) for path in files)


def progress_of(run: Run, stage: str) -> str:
    """How far a stage is in its own units, as a short text; empty where that is not known."""
    folder, problems = run.stage(stage), read_manifest(run.stage("problems"))
    if stage == "traces" and run.pipeline.traces is not None and problems is not None:
        return f"{traces_drawn(folder):,}/{problems.counts.get('out', 0) * run.pipeline.traces.n:,} traces"
    if stage == "verdicts":
        files = [folder / verdicts.FILE, *(part / verdicts.FILE for part in crew.worker_folders(folder))]
        return f"{sum(map(count_lines, files)):,}/{count_lines(run.stage('traces') / traces.FILE):,} verdicts"
    return ""


def _state(name: str, manifest: Manifest | None, current: Mapping[str, str], *, has_files: bool) -> StageState:
    if manifest is None:
        return StageState(name, "partial" if has_files else "new", {}, {}, 0.0)
    inputs = manifest.identity["inputs"]
    changed = [key for key, value in inputs.items() if key in current and current[key] != value]
    state = f"stale ({', '.join(changed)} changed)" if changed else manifest.status
    return StageState(name, state, manifest.counts, manifest.dropped, manifest.seconds)


def walk(run: Run, problem_id: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What each stage holds about one problem: (place, records), training side first, then each benchmark and model."""
    files = [run.stage("problems") / name for name in ("problems.jsonl", "set_aside.jsonl")]
    files += [run.stage("traces") / "traces.jsonl", run.stage("verdicts") / "verdicts.jsonl"]
    files += [run.stage("examples") / name for name in (examples.EXAMPLES, examples.DROPPED, examples.UNVERIFIED)]
    files += sorted(run.stage("evals").glob("*/problems/problems.jsonl"))
    files += sorted([*run.stage("evals").glob("*/*/traces/traces.jsonl"), *run.stage("evals").glob("*/*/verdicts/verdicts.jsonl")])
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
