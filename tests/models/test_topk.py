from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_model import make_tiny_model, make_tokenizer
from traces_kit import settings, text_of, traces_in, write_problems

from reasondistill.config import Cluster, SampledModel, VllmSettings
from reasondistill.errors import ConfigError, DataError, Interrupted, StageError
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import (
    Rendered,
    Request,
    Sampled,
    SamplerBase,
    Scored,
    TopK,
    Written,
    failed,
)
from reasondistill.models.samplers.opening import Serving, open_sampler
from reasondistill.models.samplers.scripted import ScriptedSampler, split_words
from reasondistill.models.samplers.vllm import VllmSampler
from reasondistill.models.topk import (
    Source,
    TopKReader,
    TopKWriter,
    cut_what_is_torn,
    mend_header,
    pack,
    read_vocabulary,
    unpack,
)
from reasondistill.models.vocabulary import (
    tokenizer_fingerprint,
    unequal_ids,
    unequal_tokens,
    vocabulary_of,
)
from reasondistill.models.weights import model_identity
from reasondistill.records import Completion, Message, Problem, Sampling
from reasondistill.runs.session import Session
from reasondistill.runs.store import (
    StopSignal,
    read_manifest,
    read_records,
    write_json,
    write_manifest,
)
from reasondistill.stages.traces import run_traces, seed_of
from reasondistill.stages.traces.capture import forget_all_but

# float32: with `auto` a CPU that has bf16 instructions would compute in bf16, and agree with
# transformers to two digits only.
CLUSTER = Cluster(
    vllm=VllmSettings(
        cpu_kvcache_gib=1, gpu_memory_utilization=0.3, max_num_seqs=8, dtype="float32"
    )
)


def some(tokens: int, k: int, *, seed: int = 0, vocabulary: int = 320) -> TopK:
    rng = np.random.default_rng(seed)
    log_probs = -np.sort(rng.exponential(3.0, (tokens, k)).astype(np.float32))
    ids = rng.integers(0, vocabulary, (tokens, k), dtype=np.int32)
    return TopK(rng.integers(0, vocabulary, tokens, dtype=np.int32), ids, log_probs)


def source(
    k: int = 4, *, size: int = 320, model: str = "tiny@1", tokens: Sequence[str] = ("a", "b", "c")
) -> Source:
    return Source(model, k, {token: number for number, token in enumerate(tokens)}, size)


def write(folder: Path, rows: dict[str, TopK], **values: Any) -> Path:
    with TopKWriter(folder, source(**values)) as writer:
        writer.append(rows.items())
    return folder


def assert_same(a: TopK, b: TopK, rtol: float = 5e-4) -> None:
    np.testing.assert_array_equal(a.token_ids, b.token_ids)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_allclose(a.log_probs, b.log_probs, rtol=rtol, atol=1e-7)


# ---- the format ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "id_bytes"), [(320, 2), (65_536, 2), (65_537, 3), (151_936, 3)])
def test_what_was_written_is_read_back(tmp_path: Path, size: int, id_bytes: int) -> None:
    rows = {f"p/{i}:0": some(i, 16, seed=i, vocabulary=size) for i in (0, 1, 7, 300)}
    rows["p/top:0"] = TopK(
        np.array([size - 1], np.int32),
        np.full((1, 16), size - 1, np.int32),
        np.zeros((1, 16), np.float32),
    )
    with TopKReader(write(tmp_path / "topk", rows, k=16, size=size)) as reader:
        assert reader.header.id_bytes == id_bytes
        assert (reader.k, len(reader), reader.tokens) == (16, 5, 309)
        assert set(reader) == set(rows) and "p/9:0" not in reader
        for name, row in rows.items():
            assert_same(reader.read(name), row)
            assert reader.read(name).ids.shape == (len(row.token_ids), 16)


@pytest.mark.parametrize(("id_bytes", "wanted"), [(2, 66), (3, 83)])
def test_sixteen_likely_tokens_take_66_or_83_bytes(id_bytes: int, wanted: int) -> None:
    assert len(pack(some(1000, 16), id_bytes)) == 1000 * wanted
    assert_same(unpack(pack(some(5, 3), id_bytes), 5, 3, id_bytes), some(5, 3))


def test_with_its_index_a_token_of_a_large_vocabulary_takes_less_than_100_bytes(
    tmp_path: Path,
) -> None:
    folder = write(
        tmp_path,
        {f"gsm8k/train/{i}:0": some(100, 16, vocabulary=151_936) for i in range(50)},
        k=16,
        size=151_936,
    )
    with TopKReader(folder) as reader:
        assert 83 < reader.bytes / reader.tokens < 85
        assert reader.bytes == sum(
            (folder / name).stat().st_size for name in ("topk.bin", "topk.jsonl")
        )


def test_a_probability_is_off_by_at_most_two_ten_thousandths() -> None:
    log_probs = np.log(np.linspace(1e-9, 1.0, 100_000)).astype(np.float32).reshape(-1, 1)
    ids = np.zeros_like(log_probs, np.int32)
    back = unpack(pack(TopK(ids[:, 0], ids, log_probs), 2), len(ids), 1, 2)
    assert np.abs(np.exp(back.log_probs) - np.exp(log_probs)).max() < 2e-4
    sure = np.exp(log_probs) > 0.999
    assert np.abs(np.exp(back.log_probs) - np.exp(log_probs))[sure].max() < 1e-6


