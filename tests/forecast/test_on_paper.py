"""A forecast for GPUs that nobody has run it on: by hand from the data sheet, marked, refused where
a model's size is not known.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_cli import run as command
from test_forecast import pipeline

from reasondistill.config import Cluster, StudentSettings, TrainSettings
from reasondistill.errors import ConfigError
from reasondistill.forecast import Given, make_forecast, paper_of
from reasondistill.forecast.on_paper import GPUS, Paper
from reasondistill.models.shapes import PUBLISHED, ModelShape, shape_of_config
from reasondistill.pipeline import Run
from reasondistill.records import Forecast, StageForecast

TEACHER = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
BASE = "Qwen/Qwen2.5-0.5B"


def shape(model: str) -> ModelShape:
    found = shape_of_config(PUBLISHED[model])
    assert found is not None
    return found


def forecast(
    folder: Path, paper: Paper | None = None, base: str = BASE, **given: float
) -> Forecast:
    student = {"name": "small", "base": base, "max_steps": 100, "baselines": []}
    settings = pipeline(
        traces={
            "prompt": "question",
            "n": 4,
            "max_tokens": 2000,
            "teachers": [{"model": TEACHER}],
        },
        students=[student],
    )
    run = Run(settings, Cluster(), folder / "runs" / "planned", folder / "planned.toml")
    paper = paper or paper_of("2xh100")
    return make_forecast(run, given=Given(**given), paper=paper, usd_hour=2.0)


def stage(found: Forecast, name: str) -> StageForecast:
    return next(one for one in found.stages if one.stage == name)


def test_writing_reads_weights_and_keys_once_for_all_texts() -> None:
    """7B on one H100, 4 texts of 1,000 tokens: too few to compute for longer than it reads."""
    teacher = shape(TEACHER)
    speed = paper_of("1xh100").writing_speed(teacher, tokens=1000, seats=4)
    assert speed is not None
    weights, keys = 2 * 7_615_616_512, 2 * 2 * 28 * 512
    step_s = (weights + 4 * (200 + 500) * keys) / (0.6 * 3.35e12)
    assert speed.tokens_per_s == pytest.approx(4 / step_s)


def test_many_texts_take_the_time_of_computing_and_a_model_that_is_too_large_is_none() -> None:
    teacher = shape("Qwen/Qwen2.5-32B")
    assert Paper(GPUS["l40s"], 1).writing_speed(teacher, 1000, 64) is None
    few, many = (paper_of("8xh100").writing_speed(teacher, 1000, seats) for seats in (64, 4096))
    assert few is not None and many is not None
    assert 1 < many.tokens_per_s / few.tokens_per_s < 64


def test_training_takes_six_flops_a_parameter_eight_with_checkpointing_four_with_lora() -> None:
    paper, size = paper_of("1xh100"), shape(BASE)
    plain = StudentSettings(name="s", base=BASE)
    attention = 2 * size.layers * size.attention_width * 500

    def rate(student: StudentSettings, **train: object) -> float:
        settings = TrainSettings.model_validate(train)
        return paper.training_speed(student, settings, size, 500).tokens_per_s

    flops = 3 * (2 * size.parameters + attention)
    assert rate(plain) == pytest.approx(0.30 * 989.4e12 / flops)
    assert rate(plain) / rate(plain, gradient_checkpointing=True) == pytest.approx(4 / 3)
    adapter = StudentSettings.model_validate({"name": "s", "base": BASE, "lora": {}})
    assert rate(adapter) / rate(plain) == pytest.approx(3 / 2)


def test_a_whole_run_is_counted_and_marked_as_never_run(tmp_path: Path) -> None:
    found = forecast(tmp_path)
    assert "never run" in found.cluster and any("never run" in words for words in found.assumed)
    traces, student = stage(found, "traces"), stage(found, "students/small")
    assert traces.tokens is not None and student.wall_hours is not None
    assert traces.tokens.expected == pytest.approx(100 * 4 * 0.35 * 2000)
    low, high = (getattr(traces.tokens, end) / traces.tokens.expected for end in ("low", "high"))
    assert (low, high) == pytest.approx((0.62, 1.6), abs=0.05)
    assert student.gpu_hours is not None and student.money is not None
    assert student.gpu_hours.expected == pytest.approx(2 * student.wall_hours.expected)
    assert student.money.expected == pytest.approx(2.0 * student.gpu_hours.expected)
    assert student.memory_bytes is not None and student.memory_bytes.expected > 16 * 494e6
    assert any("assumed: 55%" in note for note in student.notes)
    assert found.total.unknown is None
    assert stage(found, "verdicts").notes == ("needs no GPU: not counted",)


def test_what_the_user_knows_stands_over_what_is_assumed(tmp_path: Path) -> None:
    found = forecast(tmp_path, tokens_per_trace=300.0)
    traces = stage(found, "traces")
    assert traces.tokens is not None and traces.tokens.expected == 400 * 300
    assert not any("assumed" in note for note in traces.notes)


def test_what_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    for words in ("h101", "0xh100", "h100x8", ""):
        with pytest.raises(ConfigError, match=rf"--gpus {words}"):
            paper_of(words)
    with pytest.raises(ConfigError, match=r"how large nobody/new-3B is cannot be known here"):
        forecast(tmp_path, base="nobody/new-3B")
    small = Paper(replace(GPUS["l40s"], title="Small 7 GB", memory=7e9), 1)
    with pytest.raises(ConfigError, match=r"R1-Distill-Qwen-7B has 7.6G parameters, 14.2 GiB"):
        forecast(tmp_path, small)


def test_the_shipped_pipeline_on_h100s_is_printed_and_not_stored(tmp_path: Path) -> None:
    arguments = ("forecast", "r1_distill_qwen_1_5b", "--on", "single_gpu", "--gpus", "h100")
    printed = command(tmp_path, *arguments)
    assert "8 × H100 SXM 80 GB, on paper, never run" in " ".join(printed.split())
    assert "from on paper" not in printed
    assert not (tmp_path / "runs").exists()
    found = json.loads(command(tmp_path, *arguments, "--gpu-hour", "1", "--json"))
    assert found["total"]["unknown"] is None
    total = found["total"]
    assert total["money"]["expected"] == pytest.approx(total["gpu_hours"]["expected"])
    refused = command(tmp_path, "forecast", "demo", "--gpu-hour", "1", code=2)
    assert "the price of --gpus" in refused
