"""Stage 1: rows of a hub dataset, a file or a procedural set → Problem, or SetAside with a reason.

    with GradingPool() as pool:
        run_problems(pipeline.problems, Path("runs/demo/1-problems"), pool=pool)
        run_benchmark(load_benchmark(Path("eval/benchmarks/gsm8k.toml")),
        Path("runs/demo/6-evals/gsm8k/problems"), pool=pool)

A problem has a question, and a gold answer that grades itself correct: a gold that the grader
cannot read would count every right trace as wrong.

Fields are named (`question = "problem"`), dotted (`answer = "final_answer.0"`), or, for the
question, put together (`question = "{Body} {Question}"`). `answer_after = "####"` takes what
follows the last such mark; `answer_after = '\\boxed'` the content of the last box. An answer that
is a list of texts holds alternatives: any of them is right.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

from reasondistill.bounds import BENCHMARK_ROWS, ROWS
from reasondistill.config import Benchmark, ProblemSource
from reasondistill.curation.benchmarks import (
    apply_errata,
    check_answer_kind,
    check_content,
    check_found,
    errata_identity,
)
from reasondistill.curation.cells import as_text, is_infinite, no_text
from reasondistill.curation.choices import (
    Counting,
    Options,
    fault_of,
    find_right,
    labels_beside,
    lettered,
    name_letters,
    options_of,
    shuffled,
)
from reasondistill.curation.figures import figure_of
from reasondistill.curation.growing import (
    HELD_OUT,
    Standing,
    all_made,
    may_grow,
    open_grown,
    write_left_out,
)
from reasondistill.curation.noticed import Noticed
from reasondistill.curation.rows import (
    OpenedRows,
    Row,
    content_hash,
    find_path,
    get_value,
    has_value,
    open_file,
    open_hub,
    open_procedural,
    procedural_version,
)
from reasondistill.curation.selection import TEMPLATE, selected, text_fields, wanted_fields
from reasondistill.curation.words import normalise_question, question_forms
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_text import shortened
from reasondistill.grading import GRADER, GradeItem
from reasondistill.grading.extract.boxes import last_boxes
from reasondistill.grading.read.golds import alternatives
from reasondistill.grading.serve.items import GOLD_IS_NO_ANSWER
from reasondistill.hashing import stable_digest
from reasondistill.records import Grade, Origin, Problem, SetAside, fingerprint
from reasondistill.runs import layout, store
from reasondistill.runs.figures import ProblemsFigures

VERSION = 1

PROBLEMS, SET_ASIDE = layout.PROBLEMS, layout.SET_ASIDE

# Bytes of what is set aside; more of it waits on disk.
_IN_MEMORY = 64 << 20
_MOST_WAITING = 20_000

logger = logging.getLogger(__name__)


class Grader(Protocol):
    """What this stage needs of a grading.GradingPool."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        """Grades in the order of the items."""
        ...


def run_problems(
    source: ProblemSource,
    folder: Path,
    *,
    pool: Grader,
    held_out: Mapping[str, str] | None = None,
    drawn: Callable[[], Container[str]] = frozenset[str],
    keep_old: bool = False,
    base: Path | None = None,
) -> store.Manifest:
    """Write problems.jsonl and set_aside.jsonl; in = out + dropped.

    `held_out` maps normalised question texts to the benchmark that has them: such a problem is set
    aside. Problems that stand stay when more of them are asked for, or less, and those that are
    `drawn`, which have traces, whatever a benchmark has of them (curation.growing). Raises
    ConfigError and DataError for a source that cannot be used, also when no row of it makes a
    problem, and DriftError when one that stands is not among them any more.
    """
    started = time.monotonic()
    held_out = held_out or {}
    place = locate(source, base)
    identity = _identity(source, place, {"held_out": held_out})
    standing: Standing | None = None
    if may_grow(folder, identity, keep_old=keep_old):
        standing = Standing.of(folder, identity, drawn())
    elif store.open_stage(folder, identity, keep_old=keep_old) == "complete":
        return store.require_complete(folder)
    opened = open_source(source, place)
    reading = Reading(source, opened.dataset)
    read = _entries(reading, opened)
    if standing is None:
        entries = without_held_out(without_duplicates(read), held_out)
        return _write(reading, opened, check_golds(entries, pool), folder, started)
    different = without_duplicates(standing.seen(read), first=standing.with_traces())
    entries = without_held_out(different, held_out)
    # All of them before anything is written: what stands is only let go of when it comes again.
    with all_made(standing.kept(check_golds(entries, pool)), folder) as grown:
        open_grown(folder, identity, standing)
        return _write(reading, opened, grown, folder, started, standing=standing)


def run_benchmark(
    benchmark: Benchmark,
    folder: Path,
    *,
    pool: Grader,
    keep_old: bool = False,
    base: Path | None = None,
) -> store.Manifest:
    """The same for a benchmark: its rows, content and kind of answer are checked, then its errata
    applied.

    Raises DataError when the set is not the one that the file describes; nothing is written then.
    What is set aside is not measured: the manifest counts it and the log says so. A finished folder
    is held to the file's `rows` and `content` too. When the file has changed (an erratum, say) the
    problems are read anew; samples whose questions are the same stay, and are graded anew.
    """
    started = time.monotonic()
    source = benchmark.problems
    place = locate(source, base)
    identity = _identity(source, place, {}, benchmark)
    before = store.read_manifest(folder)
    if before is not None and before.status == "complete":
        if keep_old:
            store.check_files(folder, before)
            return before
        if before.fingerprint == identity.fingerprint:
            store.check_files(folder, before)
            content = ProblemsFigures.of(before).content
            if content is not None:
                check_found(benchmark, before.counts["in"], content)
            return before
    opened = open_source(source, place)
    reading = Reading(source, opened.dataset, is_benchmark=True)
    read = list(islice(_entries(reading, opened), BENCHMARK_ROWS.most + 1))
    if len(read) > BENCHMARK_ROWS.most:
        raise DataError(f"{source.dataset}: more than {BENCHMARK_ROWS}.")
    content = check_content(benchmark, read)
    entries = list(apply_errata(benchmark, read))
    check_answer_kind(benchmark, entries)
    store.open_stage(folder, identity, remade=True)
    if benchmark.content is None:
        logger.info(
            'benchmark %s: rows = %d, content = "%s"; with these keys its file fixes what '
            "is measured",
            benchmark.name,
            len(read),
            content,
        )
    corrected = sum(erratum.answer is not None for erratum in benchmark.errata)
    figures = ProblemsFigures(content=content, corrected=corrected)
    different = without_duplicates(entries)
    checked = check_golds(different, pool)
    manifest = _write(reading, opened, checked, folder, started, of_benchmark=figures)
    if manifest.dropped:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in manifest.dropped.items())
        lost = sum(manifest.dropped.values())
        logger.warning(
            "benchmark %s: %d of %d rows are not measured: %s. See %s",
            benchmark.name,
            lost,
            len(read),
            reasons,
            folder / SET_ASIDE,
        )
    return manifest


def _write(
    reading: Reading,
    opened: OpenedRows,
    entries: Iterable[Problem | SetAside],
    folder: Path,
    started: float,
    *,
    of_benchmark: ProblemsFigures | None = None,
    standing: Standing | None = None,
) -> store.Manifest:
    """Write both files, and a third where problems that stand are left out; finish the stage."""
    dropped: Counter[str] = Counter()
    first: SetAside | None = None
    # Millions of rows may be set aside: they wait on disk until the problems are written.
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder)) as set_aside:

        def kept() -> Iterator[Problem]:
            nonlocal first
            for entry in entries:
                if isinstance(entry, Problem):
                    yield entry
                    continue
                first = first or entry
                dropped[entry.reason] += 1
                set_aside.write(store.line_of(entry))

        out = store.write_records(folder / PROBLEMS, kept())
        set_aside.seek(0)
        store.rewrite_shard(folder / SET_ASIDE, set_aside)
    if out == 0:
        raise DataError(nothing_left(reading.source, first, dropped, folder))
    logger.info("%s: %d problems, %d set aside", folder, out, dropped.total())
    # The grader is told, not part of the identity: a better grader must not throw away the traces.
    figures = ProblemsFigures(
        dataset=opened.dataset, revision=opened.revision, split=opened.split, grader=GRADER
    )
    if reading.noticed.counts:
        figures = figures.joined(ProblemsFigures(noticed=reading.noticed.counts))
    if of_benchmark is not None:
        figures = figures.joined(of_benchmark)
    if standing is not None:
        write_left_out(folder, standing)
        if standing.left_out:
            figures = figures.joined(ProblemsFigures(left_out=len(standing.left_out)))
    counts = {"in": out + dropped.total(), "out": out}
    seconds = time.monotonic() - started
    return store.finish_stage(
        folder,
        counts=counts,
        dropped=dropped,
        figures=figures.to_dict(),
        seconds=seconds,
        files=[PROBLEMS],
    )


def read_problems(
    source: ProblemSource, *, base: Path | None = None
) -> Iterator[Problem | SetAside]:
    """Yield what each selected row became, in order. Golds are not checked here.

    A relative path is looked up from the working directory, then from `base`.
    """
    opened = open_source(source, locate(source, base))
    yield from without_duplicates(_entries(Reading(source, opened.dataset), opened))


def questions_of(folder: Path) -> Iterator[str]:
    """The normalised questions of a finished folder, those of multiple choice without their options
    too: what training must not hold.
    """
    for problem in store.read_records(folder / PROBLEMS, Problem):
        yield from question_forms(problem.question)


# ---- opening -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a source was found. `inputs` is what its rows are a function of besides the settings: a
    content hash, a package version.
    """

    path: Path | None
    inputs: Mapping[str, str]


