"""What two variants have in common is made once: the later one takes it over.

    parts = {one.name: parts_before_students(one.run) for one in runs}
    taken = take_over(run, earlier, parts)
    taken.is_new, taken.waits_for    # something was copied; who still makes what this one needs

A part is a folder of a run, with a key of all settings that it depends on: equal keys, equal parts.
The key is careful, not clever: whatever stands before a part in the file is in it. A part is read
whole before it is copied. Whether the copy really is what the variant would have made is judged by
its stage, which compares identities as it does with any folder that stands, and whoever reads it
verifies it by the sums in its manifest.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.config import StudentSettings
from reasondistill.errors import StageError
from reasondistill.pipeline.ablating.folders import MAKING, VariantRun
from reasondistill.pipeline.runs import Run, Task, benchmarks
from reasondistill.pipeline.status import settle
from reasondistill.records import VARIANT, fingerprint
from reasondistill.runs.layout import AT_WORK, FOLDERS, MANIFEST
from reasondistill.runs.store import (
    disk_errors,
    first_link,
    read_manifest,
    require_complete,
    require_no_links,
    require_no_links_below,
    verify_files,
)

# Beside the variants: what is being copied, until it is whole.
_COPYING = ".copying"
# Written once and never changed, and by far the largest: they are linked where that is possible.
_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Part:
    """A folder in a run's folder, by its place there, and all that it depends on. `is_awaited`:
    it is better to wait for another variant that makes it than to make it again.
    """

    place: str
    key: str
    is_awaited: bool = True


@dataclass
class Taken:
    """Whether anything was copied just now, and the variants that still make what is needed."""

    is_new: bool = False
    waits_for: set[str] = field(default_factory=set[str])


# ---- which parts ---------------------------------------------------------------------------------


def parts_before_students(run: Run) -> list[Part]:
    """The stages up to the examples, and the problems of the benchmarks, which the first of them
    reads.
    """
    parts: list[Part] = []
    for stage, key in _keys(run).items():
        parts.append(Part(FOLDERS[stage], key))
        if stage == "problems":
            for benchmark in benchmarks(run):
                folder = run.layout.benchmark(benchmark.name).problems_folder
                parts.append(Part(run.layout.place_of(folder), key))
    return parts


def parts_of_ancestors(run: Run, ancestors: Iterable[StudentSettings]) -> list[Part]:
    """The students that the compared one goes on from."""
    keys = _keys_of_students(run, ancestors)
    return [
        Part(run.layout.place_of(run.layout.student(name).path), key) for name, key in keys.items()
    ]


def parts_of_evals(run: Run, ancestors: Iterable[StudentSettings]) -> list[Part]:
    """What was measured of those students. Nobody waits for it: measuring is cheaper."""
    parts: list[Part] = []
    for name, key in _keys_of_students(run, ancestors).items():
        measured = fingerprint([key, run.pipeline.evals.model_dump(mode="json")])
        for benchmark in benchmarks(run):
            cell = run.layout.benchmark(benchmark.name).cell(name)
            parts.append(Part(run.layout.place_of(cell.path), measured, is_awaited=False))
    return parts


def parts_of_all(runs: Iterable[VariantRun]) -> dict[str, list[Part]]:
    """Name of a variant → what it makes before the student that is compared."""
    parts: dict[str, list[Part]] = {}
    for one in runs:
        ancestors = parts_of_ancestors(one.run, one.variant.ancestors)
        parts[one.name] = [*parts_before_students(one.run), *ancestors]
    return parts


def made_by(taken: Mapping[str, str]) -> dict[str, list[str]]:
    """Variant → what others take over from it, in words: stages, and students by name."""
    stages = {folder: stage for stage, folder in FOLDERS.items()}
    words: dict[str, list[str]] = {}
    for place, name in taken.items():
        folder, _, unit = place.partition("/")
        if folder in stages and not unit:
            words.setdefault(name, []).append(stages[folder])
        elif folder == FOLDERS["students"]:
            words.setdefault(name, []).append(unit)
    return words


def _keys(run: Run) -> dict[str, str]:
    """Stage → a fingerprint of every setting that it, or a stage before it, depends on."""
    pipeline = run.pipeline
    own: dict[str, list[Any]] = {
        # Answers of benchmarks are graded with the problems, and whole sections are compared.
        "problems": [pipeline.problems, pipeline.verdicts, pipeline.evals.benchmarks],
        "traces": [pipeline.traces],
        "verdicts": [],
        "examples": [
            pipeline.examples,
            pipeline.student_prompt,
            any(student.method == "unverified" for student in pipeline.all_students()),
        ],
    }
    keys: dict[str, str] = {}
    before = ""
    for stage in MAKING:
        before = fingerprint([before, stage, *map(_plain, own[stage])])
        keys[stage] = before
    return keys


def _keys_of_students(run: Run, students: Iterable[StudentSettings]) -> dict[str, str]:
    """Name → a fingerprint of the student's settings, of those before it, and of their examples."""
    before = _keys(run)["examples"]
    keys: dict[str, str] = {}
    for student in students:
        before = fingerprint([before, _plain(student)])
        keys[student.name] = before
    return keys


