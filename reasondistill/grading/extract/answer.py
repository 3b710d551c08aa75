"""Find the answer in what a model wrote, and say where it came from. Linear in the text; all but
the boxes looks at the tail only.

The order: the last box; `#### x`; `answer is x`; the whole text when it is nothing but an answer; a
choice that is named; then what the last telling sentence has in bold, as a formula, as a number. A
malformed last box, or an "answer is" with nothing behind it, never falls back to an earlier one:
the model did not finish its answer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from reasondistill.grading.extract import prose
from reasondistill.grading.read.clean import matching_brace
from reasondistill.thinking import shape_of, split

Where = Literal[
    "boxed",
    "marker",
    "phrase",
    "whole",
    "choice",
    "bold",
    "formula",
    "number",
    "none",
    "malformed",
    "open_think",
]

_TAIL = 4_000
_LONGEST = 20_000
# What chat tokens, tags and marks of reasoning hold; other texts are spared the search for them.
_SIGNS = ("<", "[", "◁", "analysis")
_SPEAKER = re.compile(r"\s*\w{1,12}:\s*")


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer and where it stood; `text` is None when there is none (`where` says why)."""

    text: str | None
    where: Where


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


def extract(
    text: str, *, join: str = "linked", gold: bool = False, stated: bool = False
) -> Extracted:
    """The answer in a completion, a bare answer or (with `gold`) a gold text.

    `join` says how several boxes are read: `last`, `linked` (those joined by "and", "or" or a
    comma), `all`. `stated`: only a box, a mark or "the answer is" counts, as in a text that was cut
    off.
    """
    if any(sign in text for sign in _SIGNS):
        text = without_chat_tokens(text)
        written = split(text, is_cut=stated)
        if written.think == "open" or is_open_behind_a_name(text):
            return Extracted(None, "open_think")
        text = inside_tags(written.answer)
    if not gold:
        text = before_next_question(text)
    if gold and join == "linked":
        join = "all"
    boxed = last_boxes(text, join, gold=gold)
    if boxed is not None:
        return boxed
    tail = text[-_TAIL:]
    for find in (behind_mark, _said):
        extracted = find(tail, gold)
        if extracted is not None:
            return extracted
    if stated:
        return Extracted(None, "none")
    if gold:
        return stated_in_gold(text) or _whole(text)
    chosen = chosen_letter(tail)
    if chosen is not None:
        return chosen
    if looks_bare(text):
        return _whole(text)
    label = _FIRST_LABEL.match(tail)
    if label is not None and len(tail) < 400:
        return Extracted(label[1] or label[2], "choice")
    conclusion = concluded(tail)
    if conclusion is not None:
        return conclusion
    if len(text) < 60 and not re.search(r"\d", text) and len(text.split()) <= 6:
        return _whole(text)
    return Extracted(None, "none")


_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#{1,6} ?|\*\*)?"
    r"(?:Q|Question|Problem|Human|User|Instruction|Exercise)[ \t]{0,3}\d{0,3}[ \t]{0,3}[:.]"
)
_TURN_END = re.compile(
    r"<\|(?:im_end|endoftext|end_of_text|eot_id|end|return|im_start)\|>|"
    r"<｜end▁of▁sentence｜>|</s>|<end_of_turn>|<eos>|\[/INST\]"
)
_HEADER = re.compile(
    r"(?:\s*(?:<s>|<\|(?:begin_of_text|im_start|start_header_id|end_header_id|"
    r"start)\|>|<start_of_turn>)(?:assistant|model)?\s*)+"
)
_TAGS = re.compile(
    r"[<\[](answer|final_answer|solution)[>\]]\s*(.*?)\s*(?:[<\[]/\1[>\]]|\Z)",
    re.DOTALL | re.IGNORECASE,
)


