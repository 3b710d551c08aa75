"""Which of one problem's traces become examples: the filters, each text once, then `select`.

    choice = ProblemChoice(pipeline.examples)
    for pair in pairs:
        choice.see(Candidate(pair.trace, pair.verdict, render_assistant(pair.trace.completion)))
    choice.chosen(), choice.passed_over()

`see` gives the reason why a trace is dropped, `passed_over` the usable traces that are not
selected. The examples stage and the forecast both decide with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters.earlier import EarlierTraces
from reasondistill.curation.filters.registry import Candidate, DropReason, active_filters
from reasondistill.hashing import stable_digest, stable_share


@dataclass(frozen=True)
class Usable:
    """The parts of a usable trace that `select` needs."""

    trace_id: str
    tokens: int
    sample: int
    prompt_tokens: int = 0

    @property
    def row_tokens(self) -> int:
        """The tokens of the training row: prompt and completion."""
        return self.prompt_tokens + self.tokens


class ProblemChoice:
    """Decides about the traces of one problem, which it sees one after the other.

    Memory is that of the usable ones' names and lengths, whatever the length of the texts, and
    where `near_duplicates` is on, 4 bytes a word until they are forgotten.
    """

    def __init__(
        self, examples: ExampleSettings, filters: Sequence[DropReason] | None = None
    ) -> None:
        self.usable: list[Usable] = []
        self._examples = examples
        self._filters = active_filters(examples) if filters is None else filters
        self._texts: set[bytes] = set()
        self._earlier = EarlierTraces()

    def see(self, candidate: Candidate) -> str | None:
        """The first reason to drop the candidate; a usable one is remembered, and the reason is
        None.
        """
        reason = self._drop_reason(candidate)
        if reason is None:
            self._earlier.keep()
            trace, completion = candidate.trace, candidate.trace.completion
            self.usable.append(
                Usable(trace.id, completion.tokens, trace.sample, completion.prompt_tokens)
            )
        return reason

    def _drop_reason(self, candidate: Candidate) -> str | None:
        text = stable_digest(candidate.text)
        is_known = text in self._texts
        if not is_known:
            candidate = replace(candidate, earlier=self._earlier)
        for drop_reason in self._filters:
            reason = drop_reason(candidate)
            if reason is not None:
                return reason
        if is_known:
            return "duplicate text"
        self._texts.add(text)
        return None

    def forget(self) -> None:
        """No further trace comes that would be compared with these."""
        self._earlier.forget()

    def chosen(self) -> list[Usable]:
        """The traces that become examples."""
        return choose(self.usable, self._examples)

    def passed_over(self) -> list[str]:
        """The ids of the usable traces that do not."""
        chosen = {one.trace_id for one in self.chosen()}
        return [one.trace_id for one in self.usable if one.trace_id not in chosen]


def choose(usable: Sequence[Usable], examples: ExampleSettings) -> list[Usable]:
    """The `k` traces of one problem that `select` chooses. Ties and random choices are decided by a
    hash of seed and trace id.
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
