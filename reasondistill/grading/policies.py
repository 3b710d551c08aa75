"""Strictness, stated: what counts as the same answer where reasonable graders disagree.

`default` is the policy that we stand behind. The others imitate published graders so that their
numbers can be translated, and say which version: `lighteval` (math-verify as lighteval configures
it), `evalchemy-string` (equality of normalised strings, Hendrycks' MATH normaliser), `qwen-math`
(Qwen2.5-Math's `math_equal`: percent guessing, relative tolerance 1e-4) and `nemo-skills`
(NeMo-Skills' `math_equal`: texts as strings, else math-verify).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest

Engine = Literal["layered", "math-verify", "hendrycks-string", "qwen-math", "nemo-skills"]


@dataclass(frozen=True)
class Policy:
    """One answer per disputed convention. Only the engine `layered` reads all of it; the
    others read `anchored_only` and `join_boxes`.

    * engine: which comparison decides.
    * imitates: the published grader, and its version, that an engine follows; else empty.
    * percent_is_number: 28 answers 28 % (never for values up to 1: 0.5 is not 0.5 %).
    * percent_is_fraction: 0.28 answers 28 %.
    * units_must_stand: an answer without the gold's unit is wrong (with another known unit it
      always is).
    * decimal_places: how many places a decimal needs to stand for a value that it only rounds
      (1/3, pi); 0 means never.
    * rounded_decimals: 3.1416 answers 3.14159, at `decimal_places` or more.
    * relative_tolerance: numbers within it are equal; 0 means exact.
    * decimal_comma: 2,74 may be read as 2.74 when the other side has a point.
    * ordered_lists: `1, 2` and `2, 1` differ even without brackets.
    * loose_brackets: a bare list and a tuple with the same elements in the same order are one
      answer, whatever their brackets.
    * vectors_are_tuples: a column or row vector, <1, 2> and (1, 2) are one answer.
    * number_words: `two` answers 2.
    * rename_variables: 2n+1 answers 2k+1.
    * bare_base: 11_5 answers 11.
    * based_value: 101_2 answers 5.
    * real_odd_roots: (-8)^{1/3} is -2, not the principal root.
    * anchored_only: an answer needs a box, `####` or "answer is", or to be the whole text; the last
      formula or number of a text is none.
    * choice_text: `(A) 12` answers A.
    * join_boxes: how several boxes are read: the last one, those joined by "and", or all.
    """

    name: str = "default"
    engine: Engine = "layered"
    imitates: str = ""
    percent_is_number: bool = True
    percent_is_fraction: bool = True
    units_must_stand: bool = False
    decimal_places: int = 6
    rounded_decimals: bool = False
    relative_tolerance: float = 0.0
    decimal_comma: bool = True
    ordered_lists: bool = False
    loose_brackets: bool = False
    vectors_are_tuples: bool = True
    number_words: bool = True
    rename_variables: bool = False
    bare_base: bool = True
    based_value: bool = False
    real_odd_roots: bool = False
    anchored_only: bool = False
    choice_text: bool = True
    join_boxes: Literal["last", "linked", "all"] = "linked"


_DEFAULT = Policy()

POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        _DEFAULT,
        replace(
            _DEFAULT,
            name="strict",
            percent_is_number=False,
            units_must_stand=True,
            decimal_places=0,
            decimal_comma=False,
            ordered_lists=True,
            vectors_are_tuples=False,
            number_words=False,
            bare_base=False,
            choice_text=False,
            anchored_only=True,
            join_boxes="last",
        ),
        replace(
            _DEFAULT,
            name="lenient",
            decimal_places=3,
            rounded_decimals=True,
            loose_brackets=True,
            rename_variables=True,
            based_value=True,
            real_odd_roots=True,
        ),
        replace(
            _DEFAULT,
            name="lighteval",
            engine="math-verify",
            imitates="math-verify 0.9 as lighteval calls it: gold first, six decimals, strict",
            join_boxes="all",
        ),
        replace(
            _DEFAULT,
            name="evalchemy-string",
            engine="hendrycks-string",
            imitates="is_equiv of Hendrycks et al. 2021 (MATH), unchanged in Evalchemy and lm-eval",
            join_boxes="last",
        ),
        replace(
            _DEFAULT,
            name="qwen-math",
            engine="qwen-math",
            imitates="math_equal of Qwen2.5-Math, evaluation/grader.py at 29a82a8",
            join_boxes="last",
        ),
        replace(
            _DEFAULT,
            name="nemo-skills",
            engine="nemo-skills",
            imitates="math_equal of NeMo-Skills since pull request 1074 (December 2025): 016 is 16",
            join_boxes="last",
        ),
    )
}


def find_policy(name: str) -> Policy:
    """The policy of that name. Raises ConfigError with the known names."""
    if name not in POLICIES:
        raise ConfigError(f"policy = {name!r}: unknown. {nearest(name, POLICIES)}")
    return POLICIES[name]
