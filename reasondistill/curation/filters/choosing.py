"""Which of one problem's traces become examples: the filters, each text once, then `select`.

    choice = ProblemChoice(pipeline.examples)
    for pair in pairs:
        choice.see(Candidate(pair.trace, pair.verdict, render_assistant(pair.trace.completion)))
    choice.reasons()                                 # {"gsm8k/train/12:3": "outcome wrong"}

The examples stage and the forecast decide by this rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.registry import Candidate, DropReason, active_filters
from reasondistill.hashing import stable_digest, stable_share


@dataclass(frozen=True)
class Usable:
    """What `select` looks at of a trace that passed the filters."""

    trace_id: str
    tokens: int
    sample: int


class ProblemChoice:
    """Decides about the traces of one problem, which are shown to it one after the other.

    Memory is that of the usable ones' names and lengths, whatever the length of the texts.
    """

    def __init__(
        self, examples: ExampleSettings, filters: Sequence[DropReason] | None = None
    ) -> None:
        self.usable: list[Usable] = []
        self._examples = examples
        self._filters = active_filters(examples) if filters is None else filters
        self._texts: set[bytes] = set()
        self._reasons: dict[str, str] = {}

    def see(self, candidate: Candidate) -> None:
        """Note the candidate: its first reason to be dropped, or that it is usable."""
        trace = candidate.trace
        reason = self._drop_reason(candidate)
        if reason is not None:
            self._reasons[trace.id] = reason
        else:
            self.usable.append(Usable(trace.id, trace.completion.tokens, trace.sample))

    def _drop_reason(self, candidate: Candidate) -> str | None:
        for drop_reason in self._filters:
            reason = drop_reason(candidate)
            if reason is not None:
                return reason
        text = stable_digest(candidate.text)
        if text in self._texts:
            return "duplicate text"
        self._texts.add(text)
        return None

    def chosen(self) -> list[Usable]:
        """Those that become examples."""
        return choose(self.usable, self._examples)

    def reasons(self) -> dict[str, str]:
        """Why the others do not, by the id of the trace."""
        chosen = {one.trace_id for one in self.chosen()}
        passed_over = [one.trace_id for one in self.usable if one.trace_id not in chosen]
        return self._reasons | dict.fromkeys(passed_over, "not selected")


def choose(usable: Sequence[Usable], examples: ExampleSettings) -> list[Usable]:
    """The `k` traces of one problem that `select` means. Ties and chance are settled by a hash of
    seed and trace id.
    """

    def by_chance(one: Usable) -> float:
        return stable_share(f"{examples.seed}:{one.trace_id}", size=6)

    orders: dict[str, Callable[[Usable], Any]] = {
        "shortest": lambda one: (one.tokens, by_chance(one)),
        "longest": lambda one: (-one.tokens, by_chance(one)),
        "random": by_chance,
        "first": lambda one: one.sample,
    }
    if examples.select == "all":
        return list(usable)
    return sorted(usable, key=orders[examples.select])[: examples.k]
