"""lighteval's details: `details_TASK_DATE.parquet`. After lighteval 0.13.0
(`logging/info_loggers.py`, `logging/evaluation_tracker.py`, `tasks/requests.py`).

A row is a document of the task with all its samples. A problem is the document's `id`; it is the
same one where query, choices and the right ones among them are. A metric has the name that
lighteval gives it; `avg@n:n=64` and `pass@k:k=1&n=64` are means of n samples, any other counts as
one sample and is right or wrong. Which of the samples are right the details do not say, only how
many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reasondistill.curation.parquet import parquet_rows
from reasondistill.errors import DataError
from reasondistill.foreign_logs.log import (
    LONGEST_METRIC,
    Log,
    LoggedRow,
    Mark,
    Stated,
    gold_text,
    mark_of,
)
from reasondistill.foreign_logs.values import (
    hash_of,
    items,
    mapping,
    mapping_in,
    name_in,
    number_in,
    read_object,
    text_in,
)

_NAME = re.compile(r"details_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.parquet")
_COLUMNS = ("doc", "metric", "model_response")
_OF_SAMPLES = re.compile(r"[:&]n=(\d{1,6})\b")
_MEAN = re.compile(r"(?:.*[-_])?(?:avg@|pass@k:(?:.*&)?k=1\b)")
_GENERAL = ("model_name", "lighteval_sha", "num_fewshot_seeds", "max_samples")


class LightevalLog(Log):
    """The details of one task. Raises DataError for a file of another name."""

    tool = "lighteval"

    def __init__(self, path: Path) -> None:
        self.path = path
        found = _NAME.fullmatch(path.name)
        if found is None:
            raise DataError(
                f"{path}: lighteval calls this file details_TASK_DATE.parquet; without that name "
                "nobody knows the task. Give it its name back."
            )
        self.benchmark, self._date = found.groups()
        self.results: Mapping[str, Any] = {}
        results = results_beside(path, self._date)
        if results is not None:
            self.results = read_object(results)
        self.model = text_in(mapping(self.results.get("config_general")), "model_name")

    def rows(self) -> Iterator[LoggedRow]:
        for number, row in enumerate(parquet_rows(self.path, _COLUMNS), start=1):
            where = f"{self.path}:{number}"
            missing = [name for name in _COLUMNS if name not in row]
            if missing:
                raise DataError(
                    f"{where}: no column {missing[0]!r}: details of lighteval 0.11 and later have "
                    f"{', '.join(_COLUMNS)}."
                )
            yield _row_of(row, where)

    def stated(self) -> Stated:
        means: dict[str, float] = {}
        said = mapping_in(self.results, "results", self.benchmark)
        for name in said:
            mean = number_in(said, name)
            if mean is not None:
                means[name] = mean
        task = mapping_in(self.results, "config_tasks", self.benchmark)
        problems = task.get("effective_num_docs")
        if not isinstance(problems, int) or problems < 1:
            problems = None
        return Stated(problems, means=means)

    def settings(self) -> Mapping[str, Any]:
        general = mapping(self.results.get("config_general"))
        task = mapping_in(self.results, "config_tasks", self.benchmark)
        values: dict[str, Any] = {name: general.get(name) for name in _GENERAL}
        values["model_config"] = general.get("model_config")
        values["task version"] = mapping(self.results.get("versions")).get(self.benchmark)
        values["examples in the prompt"] = task.get("num_fewshots")
        values["generation_size"] = task.get("generation_size")
        return values


def results_beside(path: Path, date: str) -> Path | None:
    """OUT/results/MODEL/results_DATE.json for OUT/details/MODEL/DATE/details_….parquet."""
    model_folder = path.absolute().parent.parent
    for parent in model_folder.parents:
        if parent.name == "details":
            model = model_folder.relative_to(parent)
            results = parent.parent / "results" / model / f"results_{date}.json"
            if results.exists():
                return results
    return None


def _row_of(row: Mapping[str, Any], where: str) -> LoggedRow:
    doc = mapping(row["doc"])
    response = mapping(row["model_response"])
    written = [str(text) for text in items(response.get("text"))]
    marks: dict[str, Mark | str | None] = {}
    for name, value in mapping(row["metric"]).items():
        samples = samples_behind(name, written)
        marks[name] = mark_of(value, samples)
        if samples > max(1, len(written)):
            marks[name] = f"the mean of {samples} samples; there are {len(written)}"
    query = text_in(doc, "query") or ""
    choices, right = items(doc.get("choices")), doc.get("gold_index")
    return LoggedRow(
        where,
        name_in(doc, "id", where),
        sample=0,
        asked=hash_of(query, choices, right),
        question=text_in(doc, "original_query") or query,
        gold=gold_text(golds_of(choices, right)),
        marks=marks,
        texts=tuple(written) or None,
    )


def samples_behind(metric: str, written: Sequence[str]) -> int:
    """Of how many samples a metric is the mean."""
    # A longer name is refused, and would be looked through for ever.
    if len(metric) > LONGEST_METRIC or not _MEAN.match(metric):
        return 1
    said = _OF_SAMPLES.search(metric)
    if said is not None:
        return max(1, int(said[1]))
    return max(1, len(written))


def golds_of(choices: Sequence[Any], right: Any) -> list[str]:
    """The choices that are right, by their places."""
    golds: list[str] = []
    for place in items(right) or (right,):
        if isinstance(place, int) and 0 <= place < len(choices):
            golds.append(str(choices[place]))
    return golds or [""]
