"""The answer of a text that announces none: a choice that it names, its last telling sentence."""

from __future__ import annotations

import re

from reasondistill.grading.extract import modifiers, refusals
from reasondistill.grading.extract.found import Extracted, last_match
from reasondistill.grading.extract.sentence import DISPLAY, from_sentence, sentences

_CHOSEN = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice)\s*[:：]?\s*\(?([A-J])\b\)?|"
    r"(?<![\w$\\])\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)|"
    r"\b(?:[Cc]hoose|[Pp]ick|[Ss]elect|go\s+with|think\s+it\s+is|corresponds\s+to|matches|"
    r"it\s+is|It\s+is)\s+(?:option\s+|choice\s+)?\**\(?([A-J])(?![\w(^+=*/-]|\s[=+*/^-])|"
    r"(?:故选|应选|所以选|选择|答案选|选项是?|选)\s*[:：]?\s*\(?([A-J])(?![A-Za-z])|"
    r"opción\s+\(?([A-J])\b"
)
FIRST_LABEL = re.compile(
    r"\s*\**\(?([A-J])(?:\)|\.|\b)\**(?:\s*\Z|\s*\n|[.):]\s+\S)|\s*\(([A-J])\)\s+\S"
)


def chosen_letter(tail: str) -> Extracted | None:
    """A choice that is named."""
    last = last_match(match for match in _CHOSEN.finditer(tail) if is_chosen(match))
    if last is not None and not re.search(r"\d{2}", tail[last.end() + 40 :]):
        return Extracted(next(letter for letter in last.groups() if letter), "choice")
    return None


def is_chosen(choice: re.Match[str]) -> bool:
    """`Option B is wrong` and `I would not choose B` choose nothing."""
    text = choice.string
    before = text[max(0, choice.start() - 60) : choice.start()]
    if modifiers.denies_next(before):
        return False
    return not modifiers.denies(text[choice.end() : choice.end() + 80])


def concluded(tail: str) -> Extracted | None:
    """What the last sentence that tells anything tells. A sentence that says no to an answer leaves
    what the one before it tells, if that is another.
    """
    environments = list(DISPLAY.finditer(tail))
    if environments and not re.search(r"\d", tail[environments[-1].end() :]):
        return Extracted(environments[-1][0], "formula")
    if tail.rstrip().endswith("?"):
        asked = _ASKED.search(tail, max(0, len(tail) - 300))
        if asked is not None:
            return Extracted(asked[0].strip(), "unread")
    denied: Extracted | None = None
    wrong: set[str] = set()
    last_ones = sentences(tail)
    for place in range(len(last_ones) - 1, -1, -1):
        sentence = last_ones[place]
        if _REMARK.match(sentence):
            continue
        if _PLUS_SOMETHING.search(sentence):
            return Extracted(sentence.strip(), "unread")
        if refusals.gives_up(sentence) or refusals.is_undetermined(sentence):
            return Extracted(sentence.strip(), "refusal")
        extracted = from_sentence(sentence)
        if extracted is None or not extracted.text:
            continue
        if _SUPPOSED.search(sentence):
            before = last_ones[max(0, place - 4) : place]
            if any(refusals.gives_up(earlier) for earlier in before):
                return Extracted(sentence.strip(), "refusal")
        reading = modifiers.read_last(sentence, extracted.text)
        if reading is not None and reading.kind == "denied":
            denied = denied or Extracted(sentence.strip(), "denied")
            wrong.add(reading.text)
            continue
        if reading is not None and reading.kind == "value":
            return Extracted(reading.text, "number", is_worded=True)
        if reading is not None:
            return Extracted(sentence.strip(), "unread")
        if extracted.text.strip() in wrong:
            return denied
        return Extracted(extracted.text.strip(), extracted.where)
    if denied is not None:
        return denied
    return in_words(tail)


# `The answer plus 1 is 24.`
_PLUS_SOMETHING = re.compile(
    r"\banswer\s+(?:(?:plus|minus|times|divided\s+by|multiplied\s+by|increased\s+by|"
    r"decreased\s+by)\s+\S{1,20}|squared|cubed|doubled|halved)\s+(?:is|equals|gives|=)",
    re.IGNORECASE,
)
# What a text that gives up still has to say: `If it were a square, the area would be 16.`
_SUPPOSED = re.compile(
    r"\b(?:if|would|were|suppose|supposing|assuming|might|could|all\s+(?:that\s+)?(?:I|we)\s+know|"
    r"(?:I|we)\s+only\s+know|only\s+thing)\b",
    re.IGNORECASE,
)
# `Is it 42 or 43?` at the end of a text.
_ASKED = re.compile(
    r"[^.!?\n]{0,200}\d[^.!?\n]{0,40}\bor\b[^.!?\n]{0,40}\d[^.!?\n]{0,40}\?\s{0,5}\Z"
)


def in_words(tail: str) -> Extracted | None:
    """`The winner is Tom.` says Tom."""
    parts = sentences(tail)
    if not parts:
        return None
    last = parts[-1]
    yes_or_no = re.match(r"\W*(Yes|No)\b[,.]", last)
    if yes_or_no is not None:
        return Extracted(yes_or_no[1], "number")
    copula = last_match(_IS_WORD.finditer(last))
    if copula is None or copula.start() == 0:
        return None
    name = last[copula.end() :].strip("*_ $.").strip()
    if name and len(name.split()) <= 4:
        return Extracted(name, "number")
    return None


_IS_WORD = re.compile(r"\s(?:is|are)\s+")
_REMARK = re.compile(
    r"[\s*_(]*(?:Note|N\.?B\.?|Check|Verif\w+|Explanation|Remark)\b", re.IGNORECASE
)
