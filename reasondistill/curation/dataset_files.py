"""The files that `datasets` would read of a data set that somebody else made: its own, and no more
than goes into memory.

    require_own_metadata(folder)                      # before the library looks at the folder
    require_own_files(builder, folder, "train")       # before it reads what it has chosen

The card of a data set (the head of its README.md) says which files it has, and `datasets` reads
them: `data_files: ../../x.csv`, `data_files: http://10.0.0.1/x.csv`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from reasondistill.bounds import CARD_BYTES, CARD_VALUES, JSON_DEPTH, LINE_BYTES, TEXT_RATIO
from reasondistill.curation.packed import OPENERS, most_bytes, without_packing
from reasondistill.curation.parquet import require_bounded
from reasondistill.curation.text_files import holds_objects
from reasondistill.errors import DataError, ReasonDistillError
from reasondistill.foreign_files import regular
from reasondistill.foreign_text import shortened, shown_line
from reasondistill.runs import layout

log = logging.getLogger(__name__)

# Where `datasets` looks for the metadata of a folder, and the keys that name files in it.
_CARDS = (layout.CARD, ".huggingface.yaml")
_NAME_FILES = ("data_files", "data_dir")
_JSON_FILES = (".jsonl", ".ndjson", ".json")
# What `datasets` reads as Parquet.
_PARQUET_FILES = (".parquet", ".geoparquet", ".gpq")
# The readers of `datasets` whose rows take no more memory than our bounds allow: others unpack,
# decode, or hold a whole file (Arrow's compressed buffers, tar, XML, HDF5).
_READERS = ("csv", "json", "parquet", "text", "imagefolder")
_PACKAGED = "datasets.packaged_modules."
_HEAD = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
# Of a hub's data set.
_OF_THE_HUB = "hf://"
_READ_AT_ONCE = 1 << 20
# Unpacking so much takes a while.
_MUCH = 256 << 20
_LONGEST_NAME = 200


def require_own_metadata(folder: Path) -> None:
    """Raise DataError for a card whose files lie outside of its folder."""
    for name in _CARDS:
        card = folder / name
        if card.is_file():
            for pattern in _patterns_of(card):
                if _leads_out(folder, pattern):
                    raise _outside(card, pattern)


def require_own_files(builder: Any, folder: Path | None, split: str) -> None:
    """Raise DataError where a file of the split lies outside of the folder, or of the hub where
    there is none; of files here also where one goes beyond the bounds, or is of a kind without any.
    """
    if folder is not None:
        _require_bounded_reader(builder, folder)
    files = cast("dict[Any, Iterable[Any]]", builder.config.data_files or {})
    chosen = {part.strip().partition("[")[0] for part in split.split("+")}
    for name, paths in files.items():
        if str(name) not in chosen and "all" not in chosen:
            continue
        for path in map(str, paths):
            if folder is None:
                if not path.startswith(_OF_THE_HUB):
                    raise _outside(builder.dataset_name, path)
                continue
            if "://" in path or not _is_below(folder, Path(path)):
                raise _outside(folder, path)
            _require_bounded(Path(path))


def _require_bounded_reader(builder: Any, folder: Path) -> None:
    module = type(builder).__module__
    if not module.startswith(_PACKAGED):
        return
    reader = module.removeprefix(_PACKAGED).partition(".")[0]
    if reader not in _READERS:
        raise DataError(
            f"{folder}: `datasets` would read its files as {reader}, which nothing bounds. Write "
            "them as Parquet, JSON Lines or CSV."
        )


def files_of(builder: Any, split: str) -> list[Path]:
    """The files here that a split is read from, in order."""
    files = cast("dict[Any, Iterable[Any]]", builder.config.data_files or {})
    chosen = {part.strip().partition("[")[0] for part in split.split("+")}
    paths = [str(path) for name in files if str(name) in chosen for path in files[name]]
    return [Path(path) for path in paths if "://" not in path]


def json_files(builder: Any) -> dict[str, list[Path]] | None:
    """The files of JSON here, by split, that our own reader takes as they are; None where a file
    is of another kind, or the card says how they are to be read.
    """
    from datasets.packaged_modules.json.json import Json

    if not isinstance(builder, Json):
        return None
    settings: Any = builder.config
    is_told = builder.info.features is not None or settings.field is not None
    if is_told or settings.encoding != "utf-8" or settings.encoding_errors is not None:
        return None
    files: dict[str, list[Path]] = {}
    for name, paths in (settings.data_files or {}).items():
        files[str(name)] = [Path(path) for path in paths]
    for path in chain.from_iterable(files.values()):
        if without_packing(path).suffix.lower() not in _JSON_FILES or not holds_objects(path):
            return None
    return files


def _outside(place: object, path: str) -> DataError:
    words = shortened(shown_line(path), _LONGEST_NAME)
    return DataError(
        f"{place}: its data_files lead out of the data set: {words}. Whoever made it would have "
        "your files, or those of another server, read as problems. If you want that file, give it "
        "as a source of its own."
    )


def _patterns_of(card: Path) -> Iterator[str]:
    """What a card says of its files: paths with stars, and URLs."""
    import yaml

    with open(card, "rb", opener=regular) as file:
        content = file.read(CARD_BYTES.most + 1)
    if len(content) > CARD_BYTES.most:
        raise DataError(f"{card}: beyond {CARD_BYTES}.")
    text = content.decode("utf-8", "replace")
    if card.name == _CARDS[0]:
        head = _HEAD.match(text)
        if head is None:
            return
        text = head[1]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        metadata = yaml.load(text, Loader=loader)  # of the safe kind
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{card}: not readable YAML: {line}") from error
    if not isinstance(metadata, dict):
        return
    if _size_of(metadata, {}, JSON_DEPTH.most) > CARD_VALUES.most:
        raise DataError(f"{card}: deeper than {JSON_DEPTH}, or more values than {CARD_VALUES}.")
    yield from _texts_below(cast("dict[Any, Any]", metadata).get("configs"))


def _size_of(value: object, known: dict[int, int], levels: int) -> int:
    """How many values there are below one, aliases counted each time: ten lines of aliases of
    aliases are billions. Of one that is nested deeper: more than any bound.
    """
    parts: Iterable[object] = ()
    if isinstance(value, dict):
        parts = cast("dict[object, object]", value).values()
    elif isinstance(value, list):
        parts = cast("list[object]", value)
    else:
        return 1
    if levels == 0:
        return sys.maxsize
    if id(value) not in known:
        known[id(value)] = 1 + sum(_size_of(part, known, levels - 1) for part in parts)
    return known[id(value)]


def _texts_below(configs: object) -> Iterator[str]:
    """The texts below the keys that name files."""
    waiting = [(configs, False)]
    while waiting:
        value, names_files = waiting.pop()
        if isinstance(value, str) and names_files:
            yield value
        elif isinstance(value, dict):
            for key, inner in cast("dict[Any, Any]", value).items():
                waiting.append((inner, names_files or key in _NAME_FILES))
        elif isinstance(value, list):
            waiting += [(inner, names_files) for inner in cast("list[Any]", value)]


def _leads_out(folder: Path, pattern: str) -> bool:
    if "://" in pattern or "::" in pattern or pattern.startswith("~"):
        return True
    base = os.path.abspath(folder)
    place = os.path.normpath(os.path.join(base, pattern))
    return place != base and not place.startswith(base + os.sep)


def _is_below(folder: Path, path: Path) -> bool:
    """Whether a file lies in the folder, links followed; those of the hub's cache lead to its
    blobs.
    """
    real = path.resolve()
    base = folder.resolve()
    if real.is_relative_to(base):
        return True
    for snapshot in (base, *base.parents):
        if snapshot.parent.name == "snapshots":
            return real.is_relative_to(snapshot.parent.parent / "blobs")
    return False


# ---- bounds --------------------------------------------------------------------------------------


def _require_bounded(path: Path) -> None:
    if path.suffix.lower() in _PARQUET_FILES:
        require_bounded(path)
        return
    try:
        with ExitStack() as stack:
            for name, packed, size in _unpacked(path, stack):
                _require_short_lines(name, packed, size)
    except ReasonDistillError:
        raise
    except Exception as error:  # each way of packing has errors of its own
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: cannot be unpacked: {line}") from error


def _unpacked(path: Path, stack: ExitStack) -> Iterator[tuple[str, IO[bytes], int]]:
    """What a packed file holds, each with its name and with how many bytes it is packed; nothing of
    a plain file.
    """
    if path.suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        for member in archive.infolist():
            if not member.is_dir():
                file = stack.enter_context(archive.open(member))
                yield f"{path}:{shown_line(member.filename)}", file, member.compress_size
        return
    opener = OPENERS.get(path.suffix)
    if opener is None:
        return
    raw = stack.enter_context(path.open("rb"))
    size = os.fstat(raw.fileno()).st_size
    if size > _MUCH:
        log.info("looking over %s (%.1f GB packed)", path, size / 1e9)
    yield str(path), stack.enter_context(opener(raw)), size


def _require_short_lines(name: str, file: IO[bytes], packed: int) -> None:
    """A reader of JSON or CSV holds a whole line, and all of a file that it does not understand."""
    longest = LINE_BYTES.most
    most = most_bytes(packed)
    total = 0
    number = 1
    line = 0
    # No line inside a piece is longer than the piece.
    while piece := file.read(min(_READ_AT_ONCE, longest)):
        total += len(piece)
        if total > most:
            raise DataError(f"{name}: {packed:,} bytes unpack to more than {TEXT_RATIO}.")
        first, end, _ = piece.partition(b"\n")
        line += len(first)
        if line > longest:
            raise DataError(f"{name}:{number}: a line beyond {LINE_BYTES}.")
        if end:
            number += piece.count(b"\n")
            line = len(piece) - piece.rindex(b"\n") - 1
