"""What a sentence tells: in bold, as a formula, as a number."""

from __future__ import annotations

import re

from reasondistill.grading.extract import prose
from reasondistill.grading.extract.bare import looks_bare
from reasondistill.grading.extract.found import TELLING, Extracted, Where, last_match

DISPLAY = re.compile(
    r"\\begin\s*\{(align|aligned|equation|gather|gathered|"
    r"multline)\*?\}(?:(?!\\begin)[\s\S]){0,2000}?\\end\s*\{\1\*?\}"
)


def sentences(tail: str) -> list[str]:
    """The text cut at sentence ends; formulas stay whole."""
    whole = [match.span() for match in prose.formulas(tail)]
    parts: list[str] = []
    start = 0
    for end in prose.SENTENCE_END.finditer(tail):
        while whole and whole[0][1] <= end.start():
            whole.pop(0)
        if whole and whole[0][0] < end.start():
            continue
        parts.append(tail[start : end.start()])
        start = end.end()
    parts.append(tail[start:])
    return [part for part in parts if part.strip()]


def from_sentence(sentence: str, where: Where | None = None) -> Extracted | None:
    """What a sentence tells, looked for in bold, in formulas, in plain numbers."""
    if "**" in sentence:
        bold = told_in_bold(sentence)
        if bold:
            return Extracted(bold, where or "bold")
    formula = told_in_formulas(sentence, is_stated=where is not None)
    if formula is not None:
        return Extracted(formula, where or "formula")
    number = prose.stated_number(sentence, first=where is not None)
    if number is None:
        return None
    return Extracted(number, where or "number")


def told_in_bold(sentence: str) -> str | None:
    """The answer that a sentence has in bold: the last telling span, with those linked to it."""
    spans: list[str] = []
    for span in prose.bold_spans(sentence):
        if looks_bare(span) or TELLING.search(span):
            spans.append(span.rstrip("."))
    if not spans:
        return None
    if looks_bare(spans[-1]):
        return ", ".join(prose.linked_bold(sentence, spans))
    inner = from_sentence(spans[-1])
    if inner is None:
        return None
    return inner.text


def told_in_formulas(sentence: str, *, is_stated: bool) -> str | None:
    """The answer that a sentence has as a formula: the first one behind "is", else the last one,
    with those linked to it. None when a number stands behind the last formula.
    """
    formulas: list[re.Match[str]] = []
    for match in prose.formulas(sentence):
        if not prose.is_only_unit(prose.inner(match)):
            formulas.append(match)
    if not formulas:
        return None
    last = formulas[-1]
    copula = last_match(_COPULA.finditer(sentence[: last.start()]))
    first = 0
    if copula is not None:
        first = next(
            (i for i, match in enumerate(formulas) if match.start() >= copula.end()),
            0,
        )
    elif not is_stated:
        first = len(formulas) - 1
        if not _EQUATES.search(prose.inner(last)):
            first = _first_linked(sentence, formulas)
    behind = re.sub(r"\([^()]*\)", "", sentence[last.end() :])
    behind = _UNIT_FORMULA.sub("", behind)
    if _EXACT.search(prose.inner(last)):
        decimals = _DECIMALS_BEHIND.match(behind)
        if decimals is not None:
            behind = behind[decimals.end() :]
    if re.search(r"\d", behind):
        return None
    return prose.linked_formulas(sentence, formulas[first])


def _first_linked(sentence: str, formulas: list[re.Match[str]]) -> int:
    """The place of the first formula that "and" or commas link up to the last one."""
    first = len(formulas) - 1
    while first > 0:
        between = sentence[formulas[first - 1].end() : formulas[first].start()]
        if between.strip() not in prose.SEPARATORS:
            break
        first -= 1
    return first


# ` cm$^2$` and `, soit environ 2,598` behind a formula tell no other number.
_UNIT_FORMULA = re.compile(r"\b[A-Za-zµ]{1,6}\$\^\{?\d\}?\$")
_EXACT = re.compile(r"\\(?:[dt]?frac|sqrt|pi)")
_DECIMALS_BEHIND = re.compile(
    r"\s{0,3},?\s{0,3}"
    r"(?:(?:soit|or|also|d\.h\.|das\s+(?:ist|sind)|o\s+sea|ossia|which\s+is|i\.e\.),?\s{1,3})?"
    r"(?:environ|about|approximately|approx\.?|roughly|around|etwa|ungefähr|rund|circa|ca\.|"
    r"aproximadamente|≈)\s{0,3}\d+[.,]\d+"
)
_EQUATES = re.compile(r"[A-Za-z}\d]\s*[-+*/^].*=|\\frac.*=")
_COPULA = re.compile(r"\b(?:is|are|equals?)\b|是|为")
