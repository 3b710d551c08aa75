"""Writing examples for other tools, where it does not come to its end."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reasondistill.curation import export
from reasondistill.records import Example, Message


def test_a_parquet_file_that_is_given_up_says_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    monkeypatch.setattr(export, "_GROUP_ROWS", 1)
    with pytest.raises(MemoryError), open(tmp_path / "train.parquet", "wb") as file:
        export.write_parquet(file, until_memory_is_out())
    gc.collect()
    assert said == []


def until_memory_is_out() -> Iterator[Example]:
    messages = (Message(role="user", content="1+1?"), Message(role="assistant", content="2"))
    yield Example(
        id="p:0", problem_id="p", trace_id="p:0", messages=messages, split="train", tokens=3
    )
    raise MemoryError


# ---- the formats of tools that are not installed here, by their documented rules -----------------

WITH_SHOT = Example(
    id="p:0",
    problem_id="p",
    trace_id="p:0",
    messages=(
        Message(role="system", content="Think."),
        Message(role="user", content="1+1?"),
        Message(role="assistant", content="2"),
        Message(role="user", content="3+4?"),
        Message(role="assistant", content="<think>3 and 4</think>7"),
    ),
    split="train",
    tokens=3,
)


def test_openai_would_learn_the_last_turn_alone() -> None:
    """A line has `messages` of known roles with texts, ends with the assistant, and only an
    assistant's turn has a weight, 0 or 1.
    """
    row = json.loads(json.dumps(export.as_openai_chat(WITH_SHOT)))
    turns = row["messages"]
    assert list(row) == ["messages"] and turns[-1]["role"] == "assistant"
    for turn in turns:
        assert turn.keys() - {"weight"} == {"role", "content"} and isinstance(turn["content"], str)
        assert turn["role"] in ("system", "user", "assistant")
        assert turn.get("weight", 1) in (0, 1)
        assert turn["role"] == "assistant" or "weight" not in turn
    learnt = [t["content"] for t in turns if t["role"] == "assistant" and t.get("weight", 1)]
    assert learnt == ["<think>3 and 4</think>7"]


def test_axolotl_would_learn_the_last_turn_alone() -> None:
    """`type: chat_template` reads `messages`, with the field that message_field_training names."""
    turns = export.as_axolotl(WITH_SHOT)["messages"]
    assert all(turn.keys() == {"role", "content", "train"} for turn in turns)
    assert [turn["content"] for turn in turns if turn["train"]] == ["<think>3 and 4</think>7"]


@pytest.mark.parametrize("shape", ["messages", "sharegpt"])
def test_distillkit_would_find_every_turn(shape: str) -> None:
    """It takes a column `conversations`, whose `from` it maps, else `messages` as they are."""
    row = export.SHAPES[shape](WITH_SHOT)
    roles = {"human": "user", "user": "user", "gpt": "assistant", "system": "system"}
    turns = row.get("messages")
    if "conversations" in row:
        turns = [{"role": roles[t["from"]], "content": t["value"]} for t in row["conversations"]]
    assert turns == [message.as_turn() for message in WITH_SHOT.messages]


def test_every_shape_says_who_reads_it() -> None:
    assert export.READ_BY.keys() == export.SHAPES.keys()
