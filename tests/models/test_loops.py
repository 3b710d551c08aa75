"""Samples that go round in circles are ended there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from traces_kit import opener, traces_in, write_problems

from reasondistill.config import Cluster, TraceSettings
from reasondistill.models.samplers import Request
from reasondistill.models.samplers.loops import LoopWatch
from reasondistill.models.samplers.openai.replies import read
from reasondistill.models.samplers.openai.sampler import OpenAISampler
from reasondistill.models.samplers.openai.streams import StreamWatch
from reasondistill.models.samplers.opening import Serving
from reasondistill.records import LoopRule, Message, Sampling, fingerprint
from reasondistill.runs.figures import TracesFigures
from reasondistill.stages.traces import run_traces

RULE = LoopRule(shortest=4, window=12, repeats=3)


def by_definition(signs: Sequence[int], rule: LoopRule) -> int | None:
    """After how many signs the last ones are a piece that came so often, looked for one by one."""
    for end in range(1, len(signs) + 1):
        for length in range(rule.shortest, rule.window + 1):
            whole = signs[max(0, end - length * rule.repeats) : end]
            if len(whole) == length * rule.repeats and whole == whole[:length] * rule.repeats:
                return end
    return None


@settings(max_examples=draws(60))
@given(
    begin=st.lists(st.integers(0, 2), max_size=20),
    piece=st.lists(st.integers(0, 2), min_size=1, max_size=14),
    times=st.integers(1, 16),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_a_loop_is_where_its_definition_says_in_whatever_pieces_it_comes(
    begin: list[int], piece: list[int], times: int, cuts: list[int]
) -> None:
    signs = begin + piece * times
    expected = by_definition(signs, RULE)
    assert LoopWatch.of_tokens(RULE).feed_signs(signs) == expected
    watch = LoopWatch.of_tokens(RULE)
    places = sorted({0, len(signs), *(cut for cut in cuts if cut < len(signs))})
    found = None
    for start, end in zip(places, places[1:], strict=False):
        sure = watch.feed_signs(signs[start:end])
        if sure is not None:
            found = start + sure
            break
    assert found == expected


def test_a_loop_of_text_is_counted_in_characters_and_rows_of_one_sign_must_be_long() -> None:
    rule = LoopRule(shortest=16, window=64, repeats=8)
    assert LoopWatch.of_text(rule).feed("-" * 511) is None
    assert LoopWatch.of_text(rule).feed("-" * 600) == 8 * 64
    sentence = "Wait, let me check that once more: 12 times 7 is 84, and that is right. "
    assert LoopWatch.of_text(rule).feed(sentence * 7) is None
    assert LoopWatch.of_text(rule).feed("Now: " + sentence * 20) == 4 + 8 * len(sentence)
    honest = " ".join(f"Step {i}: {i} times {i} is {i * i}." for i in range(2_000))
    assert LoopWatch.of_text(rule).feed(honest) is None
    table = "\n".join(f"| {i} | {i * 3} |" + " --- |" * 8 for i in range(200))
    assert LoopWatch.of_text(rule).feed(table) is None


# ---- a server ------------------------------------------------------------------------------------


def event(**words: Any) -> bytes:
    choice = {"index": 0, "delta": words, "finish_reason": None}
    return f"data: {json.dumps({'model': 'm', 'choices': [choice]})}\n\n".encode()


class Endless:
    """A server that says the same sentence until nobody listens any more."""

    def __init__(self) -> None:
        self.sent = 0
        self.bodies: list[dict[str, Any]] = []
        self.is_left = threading.Event()
        endless = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                endless.bodies.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    self.wfile.write(event(content="<think>Hm: "))
                    while endless.sent < 50_000:
                        self.wfile.write(event(content="So it "))
                        self.wfile.write(event(content="is 4, no, 5. "))
                        endless.sent += 1
                        if endless.sent > 100:
                            time.sleep(0.001)
                except OSError:
                    endless.is_left.set()

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()


@pytest.fixture
def endless() -> Iterator[Endless]:
    server = Endless()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_reply_that_goes_round_in_circles_is_hung_up_on(
    endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-0123456789")
    rule = LoopRule(shortest=4, window=16, repeats=4)
    with OpenAISampler("m", base_url=endless.url, api_key_env="TEST_KEY", retries=0) as sampler:
        rendered = sampler.render((Message(role="user", content="What is 1+1?"),), plain=False)
        sampling = Sampling(max_tokens=100_000, loops=rule)
        request = Request("p/0:0", "0" * 16, rendered, sampling, seed=1)
        (sampled,) = sampler.sample(iter([request]))
        assert endless.is_left.wait(30)
    completion = sampled.completion
    assert completion.finish == "repetition"
    assert completion.reasoning == "Hm: " + "So it is 4, no, 5. " * 3 + "So it is 4, no, 5."
    assert completion.is_estimated and completion.tokens > 10
    assert endless.bodies[0]["stream"] is True
    assert completion.think == "open"


def test_where_a_stream_is_cut_depends_on_its_text_alone() -> None:
    said = ["Well: ", "a b c ", "d e f g: "] + ["one two three four. "] * 30 + ["end"]
    rule = LoopRule(shortest=4, window=16, repeats=4)
    body = b"".join(event(content=words) for words in said)
    together = event(content="".join(said))
    replies = [read("text/event-stream", piece, rule) for piece in (body, together)]
    assert replies[0].text == replies[1].text
    assert replies[0].finish_reason == "repetition"
    # The blank before the first piece is that at the end of each: one less is needed of the last.
    assert len(replies[0].text) == len("Well: a b c d e f g:") + 4 * len("one two three four. ")
    for size in (1, 7, 64, len(body)):
        watch = StreamWatch(rule)
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        ends = [watch.ends(chunk) for chunk in chunks]
        assert any(ends)
        came = b"".join(chunks[: ends.index(True) + 1])
        assert read("text/event-stream", came, rule).text == replies[0].text
    assert not StreamWatch(rule).ends(b'data: {"choices": [[]]}\n\ndata: {\n\ndata: [DONE]\n\n')


# ---- a run ---------------------------------------------------------------------------------------


def settings_of(**values: object) -> TraceSettings:
    teachers = ({"model": "fake", "sampler": "scripted"},)
    keys = {"prompt": "question", "n": 2, "teachers": teachers}
    return TraceSettings.model_validate(keys | values)


def test_loops_are_counted_and_samples_without_one_are_what_they_were(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 6)

    def script(request: Request) -> str:
        if request.id.endswith("/2:1"):
            return "again and again we say it " * 40
        return f"{request.id} is \\boxed{{3}}"

    ended = run_traces(
        settings_of(loops={"shortest": 4, "window": 8, "repeats": 4}),
        problems,
        tmp_path / "t",
        Serving(Cluster(), opener(script)),
    )
    figures = TracesFigures.of(ended)
    assert (figures.looped, figures.looped_tokens) == (1, 24)
    finishes = {trace.id: trace.completion.finish for trace in traces_in(tmp_path / "t")}
    assert [name for name, finish in finishes.items() if finish == "repetition"] == [
        "sums/train/2:1"
    ]
    run_traces(settings_of(), problems, tmp_path / "plain", Serving(Cluster(), opener(script)))
    plain, watched = traces_in(tmp_path / "plain"), traces_in(tmp_path / "t")
    assert "loops" not in (tmp_path / "plain" / "traces.jsonl").read_text()
    assert plain[0].completion == watched[0].completion
    assert plain[0].key != watched[0].key  # it says what it would have been ended by


def test_samplings_without_a_word_on_loops_have_the_identity_that_they_had() -> None:
    assert Sampling().model_dump(mode="json") == {
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": 2048,
        "stop": [],
    }
    assert fingerprint(Sampling(loops=RULE).model_dump(mode="json")) != fingerprint(
        Sampling().model_dump(mode="json")
    )


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"loops": {"shortest": 65}}, "shortest: more than window = 64"),
        ({"loops": {"repeats": 1}}, "greater than or equal to 2"),
        (
            {"loops": {}, "teachers": ({"model": "m", "sampler": "reference"},)},
            "loops: the sampler 'reference' ends no sample",
        ),
        (
            {
                "loops": {},
                "teachers": ({"model": "m", "sampler": "openai", "request": {"stream": False}},),
            },
            "take stream = false out of the request of m",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        settings_of(**values)
