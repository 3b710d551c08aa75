"""What the top-K cache costs: the traces stage with and without `logprobs = 16` on one running
engine, as JSON.

python tests/perf/bench_topk.py [--model FOLDER | --random 1k|152k|0.5b] [--problems 600]
[--max-tokens 192] [--rounds 5]

The problems are those of pipelines/demo.toml. Rounds alternate without, with, and with vLLM's own
flat lists in place of our collector; all draw the same samples. `overhead` compares the medians of
the rounds' wall times, `overhead_best` the fastest ones, `overhead_cpu` the medians of CPU time
(all threads, spinning ones included). Target: at most 10 %. `--random` makes a model of random
weights: 85M parameters with the demo teacher's vocabulary, 119M with 151,936 entries, or the shape
of Qwen2.5-0.5B, the smallest that is published with these. Then the second pass over a finished
folder, and reading all of it back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_model import CHAT_TEMPLATE
from traces_kit import settings

from reasondistill.config import Cluster, SampledModel, load_pipeline
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.vllm import VllmSampler
from reasondistill.models.topk import TopKReader
from reasondistill.records import Problem
from reasondistill.runs.store import Identity, Manifest, finish_stage, open_stage, write_records
from reasondistill.stages.problems import read_problems
from reasondistill.stages.traces import run_traces

K = 16
DEMO = Path(__file__).parents[2] / "pipelines" / "demo.toml"
SIZES = {
    "1k": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
    },
    "152k": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}


class Kept(VllmSampler):
    """An engine that outlives the stages that use it. `is_flat`: as on a vLLM that has no place for
    our collector.
    """

    is_flat = False

    def close(self) -> None: ...

    def _collect(self, engine_id: str, k: int):  # noqa: ANN202
        return None if self.is_flat else super()._collect(engine_id, k)


def make_problems(folder: Path, count: int) -> Path:
    source = load_pipeline(DEMO).problems
    assert source is not None
    read = read_problems(source.model_copy(update={"limit": count}), base=DEMO.parent)
    problems = [row for row in read if isinstance(row, Problem)][:count]
    open_stage(folder, Identity("problems", 1, {"count": count}, {}))
    write_records(folder / "problems.jsonl", problems)
    finish_stage(folder, counts={"in": count, "out": len(problems)}, seconds=0.0)
    return folder


def make_random_model(folder: Path, size: str) -> str:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from reasondistill.models.weights import model_folder

    if size == "1k":
        tokenizer = AutoTokenizer.from_pretrained(str(model_folder("shipped:demo-teacher")))
    else:
        words = ["<unk>", "<|im_end|>", *(f"w{i}" for i in range(151_934))]
        core = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
        )
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, unk_token="<unk>", eos_token="<|im_end|>"
        )
        tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        **SIZES[size],
    )
    config.eos_token_id, config.bos_token_id = tokenizer.eos_token_id, None
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def run(
    sampler: Kept, problems: Path, folder: Path, logprobs: int | None, given: argparse.Namespace
) -> tuple[float, float, Manifest]:
    """Seconds of wall and CPU time of one whole stage."""
    teacher = {"model": given.model, "sampler": "vllm"}
    asked = settings(
        max_tokens=given.max_tokens, temperature=0.7, n=1, teachers=(teacher,), logprobs=logprobs
    )

    def opens(teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]) -> Kept:
        return sampler

    wall, cpu = time.perf_counter(), time.process_time()
    manifest = run_traces(asked, problems, folder, Serving(Cluster(), opens))
    return time.perf_counter() - wall, time.process_time() - cpu, manifest


def compare(root: Path, given: argparse.Namespace) -> dict[str, object]:
    if given.random:
        given.model = make_random_model(root / "model", given.random)
    problems = make_problems(root / "problems", given.problems)
    sampler = Kept(given.model, max_num_seqs=given.max_num_seqs)
    sampler.max_logprobs, sampler.scores = K, True
    sampler.start()
    run(sampler, problems, root / "warm-up", None, given)
    modes = {"without": (None, False), "with": (K, False), "flat": (K, True)}
    walls: dict[str, list[float]] = {name: [] for name in modes}
    cpus: dict[str, list[float]] = {name: [] for name in modes}
    for number in range(given.rounds):
        order = list(modes) if number % 2 == 0 else list(reversed(modes))
        for name in order:
            logprobs, sampler.is_flat = modes[name]
            wall, cpu, manifest = run(sampler, problems, root / f"{name}-{number}", logprobs, given)
            walls[name].append(wall)
            cpus[name].append(cpu)
    sampler.is_flat = False
    texts = [(root / f"{name}-0" / "traces.jsonl").read_text() for name in ("without", "with")]
    same = [
        [json.loads(line)["completion"]["answer_text"] for line in text.splitlines()]
        for text in texts
    ]
    second, _, later = run(sampler, problems, root / "without-0", K, given)
    VllmSampler.close(sampler)
    with TopKReader(root / "with-0" / "topk") as reader:
        started = time.perf_counter()
        tokens = sum(len(reader.read(name).token_ids) for name in reader)
        reading = time.perf_counter() - started
        per_token = (
            sum(reader.line(name).bytes for name in reader) / tokens,
            reader.bytes / tokens,
        )
        vocabulary = reader.vocabulary_size
    middle = {name: statistics.median(times) for name, times in walls.items()}
    middle_cpu = {name: statistics.median(times) for name, times in cpus.items()}
    return {
        "model": given.random or given.model,
        "vocabulary": vocabulary,
        "samples": later.counts["out"],
        "tokens": tokens,
        "same_texts": same[0] == same[1],
        "tokens_per_s": {name: round(tokens / seconds) for name, seconds in middle.items()},
        "overhead": round(middle["with"] / middle["without"] - 1, 3),
        "overhead_best": round(min(walls["with"]) / min(walls["without"]) - 1, 3),
        "overhead_cpu": round(middle_cpu["with"] / middle_cpu["without"] - 1, 3),
        "overhead_flat": round(middle["flat"] / middle["without"] - 1, 3),
        "overhead_flat_best": round(min(walls["flat"]) / min(walls["without"]) - 1, 3),
        "walls": {name: [round(seconds, 2) for seconds in times] for name, times in walls.items()},
        "bytes_per_token": round(per_token[0], 2),
        "bytes_per_token_with_index": round(per_token[1], 2),
        "second_pass_tokens_per_s": round(later.figures["topk_tokens"] / second),
        "reading_tokens_per_s": round(tokens / reading),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="shipped:demo-teacher", help="a model folder, hub id or shipped:NAME"
    )
    parser.add_argument("--random", choices=list(SIZES))
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        print(json.dumps(compare(Path(root), given)))


if __name__ == "__main__":
    main()
