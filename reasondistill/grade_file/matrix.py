"""The grader matrix: stored answers under several policies, side by side. `reasondistill matrix`;
nothing is generated.

    with GradingPool(workers=2) as pool:
        answers = file_answers(Path("answers.jsonl"))
        matrix = compare_policies([answers], ["default", "lighteval"], pool, out=Path("matrix"))

A number that was published under another grader's rules can be translated: what a policy accepts,
with its interval, and on how many answers any two disagree. `disagreements.jsonl` holds those
answers, to be read. Rows of a file count as problems of their own; samples of a run are grouped by
problem, as in its evals.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.errors import ConfigError, DataError, Interrupted, StageError
from reasondistill.foreign_logs.finding import find_logs
from reasondistill.foreign_logs.log import Log
from reasondistill.grade_file.progress import EVERY_S, tell
from reasondistill.grade_file.ranking import ranking
from reasondistill.grade_file.rows import count_answers, digest_of, read_answers
from reasondistill.grading import GRADER, POLICIES, GradeItem, GradingPool, find_policy
from reasondistill.nearest import nearest
from reasondistill.progress import Progress
from reasondistill.records import OUTCOMES, Grade, Outcome, Problem, Record, Trace
from reasondistill.runs.layout import CellFolder, EvalsFolder
from reasondistill.runs.missing import is_allowed
from reasondistill.runs.samples import completion_of, read_samples
from reasondistill.runs.store import (
    StopSignal,
    count_lines,
    read_records,
    require_complete,
    write_json,
    write_records,
)
from reasondistill.statistics import mean_interval

MATRIX, DISAGREEMENTS = "matrix.json", "disagreements.jsonl"
_CHUNK = 4_096
# The policy by which sources are ranked, where it is among those that were asked for.
DEFAULT = "default"


@dataclass(frozen=True)
class Answer:
    """One stored answer: its id as it came, what the grader needs, and the problem that it is a
    sample of (None: one of its own).
    """

    id: Any
    item: GradeItem
    problem: str | None = None


@dataclass(frozen=True)
class Source:
    """Answers that are scored together: those of a file, or of one model on a benchmark.
    `made_from` says which they are.
    """

    name: str
    answers: Iterable[Answer]
    total: int
    made_from: dict[str, Any]


class Disagreement(Record):
    """An answer with different outcomes under different policies; each field but the first three by
    policy.
    """

    id: str | int | float | None
    source: str
    gold: str
    outcomes: dict[str, Outcome]
    extracted: dict[str, str | None]
    reasons: dict[str, str]


@dataclass(frozen=True)
class PolicyScore:
    """How much of a source one policy accepts: `n` problems, `k` samples each, 95 % between `low`
    and `high`.
    """

    source: str
    policy: str
    mean: float
    low: float
    high: float
    n: int
    k: int
    method: str
    outcomes: dict[str, int]


@dataclass(frozen=True)
class Matrix:
    """All of it. `accepted_by_one[source, a, b]` answers are correct under a and not under b;
    `differing` have several outcomes. `ranking` is one sentence about which source is best, empty
    where they have not the same problems.
    """

    policies: tuple[str, ...]
    scores: tuple[PolicyScore, ...]
    accepted_by_one: Counter[tuple[str, str, str]]
    differing: int
    ranking: str = ""


def find_policies(names: str | None) -> list[str]:
    """The policies of a list with commas, all known ones without it. Raises ConfigError."""
    if names is None:
        return list(POLICIES)
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise ConfigError(
            f"--policies {names!r}: names none. Known: {', '.join(sorted(POLICIES))}."
        )
    return [find_policy(name).name for name in wanted]


# ---- where answers come from ---------------------------------------------------------------------


def file_answers(path: Path) -> Source:
    """A file as for `reasondistill grade`. Raises StageError (no such file) and, while it is read,
    DataError (`path:line`).
    """
    total = count_answers(path)
    answers = (Answer(name, item) for name, item in read_answers(path))
    return Source(path.name, answers, total, {"file": path.name, "sha256": digest_of(path)})


def log_answers(path: Path, benchmark: str | None = None) -> list[Source]:
    """The answers in a log of another tool, as they were written, or in those of a folder, of all
    benchmarks or one. Raises ConfigError, and while they are read DataError; also for a log whose
    answers are no texts.
    """
    logs = find_logs(path)
    names = list(logs)
    if benchmark is not None:
        names = [name for name in names if name == benchmark]
    if not names:
        raise ConfigError(f"{path}: no log of {benchmark}. {nearest(benchmark or '', list(logs))}")
    sources: list[Source] = []
    for name in names:
        log = logs[name]
        total = sum(1 for _ in _logged_answers(log))
        made_from = {"file": log.path.name, "sha256": digest_of(log.path), "tool": log.tool}
        sources.append(Source(name, _logged_answers(log), total, made_from))
    return sources


def _logged_answers(log: Log) -> Iterator[Answer]:
    """The answers, those of a problem one after another, each once however often it was scored."""
    seen: set[tuple[str, int]] = set()
    for row in log.rows():
        if (row.problem, row.sample) in seen or row.lost is not None:
            continue
        seen.add((row.problem, row.sample))
        if row.texts is None:
            raise DataError(
                f"{row.where}: holds log-probabilities of choices, no text that can be graded."
            )
        for number, text in enumerate(row.texts, start=row.sample):
            name = f"{row.problem}:{number}"
            yield Answer(name, GradeItem(name, text, row.gold, row.finish), row.problem)


def run_answers(evals_folder: Path, benchmark: str) -> list[Source]:
    """The samples that each model of a run has on a benchmark. Raises StageError when there are
    none or some are missing.

    Refused samples are undecided by every policy. Of a problem with a lost sample none is there,
    where that was allowed.
    """
    evals = EvalsFolder(evals_folder)
    folder = evals.benchmark(benchmark)
    if not folder.problems.exists():
        benchmarks = [other.name for other in evals.benchmarks() if other.problems.exists()]
        known = ", ".join(benchmarks) or "none, run its evals first"
        raise StageError(f"{evals_folder}: holds no benchmark {benchmark!r}. It has: {known}.")
    golds = {problem.id: problem.answer for problem in read_records(folder.problems, Problem)}
    sources = [answers_of_model(cell, golds) for cell in folder.cells()]
    if not sources:
        raise StageError(f"{folder.path}: holds no samples. Run the evals first.")
    return sources


def answers_of_model(folder: CellFolder, golds: dict[str, str]) -> Source:
    """The samples of one model on a benchmark. Raises StageError when some are missing or lost."""
    manifest = require_complete(folder.traces_folder)
    path = folder.traces
    lost = lost_problems(path)
    if lost and not is_allowed(manifest):
        raise StageError(
            f"{path}: samples of {len(lost)} problems are lost, {lost[0]} first. Run the "
            "evals again: they are drawn anew."
        )
    made_from: dict[str, Any] = {"traces": manifest.output}
    for key in ("prompt", "n", "limit", "sampling"):
        made_from[key] = manifest.section.get(key)
    if lost:
        made_from["problems with lost samples, left out"] = lost
    return Source(folder.name, _trace_answers(path, golds, lost), count_lines(path), made_from)


def lost_problems(path: Path) -> list[str]:
    """The problems with a lost sample, in order. Whole records are not read: there may be
    millions.
    """
    lost: dict[str, None] = {}
    for row in read_samples(path):
        if row["completion"]["finish"] == "error" and completion_of(row, path).is_lost:
            lost[row["problem_id"]] = None
    return list(lost)


def _trace_answers(path: Path, golds: dict[str, str], lost: Container[str]) -> Iterator[Answer]:
    for trace in read_records(path, Trace):
        if trace.problem_id not in golds:
            raise StageError(
                f"{path}: trace {trace.id}: its problem is not in the problems folder; "
                "sample the traces again."
            )
        if trace.problem_id in lost:
            continue
        yield Answer(trace.id, GradeItem.of(trace, golds[trace.problem_id]), trace.problem_id)


# ---- comparing -----------------------------------------------------------------------------------


@dataclass
class _Sheet:
    """What the policies said of one source. `samples` counts each problem's answers, which stand
    together in a finished stage.
    """

    samples: array[int] = field(default_factory=lambda: array("q"))
    last: str | None = None
    # Of those that have one, in order.
    problems: list[str] = field(default_factory=list[str])
    correct: dict[str, bytearray] = field(default_factory=dict[str, bytearray])
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    def add(self, problem: str | None, grades: dict[str, Grade]) -> None:
        if problem is None or problem != self.last:
            self.samples.append(0)
            if problem is not None:
                self.problems.append(problem)
        self.samples[-1] += 1
        self.last = problem
        for policy, grade in grades.items():
            self.correct.setdefault(policy, bytearray()).append(grade.is_correct)
            self.outcomes[policy, grade.outcome] += 1

    def shaped(self, policy: str) -> NDArray[np.bool_]:
        """(problems, samples): what a policy accepts. Each problem has the same number."""
        flags = np.frombuffer(bytes(self.correct[policy]), dtype=np.bool_)
        return flags.reshape(len(self.samples), self.samples[0])

    def count_correct(self, policy: str) -> int:
        """How many answers so far a policy accepts."""
        return sum(self.correct.get(policy, b""))


def compare_policies(
    sources: Sequence[Source],
    policies: Sequence[str],
    pool: GradingPool,
    *,
    out: Path | None = None,
    stop: StopSignal | None = None,
) -> Matrix:
    """Grade every answer under every policy; with `out`, write matrix.json and disagreements.jsonl
    into that folder.

    Raises ConfigError (a folder that is not ours), StageError and DataError (answers that cannot be
    read), Interrupted; then no file is written.
    """
    if out is not None:
        check_folder(out)
    sheets = {source.name: _Sheet() for source in sources}
    accepted: Counter[tuple[str, str, str]] = Counter()
    disagreements = grade_and_count(sources, policies, pool, sheets, accepted, stop)
    if out is None:
        differing = sum(1 for _ in disagreements)
    else:
        differing = write_records(out / DISAGREEMENTS, disagreements)
    scores: list[PolicyScore] = []
    for source in sources:
        for policy in policies:
            scores.append(_score(source, policy, sheets[source.name]))
    best = _ranking(sheets, policies)
    matrix = Matrix(tuple(policies), tuple(scores), accepted, differing, best)
    if out is not None:
        write_json(out / MATRIX, _as_json(matrix, sources, pool))
    return matrix


def _ranking(sheets: dict[str, _Sheet], policies: Sequence[str]) -> str:
    """By the default policy, or the first one; nothing for sources of different problems."""
    policy = policies[0]
    if DEFAULT in policies:
        policy = DEFAULT
    first = next(iter(sheets.values()), None)
    for sheet in sheets.values():
        if first is None or not sheet.problems or sheet.problems != first.problems:
            return ""
    return ranking({name: sheet.shaped(policy) for name, sheet in sheets.items()}, policy)


def check_folder(out: Path) -> None:
    """Raise ConfigError unless this is a folder of ours, or none yet."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out}: is a file; name a folder with --out.")
    names = sorted(path.name for path in out.iterdir())
    strangers = [name for name in names if name not in (MATRIX, DISAGREEMENTS)]
    if strangers:
        raise ConfigError(
            f"{out}: holds {', '.join(strangers[:3])}, which are not ours. Name a new "
            "folder with --out."
        )


