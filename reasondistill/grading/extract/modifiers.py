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
from reasondistill.grading.extract.found import last_match
from reasondistill.grading.read.words import number_in_words

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


@dataclass(frozen=True, slots=True)
class _Core:
    """A number or a formula, and where it ends. An atom needs no brackets."""

    text: str
    end: int
    is_atom: bool


# ---- the words -----------------------------------------------------------------------------------

_NEUTRAL = re.compile(
    r"[\s*_`:：=>~\"'“”‘’,]*(?:(?:the|an?|this|that|just|only|simply|exactly|precisely|indeed|about|"
    r"approximately|approx\.?|roughly|around|nearly|almost|also|now|then|clearly|equal\s+to|"
    r"given\s+by|(?:the\s+)?(?:number|value|quantity|amount)(?:\s+of)?|a\s+total\s+of|is|are|be|"
    r"therefore|thus|so|hence|none\s+other\s+than|nothing\s+but|positive(?!\s+or\b)|plus(?!\s+or\s+minus))"
    r"\b[\s,:*_\"'“”]*)*",
    re.IGNORECASE,
)
DENIAL = (
    r"(?:is|are|was|were|do|does|did|ca|could|should|must|would|wo|will|may|might|need)n['’]?t\b|"
    r"(?:is|are|was|were|can|could|should|must|would|will|may|might|does|did)\s+"
    r"(?:\w+ly\s+)?(?:not|never)\b|cannot\b|can\s+never\b"
)
_DENIED = re.compile(
    rf"(?:{DENIAL}|not\b|never\b|no\s+longer\b|neither\b|anything\s+but\b|"
    r"(?:(?<!none\s)other|different|far)\s+(?:than|from)\b|"
    r"(?:\w+ly\s+)not\b|n['’]t\b|不是|并非|不等于|nicht\b|n['’]est\s+pas\b|no\s+es\b)",
    re.IGNORECASE,
)
_NOT_ALONE = re.compile(r"not\s+(?:only|just|merely|simply)\b", re.IGNORECASE)
_INSTEAD = re.compile(
    r"(?:[,;:—–-]\s*|\s)(?:(?:but|rather|instead|actually|it['’]?s|it\s+is|which\s+is|sondern|mais|"
    r"sino)\b[\s,]*)+(?:\w+\s+(?:answer|value|result)\s+(?:is|should\s+be)\s+)?|而是|, (?=\d|\$)",
    re.IGNORECASE,
)
_ORDER = {
    "half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100,
}  # fmt: skip
_TIMES = {
    "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip
_COUNT = "|".join(_TIMES)
_PART = "|".join(_ORDER)
# What stands before an answer, and what it makes of it.
_BEFORE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(?:{words})(?![\w'])\s*", re.IGNORECASE), made)
    for words, made in (
        (r"at\s+least|at\s+minimum|(?:no|not)\s+(?:less|fewer|smaller)\s+than|a\s+minimum\s+of|"
         r"not\s+(?:below|under)|mindestens|au\s+moins|al\s+menos|至少", r"\ge {}"),
        (r"at\s+most|up\s+to|at\s+maximum|(?:no|not)\s+(?:more|greater|larger|bigger)\s+than|"
         r"a\s+maximum\s+of|not\s+(?:above|over|exceeding)|höchstens|au\s+plus|a\s+lo\s+sumo|至多",
         r"\le {}"),
        (r"(?:strictly\s+)?(?:(?:more|greater|larger|bigger|higher)\s+than|above)|over|exceeding|"
         r"超过|大于", r"\gt {}"),
        (r"(?:strictly\s+)?(?:(?:less|fewer|smaller|lower)\s+than|below)|under|不到|小于",
         r"\lt {}"),
        (r"plus\s+or\s+minus|plus[-/]minus|positive\s+or\s+negative", r"\pm {}"),
        (r"(?:negative|opposite|additive\s+inverse)\s+of", "-{}"),
        (r"minus|negative|menos|moins|meno|负", "-{}"),
        (r"(?:twice|double(?:\s+of)?|two\s+times)(?!\s+as\b)", r"2\cdot {}"),
        (r"(?:thrice|triple(?:\s+of)?|three\s+times)(?!\s*\$?\()", r"3\cdot {}"),
        (r"(?:quadruple(?:\s+of)?|four\s+times)(?!\s*\$?\()", r"4\cdot {}"),
        (r"(?:one[\s-])?half(?:\s+of)?|(?:a\s+)?half\s+of", r"\frac{{{}}}{{2}}"),
        (r"(?:(?:principal|positive|square)\s+){1,2}root\s+of|sqrt\s+of", r"\sqrt{{{}}}"),
        (r"cube\s+root\s+of|third\s+root\s+of|cubic\s+root\s+of", r"\sqrt[3]{{{}}}"),
        (r"fourth\s+root\s+of", r"\sqrt[4]{{{}}}"),
        (r"square\s+of", "{}^2"),
        (r"cube\s+of", "{}^3"),
        (r"(?:reciprocal|multiplicative\s+inverse)\s+of|one\s+over", r"\frac{{1}}{{{}}}"),
        (r"absolute\s+value\s+of", "|{}|"),
        (r"factorial\s+of", "{}!"),
        (r"natural\s+log(?:arithm)?\s+of", r"\ln({})"),
    )
)  # fmt: skip
_BOUNDS = (r"\ge {}", r"\le {}", r"\gt {}", r"\lt {}")
_PART_OF = re.compile(rf"(?:({_COUNT})[\s-])?({_PART})s?\s+of\s+", re.IGNORECASE)
_PERCENT_OF = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\\?%|percent|per\s+cent)\s+of\s+", re.IGNORECASE)
_TIMES_OF = re.compile(
    r"(five|six|seven|eight|nine|ten|\d+)\s+times\s+(?=[\\$\d(*])", re.IGNORECASE
)
# What stands before an answer and cannot be written out.
_UNREAD_BEFORE = re.compile(
    r"(?:between|from(?=\s+\S+\s+to\b)|not\s+only|(?:(?:positive|proper|integer|prime|common)\s+)*"
    r"(?:multiple|divisor|factor|power|root|function|fraction|part|percentage|share|logarithm|log|"
    r"sine|cosine|tangent|inverse|complement|remainder|range|order)s?\s+of|"
    r"(?:product|difference|quotient|sum|average|mean|ratio|gcd|lcm)\s+(?:of|between)"
    r"(?=(?:[^.;:=]|\.(?=\d)){1,60}?\band\b)|congruent\s+to|divisible\s+by|coprime\s+to|"
    r"(?:one|two|three|four|five|six|ten|half|\d+)\s+(?:more|less|fewer)\s+than|closer?\s+to|"
    r"介于)(?![\w'])\s*",
    re.IGNORECASE,
)
_NO_UNIT = r"(?!\s+[a-z]*(?:units?|met|feet|foot|inch|mile|yard|cm|km|mm|m\b|ft|in\b))"
_AFTER: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"\s*(?:{words})(?![\w'])", re.IGNORECASE), made)
    for words, made in (
        (r"factorial", "{}!"),
        (r"(?<=\$)\s*dozen", r"12\cdot {}"),
        (r"(?<=\$)\s*hundred", r"100\cdot {}"),
        (r"(?<=\$)\s*thousand", r"1000\cdot {}"),
        (r"(?<=\$)\s*million", r"10^6\cdot {}"),
        (r"(?<=\$)\s*billion", r"10^9\cdot {}"),
        (rf"squared{_NO_UNIT}", "{}^2"),
        (rf"cubed{_NO_UNIT}", "{}^3"),
        (r"(?:[a-z]+\s+)?(?:or|and)\s+(?:more|greater|higher|larger|above|over|up|bigger|beyond)|"
         r"(?:(?!is|are|be)[a-z]+\s+)?at\s+(?:the\s+)?(?:least|minimum)", r"\ge {}"),
        (r"(?:(?!more)[a-z]+\s+)?(?:or|and)\s+(?:less|fewer|lower|smaller|below|under)|"
         r"(?:(?!is|are|be)[a-z]+\s+)?at\s+(?:the\s+)?(?:very\s+)?(?:most|maximum)", r"\le {}"),
    )
)  # fmt: skip
_SIGNS = {
    "plus": "{} + {}", "minus": "{} - {}", "times": r"{} \cdot {}",
    "multiplied by": r"{} \cdot {}", "divided by": r"\frac{{{}}}{{{}}}",
    "over": r"\frac{{{}}}{{{}}}", "plus or minus": r"{} \pm {}", "to the power": "{}^{{{}}}",
    "to the power of": "{}^{{{}}}", "raised to the power": "{}^{{{}}}",
    "raised to the power of": "{}^{{{}}}", "raised to": "{}^{{{}}}",
    "percent of": r"\frac{{{}}}{{100}} \cdot {}", "% of": r"\frac{{{}}}{{100}} \cdot {}",
}  # fmt: skip
_SIGN = re.compile(
    r"\s*("
    + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in sorted(_SIGNS, reverse=True))
    + r")(?![\w'])\s*",
    re.IGNORECASE,
)
_AND_A_PART = re.compile(
    rf"\s+and\s+(?:(?:an?\s+|one[\s-])?({_PART})\b|({_COUNT})[\s-]({_PART})s\b)"
    r"(?!\s+of\b)",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"[\s*_$)\]}.,]{0,6}(?:(?!which|that|who)\w+\s+)?(?:is|are|was|would\s+be|must\s+be|seems)\s+"
    r"(?:(?:clearly|also|therefore|thus|just|simply|actually|obviously|definitely|still|an?|the)\s+)*"
    r"(?:wrong|incorrect|false|invalid|impossible|too\s+(?:large|big|small|high|low|much|many)|"
    r"ruled\s+out|excluded|rejected|extraneous|discarded|out|inadmissible|not\b|never\b|no\s+longer)|"
    rf"[\s*_$)\]}}.,]{{0,6}}(?:{DENIAL})(?!\s+(?:(?:\w+\s+)?(?:hard|difficult)|it|that|they)\b)|"
    r",?\s+(?:which|but\s+(?:that|this|it))\s+(?:is|was|would\s+be|cannot\s+be|can['’]t\s+be|must\s+be)\s+"
    r"(?:wrong|incorrect|impossible|too\s+\w+|right|correct|not\s+(?:right|correct|possible|valid))\b(?<!is\sright)(?<!is\scorrect)|"
    r"[\s*_$)\]}.,]{0,6}(?:fails|doesn['’]t\s+work)|[\s*_$]{0,4}(?:是错|不对|不正确|错误)",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.!\n]{0,80}?\s(?:or|oder|ou)\s[^.!\n]{1,80}\?")
