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
is a list of texts, or several fields, holds alternatives: any of them is right.

Of several sources (`[[problems.sources]]`) the problems stand behind each other in the order of the
file, and the id of each begins with the name of its source (`curation.sources`).
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import (
    Callable,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, cast

from reasondistill.bounds import BENCHMARK_ROWS, ROWS
from reasondistill.config import (
    Benchmark,
    ComparedProblems,
    DecontaminateSettings,
    MixedSource,
    ProblemMixture,
    ProblemSource,
)
from reasondistill.curation.answers import NoGold, gold_of
from reasondistill.curation.benchmarks import (
    HeldOut,
    apply_errata,
    check_answer_kind,
    check_content,
    check_found,
    errata_identity,
    set_ungraded_aside,
    ungraded_identity,
)
from reasondistill.curation.cells import as_text, no_text
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
from reasondistill.curation.comparing import (
    SHOWN_GOLD,
    Comparing,
    ShownGold,
    Waiting,
    as_set_aside,
    held_out_reason,
    warn_of_unequal_golds,
)
from reasondistill.curation.figures import figure_of
from reasondistill.curation.golds import REMEDIES, SOLUTION, fault_in_gold
from reasondistill.curation.growing import (
    Standing,
    may_grow,
    open_grown,
    write_left_out,
)
from reasondistill.curation.noticed import Noticed
from reasondistill.curation.packed import without_packing
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
from reasondistill.curation.selection import (
    TEMPLATE,
    answer_fields,
    selected,
    text_fields,
    wanted_fields,
)
from reasondistill.curation.sources import SourceCounts, naming, repeats, shares, told_by
from reasondistill.curation.words import normalise_question, question_forms
from reasondistill.errors import ConfigError, DataError
from reasondistill.grading import GRADER, GradeItem
from reasondistill.grading.read.golds import alternatives, is_solution
from reasondistill.hashing import stable_digest
from reasondistill.records import Grade, Origin, Problem, SetAside, fingerprint
from reasondistill.runs import layout, store
from reasondistill.runs.figures import ProblemsFigures, SourceFigures
from reasondistill.thinking import holds_tag

VERSION = 1

PROBLEMS, SET_ASIDE = layout.PROBLEMS, layout.SET_ASIDE

# The key that names files of questions which training must not hold.
_FILES = "problems.decontaminate.files"
# Bytes of what is set aside; more of it waits on disk.
_IN_MEMORY = 64 << 20
_MOST_WAITING = 20_000
# A text beyond it that reads like a solution is no answer.
_LONGEST_ANSWER = 400

logger = logging.getLogger(__name__)


class Grader(Protocol):
    """What this stage needs of a grading.GradingPool."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        """Grades in the order of the items."""
        ...


def run_problems(
    source: ProblemSource | ProblemMixture,
    folder: Path,
    *,
    pool: Grader,
    held_out: Sequence[HeldOut] = (),
    drawn: Callable[[], Container[str]] = frozenset[str],
    keep_old: bool = False,
    base: Path | None = None,
) -> store.Manifest:
    """Write problems.jsonl and set_aside.jsonl; in = out + dropped.

    A problem whose question is one of `held_out` is set aside; one that holds such a question, or
    one of a named file, or is all but the same as an earlier problem, where the source asks for it:
    leaks.jsonl, leaks.md and near_duplicates.jsonl say then what was found. Problems that stand
    stay when more of them are asked for, or less, and those that are `drawn`, which have traces,
    whatever else has their question (curation.growing). Raises ConfigError and DataError for a
    source that cannot be used, also when no row of it makes a problem, and DriftError when one that
    stands is not among them any more.
    """
    started = time.monotonic()
    texts = equal_texts(held_out)
    places = locate_all(source, base)
    identity = _identity_of(source, places, held_out, base)
    standing: Standing | None = None
    if may_grow(folder, identity, keep_old=keep_old):
        standing = Standing.of(folder, identity, drawn())
    elif store.open_stage(folder, identity, keep_old=keep_old) == "complete":
        return store.require_complete(folder)
    readings = open_all(source, places)
    entries = _all_entries(readings)
    with_traces: Callable[[], Iterable[Problem]] = tuple
    if standing is not None:
        entries = standing.seen(entries)
        with_traces = standing.with_traces
    entries = without_duplicates(entries, first=with_traces())
    if source.decontaminate is None:
        entries = without_held_out(entries, texts)
    else:
        held_out = list(held_out)
        for name in source.decontaminate.files:
            held_out += held_out_of_file(source.decontaminate, name, base)
    # Of near-duplicates one stays whose gold can be graded.
    checked = check_golds(entries, pool)
    comparing = Comparing(source, held_out, folder, first=with_traces)
    if standing is None:
        sifted = comparing.sifted(checked)
        return _write(readings, sifted, folder, started, comparing=comparing)
    # All of them before anything is written: what stands is only let go of when it comes again.
    with tempfile.TemporaryFile(dir=folder) as file:
        made = Waiting(file, standing.restored(checked), folder)
        open_grown(folder, identity, standing)
        grown = standing.kept(comparing.sifted(made.read()))
        return _write(readings, grown, folder, started, comparing=comparing, standing=standing)


def foresee_problems(
    source: ProblemSource | ProblemMixture,
    folder: Path,
    *,
    held_out: Sequence[HeldOut] = (),
    keep_old: bool = False,
    base: Path | None = None,
) -> store.Foreseen:
    """What `run_problems` would find in the folder; nothing is changed, and no row is read. Raises
    ConfigError and DriftError as it does, but for rows that have changed.
    """
    identity = _identity_of(source, locate_all(source, base), held_out, base)
    before = store.read_manifest(folder)
    if may_grow(folder, identity, keep_old=keep_old):
        return store.Foreseen("partial", before, grows=True)
    return store.foresee(folder, identity, keep_old=keep_old)


def foresee_benchmark(
    benchmark: Benchmark, folder: Path, *, keep_old: bool = False, base: Path | None = None
) -> store.Foreseen:
    """What `run_benchmark` would find in the folder. Raises ConfigError."""
    with _naming(benchmark):
        place = locate(benchmark.problems, base)
    identity = _identity(benchmark.problems, [place], {}, benchmark)
    return store.foresee(folder, identity, remade=True, keep_old=keep_old)


@contextmanager
def _naming(benchmark: Benchmark) -> Generator[None]:
    """Errors of a data set name its benchmark, which another file than the pipeline's describes."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"benchmark {benchmark.name}: {error}") from error


def count_problems(
    source: ProblemSource | ProblemMixture, *, base: Path | None, most: int
) -> int | None:
    """How many problems the rows of a source can become, before golds are checked; None for more
    than `most` rows, and where some lie on a hub. Raises ConfigError and DataError.
    """
    for part in source.parts:
        path = find_path(part.dataset, base)
        if part.source == "hub" and (path is None or not path.is_dir()):
            return None
    entries = read_problems(source, base=base)
    count = sum(isinstance(entry, Problem) for entry in islice(entries, most))
    return None if next(entries, None) is not None else count


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
    with _naming(benchmark):
        place = locate(source, base)
    identity = _identity(source, [place], {}, benchmark)
    before = store.read_manifest(folder)
    if before is not None and before.status == "complete":
        if keep_old:
            store.check_files(folder, before)
            return store.mark_kept(folder, before, identity)
        if before.fingerprint == identity.fingerprint:
            store.check_files(folder, before)
            content = ProblemsFigures.of(before).content
            if content is not None:
                check_found(benchmark, before.count("in"), content)
            return before
    with _naming(benchmark):
        reading = Reading(source, open_source(source, place), is_benchmark=True)
        read = list(islice(_entries(reading), BENCHMARK_ROWS.most + 1))
    if len(read) > BENCHMARK_ROWS.most:
        raise DataError(f"{source.dataset}: more than {BENCHMARK_ROWS}.")
    content = check_content(benchmark, read)
    entries = list(set_ungraded_aside(benchmark, apply_errata(benchmark, read)))
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
    manifest = _write([reading], checked, folder, started, of_benchmark=figures)
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
    readings: Sequence[Reading],
    entries: Iterable[Problem | SetAside],
    folder: Path,
    started: float,
    *,
    of_benchmark: ProblemsFigures | None = None,
    comparing: Comparing | None = None,
    standing: Standing | None = None,
) -> store.Manifest:
    """Write both files, and a third where problems that stand are left out; finish the stage."""
    dropped: Counter[str] = Counter()
    of_sources = SourceCounts()
    first: SetAside | None = None
    # Millions of rows may be set aside: they wait on disk until the problems are written.
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder)) as set_aside:

        def kept() -> Iterator[Problem]:
            nonlocal first
            for entry in entries:
                of_sources.add(entry)
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
        raise DataError(nothing_left(readings, first, dropped, folder))
    logger.info("%s: %d problems, %d set aside", folder, out, dropped.total())
    for reason, remedy in REMEDIES.items():
        if dropped[reason]:
            logger.warning("%s: %s (%d). %s", folder, reason, dropped[reason], remedy)
    # The grader is told, not part of the identity: a better grader must not throw away the traces.
    figures = source_figures(readings, of_sources)
    noticed = sum((Counter(reading.noticed.counts) for reading in readings), Counter[str]())
    if comparing is not None:
        for why, count in comparing.unsure.items():
            noticed[f"not checked well for leaks: {why}"] = count
    if noticed:
        figures = figures.joined(ProblemsFigures(noticed=dict(noticed)))
    if of_benchmark is not None:
        figures = figures.joined(of_benchmark)
    if comparing is not None and comparing.leaks:
        figures = figures.joined(ProblemsFigures(leaks=comparing.leaks))
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