def locate(source: ProblemSource, base: Path | None) -> Place:
    """Find the source without the network and without reading rows: a finished stage needs no hub.
    Raises ConfigError.
    """
    if source.source == "procedural":
        return Place(None, {"reasoning-gym": procedural_version()})
    path = find_path(source.dataset, base)
    if source.source == "hub" and (path is None or path.is_file()):
        return Place(None, {})  # a hub revision counts as it was asked for
    if path is None:
        places = "the working directory"
        if base is not None:
            places = f"the working directory and {base}"
        raise ConfigError(f'dataset = "{source.dataset}": no such file (looked in {places}).')
    return Place(path, {"content": content_hash(path)})


def open_source(source: ProblemSource, place: Place) -> OpenedRows:
    """Open what was located. Raises ConfigError when it cannot be read as what the section says it
    is.
    """
    if source.source == "procedural":
        return open_procedural(source.dataset, seed=source.seed, options=source.options)
    if source.source == "file" and place.path is not None:
        return open_file(
            place.path,
            revision=place.inputs["content"],
            split=source.split,
            fields=wanted_fields(source),
            texts=text_fields(source),
        )
    return open_hub(
        source.dataset,
        place.path,
        config=source.config,
        split=source.split,
        revision=place.inputs.get("content", source.revision),
        streaming=source.limit is not None and not source.shuffle,
        trust_remote_code=source.trust_remote_code,
        texts=text_fields(source),
    )


