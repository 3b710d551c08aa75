"""Every check of a run, made and listed.

    check(run)                              # raises the first fault that stops a run
    for one in examine(run, COSTS):         # each check of each subject, with what it found
        print(one.check.name, one.findings)

Checks stand beside what they judge; those modules are imported here, so that all are known.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reasondistill.checks import IN_A_DRY_RUN, Check, Cost, Finding, all_checks
from reasondistill.curation import checks as _of_problems
from reasondistill.doctor.subjects import subjects_of
from reasondistill.errors import ReasonDistillError
from reasondistill.launch import preflight as _of_launchers
from reasondistill.models import asked as _of_models
from reasondistill.models import server_checks as _of_servers
from reasondistill.pipeline import Run
from reasondistill.pipeline import preflight as _of_runs
from reasondistill.stages.students import batch_checks as _of_batches
from reasondistill.stages.students import case_checks as _of_students
from reasondistill.stages.students.batch import Batch

# The modules that hold checks, in the order in which these are made; a stranger's come last.
HOMES = (
    _of_runs,
    _of_launchers,
    _of_models,
    _of_servers,
    _of_students,
    _of_batches,
    _of_problems,
)


@dataclass(frozen=True)
class Examined:
    """One check of one subject, which is `whose`: what it found, and in how many seconds. `batch`
    is what was looked at, where that was a batch. A model or a student `is_out_of_reach` whose
    files would have to come from a hub that does not answer: only what the file says of it was
    looked at.
    """

    check: Check[Any]
    whose: str
    findings: tuple[Finding, ...]
    seconds: float
    batch: Batch | None = None
    is_out_of_reach: bool = False

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.is_fault)


def examine(run: Run, costs: Iterable[Cost]) -> Iterator[Examined]:
    """Make every check of these costs, subject after subject, as they come. Where something is so
    wrong that no more can be looked at, it ends, if that was told; else the error is raised.
    """
    paid, told = frozenset(costs), set[str]()
    is_stopped = False
    subjects = subjects_of(run, paid)
    while True:
        try:
            subject = next(subjects, None)
        except ReasonDistillError as error:
            if is_stopped or str(error) in told:
                return
            raise
        if subject is None:
            return
        for one in _in_order():
            if one.cost in paid and isinstance(subject, one.of):
                examined = _examined(one, subject)
                told |= {finding.text for finding in examined.faults}
                is_stopped |= any(finding.stops for finding in examined.faults)
                yield examined


def _in_order() -> list[Check[Any]]:
    places = {home.__name__: place for place, home in enumerate(HOMES)}
    return sorted(all_checks(), key=lambda one: places.get(one.examine.__module__, len(places)))


def _examined(one: Check[Any], subject: object) -> Examined:
    started = time.monotonic()
    findings = tuple(one.findings(subject))
    return Examined(
        one,
        str(getattr(subject, "whose", "")),
        findings,
        time.monotonic() - started,
        subject if isinstance(subject, Batch) else None,
        is_out_of_reach=bool(getattr(subject, "is_out_of_reach", False)),
    )


def check(run: Run, costs: Collection[Cost] = IN_A_DRY_RUN) -> list[Finding]:
    """Make the checks of these costs, and return what a run should know all the same.

    Raises the error of the first fault that stops a run: ConfigError, DataError, DriftError,
    StageError or MissingDependencyError.
    """
    told: list[Finding] = []
    for one in examine(run, costs):
        for finding in one.findings:
            if finding.error is not None and finding.stops:
                raise finding.error
            told.append(finding)
    return told


def batches_in(examined: Iterable[Examined]) -> list[Batch]:
    """The batches that were looked at, each once."""
    batches: list[Batch] = []
    for one in examined:
        if one.batch is not None and not any(one.batch is other for other in batches):
            batches.append(one.batch)
    return batches
