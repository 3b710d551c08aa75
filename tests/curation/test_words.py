"""How a text is set does not count; what it says does."""

from __future__ import annotations

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

from reasondistill.curation.instructions import common_sentences
from reasondistill.curation.shingles import Text, shingled, shingled_one, shingles_of
from reasondistill.curation.words import question_forms, read, sentences


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Find x.", "  FIND\nx !"),
        ("$\\dfrac12$ of it", "1/2 of it"),
        ("$\\frac{1}{2}$ of it", "½ of it"),
        ("$\\frac{a}{b}$", "a/b"),
        ("x^{2} + 1", "x² + 1"),
        ("x^{12}", "x¹²"),
        ("$x_{1}$", "x₁"),
        ("a \\leq b", "a ≤ b"),
        ("a &lt;= b", "a ≤ b"),
        ("a <= 3", "a \\leqslant 3"),
        ("x \\ne 3", "x ≠ 3"),
        ("6 \\div 3", "6 / 3"),
        ("$90^\\circ$", "90°"),
        ("90 degrees", "90°"),
        ("20\\%", "20 percent"),
        ("$1{,}000$", "1000"),
        ("1,000.50", "1000.5"),
        ("3.0 apples", "three apples"),
        ("$3\\text{ km}$", "3 km"),
        ("$2\\pi r$", "2πr"),
        ("\\sqrt{2}", "√2"),
        ("\\left( 3 \\right)", "(3)"),
        ("\\begin{align*} x &= 3 \\end{align*}", "x = 3"),
        ("**Find** _x_", "find x"),
        ("Problem 12. Tom", "Tom"),
        ("**7.** Tom", "7) Tom"),
        ("Look [asy] draw((3,4)); [/asy] here", "Look here"),
        ("p\u200bay", "pay"),
        ("ﬁve \uff15", "five 5"),
        ("x \u2212 3", "x - 3"),
        ("<p>Find <b>x</b><br/></p>", "Find x"),
        ("3 &times; 4 &gt; 5", "3 × 4 > 5"),
    ],
)
def test_the_same_said_otherwise(one: str, other: str) -> None:
    assert read(one) == read(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4", "3 - 4"),
        ("3 * 4", "3 / 4"),
        ("x^2", "2x"),
        ("x^2", "x_2"),
        ("3.5", "35"),
        ("a < b", "a > b"),
        ("a < b", "a ≤ b"),
        ("half of it", "a third of it"),
        ("two", "three"),
        ("-3", "3"),
        ("2.5 liters", "5 liters"),
    ],
)
def test_something_else_is_something_else(one: str, other: str) -> None:
    assert read(one) != read(other)


def test_hyphens_and_slashes_of_prose_are_no_signs() -> None:
    assert read("a well-known 5-pound bag and/or the like").signs == ()
    assert read("x - 3, 2-3, a/b, $-\\frac{1}{2}$").signs == ("-", "-", "/", "-", "/")


def test_chinese_characters_are_words_alone() -> None:
    assert read("求x的值").words == ("求", "x", "的", "值")


def test_sentences_are_read_as_the_whole_is() -> None:
    parts = sentences("Problem 3: Tom has 2 apples. How many?\n\nWrite 3.5 as a fraction。好。")
    assert [" ".join(part.words) for part in parts] == [
        "tom has 2 apples",
        "how many",
        "write 3.5 as a fraction",
        "好",
    ]


def test_multiple_choice_has_a_form_without_options() -> None:
    assert question_forms("Which?\n\nA) 3\nB) 4") == {"which a) 3 b) 4", "which"}


@settings(max_examples=draws(300))
@given(text=st.text(st.sampled_from("ab 3\\{}[]$,.^_-/<&;frcasy\n½²πé\u200b求\ud800"), max_size=60))
def test_numbers_in_batches_are_those_of_the_words(text: str) -> None:
    """The fast way and the one that can be read agree on any text."""
    words = read(text).words
    (batch,) = shingled([Text("a", text)])
    found = batch.values.tolist()
    if len(words) >= 5:
        assert found == sorted(set(shingles_of(words)))
    else:
        assert len(found) == min(1, len(words))


@settings(max_examples=draws(100))
@given(texts=st.lists(st.text(st.sampled_from("ab 3.-+²求"), max_size=40), max_size=4))
def test_a_text_alone_has_the_shingles_that_it_has_among_others(texts: list[str]) -> None:
    for rule in ("count", "words", "ignored"):
        for text in texts:
            (batch,) = shingled([Text("a", text)], numbers=rule, words=3)
            alone = shingled_one(text, numbers=rule, words=3)
            assert alone.values.tolist() == batch.values.tolist()
            assert alone.guards.tolist() == batch.guards.tolist()


@settings(max_examples=draws(100))
@given(text=st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    found = read(text)
    assert all(found.words) and set(found.numbers) <= set(found.words)


# ---- instructions --------------------------------------------------------------------------------

INSTRUCTION = "Express your answer as a common fraction."


def test_a_sentence_of_one_text_in_a_hundred_is_an_instruction() -> None:
    texts = [f"Question number {number} of ours. What is it?" for number in range(400)]
    for number in range(0, 400, 100):
        texts[number] += f" {INSTRUCTION}"
    found = common_sentences(texts)
    assert found == {"what is it", "express your answer as a common fraction"}
    texts[0] = texts[100] = texts[200] = "Nothing."
    assert found - common_sentences(texts) == {"express your answer as a common fraction"}


def test_a_sentence_that_is_all_of_a_text_is_a_question() -> None:
    assert common_sentences([INSTRUCTION] * 50) == frozenset()


def test_three_of_a_small_set_are_an_instruction_and_two_are_not() -> None:
    texts = [f"Number {number}. {INSTRUCTION}" for number in range(3)]
    assert common_sentences(texts) == {"express your answer as a common fraction"}
    assert common_sentences(texts[:2]) == frozenset()


def test_counting_forgets_what_is_rare_and_nothing_that_is_common() -> None:
    rare = (f"Sentence {number} alone. Another {number}." for number in range(5_000))
    texts = [f"{text} {INSTRUCTION}" if n % 90 == 0 else text for n, text in enumerate(rare)]
    assert common_sentences(texts) == {"express your answer as a common fraction"}
