"""The checks before a run: one registry, in which a further check is one function that stands
beside what it judges.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from test_forecast import planned
from tiny_model import make_tiny_model
from typer.main import get_group
from typer.testing import CliRunner

from reasondistill import checks
from reasondistill.checks import (
    BEFORE_A_RUN,
    COSTS,
    IN_A_DRY_RUN,
    Advice,
    Fault,
    all_checks,
    text_setting,
)
from reasondistill.cli import app
from reasondistill.config import ModelSettings, OpenAISettings, load_pipeline
from reasondistill.doctor import check, examine
from reasondistill.doctor.examining import HOMES
from reasondistill.errors import ConfigError, MissingDependencyError
from reasondistill.models.server_checks import (
    Listing,
    ServedModel,
    Server,
    server_answers,
    server_has_the_model,
)
from reasondistill.pipeline import Run
from reasondistill.pipeline.preflight import needed_packages, packages, tracking, whole_models
from reasondistill.runs.limits import allowed_losses, are_too_many_faulty
from reasondistill.runs.memory import memory_allowed
from reasondistill.sections import apply_override

ROOT = Path(__file__).parents[2]


def test_every_check_has_a_name_a_cost_what_it_looks_at_and_a_remedy_that_is_a_command() -> None:
    every = all_checks()
    assert {"prompts", "models", "names", "judge", "filters", "packages"} <= {
        one.name for one in every
    }
    programs = ("reasondistill ", "hf ", "pip ", "make ", "rm ", "curl ")
    for one in every:
        assert one.about.endswith("."), one.name
        assert one.cost in COSTS
        assert one.remedy.startswith(programs), one.name
    on_data = [one.name for one in every if one.cost == "rows"]
    assert on_data == ["sources", "published-traces"]
    assert set(BEFORE_A_RUN) < set(IN_A_DRY_RUN) < set(COSTS)


def test_every_check_stands_beside_what_it_judges() -> None:
    homes = {home.__name__ for home in HOMES}
    assert all(not name.startswith("reasondistill.doctor") for name in homes)
    for one in all_checks():
        assert one.examine.__module__ in homes, one.name


def test_the_document_names_every_check_and_its_cost_and_no_other() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    named: dict[str, str] = {}
    for names, cost in re.findall(r"^\| (`[^|]*) \| (\w+) \|", text, re.M):
        named |= dict.fromkeys(re.findall(r"`([a-z-]+)`", names), cost)
    assert named == {one.name: one.cost for one in all_checks()}


def test_a_stranger_adds_a_check_as_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_CHECKS", {})

    @checks.check(Run, "friday", cost="rows", remedy="reasondistill run FILE --set name=monday")
    def never_on_a_friday(run: Run) -> Iterator[Fault | Advice]:  # pyright: ignore[reportUnusedFunction]
        """No run starts on a Friday."""
        yield Advice("It will rain.")
        yield Fault(ConfigError("It is nearly Friday."), stops=False)
        raise ConfigError(f"{run.pipeline.name}: it is Friday.")

    job = planned(tmp_path)
    assert check(job, BEFORE_A_RUN) == []
    with pytest.raises(ConfigError, match="planned: it is Friday"):
        check(job)
    (examined,) = examine(job, COSTS)
    told, nearly, friday = examined.findings
    assert (told.is_fault, nearly.is_fault, friday.is_fault) == (False, True, True)
    assert (nearly.stops, friday.stops) == (False, True)
    assert friday.remedy == "reasondistill run FILE --set name=monday"
    assert examined.faults == (nearly, friday)


def test_a_fault_that_stops_nothing_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes behind it cannot be looked at, and nobody has said why."""
    monkeypatch.setattr(checks, "_CHECKS", {})
    stops = False

    @checks.check(Run, "friday", cost="files", remedy="reasondistill list prompts")
    def never_on_a_friday(run: Run) -> Iterator[Fault | Advice]:  # pyright: ignore[reportUnusedFunction]
        """No run starts on a Friday."""
        yield Fault(ConfigError("It is nearly Friday."), stops=stops)

    written = {"prompt": "nowhere", "max_tokens": 9, "teachers": [{"model": str(tmp_path)}]}
    job = planned(tmp_path, traces=written)
    with pytest.raises(ConfigError, match="nowhere: no such file"):
        list(examine(job, ["files"]))
    with pytest.raises(ConfigError, match="nowhere: no such file"):
        check(job, BEFORE_A_RUN)
    stops = True
    (friday,) = examine(job, ["files"])
    assert friday.findings[0].text == "It is nearly Friday."


