"""Packed runs: what a run found out, without its weights, small enough for a repository.

    packed = pack_run(RunFolder(Path("runs/demo")), Path("eval/runs/demo"))
    packed.new, packed.same, packed.gone

    eval/runs/demo/
      pack.json                      every file, its size and digest before it was compressed
      pipeline.json                  run.json, as far as it is the same on every machine
      2-traces/manifest.json
      2-traces/traces.jsonl.gz       deterministic: the same records make the same bytes

Packed are records, manifests, scores, students' figures. Left out are weights, checkpoints, logs,
locks, the report and the data set (both are made again from the records), and the cache of a
teacher's distributions unless it is asked for. A run may be packed while it works: of a shard those
lines are taken that count. Of run.json the cluster file is left out, and of every path of this
machine all but its last part. `unpacking` is the way back.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.bounds import JSON_FILE_BYTES, PACK_BYTES, PACK_FILES
from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import regular
from reasondistill.runs import layout
from reasondistill.runs.layout import MANIFEST, METRICS, PACK, RUN, RunFolder
from reasondistill.runs.store.files import replacing
from reasondistill.runs.store.guards import read_guarded, write_guarded
from reasondistill.runs.store.lines import counted_lines
from reasondistill.runs.store.manifests import parse_manifest
from reasondistill.runs.store.verified import listed, open_verified, read_bytes_verified

VERSION = 1

_GZ = ".gz"
_PIPELINE = "pipeline.json"
_RECORDS = ".jsonl"
_PACKED_TYPES = (_RECORDS, ".json", ".bin")
# Folders of stages that hold weights or what is made again from the records.
_LEFT_OUT = (
    *(layout.MODEL, layout.ADAPTER, layout.SNAPSHOTS, layout.DATASET, layout.EXPORTS),
    *(layout.PARTS, layout.CHECKPOINTS, layout.ROLLOUTS, layout.TOKENS),
)
_TOPS = tuple(folder for stage, folder in layout.FOLDERS.items() if stage != "report")
_OWN = (RUN, layout.FORECAST)
_STAGING = ".packing"
_NAME = re.compile(r"[\w-][\w .@+-]{0,200}")
_BLOCK = 1 << 20
# A path of this machine inside a text: two parts or more.
_PLACE = re.compile(r"(?<![\w.:/~-])(?:~|/[^\s/\"'<>|:]+)(?:/[^\s/\"'<>|:,;]+)+")


@dataclass(frozen=True)
class PackedFile:
    """A file of a packed run, as it was before it was compressed."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Pack:
    """What pack.json says: the run's name, and its files by their path in the run's folder."""

    name: str
    files: Mapping[str, PackedFile]


@dataclass(frozen=True)
class Packed:
    """What `pack_run` did: files written, files that were there already, files removed because the
    run has them no longer, and the bytes of all of them as they are stored.
    """

    new: int
    same: int
    gone: int
    stored_bytes: int


# ---- which files ---------------------------------------------------------------------------------


def is_packed_run(folder: Path) -> bool:
    """Whether a folder holds a packed run."""
    return (folder / PACK).is_file()


def belongs(name: str) -> bool:
    """Whether a packed run may hold the file of this path in a run's folder: no weights, nothing
    hidden, nothing outside of stages.
    """
    if name in _OWN:
        return True
    parts = name.split("/")
    is_plain = all(part and not part.startswith(".") and "\\" not in part for part in parts)
    if not is_plain or len(parts) < 2 or parts[0] not in _TOPS or "\0" in name:
        return False
    if any(part in _LEFT_OUT for part in parts[1:]):
        return False
    is_cache = layout.TOPK in parts[1:-1]
    if name.endswith(layout.WEIGHTS) and not is_cache:
        return False
    return name.endswith(_PACKED_TYPES)


def stored_name(name: str) -> str:
    """The path in the packed run of a file of a run. Without run.json nobody takes it for a run."""
    if name == RUN:
        return _PIPELINE
    if name.endswith((_RECORDS, ".bin")):
        return f"{name}{_GZ}"
    return name


