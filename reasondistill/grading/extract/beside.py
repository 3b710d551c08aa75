r"""Words directly beside the value of a sentence that nobody has read: they are not dropped.

    "The answer is the negation of $42$."    → True: a function of 42 that we do not know
    "The answer exceeds 42."                 → True: it is not said to be 42
    "The answer is $42$ crore."              → True: neither a unit nor a counted noun
    "The answer is about 42 red marbles."    → False

Before a value a preposition (`off from 42`) or a verb that does not link (`misses 42`) sets it
apart from the answer; behind it only units, counted nouns, adverbs and what begins another phrase
leave it as it is. English only. What this module knows are the closed classes of words
(prepositions, linking verbs, number words); an open one, such as nouns, it knows by its form.
"""

from __future__ import annotations

import re

from reasondistill.grading.extract import prose
from reasondistill.grading.extract.core import NUMBER
from reasondistill.grading.extract.found import last_match
from reasondistill.grading.read.units import leading_unit

_NUMBER_AND_WORDS = re.compile(rf"({NUMBER.pattern})\s+[A-Za-z]")


def has_unread_words(sentence: str, told: str) -> bool:
    """Whether words that change the told value, or words we do not know, stand directly beside it
    in a sentence that gives the answer.
    """
    place = place_of(sentence, told)
    if place is None:
        return False
    start, end = place
    if is_set_apart(sentence[:start]):
        return True
    if _OF_ONE.fullmatch(sentence[start:end]) is not None:
        return is_wrong_behind(sentence[end:])
    return is_continued(sentence[end:])


# What any noun may follow: `1 pizza`, `$\frac{1}{3}$ pizza`, `$18 profit`.
_OF_ONE = re.compile(
    r"\$?[-−]?1\$?|\$[\d,.]+|\$\\\$[\d,.]+\$|.*(?:\\[dt]?frac|\d[./]\d).*", re.DOTALL
)


def place_of(sentence: str, told: str) -> tuple[int, int] | None:
    """Where the value stands in its sentence, with its dollars; None where it stands otherwise."""
    worded = _NUMBER_AND_WORDS.match(told)
    if worded is not None:
        told = worded[1]
    told = told.split("\\text", maxsplit=1)[0].strip()
    if not told or re.search(r"\d|\\", told) is None:
        return None
    for formula in prose.formulas(sentence):
        if prose.inner(formula) == told:
            return formula.span()
    start = sentence.rfind(told)
    if start < 0 or sentence[max(0, start - 1) : start].isalnum():
        return None
    return start, start + len(told)


def is_doubted(before: str) -> bool:
    """Whether a sentence, up to its value, only asks whether that is the answer: `I do not know
    whether it is`.
    """
    return _INDIRECT.search(before[-200:]) is not None


_INDIRECT = re.compile(
    r"(?:\w\s+(?:whether|if)|\A\W*whether)\s+(?:or\s+not\s+)?"
    r"(?:it|this|that|(?:the|our|my)\s+(?:\w+\s+)?"
    r"(?:answer|value|result|number|solution))\s*(?:['’]s|is|was|equals|(?:could|can|should|must|"
    r"might|would|will)\s+be)?[\s$(*:]*\Z",
    re.IGNORECASE,
)


# ---- before the value ----------------------------------------------------------------------------

_SETS_APART = re.compile(
    r"\b(?:from|(?<!none other )(?<!no other )than|under|underneath|below|beneath|above|over|past|"
    r"near|against|unlike|within|without|outside|beyond|off|opposite|despite|towards?|except|"
    r"except\s+for|excepting|excluding|barring|besides|(?:any\w*|every\w*|"
    r"all)\s+(?:\w+\s+){0,2}but|"
    # What is likely, past or only thought is not so.
    r"was\s+(?:once|first|initially|originally|formerly|previously)|"
    r"(?:used|unlikely|likely|supposed|thought|believed|said|claimed|assumed|expected|rumou?red|"
    r"known\s+not|meant|bound|close|next|prior|inverse|dual|orthogonal|adjacent|relative)\s+to"
    r"(?:\s+be)?)\s*\Z",
    re.IGNORECASE,
)
_FUNCTION_OF = re.compile(
    r"(?:\b(?:the|one|some|any|its|each|every)\s+|\A\W*)((?:[a-z'’]+[\s-]+){1,4})of\s*"
    r"(?:the\s+(?:number|integer|value)\s+)?\Z",
    re.IGNORECASE,
)
# `the area of $42$` is 42, as is `the number of $42$`.
_MEASURES = frozenset(
    re.findall(
        r"\w+",
        "age amount angle answer area capacity chance consisting cost count decrease diameter "
        "distance duration figure form gain height income increase interval length level list "
        "loss majority mass maximum minimum number out pair percentage perimeter population "
        "price probability profit quantity radius rate ratio rest result salary savings score "
        "set side size slope solution speed sum temperature time total triple union value "
        "volume weight width",
    )
)


