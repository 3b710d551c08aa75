"""The judge is asked about undecided answers only, once each, and believed only when it keeps to
the form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from test_verdicts import problem, stage, trace
from traces_kit import ONE_WORKER, make_partial

from reasondistill import pipeline
from reasondistill.config import (
    Cluster,
    JudgeSettings,
    SampledModel,
    VerdictSettings,
    load_pipeline,
)
from reasondistill.doctor import check
from reasondistill.errors import ConfigError, Interrupted, MissingDependencyError, StageError
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import Request, failed
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.pipeline import Run
from reasondistill.records import Completion, EvalRecord, JudgeReply, Problem, Record, Verdict
from reasondistill.runs.session import ALONE, Session
from reasondistill.runs.store import Manifest, StopSignal, read_manifest, read_records
from reasondistill.stages.report.facts import read_facts, read_stages
from reasondistill.stages.report.wording import caveats
from reasondistill.stages.verdicts import run_verdicts
from reasondistill.stages.verdicts.judge import read_verdict, short_name
from reasondistill.stages.verdicts.undecided import REPLIES

Script = Callable[[Request], str | Completion]
HUGE = r"\boxed{9^{9^{9^{9}}}}"  # the grader does not try such a number: undecided
JUDGE = JudgeSettings(model="org/wise-model@x", sampler="scripted")


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Seven traces; the rules leave a:0, a:1 (the same answer) and b:0 undecided, and a:4, which
    failed in the engine.
    """
    problems = stage(tmp_path / "1", "problems", [problem("set/a", "42"), problem("set/b", "7")])
    traces: list[Record] = [
        trace("set/a:0", HUGE),
        trace("set/a:1", f"Once more: {HUGE}"),
        trace("set/a:2", r"\boxed{42}"),
        trace("set/a:3", r"\boxed{41}"),
        trace("set/a:4", "", finish="error"),
        trace("set/b:0", HUGE),
        trace("set/b:1", "", think="open"),
    ]
    return problems, stage(tmp_path / "2", "traces", traces), tmp_path / "3"


class Bench:
    """Opens scripted judges and remembers what they were asked."""

    def __init__(self, script: Script | str = "VERDICT: EQUAL") -> None:
        self.asked: list[Request] = []
        self.opened = 0
        self._script = script

    def __call__(
        self, teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]
    ) -> ScriptedSampler:
        self.opened += 1
        return ScriptedSampler(self._reply, model="org/wise-model@0123456789abcdef")

    def _reply(self, request: Request) -> str | Completion:
        self.asked.append(request)
        return self._script if isinstance(self._script, str) else self._script(request)


def run(
    inputs: tuple[Path, Path, Path],
    bench: Bench,
    judge: JudgeSettings = JUDGE,
    session: Session = ALONE,
    *,
    policy: str = "default",
    failures_allowed: float = 0.01,
) -> Manifest:
    return run_verdicts(
        VerdictSettings(judge=judge, policy=policy),
        *inputs,
        Serving(ONE_WORKER, bench),
        session,
        failures_allowed=failures_allowed,
    )


def verdicts_in(folder: Path) -> dict[str, Verdict]:
    return {
        verdict.trace_id: verdict for verdict in read_records(folder / "verdicts.jsonl", Verdict)
    }


# ---- what it decides -----------------------------------------------------------------------------


def test_only_undecided_answers_are_asked_about_and_equal_questions_once(
    inputs: tuple[Path, Path, Path],
) -> None:
    bench = Bench(
        lambda request: (
            "They agree.\nVERDICT: EQUAL"
            if request.id.startswith("set/a")
            else "VERDICT: DIFFERENT"
        )
    )
    manifest = run(inputs, bench)
    assert [request.id for request in bench.asked] == ["set/a:0", "set/b:0"]
    graded = verdicts_in(inputs[2])
    assert {
        name: verdict.how for name, verdict in graded.items() if verdict.how != "rule"
    } == dict.fromkeys(("set/a:0", "set/a:1", "set/b:0"), "judge")
    assert [verdict.grade.outcome for verdict in graded.values()] == [
        *("correct", "correct", "correct", "wrong", "undecided"),
        *("wrong", "no_answer"),
    ]
    first = graded["set/a:0"].grade
    assert (first.layer, first.reason, first.extracted) == (
        "judge",
        "wise-model@01234567",
        "9^{9^{9^{9}}}",
    )
    assert graded["set/a:4"].grade.reason == "engine_error"
    assert manifest.counts == {"in": 7, "out": 7}
    assert (
        manifest.figures["judged"],
        manifest.figures["judged_correct"],
        manifest.figures["judged_wrong"],
    ) == (3, 2, 1)
    assert manifest.figures["correct"] == 3


