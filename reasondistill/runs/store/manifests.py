"""Manifests: what a stage folder was made from, whether it is finished, and what to do when that
has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from io import BufferedWriter
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Literal, get_args

from reasondistill import foreign_json
from reasondistill.errors import DataError, DriftError, StageError
from reasondistill.foreign_files import read_bytes, regular
from reasondistill.records import canonical_json, fingerprint
from reasondistill.runs.layout import (
    AT_WORK,
    MANIFEST,
    MANIFEST_COPY,
    PARTS,
    WEIGHTS,
    is_listed,
    is_of_a_stage,
)
from reasondistill.runs.memory import peak_memory_gib
from reasondistill.runs.store.files import (
    disk_errors,
    first_link,
    keep_copy,
    open_to_write,
    remove_leftovers,
    require_no_links_below,
)
from reasondistill.runs.store.guards import parse_guarded, write_guarded
from reasondistill.runs.store.lines import (
    FinishedLines,
    is_list,
    list_anew,
    list_beside,
    mend,
    mend_all,
    remove_lists,
)
from reasondistill.runs.store.sums import (
    FileSum,
    damaged,
    missing,
    other_size,
    sum_of,
    verify,
    ways_out,
)

StageState = Literal["new", "partial", "complete"]
Status = Literal["partial", "complete"]
# Of a changed key, its old and its new value: whether all that stands goes on standing.
HasGrown = Callable[[str, Any, Any], bool]

# Where a folder was copied or fetched, its files have other times than those in the manifest: the
# times at which they were found to be the same. Hidden: each copy has its own.
_TIMES = ".times.json"
# More than this is not read at every start of a run that is copied to where nothing can be written.
_LARGE = 64 << 20


@dataclass(frozen=True)
class Identity:
    """What a stage's output depends on. Paths, GPUs and batch sizes are not part of it."""

    stage: str
    version: int
    section: Mapping[str, Any]
    inputs: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "section": dict(self.section),
            "inputs": dict(self.inputs),
        }

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.to_dict())


@dataclass(frozen=True)
class Manifest:
    """The description of a stage folder. `status` is `partial` until the stage has finished.

    `files` are the sums of the finished files, by their path in the folder; none where an earlier
    version finished it. `peak_memory_gib` is the most memory that the process which finished the
    stage held, with those that it had started; 0 where an earlier version finished it. `stood` are
    the outputs that the folder had before it grew: all that they held is still there. `kept` says
    of a folder with which a run went on although it was asked for otherwise (--keep-old) which
    settings those were.
    """

    identity: dict[str, Any]
    fingerprint: str
    status: Status
    counts: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_gib: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    content: str = ""
    stood: list[str] = field(default_factory=list[str])
    kept: list[str] = field(default_factory=list[str])
    files: dict[str, FileSum] = field(default_factory=dict[str, FileSum], compare=False)

    def described(self) -> dict[str, Any]:
        """All of it but the sums, which say how the content is stored and not what it is."""
        values = dict(self.__dict__)
        del values["files"]
        if not self.peak_memory_gib:  # of an earlier version: it stays what it was
            del values["peak_memory_gib"]
        for name in ("stood", "kept"):
            if not values[name]:
                del values[name]
        return values

    @property
    def output(self) -> str:
        """The fingerprint that a later stage records as its input: of this stage's content where
        that is known, else of its identity.

        A stage that is removed and made again may differ (samples from a GPU do); then the stages
        made from it are stale.
        """
        return self.content or self.fingerprint

    @property
    def section(self) -> dict[str, Any]:
        return self.identity["section"]

    def count(self, name: str) -> int:
        """How many records went `in` or came `out`. Raises DataError for a manifest, of somebody
        else, that does not say it.
        """
        if name not in self.counts:
            stage = self.identity["stage"]
            raise DataError(f"manifest of the stage {stage}: counts has no {name}.")
        return self.counts[name]


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, or None when it has none. Raises DataError when it cannot be read or
    is not what was written.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        content = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {ways_out(path)}") from error
    return parse_manifest(path, content)


