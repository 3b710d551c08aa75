"""Stored top-K log-probabilities as training rows and tensors. Imports torch; imported late."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reasondistill.errors import ConfigError, StageError
from reasondistill.students.tokens import IGNORE, Row
from reasondistill.topk import TopKReader


class StoredTopK:
    """The traces of training rows with the teacher's K best tokens at each place.

    Raises StageError when nothing is stored, ConfigError for another tokenizer or fewer than `k` tokens.
    """

    def __init__(self, folder: Path, k: int, tokenizer: Any) -> None:
        if not folder.is_dir():
            raise StageError(
                f"{folder}: the teacher's log-probabilities were not stored. Set [traces] logprobs = {k} and run the traces stage again: "
                "it adds them to the traces that are there."
            )
        self.reader, self.k = TopKReader(folder), k
        if self.reader.k < k:
            raise ConfigError(f"topk_kd.k = {k}: {folder} holds {self.reader.k} per token. Raise [traces] logprobs, or lower k.")
        self.reader.check_tokenizer(tokenizer)
        self._vocabulary = len(tokenizer)
        self._rows: list[Row] = []

    def rows(self, rows: Sequence[Row], max_length: int) -> list[Row]:
        """The same prompts with the tokens that the teacher really wrote, which another tokenisation of its text need not be."""
        self._rows = [row for row in map(self._with_own_tokens, rows) if row is not None and len(row.input_ids) <= max_length]
        if not self._rows:
            raise StageError(f"{self.reader.folder}: holds none of the {len(rows)} traces to train on; run the traces stage again.")
        return self._rows

    def _with_own_tokens(self, row: Row) -> Row | None:
        if row.trace_id is None or row.trace_id not in self.reader:
            return None
        prompt = next(place for place, label in enumerate(row.labels) if label != IGNORE)
        written = [int(token) for token in self.reader.read(row.trace_id, 1).token_ids]
        return Row([*row.input_ids[:prompt], *written], [IGNORE] * prompt + written, row.problem_id, row.trace_id)

    def stored(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and log-probabilities (tokens, k) of a training row's completion; -1 where a teacher's padded vocabulary goes beyond ours."""
        found = self.reader.read(self._rows[place].trace_id or "", self.k)
        ids = torch.from_numpy(found.ids.astype("int64"))
        return ids.masked_fill(ids >= self._vocabulary, -1), torch.from_numpy(found.log_probs.astype("float32"))
