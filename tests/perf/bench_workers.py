"""Two workers against one, and what a scheduler adds to each.

    python tests/perf/bench_workers.py [--traces 40000] [--shards 8] [--rounds 3]

Grading: the verdicts stage of a run is worked on by one worker and by two, each with one grading
process, rounds alternating; each worker on a core of its own, as a scheduler gives it `cpus = 1`,
and then wherever Linux puts its two processes. Told: traces per second of the graders at work, and
of the whole including the start of Python. Overhead: an array of workers with next to nothing to
do, on a real Slurm of two nodes (skipped where there is none) and started by hand, as many at a
time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slurm_machine import SlurmMachine, why_not

PIPELINE = """\
name = "sums"
[problems]
source = "file"
dataset = "problems.jsonl"
name = "sums"
question = "question"
answer = "answer"
[traces]
prompt = "question"
n = {n}
[[traces.teachers]]
model = "script.jsonl"
sampler = "scripted"
"""
CLUSTER = """\
kind = "{kind}"
[stages.traces]
shards = {traces}
[stages.verdicts]
shards = {verdicts}
[grade]
workers = 1
"""
# Of the length of a GSM8K trace, with an answer that takes a look at its shape.
TEXT = (
    "<think>"
    + "So 3 * 4 = 12 and the rest follows. " * 20
    + "</think> The answer is \\\\boxed{{\\\\frac{{{i}}}{{2}}}}."
)


def lay_out(folder: Path, problems: int, n: int) -> None:
    rows = [{"question": f"What is half of {i}?", "answer": f"{i}/2"} for i in range(problems)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [{"question": row["question"], "text": TEXT.format(i=i)} for i, row in enumerate(rows)]
    (folder / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    (folder / "sums.toml").write_text(PIPELINE.format(n=n))


def call(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(
        [sys.executable, "-m", "reasondistill", *arguments],
        cwd=folder,
        env=os.environ | (env or {}),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def task(folder: Path, *arguments: str, core: int | None = None) -> subprocess.Popen[bytes]:
    pinned = ["taskset", "--cpu-list", str(core)] if core is not None else []
    command = [*pinned, sys.executable, "-m", "reasondistill", "task", "runs/sums", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def grade(folder: Path, workers: int, *, is_pinned: bool) -> dict[str, float]:
    """Verdicts by so many workers: traces per second while they graded, and from start to end."""
    shutil.rmtree(folder / "runs" / "sums" / "3-verdicts", ignore_errors=True)
    task(folder, "verdicts", "--share", f"open:0:{workers}").wait()
    started = time.perf_counter()
    cores = sorted(os.sched_getaffinity(0))
    places = [cores[number % len(cores)] if is_pinned else None for number in range(workers)]
    processes = [
        task(folder, "verdicts", "--share", f"work:{number}:{workers}", core=places[number])
        for number in range(workers)
    ]
    codes = [process.wait() for process in processes]
    whole = time.perf_counter() - started
    assert codes == [0] * workers
    lines = [
        path.read_text().splitlines()[-1]
        for path in folder.glob("runs/sums/3-verdicts/parts/*/w*/metrics.jsonl")
    ]
    last = [json.loads(line) for line in lines]
    done = sum(row["done"] for row in last)
    return {"at_work": done / max(row["seconds"] for row in last), "whole": done / whole}


def bench_grading(traces: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, traces // 4, 4)
        (folder / "here.toml").write_text(CLUSTER.format(kind="local", traces=1, verdicts=1))
        call(folder, "run", "sums.toml", "--on", "here.toml", "--until", "traces")
        return {
            "traces": traces,
            "a core each": compare(folder, rounds, is_pinned=True),
            "free": compare(folder, rounds, is_pinned=False),
        }


def compare(folder: Path, rounds: int, *, is_pinned: bool) -> dict[str, Any]:
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers in (1, 2):
            found[workers].append(told := grade(folder, workers, is_pinned=is_pinned))
            where = "a core each" if is_pinned else "free"
            print(
                f"{workers} workers, {where}: {told['at_work']:,.0f} traces/s at work, "
                f"{told['whole']:,.0f} in all",
                flush=True,
            )
    medians = {
        workers: {key: statistics.median(row[key] for row in rows) for key in ("at_work", "whole")}
        for workers, rows in found.items()
    }
    ratio = {key: round(medians[2][key] / medians[1][key], 2) for key in ("at_work", "whole")}
    return {"traces_per_s": medians, "two_to_one": ratio}


def bench_overhead(shards: int) -> dict[str, Any]:
    """Seconds per shard on Slurm beyond those of the same processes started by hand."""
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as place,
        tempfile.TemporaryDirectory() as name,
        SlurmMachine(Path(place)) as slurm,
    ):
        folder = Path(name)
        lay_out(folder, shards * 4, 1)
        (folder / "here.toml").write_text(CLUSTER.format(kind="slurm", traces=shards, verdicts=1))
        call(
            folder,
            "run",
            "sums.toml",
            "--on",
            "here.toml",
            "--until",
            "traces",
            "--wait",
            env=slurm.env,
        )
        run = folder / "runs" / "sums"
        marks = [path.stat().st_mtime for path in run.glob("slurm/*/marks/02-traces-*.done")]
        before = (run / "slurm" / "001" / "marks" / "01-problems-to-traces.done").stat().st_mtime
        on_slurm = max(marks) - before
        shutil.rmtree(run / "2-traces")
        task(folder, "traces", "--share", f"open:0:{shards}").wait()
        started = time.perf_counter()
        waiting, running = list(range(shards)), list[subprocess.Popen[bytes]]()
        while waiting or running:
            running = [process for process in running if process.poll() is None]
            while waiting and len(running) < 4:  # as many as the two nodes have places
                running.append(task(folder, "traces", "--share", f"work:{waiting.pop(0)}:{shards}"))
            time.sleep(0.02)
        by_hand = time.perf_counter() - started
    per_shard = (on_slurm - by_hand) / shards
    print(
        f"{shards} shards: {on_slurm:.1f} s on Slurm, {by_hand:.1f} s by hand: "
        f"{per_shard:.2f} s for each shard",
        flush=True,
    )
    return {
        "shards": shards,
        "slurm_s": round(on_slurm, 2),
        "by_hand_s": round(by_hand, 2),
        "per_shard_s": round(per_shard, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=int, default=40_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, Any] = {"grading": bench_grading(given.traces, given.rounds)}
    if (reason := why_not()) is None:
        found["overhead"] = bench_overhead(given.shards)
    else:
        print(f"overhead: skipped ({reason})")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
