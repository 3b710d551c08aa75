"""Writing examples for other tools, where it does not come to its end."""

from __future__ import annotations

import gc
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
