"""A tokenizer of a stranger is looked at before a library opens it; what the library trips over is
a message.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

from reasondistill.errors import ConfigError
from reasondistill.models.tokenising import InputFault, tokenise_prompt, tokenise_text
from reasondistill.models.tokenizer_files import open_tokenizer, require_bounded
from reasondistill.records import Message


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "model")
    return tmp_path / "model"


def test_a_good_tokenizer_opens(folder: Path) -> None:
    assert open_tokenizer(str(folder)).get_vocab()


def added(count: int) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return [{"id": 1000 + i, "content": f"<{i}>"} | flags for i in range(count)]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_a_million_added_tokens_are_refused_before_they_are_opened(folder: Path, name: str) -> None:
    path = folder / name
    tokens = added(150_000)
    value: dict[str, Any] = {token["content"]: token["id"] for token in tokens}
    if name == "tokenizer.json":
        value = json.loads(path.read_text()) | {"added_tokens": tokens}
    elif name == "tokenizer_config.json":
        decoder = {str(token["id"]): token for token in tokens}
        value = json.loads(path.read_text()) | {"added_tokens_decoder": decoder}
    path.write_text(json.dumps(value))
    began = time.process_time()
    with pytest.raises(ConfigError, match=f"{name}: more than 100,000 added tokens"):
        open_tokenizer(str(folder))
    assert time.process_time() - began < 2.0


def test_a_file_of_gigabytes_is_refused_by_its_size(folder: Path) -> None:
    with open(folder / "tokenizer.json", "wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ConfigError, match=r"tokenizer.json: larger than 256 MiB"):
        require_bounded(folder / "tokenizer.json")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE"}}'),
        ("tokenizer_config.json", "[" * 100_000 + "]" * 100_000),
        ("config.json", '{"a":' * 5_000 + "1" + "}" * 5_000),
        ("config.json", '{"vocab_size": ' + "9" * 5000 + "}"),
    ],
)
def test_what_no_library_can_read_is_a_message(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises((ConfigError, OSError, ValueError)) as found:
        open_tokenizer(str(folder))
    assert type(found.value) is not RecursionError


PANICS = {
    "normalizer": {"type": "Precompiled", "precompiled_charsmap": ""},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    },
    "pre_tokenizer": {"type": "FixedLength", "length": 0},
}


@pytest.mark.parametrize("part", PANICS)
def test_a_panic_of_the_library_is_a_message(
    folder: Path, part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Some come when the file is opened, some when the tokenizer is used."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: PANICS[part]}))
    messages = [Message(role="user", content="1 + 1?")]
    with pytest.raises(ConfigError, match="tokenizer") as found:
        tokenise_prompt(open_tokenizer(str(folder)), messages, plain=True)
    assert str(folder) in str(found.value)


def test_a_character_that_the_tokenizer_has_nothing_for_is_a_fault_of_the_row(folder: Path) -> None:
    path = folder / "tokenizer.json"
    model = {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]]}
    changes = {"model": model, "added_tokens": [], "pre_tokenizer": None, "post_processor": None}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputFault, match="refuses"):
        tokenise_text(open_tokenizer(str(folder)), "a b")
