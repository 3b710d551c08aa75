"""Repairing a run: what is sound is kept, what can be made again is removed, what cannot is named.

    for repair in repair_run(RunFolder(Path("runs/demo"))):
        repair.path, repair.done

Nothing is guessed. A record is kept when it lies in a block that is what was written, a file is put
back when another file of the run has the very bytes that were written. Afterwards the same command
makes what is missing, and ends with the records of a run that nothing happened to.

Where that takes a machine for long (a student is trained again, all samples are drawn again) it is
done only with `again`.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reasondistill import foreign_json
from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import read_bytes, regular
from reasondistill.records import Student, TrainingFigures
from reasondistill.runs import layout
from reasondistill.runs.checking import (
    CheckedFolder,
    Fault,
    LocalTree,
    check_folder,
    check_run,
)
from reasondistill.runs.layout import FOLDERS, MANIFEST, RunFolder, is_listed, is_of_a_stage
from reasondistill.runs.remote import is_weights
from reasondistill.runs.store import (
    Manifest,
    disk_errors,
    is_list,
    list_beside,
    read_guarded,
    read_manifest,
    replacing,
    require_no_links_below,
    set_aside,
    sum_of,
    write_guarded,
    write_manifest,
    write_text,
)
from reasondistill.runs.store.lines import SUFFIX as LIST_SUFFIX
from reasondistill.runs.store.lines import keep_listed, list_lines, take_all_out
from reasondistill.runs.store.manifests import parse_manifest
from reasondistill.runs.store.sums import FileSum, is_copy, sound_lines

_EVALS, _STUDENTS, _TRACES = FOLDERS["evals"], FOLDERS["students"], FOLDERS["traces"]
# Of a folder of samples: what its closing writes anew.
_OF_THE_CLOSING = (layout.SET_ASIDE, layout.FEWER, layout.ENDINGS)
# What bases and trials of a student are named while they are made.
_PART = ".part"
# The files of a top-K cache, by their paths in a folder of samples.
_TOPK_HEADER = f"{layout.TOPK}/{layout.TOPK_HEADER}"
_TOPK_VOCABULARY = f"{layout.TOPK}/{layout.TOPK_VOCABULARY}"
_TOPK_BLOCKS = f"{layout.TOPK}/{layout.TOPK_BLOCKS}"
_TOPK_INDEX = f"{layout.TOPK}/{layout.TOPK_INDEX}"


@dataclass(frozen=True)
class Repair:
    """What was done about a damaged file; `is_mended` says that nothing is left to do by hand."""

    path: str
    done: str
    is_mended: bool = True


def repair_run(
    run: RunFolder, checked: Iterable[CheckedFolder] | None = None, *, again: bool = False
) -> Iterator[Repair]:
    """Repair every damaged stage folder, in the order of stages, and say what was done. `checked`
    is what `check_run` has found; without it the run is checked.

    A folder with a file that the disk or its server does not give back now is left as it is.

    With `again` also students, samples of which nothing can be known, and a top-K cache that cannot
    be read, are removed, so that the same command makes them again.
    """
    if checked is None:
        checked = check_run(LocalTree(run.path))
    for one in checked:
        if not one.faults:
            continue
        refused = _through_a_link(run.path / one.place)
        if refused is not None:
            for fault in one.faults:
                yield Repair(fault.path, f"left as it is: {refused}", is_mended=False)
        elif any(fault.is_out_of_reach for fault in one.faults):
            yield from _left_until_read(one.faults)
        elif not one.place:
            yield from _repair_own(run, one.faults)
        elif one.is_cache:
            yield from _repair_cache(run, one)
        elif one.state == "no manifest":
            yield from _repair_manifest(run, one.place, again=again)
        else:
            lists = [fault for fault in one.faults if is_list(Path(fault.name))]
            yield from _repair_lists(run, lists, again=again)
            others = [fault for fault in one.faults if fault not in lists]
            if others:
                yield from _repair_folder(run, replace(one, faults=others), again=again)


def _repair_lists(run: RunFolder, faults: Sequence[Fault], *, again: bool) -> Iterator[Repair]:
    """Lists of lines that are lost: no line of their unfinished shards can be judged."""
    for fault in faults:
        shard = run.path / fault.path.removesuffix(LIST_SUFFIX)
        is_begun_anew = shard.name == layout.UNFINISHED
        if again or is_begun_anew:
            take_all_out(shard)
            done = f"all lines of {shard.name} are taken out; the same command makes them again"
        else:
            done = (
                "cannot be mended. Put back a copy of it; or `reasondistill repair --again`, which "
                f"takes the lines of {shard.name} out: all its records are made again"
            )
        yield Repair(fault.path, done, is_mended=again or is_begun_anew)


def _through_a_link(folder: Path) -> str | None:
    """Why nothing is repaired in a folder to which a link leads, or in which one lies."""
    try:
        require_no_links_below(folder)
    except StageError as error:
        return str(error)
    return None


def _left_until_read(faults: Sequence[Fault]) -> Iterator[Repair]:
    """What cannot be read now says nothing of what it holds, so nothing beside it is decided."""
    unread = next(fault.path for fault in faults if fault.is_out_of_reach)
    for fault in faults:
        done = f"left as it is until {unread} can be read"
        if fault.is_out_of_reach:
            done = (
                f"{fault.found}: left as it is. Repair again when its disk or server answers; or "
                "remove it, and it counts as missing"
            )
        yield Repair(fault.path, done, is_mended=False)


def is_needed(path: str, places: Sequence[str]) -> bool:
    """Whether a file of a run at a URL is fetched for the repair of these damaged folders: all but
    the weights of others.
    """
    return not is_weights(path) or any(path.startswith(f"{place}/") for place in places if place)


def _repair_own(run: RunFolder, faults: Sequence[Fault]) -> Iterator[Repair]:
    """Files of the run itself, which guard themselves."""
    for fault in faults:
        if fault.path == layout.RUN:
            done = "cannot be put back; `reasondistill run FILE` with its pipeline file writes it"
            yield Repair(fault.path, done, is_mended=False)
        elif fault.path == layout.FORECAST:
            yield Repair(fault.path, _repair_forecast(run))
        else:
            (run.path / fault.path).unlink()
            yield Repair(fault.path, "removed; the same command measures it again")


def _repair_forecast(run: RunFolder) -> str:
    """Put back the copy of a forecast, or remove both; say what was done."""
    copy = run.path / layout.FORECAST_COPY
    try:
        write_guarded(run.forecast, read_guarded(copy, "a forecast", ""))
    except DataError:
        run.forecast.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
        return "removed; a forecast of before is lost, and the report is without it"
    return f"put back from its copy {copy.name}"


def _repair_cache(run: RunFolder, checked: CheckedFolder) -> Iterator[Repair]:
    """A damaged checkpoint, which took hours, is set aside whole; tokenised rows are made again."""
    folder = run.path / checked.place
    if checked.place != layout.TOKENS:
        aside = set_aside(folder)
        for fault in checked.faults:
            yield Repair(fault.path, f"its checkpoint is set aside as {aside.name}")
        return
    for fault in checked.faults:
        yield Repair(fault.path, "removed; it is made again where it is asked for")
        key = fault.name.partition(".")[0]
        for path in folder.glob(f"{key}.*"):
            path.unlink()


def _repair_manifest(run: RunFolder, place: str, *, again: bool) -> Iterator[Repair]:
    """Put back the copy of a manifest, and repair the folder by it. Without one nothing in the
    folder can be judged: nobody knows what it was made from.
    """
    folder, path = run.path / place, f"{place}/{MANIFEST}"
    manifest = _manifest_copy(folder)
    if manifest is not None:
        _clear(folder / MANIFEST)
        write_manifest(folder, manifest)
        yield Repair(path, f"put back from its copy {layout.MANIFEST_COPY}")
        tree = LocalTree(run.path, is_whole=True)
        checked = check_folder(tree, place, tree.sizes(), lambda count: None)
        if checked.faults:
            yield from _repair_folder(run, checked, again=again)
    elif _is_cheap(place) or again:
        done = f"{place} is removed, and made again by the same command"
        others = remove_stage(folder, place)
        if others:
            # Nothing says any more that the folder is the run's.
            done = (
                f"what stages wrote into {place} is removed, and made again by the same command. "
                f"Before it move away what is not theirs: {', '.join(others)}"
            )
        yield Repair(path, done, is_mended=not others)
    else:
        yield Repair(path, _costly(place), is_mended=False)


def _manifest_copy(folder: Path) -> Manifest | None:
    """What the copy of a manifest says; None where there is none that is sound."""
    path = folder / layout.MANIFEST_COPY
    try:
        return parse_manifest(path, read_bytes(path))
    except (OSError, DataError):
        return None


def _costly(place: str) -> str:
    what = "all its samples are drawn again"
    if place.startswith(_STUDENTS):
        what = "the student is trained again"
    if _is_of_scores(place):
        what = "all traces are scored again"
    return (
        "cannot be mended. Put back a copy of it; or `reasondistill repair --again`, which removes "
        f"{place}: {what}"
    )


def _is_cheap(place: str) -> bool:
    """Whether a stage is made again in minutes, without a model."""
    is_costly = _is_of_samples(place) or _is_of_scores(place)
    return not (is_costly or place.startswith(f"{_STUDENTS}/"))


def _is_of_scores(place: str) -> bool:
    return place.startswith(f"{_TRACES}/{layout.TRACE_SCORES}/")


def _is_of_samples(place: str) -> bool:
    return place == _TRACES or (place.startswith(f"{_EVALS}/") and place.endswith("/traces"))


def remove_stage(folder: Path, place: str) -> list[str]:
    """Remove what a stage wrote; of the tables of the evals not the samples below them, of verdicts
    not the replies of a judge, which were paid for. Where files of somebody else stay in the
    folder, its manifest stays too, and their names are returned.
    """
    replies = folder / layout.JUDGE_REPLIES
    is_kept = replies.exists() and place.endswith("verdicts")
    manifests = (MANIFEST, layout.MANIFEST_COPY)
    others: list[str] = []
    with disk_errors(folder):
        for path in sorted(folder.iterdir()):
            if path.name in manifests or (place == _EVALS and path.is_dir()):
                continue
            if is_kept and path in (replies, list_beside(replies)):
                continue
            if not _is_of_a_stage(path):
                others.append(path.name)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if not others:
            for name in manifests:
                (folder / name).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    return others


def _is_of_a_stage(path: Path) -> bool:
    """Whether a stage or what keeps its folder wrote this file or folder, which lies in it."""
    is_hidden = path.name.startswith(".")
    is_at_work = path.name in layout.AT_WORK or path.suffix == _PART
    if path.name == layout.TRACE_SCORES:  # of the traces beside it, with manifests of its own
        return True
    return is_of_a_stage(path.name) or is_hidden or is_at_work or is_list(path)


# ---- a folder with a manifest --------------------------------------------------------------------


def _repair_folder(run: RunFolder, checked: CheckedFolder, *, again: bool) -> Iterator[Repair]:
    folder, place = run.path / checked.place, checked.place
    manifest = read_manifest(folder)
    assert manifest is not None  # it was read a moment ago
    left: list[Fault] = []
    for fault in checked.faults:
        known = manifest.files[fault.name]
        if is_of_a_stage(fault.name):
            _clear(folder / fault.name)
        copy = _copy_of(run, folder / fault.name, known)
        if copy is not None:
            _put_back(copy, folder / fault.name)
            done = f"put back from {run.place_of(copy)}, which has the same content"
            yield Repair(fault.path, done)
        elif fault.name == layout.METRICS:
            kept = _keep_sound_lines(folder / fault.name, known)
            manifest = _summed_anew(folder, manifest, fault.name)
            yield Repair(fault.path, f"{kept}; the rest, numbers over time, is lost")
        elif not is_of_a_stage(fault.name):
            manifest = _without(folder, manifest, fault.name)
            done = "no stage writes such a file: it is left as it is, and no longer guarded"
            yield Repair(fault.path, done)
        else:
            left.append(fault)
    if not left:
        return
    if _is_of_scores(place):
        kept = _open_again(folder, manifest, left)
        for fault in left:
            sound = kept.get(fault.name, 0)
            done = f"{sound:,} sound scores are kept; the same command makes the rest"
            yield Repair(fault.path, done)
    elif _is_of_samples(place):
        yield from _repair_samples(folder, manifest, left, again=again)
    elif _is_cheap(place):
        yield from _remove_cheap(folder, place, manifest, left)
    else:
        yield from _repair_student(folder, place, manifest, left, again=again)


def _summed_anew(folder: Path, manifest: Manifest, name: str) -> Manifest:
    """Write the manifest with another sum of a file that was cut to what is sound of it."""
    files = dict(manifest.files)
    files[name] = sum_of(folder / name)
    changed = replace(manifest, files=files)
    write_manifest(folder, changed)
    return changed


def _without(folder: Path, manifest: Manifest, name: str) -> Manifest:
    """Write the manifest without a file that earlier versions took for the stage's."""
    files = dict(manifest.files)
    del files[name]
    changed = replace(manifest, files=files)
    write_manifest(folder, changed)
    return changed


