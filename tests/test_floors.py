"""The floor map of docs/house.md is a fact: a module imports only from lower floors, and heavy
packages stay out of module level.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "reasondistill"
HOUSE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")

STAGES = ("problems", "traces", "verdicts", "examples", "students", "evals", "report")
FLOORS: dict[float, tuple[str, ...]] = {
    7: ("cli",),
    6.2: ("doctor",),
    6.1: ("forecast",),
    6.0: ("launch",),
    5: ("pipeline", "api"),
    4: (*(f"stages.{stage}" for stage in STAGES), "grade_file"),
    3.1: ("models", "foreign_logs"),
    3.0: ("curation",),
    2.1: ("runs",),
    2.0: ("config",),
    1.1: ("methods",),
    1.0: ("losses", "grading", "statistics"),
    0.2: ("tables",),
    0.1: ("records", "sections", "thinking", "progress"),
    0.06: ("foreign_json", "markdown"),
    0.05: ("foreign_text", "foreign_files", "bounds", "signals", "checks"),
    0.02: ("shell_secrets",),
    0.01: ("secrets",),
    0.0: (
        "errors",
        "hashing",
        "durations",
        "secret_names",
        "imports",
        "interpreter",
        "nearest",
        "unseen",
    ),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}

HEAVY = {
    "torch", "vllm", "trl", "transformers", "datasets", "peft", "accelerate", "httpx", "ray",
    "reasoning_gym", "pandas", "pyarrow", "matplotlib", "tokenizers", "safetensors",
}  # fmt: skip
# Imported only from inside functions, so they may name their heavy package at the top.
LATE = {
    f"{folder}/{name}.py"
    for folder, names in {
        "models/samplers/openai": "sampler connection",
        "models/scores": "measuring",
        "stages/students": "adapters bases checkpoint_selection collators finite heads held_out "
        "hidden int8 isolation merging optimizers progress reloading rows saving shrinking "
        "sorted_trainer trainer_settings training wanting weighing",
        "stages/students/distilling": "batches rollouts stored teacher teaching trainer",
        "losses": "classic fused heads policy shared_tokens teachers",
    }.items()
    for name in names.split()
}

# The rooms of the grader, and the other rooms that each stands on.
GRADING_ROOMS: dict[str, set[str]] = {
    "policies": set(),
    "version": set(),
    "read": set(),
    "extract": {"read", "policies"},
    "decide": {"read", "policies"},
    "serve": {"read", "policies", "version", "extract", "decide"},
}

FILES = sorted(PACKAGE.rglob("*.py"))
GRADING_FILES = [path for path in FILES if path.is_relative_to(PACKAGE / "grading")]


def module_of(path: Path) -> str:
    """The room that a file stands in: `stages.traces`, else the first folder or file of its path.

    `` for the package itself and for stages/__init__.py; __main__.py is the cli's other name.
    """
    parts = path.relative_to(PACKAGE).parts
    return room_of([part.removesuffix(".py") for part in parts])


def room_of(parts: list[str]) -> str:
    """The room that a dotted name below `reasondistill` belongs to."""
    names = [part for part in parts if part not in ("__init__", "")]
    if not names:
        return ""
    if names[0] == "stages":
        return ".".join(names[:2]) if len(names) > 1 else ""
    return {"__main__": "cli"}.get(names[0], names[0])


def own_imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and dotted name of each import of our own, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                parts = name.name.split(".")
                if parts[0] == "reasondistill":
                    yield node.lineno, parts[1:]
        elif isinstance(node, ast.ImportFrom):
            where = f"{path}:{node.lineno}"
            assert node.level == 0, f"{where}: write the whole module name, not a relative import"
            parts = (node.module or "").split(".")
            if parts[0] == "reasondistill":
                for name in node.names:
                    yield node.lineno, [*parts[1:], name.name]


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
    for line, parts in own_imports(ast.parse(text), path):
        there = room_of(parts)
        if there in (here, "") or here == "" or there.startswith("__"):
            continue
        where = f"{path.name}:{line}"
        if there not in FLOOR:
            faults.append(f"{where}: imports {there}, which has no floor")
        elif FLOOR[there] >= FLOOR[here]:
            faults.append(
                f"{where}: {here} (floor {FLOOR[here]}) imports {there} (floor {FLOOR[there]})"
            )
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    assert floor_faults(path, path.read_text(encoding="utf-8")) == []


def grading_faults(path: Path, text: str) -> list[str]:
    """Imports of one room of the grader from another that it does not stand on."""
    here = path.relative_to(PACKAGE / "grading").parts[0].removesuffix(".py")
    if here == "__init__":
        return []
    faults: list[str] = []
    for line, parts in own_imports(ast.parse(text), path):
        there = parts[1] if parts[0] == "grading" else here
        if there != here and there not in GRADING_ROOMS[here]:
            faults.append(f"{path.name}:{line}: grading/{here} imports grading/{there}")
    return faults


@pytest.mark.parametrize("path", GRADING_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_of_the_grader_imports_only_from_those_that_it_stands_on(path: Path) -> None:
    assert grading_faults(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("read/units.py", "from reasondistill.grading.decide.words import same_words"),
        ("extract/answer.py", "def f():\n    from reasondistill.grading.decide import layers"),
        ("decide/layers.py", "from reasondistill.grading.extract.answer import extract"),
        ("decide/layers.py", "from reasondistill.grading.serve.items import grade"),
        ("decide/layers.py", "from reasondistill.grading import grade"),
        ("policies.py", "from reasondistill.grading.read.clean import clean"),
    ],
)
def test_an_import_from_a_higher_room_of_the_grader_is_found(file: str, text: str) -> None:
    assert len(grading_faults(PACKAGE / "grading" / file, text)) == 1


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
        ("stages/traces/on_disk.py", "from reasondistill.stages import verdicts"),
        ("stages/traces/on_disk.py", "def f():\n    from reasondistill.stages.examples import x"),
        ("runs/missing.py", "if TYPE_CHECKING:\n    import reasondistill.models.prompts"),
        ("records.py", "from reasondistill import config"),
        ("records.py", "from reasondistill.sections import Section"),
        ("grading/__init__.py", "from reasondistill.runs.store import Shard"),
        ("stages/problems.py", "import reasondistill.unheard_of"),
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


# ---- docs/house.md -------------------------------------------------------------------------------


def block_after(heading: str) -> str:
    """The first code block under a heading of docs/house.md."""
    return HOUSE.split(f"\n## {heading}\n", 1)[1].split("```", 2)[1]


def test_the_map_shows_these_floors() -> None:
    shown: dict[int, list[str]] = {}
    for line in block_after("The floors").splitlines():
        if line[:1].isdigit():
            shown[int(line[0])] = re.findall(r"[a-z_]+", line.split("(")[0])
    ours: dict[int, list[str]] = {}
    for step, names in FLOORS.items():
        ours.setdefault(int(step), []).extend(name.removeprefix("stages.") for name in names)
    assert shown == ours


def packages_of_the_tree() -> set[str]:
    """The packages that the tree draws, as paths: two more columns are one folder deeper."""
    tree = block_after("The tree").split("\nreasondistill/\n", 1)[1]
    tree = re.split(r"\n(?=\S)", tree)[0]
    found: set[str] = set()
    above: list[str] = []
    for indent, name in re.findall(r"^((?:  )+)(\w+)/", tree, re.M):
        depth = len(indent) // 2
        above[depth - 1 :] = [name]
        found.add("/".join(above))
    return found


def test_the_tree_names_every_package_and_no_other() -> None:
    exist = {str(path.parent.relative_to(PACKAGE)) for path in FILES} - {"."}
    assert sorted(exist - packages_of_the_tree()) == [], (
        "packages that the tree of docs/house.md does not name"
    )
    assert sorted(packages_of_the_tree() - exist) == [], (
        "packages in the tree of docs/house.md alone"
    )


def test_the_tree_names_every_module_that_stands_beside_the_wings() -> None:
    tree = block_after("The tree").split("\nreasondistill/\n", 1)[1]
    named = set(re.findall(r"^  (\w+\.py) ", re.split(r"\n(?=\S)", tree)[0], re.M))
    assert named == {path.name for path in PACKAGE.glob("*.py")}


def test_the_tree_names_only_what_exists_at_the_top() -> None:
    for name in re.findall(r"^([\w.]+/?)(?= )", block_after("The tree"), re.M):
        assert (ROOT / name).exists(), f"the tree of docs/house.md names {name}"


# ---- what else the house promises ----------------------------------------------------------------


def test_git_ignores_no_module_and_no_test() -> None:
    """A bare `runs/` in .gitignore would leave reasondistill/runs/ out of every commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    files = [str(path.relative_to(ROOT)) for path in [*FILES, *(ROOT / "tests").rglob("*.py")]]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(files), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ignored.stdout == ""


# Circles that stand today: each is a fault to be mended, and no new one may come.
CIRCLES: set[frozenset[str]] = set()


def module_graph() -> dict[str, set[str]]:
    """Which of our modules each module imports, by dotted name below `reasondistill`."""
    names: dict[str, Path] = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        imported: set[str] = set()
        for _, parts in own_imports(ast.parse(path.read_text(encoding="utf-8")), path):
            whole, shorter = ".".join(parts), ".".join(parts[:-1])
            imported.add(whole if whole in names else shorter)
        graph[name] = imported - {name, ""}
    return graph


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest knows them by their names alone: of two it runs one, where both are asked for."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, times in names.items() if times > 1 and name != "conftest.py"] == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = module_graph()
    reach = {name: {name} for name in graph}
    grown = True
    while grown:
        grown = False
        for name, imported in graph.items():
            before = len(reach[name])
            for other in imported:
                reach[name] |= reach.get(other, set())
            grown = grown or len(reach[name]) > before
    circles = {
        frozenset(other for other in reach[name] if name in reach.get(other, ())) for name in graph
    }
    assert {circle for circle in circles if len(circle) > 1} <= CIRCLES
