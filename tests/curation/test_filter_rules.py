"""What `filter` keeps: each rule, on values of each kind, and rules that cannot hold."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from test_problems import from_file, problems, write_jsonl

from reasondistill.config import FieldRule, ProblemSource
from reasondistill.curation.filter_rules import compiled
from reasondistill.errors import ConfigError
from reasondistill.stages.problems import read_problems

VALUES: dict[str, Any] = {
    "5": 5,
    "text 5": "5",
    "5.0": 5.0,
    "7": 7,
    "-1.5": "-1.5",
    "true": True,
    "word": "algebra, easy",
    "tags": ["geometry", "easy"],
    "numbers": [1, 9],
    "empty": "",
    "blank": " ",
    "none": None,
    "nan": float("nan"),
    "no items": [],
}


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ([5], "5, text 5, 5.0"),
        ({"in": [5, "easy"]}, "5, text 5, 5.0, tags"),
        ({"in": [True]}, "true"),
        (
            {"not": [5, "geometry"]},
            "7, -1.5, true, word, numbers, empty, blank, none, nan, no items",
        ),
        ({"min": 5}, "5, text 5, 5.0, 7, numbers"),
        ({"max": 5}, "5, text 5, 5.0, -1.5, numbers"),
        ({"min": 5, "max": 5}, "5, text 5, 5.0"),
        ({"min": 4, "not": [7]}, "5, text 5, 5.0, numbers"),
        ({"regex": r"\beasy\b"}, "word, tags"),
        ({"regex": "^alg"}, "word"),
        ({"regex": "(?i)GEO"}, "tags"),
        ({"null": True}, "empty, blank, none, nan, no items"),
        ({"null": False, "not": {"regex": "."}}, ""),
        ({"null": False, "not": {"min": 0}}, "-1.5, true, word, tags"),
        ({"not": {"null": True}}, "5, text 5, 5.0, 7, -1.5, true, word, tags, numbers"),
    ],
)
def test_a_rule_keeps_what_it_says(rule: Any, kept: str) -> None:
    if isinstance(rule, dict):
        rule = FieldRule.model_validate(rule)
    matches = compiled("level", rule)
    assert ", ".join(name for name, value in VALUES.items() if matches(value)) == kept


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        (10**400, True),
        (-(10**400), False),
        ("1e99999", True),
        ("sNaN", False),
        (Decimal("sNaN"), False),
        (Decimal("-NaN"), False),
        (float("inf"), True),
    ],
)
def test_a_window_takes_numbers_that_no_float_is(value: Any, is_kept: bool) -> None:
    assert compiled("level", FieldRule(min=3))(value) == is_kept


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"min": 5, "max": 3}, r"min: 5 is above max = 3"),
        ({}, "a rule needs one of in, not"),
        ({"in": []}, "at least 1 item"),
        ({"min": float("nan")}, "finite number"),
        ({"null": True, "regex": "x"}, "null: what has no value meets no other rule"),
        ({"mni": 3}, "Extra inputs"),
        ({"not": {"min": 5, "max": 3}}, "min: 5 is above max = 3"),
    ],
)
def test_a_rule_that_nothing_can_meet_is_refused(rule: dict[str, Any], message: str) -> None:
    keys = {"source": "file", "dataset": "d.jsonl", "filter": {"level": rule}}
    with pytest.raises(ValueError, match=message):
        ProblemSource.model_validate(keys)


@pytest.mark.parametrize(
    "pattern", ["(", r"(a)\1", "(?=a)", "a{2000}", "((a{100}){100}){100}", "[z-a]"]
)
def test_a_pattern_that_could_take_for_ever_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"filter.level.regex = .*RE2"):
        compiled("level", FieldRule(regex=pattern))


def test_a_pattern_that_python_would_never_end_is_matched() -> None:
    """For `re`, each further letter doubles the time: 60 of them have no end."""
    matches = compiled("question", FieldRule(regex="^(a+)+$"))
    assert matches("a" * 60) and not matches("a" * 60 + "b")
    assert not matches("half a character \ud800")


def test_rules_of_a_file_choose_its_rows(tmp_path: Path) -> None:
    rows = [
        {"question": f"What is {i} + 0?", "answer": i, "level": i, "kind": kind}
        for i, kind in enumerate(["sum", "proof", None, "sum", "sum, hard"])
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)

    def kept(**rules: Any) -> list[str]:
        keys = {"source": "file", "dataset": str(path), "filter": rules}
        return [problem.answer for problem in problems(ProblemSource.model_validate(keys))]

    assert kept(level={"min": 1, "max": 3}) == ["1", "2", "3"]
    assert kept(level={"min": 1}, kind={"not": ["proof"]}) == ["2", "3", "4"]
    assert kept(kind={"null": False, "not": {"regex": "hard"}}) == ["0", "1", "3"]
    with pytest.raises(ConfigError, match="no row of .* matches. Found: level is one of '0', '1'"):
        kept(level={"min": 9})
    with pytest.raises(ConfigError, match="filter.levl.*Did you mean level"):
        kept(levl={"min": 9})


def test_a_filter_of_earlier_versions_is_stored_as_it_was() -> None:
    source = from_file(Path("d.jsonl"), filter={"level": [5, "6"]})
    assert source.model_dump(mode="json")["filter"] == {"level": [5, "6"]}
    keys = source.model_dump(mode="json") | {"filter": {"level": {"in": [1], "not": [2]}}}
    again = ProblemSource.model_validate(keys).model_dump(mode="json")
    assert again["filter"] == {"level": {"in": [1], "not": [2]}}


def test_a_long_value_is_shown_in_part(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [{"question": "x" * 5_000, "answer": "1"}])
    source = from_file(path, filter={"question": FieldRule(regex="y")})
    with pytest.raises(ConfigError) as refused:
        list(read_problems(source))
    assert len(str(refused.value)) < 400
