"""A tokenizer of a stranger is looked at before a library opens it; what the library trips over is
a message.
"""

from __future__ import annotations

import base64
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


# ---- how much a tokenizer can make of a text -----------------------------------------------------


def replacing(text: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


def steps(*parts: dict[str, Any], name: str = "normalizers") -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GROWING: dict[str, tuple[str, dict[str, Any]]] = {
    "three times a thousand": ("normalizer", steps(*[replacing("a", "a" * 1000)] * 3)),
    "three times two hundred": ("normalizer", steps(*[replacing("a", "a" * 200)] * 3)),
    "sequences in sequences": (
        "normalizer",
        steps(*[steps(replacing("a", "a" * 30), replacing("a", "a" * 30))] * 2),
    ),
    "an expression that matches nothing": (
        "normalizer",
        steps(*[{"type": "Replace", "pattern": {"Regex": "x*"}, "content": "a" * 250}] * 2),
    ),
    "prefixes": ("normalizer", steps(*[{"type": "Prepend", "prepend": "a" * 250}] * 20)),
    "a character that NFKC unfolds": (
        "normalizer",
        steps(*[replacing("abc", "\ufdfa"), {"type": "NFKC"}] * 6),
    ),
    "bytes of bytes, normalised": ("normalizer", steps(*[{"type": "ByteLevel"}] * 30)),
    "bytes of bytes": ("pre_tokenizer", steps(*[BYTES] * 30, name="pretokenizers")),
    "steps without end": ("normalizer", steps(*[{"type": "NFC"}] * 5_000)),
    "decoder": ("decoder", steps(*[replacing("a", "a" * 200)] * 3, name="decoders")),
    "without a type": ("normalizer", {"normalizers": [replacing("a", "a" * 200)] * 3}),
    "post-processor": (
        "post_processor",
        {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 5_000,
            "pair": [],
            "special_tokens": {},
        },
    ),
}


@pytest.mark.parametrize("place", ["first", "last", "spelt otherwise"])
@pytest.mark.parametrize("case", GROWING)
def test_a_tokenizer_that_makes_gigabytes_of_a_word_is_refused(
    folder: Path, case: str, place: str
) -> None:
    """Wherever the part stands in the file; an added token is normalised when it is opened."""
    path = folder / "tokenizer.json"
    name, part = GROWING[case]
    facts = json.loads(path.read_text())
    del facts[name]
    if place == "first":
        facts = {name: part} | facts
    else:
        facts[name] = part
    text = json.dumps(facts)
    if place == "spelt otherwise":
        text = text.replace(f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"')
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"tokenizer.json: "):
        open_tokenizer(str(folder))
    assert time.process_time() - began < 2.0


def test_a_table_of_sentencepiece_is_counted_by_its_longest_text(folder: Path) -> None:
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())

    def with_longest(count: int) -> None:
        table = base64.b64encode(bytes(4) + b"a" * count + b"\0").decode()
        facts["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": table}
        path.write_text(json.dumps(facts))

    with_longest(33)
    require_bounded(path)
    with_longest(100_000)
    with pytest.raises(ConfigError, match="more of a text"):
        require_bounded(path)


HONEST: dict[str, dict[str, Any]] = {
    "llama": steps({"type": "Prepend", "prepend": "\u2581"}, replacing(" ", "\u2581")),
    "gemma": replacing(" ", "\u2581"),
    "bert": steps({"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}),
    "xlnet": steps(
        replacing("``", '"'),
        replacing("''", '"'),
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_the_normalizers_of_well_known_models_pass(folder: Path, name: str) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": HONEST[name]}))
    tokenizer = open_tokenizer(str(folder))
    assert tokenise_text(tokenizer, "1 + 1?" * 200_000)


def test_a_long_text_that_grows_is_measured_before_it_is_cut(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_NORMALIZED_BYTES", "1000000")
    path = folder / "tokenizer.json"
    part = steps(replacing("a", "a" * 100), replacing("a", "a" * 50))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": part}))
    tokenizer = open_tokenizer(str(folder))
    assert len(tokenise_text(tokenizer, "bcd " * 30_000)) > 0, "it does not grow"
    with pytest.raises(ConfigError, match=r"makes more of a text of 1,000 characters"):
        tokenise_text(tokenizer, "a" * 1_000)


def test_a_vocabulary_of_millions_is_refused_before_it_is_opened(folder: Path) -> None:
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    facts["model"]["vocab"] = {f"t{number}": number for number in range(3_000_000)}
    path.write_text(json.dumps(facts))
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"more than 1,000,000 tokens"):
        open_tokenizer(str(folder))
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("sign", ["a", '"', "\\"])
def test_a_token_of_megabytes_is_refused(folder: Path, sign: str) -> None:
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    facts["model"]["vocab"][sign * 1_000_000] = len(facts["model"]["vocab"])
    path.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"a token of more than 20,000 bytes"):
        open_tokenizer(str(folder))


@pytest.mark.parametrize(("most", "is_refused"), [(100, False), (10**9, True)])
def test_words_of_wordpiece_have_an_end(folder: Path, most: int, is_refused: bool) -> None:
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    facts["model"] = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": most,
        "vocab": facts["model"]["vocab"] | {"[UNK]": 9_000},
    }
    path.write_text(json.dumps(facts))
    if not is_refused:
        assert open_tokenizer(str(folder)).get_vocab()
        return
    with pytest.raises(ConfigError, match="words of more than 1,000 characters"):
        open_tokenizer(str(folder))
