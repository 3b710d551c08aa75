"""Stored top-K log-probabilities as training rows and tensors. Imports torch; imported late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from reasondistill.errors import ConfigError, StageError
from reasondistill.methods.step import StoredTokens
from reasondistill.methods.texts import IGNORE
from reasondistill.models.topk import TopKReader
from reasondistill.records import Dropped, fingerprint
from reasondistill.stages.students.rows import RowStore, StoredRows
from reasondistill.stages.students.tokens import TOO_LONG, Row


class StoredTopK:
    """The traces of training rows with the teacher's K best tokens at each place.

    Raises StageError when nothing is stored, ConfigError for another tokenizer or fewer than `k`
    tokens.
    """

    def __init__(self, folder: Path, k: int, tokenizer: Any) -> None:
        self.reader = TopKReader(folder)
        self.k = k
        if self.reader.k < k:
            raise ConfigError(
                f"topk_kd.k = {k}: {folder} holds {self.reader.k} per token. Raise [traces] "
                "logprobs, or lower k."
            )
        self.reader.check_tokenizer(tokenizer)
        self._tokenizer = tokenizer
        self._vocabulary = len(tokenizer)
        self._rows: Sequence[Row] = ()

    def rows(self, rows: StoredRows, max_length: int, store: RowStore) -> StoredRows:
        """The same prompts with the tokens that the teacher really wrote, which another
        tokenisation of its text need not be.

        What cannot be used is dropped from them. Raises StageError when nothing is left.
        """
        key = fingerprint([rows.key, self.reader.identity(), max_length])
        self._rows = store.keep(key, lambda: self._written(rows, max_length))
        if not self._rows:
            dropped = self._rows.dropped
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            raise StageError(
                f"{self.reader.folder}: none of the {len(rows)} traces can be trained on "
                f"({reasons})."
            )
        return self._rows

    def _written(self, rows: Iterable[Row], max_length: int) -> Iterator[Row | Dropped]:
        for row in rows:
            written = self._as_written(row)
            if isinstance(written, Row) and len(written.input_ids) > max_length:
                written = TOO_LONG
            if isinstance(written, str):
                trace = row.trace_id or row.problem_id
                yield Dropped(trace_id=trace, problem_id=row.problem_id, reason=written)
            else:
                yield written

    def _as_written(self, row: Row) -> Row | str:
        """The row with the teacher's own tokens, or why it cannot have them."""
        if row.trace_id is None or row.trace_id not in self.reader:
            return "no stored log-probabilities"
        prompt = row.input_ids[: row.prompt_length]
        answer = row.input_ids[row.prompt_length :]
        written = [int(token) for token in self.reader.read(row.trace_id, 1).token_ids]
        if self._text(written) != self._text(answer):
            # One prompt opens the think block and the other leaves it to the answer, or stop
            # strings were cut off.
            return "written after another kind of prompt than the student's"
        labels = [IGNORE] * len(prompt) + written
        return Row([*prompt, *written], labels, row.problem_id, row.trace_id)

    def _text(self, ids: Sequence[int]) -> str:
        """What token ids say, without the EOS at their end."""
        if ids and ids[-1] == self._tokenizer.eos_token_id:
            ids = ids[:-1]
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text.strip()

    def stored(self, place: int) -> StoredTokens:
        """What is stored of a training row's completion; id −1 where a teacher's padded vocabulary
        goes beyond ours.
        """
        top_k = self.reader.read(self._rows[place].trace_id or "", self.k)
        ids = torch.from_numpy(top_k.ids.astype("int64"))
        log_probs = torch.from_numpy(top_k.log_probs.astype("float32"))
        return StoredTokens(ids.masked_fill(ids >= self._vocabulary, -1), log_probs)
