"""Find prompts/, pipelines/ and eval/ files: the path given, then the working directory, the
checkout, the installed wheel.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
_KINDS = {
    "prompts": "prompts",
    "pipelines": "pipelines",
    "clusters": "pipelines/clusters",
    "orchestrators": "pipelines/clusters",
    "accelerate": "pipelines/clusters/accelerate",
    "benchmarks": "eval/benchmarks",
    "published": "eval",
    "models": "models",
}
# The name of a model that comes with the package: one folder, not a path.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Files that hide shipped ones, and were named.
_named: set[Path] = set()
# The suffix of each kind of file, where that is not .toml.
_SUFFIXES = {"accelerate": ".yaml", "orchestrators": ".yaml"}


def _places(kind: str) -> Iterator[Path]:
    folder = _KINDS[kind]
    yield Path.cwd() / folder
    if (_PACKAGE.parent / "pyproject.toml").exists():
        yield _PACKAGE.parent / folder
    yield _PACKAGE / "shipped" / folder


def find(kind: str, name: str, *, beside: Path | None = None) -> Path:
    """The file that `name` means: a path as it is, else `<kind>/<name>.toml` (`.yaml` for
    accelerate's) in the nearest place that has it.

    `demo` and `pipelines/demo.toml` are looked up in each place, and last in the `<kind>/` of the
    folder `beside`, where a file of the user's lies; any other path must exist. A file of the
    working directory that is taken instead of a shipped one of the same name is named once
    in the log. Raises ConfigError with the nearest known name.
    """
    given, suffix = Path(name), _SUFFIXES.get(kind, ".toml")
    if given.suffix == suffix and given.exists():
        _name_what_hides(kind, given)
        return given
    if given.parent not in (Path("."), Path(_KINDS[kind])):
        raise ConfigError(f"{name}: no such file.")
    stem = given.name.removesuffix(suffix)
    places = list(_places(kind))
    if beside is not None:
        places.append(beside / _KINDS[kind])
    for place in places:
        path = place / f"{stem}{suffix}"
        if path.exists():
            _name_what_hides(kind, path)
            return path
    hint = nearest(stem, sorted(available(kind)))
    singular = kind.removesuffix("s")
    raise ConfigError(f"{name}: no such file, and no {singular} of that name. {hint}")


def _name_what_hides(kind: str, path: Path) -> None:
    """Say, once in a process, that a file of the working directory stands for another one of the
    same name, where they differ.
    """
    place = path.resolve()
    if place in _named or place.parent != (Path.cwd() / _KINDS[kind]).resolve():
        return
    for other in _places(kind):
        hidden = other / path.name
        if hidden.is_file() and path.is_file() and hidden.read_bytes() != path.read_bytes():
            _named.add(place)
            log.warning("%s is used: it hides the shipped file %s", place, hidden)
            return


def available(kind: str) -> dict[str, Path]:
    """Name → file of everything of this kind; a nearer place hides the same name farther off."""
    files: dict[str, Path] = {}
    suffix = _SUFFIXES.get(kind, ".toml")
    for place in _places(kind):
        for path in sorted(place.glob(f"*{suffix}")):
            files.setdefault(path.stem, path)
    return files


def own_folder(kind: str) -> Path:
    """Where a file of the user's is found by its name, from the folder that he stands in."""
    return Path(_KINDS[kind])


def shipped_models() -> dict[str, Path]:
    """Name → folder of the models that come with the package."""
    folders = sorted((_PACKAGE / "shipped" / "models").glob("*/config.json"))
    return {config.parent.name: config.parent for config in folders}


def shipped_model(name: str) -> Path:
    """The folder of a model that comes with the package (`shipped:demo-teacher`). Raises
    ConfigError.
    """
    folder = _PACKAGE / "shipped" / "models" / name
    if _MODEL_NAME.fullmatch(name) and (folder / "config.json").exists():
        return folder
    hint = nearest(name, list(shipped_models()))
    raise ConfigError(f"shipped:{name}: no such model in this package. {hint}")
