"""From a row to the published traces in it. A value of another type than text is an error with its
row: its Python form would pass for what a teacher wrote.

    row = read_row(fields, settings, row.fields, "traces.jsonl: row 7")
    row.question, [text.text for text in row.texts], row.left_out
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from reasondistill.config import StoredSettings
from reasondistill.curation.rows import get_value
from reasondistill.curation.selection import TEMPLATE
from reasondistill.errors import DataError
from reasondistill.models.samplers.openai.replies import texts_of
from reasondistill.models.samplers.openai.wordings import FINISHES
from reasondistill.models.samplers.stored.exchanges import read_exchange, token_logprobs
from reasondistill.models.samplers.stored.shapes import LOGPROBS, Fields
from reasondistill.models.samplers.stored.texts import (
    StoredRow,
    StoredText,
    as_objects,
    kind_of,
    wrong_type,
)
from reasondistill.models.samplers.stored.turns import Turn, answer_of, question_of, turns_of
from reasondistill.records import Finish

EMPTY = "no text"
# OpenThoughts-114k marks both parts with texts of its own.
_THOUGHT = ("<|begin_of_thought|>", "<|end_of_thought|>")
_SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")
# Of who wrote a trace.
_LONGEST_NAME = 200
_WANTED = "a text, a list of texts, or turns"


def read_row(
    fields: Fields, settings: StoredSettings, row: Mapping[str, Any], place: str
) -> StoredRow:
    """What a row holds. Raises DataError for a value of another type."""
    if fields.are_exchanges:
        read = read_exchange(row, place)
    else:
        read = read_fields(fields, settings, row, place)
    question = read.question
    if fields.question is not None:
        question = question_in(fields.question, row, place)
    texts = [replace(text, teacher=teacher_of(fields, settings, row, text)) for text in read.texts]
    return StoredRow(question, tuple(texts), read.left_out)


def read_fields(
    fields: Fields, settings: StoredSettings, row: Mapping[str, Any], place: str
) -> StoredRow:
    """The traces in the fields of a row, or in its turns."""
    value = get_value(row, fields.text)
    turns = as_objects(value)
    if turns is not None:
        read = turns_of(turns, f"{place}: {fields.text}")
        return row_of_turns(read, settings)
    several = _texts_at(value, f"{place}: {fields.text}")
    thinking = thinking_of(fields, row, len(several), place)
    finishes = finishes_of(fields, row, len(several), place)
    texts: list[StoredText] = []
    left_out: list[str] = []
    for text, thoughts, finish in zip(several, thinking, finishes, strict=True):
        if not text.strip() and not (thoughts or "").strip():
            left_out.append(EMPTY)
        else:
            texts.append(_with_parts(text, thoughts, finish))
    if not several:
        left_out.append(EMPTY)
    if len(texts) == 1:
        texts = [with_tokens(fields, texts[0], row, place)]
    return StoredRow(None, tuple(texts), tuple(left_out))


def row_of_turns(turns: Sequence[Turn], settings: StoredSettings) -> StoredRow:
    """The assistant's turn that counts, and what the user had asked before it."""
    found = answer_of(turns, settings.turn)
    if isinstance(found, str):
        return StoredRow(question_of(turns), (), (found,))
    place, text = found
    question = question_of(turns[:place])
    if not text.text.strip() and not text.thinking:
        return StoredRow(question, (), (EMPTY,))
    return StoredRow(question, (_with_parts(text.text, text.thinking, text.finish),))


