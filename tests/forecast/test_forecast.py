"""What a run will cost: hand-computed on folders whose speed is known, intervals that hold what
they promise, and gaps that are told.
"""

from __future__ import annotations

import json
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import (
    ENVIRONMENT,
    fail_samples,
    fake_problems,
    fake_run,
    write_problems,
    write_stage,
    write_traces,
)
from test_cli import run as command
from test_report import full_run, make
from traces_kit import make_earlier

from reasondistill.cli import forecasting
from reasondistill.config import Cluster, ExampleSettings, Pipeline
from reasondistill.doctor import estimate
from reasondistill.errors import DataError
from reasondistill.forecast import Given, make_forecast, save
from reasondistill.forecast.calibrating import calibration_run
from reasondistill.forecast.evidence import read_evidence, read_graded
from reasondistill.models.prompts import load_prompt
from reasondistill.pipeline import Run, plan
from reasondistill.records import Example, Forecast, Range, Student, Trace, TrainingFigures
from reasondistill.runs.figures import read_forecast
from reasondistill.runs.layout import FORECAST, FORECAST_COPY, RunFolder
from reasondistill.runs.store import (
    append_metrics,
    count_lines,
    read_manifest,
    read_records,
    read_rows,
    write_manifest,
    write_records,
    write_text,
)
from reasondistill.sections import check_section
from reasondistill.stages.examples import EXAMPLES, ExampleInputs, run_examples

ARCHITECTURE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
RATE, LOAD = 400.0, 30.0
# A student's training: so many tokens a step, seconds a step, seconds before the first.
STEP_TOKENS, STEP_S, START_S = 3200, 2.0, 40.0


def pipeline(**sections: Any) -> Pipeline:
    values: dict[str, Any] = {
        "name": "planned",
        "problems": {"source": "file", "dataset": "problems.jsonl", "limit": 100},
        "traces": {
            "prompt": "question",
            "n": 4,
            "max_tokens": 2048,
            "teachers": [{"model": "shipped:demo-teacher"}],
        },
        "examples": {"validation": 0.1},
    }
    return check_section(Path("planned.toml"), Pipeline, values | sections, ())


def planned(tmp_path: Path, cluster: dict[str, Any] | None = None, **sections: Any) -> Run:
    """On a cluster whose engine is full with eight samples: as full as when it was measured."""
    where = {"vllm": {"max_num_seqs": 8}} | (cluster or {})
    return Run(
        pipeline(**sections),
        Cluster.model_validate(where),
        tmp_path / "planned",
        tmp_path / "planned.toml",
    )


def like(folder: Path, *, problems: int = 40, rate: float = RATE) -> Path:
    """Traces and verdicts of a run whose engine wrote `rate` tokens/s after loading for 30 s."""
    fake_run(folder, until="verdicts", problems=problems)
    told(folder / "2-traces", rate, tokens_of(folder / "2-traces"))
    return folder


def tokens_of(folder: Path) -> int:
    return sum(row["completion"]["tokens"] for row in read_rows(folder / "traces.jsonl"))


def told(
    folder: Path,
    rate: float,
    tokens: int,
    *,
    teacher: str = "/models/demo-teacher",
    lines: int = 10,
) -> None:
    """Metrics lines of one session at a constant speed."""
    for line in range(1, lines + 1):
        done = tokens * line / lines
        append_metrics(
            folder,
            session=teacher,
            teacher=teacher,
            tokens=done,
            seconds=done / rate,
            load_seconds=LOAD,
        )


def usable_share(folder: Path) -> float:
    """Of all traces those that are right, the same text of a problem once."""
    pairs = zip(
        read_rows(folder / "2-traces" / "traces.jsonl"),
        read_rows(folder / "3-verdicts" / "verdicts.jsonl"),
        strict=True,
    )
    right = {
        (t["problem_id"], t["completion"]["reasoning"])
        for t, v in pairs
        if v["grade"]["outcome"] == "correct"
    }
    return len(right) / count_lines(folder / "2-traces" / "traces.jsonl")


def trained(
    folder: Path,
    name: str = "small",
    *,
    method: str = "sft",
    steps: int = 50,
    rows: int = 200,
    loss_tokens: int = 1000,
) -> None:
    """A finished student of the test's architecture with a known speed."""
    for step in range(1, steps + 1):
        append_metrics(
            folder / name,
            step=step,
            loss=1.0,
            learning_rate=1.0,
            tokens=step * STEP_TOKENS,
            seconds=START_S + step * STEP_S,
        )
    figures = TrainingFigures(
        steps=steps,
        epochs=steps * STEP_TOKENS / 100 / rows,  # rows of 100 tokens
        examples=rows,
        tokens=steps * STEP_TOKENS,
        loss_tokens=loss_tokens,
        seconds=START_S + steps * STEP_S,
        train_loss=1.0,
        validation_loss=None,
        parameters=100_000,
        trained_parameters=100_000,
        peak_memory_gib=1.0,
    )
    shape = pipeline(students=[student()]).students[0].model_dump(mode="json")["architecture"]
    write_stage(
        folder / name,
        "students",
        {},
        section={"name": name, "method": method, "architecture": shape},
        counts={"in": rows, "out": rows},
        figures=figures.model_dump(),
        seconds=START_S + steps * STEP_S,
    )
    made = Student(
        name=name, method=method, base="scratch", path="model", examples="", seed=0, figures=figures
    )
    write_text(folder / name / "student.json", made.model_dump_json())


