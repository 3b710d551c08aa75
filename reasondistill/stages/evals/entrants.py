"""Who is compared: a model of a run of ours, or a log that another tool wrote.

ours = parse_entrant("demo/distilled", runs)
theirs = parse_entrant("published=out/samples_gsm8k_2025-01-01T12-00-00.0.jsonl", runs)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from reasondistill.errors import ConfigError
from reasondistill.foreign_logs.finding import READ, find_logs, is_log
from reasondistill.foreign_logs.log import Log
from reasondistill.foreign_logs.surveying import Survey, survey
from reasondistill.nearest import nearest
from reasondistill.records import Problem, Record, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.graded import read_graded
from reasondistill.runs.layout import CellFolder
from reasondistill.runs.unpacking import opened
from reasondistill.secrets import cleaned_setting
from reasondistill.stages.evals.outcomes import Sheet, read_problems, read_sheet
from reasondistill.stages.evals.settings import flat, settings_of

EVALS = layout.FOLDERS["evals"]


def _is_of_evals(name: str) -> bool:
    return name.startswith(f"{EVALS}/")


class LoggedProblem(Record):
    """A problem as another tool's log has it."""

    foreign = frozenset({"question", "answer"})

    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class FirstSample:
    """What a model wrote at its first sample of a problem, and what was taken for the answer."""

    answer: str | None
    text: str


class Entrant(Protocol):
    """Someone who answered benchmarks; `label` is how it is printed, `tool` who asked and graded.
    `metric` is by what a log's samples are right; a run has one way only, and None.
    """

    @property
    def label(self) -> str: ...
    @property
    def tool(self) -> str: ...

    def benchmarks(self) -> list[str]:
        """Those that it answered."""
        ...

    def sheet(self, benchmark: str, metric: str | None) -> Sheet:
        """Its samples, right or wrong."""
        ...

    def asked(self, benchmark: str) -> Mapping[str, str]:
        """Problem → hash of question and answer, of all that were asked."""
        ...

    def problems(self, benchmark: str, wanted: Set[str]) -> Mapping[str, Problem | LoggedProblem]:
        """The wanted problems by id."""
        ...

    def first_samples(
        self, benchmark: str, wanted: Set[str], metric: str | None
    ) -> Mapping[str, FirstSample]:
        """What it wrote at its first sample of each wanted problem."""
        ...

    def settings(self, benchmark: str) -> Mapping[str, str]:
        """Everything that its score depends on, as far as it is known."""
        ...

    def notes(self, benchmark: str, metric: str | None) -> Sequence[str]:
        """What a reader of its score should know."""
        ...


def parse_entrant(text: str, runs: Path) -> Entrant:
    """`demo/distilled`, `path/to/run/distilled` or the path of another tool's log, with `NAME=`
    before it where it is to be called otherwise. Raises ConfigError, naming what there is.
    """
    label, place = _label_and_place(text)
    if is_log(Path(place)) or Path(place).is_file():
        logs = find_logs(Path(place))
        models = [log.model for log in logs.values() if log.model]
        if label == place and models:
            label = models[0]
        return LogEntrant(label, logs)
    return RunEntrant.parse(text, runs)


def _label_and_place(text: str) -> tuple[str, str]:
    whole = text.rstrip("/")
    label, is_named, place = whole.partition("=")
    if not is_named or "/" in label or not label or Path(whole).exists():
        return whole, whole
    return label, place


