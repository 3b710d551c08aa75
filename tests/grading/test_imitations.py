"""The imitations of other graders say what those graders say: rows worked out from their published
code.
"""

from __future__ import annotations

import pytest

from reasondistill.grading import POLICIES
from reasondistill.grading.decide.imitations import are_same

# (answer, gold, Qwen2.5-Math, NeMo-Skills, Hendrycks' strings, lighteval)
ROWS: list[tuple[str, str, bool, bool, bool, bool]] = [
    # Leading zeros: a case of its own in NeMo-Skills since December 2025.
    ("016", "16", True, True, False, True),
    ("16", "016", True, True, False, True),
    # Percent: Qwen takes the hundredth and the hundredfold, and drops the sign.
    ("50", "0.5", True, False, False, False),
    ("500", "5", True, False, False, False),
    ("0.07", "7", True, False, False, False),
    (r"10\%", "0.1", True, False, False, True),
    ("28%", "28", True, True, True, True),
    (r"x\%", "x", True, False, True, False),
    # Tolerances: a relative 1e-4 in Qwen, six decimals in math-verify.
    ("33.333", r"\frac{100}{3}", True, False, False, False),
    ("33.3", r"\frac{100}{3}", False, False, False, False),
    ("3.3333333", "10/3", True, True, False, True),
    ("1.00005", "1", True, False, False, False),
    ("1.0005", "1", False, False, False, False),
    # Letters and words.
    ("(B)", "B", True, True, False, True),
    ("Tuesday", "tuesday", True, False, False, True),
    ("3 and 4", "34", True, False, False, False),
    # Names, units, spellings.
    ("x=5", "5", True, True, True, True),
    ("5", "x=5", True, True, True, True),
    (r"5\text{ cm}", "5", True, True, True, True),
    (r"30^\circ", "30", True, True, True, True),
    ("5.00", "5", True, True, False, True),
    (r"\frac12", "0.5", True, True, True, True),
    ("1,000", "1000", True, True, False, True),
    # Parts one by one; the kind of bracket does not matter to Qwen.
    ("(1,4.5)", r"(1,\frac{9}{2})", True, True, False, True),
    ("(1,2)", "(2,1)", False, False, False, False),
    (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        r"\begin{bmatrix}1&2\\3&4.0\end{bmatrix}",
        True, True, False, True,
    ),
    (
        r"\begin{pmatrix}1&2&3&4\end{pmatrix}",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        False, False, False, False,
    ),
    # Algebra; math-verify solves equations, and so takes these two for one.
    ("-34x-45y+20z-100=0", "34x+45y-20z+100=0", True, True, False, True),
    ("x^2+1=0", "x^2+4=0", False, True, False, True),
    (r"\frac{x}{7}+\frac{2}{7}", r"\frac{x+2}{7}", True, True, False, True),
    ("x+1", "x+2n+1", False, False, False, False),
    ("", "5", False, False, False, False),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} beside {row[1]}")
def test_an_imitation_decides_as_the_grader_does(
    row: tuple[str, str, bool, bool, bool, bool],
) -> None:
    answer, gold, *expected = row
    engines = ("qwen-math", "nemo-skills", "hendrycks-string", "math-verify")
    found = [are_same(answer, gold, engine) for engine in engines]
    assert dict(zip(engines, found, strict=True)) == dict(zip(engines, expected, strict=True))


def test_every_imitation_says_which_version_it_imitates() -> None:
    for policy in POLICIES.values():
        assert bool(policy.imitates) == (policy.engine != "layered"), policy.name