def test_a_token_that_cannot_come_stays_finite() -> None:
    never = TopK(
        np.zeros(1, np.int32), np.zeros((1, 2), np.int32), np.array([[0.0, -np.inf]], np.float32)
    )
    assert np.isfinite(unpack(pack(never, 2), 1, 2, 2).log_probs).all()


def test_a_smaller_k_is_the_head_of_a_larger_one_and_a_larger_one_is_refused(
    tmp_path: Path,
) -> None:
    with TopKReader(write(tmp_path, {"p/0:0": some(5, 4)})) as reader:
        assert_same(
            reader.read("p/0:0", k=2),
            TopK(some(5, 4).token_ids, some(5, 4).ids[:, :2], some(5, 4).log_probs[:, :2]),
        )
        with pytest.raises(
            ConfigError,
            match="has the 4 most likely tokens, but 8 are needed. Set .traces. logprobs = 8",
        ):
            reader.read("p/0:0", k=8)


def test_the_last_line_of_a_trace_counts(tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4), "p/0:1": some(3, 4, seed=1)})
    write(tmp_path, {"p/0:0": some(9, 8, seed=2)}, k=8)
    with TopKReader(tmp_path) as reader:
        assert_same(reader.read("p/0:0"), some(9, 8, seed=2))
        assert (len(reader), reader.tokens, reader.k, reader.header.k) == (2, 12, 4, 8)


@pytest.mark.parametrize("cut", ["line", "block", "both", "lost block"])
def test_what_a_kill_tore_is_cut_off(tmp_path: Path, cut: str) -> None:
    write(tmp_path, {"p/0:0": some(5, 4), "p/0:1": some(6, 4, seed=1)})
    index, blocks = tmp_path / "topk.jsonl", tmp_path / "topk.bin"
    if cut in ("line", "both"):
        index.write_bytes(index.read_bytes()[:-7])
    if cut == "block":
        blocks.write_bytes(blocks.read_bytes() + b"half a block")
    if cut in ("lost block", "both"):
        blocks.write_bytes(blocks.read_bytes()[:-1])
    write(tmp_path, {"p/0:2": some(7, 4, seed=2)})
    with TopKReader(tmp_path) as reader:
        assert set(reader) == (
            {"p/0:0", "p/0:1", "p/0:2"} if cut == "block" else {"p/0:0", "p/0:2"}
        )
        assert_same(reader.read("p/0:0"), some(5, 4))
        assert_same(reader.read("p/0:2"), some(7, 4, seed=2))
        assert blocks.stat().st_size == sum(reader.line(name).bytes for name in reader)


