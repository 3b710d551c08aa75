"""Logs that other tools wrote: read as they are, paired by their own problems, refused by name
where they cannot be paired; whatever stands in them, nothing but one clear error comes out.
"""

from __future__ import annotations

import gzip
import json
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_logs_kit import (
    inspect_header,
    inspect_sample,
    lighteval_row,
    lm_eval_row,
    write_inspect,
    write_lighteval,
    write_lm_eval,
    write_rows,
    zstd_zip,
)
from typer.testing import CliRunner

from reasondistill.cli import app
from reasondistill.errors import ConfigError, DataError, ReasonDistillError, StageError
from reasondistill.foreign_logs.finding import find_logs, is_log
from reasondistill.foreign_logs.log import Mark, mark_of
from reasondistill.foreign_logs.surveying import survey
from reasondistill.grade_file.matrix import compare_policies, log_answers
from reasondistill.grading import GradingPool
from reasondistill.stages.evals.entrants import Entrant, parse_entrant
from reasondistill.stages.evals.stored import Comparison, compare, read_flips
from reasondistill.statistics import paired_difference

GOOD, BAD = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def entrants(*paths: Path) -> list[Entrant]:
    """Each path as a model that is called like its place."""
    return [parse_entrant(f"m{number}={path}", Path("runs")) for number, path in enumerate(paths)]


def compared(ours: Path, theirs: Path, *metrics: str, **options: Any) -> Comparison:
    first, second = entrants(ours, theirs)
    return compare([first], [second], wanted_metrics=metrics, **options)


def the_scores(path: Path, metric: str) -> np.ndarray[Any, Any]:
    (log,) = find_logs(path).values()
    return survey(log).scores(metric).correct


# ---- lm-eval -------------------------------------------------------------------------------------


def test_two_samples_files_of_lm_eval_are_paired_problem_by_problem(tmp_path: Path) -> None:
    ours = write_lm_eval(tmp_path / "good", {"none": GOOD})
    theirs = write_lm_eval(tmp_path / "bad", {"none": BAD})
    found = compared(ours, theirs)
    (row,) = found.differences
    by_hand = paired_difference(np.array(GOOD)[:, None] > 0, np.array(BAD)[:, None] > 0)
    assert (row.mean, row.low, row.high) == (by_hand.mean, by_hand.low, by_hand.high)
    assert (row.n, row.k, row.gained, row.lost, row.benchmark) == (6, 1, 3, 0, "sums")
    assert found.metrics == {"sums": "exact_match,none"} and not found.notes
    assert [(change.name, change.ours) for change in found.changes["sums"]] == [
        ("model_name", "toy/good"),
        ("model_args", "pretrained=toy/good"),
    ]
    first, second = entrants(ours, theirs)
    flips = read_flips(first, second, "sums", found.flips["sums"], "exact_match,none")
    assert [flip.problem.id for flip in flips] == ["1", "2", "5"]
    assert flips[0].problem.question == "What is 1 + 1?" and flips[0].problem.answer == "2"
    assert flips[0].answers == ("2", "2") and flips[0].texts[0] == "It is #### 2"


def test_a_folder_and_a_packed_file_are_read_and_a_model_is_called_as_its_results_say(
    tmp_path: Path,
) -> None:
    path = write_lm_eval(tmp_path / "good", {"none": GOOD})
    entrant = parse_entrant(str(path.parent), Path("runs"))
    assert entrant.label == "toy/good" and entrant.benchmarks() == ["sums"]
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert is_log(tmp_path / "good") and is_log(packed)
    assert parse_entrant(str(packed), Path("runs")).sheet("sums", "exact_match,none").k == 1