def _texts_at(value: Any, place: str) -> list[str]:
    """The texts of a field; an item that is missing is an empty one."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise DataError(f"{place}: holds {kind_of(value)}, want {_WANTED}.")
    texts: list[str] = []
    for number, item in enumerate(cast("list[object]", value)):
        if item is not None and not isinstance(item, str):
            raise DataError(
                f"{place}: holds a list whose item {number} is {kind_of(item)}, want {_WANTED}."
            )
        texts.append(item or "")
    return texts


def thinking_of(
    fields: Fields, row: Mapping[str, Any], texts: int, place: str
) -> list[str] | list[None]:
    """The reasoning of each text, where it stands apart."""
    if fields.thinking is None:
        return [None] * texts
    thoughts = _texts_at(get_value(row, fields.thinking), f"{place}: {fields.thinking}")
    if not thoughts:
        return [None] * texts
    if len(thoughts) != texts:
        raise DataError(
            f"{place}: {fields.thinking}: {len(thoughts)} texts beside {texts} in {fields.text}: "
            "nobody says which belong together."
        )
    return thoughts


def finishes_of(fields: Fields, row: Mapping[str, Any], texts: int, place: str) -> list[Finish]:
    """Why each text ended, as far as it is said."""
    unknown: list[Finish] = ["unknown"] * texts
    if fields.finish is None:
        return unknown
    value = get_value(row, fields.finish)
    if value is None:
        return unknown
    if not isinstance(value, list) or len(cast("list[object]", value)) != texts:
        raise wrong_type(place, fields.finish, value, f"a list of {texts} reasons")
    finishes: list[Finish] = []
    for reason in cast("list[object]", value):
        word = str(reason or "unknown").strip().lower()
        finishes.append(FINISHES.get(word, "unknown"))
    return finishes


def _with_parts(text: str, thinking: str | None, finish: Finish) -> StoredText:
    """The trace with reasoning that stands apart, each said once."""
    if thinking is not None and thinking.strip():
        thinking, text = texts_of({"content": text, "reasoning_content": thinking})
        return StoredText(text, thinking, finish)
    body = text.strip()
    if not body.startswith(_THOUGHT[0]):
        return StoredText(text, None, finish)
    thoughts, _, answer = body.removeprefix(_THOUGHT[0]).partition(_THOUGHT[1])
    answer = answer.strip().removeprefix(_SOLUTION[0]).removesuffix(_SOLUTION[1])
    return StoredText(answer, thoughts, finish)


def with_tokens(fields: Fields, text: StoredText, row: Mapping[str, Any], place: str) -> StoredText:
    """With the count of its tokens where these, or their log-probabilities, were published."""
    counts: list[int] = []
    mean = None
    for name in fields.tokens:
        values = row.get(name)
        if values is None:
            continue
        if not isinstance(values, list):
            raise wrong_type(place, name, values, "a list of numbers")
        items = cast("list[object]", values)
        counts.append(len(items))
        if name == LOGPROBS:
            _, mean = token_logprobs(items, f"{place}: logprobs")
    if len(set(counts)) > 1:
        raise DataError(f"{place}: {counts[0]} token_ids, but {counts[1]} logprobs.")
    return replace(text, tokens=(counts or [0])[0] or None, mean_logprob=mean)


def question_in(named: str, row: Mapping[str, Any], place: str) -> str | None:
    """What a row asks: a field, a template with its fields, or the user's turn of turns."""
    parts = TEMPLATE.findall(named)
    if not parts:
        value = get_value(row, named)
        turns = as_objects(value)
        if turns is not None:
            return question_of(turns_of(turns, f"{place}: {named}"))
        return _one_text(value, named, place)

    def put_in(match: re.Match[str]) -> str:
        return _one_text(get_value(row, match[1]), match[1], place) or ""

    return TEMPLATE.sub(put_in, named)


def _one_text(value: object, field: str, place: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise wrong_type(place, field, value, "a text")


def teacher_of(
    fields: Fields, settings: StoredSettings, row: Mapping[str, Any], text: StoredText
) -> str | None:
    """Who wrote it, as the row says, else as the file says."""
    said: object = text.teacher
    if fields.teacher is not None:
        said = get_value(row, fields.teacher)
    if isinstance(said, str) and said.strip():
        return said.strip()[:_LONGEST_NAME].encode("utf-8", "replace").decode()
    return settings.teacher
