"""Small run folders for tests that sample; also a program: `traces_kit.py PROBLEMS FOLDER DELAY_S`
samples slowly, to be killed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reasondistill.config import Cluster, ModelSettings, TraceSettings
from reasondistill.config.cluster import GradeSettings
from reasondistill.models.samplers import Request
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Origin, Problem, Trace, fingerprint
from reasondistill.runs.store import (
    Identity,
    finish_stage,
    open_stage,
    read_records,
    require_complete,
    write_manifest,
    write_records,
)
from reasondistill.stages.traces import run_traces

# Grading runs in one process.
ONE_WORKER = Cluster(grade=GradeSettings(workers=1))

Open = Callable[[ModelSettings, Cluster, Sequence[Problem]], ScriptedSampler]


def write_problems(
    folder: Path, count: int = 8, *, questions: Mapping[int, str] | None = None
) -> Path:
    """A finished problems folder: "What is i+1?", or another question at some places."""
    questions = questions or {}
    problems = [
        Problem(
            id=f"sums/train/{i}",
            question=questions.get(i, f"What is {i}+1?"),
            answer=str(i + 1),
            reference_solution=f"{i} and one more make {i + 1}.\n#### {i + 1}",
            origin=Origin(dataset="sums", revision="1", split="train", row=i),
        )
        for i in range(count)
    ]
    open_stage(folder, Identity("problems", 1, {"count": count}, {}))
    write_records(folder / "problems.jsonl", problems)
    finish_stage(folder, counts={"in": count, "out": count}, seconds=0.0)
    return folder


def make_partial(folder: Path) -> None:
    """Make a finished folder an unfinished one, as a kill before its end leaves it."""
    write_manifest(folder, replace(require_complete(folder), status="partial"))


def make_earlier(folder: Path) -> None:
    """Make a manifest one of an earlier version: without sums and guard, so that a test may edit
    the folder.
    """
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for key in ("format", "files", "guard"):
        manifest.pop(key, None)
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def text_of(request: Request) -> str:
    """A text that is a function of the request's key and seed alone."""
    return f"<think>{fingerprint(request.key)} {request.seed}</think> \\boxed{{{request.seed % 7}}}"


def opener(script: Callable[[Request], str] = text_of, **options: object) -> Open:
    """An open_sampler whose samplers carry the teacher's name."""

    def open_sampler(
        teacher: ModelSettings, cluster: Cluster, problems: Sequence[Problem]
    ) -> ScriptedSampler:
        return ScriptedSampler(script, model=teacher.model, **options)  # type: ignore[arg-type]

    return open_sampler


def settings(**values: object) -> TraceSettings:
    """Traces settings with one scripted teacher named `fake`."""
    return TraceSettings.model_validate(
        {"prompt": "question", "n": 2, "teachers": ({"model": "fake", "sampler": "scripted"},)}
        | values
    )


def traces_in(folder: Path) -> list[Trace]:
    return list(read_records(folder / "traces.jsonl", Trace))


def sample_slowly(problems: Path, folder: Path, delay_s: float) -> None:
    def slow(request: Request) -> str:
        time.sleep(delay_s)
        return text_of(request)

    run_traces(settings(n=4), problems, folder, Serving(Cluster(), opener(slow)))


if __name__ == "__main__":
    sample_slowly(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
