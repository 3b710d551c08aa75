"""How many verdicts there are of each outcome: for progress and for the manifest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reasondistill.grading import ENGINE_ERROR, INPUT_FAULT
from reasondistill.records import OUTCOMES, Verdict
from reasondistill.runs.figures import VerdictsFigures
from reasondistill.runs.store import append_metrics, read_records

log = logging.getLogger(__name__)


@dataclass
class VerdictCounts:
    """Verdicts by outcome, and the undecided ones by the reason."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    @classmethod
    def read(cls, path: Path) -> VerdictCounts:
        """Those that are on disk already."""
        counts = cls()
        counts.add(read_records(path, Verdict))
        return counts

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Count these too."""
        for verdict in verdicts:
            grade = verdict.grade
            self.outcomes[grade.outcome] += 1
            if grade.outcome == "undecided":
                self.reasons[grade.reason] += 1

    @property
    def total(self) -> int:
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """How many of the undecided are samples that failed."""
        return self.reasons[ENGINE_ERROR] + self.reasons[INPUT_FAULT]

    def report(self, folder: Path, seconds: float, *, session: str = "") -> None:
        """A metrics line and a log line; `session` names a worker."""
        who: dict[str, str] = {}
        if session:
            who["session"] = session
        append_metrics(
            folder,
            **who,
            done=self.total,
            seconds=round(seconds, 3),
            **{outcome: self.outcomes[outcome] for outcome in OUTCOMES},
        )
        graded = max(1, self.total - self.failed)  # a share is never of what failed
        parts: list[str] = []
        for outcome in OUTCOMES:
            count = self.outcomes[outcome]
            if outcome == "undecided":
                count -= self.failed
            if count:
                percent = 100 * count / graded
                parts.append(f"{percent:.1f} % {outcome}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        log.info(
            "verdicts: %s traces · %.0f/s · %s",
            f"{self.total:,}",
            self.total / max(seconds, 1e-9),
            ", ".join(parts),
        )

    def figures(self) -> VerdictsFigures:
        """For the manifest."""
        outcomes = self.outcomes
        # A share is never of what failed.
        written = max(1, self.total - self.failed)
        figures = VerdictsFigures(
            correct=outcomes["correct"],
            wrong=outcomes["wrong"],
            no_answer=outcomes["no_answer"],
            truncated=outcomes["truncated"],
            undecided=outcomes["undecided"],
            correct_share=round(outcomes["correct"] / written, 6),
            undecided_reasons=dict(sorted(self.reasons.items())),
        )
        if self.reasons[ENGINE_ERROR]:
            figures = figures.joined(VerdictsFigures(failed=self.reasons[ENGINE_ERROR]))
        if self.reasons[INPUT_FAULT]:
            figures = figures.joined(VerdictsFigures(refused=self.reasons[INPUT_FAULT]))
        return figures
