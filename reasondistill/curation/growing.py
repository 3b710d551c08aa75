"""Problems that grow: a larger limit, a longer file, another source or another benchmark makes the
problems anew, and each that stood has to come again as it was.

    standing = Standing.of(folder, identity, drawn={"sums/train/0", "sums/train/3"})
    different = without_duplicates(standing.seen(entries), first=standing.with_traces())
    different = standing.restored(check_golds(different, pool))
    ...                                 # all of them
    standing.fault()                    # "sums/train/3: it does not come any more", or None
    entries = standing.kept(different)

What was drawn, graded and trained on stays then. A problem with traces that would be set aside now,
though its row says what it said, stays as well: as a duplicate of another one, or because a
benchmark has it. So does one with traces that lies beyond a limit which is lower now. Of what a
benchmark has, and what lies beyond the limit, no more examples are made (`left_out`). Duplicates
and leaks may be looked for later than at first, or in another way.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from reasondistill.curation.comparing import HELD_OUT
from reasondistill.errors import DriftError
from reasondistill.hashing import stable_digest
from reasondistill.records import Problem, SetAside
from reasondistill.runs.growth import asked_in
from reasondistill.runs.layout import (
    LEAKS,
    LEAKS_MARKDOWN,
    LEFT_OUT,
    NEAR_DUPLICATES,
    PROBLEMS,
)
from reasondistill.runs.store import (
    Identity,
    changed_keys,
    drift_message,
    located_records,
    open_stage,
    read_keys,
    read_manifest,
    read_records,
    records_at,
    write_records,
)

log = logging.getLogger(__name__)

BEYOND = "beyond problems.limit"

# What only sets rows aside, of those that come.
_COMPARED = (
    "section.near_duplicates",
    "section.decontaminate",
    "inputs.held_out",
    "inputs.decontaminate",
)
_GROWING_KEYS = ("section.filter", "section.sources", "section.order", "inputs.", *_COMPARED)

Entry = Problem | SetAside


def may_grow(folder: Path, identity: Identity, *, keep_old: bool) -> bool:
    """Whether a folder holds problems of other settings that may go together with those of these:
    another limit, more rows. So it is, too, where that was begun and not finished.
    """
    before = read_manifest(folder)
    if before is None or (keep_old and before.status == "complete"):
        return False
    if before.fingerprint == identity.fingerprint:
        return before.status == "partial" and bool(before.stood)
    changed = changed_keys(before.identity, identity.to_dict())
    return all(may_have_grown(*change) for change in changed)


def may_have_grown(name: str, old: Any, new: Any) -> bool:
    """Whether a changed key of `[problems]` can leave all that stands as it is; that it does has to
    be seen.
    """
    return name == "section.limit" or name.startswith(_GROWING_KEYS)


def asks_for_less(changed: Iterable[tuple[str, Any, Any]]) -> bool:
    """Whether a limit is lower now, and nothing else has changed by which rows come or do not."""
    others = [change for change in changed if not change[0].startswith(_COMPARED)]
    return bool(others) and all(is_lower_limit(*change) for change in others)


def is_lower_limit(name: str, old: Any, new: Any) -> bool:
    """Whether a changed key is a limit that is lower now."""
    is_limit = name.endswith(".limit") and isinstance(new, int)
    return is_limit and (old is None or (isinstance(old, int) and new < old))


class _Stands(NamedTuple):
    """Where a problem's line begins, and what of it may be another one when it comes again."""

    digest: bytes
    revision: str
    row: int
    at: int


