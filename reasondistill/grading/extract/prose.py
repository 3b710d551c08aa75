"""Read the answer that a sentence states: `… so the area is 9π cm^2 (about 28).` → `9π cm^2`.
Linear in the text that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reasondistill.grading.read.quantity import SCALE_WORDS
from reasondistill.grading.read.units import leading_unit

_MATH = re.compile(
    r"(?<!\\)\$\$([^$]{1,2000})\$\$|"
    r"(?<!\\)\$((?:[^$\\]|\\.){1,2000})\$(?!\d)|"
    r"\\{1,2}\[(?!\d*\.?\d*(?:pt|em|ex|mm|cm)\])((?:[^\\]|\\(?![\[\]])){1,2000})\\{1,2}\]|"
    r"\\{1,2}\(((?:[^\\]|\\(?![()])){1,2000})\\{1,2}\)"
)
_PLAIN_WORD = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")
SEPARATORS = {
    ",", ";", "and", ", and", "or", ", or", "or,",
    "und", "oder", "et", "ou", "y", "o", "和", "或", "、",
}  # fmt: skip

# ---- formulas ------------------------------------------------------------------------------------


def formulas(text: str) -> Iterator[re.Match[str]]:
    """Every formula in dollars or brackets. Two amounts of money with words between are none."""
    match = _MATH.search(text)
    while match is not None:
        if match[2] is not None and is_money(match[2]):
            match = _MATH.search(text, match.start() + 1)
            continue
        yield match
        match = _MATH.search(text, match.end())


def is_money(inside: str) -> bool:
    """`15. He has ` between two dollar signs: a price and a sentence."""
    if not inside[:1].isdecimal():
        return False
    outside = re.sub(r"\\[A-Za-z]+(?:\s*\{[^{}]*\})?", " ", inside)
    if _PLAIN_WORD.search(outside) is not None:
        return True
    return re.search(r"[-+=(]\s*\Z|[.,]\s", inside) is not None


def formula_at(text: str) -> re.Match[str] | None:
    """The formula that a text begins with."""
    match = _MATH.match(text)
    if match is not None and match[2] is not None and is_money(match[2]):
        return None
    return match


def inner(match: re.Match[str]) -> str:
    """What stands between the delimiters."""
    return next(group for group in match.groups() if group is not None).strip()


def linked_formulas(text: str, first: re.Match[str]) -> str:
    """A formula and those joined to it by "and" or a comma, as one list; a unit or percent after it
    stays with it.
    """
    parts = [inner(first)]
    end = first.end()
    while len(parts) < 20:
        following = _MATH.search(text, end, end + 200)
        if following is None or text[end : following.start()].strip() not in SEPARATORS:
            break
        formula = inner(following)
        if is_only_unit(formula):
            break
        parts.append(formula)
        end = following.end()
    number = _NUMBER_BEHIND.match(text, end)
    if number is not None:
        parts.append(number[1])
        end = number.end()
    joined = ", ".join(parts)
    unit = _SIGN_OR_DEGREES.match(text, end)
    if unit is None and len(parts) == 1 and re.search(r"\d\Z", joined):
        unit = _ANGLE_OR_TIME.match(text, end)
    if unit:
        return f"{joined} {unit[1]}"
    return joined


_SIGN_OR_DEGREES = re.compile(r"\s*(%|percent\b|pct\b|degrees\b|°)")
_ANGLE_OR_TIME = re.compile(r"\s+(radians?|seconds?|minutes?|hours?|days?|weeks?)\b(?!\s+per\b)")
# Words that are nothing but units of time, angle, length or mass.
UNIT_WORD = (
    r"radians?|seconds?|minutes?|hours?|days?|weeks?|months?|years?|"
    r"(?:milli|centi|kilo)?met(?:er|re)s?|inches|yards?|miles?|(?:milli|kilo)?grams?|mm|cm|km|kg"
)
# `$x$ or 71`, and not `$x$, 5 of them`.
_NUMBER_BEHIND = re.compile(
    r"(?:\s*,)?\s+(?:and|or)\s+(-?\d[\d,]*(?:\.\d+)?)(?=[.;]?\s*(?:\Z|\n)|,)"
)


def is_only_unit(formula: str) -> bool:
    """`^2` or `\\text{cm}^2`: what some set apart from their number."""
    return _ONLY_UNIT.fullmatch(formula) is not None


_ONLY_UNIT = re.compile(
    r"\s*(?:\^.{1,4}|\\(?:text|mathrm|,|\s|;)+\s*(?:\{[^{}]*\}\s*(?:\^.{1,4})?)?)\s*"
)


# ---- runs of plain mathematics -------------------------------------------------------------------

_RUN_TOKEN = re.compile(
    r"(?P<num>(?:\d{1,3}(?:,\d{3})+(?!\d)|(?<![,\d])\d+,\d{1,2}(?![\d,])|\d+)"
    r"(?:\.\d+)?(?:[eE][-+]?\d+\b)?|\.\d+)|"
    r"(?P<fn>(?<![A-Za-z])"
    r"(?:sqrt|cbrt|ln|log|sin|cos|tan|arcsin|arccos|arctan|pi|exp)(?![A-Za-z]))|"
    r"(?P<name>(?<![A-Za-z'’])[A-Za-z](?![A-Za-z'’]))|"
    r"(?P<sign>[π√∞∛θ°½⅓¼¾⅔⅛²³¹⁰⁴⁵⁶⁷⁸⁹⁻⁺ⁿ₀-₉%!])|"
    r"(?P<cmd>\\[A-Za-z]+|_)|"
    r"(?P<op>[-+*/^=×·⋅÷±−–<>≤≥≈]|:(?=\d))|"
    r"(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comma>,)|"
    r"(?P<cash>\\?\$|[€£¥])|(?P<gap>[ \u00a0\u202f]+)|(?P<other>.)",
    re.DOTALL,
)
_FIRM = {"num", "fn", "name", "sign", "close", "cmd"}
_OPENING = _FIRM - {"close"} | {"open", "op", "cash"}


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of plain mathematics, and where it ends in the text."""

    text: str
    end: int


