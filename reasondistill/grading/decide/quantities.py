"""Whether two numbers, and their units, are the same answer under a policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from reasondistill.grading.decide.decision import Decision
from reasondistill.grading.policies import Policy
from reasondistill.grading.read.quantity import Quantity
from reasondistill.grading.read.units import CURRENCIES, DIRECTIONS, Unit

_MONEY = frozenset({*CURRENCIES.values(), "yuan", "peso", "franc"})


EQUAL_VALUE = Decision("correct", "exact", "equal_value")
DIFFERENT_VALUE = Decision("wrong", "exact", "different_value")
DIFFERENT_UNIT = Decision("wrong", "exact", "different_unit")
PERCENT_AS_FRACTION = Decision("correct", "exact", "percent_as_fraction")
PERCENT_AS_NUMBER = Decision("correct", "exact", "percent_as_number")
PERCENT_DIFFERS = Decision("wrong", "exact", "percent_differs")
THOUSANDS_OR_DECIMALS = Decision("undecided", "exact", "thousands_or_decimals")


def same_quantity(a: Quantity, b: Quantity, policy: Policy) -> Decision:
    """Whether two quantities are the same answer: never open."""
    if a.percent and not b.percent:
        return _same_percent(a, b, policy)
    if b.percent and not a.percent:
        return _same_percent(b, a, policy)
    if not same_value(a, b, policy):
        if may_be_thousands(a, b) or may_be_thousands(b, a):
            return THOUSANDS_OR_DECIMALS
        return DIFFERENT_VALUE
    if units_agree(a.unit, b.unit, policy):
        return EQUAL_VALUE
    return DIFFERENT_UNIT


def may_be_thousands(money: Quantity, other: Quantity) -> bool:
    """Whether the point of an amount such as `1.250 Euro` may group the thousands of the other."""
    if money.places != 3 or not 1 <= abs(money.value) < 1000 or len(money.unit) != 1:
        return False
    return money.unit[0][0] in _MONEY and money.value * 1000 == other.value


def _same_percent(percent: Quantity, number: Quantity, policy: Policy) -> Decision:
    """28 % beside 0.28 (always) or 28 (a policy; never up to 1, where 0.5 could be meant as a
    fraction).
    """
    if number.unit or number.is_count:
        return PERCENT_DIFFERS
    places = None
    if percent.places is not None:
        places = percent.places + 2
    hundredth = replace(percent, value=percent.value / 100, percent=False, places=places)
    if policy.percent_is_fraction and same_value(hundredth, number, policy):
        return PERCENT_AS_FRACTION
    is_number = percent.value == number.value or is_float_of(percent, number.value)
    if policy.percent_is_number and abs(percent.value) > 1 and is_number:
        return PERCENT_AS_NUMBER
    return PERCENT_DIFFERS


def same_value(a: Quantity, b: Quantity, policy: Policy) -> bool:
    """Exact equality; else a long decimal that only rounds the other (0.6666667 for 2/3, or for the
    0.6666666666666666 that a double prints of it), or the policy's tolerance.
    """
    if a.value == b.value:
        return True
    if policy.relative_tolerance:
        largest = max(abs(a.value), abs(b.value))
        if abs(a.value - b.value) <= Fraction(policy.relative_tolerance) * largest:
            return True
    if b.places is None:
        return rounds_to(a, b.value, policy)
    if a.places is None:
        return rounds_to(b, a.value, policy)
    if policy.decimal_places and (is_float_of(a, b.value) or is_float_of(b, a.value)):
        return True
    if is_double(a) and rounds_to(b, a.value, policy):
        return True
    if is_double(b) and rounds_to(a, b.value, policy):
        return True
    if not policy.rounded_decimals:
        return False
    places = min(a.places, b.places)
    if places < max(1, policy.decimal_places):
        return False
    return abs(a.value - b.value) <= Fraction(1, 2 * 10**places)


def rounds_to(decimal: Quantity, value: Fraction, policy: Policy) -> bool:
    """True when `decimal` is `value` rounded or cut at enough places, and `value` has no shorter
    exact decimal.

    A value that terminates within twelve places must be hit exactly: 1.0000001 is not 1.
    """
    places = decimal.places
    if not policy.decimal_places or places is None:
        return False
    if not policy.decimal_places <= places <= 400:
        return False
    if decimal.mantissa_digits < policy.decimal_places:
        return False
    if is_float_of(decimal, value):
        return True
    if value == 0 or (value * 10**12).denominator == 1:
        return False
    error = abs(decimal.value - value)
    place = Fraction(1, 10**places)
    is_cut = abs(decimal.value) <= abs(value) and error < place
    return is_cut or error <= place / 2


def is_double(decimal: Quantity) -> bool:
    """Whether a decimal has the 16 or 17 significant digits that a double prints."""
    has_places = decimal.places is not None and decimal.places >= 1
    return has_places and 16 <= decimal.mantissa_digits <= 17


def is_float_of(decimal: Quantity, value: Fraction) -> bool:
    """Whether a decimal of 16 or 17 significant digits is what a double prints for `value`, within
    two units in its last place (ulp): 0.30000000000000004 for 0.3, 19.333333333333332 for 58/3.

    Integers are exact: 12345678901234567 is not 12345678901234568.
    """
    if not is_double(decimal):
        return False
    ulp = Fraction(math.ulp(float(decimal.value)))
    return abs(decimal.value - value) <= 2 * ulp


def units_agree(a: Unit, b: Unit, policy: Policy) -> bool:
    """Whether two units may stand for each other: a missing one may (a policy), a different one may
    not. Money may always lack its sign, and a length its direction.
    """
    if a == b:
        return True
    way_a = {symbol for symbol, _ in a if symbol in DIRECTIONS}
    way_b = {symbol for symbol, _ in b if symbol in DIRECTIONS}
    if way_a or way_b:
        if way_a and way_b and way_a != way_b:
            return False
        return units_agree(_without_direction(a), _without_direction(b), policy)
    powers_a = dict(a)
    powers_b = dict(b)
    if not a or not b:
        given = powers_a or powers_b
        return not policy.units_must_stand or given.keys() <= _MONEY | {"unit"}
    if "unit" in powers_a or "unit" in powers_b:
        return sum(powers_a.values()) == sum(powers_b.values())
    return _without_scales(a) == _without_scales(b) and scales_agree(powers_a, powers_b)


def _without_direction(unit: Unit) -> Unit:
    return tuple(part for part in unit if part[0] not in DIRECTIONS)


def _without_scales(unit: Unit) -> dict[str, int]:
    return {symbol: power for symbol, power in unit if symbol not in _SCALES}


_SCALES = frozenset({"degree", "celsius", "fahrenheit", "kelvin"})


_DEGREE = frozenset({"degree"})


def scales_agree(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    """`20°` may stand for `20°C`, but °C is not °F."""
    first = _SCALES & a.keys()
    second = _SCALES & b.keys()
    if sorted(a[scale] for scale in first) != sorted(b[scale] for scale in second):
        return False  # J/K is not J·K
    if first == second:
        return True
    if _DEGREE not in (first, second) or "kelvin" in first | second:
        return False
    return bool(first) and bool(second)