class Standing:
    """The problems that stand in a folder, and what comes of each when they are made anew.

    Every field of a problem counts but the row that it was and the revision of its data: that of a
    file is a hash of the whole file, which has more rows now, perhaps before this one. `drawn` are
    those that have traces; `asks_less` says that others than before need not come. `left_out` says
    of what use no more is made and why; `kept_though` counts the others that would be set aside, by
    reason. Memory is some 300 bytes a problem: what one says is read where it stands.
    """

    def __init__(
        self,
        path: Path,
        drawn: Container[str],
        *,
        earlier: Iterable[str] = (),
        asks_less: bool = False,
    ) -> None:
        self._path, self._drawn, self._asks_less = path, drawn, asks_less
        self._earlier = frozenset(earlier)
        self._stands: dict[str, _Stands] = {}
        if path.exists():
            for at, problem in located_records(path, Problem):
                origin = problem.origin
                revision = sys.intern(origin.revision)
                stands = _Stands(_digest(problem), revision, origin.row, at)
                self._stands[problem.id] = stands
        self._waited_for = set(self._stands)
        # Those with traces that came again as they were.
        self._coming: set[str] = set()
        self._faults: dict[str, str] = {}
        self.left_out: list[SetAside] = []
        self.kept_though: Counter[str] = Counter()

    @classmethod
    def of(cls, folder: Path, identity: Identity, drawn: Container[str]) -> Standing:
        """Those of a folder that is to become `identity`; some may have been left out before. What
        was begun with these very settings has been seen to hold all that has to be there.
        """
        before = read_manifest(folder)
        asks_less = False
        if before is not None:
            changed = changed_keys(before.identity, identity.to_dict())
            asks_less = not changed or asks_for_less(changed)
        earlier: Iterable[str] = ()
        if (folder / LEFT_OUT).exists():
            earlier = read_keys(folder / LEFT_OUT)
        return cls(folder / PROBLEMS, drawn, earlier=earlier, asks_less=asks_less)

    def _problems(self) -> Iterator[Problem]:
        if self._path.exists():
            yield from read_records(self._path, Problem)

    def with_traces(self) -> Iterator[Problem]:
        """Those that stay whatever comes: no other one with the same question is wanted."""
        return (problem for problem in self._problems() if problem.id in self._drawn)

    def seen(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """What the rows became, before anything is set aside for what other rows or benchmarks
        hold: those that stand as they were.
        """
        for entry in entries:
            stands = self._stands.get(entry.id)
            self._waited_for.discard(entry.id)
            if stands is None:
                yield entry
            elif isinstance(entry, SetAside):
                self._faults[entry.id] = f"it would be set aside: {entry.reason}"
                yield entry
            elif _digest(entry) != stands.digest:
                self._faults[entry.id] = "its question, its gold or another field is another one"
                yield entry
            else:
                if entry.id in self._drawn:
                    self._coming.add(entry.id)
                yield _from(entry, revision=stands.revision, row=stands.row)

    def restored(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, in which each that stands and has traces is a problem again, if it was not
        set aside for a benchmark: as it stays, benchmarks are looked for in it too.
        """
        for entry in entries:
            comes = entry.id in self._coming
            if not comes or isinstance(entry, Problem) or entry.reason.startswith(HELD_OUT):
                yield entry
                continue
            self.kept_though[entry.reason] += 1
            yield self._as_it_stands(entry.id)

    def kept(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """What is left of them in the end, with each that stands and has traces in its place, and
        those beyond the limit behind the others.
        """
        for entry in entries:
            if entry.id not in self._coming or isinstance(entry, Problem):
                yield entry
                continue
            if entry.reason.startswith(HELD_OUT):
                self.left_out.append(entry)
            else:
                self.kept_though[entry.reason] += 1
            yield self._as_it_stands(entry.id)
        for problem in self.with_traces():
            if problem.id in self._waited_for:
                beyond = SetAside(id=problem.id, reason=BEYOND, detail="", origin=problem.origin)
                self.left_out.append(beyond)
                yield problem

    def _as_it_stands(self, name: str) -> Problem:
        at = self._stands[name].at
        return next(records_at(self._path, Problem, at, 1))

    def fault(self) -> str | None:
        """Which problem did not come again, and why; None when all of them did. To be asked when
        all rows are `seen`.
        """
        faults = self._faults
        if not self._asks_less:
            missing = sorted(self._waited_for - self._earlier)
            faults = faults | dict.fromkeys(missing, "it does not come any more")
        for name, why in faults.items():
            others = ""
            if len(faults) > 1:
                others = f" (and {len(faults) - 1} more)"
            return f"{name}: {why}{others}"
        return None


def open_grown(folder: Path, identity: Identity, standing: Standing) -> None:
    """Open a folder whose problems have grown. Raises DriftError when one that stands has not come
    again: the folder stays as it is.
    """
    fault = standing.fault()
    before = read_manifest(folder)
    if fault is not None and before is not None:
        changed = changed_keys(before.identity, identity.to_dict())
        drift = drift_message(folder, changed, is_complete=before.status == "complete")
        raise DriftError(f"{drift}\nIt would grow, but {fault}.")
    asked: list[str] = []
    if (folder / PROBLEMS).exists():
        asked.append(asked_in(folder / PROBLEMS))
    open_stage(folder, identity, has_grown=may_have_grown, outputs=asked)
    # What was found between them is looked for anew, or no more.
    for name in (LEAKS, LEAKS_MARKDOWN, NEAR_DUPLICATES):
        (folder / name).unlink(missing_ok=True)


def write_left_out(folder: Path, standing: Standing) -> None:
    """Write which of the problems that stand are left out, and say what else would be set aside."""
    left_out = standing.left_out
    if left_out or (folder / LEFT_OUT).exists():
        write_records(folder / LEFT_OUT, left_out)
    for reason, count in Counter(entry.reason for entry in left_out).items():
        log.warning(
            "%s: %d problems that have traces are left out (%s): the traces stay, no example is "
            "made of them",
            folder,
            count,
            reason,
        )
    for reason, count in standing.kept_though.items():
        log.info("%s: %d problems stay that would be set aside: %s", folder, count, reason)


def _digest(problem: Problem) -> bytes:
    return stable_digest(_from(problem, revision="", row=0).to_json())[:16]


def _from(problem: Problem, *, revision: str, row: int) -> Problem:
    origin = problem.origin.model_copy(update={"revision": revision, "row": row})
    return problem.model_copy(update={"origin": origin})