def _identity(
    source: ProblemSource,
    place: Place,
    others: Mapping[str, Mapping[str, str]],
    benchmark: Benchmark | None = None,
) -> store.Identity:
    """A local file counts by name and content, not by the folder that it lies in. `others` are
    texts that shape the outcome too.

    A benchmark's `rows`, `content` and `answer_kind` refuse or let pass and change nothing: to pin
    them later is no other benchmark.
    """
    section = source.model_dump(mode="json")
    if not source.choices:
        section.pop("choices", None)
    if place.path is not None:
        section["dataset"] = place.path.name
    if benchmark is not None and benchmark.errata:
        section["errata"] = errata_identity(benchmark)
    inputs = dict(place.inputs)
    for name, texts in others.items():
        if texts:
            inputs[name] = fingerprint(dict(texts))
    return store.Identity("problems", VERSION, section, inputs)


# ---- rows to problems ----------------------------------------------------------------------------


class Reading:
    """What is known of a source while its rows are read. Of a benchmark no row is set aside for
    what is asked: it is told.
    """

    def __init__(self, source: ProblemSource, dataset: str, *, is_benchmark: bool = False) -> None:
        self.source = source
        self.dataset = dataset
        self.keeps_figures = is_benchmark or source.figures == "keep"
        self.texts = text_fields(source)
        self.parts = TEMPLATE.findall(source.question)
        self.counting = Counting(source.answer_counts_from)
        self.noticed = Noticed(dataset)

    def end(self) -> None:
        """Say what was noticed. Raises DataError for what only all rows together show."""
        place = f"{self.dataset}: {self.source.answer}"
        fault = self.counting.fault()
        if fault is not None:
            raise DataError(f"{place}: {fault} in [problems].")
        self.noticed.say()
        if self.counting.is_unsure:
            logger.warning(
                "%s: 0 never occurs, and is taken for the first option; answer_counts_from says "
                "whether the options are counted from 0 or 1",
                place,
            )
        elif self.counting.places:
            logger.info("%s: counts the options from %d", place, self.counting.first)


