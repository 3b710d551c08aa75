"""What `[traces.loops]` would have ended of traces that were drawn without it.

    python tests/perf/loops_in_traces.py runs/NAME [runs/OTHER …]
    python tests/perf/loops_in_traces.py runs/NAME --stopped --longest 200
    python tests/perf/loops_in_traces.py --samples runs/NAME/6-evals/gsm8k/base/traces/traces.jsonl

For some rules: how many texts go round in circles, how many of these had stopped by themselves or
were correct (a rule that ends such texts hurts), and which share of all text it would have saved.
Samples of an eval have verdicts in `verdicts/` beside their `traces/`, where somebody graded them.
Text stands in for tokens, four characters for one, as with a server's stream.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reasondistill.models.prompts import render_assistant
from reasondistill.models.samplers.loops import LoopWatch
from reasondistill.records import LoopRule, Trace
from reasondistill.runs.graded import read_as_far_as_graded
from reasondistill.runs.layout import VERDICTS, RunFolder
from reasondistill.runs.store import read_records

RULES = (
    LoopRule(shortest=16, window=64, repeats=8),
    LoopRule(shortest=16, window=64, repeats=4),
    LoopRule(shortest=16, window=256, repeats=4),
)


@dataclass(frozen=True)
class Seen:
    """A text, whether it had stopped by itself, and whether it was correct (None: nobody says)."""

    text: str
    has_stopped: bool
    is_correct: bool | None = None

    @classmethod
    def of(cls, trace: Trace, *, is_correct: bool | None) -> Seen:
        text = render_assistant(trace.completion)
        return cls(text, trace.completion.finish == "stop", is_correct)


def in_run(folder: Path) -> Iterator[Seen]:
    """The traces of a run, with their verdicts as far as there are some."""
    run = RunFolder(folder)
    for trace, verdict in read_as_far_as_graded(run.traces, run.verdicts):
        is_correct = None
        if verdict is not None:
            is_correct = verdict.grade.is_correct
        yield Seen.of(trace, is_correct=is_correct)


def in_samples(file: Path) -> Iterator[Seen]:
    """The samples of a model on a benchmark, with the verdicts that stand beside them."""
    verdicts = file.parent.parent / "verdicts" / VERDICTS
    if not verdicts.exists():
        for trace in read_records(file, Trace):
            yield Seen.of(trace, is_correct=None)
        return
    for trace, verdict in read_as_far_as_graded(file, verdicts):
        yield Seen.of(trace, is_correct=verdict is not None and verdict.grade.is_correct)


def longest(texts: Iterable[Seen], count: int | None) -> list[Seen]:
    """The longest texts, or all of them."""
    in_order = sorted(texts, key=lambda one: len(one.text), reverse=True)
    return in_order[:count]


def report(name: str, texts: Sequence[Seen], rule: LoopRule) -> str:
    """One line about texts."""
    ended = stopped = correct = saved = 0
    for one in texts:
        place = LoopWatch.of_text(rule).feed(one.text)
        if place is None:
            continue
        ended += 1
        saved += len(one.text) - place
        stopped += one.has_stopped
        correct += one.is_correct is True
    signs = sum(len(one.text) for one in texts)
    lengths = [len(one.text) for one in texts] or [0]
    return (
        f"{name}, {rule.shortest} to {rule.window} tokens {rule.repeats} times: {ended} of "
        f"{len(texts)} texts of {min(lengths):,} to {max(lengths):,} characters ended ({stopped} "
        f"had stopped by themselves, {correct} were correct), "
        f"{100 * saved / max(1, signs):.1f} % of the text saved"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs with traces")
    parser.add_argument("--samples", nargs="+", type=Path, default=[], help="traces.jsonl of evals")
    parser.add_argument("--longest", type=int, help="only so many, the longest ones")
    parser.add_argument("--stopped", action="store_true", help="only those that stopped")
    options = parser.parse_args()
    read = [(folder.name, in_run(folder)) for folder in options.runs]
    read += [(str(file), in_samples(file)) for file in options.samples]
    for name, texts in read:
        wanted = (one for one in texts if one.has_stopped or not options.stopped)
        chosen = longest(wanted, options.longest)
        for rule in RULES:
            print(report(name, chosen, rule), flush=True)


if __name__ == "__main__":
    main()
