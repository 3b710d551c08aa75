"""Words around an answer that change it: `twice 42`, `not 42`, `42 factorial`, `at least 42`.

    read("half of 10 apples")         → value   \\\\frac{10}{2}
    read("at least 42")               → value   \\\\ge 42
    read("isn't 42")                  → denied
    read("a multiple of 7")           → unread
    read("about 42")                  → None: nothing is changed

What the words make of the answer is written out where it is sure, else the answer is unread: never
the bare number. Linear in the text, of which only a sentence is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from reasondistill.grading.extract import prose
from reasondistill.grading.extract.changing_words import (
    AFTER,
    AND_A_PART,
    ANY,
    BEFORE,
    BOUNDS,
    CASES,
    DENIAL,
    DENIED,
    INSTEAD,
    NOT_ALONE,
    OPERATOR,
    ORDER,
    PART_OF,
    PERCENT_OF,
    QUESTION,
    SIGN,
    SIGNS,
    TIMES,
    TIMES_OF,
    UNREAD_BEFORE,
    WRONG,
)
from reasondistill.grading.extract.core import (
    Core,
    core_at,
    last_told,
    skip_neutral,
    without_wrappers,
)
from reasondistill.grading.extract.found import holds_any

_WINDOW = 300
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says of its answer: a `value` in LaTeX, `denied` (with the value that it is not),
    or `unread` words. `end` is where that ends in the text.
    """

    kind: Literal["value", "denied", "unread"]
    text: str
    end: int


def read(text: str) -> Reading | None:
    """What the words at the start of a text, and those behind its answer, make of the answer; None
    when they leave it as it is.
    """
    whole = prose.formula_at(text)
    if whole is not None and whole.end() == len(text.rstrip()):
        text = prose.inner(whole)
    text = without_wrappers(text[:_WINDOW])
    if ANY.search(text) is None:
        return None
    reading = _read(text, 0)
    if reading is not None and reading.kind == "value" and reading.end >= _WINDOW - 5:
        return Reading("unread", text, len(text))
    return reading


def read_last(sentence: str, told: str) -> Reading | None:
    """What the words around the last number of a sentence make of it, where that is what the
    sentence tells; None when they leave it as it is. Bounds are left: `you need at least 5` does
    not say that the answer is a bound.
    """
    sentence = sentence[-_WINDOW:]
    if ANY.search(sentence) is None:
        return None
    last = last_told(sentence)
    if last is None or last[0].strip(" $\\()[]") not in told:
        return None
    for word in re.finditer(r"(?<![\w'’$\\{-])[^\W\d]", sentence[: last.start()]):
        if word.start() < last.start() - 80 or _STOP.search(sentence, word.start(), last.start()):
            continue
        reading = _behind_words(sentence, word.start(), 0)
        if reading is None or reading.end < last.end():
            continue
        if changes_next(sentence[: word.start()]):
            return Reading("unread", sentence, len(sentence))
        return without_bound(reading)
    if denies_next(sentence[: last.start()]):
        return Reading("denied", last[0].strip(" $"), last.end())
    reading = _behind_core(sentence, last.start())
    if reading is None:
        return None
    return without_bound(reading)


def without_bound(reading: Reading) -> Reading | None:
    """The reading, unless it is a bound."""
    if reading.kind == "value" and reading.text.startswith((r"\ge", r"\le", r"\gt", r"\lt")):
        return None
    return reading


def read_whole(text: str) -> Reading | None:
    """What the words of a text make of its answer, if it holds no more than both."""
    if "\n" in text.strip():
        return None
    reading = read(text)
    if reading is None or reading.kind != "value":
        return reading
    if re.search(r"[\d=]", without_wrappers(text.strip("$ "))[reading.end :]):
        return None
    return reading


def changes_next(text: str) -> bool:
    """Whether a text ends in words that make another value of what follows it."""
    end = text[-60:]
    return may_change_next(end) and _CHANGES_NEXT.search(end) is not None


def may_change_next(text: str) -> bool:
    """Whether there is a part of such a word in a text: a quick look before the search."""
    return holds_any(text.lower(), _CHANGING)


_CHANGING = (
    "minus", "negative", "twice", "double", "triple", "thrice", "quadruple", "half", "third",
    "quarter", "root", "reciprocal", "inverse", "square", "cube", "factorial", "opposite",
    "percent", "multiple", "divisor",
)  # fmt: skip
_CHANGES_NEXT = re.compile(
    r"\b(?:minus|negative|twice|double|triple|thrice|quadruple|half(?:\s+of)?|(?:third|quarter|"
    r"root|"
    r"reciprocal|inverse|square|cube|factorial|opposite|percent|multiple|divisor)\s+of)"
    r"(?:\s+(?:the|an?))?[\s*$({\\\[]*\Z",
    re.IGNORECASE,
)


