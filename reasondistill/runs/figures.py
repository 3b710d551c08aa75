"""The figures of each stage, stored under `figures` in its manifest.json, as records for writing
and reading.

    finish_stage(folder, figures=TracesFigures(samples=20, tokens=110).to_dict(), …)
    figures = TracesFigures.of(manifest)
    figures.tokens / figures.seconds

Versions add to the stored JSON: unknown keys are ignored, and a figure that an earlier version or
an unfinished stage did not write is empty. A student's figures are `records.TrainingFigures`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from pydantic import ConfigDict, Field, ValidationError, model_validator

from reasondistill.errors import DataError
from reasondistill.records import Finite, Forecast, Int64, Student
from reasondistill.runs import layout
from reasondistill.runs.lenient import LenientRecord
from reasondistill.runs.store import Manifest, read_bytes_verified, read_guarded
from reasondistill.runs.store.sums import ways_out


class Figures(LenientRecord):
    """Numbers of one stage, read from its manifest."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The figures of a stage. Raises DataError for a value of the wrong type."""
        stage = manifest.identity.get("stage", "?")
        return cls.read(manifest.figures, f"manifest of the stage {stage}: figures")


class DrawingFigures(LenientRecord):
    """What came of drawing each problem until it has enough correct samples: how many problems
    ended for each reason, how many samples are `verified` (correct by rule, and kept), how many
    were drawn, and how many of these `trimmed`. `spared` samples were not drawn of the most that
    each problem may get; their tokens are estimated by those of their problem. `beyond_budget`
    tokens were drawn behind the end of the budget: of rounds that had begun, by workers' guesses.
    """

    accepted: Int64 = 0
    exhausted: Int64 = 0
    hopeless: Int64 = 0
    budget: Int64 = 0
    verified: Int64 = 0
    drawn: Int64 = 0
    drawn_tokens: Int64 = 0
    trimmed: Int64 = 0
    trimmed_tokens: Int64 = 0
    spared: Int64 = 0
    spared_tokens: Int64 = 0
    beyond_budget: Int64 = Field(default=0, exclude_if=lambda tokens: tokens == 0)

    @property
    def reasons(self) -> str:
        """`610 accepted, 40 exhausted, 331 hopeless, 19 cut by the budget`."""
        counts = {
            "accepted": self.accepted,
            "exhausted": self.exhausted,
            "hopeless": self.hopeless,
            "cut by the budget": self.budget,
        }
        return ", ".join(f"{count:,} {name}" for name, count in counts.items())

    @property
    def sentence(self) -> str:
        """What became of the problems, and what was saved by it."""
        spared = f"{self.spared:,} samples (about {self.spared_tokens:,} tokens) were spared"
        trimmed = f"{self.trimmed:,} ({self.trimmed_tokens:,} tokens) trimmed"
        drawn = f"{self.drawn_tokens:,} tokens"
        if self.beyond_budget:
            drawn += f", {self.beyond_budget:,} of them beyond the budget"
        return (
            f"problems: {self.reasons}; of {self.drawn:,} samples drawn ({drawn}) {trimmed}; "
            f"{spared}"
        )


class WorkFigures(Figures):
    """Figures of both sampling and training, over all sessions; those of parallel `workers` are
    added up. `peak_memory_gib` is a training's, of its GPU where it has one.
    """

    samples: Int64 = 0
    tokens: Int64 = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    workers: Int64 = 1
    peak_memory_gib: float = 0.0
    drawing: DrawingFigures | None = None

    @property
    def worked_tokens(self) -> int:
        """Those that the seconds went into, whether they were kept or not."""
        return _worked_tokens(self.tokens, self.drawing)


def seconds_spent(manifest: Manifest) -> float:
    """Seconds of all sessions of a stage: its own are those of the last one, the figures of
    sampling and training hold what the earlier ones took. Of workers side by side, whose figures
    are added up, the last session's are all that is known.
    """
    figures = WorkFigures.of(manifest)
    if figures.workers > 1:
        return manifest.seconds
    return max(manifest.seconds, figures.seconds + figures.load_seconds)


def _worked_tokens(kept: int, drawing: DrawingFigures | None) -> int:
    if drawing is None:
        return kept
    return drawing.drawn_tokens