def grade_and_count(
    sources: Sequence[Source],
    policies: Sequence[str],
    pool: GradingPool,
    sheets: dict[str, _Sheet],
    accepted: Counter[tuple[str, str, str]],
    stop: StopSignal | None,
) -> Iterator[Disagreement]:
    """Grade everything, fill the sheets and the counts, and yield the answers that policies differ
    on.
    """
    done = 0
    total = sum(source.total for source in sources)
    progress = Progress(total, every_s=EVERY_S)
    for source in sources:
        sheet = sheets[source.name]
        answers = iter(source.answers)
        while True:
            chunk = list(islice(answers, _CHUNK))
            if not chunk:
                break
            for answer, grades in zip(chunk, _graded(chunk, policies, pool), strict=True):
                sheet.add(answer.problem, grades)
                for a, b in pairs_accepted_by_one(grades):
                    accepted[source.name, a, b] += 1
                if len({grade.outcome for grade in grades.values()}) > 1:
                    yield disagreement(source.name, answer, grades)
            done += len(chunk)
            correct: dict[str, int] = {}
            for policy in policies:
                correct[policy] = sum(some.count_correct(policy) for some in sheets.values())
            tell(progress, done, correct)
            if stop is not None and stop.requested:
                raise Interrupted(
                    "Stopped on request; a matrix is written as a whole or not at all.",
                    stop.signal_number,
                )


