"""Which texts hold a question of a benchmark: beside a search of each in each, and case by case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

from reasondistill import secrets
from reasondistill.curation import leaks as module
from reasondistill.curation.instructions import common_sentences
from reasondistill.curation.leaks import HeldOut, LeakIndex, leaks_as_markdown
from reasondistill.curation.overlap import overlapping
from reasondistill.curation.shingles import Text
from reasondistill.curation.words import normalise_question, read
from reasondistill.records import Leak

QUESTION = (
    "A farmer has 17 sheep and 25 goats on a meadow behind the mill. Every evening 3 of the "
    "goats climb over the fence and come back in the morning. How many animals are on the meadow "
    "at night?"
)


def search(
    questions: Sequence[str], texts: Sequence[str], **options: object
) -> list[tuple[Leak, ...]]:
    index = LeakIndex(
        (HeldOut("bench", f"q{number}", question) for number, question in enumerate(questions)),
        **options,  # type: ignore[arg-type]
    )
    named = [Text(f"t{number}", text) for number, text in enumerate(texts)]
    found = list(index.search(named))
    assert [text for text, _ in found] == named
    return [leaks for _, leaks in found]


def told(question: str, text: str, **options: object) -> str:
    """`near leak`, or nothing."""
    (leaks,) = search([question], [text], **options)
    return " ".join(f"{leak.method} {leak.kind}" for leak in leaks)


def test_each_way_of_holding_a_question_is_told_apart() -> None:
    assert told(QUESTION, f"  {QUESTION.upper()}") == "equal leak"
    assert told(QUESTION, f"Read this. {QUESTION} Think about 99 first.") == "near leak"
    half = QUESTION.replace("Every evening", "After that").replace("climb over", "jump")
    assert told(QUESTION, half.replace("are on the", "stay on this")) == "run leak"
    assert told(QUESTION, "A farmer has 17 sheep and 25 goats.") == ""


def test_the_record_shows_both_texts_and_the_share_of_the_question() -> None:
    ((leak,),) = search([QUESTION], [f"{QUESTION} {'Much more. ' * 3_000}"])
    assert (leak.id, leak.benchmark, leak.question_id) == ("t0", "bench", "q0")
    assert leak.score == 1.0
    assert leak.question == QUESTION
    assert leak.text.startswith(QUESTION) and len(leak.text) == 2_000
    assert leak.foreign == {"text", "question"}


def test_other_numbers_are_another_problem_unless_words_alone_count() -> None:
    other = f"So. {QUESTION.replace('25', '26')}"
    assert told(QUESTION, other) == "near look_alike"
    assert told(QUESTION, other, numbers="words") == "near leak"
    swapped = QUESTION.replace("17", "x").replace("25", "17").replace("x", "25")
    assert told(QUESTION, swapped) == "near look_alike"


def test_latex_hides_nothing() -> None:
    question = "Let f(x) = x^2 + 1/2 for all x ≤ 90. Find the least value of f on the whole line."
    text = (
        "**4.** Let $f(x)=x^{2}+\\dfrac12$ for all $x\\leq 90$. Find the least value of $f$ on the "
        "whole line. Good luck with $3^5$!"
    )
    assert told(question, text) == "near leak"


APPLES = "小明有17个苹果,他给了小红5个,然后又从商店买了8个苹果。请问小明现在一共有多少个苹果?"
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
ARABIC = {ord("0") + digit: 0x660 + digit for digit in range(10)}


@pytest.mark.parametrize("question", [QUESTION, APPLES])
@pytest.mark.parametrize("letters", [{}, FULL_WIDTH, ARABIC])
def test_another_form_of_letters_and_digits_hides_nothing(
    question: str, letters: dict[int, int]
) -> None:
    assert told(question, f"看 {question.translate(letters)} 99 框。") == "near leak"
    assert told(question, f"看 {question.replace('17', '18')} 99 框。") == "near look_alike"


def test_characters_are_words_where_words_have_no_spaces() -> None:
    edited = APPLES.replace("然后", "后来")
    assert told(APPLES, f"请仔细阅读{edited}把答案写在框里") == "near leak"
    part = "他给了小红5个,然后又从商店买了8个苹果"
    assert told(APPLES, f"小刚有9个梨,{part},都吃了。") == "run look_alike"


def test_multiple_choice_is_found_without_its_options() -> None:
    question = f"{QUESTION}\n\nA) 39\nB) 42"
    assert told(question, QUESTION.lower()) == "equal leak"


# ---- short questions -----------------------------------------------------------------------------


def test_a_short_question_counts_inside_a_text_only_where_it_says_something() -> None:
    assert told("Find the value of x.", "Find the value of x.") == "equal leak"
    assert told("Find the value of x.", "If 3x = 6, find the value of x. Then stop.") == ""
    assert told("What do we know about the value of x here?", "So what do we know about the value "
                "of x here? Nothing.") == ""  # fmt: skip
    short = "How many integers below 700 are divisible by 9?"
    assert told(short, f"My task: {short} I tried 5 ways.") == "near leak"
    assert told(short, f"My task: {short.replace('9', '8')} I tried.") == "near look_alike"


# ---- instructions --------------------------------------------------------------------------------

INSTRUCTION = (
    "Express your answer as a common fraction in lowest terms, and write nothing else behind it, "
    "please, since it is read by a machine."
)


def test_an_instruction_of_the_training_set_is_no_leak() -> None:
    texts = [
        f"The {word} weighs more than all the others. {INSTRUCTION}"
        for word in ("cat", "dog", "cow", "hen", "pig")
    ]
    question = f"{QUESTION} {INSTRUCTION}"
    assert all(leaks for leaks in search([question], texts, numbers="words"))
    common = common_sentences(texts)
    found = search([question], [*texts, QUESTION], numbers="words", common=common)
    assert [len(leaks) for leaks in found] == [0, 0, 0, 0, 0, 1]


def test_an_instruction_of_the_benchmark_is_no_leak() -> None:
    questions = [
        f"{QUESTION.replace('17', str(number)).replace('goats', 'geese')} {INSTRUCTION}"
        for number in range(3)
    ]
    assert search(questions, [f"How much is that? {INSTRUCTION}"], numbers="words") == [()]


def test_an_instruction_inside_a_longer_sentence_is_no_leak() -> None:
    clause = "m/n, where m and n are relatively prime positive integers. What is m + n?"
    texts = [
        f"Number {word}. The final answer can be written in the form {clause}" for word in "abc"
    ]
    question = (
        "Each corner of an octagon is red or blue. The probability that there is a turn after "
        f"which all blue corners are where red ones were before is {clause}"
    )
    assert [len(leaks) for leaks in search([question], texts)] == [1, 1, 1]
    common = common_sentences(texts)
    assert search([question], texts, common=common) == [(), (), ()]
    (found,) = search([question], [f"Now: {question}"], common=common)
    assert [leak.kind for leak in found] == ["leak"]


def test_a_question_of_little_else_than_instructions_is_still_found() -> None:
    questions = [f"Compute {value} / 96. {INSTRUCTION}" for value in (72, 54, 33)]
    found = search(questions, [f"Please: {questions[0]}", f"Please: Compute 7 / 96. {INSTRUCTION}"])
    assert [leak.question_id for leak in found[0]] == ["q0"]
    assert found[1] == ()


def test_a_question_that_leaks_often_is_no_instruction() -> None:
    texts = [f"Copy {word}. {QUESTION}" for word in ("a", "b", "c", "d")]
    found = search([QUESTION], texts, common=common_sentences(texts))
    assert [[leak.kind for leak in leaks] for leaks in found] == [["leak"]] * 4


# ---- beside a search of each in each -------------------------------------------------------------

WORDS = ["a", "b", "c", "d", "3", "4", "+ 5", "Stop."]


@st.composite
def texts_of(draw: st.DrawFn) -> str:
    """A walk through few words, so that runs are shared."""
    return " ".join(draw(st.lists(st.sampled_from(WORDS), max_size=30)))


@settings(max_examples=draws(150))
@given(questions=st.lists(texts_of(), max_size=2), text=texts_of(), around=st.booleans())
def test_they_are_those_that_a_search_of_each_in_each_finds(
    questions: list[str], text: str, around: bool
) -> None:
    """Two questions, which are too few to have instructions."""
    if around and questions:
        text = f"{text} {questions[0]} {text}"
    (found,) = search(questions, [text])
    assert {(leak.question_id, leak.method, leak.kind) for leak in found} == {
        (f"q{number}", *judged)
        for number, question in enumerate(questions)
        if (judged := by_hand(question, text)) is not None
    }


def by_hand(question: str, text: str) -> tuple[str, str] | None:
    asked, given_words = read(question), read(text)
    if normalise_question(question) == normalise_question(text):
        return "equal", "leak"
    rest = list(given_words.numbers)
    for number in asked.numbers:
        if number not in rest:
            rest = ["missing"]
            break
        del rest[: rest.index(number) + 1]
    kind = "leak"
    if rest == ["missing"] or asked.signs.count("+") > given_words.signs.count("+"):
        kind = "look_alike"
    fives, thirteens = (runs(asked.words, size) for size in (5, 13))
    size = len(asked.words)
    is_long = size >= 13 or (size >= 8 and asked.numbers)
    if is_long and len(fives & runs(given_words.words, 5)) >= 0.8 * len(fives):
        return "near", kind
    if thirteens & runs(given_words.words, 13):
        return "run", kind
    return None


def runs(words: tuple[str, ...], size: int) -> set[tuple[str, ...]]:
    return {words[start : start + size] for start in range(len(words) - size + 1)}


# ---- large and hostile ---------------------------------------------------------------------------


def test_no_questions_and_no_texts_are_no_leaks() -> None:
    assert search([], [QUESTION, ""]) == [(), ()]
    assert search([QUESTION], []) == []
    assert search(["", "?"], ["go", "\ud800"]) == [(), ()]


def test_a_text_that_holds_a_whole_benchmark_tells_the_best_few() -> None:
    questions = [QUESTION.replace("17", str(100 + number)) for number in range(50)]
    (found,) = search(questions, ["\n".join(questions)])
    assert len(found) == 5
    assert {leak.kind for leak in found} == {"leak"}


@pytest.mark.parametrize("at_once", [1, 7])
def test_how_much_is_looked_at_at_once_changes_nothing(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [QUESTION.replace("17", str(100 + number)) for number in range(5)]
    texts = [f"{question} Or not?" for question in questions]
    usual = search(questions, texts)
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    assert search(questions, texts) == usual
    assert all(usual)


def test_the_report_shows_the_pairs_of_a_benchmark_as_text() -> None:
    (leaks,) = search([f"<b>{QUESTION}</b> | *really*"], [f"Well | {QUESTION} really?"])
    lines = list(leaks_as_markdown("bench", leaks))
    assert lines[0] == "### bench"
    assert len(lines) == 5
    assert lines[4].startswith("| leak | near | 1.00 | Well ")
    assert "\\<b\\>" in lines[4]
    assert list(leaks_as_markdown("another", leaks))[4:] == []


def test_overlap_and_leaks_read_the_same_words() -> None:
    words = "one \\frac{2}{3} four five six seven eight nine ten eleven twelve"
    plain = "one 2/3 4 5 6 7 8 9 10 11 12"
    assert overlapping({"a": f"{words} thirteen"}, [f"{plain} 13 and more"]) == {"a"}


def test_no_part_of_a_secret_is_left_where_a_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_aB3dE6gH9kL2mN5pQ8rS"
    text = f"{QUESTION} {'More. ' * 1_000}"[:1_990] + f" {secret} and more"
    with monkeypatch.context() as patched:
        patched.setenv("HF_TOKEN", secret)
        secrets.look_again()
        ((leak,),) = search([QUESTION], [text])
    secrets.look_again()
    assert leak.text.endswith(" *** and m") and "hf_aB3" not in leak.text
