"""Problems beside each other and beside the questions of benchmarks: what only all of them show.

    comparing = Comparing(settings, held_out, folder)
    for entry in comparing.sifted(entries):     # each Problem, or the SetAside that it became
        ...
    comparing.leaks["gsm8k"]                    # Counter({"near": 3, "look-alike": 2})

The entries wait in a file without a name, in their order, and are read several times: memory is
what `LeakIndex` and `near_duplicates` promise. What was found is written before it is acted on.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import IO, TypeVar

from pydantic import ValidationError

from reasondistill import foreign_json
from reasondistill.config import ComparedProblems, DecontaminateSettings, NearDuplicateSettings
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.sources import repeats
from reasondistill.curation.words import hard_to_find, normalise_question
from reasondistill.foreign_text import shortened
from reasondistill.hashing import stable_digest
from reasondistill.markdown import inline
from reasondistill.records import Leak, NearDuplicate, Problem, SetAside
from reasondistill.runs import layout, store
from reasondistill.runs.figures import LOOK_ALIKE

# Begins the reason of a problem whose question stands in a benchmark.
HELD_OUT = "held out"

# Of a gold that is shown beside another one.
SHOWN_GOLD = 60
_MOST_NAMES = 5
# Pairs of a benchmark in the page; the file has all.
_MOST_LEAKS, _MOST_LOOK_ALIKES = 200, 50

logger = logging.getLogger(__name__)


# ---- setting aside -------------------------------------------------------------------------------


def as_set_aside(problem: Problem, reason: str, detail: str = "") -> SetAside:
    """What a problem becomes that is not kept."""
    return SetAside(id=problem.id, reason=reason, detail=detail[:200], origin=problem.origin)


def held_out_reason(benchmark: str) -> str:
    """Of a problem whose question is one of a benchmark's."""
    return f"{HELD_OUT}: in benchmark {benchmark}"


def leak_reason(leak: Leak, settings: DecontaminateSettings) -> str:
    """Of a problem that holds a question."""
    if leak.method == "equal":
        return held_out_reason(leak.benchmark)
    if leak.method == "near":
        return f"{HELD_OUT}: near a question of {leak.benchmark}"
    return f"{HELD_OUT}: {settings.n_gram} words of a question of {leak.benchmark}"


@dataclass(frozen=True, slots=True)
class ShownGold:
    """A gold, as far as it is shown beside another one; of a longer one a digest of all of it."""

    text: str
    digest: bytes = b""

    @classmethod
    def of(cls, problem: Problem) -> ShownGold:
        gold = problem.answer
        if len(gold) <= SHOWN_GOLD:
            return cls(gold)
        return cls(shortened(gold, SHOWN_GOLD), stable_digest(normalise_question(gold))[:16])

    def equals(self, other: ShownGold) -> bool:
        """Whether both are written alike: 2, 2.0 and "2."; 1,000 and 1000."""
        if self.digest or other.digest:
            return self.digest == other.digest
        return _gold_key(self.text) == _gold_key(other.text)


# No digit of a gold that is shown whole is rounded away.
_ALL_DIGITS = Context(prec=2 * SHOWN_GOLD)


def _gold_key(gold: str) -> str:
    text = normalise_question(gold)
    try:
        return str(Decimal(text.replace(",", "")).normalize(_ALL_DIGITS))
    except DecimalException:
        return text


def warn_of_unequal_golds(kind: str, first: Iterable[str]) -> None:
    """Say once which questions have several golds; `first` are the ids of those that stay."""
    names = list(dict.fromkeys(first))
    if names:
        logger.warning(
            "%s with unequal golds, of each the first stays: %d (%s). What is set aside shows both",
            kind,
            len(names),
            ", ".join(names[:_MOST_NAMES]),
        )


# ---- comparing -----------------------------------------------------------------------------------


