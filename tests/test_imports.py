"""What a start imports, and what it leaves for later."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from importlib import import_module

import pytest

from reasondistill.imports import late, no_collections

# What a task that does nothing of its kind has no use for.
OF_OTHER_TASKS = (
    "numpy",
    "torch",
    "reasondistill.grading.extract.answer",
    "reasondistill.models.samplers",
    "reasondistill.pipeline.evaluating",
    "reasondistill.stages.problems",
    "reasondistill.stages.report",
    "reasondistill.stages.students.making",
    "reasondistill.stages.traces",
)


def test_who_does_one_task_imports_what_the_others_want_when_it_does_theirs() -> None:
    code = f"""
import json, sys
import reasondistill.cli, reasondistill.pipeline
print(json.dumps([name for name in {OF_OTHER_TASKS!r} if name in sys.modules]))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == []


@pytest.mark.parametrize("package", ["reasondistill.grading", "reasondistill.stages.students"])
def test_every_name_of_a_package_that_imports_late_is_there(package: str) -> None:
    module = import_module(package)
    assert {name for name in module.__all__ if getattr(module, name, None) is None} == set()
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        vars(module)["__getattr__"]("nonsense")


def test_a_name_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("reasondistill.grading.GRADER", raising=False)
    find = late("reasondistill.grading", {"version": ("GRADER",)})
    assert find("GRADER") == vars(import_module("reasondistill.grading"))["GRADER"]


def test_nothing_is_collected_while_modules_are_imported() -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError), no_collections():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
