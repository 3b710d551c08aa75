"""Stored top-K log-probabilities as training rows and tensors. Imports torch; imported late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from reasondistill.errors import ConfigError, StageError
from reasondistill.foreign_text import shown_line
from reasondistill.methods.step import StoredTokens
from reasondistill.methods.texts import IGNORE
from reasondistill.models.tokenising import tokenise_text
from reasondistill.models.topk import TopKReader, read_vocabulary
from reasondistill.models.vocabulary import TokenMatch
from reasondistill.records import Dropped, fingerprint
from reasondistill.stages.students.distilling.teacher import tell_gap
from reasondistill.stages.students.rows import RowStore, StoredRows
from reasondistill.stages.students.tokens import TOO_LONG, Row


class StoredTopK:
    """The traces of training rows with the teacher's K best tokens at each place.

    Where special tokens of teacher and student differ, `match` says which are which: the teacher's
    become the student's, and one that the student has not is spelled in the student's tokens.

    Raises StageError when nothing is stored, ConfigError where ordinary tokens differ or fewer than
    `k` are kept.
    """

    def __init__(self, folder: Path, k: int, tokenizer: Any) -> None:
        self.reader = TopKReader(folder)
        self.k = k
        if self.reader.k < k:
            raise ConfigError(
                f"topk_kd.k = {k}: {folder} holds {self.reader.k} per token. Raise [traces] "
                "logprobs, or lower k."
            )
        self.match = self.reader.match_tokenizer(tokenizer)
        if self.match is not None:
            tell_gap(", ".join(self.reader.models), self.match)
        self._names = _names_of_teacher_alone(self.reader, self.match)
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
        written, _ = self._of_student(self.reader.read(row.trace_id, 1).token_ids)
        if self._text(written) != self._text(answer):
            if self._text(written[:-1]) == self._text(answer):
                end = shown_line(self._tokenizer.decode(written[-1:], skip_special_tokens=False))
                ours = shown_line(str(self._tokenizer.eos_token))
                return f"the teacher ends with {end}, the student's texts with {ours} (eos_token)"
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

    def _of_student(self, token_ids: Iterable[Any]) -> tuple[list[int], list[int]]:
        """What the teacher wrote in the student's ids, and for each of them the place at which the
        teacher wrote it; −1 for the further tokens of a name that is spelled out.
        """
        ids = [int(token) for token in token_ids]
        if self.match is None:
            return ids, list(range(len(ids)))
        written: list[int] = []
        places: list[int] = []
        for place, token in enumerate(ids):
            spelled = [self._number(token)]
            if token in self._names:
                spelled = tokenise_text(self._tokenizer, self._names[token])
            written += spelled
            places += [place, *[-1] * (len(spelled) - 1)]
        return written, places

    def _number(self, token: int) -> int:
        """The student's id of a shared token of the teacher."""
        return self._of_teacher.get(token, token)

    @cached_property
    def _of_teacher(self) -> dict[int, int]:
        if self.match is None:
            return {}
        return dict(zip(self.match.teacher, self.match.student, strict=True))

    def stored(self, place: int) -> StoredTokens:
        """What is stored of a training row's completion; id −1 where a teacher's padded vocabulary
        goes beyond ours.

        Where special tokens differ the probabilities are those among the shared ones, and a place
        of which the teacher cannot tell holds −1 alone.
        """
        top_k = self.reader.read(self._rows[place].trace_id or "", self.k)
        ids = torch.from_numpy(top_k.ids.astype("int64"))
        log_probs = torch.from_numpy(top_k.log_probs.astype("float32"))
        if self.match is None:
            return StoredTokens(ids.masked_fill(ids >= self._vocabulary, -1), log_probs)
        _, places = self._of_student(top_k.token_ids)
        wanted = torch.tensor(places)
        among_shared = _among_shared(StoredTokens(ids, log_probs), self._lookup)
        is_spelled = (wanted < 0).unsqueeze(-1)
        rows = wanted.clamp(min=0)
        return StoredTokens(
            among_shared.ids[rows].masked_fill(is_spelled, -1), among_shared.log_probs[rows]
        )

    @cached_property
    def _lookup(self) -> torch.Tensor:
        """Teacher's id → student's id, −1 for what the student has not: (teacher's ids,)."""
        size = max(self.reader.vocabulary_size, 1 + max(self._of_teacher))
        lookup = torch.full((size,), -1)
        for theirs, ours in self._of_teacher.items():
            lookup[theirs] = ours
        return lookup


def _names_of_teacher_alone(reader: TopKReader, match: TokenMatch | None) -> dict[int, str]:
    """The tokens that only the teacher has, by its id."""
    if match is None:
        return {}
    alone = set(match.gap.only_teacher)
    tokens = read_vocabulary(reader.folder)
    return {number: token for token, number in tokens.items() if token in alone}


def _among_shared(stored: StoredTokens, lookup: torch.Tensor) -> StoredTokens:
    """Stored tokens under the student's ids, their probabilities normalised without the tokens that
    only the teacher has; −1 alone where these have more than half.
    """
    ids = lookup[stored.ids]
    is_foreign = ids < 0
    p = stored.log_probs.exp()
    foreign = torch.where(is_foreign, p, 0.0).sum(-1, keepdim=True)
    rest = torch.log1p(-foreign.clamp(max=0.5))
    return StoredTokens(ids.masked_fill(foreign > 0.5, -1), stored.log_probs - rest)
