"""The evidence of a run folder for the forecast of another run: lengths by problem, speed of each
engine and training, outcomes of the traces.

    evidence = read_evidence(Path("runs/demo"), "runs/demo", pipeline.examples)
    # Speed(tokens_per_s=1746.4, spread=0.06, start_s=29.8)
    evidence.teachers["demo-teacher"].speed

Reads manifests, metrics lines and shards of any state, finished or not, and needs no `run.json`.
Shards are streamed, one line in memory.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reasondistill.config import ExampleSettings
from reasondistill.curation.difficulty import pass_rate
from reasondistill.curation.filters import Candidate, ProblemChoice, active_filters
from reasondistill.curation.filters.lengths import with_lengths
from reasondistill.curation.filters.tools import Tools, new_pool, opened_tools
from reasondistill.forecast.monte_carlo import LEAST, ONCE, Floats
from reasondistill.models.counting import token_counter
from reasondistill.models.prompts import render_assistant
from reasondistill.pipeline.runs import FOLDERS
from reasondistill.records import Outcome, Problem, Trace, Verdict
from reasondistill.runs import layout
from reasondistill.runs.environment import Environment
from reasondistill.runs.figures import TracesFigures, read_student_record
from reasondistill.runs.layout import RunFolder, StudentFolder
from reasondistill.runs.metrics import TrainingLine, WorkLine
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import Manifest, read_manifest, read_records

# A speed is computed from so many stretches of a session at most: in shorter ones it depends on
# chance which long trace ended there.
_STRETCHES = 10
# Fewer stretches than this give a poor estimate of how much a speed varies.
_FEW = 4


@dataclass(frozen=True)
class Speed:
    """Tokens per second of one worker, how much it varies (standard deviation / mean), and the
    seconds before it has started.
    """

    tokens_per_s: float
    spread: float
    start_s: float = 0.0


@dataclass(frozen=True)
class Written:
    """What one model wrote in one folder: tokens and samples of each problem, its speed, its
    longest text.

    `seconds` is the time of all sessions, `longest_s` that of the longest text in a nearly idle
    engine. `runs` is how many models wrote the texts, each in its own engine.
    """

    model: str
    tokens: Floats
    samples: Floats
    prompt_tokens: float
    bytes_per_token: float
    seconds: float
    longest_tokens: int
    longest_s: float
    speed: Speed | None
    runs: int = 1

    @property
    def total_tokens(self) -> float:
        return float(self.tokens.sum())

    @property
    def total_samples(self) -> int:
        return int(self.samples.sum())

    @property
    def together(self) -> int:
        """The most samples that one engine had at once."""
        return max(1, self.total_samples // self.runs)


@dataclass(frozen=True)
class GradedTraces:
    """The graded traces of a run: usable ones of each problem (no text twice) among `samples`.

    `rows` and `row_tokens` count the training rows, prompt and completion, of each problem that
    has any; `all_row_tokens` the mean over all.
    """

    usable: Floats
    samples: Floats
    rows: Floats
    row_tokens: Floats
    all_row_tokens: float

    @property
    def mean_row_tokens(self) -> float:
        return float(self.row_tokens.sum() / self.rows.sum())


@dataclass(frozen=True)
class Trained:
    """One student folder: what was trained, `done` steps so far, and at which speed. `base` is the
    model that it started from.

    `loss_tokens` are those tokens of a row that are in the loss.
    """

    name: str
    method: str
    base: str
    done: int
    tokens: float
    row_tokens: float | None
    loss_tokens: float | None
    seconds: float
    bytes: int
    parameters: int | None
    trained_parameters: int | None
    speed: Speed | None
    is_complete: bool


@dataclass(frozen=True)
class Evidence:
    """The evidence of one run folder: `teachers` by short name, `answers` by benchmark and model,
    and the manifests of the other stages.
    """

    label: str
    folder: Path
    hardware: str
    is_calibration: bool = False
    teachers: Mapping[str, Written] = field(default_factory=dict[str, Written])
    graded: GradedTraces | None = None
    students: Mapping[str, Trained] = field(default_factory=dict[str, Trained])
    answers: Mapping[tuple[str, str], Written] = field(
        default_factory=dict[tuple[str, str], Written]
    )
    manifests: Mapping[str, Manifest] = field(default_factory=dict[str, Manifest])
    verdicts_speed: Speed | None = None

    @property
    def source(self) -> str:
        if not self.hardware:
            return self.label
        return f"{self.label} ({self.hardware})"


def read_evidence(
    folder: Path, label: str, settings: ExampleSettings, *, is_calibration: bool = False
) -> Evidence:
    """The evidence of a run folder; `settings` decide which traces would be kept. A folder without
    stages has none.
    """
    manifests = {
        stage: m for stage in FOLDERS if (m := read_manifest(folder / FOLDERS[stage])) is not None
    }
    run = RunFolder(folder)
    traces = run.stage("traces")
    return Evidence(
        label=label,
        folder=folder,
        hardware=hardware_of(manifests.values()),
        is_calibration=is_calibration,
        teachers={written.model: written for written in _by_model(traces)},
        graded=read_graded(run, settings),
        students={trained.name: trained for trained in read_students(folder / FOLDERS["students"])},
        answers=dict(read_answers(folder / FOLDERS["evals"])),
        manifests=manifests,
        verdicts_speed=grading_speed(folder / FOLDERS["verdicts"], manifests.get("verdicts")),
    )


def short_name(model: str) -> str:
    """The part of a model's name that its path, hub id and identity have in common.

    >>> short_name("/shipped/demo-teacher"), short_name("demo-teacher@0ebd28e7a482"),
    short_name("Qwen/Qwen3-8B") ('demo-teacher', 'demo-teacher', 'Qwen3-8B')
    """
    return model.partition("@")[0].rstrip("/").rpartition("/")[2].removesuffix(".jsonl")


def hardware_of(manifests: Iterable[Manifest]) -> str:
    """`1× NVIDIA H100` or `AMD EPYC, 2 cores`, of the first stage that recorded it."""
    for manifest in manifests:
        machine = Environment.of(manifest)
        if machine.gpus:
            gpu = machine.gpus[0].partition(",")[0]
            return f"{len(machine.gpus)}× {gpu}"
        if machine.processor:
            return f"{machine.processor}, {machine.cores} cores"
    return ""


# ---- speed ---------------------------------------------------------------------------------------


def speed_of(
    sessions: Iterable[Sequence[tuple[float, float]]], start_s: float = 0.0
) -> Speed | None:
    """The speed of work that was logged as (seconds, amount) since each session's start, both
    growing; None when nothing was done.

    With four lines or more the first line is the start: the time by which it was slower than the
    rest is added to `start_s`.
    """
    amounts: list[float] = []
    times: list[float] = []
    warming: list[float] = []
    for lines in sessions:
        if not lines or lines[-1][1] <= 0:
            continue
        steady = [(0.0, 0.0), lines[-1]]
        if len(lines) >= _FEW and lines[-1][1] > lines[0][1]:
            steady = list(lines)
        (first_s, first_amount), (last_s, last_amount) = steady[0], steady[-1]
        rate = (last_amount - first_amount) / max(last_s - first_s, 1e-3)
        warming.append(max(0.0, first_s - first_amount / rate))
        last = len(steady) - 1
        places = np.linspace(0, last, min(_STRETCHES, last) + 1)
        marks = [steady[round(place)] for place in places]
        for (from_s, from_amount), (to_s, to_amount) in zip(marks, marks[1:], strict=False):
            times.append(max(to_s - from_s, 1e-3))
            amounts.append(to_amount - from_amount)
    if not times:
        return None
    spent, done_per_stretch = np.array(times), np.array(amounts)
    mean = float(done_per_stretch.sum() / spent.sum())
    # Of few stretches: their variance (n − 1), and the variance of their mean.
    few = (len(times) + 1) / max(1, len(times) - 1)
    variance = few * float(((done_per_stretch / spent - mean) ** 2 * spent).sum() / spent.sum())
    least = LEAST
    if len(times) < _FEW:
        least = ONCE
    spread = max(variance**0.5 / mean, least)
    return Speed(mean, min(spread, 1.0), start_s + float(np.mean(warming)))


def pool_speeds(speeds: Sequence[Speed]) -> Speed | None:
    """One speed for several measurements of the same work: their spread is that of the next one."""
    if not speeds:
        return None
    rates = np.array([speed.tokens_per_s for speed in speeds])
    mean, inside = float(rates.mean()), statistics.mean(speed.spread for speed in speeds)
    between = 0.0
    if len(rates) > 1:
        between = float(rates.std(ddof=1)) / mean * (1 + 1 / len(rates)) ** 0.5
    return Speed(mean, max(inside, between), statistics.mean(speed.start_s for speed in speeds))


def pool_written(models: Sequence[Written]) -> Written:
    """The texts of several seeds of a model, as if one model had written them."""
    speeds = [written.speed for written in models if written.speed is not None]
    return replace(
        models[0],
        tokens=np.concatenate([written.tokens for written in models]),
        samples=np.concatenate([written.samples for written in models]),
        longest_tokens=max(written.longest_tokens for written in models),
        longest_s=max(written.longest_s for written in models),
        speed=pool_speeds(speeds),
        runs=len(models),
    )


def sampling_speed(lines: Sequence[WorkLine], manifest: Manifest | None) -> Speed | None:
    """The speed from metrics lines, or from the manifest's figures where there are none."""
    sessions: dict[str, list[tuple[float, float]]] = {}
    loads: dict[str, float] = {}
    for line in lines:
        sessions.setdefault(line.session, []).append((line.seconds, line.tokens))
        loads[line.session] = line.load_seconds
    if sessions:
        return speed_of(sessions.values(), statistics.mean(loads.values()))
    if manifest is None:
        return None
    figures = TracesFigures.of(manifest)
    if not figures.tokens or not figures.seconds:
        return None
    return speed_of([[(figures.seconds, figures.tokens)]], figures.load_seconds)


