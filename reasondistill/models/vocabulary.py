"""Comparing the tokens of two tokenizers, such as a teacher's and its student's.

    differences = unequal_tokens(teacher, student)
    if differences:
        raise ConfigError("; ".join(differences))

Within a family ordinary tokens are the same and some special ones are not: `match_tokens` says
which correspond. Tokenizers are transformers', which is not imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasondistill.errors import ConfigError
from reasondistill.records import TokenGap, fingerprint


def vocabulary_of(tokenizer: Any) -> dict[str, int]:
    """Token → id, added tokens included."""
    return dict(tokenizer.get_vocab())


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """16 hex digits over every token and its id: where they are equal, every id is the same token.

    How text is cut into tokens (merges, normaliser) is not in it, nor is what a model pads its
    vocabulary with.
    """
    return vocabulary_fingerprint(vocabulary_of(tokenizer))


def vocabulary_fingerprint(vocabulary: Mapping[str, int]) -> str:
    """The fingerprint of a vocabulary without its tokenizer."""
    return fingerprint(sorted(vocabulary.items()))


def unequal_tokens(tokenizer_a: Any, tokenizer_b: Any, most: int = 5) -> list[str]:
    """The first ids that are different tokens, `id 7: 'a' here, 'b' there`; empty when
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


# ---- one family, some other special tokens -------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """What is known of a tokenizer's tokens: all of them by id, those that were added to the
    ordinary ones, and the one that ends a text.
    """

    tokens: Mapping[str, int]
    added: frozenset[str]
    end: str | None

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(self.tokens.values(), default=-1) + 1


def describe_vocabulary(tokenizer: Any) -> Vocabulary:
    """What a tokenizer says of its own tokens."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    contents = frozenset(str(token.content) for token in added.values())
    return Vocabulary(vocabulary_of(tokenizer), contents, tokenizer.eos_token)


# <think>, <|im_end|>, <｜User｜>, [INST]: how vendors write tokens that are no text.
_MARKER = re.compile(r"(<.+>|\[.+\])", re.DOTALL)


def guess_vocabulary(tokens: Mapping[str, int], end: str | None = None) -> Vocabulary:
    """The same of tokens whose tokenizer is not here: what looks like a marker counts as added."""
    added = frozenset(token for token in tokens if _MARKER.fullmatch(token))
    return Vocabulary(tokens, added, end)


@dataclass(frozen=True)
class TokenMatch:
    """Which tokens of a student are which of its teacher's, where special ones differ: the j-th
    shared token has the ids `student[j]` (rising) and `teacher[j]`.

    `reading[i]` is what the teacher reads where the student's id is i, one for each of the
    student's ids. `gap` says in words what is not shared.
    """

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    reading: tuple[int, ...]
    teacher_vocabulary: int
    gap: TokenGap


def match_tokens(
    student: Vocabulary, teacher: Vocabulary, spell: Callable[[str], Sequence[int]]
) -> TokenMatch | None:
    """How the tokens of two vocabularies correspond; None where all mean the same by the same ids.

    Ordinary tokens must be the same by the same ids. Added ones are matched by name, and the ends
    of a text with each other where one of both knows its own alone. What is left only one of both
    has; of the student's the teacher reads its own token of that id, or the first of those that
    `spell` makes of the name in the teacher's tokens. Raises UnlikeTokens where an ordinary token
    differs.
    """
    here, there = student.tokens, teacher.tokens
    if here == there:
        return None
    unlike = _unlike_ordinary(student, teacher)
    if unlike:
        raise UnlikeTokens(unlike)
    pairs: dict[int, int] = {}
    for token, number in here.items():
        if token in there:
            pairs[number] = there[token]
    reading = dict(pairs)
    mapped: dict[str, str] = {}
    end, their_end = student.end, teacher.end
    if end is not None and their_end is not None and (end not in there or their_end not in here):
        if their_end in here:
            del pairs[here[their_end]]
        pairs[here[end]] = there[their_end]
        reading.setdefault(here[end], there[their_end])
        mapped[end] = their_end
    by_id = {number: token for token, number in there.items()}
    for token, number in here.items():
        if number in by_id:
            reading.setdefault(number, number)
        elif number not in reading:
            reading[number] = spell(token)[0]
    ids = sorted(pairs)
    shared_there = set(pairs.values())
    only_student = [number for number in here.values() if number not in pairs]
    only_teacher = [number for number in there.values() if number not in shared_there]
    names = {number: token for token, number in here.items()}
    return TokenMatch(
        student=tuple(ids),
        teacher=tuple(pairs[number] for number in ids),
        reading=tuple(reading.get(number, 0) for number in range(student.size)),
        teacher_vocabulary=teacher.size,
        gap=TokenGap(
            mapped=mapped,
            only_student=tuple(names[number] for number in sorted(only_student)),
            only_teacher=tuple(by_id[number] for number in sorted(only_teacher)),
        ),
    )


class UnlikeTokens(ValueError):
    """Ordinary tokens of two vocabularies differ; `lines` says which, the first ones first."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def matched_tokenizers(teacher: Any, student: Any, name: str) -> TokenMatch | None:
    """Which tokens of the teacher `name` are which of a student's; None where all are the same.
    Raises ConfigError, naming the first ones, where ordinary tokens differ.
    """

    def spell(token: str) -> list[int]:
        return teacher.encode(token, add_special_tokens=False)

    try:
        return match_tokens(describe_vocabulary(student), describe_vocabulary(teacher), spell)
    except UnlikeTokens as unlike:
        raise ConfigError(
            f"teacher {name}: its tokenizer is not the student's: {unlike}. Its "
            "probabilities are of other tokens; take a "
            "student of the same family, or method = 'sft', which learns from text alone."
        ) from None


def _unlike_ordinary(student: Vocabulary, teacher: Vocabulary) -> list[str]:
    """What the first ids are at which an ordinary token of either is not the other's."""
    ordinary_here = _ordinary(student)
    ordinary_there = _ordinary(teacher)
    for mine, theirs in ((ordinary_here, teacher.tokens), (ordinary_there, student.tokens)):
        for token, number in mine.items():
            if theirs.get(token) != number:
                return unequal_ids(ordinary_here, ordinary_there)
    return []


def _ordinary(vocabulary: Vocabulary) -> dict[str, int]:
    ordinary: dict[str, int] = {}
    for token, number in vocabulary.tokens.items():
        if token not in vocabulary.added:
            ordinary[token] = number
    return ordinary


def gap_in_words(gap: TokenGap) -> str:
    """`<|im_end|> is its <｜end▁of▁sentence｜>; left out of what is compared: …`."""
    parts: list[str] = []
    for here, there in gap.mapped.items():
        parts.append(f"{here} is its {there}")
    if gap.only_student:
        parts.append(f"only the student has {_some(gap.only_student)}")
    if gap.only_teacher:
        parts.append(f"only the teacher has {_some(gap.only_teacher)}")
    return "; ".join(parts)


def _some(tokens: Sequence[str], most: int = 8) -> str:
    text = ", ".join(tokens[:most])
    rest = len(tokens) - most
    if rest > 0:
        text += f" and {rest:,} more"
    return text