def denies(text: str) -> bool:
    """Whether a text goes on to say that what stood before it is wrong."""
    return WRONG.match(text[:80]) is not None


def denies_next(text: str) -> bool:
    """Whether a text ends in words that say no to what follows it."""
    end = text[-60:]
    return may_deny_next(end) and _DENIES_NEXT.search(end) is not None


def may_deny_next(text: str) -> bool:
    """Whether there is a part of such a word in a text: a quick look before the search."""
    return holds_any(text.lower(), _DENYING)


_DENYING = (
    "not", "n't", "n’t", "never", "neither", "nor", "anything", "rule", "reject", "exclude",
    "eliminate", "instead", "rather", "不是", "并非", "不等于", "nicht",
    "est pas", "no es", "earlier", "previously", "initially", "originally",
)  # fmt: skip
_DENIES_NEXT = re.compile(
    rf"(?:{DENIAL}|(?<!if )\bnot|\bnever|\bneither|\bnor|anything\s+but|rule\s+out|reject|exclude|"
    r"eliminate|instead\s+of|rather\s+than|不是|并非|不等于|"
    r"\bnicht|n['’]est\s+pas|\bno\s+es|"
    r"\b(?:(?:earlier|previously|initially|originally)\s+(?:I|we)|"
    r"(?:I|we)\s+(?:earlier|previously|initially|originally))\s+(?:had(?:\s+\w+)?|wrote|said|got|"
    r"guessed|thought|claimed|believed|boxed|put))"
    r"(?:\s+(?:be|equal|equal\s+to|possibly|the|choose|pick|select|option|choice|answer)){0,3}"
    r"[\s*$({\\\[]*\Z",
    re.IGNORECASE,
)


def _read(text: str, at: int) -> Reading | None:
    """The words before an answer, or else those behind it."""
    start = skip_neutral(text, at)
    before = _behind_words(text, start, 0)
    if before is not None:
        return before
    return _behind_core(text, start)


def _behind_words(text: str, at: int, depth: int) -> Reading | None:
    """What words that stand here make of the answer behind them; None where there are none."""
    if depth > _DEEPEST:
        return Reading("unread", text, len(text))
    for words, made in BEFORE:
        match = words.match(text, at)
        if match is not None:
            return _made(text, match.end(), made, depth)
    part = PART_OF.match(text, at)
    if part is not None:
        over = TIMES[(part[1] or "a").lower()]
        made = rf"\frac{{{over}}}{{{ORDER[part[2].lower()]}}}\cdot {{}}"
        return _made(text, part.end(), _escaped(made), depth)
    percent = PERCENT_OF.match(text, at)
    if percent is not None:
        made = rf"\frac{{{percent[1]}}}{{100}}\cdot {{}}"
        return _made(text, percent.end(), _escaped(made), depth)
    times = TIMES_OF.match(text, at)
    if times is not None:
        factor = TIMES.get(times[1].lower(), times[1])
        return _made(text, times.end(), rf"{factor}\cdot {{}}", depth)
    unread = UNREAD_BEFORE.match(text, at)
    if unread is not None:
        start = skip_neutral(text, unread.end())
        if _RESTATED.search(text, start):
            return None
        core = core_at(text, start)
        if core is not None and _IS_VALUE.match(text, core.end):
            return None
        if core is not None or _behind_words(text, start, depth + 1) is not None:
            return Reading("unread", text, len(text))
        return None
    return _denied(text, at)


_RESTATED = re.compile(
    r",\s*or\s+[-$\\\d]|=|\b(?:which|that)\s+(?:is|equals|gives)\b|\bnamely\b|\bi\.e\.|\bequals\b"
)


# `The range of $f$ is $[0, 1]$.`
_IS_VALUE = re.compile(
    r"\s*(?:is|are|equals|becomes)\s+(?:(?:just|exactly|therefore)\s+)?[-$\\\d(]"
)


def _escaped(made: str) -> str:
    """A template whose only field is its last `{}`."""
    return made[:-2].replace("{", "{{").replace("}", "}}") + "{}"


def _made(text: str, at: int, made: str, depth: int) -> Reading | None:
    """The answer that stands here, put into a template."""
    is_bound = made in BOUNDS
    start = skip_neutral(text, at)
    inner = _behind_words(text, start, depth + 1)
    if inner is not None:
        if inner.kind != "value":
            return Reading("unread", text, len(text))
        core = Core(inner.text, inner.end, is_atom=False)
    else:
        plain = core_at(text, start)
        if plain is None:
            return _stray(text, at)
        core = plain
        suffixed = _behind_core(text, start)
        if suffixed is not None:
            if suffixed.kind != "value" or not is_bound:
                return Reading("unread", text, len(text))
            core = Core(suffixed.text, suffixed.end, is_atom=False)
        elif OPERATOR.match(text, core.end) is not None:
            return _stray(text, at)
    return Reading("value", _filled(made, core), core.end)


