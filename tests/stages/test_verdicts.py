"""Stage 3: one verdict per trace, in order, resumable, the five outcomes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from traces_kit import ONE_WORKER, make_partial

from reasondistill.config import VerdictSettings
from reasondistill.errors import StageError
from reasondistill.models.samplers.opening import Serving
from reasondistill.records import (
    Completion,
    Finish,
    Origin,
    Problem,
    PseudoLabel,
    Record,
    Sampling,
    Trace,
    Verdict,
)
from reasondistill.runs.session import Session
from reasondistill.runs.store import (
    Identity,
    StopSignal,
    finish_stage,
    open_stage,
    read_records,
    reopen_stage,
    require_complete,
    write_records,
)
from reasondistill.stages.verdicts import run_verdicts

ORIGIN = Origin(dataset="d", revision="r", split="s", row=0)


def problem(name: str, answer: str) -> Problem:
    return Problem(id=name, question="?", answer=answer, origin=ORIGIN)


def trace(name: str, text: str, finish: Finish = "stop", think: str = "none") -> Trace:
    done = Completion(
        reasoning=None,
        answer_text=text,
        think=think,
        finish=finish,
        prompt_tokens=1,
        tokens=1,
        seconds=0.0,
    )  # type: ignore[arg-type]
    return Trace(
        id=name,
        problem_id=name.rpartition(":")[0],
        sample=0,
        model="m",
        prompt="p",
        sampling=Sampling(),
        key=name,
        seed=0,
        completion=done,
    )


def stage(folder: Path, file: str, records: list[Record], n: int = 1) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    open_stage(folder, Identity(file, 1, {"n": n, "count": len(records)}, {}), derived=True)
    write_records(folder / f"{file}.jsonl", records)
    finish_stage(
        folder,
        counts={"in": len(records), "out": len(records)},
        seconds=0.0,
        files=[f"{file}.jsonl"],
    )
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path, Path]:
    problems = stage(
        tmp_path / "1", "problems", [problem("set/0", "42"), problem("set/1", r"\frac{1}{2}")]
    )
    traces: list[Record] = [
        trace("set/0:0", r"So \boxed{42}."),
        trace("set/0:1", r"So \boxed{41}."),
        trace("set/0:2", "I go on and on", finish="length"),
        trace("set/0:3", "", think="open"),
        trace("set/0:4", "", finish="error"),
        trace("set/1:0", r"The answer is $0.5$."),
        trace("set/1:1", r"\boxed{\frac{2}{4} \cdot x^0}"),
    ]
    return problems, stage(tmp_path / "2", "traces", traces), tmp_path / "3"


def outcomes(folder: Path) -> list[str]:
    return [verdict.grade.outcome for verdict in read_records(folder / "verdicts.jsonl", Verdict)]


def test_each_trace_gets_one_verdict_in_order_and_the_counts_add_up(
    inputs: tuple[Path, Path, Path],
) -> None:
    manifest = run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    verdicts = list(read_records(inputs[2] / "verdicts.jsonl", Verdict))
    assert [verdict.trace_id for verdict in verdicts] == [
        "set/0:0",
        "set/0:1",
        "set/0:2",
        "set/0:3",
        "set/0:4",
        "set/1:0",
        "set/1:1",
    ]
    assert [verdict.problem_id for verdict in verdicts[-2:]] == ["set/1", "set/1"]
    assert outcomes(inputs[2]) == [
        "correct",
        "wrong",
        "truncated",
        "no_answer",
        "undecided",
        "correct",
        "correct",
    ]
    assert manifest.counts == {"in": 7, "out": 7}
    assert (
        manifest.figures["correct"],
        manifest.figures["wrong"],
        manifest.figures["undecided:engine_error"],
    ) == (3, 1, 1)


def test_a_killed_run_goes_on_to_the_same_file(inputs: tuple[Path, Path, Path]) -> None:
    run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    file = inputs[2] / "verdicts.jsonl"
    whole = file.read_bytes()
    make_partial(inputs[2])
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]) + b'{"trace_id": "torn')
    again = run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    assert file.read_bytes() == whole
    assert again.counts == {"in": 7, "out": 7}


def test_a_verdict_that_was_changed_between_two_sessions_is_given_again(
    inputs: tuple[Path, Path, Path],
) -> None:
    run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    file = inputs[2] / "verdicts.jsonl"
    whole = file.read_bytes()
    reopen_stage(inputs[2], identity_of(inputs[2]), lambda _: True)
    file.write_bytes(whole.replace(b'"correct"', b'"wrong"', 1))
    again = run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    assert file.read_bytes() == whole
    assert again.counts == {"in": 7, "out": 7}


def identity_of(folder: Path) -> Identity:
    made_from = require_complete(folder).identity
    return Identity(**made_from)


def test_a_finished_stage_is_not_done_again(inputs: tuple[Path, Path, Path]) -> None:
    run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    file = inputs[2] / "verdicts.jsonl"
    before = file.stat().st_mtime_ns
    assert run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER)).status == "complete"
    assert file.stat().st_mtime_ns == before


def test_other_traces_make_the_verdicts_anew(inputs: tuple[Path, Path, Path]) -> None:
    run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    problems, traces, folder = inputs
    stage(traces, "traces", [trace("set/0:0", r"\boxed{7}")], n=2)
    run_verdicts(VerdictSettings(), problems, traces, folder, Serving(ONE_WORKER))
    assert outcomes(folder) == ["wrong"]


def test_traces_that_were_drawn_again_and_came_out_otherwise_are_graded_anew(
    inputs: tuple[Path, Path, Path],
) -> None:
    """A GPU repeats no draw to the bit: the same settings do not make the same traces."""
    problems, traces, folder = inputs
    for text, outcome in ((r"\boxed{42}", "correct"), (r"\boxed{7}", "wrong")):
        stage(traces, "traces", [trace("set/0:0", text)], n=2)
        run_verdicts(VerdictSettings(), problems, traces, folder, Serving(ONE_WORKER))
        assert outcomes(folder) == [outcome]


def test_keeping_old_work_never_pairs_old_verdicts_with_new_traces(
    inputs: tuple[Path, Path, Path],
) -> None:
    run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    problems, traces, folder = inputs
    run_verdicts(
        VerdictSettings(policy="strict"),
        problems,
        traces,
        folder,
        Serving(ONE_WORKER),
        Session(keep_old=True),
    )
    assert len(outcomes(folder)) == 7
    stage(traces, "traces", [trace("set/0:0", r"\boxed{7}")], n=2)
    run_verdicts(
        VerdictSettings(), problems, traces, folder, Serving(ONE_WORKER), Session(keep_old=True)
    )
    assert outcomes(folder) == ["wrong"]


def test_another_policy_grades_the_stored_traces_anew(inputs: tuple[Path, Path, Path]) -> None:
    before = run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER))
    after = run_verdicts(VerdictSettings(policy="evalchemy-string"), *inputs, Serving(ONE_WORKER))
    assert after.fingerprint != before.fingerprint
    graded = list(read_records(inputs[2] / "verdicts.jsonl", Verdict))
    assert len(graded) == before.counts["out"]


def test_a_stop_request_keeps_what_is_done(inputs: tuple[Path, Path, Path]) -> None:
    stop = StopSignal()
    stop.requested = True
    with pytest.raises(StageError, match="on request"):
        run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER), Session(stop=stop))
    assert len(outcomes(inputs[2])) == 7
    assert run_verdicts(VerdictSettings(), *inputs, Serving(ONE_WORKER)).status == "complete"


def test_a_trace_without_its_problem_is_named(inputs: tuple[Path, Path, Path]) -> None:
    problems, traces, folder = inputs
    stage(traces, "traces", [trace("other/9:0", "1")], n=2)
    with pytest.raises(StageError, match="other/9"):
        run_verdicts(VerdictSettings(), problems, traces, folder, Serving(ONE_WORKER))


def test_a_tie_and_a_majority_of_refusals_label_nothing(tmp_path: Path) -> None:
    problems = stage(tmp_path / "1", "problems", [problem("set/0", ""), problem("set/1", "")])
    tied = [r"\boxed{1}", r"\boxed{2}", r"\boxed{2}", r"\boxed{1}"]
    refused = ["I do not know.", "I don't know.", "Not sure.", r"\boxed{7}"]
    traces: list[Record] = [
        *(trace(f"set/0:{sample}", text) for sample, text in enumerate(tied)),
        *(trace(f"set/1:{sample}", text) for sample, text in enumerate(refused)),
    ]
    folder = tmp_path / "3"
    run_verdicts(
        VerdictSettings(majority=0.25),
        problems,
        stage(tmp_path / "2", "traces", traces),
        folder,
        Serving(ONE_WORKER),
    )
    grades = [verdict.grade for verdict in read_records(folder / "verdicts.jsonl", Verdict)]
    assert [(grade.outcome, grade.reason) for grade in grades] == [
        *[("undecided", "tie")] * 4,
        *[("no_answer", "refusal")] * 3,
        ("undecided", "no_majority"),
    ]
    labels = list(read_records(folder / "labels.jsonl", PseudoLabel))
    assert [(label.answer, label.votes, label.n, label.accepted) for label in labels] == [
        ("1", 2, 4, False),
        ("7", 1, 4, False),
    ]


def test_where_there_is_no_gold_the_samples_vote_by_equivalence(tmp_path: Path) -> None:
    problems = stage(
        tmp_path / "1",
        "problems",
        [problem("set/0", ""), problem("set/1", "7"), problem("set/2", ""), problem("set/3", "")],
    )
    traces: list[Record] = [
        trace("set/0:0", r"So \boxed{0.5}."),
        trace("set/0:1", r"So \boxed{\frac12}."),
        trace("set/0:2", r"So \boxed{3}."),
        trace("set/0:3", "I go on and on", finish="length"),
        trace("set/1:0", r"\boxed{7}"),
        trace("set/2:0", r"\boxed{1}"),
        trace("set/2:1", r"\boxed{2}"),
        trace("set/3:0", "", think="open"),
    ]
    folder = tmp_path / "3"
    manifest = run_verdicts(
        VerdictSettings(majority=0.5),
        problems,
        stage(tmp_path / "2", "traces", traces),
        folder,
        Serving(ONE_WORKER),
    )
    verdicts = list(read_records(folder / "verdicts.jsonl", Verdict))
    assert [verdict.grade.outcome for verdict in verdicts] == [
        *("correct", "correct", "wrong", "truncated"),
        "correct",
        *("undecided", "undecided"),
        "no_answer",
    ]
    assert [verdict.how for verdict in verdicts] == ["majority"] * 3 + ["rule"] * 2 + [
        "majority"
    ] * 2 + ["rule"]
    assert (verdicts[0].vote_share, verdicts[4].vote_share) == (0.5, None)
    labels = list(read_records(folder / "labels.jsonl", PseudoLabel))
    assert [
        (label.problem_id, label.answer, label.votes, label.n, label.accepted) for label in labels
    ] == [
        ("set/0", "0.5", 2, 4, True),
        ("set/2", "1", 1, 2, False),
    ]
    assert manifest.figures["unlabelled_problems"] == 3 and manifest.figures["pseudo_labels"] == 1