def parse_manifest(path: Path, content: bytes) -> Manifest:
    """The manifest that a file `path` holds. Raises DataError as `read_manifest`."""
    value = parse_guarded(content, str(path), "a manifest", ways_out(path))
    try:
        sums = {name: FileSum(**known) for name, known in value.pop("files", {}).items()}
        manifest = Manifest(**value, files=sums)
        require_types(manifest)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a manifest: {error}. {ways_out(path)}") from error
    except KeyError as error:
        raise DataError(
            f"{path}: not a manifest: its identity has no {error}. {ways_out(path)}"
        ) from error
    return manifest


def require_types(manifest: Manifest) -> None:
    """Raise ValueError naming what is not of its kind: nobody else looks, and a report shows it.

    Also KeyError where the identity lacks something.
    """
    known = get_args(Status)
    if manifest.status not in known:
        raise ValueError(f"status is {_short(manifest.status)}, not one of {', '.join(known)}")
    identity = manifest.identity
    _require("identity", identity, dict)
    _require("identity.stage", identity["stage"], str)
    _require("identity.version", identity["version"], int)
    _require("identity.section", identity["section"], dict)
    _require_section(identity["section"])
    _require("identity.inputs", identity["inputs"], dict)
    for name, value in identity["inputs"].items():
        _require(f"identity.inputs.{name}", value, str)
    for name in ("fingerprint", "content"):
        _require(name, getattr(manifest, name), str)
    for name in ("counts", "dropped"):
        _require(name, getattr(manifest, name), dict)
        for key, value in getattr(manifest, name).items():
            _require(f"{name}.{key}", value, int)
    for name in ("figures", "environment"):
        _require(name, getattr(manifest, name), dict)
    for name in ("seconds", "peak_memory_gib"):
        number = getattr(manifest, name)
        _require(name, number, int, float)
        if not math.isfinite(number):
            raise ValueError(f"{name} is {number}, no number")
    for key in ("stood", "kept"):
        _require(key, getattr(manifest, key), list)
        for name in getattr(manifest, key):
            _require(key, name, str)
    for name, known_sum in manifest.files.items():
        _require(f"files.{name}.digests", known_sum.digests, str)
        for part in ("size", "time", "block"):
            _require(f"files.{name}.{part}", getattr(known_sum, part), int)
        if known_sum.block < 1:
            raise ValueError(f"files.{name}.block is {known_sum.block}, no number of bytes")
        if name.startswith("/") or ".." in Path(name).parts:
            raise ValueError(f"files.{name} leads out of the folder")


# What other stages and the report read of a section, where it has it.
_OF_A_SECTION: Mapping[str, type] = {
    "n": int,
    "limit": int,
    "seed": int,
    "method": str,
    "sampling": dict,
}


def _require_section(section: Mapping[str, Any]) -> None:
    for name, kind in _OF_A_SECTION.items():
        if section.get(name) is not None:
            _require(f"identity.section.{name}", section[name], kind)
    sampling = section.get("sampling") or {}
    for name in ("temperature", "top_p", "max_tokens"):
        if sampling.get(name) is not None:
            _require(f"identity.section.sampling.{name}", sampling[name], int, float)


# A larger number is no count of anything.
_MOST = (1 << 63) - 1
_KINDS: Mapping[type, str] = {
    dict: "object",
    list: "list",
    str: "text",
    int: "whole number",
    float: "number",
}


