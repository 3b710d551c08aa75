"""The `filter` of a source: whether a field of a row is as its rule says.

    rule = FieldRule.model_validate({"min": 3, "not": [5]})
    compiled("level", rule)(4)          # True
    compiled("level", rule)([1, 5])     # False
    compiled("level", [3, "4"])("3")    # True

A regular expression is matched by RE2 in time that is linear in the text, whatever the pattern; it
knows no look-around and no back-references.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, DecimalException
from typing import Any, cast

from reasondistill.config import Conditions, FieldRule, Scalar
from reasondistill.curation.cells import as_text
from reasondistill.errors import ConfigError, MissingDependencyError

Matches = Callable[[Any], bool]

# No number of a data set has more digits; Decimal takes longer for each.
_LONGEST_NUMBER = 400


def compiled(field: str, rule: Sequence[Scalar] | Conditions) -> Matches:
    """Whether a value of the field meets the rule. Raises ConfigError for a regular expression that
    RE2 does not read.
    """
    if not isinstance(rule, Conditions):
        return _is_one_of(rule)
    # Those that cost least first.
    tests: list[Matches] = []
    if rule.null is not None:
        tests.append(lambda value: is_null(value) == rule.null)
    if rule.one_of is not None:
        tests.append(_is_one_of(rule.one_of))
    if rule.min is not None or rule.max is not None:
        tests.append(lambda value: any(is_between(item, rule) for item in _items(value)))
    if rule.regex is not None:
        search = linear_search(f"filter.{field}", rule.regex)
        tests.append(lambda value: any(search(as_text(item)) for item in _items(value)))
    if isinstance(rule, FieldRule) and rule.none_of is not None:
        unwanted = compiled(field, rule.none_of)
        tests.append(lambda value: not unwanted(value))
    return lambda value: all(test(value) for test in tests)


def _items(value: Any) -> list[Any]:
    """A list matches by any of its items (a row with several tags)."""
    if isinstance(value, list):
        return cast("list[Any]", value)
    return [value]


# ---- values --------------------------------------------------------------------------------------


def filter_keys(value: Any) -> set[str]:
    """What is compared of a value, or of each item of a list."""
    return {_filter_key(item) for item in _items(value)}


def _filter_key(value: Any) -> str:
    """5 and "5" are the same; so are true and the "True" of a CSV file."""
    text = as_text(value).strip()
    if text in ("True", "False"):
        return text.lower()
    return text


def _is_one_of(values: Sequence[Scalar]) -> Matches:
    wanted = {_filter_key(value) for value in values}
    return lambda value: not wanted.isdisjoint(filter_keys(value))


def is_null(value: Any) -> bool:
    """Whether there is no value: null, NaN, an empty text, an empty list or mapping."""
    if isinstance(value, (list, dict)):
        return not value
    return not as_text(value).strip()


# ---- windows -------------------------------------------------------------------------------------


def is_between(value: Any, rule: Conditions) -> bool:
    """Whether a value is a number in the window of the rule."""
    number = number_of(value)
    if number is None:
        return False
    is_low = rule.min is not None and number < rule.min
    is_high = rule.max is not None and number > rule.max
    return not (is_low or is_high)


def number_of(value: Any) -> int | float | Decimal | None:
    """The number that a value is or that its text writes; None for anything else."""
    if isinstance(value, bool):
        return None
    number = value
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER:
            return None
        try:
            number = Decimal(value.strip())
        except DecimalException:
            return None
    if isinstance(number, Decimal):
        is_number = not number.is_nan()
    elif isinstance(number, float):
        is_number = not math.isnan(number)
    else:
        is_number = isinstance(number, int)  # of any length; as a float it may be too large
    if is_number:
        return number
    return None


# ---- regular expressions -------------------------------------------------------------------------


def linear_search(key: str, pattern: str) -> Callable[[str], bool]:
    """Whether a text holds the pattern anywhere, as RE2 reads it. Raises ConfigError, which names
    `key`, for a pattern that it does not read.
    """
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "data") from error
    # pyarrow makes its functions when it is imported.
    match: Any = getattr(pc, "match_substring_regex")  # noqa: B009

    def search(text: str) -> bool:
        whole = text.encode("utf-8", "replace").decode()  # half a character is in no pattern
        return match(pa.scalar(whole), pattern).as_py()

    try:
        search("")
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        fault = str(error).removeprefix("Invalid regular expression: ")
        raise ConfigError(
            f"{key}.regex = {pattern!r}: {fault}. It is read by RE2: no look-around, no "
            "back-references, repetitions up to 1,000."
        ) from error
    return search