_CASES = re.compile(
    r"[^.\n]{0,60}?\b(?:if|when|for|unless|provided)\b[^.\n]{1,100}?"
    r"(?:\b(?:and|or|but|while|whereas|else)\b|[,;])\s+(?:it\s+is\s+)?\$?[-\d\\][^.\n]{0,60}?"
    r"\b(?:if|when|for|otherwise|unless|else)\b|"
    r"[^.\n]{0,60}?\bif\b[^.\n]{1,60}?\b(?:otherwise|else)\b[^.\n]{0,20}?\d|"
    r"[^.\n]{0,60}?\bif\s+\$?[a-z]\$?\s+(?:is|are)\b|[^.\n]{0,60}?\bunless\b|"
    r"[^.\n]{0,40}?\bfor\s+(?:all\s+)?(?:even|odd)\b",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"\s*(?:[+*/^=×·⋅÷<>≤≥≈(]|[-−–]\s*[\d$\\])")
_ANY = re.compile(
    r"\b(?:minus|negative|menos|moins|meno|twice|double|triple|thrice|quadruple|half|root|square|"
    r"squared|cube|cubed|reciprocal|inverse|opposite|absolute|factorial|log\w*|least|most|up|more|"
    r"less|fewer|greater|larger|bigger|smaller|higher|lower|above|over|below|under|exceeding|"
    r"minimum|maximum|between|from|multiple|divisor|factor|power|function|product|difference|"
    r"quotient|sum|average|mean|ratio|remainder|plus|times|multiplied|divided|raised|percent|"
    r"positive|not|never|cannot|can|neither|nicht|no|anything|other|different|far|only|if|unless|when|"
    r"otherwise|else|for|even|odd|provided|dozen|hundred|thousand|million|billion|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|wrong|"
    r"incorrect|false|impossible|or|one|congruent|divisible|coprime|close|closer|mindestens|"
    r"höchstens|moins|plus|is|are|was|fails|fraction|part|percentage|share|sine|cosine|tangent|"
    r"complement|range|order)\b|n['’]t\b|%|[不并至负超大小介而是错]|\\pm",
    re.IGNORECASE,
)


