"""Every command of the documents is run, in one process, in a folder that holds what the documents
speak of: those that ask a hub, want a GPU or send jobs as dry runs.

What follows jobs or serves until it is stopped is only parsed here; ELSEWHERE names the tests that
run it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from adapter_kit import write_adapter
from documents import PAGES, ROOT, Command, Page
from fake_run import fake_run
from foreign_logs_kit import inspect_sample, write_inspect, write_lm_eval
from typer.main import get_command
from typer.testing import CliRunner

from reasondistill.cli.entry import app
from reasondistill.cli.reference import commands_page
from reasondistill.config import load_cluster, load_pipeline, resources
from reasondistill.config.resources import shipped_model
from reasondistill.pipeline import Run, save_run
from reasondistill.runs.store import require_complete, write_manifest

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
GENERATED = Page("the generated page of commands", commands_page())
# They follow jobs, or serve until they are stopped.
ELSEWHERE = {
    "cancel": "launch/test_slurm.py",
    "logs": "launch/test_slurm.py",
    "resume": "launch/test_slurm.py",
    "status": "launch/test_slurm.py",
    "view": "stages/test_browser.py",
}
# Reads files that its user has fetched: tests/config/test_shipped_files.py looks at it.
WANTS_FILES = "real_smollm2"
# These do nothing but say what they would do.
WITH_DRY_RUN = ("run", "eval", "push", "ablate")
# They would find a run of that name, made of other settings.
IN_A_FOLDER_OF_THEIR_OWN = ("run", "eval", "doctor", "forecast", "unpack", "ablate")
# Runs that the documents speak of: their students, and what they are measured on.
RUNS = {
    "demo": (("distilled", "answer-only", "base"), "gsm_symbolic_12"),
    "voted": (("distilled",), "gsm_symbolic_12"),
    "hot": (("distilled", "answer-only", "base"), "gsm_symbolic_12"),
    "drawn": (("distilled", "base"), "gsm_symbolic_12"),
    "shortest": (("distilled", "base"), "gsm_symbolic_12"),
    "random": (("distilled", "base"), "gsm_symbolic_12"),
    "small": (("sft", "base"), "gsm_symbolic_12"),
    "traces": (("sft", "base"), "gsm_symbolic_12"),
    "trial": (("small", "base"), "gsm8k"),
    "shop": (("small", "base"), "gsm8k"),
    "mine": (("small", "base"), "mine_test"),
    "mine-ablate/k-4": (("small-seed0", "base"), "mine_test"),
    "mine-ablate/k-1": (("small-seed0", "base"), "mine_test"),
    "imported": (("small", "base"), "gsm8k"),
    "gsm8k-sft": (("qwen2.5-0.5b", "base"), "gsm8k"),
    "r1-distill-qwen-1.5b": (("qwen2.5-math-1.5b", "base"), "aime24"),
}
# Of the run that a page shows, and the like of it in ours.
IDS = {
    "gsm_symbolic/seed3/2100": "gsm_symbolic/train/7",
    "gsm_symbolic/seed1/12": "gsm_symbolic/train/7",
    "seed1/12": "train/7",
    "shop/train/0": "gsm_symbolic/train/0",
}
MINE = """
name = "mine"
[problems]
source = "file"
dataset = "mine.csv"
[traces]
logprobs = 16
[[traces.teachers]]
model = "shipped:demo-teacher"
[[students]]
name = "warm"
base = "shipped:demo-teacher"
[[students]]
name = "small"
base = "student:warm"
[evals]
benchmarks = ["gsm_symbolic_12"]
"""
CSV = "question,answer\n" + "".join(f"What is {row} + 1?,{row + 1}\n" for row in range(12))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which somebody has done all that the documents speak of."""
    folder = tmp_path_factory.mktemp("documents")
    alike: dict[Any, Path] = {}
    for name, kind in RUNS.items():
        run = folder / "runs" / name
        if kind in alike:
            shutil.copytree(alike[kind], run, copy_function=copied)
        else:
            lay_out_run(run, *kind)
            alike[kind] = run
        pipeline = load_pipeline(resources.find("pipelines", "demo"), [f"name={run.name}"])
        cluster = load_cluster(resources.find("clusters", "local"))
        save_run(Run(pipeline, cluster, run, run / "pipeline.toml"))
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "mine.toml").write_text(MINE)
    (folder / "mine.csv").write_text(CSV)
    (folder / "mine_test.csv").write_text(CSV)
    shutil.copy(ROOT / "pipelines" / "clusters" / "slurm.toml", folder / "my_cluster.toml")
    answers = [{"id": str(row), "prediction": "\\boxed{7}", "gold": str(row)} for row in range(9)]
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in answers))
    for name, right in (("a", [1.0, 1.0, 0.0, 1.0]), ("b", [1.0, 0.0, 0.0, 0.0])):
        lay_out_logs(folder, name, right)
    write_adapter(folder / "out" / "lora", "org/base")
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "examples").symlink_to(ROOT / "examples")
    rows = [{"id": f"gsm8k-{n}", "question": f"{n} + 1?", "answer": "7"} for n in range(9)]
    (folder / "data").mkdir()
    (folder / "data" / "short_and_gsm8k.jsonl").write_text(
        "".join(f"{json.dumps(row | {'set': 'gsm8k'})}\n" for row in rows)
    )
    packs = {"demo": "demo", "small": "small", "traces": "traces", "trial": "real-traces"}
    run_all(folder, *(f"pack {run} eval/runs/{name}" for run, name in packs.items()))
    return folder