def pairs_accepted_by_one(grades: dict[str, Grade]) -> list[tuple[str, str]]:
    """The pairs of policies of which the first accepts an answer and the second does not."""
    right = [policy for policy, grade in grades.items() if grade.is_correct]
    others = [policy for policy in grades if policy not in right]
    return list(product(right, others))


def _graded(
    chunk: Sequence[Answer], policies: Sequence[str], pool: GradingPool
) -> Iterator[dict[str, Grade]]:
    """For each answer its grade under each policy."""
    items = [answer.item for answer in chunk]
    columns: list[list[Grade]] = []
    for policy in policies:
        columns.append([grade for _, grade in pool.grade_many(items, policy=policy)])
    for row in zip(*columns, strict=True):
        yield dict(zip(policies, row, strict=True))


def disagreement(source: str, answer: Answer, grades: dict[str, Grade]) -> Disagreement:
    """The record of an answer on which policies differ."""
    return Disagreement(
        id=answer.id,
        source=source,
        gold=answer.item.gold,
        outcomes={policy: grade.outcome for policy, grade in grades.items()},
        extracted={policy: grade.extracted for policy, grade in grades.items()},
        reasons={policy: grade.reason for policy, grade in grades.items()},
    )


# ---- the result ----------------------------------------------------------------------------------


