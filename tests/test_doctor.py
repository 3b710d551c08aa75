"""The checks before a run: one registry, in which a further check is one function."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_forecast import planned
from tiny_model import make_tiny_model

from reasondistill.doctor import all_checks, check, run_check
from reasondistill.doctor import registry as checks
from reasondistill.doctor.checks import needed_packages, packages, tracking, whole_models
from reasondistill.errors import ConfigError, MissingDependencyError
from reasondistill.pipeline import Run
from reasondistill.runs.limits import allowed_losses, are_too_many_faulty

ROOT = Path(__file__).parent.parent


def test_every_check_has_a_name_and_says_what_it_looks_at() -> None:
    assert {"prompts", "models", "names", "judge", "filters", "packages"} <= {
        one.name for one in all_checks()
    }
    assert all(one.about for one in all_checks())
    on_data = [one.name for one in all_checks() if one.reads_data]
    assert on_data == ["sources", "published_traces"]


def test_a_stranger_adds_a_check_as_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_CHECKS", {})

    @run_check(reads_data=True)
    def never_on_a_friday(run: Run) -> None:  # pyright: ignore[reportUnusedFunction]
        """No run starts on a Friday."""
        raise ConfigError(f"{run.pipeline.name}: it is Friday.")

    job = planned(tmp_path)
    check(job)
    with pytest.raises(ConfigError, match="planned: it is Friday"):
        check(job, reads_data=True)


def test_a_table_of_no_filter_stops_a_run_before_it_starts(tmp_path: Path) -> None:
    job = planned(tmp_path, examples={"filters": {"nonsense": {}}})
    with pytest.raises(ConfigError, match=r"\[examples.filters\] nonsense: no such filter"):
        check(job)


def test_a_tokenizer_that_no_filter_can_count_with_stops_a_run_before_it_starts(
    tmp_path: Path,
) -> None:
    table = {"tokenizer": str(tmp_path / "no such")}
    job = planned(tmp_path, examples={"filters": {"student_tokens": table}})
    with pytest.raises(ConfigError, match="no such folder"):
        check(job)


HALVES = ("teacher", "base", "learnt from", "measured", "lora base")


@pytest.mark.parametrize("whose", HALVES)
def test_a_folder_that_is_half_written_is_refused_before_anything_runs(
    tmp_path: Path, whose: str
) -> None:
    whole, half = make_tiny_model(tmp_path / "whole"), make_tiny_model(tmp_path / "half")
    places = dict.fromkeys(HALVES, str(whole)) | {whose: str(half)}
    student = {"name": "s", "base": places["base"], "baselines": []}
    adapter = {"name": "l", "base": places["lora base"], "baselines": [], "lora": {}}
    distilled = student | {"name": "d", "method": "kd", "teacher": places["learnt from"]}
    job = planned(
        tmp_path,
        traces={
            "prompt": "question",
            "max_tokens": 100,
            "teachers": [{"model": places["teacher"]}],
        },
        students=[student, adapter, distilled],
        evals={"models": [{"name": "m", "model": places["measured"]}], "benchmarks": []},
    )
    whole_models(job)
    weights = half / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-7])
    with pytest.raises(ConfigError, match=rf"{weights}: .*was it copied whole\?"):
        check(job)
    weights.write_bytes(content)
    for path in half.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ConfigError, match=f"{half}: has no tokenizer"):
        check(job)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"name": "s", "method": "sft", "base": "b", "report_to": ["tensorboard", "wandb"]}
    job = planned(tmp_path, students=[student])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = set(needed_packages(job))
    assert {one.package for one in found} >= {"vllm", "trl", "tensorboard", "wandb"}
    for one in found:
        lines = project["optional-dependencies"][one.extra]
        assert one.package in {Requirement(line).name for line in lines}, one
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else job)
    with pytest.raises(MissingDependencyError, match=r'wandb .*"reasondistill\[wandb\]"'):
        packages(job)


@pytest.mark.parametrize("folder", ["wandb", ".wandb"])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[default]\nentity = lab\nproject = x\nmode = offline\n", None),
        ("[default]\nbase_url = https://evil.example\n", "base_url"),
        ("[DEFAULT]\nBASE_URL = https://evil.example\n", "base_url"),
        ("[other]\nproject = x\nhttps_proxy = http://evil.example\n", "https_proxy"),
        ("base_url", "not settings of wandb"),
    ],
)
def test_wandb_takes_no_server_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, text: str, named: str | None
) -> None:
    """wandb 0.31 reads ./wandb/settings and ./.wandb/settings, and sends its key to `base_url`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "settings").write_text(text)
    student = {"name": "s", "method": "sft", "base": "b", "report_to": ["wandb"]}
    if named is None:
        tracking(planned(tmp_path, students=[student]))
        return
    with pytest.raises(ConfigError, match=named):
        tracking(planned(tmp_path, students=[student]))
    tracking(planned(tmp_path, students=[student | {"report_to": []}]))


def test_a_share_of_failures_is_counted_in_whole_samples() -> None:
    assert [allowed_losses(0.07, 100), allowed_losses(0.29, 100), allowed_losses(0.01, 99)] == [
        7,
        29,
        0,
    ]
    assert not are_too_many_faulty(4, 10)
    assert not are_too_many_faulty(5, 100)
    assert are_too_many_faulty(6, 100)