def _clear(path: Path) -> None:
    """Remove a folder that is where a file was."""
    if path.is_dir():
        shutil.rmtree(path)


def _copy_of(run: RunFolder, damaged: Path, known: FileSum) -> Path | None:
    """Another file of the run that holds what the damaged one held."""
    for path in sorted(run.path.rglob(f"*{damaged.suffix}")):
        if path != damaged and path.is_file() and is_copy(path, known):
            return path
    return None


def _put_back(copy: Path, path: Path) -> None:
    with open(copy, "rb", opener=regular) as source, replacing(path) as target:
        shutil.copyfileobj(source, target)


def _keep_sound_lines(path: Path, known: FileSum) -> str:
    """Rewrite a shard with its sound lines; say how many these are."""
    kept = 0
    with replacing(path) as target:
        if path.exists():
            for line in sound_lines(path, known):
                target.write(line)
                kept += 1
    return f"{kept:,} sound lines are kept"


def _open_again(folder: Path, manifest: Manifest, faults: Sequence[Fault]) -> dict[str, int]:
    """List the sound lines of every shard, then say that the folder is unfinished: from then on no
    other line counts, whatever becomes of this process. Return how many lines each shard keeps.
    """
    damaged = frozenset(fault.name for fault in faults)
    kept: dict[str, int] = {}
    for name, known in manifest.files.items():
        path = folder / name
        if not is_listed(name):
            continue
        if path.exists():
            kept[name] = list_lines(path, _sound_lines_of(folder, name, known, damaged))
        else:
            list_beside(path).unlink(missing_ok=True)
            kept[name] = 0
    write_manifest(folder, replace(manifest, status="partial", files={}))
    return kept