def runs(text: str) -> list[Run]:
    """The stretches of plain mathematics that hold a number: `5√2`, `(3, 4)`, `y = -2x + 5`,
    `2 1/2`.
    """
    spans: list[Run] = []
    start = -1
    depth = 0
    last = ""
    kinds = set[str]()
    tokens = [(match.lastgroup or "", match) for match in _RUN_TOKEN.finditer(text)]
    following_kinds = [*(kind for kind, _ in tokens[1:]), ""]
    for (kind, match), following in zip(tokens, following_kinds, strict=False):
        if start >= 0 and not goes_on(kind, last, following, depth, match):
            _close(spans, text, start, match.start(), kinds)
            start = -1
            depth = 0
            kinds = set()
        if start < 0 and kind in _OPENING:
            start = match.start()
        if start >= 0:
            if kind == "sign" and match[0] in "%!°²³":
                kinds.add("mark")
            else:
                kinds.add(kind)
            depth += (kind == "open") - (kind == "close")
        last = kind
    if start >= 0:
        _close(spans, text, start, len(text), kinds)
    return spans


def goes_on(kind: str, last: str, following: str, depth: int, match: re.Match[str]) -> bool:
    """Whether a token goes on with the run before it. `kind` is its own, `last` and `following`
    those of its neighbours; `depth` counts open brackets.
    """
    if kind == "other":
        return False
    if kind == "gap":
        if last in ("op", "open") or following in ("op", "close"):
            return True
        if depth > 0 and last == "comma":
            return True
        if last != "num":
            return False
        return following == "fn" or _parts_a_number(match)
    if kind == "comma":
        return depth > 0
    return not (kind == "cash" and last in _FIRM)


def _parts_a_number(gap: re.Match[str]) -> bool:
    """Whether a gap stands inside a number: `2 1/2`, `1 000`; not behind decimals."""
    text = gap.string
    if re.match(r"\d+/\d+|\d{3}(?!\d)", text[gap.end() :]) is None:
        return False
    return "." not in text[gap.start() - 4 : gap.start()]


def _close(spans: list[Run], text: str, start: int, end: int, kinds: set[str]) -> None:
    """Keep a run that holds a number, without operators and brackets that stand alone at its
    ends.
    """
    run = text[start:end].rstrip(" +*/^=×·÷±−–<>≤≥≈:,([\\$_-")
    without_start = re.sub(r"\A(?:[\s+*/^=×·÷:,)\]}>≤≥≈]+|[-−–]\s+|<(?!\d+,))+", "", run)
    stripped = balanced(without_start).strip()
    if re.fullmatch(r"\d+[-–]\d+", stripped):  # a range names its ends
        stripped = re.split(r"[-–]", stripped)[1]
    if re.search(r"\d|[π∞½⅓¼¾⅔⅛]", stripped) and kinds != {"name"}:
        spans.append(Run(stripped, start + len(run)))


def balanced(run: str) -> str:
    """Without a bracket that has no partner: `(2, 5]` is whole, `3)` is 3."""
    opened = sum(run.count(sign) for sign in "([{")
    closed = sum(run.count(sign) for sign in ")]}")
    if closed > opened:
        if run[-1:] in ")]}":
            return run[:-1]
        return re.split(r"[)\]}]", run)[-1]
    if opened > closed:
        if run[:1] in "([{":
            return run[1:]
        return re.split(r"[(\[{]", run)[0]
    return run


