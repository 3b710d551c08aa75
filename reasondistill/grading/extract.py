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

from reasondistill.grading import prose
from reasondistill.grading.clean import matching_brace
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
    r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\sqrt\s*(?:\{[^{}]*\}|\d)|\\[A-Za-z]+|[-+]?[\w.]+"
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
        text = _cut_chatter(text)
        written = split(text, is_cut=stated)
        if written.think == "open" or _is_open_behind_a_name(text):
            return Extracted(None, "open_think")
        text = _in_tags(written.answer)
    if not gold:
        text = _before_next_question(text)
    if (
        boxed := last_boxes(text, "all" if gold and join == "linked" else join, gold=gold)
    ) is not None:
        return boxed
    tail = text[-_TAIL:]
    for find in (_marked, _said):
        if (found := find(tail, gold)) is not None:
            return found
    if stated:
        return Extracted(None, "none")
    if gold:
        return _of_sentence(text) or _whole(text)
    if (chosen := _chosen(tail)) is not None:
        return chosen
    if looks_bare(text):
        return _whole(text)
    return (
        _labelled(tail)
        or _concluded(tail)
        or (_whole(text) if len(text) < 60 and _only_words(text) else Extracted(None, "none"))
    )


_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#{1,6} "
    r"?|\*\*)?(?:Q|Question|Problem|Human|User|Instruction|Exercise)[ "
    r"\t]{0,3}\d{0,3}[ \t]{0,3}[:.]"
)
_TURN_END = re.compile(
    r"<\|(?:im_end|endoftext|end_of_text|eot_id|end|return|im_start)\|>|<｜end▁of▁sentence｜>|</s>|<end_of_turn>|<eos>|\[/INST\]"
)
_HEADER = re.compile(
    r"(?:\s*(?:<s>|<\|(?:begin_of_text|im_start|start_header_id|end_header_id|start)\|>|<start_of_turn>)(?:assistant|model)?\s*)+"
)
_TAGS = re.compile(
    r"[<\[](answer|final_answer|solution)[>\]]\s*(.*?)\s*(?:[<\[]/\1[>\]]|\Z)",
    re.DOTALL | re.IGNORECASE,
)


def _cut_chatter(text: str) -> str:
    """Without chat tokens before the answer, and without what follows the end of the turn."""
    header = _HEADER.match(text)
    text = text[header.end() :] if header else text
    if shape_of(text) == "harmony":  # several messages, each with an end
        return text
    end = _TURN_END.search(text)
    return text[: end.start()] if end else text


def _is_open_behind_a_name(text: str) -> bool:
    """`Assistant: <think>…` without an end."""
    speaker = _SPEAKER.match(text)
    return speaker is not None and split(text[speaker.end() :]).think == "open"


def _before_next_question(text: str) -> str:
    """Without the questions that a model goes on to ask itself once it has answered its own."""
    if (
        "Q:" not in text
        and "Question" not in text
        and "Problem" not in text
        and "Human:" not in text
        and "User:" not in text
    ):
        return text
    said = _PHRASE.search(text)
    places = [
        place
        for place in (text.find("boxed{"), text.find("####"), said.start() if said else -1)
        if place >= 0
    ]
    question = _NEXT_QUESTION.search(text, min(places)) if places else None
    if question is None:
        return text
    head, rest = text[: question.start()], text[question.start() :]
    only_after = any(mark in rest for mark in ("boxed{", "####")) and not any(
        mark in head for mark in ("boxed{", "####")
    )
    return text if only_after else head


def _in_tags(text: str) -> str:
    """What stands in the last answer tags."""
    if "<answer>" in text:
        return text.rpartition("<answer>")[2].partition("</answer>")[0]
    tagged = _last(_TAGS.finditer(text[-_TAIL:]))
    return tagged[2] if tagged else text


def _of_sentence(gold: str) -> Extracted | None:
    """`The probability is $x$.` as a gold says x; formulas with a few words between them stay as
    they are.
    """
    if not gold.rstrip(". \n\t").endswith(("$", "\\)", "\\]")) or not {"is", "are", "equals"} & set(
        gold.lower().split()
    ):
        return None
    return _from_sentence(
        prose.clause(gold[-_TAIL:]) if "\n" not in gold else _sentences(gold[-_TAIL:])[-1]
    )


