"""The way back from a packed run (packing.py): a run folder that goes on, or a copy to be read.

    unpack_run(Path("eval/runs/demo"), Path("runs/demo"))     # then: reasondistill run demo
    folder = opened(Path("eval/runs/demo"))                   # until this process ends

The folder appears when every file has been compared with what was packed; where one is damaged
there is none. It has no weights: a student whose samples are all there is not trained again, one
whose are not is asked for by name, an untouched base is looked up again, and `run` is told where
models are as on any machine.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

from reasondistill import foreign_json
from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import read_bytes
from reasondistill.runs import layout
from reasondistill.runs.layout import FOLDERS, MANIFEST, METRICS
from reasondistill.runs.packing import Pack, content_of, is_packed_run, read_pack
from reasondistill.runs.remote.scratch import scratch
from reasondistill.runs.store.files import disk_errors
from reasondistill.runs.store.guards import write_guarded
from reasondistill.runs.store.lines import list_anew
from reasondistill.runs.store.manifests import read_manifest, write_manifest
from reasondistill.runs.store.sums import sum_of

_UNTOUCHED = "base"


def unpack_run(source: Path, folder: Path) -> Pack:
    """Make the run folder `folder` of a packed run, with which `reasondistill run` goes on.

    Raises StageError where there is such a folder already or no packed run, and DataError for a
    packed run that is damaged; then nothing is left.
    """
    if os.path.lexists(folder):
        raise StageError(
            f"{folder}: is there already. Unpack under another name, or remove it first."
        )
    require_packed(source)
    pack = read_pack(source)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = folder.with_name(f".{folder.name}.{os.getpid()}.unpacking")
        staging.mkdir()
    try:
        _write(source, pack, staging, lambda name: True)
        _leave_out_bases(staging)
        with disk_errors(folder):
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return pack


def opened(folder: Path, is_wanted: Callable[[str], bool] = lambda name: True) -> Path:
    """The folder itself, or where it holds a packed run the folder of a copy, which is gone when
    this process ends. Raises DataError as `unpack_run`.
    """
    if not is_packed_run(folder):
        return folder
    return _copy_of(folder.resolve(), is_wanted)


@cache
def _copy_of(source: Path, is_wanted: Callable[[str], bool]) -> Path:
    pack = read_pack(source)
    held = ExitStack()
    atexit.register(held.close)
    place = held.enter_context(scratch()) / pack.name
    place.mkdir()
    _write(source, pack, place, is_wanted)
    return place


def require_packed(folder: Path) -> None:
    """Raise StageError for a folder that holds no packed run."""
    if not is_packed_run(folder):
        raise StageError(
            f"{folder}: holds no packed run (no {layout.PACK}). `reasondistill pack` makes one."
        )


def _write(source: Path, pack: Pack, folder: Path, is_wanted: Callable[[str], bool]) -> None:
    """Write the files of a packed run into a new folder."""
    for name, known in pack.files.items():
        if not is_wanted(name):
            continue
        path = folder / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:
                for block in content_of(source, name, known):
                    file.write(block)
    for path in sorted(folder.rglob(MANIFEST)):
        _restore(path.parent)
    state = folder / layout.RUN
    if state.exists():
        write_guarded(state, _run_of(state))


def _run_of(path: Path) -> dict[str, object]:
    """A run.json as it is written here. Raises DataError for what is none."""
    try:
        value = foreign_json.loads(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path}: not the state of a run: {error}.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: not the state of a run: no JSON object.")
    return value


def _restore(folder: Path) -> None:
    """Give a stage folder a manifest with its guard and its copy, and list the lines of shards that
    are not finished: they were compared with what was packed.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return
    if manifest.status == "complete":
        # Their sums were those of a text with paths of another machine.
        again = [name for name in (METRICS, layout.STUDENT) if (folder / name).exists()]
        sums = {name: sum_of(folder / name) for name in again}
        write_manifest(folder, replace(manifest, files={**manifest.files, **sums}))
        return
    write_manifest(folder, manifest)
    # Those of the folders below (6-evals has one for each benchmark) are listed with these.
    for path in (*folder.glob("*.jsonl"), *folder.glob(f"{layout.TOPK}/*.jsonl")):
        if path.name != METRICS:
            list_anew(path)


def _leave_out_bases(folder: Path) -> None:
    """Remove the folders of untouched bases that only say where the model lay on another machine:
    the run makes them in a moment.
    """
    for record in folder.glob(f"{FOLDERS['students']}/*/{layout.STUDENT}"):
        try:
            value = foreign_json.loads(read_bytes(record))
        except ValueError as error:
            place = record.relative_to(folder)
            raise DataError(f"{place}: not the record of a student: {error}.") from error
        has_own_weights = record.with_name(layout.WEIGHTS_LEFT_OUT).exists()
        is_base = isinstance(value, dict) and value.get("method") == _UNTOUCHED
        if is_base and not has_own_weights:
            shutil.rmtree(record.parent)