class Comparing:
    """Sets aside the problems that hold a question of `held_out`, then those that are all but the
    same as an earlier one, where the tables of `[problems]` ask for it.

    Of near-duplicates the first in the order of the sources stays, but those that are `first` stand
    before all others and are near-duplicates of none; they are read twice. `leaks` counts the pairs
    of each benchmark by the way in which they were found; look-alikes are kept. `unsure` counts the
    problems in which a leak may not be found, by what hides it.
    """

    def __init__(
        self,
        settings: ComparedProblems,
        held_out: Sequence[HeldOut],
        folder: Path,
        first: Callable[[], Iterable[Problem]] = tuple,
    ) -> None:
        self.decontaminate = settings.decontaminate
        self.near_duplicates = settings.near_duplicates
        self.leaks: dict[str, Counter[str]] = {}
        self.unsure: Counter[str] = Counter()
        self._held_out = held_out
        self._folder = folder
        self._first = first
        self._golds: dict[str, ShownGold] = {}
        if self.near_duplicates is not None:
            self._golds = {problem.id: ShownGold.of(problem) for problem in first()}
        # The problems that stand for others, and how many these are.
        self._clusters: Counter[str] = Counter()

    def sifted(self, entries: Iterable[Problem | SetAside]) -> Iterator[Problem | SetAside]:
        """The entries in their order, each once. Files are written into the folder: leaks.jsonl and
        leaks.md, near_duplicates.jsonl.
        """
        if self.decontaminate is None and self.near_duplicates is None:
            yield from entries
            return
        with tempfile.TemporaryFile(dir=self._folder) as file:
            waiting = Waiting(file, entries, self._folder)
            clean: Callable[[], Iterator[Problem | SetAside]] = waiting.read
            if self.decontaminate is not None:
                self.find_leaks(waiting, self.decontaminate)
                clean = partial(self.without_leaks, waiting, self.decontaminate)
            if self.near_duplicates is None:
                yield from clean()
                return
            self.find_near_duplicates(clean(), self.near_duplicates)
            yield from self.without_near_duplicates(clean(), self.near_duplicates)

    # ---- questions of benchmarks

    def find_leaks(self, waiting: Waiting, settings: DecontaminateSettings) -> None:
        """Write the pairs and their page."""
        from reasondistill.curation.instructions import common_sentences
        from reasondistill.curation.leaks import LeakIndex
        from reasondistill.curation.shingles import Text

        logger.info(
            "%d problems are compared with %d questions", waiting.problems, len(self._held_out)
        )
        index = LeakIndex(
            self._held_out,
            common=common_sentences(problem.question for problem in _problems(waiting.read())),
            numbers=settings.numbers,
            contained=settings.contained,
            n_gram=settings.n_gram,
        )

        def texts() -> Iterator[Text]:
            for problem in _problems(waiting.read()):
                why = hard_to_find(problem.question)
                if why is not None:
                    self.unsure[why] += 1
                yield Text(problem.id, problem.question)

        found = chain.from_iterable(leaks for _, leaks in index.search(texts()))
        page = LeaksPage(dict.fromkeys(question.benchmark for question in self._held_out))
        store.write_records(self._folder / layout.LEAKS, page.watched(found))
        unsure = [_not_checked(*counted) for counted in self.unsure.items()]
        for told in unsure:
            logger.warning("%s: %s", self._folder, told)
        lines = [*page.lines(), *(f"{told}\n" for told in unsure)]
        store.write_text(self._folder / layout.LEAKS_MARKDOWN, "\n".join(lines))
        self.leaks = page.counts

    def without_leaks(
        self, waiting: Waiting, settings: DecontaminateSettings
    ) -> Iterator[Problem | SetAside]:
        """The entries, of which those with a leak are set aside."""
        for entry, leaks in _beside(waiting.read(), self._folder / layout.LEAKS, Leak):
            first = next((leak for leak in leaks if leak.kind == "leak"), None)
            if first is None or isinstance(entry, SetAside):
                yield entry
                continue
            detail = f"{first.question_id}: both texts stand in {layout.LEAKS}"
            yield as_set_aside(entry, leak_reason(first, settings), detail)

    # ---- each other

    def find_near_duplicates(
        self, entries: Iterable[Problem | SetAside], settings: NearDuplicateSettings
    ) -> None:
        """Write which problems are all but the same as an earlier one."""
        from reasondistill.curation.near_duplicates import near_duplicates
        from reasondistill.curation.shingles import Text

        others = (problem for problem in _problems(entries) if problem.id not in self._golds)
        problems = chain(self._first(), others)
        found = near_duplicates(
            (Text(problem.id, problem.question) for problem in problems),
            threshold=settings.threshold,
            words=settings.words,
            numbers=settings.numbers,
            folder=self._folder,
        )

        def watched() -> Iterator[NearDuplicate]:
            for one in found:
                if one.id not in self._golds:
                    self._clusters[one.of] += 1
                    yield one

        count = store.write_records(self._folder / layout.NEAR_DUPLICATES, watched())
        logger.info("%d problems are near-duplicates of %d that stay", count, len(self._clusters))

    def without_near_duplicates(
        self, entries: Iterable[Problem | SetAside], settings: NearDuplicateSettings
    ) -> Iterator[Problem | SetAside]:
        """The entries, of which these are set aside."""
        golds = dict(self._golds)
        doubtful: dict[str, None] = {}
        path = self._folder / layout.NEAR_DUPLICATES
        for entry, found in _beside(entries, path, NearDuplicate):
            if isinstance(entry, SetAside):
                yield entry
                continue
            if entry.id in self._clusters:
                golds[entry.id] = ShownGold.of(entry)
            if not found:
                yield entry
                continue
            first, here = found[0].of, ShownGold.of(entry)
            reason = "near-duplicate question"
            sources = repeats(entry, first)
            detail = f"{found[0].similarity:.2f} like {first}"
            # Where numbers may differ, so may the answers.
            if settings.numbers == "count" and not here.equals(golds[first]):
                reason = f"{reason}, unequal golds"
                detail = f"{here.text!r} here, {golds[first].text!r} there: {detail}"
                doubtful[first] = None
            yield as_set_aside(entry, f"{reason}{sources}", detail)
        warn_of_unequal_golds("near-duplicate questions", doubtful)


