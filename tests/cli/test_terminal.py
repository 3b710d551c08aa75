"""What commands print: on narrow terminals, with --quiet and --json, under a pipe, and which
commands they name at their end.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import fake_run
from typer.main import get_command
from typer.testing import CliRunner, Result

from reasondistill.cli import results, speaking
from reasondistill.cli.console import out
from reasondistill.cli.documents import DOCUMENTS, ErrorDocument
from reasondistill.cli.entry import app
from reasondistill.cli.fitting import print_grid, print_table, short_names
from reasondistill.cli.progress import TerminalWatcher, prefixes
from reasondistill.cli.reference import commands_page
from reasondistill.cli.results import Results, pair_of
from reasondistill.config import ReportSettings, load_cluster, load_pipeline, resources
from reasondistill.errors import Interrupted, StageError, Stopped
from reasondistill.grade_file.ranking import ranking
from reasondistill.grading import GradingPool
from reasondistill.launch.noise import VERBOSE, behind_bar, noise_of, quiet_libraries
from reasondistill.launch.reporting import message, new_word
from reasondistill.launch.task_process import TaskProcess, _read, wait
from reasondistill.pipeline import Run, Task, save_run
from reasondistill.records import Difference
from reasondistill.runs.store import require_complete, write_manifest
from reasondistill.runs.work_sharing import Share
from reasondistill.stages import evals
from reasondistill.stages.report import ReportedScore, run_report
from reasondistill.tables import Table, counted

LONG = [
    "Qwen2.5-Math-1.5B-distilled-from-DeepSeek-R1-seed0",
    "Qwen2.5-Math-1.5B-answer-only-control-seed0",
]
MODELS = [*LONG, "base", "teacher"]
BENCHMARKS = ["gsm_symbolic", "gsm8k"]
# What may be longer than a line: it is to be copied, or a sentence that the terminal breaks.
UNBROKEN = ("file://", "  reasondistill ", "Sizes and times", "verified trace")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, `demo`, of models with long names; nothing changes it."""
    folder = tmp_path_factory.mktemp("terminal")
    right = {"teacher": 0.9, LONG[0]: 0.6, LONG[1]: 0.3, "base": 0.1}
    made = {LONG[0]: "sft", LONG[1]: "answer_only", "base": "base"}
    run = fake_run(folder / "runs/demo", problems=12, right=right, made=made, benchmarks=BENCHMARKS)
    for traces in run.glob("6-evals/*/*/traces"):
        manifest = require_complete(traces)
        # As another version, or somebody, may have written it.
        section = manifest.section | {"teachers": ["one"]}
        write_manifest(traces, replace(manifest, identity=manifest.identity | {"section": section}))
    plan = evals.EvalPlan(dict.fromkeys(BENCHMARKS, 1), MODELS, {LONG[0]: MODELS[1:]})
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool)
    run_report(run, run / "7-report", settings=ReportSettings(), title="Demo", about="")
    pipeline = load_pipeline(resources.find("pipelines", "demo"), [])
    cluster = load_cluster(resources.find("clusters", "local"))
    save_run(Run(pipeline, cluster, run, run / "pipeline.toml"))
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def give(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(words))
    raised = done.exception
    if code == 0:
        assert done.exit_code == 0, (done.output, raised)
    else:
        assert isinstance(raised, StageError), raised
    assert (out.quiet, out.stderr) == (False, False)
    return done


PAIR = (f"demo/{LONG[0]}", f"demo/{LONG[1]}")
COMMANDS: dict[str, tuple[str, ...]] = {
    "show": ("show", "demo"),
    "compare": ("compare", *PAIR, "demo/base", "--flips", "0"),
    "power": ("power", "--benchmarks", "gsm8k"),
}


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_tables_keep_their_numbers_whole_on_narrow_terminals(
    command: str, width: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "_width", width)
    printed = give(*COMMANDS[command]).stdout
    lines = printed.splitlines()
    wide = [line for line in lines if len(line) > width]
    assert all(any(word in line for word in UNBROKEN) for line in wide), wide
    assert "\x1b" not in printed and "\r" not in printed
    # Each interval stands on one line, and so does each long name.
    assert printed.count("[") == len(re.findall(r"\[[−\d., ]+\]", printed))
    if command != "power":
        assert any(LONG[0] in line for line in lines)
    assert len(lines) <= 60
    assert any(line.startswith("  reasondistill ") for line in lines[-3:])


