"""The recipes of CONTRIBUTING.md as the tests follow them."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block_of(recipe: str) -> str:
    """The content of a recipe's block, less its first line, which says the file."""
    return _parts(recipe)[1]


def write_block(recipe: str, folder: Path) -> Path:
    """Put the block of a recipe where its first line says, below `folder`."""
    name, content = _parts(recipe)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def _parts(recipe: str) -> tuple[str, str]:
    section = TEXT.split(f"\n### {recipe}\n", 1)[1].split("\n### ", 1)[0]
    block = re.search(r"```(?:toml|python)\n# (\S+)\n(.*?)```", section, re.S)
    assert block is not None, f"the recipe {recipe!r} has no block that names its file"
    return block.group(1), block.group(2)
