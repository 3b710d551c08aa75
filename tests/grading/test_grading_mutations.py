"""Wrong answers and equivalent rewrites made from golds (`tests/fuzz/mutate_golds.py`): that they
are what they are called, and how the grader judges them.
"""

from __future__ import annotations

from collections import Counter

import pytest
from answers import built_in, certainly_different, read_answer
from formulas import (
    POINTS,
    Unreadable,
    read_formula,
    surely_different,
    surely_equal,
    value,
    write,
    written_symbols,
)
from latex2sympy2_extended import latex2sympy
from mutate_golds import (
    REWRITES_ACCEPTED_AT_LEAST,
    WRONG_ACCEPTED_AT_MOST,
    failure_share,
    grade_rows,
    make_rows,
)
from mutations import MUTATIONS
from rewrites import REWRITES

GOLDS = built_in()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{a+b}{c}", r"a/c+b/c"),
        (r"\lambda_{\text {red}} / \sqrt{2}", r"\frac{\sqrt{2}}{2}\lambda_{\mathrm{red}}"),
        (r"\sin^2 x+\cos^2 x", "1"),
        (r"\sqrt[3]{8}", "2"),
        (r"\log_{2}(8)", "3"),
        (r"\binom{5}{2}", "10"),
        (r"3.3e12", r"3.3\cdot 10^{12}"),
        (r"v_{\text{eff}}t", r"t\,v_{\text{eff}}"),
    ],
)
def test_the_reader_of_formulas_finds_equal_values(one: str, other: str) -> None:
    assert surely_equal(read_formula(one), read_formula(other))
    assert not surely_different(read_formula(one), read_formula(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"T_{\text{eff}}", r"\sqrt{T_{\text{eff}}}"),
        (r"T_{\text{eff}}", r"T_{\text{max}}"),
        (r"\omega^{2}", r"\Omega^{2}"),
        (r"1+\sqrt{3}i", r"1-\sqrt{3}i"),
        ("100337", "100336"),
        (r"n!", "n"),
    ],
)
def test_the_reader_of_formulas_finds_different_values(one: str, other: str) -> None:
    assert surely_different(read_formula(one), read_formula(other))
    assert not surely_equal(read_formula(one), read_formula(other))


def test_what_differs_on_whole_numbers_only_or_not_there_is_not_surely_different() -> None:
    alternating = read_formula("(-1)^{n}")
    assert not surely_different(alternating, read_formula("(-1)^{n+2}"))
    assert not surely_equal(alternating, read_formula(r"\cos(\pi n)"))


@pytest.mark.parametrize("text", ["1/2x", r"\pm 3", r"2\frac{1}{3}", r"\sin x\cos y"])
def test_what_can_be_read_in_two_ways_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        read_formula(text)


def test_formulas_of_the_golds_are_written_as_they_were_read() -> None:
    for gold in GOLDS:
        tree = gold.answer.tree
        if gold.answer.kind == "value" and tree is not None:
            assert surely_equal(read_formula(write(tree)), tree) or tree == read_formula(gold.text)


def test_values_of_numbers_are_those_that_sympy_finds() -> None:
    compared = 0
    for gold in GOLDS:
        tree = gold.answer.tree
        if gold.answer.kind != "value" or tree is None or "e" in gold.text.replace("\\", ""):
            continue
        if written_symbols(tree) - {"\\pi"}:
            continue
        theirs = complex(latex2sympy(gold.text).evalf())
        ours = value(tree, POINTS[0])
        if ours is None:
            continue
        compared += 1
        assert ours == pytest.approx(theirs, rel=1e-9), gold.text
    assert compared >= 40


def test_lists_and_sets_have_no_order_and_pairs_have_one() -> None:
    assert not certainly_different(read_answer("1, 3"), read_answer("3, 1"))
    assert certainly_different(read_answer("1, 3"), read_answer("1, 4"))
    assert certainly_different(read_answer("(1,3)"), read_answer("(3,1)"))
    assert not certainly_different(read_answer("(3,3)"), read_answer("(3,3)"))


def test_every_operator_makes_rows_of_the_golds_built_in_and_the_same_ones_again() -> None:
    for operators, wrong in ((MUTATIONS, True), (REWRITES, False)):
        rows = make_rows(GOLDS, 20 * len(operators), seed=0, wrong=wrong)
        assert set(Counter(row.kind for row in rows)) == set(operators)
        assert rows == make_rows(GOLDS, 20 * len(operators), seed=0, wrong=wrong)
        assert rows != make_rows(GOLDS, 20 * len(operators), seed=1, wrong=wrong)
        assert {row.expected for row in rows} == {not wrong}


def test_at_most_one_of_5_000_wrong_answers_is_accepted() -> None:
    rows = make_rows(GOLDS, 5_500, seed=0, wrong=True)
    accepted, graded = failure_share(grade_rows(rows, "default"))
    assert graded >= 5_000
    assert accepted <= graded * WRONG_ACCEPTED_AT_MOST


def test_of_200_equivalent_rewrites_at_most_three_are_not_accepted() -> None:
    rows = make_rows(GOLDS, 3_000, seed=0, wrong=False)
    refused, graded = failure_share(grade_rows(rows, "default"))
    assert graded == 3_000
    assert graded - refused >= graded * REWRITES_ACCEPTED_AT_LEAST