def test_the_judge_sees_question_gold_and_answer_and_draws_greedily(
    inputs: tuple[Path, Path, Path],
) -> None:
    bench = Bench()
    run(inputs, bench)
    text = bench.asked[1].rendered.messages[-1].content
    assert "\n?\n" in text and "\n7\n" in text and "\n9^{9^{9^{9}}}\n" in text
    assert not any(part in text for part in ("{question}", "{gold}", "{answer}"))
    assert bench.asked[0].sampling.temperature == 0.0


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("VERDICT: EQUAL", "correct"),
        ("I compare.\n\n  VERDICT: DIFFERENT  \n", "wrong"),
        ("<think>VERDICT: DIFFERENT</think>\nVERDICT: EQUAL", "correct"),
        ("<think>VERDICT: EQUAL", "undecided"),
        ("VERDICT: UNCLEAR", "undecided"),
        ("VERDICT: EQUAL\nor perhaps not", "undecided"),
        ("VERDICT: DIFFERENT\nNo, wait.\nVERDICT: EQUAL", "undecided"),
        ("VERDICT: EQUAL\nVERDICT: EQUAL", "correct"),
        ("verdict: equal", "undecided"),
        ("**VERDICT: EQUAL**", "undecided"),
        ("The verdict is VERDICT: EQUAL", "undecided"),
        ("VERDICT: EQUAL or VERDICT: DIFFERENT", "undecided"),
        ("VERDICT: NOT EQUAL", "undecided"),
        ("", "undecided"),
    ],
)
def test_a_reply_counts_only_by_the_letter(reply: str, outcome: str) -> None:
    completion = split_reasoning(
        reply, opens=None, finish="stop", prompt_tokens=1, tokens=1, seconds=0.0
    )
    assert read_verdict(completion) == outcome
    assert read_verdict(completion.model_copy(update={"finish": "length"})) == "undecided"


def test_an_unclear_reply_leaves_the_answer_undecided_and_is_not_asked_for_again(
    inputs: tuple[Path, Path, Path],
) -> None:
    bench = Bench("Hard to say.")
    manifest = run(inputs, bench)
    grade = verdicts_in(inputs[2])["set/b:0"].grade
    assert (grade.outcome, grade.layer, grade.reason) == ("undecided", "judge", "judge_unclear")
    assert manifest.figures["undecided:judge_unclear"] == 3
    make_partial(inputs[2])
    run(inputs, bench)
    assert bench.opened == 1


def test_a_gold_that_says_nothing_and_an_answer_shown_in_part_are_not_asked_about(
    tmp_path: Path,
) -> None:
    problems = stage(tmp_path / "1", "problems", [problem("set/a", "nan"), problem("set/b", "7")])
    long = r"\boxed{" + "x+" * 3_000 + "x}"
    traces = stage(
        tmp_path / "2", "traces", [trace("set/a:0", r"\boxed{3}"), trace("set/b:0", long)]
    )
    bench = Bench()
    manifest = run((problems, traces, tmp_path / "3"), bench)
    assert {verdict.grade.outcome for verdict in verdicts_in(tmp_path / "3").values()} == {
        "undecided"
    }
    assert bench.opened == 0 and manifest.figures["judged"] == 0


def test_a_judges_name_is_short_and_keeps_its_revision() -> None:
    assert (
        short_name("Qwen/Qwen2.5-7B-Instruct@a09a35458c702b33eeacc393d103063234e8bc28")
        == "Qwen2.5-7B-Instruct@a09a3545"
    )
    assert short_name("gpt-5-mini") == "gpt-5-mini"


# ---- never twice ---------------------------------------------------------------------------------


def test_without_a_judge_nothing_changes(inputs: tuple[Path, Path, Path]) -> None:
    plain = run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    before = (inputs[2] / "verdicts.jsonl").read_bytes()
    assert sorted(path.name for path in inputs[2].iterdir()) == [
        ".manifest.copy.json",
        "manifest.json",
        "metrics.jsonl",
        "verdicts.jsonl",
    ]
    assert "judge" not in plain.identity["inputs"] and "judged" not in plain.figures
    run(inputs, Bench())
    assert (inputs[2] / "verdicts.jsonl").read_bytes() != before
    again = run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    assert (inputs[2] / "verdicts.jsonl").read_bytes() == before
    assert again.fingerprint == plain.fingerprint


