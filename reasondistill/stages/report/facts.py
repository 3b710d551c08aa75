"""Read a run folder into Facts: the content of the report, without layout.

Whatever a run does not have yet is left empty: a run with traces only gives a report of traces
only. Files are streamed; of long shards only counts, token numbers and the few records that are
shown stay in memory.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from reasondistill.config.published import Published
from reasondistill.records import (
    OUTCOMES,
    VARIANT,
    Cascade,
    Difference,
    EvalRecord,
    Example,
    Forecast,
    Grade,
    MeasuredModel,
    Problem,
    Score,
    SeedSpread,
    Student,
    SuspectGold,
    Trace,
    fingerprint,
)
from reasondistill.runs import layout
from reasondistill.runs.figures import read_forecast, read_latency, read_student_record
from reasondistill.runs.graded import read_as_far_as_graded
from reasondistill.runs.layout import EvalsFolder, RunFolder
from reasondistill.runs.metrics import TrainingLine
from reasondistill.runs.missing import LOST, REFUSED, Missing, read_missing
from reasondistill.runs.scores import (
    BootstrapInterval,
    Overlap,
    PromptSpread,
    SeedGroups,
    read_scores,
)
from reasondistill.runs.staleness import changed_inputs, outputs_of, read_manifests
from reasondistill.runs.store import (
    Manifest,
    check_sizes,
    count_lines,
    exists_verified,
    read_keys,
    read_records,
)

PROBLEMS, TRACES, VERDICTS, EXAMPLES, STUDENTS, EVALS, _ = layout.FOLDERS.values()
LATENCIES = f"{EVALS}/*/*/{layout.LATENCY}"
NOT_GRADED = "not graded"
_MOST_SUSPECTS = 5

Value = TypeVar("Value")


@dataclass(frozen=True)
class Stage:
    """One stage folder: its place in the run (`6-evals/gsm8k/sft/traces`) and its manifest."""

    place: str
    manifest: Manifest


@dataclass(frozen=True)
class FunnelStep:
    """What went into a stage, what came out, and what was left behind by reason; `verb` is what
    happened to that.
    """

    step: str
    came_in: int | None
    came_out: int
    parts: Mapping[str, int]
    dropped: Mapping[str, int]
    verb: str = "dropped"


@dataclass(frozen=True)
class Shown:
    """A trace to read, with its question and grade where they are known."""

    trace: Trace
    grade: Grade | None
    problem: Problem | None

    @property
    def outcome(self) -> str:
        """That of the grade; a sample that failed has none of the grader's."""
        if self.trace.completion.finish == "error":
            if self.trace.completion.is_refused:
                return REFUSED
            return LOST
        if self.grade is None:
            return NOT_GRADED
        return self.grade.outcome


@dataclass(frozen=True)
class SideBySide:
    """One benchmark problem and what each model wrote on it."""

    benchmark: str
    problem: Problem
    answers: tuple[tuple[str, Shown], ...]


@dataclass(frozen=True)
class StudentFolder:
    """A student folder: the record when it is finished, and its metrics lines."""

    name: str
    record: Student | None
    metrics: Sequence[TrainingLine]


@dataclass(frozen=True)
class Seeds:
    """Students that differ in their seed alone, taken together: `members` of each name, and every
    comparison with names for members.
    """

    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    scores: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    spread: tuple[SeedSpread, ...] = ()
    note: str = ""

    def of(self, model: str) -> str | None:
        """The name that a model is one of."""
        return next((name for name, members in self.members.items() if model in members), None)


