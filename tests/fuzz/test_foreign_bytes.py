"""Whatever stands in a file or comes from a server: only ReasonDistillError, in one message that
can be printed, comes out of what reads it. `tests/fuzz/by_hand.py` goes on where this ends.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import json
import lzma
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from faulty_server import JSON, STREAM, FaultyServer, Reply, whole
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_stored import KNOWN_ROWS
from test_stored import read as read_stored

from reasondistill import records, thinking
from reasondistill.config import Benchmark, Cluster, Pipeline
from reasondistill.curation.cells import as_text
from reasondistill.curation.rows import field_names, open_file, value_at
from reasondistill.errors import ReasonDistillError
from reasondistill.grade_file.rows import count_answers, read_answers
from reasondistill.models.prompts import Prompt
from reasondistill.models.samplers.openai.sampler import OpenAISampler
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.models.samplers.requests import Request, Sampled
from reasondistill.pipeline import load_run
from reasondistill.pipeline.status import records_about
from reasondistill.records import Message, Sampling
from reasondistill.runs.store import (
    numbered_rows,
    read_keys,
    read_manifest,
    read_records,
    read_rows,
)
from reasondistill.sections import apply_override, check_section, parse_toml

ROOT = Path(__file__).parent.parent.parent
quick = settings(max_examples=draws(60), suppress_health_check=list(HealthCheck))


def refused(read: Callable[[], object]) -> bool:
    """Whether reading was refused, by one of our errors that can be printed."""
    try:
        read()
    except ReasonDistillError as error:
        text = str(error)
        text.encode()
        assert text and len(text) < 20_000
        return True
    return False


# ---- values --------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "a" * 5000, "\x00", "²", "../x", "shipped:x", "nan", "-1", "{question}"]),
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, True, False]),
    st.floats(),
)
json_values = st.recursive(
    st.one_of(st.none(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
toml_values = st.recursive(
    st.one_of(numbers, texts, st.dates(), st.times(), st.datetimes()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def places_in(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*before, key)
        yield from places_in(inner, (*before, key))


def changed(value: Any, data: st.DataObject, values: st.SearchStrategy[Any]) -> Any:
    """A copy with one to three values replaced, taken out or added."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(places_in(value))
        if not places:
            return value
        *parents, last = data.draw(st.sampled_from(places))
        inner = value
        for key in parents:
            inner = inner[key]
        how = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "replace":
            inner[last] = data.draw(values)
        elif how == "remove":
            del inner[last]
        elif isinstance(inner, dict):
            inner[data.draw(texts)] = data.draw(values)
        else:
            inner.insert(last, data.draw(values))
    return value


# ---- files of settings ---------------------------------------------------------------------------