def test_of_several_metrics_the_user_says_which_one_counts(tmp_path: Path) -> None:
    filters = {"strict-match": GOOD, "flexible-extract": BAD}
    ours = write_lm_eval(tmp_path / "a", filters)
    theirs = write_lm_eval(tmp_path / "b", {"strict-match": BAD, "flexible-extract": BAD})
    strict, flexible = "exact_match,strict-match", "exact_match,flexible-extract"
    with pytest.raises(ConfigError, match=f"right by which metric.*{flexible} or.*{strict}"):
        compared(ours, theirs)
    with pytest.raises(ConfigError, match="right by which metric"):
        compared(ours, theirs, "exact_match")  # means both
    assert compared(ours, theirs, strict).differences[0].mean == 0.5
    assert compared(ours, theirs, flexible).differences[0].mean == 0.0
    with pytest.raises(ConfigError, match="which metric"):
        compared(ours, theirs, "exact_mach")
    alone = write_lm_eval(tmp_path / "c", {"strict-match": BAD})
    assert compared(ours, alone).metrics == {"sums": strict}
    with pytest.raises(ConfigError, match=r"--metric acc: no log has it\. .*exact_match"):
        compared(ours, alone, "acc")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.37, "0.37 is no share of right ones"), ([1, 0], "a list"), ("yes", "a str"), (7, "7 is")],
)
def test_a_score_that_is_neither_right_nor_wrong_is_refused_by_name(
    tmp_path: Path, value: Any, said: str
) -> None:
    rows = [lm_eval_row(number, {"f1": value if number == 2 else 1.0}) for number in range(4)]
    path = write_rows(tmp_path / "samples_sums_2025-11-30T12-00-00.1.jsonl", rows)
    with pytest.raises(StageError, match=rf"no metric says .*f1,none: {said}.*jsonl:3"):
        compared(path, path)
    with pytest.raises(ConfigError, match=rf"--metric f1: sums: {said}"):
        both = [{**row, "metrics": ["f1", "acc"], "acc": 1.0} for row in rows]
        compared(write_rows(path, both), path, "f1")


def test_a_metric_that_is_better_when_it_is_low_is_refused(tmp_path: Path) -> None:
    low = {"higher_is_better": {"sums": {"exact_match": False}}}
    path = write_lm_eval(tmp_path / "a", {"none": GOOD}, results=low)
    with pytest.raises(StageError, match="exact_match,none: better when it is low"):
        compared(path, path)


