"""The top-K cache: the teacher's K most likely tokens at each token of a trace, from which students
learn with no teacher in memory.

    with TopKWriter(folder, source) as writer:
        writer.append([("gsm8k/train/12:3", top_k)])
    with TopKReader(folder) as reader:
        reader.check_tokenizer(student_tokenizer)
        reader.read("gsm8k/train/12:3", k=8).log_probs          # (tokens, 8)

A folder of four files:

    topk.json         Header: version, k, tokenizer, vocabulary size, bytes of an id, models,
                      and that the log-probabilities are raw
    vocabulary.json   token → id of the teacher, to compare tokens without the teacher; of both
                      there is a hidden copy, from which a repair puts back a damaged one
    topk.bin          one block per trace, back to back, little-endian: the trace's own ids
                      (tokens,), then the K ids (tokens, K), each of 2 bytes, or of 3 when the
                      vocabulary has more than 65,536 entries; then float16 log-probabilities
                      (tokens, K)
    topk.jsonl        one IndexLine per block, written when the block is on disk; the last line of
                      a trace counts

A token takes 2 + 4K bytes or 3 + 5K: 66 or 83 at K = 16. After a kill, blocks without an index line
are cut off. A block is checked against its crc32 whenever it is read. float16 keeps a
log-probability to one part in 2,048: probabilities are off by at most 2e-4, those near 1 by far
less; their sum may exceed 1 by as much, so clamp before you take the tail.
"""

from __future__ import annotations

import json
import logging
import mmap
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pydantic
from numpy.typing import NDArray

from reasondistill import foreign_json
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.foreign_files import read_bytes, regular
from reasondistill.models.samplers.requests import TopK
from reasondistill.models.vocabulary import (
    TokenMatch,
    UnlikeTokens,
    describe_vocabulary,
    guess_vocabulary,
    match_tokens,
    unequal_ids,
    vocabulary_fingerprint,
    vocabulary_of,
)
from reasondistill.records import Natural, Record, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.store import (
    AppendedFile,
    AppendedLines,
    disk_errors,
    keep_copy,
    list_anew,
    mend,
    open_to_write,
    read_bytes_verified,
    read_rows,
    require_all_lines,
    rewrite_shard,
    write_records,
    write_text,
)
from reasondistill.runs.store.lines import ListedLines, digest_of_line, read_list

__all__ = ["FOLDER", "Header", "IndexLine", "Source", "TopK", "TopKReader", "TopKWriter"]

VERSION = 1
FOLDER = layout.TOPK
HEADER = layout.TOPK_HEADER
VOCABULARY = layout.TOPK_VOCABULARY
BLOCKS = layout.TOPK_BLOCKS
INDEX = layout.TOPK_INDEX
log = logging.getLogger(__name__)

# float16 ends at 65,504: a token that cannot come has a log-probability of -inf.
_LOWEST = -60_000.0
# The number of traces from which the teacher's end of a text is found.
_LOOKED_AT = 64
# An id has at most three bytes, here and in every known tokenizer.
_MOST_IDS = 1 << 24


class Header(Record):
    """The description of all blocks. `k` is the latest K; there may be blocks of an earlier,
    smaller K beside.
    """

    version: int
    k: Natural
    mode: Literal["raw"] = "raw"
    tokenizer: str
    vocabulary_size: Natural
    id_bytes: Literal[2, 3]
    models: tuple[str, ...]


class IndexLine(Record):
    """The place of a trace's block: `offset` and `bytes` in topk.bin, `tokens` and `k` its
    shape.
    """

    trace_id: str
    offset: Natural
    bytes: Natural
    tokens: Natural
    k: Natural
    crc32: Natural


