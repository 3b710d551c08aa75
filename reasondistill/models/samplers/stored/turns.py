"""Conversations: turns with `role` and `content`, or with `from` and `value` (ShareGPT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasondistill.errors import DataError
from reasondistill.models.samplers.openai.replies import Malformed, texts_of
from reasondistill.models.samplers.stored.texts import StoredText, wrong_type

_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot", "bing"), "assistant"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "function_call", "observation", "ipython"), "tool"),
}
NO_ANSWER = "a conversation without a turn of the assistant"
SEVERAL = "a conversation with several turns of the assistant, and no `turn` is named"
OTHER_TURN = "the turn that `turn` names is not there, or not the assistant's"


@dataclass(frozen=True)
class Turn:
    """Who spoke, and what: `reasoning` where it stands apart."""

    role: str
    text: str
    reasoning: str | None


def turns_of(items: Sequence[Mapping[str, Any]], place: str) -> list[Turn]:
    """The turns, each of a known role. Raises DataError for what is no turn."""
    return [turn_of(item, f"{place}: turn {number}") for number, item in enumerate(items)]


def turn_of(item: Mapping[str, Any], place: str) -> Turn:
    """One turn. Raises DataError for what is none."""
    name: Any = item.get("role", item.get("from"))
    if not isinstance(name, str):
        raise wrong_type(place, "role", name, "the name of who speaks (role, or from)")
    role = _ROLES.get(name.strip().lower())
    if role is None:
        raise DataError(f"{place}: unknown role {name[:40]!r}.")
    content: Any = item.get("content", item.get("value"))
    if content is not None and not isinstance(content, (str, list)):
        raise wrong_type(place, "content", content, "a text")
    try:
        reasoning, text = texts_of({**item, "content": content})
    except Malformed as error:
        raise DataError(f"{place}: {error.reason}.") from None
    return Turn(role, text, reasoning)


def question_of(turns: Sequence[Turn]) -> str | None:
    """What the last user's turn of these says."""
    asked = [turn.text for turn in turns if turn.role == "user"]
    if not asked:
        return None
    return asked[-1]


def answer_of(turns: Sequence[Turn], named: int | None) -> tuple[int, StoredText] | str:
    """The assistant's turn that counts and its place, or why there is none."""
    spoken = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if named is None:
        if not spoken:
            return NO_ANSWER
        if len(spoken) > 1:
            return SEVERAL
        place = spoken[0]
    else:
        place = named if named >= 0 else len(turns) + named
        if place not in spoken:
            return OTHER_TURN
    return place, StoredText(turns[place].text, turns[place].reasoning)
