"""Units of measure, read into powers: `9.8\\\\text{ m/s}^2` has the unit m¹·s⁻². Nothing is
converted: metres and feet are different units.

Words that are no unit ("12 apples", "12 ways") say what is counted; they decide nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache

# (symbol, power), by symbol; empty for none and for what is only counted
Unit = tuple[tuple[str, int], ...]

# The symbol of each unit and its other names; every name may have a plural s.
_NAMES = """
cm centimeter centimetre cms; m meter metre; mm millimeter millimetre; km kilometer kilometre;
nm nanometer nanometre; dm decimeter decimetre; µm micrometer micron; in inch inches;
ft foot feet; yd yard yds; mi mile; ly lightyear; s sec second secs; ms millisecond;
min minute mins; h hr hour hrs; day; week wk; month; year yr yrs; decade; century centuries;
g gram gm; kg kilogram kgs; mg milligram; oz ounce; pound lb lbs sterling gbp; nmi nautical;
pc parsec; kpc; mpc; au; erg; ångström angstrom; debye; gauss; mbar; torr; dioptre diopter;
arcmin arcminute; arcsec arcsecond; rps; dime; quarter; nickel; ton tonne; l liter litre;
ml milliliter millilitre; cl centiliter centilitre; gal gallon; qt quart; pt pint; cup;
tbsp tablespoon; tsp teaspoon; acre; ha hectare; n newton; kn; j joule; kj; cal calorie; kcal;
w watt; kw kilowatt; mw; hz hertz; khz; mhz; ghz; v volt; kv; a amp ampere; ohm ω; ev; mev; kev;
rad radian; degree deg; kelvin; celsius centigrade; fahrenheit; pa pascal; kpa; atm; bar;
mol mole; c coulomb; f farad; t tesla; byte; bit; kb; mb; gb; tb; rpm; knot; unit;
dollar usd bucks buck; euro eur; yen jpy yuan rmb; rupee rs inr; cent penny pennies; am; pm; won;
peso; franc; halflife; generation
"""
_SYMBOLS: dict[str, str] = {}
for _names in re.split(r"[;\n]+", _NAMES.strip()):
    for _name in _names.split():
        _SYMBOLS[_name] = _names.split()[0]
_COMPOUNDS: dict[str, Unit] = {
    "mph": (("h", -1), ("mi", 1)),
    "kmh": (("h", -1), ("km", 1)),
    "kph": (("h", -1), ("km", 1)),
    "kmph": (("h", -1), ("km", 1)),
    "cc": (("cm", 3),),
}
CURRENCIES = {
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "₹": "rupee",
    "¢": "cent",
    "₩": "won",
}
_CASED = {
    "L": "l", "N": "n", "J": "j", "W": "w", "V": "v", "A": "a", "T": "t",
    "C": "celsius", "F": "fahrenheit", "K": "kelvin",
}  # fmt: skip
# The letter of each prefix; only of M and m is the case a matter of meaning.
_PREFIX_NAMES = """
milli m; mega M; kilo k; giga g; tera t; micro µ; nano n; pico p; centi c; deci d
"""
_PREFIXES: dict[str, str] = {}
for _pair in _PREFIX_NAMES.split(";"):
    _name, _letter = _pair.split()
    _PREFIXES[_name] = _letter
_PREFIX_LETTERS = {"m": "m", "M": "M", "k": "k", "G": "g", "T": "t", "n": "n", "p": "p"}
# Symbols, in their own case, that stand behind a prefix: mW and MW, meV and MeV.
_PREFIXED_NAMES = """
W w; Hz hz; V v; eV ev; J j; Pa pa; N n; A a; C c; F f; T t; m m; g g; s s; L l; l l; mol mol;
Ω ohm; ohm ohm; bar bar
"""
_PREFIXED: dict[str, str] = {}
for _pair in _PREFIXED_NAMES.split(";"):
    _name, _base = _pair.split()
    _PREFIXED[_name] = _base
_BITS = {"Mb": "mbit", "Gb": "gbit", "Tb": "tbit"}  # MB, GB and TB are bytes
_DATA = {"byte": "b", "bit": "bit"}
_MEGA = {"mhz": "Mhz", "mev": "Mev"}  # in careless case nobody means the thousandth part
# Products of units that are written as one word.
_PRODUCTS: dict[str, Unit] = {
    "dL": (("dl", 1),),
    "Nm": (("m", 1), ("n", 1)),
    "Ns": (("n", 1), ("s", 1)),
    "Js": (("j", 1), ("s", 1)),
    "Wh": (("h", 1), ("w", 1)),
    "kWh": (("h", 1), ("kw", 1)),
    "kwh": (("h", 1), ("kw", 1)),
}
_SHORT = frozenset(name for name in _SYMBOLS if len(name) <= 2)
_POWER_WORDS = {"squared": 2, "cubed": 3}
_SHAPES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_COUNTED = frozenset(["men", "gps", "US", "pcs"])  # too short to be told from products of letters
_NO_UNITS = frozenset(
    re.findall(
        r"\w+",
        "and or to if when where mod i e pi sqrt sin cos tan log ln choose times plus minus is are "
        "not than factorial modulo hundred thousand million billion trillion dozen "
        "out tenths hundredths thousandths",
    )
)
_DIRECTION_NAMES = """
north south east west northeast northwest southeast southwest left right up down upward downward
upwards downwards clockwise counterclockwise above below before after ago later more less fewer
higher lower longer shorter older younger faster slower increase decrease gain loss profit deficit
surplus odd even heads tails hence colder warmer hotter cooler early late earlier ahead behind
forward forwards backward backwards inside outside inflow outflow inward inwards outward outwards
richer poorer heavier lighter taller wider narrower deeper shallower bigger smaller upstream
downstream fast slow
"""
_COMPASS = ("north", "south", "east", "west")
# Words that say which way: no units, but 5 km north is not 5 km south.
# 30° east of north is a direction of its own.
DIRECTIONS = frozenset(_DIRECTION_NAMES.split()) | {
    f"{way}of{axis}" for way in _COMPASS for axis in _COMPASS
}
_BEARING = re.compile(rf"\b({'|'.join(_COMPASS)})\s+of\s+(?:due\s+)?({'|'.join(_COMPASS)})\b")
_COUNTERCLOCKWISE = re.compile(r"(?:counter|anti)[-\s]?clockwise", re.IGNORECASE)
_HALF_LIFE = re.compile(r"half[-\s]li(?:fe|ves)(?![A-Za-z])")
# `$18 a day` is money per day; "half an hour" and "3/4 of an hour" are times.
_A_DAY = re.compile(
    r"(?<!\bof )(?<!\bhalf )\ban?\s+(?=(?:second|minute|hour|day|week|month|year)(?![A-Za-z]))"
)
_TOKEN = re.compile(
    r"\s*(?:(\^\s*\{?\s*(-?\d)\s*\}?)|([A-Za-zµμΩÀ-ɏ]+)(?:\^?(-?\d))?|(/|·|\*|-|%)|(\S))"
)


def read_unit(tail: str) -> Unit | None:
    """The unit that stands behind a number, or None when the tail is algebra: `5 t` and `5t` are
    five times t, `5 cm` is a length.
    """
    return _read(tail, lax=False)


def read_short_unit(tail: str) -> Unit | None:
    """The same where single letters count: the other side says that they are units."""
    return _read(tail, lax=True)


@lru_cache(maxsize=4096)
def _read(tail: str, *, lax: bool) -> Unit | None:
    if len(tail) > 200:
        return None
    is_wrapped = tail.lstrip().startswith("\\text")
    plain = _FRACTION.sub(r" \1/\2 ", tail)
    plain = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", plain)
    plain = plain.replace("\\cdot", "·").replace("\\%", "%")
    plain = re.sub(r"[.,](?=\s|\Z)|[()]", " ", plain).strip()
    if "clockwise" in plain:
        plain = _COUNTERCLOCKWISE.sub("counterclockwise", plain)
    if "half" in plain:
        plain = _HALF_LIFE.sub("halflife", plain)
    if " of " in plain:
        plain = _BEARING.sub(r"\1of\2", plain)
    if "from now" in plain:
        plain = plain.replace("from now", "hence")
    plain = _A_DAY.sub("per ", plain)
    if plain == "times":
        return ()
    if not plain:
        if is_wrapped or not tail.strip():
            return ()
        return None
    if not is_wrapped and not lax and not looks_like_unit(plain):
        return None
    return powers_of(plain)


_FRACTION = re.compile(r"\\frac\s*\{([^{}]*(?:\{[^{}]*\})?)\s*\}\s*\{([^{}]*(?:\{[^{}]*\})?)\s*\}")


def looks_like_unit(plain: str) -> bool:
    """Without `\\text{}`: a known word, a compound of known symbols, or a long word set off by a
    space.
    """
    first = re.match(r"[A-Za-zµμΩÀ-ɏ]+", plain)
    if first is None:
        return False
    if re.fullmatch(r"[A-Za-z]{1,3}\s*/\s*[A-Za-z]{1,3}(?:\^?\{?\d\}?)?", plain):
        return all(_symbol(part) is not None for part in re.findall(r"[A-Za-z]+", plain))
    word = first[0]
    if len(word) == 1:
        return False
    if _symbol(word) is not None or word in _COUNTED or word == "per":
        return True
    if word.lower() in _SHAPES or word.lower() in _COMPOUNDS:
        return True
    return re.fullmatch(r"(?=.*[aeiouyäöü])[a-zà-ɏ]{4,}|[A-Z][a-z]{4,}", word) is not None


def powers_of(plain: str) -> Unit | None:
    """The words of a unit folded into powers; None at a sign that no unit has."""
    powers: dict[str, int] = {}
    sign = 1
    shape = 1
    last = ""
    is_noun = False
    for match in _TOKEN.finditer(plain):
        _, exponent, word, own_exponent, operator, stray = match.groups()
        if exponent:
            if last:
                powers[last] = powers[last] * int(exponent)
            elif is_noun:
                return None
            continue
        if stray:
            return None
        is_noun = word is not None and len(word) > 2
        if operator == "/":
            sign = -1
        if operator or word is None:
            continue
        low = word.lower()
        if low in _NO_UNITS:
            return None
        if low in ("per", "each", "every"):
            sign = -1
        elif low == "an" or word == "a":
            continue
        elif low in DIRECTIONS:
            powers[low] = 1
        elif low in _SHAPES:
            shape = _SHAPES[low]
        elif low in _POWER_WORDS:
            if not last:
                return None
            powers[last] *= _POWER_WORDS[low]
        else:
            last = _add(powers, word, sign * shape * int(own_exponent or 1))
            shape = 1
            if not last:
                sign = 1
    return tuple(sorted((symbol, power) for symbol, power in powers.items() if power))


# kpc, Mpc, AU: not known, but no words either
_LOOKS_SYMBOLIC = re.compile(r"(?=.*[A-Z])[A-Za-z]{1,4}|[b-df-hj-np-tv-xz]{1,3}")


def _add(powers: dict[str, int], word: str, power: int) -> str:
    """Count a word in; its symbol, empty when it is no unit."""
    compound = _PRODUCTS.get(word) or _COMPOUNDS.get(word.lower())
    if compound is not None:
        for symbol, times in compound:
            powers[symbol] = powers.get(symbol, 0) + times * power
        return ""
    symbol = prefixed_symbol(word)
    if symbol is None:
        symbol = _symbol(word)
        symbol = _MEGA.get(symbol or "", symbol)
    if symbol is None and _LOOKS_SYMBOLIC.fullmatch(word):
        symbol = word
    if symbol is None:
        return ""
    powers[symbol] = powers.get(symbol, 0) + power
    return symbol


def prefixed_symbol(word: str) -> str | None:
    """The symbol of a unit with a prefix, whose case counts: mW, MW, milliwatts. None of another
    word, and of one in careless case.
    """
    if word in _BITS:
        return _BITS[word]
    letter = _PREFIX_LETTERS.get(word[:1])
    base = _PREFIXED.get(word[1:])
    if letter is not None and base is not None and (word not in _SYMBOLS or letter == "m"):
        return letter + base
    if len(word) < 7:
        return None
    low = word.lower()
    for name, letter in _PREFIXES.items():
        if not low.startswith(name):
            continue
        base = _symbol(low.removeprefix(name))
        if base in _DATA:
            return letter.lower() + _DATA[base]
        if base is not None:
            return letter + base
    return None


def _symbol(word: str) -> str | None:
    if word in _CASED:
        return _CASED[word]
    low = word.lower()
    if len(word) == 1 and word != low:
        return None
    for name in (low, low.removesuffix("s"), low.removesuffix("es")):
        if name in _SYMBOLS and (name == low or name not in _SHORT):
            return _SYMBOLS[name]
    if word[0] in "µμ" and len(word) > 1:
        base = _symbol(word[1:])
        if base is not None:
            return "µ" + base
    return None


def leading_unit(text: str) -> str:
    """The unit words that a text begins with, as written: ` cm^2 of paper` → ` cm^2`."""
    leading = _LEADING.match(text)
    if leading is None:
        return ""
    end = 0
    for match in _UNIT_WORD.finditer(text, 0, leading.end()):
        if not _is_unit_word(match[1]):
            break
        end = match.end()
    return text[:end]


def _is_unit_word(word: str) -> bool:
    low = word.lower()
    if low == "per" or low in _SHAPES or low in _POWER_WORDS or low in _COMPOUNDS:
        return True
    return _symbol(word) is not None and word not in ("a", "A", "in")


_UNIT_WORD = re.compile(r"[\s/-]*([A-Za-zµ]+)(?:\s*\^\s*\{?\d\}?|[²³]|\d(?!\w))?")
_LEADING = re.compile(r"(?:[\s/-]?[\s/]?[A-Za-zµ]+(?:\s*\^\s*\{?\d\}?|[²³]|\d(?!\w))?){1,4}")
