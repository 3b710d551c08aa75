"""The documents as tests read them: pages, the blocks in them, the commands in these.

for page in PAGES:
    for block in page.blocks:
        block.language, block.title, block.commands
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Blocks of these hold no lines for a shell.
_NO_SHELL = ("toml", "python", "text", "csv", "json")
# The first word of a line that is a command; others are what a command prints.
_PROGRAMS = ("reasondistill", "make", "pip", "python", ".venv/bin/pip", ".venv/bin/python")
_BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", re.M | re.S)
_INLINE = re.compile(r"(?<!`)`((?:reasondistill|make) [^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Command:
    """A line for a shell, as words; `to` is the file that takes what it prints."""

    line: str
    words: tuple[str, ...]
    to: str | None = None

    @classmethod
    def of(cls, line: str) -> Command:
        words = shlex.split(line, comments=True)
        if ">" not in words:
            return cls(line, tuple(words))
        place = words.index(">")
        return cls(line, tuple(words[:place]), words[place + 1])


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that its title names, and its text."""

    language: str
    title: str
    text: str

    @cached_property
    def commands(self) -> list[Command]:
        if self.language in _NO_SHELL:
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [Command.of(line) for line in lines if line.split(" ")[0] in _PROGRAMS]


@dataclass(frozen=True)
class Page:
    """A page, by its name from the top of the repository."""

    name: str
    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        return [Block(*found) for found in _BLOCK.findall(self.text)]

    @cached_property
    def commands(self) -> list[Command]:
        return [command for block in self.blocks for command in block.commands]

    @cached_property
    def inline(self) -> list[Command]:
        """Commands in a sentence, which may hold NAME for what is the reader's."""
        return [Command.of(line) for line in _INLINE.findall(_BLOCK.sub("", self.text))]


def _pages() -> list[Page]:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found: list[Page] = []
    for path in paths:
        found.append(Page(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
    return found


PAGES = _pages()
