"""How dense our code is, in figures that formatting cannot change.

    python tests/readability.py reasondistill reasondistill/grading

Syntax nodes per statement; per 1,000 statements the conditional expressions (ternaries), the
assignments inside expressions (walrus), the comprehensions inside each other or with two `for`,
the `and`/`or` chains of four or more; the share of functions that are private and mentioned in
one other place only, in percent; lines over 100 columns. Tests are left out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

WIDTH = 100
COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Density(NamedTuple):
    """What `measure` found in a folder; every figure but `statements` is better when it is low."""

    statements: int
    nodes_per_statement: float
    ternaries: float
    walrus: float
    nested_comprehensions: float
    boolean_chains: float
    used_once_percent: float
    wide_lines: int


def measure(folder: Path) -> Density:
    """The density of every module below `folder` that is no test."""
    totals: Counter[str] = Counter()
    words: Counter[str] = Counter()
    private: list[str] = []
    for path in sorted(folder.rglob("*.py")):
        if is_test(path.relative_to(folder)):
            continue
        text = path.read_text(encoding="utf-8")
        words.update(re.findall(r"[A-Za-z_]\w*", text))
        totals["wide"] += sum(len(line) > WIDTH for line in text.splitlines())
        for node in ast.walk(ast.parse(text)):
            count(node, totals)
            if is_private_function(node):
                private.append(node.name)  # type: ignore[attr-defined]
    statements = max(1, totals["statements"])
    functions = max(1, totals["functions"])
    # Its definition and one mention.
    once = sum(words[name] == 2 for name in private)
    return Density(
        statements=totals["statements"],
        nodes_per_statement=round(totals["nodes"] / statements, 2),
        ternaries=round(1000 * totals["ternaries"] / statements, 1),
        walrus=round(1000 * totals["walrus"] / statements, 1),
        nested_comprehensions=round(1000 * totals["nested"] / statements, 1),
        boolean_chains=round(1000 * totals["chains"] / statements, 1),
        used_once_percent=round(100 * once / functions, 1),
        wide_lines=totals["wide"],
    )


def count(node: ast.AST, totals: Counter[str]) -> None:
    """Add one node to the totals."""
    totals["nodes"] += 1
    totals["statements"] += isinstance(node, ast.stmt) and not is_docstring(node)
    totals["ternaries"] += isinstance(node, ast.IfExp)
    totals["walrus"] += isinstance(node, ast.NamedExpr)
    totals["nested"] += is_nested(node)
    totals["chains"] += isinstance(node, ast.BoolOp) and len(node.values) >= 4
    totals["functions"] += isinstance(node, FUNCTIONS)


def is_docstring(node: ast.stmt) -> bool:
    """A string that stands alone."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def is_test(path: Path) -> bool:
    """By its folder or its name."""
    in_tests = any(part in ("tests", "test") for part in path.parts)
    return in_tests or path.name.startswith("test_") or path.name.endswith("_test.py")


def is_nested(node: ast.AST) -> bool:
    """A comprehension with two `for`, or with another inside."""
    if not isinstance(node, COMPREHENSIONS):
        return False
    inner = [child for child in ast.walk(node) if child is not node]
    return len(node.generators) > 1 or any(isinstance(child, COMPREHENSIONS) for child in inner)


def is_private_function(node: ast.AST) -> bool:
    """A function or method whose name begins with one underscore."""
    if not isinstance(node, FUNCTIONS):
        return False
    return node.name.startswith("_") and not node.name.startswith("__")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, measure(Path(argument).resolve())._asdict())