def test_other_problems_are_refused_and_compared_on_what_is_common_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    ours = write_lm_eval(tmp_path / "a", {"none": GOOD})
    theirs = write_lm_eval(tmp_path / "b", {"none": BAD})
    rows = [json.loads(line) for line in theirs.read_text().splitlines()]
    rows[1]["doc"]["question"] = "Something else?"
    rows[2]["target"] = "#### 5"
    write_rows(theirs, rows)
    with pytest.raises(StageError, match=r"not the same problems \(m0: 6, m1: 6; 4 in common\)"):
        compared(ours, theirs)
    assert compared(ours, theirs, common=True).differences[0].n == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:-1], "holds 5 problems, its results say 6: not whole"),
        (lambda rows: [*rows, rows[2]], "jsonl:7: sample 0 of problem 2 is there twice"),
        (lambda rows: [*rows, {**rows[2], "doc": {}}], "asks something else than before"),
        (lambda rows: [*rows[:-1], {"doc_id": 5}], "not a sample of lm-eval"),
        (lambda rows: [*rows[:-1], 7], "expected a JSON object, found int"),
        (lambda rows: [{**row, "doc_id": True} for row in rows], "doc_id = 'True'"),
        (lambda rows: [], "holds no samples"),
    ],
)
def test_what_is_not_whole_or_double_is_refused_by_its_place(
    tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    path = write_lm_eval(tmp_path / "a", {"none": GOOD})
    write_rows(path, change([json.loads(line) for line in path.read_text().splitlines()]))
    with pytest.raises(DataError, match=said):
        compared(path, path)


def test_a_last_line_without_its_end_counts_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    path = write_lm_eval(tmp_path / "a", {"none": GOOD})
    text = path.read_text().rstrip("\n")
    path.write_text(text)
    assert the_scores(path, "exact_match,none").shape == (6, 1)
    path.write_text(text[:-9])
    with pytest.raises(DataError, match="jsonl:6: broken JSON"):
        compared(path, path)


def test_a_mean_that_the_tool_adds_up_in_another_way_is_said(tmp_path: Path) -> None:
    other = {"results": {"sums": {"exact_match,none": 0.9}}}
    path = write_lm_eval(tmp_path / "a", {"none": GOOD}, results=other)
    (note, _) = compared(path, path).notes
    assert "m0 on sums: its results say 90.00 %, the mean over its samples is 83.33 %" in note


def test_an_unscored_problem_is_left_out_by_name(tmp_path: Path) -> None:
    ours = write_lm_eval(tmp_path / "a", {"none": [*GOOD[:-1], float("nan")]}, results={})
    theirs = write_lm_eval(tmp_path / "b", {"none": BAD}, results={})
    found = compared(ours, theirs)
    assert found.differences[0].n == 5
    assert dict(found.left_out[0].problems) == {"5": "lost for m0"}
    assert "1 problems have a sample without a score: 5 (no exact_match,none)" in found.notes[0]


# ---- inspect -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.eval", "log.json"])
@pytest.mark.parametrize("zstd", [False, True])
def test_logs_of_inspect_are_paired_by_id_and_epoch(tmp_path: Path, name: str, zstd: bool) -> None:
    letters = {1: "CICC", 2: "IICI"}
    samples = [
        inspect_sample(number, epoch, letter)
        for epoch, word in letters.items()
        for number, letter in enumerate(word)
    ]
    path = write_inspect(tmp_path / "a" / name, samples, zstd=zstd)
    other = write_inspect(
        tmp_path / "b" / name, [{**one, "scores": {"match": {"value": "I"}}} for one in samples]
    )
    scores = the_scores(path, "match")
    assert scores.shape == (4, 2) and scores.sum(axis=1).tolist() == [1, 0, 2, 1]
    found = compared(path, other)
    assert found.differences[0].mean == 0.5 and found.metrics == {"sums": "match"}
    flip = read_flips(*entrants(path, other), "sums", found.flips["sums"], "match")[0]
    assert flip.problem.question == "What is 2 + 2?" and flip.texts[0] == r"It is \boxed{4}"


def test_values_of_inspect_are_right_wrong_neither_or_missing(tmp_path: Path) -> None:
    def scored(*values: Any) -> Path:
        samples = [inspect_sample(number, 1, value) for number, value in enumerate(values)]
        return write_inspect(tmp_path / "log.eval", samples)

    path = scored("C", "I", "N", True, 0, 1.0, "no", "1")
    assert the_scores(path, "match")[:, 0].tolist() == [1, 0, 0, 1, 0, 1, 0, 1]
    path = scored({"first": 1, "second": "I"}, {"first": 0, "second": "C"})
    assert the_scores(path, "match/second")[:, 0].tolist() == [False, True]
    for value, said in (("P", "'P' is neither right nor wrong"), (0.5, "0.5"), ([1], "a list")):
        with pytest.raises(StageError, match=f"match: {said}"):
            compared(scored("C", value), tmp_path / "log.eval")
    with pytest.raises(StageError, match="There is none"):
        compared(write_inspect(tmp_path / "log.eval", [{"id": 1, "epoch": 1}]), path)


def test_samples_that_ended_in_an_error_are_left_out_by_name(tmp_path: Path) -> None:
    samples = [inspect_sample(number, 1, "C") for number in range(4)]
    ours = write_inspect(tmp_path / "a.eval", samples)
    error = {"message": "RuntimeError: the sandbox is gone\nat line 7"}
    samples[1] = inspect_sample(1, 1, "I", error=error)
    samples[2] = inspect_sample(2, 1, float("nan"))
    theirs = write_inspect(tmp_path / "b.eval", samples)
    found = compared(ours, theirs)
    assert sorted(found.left_out[0].problems) == ["1", "2"] and found.differences[0].n == 2
    assert "1 (error: RuntimeError: the sandbox is gone" in found.notes[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"status": "cancelled"}, "status = 'cancelled': not finished"),
        ({"results": {"total_samples": 9}}, "holds 3 samples, its results say 9: not whole"),
        ({"eval": {}}, "it names no task"),
    ],
)
def test_an_unfinished_log_is_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    samples = [inspect_sample(number, 1, "C") for number in range(3)]
    for name in ("a.eval", "a.json"):
        path = write_inspect(tmp_path / name, samples, **more)
        with pytest.raises(DataError, match=said):
            compared(path, path)


