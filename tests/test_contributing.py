"""CONTRIBUTING.md is followed to the letter: each recipe adds what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from contributing_kit import TEXT, block_of, write_block

from reasondistill.config import load_benchmark, resources
from reasondistill.grading import GradingPool
from reasondistill.stages.problems import run_problems

ROOT = Path(__file__).parents[1]


def test_a_benchmark_is_added_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_block("A benchmark", tmp_path)
    rows = [{"question": "What is 1+1?", "answer": "2"}, {"question": "2+3?", "answer": "5"}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "two_sums.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    benchmark = load_benchmark(resources.find("benchmarks", "two_sums"))
    with GradingPool(workers=1) as pool:
        manifest = run_problems(benchmark.problems, tmp_path / "problems", pool=pool)
    assert manifest.counts["out"] == benchmark.rows == 2


def test_a_divergence_is_one_function() -> None:
    """What a method does with it: tests/methods; the others: tests/curation and tests/models."""
    torch = pytest.importorskip("torch")
    from reasondistill.losses import divergences

    known = dict(divergences.DIVERGENCES)
    try:
        exec(compile(block_of("A divergence"), "squared_distance.py", "exec"), {})
        kind = divergences.Divergence("squared")
        student = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
        teacher = torch.randn(5, 7, dtype=torch.float64)
        distance = (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)
        (slope,) = torch.autograd.grad(distance.sum(), student)
        value, gradient = divergences.value_and_gradient(student.detach(), teacher, kind)
        assert torch.allclose(value, distance.detach())
        assert torch.allclose(gradient, slope)
    finally:
        divergences.DIVERGENCES.clear()
        divergences.DIVERGENCES.update(known)


def test_every_file_and_command_that_it_names_exists() -> None:
    named = re.findall(r"`((?:tests|eval|reasondistill)/[\w./]+)`", TEXT)
    assert named
    for name in named:
        assert "NAME" in name or (ROOT / name).exists(), name
    targets = set(re.findall(r"`?make (\w+)", TEXT))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert f"\n{target}:" in makefile, target
