"""Sums over finished traces: canonical order, figures, and what later stages are made from."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.config import Cluster, TraceSettings
from reasondistill.errors import StageError
from reasondistill.foreign_files import regular
from reasondistill.models.samplers import problem_and_sample, rank
from reasondistill.records import Completion, Problem, SetAside
from reasondistill.runs import layout
from reasondistill.runs.figures import EngineFigures, TracesFigures
from reasondistill.runs.metrics import WorkLine
from reasondistill.runs.missing import cause_of
from reasondistill.runs.samples import completion_of, read_samples
from reasondistill.runs.store import sort_shard, write_records
from reasondistill.stages.traces.on_disk import is_failed, is_lost

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """Sums over a traces file. `lost` and `refused_samples` count by cause what the service lost
    and what was refused; `refused` holds the error of each problem that was set aside. `beyond` are
    samples that a larger n than this has drawn before; of those that failed among them
    (`failed_beyond`) nobody asks, so they are not lost.
    """

    n: int
    samples: int = 0
    beyond: int = 0
    failed_beyond: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    truncated: int = 0
    looped: int = 0
    looped_tokens: int = 0
    cut_thinking: int = 0
    estimated: int = 0
    masked: int = 0
    continued: int = 0
    lost: Counter[str] = field(default_factory=Counter[str])
    refused: dict[str, Completion] = field(default_factory=dict[str, Completion])
    refused_samples: Counter[str] = field(default_factory=Counter[str])
    error: str | None = None

    @property
    def asked(self) -> int:
        """The samples that are among the first n of their problem."""
        return self.samples - self.beyond

    @property
    def failed(self) -> int:
        """How many of these are lost or refused."""
        return self.lost.total() + self.refused_samples.total()

    @property
    def whole(self) -> int:
        """All samples that did not fail."""
        return self.samples - self.failed - self.failed_beyond

    @property
    def causes(self) -> dict[str, int]:
        """Cause → samples that were lost or refused."""
        return dict((self.lost + self.refused_samples).most_common())

    def add(self, row: dict[str, Any], path: Path) -> None:
        completion = row["completion"]
        is_beyond = row["sample"] >= self.n
        self.samples += 1
        self.beyond += is_beyond
        self.tokens += completion["tokens"]
        self.prompt_tokens += completion["prompt_tokens"]
        self.truncated += completion["finish"] == "length"
        if completion["finish"] == "repetition":
            self.looped += 1
            self.looped_tokens += completion["tokens"]
        self.cut_thinking += completion.get("thinking_is_cut", False)
        self.estimated += completion.get("is_estimated", False)
        self.masked += completion.get("is_masked", False)
        self.continued += bool(completion.get("continued_at"))
        if is_failed(completion):
            if is_beyond:
                self.failed_beyond += 1
            else:
                self._add_failed(row["problem_id"], completion_of(row, path))

    def _add_failed(self, problem_id: str, completion: Completion) -> None:
        self.error = completion.error
        if completion.is_lost:
            self.lost[cause_of(completion)] += 1
        else:
            self.refused[problem_id] = completion
            self.refused_samples[cause_of(completion)] += 1


def tally(path: Path, n: int) -> Tally:
    """Count a traces file of which the first `n` samples of a problem are wanted, one line in
    memory at a time.
    """
    sums = Tally(n)
    for row in read_samples(path):
        sums.add(row, path)
    return sums


def engine(folder: Path, traces: TraceSettings, cluster: Cluster) -> TracesFigures:
    """Engine settings that the last bits of a number may depend on: told, not part of the identity;
    empty where no engine samples.
    """
    writers = (*traces.teachers, *traces.also)
    if not any(model.capabilities.is_engine for model in writers):
        return TracesFigures()
    settings = cluster.vllm.model_dump(
        mode="json", exclude={"gpu_memory_utilization", "cpu_kvcache_gib", "threads"}
    )
    threads: list[int] = []
    for line in WorkLine.of(folder):
        if line.threads is not None and line.threads not in threads:
            threads.append(line.threads)
    if threads:
        settings["threads"] = threads
    return TracesFigures(engine=EngineFigures.model_validate(settings))


_FAILED = b'"finish":"error"'
_SETTLED = (b'"fault":"input"', b'"fault":"absent"')


# The number of a sample, at the end of the id with which its line begins.
_SAMPLE = re.compile(rb'\{"id":"(?:[^"\\]|\\.)*:(\d{1,7})"')


def count_settled(path: Path, n: int) -> int:
    """The traces of a file that the service did not lose, of the first `n` samples of each problem,
    without parsing them.
    """
    count = 0
    with open(path, "rb", opener=regular) as file:
        for line in file:
            named = _SAMPLE.match(line)
            is_beyond = named is not None and int(named[1]) >= n
            is_lost = _FAILED in line and not any(map(line.__contains__, _SETTLED))
            count += not is_beyond and not is_lost
    return count


def content(path: Path) -> str:
    """What later stages are made from: every byte of the traces, but of a failed one only that it
    failed, and whose fault it was.

    A sample that fails again, some seconds slower, makes nobody grade and train again.
    """
    digest = hashlib.sha256()
    with open(path, "rb", opener=regular) as file:
        for line in file:
            digest.update(_said_of_failed(line) if _FAILED in line else line)
    return digest.hexdigest()[:16]


def _said_of_failed(line: bytes) -> bytes:
    """What counts of a line that may be a failed sample's; a text that only looks like one counts
    whole.
    """
    row = foreign_json.loads(line)
    if not is_failed(row["completion"]):
        return line
    word = "failed" if is_lost(row["completion"]) else "refused"
    return f"{row['id']} {word}\n".encode()


def write_set_aside(folder: Path, problems: Iterable[Problem], sums: Tally) -> None:
    """Keep the problems that could not be asked beside the traces, with the reason; no file where
    there are none.
    """
    path = folder / layout.SET_ASIDE
    if not sums.refused:
        path.unlink(missing_ok=True)
        return
    refused = [problem for problem in problems if problem.id in sums.refused]
    write_records(path, (_set_aside(problem, sums.refused[problem.id]) for problem in refused))


def _set_aside(problem: Problem, completion: Completion) -> SetAside:
    return SetAside(
        id=problem.id,
        reason=cause_of(completion),
        detail=completion.error or "",
        origin=problem.origin,
    )


def sort(path: Path, places: dict[str, int]) -> None:
    """Put traces in the order of problems and samples. Raises StageError for one of an unknown
    problem.
    """

    def order(trace_id: str) -> int:
        problem_id, sample = problem_and_sample(trace_id)
        if problem_id not in places:
            raise StageError(
                f"{path}: holds a trace of {problem_id}, which is not among the problems. "
                f"Remove {path.parent} to sample again."
            )
        return rank(places[problem_id], sample)

    sort_shard(path, order)


def figures(folder: Path, sums: Tally) -> TracesFigures:
    """Numbers for the report; time and speed are summed over all runs that filled this folder."""
    sessions = {line.session: line for line in WorkLine.of(folder)}.values()
    seconds = sum(line.seconds for line in sessions)
    tokens_per_s = 0.0
    if seconds:
        tokens_per_s = round(sum(line.tokens for line in sessions) / seconds, 1)
    figures = TracesFigures(
        samples=sums.samples,
        tokens=sums.tokens,
        prompt_tokens=sums.prompt_tokens,
        seconds=round(seconds, 3),
        tokens_per_s=tokens_per_s,
        load_seconds=round(sum(line.load_seconds for line in sessions), 3),
        # A share is never of what failed.
        truncated=round(sums.truncated / max(1, sums.whole), 4),
        errors=sums.failed,
    )
    if sums.failed:
        figures = figures.joined(TracesFigures(causes=sums.causes))
    if sums.estimated:
        figures = figures.joined(TracesFigures(estimated=sums.estimated))
    if sums.beyond:
        figures = figures.joined(TracesFigures(beyond=sums.beyond))
    if sums.looped:
        loops = TracesFigures(looped=sums.looped, looped_tokens=sums.looped_tokens)
        figures = figures.joined(loops)
    if sums.cut_thinking:
        figures = figures.joined(TracesFigures(cut_thinking=sums.cut_thinking))
    if sums.continued:
        figures = figures.joined(TracesFigures(continued=sums.continued))
    if sums.masked:
        log.warning(
            "%s: a secret of this environment stood in %d samples; it is masked, and none of them "
            "becomes an example",
            folder,
            sums.masked,
        )
        figures = figures.joined(TracesFigures(masked=sums.masked))
    return figures
