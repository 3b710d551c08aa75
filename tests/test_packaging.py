"""The wheel carries the data folders and models, the sdist the tests too; both work outside the
checkout, and importing the package stays light.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "vllm",
    "trl",
    "transformers",
    "datasets",
    "peft",
    "httpx",
    "reasoning_gym",
    "scipy",
)
PACKAGE = ROOT / "reasondistill"
PACKAGES = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
TOP_MODULES = {f"reasondistill.{path.stem}" for path in PACKAGE.glob("[a-z]*.py")}
MODULES = sorted(PACKAGES | TOP_MODULES)


# What a checkout holds, and what it may hold beside that: what was made in it.
SHARED = (
    ".ci",
    ".gitignore",
    "AGENTS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "constraints",
    "docs",
    "eval",
    "examples",
    "mkdocs.yml",
    "pipelines",
    "prompts",
    "pyproject.toml",
    "reasondistill",
    "setup.py",
    "tests",
)
MADE = (
    ".venv/pyvenv.cfg",
    "eval/runs/demo/5-students/distilled/model.safetensors",
    "runs/demo/5-students/distilled/model.safetensors",
    "tests/__pycache__/conftest.cpython-311.pyc",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which a run was made and an environment."""
    place = tmp_path_factory.mktemp("source") / "checkout"
    place.mkdir()
    caches = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".hypothesis")
    for name in SHARED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=caches)
        else:
            shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of that checkout, unpacked."""
    files = files_of(checkout)
    for name in MADE:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    folder = tmp_path_factory.mktemp("sdist")
    program = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run_python(program, str(folder), cwd=checkout)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    (folder / "files.json").write_text(json.dumps(sorted(files)))
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, as pip does it."""
    source = tmp_path_factory.mktemp("build") / "source"
    shutil.copytree(sdist, source)
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(target), str(source))
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as a site-packages folder would hold it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`reasondistill` of a fresh environment that has the wheel, and sees the packages of this one,
    but not the checkout.
    """
    place = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", str(wheel))
    (site,) = place.glob("lib/python*/site-packages")
    # A path of a .pth file comes after its own folder, and the .pth files there are not read: an
    # editable install of the checkout stays unseen.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "reasondistill"


def pip(*arguments: str) -> None:
    options = [] if "--python" in arguments else ["--quiet"]
    line = [sys.executable, "-m", "pip", *options, *arguments]
    done = subprocess.run(
        line, capture_output=True, text=True, env=os.environ | {"PIP_NO_INDEX": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def use(command: Path, *arguments: str, cwd: Path) -> str:
    """What the installed command prints, outside the checkout."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(command), *arguments], cwd=cwd, capture_output=True, text=True, env=clean
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_sdist_holds_the_checkout_and_nothing_that_was_made_in_it(sdist: Path) -> None:
    ours = set(json.loads((sdist.parent / "files.json").read_text()))
    ours -= {name for name in ours if name.startswith("eval/runs/")}  # packed runs
    theirs = {name for name in files_of(sdist) if not name.startswith("reasondistill.egg-info/")}
    assert theirs - ours == {"PKG-INFO", "setup.cfg"}
    assert ours - theirs == set()


def test_the_tests_of_the_sdist_run_in_its_own_folder(sdist: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*line, "tests/test_thinking.py", "tests/test_sections.py"],
        cwd=sdist,
        capture_output=True,
        text=True,
        env=clean | {"PYTHONPATH": str(sdist)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_installed_command_lists_copies_and_plans_outside_the_checkout(
    command: Path, tmp_path: Path
) -> None:
    assert "demo" in use(command, "list", "pipelines", cwd=tmp_path)
    use(command, "copy", "demo", "mine.toml", cwd=tmp_path)
    assert (tmp_path / "mine.toml").read_bytes() == (ROOT / "pipelines/demo.toml").read_bytes()
    plan = use(command, "run", "demo", "--dry-run", cwd=tmp_path)
    assert "nothing is done: --dry-run" in plan
    assert files_of(tmp_path) == {"mine.toml"}


@pytest.mark.slow
def test_the_installed_command_walks_the_demo_with_20_problems(
    command: Path, tmp_path: Path
) -> None:
    text = (ROOT / "pipelines/demo.toml").read_text(encoding="utf-8")
    for long, short in (
        ("limit = 4500", "limit = 20"),
        ("validation = 0.02", "validation = 0.1"),
        ("max_steps = 450", "max_steps = 20"),
    ):
        assert long in text
        text = text.replace(long, short)
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    use(command, "run", "small.toml", "--set", "evals.limit=20", cwd=tmp_path)
    report = json.loads((tmp_path / "runs/demo/7-report/report.json").read_text(encoding="utf-8"))
    scores = {row["model"]: row["n"] for row in report["scores"] if row["metric"] == "pass@1"}
    assert scores == {"distilled": 20, "base": 20, "answer-only": 20, "teacher": 20}


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
