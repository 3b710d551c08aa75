"""Are two answers the same? Cheapest layer first; each decision names its layer and its reason.

    decide_cheaply("0.50", "\\\\frac12", policy)   → correct, layer "exact", reason "equal_value"

Layers: `string` (one spelling), `exact` (Fraction), then inside a killable worker `structural`
(shapes, and values at fixed points) and `symbolic` (math-verify with vetoes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from reasondistill.grading.clean import clean, string_key
from reasondistill.grading.policies import Policy
from reasondistill.grading.quantity import read_quantity, same_quantity

Sameness = Literal["correct", "wrong", "undecided"]
LONGEST_ANSWER = 3_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a comparison, the layer that made it and a short stable reason code."""

    outcome: Sameness
    layer: str
    reason: str


# Answers that say nothing: accepted for nothing, themselves included.
_NOTHING = re.compile(
    r"(?:|[?.\-_\s]+|nan|none|null|n/?a|undefined value|\\text\{\s*\}|\{\s*\}?|\[\s*\]|\(\s*\))",
    re.IGNORECASE,
)
_INDETERMINATE = re.compile(
    r"(?:\\frac\s*\{\s*\d+\s*\}\s*\{\s*0+\s*\}|\\frac\s*\d\s*0|\d+\s*/\s*0+)(?![\d.])"
)


# Most answers of word problems are integers: they need none of what follows.
_INTEGER = re.compile(r"\$?([-+]?(?:\d{1,15}|[1-9]\d{0,2}(?:,\d{3}){1,4}))(?:\.0{0,3})?\$?")
_EQUAL, _DIFFERENT = (
    Decision("correct", "exact", "equal_value"),
    Decision("wrong", "exact", "different_value"),
)


@lru_cache(maxsize=8192)
def _integer(answer: str) -> int | None:
    match = _INTEGER.fullmatch(answer.strip()) if len(answer) < 32 else None
    return None if match is None else int(match[1].replace(",", ""))


def decide_cheaply(pred: str, gold: str, policy: Policy) -> Decision | None:
    """Decide by string or exact number; None when a deeper layer must look. Microseconds, never
    raises.
    """
    if (first := _integer(pred)) is not None and (second := _integer(gold)) is not None:
        return _EQUAL if first == second else _DIFFERENT
    if len(pred) > LONGEST_ANSWER or len(gold) > LONGEST_ANSWER:
        same = (
            string_key(pred) == string_key(gold)
            if max(len(pred), len(gold)) < 1_000_000
            else pred == gold
        )
        return (
            Decision("correct", "string", "equal_string")
            if same
            else Decision("undecided", "string", "too_long")
        )
    a, b = clean(pred), clean(gold)
    if is_nothing(a):
        return Decision("wrong", "string", "says_nothing")
    if is_nothing(b):
        return Decision("undecided", "string", "gold_says_nothing")
    if string_key(a) == string_key(b):
        return Decision("correct", "string", "equal_string")
    first, second = read_quantity(a), read_quantity(b)
    if first is None or second is None:
        return None
    same, reason = same_quantity(first, second, policy)
    return Decision("correct" if same else "wrong", "exact", reason)


def is_nothing(cleaned: str) -> bool:
    """Empty, a placeholder, or an undefined value such as 0/0."""
    return (
        _NOTHING.fullmatch(cleaned) is not None
        or _INDETERMINATE.fullmatch(cleaned) is not None
        or is_vacuous(cleaned)
    )


def is_vacuous(cleaned: str) -> bool:
    """`1=1`: an equation between two numbers that says nothing but its own truth."""
    left, equals, right = cleaned.partition("=")
    return (
        bool(equals) and "=" not in right and left.strip() == right.strip() and left.strip() != ""
    )


def decide_deeply(pred: str, gold: str, policy: Policy) -> Decision:
    """Decide what the cheap layers left open. May run long or die: call it in a worker."""
    from reasondistill.grading import compare, imitations

    if policy.engine != "layered":
        return imitations.decide(pred, gold, policy)
    a, b = clean(pred), clean(gold)
    try:
        same = compare.compare(a, b, policy)
    except RecursionError:
        same = None
    if same is not None:
        return Decision(
            "correct" if same else "wrong",
            "structural",
            "equal_parts" if same else "different_parts",
        )
    return _decide_symbolically(a, b)


def _without_common_name(a: str, b: str) -> tuple[str, str]:
    """`F_n = …` beside `F_n = …`: only the right sides are in question."""
    (left_a, equals_a, right_a), (left_b, equals_b, right_b) = a.partition("="), b.partition("=")
    same = equals_a and equals_b and string_key(left_a) == string_key(left_b)
    return (
        (right_a.strip(), right_b.strip())
        if same and not left_a.endswith(("<", ">", "!")) and left_a.count("{") == left_a.count("}")
        else (a, b)
    )


def _decide_symbolically(a: str, b: str) -> Decision:
    from reasondistill.grading import evaluate, symbolic

    a, b = _without_common_name(a, b)
    a, b = symbolic.with_bound_names(a), symbolic.with_bound_names(b)
    for text, whose in ((b, "gold"), (a, "answer")):
        if (name := symbolic.bomb(text)) is not None:
            return Decision("undecided", "static", f"{whose}_{name}")
    if evaluate.too_large(a, b):
        return Decision("undecided", "static", "too_large")
    if not symbolic.parsed(b):
        return Decision("undecided", "symbolic", "gold_unparsed")
    if (veto := symbolic.veto(a, b)) is not None:
        return Decision("wrong", "symbolic", veto)
    a, b = sorted((a, b))  # what takes long in one order only must not depend on who said what
    if symbolic.same(a, b):
        return Decision("correct", "symbolic", "math_verify")
    if (evaluated := symbolic.same_evaluated(a, b)) is not None:
        return Decision("correct" if evaluated else "wrong", "symbolic", "evaluated")
    unevaluated = symbolic.binds(a) or symbolic.binds(b)
    return (
        Decision("undecided", "symbolic", "not_evaluated")
        if unevaluated
        else Decision("wrong", "symbolic", "math_verify")
    )


def decide(pred: str, gold: str, policy: Policy) -> Decision:
    """All layers, in this process."""
    return decide_cheaply(pred, gold, policy) or decide_deeply(pred, gold, policy)
