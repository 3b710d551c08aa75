"""The whole road as plain functions: records in, records out, no folder and no pipeline file.

    problems = [...]                                             # reasondistill.records.Problem
    with ReferenceSampler(problems) as teacher, GradingPool() as grader:
        traces = list(sample_traces(problems, teacher, load_prompt("question"), Sampling(), n=1))
        verdicts = list(judge_traces(traces, problems, grader))
    chosen = make_examples(problems, traces, verdicts, load_prompt("question"), ExampleSettings())
    trained = train_student(StudentSettings(name="small", base="Qwen/Qwen3-0.6B-Base"),
                            Material(chosen.kept), Path("small"))

These are the stages' own functions, not others beside them. A pipeline (`reasondistill run`)
samples with `sample_traces`, grades with `judge_traces` and trains with `train_student`, and puts
folders, resume, work sharing and caches around them. `make_examples` and `evaluate` hold all in
memory; the stages, which must not, decide each problem with the same `decide_all`, and fill and
score each table with the same `enter_samples` and `score_sheet`.

Nothing heavy is imported before it is used: torch comes with `train_student`, an engine with the
sampler that needs one. `examples/flat_distill.py` walks the road in one file.
"""

from __future__ import annotations

from reasondistill.models.samplers.opening import Serving
from reasondistill.stages.evals import Evaluation, evaluate
from reasondistill.stages.examples import ChosenExamples, make_examples
from reasondistill.stages.students import (
    Material,
    TeacherSource,
    Trained,
    TrainingRun,
    train_student,
)
from reasondistill.stages.traces import sample_traces
from reasondistill.stages.verdicts import judge_traces

__all__ = [
    "ChosenExamples",
    "Evaluation",
    "Material",
    "Serving",
    "TeacherSource",
    "Trained",
    "TrainingRun",
    "evaluate",
    "judge_traces",
    "make_examples",
    "sample_traces",
    "train_student",
]
