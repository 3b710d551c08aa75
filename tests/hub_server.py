"""A hub on loopback: the few endpoints by which its library creates repositories and commits, with
what the real one checks of a card.

    with hub() as server:
        server.url, server.repositories["model", "me/small"].files
        server.refuses = 403            # from now on every request but of the token's owner
        server.storage_fails = 1        # so many uploads of large files fail

Large files go by Git LFS's basic transfer (`HF_HUB_DISABLE_XET=1`), everything else in the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_0123456789abcdefABCDEF"
_LARGE = 20_000
_ID = r"(?P<name>[\w.-]+/[\w.-]+)"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w.-]+")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    commits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def head(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.refuses: int | None = None
        self.storage_fails = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub() -> Iterator[HubServer]:
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def faults_of_card(text: str) -> list[str]:
    """What the hub refuses in the head of a card."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if found is None:
        return ["no metadata"]
    head = yaml.safe_load(found[1])
    faults: list[str] = []
    for key in ("base_model", "datasets"):
        named = head.get(key, [])
        for name in [named] if isinstance(named, str) else named:
            if not _HUB_ID.fullmatch(name):
                faults.append(f'"{key}" with value "{name}" is not valid.')
    for result in head.get("model-index", [{"results": []}])[0]["results"]:
        if not (result["task"]["type"] and result["dataset"]["type"] and result["metrics"]):
            faults.append('"model-index" is not valid.')
    return faults


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def do_PUT(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append(f"{self.command} {path}")
        if path.startswith("/storage/"):
            self._store(path.rpartition("/")[2], body)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            message = "Invalid credentials in Authorization header"
            self._reply(401, {"error": message}, {"X-Error-Message": message})
            return
        if self.server.refuses is not None and path != "/api/validate-yaml":
            self._reply(self.server.refuses, {"error": "no right to write here"})
            return
        for pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found is not None:
                answer(self, found.groupdict(), body)
                return
        self._reply(404, {"error": f"nothing at {path}"})

    def _reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _store(self, oid: str, body: bytes) -> None:
        if self.server.storage_fails:
            self.server.storage_fails -= 1
            self._reply(403, {"error": "the storage is away"})
        elif hashlib.sha256(body).hexdigest() != oid:
            self._reply(422, {"error": "another content"})
        else:
            self.server.stored[oid] = body
            self._reply(200, {})

    # ---- the routes ----------------------------------------------------------------------------

    def info(self, asked: dict[str, str], body: bytes) -> None:
        there = self.server.repositories.get((asked["kind"], asked["name"]))
        if there is None:
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self._reply(404, {"error": "Repository not found"}, headers)
            return
        siblings = [{"rfilename": name} for name in there.files]
        about = {"id": asked["name"], "private": there.private, "sha": there.head}
        self._reply(200, about | {"siblings": siblings, "tags": []})

    def create(self, asked: dict[str, str], body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        is_private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.server.repositories[wanted["type"], name] = Repository(is_private)
        prefix = "datasets/" if wanted["type"] == "dataset" else ""
        self._reply(200, {"url": f"{self.server.url}/{prefix}{name}"})

    def card(self, asked: dict[str, str], body: bytes) -> None:
        faults = faults_of_card(json.loads(body)["content"])
        if faults:
            self._reply(400, {"errors": [{"message": fault} for fault in faults], "warnings": []})
        else:
            self._reply(200, {"errors": [], "warnings": []})

    def preupload(self, asked: dict[str, str], body: bytes) -> None:
        there = self.server.repositories[asked["kind"], asked["name"]].files
        said: list[dict[str, Any]] = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["size"] > _LARGE else "regular"
            oid = None
            if file["path"] in there:
                oid = _oid(there[file["path"]], mode)
            said.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            )
        self._reply(200, {"files": said})

    def batch(self, asked: dict[str, str], body: bytes) -> None:
        said: list[dict[str, Any]] = []
        for one in json.loads(body)["objects"]:
            if one["oid"] not in self.server.stored:
                href = f"{self.server.url}/storage/{one['oid']}"
                one["actions"] = {"upload": {"href": href}}
            said.append(one)
        self._reply(200, {"objects": said, "transfer": "basic"})

    def commit(self, asked: dict[str, str], body: bytes) -> None:
        there = self.server.repositories[asked["kind"], asked["name"]]
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                there.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                there.files[value["path"]] = self.server.stored[value["oid"]]
        there.commits.append(lines[0]["value"])
        prefix = "datasets/" if asked["kind"] == "dataset" else ""
        url = f"{self.server.url}/{prefix}{asked['name']}/commit/{there.head}"
        self._reply(200, {"commitUrl": url, "commitOid": there.head})


def _oid(content: bytes, mode: str) -> str:
    if mode == "lfs":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


_KIND = r"(?P<kind>model|dataset)s"
_ROUTES = (
    (rf"GET /api/{_KIND}/{_ID}", _Handler.info),
    (rf"GET /api/{_KIND}/{_ID}/revision/main", _Handler.info),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.card),
    (rf"POST /api/{_KIND}/{_ID}/preupload/main", _Handler.preupload),
    (rf"POST /(?:datasets/)?{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    (rf"POST /api/{_KIND}/{_ID}/commit/main", _Handler.commit),
)
