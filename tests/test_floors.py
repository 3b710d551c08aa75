"""The floor map of README is a fact: a module imports only from lower floors, and heavy packages stay out of module level."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "reasondistill"
README = (ROOT / "README.md").read_text(encoding="utf-8")

FLOORS: dict[float, tuple[str, ...]] = {
    5: ("cli",),
    4: ("launch", "preflight"),
    3: ("pipeline",),
    2: (
        "problems",
        "traces",
        "verdicts",
        "grade_file",
        "examples",
        "students",
        "evals",
        "report",
        "doctor",
    ),
    1.3: ("missing",),
    1.2: ("topk", "crew"),
    1.1: ("remote",),
    1.0: ("store", "prompts", "grading", "samplers", "curation", "losses", "statistics"),
    0.2: ("config", "weights", "vocabulary", "tokenising"),
    0.15: ("thinking",),
    0.1: ("records", "sections", "resources", "environment"),
    0.0: ("errors",),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}

HEAVY = {
    "torch", "vllm", "trl", "transformers", "datasets", "peft", "accelerate", "httpx", "ray",
    "reasoning_gym", "pandas", "pyarrow", "matplotlib", "tokenizers", "safetensors",
}  # fmt: skip
# Imported only from inside functions, so they may name their heavy package at the top.
LATE = {
    "samplers/vllm.py",
    *(f"samplers/openai/{name}.py" for name in ("__init__", "sampler", "connection")),
    *(
        "students/bases.py",
        "students/held_out.py",
        "students/hidden.py",
        "students/optimizers.py",
        "students/saving.py",
        "students/sft.py",
        "students/shrinking.py",
    ),
    *(
        f"students/distilling/{name}.py"
        for name in (
            "classic",
            "divergences",
            "lessons",
            "minillm",
            "rollouts",
            "stored",
            "teacher",
        )
    ),
    *(f"students/distilling/{name}.py" for name in ("texts", "trainer", "training")),
    *(
        f"losses/{name}.py"
        for name in ("__init__", "classic", "divergences", "fused", "heads", "policy", "teachers")
    ),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """`traces` for traces.py, `grading` for everything in grading/, `` for the package itself; __main__.py is the cli's other name."""
    first = path.relative_to(PACKAGE).parts[0]
    return {"__init__.py": "", "__main__.py": "cli"}.get(first, first.removesuffix(".py"))


def own_imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import of our own, wherever it stands: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "reasondistill":
                    yield node.lineno, (name.name.split(".") + [""])[1]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}:{node.lineno}: write the whole module name, not a relative import"
            )
            parts = (node.module or "").split(".")
            if parts[0] == "reasondistill" and len(parts) > 1:
                yield node.lineno, parts[1]
            elif parts[0] == "reasondistill":
                yield from (
                    (node.lineno, name.name)
                    for name in node.names
                    if not name.name.startswith("__")
                )


def module_level_imports(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import that runs when the module is imported."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from module_level_imports(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.iter_child_nodes(node):
                if isinstance(inner, ast.stmt):
                    yield from module_level_imports([inner])
                elif isinstance(inner, ast.ExceptHandler):
                    yield from module_level_imports(inner.body)


def floor_faults(path: Path, text: str) -> list[str]:
    """What is wrong with a file's imports, as `file:line: why`."""
    here = module_of(path)
    faults: list[str] = []
    for line, there in own_imports(ast.parse(text), path):
        if there in (here, "") or here == "":
            continue
        if there not in FLOOR:
            faults.append(f"{path.name}:{line}: imports {there}, which has no floor")
        elif FLOOR[there] >= FLOOR[here]:
            faults.append(
                f"{path.name}:{line}: {here} (floor {FLOOR[here]}) imports {there} (floor {FLOOR[there]})"
            )
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    assert floor_faults(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_heavy_package_is_imported_at_module_level(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in LATE:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late_modules = {
        "reasondistill." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in LATE
    }
    for line, name in module_level_imports(tree.body):
        assert name.split(".")[0] not in HEAVY, (
            f"{path.name}:{line}: import {name} inside the function that needs it"
        )
        assert name not in late_modules, (
            f"{path.name}:{line}: {name} is imported late, inside a function"
        )


def test_every_module_has_a_floor() -> None:
    assert {module_of(path) for path in FILES} - {""} <= set(FLOOR)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("traces.py", "from reasondistill import verdicts"),
        ("traces.py", "def f():\n    from reasondistill.stages.examples import x"),
        (
            "store.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import reasondistill.models.prompts",
        ),
        ("records.py", "from reasondistill import config"),
        ("records.py", "from reasondistill.sections import Section"),
        ("grading/__init__.py", "from reasondistill.runs.store import Shard"),
        ("traces.py", "import reasondistill.unheard_of"),
    ],
)
def test_an_import_from_the_same_or_a_higher_floor_is_found(file: str, text: str) -> None:
    assert len(floor_faults(PACKAGE / file, text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import torch.nn",
        "try:\n    from vllm import LLM\nexcept ImportError:\n    LLM = None",
        "class A:\n    import trl",
    ],
)
def test_a_heavy_import_at_module_level_is_found(text: str) -> None:
    assert {name.split(".")[0] for _, name in module_level_imports(ast.parse(text).body)} & HEAVY


@pytest.mark.parametrize(
    "text", ["def f():\n    import torch", "if TYPE_CHECKING:\n    import torch"]
)
def test_a_late_import_is_let_pass(text: str) -> None:
    assert not {name for _, name in module_level_imports(ast.parse(text).body)} & HEAVY


# ---- README -------------------------------------------------------------------------------------------------------


def block_after(heading: str) -> str:
    """The first code block under a heading of README."""
    return README.split(f"\n## {heading}\n", 1)[1].split("```", 2)[1]


def test_readme_shows_these_floors() -> None:
    floors = [line for line in block_after("The floors").splitlines() if line[:1].isdigit()]
    shown = {int(line[0]): tuple(re.findall(r"[a-z_]+", line.split("(")[0])) for line in floors}
    ours = {
        floor: sum((names for step, names in FLOORS.items() if int(step) == floor), ())
        for floor in range(6)
    }
    assert shown == ours


def test_readme_tree_names_every_module_and_no_other() -> None:
    tree = block_after("The tree")
    package = tree.split("\nreasondistill/\n", 1)[1]
    package = "\n".join(line for line in re.split(r"\n(?=\S)", package)[0].splitlines())
    named = set(re.findall(r"\b(\w+\.py)\b", package))
    exist = {path.name for path in FILES if path.parent == PACKAGE or path.name != "__init__.py"}
    assert sorted(exist - named) == [], "modules that README's tree does not name"
    assert sorted(named - exist) == [], "modules that README's tree names and that do not exist"


def test_readme_tree_names_every_folder_and_top_level_file() -> None:
    tree = block_after("The tree")
    for folder in {path.parent for path in FILES} - {PACKAGE}:
        assert f"  {folder.name}/ " in tree, f"{folder.name}/ is missing from README's tree"
    for name in re.findall(r"^([\w.]+/?)(?= )", tree, re.M):
        assert (ROOT / name).exists(), f"README's tree names {name}"
