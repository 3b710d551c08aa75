"""What traces, verdicts and examples cost without a model: seconds of processors and on the clock
for scripted traces with one worker, as JSON.

    python tests/perf/bench_stages.py [--traces 10000]

It measures the checkout that it stands in. To compare two, run it in both, in turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_sums import SAMPLES_EACH, processor_seconds, text_of
from traces_kit import ONE_WORKER, opener, settings, write_problems

from reasondistill.config import ExampleSettings, VerdictSettings
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import Serving
from reasondistill.stages.examples import ExampleInputs, run_examples
from reasondistill.stages.traces import run_traces
from reasondistill.stages.verdicts import run_verdicts


def cost_of(stage: Callable[[], object]) -> dict[str, float]:
    """Seconds of one call."""
    clock, processors = time.perf_counter(), processor_seconds()
    stage()
    return {
        "processor_s": round(processor_seconds() - processors, 3),
        "clock_s": round(time.perf_counter() - clock, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--traces", type=int, default=10_000)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        inputs = ExampleInputs(root / "1", root / "2", root / "3")
        write_problems(inputs.problems, given.traces // SAMPLES_EACH)
        serving = Serving(ONE_WORKER, opener(text_of))
        prompt = load_prompt("think")
        kept = ExampleSettings(select="all", export=("messages",))

        def traces() -> object:
            return run_traces(settings(n=SAMPLES_EACH), inputs.problems, inputs.traces, serving)

        def verdicts() -> object:
            return run_verdicts(
                VerdictSettings(), inputs.problems, inputs.traces, inputs.verdicts, serving
            )

        def examples() -> object:
            return run_examples(kept, prompt, inputs, root / "4", about={})

        for stage in (traces, verdicts, examples):
            print(json.dumps({"stage": stage.__name__, **cost_of(stage)}), flush=True)


if __name__ == "__main__":
    main()
