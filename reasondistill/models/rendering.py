"""Chat templates, rendered where they cannot take the machine: in a process of their own, which
may use so much time and memory and no more.

    text = render(tokenizer, [{"role": "user", "content": "1 + 1?"}], {"enable_thinking": True})

The process starts with the first text (a tenth of a second) and ends with this one. Its text is
that of `tokenizer.apply_chat_template(…, tokenize=False, add_generation_prompt=True)`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from reasondistill.bounds import TEMPLATE_CHARACTERS, TEMPLATE_MIB, TEMPLATE_SECONDS
from reasondistill.errors import ConfigError
from reasondistill.models.template_worker import LENGTH

# Where Python's own libraries are, and what time it is; no keys.
_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# What somebody kills, or the kernel for want of memory, is started again once.
_TRIES = 2
# On the clock a busy machine may take so many times as long.
_PATIENCE = 30


def render(tokenizer: Any, turns: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """What the tokenizer's template makes of these turns and the head of the next one.

    Raises jinja2.TemplateError where it refuses them, ConfigError where it goes beyond a bound,
    ValueError where there is none. A tokenizer that renders in a way of its own (Mistral's; remote
    code) does so.
    """
    if not _renders_as_all(tokenizer):
        return tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=True, **options
        )
    variables = {
        "messages": list(turns),
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        **tokenizer.special_tokens_map,
        **options,
    }
    return _WORKER.text_of(tokenizer.get_chat_template(), variables, tokenizer.name_or_path)


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
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def text_of(self, template: str, variables: Mapping[str, Any], name: str) -> str:
        """Raises what `render` raises."""
        from jinja2 import TemplateError

        seconds = TEMPLATE_SECONDS.most
        request = {"template": template, "variables": variables, "seconds": seconds}
        # Special tokens may be objects that know their text.
        data = json.dumps(request, default=str).encode("ascii")
        with self._lock:
            answer = self._answer(data, seconds * _PATIENCE)
        if "text" in answer:
            return answer["text"]
        if answer["kind"] == "seconds":
            raise ConfigError(f"{name}: its chat template takes more than {TEMPLATE_SECONDS}.")
        if answer["kind"] == "memory":
            raise ConfigError(f"{name}: its chat template takes more than {TEMPLATE_MIB}.")
        if answer["kind"] == "large":
            raise ConfigError(f"{name}: its chat template makes more than {TEMPLATE_CHARACTERS}.")
        raise TemplateError(answer["error"])

    def _answer(self, data: bytes, patience_s: float) -> dict[str, str]:
        """What the process answers, or why it does not; one that somebody killed is asked anew."""
        for _ in range(_TRIES):
            process = self._started()
            try:
                body = _exchanged(process, data, patience_s)
            except BaseException:  # an answer that nobody took would be the next one's
                self._end()
                raise
            if body is None:
                ended_by = self._end()
                if ended_by in (-signal.SIGPROF, None):
                    return {"kind": "seconds"}
                continue
            answer: dict[str, str] = json.loads(body)
            if answer.get("kind") == "memory":  # it ends
                self._end()
            return answer
        return {"kind": "memory"}

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid():
            if self._process.poll() is None:
                return self._process
            self._end()
        # Nothing is imported from the working directory.
        paths = [path for path in sys.path if os.path.isabs(path)]
        command = [sys.executable, "-I", str(Path(__file__).with_name("template_worker.py"))]
        command += [json.dumps(paths), str(TEMPLATE_MIB.most), str(TEMPLATE_CHARACTERS.most)]
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
        )
        self._owner = os.getpid()
        return self._process

    def _end(self) -> int | None:
        """End it; how it had ended by itself, if it had."""
        process, self._process = self._process, None
        assert process is not None
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(0.5)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                _of(stream).close()
        return code


def _of(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _exchanged(process: subprocess.Popen[bytes], data: bytes, seconds: float) -> bytes | None:
    """The answer to a request; None where the process ended or did not answer in time."""
    try:
        target = _of(process.stdin)
        target.write(LENGTH.pack(len(data)) + data)
        target.flush()
        return _read_message(_of(process.stdout).fileno(), time.monotonic() + seconds)
    except BrokenPipeError:
        return None


def _read_message(descriptor: int, deadline: float) -> bytes | None:
    """A whole message, nearly always in one piece; None where it does not come."""
    data = bytearray()
    size = LENGTH.size
    while len(data) < size:
        left = deadline - time.monotonic()
        is_there, _, _ = select.select([descriptor], [], [], max(0.0, left))
        if not is_there:
            return None
        part = os.read(descriptor, 1 << 16)
        if not part:
            return None
        data += part
        if len(data) >= LENGTH.size:
            size = LENGTH.size + LENGTH.unpack_from(data)[0]
    return bytes(data[LENGTH.size :])


_WORKER = _Worker()