class SourceFigures(LenientRecord):
    """One of several sources of problems: its rows, the problems that they became, and why the
    others did not. `asked` is its share of the limit of all.
    """

    name: str
    tag: str = ""
    dataset: str = ""
    revision: str = ""
    split: str = ""
    asked: Int64 | None = None
    rows: Int64 = 0
    problems: Int64 = 0
    dropped: Mapping[str, Int64] = {}

    @property
    def reasons(self) -> str:
        """`12 duplicate question, 3 no answer`, the most frequent first."""
        most_first = sorted(self.dropped.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count:,} {reason}" for reason, count in most_first)

    @property
    def sentence(self) -> str:
        """`source gsm: 100 of 120 rows are problems; 20 duplicate question`."""
        text = f"source {self.name}: {self.problems:,} of {self.rows:,} rows are problems"
        if self.asked is not None and self.rows < self.asked:
            text += f" ({self.asked:,} were asked for)"
        if self.dropped:
            text += f"; {self.reasons}"
        return text


# Among the ways in which problems were found to hold a question: another problem of its template.
LOOK_ALIKE = "look-alike"


class ProblemsFigures(Figures):
    """The source of the problems, or `sources` where there are several. A benchmark also has
    `content`, the hash of its rows, and `corrected`, how many answers its errata replace. `noticed`
    counts rows by what is odd with them and no reason to set them aside. `leaks` counts the pairs
    in leaks.jsonl by benchmark and by the way in which they were found, or LOOK_ALIKE. Of
    `left_out` problems, which have traces, no more examples are made.
    """

    dataset: str = ""
    revision: str = ""
    split: str = ""
    grader: str = ""
    content: str | None = None
    corrected: Int64 = 0
    noticed: Mapping[str, Int64] = {}
    sources: Sequence[SourceFigures] = ()
    leaks: Mapping[str, Mapping[str, Int64]] = {}
    left_out: Int64 = 0


class EngineFigures(LenientRecord):
    """Engine settings on which the last bits of a number may depend. `threads` are the numbers of
    threads used, in the order of first use; settings of other versions are kept.
    """

    model_config = ConfigDict(extra="allow", defer_build=True)

    tensor_parallel_size: Int64 = 1
    data_parallel_size: Int64 = 1
    dtype: str = "auto"
    max_model_len: Int64 | None = None
    enforce_eager: bool | None = None
    max_num_seqs: Int64 | None = None
    threads: Sequence[Int64] = ()


class ServerFigures(LenientRecord):
    """What the sampler of one teacher reported in all sessions. Each kind of report (`addresses`,
    `models`, `fingerprints`, …) is a field with all its values. Of published traces `written_by`
    counts who wrote them, as each session saw it.
    """

    model_config = ConfigDict(extra="allow", defer_build=True)

    teacher: str
    written_by: Sequence[Mapping[str, Int64]] = ()

    def writers(self) -> list[str]:
        """Who wrote published traces, those of most first."""
        most: dict[str, int] = {}
        for counts in self.written_by:
            for name, count in counts.items():
                most[name] = max(count, most.get(name, 0))
        return sorted(most, key=lambda name: (-most[name], name))


class TracesFigures(Figures):
    """Amount and time of sampling. Time and speed are over all sessions, summed over parallel
    `workers`; `truncated` is a share of the samples that did not fail.

    `causes` counts failed samples by cause: None where none failed, or an earlier version did not
    record causes. `estimated` samples have estimated token counts; in `masked` ones a secret of the
    environment stood; `continued` ones were stopped in their middle and gone on with; `looped` ones
    were ended because they went round in circles; in `cut_thinking` ones the budget of thinking was
    used up; those `beyond` n were drawn when it was larger.
    `topk_missing` traces could not be scored for the top-K cache. `stopped` says why an unfinished
    stage stopped. `drawing` is there where problems are drawn until enough samples are correct: the
    other figures, but time and speed, are then of the traces that were kept.
    """

    samples: Int64 = 0
    tokens: Int64 = 0
    prompt_tokens: Int64 = 0
    seconds: float = 0.0
    tokens_per_s: float = 0.0
    load_seconds: float = 0.0
    truncated: float = 0.0
    errors: Int64 = 0
    causes: Mapping[str, Int64] | None = None
    estimated: Int64 = 0
    masked: Int64 = 0
    continued: Int64 = 0
    beyond: Int64 = 0
    looped: Int64 = 0
    looped_tokens: Int64 = 0
    cut_thinking: Int64 = 0
    drawing: DrawingFigures | None = None
    topk_k: Int64 = 0
    topk_tokens: Int64 = 0
    topk_bytes: Int64 = 0
    topk_bytes_per_token: float = 0.0
    topk_missing: Int64 = 0
    engine: EngineFigures | None = None
    servers: Sequence[ServerFigures] = ()
    workers: Int64 = 1
    stopped: str | None = None

    @property
    def worked_tokens(self) -> int:
        """Those that the seconds went into, whether they were kept or not."""
        return _worked_tokens(self.tokens, self.drawing)


