"""Chat templates, rendered where they cannot take the machine: in a process of their own, which
may use so much time and memory and no more.

    text = render(tokenizer, [{"role": "user", "content": "1 + 1?"}], {"enable_thinking": True})

The process starts with the first text (a tenth of a second) and ends with this one; a forked child
has one of its own. Its text is that of
`tokenizer.apply_chat_template(…, tokenize=False, add_generation_prompt=True)`.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from reasondistill.bounds import TEMPLATE_CHARACTERS, TEMPLATE_MIB, TEMPLATE_SECONDS
from reasondistill.errors import ConfigError, StageError
from reasondistill.models import template_worker
from reasondistill.models.template_worker import LENGTH, OUT_OF_MEMORY

# Where Python's own libraries are, and what time it is; no keys.
_VARIABLES = (
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPLATLIBDIR"),
    *("LANG", "LC_ALL", "TZ", "TZDIR"),
)
# What somebody kills, or the kernel for want of memory, is started again once.
_TRIES = 2
# On the clock a busy machine may take so many times as long.
_PATIENCE = 30
# Reading Python's libraries from a slow network drive.
_START_S = 60.0
_PROCESS = "the process that renders chat templates"


def render(tokenizer: Any, turns: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """What the tokenizer's template makes of these turns and the head of the next one.

    The option `chat_template` is another template, or the name of one that the tokenizer has.
    Raises jinja2.TemplateError where it refuses them, ConfigError where it goes beyond a bound,
    ValueError where there is none, StageError where the process cannot be started. A tokenizer that
    renders in a way of its own (Mistral's; remote code) does so.
    """
    if not _renders_as_all(tokenizer):
        return tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=True, **options
        )
    template = tokenizer.get_chat_template(options.get("chat_template"))
    asked = _request(tokenizer, turns, options)
    return _WORKER.text_of(template, asked, tokenizer.name_or_path)


def render_ahead(
    tokenizer: Any, several: Iterable[Sequence[Mapping[str, Any]]], options: Mapping[str, Any]
) -> list[str]:
    """The texts of several prompts, made in one go: an exchange with the process takes longer than
    a template. `render` of each finds its text, until others are made ahead. Empty where one fails,
    which `render` of it then tells.
    """
    if not _renders_as_all(tokenizer):
        return []
    template = tokenizer.get_chat_template(options.get("chat_template"))
    return _WORKER.make_ahead(template, [_request(tokenizer, turns, options) for turns in several])


def _request(tokenizer: Any, turns: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """The variables of a template as JSON."""
    others = {name: value for name, value in options.items() if name != "chat_template"}
    variables = {
        "messages": list(turns),
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        **tokenizer.special_tokens_map,
        **others,
    }
    # Special tokens may be objects that know their text.
    return json.dumps(variables, default=str)


def _renders_as_all(tokenizer: Any) -> bool:
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return False
    kind: Any = type(tokenizer)
    return kind.apply_chat_template is PreTrainedTokenizerBase.apply_chat_template


class _Worker:
    """The process, started when it is wanted: anew after it has ended, and in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | _Forked | None = None
        self._channel: socket.socket | None = None
        self._owner = 0
        self._template: str | None = None  # which the process has
        self._ahead: dict[tuple[str, str], str] = {}

    def text_of(self, template: str, asked: str, name: str) -> str:
        """Raises what `render` raises."""
        from jinja2 import TemplateError

        with self._lock:
            ahead = self._ahead.pop((template, asked), None)
            if ahead is not None:
                return ahead
            answer = self._answer(template, [asked])
        if "texts" in answer:
            (text,) = answer["texts"]
            return text
        if answer["kind"] == "seconds":
            raise ConfigError(f"{name}: its chat template takes more than {TEMPLATE_SECONDS}.")
        if answer["kind"] == "memory":
            raise ConfigError(f"{name}: its chat template takes more than {TEMPLATE_MIB}.")
        if answer["kind"] == "killed":
            raise ConfigError(
                f"{name}: its chat template takes more than {TEMPLATE_MIB}, or more than the "
                f"machine has: {_PROCESS} was ended by {answer['error']}."
            )
        if answer["kind"] == "large":
            raise ConfigError(f"{name}: its chat template makes more than {TEMPLATE_CHARACTERS}.")
        raise TemplateError(answer["error"])

    def make_ahead(self, template: str, several: Sequence[str]) -> list[str]:
        """The texts of these, which are kept for `text_of` in place of what was kept before; none
        where one fails.
        """
        texts: list[str] = []
        with self._lock:
            self._ahead = {}
            with suppress(StageError):
                texts = self._answer(template, several).get("texts", [])
            for asked, text in zip(several, texts, strict=False):
                self._ahead[template, asked] = text
        return texts

    def close(self) -> None:
        """End the process, if there is one."""
        self._end(patience_s=0.0)

    def forget(self) -> None:
        """In a forked child: the process is the parent's, which alone may hold its socket; another
        thread of it may have held the lock.
        """
        self._lock = threading.Lock()
        self._ahead = {}
        self._let_go()

    def _let_go(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.returncode = 0  # nobody waits for it here
        self._process = self._channel = None

    def _answer(self, template: str, several: Sequence[str]) -> dict[str, Any]:
        """What the process answers, or why it does not; one that somebody killed is asked anew."""
        seconds = TEMPLATE_SECONDS.most
        patience_s = seconds * _PATIENCE * len(several)
        code = 0
        for _ in range(_TRIES):
            channel = self._started()
            request: dict[str, Any] = {"seconds": seconds}
            if template != self._template:
                request["template"] = template
            head = json.dumps(request).removesuffix("}")
            data = f'{head}, "several": [{", ".join(several)}]}}'.encode("ascii")
            deadline = time.monotonic() + patience_s
            self._template = None
            try:
                body = _exchanged(channel, data, deadline)
            except BaseException:  # an answer that nobody took would be the next one's
                self._end()
                raise
            if body is not None:
                answer: dict[str, Any] = json.loads(body)
                self._template = template
                if answer.get("kind") == "memory":  # it ends
                    self._end()
                return answer
            ended_by = self._end()
            if ended_by is None:
                raise StageError(f"{_PROCESS} has not answered for {patience_s:,} s.")
            code = ended_by
            if code == -signal.SIGPROF:
                return {"kind": "seconds", "error": ""}
            if code == OUT_OF_MEMORY:
                return {"kind": "memory", "error": ""}
        if code < 0:
            return {"kind": "killed", "error": _exit_of(code)}
        raise StageError(f"{_PROCESS} has ended: {_exit_of(code)}.")

    def _started(self) -> socket.socket:
        if self._owner != os.getpid():  # a fork of which no handler heard
            self._let_go()
        if self._process is not None and self._channel is not None:
            if self._process.poll() is None:
                return self._channel
            self._end()
        self._owner = os.getpid()
        self._template = None
        ours, theirs = socket.socketpair()
        self._channel = ours
        try:
            with theirs:
                self._process = _new_process(theirs.fileno())
            answer = _read_message(ours, time.monotonic() + _START_S)
        except OSError as error:
            self._end()
            raise StageError(f"{_PROCESS} cannot be started: {error}.") from error
        except BaseException:
            self._end()
            raise
        errors = self._process.stderr
        if answer is None:
            code = self._end()
            cause = f"it is not there after {_START_S:.0f} s"
            if code is not None:
                cause = _exit_of(code)
            raise StageError(f"{_PROCESS} cannot be started: {cause}{_last_line(errors)}.")
        if errors is not None:
            errors.close()
        return ours

    def _end(self, patience_s: float = 0.5) -> int | None:
        """End it; how it had ended by itself, if it had."""
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        code: int | None = None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(patience_s)
            process.kill()
            process.wait()
        if channel is not None:
            channel.close()
        return code


def _new_process(theirs: int) -> subprocess.Popen[bytes] | _Forked:
    """A new process that serves the socket `theirs`. Raises OSError."""
    python = interpreter()
    if python is None:
        return _Forked(theirs)
    command = [python, "-s", "-P", "-S", str(Path(template_worker.__file__))]
    command += [str(theirs), json.dumps(import_paths())]
    command += [str(TEMPLATE_MIB.most), str(TEMPLATE_CHARACTERS.most)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        pass_fds=[theirs],
    )


def interpreter() -> str | None:
    """A Python that can run a file; None in a program that has one only within itself (frozen)."""
    if getattr(sys, "frozen", False):
        return None
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable, getattr(sys, "_base_executable", None)]
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        candidates.append(os.path.join(prefix, "bin", name))
    for path in candidates:
        # Of a program that embeds Python it may be the program itself.
        if path and _PYTHON.search(os.path.basename(path)) and os.access(path, os.X_OK):
            return path
    return None


_PYTHON = re.compile("python|pypy", re.IGNORECASE)


def import_paths() -> list[str]:
    """Where a process without `site` finds what this one imports: nothing in the working directory;
    also what stands in no folder of the path (an editable install).
    """
    import jinja2
    import markupsafe

    paths = [path for path in sys.path if os.path.isabs(path)]
    for module in (jinja2, markupsafe):
        folder = os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
        if folder not in paths:
            paths.append(folder)
    return paths


class _Forked:
    """The process as a copy of this one, where no Python can be started; as `subprocess.Popen`."""

    stderr = None

    def __init__(self, descriptor: int) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _serve_as_copy(descriptor)
            finally:
                os._exit(1)

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        began = time.monotonic()
        while self.poll() is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(_PROCESS, timeout)
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _serve_as_copy(descriptor: int) -> None:
    """In the copy: its memory is what this process has, and as much as a template may take."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    held = 1 << 40
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        held = pages * os.sysconf("SC_PAGE_SIZE")
    template_worker.serve(descriptor, held + (TEMPLATE_MIB.most << 20), TEMPLATE_CHARACTERS.most)


def _exit_of(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _last_line(errors: Any) -> str:
    """What an ended process said last, behind a colon."""
    if errors is None:
        return ""
    with errors:
        lines = errors.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return ""
    return f": {said[-1][:300]}"


def _exchanged(channel: socket.socket, data: bytes, deadline: float) -> bytes | None:
    """The answer to a request; None where the process ended or did not answer in time."""
    try:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        channel.sendall(LENGTH.pack(len(data)) + data, _NO_SIGNAL)
    except OSError:  # it is gone, or takes nothing
        return None
    return _read_message(channel, deadline)


# A program that lets SIGPIPE end it is not ended by a process that is gone.
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


def _read_message(channel: socket.socket, deadline: float) -> bytes | None:
    """A whole message, nearly always in one piece; None where it does not come."""
    data = bytearray()
    size = LENGTH.size
    while len(data) < size:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            part = channel.recv(1 << 16)
        except (TimeoutError, ConnectionError):
            return None
        if not part:
            return None
        data += part
        if len(data) >= LENGTH.size:
            size = LENGTH.size + LENGTH.unpack_from(data)[0]
    return bytes(data[LENGTH.size :])


_WORKER = _Worker()


def _in_a_forked_child() -> None:
    _WORKER.forget()


def _at_exit() -> None:
    _WORKER.close()


os.register_at_fork(after_in_child=_in_a_forked_child)
atexit.register(_at_exit)