def test_kill_9_leaves_a_readable_cache(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from test_topk import some, source
from reasondistill.models.topk import TopKWriter
with TopKWriter(Path(sys.argv[1]), source()) as writer:
    for i in range(10**9):
        writer.append([(f"p/{i}:0", some(50 + i % 7, 4, seed=i))])
        print(i, flush=True)
"""
    environment = os.environ | {
        "PYTHONPATH": ":".join(str(folder) for folder in Path(__file__).parents[:3])
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(signal.SIGKILL)
    told = max([told, *map(int, process.stdout.read().split())])
    process.wait()
    write(tmp_path, {"last:0": some(3, 4)})
    with TopKReader(tmp_path) as reader:
        assert told + 2 <= len(reader) <= told + 3
        for i in range(told + 1):
            assert_same(reader.read(f"p/{i}:0"), some(50 + i % 7, 4, seed=i))


def test_a_damaged_block_is_refused_by_name_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4), "p/0:1": some(6, 4, seed=1)})
    blocks = bytearray((tmp_path / "topk.bin").read_bytes())
    blocks[-3] ^= 1
    (tmp_path / "topk.bin").write_bytes(blocks)
    with TopKReader(tmp_path) as reader:
        assert_same(reader.read("p/0:0"), some(5, 4))
        with pytest.raises(DataError, match=r"topk\.bin: trace p/0:1 is damaged"):
            reader.read("p/0:1")
        with pytest.raises(DataError, match=r"no trace p/9:0"):
            reader.read("p/9:0")


def as_an_earlier_version(folder: Path) -> None:
    """Nothing is listed beside what an earlier version left unfinished."""
    for path in folder.glob("*.sums"):
        path.unlink()


def test_the_top_k_of_samples_that_are_drawn_again_is_forgotten(tmp_path: Path) -> None:
    rows = {f"p/0:{sample}": some(5, 4, seed=sample) for sample in range(3)}
    write(tmp_path / "topk", rows)
    forget_all_but(tmp_path, {"p/0:0", "p/0:2", "p/1:0"})
    write(tmp_path / "topk", {"p/0:1": some(6, 4, seed=7)})
    index = (tmp_path / "topk" / "topk.jsonl").read_text().splitlines()
    assert [json.loads(line)["trace_id"] for line in index] == ["p/0:0", "p/0:2", "p/0:1"]
    with TopKReader(tmp_path / "topk") as reader:
        assert_same(reader.read("p/0:0"), rows["p/0:0"])
        assert_same(reader.read("p/0:1"), some(6, 4, seed=7))


def test_a_damaged_index_line_is_another_traces_no_longer_and_is_captured_again(
    tmp_path: Path,
) -> None:
    write(tmp_path, {f"p/0:{i}": some(5, 4, seed=i) for i in range(4)})
    index = tmp_path / "topk.jsonl"
    index.write_text(index.read_text().replace("p/0:1", "p/0:2"))
    write(tmp_path, {"p/0:1": some(5, 4, seed=1)})
    with TopKReader(tmp_path) as reader:
        for i in range(4):
            assert_same(reader.read(f"p/0:{i}"), some(5, 4, seed=i))


@pytest.mark.parametrize("kind", ["edited", "deleted", "list"])
def test_a_damaged_header_of_an_unfinished_cache_is_put_back(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"p/0:0": some(5, 4)})
    header, beside = tmp_path / "topk.json", tmp_path / "topk.json.sums"
    whole = header.read_bytes()
    if kind == "edited":
        header.write_bytes(whole.replace(b'"k": 4', b'"k": 5'))
    elif kind == "deleted":
        header.unlink()
    else:
        beside.write_bytes(beside.read_bytes()[:20])
    mend_header(tmp_path)
    write(tmp_path, {"p/0:1": some(5, 4, seed=1)})
    assert header.read_bytes() == whole and "put back from .topk.copy.json" in caplog.text
    with TopKReader(tmp_path) as reader:
        assert_same(reader.read("p/0:1"), some(5, 4, seed=1))


def test_a_header_that_nothing_vouches_for_is_refused_and_a_vocabulary_is_written_again(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"p/0:0": some(5, 4)})
    vocabulary, header = tmp_path / "vocabulary.json", tmp_path / "topk.json"
    whole = vocabulary.read_text()
    vocabulary.write_text(whole.replace("1", "7"))
    write(tmp_path, {"p/0:1": some(5, 4)})
    assert vocabulary.read_text() == whole
    vocabulary.unlink()
    write(tmp_path, {"p/0:1": some(5, 4)})
    assert vocabulary.read_text() == whole
    write(tmp_path, {"p/0:2": some(5, 4)}, k=5, model="other@1")  # a header that changes is right
    for path in (header, tmp_path / ".topk.copy.json"):
        path.write_text(
            path.read_text().replace('"vocabulary_size": 320', '"vocabulary_size": 328')
        )
    with pytest.raises(DataError, match=r"topk.json:\d+: damaged"):
        write(tmp_path, {"p/0:3": some(5, 4)})


def test_a_lying_index_line_is_damage_too(tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4)})
    line = json.loads((tmp_path / "topk.jsonl").read_text())
    (tmp_path / "topk.jsonl").write_text(json.dumps(line | {"tokens": 6}) + "\n")
    with TopKReader(tmp_path) as reader, pytest.raises(DataError, match="no trace p/0:0"):
        reader.read("p/0:0")
    as_an_earlier_version(tmp_path)
    with TopKReader(tmp_path) as reader, pytest.raises(DataError, match="is damaged"):
        reader.read("p/0:0")
    block = (tmp_path / "topk.bin").read_bytes()
    assert line["crc32"] == zlib.crc32(block) and line["bytes"] == len(block)


ODD = (None, "x", "3", [], [1], {}, {"a": "b"}, 1.5, True, -1, 10**30, float("nan"))


@pytest.mark.parametrize("field", ["trace_id", "offset", "bytes", "tokens", "k", "crc32"])
def test_a_strangers_index_is_checked_line_by_line(field: str, tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4), "p/0:1": some(5, 4)})
    as_an_earlier_version(tmp_path)
    index = tmp_path / "topk.jsonl"
    first, second = index.read_text().splitlines()
    line = json.loads(second)
    missing = {name: value for name, value in line.items() if name != field}
    is_name = field == "trace_id"
    odd = [line | {field: value} for value in ODD if not (is_name and isinstance(value, str))]
    for changed in (*odd, missing, [line], "line", None):
        index.write_text(f"{first}\n{json.dumps(changed)}\n")
        for read in (TopKReader, cut_what_is_torn):
            as_an_earlier_version(tmp_path)
            with pytest.raises(DataError, match=r"topk\.jsonl:2: not a"):
                read(tmp_path)
    index.write_text(f"{first}\n{json.dumps(line | {'note': 1})}\n")  # of another version
    as_an_earlier_version(tmp_path)
    with TopKReader(tmp_path) as reader:
        assert_same(reader.read("p/0:1"), some(5, 4))


@pytest.mark.parametrize("value", [None, [], "x", 3, *({"a": odd} for odd in ODD)])
def test_a_strangers_vocabulary_is_checked(value: Any, tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4)})
    as_an_earlier_version(tmp_path)
    write_json(tmp_path / "vocabulary.json", value)
    with pytest.raises(DataError, match=r"vocabulary\.json: not a vocabulary"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("field", ["k", "vocabulary_size", "id_bytes", "models", "tokenizer"])
def test_a_strangers_header_is_checked(field: str, tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4)})
    as_an_earlier_version(tmp_path)
    header = json.loads((tmp_path / "topk.json").read_text())
    for value in (None, {}, 1.5, -1, 10**30):
        write_json(tmp_path / "topk.json", header | {field: value})
        with pytest.raises(DataError, match="not the header"):
            TopKReader(tmp_path)


def test_ids_beyond_the_vocabulary_are_no_ids(tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4, vocabulary=70_000)}, size=70_000)
    as_an_earlier_version(tmp_path)
    header = json.loads((tmp_path / "topk.json").read_text())
    write_json(tmp_path / "topk.json", header | {"vocabulary_size": 320})
    with TopKReader(tmp_path) as reader, pytest.raises(DataError, match="beyond the 320 tokens"):
        reader.read("p/0:0")


def test_a_missing_unreadable_or_newer_cache_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no top-K cache. Set \[traces\] logprobs = 16"):
        TopKReader(tmp_path)
    write(tmp_path / "topk", {})
    as_an_earlier_version(tmp_path / "topk")
    header = json.loads((tmp_path / "topk" / "topk.json").read_text())
    write_json(tmp_path / "topk" / "topk.json", header | {"version": 2})
    with pytest.raises(DataError, match="version 2 of the format"):
        TopKReader(tmp_path / "topk")
    write_json(tmp_path / "topk" / "topk.json", {})
    with pytest.raises(DataError, match="not the header"):
        TopKReader(tmp_path / "topk")


def test_its_identity_is_what_it_holds_wherever_that_lies(tmp_path: Path) -> None:
    rows = {f"p/{i}:0": some(5, 4, seed=i) for i in range(3)}

    def identity(name: str, rows: dict[str, TopK], **values: Any) -> str:
        with TopKReader(write(tmp_path / name, rows, **values)) as reader:
            return reader.identity()

    first = identity("a", rows)
    assert identity("b", dict(reversed(rows.items()))) == first
    write(tmp_path / "c", {"p/1:0": some(9, 4)})
    assert identity("c", rows) == first, "an overtaken block does not count"
    assert identity("d", rows | {"p/1:0": some(5, 4, seed=9)}) != first
    assert identity("e", rows, tokens=("a", "b", "d")) != first


# ---- tokenizers ----------------------------------------------------------------------------------


def test_equal_tokenizers_have_equal_fingerprints_and_one_added_token_is_told() -> None:
    one, same, other = make_tokenizer(), make_tokenizer(), make_tokenizer()
    other.add_tokens(["<tool>"])
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(same) != tokenizer_fingerprint(other)
    assert unequal_tokens(one, same) == []
    assert unequal_tokens(one, other) == [f"id {len(one)}: nothing here, '<tool>' there"]


def test_the_first_unequal_ids_are_shown_and_the_rest_counted() -> None:
    a = {token: number for number, token in enumerate("abcdefgh")}
    assert unequal_ids(a, {**a, "a": 1, "b": 0}) == [
        "id 0: 'a' here, 'b' there",
        "id 1: 'b' here, 'a' there",
    ]
    assert unequal_ids(a, {}, most=2) == [
        "id 0: 'a' here, nothing there",
        "id 1: 'b' here, nothing there",
        "and 6 more",
    ]


def test_a_student_with_other_tokens_is_refused_by_token(tmp_path: Path) -> None:
    teacher, student = make_tokenizer(), make_tokenizer()
    student.add_tokens(["<tool>"])
    with TopKWriter(tmp_path, Source("tiny@1", 4, vocabulary_of(teacher), 320)):
        pass
    with TopKReader(tmp_path) as reader:
        assert reader.tokenizer == tokenizer_fingerprint(teacher)
        reader.check_tokenizer(make_tokenizer())
        with pytest.raises(
            ConfigError,
            match=r"tiny@1.*do not have the same tokens \(id \d+: nothing here, '<tool>' there",
        ):
            reader.check_tokenizer(student)


def test_one_cache_holds_one_vocabulary_but_any_number_of_models(tmp_path: Path) -> None:
    write(tmp_path, {"p/0:0": some(5, 4)})
    write(tmp_path, {"p/1:0": some(5, 4)}, model="small@1")
    with TopKReader(tmp_path) as reader:
        assert reader.models == ("tiny@1", "small@1")
    with pytest.raises(ConfigError, match=r"not those of other@1 \(id 1: 'b' here, 'x' there\)"):
        TopKWriter(tmp_path, source(model="other@1", tokens=("a", "x", "c")))


# ---- settings ------------------------------------------------------------------------------------


def test_a_teacher_without_log_probabilities_is_refused_by_key() -> None:
    with pytest.raises(
        ValidationError,
        match='logprobs: gpt-x .sampler = "openai". gives no log-probabilities.*logprobs_model',
    ):
        settings(logprobs=16, teachers=({"model": "gpt-x", "sampler": "openai"},))
    with pytest.raises(ValidationError, match="logprobs_model: has no effect without logprobs"):
        settings(logprobs_model="m")
    with pytest.raises(ValidationError, match="logprobs_model: every teacher runs in vLLM"):
        settings(logprobs=16, logprobs_model="m", teachers=({"model": "m"},))
    for bad in (0, 1025):
        with pytest.raises(ValidationError, match="logprobs"):
            settings(logprobs=bad, teachers=({"model": "m"},))


# ---- the stage, with a teacher that needs no engine ----------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


class Fake(SamplerBase):
    """A scripted teacher whose rivals at each place are a function of the token there; it remembers
    what it was asked.
    """

    def __init__(self, model: str, script: Callable[[Request], str | Completion] = text_of) -> None:
        super().__init__()
        self.model, self.tokenizer, self.vocabulary_size = model, make_tokenizer(), 320
        self.script = script
        self.drawn: list[str] = []
        self.scored: list[Written] = []
        self.opened = 0

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        ids = self.tokenizer("\n".join(message.content for message in messages))["input_ids"]
        return Rendered(messages, tuple(ids))

    def start(self) -> None:
        self.opened += 1

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        for request in requests:
            self.drawn.append(request.id)
            text = self.script(request)
            if isinstance(text, Completion):
                yield Sampled(request, text)
                continue
            ids = [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]
            yield Sampled(
                request,
                split_words(text, request, 3),
                rivals(ids, request.logprobs) if request.logprobs else None,
            )

    def score(self, written: Iterable[Written]) -> Iterator[Scored]:
        for one in written:
            if self.should_stop():
                return
            self.scored.append(one)
            yield Scored(one, rivals(one.token_ids, one.logprobs))


def rivals(token_ids: Sequence[int], k: int) -> TopK:
    own = np.array(token_ids, np.int32)
    ids = (own[:, None] + np.arange(k, dtype=np.int32)) % 320
    return TopK(own, ids, -(ids % 7).astype(np.float32))


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "1-problems")


@pytest.fixture
def fake(tiny: Path) -> Fake:
    return Fake(model_identity(str(tiny)))


def run(
    problems: Path, folder: Path, sampler: SamplerBase | None, tiny: Path, **values: Any
) -> Any:
    stop, limit = values.pop("stop", None), values.pop("limit", None)

    def opens(teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]) -> Any:
        assert sampler is not None, "opened although nothing is missing"
        return sampler

    teacher = {"model": str(tiny), "sampler": "vllm"}
    asked = settings(**({"teachers": (teacher,)} | values))
    return run_traces(
        asked, problems, folder, Serving(CLUSTER, opens), Session(stop=stop), limit=limit
    )


def test_every_trace_gets_its_top_k_and_the_manifest_its_figures(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    manifest = run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert set(reader) == {trace.id for trace in traces_in(tmp_path / "t")}
        assert (reader.k, reader.models, reader.vocabulary_size) == (4, (fake.model,), 320)
        reader.check_tokenizer(make_tokenizer())
        assert manifest.figures["topk_k"] == 4
        assert manifest.figures["topk_tokens"] == reader.tokens
        assert manifest.figures["topk_bytes"] == reader.bytes
        assert manifest.figures["topk_bytes_per_token"] == round(reader.bytes / reader.tokens, 2)
        assert "topk_missing" not in manifest.figures
    assert fake.scored == []


def test_the_samples_and_what_is_made_of_them_are_the_same_with_and_without(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    without = run(problems, tmp_path / "a", fake, tiny)
    with_cache = run(problems, tmp_path / "b", fake, tiny, logprobs=4)
    assert (tmp_path / "a" / "traces.jsonl").read_bytes() == (
        tmp_path / "b" / "traces.jsonl"
    ).read_bytes()
    assert (without.fingerprint, without.output) == (with_cache.fingerprint, with_cache.output)
    assert not (tmp_path / "a" / "topk").exists()


def test_a_finished_folder_is_captured_later_and_nothing_is_drawn(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    first = run(problems, tmp_path / "t", fake, tiny)
    fake.drawn.clear()
    later = run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    assert (fake.drawn, len(fake.scored)) == ([], 16)
    assert (later.output, later.fingerprint, later.counts) == (
        first.output,
        first.fingerprint,
        first.counts,
    )
    assert later.figures["topk_k"] == 4 and "topk_missing" not in later.figures
    again = run(problems, tmp_path / "t", None, tiny, logprobs=4)
    assert again == later
    assert run(problems, tmp_path / "t", None, tiny, logprobs=2) == later, (
        "a smaller K is there already"
    )
    assert run(problems, tmp_path / "t", None, tiny) == later


def test_what_an_earlier_pass_could_not_score_is_not_said_of_a_later_one(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    first = run(problems, tmp_path / "t", fake, tiny, logprobs=2)
    figures = first.figures | {"topk_missing": 3, "of_tomorrow": 1}
    write_manifest(tmp_path / "t", replace(first, figures=figures))
    later = run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    assert later.figures["topk_k"] == 4 and "topk_missing" not in later.figures
    assert later.figures["of_tomorrow"] == 1


def test_a_stored_text_is_scored_as_a_student_tokenises_it(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    def script(request: Request) -> str:
        return "<think> 1 + 1 </think>\\boxed{2}" if request.id.endswith(":0") else "x " * 3000

    fake.script = script
    run(problems, tmp_path / "t", fake, tiny)
    run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    by_id = {one.id: one for one in fake.scored}
    decode, eos = fake.tokenizer.decode, fake.tokenizer.eos_token_id
    assert (
        decode(by_id["sums/train/0:0"].token_ids)
        == "<think>\n1 + 1\n</think>\n\n\\boxed{2}<|im_end|>"
    )
    assert decode(by_id["sums/train/0:0"].prompt_ids) == "What is 0+1?"
    assert by_id["sums/train/0:1"].token_ids[-1] != eos, "a trace that was cut off has no end"


def test_special_tokens_that_a_stored_text_quotes_are_scored_as_text(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    quoted = "<think>\nsay <|im_end|> and <think>\n</think>\n\n<|endoftext|>2"
    fake.script = lambda request: quoted
    run(problems, tmp_path / "t", fake, tiny)
    run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    for one in fake.scored:
        assert [token for token in one.token_ids if token < 5] == [3, 4, 2]
        assert fake.tokenizer.decode(one.token_ids) == quoted + "<|im_end|>"


def test_a_larger_k_is_captured_again_from_the_very_tokens_that_were_drawn(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    fake.script = lambda request: "<think>a\n\n</think>   spaces that a student never sees"
    run(problems, tmp_path / "t", fake, tiny, logprobs=2)
    with TopKReader(tmp_path / "t" / "topk") as reader:
        old = reader.read("sums/train/0:0")
        before = reader.identity()
    manifest = run(problems, tmp_path / "t", fake, tiny, logprobs=8)
    assert len(fake.scored) == 16
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert (reader.k, manifest.figures["topk_k"]) == (8, 8)
        np.testing.assert_array_equal(reader.read("sums/train/0:0").token_ids, old.token_ids)
        np.testing.assert_array_equal(reader.read("sums/train/0:0", k=2).ids, old.ids)
        assert reader.identity() != before


def test_more_samples_of_a_folder_without_a_cache_open_the_engine_once(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    run(problems, tmp_path / "t", fake, tiny)
    fake.drawn.clear()
    fake.opened = 0
    manifest = run(problems, tmp_path / "t", fake, tiny, n=3, logprobs=4)
    assert (len(fake.drawn), len(fake.scored), fake.opened) == (8, 16, 1)
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert len(reader) == 24 and manifest.figures["topk_tokens"] == reader.tokens


def test_a_folder_that_grew_without_capture_is_completed_later(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    assert "topk_k" not in run(problems, tmp_path / "t", fake, tiny, n=3).figures
    run(problems, tmp_path / "t", fake, tiny, n=3, logprobs=4)
    assert sorted(one.id for one in fake.scored) == [f"sums/train/{i}:2" for i in range(8)]


def test_a_failed_sample_has_no_top_k_until_it_is_drawn_again(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    fake.script = lambda request: (
        failed("server said 500") if request.id.startswith("sums/train/2:") else text_of(request)
    )
    first = run(problems, tmp_path / "t", fake, tiny, logprobs=4, failures_allowed=0.2)
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert len(reader) == 14 and "sums/train/2:0" not in reader
    assert "topk_missing" not in first.figures
    fake.script = text_of
    run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert len(reader) == 16


def test_a_stop_while_drawing_goes_on_to_a_whole_cache(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    stop = StopSignal()

    def script(request: Request) -> str:
        stop.requested = request.id == "sums/train/2:1" or stop.requested
        return text_of(request)

    fake.script = script
    with pytest.raises(Interrupted):
        run(problems, tmp_path / "t", fake, tiny, logprobs=4, stop=stop)
    ids = {trace.id for trace in traces_in(tmp_path / "t")}
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert ids == set(reader) and len(ids) == 6
    fake.script = text_of
    run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    run(problems, tmp_path / "whole", fake, tiny, logprobs=4)
    with TopKReader(tmp_path / "t" / "topk") as a, TopKReader(tmp_path / "whole" / "topk") as b:
        assert a.identity() == b.identity() and len(a) == 16
    assert fake.scored == []


def test_a_stop_in_the_second_pass_keeps_what_it_has(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    run(problems, tmp_path / "t", fake, tiny)

    class Stopping(StopSignal):
        """Asked to stop once five are scored."""

        @property
        def requested(self) -> bool:
            return len(fake.scored) >= 5

        @requested.setter
        def requested(self, value: bool) -> None: ...

    with pytest.raises(Interrupted):
        run(problems, tmp_path / "t", fake, tiny, logprobs=4, stop=Stopping())
    with TopKReader(tmp_path / "t" / "topk") as reader:
        assert len(reader) == 5
    manifest = read_manifest(tmp_path / "t")
    assert manifest is not None and manifest.status == "complete", "the traces themselves are whole"
    fake.scored.clear()
    run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    assert len(fake.scored) == 11


def test_other_peoples_traces_are_scored_by_the_model_that_the_file_names(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    opened: list[str] = []

    def opens(teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]) -> Any:
        opened.append(teacher.sampler)
        return fake if teacher.sampler == "vllm" else open_sampler(teacher, cluster, problems)

    reference = ({"model": "reference", "sampler": "reference"},)
    asked = settings(n=1, logprobs=4, logprobs_model=str(tiny), teachers=reference)
    manifest = run_traces(asked, problems, tmp_path / "t", Serving(CLUSTER, opens))
    assert opened == ["reference", "vllm"] and manifest.figures["topk_k"] == 4
    with TopKReader(tmp_path / "t" / "topk") as reader:
        text = fake.tokenizer.decode(reader.read("sums/train/3:0").token_ids)
        assert text == "<think>\n3 and one more make 4.\n</think>\n\n\\boxed{4}<|im_end|>"
        assert len(reader) == 8
    assert run_traces(asked, problems, tmp_path / "t", Serving(CLUSTER, opens)) == manifest
    other = make_tiny_model(tmp_path / "other", seed=1)
    moved = asked.model_copy(update={"logprobs_model": str(other)})
    with pytest.raises(
        ConfigError, match=r"holds log-probabilities of tiny@.*not of other@.*Remove that folder"
    ):
        run_traces(moved, problems, tmp_path / "t", Serving(CLUSTER, opens))


def test_teachers_with_different_tokens_are_refused_before_anything_is_drawn(
    problems: Path, tmp_path: Path, tiny: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(other)
    two = ({"model": str(tiny)}, {"model": str(other)})
    with pytest.raises(
        ConfigError, match="do not have the same tokens.*<tool>.*One cache holds one vocabulary"
    ):
        run(problems, tmp_path / "t", None, tiny, logprobs=4, teachers=two)
    assert not (tmp_path / "t").exists()


def test_more_tokens_than_the_vocabulary_has_are_refused(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    with pytest.raises(ConfigError, match="logprobs = 1000: tiny@.* has no more than 320 tokens"):
        run(problems, tmp_path / "t", fake, tiny, logprobs=1000)


def test_an_engine_that_tells_no_log_probabilities_is_refused(
    problems: Path, tmp_path: Path, tiny: Path
) -> None:
    with pytest.raises(ConfigError, match="gives no log-probabilities; only vLLM does"):
        run(problems, tmp_path / "t", ScriptedSampler(text_of), tiny, logprobs=4)


def test_a_trace_that_cannot_be_scored_is_counted_and_not_tried_again(
    problems: Path, tmp_path: Path, tiny: Path, fake: Fake
) -> None:
    fake.script = lambda request: (
        "broken \ud800" if request.id == "sums/train/1:0" else text_of(request)
    )
    plain = Fake(fake.model, fake.script)
    plain.tokenizer = type(
        "Bytes", (), {"__call__": lambda self, text: {"input_ids": []}, "eos_token_id": 0}
    )()
    run(problems, tmp_path / "t", plain, tiny)
    manifest = run(problems, tmp_path / "t", fake, tiny, logprobs=4)
    assert manifest.figures["topk_missing"] == 1 and len(fake.scored) == 15
    assert run(problems, tmp_path / "t", None, tiny, logprobs=4) == manifest


# ---- with a real engine --------------------------------------------------------------------------


class Kept(VllmSampler):
    """An engine that outlives the stages that use it."""

    def close(self) -> None: ...


class Flat(Kept):
    """As on a vLLM that has no place for our own collector."""

    def _collect(self, engine_id: str, k: int) -> None:
        return None


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[Kept]:
    with Kept(
        str(tiny), max_num_seqs=8, cpu_kvcache_gib=1, gpu_memory_utilization=0.3, dtype="float32"
    ) as sampler:
        sampler.max_logprobs, sampler.scores = 64, True
        sampler.start()
        yield sampler
    VllmSampler.close(sampler)


def drawn(sampler: VllmSampler, k: int, count: int = 12, **values: Any) -> list[Sampled]:
    sampling = Sampling.model_validate({"max_tokens": 40, "temperature": 1.0} | values)
    rendered = sampler.render((Message(role="user", content="What is 1+1?"),), plain=False)
    requests = [
        Request(f"p/0:{i}", f"{i:016x}", rendered, sampling, seed_of(f"{i * 7919:016x}"), k)
        for i in range(count)
    ]
    return sorted(sampler.sample(requests), key=lambda sampled: sampled.request.id)


def reference(
    tiny: Path, prompt_ids: Sequence[int], token_ids: Sequence[int]
) -> np.ndarray[Any, Any]:
    """(tokens, vocabulary) log-softmax by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt_ids, *token_ids]])).logits[0]
    return logits[len(prompt_ids) - 1 : -1].log_softmax(-1).numpy()


