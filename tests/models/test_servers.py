"""Servers as they are: every fault of tests/faulty_server.py, seen by a sample and by a person at
the command line.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import wait_until
from faulty_server import (
    CONTEXT,
    FAULTS,
    PROMPT,
    USAGE,
    FaultyServer,
    Reply,
    delta,
    events,
    good,
    says,
)
from pydantic import ValidationError
from test_cli import run as command
from typer.testing import CliRunner

from reasondistill.cli import app
from reasondistill.config import Cluster, OpenAISettings, SampledModel
from reasondistill.config.sampling import JudgeSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.samplers import Request, Sampled
from reasondistill.models.samplers.openai.asking import room_in
from reasondistill.models.samplers.openai.pacing import retry_after
from reasondistill.models.samplers.openai.refusals import refusal
from reasondistill.models.samplers.openai.replies import texts_of
from reasondistill.models.samplers.openai.sampler import OpenAISampler
from reasondistill.models.samplers.opening import Serving
from reasondistill.records import Completion, Message, Sampling
from reasondistill.runs.store import (
    Identity,
    finish_stage,
    open_stage,
    read_guarded,
    read_manifest,
    write_guarded,
)
from reasondistill.stages.evals.settings import changes
from reasondistill.stages.traces.work import model_section
from reasondistill.stages.verdicts.judge import Judge

KEY = "sk-proj-0123456789-abcdefghij"
PIPELINE = """\
name = "sums"
[problems]
source = "file"
dataset = "problems.jsonl"
[traces]
prompt = "question"
n = 4
max_tokens = 50
[[traces.teachers]]
model = "m"
sampler = "openai"
"""
PROBLEMS = 30


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


# ---- a sample ------------------------------------------------------------------------------------


def sampler_of(server: FaultyServer, **options: Any) -> OpenAISampler:
    return OpenAISampler(
        "m", **({"base_url": server.url, "api_key_env": "TEST_KEY", "retries": 0} | options)
    )


def requests(
    sampler: OpenAISampler, count: int = 1, *, plain: bool = False, max_tokens: int = 50
) -> list[Request]:
    rendered = sampler.render((Message(role="user", content="What is 1+1?"),), plain=plain)
    sampling = Sampling(temperature=0.5, max_tokens=max_tokens)
    return [Request(f"p/0:{i}", f"{i:016x}", rendered, sampling, seed=i) for i in range(count)]


def draw(
    server: FaultyServer,
    count: int = 1,
    *,
    plain: bool = False,
    max_tokens: int = 50,
    **options: Any,
) -> list[Sampled]:
    with sampler_of(server, **options) as sampler:
        return list(sampler.sample(requests(sampler, count, plain=plain, max_tokens=max_tokens)))


def sample(server: FaultyServer, fault: str, **options: Any) -> Completion:
    server.fault = fault
    (sampled,) = draw(server, **options)
    return sampled.completion


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("too_long", "your request has 41 input tokens"),
        ("llama_cpp", "exceeds the available context size (4096 tokens)"),
        ("too_large", "413 Request Entity Too Large"),
        ("azure_filter", "The response was filtered"),
        ("policy", "rejected"),
        ("moderation", 'flagged for "violence"'),
        ("deepseek", "Content Exists Risk"),
        ("filter_finish", "content_filter"),
        ("SAFETY", "safety"),
        ("template", "Conversation roles must alternate"),
        ("template_500", "Jinja Exception"),
    ],
)
def test_a_fault_of_the_input_is_told_as_such_and_not_tried_again(
    server: FaultyServer, fault: str, words: str
) -> None:
    completion = sample(server, fault, retries=3)
    assert completion.is_refused and words in (completion.error or "")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unsure", "HTTP 400 Bad Request: Bad request"),
        ("broken", "HTTP 500 Internal Server Error: CUDA out of memory"),
        ("busy", "HTTP 429 Too Many Requests: Rate limit reached"),
        ("error_in_200", "upstream provider is down"),
        ("error_in_choice", "HTTP 502 Bad Gateway: provider hung up"),
        ("no_choices", "the reply has no choices"),
        ("no_json", "{not json"),
        ("number", "the reply is no object: 7"),
        ("deep", "[[[["),
        ("cut", "http://127.0.0.1"),
        ("gateway_page", "HTTP 502 Bad Gateway: 502 Bad Gateway"),
        ("stream_error", "engine died"),
        ("stream_cut", "the stream was cut"),
        ("tool_calls", "the server finished with tool_calls"),
        ("unknown_finish", "the server finished with insufficient_system_resource"),
    ],
)
def test_a_fault_of_the_service_keeps_the_servers_own_words(
    server: FaultyServer, fault: str, words: str
) -> None:
    completion = sample(server, fault)
    assert completion.is_lost and completion.fault == "service"
    assert words in (completion.error or "")
    assert "\n" not in (completion.error or "")


@pytest.mark.parametrize("fault", ["tool_calls", "unknown_finish"])
def test_what_came_before_an_unknown_end_is_kept(server: FaultyServer, fault: str) -> None:
    assert sample(server, fault).answer_text == "half an answer"


@pytest.mark.parametrize(
    "fault", ["broken", "error_in_200", "no_json", "cut", "stream_error", "stream_cut", "busy"]
)
def test_what_may_pass_is_tried_again(server: FaultyServer, fault: str) -> None:
    server.fault = fault
    server.times_left = 1
    (sampled,) = draw(server, retries=2)
    assert sampled.completion.finish == "stop" and len(server.bodies) == 2


def test_a_reply_that_unpacks_without_end_is_a_fault_and_not_held(server: FaultyServer) -> None:
    assert "larger than 64 MiB" in (sample(server, "bomb", retries=3).error or "")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(
            (name, "stop")
            for name in (
                "stop",
                "end_turn",
                "STOP",
                "stop_sequence",
                "eos",
                "eos_token",
                "COMPLETE",
                "",
                None,
            )
        ),
        *((name, "length") for name in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *(
            (name, "error")
            for name in ("tool_calls", "function_call", "safety", "RECITATION", "refusal", "moon")
        ),
    ],
)
def test_finish_reasons_of_many_servers_are_understood(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, reason: str | None, finish: str
) -> None:
    monkeypatch.setitem(FAULTS, "finish", good(finish_reason=reason))
    assert sample(server, "finish").finish == finish


def test_an_answer_without_a_reason_that_fills_its_limit_was_cut(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        FAULTS,
        "finish",
        good(finish_reason=None, usage={"prompt_tokens": 7, "completion_tokens": 50}),
    )
    assert sample(server, "finish").finish == "length"


@pytest.mark.parametrize("fault", ["no_usage", "negative_usage", "absurd_usage", "half_usage"])
def test_counts_that_are_missing_or_cannot_be_are_estimated_and_marked(
    server: FaultyServer, fault: str
) -> None:
    completion = sample(server, fault)
    assert completion.is_estimated and 1 <= completion.tokens < 50 and completion.prompt_tokens >= 0
    assert completion.finish == "stop"


def test_counts_that_came_are_not_marked(server: FaultyServer) -> None:
    completion = sample(server, "")
    assert (completion.prompt_tokens, completion.tokens, completion.is_estimated) == (7, 5, False)


def test_no_answer_beside_the_reasoning_gets_a_hint_once(
    server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.fault = "all_in_reasoning"
    sampled = draw(server, 5)
    assert {s.completion.reasoning for s in sampled} == {"I think and think."}
    hints = [record for record in caplog.records if "reasoning and no answer" in record.message]
    assert len(hints) == 1


# ---- text and reasoning --------------------------------------------------------------------------

THOUGHT = [{"type": "reasoning.text", "text": "I think."}]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "So 2.", "reasoning_content": "I think."},
        {"content": "So 2.", "reasoning": "I think."},
        {"content": "So 2.", "reasoning": "I think.", "reasoning_content": "I think."},
        {"content": "So 2.", "reasoning_details": THOUGHT},
        {"content": "So 2.", "reasoning": "I think.", "reasoning_details": THOUGHT},
        {
            "content": [
                {"type": "thinking", "thinking": "I think."},
                {"type": "text", "text": "So 2."},
            ]
        },
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "I think."}]},
                {"type": "text", "text": "So 2."},
            ]
        },
        {
            "content": [
                {"type": "reasoning", "text": "I think."},
                {"type": "text", "text": "So "},
                {"type": "text", "text": "2."},
            ]
        },
        {"content": [{"type": "reasoning", "summary": [{"text": "I think."}]}, "So 2."]},
        {"content": "<think>I think.</think>So 2.", "reasoning_content": "I think."},
        {"content": "<think>\nI think.\n</think>So 2.", "reasoning": "I think."},
    ],
)
def test_reasoning_in_every_place_is_read_once(message: dict[str, Any]) -> None:
    assert texts_of(message) == ("I think.", "So 2.")


def test_other_thoughts_in_the_text_join_those_of_the_field() -> None:
    assert texts_of({"content": "<think>And more.</think>So 2.", "reasoning": "I think."}) == (
        "I think.\n\nAnd more.",
        "So 2.",
    )


def test_a_stream_that_nobody_asked_for_is_read(server: FaultyServer) -> None:
    completion = sample(server, "stream")
    assert (completion.reasoning, completion.answer_text, completion.think) == (
        "I think.",
        "seed 0 says \\boxed{5}",
        "closed",
    )
    assert (
        completion.finish,
        completion.prompt_tokens,
        completion.tokens,
        completion.is_estimated,
    ) == ("stop", 7, 5, False)


def test_a_stream_under_another_name_and_of_plain_text_is_read(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [
        {"choices": [{"text": " 2"}]},
        {"choices": [{"text": "!", "finish_reason": "length"}], "usage": USAGE},
    ]
    monkeypatch.setitem(FAULTS, "text", lambda body: type(good()(body))(200, events(*pieces)))
    completion = sample(server, "text", plain=True)
    assert (completion.answer_text, completion.finish) == (" 2!", "length")


def test_tokens_that_run_are_counted_while_a_stream_comes(server: FaultyServer) -> None:
    server.fault, server.delay_s = "stream", 0.0
    with sampler_of(server, request={"stream": True}) as sampler:
        (sampled,) = sampler.sample(requests(sampler))
        assert sampler.running.tokens == sampler.running.requests == 0
    assert sampled.completion.tokens == 5
    assert server.bodies[0]["stream"] is True and server.bodies[0]["stream_options"] == {
        "include_usage": True
    }


# ---- the request ---------------------------------------------------------------------------------


def test_fields_are_added_and_left_out_as_the_file_says(server: FaultyServer) -> None:
    asked = {"reasoning_effort": "high", "chat_template_kwargs": {"low": True}}
    draw(server, request=asked, omit=("seed", "top_p"), template_options={"enable_thinking": True})
    (body,) = server.bodies
    assert body["reasoning_effort"] == "high" and "seed" not in body and "top_p" not in body
    assert body["chat_template_kwargs"] == {"enable_thinking": True, "low": True}
    assert (body["temperature"], body["max_tokens"]) == (0.5, 50)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        *(
            ({"request": {name: 1}}, f"request: {name} is set for every request already")
            for name in ("model", "messages", "prompt", "n")
        ),
        ({"request": {"temperature": 1.0}}, "request: temperature cannot be added"),
        ({"request": {"max_tokens": 9}}, "request: max_tokens cannot be added"),
        ({"request": {"x": float("nan")}}, "request: cannot be sent as JSON"),
        ({"omit": ["sed"]}, "omit: 'sed' cannot be left out. Did you mean seed?"),
        ({"omit": ["messages"]}, "omit: 'messages' cannot be left out"),
    ],
)
def test_what_would_break_a_sample_is_refused_when_the_file_is_read(
    keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        SampledModel.model_validate({"model": "m", "sampler": "openai"} | keys)
    assert words in str(caught.value)


def test_a_password_in_the_cluster_file_is_refused() -> None:
    with pytest.raises(ValidationError, match="export OPENAI_BASE_URL"):
        OpenAISettings(base_url="http://me:secret@127.0.0.1/v1")


def test_old_teachers_and_judges_are_who_they_were() -> None:
    old = SampledModel(model="m", sampler="openai")
    assert model_section(old) == {
        "model": "m",
        "sampler": "openai",
        "share": 1.0,
        "template_options": {},
    }
    new = SampledModel(
        model="m", sampler="openai", request={"a": 1}, omit=("top_p", "seed"), reasoning="mistral"
    )
    shaped = {"request": {"a": 1}, "omit": ["seed", "top_p"], "reasoning": "mistral"}
    assert model_section(new) == model_section(old) | shaped
    assert (
        JudgeSettings(model="m").shaping(),
        JudgeSettings(model="m", sampler="openai", omit=("seed",)).shaping(),
    ) == ({}, {"omit": ["seed"]})


def test_a_judge_that_is_asked_in_another_way_is_another_judge() -> None:
    plain = Judge.of(JudgeSettings(model="m", sampler="openai"), Serving())
    assert set(plain.how) == {"model", "sampling", "template_options"}
    shaped = Judge.of(JudgeSettings(model="m", sampler="openai", omit=("seed",)), Serving())
    assert shaped.identity != plain.identity


def test_diff_names_what_two_evals_were_asked_with_and_who_answered(tmp_path: Path) -> None:
    def cell(name: str, teacher: dict[str, Any], models: list[str]) -> Path:
        folder = tmp_path / name / "base"
        section = {"teachers": {"1": {"model": "m", "sampler": "openai"} | teacher}}
        figures = {"traces": {"servers": [{"teacher": "m", "models": models}]}}
        for stage in (folder / "traces", folder / "verdicts", folder.parent / "problems"):
            open_stage(stage, Identity(stage.name, 1, section, {}))
            finish_stage(stage, counts={}, figures=figures.get(stage.name, {}), seconds=0.0)
        return folder

    found = changes(
        cell("a", {}, ["m-1"]),
        cell("b", {"omit": ["seed"], "request": {"effort": "high"}}, ["m-2"]),
    )
    told = {change.name: (change.ours, change.theirs) for change in found}
    del told["benchmark.hash"]  # the folders of this test have names of their own
    assert told == {
        "request.effort": (None, "high"),
        "omit": (None, "seed"),
        "server.models": ("m-1", "m-2"),
    }


def test_the_limit_goes_into_the_field_that_the_server_wants(server: FaultyServer) -> None:
    server.fault = "wants_max_completion_tokens"
    with sampler_of(server, concurrency=1) as sampler:
        assert {s.completion.finish for s in sampler.sample(requests(sampler, 3))} == {"stop"}
        assert sampler.provenance()["limit"] == "max_completion_tokens"
    assert [("max_tokens" in body) for body in server.bodies] == [True, False, False, False]


@pytest.mark.parametrize(
    "fault", ["context_vllm", "context_new_vllm", "context_sglang", "context_tgi"]
)
def test_what_does_not_fit_is_asked_once_more_with_what_fits(
    server: FaultyServer, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    server.fault = fault
    with sampler_of(server, concurrency=1) as sampler:
        assert {s.completion.finish for s in sampler.sample(requests(sampler, 3))} == {"stop"}
        assert sampler.provenance()["clipped"] == {"context": CONTEXT}
    assert [body["max_tokens"] for body in server.bodies][:2] == [50, CONTEXT - PROMPT]
    assert len(server.bodies) <= 5
    assert (
        sum("is clipped to the server's context" in record.message for record in caplog.records)
        == 1
    )


def test_the_context_that_the_server_tells_is_kept_to_from_the_start(server: FaultyServer) -> None:
    server.context = 40
    draw(server, 2)
    assert {body["max_tokens"] for body in server.bodies} == {40 - 4}
    server.bodies.clear()
    draw(server, 2, max_tokens=20)
    assert {body["max_tokens"] for body in server.bodies} == {20}


@pytest.mark.parametrize(
    ("words", "room"),
    [
        (
            "max_tokens is too large: 100000. This model supports at most 16384 completion "
            "tokens, whereas you provided 100000.",
            16384,
        ),
        (
            "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for x",
            8192,
        ),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        (
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens`",
            8192,
        ),
    ],
)
def test_the_longest_answer_that_a_server_gives_is_read_from_its_words(
    words: str, room: int
) -> None:
    assert room_in(words).longest == room
    assert (
        refusal(400, json.dumps({"error": {"message": words}}).encode(), str, {"max_tokens"}).means
        == "too_long"
    )


# ---- waiting, and secrets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1e308", 1e308),
        ("-5", 0.0),
        ("9" * 400, float("inf")),
        ("nan", None),
        ("Fri, 99 Foo", None),
        ("", None),
    ],
)
def test_absurd_waits_are_read_as_what_they_are(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_a_minutes_limit_in_words_is_waited_for_and_is_no_quota() -> None:
    words = (
        "You exceeded your current quota, please check your plan and billing details. "
        "Please retry in 26.7s."
    )
    refused = refusal(
        429, json.dumps([{"error": {"code": 429, "message": words}}]).encode(), str, ()
    )
    assert (refused.means, retry_after({}, refused.words)) == ("passing", 26.7)


def test_what_a_sampler_waits_for_is_told(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        FAULTS, "wait", says(429, {"error": {"message": "slow"}}, {"Retry-After": "35"})
    )
    server.fault = "wait"
    with sampler_of(server, retries=2) as sampler:
        threading.Thread(
            target=lambda: list(sampler.sample(requests(sampler))), daemon=True
        ).start()
        wait_until(lambda: sampler.running.waits_for == "429 Too Many Requests: waits 35 s", 10)
        assert sampler.running.requests == 1
        sampler.should_stop = lambda: True
        wait_until(lambda: sampler.running.requests == 0, 10)


def test_a_key_is_masked_before_a_text_is_cut(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for padding in range(270, 300):
        refused = refusal(
            400,
            json.dumps({"error": "x" * padding + KEY}).encode(),
            lambda text: text.replace(KEY, "***"),
            (),
        )
        assert "sk-" not in refused.summary
    monkeypatch.setitem(
        FAULTS, "echo", lambda body: type(good()(body))(200, b"x" * 290 + KEY.encode())
    )
    assert "sk-" not in sample(server, "echo").to_json()


def test_a_reply_that_repeats_the_key_is_cleaned_and_a_common_word_is_not(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "echo", good(content=f"You are {KEY}, EMPTY."))
    assert sample(server, "echo").answer_text == "You are ***, EMPTY."
    monkeypatch.setenv("TEST_KEY", "EMPTY")
    assert sample(server, "echo").answer_text == f"You are {KEY}, EMPTY."


def test_credentials_in_a_url_open_the_server_and_are_never_shown(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = base64.b64encode(b"me:pass word").decode()
    monkeypatch.setitem(
        FAULTS, "echo", says(400, {"error": f"Authorization: Basic {token} (me:pass word)"})
    )
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("://", "://me:pass%20word@"))
    server.fault = "echo"
    with sampler_of(server, base_url=None) as sampler:
        (sampled,) = sampler.sample(requests(sampler))
        assert sampler.provenance()["address"] == server.url
    assert server.headers[0]["Authorization"] == f"Basic {token}"
    assert (
        token not in sampled.completion.to_json()
        and "pass word" not in sampled.completion.to_json()
    )


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://a..b/v1",
        "http://" + "a" * 64 + "/v1",
    ],
)
def test_what_is_no_address_is_named_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url = .*no address of a server"):
        OpenAISampler("m", base_url=url)


def test_a_wait_within_our_patience_is_no_end(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "wait", says(503, {"error": "restarting"}, {"Retry-After": "1"}))
    server.times_left = 1
    assert sample(server, "wait", retries=1, patience_s=1).finish == "stop"
    server.times_left = None
    with pytest.raises(
        StageError, match="asks us to wait 1.0 s .Retry-After: 1., longer than patience_s = 0.5"
    ):
        sample(server, "wait", retries=1, patience_s=0.5)


def test_a_key_that_no_header_takes_is_named(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-“quoted”")
    with pytest.raises(ConfigError, match="line break or a typographic sign"):
        draw(server)


# ---- at the command line -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose problems are there."""
    folder = tmp_path_factory.mktemp("begun")
    rows = [
        {"question": f"What is {i} modulo 3, plus one?", "answer": str(i % 3 + 1)}
        for i in range(PROBLEMS)
    ]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.toml").write_text(PIPELINE)
    (folder / "cluster.toml").write_text("")
    command(folder, "run", "sums.toml", "--on", "cluster.toml", "--until", "problems")
    return folder


