"""Training and distillation losses on one GPU, beside TRL and Liger. Nothing is loaded from
anywhere: weights and tokens are random.

    python tests/perf/gpu/bench.py [--only sft,kd,divergences] [--tokens 8192] [--attention sdpa]
    [--out bench-gpu.json]

Wants torch, transformers, accelerate, trl, datasets and what reasondistill imports; Liger where it
is installed. A library that runs out of memory, or cannot do it, is a row that says so. Exit code 1
when our own way failed otherwise than for want of memory. Without a GPU everything runs at a tiny
shape, and every line says so. Results are written after each row: a run that is killed leaves what
it had.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
# Sizes change from row to row: without it a freed 10 GB block may be of no use to the next row.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

# The environment has to come first.
import divergences
import training
from device import OUT_OF_MEMORY, find_device

from reasondistill.runs.environment import describe_environment

PARTS = ("sft", "kd", "divergences")


def main() -> int:
    given = arguments()
    device, parts = find_device(), set(given.only.split(","))
    found: dict[str, Any] = {
        "device": device.name,
        "peak_tflops": device.peak_tflops,
        "memory_gib": device.memory_gib,
        "note": device.note,
        "environment": describe_environment().to_dict(),
        "training": [],
        "divergences": [],
    }
    if parts & {"sft", "kd"}:
        for row in training.bench(device, parts, given.tokens, given.attention):
            keep(found, "training", row, given.out)
    if "divergences" in parts:
        for row in divergences.bench(device, given.tokens):
            keep(found, "divergences", row, given.out)
    print(f"\n{given.out} · {device.title}")
    own = [
        row["failed"] for row in found["training"] + found["divergences"] if row["way"] == "ours"
    ]
    return int(any(failed not in (None, OUT_OF_MEMORY) for failed in own))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument(
        "--tokens",
        type=_numbers,
        default=(),
        help="tokens of a step, or of a loss, instead of all sizes: 8192,16384",
    )
    parser.add_argument(
        "--attention",
        default="sdpa",
        help="an attention of transformers: sdpa, flex_attention, flash_attention_2",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("OUT", ".")) / "bench-gpu.json",
        help="default: in folder $OUT, or here",
    )
    given = parser.parse_args()
    if unknown := set(given.only.split(",")) - set(PARTS):
        parser.error(f"--only {', '.join(sorted(unknown))}: known are {', '.join(PARTS)}")
    return given


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def keep(found: dict[str, Any], part: str, row: dict[str, Any], path: Path) -> None:
    found[part].append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