def test_problems_with_other_numbers_of_samples_are_refused_by_name(tmp_path: Path) -> None:
    samples = [inspect_sample(number, epoch, "C") for number in range(3) for epoch in (1, 2)]
    path = write_inspect(tmp_path / "a.eval", samples[:-1])
    with pytest.raises(DataError, match="problem 2 has 1 samples with match, others 2"):
        compared(path, path)


def test_a_problem_without_its_first_epoch_is_read_by_the_first_that_is_there(
    tmp_path: Path,
) -> None:
    ours, theirs = entrants(
        write_inspect(tmp_path / "a.eval", [inspect_sample(1, 3, "C"), inspect_sample(1, 2, "C")]),
        write_inspect(tmp_path / "b.eval", [inspect_sample(1, 2, "I"), inspect_sample(1, 3, "I")]),
    )
    (flip,) = compare([ours], [theirs]).flips["sums"]
    (read,) = read_flips(ours, theirs, "sums", [flip], "match")
    assert read.answers == ("2", "2") and (flip.ours, flip.theirs) == (1.0, 0.0)


def test_a_folder_with_logs_of_two_models_is_not_taken_for_one_of_them(tmp_path: Path) -> None:
    for task, model in (("sums", "org/strong"), ("maths", "org/weak")):
        samples = [inspect_sample(1, 1, "C")]
        of_task = inspect_header(samples)["eval"] | {"task": task, "model": model}
        write_inspect(tmp_path / "both" / f"{task}.eval", samples, eval=of_task)
    with pytest.raises(ConfigError, match=r"maths\.eval is of org/weak, sums\.eval of org/strong"):
        find_logs(tmp_path / "both")
    (tmp_path / "both" / "maths.eval").unlink()
    (tmp_path / "both" / "folder.eval").mkdir()
    assert list(find_logs(tmp_path / "both")) == ["sums"]


def test_a_path_with_an_equals_sign_is_a_path_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lm_eval(Path("lr=3"), {"none": [1.0]})
    assert parse_entrant("lr=3", Path("runs")).label == "toy/lr=3"
    assert parse_entrant("a=lr=3", Path("runs")).label == "a"


# ---- lighteval -----------------------------------------------------------------------------------


def test_details_of_lighteval_have_as_many_samples_as_their_metric(tmp_path: Path) -> None:
    shares = {"a": [0.25, 1.0, 0.5], "b": [0.25, 0.0, 0.25]}
    paths: list[Path] = []
    for name, values in shares.items():
        rows: list[Any] = []
        for number, value in enumerate(values):
            metric = {"avg@n:n=4": value, "pass@k:k=1&n=4": value, "pass@k:k=2": 0.1, "maj@n": 1}
            rows.append(lighteval_row(number, metric, texts=4))
        paths.append(write_lighteval(tmp_path / name, rows))
    with pytest.raises(ConfigError, match=r"avg@n:n=4 or .*maj@n or .*'pass@k:k=1&n=4'"):
        compared(*paths)
    found = compared(*paths, "avg@n:n=4")
    (row,) = found.differences
    assert (row.n, row.k, row.benchmark) == (3, 4, "sums|0")
    assert row.mean == pytest.approx(np.mean(shares["a"]) - np.mean(shares["b"]))
    scores = the_scores(paths[0], "avg@n:n=4")
    assert scores.sum(axis=1).tolist() == [1, 4, 2]
    assert (the_scores(paths[0], "avg@n:n=4") == scores).all(), "the same places each time"
    assert compared(*paths, "maj@n").differences[0].k == 1
    with pytest.raises(ConfigError, match=r"--metric pass@k:k=2: .*0\.1 is no share"):
        compared(*paths, "pass@k:k=2")