def source_figures(readings: Sequence[Reading], counts: SourceCounts) -> ProblemsFigures:
    """Where the problems were read; of several sources also what became of each one's rows."""
    sources: list[SourceFigures] = []
    for reading in readings:
        opened = reading.opened
        if reading.name is None:
            return ProblemsFigures(
                dataset=opened.dataset, revision=opened.revision, split=opened.split, grader=GRADER
            )
        known = reading.figures()
        sources.append(counts.figures(known))
        if known.asked is not None and sources[-1].rows < known.asked:
            logger.warning(
                "source %s: has %d of the %d rows that are its share of the limit; a larger limit, "
                "or weight of others, makes up for them",
                reading.name,
                sources[-1].rows,
                known.asked,
            )
    return ProblemsFigures(grader=GRADER, sources=sources)


def read_problems(
    source: ProblemSource | ProblemMixture, *, base: Path | None = None
) -> Iterator[Problem | SetAside]:
    """Yield what each selected row became, in order. Golds are not checked here.

    A relative path is looked up from the working directory, then from `base`.
    """
    readings = open_all(source, locate_all(source, base))
    yield from without_duplicates(_all_entries(readings))


# ---- what training must not hold -----------------------------------------------------------------


def held_out_of(folder: Path, benchmark: str) -> Iterator[HeldOut]:
    """The questions of a benchmark's finished folder."""
    for problem in store.read_records(folder / PROBLEMS, Problem):
        yield HeldOut(benchmark, problem.id, problem.question)


