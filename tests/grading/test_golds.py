"""What a gold text holds: an answer, alternatives, or none."""

from __future__ import annotations

import json

import pytest

from reasondistill.grading import GradeItem, GradingPool, grade, verify
from reasondistill.grading.read.golds import alternatives

SOLUTION = (
    "Let $x$ be the side. By the law of cosines we have $x^2 = 3^2 + 4^2 - 2xy$. Now suppose that "
    "the angle is right. Then the last term is zero, and we may write $x^2 = 25$. Because a side "
    "is positive, we take the positive root. The rest of the argument is by symmetry, as we have "
    "seen in the lemma above. Therefore the two triangles are congruent, and hence the claim "
    "follows at once for every choice of the point on the circle. This completes the argument."
)


@pytest.mark.parametrize(
    ("gold", "texts"),
    [
        ('["34", "68/2"]', ("34", "68/2")),
        ("['34', '68/2']", ("34", "68/2")),
        ("['34']", ("34",)),
        (r"""['\\sqrt{2}', "1'"]""", (r"\sqrt{2}", "1'")),
        (r"['\sqrt{2}']", (r"\sqrt{2}",)),
        ("[1, 2]", ("[1, 2]",)),
        ("['a', 2]", ("['a', 2]",)),
        ("{'a'}", ("{'a'}",)),
        ("34", ("34",)),
    ],
)
def test_a_list_of_texts_holds_alternatives(gold: str, texts: tuple[str, ...]) -> None:
    assert alternatives(gold) == texts


@pytest.mark.parametrize("answer", ["34", "68/2", r"\boxed{34}", "The answer is 34.", "34.0"])
def test_any_alternative_is_right(answer: str) -> None:
    for gold in ('["34", "68/2"]', "['$34$', 'thirty']", "['apples', '34']"):
        assert grade(answer, gold).is_correct, gold


@pytest.mark.parametrize("answer", ["35", "34, 35", "2", r"\boxed{(34, 17)}"])
def test_what_is_no_alternative_is_wrong(answer: str) -> None:
    assert grade(answer, '["34", "68/2"]').outcome == "wrong"


def test_alternatives_that_need_a_worker_are_asked_together() -> None:
    gold = json.dumps([r"\int_0^1 x dx", r"\sqrt{8}", "17"])
    with GradingPool(workers=1) as pool:
        outcomes = [
            pool.grade_one(GradeItem("a", answer, gold)).outcome
            for answer in (r"\boxed{2\sqrt{2}}", r"\boxed{\frac12}", r"\boxed{18}")
        ]
    assert outcomes == ["correct", "correct", "wrong"]
    assert verify('["34", "68/2"]', "34") is True


@pytest.mark.parametrize(
    "gold",
    ["proof", "Proof.", r"\text{See solution}", "notfound", "not found", "N/A", "Solution omitted."]
    + ["See the solution above", "**Proof**", "Q.E.D.", "['proof']", SOLUTION]
    + ["TODO", "error", "null", "?", "I don't know", "Answer"]
    + ["<think>\nLet me see, 3 + 4", "Proof. Let n be odd. Then n^2 is odd, for it is a product."],
)
def test_a_gold_that_is_no_answer_leaves_every_answer_undecided(gold: str) -> None:
    for answer in (r"\boxed{7}", gold):
        found = grade(answer, gold)
        assert found.outcome in ("undecided", "no_answer"), answer
    assert grade(r"\boxed{7}", gold).reason in ("gold_is_no_answer", "gold_says_nothing")


@pytest.mark.parametrize(
    "gold",
    ["unknown", "solution", "no solution", "cannot be determined", "no", "undefined", "42"]
    + ["fireproof", "There is no answer to the riddle", SOLUTION + r" So it is $\boxed{7}$."],
)
def test_words_that_may_be_an_answer_are_one(gold: str) -> None:
    assert grade(r"\boxed{11}", gold).reason != "gold_is_no_answer"


def test_a_solution_with_a_box_has_that_answer() -> None:
    assert grade(r"\boxed{7}", SOLUTION + r" So it is $\boxed{7}$.").is_correct