def _last(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    found = deque(matches, maxlen=1)
    return found[0] if found else None


# ---- boxes ---------------------------------------------------------------------------------------


def last_boxes(text: str, join: str, *, gold: bool) -> Extracted | None:
    """The last box, with those linked to it before it; None when there is no box at all."""
    text = text.replace("\x08oxed", "\\boxed") if "\x08" in text else text
    start = _last_box_start(text)
    if start is None:
        return None
    last = _box_at(text, start)
    if last is None:
        return Extracted(None, "malformed")
    contents = [last.content]
    if join != "last":
        contents = _linked_before(text, last.start, join, gold) + contents
    distinct = list(dict.fromkeys(_spoken(content.strip()) for content in contents))
    return Extracted(", ".join(distinct), "boxed") if "".join(distinct) else Extracted(None, "none")


def _spoken(content: str) -> str:
    """What a box says that holds a sentence: `There are 12 apples`."""
    if " " not in content:
        return content
    whole = re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}", content)
    words = (whole[1] if whole else content).strip()
    if (
        len(words) > 300
        or not re.search(r"\d", words)
        or "\\" in words.replace("\\$", "")
        or _VERBS.isdisjoint(words.lower().split())
    ):
        return content
    found = _stated(words, "boxed") if (said := _said(words, False)) is None else said
    return found.text or content


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def _last_box_start(text: str) -> int | None:
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
    if text[head.end()] != "{":
        token = _BARE_TOKEN.match(text, head.end())
        return _Box(start, token.end(), token[0]) if token else None
    end = matching_brace(text, head.end(), _LONGEST)
    return None if end < 0 else _Box(start, end + 1, text[head.end() + 1 : end])


def _linked_before(text: str, start: int, join: str, gold: bool) -> list[str]:
    """Contents of the boxes before `start` that belong to the same answer, first to last; at most
    20.
    """
    window = max(0, start - _TAIL)
    if text.find("boxed", window, start) < 0 and text.find("fbox", window, start) < 0:
        return []
    boxes: list[_Box] = []
    for head in list(_BOX.finditer(text, window, start))[-20:]:
        if (
            (not boxes or head.start() >= boxes[-1].end)
            and (box := _box_at(text, head.start())) is not None
            and box.end <= start
        ):
            boxes.append(box)
    contents: list[str] = []
    for box in reversed(boxes):
        between = _NOISE.sub(" ", text[box.end : start])
        empty = not between.strip()
        linked = len(between) <= 60 and _LINK.match(between) is not None and (gold or not empty)
        if not (linked or (join == "all" and not gold)):
            break
        contents.append(box.content)
        start = box.start
    return contents[::-1]


# ---- marks and phrases ---------------------------------------------------------------------------

_IS = (
    r"(?:(?:is|are|est|es|ist|é|è|should\s+be|must\s+be|would\s+be|will\s+be|to\s+be|comes\s+out\s+to|was|equals|là)\b|"
    r"->|→|⇒|[:：=是为은는は选]|هي|คือ|है|-\s(?=\(?[A-J]\)?\W*\Z))"
)
_PHRASE = re.compile(
    rf"(?:\b(?:final\s+)?answers?|\b(?:correct|right|best)\s+(?:option|choice|letter)|\b(?:correct\s+)?choice|答案|正确选项|答え|정답|답|उत्तर|الإجابة|đáp\s+án|คำตอบ|réponse|respuesta|resposta|risposta|antwort|ответ)"
    rf"(?:\s+(?:correcta|correcte|finale?|here))?\W{{0,4}}\s*{_IS}\s*[:：]?\s*",
    re.IGNORECASE,
)
_WEAK = re.compile(rf"\b(?:results?|reply|solution)\W{{0,4}}\s*{_IS}\s*[:：]?\s*", re.IGNORECASE)
_HEADING = re.compile(r"(?m)^[ \t>*_#]*(?:final\s+)?answer[ \t*_#]*\n+(?=\s*\S)", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(?:wait|oops|correction|misread|mistake|actually)\b|Let me re", re.IGNORECASE
)
_CHOICE = re.compile(
    r"(?:(?i:the\s+|la\s+)?(?i:option|choice|letter|opción|选项?|答案)\s*)?\(?([A-J])(?:\)|\b)(?!\s*(?:[-=+*/^_<>|&\\(]|and\b|or\b|,\s*(?:\(?[A-J]\b|[\d\\$]))|\s*,\s*\([A-J]\))(?=[\s,.:;。，*)]|\Z)"
)
_BOLD_START = re.compile(r"[\s:：]*(\*\*|__)(?=\S)([^*_\n]{1,200})\1")
_EMPTY = re.compile(r"[\s*_:：#$.?\\()\[\]-]*")
_TELLING = re.compile(r"\d|[$\\]|½|π|√|∞|\b[A-J]\b")


