"""What a server may send: so many bytes, unpacked too, numbers that can be, and waits that somebody
has the patience for.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from faulty_server import JSON, STREAM, FaultyServer, Reply, whole

from reasondistill.errors import StageError
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