def student(name: str = "small", **settings: Any) -> dict[str, Any]:
    return {
        "name": name,
        "max_steps": 300,
        "batch_size": 32,
        "baselines": [],
        "architecture": ARCHITECTURE,
    } | settings


def stage(found: Forecast, name: str) -> Any:
    return next(row for row in found.stages if row.stage == name)


def hours(seconds: float) -> Any:
    return pytest.approx(seconds / 3600, rel=1e-6)


# ---- by hand -------------------------------------------------------------------------------------


def test_traces_take_samples_times_tokens_by_speed_and_the_start_of_the_engine(
    tmp_path: Path,
) -> None:
    folder = like(tmp_path / "like")
    found = stage(make_forecast(planned(tmp_path), like=[folder]), "traces")
    tokens = 100 * 4 * tokens_of(folder / "2-traces") / 80
    assert found.tokens.expected == pytest.approx(tokens)
    assert found.wall_hours.expected == hours(tokens / RATE + LOAD)
    assert found.wall_hours == found.left_hours
    assert found.work == "at most 400 traces" and str(folder) in found.source
    size = (
        (folder / "2-traces" / "traces.jsonl").stat().st_size
        / tokens_of(folder / "2-traces")
        * tokens
    )
    assert found.bytes.expected == pytest.approx(size)


