"""What says that there is no answer: `I do not know`, `?`, `cannot be determined`."""

from __future__ import annotations

import re

# A sentence in which a model gives up, wherever these words stand in it.
_GIVES_UP = re.compile(
    r"\bI(?:['’]m|\s+am)?\s+(?:\w+ly\s+|just\s+|still\s+|really\s+|honestly\s+|simply\s+)*"
    r"(?:do\s*(?:n['’]?t|\s+not)|did\s*(?:n['’]?t|\s+not)|have\s+no|ca\s*n['’]?t|cannot|can\s+not|"
    r"could\s*(?:n['’]?t|\s+not)|was\s*(?:n['’]?t|\s+not)\s+able\s+to|(?:was\s+)?unable\s+to|"
    r"not\s+able\s+to|am\s+not|not|have\s*(?:n['’]?t|\s+not)|won['’]t|will\s+not)"
    r"\s+(?:\w+ly\s+|even\s+|been\s+able\s+to\s+|be\s+able\s+to\s+|yet\s+)*"
    r"(?:know|knew|sure|certain|clue|idea|solve|answer|determine|find|compute|calculate|figure|"
    r"help|"
    r"provide|give|say|tell|assist|work\s+(?:this|it)\s+out|complete|derive|evaluate|conclude|"
    r"confident|understand|able)\b|"
    r"\bI(?:['’]m|\s+am)\s+(?:\w+ly\s+)?(?:unsure|uncertain|lost|stuck|clueless)\b|"
    r"\b(?:am|is|was|were|are)\s+(?:unable|not\s+able)\s+to\s+(?:\w+ly\s+)?"
    r"(?:determine|solve|find|answer|compute|calculate|figure|give|provide|say|tell|conclude)\b|"
    r"\bas\s+an\s+(?:ai|artificial|language)\b|\bas\s+a\s+(?:large\s+)?language\s+model\b|"
    r"\b(?:i\s+)?give\s+up\b|\bno\s+(?:\w+\s+)?(?:idea|clue)\b|"
    r"\b(?:sorry|apologi[sz]e)\b.{0,80}\b(?:can['’]?t|cannot|unable|not)\b|"
    r"\b(?:beyond|outside)\s+(?:my|the\s+scope\s+of\s+my)\s+(?:ability|abilities|capabilit\w+|"
    r"knowledge)\b|"
    r"不知道|不清楚|不会做|不会解|不确定|无法(?:确定|解答|回答|得出|求解|计算|判断|解决)|没有(?:办法|头绪)|"
    r"我不会|答不出|抱歉|"
    r"\bno\s+(?:lo\s+)?s[eé]\b|\bno\s+(?:puedo|sabemos|s[eé])\b|\bno\s+tengo\s+(?:ni\s+)?idea\b|"
    r"\bne\s+sais\s+pas\b|\bsais\s+pas\b|\bne\s+(?:peux|connais)\b|\baucune\s+idée\b|"
    r"\bweiß\s+(?:es\s+|das\s+|ich\s+)*nicht\b|\bweiss\s+(?:es\s+)?nicht\b|\bkeine\s+ahnung\b|"
    r"\bnicht\s+sicher\b|\bkann\s+(?:ich\s+)?(?:das|die|diese)?\s*\w*\s*nicht\s+"
    r"(?:lösen|beantworten|bestimmen|sagen)|"
    r"\bnão\s+(?:sei|consigo)\b|\bnon\s+(?:lo\s+)?so\b|\bне\s+знаю\b|\bне\s+могу\b|わかりません|"
    r"分かりません|모르겠|لا\s+أعرف|لا\s+أعلم|मुझे\s+नहीं\s+पता|tidak\s+tahu|không\s+biết|bilmiyorum|"
    r"\bnie\s+wiem\b|\bweet\s+(?:het|ik)\s+niet\b|\bvet\s+(?:inte|ej)\b",
    re.IGNORECASE | re.DOTALL,
)
# A text that is nothing but a refusal.
_NOTHING_BUT = re.compile(
    r"(?:the\s+(?:final\s+)?answer\s+(?:is|remains)\s+)?(?:still\s+|currently\s+)?(?:"
    r"unknown|not\s+known|not\s+sure|unsure|uncertain|not\s+certain|unclear|not\s+clear|dunno|idk|"
    r"i\s*d\s*k|no\s+answer(?:\s+(?:found|given|available|possible))?|not\s+found|"
    r"(?:no|not)\s+(?:\w+\s+)?(?:idea|clue)(?:\s+at\s+all)?|"
    r"(?:unable|not\s+able|impossible)\s+to\s+(?:\w+ly\s+)?(?:determine|solve|find|answer|compute|"
    r"calculate|figure\s+out|say|tell|conclude|decide|give)(?:\s+[\w'’]+){0,6}|"
    r"(?:(?:we|one|you|i)\s+)?(?:can['’]?t|cannot|can\s+not|could\s+not|"
    r"couldn['’]?t)\s+(?:\w+ly\s+)?(?:determine|solve|find|"
    r"answer|compute|calculate|figure\s+out|say|tell|conclude|decide|know)(?:\s+[\w'’]+){0,6}|"
    r"don['’]?t\s+know|do\s+not\s+know|hard\s+to\s+say|who\s+knows|pass|skip(?:ped)?|unsolved|"
    r"unanswered|to\s+be\s+determined|tbd|[?？\s.…_-]*[?？][?？\s.…_-]*|[….]{2,}|n\s*/\s*a|"
    r"(?:more|additional|further)\s+(?:information|data|context)\s+(?:is\s+|are\s+)?(?:needed|"
    r"required)"
    r"|未知|未定|不能确定|待定"
    r")(?:\s+yet|\s+at\s+(?:this\s+time|all|present))?",
    re.IGNORECASE,
)
# What a gold may say as well: the problem has no answer.
_UNDETERMINED = re.compile(
    r"(?:(?:it|this|that|the\s+(?:final\s+)?(?:answer|value|result|problem|question)|there\s+is|"
    r"we\s+have|they|(?:the\s+)?[\w\s]{1,40}?)\s+)?(?:"
    r"(?:can\s*not|can['’]?t|could\s+not|may\s+not)\s+(?:be\s+)?(?:\w+ly\s+)?(?:be\s+)?"
    r"(?:determined?|known|found|answered|solved|calculated|computed|decided|inferred|deduced|"
    r"concluded|established|told|said|ascertained)|"
    r"(?:is\s+)?impossible\s+to\s+(?:determine|say|tell|know|decide|answer|find)|"
    r"(?:is\s+)?(?:indeterminate|undetermined|undeterminable|indeterminable|undecidable|"
    r"not\s+(?:uniquely\s+)?(?:determined|determinable))|"
    r"(?:is\s+|are\s+)?(?:not\s+(?:enough|sufficient)|insufficient|inadequate)\s+"
    r"(?:information|data|info|evidence|details|context)|"
    r"(?:information|data)\s+(?:is\s+|are\s+)?(?:insufficient|missing|not\s+(?:sufficient|enough|"
    r"given|"
    r"provided))|无法确定|不能确定|信息不足|条件不足"
    r")(?:\s+(?:from|with|by|without|to|based|because|for|is|given|provided|available|uniquely|"
    r"exactly|"
    r"here)\b.{0,120})?",
    re.IGNORECASE | re.DOTALL,
)
_DRESSING = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed)\s*\{|[{}$*_`\"“”]|\\[()\[\]]|"
    r"\\[ ,;!]|~"
)
_LONGEST = 400
_STILL = re.compile(
    r"\b(?:but|however|though|although|guess|answer|still|would\s+say|so|probably|think|believe|"
    r"maybe|"
    r"perhaps|possibly)\b",
    re.IGNORECASE,
)


# `I am not sure whether this is right` stands beside an answer.
_HEDGES = re.compile(
    r"\s+(?:(?:about|that|of)\s+)?(?:if|whether|why|this\s+is|it\s+is|my|(?:of\s+)?any\b|another|"
    r"an?\s+(?:\w+er|more|other|counter\w*)\b|what\s+you)",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether an answer says nothing but that there is none."""
    if text.strip().isdecimal():
        return False
    plain = undressed(text)
    if len(plain) > _LONGEST:
        return False
    if not plain:
        return re.search(r"[?.…]", text) is not None
    if _NOTHING_BUT.fullmatch(plain) or is_undetermined(plain):
        return True
    return gives_up(plain)


def gives_up(sentence: str) -> bool:
    """Whether a sentence says that its writer has no answer, and gives none all the same: `I am not
    sure, but I think 42` gives one.
    """
    given_up = _GIVES_UP.search(sentence)
    if given_up is None:
        return False
    behind = sentence[given_up.end() :]
    if _HEDGES.match(behind):
        return False
    still = _STILL.search(behind)
    return still is None or re.search(r"\d|\b[A-J]\b", behind[still.end() :]) is None


def is_undetermined(text: str) -> bool:
    """Whether an answer, or a gold, says that the problem does not determine one."""
    plain = undressed(text)
    return len(plain) <= _LONGEST and _UNDETERMINED.fullmatch(plain) is not None


def undressed(text: str) -> str:
    """The words without LaTeX, bold, quotes and a last full stop."""
    if len(text) > 2 * _LONGEST:
        return text
    plain = _DRESSING.sub(" ", text)
    return " ".join(plain.split()).rstrip(".!。 ").strip()
