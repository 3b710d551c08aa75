"""The traces of the demo's problems by Ray's own batch inference (`ray.data.llm`) and by our
worker, on one engine each.

    python tests/perf/bench_ray_llm.py [--problems 600] [--max-num-seqs 64] [--rounds 3]

Both run vLLM on the shipped teacher in a Ray that is started here, with the same engine settings,
prompts and sampling, in turns. Told: seconds from handing in to the last record on disk, the
engine's start included, and generated tokens per second of them. Theirs writes Parquet and draws
without seeds per sample; ours is resumable per sample.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CLUSTER = """\
kind = "ray"
[vllm]
dtype = "float32"
enforce_eager = true
max_num_seqs = {seats}
max_model_len = 512
cpu_kvcache_gib = 1
"""


def ours(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    (folder / "ray.toml").write_text(CLUSTER.format(seats=given.max_num_seqs))
    command = [
        sys.executable,
        "-m",
        "reasondistill",
        "run",
        "demo",
        "--on",
        "ray.toml",
        "--set",
        f"problems.limit={given.problems}",
    ]
    subprocess.run(
        [*command, "--only", "problems"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    started = time.perf_counter()
    subprocess.run(
        [*command, "--only", "traces"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - started
    rows = [
        json.loads(line)
        for line in (folder / "runs" / "demo" / "2-traces" / "traces.jsonl")
        .read_text()
        .splitlines()
    ]
    return {
        "seconds": seconds,
        "samples": len(rows),
        "tokens": sum(row["completion"]["tokens"] for row in rows),
    }


def theirs(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """In a process of its own: Ray ends with it."""
    words = ["--task", str(folder), "--max-num-seqs", str(given.max_num_seqs)]
    said = subprocess.run(
        [sys.executable, __file__, *words],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(said.splitlines()[-1])


def ray_data_llm(folder: Path, seats: int) -> dict[str, float]:
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from reasondistill.models.weights import model_folder

    problems = [
        json.loads(line)["question"]
        for line in (folder / "runs" / "demo" / "1-problems" / "problems.jsonl")
        .read_text()
        .splitlines()
    ]
    started = time.perf_counter()
    ray.init(
        num_cpus=8, include_dashboard=False, log_to_driver=False
    )  # each of their small stages takes one
    engine = {
        "dtype": "float32",
        "enforce_eager": True,
        "max_num_seqs": seats,
        "max_model_len": 512,
    }
    config = vLLMEngineProcessorConfig(
        model_source=str(model_folder("shipped:demo-teacher")),
        engine_kwargs=engine,
        batch_size=seats,
        concurrency=1,
        log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 1}]},
        runtime_env={
            "env_vars": {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_USE_RAY_V2_EXECUTOR_BACKEND": "0"}
        },
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "messages": [{"role": "user", "content": row["question"]}],
            "sampling_params": {"temperature": 0.7, "max_tokens": 192},
        },
        postprocess=lambda row: {
            "text": row["generated_text"],
            "tokens": row["num_generated_tokens"],
        },
    )
    place = folder / f"parquet-{time.time_ns()}"
    processor(ray.data.from_items([{"question": text} for text in problems])).write_parquet(
        str(place)
    )
    seconds = time.perf_counter() - started
    found = ray.data.read_parquet(str(place)).to_pandas()
    return {"seconds": seconds, "samples": len(found), "tokens": int(found["tokens"].sum())}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if given.task:
        print(json.dumps(ray_data_llm(Path(given.task), given.max_num_seqs)))
        return
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "ray.data.llm": []}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as name:
            for way, do in (("ours", ours), ("ray.data.llm", theirs)):
                row = do(Path(name), given)
                found[way].append(row)
                print(
                    f"{way}: {row['seconds']:.1f} s, {row['samples']} samples, "
                    f"{row['tokens'] / row['seconds']:,.0f} tokens/s",
                    flush=True,
                )
    speeds = {
        way: round(statistics.median(row["tokens"] / row["seconds"] for row in rows))
        for way, rows in found.items()
    }
    print(
        json.dumps(
            {
                "tokens_per_s": speeds,
                "ours_to_theirs": round(speeds["ours"] / speeds["ray.data.llm"], 2),
                "rounds": found,
            }
        )
    )


if __name__ == "__main__":
    main()