def _require(name: str, value: object, *kinds: type) -> None:
    is_of_kind = isinstance(value, kinds) and not isinstance(value, bool)
    if isinstance(value, int) and abs(value) > _MOST:
        is_of_kind = False
    if isinstance(value, float) and not math.isfinite(value):
        is_of_kind = False
    if is_of_kind:
        return
    kind = _KINDS[kinds[-1]]
    raise ValueError(f"{name} is {_short(value)}, no {kind}")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a copy of the manifest and then the manifest, each atomically: without it nobody knows
    what the folder was made from, and nothing in it can be verified.

    A kill between the two leaves a copy that knows more, never one that knows less.
    """
    sums = {name: asdict(known) for name, known in manifest.files.items()}
    value = manifest.described()
    if sums:
        value["files"] = sums
    write_guarded(folder / MANIFEST_COPY, value)
    write_guarded(folder / MANIFEST, value)


def open_stage(
    folder: Path,
    identity: Identity,
    *,
    grows: tuple[str, ...] = (),
    has_grown: HasGrown = lambda name, old, new: False,
    outputs: Iterable[str] = (),
    derived: bool = False,
    remade: bool = False,
    keep_old: bool = False,
    environment: Mapping[str, Any] | None = None,
    beside: Container[str] = (),
) -> StageState:
    """Return whether the folder is new, partial or complete for this identity, and claim it.

    `grows` names section keys (dotted) that may be raised without starting over: the stage is then
    partial and is topped up. `has_grown` says of the other changed keys whether all that stands
    goes on standing; the folder's output before, and `outputs` by which it was known besides, stay
    in its manifest (`stood`). `beside` names files and folders that do not belong to this stage
    (evals: one folder per benchmark) or that its next making uses too: they are left alone. A
    `derived` stage is cheap and a pure function of its inputs: when only its *inputs* changed it is
    emptied and made again. A `remade` stage is made again after any change: the stages made from it
    check for themselves whether they still fit. Half-written files of killed writers are removed,
    and from a complete folder the files of late workers; shards of an unfinished one are mended
    (lines.py). Raises DriftError, naming each changed key and the ways out, when the folder was
    made from something else, and DataError when a file of a complete folder is missing or is not
    what was written.
    """
    found = foresee(
        folder,
        identity,
        grows=grows,
        has_grown=has_grown,
        derived=derived,
        remade=remade,
        keep_old=keep_old,
        beside=beside,
    )
    remove_leftovers(folder.glob(".*.tmp"))
    old, stood = found.before, list[str]()
    if found.state == "complete":
        assert old is not None
        return _left_as_it_is(folder, mark_kept(folder, old, identity), beside)
    if found.state == "partial" and old is not None:
        require_no_links_below(folder)
        stood = old.stood
        if found.grows and old.status == "complete":
            _go_on_from(folder, old)
            stood = list(dict.fromkeys([*stood, old.output, *outputs]))
    elif old is not None:
        _empty(folder, old, beside)
    require_no_links_below(folder)
    mend_all(folder)
    begun = Manifest(
        identity.to_dict(),
        identity.fingerprint,
        "partial",
        environment=dict(environment or {}),
        stood=stood,
    )
    write_manifest(folder, begun)
    return found.state


@dataclass(frozen=True)
class Foreseen:
    """What opening a stage folder would find: the `state` that `open_stage` returns, whether what
    stands there `grows`, and the manifest that is there `before`. Where something is only added
    beside what later stages read, that `stays` what it is.
    """

    state: StageState
    before: Manifest | None
    grows: bool = False
    stays: bool = False

    @property
    def word(self) -> str:
        """The same as people read it: a finished folder that is begun again is `grows`, or `made
        anew`.
        """
        was_complete = self.before is not None and self.before.status == "complete"
        if not was_complete or self.state == "complete":
            return self.state
        return {"partial": "grows", "new": "made anew"}[self.state]


def foresee(
    folder: Path,
    identity: Identity,
    *,
    grows: tuple[str, ...] = (),
    has_grown: HasGrown = lambda name, old, new: False,
    derived: bool = False,
    remade: bool = False,
    keep_old: bool = False,
    beside: Container[str] = (),
) -> Foreseen:
    """What `open_stage` would do with a folder; nothing is changed. Raises DriftError as it does,
    and DataError for a finished folder with a file that is missing or has another size; the content
    is only read when the folder is opened.
    """
    if folder.exists() and not folder.is_dir():
        raise DriftError(
            f"{folder}: is a file, where a run folder is needed. Choose another name, or "
            "move that file."
        )
    old = read_manifest(folder)
    if old is None:
        _refuse_strangers(folder, beside)
        return Foreseen("new", None)
    is_complete = old.status == "complete"
    is_same = old.fingerprint == identity.fingerprint
    if is_complete and (is_same or keep_old):
        check_sizes(folder, old)
        return Foreseen("complete", old)
    if is_same:
        return Foreseen(old.status, old)
    changed = changed_keys(old.identity, identity.to_dict())
    if all(_grew(name, a, b, grows) or has_grown(name, a, b) for name, a, b in changed):
        return Foreseen("partial", old, grows=True)
    has_other_inputs = all(
        name.startswith("inputs.") or name == "version" for name, _, _ in changed
    )
    if remade or (derived and has_other_inputs):
        return Foreseen("new", old)
    raise DriftError(drift_message(folder, changed, is_complete=is_complete))


def _refuse_strangers(folder: Path, beside: Container[str]) -> None:
    """Raise DriftError where a folder without a manifest holds files that are not hidden."""
    strangers: list[str] = []
    if folder.exists():
        names = [path.name for path in folder.iterdir() if _holds_files(path) and not is_list(path)]
        strangers = [name for name in names if name[0] != "." and name not in beside]
    if strangers:
        first_three = ", ".join(sorted(strangers)[:3])
        raise DriftError(
            f"{folder}: holds {first_three} but no {MANIFEST}: not a run folder of "
            f"reasondistill, or its {MANIFEST} was lost. "
            "Choose another name, put back the file, or remove that folder."
        )


def _holds_files(path: Path) -> bool:
    """Whether it is a file, or a folder that is not empty: one is left where all files of a folder
    at a URL were removed.
    """
    return not path.is_dir() or any(below.is_file() for below in path.rglob("*"))


def _left_as_it_is(folder: Path, manifest: Manifest, beside: Container[str]) -> StageState:
    """Look whether the files of a complete folder are those that were written, and tidy it: files
    of a worker that was stopped and went on after its attempt had ended are of no use.
    """
    check_files(folder, manifest)
    if first_link(folder) is not None:
        return "complete"
    remove_lists(folder, manifest.files)  # of a process that was killed when it had just finished
    _renew_copy(folder, manifest)
    if PARTS not in beside:
        shutil.rmtree(folder / PARTS, ignore_errors=True)
    return "complete"


def _renew_copy(folder: Path, manifest: Manifest) -> None:
    """Write the copy of a manifest again where it is another one or missing: a repair puts it back.
    Best effort, and not in a folder that an earlier version finished.
    """
    if not manifest.files:
        return
    with suppress(OSError, StageError):
        keep_copy(folder / MANIFEST, folder / MANIFEST_COPY)


def mark_kept(folder: Path, manifest: Manifest, identity: Identity) -> Manifest:
    """Note in the manifest of a finished folder what it was made from, where a run goes on with it
    that was asked for otherwise; forget it where it is the same again. Best effort: such a folder
    may be one in which nothing can be written.
    """
    changed: list[tuple[str, Any, Any]] = []
    if manifest.fingerprint != identity.fingerprint:
        changed = changed_keys(manifest.identity, identity.to_dict())
    kept = [f"{name.removeprefix('section.')} {_differs(a, b)}" for name, a, b in changed]
    if kept == manifest.kept:
        return manifest
    marked = replace(manifest, kept=kept)
    with suppress(OSError, StageError):
        write_manifest(folder, marked)
    return marked


def _differs(old: Any, new: Any) -> str:
    return f"was {_short(old)}, is {_short(new)}"


def reopen_stage(
    folder: Path, identity: Identity, is_to_be_tried: Callable[[Manifest], bool]
) -> bool:
    """Make a finished folder partial again when its manifest has something to be tried again;
    return whether it had.
    """
    manifest = require_complete(folder)
    if manifest.fingerprint != identity.fingerprint or not is_to_be_tried(manifest):
        return False
    require_no_links_below(folder)
    _go_on_from(folder, manifest)
    write_manifest(folder, replace(manifest, status="partial"))
    return True


def _go_on_from(folder: Path, manifest: Manifest) -> None:
    """Make a finished folder ready to be unfinished again: what stands goes on standing, so it is
    read whole, else damage would be summed anew, and the lines of its shards are listed.
    """
    verify_files(folder, manifest)
    for name in manifest.files:
        if is_listed(name):
            list_anew(folder / name)


def _empty(folder: Path, old: Manifest, beside: Container[str]) -> None:
    """Remove a stage's files except `beside`, and what workers left. If the process is killed
    meanwhile, the manifest says that the stage is unfinished.
    """
    require_no_links_below(folder)
    kept: set[Path] = set()
    for path in folder.iterdir():
        if path.is_file() and path.name in beside:
            _keep(path, old)
            kept |= {path, list_beside(path)}
    write_manifest(folder, replace(old, status="partial"))
    if (folder / PARTS).exists():
        with disk_errors(folder / PARTS):
            shutil.rmtree(folder / PARTS)
    for path in folder.iterdir():
        is_ours = path.name[0] == "." or is_list(path) or _is_the_stages(path)
        if path.is_file() and path.name != MANIFEST and is_ours and path not in kept:
            path.unlink()


def _keep(path: Path, manifest: Manifest) -> None:
    """A file that the next making of its folder uses too is verified, and its lines are listed."""
    known = manifest.files.get(path.name)
    if known is not None and manifest.status == "complete":
        verify(path, known)
        if path.suffix == ".jsonl":
            list_anew(path)
    elif list_beside(path).exists():
        mend(path)


def finish_stage(
    folder: Path,
    *,
    counts: Mapping[str, int],
    dropped: Mapping[str, int] | None = None,
    figures: Mapping[str, Any] | None = None,
    seconds: float,
    files: Iterable[str] = (),
    content: str = "",
    beside: Container[str] = (),
) -> Manifest:
    """Mark the folder complete and sum its files. `counts` holds at least `in` and `out`.

    Raises DataError for a shard with a line that is not one that was written.
    `files` names the shards that later stages read; `content` is their fingerprint where not every
    byte counts. `beside` names files and folders that do not belong to this stage.
    """
    old = read_manifest(folder)
    if old is None:
        raise StageError(f"{folder}: no {MANIFEST}; call open_stage first")
    done = replace(
        old,
        status="complete",
        counts=dict(counts),
        dropped=dict(dropped or {}),
        figures=dict(figures or {}),
        seconds=seconds,
        peak_memory_gib=peak_memory_gib(),
        content=content or content_of(folder, files),
        files=dict(_summed(folder, beside)),
    )
    write_manifest(folder, done)
    remove_lists(folder, done.files)
    return done


# ---- sums ----------------------------------------------------------------------------------------


def _summed(folder: Path, beside: Container[str] = ()) -> Iterator[tuple[str, FileSum]]:
    """The files of a stage folder by their path in it, with their sums."""
    for name in sorted(_files_of(folder, beside)):
        yield name, _sum_of_finished(folder / name)


def _sum_of_finished(path: Path) -> FileSum:
    """The sum of a file. Raises DataError for a shard with a line that is not listed: damage would
    be summed.
    """
    if not list_beside(path).exists():
        return sum_of(path)
    lines = FinishedLines(path)
    known = sum_of(path, lines.see)
    lines.end()
    return known


def _files_of(folder: Path, beside: Container[str]) -> Iterator[str]:
    """What the stage wrote, by its path in the folder. What somebody else has put there is not
    theirs to guard: its loss would be a damage of the stage.
    """
    for top in folder.iterdir():
        if top.name in AT_WORK or top.name in beside or top.name == MANIFEST:
            continue
        if not _is_the_stages(top):
            continue
        for path in (top, *top.rglob("*")):
            name = path.relative_to(folder)
            is_hidden = any(part.startswith(".") for part in name.parts)
            if path.is_file() and not is_list(path) and not is_hidden:
                yield name.as_posix()


def _is_the_stages(path: Path) -> bool:
    """Whether a file or folder in a stage folder is the stage's, and nobody else's: its shards too,
    whatever their names.
    """
    return path.suffix == ".jsonl" or is_of_a_stage(path.name)


def seal(folder: Path, parts: Sequence[str]) -> Manifest:
    """Sum the files of these names, or in folders of these names, that were added to a finished
    folder and are not summed yet. A folder that an earlier version finished stays without sums.
    """
    manifest = require_complete(folder)
    if not manifest.files:
        return manifest
    added: dict[str, FileSum] = {}
    for name in sorted(_files_of(folder, ())):
        if name not in manifest.files and Path(name).parts[0] in parts:
            added[name] = _sum_of_finished(folder / name)
    if not added:
        return manifest
    sealed = replace(manifest, files=manifest.files | added)
    write_manifest(folder, sealed)
    remove_lists(folder, sealed.files)
    return sealed


def unseal(folder: Path, parts: Sequence[str]) -> None:
    """Verify the files of these names, or in folders of these names, of a finished folder, and
    forget their sums, so that they may change until `seal`. Raises DataError when one is damaged.
    """
    manifest = require_complete(folder)
    rest: dict[str, FileSum] = {}
    for name, known in manifest.files.items():
        if Path(name).parts[0] in parts:
            verify(folder / name, known)
            if is_listed(name):
                list_anew(folder / name)
        else:
            rest[name] = known
    if len(rest) < len(manifest.files):
        write_manifest(folder, replace(manifest, files=rest))


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Read every summed file of a stage folder. Raises DataError for the first that is missing or
    not what was written.
    """
    for name, known in manifest.files.items():
        verify(folder / name, known)


