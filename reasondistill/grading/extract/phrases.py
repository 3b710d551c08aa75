"""What follows a mark or a phrase that announces an answer: `#### x`, `the answer is x`."""

from __future__ import annotations

import re
from dataclasses import replace

from reasondistill.grading.extract import modifiers, prose, refusals
from reasondistill.grading.extract.bare import looks_bare
from reasondistill.grading.extract.beside import (
    has_unread_words,
    is_doubted,
    is_set_apart,
    is_unknown_verb,
    is_wrong_behind,
)
from reasondistill.grading.extract.changing_words import DENIAL
from reasondistill.grading.extract.conclusion import concluded
from reasondistill.grading.extract.core import NUMBER
from reasondistill.grading.extract.doubts import is_withdrawn, says_yes
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
# The same in more languages, whose "is" an English sentence may hold as another word.
_ANSWER_ABROAD = (
    r"(?:\b(?:jawaban|jawapan|đáp\s+số|câu\s+trả\s+lời|kết\s+quả|cevap|cevabı|yanıt|odpowied[źz]|"
    r"odpověď|odpoveď|odgovor|antwoord|svaret?|vastaus|válasz|răspuns(?:ul)?|απάντηση|відповідь|"
    r"отговор|одговор|atsakymas|atbilde|vastus|jibu|sagot|tugon|réponse|respuesta|resposta|"
    r"risposta|"
    r"antwort|ответ|résultat|resultado|risultato|ergebnis|lösung|wynik|hasil(?:nya)?|sonuç|"
    r"erantzuna|"
    r"ateb|përgjigjja|svar|solución|solução|soluzione|rozwiązanie)\b|תשובה|הַתְּשׁוּבָה|الجواب|"
    r"جواب|پاسخ|"
    r"الاجابة|जवाब|উত্তর|பதில்|விடை|సమాధానం|ఉత్తరం|ಉತ್ತರ|ഉത്തരം|જવાબ|ਜਵਾਬ|解答|回答|答|解は|해답|คำตอบคือ)"
)
_IS_ABROAD = (
    rf"(?:{_IS}|(?:adalah|ialah|yaitu|yakni|jest|to|brzmi|wynosi|je|är|er|lyder|on|este|a|is|"
    r"είναι|будет|равен|равна|равно|é|è|es|est|ist|lautet|yra|ir|ni|ay|bằng|olarak)\b|"
    r"היא|הוא|هو|هي|است|হল|হলো|ஆகும்|होगा)"
)
# An answer that is denied is announced as well: `the answer isn't 42`.
_REFUTED = (
    rf"(?P<refuted>(?=(?:is|are|was|were)n['’]?t\b|would\s+have\s+been\b|(?:{DENIAL})\s*(?:\w+\s+)?"
    r"(?:be|equal)\b))"
)
PHRASE = re.compile(
    rf"(?:{_ANSWER}(?:\s+(?:correcta|correcte|finale?|here))?(?:\W{{0,4}}\s*{_IS}|"
    rf"\W{{0,3}}?\s{_REFUTED})|"
    rf"{_ANSWER_ABROAD}(?:\s+(?:akhir(?:nya)?|końcowa|correcta|correcte|finale?|yang\s+benar|đúng|"
    rf"cuối\s+cùng|finala))?\W{{0,4}}\s*{_IS_ABROAD})\s*[:：]?\s*",
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


_HYPOTHETICAL = re.compile(
    r"\b(?:if|would|had|suppose|assuming|alternatively|otherwise|were|unless|some|might|could|"
    r"wrong|incorrect|previous|earlier|initial|initially|original|originally|first|expected|given|"
    r"book['’]?s?|official|reference|their|his|her|your|other|another|alternative|decimal|"
    r"approximate|common|check\w*|verif\w+|note|remark|question|asks?|format)\b",
    re.IGNORECASE,
)
_PLAUSIBLE = re.compile(r"[-+−$€£\\(\[{.√π½*]*\d|[$\\(\[]|\(?[A-J](?:[).:,;*]|\s*\Z|\s*\n)")
_EXACT = re.compile(r"\\(?:[dt]?frac|sqrt|pi)|[/^]")
_LETTER = re.compile(r"(?:\\text\s*\{)?\s*\(?([A-J])\)?\s*\}?")


def corrected(boxed: str, behind: str) -> Extracted | None:
    """The final answer that a text tells behind its box, `Answer: D` or `Correction: the answer
    should be 43`; None for a question, for what only points at the box, and for the decimals of
    what is boxed. A choice behind a box of another kind stands beside what is boxed.
    """
    later = amended(behind)
    if later is not None and _LETTER.fullmatch(boxed) is None:
        return later
    if is_withdrawn(behind):
        return Extracted(f"{boxed} {behind[:60].strip()}", "denied")
    phrase = last_phrase(behind, False)
    if phrase is None or phrase.re is _WEAK or is_part_of_answer(behind, phrase):
        return None
    before = re.split(r"[.!?\n]\s", behind[max(0, phrase.start() - 200) : phrase.start()])[-1]
    rest = behind[phrase.end() :]
    opening = prose.opening(rest)
    if _HYPOTHETICAL.search(before) or "was" in phrase[0].lower().split():
        return None
    if opening.endswith(("?", "？")):
        return None
    denied = modifiers.read(opening)
    if denied is not None and denied.kind == "denied":
        concluding = beside_denied(behind, phrase, denied.text)
        if concluding.has_value or denied.text == boxed.strip():
            return concluding
        return None
    start = prose.without_lead(opening)
    if _PLAUSIBLE.match(start) is None:
        return None
    found = stated(rest, "phrase")
    if found.text is None or not found.has_value or "boxed" in found.text:
        return None
    if _EXACT.search(boxed) and re.fullmatch(r"[-\d,]*\.\d+%?", found.text):
        return None
    was_letter = _LETTER.fullmatch(boxed) is not None
    is_letter = _LETTER.fullmatch(found.text) is not None
    if was_letter and not is_letter:
        return None
    if is_letter and not was_letter:
        return Extracted(f"({found.text}) {boxed}", "boxed")
    return found


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
    worded = read_words(line, "marker")
    if worded is not None:
        return worded
    label = _MARK_LABEL.match(line)
    if label is not None:
        statement = rest[label.end() :]
        if statement.strip():
            return stated(statement, "marker")
        return None
    bare = line.strip("*_ ")
    number = NUMBER.search(bare)
    if number is not None:
        before = bare[: number.start()].rstrip("$ ")
        is_set = is_set_apart(before) or is_unknown_verb(before)
        if is_set or (not before and is_wrong_behind(bare[number.end() :])):
            return Extracted(bare, "unread")
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
    if not gold:
        later = amended(rest)
        if later is not None:
            return later
        if prose.is_unfinished(rest) and prose.SENTENCE_END.search(rest) is None:
            return Extracted(None, "malformed")
        if is_part_of_answer(tail, phrase):
            start = max(0, phrase.start() - 40)
            return Extracted(tail[start : phrase.end()] + prose.opening(rest), "unread")
    opening = prose.opening(rest)
    denied = modifiers.read(opening)
    if denied is not None and denied.kind == "denied":
        return beside_denied(tail, phrase, denied.text)
    behind = rest[rest.find(opening) + len(opening) :]
    is_asked = opening.endswith("?")
    if is_withdrawn(behind) or (is_asked and _NO.match(behind)):
        return beside_denied(tail, phrase, stated(rest, "phrase").text or "")
    if is_asked and not gold and behind.strip() and not says_yes(behind):
        if re.search(r"\d|\$|\\", behind):
            return None
        return Extracted(tail[max(0, phrase.start() - 60) : phrase.end()] + opening, "unread")
    if not gold and is_doubtful(tail, phrase, opening):
        if TELLING.search(rest, rest.find(opening) + len(opening)):
            return None
        return Extracted(tail[max(0, phrase.start() - 60) : phrase.end()] + opening, "unread")
    astray = _ASTRAY.search(tail, max(0, phrase.start() - 120), phrase.start())
    if astray is not None:
        found = beside_denied(tail, phrase, stated(rest, "phrase").text or "")
        if found.has_value:
            return found
        return Extracted(tail[astray.start() : phrase.end()] + prose.opening(rest), "denied")
    turned = last_match(_CORRECTION.finditer(rest))
    if turned is not None and TELLING.search(rest[turned.end() :]):
        return None
    answer = stated(rest, "phrase")
    if answer.text is not None and not TELLING.search(answer.text):
        if not gold and refusals.refuses(answer.text):
            return Extracted(answer.text, "refusal")
        end = prose.SENTENCE_END.search(rest)
        if end and re.search(r"\d", rest[end.end() :]):
            return None
    if not gold and _IN_ENGLISH.match(phrase[0]) and is_unread(prose.opening(rest), answer):
        return Extracted(prose.opening(rest).rstrip(". "), "unread")
    return answer


_IN_ENGLISH = re.compile(r"[\W_]*(?:final\s+)?(?:answer|result|solution)", re.IGNORECASE)


def is_unread(sentence: str, answer: Extracted) -> bool:
    """Whether words directly beside the answer of a sentence are not read."""
    if answer.text is None or not answer.has_value or answer.is_worded:
        return False
    return has_unread_words(sentence, answer.text)


_NO = re.compile(r"\s*(?:no|nope|wrong)\b", re.IGNORECASE)


def is_doubtful(tail: str, phrase: re.Match[str], opening: str) -> bool:
    """Whether the sentence of a phrase does not say that this is the answer: `nobody knows if the
    answer is`, `who says that it is 42?`, `if x were odd, the answer is 42, but it is even`.
    """
    sentence = re.split(r"[.!?]\s|\n", tail[max(0, phrase.start() - 200) : phrase.start()])[-1]
    if is_doubted(sentence + "answer ") or _NOBODY.search(sentence):
        return True
    if opening.endswith("?") and re.match(r"\W*(?:who|why|how)\b", sentence, re.IGNORECASE):
        return True
    supposed = re.match(r"\W*(?:\w+\W+)?if\b", sentence, re.IGNORECASE)
    if supposed is None:
        return False
    contrast = re.search(r",\s*but\b", opening)
    if contrast is None:
        return False
    is_unreal = re.search(r"\b(?:were|had|would)\b", sentence) is not None
    return is_unreal or _OTHERWISE.search(opening, contrast.end()) is not None


_OTHERWISE = re.compile(r"\b(?:not|never|also|even|odd)\b|n['’]t\b", re.IGNORECASE)


_NOBODY = re.compile(
    r"\b(?:nobody|no\s+one|few(?:\s+\w+)?|none\s+of\s+\w+|hardly\s+any\w*)\s+(?:\w+ly\s+)?"
    r"(?:knows?|believes?|says?|thinks?|claims?|agrees?|can\s+say)\b",
    re.IGNORECASE,
)


def is_part_of_answer(text: str, phrase: re.Match[str]) -> bool:
    """Whether a phrase speaks of another value than the answer: `twice the answer is 24`."""
    return _PART_OF_ANSWER.search(text[max(0, phrase.start() - 60) : phrase.start()]) is not None


_PART_OF_ANSWER = re.compile(
    r"\b(?:twice|double|triple|thrice|(?:two|three|four|five|six|ten|\d+)\s+times|half(?:\s+of)?|"
    r"(?:thirds?|quarters?|fourths?|fifths?|tenths?|squares?|cubes?|root|reciprocal|inverse|"
    r"negative|opposite|factorial|percent|%)\s+of)\s+"
    r"(?:the|our|my|this|that|its?)\s+(?:\w+\s+)?\Z",
    re.IGNORECASE,
)


def amended(behind: str) -> Extracted | None:
    """What a text puts right behind its answer: `(Edit: sorry, it should be -12.)`."""
    amendment = last_match(_AMENDMENT.finditer(behind))
    if amendment is None:
        return None
    found = stated(behind[amendment.end() :], "phrase")
    if found.text is None or not found.has_value or "boxed" in found.text:
        return None
    if "(" not in found.text:
        return replace(found, text=found.text.rstrip(" .)]"))
    return found


# `Sorry for the slip in step 2; there it is 5` puts no answer right, `Correction: it is 5` does.
_AMENDMENT = re.compile(
    r"\b(?:edit|correction|erratum|update|sorry|oops|apologies|oh\s+no|miscounted|miscalculated|"
    r"misread|(?:a|my)\s+(?:mistake|slip|error))\b(?:[^\n]{0,150}?\b"
    r"(?:it|that|this|the\s+(?:final\s+|correct\s+)?(?:answer|result|value))\s+"
    r"(?:should\s+(?:be|have\s+been|read)|must\s+be)\s+|"
    r"\s*[:,]\s*(?:(?:sorry|oops)\s*[:,]\s*)?(?:(?:it|that|this|the\s+(?:final\s+|correct\s+)?"
    r"(?:answer|result|value))\s+is\s+(?:actually\s+)?|(?:it|that)['’]s\s+|make\s+(?:it|that)\s+|"
    r"i\s+meant\s+)?)(?=[-−]?\d|\$|\\)",
    re.IGNORECASE,
)


# `It is a common mistake to say that the answer is 42.`
_ASTRAY = re.compile(
    r"\b(?:impossible|(?:not|n['’]t)\s+(?:be\s+)?(?:true|the\s+case|possible|correct|right)|"
    r"wrong|incorrect|"
    r"mistaken?|misconception|error|false|tempting|unlikely|doubtful|questionable|"
    r"(?<!no\s)(?<!without\s)(?<!little\s)(?<!beyond\s)doubt(?:s|ed)?|den(?:y|ies)|"
    r"disput(?:e|es|ed))\s+(?:to\s+\w+\s+)?(?:that\s+)?(?:the\s+|"
    r"our\s+|its?\s+)?"
    r"(?:final\s+|correct\s+)?\Z",
    re.IGNORECASE,
)


def beside_denied(tail: str, phrase: re.Match[str], wrong: str) -> Extracted:
    """What the text behind a denied answer concludes, or what was said before it; if neither is
    another answer, the denied one.
    """
    rest = tail[phrase.end() :]
    opening = prose.opening(rest)
    behind = rest[rest.find(opening) + len(opening) :]
    if TELLING.search(behind):
        concluding = concluded(behind)
        if concluding is not None and concluding.has_value and concluding.text != wrong:
            return concluding
    letter = _CHOICE_INSTEAD.search(opening)
    if letter is not None and _LETTER.fullmatch(wrong) and letter[1] != wrong:
        return Extracted(letter[1], "choice")
    turned = last_match(_SO.finditer(opening))
    if turned is not None and TELLING.search(opening, turned.end()):
        concluding = concluded(opening[turned.end() :])
        if concluding is not None and concluding.has_value and concluding.text != wrong:
            return concluding
    before = last_match(PHRASE.finditer(tail, 0, phrase.start()))
    if before is not None:
        earlier = stated(tail[before.end() : phrase.start()], "phrase")
        if earlier.has_value and earlier.text != wrong:
            return earlier
    if opening.strip("*_$ .?") == wrong.strip("*_$ .?"):
        opening += " " + behind[:60].strip()
    return Extracted(opening, "denied")


_SO = re.compile(r"[,;:]\s*(?:and\s+)?(?:so|hence|thus|therefore)\b", re.IGNORECASE)


def read_words(text: str, where: Where) -> Extracted | None:
    """The answer that a text begins with where words change it; None where they leave it."""
    reading = modifiers.read(text)
    if reading is None:
        return None
    return in_value(reading, text, where)


def in_value(reading: modifiers.Reading, text: str, where: Where) -> Extracted:
    """The value that words make, or else the text that they leave without one."""
    if reading.kind == "value":
        return Extracted(reading.text, where, is_worded=True)
    return Extracted(text.strip("*_ `") or text, reading.kind)


def last_phrase(tail: str, gold: bool) -> re.Match[str] | None:
    """The last phrase that announces an answer: "answer is", a heading, or else "result is" with
    nothing telling behind its sentence.
    """
    phrase = last_match(match for match in PHRASE.finditer(tail) if announces(match))
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


def announces(phrase: re.Match[str]) -> bool:
    """Whether an answer follows. `The answer cannot be negative` denies none."""
    if phrase["refuted"] is None:
        return True
    rest = phrase.string[phrase.end() : phrase.end() + 500]
    return modifiers.read(prose.opening(rest)) is not None


# `15 способов` is 15 of them: the plural behind a number has its own ending. Scales are no nouns.
_COUNTED_IN_RUSSIAN = re.compile(
    r"(\d+)\s+(?!милли|тыс|процент|градус|квадр|кубическ|час|метр|килом|санти|грамм|литр|рубл|"
    r"десятк|раз)[а-яё]{2,20}(?:ов|ев|ей)",
    re.IGNORECASE,
)


# `A is incorrect, so B.`
_CHOICE_INSTEAD = re.compile(
    r"(?:[,;]\s*(?:so|hence|thus|therefore|and\s+so|but|it\s+is|it['’]s)?|\bso|\bbut)\s+"
    r"(?:it\s+is\s+|it\s+must\s+be\s+|choose\s+)?\(?([A-J])\)?(?=[.,;!]|\s*\Z)"
)


def stated(rest: str, where: Where) -> Extracted:
    """The answer that a sentence begins with: a formula (and those linked to it), a number, a
    choice letter, or its words.
    """
    worded = read_words(prose.opening(rest), where)
    if worded is not None:
        return worded
    opening = prose.opening(rest)
    if refusals.gives_up(opening):
        return Extracted(opening, "refusal")
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
        worded = read_words(prose.inner(formula), where)
        if worded is not None:
            return worded
        return Extracted(prose.linked_formulas(rest, formula), where)
    sentence = prose.clause(rest)
    choice = _CHOICE.match(sentence)
    if choice is not None and modifiers.denies(sentence[choice.end() :]):
        instead = _CHOICE_INSTEAD.search(prose.opening(rest), choice.end())
        if instead is not None and instead[1] != choice[1]:
            return Extracted(instead[1], where)
        return Extracted(sentence, "denied")
    if choice is not None:
        return Extracted(choice[1].upper(), where)
    whole = Extracted(sentence.strip("*_ `") or None, where)
    if looks_bare(sentence):
        counted = _COUNTED_IN_RUSSIAN.fullmatch(sentence)
        if counted is not None:
            return Extracted(counted[1], where)
        return whole
    told = from_sentence(sentence, where)
    if told is None or told.text is None:
        return whole
    last = modifiers.read_last(sentence, told.text)
    if last is not None:
        return in_value(last, sentence, where)
    return told
