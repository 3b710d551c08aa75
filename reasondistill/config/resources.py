"""Find prompts/, pipelines/ and eval/ files: the path given, then the working directory, the
checkout, the installed wheel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reasondistill.errors import ConfigError
from reasondistill.sections import nearest

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
# The suffix of each kind of file, where that is not .toml.
_SUFFIXES = {"accelerate": ".yaml", "orchestrators": ".yaml"}


def _places(kind: str) -> Iterator[Path]:
    folder = _KINDS[kind]
    yield Path.cwd() / folder
    if (_PACKAGE.parent / "pyproject.toml").exists():
        yield _PACKAGE.parent / folder
    yield _PACKAGE / "shipped" / folder


def find(kind: str, name: str) -> Path:
    """The file that `name` means: a path as it is, else `<kind>/<name>.toml` (`.yaml` for
    accelerate's) in the nearest place that has it.

    `demo` and `pipelines/demo.toml` are looked up in each place; any other path must exist. Raises
    ConfigError with the nearest known name.
    """
    given, suffix = Path(name), _SUFFIXES.get(kind, ".toml")
    if given.suffix == suffix and given.exists():
        return given
    if given.parent not in (Path("."), Path(_KINDS[kind])):
        raise ConfigError(f"{name}: no such file.")
    stem = given.name.removesuffix(suffix)
    for place in _places(kind):
        path = place / f"{stem}{suffix}"
        if path.exists():
            return path
    hint = nearest(stem, sorted(available(kind)))
    singular = kind.removesuffix("s")
    raise ConfigError(f"{name}: no such file, and no {singular} of that name. {hint}")


def available(kind: str) -> dict[str, Path]:
    """Name → file of everything of this kind; a nearer place hides the same name farther off."""
    files: dict[str, Path] = {}
    suffix = _SUFFIXES.get(kind, ".toml")
    for place in _places(kind):
        for path in sorted(place.glob(f"*{suffix}")):
            files.setdefault(path.stem, path)
    return files


def shipped_model(name: str) -> Path:
    """The folder of a model that comes with the package (`shipped:demo-teacher`). Raises
    ConfigError.
    """
    folder = _PACKAGE / "shipped" / "models" / name
    if (folder / "config.json").exists():
        return folder
    raise ConfigError(f"shipped:{name}: no such model in this package.")
