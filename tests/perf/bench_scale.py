"""800,000 traces of 8,000 tokens on 64 GPUs: what the engines lose at the end, and what files,
claims and sorting cost.

    python tests/perf/bench_scale.py [--rows 100000000] [--quick]

Part 1 is a simulation: lengths are lognormal (mean 8,000, cut at 32,768), an engine of 256 seats
makes 5,000 tokens/s when full and at most 60 in one sequence. Ways to share the work out: equal
shards, shards dealt at random, chunks that are claimed when there is room (ours, with an eighth of
the seats waiting) and the same with as many waiting as running. Then with 6 of 64 GPUs at 70 %
speed, and with one that is gone for an hour. Told: hours against the ideal (all tokens / all
speed).

Part 2 runs our own code: claims per second, a folder of 64 workers gathered and sorted, and the
memory of sorting 100M rows' places.
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reasondistill.runs import work_sharing
from reasondistill.runs.store import sort_shard
from reasondistill.runs.work_sharing import Worker

TRACES, GPUS, SEATS, FULL, SINGLE = 800_000, 64, 256, 5_000.0, 60.0
CHUNK = 64


# ---- part 1: who does what -----------------------------------------------------------------------


def lengths(seed: int = 0) -> np.ndarray:
    """Tokens of each trace: mean about 8,000, a long tail, cut at 32,768."""
    drawn = np.random.default_rng(seed).lognormal(np.log(8000) - 0.32, 0.8, TRACES)
    return np.minimum(drawn, 32_768)


class Engine:
    """Sequences share a GPU: `done` counts the tokens that each running sequence has got since the
    start.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.speed, self.time, self.done = speed, 0.0, 0.0
        self.running: list[float] = []
        self.queue: deque[float] = deque()
        self.busy = 0.0

    @property
    def rate(self) -> float:
        """Tokens per second and sequence."""
        return self.speed * min(SINGLE, FULL / max(1, len(self.running)))

    def fill(self) -> None:
        while self.queue and len(self.running) < SEATS:
            heapq.heappush(self.running, self.done + self.queue.popleft())

    def next_end(self) -> float:
        return (
            self.time + (self.running[0] - self.done) / self.rate if self.running else float("inf")
        )

    def step(self) -> None:
        """Go on to the end of the next sequence."""
        end, rate = self.next_end(), self.rate
        self.busy += (end - self.time) * rate * len(self.running)
        self.time, self.done = end, self.running[0]
        heapq.heappop(self.running)


def simulate(
    tokens: np.ndarray, way: str, *, slow: int = 0, lost_s: float = 0.0
) -> dict[str, float]:
    """Hours until the last trace, the ideal, and the hours in which the average GPU stood still."""
    engines = [Engine(0.7 if number < slow else 1.0) for number in range(GPUS)]
    engines[-1].time = lost_s
    stock: deque[float] = deque()
    if way in ("equal shards", "random shards"):
        order = (
            np.random.default_rng(1).permutation(len(tokens))
            if way == "random shards"
            else np.arange(len(tokens))
        )
        for engine, part in zip(engines, np.array_split(tokens[order], GPUS), strict=True):
            engine.queue.extend(part.tolist())
    else:
        stock.extend(tokens.tolist())
    waiting = SEATS if way == "claims, as many waiting" else SEATS // 8

    def feed(engine: Engine) -> None:
        while stock and len(engine.running) + len(engine.queue) < SEATS + waiting:
            engine.queue.extend(stock.popleft() for _ in range(min(CHUNK, len(stock))))
        engine.fill()

    for engine in engines:
        feed(engine)
    heap = [(engine.next_end(), number) for number, engine in enumerate(engines)]
    heapq.heapify(heap)
    last = 0.0
    while heap:
        end, number = heapq.heappop(heap)
        if end == float("inf"):
            continue
        engine = engines[number]
        engine.step()
        last = max(last, engine.time)
        feed(engine)
        heapq.heappush(heap, (engine.next_end(), number))
    speed = sum(engine.speed for engine in engines) * FULL
    ideal = (tokens.sum() + lost_s * FULL) / speed
    return {"hours": last / 3600, "ideal": ideal / 3600, "over": last / ideal}


