"""The texts of a training step, and how they become tensors. Imports torch; imported late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from reasondistill.stages.students.tokens import IGNORE, Row, prompt_length


@dataclass(frozen=True)
class Text:
    """A prompt with one completion, the teacher's trace or what the student wrote, as a training
    step sees it.

    `row` is its place among the training rows. `weight` multiplies its tokens' losses. The policy
    values are per completion token.
    """

    input_ids: list[int]
    labels: list[int]
    row: int
    by_student: bool = False
    weight: float = 1.0
    advantages: tuple[float, ...] = ()
    old_log_probs: tuple[float, ...] = ()
    importance: tuple[float, ...] = ()

    @property
    def prompt_length(self) -> int:
        return prompt_length(self.labels)


def fixed_text(row: Row, place: int) -> Text:
    """The trace itself."""
    return Text(row.input_ids, row.labels, place)


def written_text(prompt: list[int], completion: list[int], place: int, weight: float = 1.0) -> Text:
    """What the student wrote after a prompt."""
    return Text(
        [*prompt, *completion],
        [IGNORE] * len(prompt) + completion,
        place,
        by_student=True,
        weight=weight,
    )


# What a policy gradient knows of each completion token.
_VALUES = ("advantages", "old_log_probs", "importance")


def as_json(text: Text) -> dict[str, Any]:
    """A text as a checkpoint keeps it."""
    return asdict(text)


def from_json(value: Mapping[str, Any]) -> Text:
    """The text that `as_json` kept."""
    fields: dict[str, Any] = {
        key: tuple(item) if key in _VALUES else item for key, item in value.items()
    }
    return Text(**fields)


def in_loss(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(texts, tokens − 1): True where the next token is one that the loss is on."""
    return batch["labels"][:, 1:] != IGNORE


def collate(texts: Sequence[Text], *, pad: int, flat: bool) -> dict[str, Any]:
    """Texts as tensors (texts, tokens), padded on the right; with `flat` as one row without
    padding, kept apart by `position_ids`.

    Beside ids and labels: `rows` (texts,), and per token `row`, `place` (within the completion),
    `by_student`, `weight` and policy values.
    """
    columns: dict[str, list[list[Any]]] = {}
    for text in texts:
        for name, values in _columns(text, flat=flat).items():
            columns.setdefault(name, []).append(values)
    blanks = {"input_ids": pad, "labels": IGNORE, "attention_mask": 0}
    batch = {name: _join(rows, blanks.get(name, 0), flat=flat) for name, rows in columns.items()}
    return batch | {"rows": torch.tensor([text.row for text in texts])}


def _columns(text: Text, *, flat: bool) -> dict[str, list[Any]]:
    length, start = len(text.input_ids), text.prompt_length
    # The first label of a flat row would be predicted from the row before it.
    labels = [IGNORE, *text.labels[1:]] if flat else text.labels
    shared = {
        "input_ids": text.input_ids,
        "labels": labels,
        "row": [text.row] * length,
        "place": [max(0, place - start) for place in range(length)],
        "by_student": [int(text.by_student)] * length,
        "weight": [text.weight] * length,
    }
    shared |= {"position_ids": list(range(length))} if flat else {"attention_mask": [1] * length}
    for name in _VALUES:
        values = getattr(text, name)
        shared[name] = (
            [0.0] * start + list(values)
            if values
            else [1.0 if name == "importance" else 0.0] * length
        )
    return shared


def _join(rows: Sequence[Sequence[Any]], blank: Any, *, flat: bool) -> torch.Tensor:
    if flat:
        return torch.tensor([[value for row in rows for value in row]])
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[blank] * (width - len(row))] for row in rows])


def split_evenly(texts: Sequence[Text], parts: int) -> list[list[Text]]:
    """The texts in `parts` micro-batches, sorted by length so that little is padded; none is empty
    while there are texts enough.
    """
    ordered = sorted(texts, key=lambda text: len(text.input_ids))
    bounds = [round(part * len(ordered) / parts) for part in range(parts + 1)]
    return [
        ordered[start:end] for start, end in zip(bounds, bounds[1:], strict=False) if end > start
    ]