def without_chat_tokens(text: str) -> str:
    """Without chat tokens before the answer, and without what follows the end of the turn."""
    header = _HEADER.match(text)
    if header:
        text = text[header.end() :]
    if shape_of(text) == "harmony":  # several messages, each with an end
        return text
    end = _TURN_END.search(text)
    if end:
        return text[: end.start()]
    return text


def is_open_behind_a_name(text: str) -> bool:
    """`Assistant: <think>…` without an end."""
    speaker = _SPEAKER.match(text)
    return speaker is not None and split(text[speaker.end() :]).think == "open"


def before_next_question(text: str) -> str:
    """Without the questions that a model goes on to ask itself once it has answered its own."""
    if not any(opener in text for opener in _QUESTION_OPENERS):
        return text
    answered = _first_answer(text)
    if answered is None:
        return text
    question = _NEXT_QUESTION.search(text, answered)
    if question is None:
        return text
    head = text[: question.start()]
    rest = text[question.start() :]
    if _has_mark(rest) and not _has_mark(head):
        return text
    return head


_QUESTION_OPENERS = ("Q:", "Question", "Problem", "Human:", "User:")


def _first_answer(text: str) -> int | None:
    """Where the first box, mark or "answer is" stands."""
    places = [text.find("boxed{"), text.find("####")]
    phrase = _PHRASE.search(text)
    if phrase:
        places.append(phrase.start())
    return min((place for place in places if place >= 0), default=None)


def _has_mark(text: str) -> bool:
    return "boxed{" in text or "####" in text


def inside_tags(text: str) -> str:
    """What stands in the last answer tags."""
    if "<answer>" in text:
        return text.rpartition("<answer>")[2].partition("</answer>")[0]
    tagged = _last(_TAGS.finditer(text[-_TAIL:]))
    if tagged:
        return tagged[2]
    return text


def stated_in_gold(gold: str) -> Extracted | None:
    """`The probability is $x$.` as a gold says x; formulas with a few words between them stay as
    they are.
    """
    if not gold.rstrip(". \n\t").endswith(("$", "\\)", "\\]")):
        return None
    if not {"is", "are", "equals"} & set(gold.lower().split()):
        return None
    if "\n" in gold:
        return _from_sentence(_sentences(gold[-_TAIL:])[-1])
    return _from_sentence(prose.clause(gold[-_TAIL:]))


def _last(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    last = deque(matches, maxlen=1)
    if last:
        return last[0]
    return None


# ---- boxes ---------------------------------------------------------------------------------------


def last_boxes(text: str, join: str, *, gold: bool) -> Extracted | None:
    """The last box, with those linked to it before it; None when there is no box at all."""
    if "\x08" in text:
        text = text.replace("\x08oxed", "\\boxed")
    start = last_box_start(text)
    if start is None:
        return None
    last = _box_at(text, start)
    if last is None:
        return Extracted(None, "malformed")
    contents = [last.content]
    if join != "last":
        contents = linked_before(text, last.start, join, gold) + contents
    distinct = list(dict.fromkeys(without_sentence(content.strip()) for content in contents))
    if "".join(distinct):
        return Extracted(", ".join(distinct), "boxed")
    return Extracted(None, "none")


def without_sentence(content: str) -> str:
    """What a box says that holds a sentence, `There are 12 apples`; else the box as it is."""
    if " " not in content:
        return content
    whole = re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}", content)
    words = content.strip()
    if whole:
        words = whole[1].strip()
    if len(words) > 300 or not re.search(r"\d", words):
        return content
    if "\\" in words.replace("\\$", ""):
        return content
    if _VERBS.isdisjoint(words.lower().split()):
        return content
    answer = _said(words, False)
    if answer is None:
        answer = _stated(words, "boxed")
    return answer.text or content


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def last_box_start(text: str) -> int | None:
    """Where the last `\\boxed` begins, searched from the end: a long trace costs its tail."""
    boxed, framed = text.rfind("boxed"), text.rfind("fbox")
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


