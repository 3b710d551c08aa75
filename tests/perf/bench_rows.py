"""Anonymous memory of a training's rows, and what a second student pays for them.

    python tests/perf/bench_rows.py [--tokens 1000000 100000000]

For each number of tokens: made-up traces of about 4,000 tokens as a finished examples stage, and a
student of 2,000 parameters that trains two steps on them, in a process of its own; then a second
student of the same run. Prints what RssAnon (memory that no file backs) rose to, the seconds until
the first step of both, and how much of the first one's were the tokens. RssAnon may rise by 200 MiB
from 1M to 100M tokens, and the second student must not tokenise.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reasondistill.records import Example, Message

WORDS = [f"{a}{b}" for a in ("re", "sum", "mul", "car", "tri", "lo") for b in ("ta", "ne", "x1")]
TOKENS_EACH = 4_000
LIMIT_MIB = 200.0

TRAIN = """
import sys, time
from pathlib import Path
from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.models.prompts import load_prompt
from reasondistill.stages.students import StudentJob, run_student

folder, name = Path(sys.argv[1]), sys.argv[2]
shape = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1,
             num_attention_heads=1, vocab_size=300,
             max_position_embeddings=65536, tokenizer=str(folder / "tokenizer"))
student = StudentSettings(name=name, architecture=shape, max_steps=2, batch_size=2,
                          max_length=65536, learning_rate=1e-3)
job = StudentJob(student, load_prompt("think"), folder / "problems", folder / "examples",
                 folder / name, TrainSettings(micro_batch_size=1, threads=1),
                 tokens=folder / "tokens")
if __name__ == "__main__":
    run_student(job)
"""


def examples(tokens: int) -> Iterator[Example]:
    """Made-up traces; a byte-level tokenizer without merges makes a token of each character."""
    chance = random.Random(1)
    for number in range(max(8, tokens // TOKENS_EACH)):
        words = " ".join(chance.choices(WORDS, k=TOKENS_EACH // 5))
        turns = (
            Message(role="user", content=f"Problem {number}?"),
            Message(role="assistant", content=words),
        )
        yield Example(
            id=f"p/{number}:0",
            problem_id=f"p/{number}",
            trace_id=f"p/{number}:0",
            messages=turns,
            tokens=TOKENS_EACH,
            split="validation" if number % 1_000 == 7 else "train",
        )


def prepare(folder: Path, tokens: int) -> None:
    """The stages before a student, and a tokenizer."""
    from reasondistill.runs.store import Identity, finish_stage, open_stage, write_records
    from reasondistill.stages.students.bases import train_tokenizer

    for stage in ("problems", "examples"):
        open_stage(folder / stage, Identity(stage, 1, {}, {}))
    count = write_records(folder / "examples" / "examples.jsonl", examples(tokens))
    write_records(folder / "problems" / "problems.jsonl", [])
    for stage in ("problems", "examples"):
        finish_stage(folder / stage, counts={"in": count, "out": count}, seconds=0.0)
    train_tokenizer(["a"], 261).save_pretrained(folder / "tokenizer")


def trained(folder: Path, name: str) -> tuple[float, float]:
    """The most RssAnon (MiB) of a student's training, and its seconds."""
    log = folder / f"{name}.log"
    started = time.monotonic()
    with log.open("w") as said:
        command = [sys.executable, "-c", TRAIN, str(folder), name]
        process = subprocess.Popen(command, stdout=said, stderr=said)
        most = 0.0
        while process.poll() is None:
            most = max(most, anonymous_mib(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(log.read_text()[-3000:])
    return most, time.monotonic() - started


def anonymous_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
    return sum(sizes) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000, 100_000_000])
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    for tokens in arguments.tokens:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            prepare(folder, tokens)
            first_mib, first_s = trained(folder, "first")
            second_mib, second_s = trained(folder, "second")
        row = {
            "tokens": tokens,
            "first_mib": round(first_mib),
            "second_mib": round(second_mib),
            "first_s": round(first_s, 1),
            "second_s": round(second_s, 1),
        }
        print(row, flush=True)
        found.append(row)
    rise = max(row["first_mib"] for row in found) - min(row["first_mib"] for row in found)
    print(f"RssAnon rises by {rise} MiB; {LIMIT_MIB:.0f} are allowed")
    print(json.dumps(found))
    return 0 if rise <= LIMIT_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
