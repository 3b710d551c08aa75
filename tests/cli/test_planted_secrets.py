"""Keys are planted in the environment, and a server sends them back in every way that it can: no
file of the run, no line on the terminal and no export holds one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from faulty_server import FAULTS, Body, FaultyServer, Reply, good, question_of, refuses, streams
from test_cli import run

from reasondistill import secrets
from reasondistill.runs.store import read_manifest

KEY = "sk-proj-0123456789-abcdefghij"
DATABASE = "dB/p&ss+w0rd=77"
USER_PASSWORD = "plantedpass"
IN_QUERY = "planted-in-the-query"
BASIC = base64.b64encode(f"user:{USER_PASSWORD}".encode()).decode()
PLANTED = (KEY, DATABASE, USER_PASSWORD, IN_QUERY, BASIC)
HUGE = r"\boxed{9^{9^{9^{9}}}}"
QUESTIONS = 16
# The replies of `echo` that are no answers: evals lose no sample.
FAIL = (3, 4, 7, 8, 11)

PIPELINE = """\
name = "planted"
[problems]
source = "file"
dataset = "problems.jsonl"
[traces]
prompt = "question"
n = 2
max_tokens = 50
failures_allowed = 0.5
[[traces.teachers]]
model = "teacher"
sampler = "openai"
[verdicts.judge]
model = "judge"
sampler = "openai"
[examples]
export = ["messages", "sharegpt", "prompt_completion"]
require_boxed = false
[evals]
benchmarks = ["bench.toml"]
[[evals.models]]
name = "measured"
model = "measured"
sampler = "openai"
"""
CLUSTER = "[openai]\napi_key_env = 'MY_SERVER'\nretries = 0\n[grade]\nworkers = 1\n"


pytestmark = pytest.mark.timeout(1800)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def echo(body: Body) -> Reply:
    """What is asked decides how the secrets come back."""
    if body["model"] == "judge":
        return good(content=f"I saw {KEY}.\nVERDICT: EQUAL")(body)
    number = int(re.findall(r"\d+", question_of(body))[0])
    right = f"\\boxed{{{number}}}"
    padding = "x" * 470
    replies = [
        good(content=f"The key is {KEY}. {right}"),
        good(content=f"Basic {in_base64(f'me:{KEY}')} {right}"),
        good(content=right, reasoning_content=f"I was sent {DATABASE}."),
        refuses(400, f"{padding}{KEY} is bad"),
        good(content=right, finish_reason=KEY),
        good(content=right, system_fingerprint=quote(DATABASE, safe="")),
        good(content=f"{USER_PASSWORD} and {IN_QUERY} and {BASIC} {right}"),
        lambda body: Reply(200, f"no JSON: {padding}{BASIC} {KEY}".encode()),
        refuses(500, f"cannot use {DATABASE} and Basic {BASIC}", type=KEY),
        good(content=f"{KEY} {HUGE}"),
        good(content=right, usage={"prompt_tokens": KEY, "completion_tokens": KEY}),
        good(content=right, tool_calls=[{"x": KEY}], finish_reason="tool_calls"),
    ]
    is_of_the_evals = "Which follows" in question_of(body)
    if is_of_the_evals and number in FAIL:
        return good(content=f"{right} {KEY}")(body)
    if number < len(replies):
        return replies[number](body)
    return good(content=right)(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    server = FaultyServer()
    monkeypatch.setitem(FAULTS, "echo", echo)
    server.fault = "echo"
    yield server
    server.close()


def planted_in(content: str) -> list[str]:
    """The secrets that stand in a text, in any of their forms."""
    found: list[str] = []
    for secret in PLANTED:
        forms = [secret, secret.lower(), quote(secret, safe=""), json.dumps(secret)[1:-1]]
        for text in (secret, f"me:{secret}", f"user:{secret}"):
            forms.append(in_base64(text).rstrip("=")[:-1])
        forms.append(secret[: len(secret) - 3])
        found += [form for form in forms if form in content]
    return found


def leaks(folder: Path) -> dict[str, list[str]]:
    """Where secrets stand in the files below a folder."""
    found: dict[str, list[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            forms = planted_in(path.read_bytes().decode("utf-8", "replace"))
            if forms:
                found[str(path.relative_to(folder))] = forms
    return found


def prepared(folder: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in (("problems", "Say the number"), ("bench", "Which follows none but")):
        rows = [{"question": f"{words} {i}?", "answer": str(i)} for i in range(QUESTIONS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "planted.toml").write_text(PIPELINE)
    (folder / "cluster.toml").write_text(CLUSTER)
    (folder / "bench.toml").write_text(
        'name = "bench"\nrows = 16\nn = 1\nprompt = "question"\n'
        '[problems]\nsource = "file"\ndataset = "bench.jsonl"\n'
    )
    address = server.url.removeprefix("http://")
    url = f"http://user:{USER_PASSWORD}@{address}?api_key={IN_QUERY}"
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("MY_SERVER", KEY)
    monkeypatch.setenv("DB_PASSWD", DATABASE)


def test_no_planted_key_is_in_run_folder_logs_terminal_report_or_exports(
    tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, server, monkeypatch)
    words = ("run", "planted.toml", "--on", "cluster.toml")
    printed = run(tmp_path, *words)
    folder = tmp_path / "runs" / "planted"
    for words in (
        ("show", "planted"),
        ("walk", "planted", "problems/train/0"),
        ("logs", "planted"),
    ):
        printed += run(tmp_path, *words)
    assert planted_in(printed) == []
    assert leaks(folder) == {}
    assert {header["Authorization"] for header in server.headers} == {f"Basic {BASIC}"}

    traces = read_manifest(folder / "2-traces")
    examples = read_manifest(folder / "4-examples")
    assert traces is not None and examples is not None
    masked_samples = [
        line
        for line in (folder / "2-traces" / "traces.jsonl").read_text().splitlines()
        if '"is_masked":true' in line
    ]
    assert traces.figures["masked"] == len(masked_samples) > 0
    assert "a secret of this environment stood in" in printed
    assert examples.dropped["holds a secret"] > 0
    for name in ("4-examples/examples.jsonl", "4-examples/exports/messages.train.jsonl"):
        assert secrets.MASK not in next((folder).glob(name)).read_text()
    # What a model of the evals wrote is graded as it is masked.
    records = (folder / "6-evals" / "records.jsonl").read_text().splitlines()
    outcomes: dict[str, Any] = {}
    for record in map(json.loads, records):
        outcomes[record["problem_id"]] = record["grade"]["outcome"]
    assert len(outcomes) == QUESTIONS
    assert set(outcomes.values()) == {"correct"}  # the judge read its masked reply too


def test_a_stream_that_cuts_a_key_in_pieces_is_masked_whole(
    tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_pieces(body: Body) -> Reply:
        whole = streams(body)
        number = re.findall(r"\d+", question_of(body))[0]
        text = f"{KEY} \\\\boxed{{{number}}}"
        pieces = [
            {"choices": [{"index": 0, "delta": {"content": sign}, "finish_reason": None}]}
            for sign in text
        ]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        lines = [f"data: {json.dumps(piece)}\n\n" for piece in [*pieces, end]]
        return Reply(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), whole.headers)

    prepared(tmp_path, server, monkeypatch)
    monkeypatch.setitem(FAULTS, "echo", in_pieces)
    more = ("--set", "traces.teachers.0.request={ stream = true }", "--until", "traces")
    printed = run(tmp_path, "run", "planted.toml", "--on", "cluster.toml", *more)
    assert planted_in(printed) == []
    assert leaks(tmp_path / "runs" / "planted") == {}


def test_a_pipeline_file_with_the_value_of_a_variable_is_refused_by_the_variables_name(
    tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, server, monkeypatch)
    words = ("run", "planted.toml", "--on", "cluster.toml", "--until", "problems")
    printed = run(tmp_path, *words, "--set", f"about=with {DATABASE}", code=2)
    assert "DB_PASSWD" in printed and planted_in(printed) == []
    assert leaks(tmp_path / "runs") == {}


def test_a_wrong_value_that_is_a_key_is_not_quoted(
    tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, server, monkeypatch)
    words = ("run", "planted.toml", "--on", "cluster.toml")
    for wrong in (f"traces.n={KEY}", f"traces.{KEY}=1", f"problems.dataset={KEY}.jsonl"):
        assert planted_in(run(tmp_path, *words, "--set", wrong, code=2)) == []