def _box_at(text: str, start: int) -> _Box | None:
    """The complete box that begins here. `\\boxed 5` without braces is one token."""
    head = _BOX.match(text, start)
    if head is None or head.end() >= len(text):
        return None
    if text[head.end()] == "{":
        end = matching_brace(text, head.end(), _LONGEST)
        if end < 0:
            return None
        return _Box(start, end + 1, text[head.end() + 1 : end])
    token = _BARE_TOKEN.match(text, head.end())
    if token:
        return _Box(start, token.end(), token[0])
    return None


def linked_before(text: str, start: int, join: str, gold: bool) -> list[str]:
    """Contents of the boxes before `start` that belong to the same answer, first to last; at most
    20.
    """
    window = max(0, start - _TAIL)
    if text.find("boxed", window, start) < 0 and text.find("fbox", window, start) < 0:
        return []
    boxes: list[_Box] = []
    for head in list(_BOX.finditer(text, window, start))[-20:]:
        if boxes and head.start() < boxes[-1].end:
            continue  # a box inside a box
        box = _box_at(text, head.start())
        if box is not None and box.end <= start:
            boxes.append(box)
    joins_all = join == "all" and not gold
    contents: list[str] = []
    for box in reversed(boxes):
        between = _NOISE.sub(" ", text[box.end : start])
        if not joins_all and not _is_link(between, gold):
            break
        contents.append(box.content)
        start = box.start
    return contents[::-1]


def _is_link(between: str, gold: bool) -> bool:
    """Whether the text between two boxes joins them; nothing at all does so only in a gold."""
    if len(between) > 60 or _LINK.match(between) is None:
        return False
    return gold or bool(between.strip())


# ---- marks and phrases ---------------------------------------------------------------------------

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
_PHRASE = re.compile(
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
_TELLING = re.compile(r"\d|[$\\]|½|π|√|∞|\b[A-J]\b")


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
            return _stated(statement, "marker")
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


def _said(tail: str, gold: bool) -> Extracted | None:
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
    turned = _last(_CORRECTION.finditer(rest))
    if turned is not None and _TELLING.search(rest[turned.end() :]):
        return None
    answer = _stated(rest, "phrase")
    if answer.text is not None and not _TELLING.search(answer.text):
        end = prose.SENTENCE_END.search(rest)
        if end and re.search(r"\d", rest[end.end() :]):
            return None
    return answer


def last_phrase(tail: str, gold: bool) -> re.Match[str] | None:
    """The last phrase that announces an answer: "answer is", a heading, or else "result is" with
    nothing telling behind its sentence.
    """
    phrase = _last(_PHRASE.finditer(tail))
    heading = _last(_HEADING.finditer(tail))
    if heading is not None and (phrase is None or heading.end() > phrase.end()):
        return heading
    if phrase is not None:
        return phrase
    weak = _last(_WEAK.finditer(tail))
    if weak is None or gold:
        return weak
    rest = tail[weak.end() :]
    end = prose.SENTENCE_END.search(rest)
    if end is not None and _TELLING.search(rest[end.end() :]):
        return None
    return weak


def _stated(rest: str, where: Where) -> Extracted:
    """The answer that a sentence begins with: a formula (and those linked to it), a number, a
    choice letter, or its words.
    """
    bold = _BOLD_START.match(rest)
    if bold is not None and _TELLING.search(bold[2]):
        continues = re.match(r"\s*(?:,|and\b|or\b)", rest[bold.end() :])
        if not continues:
            rest = bold[2]
        else:
            listed = _from_sentence(prose.clause(rest), where)
            if listed is not None:
                return listed
    again = prose.restated(rest)
    if again is not None:
        return Extracted(again, where)
    rest = prose.without_lead(rest)
    display = _DISPLAY.match(rest)
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
    return _from_sentence(sentence, where) or whole


def _from_sentence(sentence: str, where: Where | None = None) -> Extracted | None:
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
        if looks_bare(span) or _TELLING.search(span):
            spans.append(span.rstrip("."))
    if not spans:
        return None
    if looks_bare(spans[-1]):
        return ", ".join(prose.linked_bold(sentence, spans))
    inner = _from_sentence(spans[-1])
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
    copula = _last(_COPULA.finditer(sentence[: last.start()]))
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


_EQUATES = re.compile(r"[A-Za-z}\d]\s*[-+*/^].*=|\\frac.*=")
_COPULA = re.compile(r"\b(?:is|are|equals?)\b|是|为")

# ---- what is left --------------------------------------------------------------------------------

_CHOSEN = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice)\s*[:：]?\s*\(?([A-J])\b\)?|"
    r"(?<![\w$\\])\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)|"
    r"\b(?:[Cc]hoose|[Pp]ick|[Ss]elect|go\s+with|think\s+it\s+is|corresponds\s+to|matches|"
    r"it\s+is|It\s+is)\s+(?:option\s+|choice\s+)?\**\(?([A-J])(?![\w(^+=*/-]|\s[=+*/^-])|"
    r"(?:故选|应选|所以选|选择|答案选|选项是?|选)\s*[:：]?\s*\(?([A-J])(?![A-Za-z])|"
    r"opción\s+\(?([A-J])\b"
)
_FIRST_LABEL = re.compile(
    r"\s*\**\(?([A-J])(?:\)|\.|\b)\**(?:\s*\Z|\s*\n|[.):]\s+\S)|\s*\(([A-J])\)\s+\S"
)