_PLAIN_MARK = re.compile(r"[-+$]?\d[\d,.]*%?")
_MARK_LABEL = re.compile(
    r"[*_\s]*(?:(?:the\s+)?(?:final\s+)?answer|total|result|solution)(?:\s+is)?[*_\s]*(?:[:：][*_\s]*|\Z|(?=[\d$\\]))",
    re.IGNORECASE,
)
_MARK_PLAUSIBLE = re.compile(r"[-+−$€£\\(\[{.√π½]*\d|[$\\(\[]|[A-J]\b")


def _marked(tail: str, gold: bool) -> Extracted | None:
    """What follows the last `####`, up to the end of its line; a heading of that level is no mark."""
    if tail.rstrip().endswith("####") and "####" in tail.rstrip().rstrip("#").rpartition("\n")[2]:
        tail = tail.rstrip().rstrip("#").rstrip()
    _, mark, rest = tail.rpartition("####")
    if not mark:
        return None
    rest = rest.lstrip("#")
    line = rest.strip().split("\n", 1)[0].strip()
    if gold:
        return Extracted(line, "marker") if line else None
    if not line:
        return Extracted(None, "malformed")
    if _PLAIN_MARK.fullmatch(line):
        return Extracted(line, "marker")
    label = _MARK_LABEL.match(line)
    if label is not None:
        said = rest.strip()[label.end() :]
        return _stated(said, "marker") if said.strip() else None
    bare = line.strip("*_ ")
    plausible = _MARK_PLAUSIBLE.match(bare) is not None and not re.match(r"\d+[.)]\s+[A-Z]", bare)
    return (
        Extracted(bare, "marker")
        if plausible or (looks_bare(bare) and "\n" not in rest.strip()) and ":" not in bare
        else None
    )


def _said(tail: str, gold: bool) -> Extracted | None:
    """What follows the last "answer is", when anything does; "result is" only where nothing comes
    after it.
    """
    last = _last(_PHRASE.finditer(tail))
    heading = _last(_HEADING.finditer(tail))
    if heading is not None and (last is None or heading.end() > last.end()):
        last = heading
    if last is None and (weak := _last(_WEAK.finditer(tail))) is not None:
        rest = tail[weak.end() :]
        end = prose.SENTENCE_END.search(rest)
        if end is None or not _TELLING.search(rest[end.end() :]) or gold:
            last = weak
    if last is None:
        return None
    rest = tail[last.end() :]
    if _EMPTY.fullmatch(rest):
        return Extracted(None, "malformed") if not gold else None
    turned = _last(_CORRECTION.finditer(rest))
    if turned is not None and _TELLING.search(rest[turned.end() :]):
        return None
    found = _stated(rest, "phrase")
    if (
        found.text is not None
        and not _TELLING.search(found.text)
        and (end := prose.SENTENCE_END.search(rest))
        and re.search(r"\d", rest[end.end() :])
    ):
        return None
    return found


def _stated(rest: str, where: Where) -> Extracted:
    """The answer that a sentence begins with: a formula (and those linked to it), a number, a
    choice letter, or its words.
    """
    if (
        (bold := _BOLD_START.match(rest)) is not None
        and _TELLING.search(bold[2])
        and not re.match(r"\s*(?:,|and\b|or\b)", rest[bold.end() :])
    ):
        rest = bold[2]
    elif (
        bold is not None
        and _TELLING.search(bold[2])
        and (listed := _from_sentence(prose.clause(rest), where)) is not None
    ):
        return listed
    if (again := prose.restated(rest)) is not None:
        return Extracted(again, where)
    rest = prose.without_lead(rest)
    if (display := _DISPLAY.match(rest)) is not None:
        return Extracted(display[0], where)
    if (formula := prose.formula_at(rest)) is not None:
        return Extracted(prose.linked_formulas(rest, formula), where)
    sentence = prose.clause(rest)
    if (choice := _CHOICE.match(sentence)) is not None:
        return Extracted(choice[1].upper(), where)
    if looks_bare(sentence):
        return Extracted(sentence.strip("*_ `") or None, where)
    return _from_sentence(sentence, where) or Extracted(sentence.strip("*_ `") or None, where)


