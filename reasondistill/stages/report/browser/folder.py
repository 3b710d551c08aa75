"""The browser's folder: a run's rows, streamed into files that a page opens from disk.

What stays in memory is the index: some 50 bytes a row, and the first words of each question.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from reasondistill.bounds import BROWSER_FILE_BYTES
from reasondistill.errors import DataError, StageError
from reasondistill.foreign_text import cleaned_texts, shown, shown_line
from reasondistill.models.topk import TopKReader, read_vocabulary
from reasondistill.records import OUTCOMES
from reasondistill.runs.graded import Located, located_graded
from reasondistill.runs.layout import (
    BROWSER,
    BROWSER_PAGE,
    FOLDERS,
    REPORT_PAGE,
    TOPK,
    RunFolder,
)
from reasondistill.runs.store import replacing
from reasondistill.stages.report.browser.chunks import (
    CHUNK_BYTES,
    Chunks,
    Packed,
    Write,
    file_name,
    in_json,
    packed,
    payload_of,
)
from reasondistill.stages.report.browser.logprobs import logprob_row, texts_of_tokens
from reasondistill.stages.report.browser.page import KATEX, katex_script, render_browser
from reasondistill.stages.report.browser.rows import (
    SET_ASIDE,
    AskedProblem,
    Group,
    RunRows,
    Sample,
)
from reasondistill.stages.report.browser.words import WordIndex

# Of a question, in a list.
_HEAD = 140
# In the index of words: below are numbers of problems, from here on those of rows.
ROWS = 1 << 31
_WORDS_OF_A_FILE, _DOCUMENTS_OF_A_FILE = 4_000, 60_000
# Tokens whose probabilities are copied into a report's folder: some 10 MB. `view` shows all.
_MOST_TOKENS = 2_000_000
# Of a row: a number for each of these, most of them that of a name.
_NAMED = ("stage", "benchmark", "teacher", "model", "outcome", "reason", "fate", "finish")
_COUNTED = ("problem", "sample", "tokens", "logprobs")
_OF_PROBLEMS = ("benchmark", "subject", "level", "source")
_MOST_NAMES, _OTHERS = 2_000, "one of many others"
log = logging.getLogger(__name__)


@dataclass
class RowsPlace:
    """Where the rows of a file stand in the run's folder: `count` from these places on."""

    kind: str
    number: int
    group: Group
    trace_at: int
    verdict_at: int
    count: int = 0


@dataclass
class Names:
    """Names by number, in the order in which they came; 0 is no name. Of very many the rest is one:
    nobody picks from a longer list.
    """

    names: list[str] = field(default_factory=lambda: [""])
    _numbers: dict[str, int] = field(default_factory=lambda: {"": 0})

    def number(self, name: str | None) -> int:
        if not name:
            return 0
        if name not in self._numbers and len(self.names) > _MOST_NAMES:
            name = _OTHERS
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


def write_browser(run_folder: Path, folder: Path, *, title: str) -> None:
    """Write the browser of a run into a folder that is empty or not there."""

    def write(name: str, content: bytes) -> None:
        with replacing(folder / name) as file:
            file.write(content)

    builder = Builder(RunRows(RunFolder(run_folder)), write)
    builder.build(title=title, report=f"../{REPORT_PAGE}")


def one_page(run_folder: Path, *, title: str) -> bytes:
    """The browser of a small run as one page that carries its data. Raises StageError for a run
    that has more than BROWSER_FILE_BYTES of it.
    """
    payloads: dict[str, str] = {}
    size = 0

    def write(name: str, content: bytes) -> None:
        nonlocal size
        if name in (KATEX, BROWSER_PAGE):
            return
        size += len(content)
        if size > BROWSER_FILE_BYTES.most:
            raise StageError(
                f"{run_folder}: its traces are more than one page carries, {BROWSER_FILE_BYTES}. "
                "`reasondistill view` without --file shows all of them, and so does the folder "
                f"{FOLDERS['report']}/{BROWSER}/ beside its report, which opens from disk too."
            )
        payloads[name] = payload_of(content)

    builder = Builder(RunRows(RunFolder(run_folder)), write)
    builder.build(title=title)
    return render_browser(
        title=title, run=builder.run_name, index=builder.index_sum, report="", payloads=payloads
    )


