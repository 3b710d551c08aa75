"""inspect's logs: `.eval`, a zip of JSON, and `.json`. After inspect_ai 0.3.285 (schema 2:
`log/_log.py`, `log/_recorders/eval.py`, `scorer/_metric.py`).

A sample of a log is an answer: a problem is its `id`, the sample's number its `epoch`. It is the
same problem where input and target are. A metric is the name of a scorer, `scorer/key` where one
gives several values; C and true are right, I, N and false are wrong, P and any other share is
neither. A sample that ended in an error, was set aside or has no value (NaN) is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reasondistill.errors import DataError
from reasondistill.foreign_logs.archive import open_archive
from reasondistill.foreign_logs.log import Log, LoggedRow, Mark, Stated, gold_text, mark_of
from reasondistill.foreign_logs.values import (
    hash_of,
    items,
    mapping,
    mapping_in,
    name_in,
    number_in,
    parsed,
    read_object,
    text_in,
)
from reasondistill.foreign_text import shortened, shown_line
from reasondistill.records import Finish

_HEADER, _START = "header.json", "start.json"
_SAMPLE = re.compile(r"samples/(.+)_epoch_(\d{1,9})\.json", re.DOTALL)
_WORDS = {"c": 1, "i": 0, "n": 0, "yes": 1, "true": 1, "no": 0, "false": 0}
_ATTACHED = "attachment://"
_CUT_SHORT = ("max_tokens", "model_length")
_SETTINGS = ("task_version", "task_args", "model", "model_args", "model_generate_config", "config")
_LONGEST_ERROR = 120


class InspectLog(Log):
    """A finished log. Raises DataError for one that is not."""

    tool = "inspect"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._samples: list[Mapping[str, Any]] | None = None
        if path.suffix == ".eval":
            with open_archive(path) as archive:
                heads = [name for name in (_HEADER, _START) if name in archive.names]
                if not heads:
                    raise DataError(f"{path}: no log of inspect: it holds no {_HEADER}.")
                self.header = parsed(archive.read(heads[0]), f"{path}: {heads[0]}")
        else:
            self.header = read_object(path)
            samples = map(mapping, items(self.header.get("samples")))
            self._samples = sorted(samples, key=lambda one: str(one.get("id")))
        spec = mapping(self.header.get("eval"))
        task = text_in(spec, "task")
        if task is None:
            raise DataError(f"{path}: no log of inspect: it names no task.")
        status = text_in(self.header, "status") or "started"
        if status != "success":
            raise DataError(
                f"{path}: status = {status!r}: not finished, and what ended first is not like the "
                "rest. `inspect eval-retry` finishes it."
            )
        self.benchmark = task
        self.model = text_in(spec, "model")

    def rows(self) -> Iterator[LoggedRow]:
        """Those of one problem one after another; in the file they stand as they ended."""
        if self._samples is not None:
            for number, sample in enumerate(self._samples, start=1):
                where = f"{self.path}: sample {number}"
                yield _row_of(sample, where)
            return
        with open_archive(self.path) as archive:
            for name in samples_in_order(archive.names):
                where = f"{self.path}: {shown_line(name)}"
                yield _row_of(parsed(archive.read(name), where), where)

    def stated(self) -> Stated:
        results = mapping(self.header.get("results"))
        rows = results.get("logged_samples")
        if not isinstance(rows, int):
            rows = results.get("total_samples")
        if not isinstance(rows, int):
            rows = None
        means: dict[str, float] = {}
        for score in items(results.get("scores")):
            name, scorer = mapping(score).get("name"), mapping(score).get("scorer")
            for key in ("accuracy", "mean"):
                mean = number_in(mapping_in(mapping(score), "metrics", key), "value")
                if mean is not None:
                    means.setdefault(str(name), mean)
                    means.setdefault(f"{scorer}/{name}", mean)
        return Stated(rows=rows, means=means)

    def settings(self) -> Mapping[str, Any]:
        spec = mapping(self.header.get("eval"))
        values: dict[str, Any] = {name: spec.get(name) for name in _SETTINGS}
        values["dataset"] = mapping(spec.get("dataset")).get("name")
        values["generation"] = mapping_in(self.header, "plan", "config")
        values["packages"] = spec.get("packages")
        return values


def samples_in_order(names: Iterable[str]) -> list[str]:
    """The files that are samples, by problem and epoch."""
    places: dict[str, tuple[str, int]] = {}
    for name in names:
        found = _SAMPLE.fullmatch(name)
        if found is not None:
            places[name] = found[1], int(found[2])
    return sorted(places, key=lambda name: places[name])


def _row_of(sample: Mapping[str, Any], where: str) -> LoggedRow:
    epoch = sample.get("epoch", 1)
    if not isinstance(epoch, int) or epoch < 1:
        raise DataError(f"{where}: epoch = {str(epoch)[:40]}; want a whole number from 1 on.")
    target = sample.get("target")
    golds = [str(one) for one in items(target)] or [str(target)]
    attachments = mapping(sample.get("attachments"))
    asked = [_whole(text, attachments) for text in texts_asked(sample.get("input"))]
    marks: dict[str, Mark | str | None] = {}
    taken = None
    for scorer, score in mapping(sample.get("scores")).items():
        value = mapping(score).get("value")
        parts = {scorer: value}
        if isinstance(value, Mapping):
            parts = {f"{scorer}/{key}": one for key, one in mapping(value).items()}
        for name, one in parts.items():
            marks[name] = mark_of_score(one)
        taken = taken or text_in(mapping(score), "answer")
    output = mapping(sample.get("output"))
    choice = mapping(next(iter(items(output.get("choices"))), None))
    written = text_in(output, "completion") or _content(mapping(choice.get("message")))
    finish: Finish = "stop"
    if choice.get("stop_reason") in _CUT_SHORT:
        finish = "length"
    return LoggedRow(
        where,
        name_in(sample, "id", where),
        sample=epoch - 1,
        asked=hash_of(asked, golds, sample.get("choices")),
        question=next(reversed(asked), ""),
        gold=gold_text(golds),
        marks=marks,
        texts=(_whole(written, attachments),),
        taken=taken,
        finish=finish,
        lost=why_lost(sample),
    )


def mark_of_score(value: Any) -> Mark | str | None:
    """A score as right or wrong: inspect's letters and words, else a number."""
    if not isinstance(value, str):
        return mark_of(value)
    if value.lower() in _WORDS:
        return mark_of(_WORDS[value.lower()])
    try:
        return mark_of(float(value))
    except ValueError:
        return f"{shortened(shown_line(value), 20)!r} is neither right nor wrong"


def why_lost(sample: Mapping[str, Any]) -> str | None:
    """Why a sample has no score at all; None for one that may have one."""
    error = mapping(sample.get("error"))
    if error:
        words = shown_line(text_in(error, "message") or "unknown")
        return f"error: {shortened(words, _LONGEST_ERROR)}"
    if sample.get("invalidation") is not None:
        return "set aside by whoever looked at the log"
    return None


def texts_asked(value: Any) -> list[str]:
    """The texts of what was asked: one, or those of the messages."""
    if isinstance(value, str):
        return [value]
    return [_content(mapping(message)) for message in items(value)]


def _content(message: Mapping[str, Any]) -> str:
    """The text of a message, of several parts with a line break between them."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [text_in(mapping(part), "text") for part in items(content)]
    return "\n".join(part for part in parts if part)


def _whole(text: str, attachments: Mapping[str, Any]) -> str:
    """The text that stands elsewhere in the sample, where one only points at it."""
    if not text.startswith(_ATTACHED):
        return text
    return text_in(attachments, text.removeprefix(_ATTACHED)) or text