def _from_sentence(sentence: str, where: Where | None = None) -> Extracted | None:
    """What a sentence tells, looked for in bold, in formulas, in plain numbers."""
    spans = [
        span.rstrip(".")
        for span in prose.bold_spans(sentence)
        if looks_bare(span) or _TELLING.search(span)
    ]
    if spans and "**" in sentence:
        inner = (
            Extracted(", ".join(prose.linked_bold(sentence, spans)), "bold")
            if looks_bare(spans[-1])
            else _from_sentence(spans[-1])
        )
        if inner is not None and inner.text:
            return Extracted(inner.text, where or "bold")
    found = [
        match for match in prose.formulas(sentence) if not prose.is_only_unit(prose.inner(match))
    ]
    if found:
        copula = _last(re.finditer(r"\b(?:is|are|equals?)\b|是|为", sentence[: found[-1].start()]))
        first = next(
            (i for i, match in enumerate(found) if copula is None or match.start() >= copula.end()),
            0,
        )
        if where is None and copula is None:
            first = len(found) - 1
            while (
                first > 0
                and not _EQUATES.search(prose.inner(found[-1]))
                and sentence[found[first - 1].end() : found[first].start()].strip()
                in prose.SEPARATORS
            ):
                first -= 1
        if not re.search(r"\d", re.sub(r"\([^()]*\)", "", sentence[found[-1].end() :])):
            return Extracted(prose.linked_formulas(sentence, found[first]), where or "formula")
    number = prose.stated_number(sentence, first=where is not None)
    return None if number is None else Extracted(number, where or "number")


_EQUATES = re.compile(r"[A-Za-z}\d]\s*[-+*/^].*=|\\frac.*=")

# ---- what is left --------------------------------------------------------------------------------

_CHOSEN = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice)\s*[:：]?\s*\(?([A-J])\b\)?|(?<![\w$\\])\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)|"
    r"\b(?:[Cc]hoose|[Pp]ick|[Ss]elect|go\s+with|think\s+it\s+is|corresponds\s+to|matches|it\s+is|It\s+is)\s+(?:option\s+|choice\s+)?\**\(?([A-J])(?![\w(^+=*/-]|\s[=+*/^-])|(?:故选|应选|所以选|选择|答案选|选项是?|选)\s*[:：]?\s*\(?([A-J])(?![A-Za-z])|opción\s+\(?([A-J])\b"
)
_FIRST_LABEL = re.compile(
    r"\s*\**\(?([A-J])(?:\)|\.|\b)\**(?:\s*\Z|\s*\n|[.):]\s+\S)|\s*\(([A-J])\)\s+\S"
)


def _chosen(tail: str) -> Extracted | None:
    """A choice that is named."""
    last = _last(_CHOSEN.finditer(tail))
    if last is not None and not re.search(r"\d{2}", tail[last.end() + 40 :]):
        return Extracted(next(letter for letter in last.groups() if letter), "choice")
    return None


def _labelled(tail: str) -> Extracted | None:
    """A short text that begins with a choice's label."""
    label = _FIRST_LABEL.match(tail)
    return (
        Extracted(label[1] or label[2], "choice") if label is not None and len(tail) < 400 else None
    )


def _concluded(tail: str) -> Extracted | None:
    """What the last sentence that tells anything tells."""
    environments = list(_DISPLAY.finditer(tail))
    if environments and not re.search(r"\d", tail[environments[-1].end() :]):
        return Extracted(environments[-1][0], "formula")
    for sentence in reversed(_sentences(tail)):
        if _REMARK.match(sentence):
            continue
        if (found := _from_sentence(sentence)) is not None and found.text:
            return Extracted(found.text.strip(), found.where)
    return _in_words(tail)