def check_files(
    folder: Path, manifest: Manifest, *, up_to: int | None = None, but: Container[str] = ()
) -> None:
    """Compare size and time of every summed file; where the time is another one, the content
    decides, for files of `up_to` bytes where that is given. Raises DataError for a file that is
    missing or not what was written.

    Nothing is said of a file whose size and time are right (whoever reads it verifies it), of files
    in `but`, and of large files where the time cannot be kept, so that each start would read them.
    """
    before = _times_of(folder)
    same: dict[str, int] = {}
    unknown: dict[str, int] = {}
    for name, known in manifest.files.items():
        if name in but:
            continue
        time = _time_of(folder / name, known)
        if before.get(name) == time:
            same[name] = time
        elif time != known.time:
            unknown[name] = time
    for name, time in unknown.items():
        known = manifest.files[name]
        if up_to is not None and known.size > up_to:
            continue
        if known.size > _LARGE and not _remember_times(folder, same):
            continue
        verify(folder / name, known)
        same[name] = time
    if same != before:
        _remember_times(folder, same)


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Compare the size of every summed file but weights, which not every machine has that works on
    a run at a URL. Raises DataError for a file that is missing or longer or shorter.
    """
    for name, known in manifest.files.items():
        if not name.endswith(WEIGHTS):
            _time_of(folder / name, known)


def _time_of(path: Path, known: FileSum) -> int:
    """The time of a file. Raises DataError when it is missing or has another size."""
    try:
        stat = path.stat()
        if stat.st_size != known.size:
            stat = _asked_again(path)
    except (FileNotFoundError, NotADirectoryError):
        stat = _asked_again(path)
    if stat is None:
        raise damaged(path, missing(known))
    if S_ISDIR(stat.st_mode):
        raise damaged(path, "a folder is in its place")
    if stat.st_size != known.size:
        raise damaged(path, other_size(stat.st_size, known))
    return stat.st_mtime_ns


def _asked_again(path: Path) -> os.stat_result | None:
    """What the server of a network file system says of a file, not what this machine remembers of
    it: another one may just have finished it. NFS asks when a folder is listed and a file opened.
    """
    with suppress(OSError):
        os.listdir(path.parent)
        with open(path, "rb", opener=regular) as file:
            return os.fstat(file.fileno())
    with suppress(OSError):
        return path.stat()
    return None


def _times_of(folder: Path) -> dict[str, int]:
    """The times at which files were found to be the same; none where that is not known."""
    with suppress(OSError, ValueError, TypeError, AttributeError, OverflowError, DataError):
        times = foreign_json.loads(read_bytes(folder / _TIMES))
        return {str(name): int(time) for name, time in times.items()}
    return {}


def _remember_times(folder: Path, times: Mapping[str, int]) -> bool:
    """Keep the times at which files were found to be the same; whether that could be done."""
    path = folder / _TIMES
    temporary = path.with_name(f"{_TIMES}.{os.getpid()}.tmp")
    try:
        with BufferedWriter(open_to_write(temporary, "wb")) as file:
            file.write(json.dumps(times).encode("utf-8"))
        temporary.replace(path)
    except (OSError, StageError):
        with suppress(OSError):
            temporary.unlink()
        return False
    return True


# ---- what a folder holds -------------------------------------------------------------------------


def content_of(folder: Path, files: Iterable[str]) -> str:
    """16 hex digits over the bytes of these files; empty when none is named."""
    digests: list[str] = []
    for name in files:
        with open(folder / name, "rb", opener=regular) as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if not digests:
        return ""
    return fingerprint(digests)


def require_complete(folder: Path) -> Manifest:
    """The manifest of a finished stage. Raises StageError when it is missing or unfinished, and
    DataError when one of its files is missing or has another size.
    """
    manifest = read_manifest(folder)
    if manifest is not None and manifest.status == "complete":
        check_sizes(folder, manifest)
        return manifest
    state = "not finished"
    if manifest is None:
        state = "missing"
    raise StageError(
        f"{folder}: {state}. Run that stage first (the same command without --only or --from)."
    )


def require_open(folder: Path, identity: Identity | None) -> Manifest:
    """The manifest of a stage that another process has opened. Raises StageError when no process
    has, and DriftError when it was made from other settings than `identity`.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise StageError(
            f"{folder}: is not open for workers. Start the stage with `reasondistill run` "
            "or `resume`."
        )
    if identity is not None and manifest.fingerprint != identity.fingerprint:
        changed = changed_keys(manifest.identity, identity.to_dict())
        is_complete = manifest.status == "complete"
        raise DriftError(drift_message(folder, changed, is_complete=is_complete))
    return manifest