def lay_out_run(run: Path, students: tuple[str, ...], benchmark: str) -> None:
    right = {"teacher": 0.9, **dict.fromkeys(students, 0.4)}
    made = {name: name.replace("-", "_") for name in students[1:]} | {students[0]: "sft"}
    samples = 4 if run.name == "voted" else 1
    fake_run(run, benchmarks=(benchmark,), right=right, made=made, problems=12, samples=samples)
    for name in students:
        model = run / "5-students" / name / "model"
        shutil.copytree(shipped_model("demo-teacher"), model)
    for traces in (run / "6-evals").glob("*/*/traces"):
        manifest = require_complete(traces)
        section = manifest.section | {"teachers": {}}
        write_manifest(traces, replace(manifest, identity=manifest.identity | {"section": section}))
    (run / "4-examples" / "dataset").mkdir()
    (run / "4-examples" / "dataset" / "README.md").write_text("---\nlicense: other\n---\n")


def copied(source: str, target: str) -> None:
    """A copy; of weights, which nothing changes, another name."""
    if source.endswith(".safetensors"):
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


def lay_out_logs(folder: Path, name: str, right: list[float]) -> None:
    """Logs of lm-eval and inspect, under the names that the documents have."""
    filters = {"strict-match": right, "flexible-extract": right}
    written = write_lm_eval(folder / "out" / name, filters, task="gsm8k")
    day = "1" if name == "a" else "2"
    written.rename(written.with_name(f"samples_gsm8k_2025-01-0{day}T12-00-00.0.jsonl"))
    samples = [inspect_sample(number, 1, value) for number, value in enumerate(right)]
    hour = "12" if name == "a" else "13"
    (folder / "logs").mkdir(exist_ok=True)
    write_inspect(folder / "logs" / f"2025-01-01T{hour}-00-00_gsm8k_{name}.eval", samples)


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to stand in. No hub answers, at once."""
    folder = tmp_path / "here"
    shutil.copytree(place, folder, symlinks=True, copy_function=copied)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    # Read once, when they were imported: before this test, where others ran in its process.
    for library in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", True)
    return folder


def run_all(folder: Path, *lines: str) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in lines:
            done = CliRunner().invoke(app, line.split())
            assert done.exit_code == 0, (line, done.output, done.exception)
    finally:
        os.chdir(before)


# ---- every command -------------------------------------------------------------------------------


def with_commands() -> Iterator[Page]:
    for page in (*PAGES, GENERATED):
        if page.commands:
            yield page


# What was run already, whatever page it stood in.
_run: set[tuple[str, ...]] = set()


@pytest.mark.parametrize("page", with_commands(), ids=lambda page: page.name)
def test_every_command_of_the_documents_runs(page: Page, here: Path) -> None:
    for block in page.blocks:
        if block.title:
            path = here / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(block.text)
    for command in page.commands:
        for part in parts_of(command):
            run_part(part, command)


def parts_of(command: Command) -> list[list[str]]:
    """The commands of a line, between `&&`."""
    parts: list[list[str]] = [[]]
    for word in command.words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(IDS.get(word, word))
    return parts


def run_part(words: list[str], command: Command) -> None:
    program, *arguments = words
    if program == "make":
        check_make(arguments)
    elif program.endswith("python"):
        check_python(arguments)
    elif program.endswith("pip"):
        check_pip(arguments)
    else:
        assert program == "reasondistill"
        run_command(tuple(arguments), command)


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target, *variables = words
    assert f"\n{target}:" in makefile
    for variable in variables:
        assert f"$({variable.partition('=')[0]})" in makefile


def check_python(words: list[str]) -> None:
    if words[:2] == ["-m", "pytest"]:
        return
    assert (ROOT / words[0]).is_file(), words


def check_pip(words: list[str]) -> None:
    for word in words:
        if word.startswith("constraints/"):
            assert (ROOT / word).is_file()


def run_command(words: tuple[str, ...], command: Command) -> None:
    verb, *arguments = words
    assert verb in COMMANDS, command.line
    parse(words)
    if verb in ELSEWHERE:
        return
    if verb in WITH_DRY_RUN and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    if verb == "doctor" and "--no-weights" not in arguments:  # tests/doctor loads them
        arguments.append("--no-weights")
    if verb in IN_A_FOLDER_OF_THEIR_OWN:
        arguments += ["--runs", "new"]
    if verb == "copy" and len(arguments) == 2:
        Path(arguments[1]).unlink(missing_ok=True)
        _run.discard((verb, *arguments))
    if "--calibrate" in arguments:  # runs problems through all stages
        at = arguments.index("--calibrate")
        del arguments[at : at + 2]
    if WANTS_FILES in arguments or any(word.startswith("s3://") for word in arguments):
        return
    key = (verb, *arguments)
    if key in _run:
        return
    _run.add(key)
    done = CliRunner().invoke(app, list(key), env={"COLUMNS": "200"})
    said = f"{command.line}\n{done.output}\n{done.exception!r}"
    assert done.exception is None or isinstance(done.exception, SystemExit), said
    if verb == "doctor":  # says what is wrong with this machine, which is no fault of the documents
        assert done.exit_code in (0, 2), said
        assert "ConfigError" not in done.output and "checks" in done.output, said
    else:
        assert done.exit_code == 0, said
    if command.to is not None:
        Path(command.to).write_text(done.output)


def parse(words: tuple[str, ...]) -> None:
    """Verb, options and number of arguments are such as there are. Raises a usage error."""
    verb, *arguments = words
    COMMANDS[verb].make_context(verb, list(arguments))


# ---- commands in a sentence ----------------------------------------------------------------------


def test_commands_in_a_sentence_have_a_verb_and_options_that_exist(here: Path) -> None:
    found = 0
    for page in PAGES:
        for command in page.inline:
            program, verb, *arguments = command.words
            if program == "make":
                check_make([verb, *arguments])
                continue
            found += 1
            assert verb in COMMANDS, f"{page.name}: {command.line}"
            options = {name for one in COMMANDS[verb].params for name in one.opts}
            for word in arguments:
                if word.startswith("-"):
                    assert word in options, f"{page.name}: {command.line}"
            if verb in ("explain", "list", "copy") and arguments and not arguments[0].isupper():
                run_command((verb, *arguments[:1]), command)
    assert found > 20


def test_keys_that_a_sentence_names_with_set_are_keys() -> None:
    from reasondistill.cli.explaining import all_keys, keys_meant

    for page in PAGES:
        for key in re.findall(r"--set '?([a-z_.0-9]+)=", page.text):
            assert keys_meant(key, all_keys()), f"{page.name}: {key}"


def test_what_is_run_elsewhere_is_run_there() -> None:
    for verb, name in ELSEWHERE.items():
        assert f'"{verb}"' in (ROOT / "tests" / name).read_text(encoding="utf-8"), verb
