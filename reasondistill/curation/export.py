"""Examples in the formats that other tools read: a Parquet data set, TRL prompt-completion,
messages, ShareGPT.
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
            values = [example.model_dump(exclude={"split"}) for example in group]
            writer.write_table(pa.Table.from_pylist(values, schema))
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
    """The OpenAI format: one list of turns."""
    return {"messages": [message.as_turn() for message in example.messages]}


def as_sharegpt(example: Example) -> dict[str, Any]:
    """ShareGPT: `from` is system, human or gpt."""
    return {
        "conversations": [
            {"from": _SHAREGPT_ROLES[message.role], "value": message.content}
            for message in example.messages
        ]
    }


SHAPES: dict[str, Callable[[Example], dict[str, Any]]] = {
    "prompt_completion": as_prompt_completion,
    "messages": as_messages,
    "sharegpt": as_sharegpt,
}
