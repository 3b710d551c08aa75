"""The wheel carries the data folders and models, and importing the package stays light."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "vllm", "trl", "transformers", "datasets", "peft", "httpx", "reasoning_gym")
PACKAGE = ROOT / "reasondistill"
PACKAGES = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
TOP_MODULES = {f"reasondistill.{path.stem}" for path in PACKAGE.glob("[a-z]*.py")}
MODULES = sorted(PACKAGES | TOP_MODULES)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, so that no stale build/ folder gets in."""
    source, target = (
        tmp_path_factory.mktemp("source") / "checkout",
        tmp_path_factory.mktemp("wheel"),
    )
    wanted = (
        "pyproject.toml",
        "setup.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "reasondistill",
        "prompts",
        "pipelines",
        "eval",
    )
    source.mkdir()
    for name in wanted:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(target),
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as a site-packages folder would hold it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_every_module(installed: Path) -> None:
    ours = {path.relative_to(ROOT) for path in (ROOT / "reasondistill").rglob("*.py")}
    theirs = {path.relative_to(installed) for path in (installed / "reasondistill").rglob("*.py")}
    assert theirs == ours


@pytest.mark.parametrize(
    "kind",
    [
        "prompts",
        "pipelines",
        "pipelines/clusters",
        "pipelines/clusters/accelerate",
        "eval/benchmarks",
    ],
)
def test_the_wheel_holds_every_data_file_unchanged(installed: Path, kind: str) -> None:
    ours = {
        path.name: path.read_bytes()
        for path in (ROOT / kind).iterdir()
        if path.suffix in (".toml", ".yaml")
    }
    there = installed / "reasondistill" / "shipped" / kind
    theirs = {
        path.name: path.read_bytes()
        for path in there.iterdir()
        if path.suffix in (".toml", ".yaml")
    }
    assert ours and theirs == ours


def test_the_wheel_holds_every_shipped_model(installed: Path) -> None:
    models = ROOT / "reasondistill" / "shipped" / "models"
    ours = {
        path.relative_to(models): path.stat().st_size
        for path in models.rglob("*")
        if path.is_file()
    }
    there = installed / "reasondistill" / "shipped" / "models"
    assert {
        path.relative_to(there): path.stat().st_size for path in there.rglob("*") if path.is_file()
    } == ours
    assert sum(size for path, size in ours.items() if path.suffix == ".safetensors") <= 16 * 1024**2


def test_nothing_but_the_package_becomes_importable(installed: Path) -> None:
    assert sorted(path.name for path in installed.iterdir() if path.suffix != ".dist-info") == [
        "reasondistill"
    ]


def test_the_wheel_names_its_licence_and_its_command(installed: Path) -> None:
    info = next(installed.glob("*.dist-info"))
    assert "License-Expression: Apache-2.0" in (info / "METADATA").read_text(encoding="utf-8")
    assert (info / "licenses" / "LICENSE").exists()
    assert "reasondistill = reasondistill.__main__:main" in (info / "entry_points.txt").read_text(
        encoding="utf-8"
    )


def test_the_installed_package_finds_what_it_ships_from_any_folder(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from reasondistill.config import resources\n"
        "kinds = ('prompts', 'pipelines', 'clusters', 'accelerate', 'benchmarks')\n"
        "print(json.dumps({kind: sorted(str(path) for path in "
        "resources.available(kind).values()) for kind in kinds}))"
    )
    found = json.loads(run_python(program, str(installed), cwd=tmp_path))
    for kind, paths in found.items():
        assert paths, kind
        assert all(path.startswith(str(installed)) for path in paths)


def test_the_wheel_says_that_its_types_may_be_relied_on(installed: Path) -> None:
    assert (installed / "reasondistill" / "py.typed").exists()


def test_importing_any_package_loads_nothing_heavy() -> None:
    program = (
        "import importlib, sys\n"
        f"for module in {MODULES!r}:\n"
        "    importlib.import_module(module)\n"
        f"    loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    if loaded:\n"
        "        sys.exit(f'{module} loads {loaded}')\n"
    )
    run_python(program, cwd=ROOT)


def run_python(program: str, *arguments: str, cwd: Path) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