def _plain(value: Any) -> Any:
    """A section as JSON."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value


def who_makes(
    run: VariantRun, earlier: Iterable[VariantRun], parts: Mapping[str, Sequence[Part]]
) -> dict[str, str]:
    """Place → the first variant with an equal part, which makes it; only those of others. `parts`
    is by the name of the variant.
    """
    makers: dict[str, str] = {}
    for part in parts[run.name]:
        for other in earlier:
            if part in parts[other.name]:
                makers.setdefault(part.place, other.name)
    return makers


# ---- copying -------------------------------------------------------------------------------------


def take_over(
    run: VariantRun, earlier: Sequence[VariantRun], parts: Mapping[str, Sequence[Part]]
) -> Taken:
    """Copy the parts that an earlier variant has finished, each read whole before, and appearing
    whole. What stands is left alone, unless it is what the other's had been before it grew.

    Raises DataError for a part that is damaged, and StageError where the disk is full.
    """
    taken = Taken()
    makers = who_makes(run, earlier, parts)
    by_name = {other.name: other for other in earlier}
    awaited = {part.place for part in parts[run.name] if part.is_awaited}
    for place, name in makers.items():
        source, target = by_name[name].run.folder / place, run.run.folder / place
        stages = list(stage_folders(source))
        if not stages or not all(is_finished(source / stage) for stage in stages):
            if place in awaited:
                taken.waits_for.add(name)
            continue
        if not target.exists() or _has_grown(source, target):
            taken.is_new = True
            copy_part(source, target, run.run.folder.parent / _COPYING)
            # Under another prompt, and at its checkpoints, the same model has cells of its own.
            for cell in source.parent.glob(f"{source.name}{VARIANT}*"):
                beside = target.parent / cell.name
                if not beside.exists():
                    copy_part(cell, beside, run.run.folder.parent / _COPYING)
    return taken


def stage_folders(part: Path) -> Iterator[str]:
    """The folders of a part that stages finish: itself, or those in it."""
    if (part / MANIFEST).exists():
        yield "."
        return
    for manifest in sorted(part.glob(f"*/{MANIFEST}")):
        yield manifest.parent.name


def is_finished(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.status == "complete"


def _has_grown(source: Path, target: Path) -> bool:
    """Whether the source holds all that the target does, and more: it has grown since it was
    copied.
    """
    ours, theirs = read_manifest(target), read_manifest(source)
    if ours is None or theirs is None:
        return False
    return ours.output != theirs.output and ours.output in theirs.stood


def copy_part(source: Path, target: Path, copying: Path) -> None:
    """Verify a part, and make a copy of it that appears whole. Raises StageError for a link in
    either: whoever made the folder may have laid one to a file of its user, or to a place of his.
    """
    require_no_links(target)
    link = first_link(source)
    if link is not None:
        raise _is_link(link)
    for stage in stage_folders(source):
        folder = source / stage
        verify_files(folder, require_complete(folder))
    with disk_errors(target):
        shutil.rmtree(copying, ignore_errors=True)
        shutil.copytree(source, copying, ignore=_left_out, copy_function=_link_or_copy)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            require_no_links_below(target)
            shutil.rmtree(target)
        os.replace(copying, target)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What only a process at work reads, what is true of one copy alone, and pipes and such. Raises
    StageError for a link.
    """
    left = {name for name in names if name in AT_WORK or name.endswith(".tmp")}
    left |= {name for name in names if name == ".times.json"}
    for name in names:
        path = Path(folder, name)
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) and name not in left:
            raise _is_link(path)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            left.add(name)
    return left


def _is_link(path: Path) -> StageError:
    return StageError(
        f"{path}: is a link; what it leads to is not copied into another variant. Put what it "
        "leads to in its place; to keep an ablation on another disk, link its whole folder."
    )


def _link_or_copy(source: str, target: str) -> str:
    if source.endswith(_WEIGHTS):
        with suppress(OSError):
            os.link(source, target)
            return target
    return shutil.copyfile(source, target)


def settle_what_stands(run: Run, words: Mapping[str, str]) -> None:
    """Note of each stage, or student, that was found `complete` that its task has nothing to do:
    else a process would be started to find that out.
    """
    for name, word in words.items():
        stage, _, unit = name.partition("/")
        if word != "complete":
            continue
        if stage in MAKING:
            settle(run, Task(stage))
        elif stage == "students":
            settle(run, Task(stage, (unit,)))
