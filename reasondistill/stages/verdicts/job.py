"""What stays the same while the verdicts of one folder are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reasondistill.config import Cluster, VerdictSettings
from reasondistill.grading import GradingPool
from reasondistill.models.samplers import problem_and_sample, rank
from reasondistill.runs import layout
from reasondistill.runs.session import Session
from reasondistill.runs.store import read_keys, sort_shard


@dataclass(frozen=True)
class VerdictJob:
    """The files that the stage reads, `folder` that it fills, and how this process does it."""

    settings: VerdictSettings
    problems: Path
    traces: Path
    folder: Path
    cluster: Cluster
    session: Session

    @property
    def verdicts(self) -> Path:
        return self.folder / layout.VERDICTS

    def grading_pool(self) -> GradingPool:
        """Processes that grade, to be closed."""
        return GradingPool(
            workers=self.cluster.grade.workers,
            deadline_s=self.settings.deadline_s,
            memory_mib=self.cluster.grade.memory_mib,
            policy=self.settings.policy,
        )

    def check_stop(self) -> None:
        """Raises Interrupted when somebody asked to stop."""
        if self.session.stop is not None:
            self.session.stop.check()

    def put_in_order(self) -> None:
        """Verdicts in the order of problems and samples, which is that of the traces."""
        places = {problem_id: place for place, problem_id in enumerate(read_keys(self.problems))}

        def order(trace_id: str) -> int:
            problem_id, sample = problem_and_sample(trace_id)
            return rank(places[problem_id], sample)

        sort_shard(self.verdicts, order, "trace_id")


def graded_traces(path: Path) -> set[str]:
    """The ids of the traces that have a verdict in this file."""
    return set(read_keys(path, "trace_id")) if path.exists() else set()