@pytest.mark.engine
@pytest.mark.parametrize("k", [1, 16, 64])
def test_what_is_captured_is_transformers_log_softmax(engine: Kept, tiny: Path, k: int) -> None:
    for sampled in drawn(engine, k, 6, temperature=0.7, top_p=0.5):
        assert sampled.top_k is not None
        top_k = unpack(pack(sampled.top_k, 2), len(sampled.top_k.token_ids), k, 2)
        wanted = reference(tiny, sampled.request.rendered.token_ids or (), top_k.token_ids.tolist())
        assert sampled.completion.tokens == len(top_k.token_ids) == len(wanted)
        there = np.take_along_axis(wanted, top_k.ids, 1)
        np.testing.assert_allclose(sampled.top_k.log_probs, there, atol=1e-4)
        np.testing.assert_allclose(top_k.log_probs, there, rtol=5e-4, atol=1e-3)
        np.testing.assert_allclose(
            top_k.log_probs, -np.sort(-wanted)[:, :k], rtol=5e-4, atol=1e-3
        )  # the K best, best first
        assert all(len(set(row)) == k for row in top_k.ids.tolist())


@pytest.mark.engine
def test_texts_are_the_same_with_and_without_capture_and_an_eos_is_listed(engine: Kept) -> None:
    with_capture, without = (
        drawn(engine, 16, 24, max_tokens=200),
        drawn(engine, 0, 24, max_tokens=200),
    )
    alike = [
        (a.completion.model_dump(exclude={"seconds"}), b.completion.model_dump(exclude={"seconds"}))
        for a, b in zip(with_capture, without, strict=True)
    ]
    assert all(a == b for a, b in alike)
    assert all(sampled.top_k is None for sampled in without)
    stopped = [sampled.top_k for sampled in with_capture if sampled.completion.finish == "stop"]
    assert stopped and all(
        top_k is not None and top_k.token_ids[-1] == engine.tokenizer.eos_token_id
        for top_k in stopped
    )