def _in_words(tail: str) -> Extracted | None:
    """`The winner is Tom.` says Tom."""
    sentences = _sentences(tail)
    if sentences and (said_first := re.match(r"\W*(Yes|No)\b[,.]", sentences[-1])) is not None:
        return Extracted(said_first[1], "number")
    copula = _last(_IS_WORD.finditer(sentences[-1])) if sentences else None
    said = "" if copula is None else sentences[-1][copula.end() :].strip("*_ $.").strip()
    return (
        Extracted(said, "number")
        if said and len(said.split()) <= 4 and copula is not None and copula.start() > 0
        else None
    )


_IS_WORD = re.compile(r"\s(?:is|are)\s+")
_REMARK = re.compile(
    r"[\s*_(]*(?:Note|N\.?B\.?|Check|Verif\w+|Explanation|Remark)\b", re.IGNORECASE
)
_DISPLAY = re.compile(
    r"\\begin\s*\{(align|aligned|equation|gather|gathered|multline)\*?\}(?:(?!\\begin)[\s\S]){0,2000}?\\end\s*\{\1\*?\}"
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
    r"\\(?:text|textbf|textrm|textit|textnormal|mathrm|mathbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORDS = re.compile(
    r"(?<![A-Za-z\d+*/^=²³])[A-Za-zÀ-ɏ]{2,}(?![A-Za-z\d+*/^=(²³])|[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff]{2,}"
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
    r"\b(?:Mr|Mrs|Ms|Dr|St|No|approx|lb|lbs|oz|ft|in|hr|min|sec|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|[A-J])\."
)


def looks_bare(text: str) -> bool:
    """True when the text is nothing but an answer: a formula, or a few words without a sentence
    around them.
    """
    text = text.strip()
    if not text or len(text) > 2_000:
        return False
    if (formula := prose.formula_at(text)) is not None and formula.end() == len(text):
        return len(_words(prose.inner(formula))) < 12
    if "\n\n" in text or "**" in text.strip("*"):
        return False
    words = _words(text)
    numbers = re.search(r"\d", text) is not None
    starts = re.match(r"[-+−–$€£\\(\[{=~]*\s*[\d.]", text) is not None
    if words and _has_formula(text) or numbers and not starts and _FOREIGN.search(text):
        return False
    low = [word.lower() for word in words]
    if (
        starts
        and not _PREPOSITIONS.isdisjoint(low)
        or numbers
        and "=" in text
        and re.search(r"[$€£]\d", text)
    ):
        return False
    first = re.search(r"\d", text)
    if (
        first is not None
        and (before := _words(text[: first.start()] + " "))
        and not (len(before) == 1 and before[0][:3].lower() in _MONTHS)
    ):
        return False
    if not _VERBS.isdisjoint(low) and (numbers or len(words) > 2):
        return False
    if (
        numbers
        and re.search(r"[=:]", text)
        and (len(words) > 1 or re.search(r"[^\W\d_]{3,}\s*[:：]", text))
    ):
        return False
    if re.search(r"[.!?]\s+\S", _ABBREVIATED.sub("", text)):
        return False
    return len(words) <= ((8 if starts else 2) if numbers else 6)


def _words(text: str) -> list[str]:
    """The words outside commands; products of letters such as `xy` or `nRT` are none."""
    outside = re.sub(r"\{[^{}]*\}", " ", _COMMANDS.sub(" ", text)) if "\\" in text else text
    return [
        word
        for word in _WORDS.findall(outside)
        if word.lower() not in _NAMES and not _is_product(word)
    ]


def _is_product(word: str) -> bool:
    low = word.lower()
    return (
        (len(word) <= 3 and not re.search(r"[aeiou]", low))
        or (len(word) <= 3 and word.isupper())
        or (len(word) == 2 and low not in _VERBS and low not in _TWO)
    )


_TWO = frozenset(
    re.findall(r"\w+", "am an as at by do go he in is it me my no of on or so to up us we")
)


def _has_formula(text: str) -> bool:
    return next(prose.formulas(text), None) is not None


def _only_words(text: str) -> bool:
    return not re.search(r"\d", text) and len(text.split()) <= 6


def _whole(text: str) -> Extracted:
    text = text.strip()
    return Extracted(text, "whole") if text else Extracted(None, "none")