def _entries(reading: Reading, opened: OpenedRows) -> Iterator[Problem | SetAside]:
    """What each selected row became, each with an id of its own."""
    source = reading.source
    ids: set[str] = set()
    rows = opened.rows
    if source.source != "procedural":
        rows = _bounded(rows, opened.dataset)
    for row in selected(source, rows):
        name = new_id(source, opened, row, ids)
        yield to_problem(reading, opened, row, name)
    reading.end()


def _bounded(rows: Iterator[Row], dataset: str) -> Iterator[Row]:
    most = ROWS.most
    for row in rows:
        if row.index >= most:
            raise DataError(f"{dataset}:{row.index + 1}: more than {ROWS}.")
        yield row


def without_duplicates(
    entries: Iterable[Problem | SetAside], first: Iterable[Problem] = ()
) -> Iterator[Problem | SetAside]:
    """Set aside each problem whose question came before, or is that of one of the `first`, wherever
    these come; of one with another answer both answers are shown.
    """
    questions: dict[bytes, tuple[str, str]] = {}
    for problem in first:
        questions.setdefault(_question_key(problem), (problem.id, _shown_gold(problem)))
    doubtful: dict[str, None] = {}
    for entry in entries:
        if isinstance(entry, SetAside):
            yield entry
            continue
        here = _shown_gold(entry)
        name, gold = questions.setdefault(_question_key(entry), (entry.id, here))
        if name == entry.id:
            yield entry
        elif _gold_key(gold) == _gold_key(here):
            yield _aside(entry, "duplicate question", f"the same question as {name}")
        else:
            doubtful[name] = None
            detail = f"{here!r} here, {gold!r} there: the same question as {name}"
            yield _aside(entry, "duplicate question, unequal golds", detail)
    if doubtful:
        logger.warning(
            "questions with unequal golds, of each the first stays: %d (%s). What is set aside "
            "shows both",
            len(doubtful),
            ", ".join(list(doubtful)[:_MOST_NAMES]),
        )


# Of a gold that is shown beside another one.
_SHOWN_GOLD = 60
_MOST_NAMES = 5


def _question_key(problem: Problem) -> bytes:
    return stable_digest(normalise_question(problem.question))[:16]


def _shown_gold(problem: Problem) -> str:
    return shortened(problem.answer, _SHOWN_GOLD)


def _gold_key(gold: str) -> str:
    """What is the same for golds that are written alike: 2, 2.0 and "2."; 1,000 and 1000."""
    text = normalise_question(gold)
    try:
        return str(Decimal(text.replace(",", "")).normalize())
    except DecimalException:
        return text


def new_id(source: ProblemSource, opened: OpenedRows, row: Row, taken: set[str]) -> str:
    """`<name>/<split>/<row or id>`, safe in a file name and on one line, and used once."""
    if source.source == "file":
        dataset_name = Path(opened.dataset).stem
    else:
        dataset_name = opened.dataset.rstrip("/").split("/")[-1]
    name = source.name or _safe(dataset_name)
    split = _safe(opened.split)
    row_id = _safe(as_text(get_value(row.fields, source.id)))
    if not row_id:
        row_id = str(row.index)
    problem_id = f"{name}/{split}/{row_id}"
    if problem_id in taken:
        problem_id = f"{problem_id}-row{row.index}"
    while problem_id in taken:
        problem_id += "-again"
    taken.add(problem_id)
    return problem_id


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:120]