def part_one(quick: bool) -> list[dict[str, Any]]:
    tokens = lengths()[:: 20 if quick else 1]
    rows: list[dict[str, Any]] = []
    # Problems of one source stand together, and sources differ: the second half is 1.5 times as
    # long.
    sorted_by_source = np.concatenate(
        [tokens[: len(tokens) // 2] * 0.8, tokens[len(tokens) // 2 :] * 1.2]
    )
    for what, options in {
        "all alike": {},
        "6 slow": {"slow": 6},
        "1 lost for an hour": {"lost_s": 3600.0},
    }.items():
        for way in ("equal shards", "random shards", "claims", "claims, as many waiting"):
            row = {"what": what, "way": way} | {
                k: round(v, 3) for k, v in simulate(sorted_by_source, way, **options).items()
            }  # type: ignore[arg-type]
            rows.append(row)
            print(
                "{what:20} {way:24} {hours:8.2f} h · ideal {ideal:.2f} h · {over:.3f}×".format(
                    **row
                ),
                flush=True,
            )
    return rows


# ---- part 2: files -------------------------------------------------------------------------------


def timed(what: str, work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - started
    print(f"{what}: {seconds:.2f} s", flush=True)
    return seconds, found


def claims(folder: Path) -> dict[str, Any]:
    """All chunks of 800,000 traces claimed by 64 workers in turn, and one that is started again."""
    chunks = TRACES // CHUNK
    work_sharing.begin(folder, workers=GPUS, chunk=CHUNK)
    turns = deque(Worker(folder, number).claims(chunks) for number in range(GPUS))

    def all_of_them() -> int:
        taken = 0
        while turns:
            claimed = turns.popleft()
            if next(claimed, None) is not None:
                taken += 1
                turns.append(claimed)
        return taken

    seconds, taken = timed(f"{chunks:,} chunks claimed", all_of_them)
    again, mine = timed(
        "started again: its own chunks found",
        lambda: sum(1 for _ in Worker(folder, 5).claims(chunks)),
    )
    assert taken == chunks and mine == len(range(5, chunks, GPUS))
    return {
        "chunks": chunks,
        "per_s": round(taken / seconds),
        "again_s": round(again, 3),
        "files": chunks + 1,
    }


def gather(folder: Path, rows: int) -> dict[str, Any]:
    """Lines of 200 bytes from 64 workers, in the order in which they ended, made one file in
    canonical order.
    """
    attempt = work_sharing.begin(folder, workers=GPUS, chunk=CHUNK)
    padding = "x" * 150
    order = np.random.default_rng(0).permutation(rows)
    for number, part in enumerate(np.array_split(order, GPUS)):
        path = folder / work_sharing.PARTS / attempt.name / f"w{number}" / "traces.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(
            "".join(f'{{"id":"set/train/{row}:0","text":"{padding}"}}\n' for row in part.tolist())
        )
    together, size = timed(f"{rows:,} rows gathered", lambda: work_sharing.gather(folder))
    ordered, count = timed(
        "and sorted", lambda: sort_shard(folder / "traces.jsonl", lambda name: int(name[10:-2]))
    )
    assert count == rows
    return {
        "rows": rows,
        "bytes": size,
        "gather_s": round(together, 2),
        "sort_s": round(ordered, 2),
    }


def places(rows: int) -> dict[str, Any]:
    """What sorting holds of so many rows: their numbers and lengths, in a random order."""
    numbers, sizes = array("q"), array("q")
    drawn = np.random.default_rng(0)
    for start in range(0, rows, 1_000_000):
        count = min(1_000_000, rows - start)
        numbers.frombytes(drawn.integers(0, 1 << 62, count).tobytes())
        sizes.frombytes(drawn.integers(1000, 60_000, count).tobytes())

    def in_order() -> int:
        ranks = np.asarray(numbers)
        order = np.argsort(ranks, kind="stable")
        order = order[np.concatenate([[True], np.diff(ranks[order]) > 0])]
        lengths = np.asarray(sizes)
        starts = np.cumsum(lengths) - lengths
        return int(starts[order[-1]])

    seconds, _ = timed(f"the places of {rows:,} rows in order", in_order)
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--quick", action="store_true", help="a twentieth of all of it")
    parser.add_argument("--places", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.places:
        print(json.dumps(places(given.places)))
        return
    found: dict[str, Any] = {"simulation": part_one(given.quick)}
    with tempfile.TemporaryDirectory() as folder:
        found["claims"] = claims(Path(folder) / "claims")
        found["gather"] = gather(Path(folder) / "gather", 100_000 if given.quick else 2_000_000)
    rows = given.rows // 20 if given.quick else given.rows
    done = subprocess.run(
        [sys.executable, __file__, "--places", str(rows)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found["places"] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