def with_unit(text: str, run: Run) -> str:
    """The run with the unit of measure, the percent sign or the scale word that follows it."""
    if re.search(r"[a-z=<>]", run.text):
        return run.text
    after = _SIGN_AFTER.match(text[run.end :])
    if after is not None:
        way = _WAY_AFTER.match(text[run.end + after.end() :])
        if way is not None:
            return f"{run.text} {after[1]}{way[0]}"
        return f"{run.text} {after[1]}"
    scale = _SCALE_AFTER.match(text[run.end :])
    scaled = run.text
    end = run.end
    if scale:
        scaled += scale[0]
        end += scale.end()
    if run.text.startswith(("$", "\\$")):
        return scaled
    unit = leading_unit(text[end:])
    way = _WAY_AFTER.match(text[end + len(unit) :])
    if way is not None:
        unit += way[0]
    if not unit:
        return scaled
    unit = unit.replace("²", "2").replace("³", "3").replace("^", "")
    return f"{scaled}\\text{{{unit}}}"


_SIGN_AFTER = re.compile(
    r"\s*(%|percent\b|pct\b|°\s*[CF]?\b|degrees?\b(?:\s+(?:Celsius|Fahrenheit))?|[ap]\.?m\b\.?)",
    re.IGNORECASE,
)
_WAY_AFTER = re.compile(
    r"\s+(?:(?:north|south|east|west)\s+of\s+(?:due\s+)?(?:north|south|east|west)|from\s+now|ago)\b"
)
_SCALE_AFTER = re.compile(
    rf"\s*(?:(?:{SCALE_WORDS})(?![A-Za-zÀ-ɏЀ-ӿ]|s[a-z])|"
    r"(?:lakhs|crores|halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths)\b)"
)


# ---- clauses -------------------------------------------------------------------------------------

SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])(?<!Mr)(?<!Mrs)(?<!Dr)(?<!Ms)(?<!approx)[.!?。](?=\s|\Z)|\n"
)
_LEAD = re.compile(
    r"[\s*_`:：=>]*(?:(?:therefore|thus|so|then|hence|simply|just|only|indeed|exactly|precisely|"
    r"approximately|about|roughly|around|nearly|also|now|clearly|given by|equal to|the number|"
    r"a total of|the value|either|both|"
    r"donc|environ|aproximadamente|etwa|ungefähr|entonces|约为?|大约|"
    r"is|are|final|answer|the)\b[\s,:*_]*)+(?=\S)",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"[,;]?\s+(?:because|since|as\s+(?!\d)|which|i\.e\.|where|while|not\b|and not\b|so\b|when|if)"
    r"\s*.*\Z|"
    r"[,，]\s*(?:not|and not|because|since|as|which|i\.e\.|no more|no less|half of|twice|"
    r"double|而?不是|因为).*\Z",
    re.DOTALL,
)
_ASIDE = re.compile(r"(?<=[\w%}])(?:\s+[(（]|（)(?![-\d.]+\s*,)[^()（）]*[)）]?\s*\Z")
_COPULA = re.compile(
    r"\b(?:is|are|equals?|was|were|be|becomes|est|sont|ist|sind|es|son|é|è)\b"
    r"(?:\s+(?:equal\s+to|about|approximately|only|just|exactly|now|then))?|"
    r"=|等于|是|为"
)
_BOLD = re.compile(r"(?<!\w)\*\*([^*\n]{1,200})\*\*(?!\w)|(?<!\w)__([^_\n]{1,200})__(?!\w)")


def without_lead(rest: str) -> str:
    """Without the adverbs and marks that may stand before an answer."""
    match = _LEAD.match(rest)
    if match is not None:
        return rest[match.end() :]
    return rest.lstrip(" \t\n*_`:：")


def clause(rest: str) -> str:
    """Up to the end of the sentence, without reasons and asides behind the answer."""
    sentence = _first_sentence(rest)
    turned = _TURN.search(sentence)
    if turned is not None and turned.start() > 0:
        sentence = sentence[: turned.start()]
    aside = _ASIDE.search(sentence)
    if aside is not None and re.match(r"\W*[\d$€£]", sentence):
        sentence = sentence[: aside.start()]
    return sentence.strip().removesuffix("**").strip()


def is_unfinished(text: str) -> bool:
    """Whether a text stops at an operator, `which leaves 144 -`: its author was not done."""
    return _AT_OPERATOR.search(text[-40:]) is not None


_AT_OPERATOR = re.compile(r"[\w)}\]][ \t]{1,5}[-+=×÷·−][ \t]*\$?\s*\Z|[\w)}\]]=\$?\s*\Z")


