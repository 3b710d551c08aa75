"""Going on in the middle of samples: what of a folder is begun, and what that means for the traces
that stand in it.

A stop keeps all that is in flight, so what goes on is a valid draw: the rest of each sample is
drawn behind its own beginning, by chance that nothing has depended on. After a kill that is true
only of the last `keep` as a whole. A sample that was in flight then and has finished since was
quick; one that has not is drawn on from there and gets a second chance to be quick. To keep the
first as they are would make short samples too frequent. So `go_back` takes them out again, and they
are drawn on from the same place as the others: a kill costs half a minute of everybody's work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reasondistill.records import Begun, Trace
from reasondistill.runs import layout
from reasondistill.runs.samples import read_samples
from reasondistill.runs.store import drop_lines, drop_rows
from reasondistill.runs.unfinished import Kept, UnfinishedFile
from reasondistill.stages.traces.on_disk import is_failed

log = logging.getLogger(__name__)


class Unfinished:
    """What is begun of a stage's samples: earlier sessions have left it, and this one adds to it.

    `target` is where this process keeps it. One of several workers leaves to the others what it has
    not taken up itself (`is_shared`): that stays where it was found.
    """

    def __init__(
        self, target: Path, begun: Mapping[str, Begun] | None = None, *, is_shared: bool = False
    ) -> None:
        self._begun = dict(begun or {})
        self._is_shared = is_shared
        self._file = UnfinishedFile(target)
        self.kept = Kept()

    def find(self, trace_id: str, key: str) -> Begun | None:
        """What is begun of this very sample; of one with another key it is of no use."""
        begun = self._begun.get(trace_id)
        if begun is None or begun.key != key:
            return None
        return begun

    def holds(self, trace_ids: Iterable[str]) -> bool:
        """Whether any of these is begun."""
        return not self._begun.keys().isdisjoint(trace_ids)

    def end(self, trace: Trace) -> None:
        """A trace has come; one that the service lost may still go on from what was there."""
        if not trace.completion.is_lost:
            self._begun.pop(trace.id, None)

    def with_those(self, in_flight: Sequence[Begun]) -> Snapshot:
        """All that is begun, those in flight as they are now."""
        drawn = sum(_drawn_now(one) for one in in_flight if self._begun.get(one.id) is not one)
        now = {one.id: one for one in in_flight}
        if not self._is_shared:
            now = self._begun | now
        return Snapshot(list(now.values()), drawn)

    def write(self, snapshot: Snapshot) -> None:
        """Put it on the disk, in the place of what was kept before. Raises StageError."""
        self.kept = self._file.write(snapshot.begun)


class Snapshot:
    """What is begun at a moment. `drawn_now` counts the tokens that came in this session."""

    def __init__(self, begun: Sequence[Begun], drawn_now: int) -> None:
        self.begun, self.drawn_now = begun, drawn_now


def _drawn_now(begun: Begun) -> int:
    """The tokens behind the last place where it was continued."""
    *_, last = (0, *begun.continued_at)
    return len(begun.token_ids) - last


def go_back(folder: Path, begun: Mapping[str, Begun]) -> None:
    """Take the traces out of a folder that were in flight when these beginnings were kept, have
    finished since, and were not drawn on from them; and their top K. Only a kill leaves such.
    """
    path = folder / layout.TRACES
    if not begun or not path.exists():
        return
    passed = {row["id"] for row in read_samples(path) if _has_passed(row, begun)}
    if not passed:
        return
    log.info(
        "%s: %d samples that finished in the last half minute before a kill are drawn on from what "
        "was kept then, as all others are",
        folder,
        len(passed),
    )
    index = folder / layout.TOPK / layout.TOPK_INDEX
    if index.exists():
        drop_lines(index, passed, key="trace_id")
    drop_rows(path, lambda row: _has_passed(row, begun))


def _has_passed(row: Mapping[str, Any], begun: Mapping[str, Begun]) -> bool:
    """Whether a trace went on beyond the beginning that was kept of it, without being continued
    there.
    """
    kept = begun.get(row["id"])
    if kept is None or kept.key != row.get("key") or is_failed(row["completion"]):
        return False
    places = list(kept.next_continued_at)
    continued_at: Sequence[int] = row["completion"].get("continued_at", ())
    return list(continued_at[: len(places)]) != places
