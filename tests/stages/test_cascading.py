"""A cascade from stored samples: counted anew from the files, printed, and in the report."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from fake_run import fail_samples, fake_run
from test_report import make
from typer.testing import CliRunner

from reasondistill.cli.console import out
from reasondistill.cli.entry import app
from reasondistill.errors import ConfigError, StageError
from reasondistill.grading import GradingPool
from reasondistill.records import MeasuredModel, Trace, Verdict
from reasondistill.runs.store import read_records
from reasondistill.stages import evals
from reasondistill.stages.evals.cascading import first_samples, stored_cascades
from reasondistill.tables import MOST_STEPS, cascade_sentences, cascade_table

RIGHT = {"teacher": 0.9, "sft": 0.45, "base": 0.1}
STUDENT, TEACHER = "sft=mine/sft", "teacher=mine/teacher"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    fake_run(place / "mine", problems=40, samples=4, right=RIGHT)
    return place


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "_width", 200)


def cascade(runs: Path, **options):  # noqa: ANN201 - of stored_cascades
    samples = options.pop("samples", None)
    with GradingPool(workers=1) as pool:
        both = first_samples(STUDENT, runs, samples), first_samples(TEACHER, runs)
        (found,) = stored_cascades(*both, pool, **options)
    return found


def answers(runs: Path, model: str) -> dict[str, list[tuple[str | None, bool, int]]]:
    """Problem → of each sample the answer, whether it is right, and its tokens."""
    cell = runs / "mine/6-evals/gsm_symbolic" / model
    tokens = {t.id: t.completion.tokens for t in read_records(cell / "traces/traces.jsonl", Trace)}
    found: dict[str, list[tuple[str | None, bool, int]]] = {}
    for verdict in read_records(cell / "verdicts/verdicts.jsonl", Verdict):
        grade = verdict.grade
        one = (grade.extracted, grade.is_correct, tokens[verdict.trace_id])
        found.setdefault(verdict.problem_id, []).append(one)
    return found


def test_every_threshold_is_what_counting_the_stored_answers_gives(runs: Path) -> None:
    found = cascade(runs, price=3.0)
    theirs = answers(runs, "teacher")
    for step in found.steps:
        right, cost, asked = Fraction(0), Fraction(0), 0
        for problem, samples in answers(runs, "sft").items():
            counted = Counter(answer for answer, _, _ in samples if answer is not None)
            most = max(counted.values(), default=0)
            cost += sum(tokens for _, _, tokens in samples)
            if most < step.votes:
                asked += 1
                right += Fraction(sum(is_right for _, is_right, _ in theirs[problem]), 4)
                cost += 3 * Fraction(sum(tokens for _, _, tokens in theirs[problem]), 4)
                continue
            gold = next((answer for answer, is_right, _ in samples if is_right), None)
            if gold is not None and counted[gold] == most:
                right += Fraction(1, list(counted.values()).count(most))
        assert step.asked == asked / 40
        assert step.accuracy.mean == pytest.approx(float(right / 40))
        assert step.cost.mean == pytest.approx(float(cost / 40))
    assert len(found.steps) >= 3 and found.k == 4 and found.n == 40
    assert found.once.cost == pytest.approx(found.voting.cost / 4)


def test_the_ends_are_the_scores_of_the_evals(runs: Path) -> None:
    """maj@4 of the student, pass@1 of the teacher; by two votes its maj@2."""
    plan = evals.EvalPlan(
        models=["teacher", "sft"],
        baselines={"sft": ["teacher"]},
        benchmarks={"gsm_symbolic": 4},
        about=[MeasuredModel(name="teacher", is_teacher=True), MeasuredModel(name="sft")],
    )
    with GradingPool(workers=1) as pool:
        evals.collect(runs / "mine/6-evals", plan, pool)
    scores = json.loads((runs / "mine/6-evals/scores.json").read_text())
    means = {(row["model"], row["metric"]): row["mean"] for row in scores["scores"]}
    one, two = cascade(runs), cascade(runs, teacher_votes=2)
    assert one.voting.accuracy.mean == pytest.approx(means["sft", "maj@4"])
    assert one.once.accuracy.mean == pytest.approx(means["sft", "pass@1"])
    assert one.teacher_alone.accuracy.mean == pytest.approx(means["teacher", "pass@1"])
    assert two.teacher_alone.accuracy.mean == pytest.approx(means["teacher", "maj@2"])
    assert two.teacher_alone.cost == pytest.approx(2 * one.teacher_alone.cost)
    (stored,) = scores["cascades"]
    assert stored == json.loads(one.model_dump_json())
    folder = make(runs / "mine")
    page = (folder / "report.html").read_text(encoding="utf-8")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert 'id="cascades"' in page and "Cascade of sft and teacher on gsm_symbolic" in page
    assert json.loads((folder / "report.json").read_text())["cascades"] == [stored]
    assert "random routing at the same cost" in text and "| both | 4 of 4 |" in text


def test_fewer_samples_are_the_first_ones(runs: Path) -> None:
    found = cascade(runs, samples=2)
    assert found.k == 2 and {step.votes for step in found.steps} <= {1, 2}
    tokens = [sum(one[2] for one in rows[:2]) for rows in answers(runs, "sft").values()]
    assert found.voting.cost == pytest.approx(sum(tokens) / 40)


def test_the_command_prints_a_table_sentences_markdown_and_json(runs: Path) -> None:
    command = ["cascade", STUDENT, TEACHER, "--runs", str(runs), "--price", "10"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "sft, 4 votes" in shown.output and "teacher, once" in shown.output
    assert "at the same cost" in shown.output and "five-fold cross-validation" in shown.output
    as_json = CliRunner().invoke(app, [*command, "--json"])
    (found,) = json.loads(as_json.output)
    assert found["price"] == 10 and found["chosen"]["word"] in ("helps", "cannot be told", "hurts")
    markdown = CliRunner().invoke(app, [*command, "--markdown"])
    assert markdown.output.startswith("| asked of | threshold |")


def test_a_problem_that_one_of_them_lost_is_left_out_of_both(runs: Path, tmp_path: Path) -> None:
    fake_run(tmp_path / "mine", problems=40, samples=4, right=RIGHT)
    cell = tmp_path / "mine/6-evals/gsm_symbolic/sft/traces"
    fail_samples(cell, ["gsm_symbolic/test/3:1"], "HTTP 413: too long", fault="input")
    assert cascade(tmp_path).n == 39


def test_what_makes_no_cascade_is_refused_by_name(runs: Path, tmp_path: Path) -> None:
    fake_run(tmp_path / "mine", problems=12, samples=1, right=RIGHT)
    with pytest.raises(StageError, match="one sample of each problem cannot disagree"):
        cascade(tmp_path)
    with pytest.raises(StageError, match="has 4 samples of each problem, not 5"):
        cascade(runs, teacher_votes=5)
    with pytest.raises(StageError, match="the first that is missing is"):
        cascade(runs, samples=9)
    with GradingPool(workers=1) as pool, pytest.raises(ConfigError, match="named twice"):
        list(stored_cascades(first_samples(STUDENT, runs), first_samples(STUDENT, runs), pool))
    log = tmp_path / "samples_gsm8k_2025-01-01T12-00-00.0.jsonl"
    log.write_text("{}\n")
    with pytest.raises(ConfigError):
        first_samples(str(log), runs)
    refused = CliRunner().invoke(app, ["cascade", STUDENT, TEACHER, "--price", "nan"])
    assert isinstance(refused.exception, ConfigError)


def test_a_dear_student_and_many_thresholds_are_said(runs: Path) -> None:
    found = cascade(runs, price=0.1)
    assert any("no cascade of them can save" in line for line in cascade_sentences(found))
    many = found.model_copy(update={"k": 64, "steps": found.steps[:1] * 40})
    rows = [row for row in cascade_table(many).rows if row[0] == "both"]
    assert len(rows) <= MOST_STEPS + 1
    few = found.model_copy(update={"chosen": None, "n": 8})
    assert "8 problems are too few" in cascade_sentences(few)[0]