# ---- of a run ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunEntrant:
    """A model of a run, also of a packed one."""

    label: str
    evals_folder: Path
    model: str
    tool: str = "reasondistill"

    @classmethod
    def parse(cls, text: str, runs: Path) -> RunEntrant:
        """`demo/distilled` or `path/to/run/distilled`, with `NAME=` before it where it is to be
        called otherwise. Raises ConfigError, naming what there is.
        """
        label, place = _label_and_place(text)
        run, slash, model = place.rpartition("/")
        if not slash:
            raise ConfigError(
                f"{text}: want RUN/MODEL, for example demo/distilled; or a log: {READ}."
            )
        folder = opened(Path(run), _is_of_evals) / EVALS
        if not folder.is_dir():
            folder = opened(runs / run, _is_of_evals) / EVALS
        if not folder.is_dir():
            raise ConfigError(
                f"{text}: {folder} is missing: no such run, or its evals have not begun; and no "
                f"log: {READ}."
            )
        known = sorted({path.parent.name for path in folder.glob("*/*/traces")})
        if model not in known:
            hint = "It has none yet: run its evals."
            if known:
                hint = nearest(model, known)
            raise ConfigError(f"{text}: the run has no samples of {model!r}. {hint}")
        return cls(label, folder, model)

    def benchmarks(self) -> list[str]:
        return sorted(
            path.parent.parent.name for path in self.evals_folder.glob(f"*/{self.model}/traces")
        )

    def cell(self, benchmark: str) -> Path:
        """The folder of its samples."""
        return self.evals_folder / benchmark / self.model

    def sheet(self, benchmark: str, metric: str | None) -> Sheet:
        return read_sheet(self.evals_folder, benchmark, self.model)

    def asked(self, benchmark: str) -> Mapping[str, str]:
        problems = read_problems(self.evals_folder / benchmark).values()
        return {one.id: fingerprint([one.question, one.answer]) for one in problems}

    def problems(self, benchmark: str, wanted: Set[str]) -> Mapping[str, Problem | LoggedProblem]:
        return read_problems(self.evals_folder / benchmark)

    def first_samples(
        self, benchmark: str, wanted: Set[str], metric: str | None
    ) -> Mapping[str, FirstSample]:
        files = CellFolder(self.cell(benchmark))
        samples: dict[str, FirstSample] = {}
        for pair in read_graded(files.traces, files.verdicts):
            trace = pair.trace
            if trace.sample == 0 and trace.problem_id in wanted:
                text = f"{trace.completion.reasoning or ''}{trace.completion.answer_text}"
                samples[trace.problem_id] = FirstSample(pair.verdict.grade.extracted, text)
        return samples

    def settings(self, benchmark: str) -> Mapping[str, str]:
        return settings_of(self.cell(benchmark))

    def notes(self, benchmark: str, metric: str | None) -> Sequence[str]:
        return ()


# ---- of a log ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogEntrant:
    """A model in the logs of another tool, by benchmark. Each is read once, and again where texts
    are wanted.
    """

    label: str
    logs: Mapping[str, Log]
    _surveys: dict[str, Survey] = field(default_factory=dict[str, Survey])

    @property
    def tool(self) -> str:
        tools = sorted({log.tool for log in self.logs.values()})
        return " and ".join(tools)

    def benchmarks(self) -> list[str]:
        return sorted(self.logs)

    def survey(self, benchmark: str) -> Survey:
        """What its log holds, from one end to the other."""
        if benchmark not in self._surveys:
            self._surveys[benchmark] = survey(self.logs[benchmark])
        return self._surveys[benchmark]

    def sheet(self, benchmark: str, metric: str | None) -> Sheet:
        scores = self.survey(benchmark).scores(metric or "")
        samples = scores.correct.shape[1]
        sheet = Sheet.empty(self.label, benchmark, scores.problems, samples)
        sheet.correct = np.asarray(scores.correct)
        sheet.lost = tuple(f"{name}:0" for name in scores.lost)
        return sheet

    def asked(self, benchmark: str) -> Mapping[str, str]:
        return self.survey(benchmark).asked

    def problems(self, benchmark: str, wanted: Set[str]) -> Mapping[str, Problem | LoggedProblem]:
        found: dict[str, Problem | LoggedProblem] = {}
        for row in self.logs[benchmark].rows():
            if row.problem in wanted and row.problem not in found:
                found[row.problem] = LoggedProblem(
                    id=row.problem, question=row.question, answer=row.gold
                )
        return found

    def first_samples(
        self, benchmark: str, wanted: Set[str], metric: str | None
    ) -> Mapping[str, FirstSample]:
        samples: dict[str, FirstSample] = {}
        for row in self.logs[benchmark].rows():
            # The first that is there: it need not be that of the first epoch.
            is_new = row.problem in wanted and row.problem not in samples
            if is_new and metric in row.marks:
                text = next(iter(row.texts or ()), "")
                samples[row.problem] = FirstSample(row.taken, text)
        return samples

    def settings(self, benchmark: str) -> Mapping[str, str]:
        settings = flat(self.logs[benchmark].settings())
        return {name: cleaned_setting(name, value) for name, value in settings}

    def notes(self, benchmark: str, metric: str | None) -> Sequence[str]:
        return self.survey(benchmark).notes(metric or "")
