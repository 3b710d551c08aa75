"""How much of each group of examples a student is trained on: `[examples.mixture]`.

    mixer = Mixer(settings, seed=0)
    mixer.see(problem, trace)                         # each example that is trained on
    mixed = mixer.mixed()
    mixed.copies["gsm8k/train/12:3"], mixed.groups    # 2 times, and what became of each group

Shares are of generated tokens. A group that has more than its share loses examples, one that has
less has some of them several times. Which ones is decided by a hash of `seed` and trace id: a group
is taken in this order until the next example would bring it no nearer to its share.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reasondistill.config import MixtureSettings
from reasondistill.curation.difficulty import band_of
from reasondistill.errors import StageError
from reasondistill.hashing import stable_share
from reasondistill.records import Example, Problem, Trace
from reasondistill.runs.figures import MixedGroup
from reasondistill.sections import listed

log = logging.getLogger(__name__)

UNTAGGED = "untagged"
# Who wrote a published trace that does not say it.
UNNAMED = "unknown"
BEYOND_SHARE = "mixture: beyond the share of its group"
NO_WEIGHT = "mixture: its group has no weight"
# By how much a group's share of the tokens may miss what was asked without a word.
_TOLD_BEYOND = 0.01


@dataclass(frozen=True)
class Part:
    """An example as the mixture sees it."""

    trace_id: str
    tokens: int
    writer: str


@dataclass(frozen=True)
class Mixed:
    """How often each example is trained on, by its trace's id, and why each of the others is not.
    `groups` says what became of each group, in the order of the settings; `lost` counts the reasons
    by who wrote the traces.
    """

    copies: Mapping[str, int]
    reasons: Mapping[str, str]
    groups: tuple[MixedGroup, ...]
    lost: Mapping[str, Counter[str]]

    def of(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples that are left, each with its copies; those to validate on as they are."""
        for example in examples:
            name = example.trace_id or example.id
            if example.split == "train" and name in self.copies:
                yield example.model_copy(update={"copies": self.copies[name]})
            elif name not in self.reasons:
                yield example


def group_of(
    problem: Problem, trace: Trace, settings: MixtureSettings, rate: float | None = None
) -> str:
    """The group of an example: the name of a source or tag, a teacher without its revision, `short`
    or `long`, or how often the teacher solved the problem, whose pass rate is `rate`.
    """
    match settings.by:
        case "source":
            return problem.origin.source or problem.origin.dataset
        case "tag":
            return problem.origin.tag or UNTAGGED
        case "teacher":
            if trace.published is not None:
                return trace.published.teacher or UNNAMED
            return trace.model.partition("@")[0]
        case "length":
            if trace.completion.tokens <= settings.short_tokens:
                return "short"
            return "long"
        case "difficulty":
            return band_of(rate)


class Mixer:
    """Sees the examples that are trained on; memory is that of their names."""

    def __init__(self, settings: MixtureSettings, *, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._groups: dict[str, list[Part]] = defaultdict(list)

    def see(self, problem: Problem, trace: Trace, rate: float | None = None) -> None:
        """`rate` is the teacher's pass rate on the problem."""
        part = Part(trace.id, trace.completion.tokens, sys.intern(trace.teacher))
        self._groups[group_of(problem, trace, self._settings, rate)].append(part)

    def mixed(self) -> Mixed:
        """The mixture of what was seen. Raises StageError where a group that has a weight has no
        example, or none that fits its share, or would need more copies than are allowed.
        """
        weights = self._settings.weights
        tokens: dict[str, int] = {}
        for name in weights:
            tokens[name] = sum(part.tokens for part in self._groups[name])
        missing = [name for name in weights if not tokens[name]]
        if missing:
            there = listed(name for name, parts in self._groups.items() if parts)
            raise StageError(
                f"[examples.mixture] by = {self._settings.by!r}: no example of {missing[0]!r} to "
                f"give a share to. There are: {there}."
            )
        total_weight = sum(weights.values())
        shares = {name: weight / total_weight for name, weight in weights.items()}
        whole = self._settings.tokens
        if whole is None:
            # As much as there is without any copy.
            whole = int(min(tokens[name] / shares[name] for name in weights))
        copies: dict[str, int] = {}
        groups: list[MixedGroup] = []
        for name in weights:
            wanted = shares[name] * whole
            most = self._settings.most_copies
            if wanted > most * tokens[name]:
                raise StageError(
                    f"[examples.mixture] {name!r}: its examples have {tokens[name]:,} tokens, and "
                    f"its share is {wanted:,.0f}: more than most_copies = {most} times as many. "
                    "Lower tokens or its weight, or raise most_copies."
                )
            taken = self._taken(self._groups[name], wanted, tokens[name])
            if not taken:
                raise StageError(
                    f"[examples.mixture] {name!r}: its share is {wanted:,.0f} tokens, to which its "
                    "examples, taken whole, come no nearer than none of them does. Raise tokens or "
                    "its weight, or leave it out of weights."
                )
            copies |= taken
            of_group = {part.trace_id: part.tokens for part in self._groups[name]}
            groups.append(
                MixedGroup(
                    name=name,
                    weight=weights[name],
                    examples=len(of_group),
                    tokens=tokens[name],
                    rows=sum(taken.values()),
                    mixed_tokens=sum(of_group[one] * times for one, times in taken.items()),
                    left_out=len(of_group) - len(taken),
                )
            )
        _tell_missed(groups, shares)
        reasons: dict[str, str] = {}
        lost: dict[str, Counter[str]] = {}
        for name, parts in self._groups.items():
            reason = NO_WEIGHT
            if name in weights:
                reason = BEYOND_SHARE
            for part in parts:
                if part.trace_id not in copies:
                    reasons[part.trace_id] = reason
                    lost.setdefault(part.writer, Counter())[reason] += 1
        return Mixed(copies, reasons, tuple(groups), lost)

    def _taken(self, parts: Sequence[Part], wanted: float, tokens: int) -> dict[str, int]:
        """How often each of these is taken, to be as near to the wanted tokens as whole examples
        in their order come.
        """
        whole_rounds = int(wanted // tokens)
        rest = wanted - whole_rounds * tokens
        order = sorted(parts, key=lambda part: stable_share(f"{self._seed}:mix:{part.trace_id}"))
        taken: dict[str, int] = {}
        if whole_rounds:
            taken = {part.trace_id: whole_rounds for part in order}
        for part in order:
            if part.tokens >= 2 * rest:
                break
            taken[part.trace_id] = whole_rounds + 1
            rest -= part.tokens
        return taken


def _tell_missed(groups: Sequence[MixedGroup], shares: Mapping[str, float]) -> None:
    """Say which groups have another share of the tokens than was asked: examples are whole."""
    whole = max(1, sum(group.mixed_tokens for group in groups))
    for group in groups:
        reached = group.mixed_tokens / whole
        if abs(reached - shares[group.name]) > _TOLD_BEYOND:
            log.warning(
                "[examples.mixture] %r has %.1f %% of the tokens, and %.1f %% were asked for: "
                "whole examples come no nearer",
                group.name,
                100 * reached,
                100 * shares[group.name],
            )
