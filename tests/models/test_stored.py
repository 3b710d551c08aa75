"""Published traces: what is read of a row, in the shapes in which data sets have them. The rows
here are ours; only their fields are those of the sets that are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reasondistill.config import StoredSettings
from reasondistill.curation.rows import OpenedRows, Row
from reasondistill.errors import ConfigError, DataError
from reasondistill.models.samplers.stored.holding import NO_OPTIONS, NO_ORDER, Holding
from reasondistill.models.samplers.stored.reading import read_row
from reasondistill.models.samplers.stored.shapes import find_fields
from reasondistill.models.samplers.stored.texts import StoredRow, StoredText
from reasondistill.records import Origin, Problem

THOUGHTS, ANSWER = "3 and 4 make 7.", "It is \\boxed{7}."
WHOLE = f"<think>{THOUGHTS}</think>{ANSWER}"
ASKED = "What is 3+4?"


def read(row: Mapping[str, Any], **keys: Any) -> StoredRow:
    settings = StoredSettings.model_validate(keys)
    fields = find_fields(settings, [Row(0, row)], "t.jsonl")
    return read_row(fields, settings, row, "t.jsonl: row 0")


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def choice(text: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": "stop", "message": {"content": text}, **more}


OPEN_R1_MATH = {
    "problem": ASKED,
    "solution": "a person's",
    "answer": "7",
    "uuid": "0",
    "is_reasoning_complete": [True, True],
    "generations": [WHOLE, "<think>Hm"],
    "correctness_math_verify": [False, True],
    "finish_reasons": ["stop", "length"],
    "messages": turns(ASKED, WHOLE),
}
SHAREGPT = {
    "system": "Think.",
    "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": WHOLE}],
}
OPEN_THOUGHTS = {
    "system": "Think.",
    "conversations": [
        {"from": "user", "value": ASKED},
        {
            "from": "assistant",
            "value": f"<|begin_of_thought|>{THOUGHTS}<|end_of_thought|>\n\n"
            f"<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
        },
    ],
}
OPEN_THOUGHTS_METADATA = {
    "problem": ASKED,
    "deepseek_reasoning": THOUGHTS,
    "deepseek_solution": ANSWER,
    "ground_truth_solution": "7",
}
S1K = {
    "question": ASKED,
    "solution": "a person's",
    "attempt": ANSWER,
    "thinking_trajectories": [THOUGHTS],
    "cot": None,
}
S1K_1_1 = {
    "question": ASKED,
    "gemini_thinking_trajectory": "g",
    "gemini_attempt": "\\boxed{8}",
    "gemini_grade": "Yes",
    "deepseek_thinking_trajectory": THOUGHTS,
    "deepseek_attempt": ANSWER,
    "deepseek_grade": "No",
}
MIXTURE_OF_THOUGHTS = {"messages": turns(ASKED, WHOLE), "num_tokens": 9, "source": "o"}
DASD = {"uuid": "0", "input": ASKED, "output": WHOLE, "domain": "math", "meta": "{}"}
OPEN_MATH_REASONING = {
    "problem": ASKED,
    "generated_solution": WHOLE,
    "generation_model": "QwQ-32B",
    "expected_answer": "7",
}
LOGGED = {
    "request": {"model": "r1", "temperature": 0.6, "seed": 3, "messages": turns(ASKED)},
    "response": {"model": "r1-0528", "choices": [choice(WHOLE), choice(ANSWER)]},
}
STORED_COMPLETION = {
    "object": "chat.completion",
    "model": "o9",
    "temperature": 1.0,
    "top_p": 0.9,
    "usage": {"prompt_tokens": 5, "completion_tokens": 11},
    "choices": [choice("", message={"content": ANSWER, "reasoning_content": THOUGHTS})],
    "messages": turns(ASKED),
}


KNOWN_ROWS = [
    *(OPEN_R1_MATH, SHAREGPT, OPEN_THOUGHTS, OPEN_THOUGHTS_METADATA, S1K, S1K_1_1, DASD),
    *(MIXTURE_OF_THOUGHTS, OPEN_MATH_REASONING, LOGGED, STORED_COMPLETION),
]


def parts(row: StoredRow) -> list[tuple[str | None, str]]:
    return [(text.thinking, text.text) for text in row.texts]


@pytest.mark.parametrize(
    ("row", "keys", "expected"),
    [
        (OPEN_R1_MATH, {}, [(None, WHOLE), (None, "<think>Hm")]),
        (SHAREGPT, {}, [(None, WHOLE)]),
        (OPEN_THOUGHTS, {}, [(THOUGHTS, ANSWER)]),
        (OPEN_THOUGHTS_METADATA, {}, [(THOUGHTS, ANSWER)]),
        (S1K, {}, [(THOUGHTS, ANSWER)]),
        (S1K_1_1, {"text": "deepseek_attempt"}, [(THOUGHTS, ANSWER)]),
        (MIXTURE_OF_THOUGHTS, {}, [(None, WHOLE)]),
        (DASD, {}, [(None, WHOLE)]),
        (OPEN_MATH_REASONING, {}, [(None, WHOLE)]),
        (LOGGED, {}, [(None, WHOLE), (None, ANSWER)]),
        (STORED_COMPLETION, {}, [(THOUGHTS, ANSWER)]),
    ],
)
def test_a_known_shape_is_read_without_a_word(
    row: dict[str, Any], keys: dict[str, Any], expected: list[tuple[str | None, str]]
) -> None:
    found = read(row, **keys)
    assert parts(found) == expected
    assert (found.question, found.left_out) == (ASKED, ())


def test_what_is_said_of_a_trace_is_kept_and_nothing_else() -> None:
    first, second = read(OPEN_R1_MATH, teacher="deepseek-ai/DeepSeek-R1").texts
    assert (first.finish, second.finish) == ("stop", "length")
    assert first.teacher == "deepseek-ai/DeepSeek-R1"
    assert (first.tokens, first.temperature, first.seed) == (None, None, None)
    assert read(OPEN_MATH_REASONING).texts[0].teacher == "QwQ-32B"
    assert read(S1K).texts[0].finish == "unknown" and read(S1K).texts[0].teacher is None
    logged = read(LOGGED).texts[1]
    assert (logged.teacher, logged.temperature, logged.seed) == ("r1-0528", 0.6, 3)
    stored = read(STORED_COMPLETION).texts[0]
    assert (stored.tokens, stored.prompt_tokens, stored.top_p) == (11, 5, 0.9)


def test_log_probabilities_count_the_tokens() -> None:
    row = {**DASD, "token_ids": [5, 6, 7], "logprobs": [-0.5, -1.0, 0.0]}
    text = read(row).texts[0]
    assert (text.tokens, text.mean_logprob) == (3, -0.5)
    logprobs = {"content": [{"token": "a", "logprob": -2.0}, {"token": "b", "logprob": -1.0}]}
    found = read({"choices": [choice(WHOLE, logprobs=logprobs)], "messages": turns(ASKED)})
    assert (found.texts[0].tokens, found.texts[0].mean_logprob) == (2, -1.5)


def test_a_turn_is_named_from_the_end_too() -> None:
    row = {"messages": turns(ASKED, WHOLE, "And 4+4?", "8", "Thanks.")}
    found = read(row, turn=-2)
    assert (parts(found), found.question) == ([(None, "8")], "And 4+4?")
    assert read(row, turn=1).question == ASKED
    assert read(row, turn=-1).left_out == read(row, turn=9).left_out != ()
    several = read(row)
    assert several.texts == () and "several turns" in several.left_out[0]


def test_fields_of_ones_own_are_named() -> None:
    row = {"q": {"text": ASKED}, "unit": "whole", "cot": THOUGHTS, "final": ANSWER, "by": "me"}
    keys = {"text": "final", "thinking": "cot", "teacher_field": "by"}
    found = read(row, question="{q.text} ({unit})", **keys)
    assert (parts(found), found.question) == ([(THOUGHTS, ANSWER)], f"{ASKED} (whole)")
    assert found.texts[0].teacher == "me"


def test_empty_texts_are_left_out_with_the_reason() -> None:
    found = read({**OPEN_R1_MATH, "generations": [None, " "], "finish_reasons": None})
    assert (found.texts, found.left_out) == ((), ("no text", "no text"))
    assert read({**DASD, "output": ""}).left_out == ("no text",)
    ended = {"choices": [choice("…", finish_reason="content_filter")], "messages": turns(ASKED)}
    assert read(ended).left_out == ("ended in a way that is no answer (content_filter)",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**DASD, "output": 7}, "output: holds a number, want a text, a list of texts, or turns"),
        ({**DASD, "output": {"a": "b"}}, "output: holds an object"),
        ({**OPEN_R1_MATH, "generations": ["a", 3]}, "a list whose item 1 is a number"),
        ({**OPEN_R1_MATH, "generations": [["a"]]}, "a list whose item 0 is a list"),
        ({**OPEN_R1_MATH, "finish_reasons": ["stop"]}, "finish_reasons: holds a list, want a list"),
        ({**OPEN_R1_MATH, "problem": ["a"]}, "problem: holds a list, want a text"),
        ({**S1K, "thinking_trajectories": ["a", "b"]}, "2 texts beside 1 in attempt"),
        ({"messages": [{"content": "a"}]}, "turn 0: role: holds nothing"),
        ({"messages": [{"role": "poet", "content": "a"}]}, "unknown role 'poet'"),
        ({"messages": [{"role": "user", "content": 3}]}, "turn 0: content: holds a number"),
        ({**DASD, "logprobs": [0.5]}, "logprobs: token 0: '0.5' is no log-probability"),
        ({**DASD, "logprobs": [-(10**400)]}, "00000000' is no log-probability"),
        ({**DASD, "token_ids": [1], "logprobs": [-1, -1]}, "1 token_ids, but 2 logprobs"),
        ({"choices": [{"message": "a"}]}, "choices.0: message: holds a text, want an object"),
        ({"choices": [choice("a", finish_reason=3)]}, "finish_reason: holds a number"),
    ],
)
def test_a_value_of_another_type_is_an_error_with_its_row(
    row: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(row)
    assert str(caught.value).startswith("t.jsonl: row 0: ") and message in str(caught.value)


def test_turns_may_come_as_an_object_of_lists() -> None:
    columns = {"from": ["human", "gpt"], "value": [ASKED, WHOLE]}
    found = read({"conversations": columns})
    assert (parts(found), found.question) == ([(None, WHOLE)], ASKED)


def test_a_set_that_may_mean_several_texts_is_asked_about() -> None:
    with pytest.raises(ConfigError, match='text = "deepseek_attempt" or text = "gemini_attempt"'):
        read(S1K_1_1)


def test_a_set_of_no_known_shape_names_its_fields() -> None:
    with pytest.raises(ConfigError, match=r"none of the known shapes.*Fields: a, b\."):
        read({"a": 1, "b": 2})
    with pytest.raises(ConfigError, match=r'stored.text = "outptu": t.jsonl has no such field'):
        read(DASD, text="outptu")
    alpaca = {"instruction": "Add.", "input": "3 4", "output": "7"}
    with pytest.raises(ConfigError, match="none of the known shapes"):
        read(alpaca)


def test_a_question_without_its_options_is_that_of_its_own_row_alone() -> None:
    stem = "Which of these is true?"
    problems: list[Problem] = []
    for number, options in enumerate(("A) cats\nB) dogs", "A) sun\nB) moon")):
        origin = Origin(dataset="d", revision="r", split="train", row=number)
        question = f"{stem}\n\n{options}"
        name = f"d/train/{number}"
        problems.append(Problem(id=name, question=question, answer="A", origin=origin))
    holding = Holding(problems)
    asked = {0: stem, 1: stem, 7: stem, 8: problems[0].question}
    shown = {0: ["cats", "dogs"], 1: ["sun", "moon"]}
    rows = iter([Row(number, {"options": shown.get(number, [])}) for number in asked])
    holding.fill(
        OpenedRows(rows, "d", "r", "train"),
        lambda row: StoredRow(asked[row.index], (StoredText(f"of row {row.index}"),)),
    )
    assert [holding.count(problem.id) for problem in problems] == [2, 1]
    assert holding.get("d/train/1", 0)[0].text == "of row 1"
    assert holding.left_out.counts == {NO_OPTIONS: 1} and holding.left_out.rows[NO_OPTIONS] == [7]
    holding.close()


@pytest.mark.parametrize(
    ("fields", "is_known"),
    [
        ({"options": ["cats", "dogs"]}, True),
        ({"options": {"B": "dogs", "A": "cats"}}, True),
        ({"choices": {"text": ["cats", "dogs"], "label": ["1", "2"]}}, True),
        ({"record": {"options": ["cats", "dogs"]}}, True),
        ({"prompt": "Choose.\n\nA) cats\nB) dogs"}, True),
        ({"options": ["dogs", "cats"]}, False),
        ({"right": "dogs", "wrong": "cats"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("asked", ["Which?", None])
def test_a_letter_of_options_in_another_order_is_no_answer(
    fields: dict[str, Any], is_known: bool, asked: str | None
) -> None:
    origin = Origin(dataset="d", revision="r", split="train", row=0)
    question = "Which?\n\nA) cats\nB) dogs"
    holding = Holding([Problem(id="d/0", question=question, answer="A", origin=origin)])
    holding.fill(
        OpenedRows(iter([Row(0, fields)]), "d", "r", "train"),
        lambda row: StoredRow(asked, (StoredText("It is \\boxed{A}."),)),
    )
    assert holding.count("d/0") == is_known
    assert holding.left_out.counts == ({} if is_known else {NO_ORDER: 1})
    holding.close()
