"""Methods side by side in the report: three methods, three seeds each, beside numbers counted by
hand.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from fake_run import fail_samples, fake_run
from test_report import Outline, json_of, make, page_of
from traces_kit import make_earlier

from reasondistill.cli import results
from reasondistill.cli.console import out
from reasondistill.config import Cluster, EvalSettings, Pipeline
from reasondistill.errors import ConfigError
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import Request, failed
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.models.weights import count_parameters, weight_bytes
from reasondistill.pipeline import Run
from reasondistill.pipeline.latency import is_measured, measure_latency
from reasondistill.records import Completion, MeasuredModel, Problem, Shrunk, Student
from reasondistill.runs.store import read_records
from reasondistill.stages import evals
from reasondistill.stages.report import methods
from reasondistill.stages.report.facts import Facts, read_facts, read_stages

METHODS = {"sft": "sft", "kd": "kd", "gkd": "gkd"}
GROUPS = {name: tuple(f"{name}-seed{seed}" for seed in range(3)) for name in (*METHODS, "base")}
STUDENTS = [member for members in GROUPS.values() for member in members]
RIGHT = {"sft": 0.3, "kd": 0.45, "gkd": 0.65, "base": 0.05}
GKD = {
    "teacher_seconds": 30.0,
    "rollout_seconds": 75.0,
    "rollouts_correct": 0.4,
    "perplexity": 1.5,
    "teacher_kl": 0.2,
}


def compared(model: str, seed: int) -> list[str]:
    return ["teacher", *([f"sft-seed{seed}"] if model in ("kd", "gkd") else [])]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    right = {member: RIGHT[name] for name, members in GROUPS.items() for member in members} | {
        "teacher": 0.9
    }
    made = {
        member: METHODS.get(name, "base") for name, members in GROUPS.items() for member in members
    }
    figures: dict[str, dict[str, Any]] = {
        f"gkd-seed{seed}": GKD | {"peak_memory_gib": 1.0 + seed} for seed in range(3)
    }
    figures |= {"kd-seed0": {"perplexity": 1.7}}  # of one seed only
    folder = fake_run(
        tmp_path_factory.mktemp("methods") / "run",
        problems=40,
        right=right,
        made=made,
        figures=figures,
    )
    about = [
        MeasuredModel(
            name=name, base=f"base-{name.partition('-')[2]}", parameters=500, size_bytes=2**20
        )
        for name in STUDENTS
    ]
    about += [MeasuredModel(name="teacher", is_teacher=True, parameters=1500, size_bytes=3 * 2**20)]
    plan = evals.EvalPlan(
        benchmarks={"gsm_symbolic": 1},
        models=[*STUDENTS, "teacher"],
        baselines={
            f"{name}-seed{seed}": compared(name, seed) for name in METHODS for seed in range(3)
        },
        groups=GROUPS,
        about=about,
        reference="sft",
    )
    with GradingPool(workers=1) as pool:
        evals.collect(folder / "6-evals", plan, pool)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    return make(run, traces=4)


@pytest.fixture(scope="module")
def facts(run: Path) -> Facts:
    return read_facts(run, read_stages(run, besides=run / "7-report"), traces=0)


def means(run: Path) -> dict[str, float]:
    return {
        row["model"]: row["mean"]
        for row in json.loads((run / "6-evals" / "scores.json").read_text())["scores"]
    }


# ---- the numbers


def test_each_method_stands_in_one_row_with_its_seeds_beside(run: Path, facts: Facts) -> None:
    rows = {row.score.model: row for row in methods.reached(facts)}
    assert list(rows) == ["gkd", "kd", "sft"]  # the highest first; the untouched base is no method
    single = means(run)
    for name, row in rows.items():
        seen = [single[member] for member in GROUPS[name]]
        assert row.score.mean == pytest.approx(sum(seen) / 3) and (row.score.n, row.score.k) == (
            40,
            3,
        )
        assert row.spread is not None and (row.spread.low, row.spread.high) == (
            min(seen),
            max(seen),
        )
    assert rows["sft"].difference is None
    gap = rows["gkd"].difference
    assert (
        gap is not None
        and gap.baseline == "sft"
        and gap.mean == pytest.approx(rows["gkd"].score.mean - rows["sft"].score.mean)
    )


def test_gap_closed_is_the_share_of_the_way_from_base_to_teacher(run: Path, facts: Facts) -> None:
    single = means(run)
    base = sum(single[member] for member in GROUPS["base"]) / 3
    for row in methods.reached(facts):
        by_hand = (row.score.mean - base) / (single["teacher"] - base)
        assert row.gap_closed == pytest.approx(by_hand) and 0 < by_hand < 1


def test_gap_closed_is_blank_with_two_teachers_or_without_the_base(facts: Facts) -> None:
    score = methods.reached(facts)[0].score
    second = MeasuredModel(name="other", is_teacher=True)
    assert methods.gap_closed(with_models(facts, {"other": second}), score) is None
    without = {name: MeasuredModel(name=name) for name in GROUPS["gkd"]}
    assert methods.gap_closed(with_models(facts, without), score) is None


def with_models(facts: Facts, more: dict[str, MeasuredModel]) -> Facts:
    return Facts(**{**facts.__dict__, "models": {**facts.models, **more}})


def test_costs_are_means_over_seeds_and_blank_where_one_seed_is_unknown(facts: Facts) -> None:
    found = {row.model: row for row in methods.costs(facts)}
    gkd = found["gkd"]
    assert (gkd.perplexity, gkd.teacher_kl, gkd.peak_memory_gib) == pytest.approx((1.5, 0.2, 2.0))
    # 60 steps of 2.5 s: 150 s, 240,000 tokens.
    assert (gkd.teacher_share, gkd.rollout_share, gkd.rollouts_correct) == pytest.approx(
        (30 / 150, 75 / 150, 0.4)
    )
    assert (gkd.tokens_per_s, gkd.loss_tokens, gkd.tokens) == pytest.approx(
        (1600, 174_000, 240_000)
    )
    assert found["kd"].perplexity is None and found["sft"].teacher_share is None


def test_sizes_are_beside_the_teachers(run: Path, facts: Facts) -> None:
    found = {row.model: row for row in methods.sizes(facts)}
    assert list(found)[0] == "teacher" and set(found) == {"teacher", *GROUPS}
    assert found["gkd"].compression == pytest.approx(3) and found["teacher"].compression is None
    # The fake stages sampled for 200 s; three seeds of 40 answers.
    assert found["gkd"].seconds_per_answer == pytest.approx(3 * 200 / 120) and found[
        "teacher"
    ].seconds_per_answer == pytest.approx(5)
    headers = methods.sizes_table(facts).headers
    assert "alone: ms per token" not in headers


def test_the_reference_is_the_one_asked_for_else_sft_else_a_base(facts: Facts) -> None:
    assert methods.reference(facts) == "sft"
    assert methods.reference(Facts(**{**facts.__dict__, "reference": "teacher"})) == "teacher"
    assert methods.reference(Facts(**{**facts.__dict__, "reference": "sft-seed1"})) == "sft"
    assert methods.reference(Facts(**{**facts.__dict__, "reference": None})) == "sft"


def test_a_student_that_was_cut_out_of_a_larger_model_says_what_is_left() -> None:
    shrunk = Shrunk(
        parameters_before=1200,
        parameters=600,
        layers=(0, 3),
        perplexity_base=2.0,
        perplexity_before=9.0,
        kl_before=1.25,
    )
    student = Student(
        name="half",
        method="sft",
        base="b",
        path="model",
        examples="e",
        seed=0,
        figures=None,
        shrunk=shrunk,
    )
    from reasondistill.stages.report.facts import StudentFolder

    found = methods.shrunk_table(Facts("run", students=(StudentFolder("half", student, []),)))
    assert found.rows == (("half", "600", "1,200", "2: 0, 3", "2.000", "9.000", "", "1.2500", ""),)


# ---- where they stand


def test_the_section_is_in_page_markdown_and_json(report: Path) -> None:
    page, text, found = page_of(report), (report / "report.md").read_text(), json_of(report)
    outline = Outline(page)
    assert "methods" in [section["id"] for section in outline.all("section")]
    for word in (
        "gap closed %",
        "points against sft",
        "KL to teacher",
        "rollouts correct %",
        "smaller than teacher",
        "3.0×",
    ):
        assert word in page and word in text
    assert [row["model"] for row in found["methods"]] == ["gkd", "kd", "sft"]
    assert {row["model"] for row in found["sizes"]} == {"teacher", *GROUPS}
    assert found["groups"]["members"]["kd"] == list(GROUPS["kd"])
    assert "how far other seeds would fall is not in them" in page


def test_single_seeds_fold_and_the_headline_speaks_of_the_best_group(report: Path) -> None:
    page, text = page_of(report), (report / "report.md").read_text()
    top = page[page.index('id="scores"') : page.index("Each seed alone")]
    assert "gkd-seed1" not in top and ">gkd<" in top
    folded = page[page.index("Each seed alone: 12 scores") :]
    assert "gkd-seed1" in folded
    line = next(line for line in text.splitlines() if line.startswith("**"))
    assert (
        line.startswith("**gkd has the highest score of 3 students: gkd answers")
        and "k=3 over 3 seeds" in line
    )
    assert "better than sft" in line and "seed0" not in line
    sides = page[page.index("The same problem, every model") :]
    assert "gkd-seed0: " in sides and "gkd-seed1: " not in sides


def test_the_terminal_shows_groups_in_80_columns(
    run: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Run(Pipeline.model_validate(MEASURES), Cluster(), run, run / "x.toml")
    width, out.width = out.width, 80
    try:
        results.print_result(job)
    finally:
        out.width = width
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "://" not in line and "highest score" not in line
    ]
    assert max(map(len, lines)) <= 80
    assert any(line.split()[0] == "gkd" for line in lines if line.strip())
    assert not any("seed0" in line for line in lines)


MEASURES = {"name": "m", "evals": {"benchmarks": ["x"], "models": [{"name": "a", "model": "b"}]}}


def test_runs_without_seeds_or_distilling_students_have_no_such_section(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=6)
    with GradingPool(workers=1) as pool:
        plan = evals.EvalPlan({"gsm_symbolic": 1}, ["sft", "teacher"])
        evals.collect(run / "6-evals", plan, pool)
    path = run / "6-evals" / "scores.json"
    old = {
        key: value
        for key, value in json.loads(path.read_text()).items()
        if key not in ("models", "reference")
    }
    make_earlier(path.parent)
    path.write_text(json.dumps(old))  # as it was before there were any
    report = make(run)
    assert (
        'id="methods"' not in page_of(report)
        and "## Methods" not in (report / "report.md").read_text()
    )
    assert {"groups", "methods", "sizes"}.isdisjoint(
        json_of(report)
    ) and "Each seed alone" not in page_of(report)


def test_a_single_distilling_student_has_the_section_without_seeds(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=6, made={"sft": "kd", "base": "base"})
    text = (make(run) / "report.md").read_text()  # not measured yet: what training cost is known
    assert (
        "### Cost" in text
        and "| student | method | tokens in loss |" in text
        and "| sft | kd |" in text
    )


# ---- weights and latency


def safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        for name, shape in shapes.items()
    }
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 8)


def test_parameters_are_counted_from_the_headers_of_all_shards(tmp_path: Path) -> None:
    assert count_parameters(tmp_path) is None
    safetensors(tmp_path / "a.safetensors", {"w": [3, 4], "scalar": []})
    safetensors(tmp_path / "b.safetensors", {"v": [5]})
    assert count_parameters(tmp_path) == 3 * 4 + 1 + 5
    assert weight_bytes(tmp_path) == sum(path.stat().st_size for path in tmp_path.iterdir())
    (tmp_path / "c.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ConfigError, match="c.safetensors: not a safetensors file"):
        count_parameters(tmp_path)


def test_latency_is_written_beside_the_samples(run: Path, tmp_path: Path) -> None:
    problems = list(
        read_records(run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem)
    )
    sampler = ScriptedSampler({problem.id: ["one two three four"] for problem in problems})
    folder = tmp_path / "teacher"
    assert not is_measured(folder, 5) and EvalSettings().latency == 0
    measure_latency(sampler, problems, load_prompt("question"), folder, 5)
    found = json.loads((folder / "latency.json").read_text())
    assert is_measured(folder, 5) and not is_measured(folder, 6)
    assert (found["problems"], found["tokens"]) == (5, 20)
    assert found["ms_per_token"] == pytest.approx(1000 * found["seconds_per_answer"] / 4)
    assert found["seconds_to_first_token"] > 0


def test_latency_is_shown_once_it_is_there_and_remakes_the_report(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=6, made={"sft": "kd", "base": "base"})
    with GradingPool(workers=1) as pool:
        plan = evals.EvalPlan({"gsm_symbolic": 1}, ["sft", "base", "teacher"])
        evals.collect(run / "6-evals", plan, pool)
    assert "alone: ms per token" not in page_of(make(run))
    path = run / "6-evals" / "gsm_symbolic" / "sft" / "latency.json"
    path.write_text(json.dumps({"asked": 2, "ms_per_token": 7.25, "seconds_per_answer": 0.5}))
    page = page_of(make(run))
    assert "alone: ms per token" in page and ">7.25<" in page


def test_size_and_latency_stand_beside_the_scores_of_models_that_no_run_trained(
    tmp_path: Path,
) -> None:
    """7.5 ms a token of the int8 copy by 10 of its student."""
    run = fake_run(tmp_path, problems=6, right={"student": 0.9, "int8": 0.8, "teacher": 0.9})
    plan = evals.EvalPlan(
        {"gsm_symbolic": 1},
        ["student", "int8"],
        baselines={"int8": ["student"]},
        about=[MeasuredModel(name="int8", size_bytes=3 << 20), MeasuredModel(name="student")],
        reference="student",
    )
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool)
    assert "sizes" not in json_of(make(run))
    for name, ms in (("student", 10.0), ("int8", 7.5)):
        figures = {"asked": 2, "ms_per_token": ms, "seconds_per_answer": 0.5}
        figures |= {"seconds_to_first_token": ms / 500}
        path = run / "6-evals" / "gsm_symbolic" / name / "latency.json"
        path.write_text(json.dumps(figures))
    folder = make(run)
    sizes = {row["model"]: row for row in json_of(folder)["sizes"]}
    assert sizes["int8"]["latency_share"] == 0.75 and sizes["student"]["latency_share"] == 1
    assert sizes["int8"]["latency_s_to_first_token"] == 0.015
    text = (folder / "report.md").read_text()
    assert "### Sizes" in text and "### Cost" not in text
    assert "| int8 | 3.0 |" in text and "| 15.00 | 0.75 |" in text
    assert "alone: ms to first token" in page_of(folder)


def test_a_failed_answer_leaves_no_latency(tmp_path: Path, run: Path) -> None:
    problems = list(
        read_records(run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem)
    )
    measure_latency(ScriptedSampler({}), problems, load_prompt("question"), tmp_path, 5)
    assert not (tmp_path / "latency.json").exists()


def test_a_refused_answer_is_passed_over_when_latency_is_measured(
    tmp_path: Path, run: Path
) -> None:
    problems = list(
        read_records(run / "6-evals" / "gsm_symbolic" / "problems" / "problems.jsonl", Problem)
    )
    asked: list[str] = []

    def script(request: Request) -> str | Completion:
        asked.append(request.id)
        return (
            failed("content filter", fault="input")
            if request.id == f"{problems[0].id}:0"
            else "one two three four"
        )

    measure_latency(ScriptedSampler(script), problems, load_prompt("question"), tmp_path, 5)
    found = json.loads((tmp_path / "latency.json").read_text())
    assert (found["asked"], found["problems"], found["tokens"]) == (5, 5, 20)
    assert (
        is_measured(tmp_path, 5) and asked.count(f"{problems[1].id}:0") == 3
    )  # the first answer is no answering, and the last is for its first token
    (tmp_path / "latency.json").unlink()
    measure_latency(ScriptedSampler(script), problems[:1], load_prompt("question"), tmp_path, 1)
    assert not (tmp_path / "latency.json").exists()


def test_seconds_per_answer_are_those_of_answers(tmp_path: Path) -> None:
    run = fake_run(
        tmp_path,
        made={"sft": "kd", "base": "base"},
        right={"teacher": 1.0, "sft": 0.4, "base": 0.1},
    )
    cell = run / "6-evals" / "gsm_symbolic" / "sft" / "traces"
    fail_samples(
        cell, [f"gsm_symbolic/test/{row}:0" for row in range(10)], "content filter", fault="input"
    )
    with GradingPool(workers=1) as pool:
        plan = evals.EvalPlan({"gsm_symbolic": 1}, ["sft", "base", "teacher"])
        evals.collect(run / "6-evals", plan, pool)
    facts = read_facts(run, read_stages(run, besides=run / "7-report"), traces=0)
    speed = {size.model: size.seconds_per_answer for size in methods.sizes(facts)}
    assert speed["sft"] == pytest.approx(200 / 20) and speed["base"] == pytest.approx(200 / 30)
