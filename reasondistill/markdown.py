"""Text that others wrote, in Markdown: it stays text, without tags, links and marks.

f"| {inline(name)} |"        # on one line, in a table too
fenced(trace)                # as a block of code that nothing inside ends
"""

from __future__ import annotations

import re

from reasondistill.bounds import MARKDOWN_TEXT
from reasondistill.foreign_text import shortened, shown, shown_line

# What Markdown acts on anywhere in a line; a `_` inside a word is none.
_MARKS = re.compile(r"[|<>`*\[\]\\&~$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
# What forges make a link of without being asked: addresses of pages and of mail, names of people.
_LINKS = re.compile(
    r":(?=//)|(?<=\bwww)\.|(?<![0-9a-z])@|@(?=[\w-]+\.\w)", re.ASCII | re.IGNORECASE
)
# What makes a heading, a list, a rule or a table of a whole line.
_BEGINNINGS = re.compile(r"^(\d{0,9})([#.)+=-])(?=\s|$|[#=-])")


def inline(value: object) -> str:
    """Text that stays text in a line or table cell, shortened: no tags, no table bars, no line
    breaks, no links.
    """
    line = " ".join(str(value).split())
    line = shown_line(shortened(line, MARKDOWN_TEXT.most))
    line = _MARKS.sub(r"\\\g<0>", line)
    line = _LINKS.sub(r"\\\g<0>", line)
    return _BEGINNINGS.sub(r"\1\\\2", line)


def fenced(value: str) -> str:
    """A code block with a fence longer than any in the text, so nothing inside can end it."""
    body = shown(shortened(value.strip("\n"), MARKDOWN_TEXT.most))
    return code_block(body, "text")


def code_block(body: str, language: str) -> str:
    """The same of what is ours, or was made fit to be shown: all of it, as it is."""
    runs = re.findall("`+", body)
    longest = max(map(len, runs), default=0)
    fence = "`" * max(3, 1 + longest)
    return f"{fence}{language}\n{body}\n{fence}"
