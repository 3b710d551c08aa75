"""CONTRIBUTING.md is followed to the letter: each recipe adds what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reasondistill.config import load_benchmark, resources
from reasondistill.grading import GradingPool
from reasondistill.stages.problems import run_problems

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block_of(recipe: str) -> tuple[str, str]:
    """The file name and the content of the block of a recipe: its first line says the file."""
    section = TEXT.split(f"\n### {recipe}\n", 1)[1].split("\n### ", 1)[0]
    block = re.search(r"```(?:toml|python)\n# (\S+)\n(.*?)```", section, re.S)
    assert block is not None, f"the recipe {recipe!r} has no block that names its file"
    return block.group(1), block.group(2)


def write_block(recipe: str, folder: Path) -> Path:
    """Put the block of a recipe where its first line says, below `folder`."""
    name, content = block_of(recipe)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


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


def test_every_file_and_command_that_it_names_exists() -> None:
    named = re.findall(r"`((?:tests|eval|reasondistill)/[\w./]+)`", TEXT)
    assert named
    for name in named:
        assert "NAME" in name or (ROOT / name).exists(), name
    targets = set(re.findall(r"`?make (\w+)", TEXT))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert f"\n{target}:" in makefile, target
