"""What follows a mark or a phrase that announces an answer: `#### x`, `the answer is x`."""

from __future__ import annotations

import re

from reasondistill.grading.extract import prose
from reasondistill.grading.extract.bare import looks_bare
from reasondistill.grading.extract.found import TELLING, Extracted, Where, last_match
from reasondistill.grading.extract.sentence import DISPLAY, from_sentence

_IS = (
    r"(?:(?:is|are|est|es|ist|é|è|should\s+be|must\s+be|would\s+be|will\s+be|to\s+be|"
    r"comes\s+out\s+to|was|equals|là)\b|"
    r"->|→|⇒|[:：=是为은는は选]|هي|คือ|है|-\s(?=\(?[A-J]\)?\W*\Z))"
)
_ANSWER = (
    r"(?:\b(?:final\s+)?answers?|\b(?:correct|right|best)\s+(?:option|choice|letter)|"
    r"\b(?:correct\s+)?choice|答案|正确选项|答え|정답|답|उत्तर|الإجابة|đáp\s+án|คำตอบ|"
    r"réponse|respuesta|resposta|risposta|antwort|ответ)"
)
PHRASE = re.compile(
    rf"{_ANSWER}(?:\s+(?:correcta|correcte|finale?|here))?\W{{0,4}}\s*{_IS}\s*[:：]?\s*",
    re.IGNORECASE,
)
_WEAK = re.compile(rf"\b(?:results?|reply|solution)\W{{0,4}}\s*{_IS}\s*[:：]?\s*", re.IGNORECASE)
_HEADING = re.compile(r"(?m)^[ \t>*_#]*(?:final\s+)?answer[ \t*_#]*\n+(?=\s*\S)", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(?:wait|oops|correction|misread|mistake|actually)\b|Let me re", re.IGNORECASE
)
_CHOICE = re.compile(
    r"(?:(?i:the\s+|la\s+)?(?i:option|choice|letter|opción|选项?|答案)\s*)?\(?([A-J])(?:\)|"
    r"\b)(?!\s*(?:[-=+*/^_<>|&\\(]|and\b|or\b|,\s*(?:\(?[A-J]\b|[\d\\$]))|"
    r"\s*,\s*\([A-J]\))(?=[\s,.:;。，*)]|\Z)"
)
_BOLD_START = re.compile(r"[\s:：]*(\*\*|__)(?=\S)([^*_\n]{1,200})\1")
_EMPTY = re.compile(r"[\s*_:：#$.?\\()\[\]-]*")


_PLAIN_MARK = re.compile(r"[-+$]?\d[\d,.]*%?")
_MARK_LABEL = re.compile(
    r"[*_\s]*(?:(?:the\s+)?(?:final\s+)?answer|total|result|"
    r"solution)(?:\s+is)?[*_\s]*(?:[:：][*_\s]*|\Z|(?=[\d$\\]))",
    re.IGNORECASE,
)
_MARK_PLAUSIBLE = re.compile(r"[-+−$€£\\(\[{.√π½]*\d|[$\\(\[]|[A-J]\b")


def behind_mark(tail: str, gold: bool) -> Extracted | None:
    """What follows the last `####`, up to the end of its line; a heading of that level is none."""
    trimmed = tail.rstrip()
    if trimmed.endswith("####"):
        without_end = trimmed.rstrip("#")
        if "####" in without_end.rpartition("\n")[2]:  # `#### 5 ####`
            tail = without_end.rstrip()
    _, mark, rest = tail.rpartition("####")
    if not mark:
        return None
    rest = rest.lstrip("#").strip()
    line = rest.split("\n", 1)[0].strip()
    if gold:
        if line:
            return Extracted(line, "marker")
        return None
    if not line:
        return Extracted(None, "malformed")
    if _PLAIN_MARK.fullmatch(line):
        return Extracted(line, "marker")
    label = _MARK_LABEL.match(line)
    if label is not None:
        statement = rest[label.end() :]
        if statement.strip():
            return stated(statement, "marker")
        return None
    bare = line.strip("*_ ")
    if _is_plausible_mark(bare):
        return Extracted(bare, "marker")
    if looks_bare(bare) and "\n" not in rest and ":" not in bare:
        return Extracted(bare, "marker")
    return None


def _is_plausible_mark(line: str) -> bool:
    """Whether a line begins like an answer, and not like an item of a list."""
    if _MARK_PLAUSIBLE.match(line) is None:
        return False
    return not re.match(r"\d+[.)]\s+[A-Z]", line)


def said(tail: str, gold: bool) -> Extracted | None:
    """What follows the last "answer is", when anything does; "result is" only where nothing comes
    after it.
    """
    phrase = last_phrase(tail, gold)
    if phrase is None:
        return None
    rest = tail[phrase.end() :]
    if _EMPTY.fullmatch(rest):
        if gold:
            return None
        return Extracted(None, "malformed")
    turned = last_match(_CORRECTION.finditer(rest))
    if turned is not None and TELLING.search(rest[turned.end() :]):
        return None
    answer = stated(rest, "phrase")
    if answer.text is not None and not TELLING.search(answer.text):
        end = prose.SENTENCE_END.search(rest)
        if end and re.search(r"\d", rest[end.end() :]):
            return None
    return answer


def last_phrase(tail: str, gold: bool) -> re.Match[str] | None:
    """The last phrase that announces an answer: "answer is", a heading, or else "result is" with
    nothing telling behind its sentence.
    """
    phrase = last_match(PHRASE.finditer(tail))
    heading = last_match(_HEADING.finditer(tail))
    if heading is not None and (phrase is None or heading.end() > phrase.end()):
        return heading
    if phrase is not None:
        return phrase
    weak = last_match(_WEAK.finditer(tail))
    if weak is None or gold:
        return weak
    rest = tail[weak.end() :]
    end = prose.SENTENCE_END.search(rest)
    if end is not None and TELLING.search(rest[end.end() :]):
        return None
    return weak


def stated(rest: str, where: Where) -> Extracted:
    """The answer that a sentence begins with: a formula (and those linked to it), a number, a
    choice letter, or its words.
    """
    bold = _BOLD_START.match(rest)
    if bold is not None and TELLING.search(bold[2]):
        continues = re.match(r"\s*(?:,|and\b|or\b)", rest[bold.end() :])
        if not continues:
            rest = bold[2]
        else:
            listed = from_sentence(prose.clause(rest), where)
            if listed is not None:
                return listed
    again = prose.restated(rest)
    if again is not None:
        return Extracted(again, where)
    rest = prose.without_lead(rest)
    display = DISPLAY.match(rest)
    if display is not None:
        return Extracted(display[0], where)
    formula = prose.formula_at(rest)
    if formula is not None:
        return Extracted(prose.linked_formulas(rest, formula), where)
    sentence = prose.clause(rest)
    choice = _CHOICE.match(sentence)
    if choice is not None:
        return Extracted(choice[1].upper(), where)
    whole = Extracted(sentence.strip("*_ `") or None, where)
    if looks_bare(sentence):
        return whole
    return from_sentence(sentence, where) or whole