@dataclass(frozen=True)
class Source:
    """The model of the log-probabilities, their number K and the vocabulary. `vocabulary_size`
    counts the tokens that the model scores, padding included.
    """

    model: str
    k: int
    vocabulary: Mapping[str, int]
    vocabulary_size: int

    @cached_property
    def tokenizer(self) -> str:
        return vocabulary_fingerprint(self.vocabulary)

    @property
    def id_bytes(self) -> Literal[2, 3]:
        if self.vocabulary_size <= 1 << 16:
            return 2
        return 3


# ---- one block -----------------------------------------------------------------------------------


def bytes_of_token(k: int, id_bytes: int = 3) -> int:
    """What a token takes in the cache: its own id, and the ids and log-probabilities of its rivals.
    Three bytes for an id hold any vocabulary.
    """
    return id_bytes + k * (id_bytes + 2)


def pack(top_k: TopK, id_bytes: int) -> bytes:
    """A block's bytes."""
    log_probs = np.maximum(top_k.log_probs, _LOWEST).astype("<f2")
    return (
        _pack_ids(top_k.token_ids, id_bytes) + _pack_ids(top_k.ids, id_bytes) + log_probs.tobytes()
    )


def unpack(block: bytes | memoryview, tokens: int, k: int, id_bytes: int) -> TopK:
    """The TopK of a block. ids are int32, log-probabilities float32."""
    ids_at = tokens * id_bytes
    log_probs_at = ids_at + tokens * k * id_bytes
    token_ids = _unpack_ids(block[:ids_at], id_bytes)
    ids = _unpack_ids(block[ids_at:log_probs_at], id_bytes)
    log_probs = np.frombuffer(block, "<f2", offset=log_probs_at).astype(np.float32)
    return TopK(token_ids, ids.reshape(tokens, k), log_probs.reshape(tokens, k))


def _pack_ids(ids: NDArray[np.int32], id_bytes: int) -> bytes:
    whole = np.ascontiguousarray(ids, "<u4").reshape(-1, 1).view(np.uint8)
    return whole[:, :id_bytes].tobytes()


def _unpack_ids(block: bytes | memoryview, id_bytes: int) -> NDArray[np.int32]:
    packed = np.frombuffer(block, np.uint8).reshape(-1, id_bytes)
    whole = np.zeros((len(packed), 4), np.uint8)
    whole[:, :id_bytes] = packed
    return whole.view("<u4").reshape(-1).astype(np.int32)


# ---- writing -------------------------------------------------------------------------------------


