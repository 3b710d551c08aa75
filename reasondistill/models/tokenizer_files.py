"""Tokenizers of strangers: their files are looked at before a library opens them.

    tokenizer = open_tokenizer("Qwen/Qwen3-8B", revision="main")

Each added token costs the library 60 µs and 5 kB; a million and a half of them, in a file of
150 MB, cost a minute and a half and 7 GB.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.bounds import ADDED_TOKENS, TEMPLATE_BYTES, TOKENIZER_BYTES
from reasondistill.errors import ConfigError
from reasondistill.foreign_files import read_bytes
from reasondistill.imports import no_collections
from reasondistill.models.folders import require_sound
from reasondistill.models.loading import loading
from reasondistill.models.tokenizer_parts import (
    opened_parts,
    parts_of,
    require_few_tokens,
    require_tame,
)

# What stands once for each added token: an object, or a key of a flat one.
_SIGNS = {
    "tokenizer.json": b"{",
    "tokenizer_config.json": b"{",
    "special_tokens_map.json": b"{",
    "added_tokens.json": b":",
}
_OF_THE_HUB = (*_SIGNS, "config.json", "chat_template.jinja")
# Of WordPiece, which tries every end of every piece; BERT has 100.
_LONGEST_WORD = 1_000
# Other objects in such a file, and signs in its tokens; the largest known files have 800.
_OTHER_OBJECTS = 20_000


def open_tokenizer(
    source: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> Any:
    """transformers' tokenizer of a folder or hub id.

    Raises ConfigError for files beyond the bounds and for what the libraries trip over. ImportError
    is theirs, as are OSError of a disk or hub, and ValueError of a hub id.
    """
    with no_collections():
        from transformers import AutoTokenizer

    what = f"model {source}: its tokenizer"
    folder: Path | None = Path(source)
    passing: tuple[type[Exception], ...] = ()
    if not folder.is_dir():
        passing = (ValueError,)
        with loading(what, source, passing=passing):
            folder = snapshot_of(source, revision)
    if folder is not None:
        require_sound(folder)
        for name in _SIGNS:
            if (folder / name).is_file():
                require_bounded(folder / name)
    with loading(what, source, passing=passing):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=trust_remote_code
        )
    # Whatever its files were.
    require_tame(opened_parts(tokenizer), source)
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "max_input_chars_per_word", 0) > _LONGEST_WORD:
        raise ConfigError(
            f"{source}: its tokenizer reads words of more than {_LONGEST_WORD:,} characters whole; "
            "each takes the cube of its length."
        )
    templates = getattr(tokenizer, "chat_template", None) or ""
    if len(str(templates)) > TEMPLATE_BYTES.most:
        raise ConfigError(f"{source}: its chat templates are larger than {TEMPLATE_BYTES}.")
    return tokenizer


def snapshot_of(source: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache that has a hub id's small files; None where it has none."""
    from transformers.utils import cached_file

    folder: Path | None = None
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
            folder = Path(path).parent
    return folder


def require_bounded(path: Path) -> None:
    """Raise ConfigError for a tokenizer's file of more bytes, tokens or added tokens than anybody
    needs, or whose steps can make too much of a text.
    """
    if path.stat().st_size > TOKENIZER_BYTES.most:
        raise ConfigError(f"{path}: larger than {TOKENIZER_BYTES}.")
    facts = path.stat()
    look_into(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def look_into(path: Path, size: int, changed_ns: int) -> None:
    """Once for each state of a file, which its size and time tell."""
    data = read_bytes(path)
    if data.count(_SIGNS[path.name]) > ADDED_TOKENS.most + _OTHER_OBJECTS:
        raise ConfigError(f"{path}: more than {ADDED_TOKENS}.")
    try:
        if path.name == "tokenizer.json":
            require_few_tokens(data, path)
            require_tame(parts_of(data), path)
        else:
            foreign_json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
        pass  # the library says so
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from error
