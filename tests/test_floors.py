"""The floor map of README is a fact: a module imports only from lower floors, and heavy packages
stay out of module level.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "reasondistill"
README = (ROOT / "README.md").read_text(encoding="utf-8")

STAGES = ("problems", "traces", "verdicts", "examples", "students", "evals", "report")
FLOORS: dict[float, tuple[str, ...]] = {
    7: ("cli",),
    6.2: ("doctor",),
    6.1: ("forecast",),
    6.0: ("launch",),
    5: ("pipeline", "api"),
    4: (*(f"stages.{stage}" for stage in STAGES), "grade_file"),
    3: ("models", "curation"),
    2.1: ("runs",),
    2.0: ("config",),
    1.1: ("methods",),
    1.0: ("losses", "grading", "statistics"),
    0.1: ("records", "sections", "thinking", "progress"),
    0.0: ("errors", "hashing", "durations"),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}

HEAVY = {
    "torch", "vllm", "trl", "transformers", "datasets", "peft", "accelerate", "httpx", "ray",
    "reasoning_gym", "pandas", "pyarrow", "matplotlib", "tokenizers", "safetensors",
}  # fmt: skip
# Imported only from inside functions, so they may name their heavy package at the top.
LATE = {
    f"{folder}/{name}.py"
    for folder, names in {
        "models/samplers/openai": "sampler connection",
        "stages/students": "bases finite held_out hidden isolation optimizers progress saving "
        "shrinking sorted_trainer trainer_settings training",