# ---- reading -------------------------------------------------------------------------------------


def read(text: str) -> Reading | None:
    """What the words at the start of a text, and those behind its answer, make of the answer; None
    when they leave it as it is.
    """
    whole = prose.formula_at(text)
    if whole is not None and whole.end() == len(text.rstrip()):
        text = prose.inner(whole)
    text = without_wrappers(text[:_WINDOW])
    if _ANY.search(text) is None:
        return None
    reading = _read(text, 0)
    if reading is not None and reading.kind == "value" and reading.end >= _WINDOW - 5:
        return Reading("unread", text, len(text))
    return reading


def without_wrappers(content: str) -> str:
    """The words in `\\text{}` as plain words; a subscript stays as it is."""
    if len(content) > 300 or "\\" not in content:
        return content
    return _SPACES.sub(" ", _WRAPPED.sub(r" \1 ", content)).strip()


_WRAPPED = re.compile(r"(?<![_^{])\\(?:text|mbox|textbf|textit|textrm|mathrm)\s*\{([^{}]*)\}")
_SPACES = re.compile(r"\\[ ,;:!]|~|\\q?quad\b|\s+")


def read_last(sentence: str, told: str) -> Reading | None:
    """What the words around the last number of a sentence make of it, where that is what the
    sentence tells; None when they leave it as it is. Bounds are left: `you need at least 5` does
    not say that the answer is a bound.
    """
    sentence = sentence[-_WINDOW:]
    if _ANY.search(sentence) is None:
        return None
    last = last_told(sentence)
    if last is None or last[0].strip(" $\\()[]") not in told:
        return None
    for word in re.finditer(r"(?<![\w'’$\\{-])[^\W\d]", sentence[: last.start()]):
        if word.start() < last.start() - 80 or _STOP.search(sentence, word.start(), last.start()):
            continue
        reading = _behind_words(sentence, word.start(), 0)
        if reading is not None and reading.end >= last.end():
            return without_bound(reading)
    reading = _behind_core(sentence, last.start())
    if reading is None:
        return None
    return without_bound(reading)