def is_related(before: str) -> bool:
    """Whether a sentence, up to its value, sets the answer against the value, `the answer exceeds`,
    or says that it is taken for it wrongly.
    """
    subject = last_match(_SUBJECT.finditer(before))
    if subject is None:
        return False
    predicate = before[subject.end() :]
    if _WRONGLY.search(predicate) is not None or is_set_apart(predicate):
        return True
    return is_unknown_verb(predicate)


def is_unknown_verb(predicate: str) -> bool:
    """Whether the words before a value are a verb that does not link, `falls short of`."""
    if _WORDS_ONLY.fullmatch(predicate) is None:
        return False
    words = predicate.lower().split()
    if len(words) > 5 or not _LINKING.isdisjoint(words):
        return False
    return any(word.endswith("s") and len(word) > 3 and word not in _NO_VERBS for word in words)


_SUBJECT = re.compile(r"\banswer\b", re.IGNORECASE)
_WRONGLY = re.compile(
    r"\b(?:wrongly|incorrectly|mistakenly|erroneously|falsely|by\s+mistake|in\s+error)\b",
    re.IGNORECASE,
)
_WORDS_ONLY = re.compile(r"[\sA-Za-z$*(]{1,60}")
_LINKING = frozenset(
    re.findall(
        r"\w+",
        "is are was were be equals gives yields becomes comes works turns totals makes reads "
        "stands sums adds amounts evaluates simplifies reduces boils rounds has remains stays "
        "computes needs requires contains leaves results consists follows includes shows says",
    )
)
_NO_VERBS = frozenset(["this", "thus", "plus", "minus", "times", "always"])


def is_set_apart(before: str) -> bool:
    """Whether a sentence, up to its value, says that the answer is another one than the value."""
    before = _NEUTRAL_BEFORE.sub("", before[-100:])
    if _SETS_APART.search(before) is not None:
        return True
    function = _FUNCTION_OF.search(before)
    if function is None:
        return False
    words = function[1].lower().replace("-", " ").split()
    return words[-1] not in _MEASURES or "digit" in words


_NEUTRAL_BEFORE = re.compile(
    r"(?:[\s*_`\"“(:]|\b(?:the|an?|only|just|exactly|precisely|about|roughly|approximately|number|"
    r"integer|value|positive|our|that)\b)+\Z",
    re.IGNORECASE,
)


# ---- behind the value ----------------------------------------------------------------------------

