"""What of a run goes out when it is published: a student's weights, tokenizer and card, or the data
set of its examples; nothing else.

    push = student_push(run, "distilled", weights_of(run))
    push.with_card("me/small")      # every file, by its name in the repository
    push.left_out                   # what lies there and stays here

No checkpoint, log, optimizer state or manifest goes out. Every text is read: one that holds a
secret is refused by name, paths of this machine in JSON are cut down to their last part. Weights
and Parquet files go as they are, after they were compared with what their stage wrote.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from reasondistill import foreign_json
from reasondistill.config.students import CONTROLS
from reasondistill.curation.card import NO_LICENCE
from reasondistill.curation.model_card import ModelFile, model_card
from reasondistill.curation.parquet import parquet_rows
from reasondistill.curation.provenance import (
    MadeStudent,
    card_facts,
    read_asked,
    read_results,
    sampling_of,
    stages_behind,
    stages_of,
    weights_in,
)
from reasondistill.errors import DataError, StageError
from reasondistill.foreign_files import regular
from reasondistill.runs import layout
from reasondistill.runs.figures import read_student_record
from reasondistill.runs.kept import kept_students
from reasondistill.runs.layout import RunFolder, StudentFolder
from reasondistill.runs.packing import without_places
from reasondistill.runs.store import (
    first_link,
    read_bytes_verified,
    read_manifest,
    read_text_verified,
    require_complete,
    verify_below,
)
from reasondistill.secrets import cleaned, found_in, holds_secret

Kind = Literal["model", "dataset"]

# What a library needs to load a model; anything else in its folder stays here.
_OF_A_MODEL = (
    *("config.json", "generation_config.json", layout.OWN_FACTS, "*.safetensors"),
    *("*.safetensors.index.json", "*.py"),
)
_OF_AN_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_OF_A_TOKENIZER = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    *("*.model", "chat_template*", "additional_chat_templates/*.jinja"),
)
_OF_A_DATASET = ("*.parquet",)
_OF_EXPORTS = ("*.jsonl", layout.CARD)
# Vocabularies hold pieces of anything: of them only the secrets of the environment are looked for.
_VOCABULARIES = ("tokenizer.json", "vocab.*", "merges.txt", "added_tokens.json")
_NOT_TEXT = (".safetensors", ".model", ".parquet")
# A text of JSON that is nothing but a path of this machine.
_PLACE = re.compile(r"(?:~|/[^\n/{}<>|]+)(?:/[^\n/{}<>|]+)+/?")


@dataclass(frozen=True)
class Upload:
    """One file that goes out under `name`: as it lies in `path`, or with the `content` that stands
    in its place. `note` says what was done with it.
    """

    name: str
    size: int
    sha256: str
    path: Path | None = None
    content: bytes = b""
    note: str = ""

    @classmethod
    def of_bytes(cls, name: str, content: bytes, note: str) -> Upload:
        digest = hashlib.sha256(content).hexdigest()
        return cls(name, len(content), digest, content=content, note=note)


@dataclass(frozen=True)
class Push:
    """What goes out, and what lies beside it and does not. `card` gives the text of README.md for
    the place where it will be.
    """

    kind: Kind
    title: str
    files: tuple[Upload, ...]
    left_out: tuple[str, ...]
    card: Callable[[str], str]

    def with_card(self, where: str) -> tuple[Upload, ...]:
        """Every file with the card for `where`, a repository or `.`; the card comes last. Raises
        DataError for a card that holds a secret.
        """
        text = cleaned(self.card(where))
        _refuse_secret(layout.CARD, text, is_vocabulary=False)
        return (*self.files, Upload.of_bytes(layout.CARD, text.encode(), "the card"))


# ---- a student -----------------------------------------------------------------------------------


def choose_student(run: RunFolder, name: str | None) -> str:
    """The student that is meant: the one that is named, else the only trained one that is no
    control, and none that was kept when it was trained anew. Raises StageError where that is not
    one.
    """
    known = [student.path.name for student in run.students()]
    if not known:
        raise StageError(f"{run.path}: has no students. Run the students stage first.")
    if name is not None:
        if name not in known:
            raise StageError(f"{run.path}: has no student {name!r}; it has {', '.join(known)}.")
        return name
    kept = {folder.path.name for folder, _ in kept_students(run)}
    others = [one for one in known if one not in kept]
    trained = [one for one in others if method_of(run.student(one)) not in CONTROLS]
    if len(trained) != 1:
        names = ", ".join(trained or known)
        raise StageError(f"{run.path}: which student? --student NAME, one of {names}.")
    return trained[0]


def method_of(folder: StudentFolder) -> str:
    """The method of a student, finished or not."""
    manifest = read_manifest(folder.path)
    if manifest is None:
        return ""
    return str(manifest.section.get("method", ""))


def student_push(
    run: RunFolder,
    name: str,
    weights: Mapping[str, str],
    *,
    is_adapter: bool = False,
    licence: str | None = None,
) -> Push:
    """A finished student, or its adapter. `weights` are the identities of the weights of the run's
    students by name.

    Raises StageError for one that is not finished, has no weights here or is the hub's own, and
    DataError where a file is damaged or holds a secret.
    """
    folder = run.student(name)
    made = MadeStudent.of(folder)
    source = source_of(folder, made, is_adapter=is_adapter)
    verify_below(source)
    files = weights_in(source)
    if not files:
        raise StageError(f"{source}: has no *.safetensors: there are no weights to push.")
    parents = {
        identity: read_student_record(run.student(other).record)
        for other, identity in weights.items()
        if other != name
    }
    results = read_results(run, name, weights.get(name))
    asked = read_asked(run, folder, made)
    if asked is not None:
        asked = replace(asked, sampling=sampling_of(run, results))
    stages = stages_behind(run, folder)
    facts = card_facts(made, stages, parents=parents, asked=asked, results=results, files=files)
    facts = replace(facts, is_adapter=is_adapter, licence=licence)
    changed = [stage for stage in stages_of(run) if stage not in stages]
    if changed:
        origins = {**facts.origins, "changed since, not told here": ", ".join(changed)}
        facts = replace(facts, origins=origins)
    if name in weights:
        facts = replace(facts, fingerprints={"weights": weights[name], **facts.fingerprints})

    def card(where: str) -> str:
        return model_card(replace(facts, title=title_of(where, name), where=where))

    uploads = list(model_files(source, files, is_adapter=is_adapter, base=facts.base_model))
    if is_adapter and not any(one.name.startswith("tokenizer") for one in uploads):
        # Its base's may have another chat template than it was trained with.
        uploads += _texts(folder.model, _OF_A_TOKENIZER, {})
    left_out = _left_out(source, uploads)
    return Push("model", name, tuple(uploads), left_out, card)


def title_of(where: str, name: str) -> str:
    """What a card is called: the repository's last part, or the student's name."""
    return where.rpartition("/")[2].lstrip(".") or name


def source_of(folder: StudentFolder, made: MadeStudent, *, is_adapter: bool) -> Path:
    """The folder that goes out. Raises StageError where there is none."""
    if (folder.path / layout.WEIGHTS_LEFT_OUT).exists() and not folder.model.exists():
        raise StageError(
            f"{folder.model}: the weights are not here; the run was packed elsewhere, without "
            "them. Push it from there."
        )
    if made.record.path != layout.MODEL:
        raise StageError(
            f"{folder.path}: is {made.record.path}, untouched: nothing of this run is in it."
        )
    if not is_adapter:
        return folder.model
    if not folder.adapter.is_dir():
        raise StageError(f"{folder.path}: was not trained with LoRA; there is no {layout.ADAPTER}.")
    return folder.adapter


def model_files(
    source: Path, weights: Sequence[ModelFile], *, is_adapter: bool, base: str | None
) -> Iterator[Upload]:
    """The texts of a model's folder, then its weights."""
    patterns = (*_OF_A_MODEL, *_OF_A_TOKENIZER)
    named: dict[str, str] = {}
    if is_adapter:
        patterns = (*_OF_AN_ADAPTER, *_OF_A_TOKENIZER)
        if base is not None:
            named = {"base_model_name_or_path": base}
    yield from _texts(source, patterns, named)
    for file in weights:
        yield Upload(file.name, file.size, file.sha256, path=source / file.name)


