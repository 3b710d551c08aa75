"""A filter is one function in one file: it registers itself and has a table of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contributing_kit import block_of
from test_examples import graded

from reasondistill.config import ExampleSettings, Pipeline
from reasondistill.curation import filters
from reasondistill.curation.filters import (
    Candidate,
    ProblemChoice,
    active_filters,
    all_filters,
    registry,
)
from reasondistill.errors import ConfigError
from reasondistill.records import fingerprint
from reasondistill.sections import check_section

FEW_DIGITS = block_of("A filter")


@pytest.fixture
def few_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stranger's file beside the ones of this package."""
    known = {one.name: one for one in all_filters()}
    monkeypatch.setattr(registry, "_FILTERS", known)
    (tmp_path / "few_digits.py").write_text(FEW_DIGITS)
    monkeypatch.setattr(filters, "__path__", [*filters.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield
    sys.modules.pop("reasondistill.curation.filters.few_digits", None)


def reasons(settings: ExampleSettings, *texts: str) -> dict[str, str]:
    choice = ProblemChoice(settings)
    dropped: dict[str, str] = {}
    for number, text in enumerate(texts):
        pair = graded(1, number, text=text)
        reason = choice.see(Candidate(pair.trace, pair.verdict, text))
        if reason is not None:
            dropped[pair.trace.id] = reason
    return dropped


@pytest.mark.usefixtures("few_digits")
def test_a_stranger_adds_a_filter_in_one_file() -> None:
    texts = ("one \\boxed{1}", "2 + 2 + 3 = \\boxed{7}")
    assert reasons(ExampleSettings(), *texts) == {}
    asked = ExampleSettings(filters={"few_digits": {}})
    assert reasons(asked, *texts) == {"d/train/1:0": "few digits"}
    strict = ExampleSettings(filters={"few_digits": {"least": 5}})
    assert set(reasons(strict, *texts).values()) == {"few digits"}
    assert "few_digits" in [one.name for one in all_filters()]


@pytest.mark.usefixtures("few_digits")
def test_a_pipeline_file_asks_for_a_filter_by_its_table() -> None:
    values = {
        "name": "p",
        "problems": {"source": "file", "dataset": "p.jsonl"},
        "traces": {"prompt": "question", "n": 1, "teachers": [{"model": "m"}]},
        "examples": {"filters": {"few_digits": {"least": 4}}},
    }
    pipeline = check_section(Path("p.toml"), Pipeline, values)
    text = "3 \\boxed{1}"
    assert reasons(pipeline.examples, text) == {"d/train/1:0": "few digits"}


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"few_digit": {}}, r"\[examples.filters\] few_digit: no such filter. Did you mean few_di"),
        ({"few_digits": {"last": 3}}, r"\[examples.filters.few_digits\] last: unknown key. Did yo"),
        ({"few_digits": {"least": "no"}}, r"\[examples.filters.few_digits\] least: "),
    ],
)
def test_a_wrong_table_is_one_clear_error(
    tables: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        active_filters(ExampleSettings(filters=tables))


def test_the_filters_of_examples_itself_are_always_on_and_in_their_order() -> None:
    shared = [one.name for one in all_filters() if not one.has_own_table]
    assert shared == [
        "was_written",
        "has_no_secret",
        "has_outcome",
        "has_an_end",
        "has_text",
        "has_length",
        "has_think_block",
        "has_boxed_answer",
    ]
    assert all(one.about for one in all_filters())
    assert len(active_filters(ExampleSettings(), verified=False)) == len(shared) - 1


def test_settings_without_further_filters_are_what_they_were() -> None:
    """The identity of the examples of earlier versions."""
    assert "filters" not in ExampleSettings().model_dump(mode="json")
    other = ExampleSettings(filters={"few_digits": {}})
    assert fingerprint(other.model_dump(mode="json")) != fingerprint(
        ExampleSettings().model_dump(mode="json")
    )


def test_only_traces_of_the_named_problems_are_kept() -> None:
    asked = ExampleSettings(filters={"of_problems": {"ids": ["x/", "d/train/1"]}})
    assert reasons(asked, "one \\boxed{1}") == {}
    others = ExampleSettings(filters={"of_problems": {"ids": ["d/train/12", "train"]}})
    assert set(reasons(others, "one \\boxed{1}").values()) == {"of other problems"}
    with pytest.raises(ConfigError, match="ids"):
        active_filters(ExampleSettings(filters={"of_problems": {"ids": []}}))
