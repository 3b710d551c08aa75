"""Which samples a run draws whose problems are drawn until enough of them are correct.

    rule = Rule(accepted=2, first=4, candidates=16)
    plan = plan_rounds(rule, ["a", "b"], known, most_tokens=4096)
    plan.missing            # {"a": (4, 5)}: to be drawn now; empty when all have ended
    plan.endings            # then: why each problem has ended, and how many of its samples are kept

A plan is a function of the samples, and of nothing else: not of the order in which they came, not
of who drew them. A sample's seed follows from its problem and number, so what a later look finds
drawn is what it would have drawn itself. That makes the order of the work free:

* A problem's rounds follow from its own samples alone: the first, then as many as are needed if it
  goes on as it has begun, at most doubling what there is. So each of several workers takes the
  problems that it has claimed to their end, and none waits for another.
* The budget is spent round by round: the first rounds of all problems in their order, then problem
  by problem the other rounds. No round begins when the tokens of those before it have reached the
  budget. Who draws knows those tokens in part; for the rest a guess stands in (the mean so far,
  with caution), so that many are drawn at once. What a guess has drawn too much is trimmed, what it
  left out is drawn by who closes the stage: in the end no guess is left in the plan, and it is the
  same one.
* Of an accepted problem the samples up to its last wanted correct one are kept, as if they had been
  drawn one by one. How large the rounds were does not show in the traces.

A sample that failed counts as one without tokens that is not correct; so does one that the rules
cannot decide, whatever a judge may say of it later.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from reasondistill.records import Ending, EndOfDrawing


@dataclass(frozen=True)
class Rule:
    """When a problem has enough samples; see `[traces] accepted`."""

    accepted: int
    first: int
    candidates: int
    budget_tokens: int | None = None

    def next_round(self, drawn: int, correct: int) -> int:
        """How many samples are drawn next of a problem of which so many were; 0 at its end.

        >>> Rule(accepted=3, first=4, candidates=16).next_round(drawn=4, correct=2)
        2
        """
        if drawn == 0:
            return self.first
        if correct == 0 or correct >= self.accepted:
            return 0
        needed = math.ceil((self.accepted - correct) * drawn / correct)
        return min(needed, drawn, self.candidates - drawn)


@dataclass(frozen=True, slots=True)
class Sample:
    """What counts of a sample that was drawn."""

    tokens: int
    is_correct: bool


# Of each problem by its id, its samples by their numbers.
Known = Mapping[str, Mapping[int, Sample]]


@dataclass(frozen=True)
class Plan:
    """The samples that are `missing`, by problem; `endings` are true once none is."""

    missing: dict[str, tuple[int, ...]]
    endings: tuple[Ending, ...]


def plan_rounds(
    rule: Rule,
    problems: Sequence[str],
    known: Known,
    *,
    most_tokens: int,
    mine: Container[str] | None = None,
) -> Plan:
    """What is to be drawn now, and how each problem has ended if that is nothing.

    `most_tokens` is what a sample may take, the guess where none is known. Of problems that are not
    `mine` somebody else draws what is missing.
    """
    purse = _Purse(rule.budget_tokens, _guess(known, most_tokens, weight=rule.first))
    walks = [_Walk(rule, problem_id, known.get(problem_id, {})) for problem_id in problems]
    for walk in walks:
        walk.goes_on(purse)
    for walk in walks:
        if walk.missing:
            purse.pay_for_another()
            continue
        before = purse.spent
        while walk.goes_on(purse):
            pass
        if not walk.missing:
            purse.see_rest(purse.spent - before)
    missing: dict[str, tuple[int, ...]] = {}
    for walk in walks:
        if walk.missing and (mine is None or walk.problem_id in mine):
            missing[walk.problem_id] = walk.missing
    return Plan(missing, tuple(walk.ending() for walk in walks))


def _guess(known: Known, most_tokens: int, *, weight: int) -> float:
    """The tokens of a sample that nobody knows: the mean of those that are known, as if so many
    more had taken the most. So a first problem that is short, or whose samples failed, does not let
    all others begin.
    """
    count, tokens = weight, weight * most_tokens
    for samples in known.values():
        for sample in samples.values():
            if sample.tokens:
                count += 1
                tokens += sample.tokens
    return tokens / count


@dataclass
class _Purse:
    """What is left of the budget. `guess` are the tokens of a sample that nobody knows."""

    budget: int | None
    guess: float
    spent: float = 0.0
    # The tokens behind the first rounds of so many problems whose end is known.
    _rest: float = 0.0
    _ended: int = 0

    @property
    def is_empty(self) -> bool:
        return self.budget is not None and self.spent >= self.budget

    def pay(self, tokens: int, unknown: int) -> None:
        """For samples of so many tokens in all, and `unknown` ones."""
        self.spent += tokens + unknown * self.guess

    def see_rest(self, tokens: float) -> None:
        """What the other rounds of a problem took."""
        self._rest += tokens
        self._ended += 1

    def pay_for_another(self) -> None:
        """For the other rounds of a problem whose first one is not known."""
        if self._ended:
            self.spent += self._rest / self._ended


@dataclass
class _Walk:
    """How far a problem is, round by round."""

    rule: Rule
    problem_id: str
    known: Mapping[int, Sample]
    drawn: int = 0
    # How many samples stand up to each correct one, itself included.
    correct_at: list[int] = field(default_factory=list[int])
    missing: tuple[int, ...] = ()
    is_cut: bool = False

    def goes_on(self, purse: _Purse) -> bool:
        """Take the next round; False where it is the end, or samples of it are missing."""
        if self.missing or self.is_cut:
            return False
        size = self.rule.next_round(self.drawn, len(self.correct_at))
        if size == 0:
            return False
        if purse.is_empty:
            self.is_cut = True
            return False
        numbers = range(self.drawn, self.drawn + size)
        samples = {number: self.known[number] for number in numbers if number in self.known}
        self.missing = tuple(number for number in numbers if number not in samples)
        tokens = sum(sample.tokens for sample in samples.values())
        purse.pay(tokens, unknown=len(self.missing))
        if self.missing:
            return False
        self.drawn += size
        self.correct_at += [number + 1 for number, one in samples.items() if one.is_correct]
        return True

    def ending(self) -> Ending:
        accepted = self.rule.accepted
        kept = self.drawn
        if len(self.correct_at) >= accepted:
            kept = self.correct_at[accepted - 1]
        return Ending(
            problem_id=self.problem_id,
            reason=self._reason(),
            drawn=self.drawn,
            kept=kept,
            correct=min(len(self.correct_at), accepted),
        )

    def _reason(self) -> EndOfDrawing:
        if len(self.correct_at) >= self.rule.accepted:
            return "accepted"
        if self.is_cut:
            return "budget"
        if not self.correct_at:
            return "hopeless"
        return "exhausted"
