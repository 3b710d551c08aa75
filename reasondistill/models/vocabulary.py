"""Do two tokenizers mean the same by the same ids? Whoever compares a teacher's token ids with a
student's must know.

    if differences := unequal_tokens(teacher, student):
        raise ConfigError("; ".join(differences))

Tokenizers are transformers'; nothing of them is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasondistill.records import fingerprint


def vocabulary_of(tokenizer: Any) -> dict[str, int]:
    """Token → id, added tokens included."""
    return dict(tokenizer.get_vocab())


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """16 hex digits over every token and its id: equal ones mean the same by every id.

    How text is cut into tokens (merges, normaliser) is not in it, nor is what a model pads its
    vocabulary with.
    """
    return vocabulary_fingerprint(vocabulary_of(tokenizer))


def vocabulary_fingerprint(vocabulary: Mapping[str, int]) -> str:
    """The same of a vocabulary without its tokenizer."""
    return fingerprint(sorted(vocabulary.items()))


def unequal_tokens(tokenizer_a: Any, tokenizer_b: Any, most: int = 5) -> list[str]:
    """What the first ids are that mean different tokens, `id 7: 'a' here, 'b' there`; empty when
    all are equal.

    At most so many, and then one text that counts the others.
    """
    return unequal_ids(vocabulary_of(tokenizer_a), vocabulary_of(tokenizer_b), most)


def unequal_ids(
    vocabulary_a: Mapping[str, int], vocabulary_b: Mapping[str, int], most: int = 5
) -> list[str]:
    """`unequal_tokens` of two vocabularies."""
    if vocabulary_a == vocabulary_b:
        return []
    a, b = _by_id(vocabulary_a), _by_id(vocabulary_b)
    unequal = [number for number in sorted(a.keys() | b.keys()) if a.get(number) != b.get(number)]
    lines: list[str] = []
    for number in unequal[:most]:
        here, there = _shown(a.get(number)), _shown(b.get(number))
        lines.append(f"id {number}: {here} here, {there} there")
    rest = len(unequal) - most
    if rest > 0:
        lines.append(f"and {rest:,} more")
    return lines


def _by_id(vocabulary: Mapping[str, int]) -> dict[int, tuple[str, ...]]:
    """Id → its tokens; a broken tokenizer can have two."""
    tokens: dict[int, tuple[str, ...]] = {}
    for token, number in sorted(vocabulary.items()):
        tokens[number] = (*tokens.get(number, ()), token)
    return tokens


def _shown(tokens: tuple[str, ...] | None) -> str:
    if tokens is None:
        return "nothing"
    return " and ".join(map(repr, tokens))