def opening(text: str) -> str:
    """The first sentence, with the sign that ends it."""
    end = SENTENCE_END.search(text)
    if end:
        text = text[: end.end()]
    return text[:500].strip()


def _first_sentence(text: str) -> str:
    end = SENTENCE_END.search(text)
    if end:
        text = text[: end.start()]
    return text[:500]


def bold_spans(text: str) -> list[str]:
    """What is set in bold, labels that end in a colon left out."""
    spans: list[str] = []
    for match in _BOLD.finditer(text):
        span = (match[1] or match[2]).strip()
        after = text[match.end() : match.end() + 1]
        is_label = span.endswith((":", "：")) or after in (":", "：")
        if span and not is_label:
            spans.append(span)
    return spans


def stated_number(sentence: str, *, first: bool = False) -> str | None:
    """The number, point or expression that a plain sentence states: behind its last "is" or "=",
    else its last one (its `first`).
    """
    part = re.search(r"\d\W*\w*\s+(out of)\b", sentence)
    if part is not None:
        sentence = sentence[: part.start(1)]
    aside = re.search(r"(?<=[\w%])\s+\([^()]*[A-Za-z]{3,}[^()]*\)", sentence)
    if aside and re.search(r"\d", sentence[: aside.start()]):
        sentence = sentence[: aside.start()] + sentence[aside.end() :]
    equations = _EQUATIONS.search(sentence)
    if equations is not None:
        if re.search("[<>≤≥]", equations[0]):
            return equations[0]
        return re.sub(r"\s*(?:,\s*)?(?:\band\b|和)\s*", ", ", equations[0])
    numbers = runs(sentence)
    if not numbers:
        return None
    copulas = [match for match in _COPULA.finditer(sentence) if match[0] != "="]
    if not copulas:
        if _BOUND.search(sentence):
            return None
    else:
        behind = sentence[copulas[-1].end() :]
        if _BOUND.match(behind):
            return None
        runs_behind = runs(behind)
        if runs_behind:
            listed = list_at_start(behind)
            return listed or without_left_side(with_unit(behind, runs_behind[0]))
    if first and "=" not in sentence:
        run = numbers[0]
    else:
        run = numbers[-1]
    return without_left_side(with_unit(sentence, run))


_BOUND = re.compile(
    r"\s*(?:not|at most|at least|no more than|(?:more|less|fewer|greater) than|between|half of|"
    r"unknown)\b"
)
_RESTATED = re.compile(r",\s*(?:which\s+(?:is|equals)|or)\s+([$€£]?-?\d[\d,./]*%?)(?=\W*\Z)")
_EQUATION = r"[A-Za-z]\s*[=<>≤≥]\s*-?\d[\d./]*"
_EQUATIONS = re.compile(
    rf"(?<![A-Za-z]){_EQUATION}"
    rf"(?:\s*(?:,\s*and\b|,|\band\b|\bor\b|或|和)\s*{_EQUATION})+(?![\w*^(+-])"
)


def restated(rest: str) -> str | None:
    """`84/2, or 42.` and `the sum of both, which is 42.` state 42."""
    match = _RESTATED.search(_first_sentence(rest))
    if match:
        return match[1].rstrip(".,")
    return None


def linked_bold(sentence: str, spans: list[str]) -> list[str]:
    """The last bold span with those that "and", "or" or a comma join to it."""
    linked = [spans[-1]]
    for before in reversed(spans[:-1]):
        left = re.escape(before)
        right = re.escape(linked[0])
        between = re.search(rf"{left}\.?\*\*\s*(.*?)\s*\*\*{right}", sentence)
        if between is None or between[1] not in SEPARATORS:
            break
        linked.insert(0, before)
    return linked


def list_at_start(text: str) -> str | None:
    """`3, 4, and 5` at the start of a text; a number with thousands is no list."""
    match = _LIST_OF_NUMBERS.match(text)
    if match and not re.fullmatch(r"\d{1,3}(?:,\d{3})+", match[1]):
        return re.sub(r"\s*(?:,\s*)?\b(?:and|or)\b\s*", ", ", match[1])
    return None


_LIST_OF_NUMBERS = re.compile(
    r"\s*(-?\d+(?:\.\d+)?"
    r"(?:(?:\s*,\s*(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+)-?\d+(?:\.\d+)?)+)(?![\w/^.]*\d)"
)


def without_left_side(run: str) -> str:
    """`3 + 4 = 7` states 7; `y = 2x` states itself."""
    left, equals, right = run.rpartition("=")
    if not equals or not right.strip():
        return run
    if not re.search(r"\d", left) and re.search(r"[A-Za-z]", right):
        return run
    ends_in_name = re.search(r"[a-z]\s*\Z", left.strip())
    if ends_in_name and "=" not in left and re.search(r"[a-z]", right):
        return run
    return right.strip()
