"""Read the answer that a sentence states: `… so the area is 9π cm^2 (about 28).` → `9π cm^2`.
Linear in the text that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reasondistill.grading.units import leading_unit

_MATH = re.compile(
    r"(?<!\\)\$\$([^$]{1,2000})\$\$|(?<!\\)\$((?:[^$\\]|\\.){1,2000})\$(?!\d)|"
    r"\\{1,2}\[(?!\d*\.?\d*(?:pt|em|ex|mm|cm)\])((?:[^\\]|\\(?![\[\]])){1,2000})\\{1,2}\]|\\{1,2}\(((?:[^\\]|\\(?![()])){1,2000})\\{1,2}\)"
)
_PLAIN_WORD = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")
SEPARATORS = {
    ",",
    "and",
    "or",
    ";",
    ", and",
    ", or",
    "or,",
    "und",
    "oder",
    "et",
    "ou",
    "y",
    "o",
    "和",
    "或",
    "、",
}

# ---- formulas ------------------------------------------------------------------------------------


def formulas(text: str) -> Iterator[re.Match[str]]:
    """Every formula in dollars or brackets. Two amounts of money with words between them are none."""
    at = 0
    while (match := _MATH.search(text, at)) is not None:
        if match[2] is not None and is_money(match[2]):
            at = match.start() + 1
            continue
        yield match
        at = match.end()


def is_money(inside: str) -> bool:
    """`15. He has ` between two dollar signs: a price and a sentence."""
    if not inside[:1].isdecimal():
        return False
    outside = re.sub(r"\\[A-Za-z]+(?:\s*\{[^{}]*\})?", " ", inside)
    return (
        _PLAIN_WORD.search(outside) is not None
        or re.search(r"[-+=(]\s*\Z|[.,]\s", inside) is not None
    )


def formula_at(text: str) -> re.Match[str] | None:
    """The formula that a text begins with."""
    match = _MATH.match(text)
    return None if match is None or (match[2] is not None and is_money(match[2])) else match


def inner(match: re.Match[str]) -> str:
    """What stands between the delimiters."""
    return next(group for group in match.groups() if group is not None).strip()


def linked_formulas(text: str, first: re.Match[str]) -> str:
    """A formula and those joined to it by "and" or a comma, as one list; a unit or percent after it
    stays with it.
    """
    parts = [inner(first)]
    end = first.end()
    while (following := _MATH.search(text, end, end + 200)) is not None and len(parts) < 20:
        if text[end : following.start()].strip() not in SEPARATORS or is_only_unit(
            inner(following)
        ):
            break
        parts.append(inner(following))
        end = following.end()
    unit = re.match(r"\s*(%|percent\b|pct\b|degrees\b|°)", text[end:])
    return ", ".join(parts) + (f" {unit[1]}" if unit else "")


def is_only_unit(formula: str) -> bool:
    """`^2` or `\\text{cm}^2`: what some set apart from their number."""
    return (
        re.fullmatch(
            r"\s*(?:\^.{1,4}|\\(?:text|mathrm|,|\s|;)+\s*(?:\{[^{}]*\}\s*(?:\^.{1,4})?)?)\s*",
            formula,
        )
        is not None
    )


# ---- runs of plain mathematics -------------------------------------------------------------------

_RUN_TOKEN = re.compile(
    r"(?P<num>(?:\d{1,3}(?:,\d{3})+(?!\d)|(?<![,\d])\d+,\d{1,2}(?![\d,])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+\b)?|\.\d+)|"
    r"(?P<fn>(?<![A-Za-z])(?:sqrt|cbrt|ln|log|sin|cos|tan|arcsin|arccos|arctan|pi|exp)(?![A-Za-z]))|"
    r"(?P<name>(?<![A-Za-z'’])[A-Za-z](?![A-Za-z'’]))|(?P<sign>[π√∞∛θ°½⅓¼¾⅔⅛²³¹⁰⁴⁵⁶⁷⁸⁹⁻⁺ⁿ₀-₉%!])|"
    r"(?P<cmd>\\[A-Za-z]+|_)|(?P<op>[-+*/^=×·⋅÷±−–<>≤≥≈]|:(?=\d))|(?P<open>[(\[{])|(?P<close>[)\]}])|"
    r"(?P<comma>,)|(?P<cash>\\?\$|[€£¥])|(?P<gap>[ \u00a0\u202f]+)|(?P<other>.)",
    re.DOTALL,
)
_FIRM = {"num", "fn", "name", "sign", "close", "cmd"}


def runs(text: str) -> list[tuple[str, int]]:
    """The stretches of plain mathematics that hold a number, each with where it ends: `5√2`, `(3,
    4)`, `y = -2x + 5`, `2 1/2`.
    """
    found: list[tuple[str, int]] = []
    start, depth, last, kinds = -1, 0, "", set[str]()
    tokens = [(match.lastgroup or "", match) for match in _RUN_TOKEN.finditer(text)]
    for i, (kind, match) in enumerate(tokens):
        following = tokens[i + 1][0] if i + 1 < len(tokens) else ""
        glued = _glued(kind, last, following, depth, text, match)
        if start >= 0 and not glued:
            _close(found, text, start, match.start(), kinds)
            start, depth, kinds = -1, 0, set()
        if start < 0 and kind in _FIRM | {"open", "op", "cash"} and kind != "close":
            start = match.start()
        if start >= 0:
            kinds.add(kind if kind != "sign" or match[0] not in "%!°²³" else "mark")
            depth += (kind == "open") - (kind == "close")
        last = kind
    if start >= 0:
        _close(found, text, start, len(text), kinds)
    return found


def _glued(
    kind: str, last: str, following: str, depth: int, text: str, match: re.Match[str]
) -> bool:
    """Whether a token goes on with the run before it."""
    if kind == "other":
        return False
    if kind == "gap":
        if (
            last in ("op", "open")
            or following in ("op", "close")
            or (depth > 0 and last == "comma")
        ):
            return True
        if last == "num" and following == "fn":
            return True
        return (
            last == "num"
            and re.match(r"\d+/\d+|\d{3}(?!\d)", text[match.end() :]) is not None
            and text[match.start() - 4 : match.start()].count(".") == 0
        )
    if kind == "comma":
        return depth > 0
    return not (kind == "cash" and last in _FIRM)


def _close(found: list[tuple[str, int]], text: str, start: int, end: int, kinds: set[str]) -> None:
    """Keep a run that holds a number, without operators and brackets that stand alone at its ends."""
    run = text[start:end]
    while run and (run[-1] in " +*/^=×·÷±−–<>≤≥≈:,([\\$_" or (run[-1] == "-")):
        run = run[:-1]
    stripped = _balanced(
        re.sub(r"\A(?:[\s+*/^=×·÷:,)\]}>≤≥≈]+|[-−–]\s+|<(?!\d+,))+", "", run)
    ).strip()
    if re.fullmatch(r"\d+[-–]\d+", stripped):  # a range names its ends
        stripped = re.split(r"[-–]", stripped)[1]
    if re.search(r"\d|[π∞½⅓¼¾⅔⅛]", stripped) and kinds != {"name"}:
        found.append((stripped, start + len(run)))


def _balanced(run: str) -> str:
    """Without a bracket that has no partner: `(2, 5]` is whole, `3)` is 3."""
    opened = sum(run.count(sign) for sign in "([{")
    closed = sum(run.count(sign) for sign in ")]}")
    if closed > opened:
        return run[:-1] if run[-1:] in ")]}" else re.split(r"[)\]}]", run)[-1]
    if opened > closed:
        return run[1:] if run[:1] in "([{" else re.split(r"[(\[{]", run)[0]
    return run


def with_unit(text: str, run: str, end: int) -> str:
    """The run with the unit of measure, the percent sign or the scale word that follows it."""
    if re.search(r"[a-z=<>]", run):
        return run
    after = re.match(
        r"\s*(%|percent\b|pct\b|°\s*[CF]?\b|degrees?\b(?:\s+(?:Celsius|Fahrenheit))?|[ap]\.?m\b\.?)",
        text[end:],
        re.IGNORECASE,
    )
    if after is not None:
        return f"{run} {after[1]}"
    scale = re.match(r"\s*(?:hundred|thousand|million|billion|trillion|dozen)\b", text[end:])
    end_of_scale = end + scale.end() if scale else end
    unit = leading_unit(text[end_of_scale:])
    unit = unit.replace("²", "2").replace("³", "3").replace("^", "")
    wrapped = f"\\text{{{unit}}}" if unit and not run.startswith(("$", "\\$")) else ""
    return run + (scale[0] if scale else "") + wrapped


# ---- clauses -------------------------------------------------------------------------------------

SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])(?<!Mr)(?<!Mrs)(?<!Dr)(?<!Ms)(?<!approx)[.!?。](?=\s|\Z)|\n"
)
_LEAD = re.compile(
    r"[\s*_`:：=>]*(?:(?:therefore|thus|so|then|hence|simply|just|only|indeed|exactly|precisely|approximately|about|roughly|around|nearly|"
    r"also|now|clearly|given by|equal to|the number|a total of|the "
    r"value|donc|environ|aproximadamente|etwa|ungefähr|entonces|约为?|大约|"
    r"is|are|final|answer|the)\b[\s,:*_]*)+(?=\S)",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"[,;]?\s+(?:because|since|as\s+(?!\d)|which|i\.e\.|where|while|not\b|and "
    r"not\b|so\b|when|if)\s*.*\Z|"
    r"[,，]\s*(?:not|and not|because|since|as|which|i\.e\.|而?不是|因为).*\Z",
    re.DOTALL,
)
_ASIDE = re.compile(r"(?<=[\w%}])(?:\s+[(（]|（)(?![-\d.]+\s*,)[^()（）]*[)）]?\s*\Z")
_COPULA = re.compile(
    r"\b(?:is|are|equals?|was|were|be|becomes|est|sont|ist|sind|es|son|é|è)\b(?:\s+(?:equal\s+to|about|approximately|only|just|exactly|now|then))?|=|等于|是|为"
)
_BOLD = re.compile(r"(?<!\w)\*\*([^*\n]{1,200})\*\*(?!\w)|(?<!\w)__([^_\n]{1,200})__(?!\w)")


def without_lead(rest: str) -> str:
    """Without the adverbs and marks that may stand before an answer."""
    match = _LEAD.match(rest)
    return rest[match.end() :] if match is not None else rest.lstrip(" \t\n*_`:：")


def clause(rest: str) -> str:
    """Up to the end of the sentence, without reasons and asides behind the answer."""
    end = SENTENCE_END.search(rest)
    sentence = (rest[: end.start()] if end else rest)[:500]
    if (turned := _TURN.search(sentence)) is not None and turned.start() > 0:
        sentence = sentence[: turned.start()]
    if (aside := _ASIDE.search(sentence)) is not None and re.match(r"\W*[\d$€£]", sentence):
        sentence = sentence[: aside.start()]
    return sentence.strip().removesuffix("**").strip()


def bold_spans(text: str) -> list[str]:
    """What is set in bold, labels that end in a colon left out."""
    found = [
        ((match[1] or match[2]).strip(), text[match.end() : match.end() + 1])
        for match in _BOLD.finditer(text)
    ]
    return [
        span
        for span, after in found
        if span and not span.endswith((":", "：")) and after not in (":", "：")
    ]


def stated_number(sentence: str, *, first: bool = False) -> str | None:
    """The number, point or expression that a plain sentence states: behind its last "is" or "=",
    else its last one (its `first`).
    """
    if (part := re.search(r"\d\W*\w*\s+(out of)\b", sentence)) is not None:
        sentence = sentence[: part.start(1)]
    aside = re.search(r"(?<=[\w%])\s+\([^()]*[A-Za-z]{3,}[^()]*\)", sentence)
    sentence = (
        sentence[: aside.start()] + sentence[aside.end() :]
        if aside and re.search(r"\d", sentence[: aside.start()])
        else sentence
    )
    if (equations := _EQUATIONS.search(sentence)) is not None:
        return (
            re.sub(r"\s*(?:,\s*)?(?:\band\b|和)\s*", ", ", equations[0])
            if not re.search("[<>≤≥]", equations[0])
            else equations[0]
        )
    found = runs(sentence)
    if not found:
        return None
    copulas = [match for match in _COPULA.finditer(sentence) if match[0] != "="]
    if (
        copulas
        and _BOUND.match(sentence[copulas[-1].end() :])
        or not copulas
        and _BOUND.search(sentence)
    ):
        return None
    if copulas and (after := runs(sentence[copulas[-1].end() :])):
        tail = sentence[copulas[-1].end() :]
        joined = _listed(tail)
        return joined or _without_left_side(with_unit(tail, *after[0]))
    return _without_left_side(
        with_unit(sentence, *found[0 if first and "=" not in sentence else -1])
    )


_BOUND = re.compile(
    r"\s*(?:not|at most|at least|no more than|(?:more|less|fewer|greater) "
    r"than|between|half of|unknown)\b"
)
_RESTATED = re.compile(r",\s*(?:which\s+(?:is|equals)|or)\s+([$€£]?-?\d[\d,./]*%?)(?=\W*\Z)")
_EQUATIONS = re.compile(
    r"(?<![A-Za-z])[A-Za-z]\s*[=<>≤≥]\s*-?\d[\d./]*(?:\s*(?:,\s*and\b|,|\band\b|\bor\b|或|和)\s*[A-Za-z]\s*[=<>≤≥]\s*-?\d[\d./]*)+(?![\w*^(+-])"
)


def restated(rest: str) -> str | None:
    """`84/2, or 42.` and `the sum of both, which is 42.` state 42."""
    end = SENTENCE_END.search(rest)
    found = _RESTATED.search((rest[: end.start()] if end else rest)[:500])
    return found[1].rstrip(".,") if found else None


def linked_bold(sentence: str, spans: list[str]) -> list[str]:
    """The last bold span with those that "and", "or" or a comma join to it."""
    chosen = [spans[-1]]
    for before in reversed(spans[:-1]):
        between = re.search(
            rf"{re.escape(before)}\.?\*\*\s*(.*?)\s*\*\*{re.escape(chosen[0])}", sentence
        )
        if between is None or between[1] not in SEPARATORS:
            break
        chosen.insert(0, before)
    return chosen


def _listed(text: str) -> str | None:
    """`3, 4, and 5` at the start of a text."""
    match = re.match(
        r"\s*(-?\d+(?:\.\d+)?(?:(?:\s*,\s*(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+)-?\d+(?:\.\d+)?)+)(?![\w/^.]*\d)",
        text,
    )
    return (
        re.sub(r"\s*(?:,\s*)?\b(?:and|or)\b\s*", ", ", match[1])
        if match and not re.fullmatch(r"\d{1,3}(?:,\d{3})+", match[1])
        else None
    )


def _without_left_side(run: str) -> str:
    """`3 + 4 = 7` states 7; `y = 2x` states itself."""
    left, equals, right = run.rpartition("=")
    if equals and right.strip() and (re.search(r"\d", left) or not re.search(r"[A-Za-z]", right)):
        return (
            right.strip()
            if not re.search(r"[a-z]\s*\Z", left.strip())
            or "=" in left
            or not re.search(r"[a-z]", right)
            else run
        )
    return run