def test_the_first_samples_of_two_logs_are_independent(tmp_path: Path) -> None:
    """`power --like` takes as many of each as the shortest benchmark has; with the right ones at
    the same places in both, two models that have nothing in common would agree.
    """
    half = [lighteval_row(number, {"avg@n:n=4": 0.5}, 4) for number in range(400)]
    paths = [write_lighteval(tmp_path / name, half) for name in "ab"]
    ours, theirs = (the_scores(path, "avg@n:n=4") for path in paths)
    assert set(ours.sum(1).tolist()) == {2}
    assert abs(float((ours[:, 0] == theirs[:, 0]).mean()) - 0.5) < 0.15
    assert (the_scores(paths[0], "avg@n:n=4") == ours).all()


def test_a_mean_of_more_samples_than_there_are_is_refused(tmp_path: Path) -> None:
    path = write_lighteval(tmp_path, [lighteval_row(1, {"avg@n:n=999999": 1.0})])
    with pytest.raises(StageError, match="the mean of 999999 samples; there are 1"):
        compared(path, path)


def test_details_under_another_name_and_rows_without_their_columns_are_refused(
    tmp_path: Path,
) -> None:
    path = write_lighteval(tmp_path, [lighteval_row(1, {"em": 1})])
    renamed = path.rename(tmp_path / "mine.parquet")
    with pytest.raises(DataError, match="lighteval calls this file details_TASK_DATE"):
        compared(renamed, renamed)
    path = write_lighteval(tmp_path, [{"example": "1 + 1", "metrics": {"em": 1}}])
    with pytest.raises(DataError, match="no column 'doc': details of lighteval 0.11 and later"):
        compared(path, path)


# ---- together ------------------------------------------------------------------------------------


def test_what_other_tools_or_a_run_of_ours_graded_is_not_compared(tmp_path: Path) -> None:
    ours = write_lm_eval(tmp_path / "a", {"none": GOOD})
    theirs = write_inspect(tmp_path / "b.eval", [inspect_sample(1, 1, "C")])
    with pytest.raises(ConfigError, match=r"same tool \(m0: lm-eval, m1: inspect\)"):
        compared(ours, theirs)
    with pytest.raises(ConfigError, match="named twice.*told apart by NAME="):
        one = parse_entrant(str(ours), Path("runs"))
        compare([one], [one])


