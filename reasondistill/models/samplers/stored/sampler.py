"""A teacher without a model: its completions stand in a data set.

with StoredSampler(settings, problems) as sampler:
    traces = list(sample_traces(problems, sampler, prompt, Sampling(), n=4))
    sampler.provenance()        # which rows were read, which traces are of no problem

The i-th sample of a problem is its i-th trace in the order of the data set. One that is not there
is a completion that says so (`fault="absent"`). Each process reads the data set once, from its
beginning to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from reasondistill.config import ModelSettings, StoredSettings
from reasondistill.curation.rows import OpenedRows, Row, open_file, open_hub
from reasondistill.curation.sources import told_by
from reasondistill.models.samplers.base import SamplerBase
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.models.samplers.requests import (
    Rendered,
    Request,
    Sampled,
    failed,
    opened_by_turns,
    problem_and_sample,
)
from reasondistill.models.samplers.stored.holding import Holding
from reasondistill.models.samplers.stored.naming import hash_of, path_of, stored_identity
from reasondistill.models.samplers.stored.reading import read_row
from reasondistill.models.samplers.stored.shapes import Fields, find_fields
from reasondistill.models.samplers.stored.texts import StoredRow, StoredText
from reasondistill.records import Completion, Message, Problem
from reasondistill.thinking import ReasoningFormat

log = logging.getLogger(__name__)

# Rows that are looked at for the fields of a data set.
_PEEK = 100
# About so many characters are a token, where nobody counted them.
_CHARACTERS_PER_TOKEN = 4


class StoredSampler(SamplerBase):
    """The published traces of these problems; tokens are as many as their publisher says, else
    estimated.
    """

    def __init__(self, model: ModelSettings, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.model = stored_identity(model)
        self._settings = model
        self._problems = problems
        self._holding: Holding | None = None
        self._opened = OpenedRows(iter(()), "", "", "")

    def start(self) -> None:
        """Read the data set. Raises ConfigError, DataError or MissingDependencyError."""
        if self._holding is not None:
            return
        fields = fields_of(self._settings)
        opened = open_rows(self._settings, fields)
        holding = Holding(self._problems)
        holding.fill(opened, lambda row: read_stored(self._settings, fields, opened, row))
        self._opened, self._holding = opened, holding
        log.info(
            "%s: %d rows with %d traces, %d of them of this run's problems",
            self.model,
            holding.rows,
            holding.traces,
            holding.matched,
        )
        if holding.left_out.counts:
            log.info("%s: left out: %s", self.model, holding.left_out.words())

    def close(self) -> None:
        if self._holding is not None:
            self._holding.close()

    def provenance(self) -> dict[str, Any]:
        if self._holding is None:
            return {}
        holding = self._holding
        return {
            "dataset": self._opened.dataset,
            "dataset_revision": self._opened.revision,
            "split": self._opened.split,
            "rows": holding.rows,
            "traces": holding.traces,
            "matched": holding.matched,
            "written_by": [dict(holding.teachers)],
            "left_out": [dict(holding.left_out.counts)],
            "first_rows_left_out": [dict(holding.left_out.rows)],
        }

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        return Rendered(messages, opens=opened_by_turns(messages))

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        self.start()
        holding = self._holding
        assert holding is not None  # start has made it
        for request in requests:
            if self.should_stop():
                return
            problem_id, sample = problem_and_sample(request.id)
            there = holding.count(problem_id)
            if sample >= there:
                yield Sampled(request, failed(absence(there), fault="absent"))
                continue
            text, published = holding.get(problem_id, sample)
            completion = completion_of(text, request, self._settings.reasoning)
            yield Sampled(request, completion, published=published)


def absence(there: int) -> str:
    if there == 0:
        return "no published trace"
    return f"only {there} published"


def completion_of(text: StoredText, request: Request, shape: ReasoningFormat) -> Completion:
    """The completion that a published text is. Nobody says how long it took."""
    whole = f"{text.thinking or ''}{text.text}"
    tokens, prompt_tokens = text.tokens, text.prompt_tokens
    is_estimated = tokens is None
    if tokens is None:
        tokens = max(len(whole) // _CHARACTERS_PER_TOKEN, 1)
    if prompt_tokens is None:
        turns = request.rendered.messages
        prompt_tokens = sum(len(turn.content) for turn in turns) // _CHARACTERS_PER_TOKEN
        is_estimated = True
    completion = split_reasoning(
        text.text,
        shape=shape,
        opens=None,
        finish=text.finish,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        seconds=0.0,
    )
    update: dict[str, Any] = {}
    if text.thinking is not None:
        think = "closed" if text.text.strip() else "open"
        update = {"reasoning": text.thinking, "answer_text": text.text, "think": think}
    if is_estimated:
        update["is_estimated"] = True
    return completion.model_copy(update=update)


# ---- the data set --------------------------------------------------------------------------------


def settings_of(model: ModelSettings) -> StoredSettings:
    """Where the traces stand in the rows."""
    return model.stored or StoredSettings()


def open_rows(model: ModelSettings, fields: Fields | None = None) -> OpenedRows:
    """The rows of the data set, with these fields where they are known. Raises ConfigError or
    MissingDependencyError, and DataError while reading.
    """
    settings = settings_of(model)
    path = path_of(model)
    wanted: list[str] = []
    texts: list[str] = []
    if fields is not None and not fields.are_exchanges:
        wanted, texts = fields.named(), fields.texts()
    revision = model.revision
    if path is not None:
        revision = hash_of(path)
    with told_by("model"):
        if path is not None and path.is_file():
            return open_file(
                path, revision=str(revision), split=settings.split, fields=wanted, texts=texts
            )
        return open_hub(
            model.model,
            path,
            config=settings.config,
            split=settings.split,
            revision=revision,
            streaming=False,
            trust_remote_code=model.trust_remote_code,
            texts=texts,
        )


def fields_of(model: ModelSettings) -> Fields:
    """Which fields of the data set hold what, by its first rows. Raises ConfigError or
    DataError.
    """
    opened = open_rows(model)
    first = list(islice(opened.rows, _PEEK))
    return find_fields(settings_of(model), first, opened.dataset)


def read_stored(model: ModelSettings, fields: Fields, opened: OpenedRows, row: Row) -> StoredRow:
    """What a row holds. Raises DataError for a value of another type."""
    place = f"{opened.dataset}: row {row.index}"
    return read_row(fields, settings_of(model), row.fields, place)


def check_first_rows(model: ModelSettings) -> None:
    """Read the first rows as they will be read. Raises ConfigError or DataError."""
    fields = fields_of(model)
    opened = open_rows(model, fields)
    for row in islice(opened.rows, _PEEK):
        read_stored(model, fields, opened, row)
