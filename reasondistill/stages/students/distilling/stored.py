"""Stored top-K log-probabilities as training rows and tensors. Imports torch; imported late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reasondistill.errors import ConfigError, StageError
from reasondistill.models.topk import TopKReader
from reasondistill.stages.students.tokens import IGNORE, Row


class StoredTopK:
    """The traces of training rows with the teacher's K best tokens at each place.

    Raises StageError when nothing is stored, ConfigError for another tokenizer or fewer than `k`
    tokens.
    """

    def __init__(self, folder: Path, k: int, tokenizer: Any) -> None:
        self.reader, self.k = TopKReader(folder), k
        if self.reader.k < k:
            raise ConfigError(
                f"topk_kd.k = {k}: {folder} holds {self.reader.k} per token. Raise [traces] "
                "logprobs, or lower k."
            )
        self.reader.check_tokenizer(tokenizer)
        self._tokenizer, self._vocabulary = tokenizer, len(tokenizer)
        self._rows: list[Row] = []

    def rows(self, rows: Sequence[Row], max_length: int) -> tuple[list[Row], dict[str, int]]:
        """The same prompts with the tokens that the teacher really wrote, which another
        tokenisation of its text need not be.

        What cannot be used is counted by reason. Raises StageError when nothing is left.
        """
        dropped: Counter[str] = Counter()
        self._rows = []
        for row in rows:
            own = self._with_own_tokens(row)
            if isinstance(own, str):
                dropped[own] += 1
            elif len(own.input_ids) > max_length:
                dropped["longer than max_length"] += 1
            else:
                self._rows.append(own)
        if not self._rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            raise StageError(
                f"{self.reader.folder}: none of the {len(rows)} traces can be trained on "
                f"({reasons})."
            )
        return self._rows, dict(dropped)

    def _with_own_tokens(self, row: Row) -> Row | str:
        """The row, or why it cannot be one."""
        if row.trace_id is None or row.trace_id not in self.reader:
            return "no stored log-probabilities"
        prompt = row.prompt_length
        written = [int(token) for token in self.reader.read(row.trace_id, 1).token_ids]
        if self._text(written) != self._text(row.input_ids[prompt:]):
            # One prompt opens the think block and the other leaves it to the answer, or stop
            # strings were cut off.
            return "written after another kind of prompt than the student's"
        return Row(
            [*row.input_ids[:prompt], *written],
            [IGNORE] * prompt + written,
            row.problem_id,
            row.trace_id,
        )

    def _text(self, ids: Sequence[int]) -> str:
        end = len(ids) - 1 if ids and ids[-1] == self._tokenizer.eos_token_id else len(ids)
        return self._tokenizer.decode(
            list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False
        ).strip()

    def stored(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and log-probabilities (tokens, k) of a training row's completion; -1 where a
        teacher's padded vocabulary goes beyond ours.
        """
        found = self.reader.read(self._rows[place].trace_id or "", self.k)
        ids = torch.from_numpy(found.ids.astype("int64"))
        return ids.masked_fill(ids >= self._vocabulary, -1), torch.from_numpy(
            found.log_probs.astype("float32")
        )