def test_what_is_no_log_is_refused_and_says_what_is_one(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("hello")
    with pytest.raises(ConfigError, match=r"log\.txt: no log .* lm-eval's samples_\*\.jsonl"):
        entrants(tmp_path / "log.txt")
    with pytest.raises(ConfigError, match="no such run.*or its evals.*no log"):
        entrants(tmp_path / "nowhere.eval")
    first = write_lm_eval(tmp_path / "a", {"none": GOOD})
    first.with_name("samples_sums_2026-01-01T12-00-00.1.jsonl").write_text(first.read_text())
    with pytest.raises(ConfigError, match="holds several logs of sums: samples_sums_2025"):
        entrants(tmp_path / "a")


def test_marks_are_counts_of_right_samples() -> None:
    assert [mark_of(value) for value in (1, 0.0, True, None)] == [Mark(1), Mark(0), Mark(1), None]
    assert mark_of(0.328125, 64) == Mark(21, 64)
    assert isinstance(mark_of(0.33, 64), str) and isinstance(mark_of(float("inf")), str)


def test_the_answers_of_a_log_are_graded_by_several_policies(tmp_path: Path) -> None:
    samples = [inspect_sample(number, epoch, "I") for number in range(3) for epoch in (2, 1)]
    logs = (
        write_lm_eval(tmp_path / "a", {"strict": GOOD, "loose": GOOD}),
        write_inspect(tmp_path / "b.eval", samples),
        write_lighteval(tmp_path / "c", [lighteval_row(1, {"em": 1}, texts=3)]),
    )
    shapes = {"sums": ((6, 1), (3, 2)), "sums|0": ((1, 3),)}
    with GradingPool(workers=1) as pool:
        for path in logs:
            (source,) = log_answers(path)
            (score,) = compare_policies([source], ["default"], pool).scores
            assert (score.n, score.k) in shapes[source.name] and score.mean == 1.0
    row = lm_eval_row(1, {"acc": 1.0}) | {"arguments": {"gen_args_0": {"a": "x", "b": " four"}}}
    choice = write_rows(tmp_path / "choice.jsonl", [row])
    with pytest.raises(DataError, match="log-probabilities of choices"):
        log_answers(choice)


def test_compare_and_power_take_logs_on_the_command_line(tmp_path: Path) -> None:
    ours = write_lm_eval(tmp_path / "good", {"none": GOOD * 10})
    theirs = write_lm_eval(tmp_path / "bad", {"none": BAD * 10})
    target = tmp_path / "compared.json"
    run = CliRunner().invoke
    done = run(app, ["compare", str(ours), str(theirs), "--flips", "1", "--out", str(target)])
    assert done.exit_code == 0, done.exception
    assert "toy/good" in done.stdout and "+50.0" in done.stdout
    assert "sums: right by exact_match,none, as lm-eval graded it" in done.stdout
    assert json.loads(target.read_text())["right by"] == {"sums": "exact_match,none"}
    done = run(app, ["compare", str(ours), str(theirs), "--markdown"])
    assert "right by exact_match,none" in done.stdout and "| toy/good" in done.stdout
    plan = ["power", "--problems", "300", "--like", str(ours), "--and", str(theirs)]
    done = run(app, plan)
    assert done.exit_code == 0, done.exception
    assert "300 problems · right 33 %" in done.stdout


# ---- hostile -------------------------------------------------------------------------------------


def test_the_metrics_to_choose_from_are_words_of_a_shell(tmp_path: Path) -> None:
    """People paste what the message offers."""
    hostile = "x'; touch PWNED; '$(touch PWNED)"
    rows = [lm_eval_row(number, {hostile: 1.0, "em": 1.0}) for number in range(3)]
    names = [f"{hostile},none", "em,none"]
    ours, theirs = (write_rows(tmp_path / f"{name}.jsonl", rows) for name in "ab")
    with pytest.raises(ConfigError, match="by which metric") as found:
        compared(ours, theirs)
    offered = shlex.split(str(found.value).partition("which metric? ")[2].removesuffix("."))
    assert sorted(offered) == sorted(["--metric", "or", "--metric", *names])


def test_a_log_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", "1000000")
    path = write_inspect(tmp_path / "a.eval", [inspect_sample(1, 1, "C")])
    bomb = b" " * 20_000_000
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/2_epoch_1.json", bomb)
    with pytest.raises(DataError, match=r"samples/2_epoch_1\.json: beyond .*MOST_LINE_BYTES"):
        compared(path, path)
    path.write_bytes(zstd_zip({"header.json": bomb}))
    with pytest.raises(DataError, match=r"header\.json: beyond"):
        compared(path, path)
    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", "10")
    monkeypatch.setenv("REASONDISTILL_MOST_TEXT_RATIO", "1")
    long = "a" * 2_000
    samples = [inspect_sample(number, 1, "C", store={"a": long}) for number in range(9)]
    path = write_inspect(tmp_path / "a.eval", samples)
    with pytest.raises(DataError, match="bytes unpack to more than 1 times"):
        compared(path, path)


def test_a_list_of_files_beyond_its_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_DIRECTORY_BYTES", "1000")
    path = write_inspect(tmp_path / "a.eval", [inspect_sample(n, 1, "C") for n in range(30)])
    with pytest.raises(DataError, match="list of files is beyond .*DIRECTORY_BYTES"):
        compared(path, path)


def test_more_metrics_than_anybody_counts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_LOG_METRICS", "3")
    values = {f"m{number}": 1.0 for number in range(4)}
    path = write_rows(tmp_path / "a.jsonl", [lm_eval_row(1, values)])
    with pytest.raises(DataError, match=r"a\.jsonl:1: more than 3 metrics"):
        compared(path, path)


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "x\x1b[2J\u202e", "a/b\\c"])
def test_names_inside_a_zip_are_names_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "inner" / "a.eval"
    write_inspect(path, [inspect_sample(1, 1, "C")])
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.json", "{}")
        archive.writestr(f"samples/{name}_epoch_1.json", "[" * 200 + "]" * 200)
    with pytest.raises(DataError, match="nested deeper than") as caught:
        compared(path, path)
    assert sorted(tmp_path.rglob("*")) == before and "\x1b" not in str(caught.value)