def chosen_files(run: RunFolder, *, topk: bool) -> list[str]:
    """The files of a run that are packed. Raises StageError for a link among them: whoever made the
    folder may have laid one to a file of its user.
    """
    chosen: list[str] = []
    for top, folders, names in os.walk(run.path):
        place = Path(top)
        folders[:] = [name for name in folders if name not in _LEFT_OUT and name[0] != "."]
        if place == run.path:
            folders[:] = [name for name in folders if name in _TOPS]
        wanted = [name for name in names if belongs(run.place_of(place / name))]
        for name in [*folders, *wanted]:
            if (place / name).is_symlink():
                raise StageError(
                    f"{place / name}: is a link; what it leads to is not packed. Remove it."
                )
        if topk or place.name != layout.TOPK:
            chosen += [run.place_of(place / name) for name in wanted]
    return sorted(chosen)


def _refuse_parts(run: RunFolder) -> None:
    """Raise StageError where workers of a stage have records that nobody has gathered yet."""
    for place in run.path.glob(f"**/{layout.PARTS}"):
        if any(path.stat().st_size for path in place.glob(f"*/*/*{_RECORDS}")):
            raise StageError(
                f"{place}: holds records of several workers, which are not put together yet. Stop "
                "the run, give the same command with one worker (it takes them in), and pack then."
            )


# ---- their content -------------------------------------------------------------------------------