def _filled(made: str, core: Core) -> str:
    """The template with its answer, in brackets where it needs them."""
    is_tight = made.startswith(("-", r"\pm", "{}^", "{}!")) or made.endswith(r"\cdot {}")
    is_plain = core.is_atom and not core.text.startswith(("-", "−"))
    if is_tight and not is_plain:
        return made.format(f"({core.text})")
    return made.format(core.text)


def _stray(text: str, at: int) -> Reading | None:
    """Words that change an answer, and no answer behind them that they surely change. Where "is", a
    comma or a sign of equality comes first, what follows is the answer by itself.
    """
    rest = text[at:]
    stop = _STOP.search(rest)
    telling = re.search(r"\d", rest)
    if telling is None or (stop is not None and stop.start() < telling.start()):
        return None
    if re.search(r"[=≈]|\bis\b|\bequals\b", rest) is not None:
        return None
    return Reading("unread", text, len(text))


_STOP = re.compile(r"[,:;=≈(]|\b(?:is|are|equals?|which|namely|gives?|becomes)\b", re.IGNORECASE)


def _denied(text: str, at: int) -> Reading | None:
    """`not 42` says no to 42; `not 42 but 43` says 43."""
    if NOT_ALONE.match(text, at):
        return Reading("unread", text, len(text))
    denial = DENIED.match(text, at)
    if denial is None:
        return None
    start = denial.end()
    linking = _LINKING.match(text, start)
    if linking is not None:
        start = linking.end()
    core = core_at(text, skip_neutral(text, start))
    if core is None:
        return None
    instead = INSTEAD.search(text, core.end, core.end + 100)
    if instead is not None and prose.SENTENCE_END.search(text, core.end, instead.start()) is None:
        start = skip_neutral(text, instead.end())
        changed = _behind_words(text, start, 1) or _behind_core(text, start)
        if changed is not None:
            return changed
        other = core_at(text, start)
        if other is not None:
            return Reading("value", other.text, other.end)
    return Reading("denied", core.text, core.end)


_LINKING = re.compile(
    r"\s*(?:(?:be|equal|possibly|really|actually|simply|to|have\s+been|certainly)\b\s*)+",
    re.IGNORECASE,
)


def _behind_core(text: str, at: int) -> Reading | None:
    """What the words behind the answer that stands here make of it; None where there are none."""
    core = core_at(text, at)
    if core is None:
        return None
    if WRONG.match(text, core.end):
        return Reading("denied", core.text, core.end)
    if QUESTION.match(text, core.end) or CASES.match(text, core.end):
        return Reading("unread", text, len(text))
    part = AND_A_PART.match(text, core.end)
    if part is not None:
        return _with_part(core, part)
    for words, made in AFTER:
        after = words.match(text, core.end)
        if after is None:
            continue
        if made in BOUNDS and re.search(r"[\d$\\]", text[after.end() :]):
            return None
        is_scale = made.endswith(r"\cdot {}")
        if made not in BOUNDS and not is_scale and not core.is_atom:
            return Reading("unread", text, len(text))
        if made not in BOUNDS and _AGAIN.match(text, after.end()):
            return Reading("unread", text, len(text))
        return Reading("value", _filled(made, core), after.end())
    return _with_sign(text, core)


_AGAIN = re.compile(
    r"\s*(?:factorial|squared|cubed|plus|minus|times|divided|over|and\s+a|[-+*/^])", re.IGNORECASE
)


def _with_part(core: Core, part: re.Match[str]) -> Reading:
    """`42 and a half`."""
    if part[1]:
        added = rf"\frac{{1}}{{{ORDER[part[1].lower()]}}}"
    else:
        added = rf"\frac{{{TIMES[part[2].lower()]}}}{{{ORDER[part[3].lower()]}}}"
    sign = "+"
    if core.text.startswith(("-", "−")):
        sign = "-"
    return Reading("value", f"{core.text}{sign}{added}", part.end())


def _with_sign(text: str, core: Core) -> Reading | None:
    """`42 plus 1`, where it is sure; `3 times` is a number of times."""
    sign = SIGN.match(text, core.end)
    if sign is None:
        return None
    word = " ".join(sign[1].lower().split())
    other = core_at(text, skip_neutral(text, sign.end()))
    if other is None:
        if word in ("plus", "minus", "plus or minus") and re.search(r"\d", text[sign.end() :]):
            return Reading("unread", text, len(text))
        return None
    if re.match(r"[*_\s\w]*?(?:=|\bis\b|\bequals\b|\bwhich\b|,\s*(?:or|so)\b)", text[other.end :]):
        return None
    is_last = SIGN.match(text, other.end) is None and OPERATOR.match(text, other.end) is None
    if not is_last or not core.is_atom or not other.is_atom or _AGAIN.match(text, other.end):
        return Reading("unread", text, len(text))
    return Reading("value", SIGNS[word].format(core.text, other.text), other.end)
