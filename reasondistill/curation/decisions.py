"""Decisions about traces, and their counts."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from reasondistill.curation.difficulty import pass_rate
from reasondistill.records import Example, Graded, Problem, Split, SuspectGold, Trace
from reasondistill.runs.figures import ExamplesFigures, MixedGroup, WriterFigures

# What is counted of a writer, beside the reasons why traces were dropped: none reads like these.
_TRACES, _CORRECT, _KEPT = "=traces", "=correct", "=kept"
# Every row of a data set may name a writer of its own.
_MOST_LISTED = 20

PASS_RATE_BINS = (
    "pass_rate_0",
    "pass_rate_0_25",
    "pass_rate_25_50",
    "pass_rate_50_75",
    "pass_rate_75_100",
    "pass_rate_100",
)


@dataclass(frozen=True)
class Decision:
    """The decision about one problem's traces: `reasons` has the reason for each dropped trace's
    id; the others are kept. `suspect` is there where the traces speak against the gold. The last
    `beyond` of them are beyond the samples that count: nothing is decided by them.
    """

    problem: Problem
    pairs: tuple[Graded, ...]
    reasons: Mapping[str, str]
    suspect: SuspectGold | None = None
    beyond: int = 0

    @property
    def kept(self) -> tuple[Graded, ...]:
        return tuple(pair for pair in self.pairs if pair.trace.id not in self.reasons)

    @property
    def share_correct(self) -> float | None:
        """The teacher's pass rate on this problem."""
        counting = self.pairs[: len(self.pairs) - self.beyond]
        return pass_rate(pair.verdict.grade.outcome for pair in counting)


