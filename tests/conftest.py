"""Fixtures that several test modules use."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_machine as ray_kit
import slurm_machine as slurm_kit
import workers
from cluster_kit import SlowTeacher, records_alone
from draws import register_profiles

from reasondistill.config import resources
from reasondistill.interpreter import SAFE_PATH
from reasondistill.runs import seals

register_profiles()
if workers.IS_WORKER:
    workers.take_one_core()
# The key by which a user's own runs are known is not kept in the home folder of who runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="reasondistill-state-")

PIPELINE = """
name = "small"
about = "a run without models"

[problems]
source = "file"
dataset = "problems.jsonl"

[traces]
prompt = "question"
n = 2

[[traces.teachers]]
model = "{script}"
sampler = "scripted"

[examples]
validation = 0.2
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if workers.IS_WORKER:
        workers.longest_first(items)


@pytest.fixture(autouse=True)
def _as_before_a_task() -> Iterator[None]:
    """A task that a test does in this process takes logging and the path of children for itself,
    and makes no key.
    """
    paths = {name: os.environ.get(name) for name in (SAFE_PATH, "PYTHONPATH")}
    loggers = (logging.getLogger("reasondistill"), logging.getLogger(resources.__name__))
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    seals.make_key_where_none_is(True)
    for name, value in paths.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with ten problems, a script of two completions for each, and a pipeline file."""
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(10)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [
        (
            f"<think>\n{i} + {i} = {2 * i}\n</think>\n\n\\boxed{{{2 * i}}}",
            f"I guess \\boxed{{{2 * i + 1}}}",
        )
        for i in range(10)
    ]
    script = [
        {"question": row["question"], "text": text}
        for row, pair in zip(rows, texts, strict=True)
        for text in pair
    ]
    (tmp_path / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in script))
    (tmp_path / "small.toml").write_text(PIPELINE.format(script=tmp_path / "script.jsonl"))
    return tmp_path


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """mounted("size=64k"): a file system of its own; mounted(source, "ro"): a folder as it is, not
    to be written.
    """
    places: list[Path] = []

    def mount(options: str, source: Path | None = None) -> Path:
        place = source or tmp_path / f"disk{len(places)}"
        place.mkdir(exist_ok=True)
        kind = (
            ["-t", "tmpfs", "-o", options, "tmpfs"] if source is None else ["--bind", str(source)]
        )
        if subprocess.run(
            ["mount", *kind, str(place)], capture_output=True, check=False
        ).returncode:
            pytest.skip("no right to mount a file system here")
        places.append(place)
        if source is not None:
            subprocess.run(["mount", "-o", f"remount,bind,{options}", str(place)], check=True)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


# ---- clusters ------------------------------------------------------------------------------------


@pytest.fixture
def slurm() -> Iterator[slurm_kit.SlurmMachine]:
    """A real Slurm of the test's own (1.5 s); the test is skipped, with the reason, where none can
    be had.
    """
    reason = slurm_kit.why_not()
    if reason is not None:
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        slurm_kit.SlurmMachine(Path(folder)) as machine,
    ):
        yield machine


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def ray_machine(ray_folder: Path) -> Iterator[ray_kit.RayMachine]:
    """A real Ray cluster of the test's own (about 20 s); the test is skipped, with the reason,
    where none can be had.
    """
    reason = ray_kit.why_not()
    if reason is not None:
        pytest.skip(reason)
    with ray_kit.RayMachine(ray_folder) as machine:
        yield machine


# ---- a run that any launcher can do --------------------------------------------------------------


@pytest.fixture(scope="session")
def _teacher() -> Iterator[SlowTeacher]:
    made = SlowTeacher()
    yield made
    made.http.shutdown()


@pytest.fixture
def slow_teacher(_teacher: SlowTeacher) -> SlowTeacher:
    """A teacher who has not been asked anything yet, and is quick until the test says otherwise."""
    _teacher.delay_s, _teacher.refuses = 0.0, ""
    _teacher.asked.clear()
    return _teacher


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, _teacher: SlowTeacher
) -> dict[str, list[dict[str, Any]]]:
    """The records that one machine makes, by file; ask for it before anything that slows the
    teacher down.
    """
    return records_alone(tmp_path_factory.mktemp("alone"), _teacher)