def last_told(sentence: str) -> re.Match[str] | None:
    """The last number or formula of a sentence."""
    number = last_match(_NUMBER.finditer(sentence))
    formula = last_match(prose.formulas(sentence))
    if formula is not None and (number is None or formula.end() >= number.end()):
        return formula
    return number


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
    return _CHANGES_NEXT.search(text[-60:]) is not None


_CHANGES_NEXT = re.compile(
    r"\b(?:minus|negative|twice|double|triple|thrice|quadruple|half(?:\s+of)?|(?:third|quarter|root|"
    r"reciprocal|inverse|square|cube|factorial|opposite|percent|multiple|divisor)\s+of)"
    r"[\s*$({\\\[]*\Z",
    re.IGNORECASE,
)


def denies(text: str) -> bool:
    """Whether a text goes on to say that what stood before it is wrong."""
    return _WRONG.match(text[:80]) is not None


def denies_next(text: str) -> bool:
    """Whether a text ends in words that say no to what follows it."""
    return _DENIES_NEXT.search(text[-60:]) is not None


_DENIES_NEXT = re.compile(
    rf"(?:{DENIAL}|(?<!if )\bnot|\bnever|\bneither|\bnor|anything\s+but|rule\s+out|reject|exclude|"
    r"eliminate|instead\s+of|rather\s+than|不是)"
    r"(?:\s+(?:be|equal|equal\s+to|possibly|the|choose|pick|select|option|choice|answer)){0,3}"
    r"[\s*$({\\\[]*\Z",
    re.IGNORECASE,
)