@pytest.mark.engine
def test_a_second_pass_finds_what_was_captured_while_generating(engine: Kept) -> None:
    sampled = {one.request.id: one for one in drawn(engine, 16, 12, max_tokens=200)}
    written = [
        Written(name, one.request.rendered.token_ids or (), tuple(one.top_k.token_ids.tolist()), 16)
        for name, one in sampled.items()
        if one.top_k is not None
    ]
    scored = list(engine.score(written))
    assert len(scored) == 12
    for one in scored:
        first = sampled[one.written.id].top_k
        assert first is not None and one.top_k is not None
        np.testing.assert_allclose(one.top_k.log_probs, first.log_probs, atol=1e-4)
        assert (one.top_k.ids == first.ids).mean() > 0.99, "near ties may change places"


@pytest.mark.engine
def test_a_trace_that_fills_the_context_is_scored_and_a_longer_one_refused(engine: Kept) -> None:
    context = engine.max_model_len or 0
    prompt = (
        engine.render((Message(role="user", content="What is 1+1?"),), plain=False).token_ids or ()
    )
    full = tuple(range(10, 300)) * 2
    fits, too_long = full[: context - len(prompt)], full[: context - len(prompt) + 1]
    by_id = {
        one.written.id: one
        for one in engine.score(
            [
                Written("long", prompt, too_long, 4),
                Written("fits", prompt, fits, 4),
                Written("one", prompt, (5,), 4),
            ]
        )
    }
    assert by_id["fits"].top_k is not None and by_id["fits"].top_k.ids.shape == (len(fits), 4)
    assert by_id["one"].top_k is not None and by_id["one"].top_k.ids.shape == (1, 4)
    assert by_id["long"].top_k is None and by_id["long"].error


