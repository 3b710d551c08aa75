"""How long evals take to put a million graded samples together, and the report of them.

    python tests/perf/bench_evals.py [--models 20] [--benchmarks 10] [--problems 313] [--samples 16]

Samples and grades are written as the stages would leave them (texts of about 300 characters; a
third of the wrong answers of a problem are alike). `collect` reads traces and verdicts, writes
records.jsonl, and scores: pass@k, maj@k with answers counted by equivalence, intervals, bootstrap,
token budgets. Target: a million records in 60 s. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fake_run import (
    draw_outcome,
    fake_problems,
    fake_trace,
    fake_verdict,
    write_problems,
    write_stage,
)

from reasondistill.config import ReportSettings
from reasondistill.grading import GradingPool
from reasondistill.records import Problem
from reasondistill.runs.store import require_complete
from reasondistill.stages import evals
from reasondistill.stages.report import run_report


def write_cell(
    folder: Path,
    problems: list[Problem],
    model: str,
    samples: int,
    right: float,
    dice: random.Random,
) -> None:
    """Traces and verdicts of one model; lines are made from one record each, by putting other ids
    and answers in.
    """
    traces: list[str] = []
    verdicts: list[str] = []
    for problem in problems:
        for sample in range(samples):
            outcome = draw_outcome(right, dice)
            if outcome == "undecided":
                outcome = "wrong"
            trace = fake_trace(problem, sample, model, outcome, dice)
            traces.append(trace.to_json())
            verdicts.append(fake_verdict(trace, outcome).to_json())
    sampling = {"max_tokens": 256}
    section = {
        "prompt": "think@0a1b2c3d",
        "n": samples,
        "limit": len(problems),
        "sampling": sampling,
        "teachers": {"1": {"model": model}},
    }
    write_stage(
        folder / "traces",
        "traces",
        {},
        section=section,
        counts={"in": len(problems), "out": len(traces)},
    )
    write_stage(folder / "verdicts", "verdicts", {}, counts={"in": len(traces), "out": len(traces)})
    (folder / "traces" / "traces.jsonl").write_text("".join(line + "\n" for line in traces))
    (folder / "verdicts" / "verdicts.jsonl").write_text("".join(line + "\n" for line in verdicts))


def build(run: Path, given: argparse.Namespace) -> None:
    dice = random.Random(0)
    for number in range(given.benchmarks):
        problems = fake_problems(f"set-{number}/test", given.problems, dice)
        folder = run / "6-evals" / f"set-{number}"
        write_problems(folder / "problems", problems)
        for model in range(given.models):
            write_cell(
                folder / f"model-{model}",
                problems,
                f"model-{model}",
                given.samples,
                0.1 + 0.04 * model,
                dice,
            )


def measure(run: Path, given: argparse.Namespace) -> dict[str, float | int]:
    models = [f"model-{model}" for model in range(given.models)]
    plan = evals.EvalPlan(
        benchmarks={f"set-{number}": given.samples for number in range(given.benchmarks)},
        models=models,
        baselines=dict.fromkeys(models[1:], models[:1]),
    )
    started = time.perf_counter()
    with GradingPool() as pool:
        evals.collect(run / "6-evals", plan, pool)
    collected = time.perf_counter()
    run_report(run, run / "7-report", settings=ReportSettings(), title="bench", about="")
    reported = time.perf_counter()
    return {
        "records": require_complete(run / "6-evals").counts["out"],
        "collect_s": round(collected - started, 1),
        "report_s": round(reported - collected, 1),
        "report_mib": round((run / "7-report" / "report.html").stat().st_size / 2**20, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--benchmarks", type=int, default=10)
    parser.add_argument("--problems", type=int, default=313)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--keep", type=Path, help="a folder to leave the run in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        run = given.keep or Path(root)
        build(run, given)
        print(json.dumps(measure(run, given)))


if __name__ == "__main__":
    main()
