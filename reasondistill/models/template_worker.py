"""The process that renders chat templates: a template is a program of whoever made the model.

    python -I template_worker.py PATHS MIB CHARACTERS

It knows nothing but jinja2, may take so much memory and time, and ends with its standard input.
Each request and each answer is four bytes of length and JSON. A request has `template`,
`variables` and `seconds`; an answer has `text`, or `kind` and `error`: `template` (it refuses),
`large`, `memory`. The kernel ends a process whose seconds of CPU are over, by SIGPROF.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")


def main() -> None:
    """Answer until nobody asks."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever asks decides when to stop
    paths, mib, characters = sys.argv[1:]
    sys.path[:] = json.loads(paths)
    import jinja2.ext
    import jinja2.sandbox

    assert jinja2.ext and jinja2.sandbox
    limit = int(mib) << 20
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while True:
        body = read_message(source)
        if body is None:
            return
        answer = answer_to(body, int(characters))
        data = json.dumps(answer).encode("ascii")
        target.write(LENGTH.pack(len(data)) + data)
        target.flush()
        # Its memory is not to be trusted.
        if answer.get("kind") == "memory":
            return


def read_message(source: BinaryIO) -> bytes | None:
    """The next message; None at the end."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    body = source.read(size)
    if len(body) < size:
        return None
    return body


def answer_to(body: bytes, most: int) -> dict[str, str]:
    """What a template makes of its variables, at most `most` characters more than the request."""
    from jinja2 import TemplateError

    try:
        request = json.loads(body)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            return _rendered(request, most + len(body))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except MemoryError:
        return {"kind": "memory", "error": "it takes too much memory"}
    except TemplateError as error:
        return {"kind": "template", "error": str(error.message or type(error).__name__)}
    except Exception as error:  # whatever a template does to its variables
        return {"kind": "template", "error": f"{type(error).__name__}: {error}"}


def _rendered(request: dict[str, Any], most: int) -> dict[str, str]:
    pieces: list[str] = []
    size = 0
    for piece in compiled(request["template"]).generate(**request["variables"]):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return {"kind": "large", "error": ""}
    return {"text": "".join(pieces)}


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