class TopKWriter:
    """Appends blocks durably: a kill loses at most those of the current call. One writer per
    folder.

    Raises ConfigError when the folder holds the log-probabilities of another tokenizer.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._header = _claim(folder, source)
            _keep_copies(folder)
            cut_what_is_torn(folder)
            self._blocks = AppendedFile(folder / BLOCKS)
            self._index = AppendedLines(folder / INDEX)

    @property
    def k(self) -> int:
        """How many tokens at each position the cache is to hold now."""
        return self._header.k

    def append(self, rows: Iterable[tuple[str, TopK]]) -> None:
        """Write the blocks of these traces, then the lines that name them. Both are on disk on
        return.
        """
        blocks = [(trace_id, top_k, pack(top_k, self._header.id_bytes)) for trace_id, top_k in rows]
        if not blocks:
            return
        offset = self._blocks.size
        lines: list[bytes] = []
        for trace_id, top_k, block in blocks:
            tokens, k = top_k.ids.shape
            line = IndexLine(
                trace_id=trace_id,
                offset=offset,
                bytes=len(block),
                tokens=tokens,
                k=k,
                crc32=zlib.crc32(block),
            )
            lines.append(line.to_json().encode() + b"\n")
            offset += len(block)
        self._blocks.append(b"".join(block for *_, block in blocks))
        self._index.append(lines)

    def close(self) -> None:
        self._blocks.close()
        self._index.close()

    def __enter__(self) -> TopKWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _claim(folder: Path, source: Source) -> Header:
    """Write header and vocabulary, or check that existing ones fit."""
    mend_header(folder)
    header = Header(
        version=VERSION,
        k=source.k,
        tokenizer=source.tokenizer,
        vocabulary_size=source.vocabulary_size,
        id_bytes=source.id_bytes,
        models=(source.model,),
    )
    if (folder / HEADER).exists():
        old = read_header(folder)
        if old.tokenizer != header.tokenizer or old.id_bytes != header.id_bytes:
            differences = unequal_ids(read_vocabulary(folder), source.vocabulary)
            models, how = ", ".join(old.models), "; ".join(differences) or "the number of ids"
            raise ConfigError(
                f"{folder}: holds log-probabilities of {models}, whose tokens are not those of "
                f"{source.model} ({how}). One cache holds one vocabulary."
            )
        models = tuple(dict.fromkeys((*old.models, source.model)))
        header = old.model_copy(update={"k": source.k, "models": models})
        if not _has_vocabulary_of(folder, old):
            log.warning("%s: damaged since it was written: written again", folder / VOCABULARY)
            _write_vocabulary(folder, source)
        if header == old:
            return old
    else:
        _write_vocabulary(folder, source)
    lines = f"{header.model_dump_json(indent=2)}\n".encode().splitlines(keepends=True)
    rewrite_shard(folder / HEADER, lines)
    list_anew(folder / HEADER)
    return header


def _has_vocabulary_of(folder: Path, header: Header) -> bool:
    """Whether the vocabulary is the one of which the header has the fingerprint."""
    try:
        return vocabulary_fingerprint(read_vocabulary(folder)) == header.tokenizer
    except DataError as error:
        log.warning("%s", error)
        return False


def _write_vocabulary(folder: Path, source: Source) -> None:
    write_text(folder / VOCABULARY, json.dumps(dict(source.vocabulary), ensure_ascii=False))


def _keep_copies(folder: Path) -> None:
    """Keep a copy of each small file without which no block can be read: a repair puts it back."""
    for name in (HEADER, VOCABULARY):
        keep_copy(folder / name, folder / layout.copy_of(name))


def mend_header(folder: Path) -> None:
    """Put the header of an unfinished cache back from its copy where a damage has changed or taken
    it: whichever is the one that was listed; where the list is damaged, both where they are equal.
    What cannot be told is left as it is, and refused by whoever reads it.
    """
    path, copy = folder / HEADER, folder / layout.copy_of(HEADER)
    listed = read_list(path)
    if listed is None or not copy.exists():
        return  # a finished cache, or one of an earlier version
    header = read_bytes(path) if path.exists() else b""
    known = read_bytes(copy)
    is_equal = header == known and not listed.is_whole
    if _is_listed(header, listed) or not (_is_listed(known, listed) or is_equal):
        return
    log.warning("%s: damaged since it was written: put back from %s", path, copy.name)
    keep_copy(copy, path)
    list_anew(path)


def _is_listed(content: bytes, listed: ListedLines) -> bool:
    """Whether every line of a small file is one that was listed."""
    digests = {digest_of_line(line) for line in content.splitlines(keepends=True)}
    return bool(digests) and digests.issubset(listed.digests)


def cut_what_is_torn(folder: Path) -> None:
    """After a kill: remove a torn line, lines that were damaged or whose block never reached the
    disk, and blocks without a line.
    """
    index, blocks = folder / INDEX, folder / BLOCKS
    mend(index)
    size = _size_of(blocks)
    end = 0
    is_torn = False
    for line in read_index(folder):  # one at a time: there may be millions
        line_end = line.offset + line.bytes
        if line_end <= size:
            end = max(end, line_end)
        else:
            is_torn = True
    if is_torn:
        lines = list(read_index(folder))
        write_records(index, [line for line in lines if line.offset + line.bytes <= size])
    if end < size:
        with open_to_write(blocks, "r+b") as file:
            file.truncate(end)


# ---- reading -------------------------------------------------------------------------------------


def read_header(folder: Path) -> Header:
    """Raises StageError when there is no cache, DataError when its header cannot be read."""
    path = folder / HEADER
    if not path.exists():
        raise StageError(
            f"{folder}: no top-K cache. Set [traces] logprobs = 16 and run the traces stage."
        )
    require_all_lines(path)
    try:
        header = Header.model_validate_json(read_bytes_verified(path))
    except pydantic.ValidationError as error:
        raise DataError(
            f"{path}: not the header of a top-K cache: {error.errors()[0]['msg']}"
        ) from error
    if header.version != VERSION:
        raise DataError(
            f"{path}: version {header.version} of the format; this program reads version {VERSION}."
        )
    return header


def read_index(folder: Path) -> Iterator[IndexLine]:
    """All lines, including replaced ones, without a torn last one. Raises DataError."""
    path = folder / INDEX
    if not path.exists():
        return
    for number, row in enumerate(read_rows(path), start=1):
        try:
            yield IndexLine.model_validate(row, strict=True, extra="ignore")
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            message = first["msg"]
            raise DataError(
                f"{path}:{number}: not a line of a top-K index: {key}: {message}"
            ) from error


def read_vocabulary(folder: Path) -> dict[str, int]:
    """token → id of the teacher. Raises DataError."""
    path = folder / VOCABULARY
    try:
        vocabulary = foreign_json.loads(read_bytes_verified(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(vocabulary, dict):
        raise DataError(f"{path}: not a vocabulary: it maps no tokens to ids")
    for token, number in cast("dict[str, Any]", vocabulary).items():
        if type(number) is not int or not 0 <= number < _MOST_IDS:
            raise DataError(f"{path}: not a vocabulary: {token!r} has no number as its id")
    return cast("dict[str, int]", vocabulary)


class TopKReader:
    """The cache of a traces folder (`2-traces/topk`), memory-mapped: any trace can be read at once,
    in any process.

    Every trace has at least `k` tokens; `tokenizer` is the fingerprint of the teacher's vocabulary;
    `models` are the models of the log-probabilities. Raises StageError when there is no cache,
    DataError when it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = read_header(folder)
        self._lines = {line.trace_id: line for line in read_index(folder)}
        self.k = min((line.k for line in self._lines.values()), default=self.header.k)
        self.tokenizer, self.models = self.header.tokenizer, self.header.models
        self.vocabulary_size = self.header.vocabulary_size
        self._map = _mapped(folder / BLOCKS)

    def __contains__(self, trace_id: object) -> bool:
        return trace_id in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def line(self, trace_id: str) -> IndexLine:
        """Length and K of a trace without reading its block. Raises DataError when the trace is not
        in the cache.
        """
        try:
            return self._lines[trace_id]
        except KeyError:
            raise DataError(
                f"{self.folder}: no trace {trace_id} in it. Run the traces stage again: it "
                "captures what is missing."
            ) from None

    def read(self, trace_id: str, k: int | None = None) -> TopK:
        """The K (all when None) most likely tokens of a trace. Raises ConfigError (k too large),
        DataError (missing or damaged).
        """
        line = self.line(trace_id)
        if k is not None and k > line.k:
            raise ConfigError(
                f"{self.folder}: has the {line.k} most likely tokens, but {k} are needed. "
                f"Set [traces] logprobs = {k}."
            )
        block = self._map[line.offset : line.offset + line.bytes]
        id_bytes = self.header.id_bytes
        bytes_per_token = id_bytes + line.k * (id_bytes + 2)
        fits = len(block) == line.bytes == line.tokens * bytes_per_token
        if not fits or zlib.crc32(block) != line.crc32:
            raise DataError(
                f"{self.folder / BLOCKS}: trace {trace_id} is damaged (its block does not "
                "fit its crc32). "
                f"Remove {self.folder} and run the traces stage: it captures everything again."
            )
        whole = unpack(block, line.tokens, line.k, id_bytes)
        largest = max(whole.token_ids.max(initial=0), whole.ids.max(initial=0))
        if largest >= self.vocabulary_size and line.tokens:
            raise DataError(
                f"{self.folder / BLOCKS}: trace {trace_id}: it has an id {largest}, beyond the "
                f"{self.vocabulary_size} tokens of {self.folder / HEADER}."
            )
        if k is None or k == line.k:
            return whole
        return TopK(whole.token_ids, whole.ids[:, :k], whole.log_probs[:, :k])

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise ConfigError, with the first tokens that differ, unless every id is the same token
        as in the teacher's tokenizer.
        """
        mine = vocabulary_of(tokenizer)
        if vocabulary_fingerprint(mine) != self.tokenizer:
            raise self._other_tokens("; ".join(unequal_ids(read_vocabulary(self.folder), mine)))

    def match_tokenizer(self, tokenizer: Any) -> TokenMatch | None:
        """Which tokens of a student are which of the teacher's, where special ones differ; None
        where all are the same. Raises ConfigError, with the first ones, where ordinary tokens
        differ.
        """
        if vocabulary_fingerprint(vocabulary_of(tokenizer)) == self.tokenizer:
            return None
        tokens = read_vocabulary(self.folder)
        teacher = guess_vocabulary(tokens, self._end(tokens))

        def never_read(_: str) -> list[int]:
            return [0]

        try:
            return match_tokens(describe_vocabulary(tokenizer), teacher, never_read)
        except UnlikeTokens:
            mine = vocabulary_of(tokenizer)
            raise self._other_tokens("; ".join(unequal_ids(tokens, mine))) from None

    def _end(self, tokens: Mapping[str, int]) -> str | None:
        """The special token with which most traces end: the teacher's end of a text."""
        names = {number: token for token, number in tokens.items()}
        special = guess_vocabulary(tokens).added
        ends: Counter[str] = Counter()
        for trace_id in islice(self, _LOOKED_AT):
            written = self.read(trace_id, 1).token_ids
            if len(written):
                ends[names.get(int(written[-1]), "")] += 1
        found = [token for token, _ in ends.most_common() if token in special]
        return next(iter(found), None)

    def _other_tokens(self, differences: str) -> ConfigError:
        models = ", ".join(self.models)
        return ConfigError(
            f"{self.folder}: the teacher ({models}) and this student do not have the same tokens "
            f"({differences}; here: the teacher). Take a student of the teacher's family, or learn "
            "from the texts alone."
        )

    def identity(self, among: Container[str] | None = None) -> str:
        """16 hex digits over the content of the blocks, independent of their order: the input of
        students. `among` are the traces that count, where not all do.
        """
        lines = sorted(
            (line.trace_id, line.tokens, line.k, line.crc32)
            for line in self._lines.values()
            if among is None or line.trace_id in among
        )
        return fingerprint(
            {
                "version": VERSION,
                "tokenizer": self.tokenizer,
                "id_bytes": self.header.id_bytes,
                "lines": lines,
            }
        )

    @property
    def tokens(self) -> int:
        return sum(line.tokens for line in self._lines.values())

    @property
    def bytes(self) -> int:
        """The bytes of the blocks and their index lines, without replaced blocks."""
        blocks = sum(line.bytes for line in self._lines.values())
        return blocks + _size_of(self.folder / INDEX)

    def close(self) -> None:
        if isinstance(self._map, mmap.mmap):
            self._map.close()

    def __enter__(self) -> TopKReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size_of(path: Path) -> int:
    """The bytes of a file; 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def _mapped(path: Path) -> mmap.mmap | bytes:
    """The file as memory; an empty one cannot be mapped."""
    if not path.exists() or path.stat().st_size == 0:
        return b""
    with open(path, "rb", opener=regular) as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
