"""Scores are complete or refused, and equal to what one counts by hand."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import fake_run

from reasondistill import evals
from reasondistill.curation.overlap import overlapping
from reasondistill.errors import StageError
from reasondistill.evals.scoring import token_budgets
from reasondistill.evals.sheets import Sheet
from reasondistill.evals.votes import majority_rates, wrong_classes
from reasondistill.grading import GradingPool
from reasondistill.records import Difference, EvalRecord, Problem, Score, Trace, Verdict
from reasondistill.store import read_records, write_records

MODELS = ["sft", "answer-only", "base", "teacher"]
BASELINES = {"sft": ["answer-only", "base", "teacher"]}


def collect(run: Path, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"models": MODELS, "baselines": BASELINES} | changes
    asked["benchmarks"] = {"gsm_symbolic": asked.pop("n", 1)}
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", pool=pool, **asked)
    return json.loads((run / "6-evals" / "scores.json").read_text())


def cell(run: Path, model: str) -> Path:
    return run / "6-evals" / "gsm_symbolic" / model


def rewrite_traces(run: Path, model: str, traces: list[Trace]) -> None:
    write_records(cell(run, model) / "traces" / "traces.jsonl", traces)


def traces_of(run: Path, model: str) -> list[Trace]:
    return list(read_records(cell(run, model) / "traces" / "traces.jsonl", Trace))


def verdicts_of(run: Path, model: str) -> list[Verdict]:
    return list(read_records(cell(run, model) / "verdicts" / "verdicts.jsonl", Verdict))


def test_score_is_the_share_of_correct_verdicts(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    for row in collect(run)["scores"]:
        score = Score(**row)
        correct = [verdict.grade.is_correct for verdict in verdicts_of(run, score.model)]
        assert score.mean == pytest.approx(sum(correct) / 30)
        assert (score.n, score.k, score.metric, score.method) == (30, 1, "pass@1", "wilson")
        assert score.low <= score.mean <= score.high and score.high - score.low > 0.05


def test_differences_are_paired_over_problems(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    found = collect(run)
    means = {row["model"]: row["mean"] for row in found["scores"]}
    differences = [Difference(**row) for row in found["differences"]]
    assert [(d.model, d.baseline) for d in differences] == [("sft", b) for b in BASELINES["sft"]]
    assert all(d.mean == pytest.approx(means["sft"] - means[d.baseline]) for d in differences)
    assert differences[0].low > 0 and differences[0].p_value < 0.05


def test_every_sample_becomes_one_record(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=3)
    collect(run, n=3)
    records = list(read_records(run / "6-evals" / "records.jsonl", EvalRecord))
    assert len(records) == len({(r.model, r.trace_id) for r in records}) == 4 * 30 * 3
    traces = {trace.id: trace for trace in traces_of(run, "sft")}
    assert all(r.tokens == traces[r.trace_id].completion.tokens for r in records if r.model == "sft")


def test_several_samples_bring_pass_at_k_and_the_bootstrap_beside(tmp_path: Path) -> None:
    found = collect(fake_run(tmp_path, samples=4), n=4)
    scores = {(row["model"], row["metric"]): row for row in found["scores"]}
    assert scores["sft", "pass@4"]["mean"] >= scores["sft", "pass@1"]["mean"]
    assert {row["method"] for row in found["bootstrap"]} <= {"hierarchical bootstrap", "wilson"}
    boot = next(row for row in found["bootstrap"] if row["model"] == "sft")
    assert boot["low"] == pytest.approx(scores["sft", "pass@1"]["low"], abs=0.05)


def test_outcome_shares_add_up_and_tokens_are_means(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    found = collect(run)
    for model, shares in found["outcomes"]["gsm_symbolic"].items():
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["truncated"] == sum(t.completion.finish == "length" for t in traces_of(run, model)) / 30
    tokens = [trace.completion.tokens for trace in traces_of(run, "base")]
    assert found["tokens"]["gsm_symbolic"]["base"] == pytest.approx(sum(tokens) / len(tokens))


def test_a_missing_sample_is_refused_by_name(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    rewrite_traces(run, "sft", [t for t in traces_of(run, "sft") if t.sample == 0 and not t.problem_id.endswith("/7")])
    write_records(cell(run, "sft") / "verdicts" / "verdicts.jsonl", [v for v in verdicts_of(run, "sft") if not v.problem_id.endswith("/7")])
    with pytest.raises(StageError, match=r"sft: 29 of 30 samples .* gsm_symbolic/test/7:0"):
        collect(run)
    assert not (run / "6-evals" / "records.jsonl").exists()


def test_more_samples_asked_than_drawn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="60 of 120 samples"):
        collect(fake_run(tmp_path, samples=2), n=4)


def test_more_samples_on_disk_than_asked_are_left_aside(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=3)
    scores = collect(run, n=2)["scores"]
    correct = [v.grade.is_correct for t, v in zip(traces_of(run, "sft"), verdicts_of(run, "sft"), strict=True) if t.sample < 2]
    assert next(row["mean"] for row in scores if row["model"] == "sft" and row["metric"] == "pass@1") == pytest.approx(sum(correct) / 60)


def test_a_sample_that_failed_in_the_engine_is_not_a_wrong_answer(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    first, *rest = traces_of(run, "base")
    failed = first.model_copy(update={"completion": first.completion.model_copy(update={"finish": "error", "error": "429"})})
    rewrite_traces(run, "base", [failed, *rest])
    with pytest.raises(StageError, match=r"base: 1 samples failed in the engine, gsm_symbolic/test/0:0 first"):
        collect(run)


def test_verdicts_of_other_traces_are_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    rewrite_traces(run, "base", traces_of(run, "base")[::-1])
    with pytest.raises(StageError, match="traces and verdicts do not match"):
        collect(run)


def test_a_missing_verdict_is_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    write_records(cell(run, "base") / "verdicts" / "verdicts.jsonl", verdicts_of(run, "base")[:-1])
    with pytest.raises(StageError, match="stands beside no verdict"):
        collect(run)


def test_an_unfinished_stage_is_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    (cell(run, "base") / "verdicts" / "manifest.json").unlink()
    with pytest.raises(StageError, match=r"base/verdicts: missing"):
        collect(run)


def test_a_baseline_that_nobody_ran_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="gold-only"):
        collect(fake_run(tmp_path), baselines={"sft": ["gold-only"]})


def test_the_same_again_is_skipped_and_a_new_model_remakes_the_tables(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    collect(run, models=["sft", "base"], baselines={"sft": ["base"]})
    path = run / "6-evals" / "scores.json"
    before = path.stat().st_mtime_ns
    collect(run, models=["sft", "base"], baselines={"sft": ["base"]})
    assert path.stat().st_mtime_ns == before
    assert {row["model"] for row in collect(run)["scores"]} == set(MODELS)
    assert cell(run, "sft").exists()


def test_the_same_records_give_the_same_numbers(tmp_path: Path) -> None:
    first = collect(fake_run(tmp_path / "a", samples=4, seed=3), n=4)
    assert first == collect(fake_run(tmp_path / "b", samples=4, seed=3), n=4)


def test_a_limit_scores_the_first_problems_only_when_all_models_share_it(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    for model in MODELS:
        manifest = cell(run, model) / "traces" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"limit": 30', '"limit": 12'))
    assert {row["n"] for row in collect(run)["scores"]} == {12}
    manifest.write_text(manifest.read_text().replace('"limit": 12', '"limit": 9').replace('"fingerprint": "', '"fingerprint": "f'))
    with pytest.raises(StageError, match="different numbers of problems"):
        collect(run)


# ---- parts --------------------------------------------------------------------------------------------------------


def training_set(run: Path, texts: list[str]) -> Path:
    """A finished problems folder that holds these questions; its problems file."""
    folder = run / "1-problems"
    problems = list(read_records(folder / "problems.jsonl", Problem))
    write_records(folder / "problems.jsonl", [problems[0].model_copy(update={"question": text}) for text in texts])
    return folder / "problems.jsonl"


def test_problems_that_the_training_set_gives_away_are_scored_apart(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    questions = [p.question for p in read_records(run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem)]
    found = collect(run, training=training_set(run, [f"As asked: {questions[0]} Say it.", "A short one."]))
    same = sum(" ".join(q.split()[:13]) == " ".join(questions[0].split()[:13]) for q in questions)
    assert found["overlap"]["gsm_symbolic"]["suspect"] >= same >= 1
    parts = {row["part"]: row["n"] for row in found["parts"] if row["model"] == "sft" and row["part"].startswith("overlap")}
    assert sum(parts.values()) == 30 and parts.get("overlap: suspect") == found["overlap"]["gsm_symbolic"]["suspect"]


def test_a_benchmark_that_is_all_given_away_has_no_clean_half(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    questions = [p.question for p in read_records(run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem)]
    found = collect(run, training=training_set(run, questions))
    assert {row["part"] for row in found["parts"] if row["part"].startswith("overlap")} == {"overlap: suspect"}


def test_overlap_is_a_run_of_words_whatever_the_marks_between_them() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    asked = {"a": f"{words} fourteen", "b": words.replace("seven", "7"), "c": "Short one?"}
    assert overlapping(asked, [f"So: {words.upper().replace(' ', ', ')}!", "short one"]) == {"a", "c"}


def test_token_budgets_cut_the_same_samples_again(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=2)
    found = collect(run, n=2)
    parts = {row["part"]: row["mean"] for row in found["parts"] if row["model"] == "teacher" and row["part"].startswith("tokens")}
    assert list(parts) == [f"tokens: {budget}" for budget in (8, 16, 32, 64, 128, 256)]
    graded = list(zip(traces_of(run, "teacher"), verdicts_of(run, "teacher"), strict=True))
    assert parts["tokens: 128"] == pytest.approx(sum(v.grade.is_correct and t.completion.tokens <= 128 for t, v in graded) / 60)
    assert token_budgets(32_768) == [1024, 2048, 4096, 8192, 16_384, 32_768] and token_budgets(3000)[-2:] == [2048, 3000]


# ---- majority -----------------------------------------------------------------------------------------------------


def test_majority_counts_answers_by_equivalence_and_equals_all_subsets() -> None:
    wrong = [Counter({"1/2": 2, "0.5": 1, "3": 1}), Counter({r"\sqrt{8}": 1, r"2\sqrt{2}": 1}), Counter[str]()]
    right = [4, 1, 3]
    correct = np.array([[place < hits for place in range(8)] for hits in right])
    sheet = Sheet("m", "b", ("p", "q", "r"), correct, np.ones((3, 8), np.int32), wrong=wrong)
    with GradingPool(workers=1) as pool:
        classes = wrong_classes([sheet], pool)[0]
    assert classes == [(3, 1), (2,), ()]
    for k in range(1, 9):
        by_hand = [brute_majority(hits, sizes, 8, k) for hits, sizes in zip(right, classes, strict=True)]
        assert majority_rates(sheet, classes, k) == pytest.approx(by_hand)


def brute_majority(right: int, wrong: tuple[int, ...], n: int, k: int) -> float:
    """Every subset of k samples votes; silent samples have no vote, ties are split."""
    votes: list[int | None] = [0] * right
    for name, size in enumerate(wrong, start=1):
        votes += [name] * size
    votes += [None] * (n - len(votes))
    won = 0.0
    subsets = list(combinations(votes, k))
    for subset in subsets:
        counts = Counter(vote for vote in subset if vote is not None)
        best = [name for name, count in counts.items() if count == max(counts.values())]
        won += (0 in best) / len(best) if best else 0.0
    return won / len(subsets)
