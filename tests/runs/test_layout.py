"""One module knows how the files and folders of a run are called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasondistill.errors import DataError
from reasondistill.runs import layout
from reasondistill.runs.layout import RunFolder

PACKAGE = Path(__file__).parents[2] / "reasondistill"
OWNER = PACKAGE / "runs" / "layout.py"
NAMES = {
    *(value for name, value in vars(layout).items() if name.isupper() and type(value) is str),
    *layout.FOLDERS.values(),
}


def is_telling(name: str) -> bool:
    """`traces.jsonl` and `2-traces` mean a run wherever they stand; `model` is many things."""
    return "." in name or name[0].isdigit()


def literal_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a module spells a name of the layout itself: as a part of a path, or joined to one."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in texts:  # a docstring may say what it likes
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if " " in node.value:  # help and messages may name a file, too
                continue
            for part in node.value.split("/"):
                if part in NAMES and is_telling(part):
                    yield node.lineno, part
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            joined = node.right
            if isinstance(joined, ast.Constant) and joined.value in NAMES:
                yield node.lineno, joined.value


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != OWNER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_spells_a_name_of_the_run_folder(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    faults = [f"{path.name}:{line}: {name!r}" for line, name in literal_names(tree)]
    assert faults == [], "take the name from reasondistill/runs/layout.py"


@pytest.mark.parametrize(
    "text",
    ['read(folder / "traces.jsonl")', 'run.glob("6-evals/*/problems")', 'x = folder / "model"'],
)
def test_a_name_that_is_spelt_elsewhere_is_found(text: str) -> None:
    assert len(set(literal_names(ast.parse(text)))) == 1


def test_other_words_are_let_pass() -> None:
    text = 'row["model"], "A problem\'s id, as in problems.jsonl.", folder / "anything.json"'
    assert list(literal_names(ast.parse(text))) == []


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_the_folders_of_stages_come_in_the_order_of_the_stages(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    cell = run.benchmark("gsm8k").cell("base")
    folders = [
        run.stage("problems"),
        run.stage("examples"),
        run.student("base").path,
        run.stage("evals"),
        cell.traces_folder,
        cell.verdicts_folder,
        run.benchmark("gsm8k").problems_folder,
        run.stage("report"),
    ]
    for folder in reversed(folders):
        touch(folder / layout.MANIFEST)
    # A data set's manifest is not the run's.
    touch(run.stage("examples") / layout.DATASET / layout.MANIFEST)
    assert run.stage_folders() == folders
    assert run.place_of(cell.traces_folder) == "6-evals/gsm8k/base/traces"


def test_what_was_measured_is_found_by_benchmark_and_model(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for benchmark, model in (("math", "sft"), ("gsm8k", "sft"), ("gsm8k", "base")):
        touch(run.benchmark(benchmark).problems)
        touch(run.benchmark(benchmark).cell(model).traces)
    assert [benchmark.name for benchmark in run.evals.benchmarks()] == ["gsm8k", "math"]
    assert [cell.name for cell in run.benchmark("gsm8k").cells()] == ["base", "sft"]
    assert [run.place_of(cell.path) for cell in run.evals.cells()] == [
        "6-evals/gsm8k/base",
        "6-evals/gsm8k/sft",
        "6-evals/math/sft",
    ]


@pytest.mark.parametrize(
    "name",
    ["../../private/6-evals/gsm", "/etc", "..", ".", "", "a/b", "a\\b", "a\0", "a" * 256],
)
def test_what_is_no_name_makes_no_path(name: str) -> None:
    """Names of records and manifests that somebody else wrote become paths."""
    run = RunFolder(Path("runs/x"))
    for folder in (run.student, run.benchmark, run.benchmark("b").cell):
        with pytest.raises(DataError, match="is no name of a folder"):
            folder(name)
    assert run.benchmark("a" * 255).cell("x@2.5").path.name == "x@2.5"