# The prefix of the reason, in the names of the counts of undecided verdicts.
_UNDECIDED = "undecided:"


class VerdictsFigures(Figures):
    """How many verdicts have each outcome, and how many of them a judge gave.

    `undecided_reasons` counts the undecided ones by reason, stored flat as `undecided:<reason>`.
    `unlabelled_problems` have no gold answer; `pseudo_labels` of them got one from a majority.
    """

    correct: Int64 = 0
    wrong: Int64 = 0
    no_answer: Int64 = 0
    truncated: Int64 = 0
    undecided: Int64 = 0
    correct_share: float = 0.0
    failed: Int64 = 0
    refused: Int64 = 0
    undecided_reasons: Mapping[str, Int64] = {}
    workers: Int64 = 1
    unlabelled_problems: Int64 = 0
    pseudo_labels: Int64 = 0
    judged: Int64 = 0
    judged_correct: Int64 = 0
    judged_wrong: Int64 = 0
    judge_failed: Int64 = 0

    @model_validator(mode="before")
    @classmethod
    def _gather_reasons(cls, values: Any) -> Any:
        """Gather the stored flat counts by reason in one mapping."""
        stored = cast("Mapping[str, Any]", values)
        reasons: dict[str, Any] = {}
        for name, value in stored.items():
            if name.startswith(_UNDECIDED):
                reasons[name.removeprefix(_UNDECIDED)] = value
        if not reasons:
            return stored
        return {**stored, "undecided_reasons": reasons}

    def to_dict(self) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        for name, value in super().to_dict().items():
            if name != "undecided_reasons":
                stored[name] = value
                continue
            for reason, count in value.items():
                stored[f"{_UNDECIDED}{reason}"] = count
        return stored


def cost_of_verified(traces: Manifest, verdicts: Manifest | None) -> Iterator[str]:
    """What came of drawing until enough samples are correct, how many went round in circles or used
    up their budget of thinking, and what a verified trace has cost, where none was published; a
    sentence each, as far as the two stages are finished.
    """
    if traces.status != "complete":
        return
    figures = TracesFigures.of(traces)
    tokens = figures.worked_tokens
    if figures.drawing is not None:
        yield figures.drawing.sentence
    if figures.looped:
        yield (
            f"{figures.looped:,} of {figures.samples:,} traces went round in circles and were "
            f"ended, after {figures.looped_tokens / figures.looped:,.0f} tokens each"
        )
    if figures.cut_thinking:
        yield (
            f"{figures.cut_thinking:,} of {figures.samples:,} traces used up the thinking budget: "
            "their reasoning was ended"
        )
    if verdicts is None or verdicts.status != "complete":
        return
    correct = VerdictsFigures.of(verdicts).correct
    if any(server.written_by for server in figures.servers):
        of_all = f"{correct:,} of {figures.samples:,} traces are correct"
        yield f"{of_all}; published ones cost no sampling"
    elif correct:
        each = f"{tokens / correct:,.0f} tokens and {figures.seconds / correct:,.2f} s"
        of_all = f"{correct:,} of {figures.samples:,} traces are correct, {tokens:,} tokens drawn"
        yield f"a verified trace cost {each} of sampling ({of_all})"


class MixedGroup(LenientRecord):
    """What became of a group of a mixture: its `examples` and their tokens before, the `rows` that
    an epoch has of them and their tokens after, and how many of the examples are left out.
    """

    name: str
    weight: Finite = 0.0
    examples: Int64 = 0
    tokens: Int64 = 0
    rows: Int64 = 0
    mixed_tokens: Int64 = 0
    left_out: Int64 = 0

    @property
    def fate(self) -> str:
        """`under-sampled to 40 %`, `over-sampled 2.5 times`, `all of it`, by its tokens."""
        times = self.mixed_tokens / max(1, self.tokens)
        if self.mixed_tokens == self.tokens:
            return "all of it"
        if times < 1:
            return f"under-sampled to {100 * times:.0f} %"
        return f"over-sampled {times:.2f} times"


