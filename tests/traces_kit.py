"""Small run folders for tests that sample; also a program: `traces_kit.py PROBLEMS FOLDER DELAY_S
[in-steps]` samples slowly, to be killed.
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


class InSteps(ScriptedSampler):
    """Writes eight samples beside each other, slowly, and keeps what is unfinished all the time."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(long_text_of, model="fake", at_once=8)
        self._delay_s = delay_s
        self.keep_s = 0.5

    def keep_unfinished(self, *, now: bool) -> None:
        time.sleep(self._delay_s)
        super().keep_unfinished(now=now)


def long_text_of(request: Request) -> str:
    """20 to 60 words, by the request's seed."""
    words = " ".join(str(number) for number in range(20 + request.seed % 41))
    return f"{words} \\boxed{{{request.seed % 7}}}"


def sample_in_steps(problems: Path, folder: Path, delay_s: float) -> None:
    run_traces(settings(n=4), problems, folder, Serving(Cluster(), lambda *_: InSteps(delay_s)))


if __name__ == "__main__":
    how = {"in-steps": sample_in_steps}.get(sys.argv[-1], sample_slowly)
    how(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