class Desk:
    """A run folder and the command line, in this process."""

    def __init__(self, folder: Path, server: FaultyServer) -> None:
        self.folder, self.server = folder, server
        self.run = folder / "runs" / "sums"
        self.traces = self.run / "2-traces"
        self.settings(retries=1)

    def settings(
        self,
        teacher: dict[str, Any] | None = None,
        *,
        n: int = 4,
        keep_old: bool = False,
        **openai: Any,
    ) -> None:
        """What the task will find in its run folder."""
        written = read_guarded(self.run / "run.json", "a run", "")
        written["pipeline"]["traces"]["n"] = n
        written["pipeline"]["traces"]["teachers"][0] |= teacher or {}
        written["keep_old"] = keep_old
        written["cluster"]["openai"] = {
            "base_url": self.server.url,
            "api_key_env": "TEST_KEY",
        } | openai
        Cluster.model_validate(written["cluster"])
        write_guarded(self.run / "run.json", written)

    def draw(self, *arguments: str, code: int = 0) -> str:
        """The task that draws the traces: what it prints."""
        done = CliRunner().invoke(app, ["task", str(self.run), "traces", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    def lines(self) -> list[str]:
        path = self.traces / "traces.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def figures(self) -> dict[str, Any]:
        manifest = read_manifest(self.traces)
        assert manifest is not None
        return manifest.figures


@pytest.fixture
def desk(begun: Path, server: FaultyServer, tmp_path: Path) -> Desk:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return Desk(tmp_path, server)


def finishes(lines: list[str]) -> set[str]:
    return {json.loads(line)["completion"]["finish"] for line in lines}


def test_without_money_what_came_is_kept_and_the_same_command_draws_the_rest(
    desk: Desk, server: FaultyServer
) -> None:
    server.fault, server.after = "no_money", 20
    (desk.folder / "cluster.toml").write_text(
        f'[openai]\nbase_url = "{server.url}"\napi_key_env = "TEST_KEY"\n'
    )
    again = ("run", "sums.toml", "--on", "cluster.toml", "--until", "traces")
    printed = command(desk.folder, *again, code=2)
    assert (
        "no quota left: HTTP 402 Payment Required: Payment Required: your balance is 0" in printed
    )
    first = desk.lines()
    assert len(first) == 20 and finishes(first) == {"stop"}
    server.fault = ""
    asked = len(server.bodies)
    command(desk.folder, *again)
    assert len(desk.lines()) == 4 * PROBLEMS and set(first) <= set(desk.lines())
    assert len(server.bodies) - asked == 100


@pytest.mark.parametrize("fault", ["no_quota", "no_credit", "no_billing"])
def test_every_way_to_say_that_nobody_pays_stops_at_once(
    desk: Desk, server: FaultyServer, fault: str
) -> None:
    server.fault, server.after = fault, 10
    assert "no quota left" in desk.draw(code=2)
    assert len(desk.lines()) == 10 and finishes(desk.lines()) == {"stop"}
    assert len(server.bodies) < 60


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("bad_key", "the server refuses (401): Incorrect API key provided"),
        ("no_model", "the server refuses (404): The model `m` does not exist"),
        ("no_path", "usually ends in /v1"),
        ("web_page", "there is a web page (Welcome to the lab)"),
        (
            "seed_fastapi",
            'body.seed: Extra inputs are not permitted. Leave it out (omit = ["seed"])',
        ),
        ("seed_gemini", 'Unknown name "seed". Leave it out (omit = ["seed"])'),
        ("seed_tgi", "unknown field `seed`"),
        ("seed_openai", "Unsupported parameter: 'seed'"),
        (
            "come_back_tomorrow",
            "asks us to wait 24 h 00 min (Retry-After: 86400), longer than patience_s = 600",
        ),
        ("come_back_never", "asks us to wait inf s (Retry-After: 9999"),
    ],
)
def test_what_no_request_survives_stops_at_once_in_the_servers_words(
    desk: Desk, server: FaultyServer, fault: str, words: str
) -> None:
    server.fault = fault
    assert words in desk.draw(code=2)
    assert desk.lines() == [] and len(server.bodies) <= 40


