"""What a server may send: so many bytes, unpacked too, numbers that can be, and waits that somebody
has the patience for.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from faulty_server import JSON, STREAM, FaultyServer, Reply, whole

from reasondistill.errors import ConfigError, StageError
from reasondistill.models.samplers.openai.asking import tokens_asked
from reasondistill.models.samplers.openai.connection import address_of
from reasondistill.models.samplers.openai.sampler import OpenAISampler
from reasondistill.models.samplers.requests import Request
from reasondistill.records import Completion, Message, Sampling

BODY = {"model": "m", "messages": [{"role": "user", "content": "1 + 1?"}]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("TEST_KEY", "sk-planted-0123456789")
    server = FaultyServer()
    yield server
    server.close()


def asked(
    server: FaultyServer, reply: Reply, monkeypatch: pytest.MonkeyPatch, count: int = 1
) -> list[Completion]:
    monkeypatch.setattr("faulty_server.FAULTS", {"this": lambda body: reply})
    server.fault = "this"
    sampling = Sampling(temperature=0.5, max_tokens=50)
    with OpenAISampler("m", base_url=server.url, api_key_env="TEST_KEY", retries=0) as sampler:
        rendered = sampler.render((Message(role="user", content="1 + 1?"),), plain=False)
        requests = [Request(f"p/0:{i}", f"{i:016x}", rendered, sampling, i) for i in range(count)]
        return [sampled.completion for sampled in sampler.sample(iter(requests))]


GOOD = json.dumps(whole(BODY)).encode()
BARE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("packing", "body"),
    [
        ("gzip", gzip.compress(GOOD)),
        ("deflate", zlib.compress(GOOD)),
        ("deflate", BARE.compress(GOOD) + BARE.flush()),
        ("gzip", gzip.compress(json.dumps(whole(BODY, content="so " * 700_000)).encode())),
        ("", GOOD),
    ],
)
def test_packed_replies_are_read(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, packing: str, body: bytes
) -> None:
    (completion,) = asked(
        server, Reply(200, body, JSON | {"Content-Encoding": packing}), monkeypatch
    )
    assert completion.finish == "stop" and completion.answer_text


@pytest.mark.parametrize(
    ("packing", "body"),
    [("br", GOOD), ("zstd", GOOD), ("gzip, gzip", GOOD), ("gzip", GOOD), ("deflate", b"\xff" * 9)],
)
def test_a_packing_that_nobody_asked_for_is_named(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, packing: str, body: bytes
) -> None:
    reply = Reply(200, body, JSON | {"Content-Encoding": packing})
    (completion,) = asked(server, reply, monkeypatch)
    assert "packed by" in str(completion.error) or "cannot be unpacked" in str(completion.error)


@pytest.mark.parametrize("headers", [JSON, STREAM])
def test_replies_under_way_are_bounded_together(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Each of them is small enough."""
    monkeypatch.setenv("REASONDISTILL_MOST_REPLIES_BYTES", str(4 << 20))
    body = gzip.compress(b" " * (3 << 20))
    server.delay_s = 0.2
    reply = Reply(200, body, headers | {"Content-Encoding": "gzip"})
    errors = [str(one.error) for one in asked(server, reply, monkeypatch, count=1)]
    assert not any("all replies" in error for error in errors)
    monkeypatch.setenv("REASONDISTILL_MOST_REPLIES_BYTES", str(2 << 20))
    errors = [str(one.error) for one in asked(server, reply, monkeypatch, count=4)]
    assert all("all replies under way are larger than 2 MiB" in error for error in errors)


@pytest.mark.parametrize(
    "count", ["9" * 400, "-1", "1e400", "true", "1" + "0" * 4000, "1e308", '"7"', "[7]"]
)
def test_a_count_that_cannot_be_is_estimated(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    text = json.dumps(whole(BODY, usage={"prompt_tokens": 7, "completion_tokens": "X"}))
    reply = Reply(200, text.replace('"X"', count).encode())
    (completion,) = asked(server, reply, monkeypatch)
    assert completion.finish == "stop" and completion.is_estimated
    assert 0 < completion.tokens < 1000


def test_a_count_of_more_digits_than_python_reads_is_a_fault(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(whole(BODY, usage={"prompt_tokens": 7, "completion_tokens": "X"}))
    (completion,) = asked(server, Reply(200, text.replace('"X"', "9" * 5000).encode()), monkeypatch)
    assert "more digits than anybody counts" in str(completion.error)


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "999999999"},
        {"Retry-After": "9" * 400},
        {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"},
        {"retry-after-ms": "1e300"},
    ],
)
def test_a_wait_beyond_all_patience_ends_at_once_and_says_so(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    reply = Reply(status, b'{"error": {"message": "slow down"}}', JSON | headers)
    began = time.monotonic()
    with pytest.raises(StageError, match="longer than patience_s"):
        asked(server, reply, monkeypatch)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": "²", "message": "odd"}},
        {"error": {"code": 10**400, "message": "odd"}},
        {"error": {"message": {"a": [{"loc": [1, {"b": 2}]}]}}},
        {"detail": [[[[[[[[[["deep"]]]]]]]]]]},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_odd_error_is_a_fault(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, status: int, error: Any
) -> None:
    (completion,) = asked(server, Reply(status, json.dumps(error).encode()), monkeypatch)
    assert completion.finish == "error"


def test_a_page_of_open_tags_costs_no_time() -> None:
    from reasondistill.models.samplers.openai.refusals import refusal

    began = time.process_time()
    for text in ("<script " * 9000, "<title " * 9000, "<" * 64_000):
        refusal(500, text.encode(), lambda words: words, ())
    assert time.process_time() - began < 3.0


# ---- time ----------------------------------------------------------------------------------------


class DrippingServer:
    """Sends `first` of its replies a byte at a time, for ever; the others whole."""

    def __init__(self, head: bytes, first: int = 10**9) -> None:
        self.head, self.first, self.came = head, first, 0
        self.is_closed = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            asked = b""
            while b"}]" not in asked and not asked.startswith(b"GET"):
                asked += connection.recv(1 << 16)
            if asked.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 404 No\r\nConnection: close\r\n\r\n")
                return
            self.came += 1
            if self.came > self.first:
                length = f"Content-Length: {len(GOOD)}\r\n\r\n".encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + GOOD)
                return
            connection.sendall(self.head)
            while not self.is_closed.wait(0.02):
                connection.sendall(b"\n" if b"event-stream" in self.head else b" ")

    def close(self) -> None:
        self.is_closed.set()
        self.listening.close()


