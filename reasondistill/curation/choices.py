"""Multiple choice: options lettered behind the question, and the letter of the right one.

lettered("How many?", ["3", "4"], right=1)  # ("How many?\n\nA) 3\nB) 4", "B")
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from typing import Any

LETTERS = string.ascii_uppercase[:10]  # the letters that the grader reads


def lettered(question: str, options: Sequence[str], right: int) -> tuple[str, str]:
    """The question with its options below it, and the letter of `options[right]`."""
    lines = "\n".join(
        f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)
    )
    return f"{question}\n\n{lines}", LETTERS[right]


def without_options(question: str) -> str:
    """The question without the options that `lettered` added."""
    return question.partition(f"\n\n{LETTERS[0]}) ")[0]


def shuffled(
    question: str, options: Sequence[str], right: int, *, seed: int
) -> tuple[list[str], int]:
    """The options in an order given by seed and question, and the place of the right one.

    They are sorted by a hash of their text: the order does not depend on the order of the fields or
    of the rows.
    """

    def rank(place: int) -> bytes:
        text = f"{seed}\n{question}\n{options[place]}"
        return hashlib.sha256(text.encode("utf-8", "replace")).digest()

    order = sorted(range(len(options)), key=rank)
    return [options[i] for i in order], order.index(right)


def find_right(options: Sequence[str], answer: Any) -> int | None:
    """The option that an answer names: by its number counted from 0, a letter, or the text of
    exactly one option; None when it names none.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(options):
            return None
        return answer
    text = str(answer).strip()
    letter = text.strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    if options.count(text) != 1:
        return None
    return options.index(text)


def fault_of(options: Sequence[str], right: int) -> str | None:
    """Why these options make no question: fewer than two, more than there are letters, an empty
    one, the right one twice.
    """
    if not 2 <= len(options) <= len(LETTERS):
        return f"{len(options)} options; there must be 2 to {len(LETTERS)}"
    if any(not option for option in options):
        return "an option is empty"
    if options.count(options[right]) > 1:
        return "the right option is there twice"
    return None