def test_a_field_that_was_left_out_is_not_refused_and_the_manifest_says_so(
    desk: Desk, server: FaultyServer
) -> None:
    server.fault = "seed_fastapi"
    desk.settings({"omit": ["seed"], "request": {"reasoning_effort": "high"}})
    desk.draw()
    (told,) = desk.figures()["servers"]
    expected = {
        "teacher": "m",
        "addresses": [server.url],
        "models": ["m"],
        "omitted": ["seed"],
        "request": [{"reasoning_effort": "high"}],
    }
    assert told == expected


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:9/v1", "connection refused"),
        ("http://no-such-host.invalid/v1", "unknown host"),
        ("https{}", "TLS failure"),
    ],
)
def test_a_wrong_address_is_named_within_seconds(
    desk: Desk, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, url: str, cause: str
) -> None:
    asked = socket.getaddrinfo

    def resolve(
        host: Any, *rest: Any, **more: Any
    ) -> Any:  # an offline machine's own resolver takes ten seconds
        if b"invalid" in (host if isinstance(host, bytes) else str(host).encode()):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return asked(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = url.format(server.url.removeprefix("http"))
    desk.settings(base_url=url, retries=6)
    started = time.monotonic()
    printed = desk.draw(code=2)
    assert f"no server answers at {url}: {cause}" in printed
    assert time.monotonic() - started < 8
    assert desk.lines() == []


def test_prompts_do_not_follow_a_redirect_to_another_origin(
    desk: Desk, server: FaultyServer
) -> None:
    other = FaultyServer()
    server.redirects_to = f"{other.url}/chat/completions?key=x"
    printed = desk.draw(code=2)
    assert f"redirects (307) to {other.url}/chat/completions" in printed and "key=x" not in printed
    assert other.bodies == []
    other.close()


def test_prompts_follow_a_redirect_to_an_origin_that_the_cluster_file_names(
    desk: Desk, server: FaultyServer
) -> None:
    other = FaultyServer()
    server.redirects_to = f"{other.url}/chat/completions"
    desk.settings(redirects=[other.url.removesuffix("/v1")])
    desk.draw()
    assert len(desk.lines()) == 4 * PROBLEMS == len(other.bodies)
    assert {header["Authorization"] for header in other.headers} == {f"Bearer {KEY}"}
    other.close()


@pytest.mark.parametrize("origin", ["host", "ftp://host", "https://me@host", "https://host/v1"])
def test_an_origin_is_a_scheme_a_host_and_a_port(origin: str) -> None:
    with pytest.raises(ValidationError, match="redirects"):
        OpenAISettings(redirects=(origin,))


def test_texts_for_a_server_of_rollouts_follow_no_redirect(server: FaultyServer) -> None:
    requests = pytest.importorskip("requests")
    pytest.importorskip("torch")
    from reasondistill.stages.students.distilling.rollouts import refuse_redirect

    other = FaultyServer()
    session = requests.Session()
    session.hooks["response"].append(refuse_redirect)
    server.redirects_to = f"{other.url}/chat/completions"
    with pytest.raises(ConfigError, match=r"rollouts_url: the server redirects \(307\) to http:"):
        session.post(f"{server.url}/generate", json={"model": "m", "prompt": "a"})
    server.redirects_to = "http://[::"
    with pytest.raises(ConfigError, match="to no address"):
        session.post(f"{server.url}/generate", json={"model": "m", "prompt": "a"})
    assert other.bodies == []
    other.close()


@pytest.mark.parametrize("words", ["in JSON", "a page", "as it is"])
def test_a_key_at_any_place_of_an_error_is_masked_before_the_text_is_cut(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    basic = base64.b64encode(f"user:{KEY}".encode()).decode()
    for secret in (KEY, f"Basic {basic}"):
        for place in (270, 290, 470, 3980, 65500):
            text = "x" * place + secret
            bodies = {
                "in JSON": json.dumps({"error": {"message": text}}),
                "a page": f"<html><title>{text}</title></html>",
                "as it is": text,
            }
            body = bodies[words].encode()
            monkeypatch.setitem(FAULTS, "padded", lambda _, body=body: Reply(400, body))
            error = sample(server, "padded").error or ""
            assert secret[:10] not in error and secret[-12:] not in error


def test_a_finish_reason_that_is_a_key_is_masked_before_its_letters_are_made_small(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "ABCdef0123456789")
    monkeypatch.setitem(FAULTS, "reason", good(finish_reason="ABCdef0123456789"))
    assert "abcdef" not in (sample(server, "reason").error or "").lower()


def test_a_reply_with_a_secret_says_so_and_is_counted_as_it_is_masked(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    basic = base64.b64encode(f"user:{KEY}".encode()).decode()
    for echo in (KEY, basic):
        monkeypatch.setitem(FAULTS, "echo", good(content=f"It is {echo} \\boxed{{4}}"))
        completion = sample(server, "echo")
        assert completion.answer_text == "It is *** \\boxed{4}" and completion.is_masked
    assert not sample(server, "").is_masked


def test_another_model_under_the_same_name_is_not_mixed_in(
    desk: Desk, server: FaultyServer
) -> None:
    server.fault, server.after = "no_money", 20
    desk.draw(code=2)
    server.fault, server.after = "other_model", 0
    printed = desk.draw(code=2)
    assert (
        "answers as another-model-2026, earlier samples came from m" in printed
        and "--keep-old" in printed
    )
    assert len(desk.lines()) == 20
    desk.settings(keep_old=True)
    assert "both are kept" in desk.draw()
    (told,) = desk.figures()["servers"]
    assert told["models"] == ["m", "another-model-2026"]


def test_another_address_is_said_and_both_are_recorded(desk: Desk, server: FaultyServer) -> None:
    desk.settings(n=1)
    desk.draw()
    other = FaultyServer()
    other.fault = "fingerprint"
    desk.settings(n=2, base_url=other.url)
    assert (
        f"came from {server.url} until now; from here on they come from {other.url}" in desk.draw()
    )
    (told,) = desk.figures()["servers"]
    assert (told["addresses"], told["fingerprints"]) == ([server.url, other.url], ["fp_1"])
    other.close()


def test_workers_tell_who_answered_them(desk: Desk, server: FaultyServer) -> None:
    desk.draw("--share", "open:0:2")
    desk.draw("--share", "work:0:2")
    desk.draw("--share", "work:1:2")
    desk.draw("--share", "close:0:2")
    assert len(desk.lines()) == 4 * PROBLEMS
    assert desk.figures()["servers"] == [
        {"teacher": "m", "addresses": [server.url], "models": ["m"]}
    ]


def test_what_max_tokens_was_clipped_to_is_in_the_manifest(
    desk: Desk, server: FaultyServer
) -> None:
    server.context = 40
    assert "max_tokens is clipped to the server's context of 40 tokens" in desk.draw()
    assert desk.figures()["servers"][0]["clipped"] == [{"context": 40}]


def test_the_key_is_in_no_file_of_a_run_whatever_the_server_says(
    desk: Desk, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = says(500, {"error": {"message": f"cannot use {KEY}", "type": KEY}, "model": KEY})
    monkeypatch.setitem(FAULTS, "echo", echo)
    monkeypatch.setitem(FAULTS, "echo_model", good(model=f"m {KEY}", system_fingerprint=KEY))
    for fault in ("echo", "echo_model"):
        server.fault, server.only = fault, "What is 3 "
        desk.settings(retries=0, keep_old=True)
        printed = CliRunner().invoke(app, ["task", str(desk.run), "traces"]).output
        assert KEY not in printed
    assert (desk.traces / "servers.jsonl").exists()
    assert all(
        KEY.encode() not in path.read_bytes() for path in desk.run.rglob("*") if path.is_file()
    )


def test_a_server_that_is_gone_stops_with_its_address(desk: Desk, server: FaultyServer) -> None:
    server.fault, server.after = "cut", 10
    desk.settings(retries=0)
    printed = desk.draw(code=2)
    assert "of 120 samples were lost" in printed and server.url in printed


def test_deltas_that_are_no_objects_are_a_fault_of_the_service(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = events(delta({"model": "m"}, content="I"), {"choices": [{"delta": 7}]})
    monkeypatch.setitem(FAULTS, "delta", lambda body: type(good()(body))(200, pieces))
    assert "no object" in (sample(server, "delta").error or "")


def test_a_stage_error_leaves_nothing_in_flight(server: FaultyServer) -> None:
    server.fault, server.after = "no_money", 3
    with sampler_of(server) as sampler:
        drawn: list[Sampled] = []
        with pytest.raises(StageError):
            for sampled in sampler.sample(requests(sampler, 40)):
                drawn.append(sampled)
        assert len(drawn) == 3 and sampler.running.requests == 0