@dataclass(frozen=True)
class Facts:
    """What a run folder holds. `outcomes` and `mean_tokens` have those of students taken together
    beside those of each.

    `missing` says of each traces folder with fewer answers than were asked for why that is.
    `traces` counts those of the run, teachers' and models'; `has_browser`: all of them stand beside
    the report.
    `refused` has the reason of each refused problem, `lost` the lost samples, both by benchmark and
    model, as far as scores are made without them.
    """

    run: str
    stages: tuple[Stage, ...] = ()
    funnel: tuple[FunnelStep, ...] = ()
    trace_tokens: Mapping[str, array[int]] = field(default_factory=dict[str, "array[int]"])
    shown: tuple[Shown, ...] = ()
    example: Example | None = None
    students: tuple[StudentFolder, ...] = ()
    scores: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    outcomes: Mapping[str, Mapping[str, Mapping[str, float]]] = field(
        default_factory=dict[str, Any]
    )
    mean_tokens: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict[str, Any])
    bootstrap: tuple[BootstrapInterval, ...] = ()
    parts: tuple[Score, ...] = ()
    prompts: tuple[PromptSpread, ...] = ()
    overlap: Mapping[str, Overlap] = field(default_factory=dict[str, Overlap])
    published: tuple[Published, ...] = ()
    eval_tokens: Mapping[tuple[str, str], array[int]] = field(
        default_factory=dict[tuple[str, str], "array[int]"]
    )
    side_by_side: tuple[SideBySide, ...] = ()
    seeds: Seeds = Seeds()
    models: Mapping[str, MeasuredModel] = field(default_factory=dict[str, MeasuredModel])
    reference: str | None = None
    cascades: tuple[Cascade, ...] = ()
    latency: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Any])
    forecast: Forecast | None = None
    missing: Mapping[str, Missing] = field(default_factory=dict[str, Missing])
    # Places that the pipeline asks for, and that nothing has begun.
    absent: tuple[str, ...] = ()
    # Stage → the places that it was made from and that have changed since.
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict[str, "list[str]"])
    # The first golds of those that samples speak against; the manifest counts all.
    suspects: tuple[SuspectGold, ...] = ()
    traces: int = 0
    has_browser: bool = False
    refused: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict[str, Any])
    lost: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict[str, Any])

    def method(self, model: str) -> str:
        """How a model was made; `teacher` for one that this run did not make."""
        first = self.members(model)[0]
        for student in self.students:
            if student.name == first:
                if student.record is None:
                    return "unfinished"
                return student.record.method
        return "teacher"

    def members(self, name: str) -> tuple[str, ...]:
        """The students that a name stands for, one for each seed; else the model itself."""
        return self.seeds.members.get(name, (name,))

    @property
    def own_scores(self) -> tuple[Score, ...]:
        """The scores of models under their own prompt, at the end of their training."""
        return tuple(score for score in self.scores if VARIANT not in score.model)

    @property
    def main_scores(self) -> tuple[Score, ...]:
        """The same with students that differ in their seed alone taken together, where the first of
        them stood.
        """
        pooled = {
            (score.model, score.benchmark, score.metric): score for score in self.seeds.scores
        }
        rows: list[Score] = []
        for score in self.own_scores:
            group = self.seeds.of(score.model)
            if group is None:
                rows.append(score)
                continue
            together = pooled.pop((group, score.benchmark, score.metric), None)
            if together is not None:
                rows.append(together)
        return tuple(rows)

    @property
    def single_scores(self) -> tuple[Score, ...]:
        """The scores of each seed alone; none where every student was made once."""
        return tuple(score for score in self.own_scores if self.seeds.of(score.model) is not None)

    @property
    def main_differences(self) -> tuple[Difference, ...]:
        if self.seeds.members:
            return self.seeds.differences
        return self.differences

    @property
    def single_differences(self) -> tuple[Difference, ...]:
        """The comparisons of each seed alone."""
        return tuple(
            row
            for row in self.differences
            if self.seeds.of(row.model) or self.seeds.of(row.baseline)
        )

    def is_later_seed(self, model: str) -> bool:
        """True for all but the first student of several seeds: where one stands for all."""
        group = self.seeds.of(model)
        return group is not None and model != self.members(group)[0]

    def stage(self, place: str) -> Manifest | None:
        return next((stage.manifest for stage in self.stages if stage.place == place), None)

    @property
    def unfinished(self) -> list[str]:
        return [stage.place for stage in self.stages if stage.manifest.status != "complete"]


