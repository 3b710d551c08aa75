"""Looking at a run: the state of its stages, and one problem on its way through them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill import examples
from reasondistill.pipeline.runs import Run
from reasondistill.store import Manifest, content_of, read_manifest


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
