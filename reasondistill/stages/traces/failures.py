"""How many samples may fail before a stage stops: a stage that lost its samples is not done.

    failures = Failures(folder, Allowance(samples=120, problems=40, share=0.01))
    failures.see(trace)        # for each trace as it comes; raises StageError for one too many

Faults of the service (server, quota, engine) have a limit, `failures_allowed`: what it lost is
drawn again by the next run. Faults of the input (a prompt that no model takes) set their problem
aside; many of them mean that the settings are wrong, not the problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reasondistill.errors import StageError
from reasondistill.records import Completion, Trace
from reasondistill.runs.limits import FAULTY_SHARE, allowed_losses, are_too_many_faulty
from reasondistill.runs.missing import cause_of, causes_text

# When so many samples failed and none ever succeeded, the set-up is wrong, not the samples.
HOPELESS = 32


@dataclass(frozen=True)
class Allowance:
    """Of how many `samples` of how many `problems` the service may lose the `share`."""

    samples: int
    problems: int
    share: float

    @property
    def lost(self) -> int:
        """So many samples may be lost."""
        return allowed_losses(self.share, self.samples)

    def is_refused_too_often(self, problems: int) -> bool:
        """Whether so many problems that cannot be asked stop the stage."""
        return are_too_many_faulty(problems, self.problems)


def too_many_lost(folder: Path, allowance: Allowance, causes: Mapping[str, int]) -> StageError:
    """What to raise when the service lost more samples than it may."""
    lost = sum(causes.values())
    return StageError(
        f"{folder}: {lost} of {allowance.samples} samples were lost, failures_allowed = "
        f"{allowance.share:g} allows "
        f"{allowance.lost}: {causes_text(causes)}. What came is kept; the same command "
        "draws the rest."
    )


def too_many_refused(
    folder: Path, allowance: Allowance, problems: int, causes: Mapping[str, int]
) -> StageError:
    """What to raise when so many problems cannot be asked that the settings must be wrong."""
    return StageError(
        f"{folder}: {problems} of {allowance.problems} problems cannot be asked, more "
        f"than {100 * FAULTY_SHARE:g} %: "
        f"{causes_text(causes)}. What came is kept, and the same command goes on once "
        "that is mended (the prompt, the "
        "context: max_model_len in the cluster file, the model) or these problems are filtered out."
    )


def nothing_but_failures(samples: int, error: str | None) -> StageError:
    """What to raise when nothing but failures came."""
    return StageError(f"all {samples} samples failed; the last one said: {error}")


class Failures:
    """Counts what fails while a stage samples, and stops it at the limit.

    `is_fresh` says that this model never drew a sample here.
    """

    def __init__(self, folder: Path, allowance: Allowance, *, is_fresh: bool = True) -> None:
        self._folder, self._allowance, self._is_fresh = folder, allowance, is_fresh
        self._refused: set[str] = set()
        self._lost_causes: Counter[str] = Counter()
        self._refused_causes: Counter[str] = Counter()
        self._seen = 0

    def see(self, trace: Trace) -> None:
        """Count a trace. Raises StageError when it is one failure too many."""
        self._seen += 1
        completion = trace.completion
        if completion.is_lost:
            self._lost_causes[cause_of(completion)] += 1
            self._check_lost(completion)
        if completion.is_refused and trace.problem_id not in self._refused:
            self._see_refused(trace.problem_id, completion)

    def _see_refused(self, problem_id: str, completion: Completion) -> None:
        self._refused.add(problem_id)
        self._refused_causes[cause_of(completion)] += 1
        if self._allowance.is_refused_too_often(len(self._refused)):
            raise too_many_refused(
                self._folder, self._allowance, len(self._refused), self._refused_causes
            )

    def _check_lost(self, last: Completion) -> None:
        lost = self._lost_causes.total()
        if lost > self._allowance.lost:
            raise too_many_lost(self._folder, self._allowance, self._lost_causes)
        if self._is_fresh and lost == self._seen and lost >= HOPELESS:
            raise nothing_but_failures(lost, last.error)
