"""The browser of a run whose texts stay where they are: `reasondistill view RUN`.

Listens on loopback alone. Whoever asks must know the token in the URL, which is drawn anew each
time; nothing can be written. What is read once is the index, into a temporary folder; a file of
texts is made of the run's own lines when a page asks for it.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, cast

from reasondistill.errors import ReasonDistillError, StageError
from reasondistill.foreign_text import shown_line
from reasondistill.runs.layout import BROWSER_PAGE, RunFolder
from reasondistill.runs.loopback import ADDRESS
from reasondistill.stages.report.browser.chunks import in_json, packed
from reasondistill.stages.report.browser.folder import Builder, RowsPlace, rows_of
from reasondistill.stages.report.browser.rows import RunRows

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
# Nobody else may frame, embed or keep what is shown.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PIECE = 1 << 16
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Served:
    """What is served: the files of a temporary folder, and rows of the run by the name of their
    file.
    """

    folder: Path
    kept: Mapping[str, RowsPlace]
    token: str

    def content(self, name: str) -> bytes | None:
        """A file by its name; None for any other. The names are those that were made."""
        place = self.kept.get(name)
        if place is not None:
            return packed(place.kind, place.number, in_json(rows_of(place))).content
        known = {path.name: path for path in self.folder.iterdir()}
        if name not in known:
            return None
        return known[name].read_bytes()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away before it had everything is nothing to tell."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.warning("A request was not answered: %s", shown_line(repr(error)))


class BrowserServer:
    """A server that listens; `url` is what a browser opens. `serve` answers until `stop`."""

    def __init__(self, listener: _Listener, served: _Served, rows: int) -> None:
        self.rows = rows
        self._server = listener
        self._server.RequestHandlerClass = _handler(served)
        self.url = f"http://{ADDRESS}:{self._server.server_port}/{served.token}/{BROWSER_PAGE}"

    def serve(self) -> None:
        self._server.serve_forever()

    def stop(self) -> None:
        self._server.shutdown()


@contextmanager
def serve_browser(run_folder: Path, *, title: str, port: int = 0) -> Generator[BrowserServer]:
    """A server of the browser of a run as it is now. Raises StageError where the port is taken."""
    with _listener(port) as listener, TemporaryDirectory(prefix="reasondistill-view-") as temporary:
        folder = Path(temporary)

        def write(name: str, content: bytes) -> None:
            (folder / name).write_bytes(content)

        builder = Builder(RunRows(RunFolder(run_folder)), write, keeps_texts=True)
        builder.build(title=title)
        served = _Served(folder, builder.kept, secrets.token_urlsafe(24))
        yield BrowserServer(listener, served, builder.rows)


def _listener(port: int) -> _Listener:
    """The port is taken before the run is read, which may last minutes."""
    try:
        return _Listener((ADDRESS, port), BaseHTTPRequestHandler)
    except OSError as error:
        raise StageError(
            f"{ADDRESS}:{port}: {error.strerror}. Name another --port; 0 takes a free one."
        ) from error


def _handler(served: _Served) -> type[BaseHTTPRequestHandler]:
    # Files of texts are read one at a time: memory stays that of one.
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "reasondistill", ""
        timeout = 30

        def do_GET(self) -> None:
            token, _, name = self.path.lstrip("/").partition("/")
            name = name.partition("?")[0]
            if not self._is_ours() or not _is_equal(token, served.token):
                self._answer(HTTPStatus.NOT_FOUND, b"", "")
                return
            try:
                with lock:
                    content = served.content(name or BROWSER_PAGE)
            except (ReasonDistillError, OSError) as error:
                log.warning("%s", shown_line(str(error)))
                content = None
            if content is None:
                self._answer(HTTPStatus.NOT_FOUND, b"", "")
            else:
                self._answer(HTTPStatus.OK, content, _TYPES[Path(name or BROWSER_PAGE).suffix])

        def _is_ours(self) -> bool:
            """Whether the browser meant this address: a name of somebody else's that leads here
            does not.
            """
            port = cast("ThreadingHTTPServer", self.server).server_port
            return self.headers.get("Host", "") == f"{ADDRESS}:{port}"

        def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
            self.send_response(status)
            for header, value in _HEADERS.items():
                self.send_header(header, value)
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            # Each piece has the whole timeout: an index is large, a tunnel slow.
            for begin in range(0, len(content), _PIECE):
                self.wfile.write(content[begin : begin + _PIECE])

        def log_message(self, format: str, *args: object) -> None:
            """The token is in the line: it is written nowhere."""

    return Handler


def _is_equal(token: str, expected: str) -> bool:
    return hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode())
