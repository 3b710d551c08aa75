"""tests/draws.py: the tests draw the same inputs each time, and others where that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from draws import SEARCH_FACTOR, draws
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn(profile: str) -> list[str]:
    """What a test of this profile draws."""
    found: list[str] = []

    @settings(settings.get_profile(profile), max_examples=100, database=None)
    @given(st.text())
    def test(text: str) -> None:
        found.append(text)

    test()
    return found


def test_the_same_inputs_are_drawn_whatever_else_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn("same")
    constants = [f"constant {number}" for number in range(1000)]
    (tmp_path / "full_of_constants.py").write_text(f"CONSTANTS = {constants!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("full_of_constants")
    assert drawn("same") == before
    del sys.modules["full_of_constants"]


def test_a_search_draws_other_inputs_each_time() -> None:
    assert drawn("search") != drawn("search")


def test_a_search_draws_more() -> None:
    loaded = settings.get_current_profile_name()
    try:
        settings.load_profile("same")
        assert draws(60) == 60
        settings.load_profile("search")
        assert draws(60) == 60 * SEARCH_FACTOR
    finally:
        settings.load_profile(loaded)