def _score(source: Source, policy: str, sheet: _Sheet) -> PolicyScore:
    """Raises StageError when there is nothing to score, or problems have different numbers of
    samples.
    """
    sizes = set(sheet.samples)
    if not sizes:
        raise StageError(f"{source.name}: holds no answers; there is nothing to compare.")
    if len(sizes) > 1:
        raise StageError(
            f"{source.name}: problems have between {min(sizes)} and {max(sizes)} samples. "
            "Run the evals to their end."
        )
    estimate = mean_interval(sheet.shaped(policy))
    return PolicyScore(
        source.name,
        policy,
        estimate.mean,
        estimate.low,
        estimate.high,
        estimate.n,
        estimate.k,
        estimate.method,
        outcomes={name: sheet.outcomes[policy, name] for name in OUTCOMES},
    )


def _as_json(matrix: Matrix, sources: Sequence[Source], pool: GradingPool) -> dict[str, Any]:
    pairs: list[dict[str, Any]] = []
    for source in sources:
        for a, b in combinations(matrix.policies, 2):
            pair = {
                "source": source.name,
                "policies": [a, b],
                "only_first_accepts": matrix.accepted_by_one[source.name, a, b],
                "only_second_accepts": matrix.accepted_by_one[source.name, b, a],
            }
            pairs.append(pair)
    return {
        "grader": GRADER,
        "deadline_s": pool.deadline_s,
        "policies": {name: asdict(POLICIES[name]) for name in matrix.policies},
        "sources": {source.name: source.made_from for source in sources},
        "scores": [asdict(score) for score in matrix.scores],
        "pairs": pairs,
        "differing": matrix.differing,
        "ranking": matrix.ranking,
    }
