"""tests/workers.py: what takes longest is begun first, and a module stays together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import workers

TESTS = Path(__file__).parent


def test_whatever_is_said_to_take_longest_is_a_module_of_tests() -> None:
    assert workers.LONGEST
    assert [name for name in workers.LONGEST if not (TESTS / name).is_file()] == []
    assert len(set(workers.LONGEST)) == len(workers.LONGEST)


def test_the_longest_modules_come_first_and_the_others_stay_in_their_order() -> None:
    second, first = workers.LONGEST[1], workers.LONGEST[0]
    names = ["test_api.py", second, second, "cli/test_schema.py", first]
    items: list[Any] = [
        SimpleNamespace(path=TESTS / name, number=number) for number, name in enumerate(names)
    ]
    workers.longest_first(items)
    assert [item.number for item in items] == [4, 1, 2, 0, 3]