def to_problem(reading: Reading, opened: OpenedRows, row: Row, name: str) -> Problem | SetAside:
    """The problem that a row makes, called `name`, or the reason why it makes none. Its gold is not
    graded here, nor is its question compared with others. Raises DataError for a value that cannot
    be a text.
    """
    source = reading.source
    for field in reading.texts:
        kind = no_text(get_value(row.fields, field))
        if kind is not None:  # the type of a column has mostly said so before
            raise DataError(
                f"{reading.dataset}: {field}: row {row.index} holds {kind}, which is no text; "
                "write it as the text that an answer would have."
            )
    origin = Origin(
        dataset=opened.dataset, revision=opened.revision, split=opened.split, row=row.index
    )

    def aside(reason: str, detail: str = "") -> SetAside:
        return SetAside(id=name, reason=reason, detail=detail[:200], origin=origin)

    for part in reading.parts:
        if not has_value(row.fields, part):
            return aside("a part of the question is missing", f"no {part}")
        value = get_value(row.fields, part)
        if isinstance(value, (list, Mapping)):
            return aside("question is not text", f"{part}: found {type(value).__name__}: {value}")
        if value is None:
            reading.noticed.add(f"question: {{{part}}} is empty", name)
    question = question_field(row, source.question)
    answer: Any = ""
    values = {"question": question}
    if source.answer:
        answer = as_alternatives(get_value(row.fields, source.answer))
        values["answer"] = answer
    for key, value in values.items():
        if isinstance(value, (list, Mapping)):
            return aside(f"{key} is not text", f"found {type(value).__name__}: {value}")
        if not as_text(value).strip():
            return aside(f"no {key}")
    if is_infinite(answer):
        return aside("answer is infinite", "a number beyond what the type of its column holds")
    gold = as_text(answer).strip()
    mark = source.answer_after
    if mark is not None and source.answer:
        if mark not in gold:
            return aside("no answer mark", f"no {mark!r} in {gold[-80:]!r}")
        gold = text_after(gold, mark)
        if not gold:
            return aside("no answer", f"nothing after {mark!r}")
    text = as_text(question).strip()
    figure = figure_of(text, row.fields)
    if figure is not None:
        if not reading.keeps_figures:
            return aside("needs a figure", f"{figure!r} in the question, which is text alone")
        reading.noticed.add("needs a figure, perhaps", name)
    if source.choices is not None:
        chosen = multiple_choice(reading, row, text, name)
        if isinstance(chosen, str):
            return aside("no choice of options", chosen)
        text, gold = chosen
    solution = _optional_text(row, source.solution)
    if not is_unicode(f"{text}{gold}{solution}"):
        return aside("broken text", "holds lone surrogates, which no tokenizer takes")
    return Problem(
        id=name,
        question=text,
        answer=gold,
        reference_solution=solution,
        subject=_optional_text(row, source.subject),
        level=_optional_text(row, source.level),
        origin=origin,
    )


def as_alternatives(answer: Any) -> Any:
    """A list of texts as one text that lists the right answers, which the grader reads as
    alternatives; everything else as it is.
    """
    if not isinstance(answer, list) or not answer:
        return answer
    parts = cast("list[Any]", answer)
    if not all(isinstance(part, str) and part.strip() for part in parts):
        return cast("Any", answer)
    if len(parts) == 1:
        return parts[0]
    return json.dumps(parts, ensure_ascii=False)


def question_field(row: Row, named: str) -> Any:
    """The field, or the template with its fields put in."""
    if TEMPLATE.search(named):
        return TEMPLATE.sub(lambda match: as_text(get_value(row.fields, match[1])), named)
    return get_value(row.fields, named)


def multiple_choice(reading: Reading, row: Row, question: str, name: str) -> tuple[str, str] | str:
    """The question with its options and the right letter, or what is wrong with them."""
    source = reading.source
    if isinstance(source.choices, str):
        found = listed_options(source, row)
        if isinstance(found, str):
            return f"{source.choices}: {found}"
        answer = get_value(row.fields, source.answer)
        right = find_right(found, answer, reading.counting)
        if isinstance(right, str):
            return f"{source.answer} = {right}"
        options = list(found.texts)
    else:
        fields = source.choices or ()
        options = [as_text(get_value(row.fields, name)).strip() for name in fields]
        right = fields.index(source.answer)
    fault = fault_of(options, right)
    if fault is not None:
        return fault
    if not isinstance(source.choices, str):
        options, right = shuffled(question, options, right, seed=source.seed)
        if name_letters(options):
            reading.noticed.add("an option names others by letter, and they are shuffled", name)
    return lettered(question, options, right)


