"""Are two answers the same? Cheapest layer first; each decision names its layer and its reason.

    decide_cheaply("0.50", "\\\\frac12", policy)   → correct, layer "exact", reason "equal_value"

Layers: `string` (one spelling), `exact` (Fraction), then inside a killable worker `structural`
(shapes, and values at fixed points) and `symbolic` (math-verify with vetoes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from reasondistill.grading.decide.decision import OPEN, SAME, Decision, best_of
from reasondistill.grading.decide.quantities import DIFFERENT_VALUE, EQUAL_VALUE, same_quantity
from reasondistill.grading.policies import Policy, find_policy
from reasondistill.grading.read.clean import clean, string_key
from reasondistill.grading.read.quantity import read_quantity

LONGEST_ANSWER = 3_000

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


@lru_cache(maxsize=8192)
def _integer(answer: str) -> int | None:
    if len(answer) >= 32:
        return None
    match = _INTEGER.fullmatch(answer.strip())
    if match is None:
        return None
    return int(match[1].replace(",", ""))


def decide_cheaply(pred: str, gold: str, policy: Policy) -> Decision:
    """Decide by string or exact number; open when a deeper layer must look. Microseconds, never
    raises.
    """
    whole_pred = _integer(pred)
    if whole_pred is not None:
        whole_gold = _integer(gold)
        if whole_gold is not None:
            if whole_pred == whole_gold:
                return EQUAL_VALUE
            return DIFFERENT_VALUE
    if len(pred) > LONGEST_ANSWER or len(gold) > LONGEST_ANSWER:
        return decide_long(pred, gold)
    a = clean(pred)
    b = clean(gold)
    if is_nothing(a):
        return Decision("wrong", "string", "says_nothing")
    if is_nothing(b):
        return Decision("undecided", "string", "gold_says_nothing")
    if string_key(a) == string_key(b):
        return Decision("correct", "string", "equal_string")
    first = read_quantity(a)
    second = read_quantity(b)
    if first is None or second is None:
        return OPEN
    return same_quantity(first, second, policy)


def decide_long(pred: str, gold: str) -> Decision:
    """Answers beyond `LONGEST_ANSWER` are equal as strings, or undecided."""
    if max(len(pred), len(gold)) < 1_000_000:
        same = string_key(pred) == string_key(gold)
    else:
        same = pred == gold
    if same:
        return Decision("correct", "string", "equal_string")
    return Decision("undecided", "string", "too_long")


def is_nothing(cleaned: str) -> bool:
    """Empty, a placeholder, or an undefined value such as 0/0."""
    if _NOTHING.fullmatch(cleaned) or _INDETERMINATE.fullmatch(cleaned):
        return True
    return is_vacuous(cleaned)


def is_vacuous(cleaned: str) -> bool:
    """`1=1`: an equation between two numbers that says nothing but its own truth."""
    left, equals, right = cleaned.partition("=")
    if not equals or "=" in right:
        return False
    return left.strip() == right.strip() != ""


def decide_deeply(pred: str, gold: str, policy: Policy) -> Decision:
    """Decide what the cheap layers left open. May run long or die: call it in a worker."""
    decision = decide_structurally(pred, gold, policy)
    if decision.is_open:
        return decide_symbolically(pred, gold, policy)
    return decision


def decide_structurally(pred: str, gold: str, policy: Policy) -> Decision:
    """Compare shapes, and values at fixed points; open where only algebra, or the grader that a
    policy imitates, can tell. Needs no sympy.
    """
    from reasondistill.grading.decide import compare

    if policy.engine != "layered":
        return OPEN
    try:
        by_parts = compare.compare(clean(pred), clean(gold), policy)
    except RecursionError:
        return OPEN
    if by_parts.is_open:
        return OPEN
    if by_parts.is_correct:
        return SAME
    return Decision(by_parts.outcome, SAME.layer, by_parts.reason)


def without_common_name(a: str, b: str) -> tuple[str, str]:
    """`F_n = …` beside `F_n = …`: only the right sides are in question."""
    left_a, equals_a, right_a = a.partition("=")
    left_b, equals_b, right_b = b.partition("=")
    if not equals_a or not equals_b or string_key(left_a) != string_key(left_b):
        return a, b
    if left_a.endswith(("<", ">", "!")) or left_a.count("{") != left_a.count("}"):
        return a, b
    return right_a.strip(), right_b.strip()


def decide_symbolically(pred: str, gold: str, policy: Policy) -> Decision:
    """The last layer: math-verify on two cleaned answers, behind checks of their size; or the
    grader that a policy imitates.
    """
    from reasondistill.grading.decide import evaluate, imitations, symbolic

    if policy.engine != "layered":
        if imitations.are_same(pred, gold, policy.engine):
            return Decision("correct", policy.engine, "imitation")
        return Decision("wrong", policy.engine, "imitation")
    a, b = without_common_name(clean(pred), clean(gold))
    a = symbolic.with_bound_names(a)
    b = symbolic.with_bound_names(b)
    for text, whose in ((b, "gold"), (a, "answer")):
        unread = symbolic.unread(text)
        if unread is not None:
            return Decision("undecided", "static", f"{whose}_{unread}")
        name = symbolic.bomb(text)
        if name is not None:
            return Decision("undecided", "static", f"{whose}_{name}")
    if evaluate.too_large(a, b):
        return Decision("undecided", "static", "too_large")
    if not symbolic.parsed(b):
        return Decision("undecided", "symbolic", "gold_unparsed")
    veto = symbolic.veto(a, b)
    if veto is not None:
        return Decision("wrong", "symbolic", veto)
    a, b = sorted((a, b))  # what takes long in one order only must not depend on who said what
    if symbolic.same(a, b):
        return Decision("correct", "symbolic", "math_verify")
    if symbolic.binds(a) or symbolic.binds(b):
        return symbolic.same_evaluated(a, b)
    return Decision("wrong", "symbolic", "math_verify")


DEEP_LAYERS: dict[str, Callable[[str, str, Policy], Decision]] = {
    "structural": decide_structurally,
    "symbolic": decide_symbolically,
}


def decide_any(pred: str, golds: Sequence[str], policy: Policy, layer: str) -> Decision:
    """The decision of a deep layer beside answers any of which is right. Of several, one that the
    structural layer finds wrong is not asked about again.
    """
    decide_one = DEEP_LAYERS[layer]
    if layer == "symbolic" and len(golds) > 1:
        decide_one = decide_deeply
    return best_of(decide_one(pred, gold, policy) for gold in golds)


def warm(layer: str) -> None:
    """Import what a deep layer needs and fill its caches, so that forked workers start warm."""
    from reasondistill.grading.decide import symbolic

    if layer == "symbolic":
        symbolic.warm()
        return
    policy = find_policy("default")
    for answer, other in _USUAL:
        decide_structurally(answer, other, policy)


_USUAL = (
    (r"2\sqrt{2}", r"\sqrt{8}"),
    (r"\{1,2\}", r"\{2,3\}"),
    (r"(x+1)^{2}", r"x^{2}+2x+1"),
    (r"(1,2]", r"1 < x \leq 2"),
    (r"y=2x+3", r"2x-y+3=0"),
    (r"\sin(x)", r"\cos(\pi/2-x)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"(1,2)"),
)


def decide(pred: str, gold: str, policy: Policy) -> Decision:
    """All layers, in this process."""
    cheap = decide_cheaply(pred, gold, policy)
    if cheap.is_open:
        return decide_deeply(pred, gold, policy)
    return cheap
