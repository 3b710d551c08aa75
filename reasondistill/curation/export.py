"""Examples in the formats that other tools read: a Parquet data set, TRL prompt-completion,
messages, ShareGPT, Axolotl, OpenAI fine-tuning.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

from reasondistill.errors import MissingDependencyError
from reasondistill.records import Example
from reasondistill.secrets import holds_secret, masked_values

# A row group is flushed at this many rows or characters: long traces must not pile up in memory.
_GROUP_ROWS, _GROUP_CHARACTERS = 2_000, 32_000_000
_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def require_parquet() -> None:
    """Raise MissingDependencyError, before any work is done, when Parquet cannot be written."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingDependencyError("pyarrow", "data")


def write_parquet(file: BinaryIO, examples: Iterable[Example]) -> int:
    """Write columns id, problem_id, trace_id, messages (list of {role, content}) and tokens; return
    the number of rows.

    Equal examples give an equal file. Without examples nothing is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = [
        ("id", pa.string()),
        ("problem_id", pa.string()),
        ("trace_id", pa.string()),
        ("messages", pa.list_(turn)),
    ]
    schema = pa.schema([*columns, ("tokens", pa.int64())])
    rows = 0
    writer: Any = None
    with ExitStack() as stack:
        for group in _groups(examples):
            if writer is None:
                # Closed before the file is, also where memory is out: else it complains at its end.
                writer = stack.enter_context(pq.ParquetWriter(file, schema))
            columns_of_group = {
                "id": [example.id for example in group],
                "problem_id": [example.problem_id for example in group],
                "trace_id": [example.trace_id for example in group],
                "messages": [as_messages(example)["messages"] for example in group],
                "tokens": [example.tokens for example in group],
            }
            writer.write_table(pa.Table.from_pydict(columns_of_group, schema))
            rows += len(group)
    return rows


def _groups(examples: Iterable[Example]) -> Iterator[list[Example]]:
    group: list[Example] = []
    characters = 0
    for example in examples:
        group.append(example)
        characters += sum(len(message.content) for message in example.messages)
        if len(group) == _GROUP_ROWS or characters >= _GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def write_jsonl(file: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line, without secrets of the environment; return how many."""
    count = 0
    for row in rows:
        line = json.dumps(row, ensure_ascii=False)
        if holds_secret(line):
            line = json.dumps(masked_values(row), ensure_ascii=False)
        file.write(line.encode() + b"\n")
        count += 1
    return count


# ---- one example, for other tools ----------------------------------------------------------------


def as_prompt_completion(example: Example) -> dict[str, Any]:
    """TRL's conversational prompt-completion: the loss is on the completion.

    https://huggingface.co/docs/trl/dataset_formats#prompt-completion
    """
    turns = [message.as_turn() for message in example.messages]
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def as_messages(example: Example) -> dict[str, Any]:
    """One list of turns, as chat templates take it; TRL, DistillKit and most others read it."""
    return {"messages": [message.as_turn() for message in example.messages]}


def as_sharegpt(example: Example) -> dict[str, Any]:
    """ShareGPT: `from` is system, human or gpt."""
    return {
        "conversations": [
            {"from": _SHAREGPT_ROLES[message.role], "value": message.content}
            for message in example.messages
        ]
    }


def as_axolotl(example: Example) -> dict[str, Any]:
    """Axolotl's chat_template with `message_field_training: train`: the loss is on the last turn,
    also where the prompt holds worked examples.

    https://docs.axolotl.ai/docs/dataset-formats/conversation.html
    """
    last = len(example.messages) - 1
    turns = [message.as_turn() for message in example.messages]
    return {"messages": [{**turn, "train": place == last} for place, turn in enumerate(turns)]}


def as_openai_chat(example: Example) -> dict[str, Any]:
    """OpenAI's chat format for fine-tuning: `weight = 0` takes an assistant's turn out of the loss,
    and no other turn may have one.

    https://platform.openai.com/docs/guides/supervised-fine-tuning#multi-turn-chat-examples
    """
    turns: list[dict[str, Any]] = []
    for message in example.messages:
        turns.append(dict(message.as_turn()))
        if message.role == "assistant":
            turns[-1]["weight"] = 0
    turns[-1].pop("weight", None)
    return {"messages": turns}


SHAPES: dict[str, Callable[[Example], dict[str, Any]]] = {
    "prompt_completion": as_prompt_completion,
    "messages": as_messages,
    "sharegpt": as_sharegpt,
    "axolotl": as_axolotl,
    "openai_chat": as_openai_chat,
}

# Who reads each, and how it is told to.
READ_BY: dict[str, str] = {
    "prompt_completion": "TRL's SFTTrainer: the loss is on the completion",
    "messages": "TRL's SFTTrainer; DistillKit (train_dataset: repo_id is this folder, config_name "
    "is messages)",
    "sharegpt": "LLaMA-Factory and others that read `from` and `value`; TRL's "
    "maybe_convert_to_chatml; DistillKit",
    "axolotl": "Axolotl: type: chat_template, message_field_training: train",
    "openai_chat": "OpenAI's fine-tuning, and others that read `weight`",
}