def _read(text: str, at: int) -> Reading | None:
    """The words before an answer, or else those behind it."""
    start = _skip(text, at)
    before = _behind_words(text, start, 0)
    if before is not None:
        return before
    return _behind_core(text, start)


def _skip(text: str, at: int) -> int:
    """Behind the words that change nothing."""
    neutral = _NEUTRAL.match(text, at)
    if neutral is None:
        return at
    return neutral.end()


def _behind_words(text: str, at: int, depth: int) -> Reading | None:
    """What words that stand here make of the answer behind them; None where there are none."""
    if depth > _DEEPEST:
        return Reading("unread", text, len(text))
    for words, made in _BEFORE:
        match = words.match(text, at)
        if match is not None:
            return _made(text, match.end(), made, depth)
    part = _PART_OF.match(text, at)
    if part is not None:
        over = _TIMES[(part[1] or "a").lower()]
        made = rf"\frac{{{over}}}{{{_ORDER[part[2].lower()]}}}\cdot {{}}"
        return _made(text, part.end(), _escaped(made), depth)
    percent = _PERCENT_OF.match(text, at)
    if percent is not None:
        made = rf"\frac{{{percent[1]}}}{{100}}\cdot {{}}"
        return _made(text, percent.end(), _escaped(made), depth)
    times = _TIMES_OF.match(text, at)
    if times is not None:
        factor = _TIMES.get(times[1].lower(), times[1])
        return _made(text, times.end(), rf"{factor}\cdot {{}}", depth)
    unread = _UNREAD_BEFORE.match(text, at)
    if unread is not None:
        start = _skip(text, unread.end())
        if _RESTATED.search(text, start):
            return None
        if _core(text, start) is not None or _behind_words(text, start, depth + 1) is not None:
            return Reading("unread", text, len(text))
        return None
    return _denied(text, at)


_RESTATED = re.compile(
    r",\s*or\s+[-$\\\d]|=|\b(?:which|that)\s+(?:is|equals|gives)\b|\bnamely\b|\bi\.e\.|\bequals\b"
)


def _escaped(made: str) -> str:
    """A template whose only field is its last `{}`."""
    return made[:-2].replace("{", "{{").replace("}", "}}") + "{}"


def _made(text: str, at: int, made: str, depth: int) -> Reading | None:
    """The answer that stands here, put into a template."""
    is_bound = made in _BOUNDS
    start = _skip(text, at)
    inner = _behind_words(text, start, depth + 1)
    if inner is not None:
        if inner.kind != "value":
            return Reading("unread", text, len(text))
        core = _Core(inner.text, inner.end, is_atom=False)
    else:
        plain = _core(text, start)
        if plain is None:
            return _stray(text, at)
        core = plain
        suffixed = _behind_core(text, start)
        if suffixed is not None:
            if suffixed.kind != "value" or not is_bound:
                return Reading("unread", text, len(text))
            core = _Core(suffixed.text, suffixed.end, is_atom=False)
        elif _OPERATOR.match(text, core.end) is not None:
            return _stray(text, at)
    return Reading("value", _filled(made, core), core.end)


