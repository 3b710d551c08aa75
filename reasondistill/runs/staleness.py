"""Which stage folders of a run are stale: made from inputs that have changed since.

    manifests = read_manifests(run)
    outputs = outputs_of(run, manifests)
    changed_inputs("3-verdicts", manifests["3-verdicts"], outputs)   # {"traces": "2-traces"}

A stage records the outputs of the stages before it as its inputs. It is stale when one of them has
another output now. A place is a folder's path in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from reasondistill.errors import DataError
from reasondistill.runs.kept import is_kept
from reasondistill.runs.layout import FOLDERS, UNVERIFIED, RunFolder
from reasondistill.runs.store import Manifest, content_of, read_manifest, verify_below

_EVALS = FOLDERS["evals"]
_UNVERIFIED = f"{FOLDERS['examples']}/{UNVERIFIED}"


def read_manifests(run: RunFolder, *, skips_damaged: bool = False) -> dict[str, Manifest]:
    """The manifest of every stage folder that has one, by the folder's place in the run.

    A manifest that cannot be read is a DataError, or is skipped where the caller reads the
    manifests that it needs anyway.
    """
    manifests: dict[str, Manifest] = {}
    for folder in run.stage_folders():
        try:
            manifest = read_manifest(folder)
        except DataError:
            if not skips_damaged:
                raise
            continue
        if manifest is not None:
            manifests[run.place_of(folder)] = manifest
    return manifests


def places_without_sums(run: RunFolder) -> list[str]:
    """The stage folders that an earlier version finished, which wrote no sums of their files."""
    manifests = read_manifests(run, skips_damaged=True)
    return [
        place
        for place, manifest in manifests.items()
        if manifest.status == "complete" and not manifest.files and manifest.counts.get("out")
    ]


def outputs_of(run: RunFolder, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The output of each of these stage folders now, as a later stage records it."""
    outputs = {place: manifest.output for place, manifest in manifests.items()}
    # A student that learns from unverified traces has this one file as its input.
    if run.unverified.exists():
        verify_below(run.unverified)
        outputs[_UNVERIFIED] = content_of(run.stage("examples"), [UNVERIFIED])
    return outputs


def changed_inputs(place: str, manifest: Manifest, outputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs of the stage folder at `place` that have changed: each one's name → its place.

    An input whose place has no output now does not count as changed; a student that was kept when
    its name was trained anew is what it was.
    """
    changed: dict[str, str] = {}
    is_student = manifest.identity["stage"] == "students"
    if is_student and is_kept(PurePosixPath(place), manifest):
        return changed
    inputs: Mapping[str, str] = manifest.identity["inputs"]
    for name, recorded in inputs.items():
        for source in _places_of(name, place):
            if outputs.get(source, recorded) != recorded:
                changed[name] = source
    return changed


def _places_of(name: str, place: str) -> Iterator[str]:
    """The places where the input `name` of the stage folder at `place` may be."""
    if place == _EVALS:
        yield f"{_EVALS}/{name}"
    elif place.startswith(f"{_EVALS}/"):
        # The samples of a model are beside their verdicts, the benchmark's problems one level
        # above.
        beside = PurePosixPath(place).parent
        yield str(beside / name)
        yield str(beside.parent / name)
    elif name == "unverified":
        yield _UNVERIFIED
    elif name in FOLDERS:
        yield FOLDERS[name]
