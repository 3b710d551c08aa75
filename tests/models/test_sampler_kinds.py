"""A sampler says what it can do and is found by its name; nobody else asks what it is called."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from contributing_kit import block_of

from reasondistill.config import (
    JudgeSettings,
    SampledModel,
    capabilities_of,
    load_pipeline,
    sampler_names,
)
from reasondistill.errors import ConfigError
from reasondistill.models.samplers.opening import identity_of, kind_of
from reasondistill.records import Trace
from reasondistill.runs.store import read_records

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reasondistill"

# All that a stranger writes: one file, which Python can import.
PARROT = block_of("A sampler")


@pytest.fixture
def parrot(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace with a pipeline file whose teacher is the parrot of `parrot.py` beside it."""
    (workplace / "parrot.py").write_text(PARROT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    monkeypatch.delitem(sys.modules, "parrot", raising=False)
    capabilities_of.cache_clear()
    text = (workplace / "small.toml").read_text(encoding="utf-8")
    text = text.replace('sampler = "scripted"', 'sampler = "parrot:PARROT"')
    (workplace / "small.toml").write_text(text, encoding="utf-8")
    return workplace


def test_a_sampler_of_ones_own_is_one_file(parrot: Path) -> None:
    """The whole run, from the command line, with nothing of ours touched."""
    places = os.pathsep.join([str(parrot), str(ROOT)])
    command = [sys.executable, "-m", "reasondistill", "run", "small.toml", "--until", "verdicts"]
    finished = subprocess.run(
        command,
        cwd=parrot,
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    traces = list(read_records(parrot / "runs/small/2-traces/traces.jsonl", Trace))
    assert len(traces) == 20
    assert {trace.completion.answer_text for trace in traces} == {
        f"What is {i} + {i}?" for i in range(10)
    }
    manifest = (parrot / "runs/small/2-traces/manifest.json").read_text(encoding="utf-8")
    assert '"parrot:PARROT"' in manifest


def test_a_sampler_of_ones_own_can_do_what_it_says_and_no_more(parrot: Path) -> None:
    teacher = load_pipeline(parrot / "small.toml").teachers[0]
    assert not teacher.capabilities.gives_logprobs
    assert identity_of(teacher) == teacher.model
    with pytest.raises(ConfigError, match=r"logprobs: .*parrot:PARROT.*gives no"):
        load_pipeline(parrot / "small.toml", ["traces.logprobs=4"])
    with pytest.raises(ConfigError, match=r"parrot:PARROT. does not"):
        load_pipeline(parrot / "small.toml", ["traces.teachers.0.omit=['seed']"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vlm", r"sampler: 'vlm': unknown. Did you mean vllm\?"),
        ("base", "sampler: 'base': unknown. .*(Did you mean|Known: openai, reference, scripted)"),
        ("no_such_lab.parrot:PARROT", "module 'no_such_lab.parrot' cannot be imported"),
        ("parrot:PIGEON", "parrot has no sampler 'PIGEON'"),
        ("json:", "json has no sampler ''"),
    ],
)
def test_an_unknown_sampler_is_refused_with_a_remedy(parrot: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_pipeline(parrot / "small.toml", [f"traces.teachers.0.sampler={name!r}"])


def test_reference_solutions_answer_no_questions(workplace: Path) -> None:
    for override in (
        'verdicts.judge={model="m", sampler="reference"}',
        'evals.models=[{name="m", model="m", sampler="reference"}]',
    ):
        with pytest.raises(ConfigError, match="sampler: 'reference' repeats the solutions"):
            load_pipeline(workplace / "small.toml", [override])


def test_the_samplers_that_come_with_the_package() -> None:
    assert sampler_names() == ["openai", "reference", "scripted", "stored", "vllm"]


@pytest.mark.parametrize("name", sampler_names())
def test_each_sampler_says_how_it_is_opened(name: str) -> None:
    assert callable(kind_of(SampledModel(model="m", sampler=name)).open)


def test_a_judge_is_a_model_as_samplers_take_it() -> None:
    judge = JudgeSettings(model="m", sampler="openai", revision="r")
    assert identity_of(judge) == "m@r"


def test_asking_what_a_sampler_can_do_imports_nothing_heavy() -> None:
    code = (
        "import sys; from reasondistill.config import capabilities_of, sampler_names\n"
        "assert capabilities_of('openai').sends_requests and len(sampler_names()) == 5\n"
        "print({'torch', 'vllm', 'httpx', 'transformers'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "set()"


# ---- nobody asks for a sampler's name ------------------------------------------------------------


def names_compared(text: str) -> list[str]:
    """The samplers' names that a module compares something with, as `line: name`."""
    compared: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            compared += [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared.append(node.value)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict):
            compared += node.value.keys
    found: list[str] = []
    names = sampler_names()
    for side in compared:
        several = isinstance(side, ast.Tuple | ast.List | ast.Set)
        for constant in side.elts if several else [side]:
            if isinstance(constant, ast.Constant) and constant.value in names:
                found.append(f"{constant.lineno}: {constant.value}")
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if "samplers" not in path.parts],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_module_outside_samplers_compares_with_the_name_of_one(path: Path) -> None:
    assert names_compared(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        'model.sampler == "vllm"',
        'model.sampler in ("vllm", "other")',
        'match name:\n    case "openai":\n        pass',
        '{"vllm": 1}[model.sampler]',
    ],
)
def test_a_comparison_with_the_name_of_a_sampler_is_found(text: str) -> None:
    assert len(names_compared(text)) == 1
