"""What sums cost: each stage with and without them, in turn, in the same process.

    python tests/perf/bench_sums.py [--traces 20000] [--repeats 5]

`examples` only copies: it reads traces and verdicts, verified, and writes examples, Parquet and an
export, which are summed when it ends. `traces` has a sampler that makes 200 traces a second, as an
engine on one GPU does with a small model and short texts; its lines are listed as they are written.
`evals` samples so and grades what was sampled. Counted are seconds of processors, to which the
sampler's waiting is added, so that a busy machine can measure too; seconds on the clock are told
beside. Each pair of runs gives a ratio, the median of them counts. May be 10 % for what copies, 2 %
for traces and evals. How long a million traces take to be resumed is told by `bench_store.py`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from traces_kit import ONE_WORKER, make_earlier, opener, settings, write_problems

from reasondistill.config import Cluster, ExampleSettings, VerdictSettings
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import Request
from reasondistill.models.samplers.opening import Serving
from reasondistill.runs.store import FileSum, manifests, shards
from reasondistill.stages.examples import ExampleInputs, run_examples
from reasondistill.stages.traces import run_traces
from reasondistill.stages.verdicts import run_verdicts

ALLOWED = {"examples": 0.10, "traces": 0.02, "evals": 0.02}
SAMPLES_EACH = 4
# A GSM8K trace; numbers make each its own.
SENTENCE = "So {} * 4 = {} and the rest follows. "
SAMPLED_S = 0.005
FEW_PROBLEMS = 150
# What a stage waits for, beside its processors.
SAMPLING_S = FEW_PROBLEMS * SAMPLES_EACH * SAMPLED_S
WAITS_S = {"traces": SAMPLING_S, "evals": SAMPLING_S}

Stage = Callable[[Path], object]


@contextmanager
def without_sums() -> Generator[None]:
    """Nothing is listed and nothing is summed."""

    def no_sums(*_: Any) -> Iterator[tuple[str, FileSum]]:
        return iter(())

    def append_plainly(path: Path, line: bytes) -> None:
        with open(path, "ab") as file:
            file.write(line)

    with (
        patch.object(manifests, "_summed", no_sums),
        patch.object(shards, "AppendedLines", shards._UnlistedLines),  # pyright: ignore[reportPrivateUsage]
        patch.object(shards, "append_line", append_plainly),
    ):
        yield


def text_of(request: Request) -> str:
    steps = "".join(SENTENCE.format(request.seed % 997 + i, request.seed + i) for i in range(30))
    problem = int(request.id.rpartition("/")[2].partition(":")[0])
    return f"<think>{steps}</think> \\boxed{{{problem + 1}}}"


def slow_text_of(request: Request) -> str:
    time.sleep(SAMPLED_S)
    return text_of(request)


def make_inputs(folder: Path, traces: int, cluster: Cluster) -> ExampleInputs:
    """Finished problems, traces and verdicts."""
    inputs = ExampleInputs(folder / "1", folder / "2", folder / "3")
    write_problems(inputs.problems, traces // SAMPLES_EACH)
    serving = Serving(cluster, opener(text_of))
    run_traces(settings(n=SAMPLES_EACH), inputs.problems, inputs.traces, serving)
    run_verdicts(
        VerdictSettings(), inputs.problems, inputs.traces, inputs.verdicts, Serving(cluster)
    )
    return inputs


def unsummed(inputs: ExampleInputs, folder: Path) -> ExampleInputs:
    """The same stages as an earlier version left them."""
    plain = ExampleInputs(folder / "1", folder / "2", folder / "3")
    for source, target in zip(vars(inputs).values(), vars(plain).values(), strict=True):
        shutil.copytree(source, target)
        make_earlier(target)
    return plain


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of processors, those of children that have ended included."""

    clock: float
    processors: float


def cost_of(stage: Stage, folder: Path) -> Cost:
    clock, processors = time.perf_counter(), processor_seconds()
    stage(folder)
    cost = Cost(time.perf_counter() - clock, processor_seconds() - processors)
    shutil.rmtree(folder)
    return cost


def processor_seconds() -> float:
    """Of this process, its threads, and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def compare(name: str, root: Path, summed: Stage, plain: Stage, repeats: int) -> dict[str, Any]:
    """Seconds with and without, in turn, after one of each that does not count."""
    pairs: list[tuple[Cost, Cost]] = []
    for number in range(repeats + 1):
        with_sums = cost_of(summed, root / f"{name}-{number}")
        with without_sums():
            without = cost_of(plain, root / f"{name}-{number}")
        if number:
            pairs.append((with_sums, without))
    waits_s = WAITS_S.get(name, 0.0)
    ratios = [
        (with_sums.processors - without.processors) / (without.processors + waits_s)
        for with_sums, without in pairs
    ]
    figures = {
        "stage": name,
        "overhead": round(statistics.median(ratios), 4),
        "allowed": ALLOWED[name],
        "overheads": [round(ratio, 3) for ratio in sorted(ratios)],
        "processor_s": round(statistics.median(cost.processors for cost, _ in pairs), 2),
        "without_s": round(statistics.median(cost.processors for _, cost in pairs), 2),
        "clock_s": round(statistics.median(cost.clock for cost, _ in pairs), 2),
        "clock_without_s": round(statistics.median(cost.clock for _, cost in pairs), 2),
    }
    print(json.dumps(figures), flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--traces", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stages", nargs="+", default=list(ALLOWED), choices=list(ALLOWED))
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        summed = make_inputs(root / "summed", given.traces, ONE_WORKER)
        plain = unsummed(summed, root / "plain")
        few = write_problems(root / "few", FEW_PROBLEMS)
        stages = stages_of(summed, plain, few)
        for name in given.stages:
            with_sums, without = stages[name]
            found.append(compare(name, root, with_sums, without, given.repeats))
    too_much = [row["stage"] for row in found if row["overhead"] > row["allowed"]]
    print(f"more than allowed: {', '.join(too_much) or 'none'}")
    return len(too_much)


def stages_of(summed: ExampleInputs, plain: ExampleInputs, few: Path) -> dict[str, Sequence[Stage]]:
    """Each stage on inputs with and without sums."""
    kept, prompt = ExampleSettings(select="all", export=("messages",)), load_prompt("think")
    sampled = Serving(Cluster(), opener(slow_text_of))

    def examples_of(inputs: ExampleInputs) -> Stage:
        return lambda folder: run_examples(kept, prompt, inputs, folder, about={})

    def sampled_in(folder: Path) -> object:
        return run_traces(settings(n=SAMPLES_EACH), few, folder, sampled)

    def evaluated_in(folder: Path) -> object:
        sampled_in(folder / "traces")
        verdicts = folder / "verdicts"
        serving = Serving(ONE_WORKER)
        return run_verdicts(VerdictSettings(), few, folder / "traces", verdicts, serving)

    return {
        "examples": (examples_of(summed), examples_of(plain)),
        "traces": (sampled_in, sampled_in),
        "evals": (evaluated_in, evaluated_in),
    }


if __name__ == "__main__":
    raise SystemExit(main())
