"""A real Ray cluster of one node on this machine, for tests.

    with RayMachine(folder) as ray_machine:
        # Then ray.init() and JobSubmissionClient(ray_machine.dashboard) find it:
        os.environ | ray_machine.env

It asks for a token of its own, as Ray does since 2.60 where nothing else is said: `env` has it.
Never end it with `ray stop`, which ends every Ray on the machine.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from keeper import Keeper, free_ports


def why_not() -> str | None:
    """Why no Ray can be started here, or None when it can."""
    if sys.platform != "linux":
        return "the test cluster needs Linux"
    return (
        None
        if importlib.util.find_spec("ray")
        else "ray is not installed: pip install 'reasondistill[ray]'"
    )


class RayMachine:
    """A running head node of two CPUs (about 20 s, 2 GB). Ends with the `with` block, or with this
    process.
    """

    def __init__(self, folder: Path, *, cpus: int = 2) -> None:
        if len(str(folder)) > 40:
            raise ValueError(
                f"{folder} is too long for Ray's sockets: give a folder of at most 40 characters"
            )
        port, dashboard = free_ports(2)
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.env = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            # what JobSubmissionClient() takes when it is given none
            "RAY_API_SERVER_ADDRESS": self.dashboard,
        }
        self._folder = folder
        self._log = folder / "ray.log"
        head = [
            "--head",
            "--block",
            f"--port={port}",
            f"--num-cpus={cpus}",
            f"--temp-dir={folder}",
            "--object-store-memory=80000000",
        ]
        board = [
            "--include-dashboard=true",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
        ]
        self._command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            *head,
            *board,
            "--disable-usage-stats",
        ]

    def __enter__(self) -> RayMachine:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_")
        }
        environment = {
            name: value for name, value in (inherited | self.env).items() if name != "RAY_ADDRESS"
        }  # a head has none
        self._keeper = Keeper(self._command, self._log, environment)
        deadline = time.monotonic() + 120
        while not self._answers():
            if time.monotonic() > deadline:
                self._keeper.end()
                raise TimeoutError(
                    "Ray did not start within 120 s:\n"
                    f"{self._log.read_text(errors='replace')[-4000:]}"
                )
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.end()

    def _answers(self) -> bool:
        request = urllib.request.Request(
            f"{self.dashboard}/api/version",
            headers={"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