# ---- the page of leaks ---------------------------------------------------------------------------


def _not_checked(why: str, count: int) -> str:
    return f"Not checked well: {count:,} problems {why}."


class LeaksPage:
    """Counts leaks as they pass, and shows the first of each benchmark side by side."""

    def __init__(self, benchmarks: Iterable[str]) -> None:
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in benchmarks}
        self._shown: dict[str, list[Leak]] = {name: [] for name in self.counts}

    def watched(self, leaks: Iterable[Leak]) -> Iterator[Leak]:
        """The same leaks."""
        for leak in leaks:
            counts = self.counts[leak.benchmark]
            if leak.kind == "look_alike":
                counts[LOOK_ALIKE] += 1
                is_shown = counts[LOOK_ALIKE] <= _MOST_LOOK_ALIKES
            else:
                counts[leak.method] += 1
                is_shown = counts.total() - counts[LOOK_ALIKE] <= _MOST_LEAKS
            if is_shown:
                self._shown[leak.benchmark].append(leak.without_secrets())
            yield leak

    def lines(self) -> Iterator[str]:
        """The page, when all have passed."""
        from reasondistill.curation.leaks import leaks_as_markdown

        yield "# Problems beside the questions of benchmarks"
        yield ""
        yield (
            "Pairs by the way in which they were found: equal texts; near, most of the question's "
            "runs of five words; words in a row. These problems are set aside. Look-alikes have "
            f"the words and other numbers, and are kept. All pairs are in {layout.LEAKS}."
        )
        yield ""
        yield "| benchmark | equal | near | words in a row | look-alikes |"
        yield "|---|---|---|---|---|"
        for name, counts in self.counts.items():
            cells = [f"{counts[kind]:,}" for kind in ("equal", "near", "run", LOOK_ALIKE)]
            yield f"| {' | '.join([inline(name), *cells])} |"
        for name, leaks in self._shown.items():
            if leaks:
                yield ""
                yield from leaks_as_markdown(name, sorted(leaks, key=lambda leak: leak.kind))
                hidden = self.counts[name].total() - len(leaks)
                if hidden:
                    yield ""
                    yield f"… and {hidden:,} more."
        yield ""


# ---- entries on disk -----------------------------------------------------------------------------


class Waiting:
    """Entries in a file, to be read again and again, by one reader at a time."""

    def __init__(
        self, file: IO[bytes], entries: Iterable[Problem | SetAside], folder: Path
    ) -> None:
        self.problems = 0
        self._file = file
        for entry in entries:
            mark = b"-"
            if isinstance(entry, Problem):
                mark = b"+"
                self.problems += 1
            line = mark + entry.to_json().encode() + b"\n"
            with store.disk_errors(folder):
                self._file.write(line)
        with store.disk_errors(folder):
            self._file.flush()

    def read(self) -> Iterator[Problem | SetAside]:
        """All of them, in their order."""
        self._file.seek(0)
        for line in self._file:
            if line.startswith(b"+"):
                yield _entry(Problem, line[1:])
            else:
                yield _entry(SetAside, line[1:])


E = TypeVar("E", Problem, SetAside)


def _entry(kind: type[E], line: bytes) -> E:
    try:
        return kind.model_validate_json(line)
    except ValidationError:  # lone surrogates: valid JSON for the standard library only
        return kind.model_validate(foreign_json.loads(line))


def _problems(entries: Iterable[Problem | SetAside]) -> Iterator[Problem]:
    return (entry for entry in entries if isinstance(entry, Problem))


R = TypeVar("R", Leak, NearDuplicate)


def _beside(
    entries: Iterable[Problem | SetAside], path: Path, kind: type[R]
) -> Iterator[tuple[Problem | SetAside, list[R]]]:
    """Each entry with the records of a file that have its id; these come in the same order."""
    groups = groupby(store.read_records(path, kind), key=lambda record: record.id)
    name, records = next(groups, ("", iter(())))
    for entry in entries:
        if entry.id != name:
            yield entry, []
            continue
        yield entry, list(records)
        name, records = next(groups, ("", iter(())))
