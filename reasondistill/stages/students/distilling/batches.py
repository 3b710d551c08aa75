"""How the texts of a training step become tensors. Imports torch; imported late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from reasondistill.methods.texts import IGNORE, POLICY_VALUES, Text
from reasondistill.stages.students.tokens import Row


def fixed_text(row: Row, place: int) -> Text:
    """The trace itself."""
    return Text(row.input_ids, row.labels, place)


def collate(texts: Sequence[Text], *, pad: int, flat: bool) -> dict[str, Any]:
    """Texts as tensors (texts, tokens), padded on the right; with `flat` as one row without
    padding and without a mask, kept apart by what `boundaries` gives.

    Beside ids and labels: `rows` (texts,), and per token `row`, `place` (within the completion),
    `by_student`, `weight` and policy values.
    """
    columns: dict[str, list[list[Any]]] = {}
    for text in texts:
        for name, values in token_columns(text, flat=flat).items():
            columns.setdefault(name, []).append(values)
    blanks = {"input_ids": pad, "labels": IGNORE, "attention_mask": 0}
    batch: dict[str, Any] = {}
    for name, rows in columns.items():
        batch[name] = one_row(rows) if flat else padded(rows, blanks.get(name, 0))
    batch["rows"] = torch.tensor([text.row for text in texts])
    if flat:
        batch |= boundaries([len(text.input_ids) for text in texts])
    return batch


def collated(features: Sequence[Mapping[str, Any]], *, pad: int, flat: bool) -> dict[str, Any]:
    """A trainer's rows as `collate` makes a batch of them."""
    texts = [Text(one["input_ids"], one["labels"], one["row"]) for one in features]
    return collate(texts, pad=pad, flat=flat)


def boundaries(lengths: Sequence[int]) -> dict[str, Any]:
    """Where each text of a flat row begins, in the words of every kind of layer, as TRL's collator
    says it: positions for masks that are made of them, sums of lengths for flash attention and
    linear attention, the number of each token's text for state spaces.
    """
    positions: list[int] = []
    numbers: list[int] = []
    for number, length in enumerate(lengths):
        positions.extend(range(length))
        numbers.extend([number] * length)
    sums = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return {
        "position_ids": torch.tensor([positions]),
        "seq_idx": torch.tensor([numbers], dtype=torch.int32),
        "cu_seq_lens_q": sums,
        "cu_seq_lens_k": sums,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def token_columns(text: Text, *, flat: bool) -> dict[str, list[Any]]:
    """What stands beside each token of a text."""
    length = len(text.input_ids)
    start = text.prompt_length
    columns: dict[str, list[Any]] = {
        "input_ids": text.input_ids,
        "labels": text.labels,
        "row": [text.row] * length,
        "place": [max(0, place - start) for place in range(length)],
        "by_student": [int(text.by_student)] * length,
        "weight": [text.weight] * length,
    }
    if flat:
        # The first label of a flat row would be predicted from the row before it.
        columns["labels"] = [IGNORE, *text.labels[1:]]
    else:
        columns["attention_mask"] = [1] * length
    for name in POLICY_VALUES:
        values: tuple[float, ...] = getattr(text, name)
        if values:
            columns[name] = [0.0] * start + list(values)
        else:
            usual = 1.0 if name == "importance" else 0.0
            columns[name] = [usual] * length
    return columns


def one_row(rows: Sequence[Sequence[Any]]) -> torch.Tensor:
    """All rows behind each other, (1, tokens)."""
    values: list[Any] = []
    for row in rows:
        values.extend(row)
    return torch.tensor([values])


def padded(rows: Sequence[Sequence[Any]], blank: Any) -> torch.Tensor:
    """Rows of different lengths, filled up on the right, (rows, tokens)."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[blank] * (width - len(row))] for row in rows])


def split_evenly(texts: Sequence[Text], parts: int) -> list[list[Text]]:
    """The texts in `parts` micro-batches, sorted by length so that little is padded; none is empty
    while there are texts enough.
    """
    ordered = sorted(texts, key=lambda text: len(text.input_ids))
    bounds = [round(part * len(ordered) / parts) for part in range(parts + 1)]
    batches: list[list[Text]] = []
    for start, end in zip(bounds, bounds[1:], strict=False):
        if end > start:
            batches.append(ordered[start:end])
    return batches


def tokens_in(batch: Mapping[str, torch.Tensor]) -> int:
    """How many tokens a batch has without its padding."""
    mask = batch.get("attention_mask")
    if mask is None:
        return batch["input_ids"].numel()
    return int(mask.sum())