def test_whatever_is_cut_off_or_overwritten_ends_in_one_of_our_errors(tmp_path: Path) -> None:
    samples = [inspect_sample(number, 1, "C") for number in range(2)]
    paths = (
        write_lm_eval(tmp_path / "a", {"none": GOOD[:2]}, results={}),
        write_inspect(tmp_path / "b.eval", samples),
        write_inspect(tmp_path / "c.eval", samples, zstd=True),
        write_inspect(tmp_path / "d.json", samples),
        write_lighteval(tmp_path / "e", [lighteval_row(1, {"em": 1})]),
    )
    refused = 0
    for path in paths:
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 40)):
            broken = bytearray(whole)
            broken[place] ^= 0xFF
            for content in (whole[:place], bytes(broken)):
                path.write_bytes(content)
                try:
                    compared(path, path)
                except ReasonDistillError as error:
                    assert 0 < len(str(error)) < 20_000
                    refused += 1
        path.write_bytes(whole)
    assert refused > 200


def test_a_number_beyond_all_bounds_is_no_score_and_no_mean(tmp_path: Path) -> None:
    rows = [lm_eval_row(1, {"em": 10**400}), lm_eval_row(2, {"em": 1})]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(StageError, match="em,none: a number beyond all bounds"):
        compared(path, path)
    said = {"results": {"sums": {"exact_match,none": 10**400}}}
    path = write_lm_eval(tmp_path / "b", {"none": [1.0, 0.0]}, results=said)
    assert compared(path, path).notes == []


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_the_standard_library_unpacks_without_an_end_is_not_unpacked(
    tmp_path: Path, packing: int
) -> None:
    path = write_inspect(tmp_path / "a.eval", [inspect_sample(1, 1, "C")])
    with zipfile.ZipFile(path, "a", packing) as archive:
        archive.writestr("samples/2_epoch_1.json", json.dumps(inspect_sample(2, 1, "C")))
    with pytest.raises(DataError, match=rf"2_epoch_1\.json: packed by method {packing} of zip"):
        compared(path, path)


def test_a_metric_with_an_endless_name_is_refused(tmp_path: Path) -> None:
    name = "-pass@k:" * 2_000 + "&" * 16_000
    path = write_lighteval(tmp_path / "a", [lighteval_row(1, {name: 1.0})])
    with pytest.raises(DataError, match=r"parquet:1: a metric with a name of 32,000 characters"):
        compared(path, path)


def test_a_key_in_the_settings_of_a_log_is_not_shown(tmp_path: Path) -> None:
    inside = {"config": {"model_args": "model=x,api_key=abcdef1234567890zz"}}
    own = {"config": {"model_args": {"model": "y", "api_key": "Qwertz7890Secret"}}}
    ours = write_lm_eval(tmp_path / "a", {"none": [1.0]}, results=inside)
    theirs = write_lm_eval(tmp_path / "b", {"none": [0.0]}, results=own)
    written = tmp_path / "out.json"
    done = CliRunner().invoke(
        app, ["compare", str(ours), str(theirs), "--out", str(written)], env={"COLUMNS": "200"}
    )
    for text in (done.stdout, written.read_text()):
        assert "abcdef1234567890zz" not in text and "Qwertz7890Secret" not in text
        assert "model=x,api_key=***" in text and "model_args.api_key" in text
