"""The gold answer that a row holds, or why it holds none.

    gold_of({"answer": "so #### 7"}, ["answer"], mark="####")          # Gold("7")
    gold_of({"a": "1/2", "b": 0.5}, ["a", "b"], mark=None)             # Gold('["1/2", "0.5"]')
    gold_of({"answer": None}, ["answer"], mark=None)                   # NoGold("no answer")

Several answers, of several fields or of a list of texts, are alternatives: any of them is right.
They are kept as one text that lists them, as `grading.read.golds.alternatives` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from reasondistill.curation.cells import as_text, is_infinite
from reasondistill.curation.golds import text_after
from reasondistill.curation.rows import get_value
from reasondistill.grading.read.golds import alternatives
from reasondistill.thinking import holds_tag


@dataclass(frozen=True)
class Gold:
    """An answer, or a list of alternatives."""

    text: str


@dataclass(frozen=True)
class NoGold:
    """Why there is no answer."""

    reason: str
    detail: str = ""


NOTHING = NoGold("no answer")


def gold_of(fields: Mapping[str, Any], names: Sequence[str], mark: str | None) -> Gold | NoGold:
    """The answer in these fields, of each what follows the last `mark` where there is one. A field
    without a value is passed over; one whose value is no answer is a fault of the row.
    """
    answers: dict[str, None] = {}
    for name in names:
        value = get_value(fields, name)
        for part in _parts(value):
            answer = _answer(part, mark)
            if isinstance(answer, Gold):
                answers[answer.text] = None
            elif answer != NOTHING:
                return answer
    if not answers:
        return NOTHING
    if len(answers) == 1:
        return Gold(next(iter(answers)))
    # A field that lists alternatives itself, as text, adds each of them.
    every = dict.fromkeys(chain.from_iterable(map(alternatives, answers)))
    return Gold(json.dumps(list(every), ensure_ascii=False))


def _parts(value: Any) -> Sequence[Any]:
    """The texts of a list of texts; anything else is one value."""
    if isinstance(value, list) and value:
        parts = cast("list[Any]", value)
        if all(isinstance(part, str) and part.strip() for part in parts):
            return parts
    return (value,)


def _answer(value: Any, mark: str | None) -> Gold | NoGold:
    if isinstance(value, (list, Mapping)):
        kind = type(cast("object", value)).__name__
        return NoGold("answer is not text", f"found {kind}: {value}")
    if is_infinite(value):
        return NoGold("answer is infinite", "a number beyond what the type of its column holds")
    text = as_text(value).strip()
    if not text:
        return NOTHING
    if holds_tag(text):
        return NoGold("gold holds a model's reasoning", f"{text[:80]!r}")
    if mark is None:
        return Gold(text)
    if mark not in text:
        return NoGold("no answer mark", f"no {mark!r} in {text[-80:]!r}")
    answer = text_after(text, mark)
    if not answer:
        return NoGold("no answer", f"nothing after {mark!r}")
    return Gold(answer)
