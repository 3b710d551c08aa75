"""How a Python is started that imports nothing from the folder in which it runs: there lie a
pipeline file and whatever came with it, a `json.py` perhaps.

    command = [*safe_python(), "-m", "reasondistill", *words]
    Popen(command, env=safe_environment(os.environ))

`-P` keeps the working directory off the path of the process itself, PYTHONSAFEPATH off those that
it starts. What PYTHONPATH names is imported: modules of one's own have their place there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"
_PATH = "PYTHONPATH"
_PACKAGE = Path(__file__).resolve().parent


def safe_python(python: str | None = None) -> list[str]:
    """The words that start an interpreter, by default what is this one's now, the working directory
    not on its path.
    """
    return [python or sys.executable, "-P"]


def safe_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with which no process imports from its working directory, and neither do those
    that it starts.

    An empty entry of PYTHONPATH, which `$PYTHONPATH:/more` leaves, would be the working directory.
    Relative ones are meant from here, wherever a process is started.
    """
    safe = dict(variables) | {SAFE_PATH: "1"}
    path = safe.get(_PATH)
    if path is None:
        return safe
    named = [os.path.abspath(entry) for entry in path.split(os.pathsep) if entry]
    if named:
        safe[_PATH] = os.pathsep.join(named)
    else:
        del safe[_PATH]
    return safe


def leave_working_directory() -> None:
    """Take off this process's path what `python -m` has put there, and what an empty entry of
    PYTHONPATH has, which means the working directory too. One that names it stays.

    Where the package was found only there, in a checkout that is not installed, the processes that
    this one starts find it by PYTHONPATH. What Python itself has imported before it comes to us
    (encodings, site, all that `sitecustomize` wants) may still be the working directory's.
    """
    here = ("", os.getcwd())
    is_first = bool(sys.path) and sys.path[0] in here
    if is_first and not sys.flags.safe_path:
        del sys.path[0]
    entries: list[str] = []
    if not sys.flags.ignore_environment:
        entries = os.environ.get(_PATH, "").split(os.pathsep)
    named = [os.path.abspath(entry) for entry in entries if entry]
    if "" in entries and len(entries) > 1 and here[1] not in named:
        sys.path[:] = [place for place in sys.path if place not in here]
    if any(finder.find_spec(_PACKAGE.name, None) for finder in sys.meta_path):
        return
    before = os.environ.get(_PATH, "")
    os.environ[_PATH] = f"{before}{os.pathsep}{_PACKAGE.parent}"