DRIPS = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
    "begun": b'HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{"choices": [',
    "stream": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    "error": b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\n",
    "header": b"HTTP/1.1 200 OK\r\nX-Long:",
    "status": b"HTTP/1.1 200 ",
}


def drawn(url: str, retries: int, most: int = 2) -> Completion:
    sampling = Sampling(temperature=0.5, max_tokens=most)
    with OpenAISampler(
        "m", base_url=url, api_key_env="TEST_KEY", retries=retries, timeout_s=1.0
    ) as sampler:
        rendered = sampler.render((Message(role="user", content="1 + 1?"),), plain=False)
        (sampled,) = sampler.sample(iter([Request("p/0:0", "0" * 16, rendered, sampling, 0)]))
    return sampled.completion


@pytest.mark.parametrize("kind", DRIPS)
def test_a_reply_that_drips_is_a_timeout_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-planted-0123456789")
    server = DrippingServer(DRIPS[kind])
    began = time.monotonic()
    completion = drawn(server.url, retries=1)
    assert 6 <= time.monotonic() - began < 20
    assert completion.finish == "error" and completion.fault == "service"
    assert "after 2 tries" in str(completion.error)
    assert "the whole reply did not come within 3.0 s" in str(completion.error)
    assert server.came == 2
    server.close()


def test_a_server_that_dripped_once_is_heard_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-planted-0123456789")
    server = DrippingServer(DRIPS["body"], first=1)
    assert drawn(server.url, retries=1).finish == "stop" and server.came == 2
    server.close()


def test_a_long_text_may_come_for_longer_than_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of 32,768 tokens, ten of them a second, takes an hour: here 3.5 s of 1,000."""
    monkeypatch.setenv("TEST_KEY", "sk-planted-0123456789")
    server = DrippingServer(DRIPS["stream"])
    threading.Timer(3.5, server.close).start()
    began = time.monotonic()
    completion = drawn(server.url, retries=0, most=999)
    assert time.monotonic() - began >= 3.5
    assert completion.finish == "error" and "timed out" not in str(completion.error)


def test_how_long_a_reply_may_take_follows_from_what_was_asked() -> None:
    assert tokens_asked({"max_tokens": 50}) == 50
    assert tokens_asked({"max_tokens": 50, "max_completion_tokens": 900}) == 900
    assert tokens_asked({}) == tokens_asked({"max_tokens": "many"}) > 100_000


# ---- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        r"http:\\127.0.0.1:8998\x",
        "http:x",
        "x:y",
        "http://xn--/",
        "//xn--/v1",
        "http://[::",
        "http://a:b/",
        ":http://%]",
        "http://a:99999999/",
        "/" * 30_000 + "\\",
        "http://1.2.3.999/",
        "http://a b/",
        "mailto:a@b",
    ],
)
def test_a_redirect_to_what_is_no_address_is_one_message(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    with pytest.raises(ConfigError, match=r"the server redirects \(30[278]\) to") as found:
        asked(server, Reply(307, b"", JSON | {"Location": location}), monkeypatch)
    assert "right base_url" in str(found.value) and len(str(found.value)) < 1000


@pytest.mark.parametrize("address", ["http://xn--/v1", "http://1.2.3.999/v1"])
def test_an_address_that_http_cannot_read_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-planted-0123456789")
    with pytest.raises(ConfigError, match=r"\[openai\] base_url = .*: no address"):
        address_of(address, "TEST_KEY")
    with pytest.raises(ConfigError, match=r"\[openai\] redirects: .* is no origin"):
        address_of("http://127.0.0.1/v1", "TEST_KEY", redirects=[address.removesuffix("/v1")])