def _sound_lines_of(
    folder: Path, name: str, known: FileSum, damaged: Container[str]
) -> Iterator[bytes]:
    """The sound lines of a shard; of the index of a damaged top-K cache those whose block is sound
    too.
    """
    lines = sound_lines(folder / name, known)
    if name == _TOPK_INDEX and _TOPK_BLOCKS in damaged:
        return _with_sound_block(folder / _TOPK_BLOCKS, lines)
    return lines


def _with_sound_block(blocks: Path, lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of the index of a top-K cache whose block fits its crc32."""
    if not blocks.exists():
        return
    with open(blocks, "rb", opener=regular) as file:
        for line in lines:
            place = _place_of_block(line, blocks.stat().st_size)
            if place is None:
                continue
            file.seek(place.offset)
            if zlib.crc32(file.read(place.bytes)) == place.crc32:
                yield line


@dataclass(frozen=True)
class _BlockPlace:
    """Where a block of a top-K cache stands."""

    offset: int
    bytes: int
    crc32: int


def _place_of_block(line: bytes, size: int) -> _BlockPlace | None:
    """What a line of the index says; None for one that fits no file of this size."""
    try:
        row = foreign_json.loads(line)
        place = _BlockPlace(row["offset"], row["bytes"], row["crc32"])
    except (ValueError, KeyError, TypeError):
        return None
    if type(place.offset) is not int or type(place.bytes) is not int:
        return None
    if min(place.offset, place.bytes) < 0 or place.offset + place.bytes > size:
        return None
    return place


def _remove_cheap(
    folder: Path, place: str, manifest: Manifest, faults: Sequence[Fault]
) -> Iterator[Repair]:
    """Remove a stage that is made again in minutes; sound replies of a judge stay."""
    kept = _open_again(folder, manifest, faults)
    for fault in faults:
        done = f"{place} is removed, and made again by the same command"
        path = folder / fault.name
        count = kept.get(fault.name, 0)
        if fault.name == layout.JUDGE_REPLIES:
            if count:
                keep_listed(path)
                done = f"{count:,} sound replies are kept; the same command asks for the rest"
            else:
                path.unlink(missing_ok=True)
        yield Repair(fault.path, done)
    remove_stage(folder, place)


def _repair_samples(
    folder: Path, manifest: Manifest, faults: Sequence[Fault], *, again: bool
) -> Iterator[Repair]:
    """Keep the sound samples and open the folder again: the same command draws the rest. The top-K
    cache of all samples is removed only with `again`.
    """
    unreadable = _why_unreadable(folder, manifest, faults)
    if unreadable is not None and _has_blocks(folder) and not again:
        # Left as it is: the sums of a folder that is opened again are forgotten, and with them that
        # the cache is damaged.
        for fault in faults:
            done = f"left as it is until {unreadable.path} is mended"
            if fault == unreadable:
                done = (
                    "cannot be mended. Put back a copy of it; or `reasondistill repair --again`, "
                    "which removes the top-K cache: the top K of all samples are captured again"
                )
            yield Repair(fault.path, done, is_mended=False)
        return
    if unreadable is not None:
        with disk_errors(folder):
            shutil.rmtree(folder / layout.TOPK, ignore_errors=True)
    kept = _open_again(folder, manifest, faults)
    for fault in faults:
        path = folder / fault.name
        if fault.name in _OF_THE_CLOSING:
            path.unlink(missing_ok=True)
            yield Repair(fault.path, "removed; the same command writes it again")
        elif fault.name.startswith(f"{layout.TOPK}/"):
            done = "the top-K cache is removed; the same command captures it"
            if unreadable is None:
                keep_listed(folder / _TOPK_INDEX)
                count = kept[_TOPK_INDEX]
                done = f"the top K of {count:,} samples are kept; the same command captures others"
            yield Repair(fault.path, done)
        else:
            if path.exists():
                keep_listed(path)
            else:
                write_text(path, "")
            rest = "the same command draws the rest"
            if fault.name == layout.TRIMMED:
                rest = "the rest is drawn again where it is needed"
            elif fault.name != layout.TRACES:
                rest = "the rest, which tells of servers, is lost"
            count = kept[fault.name]
            yield Repair(fault.path, f"{count:,} sound lines are kept; {rest}")


def _why_unreadable(folder: Path, manifest: Manifest, faults: Sequence[Fault]) -> Fault | None:
    """The fault for which no block of a top-K cache can be read, however sound it is."""
    for fault in faults:
        if fault.name in (_TOPK_HEADER, _TOPK_VOCABULARY):
            return fault
        path = folder / fault.name
        if fault.name == _TOPK_INDEX:
            known = manifest.files[fault.name]
            if not path.exists() or not any(sound_lines(path, known)):
                return fault
    return None


def _has_blocks(folder: Path) -> bool:
    """Whether a top-K cache has anything to lose."""
    blocks = folder / _TOPK_BLOCKS
    return blocks.exists() and blocks.stat().st_size > 0


def _repair_student(
    folder: Path, place: str, manifest: Manifest, faults: Sequence[Fault], *, again: bool
) -> Iterator[Repair]:
    """The record of a student can be written again; weights and what belongs to them cannot be made
    without training.
    """
    hopeless: list[Fault] = []
    for fault in faults:
        known = manifest.files[fault.name]
        if fault.name == layout.STUDENT and _write_record(folder, manifest, known):
            yield Repair(fault.path, "written again from the manifest, with the same content")
        else:
            hopeless.append(fault)
    if hopeless and again:
        write_manifest(folder, replace(manifest, status="partial", files={}))
        remove_stage(folder, place)
        for fault in hopeless:
            yield Repair(fault.path, f"{place} is removed, and trained again by the same command")
    elif hopeless:
        for fault in hopeless:
            yield Repair(fault.path, _costly(place), is_mended=False)


def _write_record(folder: Path, manifest: Manifest, known: FileSum) -> bool:
    """Write student.json from what the manifest holds; whether that is what was written."""
    path = folder / layout.STUDENT
    for student in _records_of(folder, manifest):
        write_text(path, student.model_dump_json(indent=2) + "\n")
        if is_copy(path, known):
            return True
    return False


def _records_of(folder: Path, manifest: Manifest) -> Iterator[Student]:
    """What the record of a student may have been, by its manifest."""
    section, inputs = manifest.section, manifest.identity["inputs"]
    figures = None
    if manifest.figures:
        figures = TrainingFigures.model_validate(_as_json(manifest.figures))
    for examples in dict.fromkeys((inputs.get("unverified"), inputs.get("examples"), "")):
        if examples is not None:
            yield Student(
                name=folder.name,
                method=section.get("method", "sft"),
                base=inputs.get("base", ""),
                path=layout.MODEL,
                examples=examples,
                seed=section.get("seed", 0),
                figures=figures,
            )


def _as_json(value: Mapping[str, object]) -> dict[str, object]:
    return json.loads(json.dumps(value))
