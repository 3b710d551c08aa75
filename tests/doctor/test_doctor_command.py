"""`doctor` as a user types it, and a dry run that says what the run says."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from test_cli import run
from tiny_model import make_tiny_model
from warm import forking

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")


def with_student(tiny: Path) -> tuple[str, str]:
    student = f'{{name = "s", base = "{tiny}", max_length = 400, baselines = []}}'
    return "--set", f"students=[{student}]"


def as_json(cwd: Path, *arguments: str) -> Any:
    words = ("doctor", *arguments, "--json")
    return json.loads(
        forking("all").run(*words, cwd=cwd, env=dict(os.environ), timeout_s=300).stdout
    )


def test_a_sound_file_has_nothing_wrong_and_shows_what_is_learnt(
    workplace: Path, tiny: Path
) -> None:
    said = run(workplace, "doctor", "small.toml", *with_student(tiny))
    assert "nothing is wrong" in said
    assert "a batch of 4 texts" in said and "stand in for them" in said
    text = said[said.index("<|im_start|>user") : said.index("⟧")]
    question, _, learnt = text.partition("⟦")
    assert "<|im_start|>assistant" in question
    assert "<think>" in learnt and learnt.endswith("<|im_end|>")
    assert not (workplace / "runs").exists()


def test_each_fault_has_its_name_and_a_command_that_mends_it(workplace: Path, tiny: Path) -> None:
    sets = [*with_student(tiny), "--set", "students.0.max_length=20"]
    said = run(workplace, "doctor", "small.toml", *sets, "--no-weights", code=2)
    assert "too-long [students] s: " in said
    assert "$ reasondistill run small.toml --set students.0.max_length=40" in said
    assert "checks that load models were not made" in said
    value = as_json(workplace, "small.toml", *sets)
    (fault,) = [one for one in value["checks"] if one["found"]]
    assert (fault["name"], fault["cost"]) == ("too-long", "tokens")
    assert fault["found"][0]["fault"] and fault["about"]
    assert value["batches"] == []


def test_a_file_that_cannot_be_read_is_a_fault_too(workplace: Path) -> None:
    said = run(workplace, "doctor", "small.toml", "--set", "traces.temprature=1", code=2)
    assert "Did you mean temperature?" in said and "1 wrong" in said
    value = as_json(workplace, "small.toml", "--set", "traces.n=no")
    assert value["checks"][0]["name"] == "file"


# ---- a dry run says what the run says ------------------------------------------------------------


def test_a_dry_run_refuses_what_the_run_refuses(workplace: Path) -> None:
    run(workplace, "run", "small.toml")
    hotter = ("run", "small.toml", "--set", "traces.temperature=1.5")
    foreseen, told = run(workplace, *hotter, "--dry-run", code=2), run(workplace, *hotter, code=2)
    assert foreseen == told
    assert "2-traces: made from other settings: sampling.temperature was" in told
    said = run(workplace, "doctor", "small.toml", *hotter[2:], code=2)
    assert "other-settings" in said and "sampling.temperature" in said


def test_a_dry_run_refuses_a_damaged_stage_as_the_run_does(workplace: Path) -> None:
    run(workplace, "run", "small.toml", "--until", "problems")
    problems = workplace / "runs" / "small" / "1-problems" / "problems.jsonl"
    whole = problems.read_bytes()
    command = ("run", "small.toml", "--only", "problems")
    for content, words in ((whole[:-3], "damaged: it has"), (whole[::-1], "damaged: bytes 0 to")):
        problems.write_bytes(content)
        os.utime(problems, (1, 1))
        for more in ((), ("--dry-run",)):
            assert words in run(workplace, *command, *more, code=2)
    problems.write_bytes(whole[:-3])
    said = run(workplace, "doctor", "small.toml", "--no-weights", code=2)
    assert "$ reasondistill repair runs/small" in said


def test_a_dry_run_says_what_grows_and_what_is_made_anew(workplace: Path) -> None:
    run(workplace, "run", "small.toml")
    fewer = _states(run(workplace, "run", "small.toml", "--set", "traces.n=1", "--dry-run"))
    assert fewer["traces"] == "grows"
    states = _states(run(workplace, "run", "small.toml", "--dry-run"))
    assert states["traces"] == states["examples"] == "complete"
    policy = ("--set", "verdicts.policy=strict", "--dry-run")
    states = _states(run(workplace, "run", "small.toml", *policy))
    assert (states["traces"], states["verdicts"]) == ("complete", "made anew")
    assert states["examples"] == "to be seen"


def _states(plan: str) -> dict[str, str]:
    lines = [line.split("  ") for line in plan.splitlines() if line.startswith(" ")]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {line[0]: line[1] for line in cells if len(line) > 1}


def test_a_dry_run_counts_the_rows_of_a_file(workplace: Path) -> None:
    plan = run(workplace, "run", "small.toml", "--dry-run")
    assert "at most 10 problems" in plan and "20 traces" in plan


def test_a_dry_run_asks_the_server_as_the_run_does(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    served = ("run", "small.toml", "--set", "traces.teachers.0.sampler=openai")
    foreseen, told = run(workplace, *served, "--dry-run", code=2), run(workplace, *served, code=2)
    assert foreseen == told and f"no server answers at http://127.0.0.1:{port}/v1" in told
    # What does not ask it does not look for it.
    run(workplace, *served, "--only", "problems")


# ---- what is kept leaves a mark ------------------------------------------------------------------


def test_what_is_kept_although_it_was_asked_for_otherwise_is_marked_until_it_is_not(
    workplace: Path,
) -> None:
    run(workplace, "run", "small.toml")
    place = workplace / "runs" / "small"
    run(workplace, "run", "small.toml", "--set", "traces.temperature=1.5", "--keep-old")
    mark = "sampling.temperature was"
    manifest = json.loads((place / "2-traces" / "manifest.json").read_text())
    assert manifest["kept"] and manifest["kept"][0].startswith(mark)
    assert f"traces: kept as it is (--keep-old), and was asked for otherwise: {mark}" in run(
        workplace, "show", "small"
    )
    report = (place / "7-report" / "report.md").read_text()
    assert "2-traces was kept as it is (--keep-old)" in report and mark in report
    run(workplace, "run", "small.toml")
    assert "kept" not in json.loads((place / "2-traces" / "manifest.json").read_text())
    assert "--keep-old" not in run(workplace, "show", "small")
    assert "--keep-old" not in (place / "7-report" / "report.md").read_text()


def test_show_counts_what_is_under_way_says_what_is_left_out_and_adds_up(workplace: Path) -> None:
    script = workplace / "script.jsonl"
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join(lines[:-2]))
    run(workplace, "run", "small.toml", "--until", "traces", code=2)
    shown = _states(run(workplace, "show", "small"))
    assert shown["verdicts"] == "skipped"
    traces = next(line for line in run(workplace, "show", "small").splitlines() if "traces" in line)
    assert traces.split()[:4] == ["traces", "partial", "10", "18"]
    assert any(line.split()[:1] == ["all"] for line in run(workplace, "show", "small").splitlines())
