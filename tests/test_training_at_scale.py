"""Several processes make the student that one makes: through `accelerate launch`, stopped, killed and resumed; what they cannot do is refused.

Two processes on a CPU (gloo). "The same" is up to the order in which floats are added: TOLERANCE in float32.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_students import example
from tiny_model import make_tiny_model

from reasondistill import pipeline, resources
from reasondistill.config import Cluster, Pipeline
from reasondistill.errors import ConfigError, Interrupted, StageError
from reasondistill.launch import local
from reasondistill.launch.training import multi_node_lines, training_command
from reasondistill.pipeline import Run, Task, save_run
from reasondistill.store import Identity, StopSignal, finish_stage, open_stage, read_manifest, read_metrics, write_records
from reasondistill.students import read_student
from reasondistill.students.strategies import check_strategy

torch = pytest.importorskip("torch")

# Absolute, of losses about 5 and of weights about 0.2, after 40 steps of AdamW in float32.
TOLERANCE = 2e-4

SFT: dict[str, Any] = {
    "name": "sft",
    "epochs": 5,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "bf16": False,
    "max_length": 400,
    "evaluate_every": 20,
    "baselines": [],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "base")


def run_of(folder: Path, base: Path, *, processes: int = 2, strategy: str = "ddp", **student: Any) -> Run:
    """A run whose examples are there: 61 to train on, so that the last of 8 batches an epoch is not full."""
    origin = {"source": "procedural", "dataset": "gsm_symbolic", "name": "g", "limit": 9, "question": "question", "answer": "answer"}
    values = {
        "name": "scale",
        "problems": origin,
        "traces": {"prompt": "question", "n": 1, "teachers": [{"model": "shipped:demo-teacher"}]},
        "students": [SFT | {"base": str(base)} | student],
        "evals": {"benchmarks": [], "checkpoints": {"count": 2}},
    }
    train = {"micro_batch_size": 4, "threads": 1, "processes": processes, "strategy": strategy}
    run = Run(Pipeline.model_validate(values), Cluster.model_validate({"train": train}), folder, folder / "p.toml")
    rows = [example(i, answer="<think>\n" + "3 + 4 = 7. " * (i % 7) + "\n</think>\n\n\\boxed{7}") for i in range(61)]
    rows += [example(i, split="validation") for i in range(61, 68)]
    open_stage(run.stage("examples"), Identity("examples", 1, {}, {}))
    write_records(run.stage("examples") / "examples.jsonl", rows)
    finish_stage(run.stage("examples"), counts={"in": len(rows), "out": len(rows)}, seconds=0.0)
    save_run(run)
    return run


TASK = Task("students", ("sft",))


class Launched:
    """The student's training, started as `reasondistill run` starts it."""

    def __init__(self, run: Run) -> None:
        self.folder, self.lines = run.stage("students") / "sft", list[str]()
        self.handle = local.submit(run, TASK, lambda _, line: self.lines.append(line))

    def reaches(self, step: int) -> None:
        """Wait until so many steps are done."""
        wait_until(lambda: any(line["step"] >= step for line in read_metrics(self.folder)) or self.handle.process.poll() is not None)
        assert self.handle.process.poll() is None, self.handle.log.read_text()

    def ends(self) -> None:
        local.wait(self.handle)

    def workers(self) -> list[int]:
        """The processes that train, the first of them first."""
        starter = self.handle.process.pid
        children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
        return sorted((int(pid) for pid in children if rank_of(pid) is not None), key=lambda pid: rank_of(str(pid)) or 0)


def rank_of(pid: str) -> int | None:
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next((int(text.removeprefix("RANK=")) for text in variables if text.startswith("RANK=")), None)


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(run: Run, part: str = "model") -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.stage("students") / "sft" / part / "model.safetensors")


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def losses(run: Run, name: str = "loss") -> dict[int, float]:
    lines = read_metrics(run.stage("students") / "sft")
    steps = [line["step"] for line in lines if name in line]
    assert steps == sorted(set(steps))  # one process writes, and a resumed curve does not double back
    return {line["step"]: line[name] for line in lines if name in line}