def read_facts(
    run: Path, stages: tuple[Stage, ...], *, traces: int, published: tuple[Published, ...] = ()
) -> Facts:
    """Everything the report says about `run`; `traces` is how many to show, `published` what others
    have published.
    """
    missing: dict[str, Missing] = {}
    for stage in stages:
        is_sampling = stage.place.rpartition("/")[2] in (TRACES, "traces")
        if not is_sampling:
            continue
        answers = read_missing(run / stage.place)
        if answers.is_short:
            missing[stage.place] = answers
    graded = _Graded(traces)
    for trace, grade in _graded(run):
        graded.add(trace, grade)
    here = RunFolder(run)
    records = _Records()
    if here.evals.records.is_file():
        records.read(here.evals.records)
    summary = read_scores(here.evals.scores)
    groups = summary.groups or SeedGroups()
    seeds = Seeds(
        members=groups.members,
        scores=groups.scores,
        differences=groups.differences,
        spread=groups.spread,
        note=groups.note,
    )
    most_sides = 0
    if traces:
        most_sides = max(1, traces // 2)
    return Facts(
        run=run.resolve().name,
        stages=stages,
        funnel=tuple(_funnel(run, stages, graded, missing.get(TRACES))),
        trace_tokens=graded.by_outcome(),
        shown=_with_problems(here.problems, graded.chosen()),
        example=_first_example(here.examples),
        students=tuple(_students(run / STUDENTS)),
        scores=summary.scores,
        differences=summary.differences,
        outcomes=_joined(summary.outcomes, groups.outcomes),
        mean_tokens=_joined(summary.tokens, groups.tokens),
        bootstrap=summary.bootstrap,
        parts=summary.parts,
        prompts=summary.prompts,
        overlap=summary.overlap,
        published=published,
        eval_tokens=_pooled_tokens(records.tokens, seeds),
        side_by_side=tuple(_side_by_side(here.evals, records, most_sides, seeds)),
        seeds=seeds,
        models={model.name: model for model in summary.models},
        reference=summary.reference,
        cascades=summary.cascades,
        latency=_latency(run),
        forecast=read_forecast(here.forecast),
        missing=missing,
        stale=_stale(run, stages),
        suspects=_first_suspects(here.suspects),
        refused=summary.refused,
        lost=summary.lost,
    )


def read_stages(run: Path, *, besides: Path) -> tuple[Stage, ...]:
    """Every stage folder of the run in walking order; the report's own folder is passed over."""
    manifests = read_manifests(RunFolder(run))
    manifests.pop(besides.relative_to(run).as_posix(), None)
    for place, manifest in manifests.items():
        if manifest.status == "complete":
            check_sizes(run / place, manifest)
    return tuple(Stage(place, manifest) for place, manifest in manifests.items())


def _stale(run: Path, stages: Iterable[Stage]) -> dict[str, list[str]]:
    """Stage → the places that it was made from and that have changed since."""
    manifests = {stage.place: stage.manifest for stage in stages}
    outputs = outputs_of(RunFolder(run), manifests)
    stale: dict[str, list[str]] = {}
    for place, manifest in manifests.items():
        changed = changed_inputs(place, manifest, outputs)
        if changed:
            stale[place] = list(changed.values())
    return stale


# ---- traces and their grades ---------------------------------------------------------------------


def _graded(run: Path) -> Iterator[tuple[Trace, Grade | None]]:
    """Each trace of stage 2 with its grade; while traces are drawn the later ones have none."""
    if not (run / TRACES / layout.TRACES).is_file():
        return
    here = RunFolder(run)
    for trace, verdict in read_as_far_as_graded(here.traces, here.verdicts):
        if verdict is None:
            yield trace, None
        else:
            yield trace, verdict.grade


class _Graded:
    """Token counts by outcome, and a mix of traces to read: the same ones every time, spread over
    the outcomes.

    Samples that failed have no length and nothing to read: they are only counted.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._number = limit, 0
        self._heaps: dict[str, list[tuple[int, int, Shown]]] = {}
        self.tokens: dict[str, array[int]] = {}
        self.failed: Counter[str] = Counter()

    def add(self, trace: Trace, grade: Grade | None) -> None:
        shown = Shown(trace, grade, None)
        if shown.outcome in (LOST, REFUSED):
            self.failed[shown.outcome] += 1
            return
        self.tokens.setdefault(shown.outcome, array("q")).append(trace.completion.tokens)
        heap = self._heaps.setdefault(shown.outcome, [])
        self._number += 1  # breaks ties, traces have no order of their own
        heapq.heappush(heap, (-_lot(trace.id), self._number, shown))
        if len(heap) > self._limit:
            heapq.heappop(heap)

    def by_outcome(self) -> dict[str, array[int]]:
        """Token counts, outcomes in their usual order."""
        return {
            outcome: self.tokens[outcome]
            for outcome in (*OUTCOMES, NOT_GRADED)
            if outcome in self.tokens
        }

    def chosen(self) -> list[Shown]:
        rows: list[list[Shown]] = []
        for outcome in self.by_outcome():
            ordered = sorted(self._heaps[outcome], reverse=True)
            rows.append([shown for *_, shown in ordered])
        return list(_in_turns(rows))[: self._limit]


def _lot(name: str) -> int:
    """A number drawn from the name: a fair choice that is the same on every machine."""
    return int(fingerprint(name), 16)


def _in_turns(rows: Iterable[list[Any]]) -> Iterator[Any]:
    """First of each row, second of each row, and so on."""
    waiting = [list(row) for row in rows]
    while any(waiting):
        yield from (row.pop(0) for row in waiting if row)


def _with_problems(path: Path, shown: list[Shown]) -> tuple[Shown, ...]:
    problem_ids = {item.trace.problem_id for item in shown}
    problems = _find_problems(path, problem_ids)
    items: list[Shown] = []
    for item in shown:
        problem = problems.get(item.trace.problem_id)
        items.append(Shown(item.trace, item.grade, problem))
    return tuple(items)


def _find_problems(path: Path, problem_ids: set[str]) -> dict[str, Problem]:
    problems: dict[str, Problem] = {}
    if problem_ids and path.exists():
        for problem in read_records(path, Problem):
            if problem.id in problem_ids:
                problems[problem.id] = problem
    return problems


# ---- the funnel ----------------------------------------------------------------------------------


def _funnel(
    run: Path, stages: tuple[Stage, ...], graded: _Graded, missing: Missing | None
) -> Iterator[FunnelStep]:
    """problems → traces → verdicts → examples, as far as the run has come; traces that are
    `missing` also while they are drawn.
    """
    manifests = {stage.place: stage.manifest for stage in stages}
    outcomes = {outcome: len(tokens) for outcome, tokens in graded.by_outcome().items()}
    outcomes |= graded.failed
    splits: dict[str, int] = {}
    examples = RunFolder(run).examples
    if examples.exists():
        splits = dict(Counter(read_keys(examples, "split")))
    for place, parts in (
        (PROBLEMS, {}),
        (TRACES, {}),
        (VERDICTS, outcomes),
        (EXAMPLES, splits),
    ):
        manifest = manifests.get(place)
        if manifest is not None and place == TRACES and missing is not None:
            yield _traces_step(manifest, missing)
        elif manifest is not None and manifest.counts:
            verb = "dropped"
            if place == PROBLEMS:
                verb = "set aside"
            yield FunnelStep(
                place,
                manifest.counts.get("in"),
                manifest.counts.get("out", 0),
                parts,
                manifest.dropped,
                verb,
            )


def _traces_step(manifest: Manifest, missing: Missing) -> FunnelStep:
    """What was answered and what was not, with the causes; counted from the manifest and, while it
    has no counts, from the traces.
    """
    problems = manifest.counts.get("in") or int(manifest.section.get("limit", 0)) or None
    parts = {"answered": missing.answered}
    if missing.waiting:
        parts["not drawn yet"] = missing.waiting
    if missing.absent:
        parts["not in the data set"] = missing.absent
    kinds = [name for name, count in ((LOST, missing.lost), (REFUSED, missing.refused)) if count]
    return FunnelStep(TRACES, problems, missing.drawn, parts, missing.causes, " or ".join(kinds))


def _first_example(path: Path) -> Example | None:
    if not path.exists() or not count_lines(path):
        return None
    return next(iter(read_records(path, Example)), None)


def _first_suspects(path: Path) -> tuple[SuspectGold, ...]:
    if not path.exists():
        return ()
    return tuple(islice(read_records(path, SuspectGold), _MOST_SUSPECTS))


# ---- students ------------------------------------------------------------------------------------


def _students(folder: Path) -> Iterator[StudentFolder]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        record = path / layout.STUDENT
        student: Student | None = None
        if exists_verified(record):
            student = read_student_record(record).model_copy(update={"name": path.name})
        yield StudentFolder(path.name, student, TrainingLine.of(path))


# ---- evals ---------------------------------------------------------------------------------------


class _Records:
    """Tokens by benchmark and model, and who solved what at the first sample."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[str, str], array[int]] = {}
        self.solvers: dict[tuple[str, str], frozenset[str]] = {}

    def read(self, path: Path) -> None:
        nobody: frozenset[str] = frozenset()
        for record in read_records(path, EvalRecord):
            if VARIANT in record.model:
                continue
            tokens = self.tokens.setdefault((record.benchmark, record.model), array("q"))
            if record.finish != "error":  # refused: there is no answer that has a length
                tokens.append(record.tokens)
            if record.sample == 0:
                key = (record.benchmark, record.problem_id)
                solvers = self.solvers.get(key, nobody)
                if record.grade.is_correct:
                    solvers |= {record.model}
                self.solvers[key] = solvers

    def choose(self, limit: int) -> list[tuple[str, str]]:
        """Problems that tell models apart in different ways: in turns over the sets of models that
        solved them.
        """
        groups: dict[frozenset[str], list[tuple[str, str]]] = {}
        for key, solvers in self.solvers.items():
            groups.setdefault(solvers, []).append(key)
        rows: list[list[tuple[str, str]]] = []
        for group in sorted(groups.values(), key=len, reverse=True):
            rows.append(heapq.nsmallest(limit, group, key=lambda key: _lot(key[1])))
        return list(_in_turns(rows))[:limit]


def _side_by_side(
    evals: EvalsFolder, records: _Records, limit: int, seeds: Seeds
) -> Iterator[SideBySide]:
    """What each model wrote; of students that differ in their seed alone, the first."""
    chosen = set(records.choose(limit))
    if not chosen:
        return
    later: set[str] = set()
    for members in seeds.members.values():
        later.update(members[1:])
    grades = {
        (record.benchmark, record.model, record.problem_id): record.grade
        for record in read_records(evals.records, EvalRecord)
        if record.sample == 0 and (record.benchmark, record.problem_id) in chosen
    }
    for benchmark in sorted({benchmark for benchmark, _ in chosen}):
        problem_ids = {problem for where, problem in chosen if where == benchmark}
        models = [
            model for where, model in records.tokens if where == benchmark and model not in later
        ]
        folder = evals.benchmark(benchmark)
        samples = {
            model: _first_samples(folder.cell(model).traces, problem_ids) for model in models
        }
        for name, problem in _find_problems(folder.problems, problem_ids).items():
            answers: list[tuple[str, Shown]] = []
            for model in models:
                trace = samples[model].get(name)
                if trace is not None:
                    grade = grades.get((benchmark, model, name))
                    answers.append((model, Shown(trace, grade, problem)))
            yield SideBySide(benchmark, problem, tuple(answers))


def _first_samples(path: Path, problem_ids: set[str]) -> dict[str, Trace]:
    samples: dict[str, Trace] = {}
    if path.exists():
        for trace in read_records(path, Trace):
            if trace.sample == 0 and trace.problem_id in problem_ids:
                samples[trace.problem_id] = trace
    return samples


def _joined(
    singles: Mapping[str, Mapping[str, Value]], groups: Mapping[str, Mapping[str, Value]]
) -> dict[str, dict[str, Value]]:
    """Benchmark → model or group → value."""
    joined: dict[str, dict[str, Value]] = {}
    for benchmark, values in singles.items():
        joined[benchmark] = dict(values)
        joined[benchmark].update(groups.get(benchmark, {}))
    return joined


def _pooled_tokens(
    tokens: Mapping[tuple[str, str], array[int]], seeds: Seeds
) -> dict[tuple[str, str], array[int]]:
    """Token counts by benchmark and model, those of all seeds together."""
    pooled: dict[tuple[str, str], array[int]] = {}
    for (benchmark, model), counts in tokens.items():
        place = (benchmark, seeds.of(model) or model)
        together = pooled.setdefault(place, array("q"))
        together.extend(counts)
    return pooled


def _latency(run: Path) -> dict[str, Mapping[str, float]]:
    """Model → milliseconds per token and seconds per answer, where it was measured."""
    latency: dict[str, Mapping[str, float]] = {}
    for path in sorted(run.glob(LATENCIES)):
        latency[path.parent.name] = {}
        if path.exists():
            latency[path.parent.name] = read_latency(path)
    return latency


# ---- shared --------------------------------------------------------------------------------------


def environments(stages: Iterable[Stage]) -> dict[str, dict[str, list[str]]]:
    """Key → value → the stages that had it, for commit, packages, hardware and whatever else the
    manifests tell.
    """
    places: dict[str, dict[str, list[str]]] = {}
    for stage in stages:
        for key, value in flatten(stage.manifest.environment):
            values = places.setdefault(key, {})
            values.setdefault(value, []).append(stage.place)
    return places


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as text; lists of plain values stay on one line."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif not isinstance(value, list):
            yield name, str(value)
        elif not any(isinstance(item, Mapping) for item in value):
            yield name, ", ".join(map(str, value))
        else:
            for place, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from flatten(item, f"{name}.{place}.")
                else:
                    yield f"{name}.{place}", str(item)