def changed_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """The dotted keys whose values differ, with both values (None where absent)."""
    rows: list[tuple[str, Any, Any]] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            rows += changed_keys(a, b, f"{prefix}{key}.")
        elif canonical_json(a) != canonical_json(b):
            rows.append((f"{prefix}{key}", a, b))
    return rows


def drift_message(folder: Path, changed: list[tuple[str, Any, Any]], *, is_complete: bool) -> str:
    """The error for changed settings: what changed, and the ways out. Only a complete folder can be
    kept: half of one, completed under other settings, would mix two.
    """
    shown = "; ".join(
        f"{name.removeprefix('section.')} {_differs(a, b)}" for name, a, b in changed[:5]
    )
    if len(changed) > 5:
        shown += f" (and {len(changed) - 5} more)"
    last = "use it as it is (--keep-old)"
    if not is_complete:
        shown += "; it is not finished"
        last = "undo the changes and finish it first"
    return (
        f"{folder}: made from other settings: {shown}.\n"
        "Ways out: give the run another name (--set name=…), remove that folder to make it again, "
        f"or {last}."
    )


def _short(value: Any) -> str:
    if value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > 60:
        text = text[:57] + "…"
    return text


def _grew(name: str, old: Any, new: Any, grows: tuple[str, ...]) -> bool:
    return (
        name.removeprefix("section.") in grows
        and isinstance(old, int)
        and isinstance(new, int)
        and new >= old
    )