KINDS: dict[str, Any] = {
    "pipelines/*.toml": Pipeline,
    "pipelines/clusters/*.toml": Cluster,
    "eval/benchmarks/*.toml": Benchmark,
    "prompts/*.toml": Prompt,
}
FILES = [(path, kind) for glob, kind in KINDS.items() for path in sorted(ROOT.glob(glob))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For files that are written anew each time. No folder of other tests lies below it."""
    return tmp_path_factory.mktemp("foreign")


@given(st.data())
@settings(quick, max_examples=draws(300))
def test_settings_with_any_values_are_read_or_refused(data: st.DataObject) -> None:
    path, kind = data.draw(st.sampled_from(FILES))
    values = changed(tomllib.loads(path.read_text()), data, toml_values)
    section: list[Any] = []
    refused(lambda: section.append(check_section(path, kind, values)))
    for read in section:  # what was read can be written
        json.dumps(read.model_dump(mode="json"))


SIGNS = ["a", '"', "'", '"""', "'''", "\\", "[", "]", "{", "}", ".", "=", ",", "#", "\n", "1", "_"]
SIGNS += ["0x", "1e9", "-", "+", "inf", "nan", "true", "1979-05-27", "T07:32:00Z", " ", "\t", "\r"]
SIGNS += ["é", "\x00", "\x1b", "name", "[[students]]\n", "9" * 5000, ".a" * 40, "[" * 40]
toml_texts = st.lists(st.sampled_from(SIGNS), max_size=40).map("".join)


@given(toml_texts)
@settings(quick, max_examples=draws(300))
def test_any_toml_is_read_or_refused(text: str) -> None:
    refused(lambda: parse_toml(text, "a.toml"))


@given(toml_texts | texts, toml_texts | texts)
@settings(quick, max_examples=draws(200))
def test_any_override_is_applied_or_refused(key: str, value: str) -> None:
    values = tomllib.loads((ROOT / "pipelines/demo.toml").read_text())
    refused(lambda: apply_override(values, f"{key}={value}"))


# ---- data ----------------------------------------------------------------------------------------

RECORDS: list[Any] = [
    kind
    for kind in vars(records).values()
    if isinstance(kind, type) and issubclass(kind, records.Record) and kind is not records.Record
]
LINE = {"id": "a/0", "problem_id": "a", "question": "1 + 1?", "prediction": "2", "gold": ["2"]}
ODD = [b"\xff", b"\x00", b"\r", b"\n\n", b"\xef\xbb\xbf", b"[" * 3000, b"1" * 5000, b'"\\ud800"']
ODD += [b"NaN", b'{"id":', b"1e999", b"'", b",,,", b'"']


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Lines of JSON, of odd bytes, and both."""
    pieces: list[bytes] = []
    for _ in range(draw(st.integers(0, 5))):
        line = json.dumps(draw(st.one_of(st.just(LINE), json_values))).encode()
        if draw(st.booleans()):
            at = draw(st.integers(0, len(line)))
            line = line[:at] + draw(st.sampled_from(ODD) | st.binary(max_size=9)) + line[at:]
        pieces.append(line + draw(st.sampled_from([b"\n", b"\n", b"", b"\r\n"])))
    return b"".join(pieces)


@given(st.data())
@settings(quick, max_examples=draws(300))
def test_any_row_of_published_traces_is_read_or_refused(data: st.DataObject) -> None:
    row = changed(data.draw(st.sampled_from(KNOWN_ROWS)), data, json_values)
    found: list[Any] = []
    refused(lambda: found.append(read_stored(row, teacher="r1")))
    for read in found:
        for text in read.texts:
            assert isinstance(text.text, str) and isinstance(text.thinking, str | None)
            json.dumps([text.teacher, *read.left_out], ensure_ascii=False).encode()


@given(contents(), st.sampled_from(RECORDS))
@settings(quick, max_examples=draws(150))
def test_any_bytes_are_read_as_records_or_refused(place: Path, content: bytes, kind: Any) -> None:
    path = place / "rows.jsonl"
    path.write_bytes(content)
    for read in (
        lambda: list(read_records(path, kind)),
        lambda: list(read_records(path, kind, passes_foreign=True)),
        lambda: list(read_keys(path)),
        lambda: list(read_rows(path)),
        lambda: list(numbered_rows(path)),
        lambda: list(read_answers(path)),
        lambda: count_answers(path),
        lambda: list(records_about(path, "a")),
    ):
        refused(read)


@example(content=b'{".": {"": null}, "a": {".": 1, "b": {"": 2}}}\n', kind="jsonl")
@given(contents(), st.sampled_from(["jsonl", "json", "csv", "parquet"]))
@settings(quick, max_examples=draws(150))
def test_any_bytes_are_read_as_rows_or_refused(place: Path, content: bytes, kind: str) -> None:
    path = place / f"rows.{kind}"
    if kind == "json":
        content = b"[" + content.replace(b"\n", b",").rstrip(b",") + b"]"
    path.write_bytes(content)

    def read() -> None:
        for row in open_file(path, revision="", split="").rows:
            for name in field_names(row.fields):
                as_text(value_at(row.fields, name))

    refused(read)


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@example(content=b'{"a": 1}\n{"a": [', kind=".gz", damage=b"", at=0)
@given(contents(), st.sampled_from(sorted(PACKERS)), st.binary(max_size=3), st.integers(0, 10_000))
@quick
def test_any_packed_file_is_read_or_refused(
    place: Path, content: bytes, kind: str, damage: bytes, at: int
) -> None:
    packed = PACKERS[kind](content)
    at %= len(packed)
    for name in ("rows.json", "rows.csv"):
        path = place / f"{name}{kind}"
        path.write_bytes(packed[:at] + damage + packed[at + len(damage) :])
        refused(lambda path=path: list(open_file(path, revision="", split="").rows))


@given(st.binary(min_size=1, max_size=3), st.integers(0, 10_000))
@quick
def test_a_damaged_parquet_file_is_read_or_refused(place: Path, damage: bytes, at: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = place / "damaged.parquet"
    table = pa.table({"question": ["a", "ö", None] * 9, "n": [[1], [], None] * 9})
    pq.write_table(table, path)
    content = path.read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] + damage + content[at + len(damage) :])
    refused(lambda: list(open_file(path, revision="", split="").rows))


# ---- what a model wrote --------------------------------------------------------------------------

TAGS = ["<think>", "</think>", "<thought>", "</thought>", "<|channel|>", "analysis", "final"]
TAGS += [
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "assistant",
    "assistantfinal",
    "[THINK]",
    "[/THINK]",
]
TAGS += ["<seed:think>", "</seed:think>", "\n", " ", "so", "\\boxed{2}", "\ud800", "<", ">", "\x00"]
outputs = st.lists(st.sampled_from(TAGS) | st.text(max_size=4), max_size=30).map("".join)


@given(outputs, st.sampled_from([None, *thinking.ReasoningFormat.__args__]))
@settings(quick, max_examples=draws(300))
def test_any_output_is_split(text: str, opens: Any) -> None:
    shape = opens or "auto"
    parts = thinking.split(text)
    assert isinstance(parts.answer, str)
    thinking.opened_by(text)
    thinking.opener_at_end(text)
    if shape == "auto":
        opens = None
    completion = split_reasoning(
        text, shape=shape, opens=opens, finish="stop", prompt_tokens=1, tokens=1, seconds=0.0
    )
    assert completion.finish == "stop"


# ---- servers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@given(st.data())
@settings(quick, max_examples=draws(80))
def test_any_reply_is_a_completion_a_fault_or_a_refusal(
    server: FaultyServer, data: st.DataObject
) -> None:
    """The bytes of any status, kind and packing, through the client."""
    healthy = whole({"model": "m", "messages": [{"content": "1 + 1?"}]})
    value = data.draw(json_values | st.just(...))
    if value is ...:
        value = changed(healthy, data, json_values)
    body = json.dumps(value).encode()
    headers = dict(data.draw(st.sampled_from([JSON, STREAM])))
    if headers == STREAM or data.draw(st.booleans()):
        pieces = [value, healthy]
        lines = [b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces]
        body = b"".join([*lines, data.draw(st.sampled_from([b"", b"data: [DONE]\n\n"]))])
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(body)))
        body = body[:at] + data.draw(st.sampled_from(ODD)) + body[at:]
    packing = data.draw(st.sampled_from(["", "", "gzip", "gzip", "deflate", "br", "x, gzip", "é"]))
    if packing == "gzip" and data.draw(st.booleans()):
        body = gzip.compress(body)
    if packing.isascii() and packing:
        headers["Content-Encoding"] = packing
    wait = data.draw(st.sampled_from(["", "999999999", "9" * 400, "-1", "nan", "x", "1e400"]))
    if wait:
        headers["Retry-After"] = wait
    status = data.draw(st.sampled_from([200, 200, 200, 400, 404, 429, 500, 503, 307]))
    server.fault = "fuzz"
    faults = {"fuzz": lambda body_of_request: Reply(status, body, headers)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("faulty_server.FAULTS", faults)
        patched.setenv("TEST_KEY", "sk-planted-0123456789")
        outcomes: list[Sampled] = []
        refused(lambda: outcomes.extend(_asked(server.url)))
    for sampled in outcomes:
        completion = sampled.completion
        assert completion.finish == "error" or completion.tokens < 10**9


def _asked(url: str) -> list[Sampled]:
    sampling = Sampling(temperature=0.5, max_tokens=50)
    with OpenAISampler("m", base_url=url, api_key_env="TEST_KEY", retries=0) as sampler:
        rendered = sampler.render((Message(role="user", content="1 + 1?"),), plain=False)
        return list(sampler.sample(iter([Request("p/0:0", "0" * 16, rendered, sampling, seed=0)])))


# ---- run folders ---------------------------------------------------------------------------------

MANIFEST = {
    "identity": {"stage": "problems", "version": 1, "section": {}, "inputs": {}},
    "fingerprint": "0" * 16,
    "status": "complete",
    "counts": {"in": 1, "out": 1},
    "dropped": {"x": 1},
    "files": {"problems.jsonl": {"sha256": "0", "size": 1}},
    "seconds": 1.0,
}


@given(st.data())
@settings(quick, max_examples=draws(150))
def test_any_manifest_and_run_is_read_or_refused(place: Path, data: st.DataObject) -> None:
    run = {"pipeline": {}, "cluster": {}, "source": "a.toml", "keep_old": False}
    for name, value in (("manifest.json", MANIFEST), ("run.json", run)):
        text = json.dumps(changed(value, data, json_values)).encode()
        if data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(text)))
            text = text[:at] + data.draw(st.sampled_from(ODD)) + text[at:]
        (place / name).write_bytes(text)
    refused(lambda: read_manifest(place))
    refused(lambda: load_run(place))
