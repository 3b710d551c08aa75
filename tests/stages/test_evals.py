"""Scores are complete or refused, and equal to what one counts by hand."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import fail_samples, fake_run
from traces_kit import make_earlier

from reasondistill.curation.overlap import overlapping
from reasondistill.errors import DataError, StageError
from reasondistill.grading import GradingPool
from reasondistill.records import Difference, EvalRecord, Graded, Problem, Score, Trace, Verdict
from reasondistill.runs.graded import read_graded
from reasondistill.runs.scores import ScoresFile, read_scores
from reasondistill.runs.store import read_records, write_records
from reasondistill.stages import evals
from reasondistill.stages.evals.comparing import paired
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.evals.scoring import SMALLEST_GROUP, _groups, token_budgets
from reasondistill.stages.evals.votes import majority_rates, wrong_classes

MODELS = ["sft", "answer-only", "base", "teacher"]
BASELINES = {"sft": ["answer-only", "base", "teacher"]}


def collect(run: Path, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"models": MODELS, "baselines": BASELINES} | changes
    asked["benchmarks"] = {"gsm_symbolic": asked.pop("n", 1)}
    failures_allowed = asked.pop("failures_allowed", 0.0)
    plan = evals.EvalPlan(**asked)
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool, failures_allowed=failures_allowed)
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
    assert all(
        r.tokens == traces[r.trace_id].completion.tokens for r in records if r.model == "sft"
    )


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
        assert (
            shares["truncated"]
            == sum(t.completion.finish == "length" for t in traces_of(run, model)) / 30
        )
    tokens = [trace.completion.tokens for trace in traces_of(run, "base")]
    assert found["tokens"]["gsm_symbolic"]["base"] == pytest.approx(sum(tokens) / len(tokens))


def test_a_missing_sample_is_refused_by_name(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    rewrite_traces(
        run,
        "sft",
        [t for t in traces_of(run, "sft") if t.sample == 0 and not t.problem_id.endswith("/7")],
    )
    write_records(
        cell(run, "sft") / "verdicts" / "verdicts.jsonl",
        [v for v in verdicts_of(run, "sft") if not v.problem_id.endswith("/7")],
    )
    with pytest.raises(StageError, match=r"sft: 29 of 30 samples .* gsm_symbolic/test/7:0"):
        collect(run)
    assert not (run / "6-evals" / "records.jsonl").exists()


def test_more_samples_asked_than_drawn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="60 of 120 samples"):
        collect(fake_run(tmp_path, samples=2), n=4)


def test_more_samples_on_disk_than_asked_are_left_aside(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=3)
    scores = collect(run, n=2)["scores"]
    correct = [
        v.grade.is_correct
        for t, v in zip(traces_of(run, "sft"), verdicts_of(run, "sft"), strict=True)
        if t.sample < 2
    ]
    assert next(
        row["mean"] for row in scores if row["model"] == "sft" and row["metric"] == "pass@1"
    ) == pytest.approx(sum(correct) / 60)


@pytest.mark.parametrize("is_old", [True, False])
def test_a_lost_sample_is_not_a_wrong_answer(is_old: bool, tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    fail_samples(
        cell(run, "base") / "traces", [f"{TEST}/0:0"], "HTTP 429: slow down", is_old=is_old
    )
    said = (
        r"base: 1 of 30 samples lost \(HTTP 429: slow down\), gsm_symbolic/test/0:0 "
        r"first; \[evals\] failures_allowed = 0\."
    )
    with pytest.raises(StageError, match=said):
        collect(run)
    assert not (run / "6-evals" / "records.jsonl").exists()


def test_verdicts_of_other_traces_are_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    rewrite_traces(run, "base", traces_of(run, "base")[::-1])
    with pytest.raises(StageError, match="expected the verdict on .*, found"):
        collect(run)


def test_a_missing_verdict_is_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    write_records(cell(run, "base") / "verdicts" / "verdicts.jsonl", verdicts_of(run, "base")[:-1])
    with pytest.raises(StageError, match="is missing"):
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
        make_earlier(manifest.parent)
        manifest.write_text(manifest.read_text().replace('"limit": 30', '"limit": 12'))
    assert {row["n"] for row in collect(run)["scores"]} == {12}
    manifest.write_text(
        manifest.read_text()
        .replace('"limit": 12', '"limit": 9')
        .replace('"fingerprint": "', '"fingerprint": "f')
    )
    with pytest.raises(StageError, match="different numbers of problems"):
        collect(run)


# ---- refused and lost samples --------------------------------------------------------------------

TEST = "gsm_symbolic/test"
LONG = "prompt longer than the context"


def rights_of(run: Path, model: str, *, without: set[str]) -> list[bool]:
    """Whether each sample is right, by the stored verdicts; problems of these numbers left out."""
    gone = {f"{TEST}/{number}" for number in without}
    return [
        verdict.grade.is_correct
        for verdict in verdicts_of(run, model)
        if verdict.problem_id not in gone
    ]


def rows_by_model(found: dict[str, Any], metric: str = "pass@1") -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in found["scores"] if row["metric"] == metric}


def test_a_refused_problem_counts_as_not_correct_and_has_a_share_of_its_own(tmp_path: Path) -> None:
    run = fake_run(tmp_path, right={"teacher": 1.0, "sft": 0.5, "answer-only": 0.1, "base": 0.0})
    fail_samples(cell(run, "teacher") / "traces", [f"{TEST}/3:0"], LONG, fault="input")
    found = collect(run)
    score = rows_by_model(found)["teacher"]
    assert (score["mean"], score["n"]) == (pytest.approx(29 / 30), 30)
    shares = found["outcomes"]["gsm_symbolic"]["teacher"]
    assert shares["refused"] == pytest.approx(1 / 30) and shares["undecided"] == 0
    assert sum(shares.values()) == pytest.approx(1)
    assert (
        found["refused"] == {"gsm_symbolic": {"teacher": {f"{TEST}/3": LONG}}}
        and found["lost"] == {}
    )
    answered = [
        trace.completion.tokens
        for trace in traces_of(run, "teacher")
        if trace.completion.finish != "error"
    ]
    assert found["tokens"]["gsm_symbolic"]["teacher"] == pytest.approx(sum(answered) / 29)
    assert sum(1 for _ in read_records(run / "6-evals" / "records.jsonl", EvalRecord)) == 4 * 30


def test_models_are_compared_on_the_problems_that_both_have(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    fail_samples(cell(run, "sft") / "traces", [f"{TEST}/3:0"], LONG, fault="input")
    fail_samples(
        cell(run, "base") / "traces",
        [f"{TEST}/3:0", f"{TEST}/7:0"],
        "content filter",
        fault="input",
    )
    rows = {row["baseline"]: row for row in collect(run)["differences"]}
    assert {name: row["n"] for name, row in rows.items()} == {
        "answer-only": 29,
        "base": 28,
        "teacher": 29,
    }
    for name, without in (("answer-only", {"3"}), ("base", {"3", "7"}), ("teacher", {"3"})):
        ours, theirs = (rights_of(run, model, without=without) for model in ("sft", name))
        assert rows[name]["mean"] == pytest.approx((sum(ours) - sum(theirs)) / len(ours))


def test_lost_samples_that_are_allowed_take_their_problems_out_by_name(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=2)
    fail_samples(
        cell(run, "sft") / "traces", [f"{TEST}/3:1", f"{TEST}/7:0", f"{TEST}/7:1"], "HTTP 503"
    )
    with pytest.raises(StageError, match=r"3 of 60 samples lost .* failures_allowed = 0.04"):
        collect(run, n=2, failures_allowed=0.04)
    found = collect(run, n=2, failures_allowed=0.05)
    assert found["lost"] == {"gsm_symbolic": {"sft": [f"{TEST}/3:1", f"{TEST}/7:0", f"{TEST}/7:1"]}}
    scores = rows_by_model(found)
    right = rights_of(run, "sft", without={"3", "7"})
    assert (scores["sft"]["n"], scores["base"]["n"]) == (28, 30)
    assert scores["sft"]["mean"] == pytest.approx(sum(right) / 56)
    assert sum(found["outcomes"]["gsm_symbolic"]["sft"].values()) == pytest.approx(1)
    assert {row["n"] for row in found["differences"]} == {28}
    records = [
        r for r in read_records(run / "6-evals" / "records.jsonl", EvalRecord) if r.model == "sft"
    ]
    assert len(records) == 56 and not {r.problem_id for r in records} & {f"{TEST}/3", f"{TEST}/7"}


def test_a_lost_sample_beyond_those_that_are_asked_for_hurts_nobody(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=2)
    fail_samples(cell(run, "sft") / "traces", [f"{TEST}/3:1"], "HTTP 503")
    assert rows_by_model(collect(run, n=1))["sft"]["n"] == 30


def test_nothing_is_scored_of_a_model_that_lost_a_sample_of_every_problem(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=3)
    fail_samples(cell(run, "sft") / "traces", [f"{TEST}/{row}:0" for row in range(3)], "HTTP 503")
    with pytest.raises(StageError, match="sft: each problem has a lost sample"):
        collect(run, failures_allowed=1.0)


def test_several_samples_with_refused_ones_still_give_every_metric(tmp_path: Path) -> None:
    run = fake_run(
        tmp_path, samples=4, right={"teacher": 1.0, "sft": 0.5, "answer-only": 0.1, "base": 0.0}
    )
    refused = [f"{TEST}/3:{sample}" for sample in range(4)] + [f"{TEST}/5:1"]
    fail_samples(cell(run, "teacher") / "traces", refused, "content filter", fault="input")
    found = collect(run, n=4)
    means = {row["metric"]: row["mean"] for row in found["scores"] if row["model"] == "teacher"}
    assert means["pass@1"] == pytest.approx(115 / 120)
    assert means["pass@4"] == means["maj@4"] == pytest.approx(29 / 30)
    parts = {row["part"]: row["mean"] for row in found["parts"] if row["model"] == "teacher"}
    assert parts["tokens: 256"] == pytest.approx(115 / 120)
    assert next(row["n"] for row in found["differences"] if row["baseline"] == "teacher") == 28


def test_a_model_that_was_refused_everything_has_a_score_and_no_comparison(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=3)
    fail_samples(
        cell(run, "base") / "traces", [f"{TEST}/{row}:0" for row in range(3)], LONG, fault="input"
    )
    found = collect(run)
    assert (
        rows_by_model(found)["base"]["mean"] == 0
        and found["tokens"]["gsm_symbolic"]["base"] is None
    )
    assert [row["baseline"] for row in found["differences"]] == ["answer-only", "teacher"]


def test_sets_that_differ_by_more_than_what_failed_are_not_paired() -> None:
    ours, theirs = Sheet.empty("a", "b", "pqr", 1), Sheet.empty("c", "b", "pq", 1)
    with pytest.raises(StageError, match="a and c did not answer the same problems"):
        paired(ours, theirs)
    theirs.lost = ("r:0",)
    both = paired(ours, theirs)
    assert both.ours.problems == both.theirs.problems == ("p", "q") and both.left_out == {
        "r": "lost for c"
    }


def test_prompts_are_compared_on_the_problems_that_every_one_of_them_has(tmp_path: Path) -> None:
    run = fake_run(tmp_path, right={"teacher": 1.0, "sft": 0.5})
    shutil.copytree(cell(run, "sft"), cell(run, "sft@think"))
    fail_samples(
        cell(run, "sft@think") / "traces", [f"{TEST}/3:0", f"{TEST}/4:0"], LONG, fault="input"
    )
    found = collect(run, models=["sft"], baselines={}, variants=evals.Variants(prompts=("think",)))
    (row,) = found["prompts"]
    assert (
        row["n"] == 28
        and row["scores"]["its own"] == row["scores"]["think"]
        and row["p_value"] == 1
    )
    assert row["scores"]["think"] == pytest.approx(
        sum(rights_of(run, "sft", without={"3", "4"})) / 28
    )


# ---- parts ---------------------------------------------------------------------------------------


def training_set(run: Path, texts: list[str]) -> Path:
    """A finished problems folder that holds these questions; its problems file."""
    folder = run / "1-problems"
    problems = list(read_records(folder / "problems.jsonl", Problem))
    write_records(
        folder / "problems.jsonl",
        [problems[0].model_copy(update={"question": text}) for text in texts],
    )
    return folder / "problems.jsonl"


def test_problems_that_the_training_set_gives_away_are_scored_apart(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    questions = [
        p.question
        for p in read_records(
            run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem
        )
    ]
    found = collect(
        run, training=training_set(run, [f"As asked: {questions[0]} Say it.", "A short one."])
    )
    same = sum(" ".join(q.split()[:13]) == " ".join(questions[0].split()[:13]) for q in questions)
    assert found["overlap"]["gsm_symbolic"]["suspect"] >= same >= 1
    parts = {
        row["part"]: row["n"]
        for row in found["parts"]
        if row["model"] == "sft" and row["part"].startswith("overlap")
    }
    assert (
        sum(parts.values()) == 30
        and parts.get("overlap: suspect") == found["overlap"]["gsm_symbolic"]["suspect"]
    )


def test_a_benchmark_that_is_all_given_away_has_no_clean_half(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    questions = [
        p.question
        for p in read_records(
            run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem
        )
    ]
    found = collect(run, training=training_set(run, questions))
    assert {row["part"] for row in found["parts"] if row["part"].startswith("overlap")} == {
        "overlap: suspect"
    }


def test_overlap_is_a_run_of_words_whatever_the_marks_between_them() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    asked = {"a": f"{words} fourteen", "b": words.replace("seven", "70"), "c": "Short one?"}
    assert overlapping(asked, [f"So: {words.upper().replace(' ', ', ')}!", "short one"]) == {
        "a",
        "c",
    }


def test_token_budgets_cut_the_same_samples_again(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=2)
    found = collect(run, n=2)
    parts = {
        row["part"]: row["mean"]
        for row in found["parts"]
        if row["model"] == "teacher" and row["part"].startswith("tokens")
    }
    assert list(parts) == [f"tokens: {budget}" for budget in (8, 16, 32, 64, 128, 256)]
    graded = list(zip(traces_of(run, "teacher"), verdicts_of(run, "teacher"), strict=True))
    assert parts["tokens: 128"] == pytest.approx(
        sum(v.grade.is_correct and t.completion.tokens <= 128 for t, v in graded) / 60
    )
    assert token_budgets(32_768) == [1024, 2048, 4096, 8192, 16_384, 32_768] and token_budgets(
        3000
    )[-2:] == [2048, 3000]


# ---- majority ------------------------------------------------------------------------------------


def test_majority_counts_answers_by_equivalence_and_equals_all_subsets() -> None:
    wrong = [
        Counter({"1/2": 2, "0.5": 1, "3": 1}),
        Counter({r"\sqrt{8}": 1, r"2\sqrt{2}": 1}),
        Counter[str](),
    ]
    right = [4, 1, 3]
    correct = np.array([[place < hits for place in range(8)] for hits in right])
    sheet = Sheet("m", "b", ("p", "q", "r"), correct, np.ones((3, 8), np.int32), wrong=wrong)
    with GradingPool(workers=1) as pool:
        classes = wrong_classes([sheet], pool)[0]
    assert classes == [(3, 1), (2,), ()]
    for k in range(1, 9):
        by_hand = [
            brute_majority(hits, sizes, 8, k) for hits, sizes in zip(right, classes, strict=True)
        ]
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


# ---- without a folder ----------------------------------------------------------------------------


def graded_of(run: Path, model: str) -> list[Graded]:
    here = cell(run, model)
    return list(read_graded(here / "traces" / "traces.jsonl", here / "verdicts" / "verdicts.jsonl"))


def problems_of(run: Path) -> list[Problem]:
    path = run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl"
    return list(read_records(path, Problem))


def test_records_in_give_the_records_and_scores_that_the_folder_gets(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=3)
    collect(run, n=3)
    with GradingPool(workers=1) as pool:
        found = evals.evaluate(
            "sft", "gsm_symbolic", problems_of(run), graded_of(run, "sft"), samples=3, pool=pool
        )
    stored = read_records(run / "6-evals" / "records.jsonl", EvalRecord)
    assert list(found.records) == [record for record in stored if record.model == "sft"]
    summary = read_scores(run / "6-evals" / "scores.json")
    assert list(found.scores) == [score for score in summary.scores if score.model == "sft"]
    assert {score.metric for score in found.scores} >= {"pass@1", "pass@3", "maj@3"}


def test_records_in_lack_a_sample_and_the_gap_is_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    graded = graded_of(run, "sft")
    with GradingPool(workers=1) as pool:
        with pytest.raises(
            StageError, match=r"sft on gsm_symbolic: 29 of 30 .* gsm_symbolic/test/7:0"
        ):
            short = [pair for pair in graded if not pair.trace.problem_id.endswith("/7")]
            evals.evaluate("sft", "gsm_symbolic", problems_of(run), short, pool=pool)
        with pytest.raises(DataError, match="gsm_symbolic: no problems"):
            evals.evaluate("sft", "gsm_symbolic", [], graded, pool=pool)


# ---- the stored scores ---------------------------------------------------------------------------


def test_stored_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    run = fake_run(tmp_path, samples=2)
    stored = collect(run, n=2)
    summary = read_scores(run / "6-evals" / "scores.json")
    assert json.loads(json.dumps(summary.to_dict())) == stored
    assert summary.groups is None and "groups" not in stored


def test_a_run_without_scores_has_an_empty_summary_and_another_file_is_refused(
    tmp_path: Path,
) -> None:
    assert read_scores(tmp_path / "scores.json") == ScoresFile()
    (tmp_path / "scores.json").write_text('{"scores": [{"model": "sft"}]}')
    with pytest.raises(DataError, match=r"scores\.json: not scores of this version"):
        read_scores(tmp_path / "scores.json")


def test_a_level_that_is_a_digit_and_no_number_is_a_word() -> None:
    levels = ["²", "①", "10", "9.5"]
    value_of = {f"{level}/{i}": level for level in levels for i in range(SMALLEST_GROUP)}
    assert list(_groups(list(value_of), value_of)) == ["9.5", "10", "²", "①"]