def equal_texts(held_out: Iterable[HeldOut]) -> dict[str, str]:
    """The normalised questions, those of multiple choice without their options too, with the
    benchmark that has them.
    """
    texts: dict[str, str] = {}
    for one in held_out:
        texts |= dict.fromkeys(question_forms(one.question), one.benchmark)
    return texts


def held_out_of_file(
    settings: DecontaminateSettings, name: str, base: Path | None
) -> Iterator[HeldOut]:
    """The questions of a named file. Raises ConfigError and DataError for one that cannot be used,
    or has none.
    """
    count = 0
    with told_by(_FILES):
        entries = read_problems(_source_of_file(settings, name), base=base)
        first = list(islice(entries, 1))
    for entry in chain(first, entries):
        if isinstance(entry, Problem):
            count += 1
            yield HeldOut(Path(name).name, entry.id, entry.question)
        if count > BENCHMARK_ROWS.most:
            raise DataError(f"{name}: more than {BENCHMARK_ROWS}.")
    if count == 0:
        raise DataError(f"{name}: no row has a question in {settings.question!r}.")


def _source_of_file(settings: DecontaminateSettings, name: str) -> ProblemSource:
    return ProblemSource(
        source="file", dataset=name, question=settings.question, answer="", figures="keep"
    )


def compared_with(
    settings: DecontaminateSettings, held_out: Sequence[HeldOut], base: Path | None
) -> dict[str, str]:
    """All that problems are compared with, for the identity: questions of benchmarks, and files by
    name and content. Raises ConfigError for a file that is not there, and for two of one name.
    """
    texts = {f"{one.benchmark}/{one.id}": one.question for one in held_out}
    for name in settings.files:
        key = f"file {Path(name).name}"
        if key in texts:
            raise ConfigError(
                f"problems.decontaminate.files: two are called {Path(name).name}; give one of "
                "them another name."
            )
        with told_by(_FILES):
            texts[key] = locate(_source_of_file(settings, name), base).inputs["content"]
    return texts


