"""Is this completion right? A call shaped like math-verify's that never hangs.

    verify("\\\\frac12", "The answer is $0.5$.")        # True
    verify(["34", "68/2"], "\\\\boxed{35}")             # False
    verify("\\\\int_0^1 x^x dx", "\\\\boxed{0.78}")     # None: it could not be decided

Both are texts, the gold answer first; there is nothing to parse before. What may run long is
decided in worker processes that are killed at the deadline, so it works in any thread, in a process
that holds an engine, and in one that was forked. The workers are shared by all callers of a
process, are started by the first call that needs one and end with the process.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Sequence
from typing import cast

from reasondistill.grading.read.golds import alternatives
from reasondistill.grading.serve.items import GradeItem
from reasondistill.grading.serve.pool import GradingPool
from reasondistill.records import Grade

DEADLINE_S = 5.0
Text = str | int | float
Gold = Text | Sequence[Text] | None


def verify(
    gold: Gold,
    target: Text | None,
    *,
    timeout_seconds: float | None = DEADLINE_S,
    policy: str = "default",
) -> bool | None:
    """Whether a model's text answers what the gold says; None where nobody can tell.

    `gold` is a text, a number, or a list of alternatives, one of which must be answered; None when
    a row has none. `target` is what the model wrote, whole or only its answer. A text without an
    answer is False. `timeout_seconds` is for each comparison, and None is the default: there is
    always a deadline. Raises TypeError for what is neither text nor number, such as the output of
    `math_verify.parse`, and ConfigError for an unknown policy.
    """
    (grade,) = grade_pairs([gold], [target], timeout_seconds=timeout_seconds, policy=policy)
    return as_bool(grade)


def as_bool(grade: Grade) -> bool | None:
    """True, False, or None for undecided; an answer that is missing or cut off is False."""
    if grade.outcome == "undecided":
        return None
    return grade.is_correct


def grade_pairs(
    golds: Sequence[Gold],
    targets: Sequence[Text | None],
    *,
    timeout_seconds: float | None = DEADLINE_S,
    policy: str = "default",
) -> list[Grade]:
    """The grade of each pair, in order, by all workers at once; see `verify`. Raises ValueError
    when there are not as many golds as targets.
    """
    items: list[GradeItem] = []
    for gold, target in zip(golds, targets, strict=True):
        answer = ""
        if target is not None:
            answer = _text(target, "target")
        items.append(GradeItem("", answer, gold_text(gold)))
    graded = shared_pool().grade_many(
        items, policy=policy, deadline_s=timeout_seconds or DEADLINE_S
    )
    return [grade for _, grade in graded]


def gold_text(gold: Gold) -> str:
    """A gold as a file of answers holds it: alternatives as a list of texts in JSON."""
    plain = as_plain(gold)
    if plain is None:
        return ""
    if not isinstance(plain, list | tuple):
        return _text(plain, "gold")
    texts = [_text(alternative, "gold") for alternative in cast(Sequence[object], plain)]
    if not texts:
        return ""
    written = json.dumps(texts)
    if alternatives(written) != tuple(texts):
        raise ValueError(f"gold: a list of {len(written):,} characters is too long to be read.")
    return written


def as_plain(value: object) -> object:
    """What numpy holds (parquet files give such golds) as a list or a number of Python."""
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        return value
    return to_list()


def _text(value: object, name: str) -> str:
    """A text as it is, and a number as it is written."""
    plain = as_plain(value)
    if isinstance(plain, bool) or not isinstance(plain, str | int | float):
        raise _type_error(name, value)
    return str(plain)


def _type_error(name: str, value: object) -> TypeError:
    kind = type(value).__name__
    return TypeError(
        f"{name}: this is a {kind}. Give a text or a number, as it is: `verify` reads answers "
        "itself, and takes nothing that was parsed."
    )


class _Shared:
    """The pool of this process, once somebody needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: GradingPool | None = None

    def pool(self) -> GradingPool:
        with self._lock:
            if self._pool is None:
                self._pool = GradingPool()
            return self._pool

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    def reset_after_fork(self) -> None:
        """The workers are the parent's. Another thread of the parent may have held the lock."""
        if self._pool is not None:
            self._pool.leave_to_parent()
        self._lock = threading.Lock()
        self._pool = None


_shared = _Shared()
atexit.register(_shared.close)
os.register_at_fork(after_in_child=_shared.reset_after_fork)


def shared_pool() -> GradingPool:
    """The pool that all callers in this process share; started when it is first asked for."""
    return _shared.pool()