def test_another_policy_or_prompt_grades_anew_and_asks_only_what_is_new(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    bench = Bench()
    run(inputs, bench)
    before = (inputs[2] / "verdicts.jsonl").read_bytes()
    run(inputs, bench, policy="lenient")
    assert (inputs[2] / "verdicts.jsonl").read_bytes() == before
    assert len(bench.asked) == 2 and bench.opened == 1
    mine = tmp_path / "mine.toml"
    mine.write_text('about = "a"\nuser = "{question} {gold} {answer}"\n')
    run(inputs, bench, JUDGE.model_copy(update={"prompt": str(mine)}))
    assert len(bench.asked) == 4
    run(inputs, bench, JUDGE.model_copy(update={"model": "other"}))
    assert len(bench.asked) == 6


def test_a_finished_stage_opens_no_judge(inputs: tuple[Path, Path, Path]) -> None:
    bench = Bench()
    run(inputs, bench)
    before = (inputs[2] / "verdicts.jsonl").stat().st_mtime_ns
    run(inputs, bench)
    assert (inputs[2] / "verdicts.jsonl").stat().st_mtime_ns == before and bench.opened == 1


def test_a_stop_keeps_the_replies_and_the_next_run_asks_the_rest(
    inputs: tuple[Path, Path, Path],
) -> None:
    stop = StopSignal()

    def once(request: Request) -> str:
        stop.requested = True
        return "VERDICT: EQUAL"

    first, second, whole = Bench(once), Bench(), Bench()
    with pytest.raises(Interrupted):
        run(inputs, first, session=Session(stop=stop))
    manifest = read_manifest(inputs[2])
    assert manifest is not None and manifest.status == "partial"
    run(inputs, second)
    assert [request.id for request in first.asked + second.asked] == ["set/a:0", "set/b:0"]
    run((*inputs[:2], inputs[2].with_name("whole")), whole)
    for name in ("verdicts.jsonl", REPLIES):
        assert (inputs[2] / name).read_bytes() == (inputs[2].with_name("whole") / name).read_bytes()


@pytest.mark.parametrize(
    "where",
    ["in the rules' verdicts", "in a reply", "before the judge's verdicts", "before the manifest"],
)
def test_a_kill_anywhere_ends_in_the_same_file(inputs: tuple[Path, Path, Path], where: str) -> None:
    file, replies = inputs[2] / "verdicts.jsonl", inputs[2] / REPLIES
    run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    by_rules = file.read_bytes()
    run(inputs, Bench())
    whole, bench = file.read_bytes(), Bench()
    make_partial(inputs[2])
    if where == "in the rules' verdicts":
        file.write_bytes(by_rules[:500])
        replies.unlink()
    elif where == "in a reply":
        file.write_bytes(by_rules)
        replies.write_bytes(replies.read_bytes()[:-40])
    elif where == "before the judge's verdicts":
        file.write_bytes(by_rules)
    manifest = run(inputs, bench)
    assert file.read_bytes() == whole
    assert manifest.figures["judged"] == 3
    assert len(bench.asked) == {"in the rules' verdicts": 2, "in a reply": 1}.get(where, 0)


def test_a_failed_request_leaves_the_answer_undecided_and_the_next_run_asks_again(
    inputs: tuple[Path, Path, Path],
) -> None:
    broken = Bench(lambda request: failed("429") if request.id == "set/b:0" else "VERDICT: EQUAL")
    with pytest.raises(
        StageError, match="the judge .* lost 1 of 2 answers, failures_allowed = 0.01: 1 × 429"
    ):
        run(inputs, broken)
    manifest = run(inputs, broken, failures_allowed=0.5)
    assert manifest.status == "complete" and manifest.figures["judge_failed"] == 1
    assert verdicts_in(inputs[2])["set/b:0"].how == "rule"
    assert [ruling.trace_id for ruling in read_records(inputs[2] / REPLIES, JudgeReply)] == [
        "set/a:0"
    ]
    healed = Bench()
    assert run(inputs, healed, session=Session(heal=False)) == manifest and healed.opened == 0
    manifest = run(inputs, healed)
    assert [request.id for request in healed.asked] == ["set/b:0"]
    assert "judge_failed" not in manifest.figures and manifest.figures["judged"] == 3


# ---- the pipeline file ---------------------------------------------------------------------------

PIPELINE = """
name = "small"
[problems]
source = "file"
dataset = "problems.jsonl"
[traces]
prompt = "question"
[[traces.teachers]]
model = "script.jsonl"
sampler = "scripted"
[verdicts.judge]
"""


def load(folder: Path, judge: str) -> Run:
    path = folder / "p.toml"
    path.write_text(PIPELINE + judge)
    return Run(load_pipeline(path), Cluster(), folder / "run", path)


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ('modle = "m"', r"\[verdicts.judge\] modle: unknown key. Did you mean model?"),
        ('model = "m"\nsampler = "reference"', r"\[verdicts.judge\] sampler: .*'reference'"),
        ('model = "m"\nsettings = "qwen2.5"', r"p.toml \[verdicts.judge\] .*unknown"),
        (
            'model = "none.jsonl"\nsampler = "scripted"',
            r"\[verdicts.judge\] model = 'none.jsonl': no such script",
        ),
        ('model = "./no/folder"', "no such folder"),
        ('model = "m/m"\nprompt = "judges"', "Did you mean judge?"),
        (
            'model = "m/m"\nprompt = "think"',
            r"prompt = 'think': the user text must contain \{gold\}",
        ),
    ],
)
def test_a_wrong_judge_is_found_before_anything_runs(
    tmp_path: Path, judge: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check(load(tmp_path, judge))


def test_a_judge_needs_the_package_that_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"reasondistill\[openai\]"):
        check(load(tmp_path, 'model = "m"\nsampler = "openai"'))


