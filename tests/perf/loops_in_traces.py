"""What `[traces.loops]` would have ended of traces that were drawn without it.

    python tests/perf/loops_in_traces.py runs/NAME [runs/OTHER …]

For some rules: how many traces go round in circles, how many of these had stopped by themselves or
were correct (a rule that ends such traces hurts), and which share of all text it would have saved.
Text stands in for tokens, four characters for one, as with a server's stream.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reasondistill.models.prompts import render_assistant
from reasondistill.models.samplers.loops import LoopWatch
from reasondistill.records import LoopRule
from reasondistill.runs.graded import read_as_far_as_graded
from reasondistill.runs.layout import RunFolder

RULES = (
    LoopRule(shortest=16, window=64, repeats=8),
    LoopRule(shortest=16, window=64, repeats=4),
    LoopRule(shortest=16, window=256, repeats=4),
)


def report(folder: Path, rule: LoopRule) -> str:
    """One line about the traces of a run."""
    run = RunFolder(folder)
    traces = ended = stopped = correct = 0
    signs = saved = 0
    for trace, verdict in read_as_far_as_graded(run.traces, run.verdicts):
        text = render_assistant(trace.completion)
        place = LoopWatch.of_text(rule).feed(text)
        traces += 1
        signs += len(text)
        if place is None:
            continue
        ended += 1
        saved += len(text) - place
        stopped += trace.completion.finish == "stop"
        correct += verdict is not None and verdict.grade.is_correct
    return (
        f"{folder.name}, {rule.shortest} to {rule.window} tokens {rule.repeats} times: {ended} of "
        f"{traces} traces ended ({stopped} had stopped by themselves, {correct} were correct), "
        f"{100 * saved / max(1, signs):.1f} % of the text saved"
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for rule in RULES:
            print(report(Path(name), rule), flush=True)