def seconds_spent(lines: Sequence[WorkLine], manifest: Manifest | None) -> float:
    """Seconds of all sessions: a manifest has only the last one."""
    last = {line.session: line.seconds + line.load_seconds for line in lines}
    seconds = sum(last.values())
    if manifest is None:
        return max(seconds, 0.0)
    return max(seconds, manifest.seconds)


def grading_speed(folder: Path, manifest: Manifest | None) -> Speed | None:
    """Traces per second on all cores of one worker."""
    sessions: dict[str, list[tuple[float, float]]] = {}
    for line in WorkLine.of(folder):
        points = sessions.setdefault(line.session, [])
        if not points or line.seconds >= points[-1][0]:  # a resumed session starts again at 0
            points.append((line.seconds, line.done))
    speed = speed_of(sessions.values())
    if speed is None and manifest is not None and manifest.seconds and manifest.counts.get("out"):
        speed = speed_of([[(manifest.seconds, manifest.counts["out"])]])
    return speed


# ---- samples -------------------------------------------------------------------------------------


class _Texts:
    """Sums over the traces of one model."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.prompt_tokens = self.longest = 0
        self.rates: list[float] = []

    def add(self, row: Mapping[str, Any]) -> None:
        completion, problem = row["completion"], row["problem_id"]
        self.tokens[problem] = self.tokens.get(problem, 0) + completion["tokens"]
        self.samples[problem] = self.samples.get(problem, 0) + 1
        self.prompt_tokens += completion["prompt_tokens"]
        self.longest = max(self.longest, completion["tokens"])
        if completion["tokens"]:
            self.rates.append(completion["seconds"] / completion["tokens"])


def _by_model(folder: Path) -> Iterator[Written]:
    """One record for each model in a traces folder."""
    path, manifest = folder / layout.TRACES, read_manifest(folder)
    texts: dict[str, _Texts] = {}
    if not path.exists():
        return
    for row in read_samples(path):
        if row["completion"]["finish"] != "error":
            texts.setdefault(short_name(row["model"]), _Texts()).add(row)
    metrics = WorkLine.of(folder)
    total = sum(sum(counted.tokens.values()) for counted in texts.values())
    is_alone = len(texts) == 1
    if not is_alone:
        manifest = None
    for model, counted in texts.items():
        # A single model needs no matching: a served folder may be called `model` in one place
        # and by its name in another.
        lines = [line for line in metrics if is_alone or short_name(line.teacher) == model]
        count = sum(counted.samples.values())
        seconds = seconds_spent(lines, manifest)
        yield Written(
            model=model,
            tokens=np.array(list(counted.tokens.values()), dtype=np.float64),
            samples=np.array(list(counted.samples.values()), dtype=np.float64),
            prompt_tokens=counted.prompt_tokens / count,
            bytes_per_token=path.stat().st_size / max(1, total),
            seconds=seconds,
            longest_tokens=counted.longest,
            longest_s=_longest_s(counted, seconds),
            speed=sampling_speed(lines, manifest),
        )


def _longest_s(texts: _Texts, seconds: float) -> float:
    """The seconds of the longest text at the speed of the fastest tenth, which had a nearly idle
    engine; at most the seconds of all texts.
    """
    if not texts.rates:
        return 0.0
    fastest = float(np.quantile(texts.rates, 0.1))
    return min(seconds, texts.longest * fastest)


def read_answers(evals: Path) -> Iterator[tuple[tuple[str, str], Written]]:
    """(benchmark, model) and the model's texts; the names of models under other prompts and at
    checkpoints have their mark.
    """
    for folder in sorted(evals.glob("*/*/traces")):
        for written in _by_model(folder):
            yield (folder.parent.parent.name, folder.parent.name), written


def read_graded(run: RunFolder, settings: ExampleSettings) -> GradedTraces | None:
    """Which graded traces the settings would keep, as stage 4 decides; verdicts are one to one and
    in order. Unknown fields are ignored. Memory is that of the usable traces' names and lengths,
    and of the problems where further filters may look at them.

    Answers are compared by the default policy. Golds under suspicion are not looked for. Where a
    rule of `select` looks at more than lengths, as many traces of chance stand in for its choice.
    """
    if settings.select not in ("all", "shortest", "longest", "random", "first"):
        settings = settings.model_copy(update={"select": "random"})
    if not run.traces.exists() or not run.verdicts.exists():
        return None
    problems: dict[str, Problem] = {}
    if settings.filters and run.problems.exists():
        for problem in read_records(run.problems, Problem, passes_foreign=True):
            problems[problem.id] = problem
    filters = active_filters(settings)
    choices: dict[str, ProblemChoice] = {}
    before = ProblemChoice(settings, filters)
    samples: Counter[str] = Counter()
    written = all_row_tokens = 0
    with opened_tools(new_pool, token_counter) as tools:
        rates = _pass_rates(run, settings)
        tools = with_lengths(tools, _candidates(run, problems, tools, rates), settings)
        for candidate in _candidates(run, problems, tools, rates):
            trace = candidate.trace
            samples[trace.problem_id] += 1
            if not trace.completion.is_refused:
                written += 1
                all_row_tokens += trace.completion.prompt_tokens + trace.completion.tokens
            if trace.problem_id not in choices:
                choices[trace.problem_id] = ProblemChoice(settings, filters)
            choice = choices[trace.problem_id]
            if choice is not before:  # the traces of a problem mostly stand together
                before.forget()
                before = choice
            choice.see(candidate)
    if not written:
        return None
    mean = all_row_tokens / written
    rows: list[int] = []
    tokens: list[int] = []
    for choice in choices.values():
        chosen = [one.row_tokens for one in choice.chosen()]
        if chosen:
            rows.append(len(chosen))
            tokens.append(sum(chosen))
    return GradedTraces(
        usable=_floats(len(choice.usable) for choice in choices.values()),
        samples=_floats(samples.values()),
        rows=_floats(rows or [1]),
        row_tokens=_floats(tokens or [mean]),
        all_row_tokens=mean,
    )


def _candidates(
    run: RunFolder,
    problems: Mapping[str, Problem],
    tools: Tools,
    pass_rates: Mapping[str, float | None],
) -> Iterator[Candidate]:
    """The traces that were not lost by the service: those say nothing of what the teacher writes.
    What is refused, is refused again.
    """
    traces = read_records(run.traces, Trace, passes_foreign=True)
    verdicts = read_records(run.verdicts, Verdict, passes_foreign=True)
    for trace, verdict in zip(traces, verdicts, strict=False):
        if trace.completion.is_lost:
            continue
        text = render_assistant(trace.completion)
        problem = problems.get(trace.problem_id)
        rate = pass_rates.get(trace.problem_id)
        yield Candidate(trace, verdict, text, problem, tools, pass_rate=rate)


def _pass_rates(run: RunFolder, settings: ExampleSettings) -> dict[str, float | None]:
    """The pass rate of each problem, where a filter asks for it."""
    if "pass_rate" not in settings.filters:
        return {}
    outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
    for verdict in read_records(run.verdicts, Verdict, passes_foreign=True):
        outcomes[verdict.problem_id].append(verdict.grade.outcome)
    return {problem_id: pass_rate(of_problem) for problem_id, of_problem in outcomes.items()}


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)


# ---- students ------------------------------------------------------------------------------------


def read_students(folder: Path) -> Iterator[Trained]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        manifest = read_manifest(path)
        if manifest is not None:
            yield read_trained(path, manifest)


def read_trained(folder: Path, manifest: Manifest) -> Trained:
    """The evidence of a student's folder: its record where it is finished, else its metrics."""
    record = StudentFolder(folder).record
    figures = None
    if record.exists():
        figures = read_student_record(record).figures
    lines = [line for line in TrainingLine.of(folder) if line.loss is not None]
    done = tokens = 0
    seconds = max(manifest.seconds, 0.0)
    if lines:
        seconds = max(seconds, lines[-1].seconds or 0.0)
    if lines and figures is None:
        done, tokens = lines[-1].step or 0, lines[-1].tokens or 0
    row_tokens = loss_tokens = parameters = trained_parameters = None
    if figures is not None:
        done, tokens = figures.steps, figures.tokens
        seconds = max(seconds, figures.seconds)
        parameters, trained_parameters = figures.parameters, figures.trained_parameters
        rows = figures.epochs * figures.examples
        if rows:
            row_tokens, loss_tokens = figures.tokens / rows, figures.loss_tokens / rows
    return Trained(
        name=folder.name,
        method=manifest.section.get("method", ""),
        base=base_of(manifest),
        done=done,
        tokens=tokens,
        row_tokens=row_tokens,
        loss_tokens=loss_tokens,
        seconds=seconds,
        bytes=folder_bytes(folder),
        parameters=parameters,
        trained_parameters=trained_parameters,
        speed=training_speed(lines, done, tokens, seconds),
        is_complete=manifest.status == "complete",
    )


def base_of(manifest: Manifest) -> str:
    """Equal for students that start from the same shape: the architecture, or the base's name."""
    shape = manifest.section.get("architecture")
    if shape:
        return json.dumps(shape, sort_keys=True)
    return short_name(manifest.identity["inputs"].get("base", ""))


def training_speed(
    lines: Sequence[TrainingLine], done: int, tokens: float, seconds: float
) -> Speed | None:
    """Tokens per second while steps are taken; all other seconds (loading, the last validation) are
    the start.
    """
    if not done or not tokens:
        return None
    steps: list[tuple[float, float]] = []
    for line in lines:
        if line.seconds is not None and line.step is not None:
            steps.append((line.seconds, line.step * tokens / done))
    if len(steps) < 2 or steps[-1][0] <= steps[0][0]:
        if seconds <= 0:
            return None
        return speed_of([[(seconds, tokens)]])
    # The first line comes after loading and compiling: only the later ones show the speed.
    since = [(at - steps[0][0], amount - steps[0][1]) for at, amount in steps]
    speed = speed_of([since])
    if speed is None:
        return None
    start_s = max(0.0, seconds - tokens / speed.tokens_per_s)
    return Speed(speed.tokens_per_s, speed.spread, start_s)


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