def _filled(made: str, core: _Core) -> str:
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
    if _NOT_ALONE.match(text, at):
        return Reading("unread", text, len(text))
    denial = _DENIED.match(text, at)
    if denial is None:
        return None
    start = denial.end()
    linking = _LINKING.match(text, start)
    if linking is not None:
        start = linking.end()
    core = _core(text, _skip(text, start))
    if core is None:
        return None
    instead = _INSTEAD.search(text, core.end, core.end + 100)
    if instead is not None and prose.SENTENCE_END.search(text, core.end, instead.start()) is None:
        start = _skip(text, instead.end())
        changed = _behind_words(text, start, 1) or _behind_core(text, start)
        if changed is not None:
            return changed
        other = _core(text, start)
        if other is not None:
            return Reading("value", other.text, other.end)
    return Reading("denied", core.text, core.end)


_LINKING = re.compile(
    r"\s*(?:(?:be|equal|possibly|really|actually|simply|to|have\s+been|certainly)\b\s*)+",
    re.IGNORECASE,
)


def _behind_core(text: str, at: int) -> Reading | None:
    """What the words behind the answer that stands here make of it; None where there are none."""
    core = _core(text, at)
    if core is None:
        return None
    if _WRONG.match(text, core.end):
        return Reading("denied", core.text, core.end)
    if _QUESTION.match(text, core.end) or _CASES.match(text, core.end):
        return Reading("unread", text, len(text))
    part = _AND_A_PART.match(text, core.end)
    if part is not None:
        return _with_part(core, part)
    for words, made in _AFTER:
        after = words.match(text, core.end)
        if after is None:
            continue
        if made in _BOUNDS and re.search(r"[\d$\\]", text[after.end() :]):
            return None
        is_scale = made.endswith(r"\cdot {}")
        if made not in _BOUNDS and not is_scale and not core.is_atom:
            return Reading("unread", text, len(text))
        if made not in _BOUNDS and _AGAIN.match(text, after.end()):
            return Reading("unread", text, len(text))
        return Reading("value", _filled(made, core), after.end())
    return _with_sign(text, core)


_AGAIN = re.compile(
    r"\s*(?:factorial|squared|cubed|plus|minus|times|divided|over|and\s+a|[-+*/^])", re.IGNORECASE
)


def _with_part(core: _Core, part: re.Match[str]) -> Reading:
    """`42 and a half`."""
    if part[1]:
        added = rf"\frac{{1}}{{{_ORDER[part[1].lower()]}}}"
    else:
        added = rf"\frac{{{_TIMES[part[2].lower()]}}}{{{_ORDER[part[3].lower()]}}}"
    sign = "+"
    if core.text.startswith(("-", "−")):
        sign = "-"
    return Reading("value", f"{core.text}{sign}{added}", part.end())


def _with_sign(text: str, core: _Core) -> Reading | None:
    """`42 plus 1`, where it is sure; `3 times` is a number of times."""
    sign = _SIGN.match(text, core.end)
    if sign is None:
        return None
    word = " ".join(sign[1].lower().split())
    other = _core(text, _skip(text, sign.end()))
    if other is None:
        if word in ("plus", "minus", "plus or minus") and re.search(r"\d", text[sign.end() :]):
            return Reading("unread", text, len(text))
        return None
    if re.match(r"[*_\s\w]*?(?:=|\bis\b|\bequals\b|\bwhich\b|,\s*(?:or|so)\b)", text[other.end :]):
        return None
    is_last = _SIGN.match(text, other.end) is None and _OPERATOR.match(text, other.end) is None
    if not is_last or not core.is_atom or not other.is_atom or _AGAIN.match(text, other.end):
        return Reading("unread", text, len(text))
    return Reading("value", _SIGNS[word].format(core.text, other.text), other.end)