@pytest.mark.engine
def test_the_flat_lists_of_vllm_say_the_same(engine: Kept, tiny: Path) -> None:
    flat = Flat(str(tiny), max_num_seqs=8, cpu_kvcache_gib=1)
    flat._llm, flat.max_model_len = engine._llm, engine.max_model_len
    for ours, theirs in zip(drawn(engine, 16), drawn(flat, 16), strict=True):
        assert ours.top_k is not None and theirs.top_k is not None
        assert_same(ours.top_k, theirs.top_k, rtol=0)
    one = drawn(engine, 4, 1)[0]
    assert one.top_k is not None
    written = [
        Written("a", one.request.rendered.token_ids or (), tuple(one.top_k.token_ids.tolist()), 4)
    ]
    (ours,), (theirs,) = engine.score(written), flat.score(written)
    assert ours.top_k is not None and theirs.top_k is not None
    assert_same(ours.top_k, theirs.top_k, rtol=0)


@pytest.mark.engine
def test_the_stage_captures_on_vllm_and_again_after_the_fact(
    engine: Kept, tiny: Path, problems: Path, tmp_path: Path
) -> None:
    import torch

    threads = torch.get_num_threads()
    VllmSampler.close(engine)
    vllm = settings(teachers=({"model": str(tiny), "sampler": "vllm"},), max_tokens=24, logprobs=32)
    first = run_traces(vllm, problems, tmp_path / "a", Serving(CLUSTER))
    run_traces(
        vllm.model_copy(update={"logprobs": None}), problems, tmp_path / "b", Serving(CLUSTER)
    )
    assert (tmp_path / "a" / "traces.jsonl").read_bytes().count(b"\n") == 16
    later = run_traces(vllm, problems, tmp_path / "b", Serving(CLUSTER))
    assert first.figures["topk_k"] == later.figures["topk_k"] == 32
    texts = [
        [
            (t.id, t.completion.reasoning, t.completion.answer_text)
            for t in traces_in(tmp_path / name)
        ]
        for name in "ab"
    ]
    assert texts[0] == texts[1]
    with TopKReader(tmp_path / "a" / "topk") as a, TopKReader(tmp_path / "b" / "topk") as b:
        assert set(a) == set(b) and len(a) == 16
        assert all(
            a.line(trace.id).tokens == trace.completion.tokens
            for trace in traces_in(tmp_path / "a")
        )
        prompt = load_prompt("question").prompt
        asked = {
            problem.id: problem for problem in read_records(problems / "problems.jsonl", Problem)
        }
        sampler = VllmSampler(str(tiny))
        for trace in traces_in(tmp_path / "b")[::5]:
            rendered = sampler.render(
                prompt.render(asked[trace.problem_id].question), plain=prompt.plain
            )
            top_k = b.read(trace.id)
            wanted = reference(tiny, rendered.token_ids or (), top_k.token_ids.tolist())
            np.testing.assert_allclose(
                top_k.log_probs, np.take_along_axis(wanted, top_k.ids, 1), rtol=5e-4, atol=1e-3
            )
    torch.set_num_threads(threads)