class Builder:
    """Reads a run's rows once. With `keeps_texts` the texts and probabilities of traces are not
    written: `kept` says where those of a file, by its name, stand in the run's folder.
    """

    def __init__(self, source: RunRows, write: Write, *, keeps_texts: bool = False) -> None:
        self.source = source
        self.rows = 0
        self.index_sum = ""
        self.kept: dict[str, RowsPlace] = {}
        self._write, self._keeps_texts = write, keeps_texts
        self._names = {name: Names() for name in (*_NAMED, *_OF_PROBLEMS)}
        for outcome in OUTCOMES:
            self._names["outcome"].number(outcome)
        self._columns = {name: array("i") for name in (*_NAMED, *_COUNTED)}
        self._of_problems = {name: array("i") for name in (*_OF_PROBLEMS, "suspect")}
        self._ids: list[str] = []
        self._heads: list[str] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._problems = Chunks("problems", write)
        self._texts = Chunks("texts", write)
        self._logprobs = Chunks("logprobs", write)
        self._words = WordIndex()

    def build(self, *, title: str, report: str = "") -> None:
        with closing(self._words):
            index = self._write_data()
        self.index_sum = index.sum
        self._write("index.js", index.content)
        self._write(KATEX, katex_script())
        page = render_browser(title=title, run=self.run_name, index=index.sum, report=report)
        self._write(BROWSER_PAGE, page)

    def _write_data(self) -> Packed:
        """All files of data but the index, which is returned."""
        for asked in self.source.problems():
            self._add_problem(asked)
        for group in self.source.groups():
            self._add_group(group)
        self._texts.end()
        for row in self.source.set_aside():
            self._add_set_aside(row.id, row.model_dump())
        self._problems.end()
        self._texts.end()
        self._logprobs.end()
        words = self._write_words()
        return packed("index", 0, in_json(self._index(words)))

    @property
    def run_name(self) -> str:
        return self.source.run.path.resolve().name

    # ---- problems --------------------------------------------------------------------------------

    def _add_problem(self, asked: AskedProblem) -> None:
        problem = cleaned_texts(asked.problem.model_dump())
        row: dict[str, Any] = {"problem": problem}
        shown_texts = _shown(problem, ("question", "answer", "reference_solution"))
        if shown_texts:
            row["shown"] = shown_texts
        if asked.suspect is not None:
            row["suspect"] = cleaned_texts(asked.suspect.model_dump())
        origin = asked.problem.origin
        number = self._new_problem(asked.benchmark, asked.problem.id, problem["question"], row)
        of = self._of_problems
        of["subject"][number] = self._names["subject"].number(_name(problem["subject"]))
        of["level"][number] = self._names["level"].number(_name(problem["level"]))
        source = origin.tag or origin.source or origin.dataset
        of["source"][number] = self._names["source"].number(_name(source))
        of["suspect"][number] = int(asked.suspect is not None)
        words = [problem["id"], problem["question"], problem["answer"]]
        words.append(problem["reference_solution"] or "")
        self._words.add(number, "\n".join(words))

    def _new_problem(self, benchmark: str, name: str, head: str, row: dict[str, Any]) -> int:
        number = len(self._ids)
        self._numbers.setdefault((benchmark, name), number)
        self._ids.append(_name(name))
        self._heads.append(shown_line(" ".join(head[: 4 * _HEAD].split())[:_HEAD]))
        for column in self._of_problems.values():
            column.append(0)
        self._of_problems["benchmark"][number] = self._names["benchmark"].number(_name(benchmark))
        self._problems.add(number, in_json(row))
        return number

    # ---- rows ------------------------------------------------------------------------------------

    def _add_set_aside(self, name: str, record: dict[str, Any]) -> None:
        record = cleaned_texts(record)
        reason, detail = record["reason"], record["detail"]
        shown_texts = _shown(record, ("reason", "detail")) | _shown(record["origin"], ("dataset",))
        row = {"set_aside": record, "shown": shown_texts}
        number = self._new_problem("", name, detail or reason, {})
        self._texts.add(self.rows, in_json(row))
        self._words.add(ROWS + self.rows, f"{name} {reason} {detail}")
        self._new_row(problem=number, stage="problems", outcome=SET_ASIDE, reason=reason)

    def _new_row(self, **values: int | str) -> None:
        """A row of the index: a count or a name for each column, 0 where nothing is said."""
        for name, column in self._columns.items():
            value = values.get(name, 0)
            if isinstance(value, str):
                value = self._names[name].number(_name(value))
            column.append(_small(value))
        self.rows += 1

    def _add_group(self, group: Group) -> None:
        distributions = opened_distributions(group)
        left, left_out = _MOST_TOKENS, 0
        end = -1
        places: list[RowsPlace] = []
        for sample in self.source.samples(group):
            located = sample.located
            if located.trace_at >= end:
                files = [self._texts]
                if distributions is not None:
                    files.append(self._logprobs)
                places = [self._begin(chunks, group, located) for chunks in files]
                end = located.trace_at + CHUNK_BYTES
            is_stored = distributions is not None and sample.trace.id in distributions
            row = text_row(sample)
            if self._keeps_texts:
                for place in places:
                    place.count += 1
            else:
                self._texts.append(in_json(row))
            if distributions is not None and not self._keeps_texts:
                has_room = left >= sample.trace.completion.tokens
                left_out += is_stored and not has_room
                stored = None
                if is_stored and has_room:
                    stored = distributions.row(sample.trace.id)
                if stored is not None:
                    left -= len(stored["tokens"])
                self._logprobs.append(in_json(stored))
                is_stored = stored is not None
            self._add_sample(sample, row, has_logprobs=is_stored)
        if left_out:
            log.info(
                "The probabilities of the tokens of %s traces are not beside the report: "
                "`reasondistill view` shows all.",
                f"{left_out:,}",
            )

    def _begin(self, chunks: Chunks, group: Group, located: Located) -> RowsPlace:
        """Begin a file with the next row, here or in the run's folder."""
        chunks.begin(self.rows)
        number = len(chunks.sums)
        place = RowsPlace(chunks.kind, number, group, located.trace_at, located.verdict_at)
        if self._keeps_texts:
            chunks.leave_out()
            self.kept[file_name(chunks.kind, number)] = place
        return place

    def _add_sample(self, sample: Sample, row: dict[str, Any], *, has_logprobs: bool) -> None:
        """The row of the index, and the words, of a trace whose `row` is without keys."""
        trace, group = sample.trace, sample.group
        problem = self._numbers.get((group.benchmark, trace.problem_id))
        if problem is None:
            unknown = {"problem": {"id": row["trace"]["problem_id"]}}
            problem = self._new_problem(
                group.benchmark, trace.problem_id, trace.problem_id, unknown
            )
        completion = row["trace"]["completion"]
        grade = row.get("verdict", {}).get("grade", {})
        stage, teacher = "traces", row["trace"]["model"]
        if group.benchmark:
            stage, teacher = "evals", ""
        texts = [completion[name] or "" for name in ("reasoning", "answer_text", "error")]
        texts += [grade.get("extracted") or "", trace.id]
        self._words.add(ROWS + self.rows, "\n".join(texts))
        self._new_row(
            problem=problem,
            sample=trace.sample,
            tokens=trace.completion.tokens,
            logprobs=int(has_logprobs),
            stage=stage,
            benchmark=group.benchmark,
            teacher=teacher,
            model=group.model,
            outcome=sample.outcome,
            reason=grade.get("reason") or completion["error"] or "",
            fate=sample.fate,
            finish=trace.completion.finish,
        )

    # ---- the index -------------------------------------------------------------------------------

    def _write_words(self) -> dict[str, Any]:
        """Files of words in their order, each with the documents that hold it: numbers, each as the
        distance from the one before.
        """
        first: list[str] = []
        sums: list[str] = []
        for entries in _files_of_words(self._words.merged()):
            number = len(sums)
            content = {
                "words": [word for word, _ in entries],
                "documents": [_distances(documents) for _, documents in entries],
            }
            done = packed("words", number, in_json(content))
            self._write(file_name("words", number), done.content)
            first.append(entries[0][0])
            sums.append(done.sum)
        return {"first": first, "sums": sums}

    def _index(self, words: dict[str, Any]) -> dict[str, Any]:
        of_problems = {name: column.tolist() for name, column in self._of_problems.items()}
        return {
            "names": {name: names.names for name, names in self._names.items()},
            "problems": {"id": self._ids, "head": self._heads, **of_problems},
            "rows": {name: column.tolist() for name, column in self._columns.items()},
            "files": {
                "problems": self._problems.described(),
                "texts": self._texts.described(),
                "logprobs": self._logprobs.described(),
                "words": words,
            },
        }


