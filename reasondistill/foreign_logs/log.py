"""A log that another tool wrote of an eval: what was asked, what was answered, what it took for
right.

    for row in log.rows():
        row.problem, row.marks["exact_match,strict-match"]     # "12", Mark(right=1, samples=1)

What a tool decided is taken as it stands. A score that is neither right nor wrong (0.37 of an F1)
has no reading here.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from reasondistill.records import Finish

# A share of right samples is written in so many digits.
_CLOSE = 1e-6
# Names of metrics that tools give have some twenty characters.
LONGEST_METRIC = 200


@dataclass(frozen=True)
class Mark:
    """How many of the samples of a row are right."""

    right: int
    samples: int = 1


@dataclass(frozen=True)
class LoggedRow:
    """One problem of a log with one sample, or with several of which only the sum is known.

    `problem` is what the tool calls it, `asked` a hash of all that it asked and of the answer that
    is wanted. `marks` has what it decided, by metric: None where it decided nothing, a text where
    its score is neither right nor wrong. `lost` says why the sample has no score at all. `texts`
    are the answers as written, None where the model wrote none (log-probabilities of choices);
    `taken` is what the tool took for the answer.
    """

    where: str
    problem: str
    sample: int
    asked: str
    question: str
    gold: str
    marks: Mapping[str, Mark | str | None]
    texts: tuple[str, ...] | None = None
    taken: str | None = None
    finish: Finish = "stop"
    lost: str | None = None


@dataclass(frozen=True)
class Stated:
    """What a log, or the file of results beside it, says of the whole: how many problems and rows
    there are, the mean by metric, and metrics that are better when they are low (these without the
    filter behind a comma).
    """

    problems: int | None = None
    rows: int | None = None
    means: Mapping[str, float] = field(default_factory=dict[str, float])
    low_is_better: frozenset[str] = frozenset()


class Log(ABC):
    """A log of one model on one benchmark."""

    tool: ClassVar[str]
    path: Path
    benchmark: str
    model: str | None

    @abstractmethod
    def rows(self) -> Iterator[LoggedRow]:
        """All rows in the order of the file. Raises DataError, naming file and place."""

    @abstractmethod
    def stated(self) -> Stated:
        """What it says of itself."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What the scores depend on, as far as the log says it."""


def mark_of(value: Any, samples: int = 1) -> Mark | str | None:
    """A score as the number of right ones among so many samples: 1, 0, true and false, and with
    several samples their mean. None for no score, a text for what is none of these.
    """
    if value is None:
        return None
    if isinstance(value, (bool, int, float, Decimal)):
        try:
            share = float(value)
        except OverflowError:
            return "a number beyond all bounds"
        if math.isnan(share):
            return None
        right = share * samples
        if 0 <= right <= samples and abs(right - round(right)) < _CLOSE * samples:
            return Mark(round(right), samples)
        return f"{share:g} is no share of right ones of {samples}"
    return f"a {type(value).__name__}, not right or wrong"


def gold_text(golds: Sequence[str]) -> str:
    """One answer as it is; several, any of which is right, as a list that the grader reads so. Of
    GSM8K's solutions what follows the last ####.
    """
    answers = [gold.rpartition(_MARK)[2].strip() for gold in golds]
    if len(answers) == 1:
        return answers[0]
    return json.dumps(answers, ensure_ascii=False)


_MARK = "####"
