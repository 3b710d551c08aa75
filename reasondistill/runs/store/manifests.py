"""Manifests: what a stage folder was made from, whether it is finished, and what to do when that
has changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from reasondistill.errors import DataError, DriftError, StageError
from reasondistill.records import canonical_json, fingerprint
from reasondistill.runs.layout import MANIFEST, PARTS
from reasondistill.runs.store.files import disk_errors, remove_leftovers, write_json

StageState = Literal["new", "partial", "complete"]


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
    """The description of a stage folder. `status` is `partial` until the stage has finished."""

    identity: dict[str, Any]
    fingerprint: str
    status: Literal["partial", "complete"]
    counts: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)
    content: str = ""

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


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, or None when it has none. Raises DataError when it cannot be read."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        for part in ("section", "inputs"):
            dict(manifest.identity[part])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a manifest: {error}") from error
    except KeyError as error:
        raise DataError(f"{path}: not a manifest: its identity has no {error}") from error
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    write_json(folder / MANIFEST, manifest.__dict__)


def open_stage(
    folder: Path,
    identity: Identity,
    *,
    grows: tuple[str, ...] = (),
    derived: bool = False,
    remade: bool = False,
    keep_old: bool = False,
    environment: Mapping[str, Any] | None = None,
    beside: Container[str] = (),
) -> StageState:
    """Return whether the folder is new, partial or complete for this identity, and claim it.

    `grows` names section keys (dotted) that may be raised without starting over: the stage is then
    partial and is topped up. `beside` names files and folders that do not belong to this stage
    (evals: one folder per benchmark) or that its next making uses too: they are left alone. A
    `derived` stage is cheap and a pure function of its inputs: when only its *inputs* changed it is
    emptied and made again. A `remade` stage is made again after any change: the stages made from it
    check for themselves whether they still fit. Half-written files of killed writers are removed,
    and from a complete folder the files of late workers. Raises DriftError, naming each changed key
    and the ways out, when the folder was made from something else.
    """
    if folder.exists() and not folder.is_dir():
        raise DriftError(
            f"{folder}: is a file, where a run folder is needed. Choose another name, or "
            "move that file."
        )
    remove_leftovers(folder.glob(".*.tmp"))
    old = read_manifest(folder)
    if old is None:
        strangers: list[str] = []
        if folder.exists():
            names = [path.name for path in folder.iterdir()]
            strangers = [name for name in names if name[0] != "." and name not in beside]
        if strangers:
            first_three = ", ".join(sorted(strangers)[:3])
            raise DriftError(
                f"{folder}: holds {first_three} but no {MANIFEST}: not a run folder of "
                f"reasondistill. "
                "Choose another name, or remove that folder."
            )
        state: StageState = "new"
    elif old.fingerprint == identity.fingerprint:
        if old.status == "complete":
            return _left_as_it_is(folder, beside)
        state = "partial"
    else:
        changed = changed_keys(old.identity, identity.to_dict())
        if keep_old and old.status == "complete":
            return _left_as_it_is(folder, beside)
        if all(_grew(name, a, b, grows) for name, a, b in changed):
            state = "partial"
        elif remade or (
            derived
            and all(name.startswith("inputs.") or name == "version" for name, _, _ in changed)
        ):
            _empty(folder, old, beside)
            state = "new"
        else:
            is_complete = old.status == "complete"
            raise DriftError(drift_message(folder, changed, is_complete=is_complete))
    begun = Manifest(
        identity.to_dict(), identity.fingerprint, "partial", environment=dict(environment or {})
    )
    write_manifest(folder, begun)
    return state


def _left_as_it_is(folder: Path, beside: Container[str]) -> StageState:
    """Tidy a complete folder: files of a worker that was stopped and went on after its attempt had
    ended are of no use.
    """
    if PARTS not in beside:
        shutil.rmtree(folder / PARTS, ignore_errors=True)
    return "complete"


def reopen_stage(
    folder: Path, identity: Identity, is_to_be_tried: Callable[[Manifest], bool]
) -> bool:
    """Make a finished folder partial again when its manifest has something to be tried again;
    return whether it had.
    """
    manifest = require_complete(folder)
    if manifest.fingerprint != identity.fingerprint or not is_to_be_tried(manifest):
        return False
    write_manifest(folder, replace(manifest, status="partial"))
    return True


def _empty(folder: Path, old: Manifest, beside: Container[str]) -> None:
    """Remove a folder's files except `beside`, and what workers left. If the process is killed
    meanwhile, the manifest says that the stage is unfinished.
    """
    write_manifest(folder, replace(old, status="partial"))
    if (folder / PARTS).exists():
        with disk_errors(folder / PARTS):
            shutil.rmtree(folder / PARTS)
    for path in folder.iterdir():
        if path.is_file() and path.name != MANIFEST and path.name not in beside:
            path.unlink()


def finish_stage(
    folder: Path,
    *,
    counts: Mapping[str, int],
    dropped: Mapping[str, int] | None = None,
    figures: Mapping[str, Any] | None = None,
    seconds: float,
    files: Iterable[str] = (),
    content: str = "",
) -> Manifest:
    """Mark the folder complete. `counts` holds at least `in` and `out`.

    `files` names the shards that later stages read; `content` is their fingerprint where not every
    byte counts.
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
        content=content or content_of(folder, files),
    )
    write_manifest(folder, done)
    return done


def content_of(folder: Path, files: Iterable[str]) -> str:
    """16 hex digits over the bytes of these files; empty when none is named."""
    digests: list[str] = []
    for name in files:
        with open(folder / name, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if not digests:
        return ""
    return fingerprint(digests)


def require_complete(folder: Path) -> Manifest:
    """The manifest of a finished stage. Raises StageError when it is missing or unfinished."""
    manifest = read_manifest(folder)
    if manifest is not None and manifest.status == "complete":
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
        f"{name.removeprefix('section.')} was {_short(a)}, is {_short(b)}"
        for name, a, b in changed[:5]
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
