"""A sample of the damages of corrupt.py on a small run: none is silent, none crashes, and what is
refused is repaired. All of them: `python tests/torture/corrupt.py` on a run of yours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from corrupt import FAULTS, Bench, drawn
from test_cli import run
from warm import Warm

PIPELINE = """
name = "small"
[problems]
source = "file"
dataset = "problems.jsonl"

[traces]
prompt = "question"
n = 2

[[traces.teachers]]
model = "script.jsonl"
sampler = "scripted"

[examples]
validation = 0.2
export = ["messages"]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run without models."""
    place = tmp_path_factory.mktemp("torture")
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(10)]
    script: list[dict[str, str]] = []
    for i, row in enumerate(rows):
        for answer in (2 * i, 2 * i + 1):
            script.append({"question": row["question"], "text": f"It is \\boxed{{{answer}}}"})
    for name, values in (("problems.jsonl", rows), ("script.jsonl", script)):
        (place / name).write_text("".join(json.dumps(value) + "\n" for value in values))
    (place / "small.toml").write_text(PIPELINE)
    run(place, "run", "small.toml")
    return place


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Quick commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_COLOR", "1")
        with Warm(tmp_path_factory.mktemp("warm"), of="light") as forking:
            yield forking


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("remakes", [False, True])
def test_a_damage_is_never_used_and_never_crashes(
    place: Path,
    warm: Warm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    remakes: bool,
) -> None:
    monkeypatch.chdir(place)
    whole = place / "runs" / "small"
    bench = Bench(whole, place / "small.toml", tmp_path, warm, repairs=True)
    case = drawn(whole, number, seed=7, remakes=remakes)
    word, why = bench.outcome(case)
    print(case, word, why)
    assert word not in FAULTS, f"{case}: {word}: {why}"
    assert word != "refused", f"{case}: {word}: {why}"
