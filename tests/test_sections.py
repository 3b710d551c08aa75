"""Any section reads from TOML with the same manners: unknown keys, nearest names, overrides into
tables and lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import field_validator

from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest
from reasondistill.sections import Section, apply_override, load_section


class Wheel(Section):
    size: int
    colour: str = "black"

    @field_validator("size")
    @classmethod
    def _is_even(cls, size: int) -> int:
        if size % 2:
            raise ValueError("size: must be even")
        return size


class Car(Section):
    name: str
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None


def load(tmp_path: Path, text: str, *overrides: str) -> Car:
    (tmp_path / "car.toml").write_text(text, encoding="utf-8")
    return load_section(tmp_path / "car.toml", Car, overrides)


def test_nested_tables_and_lists_are_read(tmp_path: Path) -> None:
    car = load(
        tmp_path,
        "name = 'Käfer'\nspare = {size = 2}\n[[wheels]]\nsize = 4\n[[wheels]]\nsize = 6\n"
        "colour = 'red'",
    )
    assert (car.name, car.spare, [wheel.colour for wheel in car.wheels]) == (
        "Käfer",
        Wheel(size=2),
        ["black", "red"],
    )


def test_a_key_inside_a_list_gets_the_nearest_name_of_its_own_section(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"car.toml \[wheels.0\] color: unknown key. Did you mean colour\?"
    ):
        load(tmp_path, "name = 'x'\n[[wheels]]\nsize = 4\ncolor = 'red'")


def test_a_key_inside_an_optional_section_is_looked_up_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[spare\] zzz: unknown key. Known: colour, size."):
        load(tmp_path, "name = 'x'\nspare = {size = 2, zzz = 1}")


def test_a_validators_message_is_not_doubled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "name = 'x'\nspare = {size = 3}")
    assert str(caught.value) == f"{tmp_path / 'car.toml'} [spare] size: must be even"


def test_an_override_makes_the_sections_on_its_way(tmp_path: Path) -> None:
    assert load(tmp_path, "name = 'x'", "spare.size=8").spare == Wheel(size=8)


class Trip(Section):
    name: str | None = "x"
    limit: int | None = None
    mode: Literal["none", "all"] | None = "all"
    wheel: Wheel | None = None
    days: int = 4
    road: str = "B1"
    stops: tuple[str, ...] = ()


def test_none_unsets_every_key_that_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trip.toml"
    path.write_text('limit = 3\nwheel = {size = 2}\ndays = 9\nroad = "A1"\nstops = ["x"]\n')
    unset = load_section(path, Trip, ["limit=none", "wheel=none", "name=none"])
    assert unset.limit is None and unset.wheel is None and unset.name is None
    left_out = load_section(path, Trip, ["days=none", "road=none", "stops=none"])
    assert (left_out.days, left_out.road, left_out.stops) == (4, "B1", ())
    assert "days" not in left_out.model_fields_set
    # Where the word is a value it is that, and in quotes it is a word everywhere.
    kept = load_section(path, Trip, ['name="none"', "mode=none", "road='none'"])
    assert (kept.name, kept.mode, kept.road, kept.limit) == ("none", "none", "none", 3)
    with pytest.raises(ConfigError, match=r"--set wheel\.size=none: the key must be given"):
        load_section(path, Trip, ["wheel.size=none"])
    with pytest.raises(ConfigError, match="limit"):
        load_section(path, Trip, ["limit=nothing"])


def test_a_mark_before_the_text_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "trip.toml"
    path.write_bytes("limit = 3\n".encode("utf-8-sig"))
    assert load_section(path, Trip).limit == 3


def test_nearest_lists_what_is_known_when_nothing_is_near() -> None:
    assert nearest("temprature", ["temperature", "top_p"]) == "Did you mean temperature?"
    assert nearest("qqq", ["b", "a"]) == "Known: a, b."


@given(st.text())
def test_any_override_is_applied_or_refused_with_our_error(text: str) -> None:
    values: dict[str, object] = {"name": "x", "wheels": [{"size": 2}], "spare": {"size": 2}}
    try:
        apply_override(values, text)
    except ConfigError as error:
        assert str(error).startswith("--set ")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n=.'\"\\"), min_size=1))
def test_text_without_quotes_is_taken_as_it_stands_unless_it_is_toml(text: str) -> None:
    values: dict[str, object] = {}
    try:
        apply_override(values, f"name={text}")
    except ConfigError as error:
        assert "more than 64 bits" in str(error)
        return
    assert values["name"] == text or not isinstance(values["name"], str)


def test_an_integer_beyond_toml_is_refused_in_an_override() -> None:
    values: dict[str, object] = {}
    with pytest.raises(ConfigError, match="--set name=2000.* more than 64 bits"):
        apply_override(values, "name=20000000000000000000")
    assert values == {}


@given(st.binary())
def test_any_bytes_are_read_or_refused_with_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="any.toml"):
        load_section(path, Car)