def _texts(folder: Path, patterns: Sequence[str], named: Mapping[str, str]) -> Iterator[Upload]:
    """The files that fit, but for weights, fit to go out; `named` are values that stand in the
    place of a path.
    """
    for name in _names_below(folder):
        if _fits(name, patterns) and not name.endswith(".safetensors"):
            yield _checked(folder, name, named)


def _names_below(folder: Path) -> Iterator[str]:
    """The files of a folder by their path in it. Raises StageError for a link, the folder itself
    and those above it in the run too: whoever made the run may have laid one to a file of its user.
    """
    links = [first_link(folder), *(path for path in sorted(folder.rglob("*")) if path.is_symlink())]
    for link in links:
        if link is not None:
            raise StageError(f"{link}: is a link; what it leads to does not go out. Remove it.")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _fits(name: str, patterns: Iterable[str]) -> bool:
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    depth = name.count("/")
    fitting = (one for one in patterns if one.count("/") == depth)
    return not is_hidden and any(fnmatch.fnmatchcase(name, one) for one in fitting)


def _left_out(folder: Path, uploads: Sequence[Upload]) -> tuple[str, ...]:
    taken = {one.name for one in uploads} | {layout.CARD}
    return tuple(name for name in _names_below(folder) if name not in taken)


def _checked(folder: Path, name: str, named: Mapping[str, str]) -> Upload:
    """A file that goes out as it is, or, where paths of this machine stand in it, without them.
    Raises DataError for one that holds a secret.
    """
    path = folder / name
    content = read_bytes_verified(path)
    digest = hashlib.sha256(content).hexdigest()
    whole = Upload(name, len(content), digest, path=path)
    if name.endswith(_NOT_TEXT):
        return whole
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8, so nobody can look for secrets in it.") from error
    is_vocabulary = _fits(name, _VOCABULARIES)
    _refuse_secret(str(path), text, is_vocabulary=is_vocabulary)
    if is_vocabulary or not name.endswith(".json"):
        return whole
    try:
        value = foreign_json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: is no JSON: {error}.") from error
    clean = _without_paths(value, named)
    if clean == value:
        return whole
    written = json.dumps(clean, indent=2, ensure_ascii=False) + "\n"
    return Upload.of_bytes(name, written.encode(), "without paths of this machine")


