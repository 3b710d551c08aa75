"""What stays the same while the verdicts of one folder are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill.config import Cluster, VerdictSettings
from reasondistill.errors import StageError
from reasondistill.grading import ENGINE_ERROR, INPUT_FAULT, GradingPool
from reasondistill.models.samplers import problem_and_sample, rank
from reasondistill.runs import layout
from reasondistill.runs.session import Session
from reasondistill.runs.store import drop_rows, read_keys, read_rows, sort_shard


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
            if problem_id not in places:
                raise StageError(
                    f"{self.verdicts}: holds a verdict on {problem_id}, which is not among the "
                    f"problems. Remove {self.folder} to judge again."
                )
            return rank(places[problem_id], sample)

        sort_shard(self.verdicts, order, "trace_id")

    def drop_what_may_change(self) -> None:
        """Take the verdicts out that are made anew when traces come: those by a vote or a judge,
        who has them in mind, and those on samples that failed, which may have been drawn since. And
        those on traces that are there no more: where a lost one has come, and is correct, a problem
        has enough of them with fewer samples.
        """
        if not self.verdicts.exists():
            return
        there = set(read_keys(self.traces))

        def is_to_go(row: Mapping[str, Any]) -> bool:
            return _may_change(row) or row["trace_id"] not in there

        if any(map(is_to_go, read_rows(self.verdicts))):
            drop_rows(self.verdicts, is_to_go)


def _may_change(row: Mapping[str, Any]) -> bool:
    is_by_rule = row.get("how", "rule") == "rule"
    return not is_by_rule or row["grade"]["reason"] in (ENGINE_ERROR, INPUT_FAULT)


def graded_traces(path: Path) -> set[str]:
    """The ids of the traces that have a verdict in this file."""
    return set(read_keys(path, "trace_id")) if path.exists() else set()
