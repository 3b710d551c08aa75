"""A real browser for tests: Debian's chromium without a window, driven over a pipe by its own
protocol (https://chromedevtools.github.io/devtools-protocol): nothing need be installed beside it.

    with Chromium(profile) as chromium:
        page = chromium.open((folder / "index.html").as_uri())
        page.wait("document.documentElement.dataset.ready")
        page.press("j")
        page.requests, page.complaints
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ANSWER_S = 90
KEYS = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}


def chromium_path() -> str:
    """Skips the test, by name, where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("no chromium here")


class Chromium:
    """One browser with its own profile; pages are tabs of it."""

    def __init__(self, profile: Path) -> None:
        self._ours, theirs_out = os.pipe()
        theirs_in, self._to = os.pipe()
        flags = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--no-first-run", "--remote-debugging-pipe"),
            *("--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"),
        ]
        # It reads from 3 and writes to 4, which may be somebody's here.
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out))
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{reads} 4>&{writes}', chromium_path(), *flags],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs_in, theirs_out, reads, writes):
            os.close(end)
        self._number, self._rest = 0, b""
        self._answers: dict[int, dict[str, Any]] = {}
        self.pages: dict[str, Page] = {}

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        number, end = self._number, time.monotonic() + ANSWER_S
        while number not in self._answers:
            self.listen(end - time.monotonic())
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def listen(self, seconds: float) -> None:
        """Take in what comes within some seconds."""
        assert seconds > 0, "the browser does not answer"
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return
        block = os.read(self._ours, 1 << 20)
        assert block, "the browser has ended"
        *messages, self._rest = (self._rest + block).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].hear(message)

    def open(self, url: str, *, width: int = 1300, height: int = 900, dark: bool = False) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        self.pages[session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        # As one that somebody looks at: keys reach it, and it draws.
        page.call("Page.bringToFront")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.resize(width, height, dark=dark)
        page.go(url)
        return page

    def memory_mb(self) -> float:
        """Of all its processes, what they share counted once."""
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                parents[int(stat.parent.name)] = int(fields[1])
        kilobytes = 0
        for process in parents:
            above = process
            while above in parents and above != self._process.pid:
                above = parents[above]
            if above == self._process.pid:
                with suppress(OSError):
                    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
                    kilobytes += int(rollup.partition("\nPss:")[2].split()[0])
        return kilobytes / 1e3

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._ours)
        os.close(self._to)


class Page:
    """A tab. `requests` are the URLs that it asked for, `complaints` what its console says."""

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium, self._session = chromium, session
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._chromium.call(method, self._session, **parameters)

    def hear(self, message: dict[str, Any]) -> None:
        told = message["params"]
        match message["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(told["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(told["args"]))

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def _told(self, script: str) -> dict[str, Any]:
        return self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )

    def value(self, script: str) -> Any:
        """The value of an expression, of a promise that which it brings."""
        told = self._told(script)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true: what it asks for may not be there yet."""
        end = time.monotonic() + ANSWER_S
        while True:
            told = self._told(f"Boolean({script})")
            if told["result"].get("value") is True:
                return
            assert time.monotonic() < end, f"never true: {script}"
            self._chromium.listen(0.05)

    def press(self, key: str) -> None:
        code = KEYS.get(key, 0)
        more: dict[str, Any] = {"windowsVirtualKeyCode": code}
        if len(key) == 1:
            more["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