def test_a_prompt_without_gold_or_with_shots_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    shot = '[[few_shot]]\nquestion = "q"\nanswer = "a"\n'
    path.write_text(f'about = "a"\nuser = "{{question}} {{gold}} {{answer}}"\n{shot}')
    with pytest.raises(ConfigError, match="few_shot turns"):
        check(load(tmp_path, f'model = "m/m"\nprompt = "{path}"'))


def test_what_is_filled_in_is_not_filled_again() -> None:
    turns = load_prompt("judge").prompt.render(
        "Is {gold} a {word}?", gold="{answer}", answer="{question}"
    )
    assert "Is {gold} a {word}?" in turns[-1].content
    assert "\n{answer}\n" in turns[-1].content and "\n{question}\n" in turns[-1].content


def test_the_command_asks_a_scripted_judge(tmp_path: Path) -> None:
    from test_cli import run as command

    (tmp_path / "problems.jsonl").write_text(
        '{"question": "Big?", "answer": "42"}\n{"question": "Six?", "answer": "6"}\n'
    )
    rows = [{"question": "Big?", "text": HUGE}, {"question": "Six?", "text": r"\boxed{6}"}]
    (tmp_path / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "judge.jsonl").write_text('{"question": "Big?", "text": "VERDICT: EQUAL"}\n')
    (tmp_path / "p.toml").write_text(PIPELINE + 'model = "judge.jsonl"\nsampler = "scripted"\n')
    printed = command(tmp_path, "run", "p.toml", "--until", "verdicts", "--set", "traces.n=2")
    assert "judge: 1/1 · 1 correct" in printed
    graded = verdicts_in(tmp_path / "runs" / "small" / "3-verdicts")
    assert [(verdict.how, verdict.grade.outcome) for verdict in graded.values()] == [
        ("judge", "correct")
    ] * 2 + [("rule", "correct")] * 2


def test_answers_of_evals_are_judged_by_the_same_function(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"question": "Big?", "answer": "42"}\n')
    (tmp_path / "sums.toml").write_text(
        f'name = "sums"\n[problems]\nsource = "file"\ndataset = "{tmp_path}/sums.jsonl"\n'
    )
    (tmp_path / "script.jsonl").write_text(json.dumps({"question": "Big?", "text": HUGE}) + "\n")
    (tmp_path / "judge.jsonl").write_text('{"question": "Big?", "text": "VERDICT: EQUAL"}\n')
    measured = (
        f'[[evals.models]]\nname = "student"\nmodel = "{tmp_path}/script.jsonl"\nsampler '
        '= "scripted"\nprompt = "question"\n'
    )
    evals = f'[evals]\nbenchmarks = ["{tmp_path}/sums.toml"]\nteacher = false\n'
    run = load(
        tmp_path, f'model = "{tmp_path}/judge.jsonl"\nsampler = "scripted"\n{evals}{measured}'
    )
    with StopSignal() as stop:
        for task in pipeline.plan(run, ["evals"], share_engine_process=True):
            pipeline.run_task(run, task, stop)
    record = next(iter(read_records(run.stage("evals") / "records.jsonl", EvalRecord)))
    assert (
        record.grade.outcome == "correct"
        and record.grade.layer == "judge"
        and record.grade.reason.startswith("judge@")
    )
    said = caveats(
        read_facts(run.folder, read_stages(run.folder, besides=run.stage("report")), traces=0)
    )
    assert any(
        "a model judged" in line and "1 of 1 in 6-evals/sums/student/verdicts by judge@" in line
        for line in said
    )
