"""The command as a user types it: whole small runs, every bad input as one clear error with exit
code 2, kill and go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_kit import wait_until
from pydantic import Field
from warm import forking

from reasondistill.cli.files import defaults_of
from reasondistill.runs.store import read_manifest, read_records
from reasondistill.sections import Section


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "reasondistill", *arguments]


def run(cwd: Path, *arguments: str, code: int = 0) -> str:
    """Run the command; check its exit code; return all it printed. It is forked, and so are its
    tasks: nothing for tests of how processes start and are stopped.
    """
    environment = os.environ | {"COLUMNS": "200"}
    done = forking().run(*arguments, cwd=cwd, env=environment, timeout_s=300)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    assert "Traceback" not in text
    return text


def test_run_goes_from_problems_to_report_and_is_skipped_the_second_time(workplace: Path) -> None:
    from reasondistill.records import Dropped, Example

    printed = run(workplace, "run", "small.toml")
    assert "report.html" in printed
    stages = workplace / "runs" / "small"
    kept = list(read_records(stages / "4-examples" / "examples.jsonl", Example))
    dropped = list(read_records(stages / "4-examples" / "dropped.jsonl", Dropped))
    assert len(kept) == len(dropped) == 10
    before = {path: path.stat().st_mtime_ns for path in stages.rglob("*.jsonl")}
    run(workplace, "run", "small.toml")
    assert {path: path.stat().st_mtime_ns for path in stages.rglob("*.jsonl")} == before
    shown = run(workplace, "show", "small")
    assert "10 outcome wrong" in shown or "10 wrong" in shown, shown
    assert "complete" in shown
    walked = run(workplace, "walk", "small", "problems/train/3")
    assert "3 + 3 = 6" in walked
    assert "'3 + 3'" not in walked


def test_show_and_the_report_say_what_a_stopped_stage_lost_and_what_brings_it(
    workplace: Path,
) -> None:
    script = workplace / "script.jsonl"
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join(lines[:-2]))
    cause = "the script has no text for this problem"
    assert cause in run(workplace, "run", "small.toml", "--until", "traces", code=2)
    assert "2-traces: 18 of 20 samples, 2 not drawn yet. The same command draws the rest." in run(
        workplace, "show", "small"
    )
    run(workplace, "run", "small.toml", "--until", "traces", "--set", "traces.failures_allowed=0.1")
    said = f"18 of 20 samples; 2 lost ({cause})."
    assert f"2-traces: {said} The same command draws the lost ones again." in run(
        workplace, "show", "small"
    )
    run(workplace, "run", "small.toml", "--only", "report")
    headline = (workplace / "runs" / "small" / "7-report" / "report.md").read_text().split("**")[1]
    assert headline == f"{said} Not graded yet; no evals yet."


def test_more_samples_later_keep_the_first_ones(workplace: Path) -> None:
    run(workplace, "run", "small.toml", "--until", "verdicts", "--set", "traces.n=1")
    traces = workplace / "runs" / "small" / "2-traces" / "traces.jsonl"
    first = {json.loads(line)["id"]: line for line in traces.read_text().splitlines()}
    run(workplace, "run", "small.toml", "--until", "verdicts")
    lines = traces.read_text().splitlines()
    assert len(lines) == 20
    assert all(line in lines for line in first.values())
    assert (
        len(
            (workplace / "runs" / "small" / "3-verdicts" / "verdicts.jsonl")
            .read_text()
            .splitlines()
        )
        == 20
    )


def test_dry_run_plans_and_writes_nothing(workplace: Path) -> None:
    printed = run(workplace, "run", "small.toml", "--dry-run")
    assert "traces" in printed
    assert not (workplace / "runs").exists()
    assert "nowhere" in run(
        workplace,
        "run",
        "small.toml",
        "--dry-run",
        "--set",
        "problems.dataset=nowhere.jsonl",
        code=2,
    )
    assert "answr" in run(
        workplace, "run", "small.toml", "--dry-run", "--set", "problems.answer=answr", code=2
    )


def test_stages_can_be_run_one_by_one(workplace: Path) -> None:
    run(workplace, "run", "small.toml", "--only", "problems")
    assert not (workplace / "runs" / "small" / "2-traces").exists()
    assert "2-traces" in run(workplace, "run", "small.toml", "--only", "verdicts", code=2)
    run(workplace, "run", "small.toml", "--from", "traces", "--until", "traces")
    assert (workplace / "runs" / "small" / "2-traces" / "traces.jsonl").exists()


def test_the_defaults_of_a_filter_of_ones_own_are_listed_whatever_they_are() -> None:
    class Own(Section):
        least: int
        names: tuple[str, ...] = Field(default_factory=lambda: ("x",))
        place: Path = Path("y")
        most: int | None = None

    assert defaults_of(Own) == 'least, names = ["x"], place = "y", most (unset)'


def test_shipped_files_are_listed_and_copied(workplace: Path) -> None:
    assert "gsm8k_sft" in run(workplace, "list", "pipelines")
    assert "think" in run(workplace, "list", "prompts")
    assert "gsm8k" in run(workplace, "list", "benchmarks")
    filters = run(workplace, "list", "filters")
    assert "reasoning" in filters and "least_words = 20" in filters and "of_problems" in filters
    run(workplace, "copy", "gsm8k_sft", "mine.toml")
    assert "GSM8K" in (workplace / "mine.toml").read_text()
    assert "exists already" in run(workplace, "copy", "gsm8k_sft", "mine.toml", code=2)


# ---- bad input: one clear error, exit code 2 -----------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("traces.temprature=1", "--set traces.temprature: unknown key. Did you mean temperature?"),
        ("traces.n=many", "--set traces.n: should be a whole number"),
        ("evals.prompts=3", "--set evals.prompts: should be a list (found 3)"),
        ("problems.dataset=nowhere.jsonl", "nowhere.jsonl"),
        ("problems.question=qestion", "question"),
        ("traces.prompt=thinc", "Did you mean think?"),
        ("traces.settings=qwen4", "--set traces.settings: settings = 'qwen4': unknown"),
        ("evals.benchmarks=['gsm9k']", "Did you mean gsm8k"),
    ],
)
def test_a_wrong_setting_is_named(workplace: Path, setting: str, expected: str) -> None:
    printed = run(workplace, "run", "small.toml", "--set", setting, code=2)
    assert expected in printed
    assert printed.count("Error:") == 1


def test_an_empty_dataset_is_said(workplace: Path) -> None:
    (workplace / "problems.jsonl").write_text("")
    assert "no rows" in run(workplace, "run", "small.toml", code=2)


def test_a_model_folder_without_weights_is_refused_before_anything_starts(workplace: Path) -> None:
    (workplace / "empty").mkdir()
    sets = [
        "--set",
        "traces.teachers.0.sampler=vllm",
        "--set",
        f"traces.teachers.0.model={workplace / 'empty'}",
    ]
    assert "empty" in run(workplace, "run", "small.toml", *sets, code=2)
    assert not (workplace / "runs").exists()


def test_a_missing_package_is_named_with_the_line_that_installs_it(workplace: Path) -> None:
    program = (
        "import sys; sys.modules['httpx'] = None; sys.argv[0] = 'reasondistill'\nfrom "
        "reasondistill.cli import main; main()"
    )
    arguments = ["run", "small.toml", "--set", "traces.teachers.0.sampler=openai"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'pip install "reasondistill[openai]"' in done.stderr.replace("\n", " ")


def test_a_folder_of_other_settings_is_not_touched(workplace: Path) -> None:
    run(workplace, "run", "small.toml", "--until", "traces")
    traces = (workplace / "runs" / "small" / "2-traces" / "traces.jsonl").read_bytes()
    printed = run(
        workplace,
        "run",
        "small.toml",
        "--until",
        "traces",
        "--set",
        "traces.temperature=0.1",
        code=2,
    )
    assert "temperature" in printed
    assert "--keep-old" in printed
    assert (workplace / "runs" / "small" / "2-traces" / "traces.jsonl").read_bytes() == traces
    run(
        workplace,
        "run",
        "small.toml",
        "--until",
        "traces",
        "--set",
        "traces.temperature=0.1",
        "--keep-old",
    )


def test_a_full_disk_is_said_and_what_was_written_stays_readable(
    workplace: Path, mounted: Callable[..., Path]
) -> None:
    from reasondistill.records import Trace

    tiny_disk = mounted("size=64k")
    long = [
        {"question": f"What is {i} + {i}?", "text": "so " * 3000 + f"\\boxed{{{2 * i}}}"}
        for i in range(10)
        for _ in range(2)
    ]
    (workplace / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    printed = run(workplace, "run", "small.toml", "--runs", str(tiny_disk), code=2)
    assert "disk is full" in printed
    list(read_records(tiny_disk / "small" / "2-traces" / "traces.jsonl", Trace))


# ---- kill and go on ------------------------------------------------------------------------------


def test_kill_9_in_the_middle_then_the_same_command_gives_the_same_files(workplace: Path) -> None:
    rows = [{"question": f"What is {i} plus {i}?", "answer": str(2 * i)} for i in range(3000)]
    (workplace / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = [
        {"question": row["question"], "text": f"\\boxed{{{row['answer']}}}"}
        for row in rows
        for _ in range(2)
    ]
    (workplace / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in script))
    arguments = ("run", "small.toml", "--until", "examples", "--runs")
    run(workplace, *arguments, "whole")
    in_the_middle = 0
    cut_run = workplace / "cut" / "small"
    for name in ("1-problems/.", "2-traces/traces.jsonl", "3-verdicts/verdicts.jsonl"):
        begun = cut_run / name
        process = subprocess.Popen(
            command(*arguments, "cut"), cwd=workplace, stdout=subprocess.DEVNULL
        )
        wait_until(lambda begun=begun: begun.exists() and begun.stat().st_size > 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # its task dies with it
        manifest = read_manifest(cut_run / name.partition("/")[0])
        in_the_middle += manifest is None or manifest.status != "complete"
    assert in_the_middle >= 2
    run(workplace, *arguments, "cut")
    for name in (
        "1-problems/problems.jsonl",
        "2-traces/traces.jsonl",
        "3-verdicts/verdicts.jsonl",
        "4-examples/examples.jsonl",
    ):
        whole, cut = (
            (workplace / root / "small" / name).read_text().splitlines()
            for root in ("whole", "cut")
        )
        assert len(whole) >= 3000
        assert [_timeless(line) for line in whole] == [_timeless(line) for line in cut], name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_and_says_how_to_go_on(
    workplace: Path, number: signal.Signals
) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command("run", "small.toml"),
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    printed = process.stdout.readline() + process.stdout.readline()  # a stage is at work
    process.send_signal(number)
    printed += process.communicate(timeout=300)[0]
    assert process.returncode == 128 + number, printed
    assert "same command" in printed
    run(workplace, "run", "small.toml")


def test_two_runs_in_one_folder_are_refused(workplace: Path) -> None:
    import fcntl

    folder = workplace / "runs" / "small"
    folder.mkdir(parents=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another" in run(workplace, "run", "small.toml", code=2)


def _timeless(line: str) -> dict[str, object]:
    record = json.loads(line)
    for part in (record, record.get("completion", {}), record.get("grade", {})):
        part.pop("seconds", None)
    return record
