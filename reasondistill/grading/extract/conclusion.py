"""The answer of a text that announces none: a choice that it names, its last telling sentence."""

from __future__ import annotations

import re

from reasondistill.grading.extract import beside, core, modifiers, refusals
from reasondistill.grading.extract.changing_words import COUNT, ORDER, PART, TIMES
from reasondistill.grading.extract.doubts import is_question, is_withdrawn, says_yes
from reasondistill.grading.extract.found import Extracted, last_match
from reasondistill.grading.extract.sentence import DISPLAY, from_sentence, sentences

_CHOSEN = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice)\s*[:：]?\s*\(?([A-J])\b\)?|"
    r"(?<![\w$\\])\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)|"
    r"\b(?:[Cc]hoose|[Pp]ick|[Ss]elect|go\s+with|think\s+it\s+is|corresponds\s+to|matches|"
    r"it\s+is|It\s+is)\s+(?:option\s+|choice\s+)?\**\(?([A-J])(?![\w(^+=*/-]|\s[=+*/^-])|"
    r"\bleaves\s+(?:only\s+|us\s+with\s+)?(?:option\s+|choice\s+)?\**\(?([A-J])\)?\**"
    r"(?=[.,;!]|\s*\Z)|"
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
        asked_before = place > 0 and extracted.text in last_ones[place - 1]
        if asked_before and is_answered_no(tail, last_ones, place - 1):
            denied = denied or Extracted(sentence.strip(), "denied")
            continue
        if is_answered_no(tail, last_ones, place):
            denied = denied or Extracted(sentence.strip(), "denied")
            wrong.add(extracted.text.strip())
            continue
        value = beside.place_of(sentence, extracted.text)
        if value is not None and _LABEL.search(sentence, 0, value[0]) is not None:
            continue
        if is_asked(tail, last_ones, place):
            return Extracted(sentence.strip(), "unread")
        if value is not None:
            before = sentence[: value[0]]
            behind = sentence[value[1] :]
            if beside.is_doubted(before) or beside.is_related(before):
                return Extracted(sentence.strip(), "unread")
            if beside.is_of_another_base(behind):
                return Extracted(sentence.strip(), "unread")
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


def is_asked(text: str, parts: list[str], place: int) -> bool:
    """Whether the sentence at this place asks, and the next one does not say yes."""
    if f"{parts[place]}?" not in text or not is_question(parts[place]):
        return False
    return place + 1 >= len(parts) or not says_yes(parts[place + 1])


def is_answered_no(text: str, parts: list[str], place: int) -> bool:
    """Whether the sentence at this place asks, and the next one says no, `Is it 42? No.`, or takes
    it back.
    """
    if place + 1 < len(parts) and is_withdrawn(parts[place + 1]):
        return True
    if place + 1 >= len(parts) or re.match(r"\W*no\b", parts[place + 1], re.IGNORECASE) is None:
        return False
    return f"{parts[place]}?" in text


# `Question 3 is too hard` tells no 3.
_LABEL = re.compile(
    r"\b(?:question|problem|exercise|step|case|part|figure|fig\.|equation|eq\.|section|theorem|"
    r"lemma|page|chapter|example|table|line|attempt|corollary|proposition|definition)"
    r"\s*#?[\s$(]*\Z",
    re.IGNORECASE,
)
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
    if copula is None or copula.start() == 0 or _PARTICIPLE.match(last, copula.end()):
        return number_told_in_words(last)
    name = last[copula.end() :].strip("*_ $.").strip()
    if name and len(name.split()) <= 4:
        return Extracted(name, "number")
    return None


_IS_WORD = re.compile(r"\s(?:is|are)\s+")
# `Two thirds of it is filled.`
_PARTICIPLE = re.compile(r"(?:\w+ly\s+)?(?:\w+ed|left|sold|spent|gone|full|empty)\W*\Z")


def number_told_in_words(sentence: str) -> Extracted | None:
    """`She sold seventy-two clips.` says 72, `two thirds of the tank is filled` 2/3; None where a
    sentence has several numbers, or words that change one.
    """
    fractions = list(_FRACTION_OF.finditer(sentence))
    numbers = list(_NUMBER.finditer(sentence))
    if _BOUNDED.search(sentence) is not None:
        return None
    if len(fractions) == 1 and len(numbers) <= 1:
        fraction = fractions[0]
        over = ORDER[fraction[2].lower()]
        return Extracted(rf"\frac{{{TIMES[fraction[1].lower()]}}}{{{over}}}", "number")
    if len(numbers) != 1 or fractions or numbers[0][0].lower() == "one":
        return None
    number = numbers[0]
    start, end = number.span()
    if modifiers.denies_next(sentence[:start]) or modifiers.changes_next(sentence[:start]):
        return None
    if beside.is_set_apart(sentence[:start]) or beside.is_continued(sentence[end:]):
        return None
    if modifiers.read(sentence[start:]) is not None:
        return None
    told = core.core_at(sentence, start)
    if told is None:
        return None
    return Extracted(told.text, "number")


_NUMBER = re.compile(
    r"(?<![\w-])(?<!\bthe\s)(?<!\ball\s)(?<!\bthese\s)(?<!\bthose\s)"
    rf"(?:{core.NUMBER_WORDS.pattern})",
    re.IGNORECASE,
)
_FRACTION_OF = re.compile(
    rf"\b({COUNT})[\s-]({PART})s?\s+of\s+(?:the|its|his|her|their|all)\b", re.IGNORECASE
)
_BOUNDED = re.compile(
    r"\b(?:least|most|more|less|fewer|if|each|every|per|between|maybe|almost|nearly|over|under|"
    r"not|never|no|cannot|how|what|which|find|calculate|compute|determine)\b|n['’]t\b",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"[\s*_(]*(?:Note|N\.?B\.?|Check|Verif\w+|Explanation|Remark)\b", re.IGNORECASE
)
