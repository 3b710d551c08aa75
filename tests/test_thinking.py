"""Reasoning in every shape: closed, cut, opened by the prompt, quoted, and not there at all;
through samplers and the grader.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasondistill.config import Cluster, SampledModel
from reasondistill.grade_file import grade_file
from reasondistill.grading import GradeItem
from reasondistill.grading.serve.items import begin, find_policy, finish
from reasondistill.models.samplers import Request
from reasondistill.models.samplers.opening import open_sampler
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.records import Completion, Grade, Message, Origin, Problem, Sampling, Trace
from reasondistill.thinking import ReasoningFormat, opened_by, shape_of, split

MAYBE = "Maybe \\boxed{7}. Hmm"
HEAD, NEXT = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>"
FINAL = NEXT + "final<|message|>"

# shape, what opens a block, what closes it
TAGS: list[tuple[ReasoningFormat, str, str]] = [
    ("think", "<think>", "</think>"),
    ("thinking", "<thinking>", "</thinking>"),
    ("thinking", "<thought>", "</thought>"),
    ("thinking", "<reasoning>", "</reasoning>"),
    ("mistral", "[THINK]", "[/THINK]"),
    ("kimi", "◁think▷", "◁/think▷"),
    ("gemma", "<|channel>thought", "<channel|>"),
]
SHAPES = [*TAGS, ("harmony", HEAD, FINAL)]
each_shape = pytest.mark.parametrize(
    ("shape", "opener", "closer"), SHAPES, ids=[row[1] for row in SHAPES]
)
each_pair = pytest.mark.parametrize(
    ("shape", "opener", "closer"), TAGS, ids=[row[1] for row in TAGS]
)


def parts(
    text: str, shape: ReasoningFormat = "auto", opens: ReasoningFormat | None = None
) -> tuple[str | None, str, str]:
    found = split(text, shape, opens=opens)
    return found.reasoning, found.answer, found.think


# ---- the table -----------------------------------------------------------------------------------


@each_shape
def test_a_closed_block_is_told_from_the_answer_by_guess_and_by_name(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    text = f"\n{opener}3 + 4 = 7{closer}\\boxed{{7}}"
    assert parts(text) == parts(text, shape) == ("3 + 4 = 7", "\\boxed{7}", "closed")
    assert shape_of(text) == shape


@each_shape
def test_a_block_that_was_cut_is_open_and_has_no_answer(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    assert parts(opener + MAYBE) == parts(opener + MAYBE, shape) == (MAYBE, "", "open")


@each_shape
def test_a_block_that_the_prompt_opened_needs_no_opener(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    opens = opened_by(f"What is 3 + 4?\n{opener}\n")
    assert opens == shape
    assert parts(f"3 + 4 = 7{closer}7", opens=opens) == ("3 + 4 = 7", "7", "closed")
    assert parts(MAYBE, opens=opens) == (MAYBE, "", "open")


@each_shape
def test_an_opener_that_a_server_cut_off_is_known_by_its_closer(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    assert (
        parts(f"3 + 4 = 7{closer}7")
        == parts(f"3 + 4 = 7{closer}7", shape)
        == ("3 + 4 = 7", "7", "closed")
    )


@each_pair
def test_the_last_closer_ends_the_block_so_a_quoted_one_does_not(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    assert parts(f"{opener}say {closer} twice{closer}b") == (f"say {closer} twice", "b", "closed")


@each_shape
def test_tags_of_another_shape_inside_a_block_are_text(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    quoted = (
        "[/THINK] ◁/think▷ <channel|>" if shape in ("think", "thinking") else "</think> </thinking>"
    )
    assert parts(f"{opener}{quoted}{closer}b") == (quoted, "b", "closed")
    assert parts(opener + quoted) == (quoted, "", "open")


@each_shape
def test_an_answer_without_reasoning_stays_whole(
    shape: ReasoningFormat, opener: str, closer: str
) -> None:
    for text in (
        "\\boxed{7}",
        "",
        "analysis: it is 7",
        "Analysis\n7",
        f"about {opener} it is said: 7",
    ):
        assert parts(text) == (None, text, "none")
        assert parts(text, "none") == (None, text, "none")


@each_shape
def test_none_never_splits(shape: ReasoningFormat, opener: str, closer: str) -> None:
    text = f"{opener}a{closer}b"
    assert parts(text, "none", opens=shape) == (None, text, "none")


def test_an_answer_that_mentions_tags_within_a_line_stays_whole() -> None:
    for text in (
        "Put it between <thinking> and </thinking>: \\boxed{7}",
        "[the mark] [THINK] begins and [/THINK] ends it. \\boxed{7}",
        "analysis of an assistant: final answer 7",
        "analysisResult = 7",
    ):
        assert parts(text) == (None, text, "none")


def test_a_block_on_a_line_of_its_own_behind_a_few_words_is_one() -> None:
    assert parts("Sure!\n<thinking>a</thinking>b") == ("Sure!\n<thinking>a", "b", "closed")
    assert parts("b about <think> tags") == (None, "b about <think> tags", "none")


def test_a_named_shape_looks_for_no_other() -> None:
    assert parts("[THINK]a[/THINK]b", "think") == (None, "[THINK]a[/THINK]b", "none")
    assert parts("<think>a</think>b", "harmony") == (None, "<think>a</think>b", "none")


def test_a_student_that_writes_think_tags_after_a_template_of_another_shape_is_understood() -> None:
    assert parts("<think>\na\n</think>\n\nb", opens="mistral") == ("\na\n", "\n\nb", "closed")


def test_a_prompt_that_closed_its_block_opens_none() -> None:
    assert opened_by("<think>\n\n</think>\n\n") is None
    assert opened_by("<|channel>thought\n<channel|>") is None
    assert opened_by("<|start|>assistant") is None


# ---- harmony -------------------------------------------------------------------------------------


def test_messages_of_analysis_and_commentary_are_the_reasoning_of_harmony() -> None:
    called = " to=functions.sum <|constrain|>json<|message|>{}<|call|>"
    again = "<|start|>assistant<|channel|>analysis<|message|>second"
    text = f"{HEAD}first{NEXT}commentary{called}{again}{FINAL}7<|return|>"
    assert parts(text) == ("first\n\n{}\n\nsecond", "7", "closed")


@pytest.mark.parametrize(
    "trailer", ["<|return|>", "<|end|>", "<|call|>", "<|end|>\n", "<|return|><|endoftext|>"]
)
def test_what_ends_a_message_of_harmony_is_no_part_of_it(trailer: str) -> None:
    assert parts(f"{HEAD}a{FINAL}b{trailer}") == ("a", "b", "closed")
    assert parts(f"{HEAD}a{trailer}") == ("a", "", "open")


def test_harmony_cut_in_a_header_is_open() -> None:
    for cut in ("<|channel|>", "<|channel|>ana", f"{HEAD}a{NEXT}fin", f"{HEAD}a{NEXT}final"):
        assert parts(cut)[1:] == ("", "open")


def test_a_final_message_alone_is_an_answer_without_reasoning() -> None:
    assert parts("<|channel|>final<|message|>7<|return|>") == (None, "7", "none")


def test_harmony_without_its_special_tokens_is_known_by_both_its_words() -> None:
    assert parts("analysisWe add.assistantfinal7") == ("We add.", "7", "closed")
    assert parts("analysisWe add.assistantanalysisAgain.assistantfinal7") == (
        "We add.\n\nAgain.",
        "7",
        "closed",
    )
    assert parts("analysis We say assistantfinal 7")[2] == "none", (
        "a word with a space behind it is English"
    )


def test_harmony_without_special_tokens_that_was_cut_is_open_by_name_or_when_tokens_ran_out() -> (
    None
):
    text = f"analysisWe add. {MAYBE}"
    assert parts(text, "harmony") == (f"We add. {MAYBE}", "", "open")
    assert split(text, is_cut=True).think == "open"
    assert parts(text)[2] == "none"
    assert split("analysis of it", is_cut=True).think == split("analysisResult = 7").think == "none"


# ---- through the samplers and the grader ---------------------------------------------------------


def problem() -> Problem:
    return Problem(
        id="p/0",
        question="q",
        answer="7",
        origin=Origin(dataset="d", revision="1", split="train", row=0),
    )


def sampled(path: Path, text: str, reasoning: ReasoningFormat, *, max_tokens: int) -> Completion:
    """What a scripted teacher of a pipeline file writes."""
    path.write_text(json.dumps({"problem_id": "p/0", "text": text}) + "\n", encoding="utf-8")
    teacher = SampledModel(model=str(path), sampler="scripted", reasoning=reasoning)
    with open_sampler(teacher, Cluster(), [problem()]) as sampler:
        rendered = sampler.render((Message(role="user", content="q"),), plain=False)
        request = Request("p/0:0", "0" * 16, rendered, Sampling(max_tokens=max_tokens), seed=1)
        (found,) = sampler.sample([request])
    return found.completion


def graded(completion: Completion) -> Grade:
    sampling = Sampling()
    trace = Trace(
        id="p/0:0",
        problem_id="p/0",
        sample=0,
        model="m",
        prompt="p",
        sampling=sampling,
        key="k",
        seed=1,
        completion=completion,
    )
    question = begin(GradeItem.of(trace, "7"), find_policy("default"))
    assert not question.decision.is_open
    return finish(question, question.decision, seconds=0.0)


@each_shape
def test_a_cut_sample_of_a_teacher_grades_as_truncated_and_a_whole_one_as_correct(
    tmp_path: Path, shape: ReasoningFormat, opener: str, closer: str
) -> None:
    text = f"{opener}{MAYBE} it is that{closer}So \\boxed{{7}}"
    names: tuple[ReasoningFormat, ...] = ("auto", shape)
    for reasoning in names:
        whole = sampled(tmp_path / "s.jsonl", text, reasoning, max_tokens=100)
        assert graded(whole).outcome == "correct" and MAYBE in (whole.reasoning or "")
        cut = sampled(tmp_path / "s.jsonl", text, reasoning, max_tokens=3)
        assert (cut.finish, cut.think, cut.answer_text) == ("length", "open", "")
        assert graded(cut).outcome == "truncated"


def test_a_sample_is_split_as_its_file_names_it_and_not_otherwise(tmp_path: Path) -> None:
    completion = sampled(tmp_path / "s.jsonl", "[THINK]a[/THINK]\\boxed{7}", "none", max_tokens=9)
    assert (completion.reasoning, completion.think) == (None, "none")


def test_the_finish_of_a_completion_says_that_a_stripped_block_was_cut() -> None:
    counts: dict[str, int] = {"prompt_tokens": 1, "tokens": 1}
    cut = split_reasoning("analysisWe add", opens=None, finish="length", **counts, seconds=0.0)
    whole = split_reasoning("analysisWe add", opens=None, finish="stop", **counts, seconds=0.0)
    assert (cut.think, whole.think) == ("open", "none")


def test_a_file_of_whole_completions_is_graded_the_same_way(tmp_path: Path) -> None:
    rows: list[dict[str, str]] = []
    for _, opener, closer in SHAPES:
        rows.append({"id": "cut", "prediction": opener + MAYBE, "gold": "7", "finish": "length"})
        rows.append({"id": "ended", "prediction": opener + MAYBE, "gold": "7"})
        rows.append(
            {"id": "whole", "prediction": f"{opener}\\boxed{{6}}{closer}\\boxed{{7}}", "gold": "7"}
        )
    rows.append(
        {"id": "cut", "prediction": f"analysisWe add. {MAYBE}", "gold": "7", "finish": "length"}
    )
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    grade_file(source, target, workers=1)
    wanted = {"cut": "truncated", "ended": "no_answer", "whole": "correct"}
    found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["outcome"] for row in found] == [wanted[row["id"]] for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "Sure.\n[THINK]Maybe \\boxed{7}. Hmm",
        "<think>a</think>Let me check\n<think>Maybe \\boxed{7}. Hm",
        "Sure!\n<think>\nhm \\boxed{7}",
    ],
)
def test_a_block_that_begins_later_and_is_cut_is_open_too(text: str) -> None:
    assert (split(text, is_cut=True).think, split(text, is_cut=True).answer) == ("open", "")
    assert split("We use the <think> tag: \\boxed{7} and", is_cut=True).think == "none"
