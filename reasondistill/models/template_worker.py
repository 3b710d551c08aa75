"""The process that renders chat templates: a template is a program of whoever made the model.

    python -s -P -S template_worker.py DESCRIPTOR PATHS MIB CHARACTERS

It knows nothing but jinja2, may take so much memory and time, reads and writes nothing but the
socket DESCRIPTOR, and ends with its owner. Each request and each answer is four bytes of length and
JSON; the first answer says that it is there. A request has `template` (unless it is the one
before), `seconds`, and a list `several` of variables; an answer has `texts`, or `kind` and `error`
of the first that fails: `template` (it refuses), `large`, `memory`. Each may take the seconds. The
kernel ends a process whose seconds of CPU are over, by SIGPROF.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

LENGTH = struct.Struct(">I")
# The exit code where memory ran out beside a template.
OUT_OF_MEMORY = 71
# After so many seconds without a request it looks whether its owner lives: a child that the owner
# forked may hold the other end of the socket.
_LOOKS_EVERY_S = 2.0


def main() -> None:
    """Answer until nobody asks."""
    descriptor, paths, mib, characters = sys.argv[1:]
    sys.path[:] = json.loads(paths)
    serve(int(descriptor), int(mib) << 20, int(characters))


def serve(descriptor: int, most_bytes: int, most_characters: int) -> None:
    """Answer what comes on a socket until its other end is closed or the owner has ended.

    This process then ends, without a word on the terminal.
    """
    owner = os.getppid()
    _leave_the_owner()
    try:
        import jinja2.ext
        import jinja2.sandbox

        assert jinja2.ext and jinja2.sandbox
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(ValueError, OSError):  # macOS knows no such limit
            resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
        channel = Channel(socket.socket(fileno=descriptor), owner)
        channel.write({"kind": "ready", "error": ""})
        _be_silent()
        _answer_all(channel, most_characters)
    except (EOFError, OSError):
        os._exit(0)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _leave_the_owner() -> None:
    """Signals that a terminal sends to all its processes are the owner's; those that bound a
    template act, whatever the owner has made of them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever asks decides when to stop
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _answer_all(channel: Channel, most_characters: int) -> None:
    template = ""
    while True:
        body = channel.read()
        answer, template = answer_to(body, most_characters, template)
        channel.write(answer)
        # Its memory is not to be trusted.
        if answer.get("kind") == "memory":
            os._exit(OUT_OF_MEMORY)


class Channel:
    """Messages on a socket. Raises EOFError where its other end is closed or its owner has
    ended.
    """

    def __init__(self, end: socket.socket, owner: int) -> None:
        end.settimeout(_LOOKS_EVERY_S)
        self._end = end
        self._owner = owner

    def read(self) -> bytes:
        """The next message, nearly always in one piece: nobody asks twice before an answer."""
        data = bytearray()
        size = LENGTH.size
        while len(data) < size:
            try:
                part = self._end.recv(1 << 16)
            except TimeoutError:
                self._require_owner()
                continue
            if not part:
                raise EOFError
            data += part
            if len(data) >= LENGTH.size:
                size = LENGTH.size + LENGTH.unpack_from(data)[0]
        return bytes(data[LENGTH.size :])

    def write(self, answer: dict[str, Any]) -> None:
        """One message."""
        body = json.dumps(answer).encode("ascii")
        left = memoryview(LENGTH.pack(len(body)) + body)
        while left:
            try:
                left = left[self._end.send(left) :]
            except TimeoutError:
                self._require_owner()

    def _require_owner(self) -> None:
        if os.getppid() != self._owner:
            raise EOFError


def answer_to(body: bytes, most: int, before: str) -> tuple[dict[str, Any], str]:
    """What a template makes of its variables, at most `most` characters more than the request; and
    the template, which is the one `before` where the request has none.
    """
    from jinja2 import TemplateError

    template = before
    try:
        request = json.loads(body)
        template = request.get("template", before)
        try:
            answer = _rendered(template, request, most + len(body))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except MemoryError:
        answer = {"kind": "memory", "error": "it takes too much memory"}
    except TemplateError as error:
        answer = {"kind": "template", "error": str(error.message or type(error).__name__)}
    except Exception as error:  # whatever a template does to its variables
        answer = {"kind": "template", "error": f"{type(error).__name__}: {error}"}
    return answer, template


def _rendered(template: str, request: dict[str, Any], most: int) -> dict[str, Any]:
    texts: list[str] = []
    size = 0
    for variables in request["several"]:
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        pieces: list[str] = []
        for piece in compiled(template).generate(**variables):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                return {"kind": "large", "error": ""}
        texts.append("".join(pieces))
    return {"texts": texts}


@lru_cache(maxsize=32)
def compiled(template: str) -> Any:
    """The template in an environment as transformers makes it (utils/chat_template_utils.py)."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the assistant writes; here it stands for its content."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            content = self.call_method("content")
            return CallBlock(content, [], [], body).set_lineno(line)

        def content(self, caller: Any) -> Any:
            return caller()

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            x,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    def strftime_now(format: str) -> str:
        return datetime.now().strftime(format)

    environment: Any = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(template)


if __name__ == "__main__":
    main()
