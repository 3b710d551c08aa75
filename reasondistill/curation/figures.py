"""Problems that nobody can solve who sees their text alone.

figure_of("What is the area of the triangle in the figure below?", {})   # "in the figure"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from reasondistill.curation.cells import Picture

_MARK = re.compile(
    r"<image[ _]?\d*>|\[image[ _]?\d*\]|<\|image|!\[[^\[\]\n]*\]\(|<img\b|\\includegraphics",
    re.IGNORECASE,
)
# A figure that is drawn in the text.
_DRAWN = re.compile(r"\[asy\]|\\begin\{(?:asy|tikzpicture|picture|pspicture)\}|<svg\b")
_PICTURE = r"(?:figure|diagram|picture|image|drawing|illustration|graph|photograph|sketch)"
_WORDS = re.compile(
    r"\b(?:shown|depicted|pictured|illustrated|drawn|displayed|seen|see)\s+"
    rf"(?:in|on|by)\s+(?:the|this)\s+(?:\w+\s+)?{_PICTURE}\b"
    rf"|\b(?:see|shown\s+in|refer\s+to)\s+(?:the\s+)?(?:figure|fig\.)"
    rf"|\b{_PICTURE}\s+(?:shown\s+|given\s+)?(?:below|above|(?:at|on|to)\s+the\s+(?:right|left))\b"
    rf"|\bin\s+the\s+(?:\w+\s+)?(?:figure|diagram)\b"
    rf"|\bthe\s+(?:accompanying|following|adjoining)\s+{_PICTURE}\b",
    re.IGNORECASE,
)
# One of these stands in each of the above: a look at the text spares most the search.
_OF_WORDS = ("fig", "diagram", "picture", "image", "drawing", "illustration", "graph", "sketch")
_OF_MARK = ("<", "[", "\\")
# What columns of pictures are called, whatever they hold.
PICTURE_COLUMNS = ("image", "images", "image_1", "decoded_image", "figure")


def figure_of(question: str, fields: Mapping[str, Any]) -> str | None:
    """What of a row speaks of a picture that the text has not: a mark, words, a column that holds
    pictures or is called so; None where nothing does, or the figure is drawn in the text
    (Asymptote, TikZ).
    """
    if any(sign in question for sign in _OF_MARK):
        mark = _MARK.search(question)
        if mark is not None:
            return mark[0]
    for name, value in fields.items():
        if _is_picture(value) or (value and name in PICTURE_COLUMNS):
            return f"column {name}"
    if not _may_speak(question):
        return None
    words = _WORDS.search(question)
    if words is None or _DRAWN.search(question):
        return None
    return words[0]


def _may_speak(question: str) -> bool:
    if not question.isascii():
        return True  # a long s is an s to IGNORECASE, and none to lower()
    lower = question.lower()
    return any(word in lower for word in _OF_WORDS)


def _is_picture(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(one, Picture) for one in cast("list[Any]", value))
    return isinstance(value, Picture)