def _without_paths(value: Any, named: Mapping[str, str], key: str = "") -> Any:
    """A value of JSON in which texts that are paths of this machine are their last part, or what
    `named` says under their key.
    """
    if isinstance(value, str):
        if _PLACE.fullmatch(value) is None:
            return value
        return named.get(key) or value.rstrip("/").rpartition("/")[2]
    if isinstance(value, list):
        return [_without_paths(item, named, key) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {name: _without_paths(inner, named, name) for name, inner in pairs}
    return value


def _refuse_secret(place: str, text: str, *, is_vocabulary: bool) -> None:
    """Raise DataError for a text that must not go out."""
    kind: str | None = None
    if holds_secret(text):
        kind = "a secret of the environment"
    elif not is_vocabulary:
        kind = found_in(text)
    if kind is not None:
        raise DataError(f"{place}: holds {kind}, so nothing is pushed. Take it out first.")


# ---- the data set --------------------------------------------------------------------------------


def dataset_push(run: RunFolder, *, exports: bool = False, licence: str | None = None) -> Push:
    """The data set of a run's examples: its Parquet files and its card; `exports` too, where they
    are asked for.

    Raises StageError where it is not finished or not here, DataError where a file is damaged or a
    row holds a secret.
    """
    examples = run.stage("examples")
    require_complete(examples)
    source = examples / layout.DATASET
    if not (source / layout.CARD).is_file():
        raise StageError(
            f"{source}: is not here; a packed run leaves it out. Remove {examples}, and the same "
            "command makes it again from the traces."
        )
    verify_below(source)
    uploads = list(_tables(source, _OF_A_DATASET))
    if exports:
        folder = examples / layout.EXPORTS
        if not folder.is_dir():
            raise StageError(
                f"{folder}: there are no exports; [examples] export = [...] names their shapes."
            )
        verify_below(folder)
        for one in _tables(folder, _OF_EXPORTS):
            uploads.append(replace(one, name=f"{layout.EXPORTS}/{one.name}"))
    text = without_places(read_text_verified(source / layout.CARD))
    if licence is not None:
        text = text.replace(NO_LICENCE, f"license: {json.dumps(licence)}", 1)
    left_out = _left_out(source, uploads)
    return Push("dataset", layout.DATASET, tuple(uploads), left_out, lambda where: text)


def _tables(folder: Path, patterns: Sequence[str]) -> Iterator[Upload]:
    """Files of rows, each row of which was read."""
    for name in _names_below(folder):
        if not _fits(name, patterns):
            continue
        path = folder / name
        if name == layout.CARD:
            yield _checked(folder, name, {})
            continue
        for number, row in enumerate(rows_as_text(path), start=1):
            _refuse_secret(f"{path}:{number}", row, is_vocabulary=False)
        with open(path, "rb", opener=regular) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield Upload(name, path.stat().st_size, digest, path=path)


def rows_as_text(path: Path) -> Iterator[str]:
    """The rows of a file as text, within the bounds of what others wrote. Raises DataError."""
    if path.suffix != ".jsonl":
        for row in parquet_rows(path):
            yield json.dumps(row, ensure_ascii=False, default=str)
        return
    with open(path, "rb", opener=regular) as file:
        for number, line in enumerate(foreign_json.bounded_lines(file, path), start=1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: not UTF-8 text ({error.reason}).") from error