def test_published_traces_are_read_in_no_time_and_as_long_as_others(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    teachers = [{"model": "set.jsonl", "sampler": "stored"}]
    run = planned(tmp_path, traces={"prompt": "question", "n": 4, "teachers": teachers})
    found = stage(make_forecast(run, like=[folder]), "traces")
    tokens = 100 * 4 * tokens_of(folder / "2-traces") / 80
    assert found.tokens.low < tokens < found.tokens.high
    assert found.left_hours.expected == found.wall_hours.high == 0
    assert "set: published traces are read, not drawn" in " ".join(found.notes)
    nothing_known = stage(make_forecast(run), "traces")
    assert nothing_known.left_hours.expected == 0 and nothing_known.tokens is None


def test_workers_share_the_work_and_each_starts_its_engine(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    stages = {"traces": {"shards": 8, "max_concurrent": 4, "gpus": 2, "cpus": 16, "nodes": 2}}
    prices = {"gpu_hour": 2.5, "cpu_hour": 0.04}
    told = make_forecast(
        planned(tmp_path, {"kind": "slurm", "stages": stages, "prices": prices}), like=[folder]
    )
    found = stage(told, "traces")
    work = found.tokens.expected / RATE
    assert found.wall_hours.expected == hours(work / 4 + 2 * LOAD)  # two rounds of four
    workers = work + 8 * LOAD
    assert found.worker_hours.expected == hours(workers)
    assert found.gpu_hours.expected == hours(4 * workers) and found.cpu_hours.expected == hours(
        32 * workers
    )
    assert found.money.expected == pytest.approx(workers / 3600 * (4 * 2.5 + 32 * 0.04))
    assert told.total.money is not None and told.total.money.expected >= found.money.expected


def test_without_prices_there_is_no_money(tmp_path: Path) -> None:
    found = make_forecast(planned(tmp_path), like=[like(tmp_path / "like")])
    assert found.total.money is None and all(row.money is None for row in found.stages)


def test_a_student_takes_steps_times_batch_times_tokens_by_speed(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    trained(folder / "5-students")
    found = stage(
        make_forecast(planned(tmp_path, students=[student()]), like=[folder]), "students/small"
    )
    rows = 0.9 * 400 * usable_share(folder)
    tokens = 300 * rows / np.ceil(rows / 32) * 100
    assert found.tokens.expected == pytest.approx(tokens)
    assert found.wall_hours.expected == hours(tokens / (STEP_TOKENS / STEP_S) + START_S)
    assert found.bytes.expected == 100_000 * 2  # bfloat16; no checkpoint of a finished student
    (said,) = [note for note in found.notes if note.startswith("while it is trained: about")]
    assert "optimizer 0.00" in said and "1 MiB on disk at most" in said
    assert found.memory_bytes.low < found.memory_bytes.expected < found.memory_bytes.high


def test_epochs_become_steps_and_packed_rows_are_full(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    trained(folder / "5-students")
    rows = 0.9 * 400 * usable_share(folder)
    by_epoch = make_forecast(
        planned(tmp_path, students=[student(max_steps=None, epochs=3)]), like=[folder]
    )
    assert stage(by_epoch, "students/small").tokens.expected == pytest.approx(3 * rows * 100)
    packed = make_forecast(
        planned(tmp_path, students=[student(packing=True, max_length=1000)]), like=[folder]
    )
    packs = rows * 100 / 1000
    assert stage(packed, "students/small").tokens.expected == pytest.approx(
        300 * packs / np.ceil(packs / 32) * 1000
    )


def test_a_control_takes_as_many_steps_as_its_student_whatever_its_own_rows(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    trained(folder / "5-students")
    asked = student(max_steps=None, epochs=3, baselines=["answer_only"])
    found = make_forecast(planned(tmp_path, students=[asked]), like=[folder])
    trained_work, control_work = (
        stage(found, "students/small").work.split(",")[0],
        stage(found, "students/answer-only").work.split(",")[0],
    )
    steps = 3 * np.ceil(0.9 * 400 * usable_share(folder) / 32)
    assert trained_work == control_work == f"{steps:,.0f} steps"


def test_seeds_cost_each_and_stand_side_by_side(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    trained(folder / "5-students")
    found = make_forecast(
        planned(tmp_path, {"train": {"parallel": 3}}, students=[student(seeds=[0, 1, 2])]),
        like=[folder],
    )
    three = [row for row in found.stages if row.stage.startswith("students/")]
    assert [row.stage for row in three] == [f"students/small-seed{seed}" for seed in range(3)]
    others = sum(
        row.wall_hours.expected
        for row in found.stages
        if row not in three and row.wall_hours is not None
    )
    assert found.total.wall_hours is not None and found.total.worker_hours is not None
    assert found.total.wall_hours.expected == pytest.approx(others + three[0].wall_hours.expected)
    assert found.total.worker_hours.expected > found.total.wall_hours.expected


def test_the_top_k_cache_takes_66_bytes_a_token_at_16(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    (folder / "2-traces" / "topk").mkdir()
    header = {
        "version": 1,
        "k": 16,
        "tokenizer": "t",
        "vocabulary_size": 1821,
        "id_bytes": 2,
        "models": [],
    }
    (folder / "2-traces" / "topk" / "topk.json").write_text(json.dumps(header))
    traces = pipeline().traces
    assert traces is not None
    without = stage(make_forecast(planned(tmp_path), like=[folder]), "traces")
    values = traces.model_dump(exclude_none=True) | {"logprobs": 16}
    with_it = stage(make_forecast(planned(tmp_path, traces=values), like=[folder]), "traces")
    per_token = (
        with_it.bytes.expected - without.bytes.expected - 400 * 140
    ) / with_it.tokens.expected
    assert per_token == pytest.approx(66)


def test_evals_count_models_benchmarks_samples_and_prompts(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    dice = random.Random(1)
    asked = fake_problems("gsm_symbolic_12/test", 30, dice)
    write_problems(folder / "6-evals" / "gsm_symbolic_12" / "problems", asked)
    answers = folder / "6-evals" / "gsm_symbolic_12" / "teacher"
    write_traces(answers / "traces", asked, 1, "demo-teacher@a1b2", 0.9, dice)
    told(answers / "traces", 1000.0, tokens_of(answers / "traces"))
    evals = {"benchmarks": ["gsm_symbolic_12"], "n": 4, "prompts": ["think"]}
    found = stage(make_forecast(planned(tmp_path, evals=evals), like=[folder]), "evals/teacher")
    tokens = 2 * 30 * 4 * tokens_of(answers / "traces") / 30
    assert found.work == "240 answers to 1 benchmark"
    assert found.tokens.expected == pytest.approx(tokens)
    assert found.wall_hours.expected == hours(tokens / 1000 + LOAD)


# ---- this run's own folder -----------------------------------------------------------------------


def test_what_is_done_is_exact(tmp_path: Path) -> None:
    job = planned(
        tmp_path,
        traces={"prompt": "question", "n": 2, "teachers": [{"model": "shipped:demo-teacher"}]},
    )
    like(job.folder, problems=30)
    found = make_forecast(job)
    manifest = read_manifest(job.folder / "2-traces")
    assert manifest is not None
    row = stage(found, "traces")
    assert row.state == "done" and row.work == "60 traces" and row.source == "this run"
    assert row.wall_hours == Range(
        expected=manifest.seconds / 3600, low=manifest.seconds / 3600, high=manifest.seconds / 3600
    )
    assert row.left_hours.high == 0
    assert row.tokens.low == row.tokens.high == tokens_of(job.folder / "2-traces")
    assert stage(found, "problems").state == "done"


def test_problems_drawn_until_enough_are_correct_are_done_by_the_rule_that_drew_them(
    tmp_path: Path,
) -> None:
    rule = {"accepted": 1, "first": 2, "candidates": 8}

    def job(limit: int = 30, **keys: int) -> Run:
        teachers = [{"model": "shipped:demo-teacher"}]
        traces = {"prompt": "question", "teachers": teachers} | rule | keys
        problems = {"source": "file", "dataset": "problems.jsonl", "limit": limit}
        return planned(tmp_path, traces=traces, problems=problems)

    folder = like(job().folder, problems=30) / "2-traces"
    manifest = read_manifest(folder)
    assert manifest is not None
    until = {"accepted": 1, "first": 2, "policy": "default"}
    section = manifest.section | {"n": 8, "until": until}
    identity = manifest.identity | {"section": section}
    write_manifest(folder, replace(manifest, identity=identity))

    def row(job: Run) -> tuple[str, str, float]:
        found = make_forecast(job)
        traces, verdicts = stage(found, "traces"), stage(found, "verdicts")
        assert (traces.state == "done") == (verdicts.state == "done")
        return traces.state, traces.work, traces.left_hours.high

    done = ("done", "60 traces", 0)
    assert row(job()) == done
    for larger in (job(accepted=2), job(candidates=16), job(first=3), job(budget_tokens=99_999)):
        state, work, left = row(larger)
        most = 30 * (16 if larger.pipeline.traces.n == 16 else 8)  # type: ignore[union-attr]
        assert state != "done" and work == f"at most {most} traces" and left > 0
    one = plan(job(), ["traces"], share_engine_process=False)[0]
    assert estimate(job(), one).startswith("at most 240 traces, at most 491,520 tokens; at most ")
    budget = estimate(job(budget_tokens=9_000), one)
    assert budget.startswith("at most 240 traces, about 9,000 tokens; at most ")


def test_what_is_begun_is_extrapolated_from_itself(tmp_path: Path) -> None:
    job = planned(
        tmp_path,
        traces={
            "prompt": "question",
            "n": 4,
            "max_tokens": 2048,
            "teachers": [{"model": "shipped:demo-teacher"}],
        },
    )
    like(job.folder, problems=30)  # two of four samples of each problem
    other = like(tmp_path / "other", rate=50)
    row = stage(make_forecast(job, like=[other]), "traces")
    made = tokens_of(job.folder / "2-traces")
    manifest = read_manifest(job.folder / "2-traces")
    assert manifest is not None
    assert row.state == "partial" and row.work == "120 traces"
    assert row.tokens.expected == pytest.approx(2 * made) and row.tokens.low > made
    assert row.left_hours.expected == hours(made / RATE + LOAD)
    assert row.wall_hours.expected == hours(
        max(made / RATE + LOAD, manifest.seconds) + made / RATE + LOAD
    )


def test_two_teachers_are_told_apart(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    lines = (folder / "2-traces" / "traces.jsonl").read_text().splitlines()
    quick = [line.replace("demo-teacher@a1b2c3d4", "quick@1") for line in lines[:40]]
    (folder / "2-traces" / "traces.jsonl").write_text("\n".join([*quick, *lines[40:]]) + "\n")
    told(folder / "2-traces", 4000.0, 9000, teacher="org/quick")
    found = read_evidence(folder, "like", ExampleSettings()).teachers
    assert found["quick"].speed is not None and found["demo-teacher"].speed is not None
    assert found["quick"].speed.tokens_per_s == pytest.approx(4000)
    assert found["demo-teacher"].speed.tokens_per_s == pytest.approx(RATE)
    traces = {
        "prompt": "question",
        "n": 2,
        "max_tokens": 2048,
        "teachers": [{"model": "org/quick", "share": 3}, {"model": "org/demo-teacher"}],
    }
    row = stage(make_forecast(planned(tmp_path, traces=traces), like=[folder]), "traces")
    means = {name: written.total_tokens / written.total_samples for name, written in found.items()}
    seconds = 150 * means["quick"] / 4000 + 50 * means["demo-teacher"] / RATE + 2 * LOAD
    assert row.wall_hours.expected == hours(seconds)


def test_what_a_service_lost_says_nothing_of_how_many_traces_are_kept_and_what_is_refused_does(
    tmp_path: Path,
) -> None:
    folder = fake_run(tmp_path / "like", until="verdicts", n=2, right={"teacher": 1.0})
    fail_samples(
        folder / "2-traces", [f"gsm_symbolic/train/{row}:1" for row in range(10)], "HTTP 402"
    )
    graded = read_evidence(folder, "like", ExampleSettings()).graded
    assert graded is not None and graded.samples.sum() == 50
    usable = graded.usable.sum()
    fail_samples(
        folder / "2-traces",
        [f"gsm_symbolic/train/{row}:1" for row in range(20, 25)],
        "too long",
        fault="input",
    )
    graded = read_evidence(folder, "like", ExampleSettings()).graded
    assert graded is not None and graded.samples.sum() == 50 and graded.usable.sum() < usable


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"require_think": True},
        {"require_boxed": True},
        {"outcomes": ["correct", "wrong"], "min_tokens": 60, "max_tokens": 120},
        {"select": "shortest"},
        {"select": "longest", "k": 2},
        {"select": "first"},
        {"select": "random", "seed": 3},
    ],
    ids=str,
)
def test_the_forecast_keeps_the_traces_that_the_examples_stage_keeps(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = fake_run(tmp_path / "like", until="verdicts", n=4, right={"teacher": 0.8})
    path = folder / "2-traces" / "traces.jsonl"
    write_records(path, [_some_without_think(trace) for trace in read_records(path, Trace)])
    examples = ExampleSettings.model_validate(settings)
    prompt = load_prompt("question")
    inputs = ExampleInputs(folder / "1-problems", folder / "2-traces", folder / "3-verdicts")
    run_examples(examples, prompt, inputs, tmp_path / "examples", about={})
    chosen = {example.id for example in read_records(tmp_path / "examples" / EXAMPLES, Example)}
    tokens = {
        trace.id: trace.completion.prompt_tokens + trace.completion.tokens
        for trace in read_records(path, Trace)
    }
    graded = read_evidence(folder, "like", examples).graded
    assert graded is not None
    assert graded.rows.sum() == len(chosen)
    assert graded.row_tokens.sum() == sum(tokens[name] for name in chosen)


def _some_without_think(trace: Trace) -> Trace:
    """The same, but every third answer stands there without reasoning, and bare."""
    if trace.sample % 3:
        return trace
    bare = {"reasoning": None, "think": "none", "answer_text": f"It is {trace.sample}."}
    return trace.model_copy(update={"completion": trace.completion.model_copy(update=bare)})


def test_traces_with_fields_of_another_version_are_read(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "like", until="verdicts", n=2)
    before = read_evidence(folder, "like", ExampleSettings()).graded
    for name in ("2-traces/traces.jsonl", "3-verdicts/verdicts.jsonl"):
        lines: list[str] = []
        for row in read_rows(folder / name):
            for part in ("completion", "grade"):
                if part in row:
                    row[part]["of_tomorrow"] = [1]
            lines.append(json.dumps(row | {"of_tomorrow": {"a": 1}}) + "\n")
        (folder / name).write_text("".join(lines), encoding="utf-8")
    graded = read_evidence(folder, "like", ExampleSettings()).graded
    assert before is not None and graded is not None
    assert graded.rows.tolist() == before.rows.tolist()
    assert graded.row_tokens.tolist() == before.row_tokens.tolist()
    assert graded.all_row_tokens == before.all_row_tokens


def test_nothing_of_a_trace_that_is_not_kept_stays_in_memory(tmp_path: Path) -> None:
    few, many = (peak_of_reading(tmp_path / str(count), count) for count in (1000, 5000))
    assert many - few < 60_000  # 15 bytes a trace: not even its name


def peak_of_reading(folder: Path, count: int) -> int:
    """The bytes that reading so many graded traces takes, of which none is usable."""
    run = fake_run(folder / "like", until="verdicts", problems=1, n=1, right={"teacher": 0.0})
    for path in (run / "2-traces" / "traces.jsonl", run / "3-verdicts" / "verdicts.jsonl"):
        line = path.read_text(encoding="utf-8")
        copies = [line.replace("gsm_symbolic/train/0:0", f"gsm/{copy}:0") for copy in range(count)]
        path.write_text("".join(copies), encoding="utf-8")
    read_graded(RunFolder(run), ExampleSettings())  # what is imported late is there
    tracemalloc.start()
    graded = read_graded(RunFolder(run), ExampleSettings())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert graded is not None and graded.samples.sum() == count and graded.usable.sum() == 0
    return peak


def test_a_forecast_filters_as_the_examples_stage_does(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "like", until="verdicts", problems=30, n=2, right={"teacher": 1.0})
    tables: dict[str, dict[str, Any]] = {
        "length_percentiles": {"highest": 50},
        "reasoning": {"least_words": 1},
        "language": {},
        "pass_rate": {"low": 0.1},
    }
    settings = ExampleSettings(filters=tables)
    inputs = ExampleInputs(run / "1-problems", run / "2-traces", run / "3-verdicts")
    made = run_examples(settings, load_prompt("think"), inputs, tmp_path / "made", about={})
    found = read_graded(RunFolder(run), settings)
    assert found is not None and found.usable.sum() == made.counts["out"] > 0
    assert made.dropped["among the longest"] > 20


# ---- what is not known ---------------------------------------------------------------------------


def test_what_nobody_knows_is_said_and_no_number_is_made_up(tmp_path: Path) -> None:
    found = make_forecast(planned(tmp_path, students=[student()]))
    for name in ("traces", "verdicts", "examples", "students/small"):
        row = stage(found, name)
        assert (
            row.unknown == "unknown: use --calibrate 20"
            and row.wall_hours is None
            and row.tokens is None
        )
    assert found.total.unknown is not None and "students/small" in found.total.unknown


def test_a_sum_of_nothing_known_is_unknown_and_not_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untouched base takes nothing: alone it is no forecast of the run."""
    found = make_forecast(planned(tmp_path, students=[student(baselines=["base"])]))
    assert stage(found, "students/base").unknown is None
    total = found.total
    assert total.work.startswith("1 of ") or total.work.startswith("2 of ")
    parts = (total.wall_hours, total.worker_hours, total.cpu_hours, total.gpu_hours, total.bytes)
    assert parts == (None,) * 5
    monkeypatch.setattr(forecasting.out, "_width", 200)
    forecasting.print_forecast(found)
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["total"].count("unknown") >= 4 and " 0 " not in rows["total"]
    assert rows["traces"].count("unknown") >= 4 and rows["verdicts"].count("unknown") >= 3


def test_problems_without_a_limit_are_not_counted_before_stage_one(tmp_path: Path) -> None:
    job = planned(tmp_path, problems={"source": "file", "dataset": "problems.jsonl"})
    assert (
        "how many problems"
        in stage(make_forecast(job, like=[like(tmp_path / "like")]), "traces").unknown
    )
    write_problems(job.folder / "1-problems", fake_problems("p", 7, random.Random(0)))
    assert stage(make_forecast(job, like=[tmp_path / "like"]), "traces").work == "28 traces"


@pytest.mark.parametrize(
    "line",
    [
        '{"": {"": {}}}',
        "[1]",
        "true",
        '{"id": "a", "problem_id": [], "model": "m", "completion": {"finish": "stop"}}',
        '{"id": "a", "problem_id": "b", "model": "m", "completion": {"finish": "stop", '
        '"tokens": "many", "prompt_tokens": 1, "seconds": 1}}',
        '{"id": "a", "problem_id": "b", "model": "m", "completion": {"finish": "stop", '
        '"tokens": 1' + 400 * "0" + ', "prompt_tokens": 1, "seconds": 1}}',
        '{"id": "a", "problem_id": "b", "model": "m", "completion": {"finish": "stop", '
        '"tokens": 1, "prompt_tokens": 1, "seconds": Infinity}}',
    ],
)
def test_an_odd_line_of_samples_is_named(line: str, tmp_path: Path) -> None:
    folder = like(tmp_path / "run", problems=2)
    traces = folder / "2-traces" / "traces.jsonl"
    number = len(traces.read_text().splitlines()) + 1
    with traces.open("a") as file:
        file.write(line + "\n")
    make_earlier(folder / "2-traces")
    with pytest.raises(DataError, match=rf"traces\.jsonl:{number}: not a"):
        read_evidence(folder, "run", ExampleSettings())


def test_another_teacher_may_stand_in_and_is_named(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    traces = {
        "prompt": "question",
        "n": 4,
        "max_tokens": 2048,
        "teachers": [{"model": "org/other"}],
    }
    same, other = (
        make_forecast(planned(tmp_path), like=[folder]),
        make_forecast(planned(tmp_path, traces=traces), like=[folder]),
    )
    row = stage(other, "traces")
    assert any("demo-teacher" in note and "stands in" in note for note in row.notes)
    assert not any("stands in" in note for note in stage(same, "traces").notes)
    assert row.wall_hours.high - row.wall_hours.low > 1.5 * (
        stage(same, "traces").wall_hours.high - stage(same, "traces").wall_hours.low
    )


def test_the_same_teacher_is_preferred_wherever_it_was_measured(tmp_path: Path) -> None:
    stranger, same = like(tmp_path / "stranger", rate=50), like(tmp_path / "same")
    path = stranger / "2-traces" / "traces.jsonl"
    path.write_text(path.read_text().replace("demo-teacher@", "stranger@"))
    assert stage(
        make_forecast(planned(tmp_path), like=[stranger, same]), "traces"
    ).source.startswith(str(same))


def test_a_method_that_was_never_trained_is_unknown_and_another_size_is_told(
    tmp_path: Path,
) -> None:
    folder = like(tmp_path / "like")
    trained(folder / "5-students")
    larger = student("larger", architecture=ARCHITECTURE | {"hidden_size": 128})
    found = make_forecast(
        planned(tmp_path, students=[student("kd", method="kd"), larger]), like=[folder]
    )
    assert stage(found, "students/kd").unknown is not None
    row = stage(found, "students/larger")
    assert row.unknown is None and any(
        "larger by small" in note and "100,000 parameters" in note for note in row.notes
    )


def test_what_the_user_gives_stands_over_what_was_measured(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    row = stage(
        make_forecast(planned(tmp_path), like=[folder], given=Given(1500.0, 1000.0)), "traces"
    )
    assert row.tokens == Range(expected=600_000, low=600_000, high=600_000)
    assert row.wall_hours.expected == hours(600_000 / 1000 + LOAD) and row.source == "as given"
    alone = stage(make_forecast(planned(tmp_path), given=Given(1500.0, 1000.0)), "traces")
    assert alone.wall_hours.expected == hours(600) and alone.unknown is None


def test_a_file_that_only_measures_is_forecast_by_a_run_that_measured_the_same_model(
    tmp_path: Path,
) -> None:
    folder = fake_run(tmp_path / "like", benchmarks=("gsm_symbolic_12",))
    values = {
        "name": "planned",
        "evals": {
            "benchmarks": ["gsm_symbolic_12"],
            "n": 2,
            "models": [{"name": "sft", "model": "org/sft"}],
        },
    }
    job = Run(
        check_section(Path("p.toml"), Pipeline, values, ()),
        Cluster(),
        tmp_path / "planned",
        tmp_path / "p.toml",
    )
    assert stage(make_forecast(job), "evals/sft").unknown is not None
    found = make_forecast(job, like=[folder])
    tokens = tokens_of(folder / "6-evals" / "gsm_symbolic_12" / "sft" / "traces")
    assert [row.stage for row in found.stages] == ["evals/sft", "report"]
    assert stage(found, "evals/sft").tokens.expected == pytest.approx(2 * tokens)


# ---- stored, and held against what came ----------------------------------------------------------


def foretold(folder: Path) -> Forecast:
    """A forecast of the fake run: its traces took 212.4 s, its student 154 s."""

    def row(name: str, seconds: float, state: str = "new") -> dict[str, Any]:
        told = {
            "expected": seconds / 3600,
            "low": 0.9 * seconds / 3600,
            "high": 1.1 * seconds / 3600,
        }
        return {"stage": name, "state": state, "work": "", "wall_hours": told}

    memory = {"expected": 1.2 * 2**30, "low": 1.0 * 2**30, "high": 1.4 * 2**30}
    stages = [
        row("problems", 1.0, "done"),
        row("traces", 200.0),
        row("students/sft", 100.0) | {"memory_bytes": memory},
        row("evals/teacher", 1000.0),
    ]
    value = {
        "run": "demo",
        "made": "2026-11-22T10:00:00+00:00",
        "cluster": "here",
        "sources": ["runs/like"],
        "stages": stages,
    }
    found = Forecast.model_validate(value | {"total": row("total", 1)})
    save(found, folder)
    return found


def test_the_report_puts_forecast_and_fact_side_by_side(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    foretold(run)
    folder = make(run)
    facts = json.loads((folder / "report.json").read_text())["forecast"]["facts"]
    rows = {row["stage"]: row for row in facts if row["what"] != "memory"}
    (memory,) = [row for row in facts if row["what"] == "memory"]
    assert memory["stage"] == "students/sft" and memory["took"] == 1.3 * 2**30
    assert set(rows) == {
        "traces",
        "students/sft",
        "evals/teacher",
    }  # problems were done when it was made
    assert rows["traces"]["took"] == pytest.approx(212.4) and rows["traces"]["inside"]
    assert (
        rows["students/sft"]["ratio"] == pytest.approx(1.54) and not rows["students/sft"]["inside"]
    )
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert "## Forecast and fact" in text and "2 of 4 numbers came inside" in text
    assert (
        "| students/sft | time | 1 min 40 s | 1 min 30 s to 1 min 50 s | 2 min 34 s | 1.54 | no |"
        in text
    )
    assert "Forecast and fact" in page and "runs/like" in page


def test_a_report_without_a_forecast_has_no_such_section_and_a_new_forecast_makes_a_new_report(
    tmp_path: Path,
) -> None:
    run = full_run(tmp_path / "run")
    assert "Forecast and fact" not in (make(run) / "report.md").read_text()
    foretold(run)
    assert "Forecast and fact" in (make(run) / "report.md").read_text()


def test_a_forecast_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", until="problems")
    (run / FORECAST).write_text('{"run": 1}')
    with pytest.raises(DataError, match="forecast.json: not written by this version"):
        make(run)


def test_a_forecast_of_a_finished_run_leaves_the_one_that_foretold_it(tmp_path: Path) -> None:
    first = foretold(tmp_path)
    done = first.model_copy(
        update={
            "stages": tuple(row.model_copy(update={"state": "done"}) for row in first.stages),
            "run": "later",
        }
    )
    save(done, tmp_path)
    assert read_forecast(tmp_path / FORECAST).run == "demo"
    save(first.model_copy(update={"run": "again"}), tmp_path)
    assert read_forecast(tmp_path / FORECAST).run == "again"


def test_a_dry_run_shows_the_stored_forecast(tmp_path: Path) -> None:
    job = planned(tmp_path)
    foretold(job.folder)
    tasks = {
        task.stage: task for task in plan(job, ["traces", "verdicts"], share_engine_process=True)
    }
    assert estimate(job, tasks["traces"]).endswith("; forecast 3.3 min [3.0 min, 3.7 min]")
    assert "forecast" not in estimate(job, tasks["verdicts"])


# ---- the command ---------------------------------------------------------------------------------


def test_help_has_examples(tmp_path: Path) -> None:
    printed = command(tmp_path, "forecast", "--help")
    assert (
        "reasondistill forecast demo --calibrate 20" in printed and "--tokens-per-second" in printed
    )


def test_a_calibration_runs_the_real_stages_beside_the_run(workplace: Path) -> None:
    """Four problems by the scripted teacher; the run proper is as it was, but for the forecast."""
    asked = ("forecast", "small.toml", "--set", "problems.limit=10")
    printed = command(workplace, *asked, "--calibrate", "4")
    assert "at most 20 traces" in printed and "from calibration" in printed
    scratch, folder = workplace / "runs" / "small.calibration", workplace / "runs" / "small"
    assert count_lines(scratch / "2-traces" / "traces.jsonl") == 8
    assert {path.name for path in folder.iterdir()} == {FORECAST, FORECAST_COPY}
    again = json.loads(command(workplace, *asked, "--json"))
    traces = next(row for row in again["stages"] if row["stage"] == "traces")
    made = sum(
        row["completion"]["tokens"] for row in read_rows(scratch / "2-traces" / "traces.jsonl")
    )
    assert traces["tokens"]["expected"] == pytest.approx(20 * made / 8)
    stored = read_forecast(folder / FORECAST)
    assert traces["unknown"] is None and again == stored.model_dump(mode="json")


def test_like_wants_a_run(workplace: Path) -> None:
    assert "holds no stages" in command(
        workplace, "forecast", "small.toml", "--like", "nowhere", code=2
    )


def test_a_calibration_is_small_and_its_own(tmp_path: Path) -> None:
    job = planned(
        tmp_path,
        students=[student(seeds=[0, 1], max_steps=300)],
        evals={"benchmarks": ["gsm_symbolic_12"], "n": 16},
    )
    small = calibration_run(job, 20)
    assert small.folder == tmp_path / "planned.calibration"
    assert small.pipeline.problems is not None and small.pipeline.problems.limit == 20
    assert [(one.name, one.max_steps) for one in small.pipeline.all_students()] == [("small", 8)]
    assert (small.pipeline.evals.n, small.pipeline.evals.limit) == (1, 20)
    assert small.pipeline.traces == job.pipeline.traces


def test_what_a_barely_trained_student_writes_is_no_measure_of_the_finished_one(
    tmp_path: Path,
) -> None:
    job = planned(
        tmp_path,
        students=[student()],
        evals={"benchmarks": ["gsm_symbolic_12"], "max_tokens": 2048},
    )
    scratch = like(tmp_path / "planned.calibration")
    trained(scratch / "5-students")
    dice = random.Random(1)
    asked = fake_problems("gsm_symbolic_12/test", 20, dice)
    write_problems(scratch / "6-evals" / "gsm_symbolic_12" / "problems", asked)
    for model, right in (("small", 0.0), ("teacher", 1.0)):
        write_traces(
            scratch / "6-evals" / "gsm_symbolic_12" / model / "traces", asked, 1, model, right, dice
        )
    teachers = tokens_of(scratch / "6-evals" / "gsm_symbolic_12" / "teacher" / "traces")
    row = stage(make_forecast(job), "evals/small")
    assert row.tokens.expected == pytest.approx(teachers)
    assert any("as long as their teacher" in note for note in row.notes)


def test_an_answer_only_student_writes_what_it_learns(tmp_path: Path) -> None:
    job = planned(
        tmp_path,
        students=[student(method="answer_only")],
        evals={"benchmarks": ["gsm_symbolic_12"], "max_tokens": 2048},
    )
    scratch = like(tmp_path / "planned.calibration")
    trained(
        scratch / "5-students", method="answer_only", loss_tokens=50 * STEP_TOKENS // 10
    )  # rows of 100 tokens, 10 of them answer
    dice = random.Random(1)
    asked = fake_problems("gsm_symbolic_12/test", 20, dice)
    write_problems(scratch / "6-evals" / "gsm_symbolic_12" / "problems", asked)
    write_traces(
        scratch / "6-evals" / "gsm_symbolic_12" / "small" / "traces", asked, 1, "small", 0.0, dice
    )
    assert stage(make_forecast(job), "evals/small").tokens.expected == pytest.approx(20 * 10)


def test_the_source_names_the_hardware(tmp_path: Path) -> None:
    folder = like(tmp_path / "like")
    manifest = read_manifest(folder / "1-problems")
    assert manifest is not None
    write_manifest(
        folder / "1-problems",
        replace(manifest, environment=ENVIRONMENT | {"gpus": ["NVIDIA H100, 80 GB"] * 2}),
    )
    assert read_evidence(folder, "like", ExampleSettings()).source == "like (2× NVIDIA H100)"
