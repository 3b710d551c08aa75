"""All of a log at once: which problems it has, and what each metric says of them.

    found = survey(log)
    chosen_metrics({"gsm8k": {"mine": found, "theirs": other}}, wanted=["exact_match"])
    found.scores("exact_match,strict-match").correct                    # (problems, samples)

Which metric counts is said by whoever compares, where there are several. What cannot be paired is
refused by name: other numbers of samples, no score for a problem, a score that is neither right nor
wrong.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reasondistill.bounds import BENCHMARK_ROWS, LOG_METRICS
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.foreign_logs.log import LONGEST_METRIC, Log, LoggedRow, Mark
from reasondistill.hashing import stable_digest
from reasondistill.nearest import nearest

_CLOSE = 1e-3


@dataclass(frozen=True)
class Scores:
    """What one metric says: `correct` is (problems, samples). `lost` says of each problem that is
    no row why a sample of it has no score.

    Where a log has only the number of right samples, they stand at places drawn by chance, the same
    ones each time and others in another log: samples of a problem are alike.
    """

    problems: tuple[str, ...]
    correct: NDArray[np.bool_]
    lost: Mapping[str, str]


@dataclass
class Survey:
    """A log, read once. `asked` has each problem's hash of question and wanted answer; `unusable`
    the metrics that are neither right nor wrong somewhere, and where. `marks` has what each metric
    says of each problem, all its samples together.
    """

    log: Log
    asked: dict[str, str] = field(default_factory=dict[str, str])
    rows: int = 0
    marks: dict[str, dict[str, Mark]] = field(default_factory=dict[str, dict[str, Mark]])
    unusable: dict[str, str] = field(default_factory=dict[str, str])
    unscored: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    lost: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def metrics(self) -> list[str]:
        """Those that say right or wrong of every problem that they have a score for."""
        return [name for name in self.marks if name not in self.unusable]

    def scores(self, metric: str) -> Scores:
        """Raises DataError where problems have different numbers of samples, or none is left."""
        lost = self.lost | self.unscored.get(metric, {})
        marks = self.marks[metric]
        problems = [name for name in self.asked if name not in lost]
        for name in problems:
            if name not in marks:
                raise DataError(f"{self.log.path}: problem {name} has no {metric}; others have.")
        counts = {name: marks[name].samples for name in problems}
        sizes = Counter(counts.values())
        if not sizes:
            raise DataError(f"{self.log.path}: no problem has a score by {metric}.")
        usual = sizes.most_common(1)[0][0]
        for name, count in counts.items():
            if count != usual:
                raise DataError(
                    f"{self.log.path}: problem {name} has {count} samples with {metric}, others "
                    f"{usual}."
                )
        correct = np.zeros((len(problems), usual), np.bool_)
        for row, name in enumerate(problems):
            correct[row, : marks[name].right] = True
        # Another log has other places: the first samples of two models are independent.
        seed = int.from_bytes(stable_digest(f"{self.log.path}\n{metric}")[:8], "big")
        correct = np.random.default_rng(seed).permuted(correct, axis=1)
        return Scores(tuple(problems), correct, lost)

    def notes(self, metric: str) -> list[str]:
        """What a reader of these scores should know."""
        notes: list[str] = []
        scores = self.scores(metric)
        if scores.lost:
            name, reason = next(iter(scores.lost.items()))
            notes.append(
                f"{len(scores.lost):,} problems have a sample without a score: {name} ({reason}) "
                "first"
            )
        said = self.log.stated().means.get(metric)
        found = float(scores.correct.mean())
        if said is not None and not scores.lost and abs(said - found) > _CLOSE:
            notes.append(
                f"its results say {100 * said:.2f} %, the mean over its samples is "
                f"{100 * found:.2f} %: the tool adds up in another way"
            )
        return notes


def survey(log: Log) -> Survey:
    """Read a log from its beginning to its end. Raises DataError for what is damaged, double or
    not whole.
    """
    found = Survey(log)
    low_is_better = log.stated().low_is_better
    seen: set[tuple[str, int, str]] = set()
    for row in log.rows():
        found.rows += 1
        if found.rows > BENCHMARK_ROWS.most:
            raise DataError(f"{log.path}: more than {BENCHMARK_ROWS}.")
        if found.asked.setdefault(row.problem, row.asked) != row.asked:
            raise DataError(f"{row.where}: problem {row.problem} asks something else than before.")
        if row.lost is not None:
            found.lost.setdefault(row.problem, row.lost)
            continue
        if not row.marks:
            found.lost.setdefault(row.problem, "no score")
        for metric, mark in row.marks.items():
            key = (row.problem, row.sample, metric)
            if key in seen:
                raise DataError(
                    f"{row.where}: sample {row.sample} of problem {row.problem} is there twice."
                )
            seen.add(key)
            enter_mark(found, row, metric, mark)
    if not found.asked:
        raise DataError(f"{log.path}: holds no samples.")
    for metric in found.marks:
        if metric.partition(",")[0] in low_is_better:
            found.unusable[metric] = "better when it is low"
    require_whole(found)
    return found


def enter_mark(found: Survey, row: LoggedRow, metric: str, mark: Mark | str | None) -> None:
    if len(metric) > LONGEST_METRIC:
        raise DataError(f"{row.where}: a metric with a name of {len(metric):,} characters.")
    marks = found.marks.setdefault(metric, {})
    if len(found.marks) > LOG_METRICS.most:
        raise DataError(f"{row.where}: more than {LOG_METRICS}.")
    if mark is None:
        found.unscored.setdefault(metric, {}).setdefault(row.problem, f"no {metric}")
    elif isinstance(mark, str):
        found.unusable.setdefault(metric, f"{mark} ({row.where})")
    else:
        before = marks.get(row.problem, Mark(0, 0))
        marks[row.problem] = Mark(before.right + mark.right, before.samples + mark.samples)


def require_whole(found: Survey) -> None:
    stated, path = found.log.stated(), found.log.path
    for kind, said, there in (
        ("problems", stated.problems, len(found.asked)),
        ("samples", stated.rows, found.rows),
    ):
        if said is not None and said != there:
            raise DataError(f"{path}: holds {there:,} {kind}, its results say {said:,}: not whole.")


# ---- which metric --------------------------------------------------------------------------------

# Label of a model → its log, for each benchmark.
Surveys = Mapping[str, Mapping[str, Survey]]


def chosen_metrics(surveys: Surveys, wanted: Sequence[str]) -> dict[str, str]:
    """The metric that the logs of each benchmark are compared by: the one that they have in common,
    or that of several which is wanted. Raises ConfigError, naming those that there are.
    """
    chosen = {name: metric_of(name, found, wanted) for name, found in surveys.items()}
    for word in wanted:
        if not any(named_by(word, [metric]) for metric in chosen.values()):
            known = list(dict.fromkeys(chosen.values()))
            raise ConfigError(f"--metric {word}: no log has it. {nearest(word, known)}")
    return chosen


def metric_of(benchmark: str, surveys: Mapping[str, Survey], wanted: Sequence[str]) -> str:
    for label, found in surveys.items():
        if not found.metrics:
            faults = [f"{metric}: {reason}" for metric, reason in found.unusable.items()]
            described = "; ".join(faults) or "There is none"
            raise StageError(
                f"{benchmark}: {label}: no metric says of each problem whether it is right. "
                f"{described}."
            )
    for word in wanted:
        for found in surveys.values():
            for name in named_by(word, list(found.unusable)):
                raise ConfigError(f"--metric {word}: {benchmark}: {found.unusable[name]}.")
    kept = [set(found.metrics) for found in surveys.values()]
    in_common = sorted(set.intersection(*kept))
    if not in_common:
        lists = [f"{label}: {', '.join(found.metrics)}" for label, found in surveys.items()]
        raise StageError(f"{benchmark}: no metric in common. {'; '.join(lists)}.")
    meant = {name for word in wanted for name in named_by(word, in_common)}
    if len(meant) == 1:
        return meant.pop()
    if len(in_common) == 1:
        return in_common[0]
    # People paste it into a shell, and whoever made the log has named the metrics.
    known = " or ".join(f"--metric {shlex.quote(name)}" for name in in_common)
    raise ConfigError(f"{benchmark}: right by which metric? {known}.")


def named_by(word: str, metrics: Sequence[str]) -> list[str]:
    """The metrics that a word may mean: of lm-eval's `exact_match,strict-match` also the first part
    alone.
    """
    if word in metrics:
        return [word]
    return [name for name in metrics if name.partition(",")[0] == word]
