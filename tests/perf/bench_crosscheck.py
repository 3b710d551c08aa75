"""Our evals beside EleutherAI's lm-evaluation-harness: seconds of scoring alone, and of the whole
road.

    pip install --no-deps --requirement constraints/crosscheck.txt
    python tests/perf/bench_crosscheck.py [--problems 240] [--rounds 2]

The shipped teacher answers gsm_symbolic problems in GSM8K's form, greedily, on the same prompt
tokens; tests/test_crosscheck.py compares what comes out. Scoring: the same completions, our grader
and the harness's two GSM8K filters with their metric. The whole road: both programs from start to
written scores, one after the other in each round. Prints one line of JSON, or that `lm_eval` is not
installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crosscheck_kit import (
    Setting,
    gsm_symbolic_rows,
    run_ours,
    run_theirs,
    time_scoring,
    write_side_by_side,
)

from reasondistill.models.prompts import load_prompt


def compare(folder: Path, problems: int, rounds: int) -> dict[str, float | int]:
    """The fastest round of each."""
    setting = Setting(
        "shipped:demo-teacher", load_prompt("question").prompt, max_tokens=192, max_model_len=1024
    )
    write_side_by_side(folder, gsm_symbolic_rows(problems), setting)
    roads: list[tuple[float, float]] = []
    for _ in range(rounds):
        shutil.rmtree(folder / "runs", ignore_errors=True)
        roads.append((run_ours(folder), run_theirs(folder)))
    ours, theirs = (min(road[side] for road in roads) for side in (0, 1))
    our_scoring, their_scoring = time_scoring(folder, rounds=5)
    return {
        "problems": problems,
        "ours_s": round(ours, 1),
        "harness_s": round(theirs, 1),
        "whole_road": round(ours / theirs, 3),
        "scoring_ours_s": round(our_scoring, 4),
        "scoring_harness_s": round(their_scoring, 4),
        "scoring": round(our_scoring / their_scoring, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if importlib.util.find_spec("lm_eval") is None:
        print(
            "crosscheck: skipped, lm_eval is not installed (pip install --no-deps "
            "--requirement constraints/crosscheck.txt)"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), given.problems, given.rounds)))


if __name__ == "__main__":
    main()
