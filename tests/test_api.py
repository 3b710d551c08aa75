"""The stages as plain functions give the records that the stages write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from traces_kit import ONE_WORKER, opener, settings, text_of, traces_in, write_problems

from reasondistill import api
from reasondistill.config import (
    Cluster,
    ExampleSettings,
    JudgeSettings,
    ModelSettings,
    VerdictSettings,
)
from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import Request, failed
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Completion, Dropped, Example, Problem, Sampling, Trace, Verdict
from reasondistill.runs.store import (
    Identity,
    finish_stage,
    open_stage,
    read_records,
    write_records,
)
from reasondistill.stages.examples import ExampleInputs, run_examples
from reasondistill.stages.students import making
from reasondistill.stages.traces import drawing, run_traces
from reasondistill.stages.verdicts import judging, run_verdicts, undecided
from reasondistill.stages.verdicts import stage as verdicts_stage
from reasondistill.stages.verdicts.judge import Judge
from reasondistill.stages.verdicts.judging import ask_about_undecided


def problems_and_traces(folder: Path) -> tuple[list[Problem], list[Trace]]:
    """What the stages have written, read."""
    problems = list(read_records(folder / "1" / "problems.jsonl", Problem))
    return problems, traces_in(folder / "2")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with stages 1 to 4 done."""
    write_problems(tmp_path / "1")
    run_traces(settings(), tmp_path / "1", tmp_path / "2", Serving(Cluster(), opener()))
    run_verdicts(
        VerdictSettings(), tmp_path / "1", tmp_path / "2", tmp_path / "3", Serving(ONE_WORKER)
    )
    inputs = ExampleInputs(tmp_path / "1", tmp_path / "2", tmp_path / "3")
    run_examples(ExampleSettings(), load_prompt("question"), inputs, tmp_path / "4", about={})
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


def test_the_stages_go_through_the_very_functions() -> None:
    assert drawing.sample_traces is api.sample_traces
    assert verdicts_stage.judge_traces is api.judge_traces
    assert undecided.ask_about_undecided is ask_about_undecided
    assert making.train_student is api.train_student


HUGE = r"\boxed{9^{9^{9^{9}}}}"  # the grader does not try such a number: undecided
JUDGE = JudgeSettings(model="wise", sampler="scripted")


class Judges:
    """Opens scripted judges and remembers what they were asked."""

    def __init__(self, script: Callable[[Request], str | Completion]) -> None:
        self.asked: list[Request] = []
        self.opened = 0
        self._script = script

    def __call__(
        self, model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]
    ) -> ScriptedSampler:
        self.opened += 1
        return ScriptedSampler(self._reply, model="wise@1")

    def _reply(self, request: Request) -> str | Completion:
        self.asked.append(request)
        return self._script(request)


def unsure(problems: Sequence[Problem], n: int = 2) -> list[Trace]:
    """Traces that the rules come to no decision about, but for the first, which is right."""
    right = rf"\boxed{{{problems[0].answer}}}"

    def script(request: Request) -> str:
        return right if request.id == f"{problems[0].id}:0" else HUGE

    with ScriptedSampler(script, model="fake") as sampler:
        return list(api.sample_traces(problems, sampler, load_prompt("question"), Sampling(), n=n))


def equal_to_even(request: Request) -> str:
    row = int(request.id.rpartition(":")[0].rpartition("/")[2])
    return "VERDICT: EQUAL" if row % 2 == 0 else "VERDICT: DIFFERENT"


def test_a_judge_is_asked_about_the_undecided_alone_and_about_equal_ones_once(run: Path) -> None:
    problems, _ = problems_and_traces(run)
    traces = unsure(problems)
    judges = Judges(equal_to_even)
    with GradingPool(workers=1) as grader:
        verdicts = list(
            api.judge_traces(
                traces, problems, grader, judge=JUDGE, serving=api.Serving(open_sampler=judges)
            )
        )
    assert [verdict.trace_id for verdict in verdicts] == [trace.id for trace in traces]
    assert judges.opened == 1
    # The two samples of a problem are the same answer; the first of problem 0 needs no judge.
    assert [request.id for request in judges.asked] == [
        "sums/train/0:1",
        *(f"sums/train/{row}:0" for row in range(1, 8)),
    ]
    assert [verdict.how for verdict in verdicts] == ["rule", *["judge"] * 15]
    outcomes = {verdict.trace_id: verdict.grade.outcome for verdict in verdicts}
    assert outcomes["sums/train/2:1"] == "correct" and outcomes["sums/train/3:1"] == "wrong"
    assert verdicts[1].grade.reason == "wise@1"


def test_the_judge_of_the_api_gives_the_verdicts_of_the_stage(run: Path, tmp_path: Path) -> None:
    problems, _ = problems_and_traces(run)
    traces = unsure(problems)
    serving = api.Serving(ONE_WORKER, Judges(equal_to_even))
    stored = tmp_path / "judged" / "traces"
    open_stage(stored, Identity("traces", 1, {}, {}))
    write_records(stored / "traces.jsonl", traces)
    finish_stage(stored, counts={"in": 8, "out": 16}, seconds=0.0)
    folder = tmp_path / "judged" / "verdicts"
    run_verdicts(VerdictSettings(judge=JUDGE), run / "1", stored, folder, serving)
    with GradingPool(workers=1) as grader:
        judged = api.judge_traces(traces, problems, grader, judge=JUDGE, serving=serving)
        assert list(judged) == list(read_records(folder / "verdicts.jsonl", Verdict))


def test_what_a_judge_fails_to_answer_stays_undecided_and_is_not_asked_again(run: Path) -> None:
    problems, _ = problems_and_traces(run)
    judges = Judges(lambda request: failed("HTTP 503: overloaded"))
    judge = Judge.of(JUDGE, api.Serving(open_sampler=judges))
    by_id = {problem.id: problem for problem in problems}
    replies = judging.Replies()
    with GradingPool(workers=1) as grader:
        by_rules = api.judge_traces(unsure(problems[:2]), problems, grader)
        # Asked one by one: the second sample of a problem comes after the first has failed.
        verdicts = list(ask_about_undecided(by_rules, by_id, judge, replies, window=1))
    assert [verdict.how for verdict in verdicts] == ["rule"] * 4
    assert [verdict.grade.outcome for verdict in verdicts] == ["correct", *["undecided"] * 3]
    assert [request.id for request in judges.asked] == ["sums/train/0:1", "sums/train/1:0"]
    assert judges.opened == 1 and replies.lost == {"HTTP 503: overloaded": 2}


def test_what_you_have_is_not_sampled_again(run: Path) -> None:
    problems, written = problems_and_traces(run)
    sampling, prompt = settings().resolve(), load_prompt("question")
    have = {trace.id for trace in written}
    with ScriptedSampler(text_of, model="fake") as sampler:
        more = list(api.sample_traces(problems, sampler, prompt, sampling, n=3, have=have))
        anew = list(api.sample_traces(problems, sampler, prompt, sampling, n=3))
    assert [trace.id for trace in more] == [f"{problem.id}:2" for problem in problems]
    assert more == [trace for trace in anew if trace.sample == 2]


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