@dataclass
class Tally:
    """Counts over a stream of decisions; memory is one number per example, whatever the length of
    the texts.
    """

    tokens: array[int] = field(default_factory=lambda: array("q"))
    dropped: Counter[str] = field(default_factory=Counter[str])
    splits: Counter[str] = field(default_factory=Counter[str])
    pass_rates: Counter[str] = field(default_factory=Counter[str])
    teachers: Counter[str] = field(default_factory=Counter[str])
    prompts: Counter[str] = field(default_factory=Counter[str])
    samplings: Counter[str] = field(default_factory=Counter[str])
    graders: Counter[str] = field(default_factory=Counter[str])
    problems: int = 0
    kept_problems: int = 0
    suspects: int = 0
    mixture: tuple[MixedGroup, ...] = ()
    # By writer, where several write of every problem: `traces`, `correct`, `kept`, and reasons.
    by_writer: dict[str, Counter[str]] | None = None
    rounds: Mapping[str, int] = field(default_factory=dict[str, int])
    _first: tuple[float, str] = (2.0, "")
    _last: tuple[float, str] = (-1.0, "")

    @property
    def kept(self) -> int:
        return len(self.tokens)

    @property
    def total(self) -> int:
        """All traces seen."""
        return self.kept + self.dropped.total()

    @property
    def first_problem(self) -> str:
        """The kept problem with the lowest place between 0 and 1."""
        return self._first[1]

    @property
    def last_problem(self) -> str:
        """The kept problem with the highest place."""
        return self._last[1]

    def see(self, decision: Decision, place: float, split: Split) -> None:
        """Count one problem's decision; `place` is the problem's place between 0 and 1, by which it
        is assigned to a split.
        """
        self.problems += 1
        if decision.suspect is not None:
            self.suspects += 1
        share = decision.share_correct
        if share is not None:
            self.pass_rates[pass_rate_bin(share)] += 1
        self.dropped.update(decision.reasons.values())
        for pair in decision.pairs:
            self.teachers[pair.trace.teacher] += 1
            self.prompts[pair.trace.prompt] += 1
            self.samplings[_sampling_of(pair.trace)] += 1
            self.graders[pair.verdict.grade.grader] += 1
            if self.by_writer is not None:
                counts = self.by_writer.setdefault(pair.trace.teacher, Counter())
                counts[_TRACES] += 1
                counts[_CORRECT] += pair.verdict.grade.is_correct
                reason = decision.reasons.get(pair.trace.id)
                counts[_KEPT if reason is None else reason] += 1
        kept = decision.kept
        if kept:
            self.kept_problems += 1
            self.splits[split] += len(kept)
            self.tokens.extend(pair.trace.completion.tokens for pair in kept)
            self._first = min(self._first, (place, decision.problem.id))
            self._last = max(self._last, (place, decision.problem.id))

    def see_mixed(
        self,
        kept: Iterable[Example],
        lost: Mapping[str, Counter[str]],
        place_of: Callable[[str], float],
    ) -> None:
        """Count anew what a mixture has left, and add why the others were dropped, by writer."""
        for writer, reasons in lost.items():
            self.dropped.update(reasons)
            if self.by_writer is not None:
                self.by_writer[writer].update(reasons)
                self.by_writer[writer][_KEPT] -= reasons.total()
        self.tokens = array("q")
        self.splits = Counter()
        self.kept_problems = 0
        self._first, self._last = (2.0, ""), (-1.0, "")
        before = ""
        for example in kept:
            self.tokens.append(example.tokens)
            self.splits[example.split] += 1
            if example.problem_id != before:
                before = example.problem_id
                self.kept_problems += 1
                here = (place_of(before), before)
                self._first, self._last = min(self._first, here), max(self._last, here)

    def writers(self) -> tuple[WriterFigures, ...]:
        """Who has written how much, and what became of it, in the order of their samples."""
        writers: list[WriterFigures] = []
        for name, counts in (self.by_writer or {}).items():
            told = (_TRACES, _CORRECT, _KEPT)
            dropped = {word: count for word, count in counts.items() if word not in told}
            writers.append(
                WriterFigures(
                    name=name,
                    of_round=self.rounds.get(name),
                    traces=counts[_TRACES],
                    correct=counts[_CORRECT],
                    kept=counts[_KEPT],
                    dropped=dropped,
                )
            )
        return tuple(sorted(writers, key=lambda one: (one.of_round or 0, one.name)))

    def origins(self) -> dict[str, str]:
        """Teachers, sampling and graders of the traces, from the records; with the number of traces
        where there are several.
        """
        named = {
            "teacher": self.teachers,
            "prompt": self.prompts,
            "sampling": self.samplings,
            "grader": self.graders,
        }
        return {name: _listed(counter) for name, counter in named.items()}

    def figures(self) -> ExamplesFigures:
        """The numbers for card and report, when at least one trace was kept."""
        ordered = sorted(self.tokens)

        def at(percent: int) -> int:
            return ordered[round(percent / 100 * (len(ordered) - 1))]

        return ExamplesFigures(
            problems=self.problems,
            kept_problems=self.kept_problems,
            problems_without_example=self.problems - self.kept_problems,
            tokens_mean=round(sum(ordered) / len(ordered), 1),
            tokens_p10=at(10),
            tokens_p50=at(50),
            tokens_p90=at(90),
            tokens_p99=at(99),
            tokens_max=ordered[-1],
            pass_rate_0=self.pass_rates["pass_rate_0"],
            pass_rate_0_25=self.pass_rates["pass_rate_0_25"],
            pass_rate_25_50=self.pass_rates["pass_rate_25_50"],
            pass_rate_50_75=self.pass_rates["pass_rate_50_75"],
            pass_rate_75_100=self.pass_rates["pass_rate_75_100"],
            pass_rate_100=self.pass_rates["pass_rate_100"],
            suspect_golds=self.suspects,
            mixture=self.mixture,
            writers=self.writers(),
        )


def pass_rate_bin(share: float) -> str:
    """The bin of a problem's share of correct traces; 0 and 1 have their own bins, the others are
    open below.

    >>> pass_rate_bin(0.25), pass_rate_bin(0.3), pass_rate_bin(1.0)
    ('pass_rate_0_25', 'pass_rate_25_50', 'pass_rate_100')
    """
    if share == 0:
        return PASS_RATE_BINS[0]
    if share == 1:
        return PASS_RATE_BINS[-1]
    edges_below = sum(share > edge for edge in (0.25, 0.5, 0.75))
    return PASS_RATE_BINS[1 + edges_below]


def _sampling_of(trace: Trace) -> str:
    if trace.sampling is None:
        return "unknown"
    return trace.sampling.model_dump_json()


def _listed(counter: Counter[str]) -> str:
    names = sorted(counter)
    if len(names) == 1:
        return names[0]
    if len(names) > _MOST_LISTED:
        names = sorted(name for name, _ in counter.most_common(_MOST_LISTED))
    listed = ", ".join(f"{name} ({counter[name]:,} traces)" for name in names)
    others = len(counter) - len(names)
    if others:
        listed += f", and {others:,} others"
    return listed