# ---- the answer by itself ------------------------------------------------------------------------

_NUMBER = re.compile(
    r"[-−+]?\s?(?:\\?[$€£]\s?)?[-−]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+\b)?"
    r"(?:\s\d+/\d+(?!\w)|/\d+(?!\w))?(?:\s?\\?%)?(?:\s(?:million|billion|thousand|hundred)\b)?"
)
_NUMBER_WORD = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    r"fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    r"ninety|hundred|thousand|million)"
)
_NUMBER_WORDS = re.compile(
    rf"{_NUMBER_WORD}(?:[\s-]+{_NUMBER_WORD}){{0,6}}\b(?!\s+(?:of|more|less|or)\b)", re.IGNORECASE
)
_SYMBOL = re.compile(
    r"(?:\\?(?:pi|infty)\b|[π∞]|√\d+|[B-HJ-Zb-hj-z](?![\w'’])|[AI](?=\s*[.,;)*]|\s*\Z))"
)
_LATEX = re.compile(
    r"(?:\\[A-Za-z]+|[{}()\[\]^_+*/|!\d.−-]|\s(?=[\\\d{^_(+*/-])|"
    r"(?<![A-Za-z])[A-Za-z](?![A-Za-z'’]))+"
)
_ATOM = re.compile(
    r"-?(?:\d[\d,]*(?:\.\d+)?|[A-Za-z]|\\[A-Za-z]+|\\[dt]?frac\s*(?:\d|\{[^{}]*\})\s*(?:\d|\{[^{}]*\})|"
    r"\\sqrt\s*(?:\d|\{[^{}]*\})|\\left\([^()]*\\right\)|\([^()]*\))"
)


def _core(text: str, at: int) -> _Core | None:
    """The number, symbol or formula that stands here."""
    label = re.compile(r"[\s*_`\"“]*(?:(?:option|choice)\s+)?").match(text, at)
    if label is not None:
        at = label.end()
    formula = prose.formula_at(text[at:])
    if formula is not None:
        inside = prose.inner(formula)
        return _Core(inside, _behind_bold(text, at + formula.end()), _is_atom(inside))
    number = _NUMBER.match(text, at)
    if number is not None:
        end = number.end()
        glued = re.compile(r"\\?[a-zA-Z]?(?:[\^_(\\]|\s*\\(?!\s|text|mathrm|%))").match(text, end)
        if glued is None and re.compile(r"[A-Za-z](?![\w'])").match(text, end) is None:
            written = re.sub(r"[\s+]*(?:\\?[$€£]\s?)", "", number[0]).strip().removeprefix("+")
            return _Core(written, _behind_bold(text, end), is_atom="/" not in written)
    latex = _LATEX.match(text, at)
    if latex is not None and re.search(r"[\\\d]", latex[0]):
        written = latex[0].strip().rstrip(".")
        return _Core(written, at + len(latex[0].rstrip()), _is_atom(written))
    symbol = _SYMBOL.match(text, at)
    if symbol is not None:
        return _Core(symbol[0], _behind_bold(text, symbol.end()), is_atom=True)
    words = _NUMBER_WORDS.match(text, at)
    if words is not None:
        value = number_in_words(words[0].lower().replace("-", " "))
        if value is not None:
            return _Core(str(value), _behind_bold(text, words.end()), is_atom=True)
    return None


def _is_atom(formula: str) -> bool:
    return _ATOM.fullmatch(formula) is not None


def _behind_bold(text: str, at: int) -> int:
    """Behind the marks that end bold, and the `)` or quotes that end the answer."""
    while at < len(text) and text[at] in '*_`"”':
        at += 1
    return at
