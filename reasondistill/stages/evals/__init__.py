"""Stage 6: graded samples of models on benchmarks → EvalRecord, scores with intervals, paired
differences.

Sampling and grading exist once: the stages of traces and verdicts have filled one folder per
benchmark and model,

    6-evals/<benchmark>/problems/problems.jsonl
    6-evals/<benchmark>/<model>/traces/traces.jsonl
    6-evals/<benchmark>/<model>/verdicts/verdicts.jsonl

and `collect` joins them into 6-evals/records.jsonl and 6-evals/scores.json. A model that lacks
samples is refused by name: fewer samples than asked never deflate a score. `undecided` samples (the
checker gave up) and refused ones (no model takes their input) count as not correct, and their
shares stand beside every score. Lost samples, where they are allowed, take their problems out of
the model's score. A model may stand there several times, `<model>@<prompt>` and `<model>@step@<n>`:
see `Variants`.

`evaluate` does the same without a folder, for one model on one benchmark: records in, scores out.
"""

from __future__ import annotations

from reasondistill.stages.evals.collecting import RECORDS, SCORES, VERSION, collect
from reasondistill.stages.evals.evaluation import Evaluation, evaluate
from reasondistill.stages.evals.plan import EvalPlan, Variants

__all__ = [
    "RECORDS",
    "SCORES",
    "VERSION",
    "EvalPlan",
    "Evaluation",
    "Variants",
    "collect",
    "evaluate",
]
