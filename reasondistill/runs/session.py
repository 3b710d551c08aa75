"""How one process does its part of a stage: which part, what of the folder stays, when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from reasondistill.runs.store import StopSignal
from reasondistill.runs.work_sharing import Share


@dataclass(frozen=True)
class Session:
    """One process at one stage; by itself it does all of it alone.

    `share` is its part of a stage that several processes fill: it opens the folder for workers, is
    one of them, or closes it. With `keep_old` what stands stays although it was made from other
    settings. Without `heal` what failed and is allowed to is not tried again. `stop` asks it to
    end.
    """

    share: Share | None = None
    stop: StopSignal | None = None
    keep_old: bool = False
    heal: bool = True


# All of a stage, by one process that nobody stops.
ALONE = Session()