def test_what_every_command_names_next_is_a_command(here: Path) -> None:
    known: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    for words in COMMANDS.values():
        for line in json.loads(give(*words, "--json").stdout)["next"]:
            program, name, *arguments = shlex.split(line)
            assert program == "reasondistill"
            known[name].make_context(name, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_document_is_all_that_stands_on_standard_output(command: str, here: Path) -> None:
    done = give(*COMMANDS[command], "--json")
    assert "NaN" not in done.stdout
    printed = json.loads(done.stdout)
    kind = DOCUMENTS[command]
    assert list(printed) == list(kind.model_fields)
    kind.model_validate_json(done.stdout)
    assert printed["command"] == command
    assert "next:" in done.stderr
    quiet = give(*COMMANDS[command], "--json", "--quiet")
    assert json.loads(quiet.stdout) == printed
    assert "next:" not in quiet.stderr


def test_a_document_has_the_numbers_of_the_run(here: Path) -> None:
    shown = json.loads(give("show", "demo", "--json").stdout)
    report = json.loads((here / "runs/demo/7-report/report.json").read_text())
    assert len(shown["scores"]) == len(MODELS) * len(BENCHMARKS)
    assert [row["mean"] for row in shown["differences"]] == [
        row["mean"] for row in report["differences"]
    ]
    stages = {row["name"]: row for row in shown["stages"]}
    assert stages["problems"]["counts"]["out"] == 12
    assert stages["students/base"]["state"] == "complete"
    compared = json.loads(give("compare", *PAIR, "--json").stdout)
    assert {row["benchmark"] for row in compared["differences"]} == set(BENCHMARKS)
    assert len(compared["pooled"]) == 2


def test_a_folder_whose_name_is_no_text_has_a_document_too(here: Path, tmp_path: Path) -> None:
    runs = tmp_path / "r\udce4"
    shutil.copytree(here / "runs", runs)
    for words in (("show", "demo"), ("compare", *PAIR, "--flips", "0")):
        printed = json.loads(give(*words, "--json", "--runs", str(runs)).stdout)
        assert any("r\\udce4" in line for line in printed["next"])


def test_a_plan_is_a_document_and_nothing_is_done(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    done = give("run", "small.toml", "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert plan["status"] == "planned" and plan["seconds"] is None
    assert [row["task"] for row in plan["tasks"]][:2] == ["problems", "traces"]
    assert plan["tasks"][0]["state"] == "new" and plan["scores"] == []
    assert not (workplace / "runs").exists()


def test_an_error_is_a_document_too_and_ends_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = give("show", "nobody\udce4", "--json", code=2)
    printed = json.loads(done.stdout)
    ErrorDocument.model_validate(printed)
    assert list(printed) == ["command", "format", "error"]
    assert printed["error"]["kind"] == "StageError" and printed["error"]["exit_code"] == 2
    assert "nobody" in printed["error"]["message"]


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    from reasondistill.cli.console import print_json

    print_json({"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5]}


class PanicException(BaseException):
    """As a library in Rust raises it."""


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Stopped(2), "Stopped", 130),
        (Interrupted("saved", 15), "Interrupted", 143),
        (PanicException("no token"), "DataError", 2),
        (OSError(28, "No space left", "a.json"), "StageError", 2),
        (KeyError("ours"), None, 1),
        (SystemExit(3), None, 3),
    ],
)
def test_what_main_says_of_an_error_is_a_document(
    error: BaseException, kind: str | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)), speaking.speaking("run", as_json=True):
        raise error
    printed = capsys.readouterr().out
    if kind is None:
        assert printed == ""
        return
    told = json.loads(printed)["error"]
    assert (told["kind"], told["exit_code"]) == (kind, code)


def test_a_pair_that_comes_next_has_samples_of_its_own(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student of several seeds is one row in a report, and a folder for each seed."""
    pipeline = load_pipeline(resources.find("pipelines", "demo"), ["students.0.seeds=[3, 4]"])
    run = Run(pipeline, load_cluster(resources.find("clusters", "local")), tmp_path, tmp_path)
    for name in ("distilled-seed3", "distilled-seed4", "base"):
        (run.stage("evals") / "gsm8k" / name / "traces").mkdir(parents=True)
    rows = [difference_of(name, "base", "gsm8k") for name in ("gone", "distilled")]
    found = Results([], rows, [])
    assert pair_of("demo", run, found) == ("demo/distilled-seed3", "demo/base")
    assert pair_of("a=b", run, found)[1] == "./a=b/base"
    assert pair_of("demo", run, Results([], rows[:1], [])) == ()


def test_quiet_leaves_the_result_and_what_is_wrong(here: Path) -> None:
    power = give("power", "--problems", "300", "--quiet")
    assert power.stdout.count("\n") == 2 and "300 problems" in power.stdout
    shown = give("show", "demo", "--quiet").stdout
    assert "report.html" in shown and "Sizes and times" not in shown and "next:" not in shown
    with speaking.speaking("run", quiet=True) as speech:
        speaking.warn("[yellow]a sample is lost[/]")
    assert speech.warnings == ["a sample is lost"]


def test_a_quiet_warning_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking.speaking("run", quiet=True):
        speaking.say("chatter")
        speaking.warn("[yellow]a sample is lost[/]")
    said = capsys.readouterr()
    assert said.out == "" and "a sample is lost" in said.err


def test_the_reference_has_every_field_of_every_document() -> None:
    page = commands_page()
    for name, kind in DOCUMENTS.items():
        section = page.split(f"{{ #json-{name} }}")[1].split("\n## ")[0]
        for field, about in kind.model_fields.items():
            assert f"<code>{field}</code>" in section and about.description
        assert f"reasondistill {name} " in section and "--json" in section
    assert "list of ScoreRow" in page and "number or null" in page


# ---- one screen ----------------------------------------------------------------------------------


def score_of(model: str, benchmark: str) -> ReportedScore:
    return ReportedScore(
        model=model, benchmark=benchmark, metric="pass@1", mean=0.5, low=0.4, high=0.6,
        n=100, k=1, method="wilson", outcomes={"correct": 0.5, "wrong": 0.5},
    )  # fmt: skip


def difference_of(model: str, baseline: str, benchmark: str) -> Difference:
    return Difference(
        model=model, baseline=baseline, benchmark=benchmark, metric="pass@1", mean=0.1, low=-0.1,
        high=0.3, n=100, k=1, p_value=0.2, p_adjusted=0.4, word="tied",
    )  # fmt: skip


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("models", [4, 30])
def test_the_end_of_a_run_is_one_screen(
    models: int, width: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{LONG[0]}-of-another-long-name-{number}" for number in range(models)]
    scores = [score_of(name, benchmark) for name in names for benchmark in BENCHMARKS]
    gaps = [difference_of(names[0], name, one) for name in names[1:] for one in BENCHMARKS]
    found = results.Results(scores, gaps, [])
    monkeypatch.setattr(results, "read_results", lambda path: found)
    monkeypatch.setattr(out, "_width", width)
    printed = give("show", "demo", "--quiet").stdout
    end = printed[printed.index("memory") :] if "memory" in printed else printed
    last = printed.splitlines()[-(results.SCREEN + 2) :]
    assert "report.json" in last[-1]
    assert any("more difference" in line for line in last), end
    assert len(printed.splitlines()) <= 40 + 12  # the stages stand above


def test_a_grid_of_many_names_is_cut_in_rows_and_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "_width", 60)
    headers = ("model", *(f"benchmark_{number}" for number in range(20)))
    rows = tuple((f"{LONG[0]}-{row}", *["41.7±14.2"] * 20) for row in range(30))
    print_grid(Table(headers, rows))
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 60 and len(lines) <= 42
    assert "18 more rows" in printed and "more columns" in printed
    assert all(line.count("41.7±14.2") == line.count("41.7") for line in lines)
    assert short_names(["a" * 30 + "1" + "b" * 30, "a" * 30 + "2" + "b" * 30], 12)[0][30] == "1"


def test_a_table_of_one_name_loses_columns_and_then_becomes_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(("model", "points", "size of all"), (("m" * 30, "+3.1", "1,319 × 4"),))
    for width, beside in ((60, True), (50, True), (40, False)):
        monkeypatch.setattr(out, "_width", width)
        print_table(table, drops=("size of all",) * (width == 40))
        printed = capsys.readouterr().out
        assert ("1,319 × 4" in printed) == beside, printed
        assert ("no room for: size of all" in printed) == (width == 40)
    monkeypatch.setattr(out, "_width", 32)
    print_table(table)
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].strip() == "points +3.1 · size of all"


# ---- prefixes ------------------------------------------------------------------------------------


def test_each_line_has_a_short_name_that_is_explained_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        Task("traces", share=Share("work", 0, 2)),
        Task("traces", share=Share("work", 1, 2)),
        Task("evals", ("smol", "base", "answer-only", "teacher", LONG[0])),
    ]
    assert list(prefixes(tasks).values()) == ["traces 1/2", "traces 2/2", "evals"]
    pipeline = load_pipeline(resources.find("pipelines", "demo"), [])
    cluster = load_cluster(resources.find("clusters", "local"))
    watcher = TerminalWatcher(Run(pipeline, cluster, here / "runs/demo", here), tasks)
    for task in (*tasks, *tasks):
        watcher.line(task, "100/200")
    watcher.done(tasks[0], 2.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "  traces 1/2 (task 1 of 2 of this stage): worker 1/2",
        "  traces 1/2 100/200",
        "  traces 2/2: worker 2/2",
    ]
    assert "  evals: smol, base, answer-only and 2 more" in lines
    assert lines.count("  evals 100/200") == 2
    assert sum("smol" in line for line in lines) == 1
    assert lines[-1].startswith("✓ traces 1/2 · worker 1/2 · 2")


# ---- what comes next -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a; rm -rf ~", "$(id)", "it's", "-rf", "a b/c"])
def test_a_name_in_a_command_is_one_word_and_no_option(name: str) -> None:
    line = speaking.command_line("view", name, runs=Path("my runs"))
    words = shlex.split(line)
    assert words[-1] == name and words[:2] == ["reasondistill", "view"]
    assert words[2:4] == ["--runs", "my runs"]
    assert ("--" in words) == name.startswith("-")


def test_one_is_one() -> None:
    assert [counted(number, "file") for number in (0, 1, 2_000)] == [
        "0 files", "1 file", "2,000 files",
    ]  # fmt: skip
    assert counted(1, "file is", "files are") == "1 file is"


# ---- who is best ---------------------------------------------------------------------------------


def test_many_models_end_in_a_sentence() -> None:
    dice = np.random.default_rng(0)
    hard = dice.random((200, 1))
    models = {f"good-{n}": dice.random((200, 4)) < 0.4 + 0.5 * hard for n in range(2)}
    models |= {f"bad-{n}": dice.random((200, 4)) < 0.2 * hard for n in range(6)}
    said = ranking(models, "default")
    assert re.match(
        r"good-[01] is best by default: \d\d\.\d %; not told apart from it: good-", said
    )
    assert "worse: bad-" in said and "and 2 more" in said
    assert said.endswith("(n = 200 problems × 4, Holm over 28 paired tests).")
    assert ranking({"alone": models["good-0"]}, "default") == ""
    equal = {"a": models["good-0"], "b": models["good-0"], "c": models["bad-0"]}
    assert re.match(r"equal by x, \d\d\.\d % each: a, b; worse: c \(n = ", ranking(equal, "x"))
    one = {"a": np.array([[True]]), "b": np.array([[False]])}
    assert "not told apart from it: b" in ranking(one, "default")
    assert "n = 1 problem × 1, Holm over 1 paired test)" in ranking(one, "default")


def test_the_matrix_of_a_run_ends_in_that_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "_width", 60)
    printed = give(
        "matrix", "demo", "--benchmark", "gsm8k", "--policies", "default,strict", "--workers", "1"
    ).stdout
    sentence = " ".join(printed[printed.index("teacher is best") :].split())
    assert "is best by default" in sentence and "Holm over 6 paired tests" in sentence
    assert all(len(line) <= 60 for line in printed.splitlines() if "reasondistill" not in line)


# ---- noise ---------------------------------------------------------------------------------------

NOISE = {
    "Loading weights: 100%|██████████| 20/20 [00:00<00:00, 20380.49it/s]": "bar",
    "Writing model shards:   0%|          | 0/1 [00:00<?, ?it/s]": "bar",
    "Map (num_proc=2):  40%|####      | 8/20 [00:00<00:01, 9.5 examples/s]": "bar",
    "Generating train split: 12 examples [00:00, 431.2 examples/s]": "bar",
    "INFO 12-01 04:07:26 [core.py:58] Initializing a V1 LLM engine": "talk",
    "(EngineCore_DP0 pid=71) WARNING 12-01 04:07:26 [x.py:1] slow": "talk",
    "W1201 04:07:26.869000 4155 torch/distributed/elastic/api.py:753] Received": "talk",
    "[rank0]:W1201 04:07:26.869000 4155 torch/x.py:7] graph break": "talk",
    "2026-12-01 04:07:26,869\tINFO worker.py:1234 -- Started a local Ray instance.": "talk",
    "[2026-12-01 04:07:26,869] [INFO] [comm.py:637:init_distributed] cdb=None": "talk",
    "2026-12-01 04:07:26,869 WARNING my sampler got no answer": None,
    "[2026-12-01 04:07:26,869] [WARNING] my own rule": None,
    "[Gloo] Rank 0 is connected to 1 peer ranks. Expected number of connected ...": "talk",
    "ERROR 12-01 04:07:26 [core.py:600] EngineCore failed to start.": None,
    "E1201 04:07:26.869000 4155 torch/x.py:7] failed": None,
    "torch.cuda.OutOfMemoryError: CUDA out of memory": None,
    "step 1/24 · loss 6.9610 · 0.0 % of tokens right · 30 s left": None,
    "Traceback (most recent call last):": None,
    "50% of 12 problems are right | see below": None,
}


@pytest.mark.parametrize("line", NOISE)
def test_noise_is_told_from_what_is_said(line: str) -> None:
    assert noise_of(line) == NOISE[line]


TALKS = """
import sys
print("INFO 12-01 04:07:26 [core.py:58] Initializing")
for n in range(3):
    sys.stdout.write(f"\\rLoading weights: {n}%|##| {n}/20 [00:00<00:00, 9.5it/s]")
sys.stdout.write("RuntimeError behind a bar")
print()
print("@WORD " + '{"line": "loading the model"}')
print("the engine says why")
print("INFO 12-01 04:07:27 [core.py:99] Shutting down")
sys.exit(CODE)
"""


def log_of_talk(folder: Path, code: int, talks: str = TALKS) -> TaskProcess:
    """What a process that talks like an engine leaves in its log."""
    word = new_word()
    assert message(word, {}).startswith(f"@{word} ")
    source = (
        talks.replace("WORD", word).replace("CODE", str(code)) + f"\nimport sys; sys.exit({code})"
    )
    process = subprocess.Popen(
        [sys.executable, "-ISc", source], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    running = TaskProcess(
        Task("evals"), process, folder / "evals.log", threading.Thread(), time.monotonic(),
        word=word,
    )  # fmt: skip
    running.reader = threading.Thread(target=_read, args=(running, lambda task, text: None))
    running.reader.start()
    running.reader.join()
    return running


def test_bars_and_talk_stay_out_of_a_log(tmp_path: Path) -> None:
    wait(log_of_talk(tmp_path, 0))
    said = "RuntimeError behind a bar\nloading the model\nthe engine says why\n"
    assert (tmp_path / "evals.log").read_text() == said


def test_what_stands_behind_a_bar_is_no_part_of_it() -> None:
    bar = "Map:  40%|####      | 8/20 [00:00<00:01, 9.5it/s]"
    assert behind_bar(f"{bar}Traceback (most recent") == "Traceback (most recent"
    whole = (bar, f"{bar}\\x1b[A", f"{bar}  ", f"{bar} {bar}", bar.removesuffix("it/s]"))
    nested = bar.replace("]", ", at=[1], loss=2]")
    assert [behind_bar(line) for line in (*whole, nested)] == [""] * 6


def test_a_crash_shows_the_last_lines_of_the_engine(tmp_path: Path) -> None:
    with pytest.raises(StageError) as crashed:
        wait(log_of_talk(tmp_path, 3))
    told = str(crashed.value)
    assert "Shutting down" in told and "the engine says why" in told and "it/s" not in told
    logged = (tmp_path / "evals.log").read_text()
    assert "  | INFO 12-01 04:07:27 [core.py:99] Shutting down" in logged and "it/s" not in logged


def test_talk_behind_a_traceback_does_not_push_it_out(tmp_path: Path) -> None:
    traceback = 'print("\\n".join(f"frame {n}" for n in range(6)))\n'
    talk = 'for n in range(9): print("INFO 12-01 04:07:27 [core.py:99] Shutting down", n)\n'
    ending = "import sys; sys.exit(CODE)\n"
    with pytest.raises(StageError) as crashed:
        wait(log_of_talk(tmp_path, 3, traceback + talk + ending))
    told = [line[4:] for line in str(crashed.value).splitlines() if line.startswith("  | ")]
    ended = [f"INFO 12-01 04:07:27 [core.py:99] Shutting down {n}" for n in (7, 8)]
    assert told == [*(f"frame {n}" for n in range(6)), *ended]


def test_verbose_keeps_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet: dict[str, str] = {}
    quiet_libraries(quiet)
    assert quiet["TQDM_DISABLE"] == "1"
    monkeypatch.setenv(VERBOSE, "1")
    verbose: dict[str, str] = {}
    quiet_libraries(verbose)
    assert "TQDM_DISABLE" not in verbose and verbose["VLLM_LOGGING_LEVEL"] == "INFO"
    wait(log_of_talk(tmp_path, 0))
    logged = (tmp_path / "evals.log").read_text()
    assert "Initializing" in logged and "it/s" in logged