def _files_of_words(
    merged: Iterator[tuple[str, list[int]]],
) -> Iterator[list[tuple[str, list[int]]]]:
    entries: list[tuple[str, list[int]]] = []
    documents = 0
    for entry in merged:
        entries.append(entry)
        documents += len(entry[1])
        if len(entries) >= _WORDS_OF_A_FILE or documents >= _DOCUMENTS_OF_A_FILE:
            yield entries
            entries, documents = [], 0
    if entries:
        yield entries


def _distances(numbers: list[int]) -> list[int]:
    before = 0
    distances: list[int] = []
    for number in numbers:
        distances.append(number - before)
        before = number
    return distances


def _name(text: str | None) -> str:
    """A name on one line, of bounded length: reasons and names of foreign folders are shown."""
    return shown_line((text or "")[:200])


def _small(number: int) -> int:
    """A count for an array; none of an honest run is larger."""
    return max(min(number, (1 << 31) - 1), -(1 << 31))


# ---- one row -------------------------------------------------------------------------------------


def text_row(sample: Sample) -> dict[str, Any]:
    """A trace and its verdict as they are stored, but for what looks like a key; beside them the
    texts in which something unseen is to be shown.
    """
    trace: dict[str, Any] = cleaned_texts(sample.trace.model_dump())
    row: dict[str, Any] = {"trace": trace}
    shown_texts = _shown(trace["completion"], ("reasoning", "answer_text", "error"))
    shown_texts |= _shown(trace, ("id", "model", "prompt"))
    shown_texts |= _shown(trace.get("published") or {}, ("dataset",))
    if sample.verdict is not None:
        verdict: dict[str, Any] = cleaned_texts(sample.verdict.model_dump())
        row["verdict"] = verdict
        shown_texts |= _shown(verdict["grade"], ("extracted", "reason"))
    if shown_texts:
        row["shown"] = shown_texts
    return row