def chosen_letter(tail: str) -> Extracted | None:
    """A choice that is named."""
    last = _last(_CHOSEN.finditer(tail))
    if last is not None and not re.search(r"\d{2}", tail[last.end() + 40 :]):
        return Extracted(next(letter for letter in last.groups() if letter), "choice")
    return None


def concluded(tail: str) -> Extracted | None:
    """What the last sentence that tells anything tells."""
    environments = list(_DISPLAY.finditer(tail))
    if environments and not re.search(r"\d", tail[environments[-1].end() :]):
        return Extracted(environments[-1][0], "formula")
    for sentence in reversed(_sentences(tail)):
        if _REMARK.match(sentence):
            continue
        extracted = _from_sentence(sentence)
        if extracted is not None and extracted.text:
            return Extracted(extracted.text.strip(), extracted.where)
    return in_words(tail)


def in_words(tail: str) -> Extracted | None:
    """`The winner is Tom.` says Tom."""
    sentences = _sentences(tail)
    if not sentences:
        return None
    last = sentences[-1]
    yes_or_no = re.match(r"\W*(Yes|No)\b[,.]", last)
    if yes_or_no is not None:
        return Extracted(yes_or_no[1], "number")
    copula = _last(_IS_WORD.finditer(last))
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
_DISPLAY = re.compile(
    r"\\begin\s*\{(align|aligned|equation|gather|gathered|"
    r"multline)\*?\}(?:(?!\\begin)[\s\S]){0,2000}?\\end\s*\{\1\*?\}"
)


def _sentences(tail: str) -> list[str]:
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