_BASE_OR_MODULUS = (
    r"(?:mod|modulo)\s*[\d$({\\]|base\s+\$?\d|"
    r"in\s+(?:base|binary|ternary|octal|hexadecimal|hex|unary|duodecimal)\b"
)
_CHANGES = re.compile(
    r"\s*(?:"
    # a power, odds, a remainder, another base
    r"to\s+(?:(?:the\s+)?(?!nearest)[\w-]+(?:th|rd|st|second|power)\b(?!\s+(?:decimal|place|digit|"
    r"significant))|[-\d$])|"
    rf"(?:choose|permute|C|P)\s*[\d$({{\\]|{_BASE_OR_MODULUS}|"
    r"in\s+(?:the\s+)?(?:first|one|other|second|former|latter)\s+case\b[^.\n]{0,60}\d|"
    # an amount beside it
    r"(?:minus|plus|times)\s+(?:an?|some)\s+\w|"
    r"(?:and|or)\s+(?:change|some|something|so\s+(?:much|many)|a\s+bit|counting)\b|"
    r"give\s+or\s+take|"
    r"(?:less|more|fewer|greater|smaller|larger|higher|lower|bigger|short|shy)\s+(?:than|of)\b|"
    r"too\s+(?:many|much|few|little|large|big|small|high|low|long|short)\b|"
    r"[a-z]+s\s+(?:below|under|above)\s+(?:zero|freezing|normal|par|average|(?:the\s+)?(?:mean|"
    r"median|average|norm|target|limit|expected|minimum|maximum))\b|"
    r"(?:below|above|under|beneath|beyond|past|short\s+of|shy\s+of)\s+"
    r"(?!this|these|that|those|all|our|such|any|my|the\s+(?:\w+\s+)?(?:assum|condition|interpret|"
    r"constrain|circumst|hypothes|given|stated|reading|convention|reals|rule|law))|"
    # number words that the reader does not multiply by, and opposites
    r"(?:half|third|fourth|quarters?|(?:fif|six|seven|eigh|nin|ten)th|(?:eleven|twelf|\w+teen|"
    r"twentie|thirtie|hundred|thousand|million|billion)ths?|ones|tens|hundreds|thousands|"
    r"trillions?|quadrillions?|gross|mn|tn|scores?(?=\W*\Z)|"
    r"inverse|negative|negated|conjugate|reciprocal|complement|inverted|reversed|backwards)"
    r"(?![\w-])(?!\s+(?:numbers?|integers?|of)\b)|"
    # what takes it back
    r"[,;:(\s–—-]*(?:(?:which|and\s+(?:this|that|it)|(?:but|yet)(?:\s+(?:that|this|it))?|except|"
    r"although|though|however)\s+)?(?:(?:is|are|seems|would\s+be|cannot\s+be|can['’]t\s+be)\s+)?"
    r"(?:(?:clearly|obviously|an?|in|of\s+course)\s+)*"
    r"(?:contradict(?!ing\s+the\s+(?:first|initial|earlier|naive))\w*|absurd\w*|"
    r"nonsens\w*|impossible|not\s+possible|wrong|incorrect|false|invalid|violat\w+)\b|"
    r"[,;(\s–—-]*except\b(?!\s+for\s+(?:rounding|the\s+order))"
    r")",
    re.IGNORECASE,
)
_WORD = re.compile(r"\s+([A-Za-z]+)(?![\w'’(-])")
# Words that begin another phrase, and nouns whose plural has no s.
_HARMLESS = frozenset(
    re.findall(
        r"\w+",
        "a about across after again all along altogether always among an and anymore anyway "
        "apart are as at away back because before behind besides better between billion bn both "
        "but by can children combined correct crore cubed day days deer degree different distinct "
        "do does dollar double down dozen due during e each either else equals etc even every "
        "exactly extra factorial feet fewer fish fit following found for forward free from full "
        "given gives has have hence here how however hundred i if iff in including indeed inside "
        "instead into is it its joint just kids lakh leading left less long making means men mice "
        "million minus minutes more most must net new non normal now of off ok old on once "
        "only or other out outside over overall pct people per percent pi pieces plus points "
        "police positive possible provided qed radians remain remaining right round same "
        "satisfies seconds sheep should since so solves spare squared still such teeth that "
        "the their then there therefore these they this those though thousand through "
        "throughout thus times to today together tomorrow tonight too total towards twice "
        "under unique until up upon via was we were when where whereas which while who whole "
        "whose will with within without women works worth would yes yesterday yet you your",
    )
)


_PLURALS = frozenset(
    re.findall(r"\w+", "children deer feet fish men mice people percent police sheep teeth women")
)


def is_continued(behind: str) -> bool:
    """Whether the words behind the value of a sentence make another one of it, or are unknown."""
    behind = _CLOSED_BEHIND.sub("", behind[:200], count=1)
    if _CHANGES.match(behind) is not None:
        return True
    if leading_unit(behind):
        return False
    word = _WORD.match(behind)
    if word is None or word[1].lower() in _HARMLESS or len(word[1]) == 1:
        return False
    return not is_counted(behind)


def is_wrong_behind(behind: str) -> bool:
    """Whether the words behind a value take it back or make another one of it."""
    return _CHANGES.match(behind) is not None


def is_of_another_base(behind: str) -> bool:
    """Whether a base or a modulus stands behind a value: `42 in base 7`, `42 mod 5`."""
    return _OF_ANOTHER_BASE.match(behind) is not None


_OF_ANOTHER_BASE = re.compile(rf"\s*(?:{_BASE_OR_MODULUS})", re.IGNORECASE)
_CLOSED_BEHIND = re.compile(r"\A[*_`\"”]+")


def is_counted(behind: str) -> bool:
    """Whether a plural, an adverb or a participle stands within the next words: `red marbles`,
    `in total`, `rounded up`.
    """
    for word in re.findall(r"[A-Za-z]+", re.split(r"[.,;:(]", behind, maxsplit=1)[0])[:4]:
        low = word.lower()
        if low.endswith(("s", "ly", "ing", "ed")) or low in _PLURALS or leading_unit(f" {word}"):
            return True
    return False