def _shown(record: dict[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Those of these texts that people would see otherwise than they are."""
    different: dict[str, str] = {}
    for name in names:
        text = record.get(name)
        if text and (as_shown := shown(text)) != text:
            different[name] = as_shown
    return different


def rows_of(place: RowsPlace) -> list[dict[str, Any] | None]:
    """The rows of a file, read from the run's folder."""
    group = place.group
    graded = located_graded(
        group.traces, group.verdicts, trace_at=place.trace_at, verdict_at=place.verdict_at
    )
    wanted = islice(graded, place.count)
    if place.kind == "texts":
        return [text_row(Sample(group, located)) for located in wanted]
    distributions = opened_distributions(group)
    rows: list[dict[str, Any] | None] = []
    for located in wanted:
        row = None
        if distributions is not None and located.trace.id in distributions:
            row = distributions.row(located.trace.id)
        rows.append(row)
    return rows


# ---- distributions -------------------------------------------------------------------------------


class Distributions:
    """What is stored of the teacher's distributions beside the traces of a group."""

    def __init__(self, folder: Path) -> None:
        self._reader = TopKReader(folder)
        self._texts = texts_of_tokens(read_vocabulary(folder))
        self._has_warned = False

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._reader

    def row(self, trace_id: str) -> dict[str, Any] | None:
        """None where they are damaged."""
        try:
            top_k = self._reader.read(trace_id)
        except DataError as error:
            if not self._has_warned:
                log.warning("Some probabilities of tokens are not shown: %s", error)
            self._has_warned = True
            return None
        row = logprob_row(top_k, self._texts)
        row["tokens"] = [shown(token) for token in row["tokens"]]
        return row


def opened_distributions(group: Group) -> Distributions | None:
    """Those beside a group's traces. None where there are none, or none that can be read: the texts
    are shown all the same.
    """
    folder = group.traces.parent / TOPK
    if group.benchmark or not folder.exists():
        return None
    try:
        return Distributions(folder)
    except (DataError, StageError) as error:
        log.warning("Probabilities of tokens are not shown: %s", error)
        return None
