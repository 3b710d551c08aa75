"""The stages as plain functions give the records that the stages write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from traces_kit import opener, settings, text_of, traces_in, write_problems

from reasondistill import api
from reasondistill.config import Cluster, ExampleSettings, VerdictSettings
from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Dropped, Example, Problem, Trace, Verdict
from reasondistill.runs.store import read_records
from reasondistill.stages.examples import run_examples
from reasondistill.stages.traces import run_traces
from reasondistill.stages.verdicts import run_verdicts


def problems_and_traces(folder: Path) -> tuple[list[Problem], list[Trace]]:
    """What the stages have written, read."""
    problems = list(read_records(folder / "1" / "problems.jsonl", Problem))
    return problems, traces_in(folder / "2")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with stages 1 to 4 done."""
    write_problems(tmp_path / "1")
    run_traces(settings(), tmp_path / "1", tmp_path / "2", cluster=Cluster(), open_sampler=opener())
    run_verdicts(VerdictSettings(), tmp_path / "1", tmp_path / "2", tmp_path / "3", workers=1)
    folders = [tmp_path / name for name in "1234"]
    run_examples(ExampleSettings(), load_prompt("question"), *folders, about={})
    return tmp_path


def test_traces_are_those_of_the_stage(run: Path) -> None:
    problems, written = problems_and_traces(run)
    sampling = settings().resolve()
    with ScriptedSampler(text_of, model="fake") as sampler:
        drawn = api.sample_traces(problems, sampler, load_prompt("question"), sampling, n=2)
        traces = sorted(drawn, key=lambda trace: trace.id)
    assert [trace.key for trace in traces] == [trace.key for trace in written]
    assert [trace.completion.answer_text for trace in traces] == [
        trace.completion.answer_text for trace in written
    ]


def test_verdicts_and_examples_are_those_of_the_stages(run: Path) -> None:
    problems, traces = problems_and_traces(run)
    with GradingPool(workers=1) as grader:
        verdicts = list(api.judge_traces(traces, problems, grader))
    assert verdicts == list(read_records(run / "3" / "verdicts.jsonl", Verdict))
    prompt = load_prompt("question")
    chosen = api.make_examples(problems, traces[::-1], verdicts, prompt, ExampleSettings())
    assert list(chosen.kept) == list(read_records(run / "4" / "examples.jsonl", Example))
    assert list(chosen.dropped) == list(read_records(run / "4" / "dropped.jsonl", Dropped))
    assert len(chosen.kept) + len(chosen.dropped) == len(traces)


def test_a_trace_without_a_verdict_is_refused(run: Path) -> None:
    problems, traces = problems_and_traces(run)
    with pytest.raises(StageError, match="it has no verdict; judge it first"):
        api.make_examples(problems, traces, [], load_prompt("question"), ExampleSettings())


def test_a_verdict_of_an_unknown_problem_is_refused(run: Path) -> None:
    problems, traces = problems_and_traces(run)
    with GradingPool(workers=1) as grader, pytest.raises(StageError, match="sample the traces"):
        list(api.judge_traces(traces, problems[:1], grader))


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'vllm', 'transformers', 'trl', 'datasets'}"
    code = f"import sys, reasondistill.api; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
