"""A batch as training will see it, text by text: for those who look at it before.

    batch = batch_of("[students] small", tokenizer, tensors, prompts=[41, 57])
    batch.texts[0].parts(tokenizer)     # Part("<|im_start|>user…", False, 41), Part("9 * 4…", …)

Of each text its padding is taken off; what is learnt is what has a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from reasondistill.methods.texts import IGNORE


@dataclass(frozen=True)
class Part:
    """A stretch of a text: whether it `is_learnt`, and how many `tokens` it has."""

    text: str
    is_learnt: bool
    tokens: int


@dataclass(frozen=True)
class BatchText:
    """One row of a batch without its padding. `prompt` is how many of its tokens the model is
    given, `padding` how many stand behind it, and `padding_learnt` how many of those have a label.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    prompt: int
    padding: int = 0
    padding_learnt: int = 0

    @property
    def learnt(self) -> int:
        """How many tokens have a label."""
        return sum(label != IGNORE for label in self.labels)

    def parts(self, tokenizer: Any) -> Iterator[Part]:
        """What is learnt and what is not, in turns, as text."""
        both = list(zip(self.ids, self.labels, strict=True))
        for is_learnt, group in groupby(both, key=lambda pair: pair[1] != IGNORE):
            ids = [number for number, _ in group]
            text = tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            yield Part(text, is_learnt, len(ids))


@dataclass(frozen=True)
class Batch:
    """The rows of a batch, and by which tokenizer they can be read. `whose` says who learns them;
    not `are_real` are those that stand in for examples which nobody has made yet.
    """

    whose: str
    tokenizer: Any
    texts: tuple[BatchText, ...]
    are_real: bool = True


def batch_of(
    whose: str,
    tokenizer: Any,
    tensors: Mapping[str, Any],
    *,
    prompts: Sequence[int],
    are_real: bool = True,
) -> Batch:
    """What a collator has made of rows with prompts of so many tokens, in their order: padded, or
    all in one row.
    """
    rows = list(_rows(tensors))
    texts = [
        BatchText(
            ids[:length],
            labels[:length],
            prompt,
            len(ids) - length,
            sum(label != IGNORE for label in labels[length:]),
        )
        for (ids, labels, length), prompt in zip(rows, prompts, strict=True)
    ]
    return Batch(whose, tokenizer, tuple(texts), are_real)


def _rows(tensors: Mapping[str, Any]) -> Iterator[tuple[list[int], list[int], int]]:
    """Ids, labels and the length without padding of each text."""
    ids: list[list[int]] = tensors["input_ids"].tolist()
    labels: list[list[int]] = tensors["labels"].tolist()
    mask = tensors.get("attention_mask")
    if mask is not None:
        lengths: list[int] = mask.sum(1).tolist()
        yield from zip(ids, labels, lengths, strict=True)
        return
    positions: list[int] = tensors["position_ids"][0].tolist()
    starts = [place for place, position in enumerate(positions) if position == 0]
    for start, end in pairwise([*starts, len(positions)]):
        yield ids[0][start:end], labels[0][start:end], end - start
