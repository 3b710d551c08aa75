"""The tokens between which a model reasons, for an engine that counts what stands there.

    thinking_tokens(tokenizer, "auto", "Qwen/Qwen3-8B").opener      # "<think>"

A tag counts that is one token, whatever stands around it: only such a one is seen in every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reasondistill.errors import ConfigError
from reasondistill.thinking import ReasoningFormat, pairs_of


@dataclass(frozen=True)
class ThinkingTokens:
    """What opens a block of reasoning and what closes it, as text and as token ids."""

    opener: str
    closer: str
    opener_id: int
    closer_id: int

    def longest(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> int:
        """How many tokens the longest block of reasoning has that is closed in a completion; one
        that the prompt opens begins there.

        >>> ThinkingTokens("<think>", "</think>", 1, 2).longest([9, 1], [5, 5, 2, 7])
        2
        """
        begun_at = None
        if _last(prompt_ids, self.opener_id) > _last(prompt_ids, self.closer_id):
            begun_at = -self.open_count(prompt_ids)
        longest = 0
        for place, token in enumerate(ids):
            if token == self.opener_id and begun_at is None:
                begun_at = place + 1
            elif token == self.closer_id and begun_at is not None:
                longest, begun_at = max(longest, place - begun_at), None
        return longest

    def open_count(self, ids: Sequence[int]) -> int:
        """How many tokens stand in the block of reasoning that is open at the end; 0 without one.

        >>> ThinkingTokens("<think>", "</think>", 1, 2).open_count([9, 1, 5, 5])
        2
        """
        opened_at = _last(ids, self.opener_id)
        if opened_at <= _last(ids, self.closer_id):
            return 0
        return len(ids) - opened_at - 1


def _last(ids: Sequence[int], token: int) -> int:
    """The last place of a token; -1 without one."""
    for place in range(len(ids) - 1, -1, -1):
        if ids[place] == token:
            return place
    return -1


def thinking_tokens(tokenizer: Any, shape: ReasoningFormat, model: str) -> ThinkingTokens:
    """The tags of this shape ("auto": of any) that are one token each. Raises ConfigError, which
    names the model, where there are none, or of several shapes.
    """
    found: list[ThinkingTokens] = []
    for opener, closer in pairs_of(shape):
        opener_ids = tokenizer.encode(opener, add_special_tokens=False)
        closer_ids = tokenizer.encode(closer, add_special_tokens=False)
        if len(opener_ids) == len(closer_ids) == 1 and opener_ids != closer_ids:
            found.append(ThinkingTokens(opener, closer, opener_ids[0], closer_ids[0]))
    if len(found) > 1:
        openers = ", ".join(one.opener for one in found)
        raise ConfigError(
            f"thinking_budget: {model} has tokens for {openers}; name the format in which it "
            "reasons: reasoning, where the model stands in your file."
        )
    if not found:
        raise ConfigError(
            f"thinking_budget: {model} has no tags of reasoning that are one token each (reasoning "
            f"= {shape!r}), so nobody can count what stands between them; leave thinking_budget "
            "out, and bound the whole answer by max_tokens."
        )
    return found[0]
