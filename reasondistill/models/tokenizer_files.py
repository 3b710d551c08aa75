"""Tokenizers of strangers: their files are looked at before a library opens them.

    tokenizer = open_tokenizer("Qwen/Qwen3-8B", revision="main")

Each added token costs the library 60 µs and 5 kB; a million and a half of them, in a file of
150 MB, cost a minute and a half and 7 GB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.bounds import ADDED_TOKENS, TOKENIZER_BYTES
from reasondistill.errors import ConfigError, ReasonDistillError, is_panic
from reasondistill.foreign_files import read_bytes, regular

# What stands once for each added token: an object, or a key of a flat one.
_SIGNS = {
    "tokenizer.json": b"{",
    "tokenizer_config.json": b"{",
    "special_tokens_map.json": b"{",
    "added_tokens.json": b":",
}
# What Python reads: nested deep, it would be the end of the stack.
_READ_BY_PYTHON = ("config.json", "generation_config.json", *list(_SIGNS)[1:])
_OTHERS = ("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja")
_OF_THE_HUB = ("tokenizer.json", "tokenizer_config.json", "config.json")
# Other objects in such a file, and signs in its tokens; the largest known files have 800.
_OTHER_OBJECTS = 20_000
_BLOCK = 1 << 20


def open_tokenizer(
    source: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> Any:
    """transformers' tokenizer of a folder or hub id.

    Raises ConfigError for files beyond the bounds and for what the libraries trip over; OSError,
    ValueError and ImportError are theirs.
    """
    from transformers import AutoTokenizer

    try:
        for path in _files_of(source, revision):
            require_bounded(path)
        return AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError, ReasonDistillError):
        raise
    except Exception as error:  # of the library in Rust, of remote code, of odd JSON
        raise _unreadable(source, error) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: BaseException) -> ConfigError:
    lines = str(error).splitlines() or [""]
    kind = type(error).__name__
    return ConfigError(f"model {source}: its tokenizer cannot be loaded: {kind}: {lines[0][:300]}")


def _files_of(source: str, revision: str | None) -> list[Path]:
    """The files of a tokenizer that are there; those of a hub id as transformers finds them."""
    folder = Path(source)
    if folder.is_dir():
        names = dict.fromkeys((*_SIGNS, *_READ_BY_PYTHON, *_OTHERS))
        paths = [folder / name for name in names]
        return [path for path in paths if path.is_file()]
    from transformers.utils import cached_file

    found: list[Path] = []
    for name in _OF_THE_HUB:
        path: Any = cached_file(
            source,
            name,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            found.append(Path(path))
    return found


def require_bounded(path: Path) -> None:
    """Raise ConfigError for a tokenizer's file of more bytes or added tokens than anybody needs."""
    if path.stat().st_size > TOKENIZER_BYTES.most:
        raise ConfigError(f"{path}: larger than {TOKENIZER_BYTES}.")
    sign = _SIGNS.get(path.name)
    if sign is not None:
        count = 0
        with open(path, "rb", opener=regular) as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                count += block.count(sign)
        if count > ADDED_TOKENS.most + _OTHER_OBJECTS:
            raise ConfigError(f"{path}: more than {ADDED_TOKENS}.")
    if path.name in _READ_BY_PYTHON:
        try:
            foreign_json.loads(read_bytes(path))
        except (json.JSONDecodeError, UnicodeDecodeError):
            pass  # the library says so
        except ValueError as error:
            raise ConfigError(f"{path}: {error}.") from error
