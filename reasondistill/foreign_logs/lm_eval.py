"""lm-eval's samples: `samples_TASK_DATE.jsonl`, with `results_DATE.json` beside it where it is
there. After lm-eval 0.4.13 (`loggers/evaluation_tracker.py`, `evaluator.py`).

A row is a document of the task under one filter, with a value for each metric: as in its results, a
metric is called `exact_match,strict-match`. A problem is the document's number, `doc_id`; it is the
same one where document and target are. `repeats` are answers of one row with one score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.curation.packed import unpacked, without_packing
from reasondistill.errors import DataError
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

_NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
# The benchmark of a file that was given another name: the log itself does not say it.
NAMELESS = "samples"
# What a row holds beside the values of its metrics, where it does not list these (before 0.4.5).
_KEYS = frozenset(
    ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")
    + ("doc_hash", "prompt_hash", "target_hash")
)
# Where documents have their question, the first that is there.
_QUESTIONS = ("question", "problem", "query", "input", "prompt", "Question", "Problem")
_RESULTS = (
    "model_name",
    "model_source",
    "lm_eval_version",
    "transformers_version",
    "chat_template_sha",
    "system_instruction_sha",
    "fewshot_as_multiturn",
)
_CONFIG = ("model_args", "limit", "gen_kwargs", "random_seed", "fewshot_seed")
_BY_TASK = {"versions": "task version", "n-shot": "examples in the prompt"}


class LmEvalLog(Log):
    """The samples of one task."""

    tool = "lm-eval"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.benchmark = NAMELESS
        self.results: Mapping[str, Any] = {}
        found = _NAME.fullmatch(without_packing(path).name)
        if found is not None:
            self.benchmark, date = found.groups()
            results = path.parent / f"results_{date}.json"
            if results.exists():
                self.results = read_object(results)
        self.model = text_in(self.results, "model_name")

    def rows(self) -> Iterator[LoggedRow]:
        with unpacked(self.path) as file:
            lines = foreign_json.bounded_lines(file, self.path)
            for number, line in enumerate(lines, start=1):
                where = f"{self.path}:{number}"
                if line.strip():
                    yield _row_of(parsed(line, where), where)

    def stated(self) -> Stated:
        counts = mapping_in(self.results, "n-samples", self.benchmark)
        problems = counts.get("effective")
        if not isinstance(problems, int):
            problems = None
        means: dict[str, float] = {}
        said = mapping_in(self.results, "results", self.benchmark)
        for name in said:
            mean = number_in(said, name)
            if mean is not None:
                means[name] = mean
        low: set[str] = set()
        for name, is_high in mapping_in(self.results, "higher_is_better", self.benchmark).items():
            if is_high is False:
                low.add(name)
        return Stated(problems, means=means, low_is_better=frozenset(low))

    def settings(self) -> Mapping[str, Any]:
        values: dict[str, Any] = {name: self.results.get(name) for name in _RESULTS}
        config = mapping(self.results.get("config"))
        values |= {name: config.get(name) for name in _CONFIG}
        for key, name in _BY_TASK.items():
            values[name] = mapping(self.results.get(key)).get(self.benchmark)
        task = mapping_in(self.results, "configs", self.benchmark)
        values["generation"] = task.get("generation_kwargs")
        values["repeats"] = task.get("repeats")
        return values


def is_lm_eval(row: Mapping[str, Any]) -> bool:
    """Whether a row of a file is one of lm-eval's."""
    return {"doc_id", "target", "resps", "filtered_resps"} <= row.keys()


def _row_of(row: Mapping[str, Any], where: str) -> LoggedRow:
    if not is_lm_eval(row):
        raise DataError(f"{where}: not a sample of lm-eval: doc_id, target or resps is missing.")
    doc, target = row.get("doc"), row["target"]
    chosen = row.get("filter", "none")
    names = row.get("metrics")
    if names is None:
        names = [name for name in row if name not in _KEYS]
    marks: dict[str, Mark | str | None] = {}
    for name in items(names):
        marks[f"{name},{chosen}"] = mark_of(row.get(str(name)))
    arguments = first_arguments(row)
    texts: tuple[str, ...] | None = None
    # Of a choice by log-probabilities the second argument is a text.
    if len(arguments) > 1 and isinstance(arguments[1], Mapping):
        answers = items(next(iter(items(row["resps"])), None))
        texts = tuple(map(str, answers))
    taken = next(iter(items(row["filtered_resps"])), None)
    if taken is not None:
        taken = str(taken)
    prompt = str(next(iter(arguments), ""))
    return LoggedRow(
        where,
        name_in(row, "doc_id", where),
        sample=0,
        asked=hash_of(doc, target),
        question=question_in(mapping(doc)) or prompt,
        gold=gold_text([str(target)]),
        marks=marks,
        texts=texts,
        taken=taken,
    )


def question_in(doc: Mapping[str, Any]) -> str | None:
    for name in _QUESTIONS:
        text = text_in(doc, name)
        if text is not None:
            return text
    return None


def first_arguments(row: Mapping[str, Any]) -> list[Any]:
    """What the model was first asked with: prompt, and settings or a choice."""
    arguments = row.get("arguments")
    first: Any = next(iter(items(arguments)), None)
    if isinstance(arguments, Mapping):
        first = next(iter(mapping(arguments).values()), None)
    if isinstance(first, Mapping):
        return list(mapping(first).values())
    return list(items(first))
