"""Stage 2: Problem × prompt × sampler → Trace, n samples per problem, resumed per sample.

    manifest = run_traces(pipeline.traces, run / "1-problems", run / "2-traces", Serving(cluster))

sampling.py: problems in, traces out (`sample_traces`). Around it stage.py puts the folder, work.py
what is missing of it, drawing.py the teachers, workers.py the sharing and finishing.py the end.
"""

from reasondistill.models.samplers import seed_of
from reasondistill.models.samplers.opening import OpenSampler
from reasondistill.stages.traces.foreseeing import foresee_traces
from reasondistill.stages.traces.sampling import sample_key, sample_traces
from reasondistill.stages.traces.stage import (
    as_many_as_stand,
    as_many_problems_as_stand,
    run_traces,
)
from reasondistill.stages.traces.teachers import deal
from reasondistill.stages.traces.work import until_of
from reasondistill.stages.traces.workers import chunk_of

__all__ = [
    "OpenSampler",
    "as_many_as_stand",
    "as_many_problems_as_stand",
    "chunk_of",
    "deal",
    "foresee_traces",
    "run_traces",
    "sample_key",
    "sample_traces",
    "seed_of",
    "until_of",
]
