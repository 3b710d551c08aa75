"""`reasondistill` commands in seconds instead of half a minute: each is a process of its own,
forked from one that has imported everything and done nothing else.

    forking().run("run", "small.toml", cwd=place)   # as subprocess.run
    with Warm(folder, of="all") as warm:            # of one's own, whose forks train
        warm.python                                 # what a command starts its tasks with

A command that starts others (`run` starts a task for each stage) finds `warm.python` in
`sys.executable`: called with `-m reasondistill` it asks for one more fork, else it is Python. What
a process prints, its exit code, its environment and its folder are its own. Signals do not reach
the forked process, so that this is nothing for tests of kills.

`forking()` has imported what needs no torch: a tenth of a second of each fork would go for copying
the tables of its memory and taking torch apart at its end. A task that trains imports torch then.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal

import typer.main

from reasondistill.launch.task_process import die_with_parent

# Imported before the first fork, besides reasondistill. Not vllm: it looks at the process in which
# it is imported.
_LIGHT = ("numpy", "pandas", "pyarrow", "pyarrow.compute", "pyarrow.parquet")
_LIBRARIES = {"light": _LIGHT, "all": (*_LIGHT, "torch", "datasets", "transformers", "trl")}
_LATE = ("vllm", "ray", "bench")
# Their modules import torch; the packages themselves do not.
_WITH_TORCH = (
    "reasondistill.losses.",
    "reasondistill.stages.students.",
    "reasondistill.models.scores.measuring",
)
Imports = Literal["light", "all"]
_READY = b"ready\n"

# What stands for Python in a forked command: {python} is the real one, {place} the socket.
_CLIENT = """#!{python} -IS
import array, json, os, socket, sys
words = sys.argv[1:]
if words[:1] == ["-P"]:
    del words[0]
if words[:2] != ["-m", "reasondistill"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
asked = {{"arguments": words[2:], "cwd": os.getcwd(), "variables": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    text = json.dumps(asked).encode()
    streams = array.array("i", [0, 1, 2])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
    server.sendmsg([len(text).to_bytes(4, "big")], rights)
    server.sendall(text)
    for stream in (0, 1, 2):
        os.close(stream)
    code = server.recv(1)
os._exit(code[0] if code else 70)
"""


class Warm:
    """A process that forks commands, from `with` to its end; `folder` takes its socket. `of` says
    what it has imported: "light" is all that needs no torch.
    """

    def __init__(self, folder: Path, *, of: Imports) -> None:
        self._imports = of
        self._socket = folder / "warm.socket"
        self.python = folder / "python"

    def __enter__(self) -> Warm:
        client = _CLIENT.format(python=sys.executable, place=str(self._socket))
        self.python.write_text(client)
        self.python.chmod(0o755)
        command = [sys.executable, __file__, self._imports, str(self._socket), str(self.python)]
        self._server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
            env=os.environ | {"COLUMNS": "200"},  # a console keeps the width of its beginning
        )
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line == _READY, line
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.terminate()
        self._server.wait()

    def run(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Give a command, and wait for it."""
        command = [str(self.python), "-m", "reasondistill", *arguments]
        return subprocess.run(
            command,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )


@lru_cache
def forking(of: Imports = "light") -> Warm:
    """One for all tests of a process, until they end; "all" where most forks would import torch."""
    opened = ExitStack()
    atexit.register(opened.close)
    folder = Path(opened.enter_context(TemporaryDirectory()))
    return opened.enter_context(Warm(folder, of=of))


# ---- the process that forks ----------------------------------------------------------------------


def import_all(imports: str) -> None:
    """Import the package and what its stages use."""
    import reasondistill

    for name in _LIBRARIES[imports]:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(reasondistill.__path__, "reasondistill."):
        is_late = any(word in module.name for word in _LATE)
        if imports == "light":
            is_late = is_late or module.name.startswith(_WITH_TORCH)
        if not is_late and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # Built from the signatures of all commands, in each process anew: half of what `list` takes.
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(importlib.import_module("reasondistill.cli.entry").app)
    if imports == "light":  # a fork would be slow, and the hub's library has read its environment
        assert not {"torch", "huggingface_hub"} & sys.modules.keys()


def serve(place: str, client: str) -> None:
    """Fork a command for everybody who asks, until SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen(64)
        sys.stdout.buffer.write(_READY)
        sys.stdout.flush()
        while True:
            asker, _ = door.accept()
            if os.fork() == 0:
                door.close()
                answer(asker, client)
            asker.close()


def answer(asker: socket.socket, client: str) -> None:
    """In a fork: fork the command, wait for it, say how it ended, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(asker, 4, 3)
    text = b""
    while len(text) < int.from_bytes(length, "big"):
        text += asker.recv(1 << 20)
    command = os.fork()
    if command == 0:
        asker.close()
        become(json.loads(text), streams, client)
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(command, 0)
    with suppress(OSError):
        asker.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    os._exit(0)


def become(asked: Mapping[str, Any], streams: Sequence[int], client: str) -> None:
    """In a fork: be the command that was asked for, to its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Those of this process remember what they have led to: whether it can be sought in, perhaps.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["variables"])
    named = asked["variables"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [place for place in named if place and place not in sys.path]
    sys.argv = ["reasondistill", *asked["arguments"]]
    if asked["arguments"][:1] != ["task"]:
        sys.executable = client
    code = 0
    try:
        from reasondistill.cli.entry import main

        main()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            code = ended.code
        elif ended.code is not None:
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import_all(sys.argv[1])
    serve(*sys.argv[2:])