def listed_options(source: ProblemSource, row: Row) -> Options | str:
    """The options in the field that `choices` names, with their labels, or why it holds none."""
    named = str(source.choices)
    labels: Any = None
    whole, _, last = named.rpartition(".")
    if source.choice_labels is not None:
        labels = get_value(row.fields, source.choice_labels)
    elif last == "text":
        beside = get_value(row.fields, whole)
        if isinstance(beside, Mapping):
            labels = labels_beside(cast("Mapping[str, Any]", beside))
    return options_of(get_value(row.fields, named), labels)


def text_after(text: str, mark: str) -> str:
    """What follows the last mark; of a box, what is in it."""
    if mark.rstrip("{") == "\\boxed":
        boxes = last_boxes(text, "linked", gold=True)
        if boxes is None or boxes.text is None:
            return ""
        return boxes.text.strip()
    return text.rpartition(mark)[2].strip()


def is_unicode(text: str) -> bool:
    """False for lone surrogates: a Python string can hold them, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _optional_text(row: Row, name: str | None) -> str | None:
    return as_text(get_value(row.fields, name)) or None


def _aside(problem: Problem, reason: str, detail: str) -> SetAside:
    return SetAside(id=problem.id, reason=reason, detail=detail[:200], origin=problem.origin)


# ---- keeping -------------------------------------------------------------------------------------


def without_held_out(
    entries: Iterable[Problem | SetAside], held_out: Mapping[str, str]
) -> Iterator[Problem | SetAside]:
    """Set aside each problem whose question stands in a benchmark."""
    for entry in entries:
        if isinstance(entry, SetAside):
            yield entry
            continue
        benchmark = held_out.get(normalise_question(entry.question))
        if benchmark is None:
            yield entry
        else:
            yield _aside(entry, f"{HELD_OUT}: in benchmark {benchmark}", "")


def check_golds(
    entries: Iterable[Problem | SetAside], pool: Grader
) -> Iterator[Problem | SetAside]:
    """Set aside each problem whose gold answer does not grade itself correct; order is kept, memory
    is what the pool has in hand, and _MOST_WAITING entries that need no grade.
    """
    rest = iter(entries)
    waiting: deque[Problem | SetAside] = deque()
    is_over = False

    def items() -> Iterator[GradeItem]:
        nonlocal is_over
        for entry in rest:
            waiting.append(entry)
            if len(waiting) > _MOST_WAITING and not _has_gold(entry):
                # The pool would ask on until it has work.
                return
            if _has_gold(entry):
                assert isinstance(entry, Problem)
                boxed = f"\\boxed{{{alternatives(entry.answer)[0]}}}"
                yield GradeItem(id=entry.id, answer_text=boxed, gold=entry.answer)
        is_over = True

    while not is_over:
        yield from _checked(pool.grade_many(items()), waiting)
        yield from waiting
        waiting.clear()


def _checked(
    graded: Iterator[tuple[str, Grade]], waiting: deque[Problem | SetAside]
) -> Iterator[Problem | SetAside]:
    """What waits, as far as grades come for it."""
    for name, grade in graded:
        while not _has_gold(waiting[0]):
            yield waiting.popleft()
        problem = waiting.popleft()
        assert isinstance(problem, Problem) and problem.id == name, (
            f"the pool answered {name} for {problem.id}"
        )
        if grade.is_correct:
            yield problem
        else:
            reason = "gold does not grade itself"
            if grade.reason == GOLD_IS_NO_ANSWER:
                reason = "gold is no answer"
            detail = f"{grade.outcome}: {grade.reason} (gold {problem.answer!r})"
            yield _aside(problem, reason, detail)


def _has_gold(entry: Problem | SetAside) -> bool:
    return isinstance(entry, Problem) and entry.answer != ""


def nothing_left(
    source: ProblemSource, first: SetAside | None, dropped: Counter[str], folder: Path
) -> str:
    """What to tell when every row was set aside: the reasons and the first row's detail."""
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in dropped.items())
    assert first is not None
    rows = dropped.total()
    path = folder / SET_ASIDE
    return (
        f"{source.dataset}: all {rows:,} rows were set aside: {reasons}. "
        f"The first, {first.id}: {first.reason}. {first.detail} See {path}."
    )
