"""The answer in `\\boxed{}`, with the boxes that belong to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from reasondistill.grading.extract import modifiers, prose
from reasondistill.grading.extract.bare import VERBS
from reasondistill.grading.extract.found import TAIL, Extracted, last_match
from reasondistill.grading.extract.phrases import read_words, said, stated
from reasondistill.grading.read.clean import matching_brace

LONGEST = 20_000
_MOST = 20
_BOX = re.compile(r"\\+(?:begin|f|x08)?boxed\s*|\\+fbox\s*")
_BARE_TOKEN = re.compile(
    r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\sqrt\s*(?:\{[^{}]*\}|\d)|"
    r"\\[A-Za-z]+|[-+]?[\w.]+"
)
_LINK = re.compile(
    r"\s*[,;]?\s*(?:and|or|[,;&])?\s*(?:[A-Za-z](?:_\w)?\s*=)?\s*\Z|\s*for part \(?\w\)?,? and\s*\Z"
)
_NOISE = re.compile(
    r"\\(?:quad|qquad|text(?:rm|bf|normal)?|mathrm|hspace\{[^{}]*\}|[,;:! "
    r"()\[\]])|[${}\s]+|\.(?=\s*\$?\s*\Z)"
)


def last_boxes(text: str, join: str, *, gold: bool) -> Extracted | None:
    """The last box, with those linked to it before it; None when there is no box at all."""
    if "\x08" in text:
        text = text.replace("\x08oxed", "\\boxed")
    start = last_box_start(text, len(text))
    if start is None:
        return None
    last = _box_at(text, start, len(text))
    if last is None:
        return Extracted(None, "malformed")
    if not gold:
        answering = last_answering(text, last)
        if answering is None and denies_box(text, last):
            return Extracted(surroundings(text, last), "denied")
        if answering is None and speaks_of_box(text, last):
            return None
        if answering is None:
            return Extracted(None, "none")
        last = answering
        if is_changed(text, last):
            return Extracted(surroundings(text, last), "unread")
    before = boxes_before(text, last.start)
    if not gold and not before:
        with_unit = measured(text, last)
        if with_unit is not None:
            return with_unit
    contents = [last.content]
    if join != "last":
        if not gold and is_rounded(text, before, last):
            exact = without_sentence(before[-1].content.strip())
            return Extracted(exact, "boxed", other=_APPROXIMATELY.sub("", last.content).strip())
        if join == "linked" and before and are_parts(text, [*before, last]):
            parts = joined([*(box.content for box in before), last.content], keeps_twins=True)
            return replace(parts, other=without_sentence(last.content.strip()))
        contents = linked_before(text, before, last.start, join, gold) + contents
    if not any(content.strip() for content in contents):
        return Extracted(None, "none")
    return joined(contents, keeps_twins=gold or join == "linked")


_APPROXIMATELY = re.compile(r"\A\s*(?:\\approx(?![A-Za-z])|≈)")


def surroundings(text: str, box: Box) -> str:
    """A box with some of the words beside it, to show why it is no answer."""
    return text[max(0, box.start - 40) : box.end + 40].strip()


def joined(contents: list[str], *, keeps_twins: bool) -> Extracted:
    """One answer of the contents of several boxes. What is said twice counts twice in a list of
    parts; where nothing else is said it is one answer as well.
    """
    parts: list[str] = []
    is_worded = False
    for content in contents:
        plain = without_adverb(without_sentence(content.strip()))
        worded = read_words(plain, "boxed")
        if worded is not None and worded.text is not None:
            if not worded.has_value:
                return Extracted(plain, worded.where)
            plain = worded.text
            is_worded = True
        parts.append(plain)
    distinct = list(dict.fromkeys(parts))
    if not keeps_twins:
        parts = distinct
    said_again = None
    if len(distinct) == 1 and len(parts) > 1:
        said_again = distinct[0]
    return Extracted(", ".join(parts), "boxed", is_worded, other=said_again)


# ---- boxes that are no answer --------------------------------------------------------------------


def last_answering(text: str, box: Box) -> Box | None:
    """The last box, from this one backwards, that holds an answer: `inside \\boxed{}` only speaks
    of a box, and `not \\boxed{42}` says no to one.
    """
    for _ in range(_MOST):
        if not is_mention(box) and not denies_box(text, box):
            return box
        if is_mention(box) and not speaks_of_box(text, box):
            return None
        start = last_box_start(text, box.start)
        if start is None:
            return None
        before = _box_at(text, start, LONGEST)
        if before is None or before.end > box.start:
            return None
        box = before
    return None


def is_mention(box: Box) -> bool:
    """Whether there is nothing in a box but a place for an answer."""
    content = box.content.strip()
    return len(content) < 60 and _PLACE.fullmatch(content) is not None


def speaks_of_box(text: str, box: Box) -> bool:
    """Whether an empty box stands in a sentence about boxes: `the answer is inside \\boxed{}`."""
    return _INSIDE.search(text[max(0, box.start - 30) : box.start]) is not None


_INSIDE = re.compile(
    r"(?:\b(?:in|inside|within|into|using|with|by|a|the|of|an|use|used|writes?|wrote|as|"
    r"the\s+form)|在|用)[\s`'\"$(*\\]*\Z",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"(?:\\[ ,;:!]|\s|[.…~]|\\(?:l|c)?dots|\\cdot|\{\}|"
    r"(?:\\text\s*\{)?\s*(?:your\s+|the\s+|final\s+)*answer(?:\s+here)?\s*\}?)*",
    re.IGNORECASE,
)


def denies_box(text: str, box: Box) -> bool:
    """Whether the words beside a box say that it is wrong."""
    before = text[max(0, box.start - 60) : box.start]
    if modifiers.denies_next(before):
        return True
    return modifiers.denies(_CLOSED.sub("", text[box.end : box.end + 80], count=1))


def is_changed(text: str, box: Box) -> bool:
    """Whether the words beside a box make another value of it: `minus \\boxed{42}`."""
    before = text[max(0, box.start - 60) : box.start]
    if modifiers.changes_next(before) or _OPERATED.search(before):
        return True
    if _RAISED.match(text, box.end):
        return True
    behind = _CLOSED.sub("", text[box.end : box.end + 80], count=1)
    return _CHANGES_BOX.match(behind) is not None


def measured(text: str, box: Box) -> Extracted | None:
    """A number in a box with the unit of measure right behind it: `\\boxed{150} hours`."""
    number = box.content.strip()
    if _NUMBER.fullmatch(number) is None:
        return None
    behind = _CLOSED.sub(" ", text[box.end : box.end + 80], count=1)
    unit = _UNIT_WORD.match(behind)
    if unit is None:
        return None
    return Extracted(f"{number}\\text{{ {unit[1]}}}", "boxed")


# What makes another value of the box behind it: a factor, a minus, a relation, a root.
_OPERATED = re.compile(
    r"(?:[=$(\[{]\s*-|\d\s*[-+*/^]|[\w})]\s?[<>]|"
    r"\\(?:cdot|times|div|pm|mp|sqrt|ln|log(?:_\{?\w{1,3}\}?)?|sin|cos|tan|neq?|leq?|geq?)|"
    r"\\[dt]?frac\s*\{[^{}]{0,40}\}(?=\s*\{))\s*\{?\s*\Z"
)
_RAISED = re.compile(
    r"\s*\^\s*(?!\{?\s*\\(?:circ|prime|degree|text|mathrm))|!+\s*(?:\$|\\\))|[a-z](?=\$|\\\))"
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\\[dt]?frac\{\d+\}\{\d+\}")
_UNIT_WORD = re.compile(rf"\s+({prose.UNIT_WORD})\b(?!\s*(?:per\b|[/^²³]|of\b))", re.IGNORECASE)
_CLOSED = re.compile(r"\A[\s$)\]*\\]+(?=\s|\Z)")
_CHANGES_BOX = re.compile(
    r"\s*(?:factorial|squared(?!\s+\w*(?:unit|cm|met|feet|foot|inch|mile))|"
    r"cubed(?!\s+\w*(?:unit|cm|met|feet|foot|inch|mile)))\b|"
    r"\s*or\s+[$\\(]*boxed\{[^{}]{1,40}\}[$\s)\\]*\?",
    re.IGNORECASE,
)


def behind_last_box(text: str) -> tuple[str, str] | None:
    """The content of the last box that holds an answer, and the text behind it."""
    start = last_box_start(text, len(text))
    if start is None:
        return None
    last = _box_at(text, start, len(text))
    if last is None:
        return None
    answering = last_answering(text, last)
    if answering is None:
        return None
    return answering.content, text[answering.end :]


def without_sentence(content: str) -> str:
    """What a box says that holds a sentence, `There are 12 apples`; else the box as it is."""
    if " " not in content:
        return content
    formula = behind_is(content)
    if formula is not None:
        return formula
    whole = re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}", content)
    words = content.strip()
    if whole:
        words = whole[1].strip()
    if len(words) > 300 or not re.search(r"\d", words):
        return content
    if "\\" in words.replace("\\$", ""):
        return content
    if VERBS.isdisjoint(words.lower().split()):
        return content
    answer = said(words, False)
    if answer is None:
        answer = stated(words, "boxed")
    return answer.text or content


def without_adverb(content: str) -> str:
    """`\\text{exactly }5` says 5, and `\\text{all } n\\ge 3` says which n."""
    adverb = _ADVERB.match(content)
    if adverb is None or len(content) > 300:
        return content
    return content[adverb.end() :]


_ADVERB = re.compile(
    r"\\text\s*\{\s*(?:exactly|about|approximately|approx\.?|only|just|roughly|around|nearly|"
    r"simply|"
    r"precisely)\s*\}\s*(?=[-\\\d$.])|"
    r"\\text\s*\{\s*(?:for\s+)?(?:all|every|any|each)\s*\}\s*(?=[a-z]\s*(?:[<>=≤≥]|\\(?:leq?|"
    r"geq?|in)\b))"
)


def behind_is(content: str) -> str | None:
    """The formula behind the last "is" of a sentence in a box: `The area is \\frac{1}{2}`."""
    if len(content) > 500 or "\\" not in content:
        return None
    copula = last_match(_BOXED_IS.finditer(content))
    if copula is None:
        return None
    subject = re.sub(r"\\[A-Za-z]+|\\ ", " ", content[: copula.start()])
    formula = content[copula.end() :].strip().rstrip(".")
    if len(re.findall(r"[A-Za-z]{2,}", subject)) < 2 or not re.search(r"[\\\d]", formula):
        return None
    if formula.count("{") != formula.count("}"):
        return None
    words = re.findall(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", " ", formula))
    if len(words) > 2:
        return None
    return formula


_BOXED_IS = re.compile(
    r"(?<![A-Za-z\\])(?:is|are|equals)(?![A-Za-z'])(?:\\?[\s~:])*\}?(?:\\?[\s~])*"
)


@dataclass(frozen=True, slots=True)
class Box:
    """A box, where it stands in the text, and what is in it."""

    start: int
    end: int
    content: str


def last_box_start(text: str, end: int) -> int | None:
    """Where the last `\\boxed` before `end` begins, searched from there: a long trace costs its
    tail.
    """
    boxed, framed = text.rfind("boxed", 0, end), text.rfind("fbox", 0, end)
    while boxed >= 0 or framed >= 0:
        place = max(boxed, framed + 1)
        start = text.rfind("\\", max(0, place - 6), place)
        if start >= 0 and _BOX.match(text, start):
            while start > 0 and text[start - 1] == "\\":
                start -= 1
            return start
        if boxed == place:
            boxed = text.rfind("boxed", 0, place)
        else:
            framed = text.rfind("fbox", 0, framed)
    return None


def _box_at(text: str, start: int, limit: int) -> Box | None:
    """The complete box, of at most `limit` characters, that begins here; without braces it is one
    token.
    """
    head = _BOX.match(text, start)
    if head is None or head.end() >= len(text):
        return None
    if text[head.end()] == "{":
        end = matching_brace(text, head.end(), limit)
        if end < 0:
            return None
        return Box(start, end + 1, text[head.end() + 1 : end])
    token = _BARE_TOKEN.match(text, head.end())
    if token:
        return Box(start, token.end(), token[0])
    return None


def is_rounded(text: str, before: list[Box], last: Box) -> bool:
    """Whether the last box has the decimals of the exact value in the one before it."""
    if not before or re.search(r"\d\.\d", last.content) is None:
        return False
    if re.search(r"\d\.\d|\\approx|≈", before[-1].content):
        return False
    between = text[before[-1].end : last.start]
    if len(between) > 80 or re.search(r"[.!?]\s+[A-Z]", between):
        return False
    says_so = re.search(r"≈|\\approx|\b(?:numerically|approx\w*|about|roughly|decimal)\b", between)
    return says_so is not None or re.match(r"\s*(?:\\approx|≈)", last.content) is not None


def linked_before(text: str, boxes: list[Box], start: int, join: str, gold: bool) -> list[str]:
    """Contents of the boxes before `start` that belong to the same answer, first to last."""
    joins_all = join == "all" and not gold
    contents: list[str] = []
    for box in reversed(boxes):
        between = _NOISE.sub(" ", text[box.end : start])
        if not joins_all and not _is_link(between, gold):
            break
        contents.append(box.content)
        start = box.start
    return contents[::-1]


def boxes_before(text: str, start: int) -> list[Box]:
    """The last boxes before a place, as far as the window reaches."""
    window = max(0, start - TAIL)
    if text.find("boxed", window, start) < 0 and text.find("fbox", window, start) < 0:
        return []
    boxes: list[Box] = []
    for head in list(_BOX.finditer(text, window, start))[-_MOST:]:
        if boxes and head.start() < boxes[-1].end:
            continue  # a box inside a box
        box = _box_at(text, head.start(), LONGEST)
        if box is not None and box.end <= start:
            boxes.append(box)
    return boxes


def are_parts(text: str, boxes: list[Box]) -> bool:
    """Whether the boxes answer (a), (b), (c) … in order, one each."""
    behind = max(0, boxes[0].start - TAIL)
    for number, box in enumerate(boxes, start=1):
        labels = list(_PART_LABEL.finditer(text, behind, box.start))
        if not labels or (number > 1 and len(labels) > 1):
            return False
        label = next(group for group in labels[-1].groups() if group)
        if _PART_NUMBERS.get(label.lower()) != number:
            return False
        behind = box.end
    return True


_PART_LABEL = re.compile(
    r"(?:(?<=[\n.;,:$}])|\A|\band)[ \t]*[*_#$]{0,4}[ \t]*"
    r"(?:(?:part|question|teil|partie|parte)[ \t]*\(?([a-h1-9]|iii|iv|ii|i|v)\b\)?|"
    r"\(([a-h1-9]|iii|iv|ii|i|v)\)|([a-h])\))(?=[\s*_:.$])",
    re.IGNORECASE,
)
_PART_NUMBERS = {
    **{letter: place for place, letter in enumerate("abcdefgh", start=1)},
    **{str(number): number for number in range(1, 10)},
    **{"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5},
}


def _is_link(between: str, gold: bool) -> bool:
    """Whether the text between two boxes joins them; nothing at all does so only in a gold."""
    if len(between) > 60 or _LINK.match(between) is None:
        return False
    return gold or bool(between.strip())


def boxed_answers(text: str) -> list[str]:
    """What the boxes near the last one say, first to last. Those that are parts of one answer are
    one; those that only speak of a box, or that the words beside them deny, are none.
    """
    start = last_box_start(text, len(text))
    last = None if start is None else _box_at(text, start, len(text))
    if last is None:
        return []
    boxes = [*boxes_before(text, last.start), last]
    boxes = [box for box in boxes if not is_mention(box) and not denies_box(text, box)]
    if len(boxes) > 1 and are_parts(text, boxes):
        return [", ".join(box.content for box in boxes)]
    answers: list[str] = []
    end = 0
    for box in boxes:
        between = _NOISE.sub(" ", text[end : box.start])
        if answers and _is_link(between, gold=False):
            answers[-1] += f", {box.content}"
        else:
            answers.append(box.content)
        end = box.end
    return answers
