"""What each filter of traces drops, and what it lets pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from test_examples import completion

from reasondistill.config import ExampleSettings
from reasondistill.curation.filters import Candidate, ProblemChoice, active_filters
from reasondistill.curation.filters.language import letters_by_script
from reasondistill.curation.filters.lengths import LengthPercentiles, bounds_of, with_lengths
from reasondistill.curation.filters.reasoning import Reasoning, reasoning
from reasondistill.curation.filters.repetition import (
    compression_ratio,
    repeats_more,
    share_repeated,
)
from reasondistill.curation.filters.tools import NO_TOOLS, Tools, new_pool, opened_tools
from reasondistill.errors import ConfigError, StageError
from reasondistill.grading import GradingPool
from reasondistill.grading.extract.boxes import boxed_answers
from reasondistill.models.prompts import render_assistant
from reasondistill.records import Completion, Grade, Origin, Problem, Sampling, Trace, Verdict

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in "
    "May. How many clips did Natalia sell altogether in April and May?"
)
SOLUTION = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips "
    "altogether in April and May."
)
THOUGHT = (
    "Okay, in April she sold 48 clips. In May it was half of that, so 48 / 2 = 24. Together that "
    "makes 48 + 24 = 72. Let me check: 72 - 24 = 48, right."
)
ANSWER = "Natalia sold 48 + 24 = 72 clips. So the answer is \\boxed{72}."


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    def by_words(name: str, revision: str | None) -> Any:
        assert name == "words"
        return lambda text: len(text.split())

    with opened_tools(lambda: GradingPool(workers=1), by_words) as opened:
        yield opened


def candidate_of(
    done: Completion,
    tools: Tools = NO_TOOLS,
    *,
    question: str = QUESTION,
    sample: int = 0,
) -> Candidate:
    problem = Problem(
        id="d/train/1",
        question=question,
        answer="72",
        reference_solution=SOLUTION,
        origin=Origin(dataset="d", revision="r", split="train", row=1),
    )
    grade = Grade(outcome="correct", extracted="72", layer="l", reason="r", grader="g", seconds=0)
    trace = Trace(
        id=f"d/train/1:{sample}",
        problem_id="d/train/1",
        sample=sample,
        model="teacher",
        prompt="ask",
        sampling=Sampling(),
        key="k",
        seed=1,
        completion=done,
    )
    verdict = Verdict(trace_id=trace.id, problem_id=problem.id, grade=grade)
    return Candidate(trace, verdict, render_assistant(done), problem, tools)


def written(text: str = ANSWER, reasoning: str | None = THOUGHT, **keys: Any) -> Completion:
    return completion(text, reasoning, **keys)


def why(name: str, candidate: Candidate, **table: Any) -> str | None:
    """The reason for which one filter drops a candidate that the others let pass."""
    for drop_reason in active_filters(ExampleSettings(filters={name: table})):
        reason = drop_reason(candidate)
        if reason is not None:
            return reason
    return None


NAMES = (
    *("structure", "repetition", "language", "phrases", "reasoning", "agreement"),
    "near_duplicates",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_trace_passes_every_filter(name: str, tools: Tools) -> None:
    assert why(name, candidate_of(written(), tools)) is None


def test_a_filter_is_on_only_where_it_is_named() -> None:
    refusal = candidate_of(written("I'm sorry, but I can't help with that.", "hm"))
    assert [drop(refusal) for drop in active_filters(ExampleSettings())].count(None) == 8


# ---- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (written(reasoning=None), "no think block"),
        (written("", "hm, and", think="open"), "think block not closed"),
        (written(reasoning="hm</think>\n\n<think>again"), "several think blocks"),
        (written("So.</think> \\boxed{72}"), "several think blocks"),
        (written("[THINK]no[/THINK] \\boxed{72}"), "several think blocks"),
        (written("The answer is 72."), "no boxed answer"),
        (written("It goes into \\boxed{}."), "no boxed answer"),
        (written("\\boxed{71}. No: \\boxed{72}"), "unequal boxes"),
        (written("\\boxed{72}<|im_end|>"), "template token"),
        (written(reasoning="hm<｜end▁of▁sentence｜>"), "template token"),
        (written("<start_of_turn>model\n\\boxed{72}"), "template token"),
    ],
)
def test_structure_drops(done: Completion, reason: str, tools: Tools) -> None:
    assert why("structure", candidate_of(done, tools)) == reason


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{0.5}, that is \\boxed{\\frac{1}{2}}",  # the grader's equality, not that of texts
        "Put it in \\boxed{}: \\boxed{72}",
        "It is not \\boxed{71}. It is \\boxed{72}.",
        "$x = \\boxed{1}$ and $y = \\boxed{2}$",  # two parts of one answer
        "(a) \\boxed{3}\n(b) \\boxed{4}",
        "The set {x : |x| < 7 || x > 9} and a < s > b give \\boxed{72}",
    ],
)
def test_structure_lets_pass(text: str, tools: Tools) -> None:
    assert why("structure", candidate_of(written(text), tools)) is None


def test_each_part_of_structure_can_be_left_out(tools: Tools) -> None:
    plain = candidate_of(written("It is 72.<|im_end|>", None), tools)
    assert why("structure", plain, think=False) == "template token"
    assert why("structure", plain, think=False, tokens=False) == "no boxed answer"
    assert why("structure", plain, think=False, tokens=False, box=False) is None


def test_boxes_are_found_as_parts_drafts_and_mentions() -> None:
    assert boxed_answers("none") == boxed_answers("\\boxed{") == boxed_answers("") == []
    assert boxed_answers("\\boxed{1} and \\boxed{2}") == ["1, 2"]
    assert boxed_answers("\\boxed{1}. Wait, so it must be \\boxed{2}.") == ["1", "2"]
    assert boxed_answers("\\boxed{\\frac{1}{2}} in \\boxed{}") == ["\\frac{1}{2}"]


# ---- agreement -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thought", "text", "drops"),
    [
        ("So \\boxed{24}.", "\\boxed{72}", True),
        ("So \\boxed{72}. Wait: \\boxed{24}.", "The answer is 72.", True),
        ("So \\boxed{24}. Wait: \\boxed{72}.", "\\boxed{72}", False),  # it changed its mind
        ("So \\boxed{\\frac{1}{2}}.", "\\boxed{0.5}", False),
        ("So \\boxed{\\sqrt{8}}.", "\\boxed{2\\sqrt{2}}", False),  # a worker decides
        ("So \\boxed{72}.", "\\boxed{72\\text{ clips}}", False),
        ("It must be written in \\boxed{}.", "\\boxed{72}", False),
        ("No box at all: 24.", "\\boxed{72}", False),
        ("So \\boxed{24}.", "I do not know.", False),  # nothing is said
        ("It cannot be \\boxed{24}.", "\\boxed{72}", False),
    ],
)
def test_agreement_is_between_the_last_box_thought_and_the_answer(
    thought: str, text: str, drops: bool, tools: Tools
) -> None:
    reason = why("agreement", candidate_of(written(text, thought), tools))
    assert reason == ("answer contradicts its reasoning" if drops else None)


def test_what_the_grader_leaves_undecided_is_no_contradiction() -> None:
    undecided = Tools(lambda answer, other: "undecided", NO_TOOLS.count_tokens)
    done = written("\\boxed{\\Gamma(7)}", "\\boxed{f(7)}")
    assert why("agreement", candidate_of(done, undecided)) is None


def test_a_filter_without_its_tools_says_so() -> None:
    with pytest.raises(StageError, match="nobody gave it a grader"):
        why("agreement", candidate_of(written("\\boxed{1}", "\\boxed{2}")))
    with pytest.raises(StageError, match="nobody gave it t"):
        why("student_tokens", candidate_of(written()), tokenizer="t")


# ---- repetition ----------------------------------------------------------------------------------

VARIED = " ".join(f"Step {n}: take {n * n % 97} away from {n * 31} units." for n in range(60))


@pytest.mark.parametrize(
    ("thought", "reason"),
    [
        ("So we go on.\n\nThen we do.\n\n" * 10, "repeats a paragraph"),
        ("It is right. Wait, let me check again. " * 40, "repeats a sentence"),
        ("Hmm, no. " * 2 + "Wait, let me think. " * 4, "repeats a sentence"),
        ("x = 1.\n" * 8, "repeats a sentence"),
        ("alpha beta gamma delta epsilon zeta eta theta iota " * 40, "repeats its words"),
        ("again and again " * 200, "repeats its words"),
    ],
)
def test_repetition_drops(thought: str, reason: str) -> None:
    assert why("repetition", candidate_of(written(reasoning=thought))) == reason


@pytest.mark.parametrize(
    "thought",
    [
        "Wait, let me think. " * 3,
        "So we go on.\n\nThen we do.\n\n" * 9,
        "x = 1.\n" * 7,  # formulas may stand there twice as often
        "- apple\n" * 11,  # and items of a list three times
        "}\n" * 30,  # what says nothing does not count
        VARIED,
    ],
)
def test_repetition_lets_pass(thought: str) -> None:
    assert why("repetition", candidate_of(written(reasoning=thought))) is None


def test_a_trace_that_falls_into_dots_is_looked_at_once() -> None:
    # For a pattern that begins anew at each dot it takes an hour.
    dots = "." * 500_000
    assert why("repetition", candidate_of(written(reasoning=f"{THOUGHT} {dots}x"))) is None
    assert why("repetition", candidate_of(written(reasoning="So be it...\n" * 4))) == (
        "repeats a sentence"
    )


def test_ratios_are_those_of_a_hand_calculation_and_can_be_set() -> None:
    # (a b) (b a) (a b) (b a) (a b): two different ones of five.
    assert share_repeated(list("ababab"), 2) == pytest.approx(0.6)
    assert share_repeated(list("ab"), 3) == 0.0
    assert compression_ratio("a" * 10_000) > 100 and compression_ratio("") == 0.0
    packs = candidate_of(written(reasoning=VARIED))
    assert why("repetition", packs, compression=2, n_grams=1) == "packs too well"
    twice = candidate_of(written(reasoning=f"{THOUGHT}\n{THOUGHT}"))
    assert why("repetition", twice) is None  # too short to judge
    assert why("repetition", twice, least_words=10) == "repeats its words"


# ---- language ------------------------------------------------------------------------------------

CHINESE = "四月份她卖了四十八个，五月份卖了一半，也就是二十四个，所以一共是七十二个。"


@pytest.mark.parametrize(
    ("question", "thought", "drops"),
    [
        (QUESTION, f"{THOUGHT} {CHINESE}", True),
        (QUESTION, THOUGHT + " Итак, в апреле и мае вместе получается семьдесят два.", True),
        (CHINESE, f"{CHINESE * 3} Natalia sold seventy-two clips altogether in spring", True),
        ("ナタリアは四月に何個売りましたか。", "나탈리아는 사월에 팔았습니다", True),
        (QUESTION, THOUGHT, False),
        (QUESTION, f"{THOUGHT * 3} The angle is α, and ℝ ∋ ℵ, µ, Δ, 𝑥 = π.", False),
        (QUESTION, f"{THOUGHT * 3} A word: 水.", False),
        (CHINESE, f"{CHINESE} $\\frac{{x}}{{y}} = \\sqrt{{max(a, b)}}$ cm, sin x", False),
        (CHINESE, CHINESE, False),
        ("ナタリアは四月に何個売りましたか。", "四月四十八個、五月二十四個、合計七十二個", False),
        ("48 + 24 = ?", CHINESE, False),  # a question without letters is of no script
    ],
)
def test_language_is_the_questions(question: str, thought: str, drops: bool) -> None:
    done = written("\\boxed{72}", thought)
    reason = why("language", candidate_of(done, question=question))
    assert reason == ("other script" if drops else None)


def test_a_script_can_be_named_and_the_share_set() -> None:
    done = candidate_of(written(reasoning=f"{THOUGHT} {CHINESE}"))
    assert why("language", done, most=0.9) is None
    assert why("language", done, scripts=["latin", "han"]) is None
    assert why("language", candidate_of(written()), scripts=["han"]) == "other script"
    assert letters_by_script("Über 水水 \\begin{align} x") == Counter(latin=4, han=2)
    with pytest.raises(ConfigError, match="scripts"):
        why("language", done, scripts=["klingon"])


# ---- phrases -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("As an AI language model, I do not count clips.", "speaks of itself"),
        ("I am Qwen, created by Alibaba Cloud.", "speaks of itself"),
        ("I'm ChatGPT, a large language model trained by OpenAI.", "speaks of itself"),
        ("Hello! I am DeepSeek, an assistant", "speaks of itself"),
        ("I was trained by Google.", "speaks of itself"),
        ("I'm just an AI, but it is 72.", "speaks of itself"),
        ("作为一个人工智能，我不能", "speaks of itself"),
        ("I'm sorry, but I can't help with that.", "refuses"),
        ("I’m sorry, I cannot answer this question.", "refuses"),
        ("I cannot assist you with that request.", "refuses"),
        ("That would be against my programming.", "refuses"),
        ("This violates the content policy.", "refuses"),
        ("抱歉，我无法回答", "refuses"),
    ],
)
def test_phrases_drop(text: str, reason: str) -> None:
    assert why("phrases", candidate_of(written(text))) == reason


@pytest.mark.parametrize(
    "text",
    [
        "Claude has 3 apples and Gemini 4: \\boxed{7}",
        "“I am Claude and I have 3 apples”, says Claude. \\boxed{3}",
        "My name is Phi and I am 7 years old. \\boxed{7}",
        "An AI model costs 3 dollars; Google trains 4 of them. \\boxed{12}",
        "As an AI engineer she earns 72 dollars. \\boxed{72}",
        "I'm sorry, I made a mistake: 48 + 24 = 72. \\boxed{72}",
        "The value cannot be determined. I can't help thinking of 72.",
        "I cannot answer this without x, so solve for x first: \\boxed{72}",
        "Our nation has 50 states: \\boxed{50}",
        "Let me assist with this: \\boxed{1}",
        "That is against the rules of the game.",
        "A load of 80 violates the safety condition, so it is 72. \\boxed{72}",
        "Two doors are against the guidelines of the town. \\boxed{1}",
    ],
)
def test_phrases_let_pass(text: str) -> None:
    assert why("phrases", candidate_of(written(text))) is None


def test_phrases_can_be_added_and_kinds_left_out() -> None:
    nation = candidate_of(written("OUR NATION (a+) is great"))
    assert why("phrases", nation, more=["our nation (a+)"]) == "unwanted phrase"
    itself = candidate_of(written("As an AI model, I am sorry, but I can't help with that."))
    assert why("phrases", itself, identity=False) == "refuses"
    assert why("phrases", itself, identity=False, refusal=False) is None


# ---- reasoning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thought", "reason"),
    [
        ("", "empty reasoning"),
        ("\n  \n", "empty reasoning"),
        ("Okay. The answer is 72.", "empty reasoning"),
        (QUESTION, "copied reasoning"),
        (f"Question: {QUESTION.upper()}", "copied reasoning"),
        (SOLUTION, "copied reasoning"),
        (f"Okay. {QUESTION} {THOUGHT}", None),  # restates the question and goes on
        (THOUGHT, None),
        (CHINESE, None),
    ],
)
def test_reasoning_is_some_and_its_own(thought: str, reason: str | None) -> None:
    assert why("reasoning", candidate_of(written(reasoning=thought))) == reason


def test_without_a_think_block_there_is_no_reasoning_to_judge() -> None:
    assert why("reasoning", candidate_of(written("72", None))) is None
    thought = candidate_of(written(reasoning="48 + 24 = 72"))
    assert why("reasoning", thought) == "empty reasoning"
    assert why("reasoning", thought, least_words=5) is None


# ---- lengths -------------------------------------------------------------------------------------


def test_lengths_in_the_students_tokens(tools: Tools) -> None:
    done = candidate_of(written("a b c", None, tokens=999), tools)
    table = {"tokenizer": "words"}
    assert why("student_tokens", done, **table, least=4) == "too short for the student"
    assert why("student_tokens", done, **table, most=2) == "too long for the student"
    assert why("student_tokens", done, **table, least=3, most=3) is None
    untold = Tools(tools.compare, lambda tokenizer, text: None)
    lost = candidate_of(written(), untold)
    assert why("student_tokens", lost, **table) == "not given back by the tokenizer"


def test_percentiles_are_nearest_ranks_and_never_drop_more_than_asked() -> None:
    lengths = Counter(range(1, 101))
    bounds = bounds_of(lengths, LengthPercentiles(lowest=5, highest=95))
    assert (bounds.shortest, bounds.longest) == (6, 95)
    few = bounds_of(Counter([10, 20, 30]), LengthPercentiles(lowest=30, highest=70))
    assert (few.shortest, few.longest) == (10, 30)
    same = bounds_of(Counter({7: 50, 900: 1}), LengthPercentiles(lowest=40, highest=60))
    assert (same.shortest, same.longest) == (7, 7)


def test_percentiles_are_of_what_the_other_filters_let_pass(tools: Tools) -> None:
    short = [candidate_of(written(f"{n} \\boxed{{72}}", tokens=n + 1), sample=n) for n in range(10)]
    refused = candidate_of(written("I cannot assist you with that.", tokens=5_000), sample=99)
    examples = ExampleSettings(filters={"length_percentiles": {"highest": 90}, "phrases": {}})
    measured = with_lengths(tools, [*short, refused], examples)
    assert measured.lengths is not None and measured.lengths.longest == 9
    longest = candidate_of(written(tokens=10), measured)
    assert why("length_percentiles", longest, highest=90) == "among the longest"
    refusal = Candidate(refused.trace, refused.verdict, refused.text, refused.problem, measured)
    first = next(filter(None, (drop(refusal) for drop in active_filters(examples))))
    assert first == "refuses"  # a relative filter looks last
    assert with_lengths(tools, iter([]), ExampleSettings()) is tools


# ---- near-duplicates -----------------------------------------------------------------------------

AGAIN = THOUGHT.replace("Okay", "Well")


def fates(*written_ones: Completion, **table: Any) -> list[str | None]:
    """What becomes of the traces of one problem, in their order."""
    choice = ProblemChoice(ExampleSettings(filters={"near_duplicates": table}))
    samples = enumerate(written_ones)
    return [choice.see(candidate_of(done, sample=number)) for number, done in samples]


def test_of_traces_that_are_all_but_the_same_the_first_usable_one_stays() -> None:
    cut = written(finish="length")
    other = written("Half of 48 is 24, so in both months it was \\boxed{72}.", "Easy: 24 and 48.")
    found = fates(cut, written(), written(reasoning=AGAIN), other, written())
    assert found == ["cut off", None, "near-duplicate trace", None, "duplicate text"]


def test_a_trace_that_was_dropped_stands_for_no_other() -> None:
    longer = f"{THOUGHT} And now I look at it once more, from the end, to be sure of it."
    longest = f"{longer} Then I write it down for Natalia and her friends, as she has asked."
    found = fates(written(), written(reasoning=longer), written(reasoning=longest), threshold=0.55)
    assert found == [None, "near-duplicate trace", None]


def test_numbers_of_a_trace_can_be_said_to_count() -> None:
    wrong = written(reasoning=THOUGHT.replace("72 - 24 = 48", "72 - 24 = 49"))
    assert fates(written(), wrong, threshold=0.7) == [None, "near-duplicate trace"]
    assert fates(written(), wrong, threshold=0.7, numbers="count") == [None, None]
    assert fates(written(), wrong, threshold=1.0, numbers="ignored")[1] == "near-duplicate trace"


def test_traces_of_other_problems_are_never_compared() -> None:
    settings = ExampleSettings(filters={"near_duplicates": {}})
    assert [ProblemChoice(settings).see(candidate_of(written())) for _ in range(2)] == [None, None]
    choice = ProblemChoice(settings)
    choice.see(candidate_of(written()))
    choice.forget()
    assert choice.see(candidate_of(written(reasoning=AGAIN), sample=1)) is None


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("near_duplicates", {"threshold": 0}, "threshold: "),
        ("near_duplicates", {"numbers": "differ"}, "numbers: "),
        ("student_tokens", {}, "tokenizer: missing"),
        ("student_tokens", {"tokenizer": "t", "least": 9, "most": 3}, "least: 9 is above most"),
        ("length_percentiles", {"lowest": 95, "highest": 5}, "lowest: 95 is not below"),
        ("length_percentiles", {"highest": 101}, "highest: "),
        ("repetition", {"compression": 0.5}, "compression: "),
        ("reasoning", {"copied": 0}, "copied: "),
        ("phrases", {"more": ["x"]}, "more"),
        ("agreement", {"on": True}, "on: unknown key"),
    ],
)
def test_contradictory_settings_are_refused(name: str, table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        active_filters(ExampleSettings(filters={name: table}))


def test_a_grader_is_opened_only_when_answers_are_compared() -> None:
    opened: list[GradingPool] = []

    def counted() -> GradingPool:
        opened.append(new_pool())
        return opened[-1]

    with opened_tools(counted, lambda name, revision: len) as tools:
        assert why("agreement", candidate_of(written(), tools)) is None
        assert not opened
        assert tools.compare("1/2", "0.5") == tools.compare("2\\sqrt{2}", "\\sqrt{8}") == "correct"
        assert len(opened) == 1


# ---- short ways --------------------------------------------------------------------------------


@settings(max_examples=draws(200))
@given(
    words=st.lists(st.sampled_from("abc"), max_size=40),
    n=st.integers(1, 8),
    share=st.floats(0, 1),
)
def test_a_short_look_at_repeated_words_says_what_the_long_one_says(
    words: list[str], n: int, share: float
) -> None:
    assert repeats_more(words, n, share) == (share_repeated(words, n) > share)


@settings(max_examples=draws(200))
@given(
    thought=st.lists(st.sampled_from("aBc"), max_size=30),
    question=st.lists(st.sampled_from("abC"), max_size=30),
    share=st.sampled_from([0.1, 0.5, 0.8, 1.0]),
)
def test_copied_reasoning_is_the_share_of_its_runs_of_eight(
    thought: list[str], question: list[str], share: float
) -> None:
    def runs(words: list[str]) -> set[tuple[str, ...]]:
        low = [word.lower() for word in words]
        return {tuple(low[at : at + 8]) for at in range(len(low) - 7)}

    mine = runs(thought)
    copied = max(len(mine & runs(question)), len(mine & runs(SOLUTION.split())))
    is_copied = copied >= share * max(1, len(mine))
    done = completion(ANSWER, " ".join(thought))
    candidate = candidate_of(done, question=" ".join(question))
    found = reasoning(candidate, Reasoning(least_words=1, copied=share))
    if not thought:
        assert found == "empty reasoning"
    else:
        assert (found == "copied reasoning") == is_copied