# ---- opening -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a source was found. `inputs` is what its rows are a function of besides the settings: a
    content hash, a package version.
    """

    path: Path | None
    inputs: Mapping[str, str]


def locate_all(source: ProblemSource | ProblemMixture, base: Path | None) -> list[Place]:
    """Find every source, as `locate` does."""
    places: list[Place] = []
    for part in source.parts:
        with naming(name_of(part)):
            places.append(locate(part, base))
    return places


def name_of(source: ProblemSource) -> str | None:
    """The name of one of several sources; None where there is one alone."""
    if isinstance(source, MixedSource):
        return source.name
    return None


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


def _identity_of(
    source: ProblemSource | ProblemMixture,
    places: Sequence[Place],
    held_out: Sequence[HeldOut],
    base: Path | None,
) -> store.Identity:
    """What the problems of a run are made from."""
    others: dict[str, Mapping[str, str]] = {"held_out": equal_texts(held_out)}
    if source.decontaminate is not None:
        others["decontaminate"] = compared_with(source.decontaminate, held_out, base)
    return _identity(source, places, others)


def _identity(
    source: ProblemSource | ProblemMixture,
    places: Sequence[Place],
    others: Mapping[str, Mapping[str, str]],
    benchmark: Benchmark | None = None,
) -> store.Identity:
    """A local file counts by name and content, not by the folder that it lies in. `others` are
    texts that shape the outcome too.

    A benchmark's `rows`, `content` and `answer_kind` refuse or let pass and change nothing: to pin
    them later is no other benchmark.
    """
    inputs: dict[str, str] = {}
    if isinstance(source, ProblemMixture):
        # By name, so that a change is told of the source that it is in.
        order = [part.name for part in source.sources]
        section: dict[str, Any] = {"sources": {}, "order": order, "limit": source.limit}
        section |= _comparisons(source)
        for part, place in zip(source.sources, places, strict=True):
            section["sources"][part.name] = _section(part, place)
            inputs |= {f"{part.name}: {key}": value for key, value in place.inputs.items()}
    else:
        section = _section(source, places[0])
        inputs |= places[0].inputs
    if benchmark is not None and benchmark.errata:
        section["errata"] = errata_identity(benchmark)
    if benchmark is not None and benchmark.set_aside:
        section["set_aside"] = ungraded_identity(benchmark)
    for name, texts in others.items():
        if texts:
            inputs[name] = fingerprint(dict(texts))
    return store.Identity("problems", VERSION, section, inputs)


def _section(source: ProblemSource, place: Place) -> dict[str, Any]:
    section = source.model_dump(mode="json")
    if not source.choices:
        section.pop("choices", None)
    if place.path is not None:
        section["dataset"] = place.path.name
    return section | _comparisons(source)


def _comparisons(settings: ComparedProblems) -> dict[str, Any]:
    """The tables that are on. Their files count by name, and by content among the inputs."""
    tables = settings.model_dump(mode="json", include=set(ComparedProblems.model_fields))
    if settings.decontaminate is not None:
        names = [Path(name).name for name in settings.decontaminate.files]
        tables["decontaminate"]["files"] = names
    return tables


# ---- rows to problems ----------------------------------------------------------------------------


class Reading:
    """What is known of a source while its rows are read. Of a benchmark no row is set aside for
    what is asked: it is told.
    """

    def __init__(
        self,
        source: ProblemSource,
        opened: OpenedRows,
        *,
        is_benchmark: bool = False,
        asked: int | None = None,
    ) -> None:
        self.source = source
        self.opened = opened
        self.dataset = opened.dataset
        self.name = name_of(source)
        self.tag = source.tag if isinstance(source, MixedSource) else None
        self.asked = asked
        self.keeps_figures = is_benchmark or source.figures == "keep"
        self.texts = text_fields(source)
        self.parts = TEMPLATE.findall(source.question)
        self.counting = Counting(source.answer_counts_from)
        self.noticed = Noticed(opened.dataset)

    def figures(self) -> SourceFigures:
        """Where the rows of one of several sources come from."""
        opened = self.opened
        known: dict[str, Any] = {"name": self.name, "tag": self.tag, "asked": self.asked}
        known |= {"dataset": opened.dataset, "revision": opened.revision, "split": opened.split}
        return SourceFigures.read(known, "source")

    def end(self) -> None:
        """Say what was noticed. Raises DataError for what only all rows together show."""
        place = f"{self.dataset}: {', '.join(answer_fields(self.source))}"
        fault = self.counting.fault()
        if fault is not None:
            with naming(self.name):
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


def open_all(source: ProblemSource | ProblemMixture, places: Sequence[Place]) -> list[Reading]:
    """Open each source, for the rows that it gives at most."""
    if not isinstance(source, ProblemMixture):
        return [Reading(source, open_source(source, places[0]))]
    limits = [part.limit for part in source.sources]
    asked: Sequence[int | None] = [None] * len(limits)
    if source.limit is not None:
        asked = shares(source.limit, source.weights, limits)
    readings: list[Reading] = []
    for part, place, share in zip(source.sources, places, asked, strict=True):
        if share == 0:
            logger.warning("source %s: its share is none of %s rows", part.name, source.limit)
            continue
        if share is not None:
            part = part.model_copy(update={"limit": share})
        with naming(part.name):
            readings.append(Reading(part, open_source(part, place), asked=share))
    return readings


def _all_entries(readings: Iterable[Reading]) -> Iterator[Problem | SetAside]:
    """What the rows of all sources became, those of the first source first."""
    return chain.from_iterable(map(_entries, readings))


def _entries(reading: Reading) -> Iterator[Problem | SetAside]:
    """What each selected row became, each with an id of its own."""
    source, opened = reading.source, reading.opened
    ids: set[str] = set()
    rows = opened.rows
    if source.source != "procedural":
        rows = _bounded(rows, opened.dataset)
    with naming(reading.name):
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
    questions: dict[bytes, tuple[str, ShownGold]] = {}
    for problem in first:
        questions.setdefault(_question_key(problem), (problem.id, ShownGold.of(problem)))
    doubtful: dict[str, None] = {}
    for entry in entries:
        if isinstance(entry, SetAside):
            yield entry
            continue
        here = ShownGold.of(entry)
        name, gold = questions.setdefault(_question_key(entry), (entry.id, here))
        sources = repeats(entry, name)
        if name == entry.id:
            yield entry
        elif here.equals(gold):
            detail = f"the same question as {name}"
            yield as_set_aside(entry, f"duplicate question{sources}", detail)
        else:
            doubtful[name] = None
            detail = f"{here.text!r} here, {gold.text!r} there: the same question as {name}"
            yield as_set_aside(entry, f"duplicate question, unequal golds{sources}", detail)
    warn_of_unequal_golds("questions", doubtful)


def _question_key(problem: Problem) -> bytes:
    return stable_digest(normalise_question(problem.question))[:16]


def new_id(source: ProblemSource, opened: OpenedRows, row: Row, taken: set[str]) -> str:
    """`<name>/<split>/<row or id>`, safe in a file name and on one line, and used once."""
    if source.source == "file":
        dataset_name = without_packing(Path(opened.dataset)).stem
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
                f"{reading.dataset}:{row.index + 1}: {field}: holds {kind}, which is no text; "
                "write it as the text that an answer would have."
            )
    origin = Origin(
        dataset=opened.dataset,
        revision=opened.revision,
        split=opened.split,
        row=row.index,
        source=reading.name,
        tag=reading.tag,
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
    if isinstance(question, (list, Mapping)):
        kind = type(cast("object", question)).__name__
        return aside("question is not text", f"found {kind}: {question}")
    if not as_text(question).strip():
        return aside("no question")
    gold = ""
    if source.answer:
        found = gold_of(row.fields, answer_fields(source), source.answer_after)
        if isinstance(found, NoGold):
            return aside(found.reason, found.detail)
        gold = found.text
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
    is_long = len(gold) > _LONGEST_ANSWER and source.choices is None
    if is_long and is_solution(gold):
        return aside(SOLUTION, f"{gold[-80:]!r}")
    solution = _solution(reading, row, name)
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
        (field,) = answer_fields(source)
        right = find_right(found, get_value(row.fields, field), reading.counting)
        if isinstance(right, str):
            return f"{field} = {right}"
        options = list(found.texts)
    else:
        fields = source.choices or ()
        options = [as_text(get_value(row.fields, name)).strip() for name in fields]
        right = fields.index(str(source.answer))
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


def is_unicode(text: str) -> bool:
    """False for lone surrogates: a Python string can hold them, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _solution(reading: Reading, row: Row, name: str) -> str | None:
    """The reference solution. Raises DataError for a value that is no text: as one, a list of
    traces would be repeated with the gold behind it. A model's trace is none either.
    """
    field = reading.source.solution
    value = get_value(row.fields, field)
    if isinstance(value, (list, Mapping)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise DataError(
            f"{reading.dataset}: {field}: row {row.index} holds {kind}, and a solution is a text; "
            f'name one of them (solution = "{field}.0"), or take published traces with a teacher '
            'whose sampler = "stored".'
        )
    solution = as_text(value)
    if holds_tag(solution):
        reading.noticed.add(_TRACE_AS_SOLUTION, name)
        return None
    return solution or None


_TRACE_AS_SOLUTION = (
    "solution holds a model's reasoning, and is not taken: published traces come with "
    'sampler = "stored"'
)


def _optional_text(row: Row, name: str | None) -> str | None:
    return as_text(get_value(row.fields, name)) or None


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
            yield as_set_aside(entry, held_out_reason(benchmark))


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
            fault = fault_in_gold(problem.answer, grade)
            about = _about_gold(problem.answer, fault.found, grade)
            yield as_set_aside(problem, fault.reason, about)


def _about_gold(gold: str, found: str, grade: Grade) -> str:
    """`'… clips. #### 72': behind '####' stands '72' (undecided: answer_has_words)`: of a long
    gold the end, where answers stand.
    """
    shown = repr(gold)
    if len(gold) > SHOWN_GOLD:
        shown = f"…{gold[-SHOWN_GOLD:]!r}"
    about = f"{shown} ({grade.outcome}: {grade.reason})"
    if found:
        about = f"{found} in {about}"
    return about


def _has_gold(entry: Problem | SetAside) -> bool:
    return isinstance(entry, Problem) and entry.answer != ""


def nothing_left(
    readings: Sequence[Reading], first: SetAside | None, dropped: Counter[str], folder: Path
) -> str:
    """What to tell when every row was set aside: the reasons and the first row's detail."""
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in dropped.items())
    assert first is not None
    rows = dropped.total()
    path = folder / SET_ASIDE
    datasets = ", ".join(reading.source.dataset for reading in readings)
    detail = ""
    if first.detail:
        detail = f" ({first.detail})"
    remedy = REMEDIES.get(first.reason, "")
    if remedy:
        remedy = f" {remedy}"
    return (
        f"{datasets}: all {rows:,} rows were set aside: {reasons}. "
        f"The first, {first.id}: {first.reason}{detail}.{remedy} See {path}."
    )
