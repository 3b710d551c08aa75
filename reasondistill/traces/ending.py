"""The end of the traces stage: canonical order, sums, figures, and what later stages are made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.config import Cluster, Traces
from reasondistill.errors import StageError
from reasondistill.samplers import problem_and_sample, rank
from reasondistill.store import read_metrics, read_rows, sort_shard


@dataclass
class Tally:
    """Sums over a traces file."""

    samples: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    truncated: int = 0
    failed: list[str] = field(default_factory=list)
    error: str | None = None

    def add(self, row: dict[str, Any]) -> None:
        completion = row["completion"]
        self.samples += 1
        self.tokens += completion["tokens"]
        self.prompt_tokens += completion["prompt_tokens"]
        self.truncated += completion["finish"] == "length"
        if completion["finish"] == "error":
            self.failed.append(row["id"])
            self.error = completion["error"]


def tally(path: Path) -> Tally:
    """Count a traces file, one line in memory at a time."""
    sums = Tally()
    for row in read_rows(path):
        sums.add(row)
    return sums


def engine(traces: Traces, cluster: Cluster) -> dict[str, Any]:
    """Engine settings that the last bits of a number may depend on: told, not part of the identity."""
    if all(teacher.sampler != "vllm" for teacher in traces.teachers):
        return {}
    return {"engine": cluster.vllm.model_dump(mode="json", exclude={"gpu_memory_utilization", "cpu_kvcache_gib"})}


_FAILED = b'"finish":"error"'


def count_whole(path: Path) -> int:
    """The traces of a file that did not fail, without parsing them."""
    with open(path, "rb") as file:
        return sum(1 for line in file if _FAILED not in line)


def content(path: Path) -> str:
    """What later stages are made from: every byte of the traces, but of a failed one only that it failed.

    A sample that fails again, some seconds slower, makes nobody grade and train again.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for line in file:
            if _FAILED in line and (row := json.loads(line))["completion"]["finish"] == "error":
                line = f"{row['id']} failed\n".encode()
            digest.update(line)
    return digest.hexdigest()[:16]


def sort(path: Path, places: dict[str, int]) -> None:
    """Traces in the order of problems and samples. Raises StageError for one of an unknown problem."""

    def order(trace_id: str) -> int:
        problem_id, sample = problem_and_sample(trace_id)
        if problem_id not in places:
            raise StageError(
                f"{path}: holds a trace of {problem_id}, which is not among the problems. Remove {path.parent} to sample again."
            )
        return rank(places[problem_id], sample)

    sort_shard(path, order)


def figures(folder: Path, sums: Tally) -> dict[str, Any]:
    """Numbers for the report; time and speed are summed over all runs that filled this folder."""
    sessions = {line["session"]: line for line in read_metrics(folder)}.values()
    seconds = sum(line["seconds"] for line in sessions)
    return {
        "samples": sums.samples,
        "tokens": sums.tokens,
        "prompt_tokens": sums.prompt_tokens,
        "seconds": round(seconds, 3),
        "tokens_per_s": round(sum(line["tokens"] for line in sessions) / seconds, 1) if seconds else 0.0,
        "load_seconds": round(sum(line["load_seconds"] for line in sessions), 3),
        "truncated": round(sums.truncated / sums.samples, 4),
        "errors": len(sums.failed),
    }