def test_the_command_of_each_check_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = ROOT / "pipelines" / "gsm8k_sft.toml"
    options = {option for one in get_group(app).commands["run"].params for option in one.opts}
    for remedy in dict.fromkeys(one.remedy for one in all_checks()):
        program, *words = shlex.split(remedy)
        if program != "reasondistill":
            continue
        if words[:2] == ["run", "FILE"]:
            given = dict(zip(words[2::2], words[3::2], strict=True))
            assert set(given) <= options, remedy
            load_pipeline(file, [two for one, two in pairwise(words) if one == "--set"])
            continue
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (remedy, done.exception)


HOSTILE = ("x'; touch evil; '", "$(touch evil) `touch evil`", "[1]", "true", '"', "a\\b")


@pytest.mark.parametrize("text", ["m", "<|im_end|>", *HOSTILE])
def test_a_value_in_a_command_is_one_word_and_one_text(text: str) -> None:
    """Servers name their models, and tokenizers their tokens, as they like."""
    *command, value = shlex.split(text_setting("students.0.eos_token", text))
    assert command == ["reasondistill", "run", "FILE", "--set"]
    values: dict[str, Any] = {"students": [{}]}
    apply_override(values, value)
    assert values == {"students": [{"eos_token": text}]}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_name_that_a_server_gives_its_model_is_one_word_of_the_command(name: str) -> None:
    server = Server(OpenAISettings())
    server.answer = Listing("http://here/v1", 200, {"data": [{"id": name}]})
    model = ModelSettings(model="m", sampler="openai")
    served = ServedModel("[traces] teacher m", "traces.teachers.0", model, server)
    (fault,) = server_has_the_model(served)
    assert isinstance(fault, Fault) and fault.remedy is not None
    assert len(shlex.split(fault.remedy)) == 5


@pytest.mark.parametrize(
    ("status", "body", "stops"),
    [
        (401, "Incorrect API key provided: sk-1.", True),
        (401, "You have insufficient permissions. Missing scopes: api.model.read.", False),
        (403, "Forbidden", False),
    ],
)
def test_a_key_that_may_not_list_models_may_still_ask_them(
    monkeypatch: pytest.MonkeyPatch, status: int, body: str, stops: bool
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"message": body}}).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key-of-anybody-1")
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.handle_request)
        thread.start()
        settings = OpenAISettings(base_url=f"http://127.0.0.1:{http.server_port}/v1")
        model = ModelSettings(model="m", sampler="openai")
        served = ServedModel("[traces] teacher m", "traces.teachers.0", model, Server(settings))
        (told,) = server_answers(served)
        thread.join()
    assert isinstance(told, Fault) == stops
    if isinstance(told, Fault):
        assert told.stops and "refuses the key of OPENAI_API_KEY (401)" in str(told.error)
    else:
        assert "does not show its models to the key of OPENAI_API_KEY" in told.text


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


@pytest.mark.parametrize(
    ("own", "files", "gib"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"memory.max": "max"}, 16),
        ("0::/job/step\n", {"job/step/memory.max": "max", "job/memory.max": "2147483648"}, 2),
        ("4:cpu,memory:/pod\n0::/\n", {"memory/pod/memory.limit_in_bytes": "1073741824"}, 1),
        ("4:memory:/pod\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 16),
        ("", {"memory.max": "4294967296"}, 4),
        ("nonsense", {"memory.max": "not a number"}, 16),
    ],
)
def test_the_memory_of_a_container_or_a_job_is_what_it_was_given(
    tmp_path: Path, own: str, files: dict[str, str], gib: float
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text(own)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    assert memory_allowed(tmp_path / "proc", tmp_path / "groups") == gib * 2**30