_COMMANDS = re.compile(
    r"\\(?:text|textbf|textrm|textit|textnormal|mathrm|mathbf|mbox|operatorname|begin|"
    r"end)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORDS = re.compile(
    r"(?<![A-Za-z\d+*/^=²³])[A-Za-zÀ-ɏ]{2,}(?![A-Za-z\d+*/^=(²³])|"
    r"[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff]{2,}"
)
_NAMES = frozenset(
    re.findall(
        r"\w+",
        "sqrt sin cos tan log ln pi exp arctan arcsin arccos and or percent pct "
        "percentage nan inf to",
    )
)
_VERBS = frozenset(
    re.findall(
        r"[\w']+",
        "is are was were be has have had gets get gives got costs cost earns earn needs "
        "need equals so thus hence therefore there we he "
        "she it they i makes make becomes means since because if then total using let "
        "find area after es est ist el la der die das le il "
        "that's okay about exactly approximately",
    )
)
_PREPOSITIONS = frozenset(
    re.findall(r"\w+", "for of from as that but in by at after with than because since this")
)
_MONTHS = frozenset(re.findall(r"\w+", "jan feb mar apr may jun jul aug sep oct nov dec"))
_FOREIGN = re.compile(r"[\u0400-\u04ff\u0600-\u0e7f\u3040-\u9fff\uac00-\ud7af]{2,}")
_ABBREVIATED = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|No|approx|lb|lbs|oz|ft|in|hr|min|sec|Jan|Feb|Mar|Apr|Jun|"
    r"Jul|Aug|Sept?|Oct|Nov|Dec|[A-J])\."
)


def looks_bare(text: str) -> bool:
    """True when the text is nothing but an answer: a formula, or a few words without a sentence
    around them.
    """
    text = text.strip()
    if not text or len(text) > 2_000:
        return False
    formula = prose.formula_at(text)
    if formula is not None and formula.end() == len(text):
        return len(_words(prose.inner(formula))) < 12
    if "\n\n" in text or "**" in text.strip("*"):
        return False
    words = _words(text)
    starts = re.match(r"[-+−–$€£\\(\[{=~]*\s*[\d.]", text) is not None
    if words and _has_formula(text):
        return False
    if starts and any(word.lower() in _PREPOSITIONS for word in words):
        return False
    digit = re.search(r"\d", text)
    if digit is None:
        if len(words) > 2 and _has_verb(words):
            return False
        return len(words) <= 6 and not _has_sentence_end(text)
    if not starts and _FOREIGN.search(text):
        return False
    if "=" in text and re.search(r"[$€£]\d", text):
        return False
    before = _words(text[: digit.start()] + " ")
    if before and not _is_month(before):
        return False
    if _has_verb(words):
        return False
    has_label = len(words) > 1 or re.search(r"[^\W\d_]{3,}\s*[:：]", text)
    if has_label and re.search(r"[=:]", text):
        return False
    if _has_sentence_end(text):
        return False
    if starts:
        return len(words) <= 8
    return len(words) <= 2


def _has_verb(words: list[str]) -> bool:
    return any(word.lower() in _VERBS for word in words)


def _is_month(words: list[str]) -> bool:
    return len(words) == 1 and words[0][:3].lower() in _MONTHS


def _has_sentence_end(text: str) -> bool:
    """Whether a sentence ends and another begins; abbreviations end none."""
    return re.search(r"[.!?]\s+\S", _ABBREVIATED.sub("", text)) is not None


def _words(text: str) -> list[str]:
    """The words outside commands; products of letters such as `xy` or `nRT` are none."""
    if "\\" in text:
        text = re.sub(r"\{[^{}]*\}", " ", _COMMANDS.sub(" ", text))
    words: list[str] = []
    for word in _WORDS.findall(text):
        if word.lower() not in _NAMES and not is_product(word):
            words.append(word)
    return words


def is_product(word: str) -> bool:
    """Whether letters stand for factors, as in `xy` and `nRT`, and are no word."""
    low = word.lower()
    if len(word) <= 3 and not re.search(r"[aeiou]", low):
        return True
    if len(word) <= 3 and word.isupper():
        return True
    return len(word) == 2 and low not in _VERBS and low not in _TWO


_TWO = frozenset(
    re.findall(r"\w+", "am an as at by do go he in is it me my no of on or so to up us we")
)


def _has_formula(text: str) -> bool:
    return next(prose.formulas(text), None) is not None


def _whole(text: str) -> Extracted:
    text = text.strip()
    if text:
        return Extracted(text, "whole")
    return Extracted(None, "none")