class WriterFigures(LenientRecord):
    """What became of the traces of one writer, where several write of every problem. `of_round` is
    the round whose student it is.
    """

    name: str
    of_round: Int64 | None = None
    traces: Int64 = 0
    correct: Int64 = 0
    kept: Int64 = 0
    dropped: Mapping[str, Int64] = {}

    @property
    def whose(self) -> str:
        """`teacher`, or `student of round 1`; of a further model nothing is said."""
        if self.of_round is None:
            return ""
        return f"student of round {self.of_round}"

    @property
    def reasons(self) -> str:
        """`3 wrong answer, 1 duplicate text`, the most frequent first."""
        most_first = sorted(self.dropped.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count:,} {reason}" for reason, count in most_first)

    @property
    def sentence(self) -> str:
        """`distilled-round-1@0ab (student of round 1): 12 examples of 40 traces, 15 correct`."""
        whose = f" ({self.whose})" if self.whose else ""
        return (
            f"{self.name}{whose}: {self.kept:,} examples of {self.traces:,} traces, "
            f"{self.correct:,} of them correct"
        )


class ExamplesFigures(Figures):
    """Problems and their kept traces. Tokens are those of the kept traces: mean, percentiles and
    maximum. `pass_rate_25_50` counts problems whose share of correct traces is in (25, 50] %;
    0 and 100 have counts of their own. `suspect_golds` are those in suspects.jsonl, `mixture` the
    groups of a mixture, `writers` those who have written of every problem, one after the other.
    """

    problems: Int64 = 0
    kept_problems: Int64 = 0
    problems_without_example: Int64 = 0
    tokens_mean: float = 0.0
    tokens_p10: Int64 = 0
    tokens_p50: Int64 = 0
    tokens_p90: Int64 = 0
    tokens_p99: Int64 = 0
    tokens_max: Int64 = 0
    pass_rate_0: Int64 = 0
    pass_rate_0_25: Int64 = 0
    pass_rate_25_50: Int64 = 0
    pass_rate_50_75: Int64 = 0
    pass_rate_75_100: Int64 = 0
    pass_rate_100: Int64 = 0
    suspect_golds: Int64 = 0
    mixture: Sequence[MixedGroup] = Field(default=(), exclude_if=lambda groups: not groups)
    writers: Sequence[WriterFigures] = Field(default=(), exclude_if=lambda writers: not writers)


class EvalsFigures(Figures):
    """A line of text for each score: `distilled on gsm8k` → `42.0 [38.1, 45.9]`. The fields are
    these names.
    """

    model_config = ConfigDict(extra="allow", defer_build=True)


class ReportFigures(Figures):
    """The first sentences of the report, and the stages that were unfinished then."""

    headline: str = ""
    unfinished: str = ""


def read_student_record(path: Path) -> Student:
    """What a student is and how it was trained (student.json). Raises DataError when it cannot be
    read or is not what was written.
    """
    try:
        return Student.model_validate_json(read_bytes_verified(path))
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise DataError(
            f"{path}: not the record of a student: {first}. {ways_out(path)}"
        ) from error


# Milliseconds, seconds or questions: more than anybody waits for.
_LONGEST_LATENCY = 1e12


def read_latency(path: Path) -> dict[str, Any]:
    """How long one answer of a model takes (latency.json beside its samples). Raises DataError when
    it is not what was written.
    """
    ways_out = "Remove the file; the evals stage measures again."
    value = read_guarded(path, "the latency of a model", ways_out)
    needed = ("asked", "ms_per_token", "seconds_per_answer")
    for name in (*needed, "seconds_to_first_token"):  # which earlier versions did not measure
        is_there = name in value or name in needed
        if is_there and not _is_latency(value.get(name)):
            raise DataError(f"{path}: not the latency of a model: {name} is no number. {ways_out}")
    return value


def _is_latency(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value < _LONGEST_LATENCY


def read_forecast(path: Path) -> Forecast | None:
    """The forecast of a run (forecast.json); None where none was made. Raises DataError when it is
    not what was written, or is missing although its copy is there.
    """
    copy = path.with_name(layout.FORECAST_COPY)
    if not path.exists() and not copy.exists():
        return None
    ways_out = (
        f"`reasondistill repair {shlex.quote(str(path.parent))}` puts it back from {copy.name} "
        "where that is sound; or make the forecast again; or remove both."
    )
    value = read_guarded(path, "written by this version of reasondistill", ways_out)
    try:
        return Forecast.model_validate(value)
    except ValueError as error:
        raise DataError(
            f"{path}: not written by this version of reasondistill: {error}. {ways_out}"
        ) from error