def without_places(value: Any) -> Any:
    """A JSON value in whose texts paths of this machine are cut down to their last part."""
    if isinstance(value, str):
        return _PLACE.sub(lambda found: found[0].rpartition("/")[2], value)
    if isinstance(value, list):
        return [without_places(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: without_places(item) for name, item in items}
    return value


def _said_of(weights: Mapping[str, str]) -> dict[str, bytes]:
    """The files that say which weights are left out, by their path in the run's folder."""
    said: dict[str, bytes] = {}
    for student, identity in weights.items():
        name = f"{layout.FOLDERS['students']}/{student}/{layout.WEIGHTS_LEFT_OUT}"
        said[name] = _json({"identity": identity})
    return said


def _content(
    run: RunFolder, name: str, kept: frozenset[str], said: Mapping[str, bytes]
) -> Iterator[bytes]:
    """The bytes of a file as they are packed; `kept` are all files that are, `said` what is in no
    file of the run.
    """
    path = run.path / name
    last = path.name
    if name in said:
        yield said[name]
    elif name == RUN:
        yield _without_machine(read_guarded(path, "the state of a run", ""))
    elif last == MANIFEST:
        yield _manifest(name, read_bytes_verified(path), kept)
    elif last == layout.STUDENT:
        yield _json(without_places(_parsed(read_bytes_verified(path), str(path))))
    elif last == METRICS:
        for number, (_, line) in enumerate(_lines(path), start=1):
            row = without_places(_parsed(line, f"{path}:{number}"))
            yield json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    elif name.endswith(_RECORDS) and listed(path) is None:
        for _, line in _lines(path):
            yield line
    else:
        with open_verified(path) as file:
            while block := file.read(_BLOCK):
                yield block


def _parsed(text: bytes, where: str) -> Any:
    try:
        return foreign_json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: broken JSON: {error}.") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a shard that count."""
    with open_verified(path) as file:
        yield from counted_lines(path, file)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _without_machine(value: Mapping[str, Any]) -> bytes:
    """A run.json without its cluster file, its seal and paths: whoever unpacks it is asked about it
    as about a stranger's.
    """
    source = Path(str(value.get("source", ""))).name
    asked: list[Any] = []
    if isinstance(value.get("asked"), list):
        asked = value["asked"]
    said = {
        "pipeline": without_places(value.get("pipeline", {})),
        "cluster": {},
        "source": source,
        "keep_old": bool(value.get("keep_old", False)),
        "asked": asked,
    }
    return _json(said)


def _manifest(name: str, content: bytes, kept: frozenset[str]) -> bytes:
    """A manifest without the sums of what is left out, or has lost paths of this machine."""
    manifest = parse_manifest(Path(name), content)
    place = PurePosixPath(name).parent
    sums = {
        file: known
        for file, known in manifest.files.items()
        if str(place / file) in kept and PurePosixPath(file).name not in (METRICS, layout.STUDENT)
    }
    value = manifest.described()
    value["files"] = {file: asdict(known) for file, known in sums.items()}
    return _json(value)


# ---- packing -------------------------------------------------------------------------------------


def pack_run(
    run: RunFolder,
    target: Path,
    *,
    topk: bool = False,
    weights: Mapping[str, str] | None = None,
) -> Packed:
    """Pack a run into a folder, or what is new of it where an earlier state of it is packed there.
    `weights` says of students which weights theirs are, by name: samples of them can then be gone
    on with where the weights are not.

    Nothing of the folder changes before all that is new has been read and compressed. Raises
    StageError for a run that cannot be packed, and for a folder that holds something else;
    DataError where a file of the run is damaged.
    """
    if not any(run.path.glob(f"[1-7]-*/{MANIFEST}")):
        raise StageError(f"{run.path}: not a run folder (no stage in it has a {MANIFEST}).")
    if target.resolve().is_relative_to(run.path.resolve()):
        raise StageError(f"{target}: lies in the run's own folder. Name another one.")
    if not _NAME.fullmatch(_name_of(run)):
        raise StageError(f"{run.path}: no name that a packed run can have. Rename that folder.")
    _refuse_parts(run)
    names = chosen_files(run, topk=topk)
    said = _said_of(weights or {})
    before = _before(run, target)
    staging = target / _STAGING
    # Whoever has packed here before may have laid links: nothing is written or removed through one.
    for name in {*before, *names, *said}:
        _refuse_links(target, target / stored_name(name))
    _refuse_links(target, staging)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        files, new = _staged(run, sorted({*names, *said}), target, before, staging, said)
        for name in new:
            place = target / stored_name(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / stored_name(name), place)
        value = {name: asdict(known) for name, known in files.items()}
        described = {"version": VERSION, "name": _name_of(run), "files": value}
        write_guarded(target / PACK, described)
    except FileNotFoundError as error:
        raise StageError(
            f"{error.filename}: was there a moment ago. The run is at work: pack it again."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    gone = set(before) - set(files)
    for name in gone:
        (target / stored_name(name)).unlink(missing_ok=True)
    for top, _, _ in os.walk(target, topdown=False):
        if not os.listdir(top):
            os.rmdir(top)
    stored = sum((target / stored_name(name)).stat().st_size for name in files)
    return Packed(len(new), len(files) - len(new), len(gone), stored)


def _name_of(run: RunFolder) -> str:
    return run.path.resolve().name


def _before(run: RunFolder, target: Path) -> Mapping[str, PackedFile]:
    """The files that are packed in a folder already. Raises StageError where it holds something
    else, or another run.
    """
    if is_packed_run(target):
        pack = read_pack(target)
        if pack.name != _name_of(run):
            raise StageError(
                f"{target}: holds the packed run {pack.name}, not {_name_of(run)}. Name another "
                "folder, or remove that one."
            )
        return pack.files
    if target.exists() and any(target.iterdir()):
        raise StageError(
            f"{target}: is not empty and holds no packed run (no {PACK}). Name another folder."
        )
    return {}


def _staged(
    run: RunFolder,
    names: Sequence[str],
    target: Path,
    before: Mapping[str, PackedFile],
    staging: Path,
    said: Mapping[str, bytes],
) -> tuple[dict[str, PackedFile], list[str]]:
    """Every file with its size and digest, and the names of those that are new, compressed in
    `staging`.
    """
    kept = frozenset(names)
    files: dict[str, PackedFile] = {}
    new: list[str] = []
    for name in names:
        known = before.get(name)
        if known is not None and _is_there(target, name, known):
            found = _digested(_content(run, name, kept, said))
            if found == known:
                files[name] = known
                continue
        place = staging / stored_name(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as file:
            files[name] = _write(file, _content(run, name, kept, said), place.name)
        new.append(name)
    return files, new


def _digested(content: Iterable[bytes]) -> PackedFile:
    digest, size = hashlib.sha256(), 0
    for block in content:
        digest.update(block)
        size += len(block)
    return PackedFile(size, digest.hexdigest())


def _write(file: Any, content: Iterable[bytes], name: str) -> PackedFile:
    """Write a file, compressed where its name says so: without time and name, so that the same
    content makes the same bytes.
    """
    digest, size = hashlib.sha256(), 0
    target = file
    if name.endswith(_GZ):
        target = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=9, mtime=0)
    for block in content:
        target.write(block)
        digest.update(block)
        size += len(block)
    if target is not file:
        target.close()
    return PackedFile(size, digest.hexdigest())


def _is_there(target: Path, name: str, known: PackedFile) -> bool:
    """Whether a packed file is sound."""
    try:
        return _digested(content_of(target, name, known)) == known
    except DataError:
        return False


# ---- reading a pack ------------------------------------------------------------------------------

_WAYS_OUT = (
    "Ways out: put back a copy of it (`git restore`), or pack the run again where it still is."
)


def read_pack(folder: Path) -> Pack:
    """What a packed run says of itself. Raises DataError for one that is damaged, and for names and
    sizes that no run has.
    """
    path = folder / PACK
    if path.is_symlink():
        raise DataError(f"{path}: is a link, where a file is needed. {_WAYS_OUT}")
    if path.stat().st_size > JSON_FILE_BYTES.most:
        raise DataError(f"{path}: beyond {JSON_FILE_BYTES}. {_WAYS_OUT}")
    value = read_guarded(path, "the list of a packed run", _WAYS_OUT)
    try:
        if value["version"] > VERSION:
            raise DataError(
                f"{path}: version {value['version']} of packed runs, of a later reasondistill; "
                f"this one reads versions up to {VERSION}."
            )
        name = str(value["name"])
        files = {str(file): PackedFile(**known) for file, known in value["files"].items()}
        sizes = [int(known.size) for known in files.values()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not the list of a packed run: {error}. {_WAYS_OUT}") from error
    if not _NAME.fullmatch(name):
        raise DataError(f"{path}: {name!r} is no name of a run; nothing is read.")
    for file in files:
        if not belongs(file):
            raise DataError(f"{path}: {file!r} is no file of a packed run; nothing is read.")
    if len(files) > PACK_FILES.most:
        raise DataError(f"{path}: more than {PACK_FILES}.")
    if min(sizes, default=0) < 0 or sum(sizes) > PACK_BYTES.most:
        raise DataError(f"{path}: its files have more than {PACK_BYTES}, unpacked.")
    return Pack(name, files)


def content_of(folder: Path, name: str, known: PackedFile) -> Iterator[bytes]:
    """The bytes of a file of a packed run, in blocks. Raises DataError where it is missing, a link,
    damaged or longer than the list says; the last block is not given before all are compared.
    """
    path = folder / stored_name(name)
    try:
        _refuse_links(folder, path)
        with open(path, "rb", opener=regular) as file:
            stream = cast("io.BufferedIOBase", file)
            if path.name.endswith(_GZ):
                stream = cast("io.BufferedIOBase", gzip.GzipFile(fileobj=file, mode="rb"))
            yield from _compared(path, stream, known)
    except FileNotFoundError:
        raise DataError(f"{path}: it is missing. {_WAYS_OUT}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise DataError(f"{path}: damaged: {error}. {_WAYS_OUT}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _compared(path: Path, stream: io.BufferedIOBase, known: PackedFile) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    held = b""
    while block := stream.read(min(_BLOCK, known.size - size + 1)):
        size += len(block)
        if size > known.size:
            raise DataError(
                f"{path}: damaged: more than the {known.size:,} bytes that its list names. "
                f"{_WAYS_OUT}"
            )
        digest.update(block)
        if held:
            yield held
        held = block
    if size != known.size or digest.hexdigest() != known.sha256:
        raise DataError(
            f"{path}: damaged: {size:,} bytes that are not the {known.size:,} that were packed. "
            f"{_WAYS_OUT}"
        )
    if held:
        yield held


def _refuse_links(folder: Path, path: Path) -> None:
    """Raise DataError for a link anywhere between a packed run's folder and one of its files."""
    place = folder
    for part in path.relative_to(folder).parts:
        place = place / part
        if place.is_symlink():
            raise DataError(f"{place}: is a link; a packed run has none. Remove it.")
