"""Signs that nobody sees, and where they belong: Persian, Hindi, Khmer, emoji and flags are made
with some of them.

    belongs("می\\u200cخواهم", 2)        # True: a non-joiner beside an Arabic letter
    belongs("pay\\u200cpal", 3)         # False

One sign at a place where its script has one belongs; a second behind it, or one between signs of
another script, hides something. Marks that turn the direction of reading belong nowhere.

After RFC 5892 (appendix A.1 and A.2), wider: Bengali joins before a virama, Persian divides
`GPU\\u200cها`; and UTS 51 (emoji sequences), Unicode's StandardizedVariants.txt.
"""

from __future__ import annotations

import re
import unicodedata

# Of no width, or of no look: joiners, marks of direction and of order, selectors of a variant,
# fillers, tags. The inside of a class of a regular expression.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN = re.compile(f"[{UNSEEN}]")

# Scripts whose letters join: Hebrew with points; Arabic, Syriac, N'Ko, Mandaic; those of India;
# Tibetan, Myanmar, Khmer, Mongolian and their neighbours; Arabic's presentation forms.
_JOINED = re.compile(
    "[\u0591-\u05f4\u0610-\u061a\u0620-\u06dc\u06de-\u074f\u0750-\u077f\u07c0-\u07ff\u0840-\u088f"
    "\u0892-\u08e1\u08e3-\u0dff\u0f00-\u109f\u1780-\u1aaf\u1b00-\u1c4f\u1cd0-\u1cff"
    "\ua800-\ua82f\ua840-\ua8ff\ua900-\ua92f\ua980-\uaaff\uabc0-\uabff\ufb1d-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00010a5f\U00010ac0-\U00010aff\U00010b80-\U00010baf\U00010d00-\U00010d3f"
    "\U00010f30-\U00010fdf\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
# Scripts without spaces, in which U+200B divides words: Thai, Lao, Tibetan, Myanmar, Khmer, …
_SPACELESS = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaa7f]"
)
_MONGOLIAN = re.compile("[\u1820-\u18aa]")
_HEBREW_POINT = re.compile("[\u0591-\u05c7]")
_HANGUL_START = re.compile("[\u1100-\u115e\ua960-\ua97c]")
_HANGUL_VOWEL = re.compile("[\u1161-\u11a7\ud7b0-\ud7c6]")
_HIEROGLYPH = re.compile("[\U00013000-\U0001342f\U00013440-\U000143ff]")
_SHORTHAND = re.compile("[\U0001bc00-\U0001bc9f]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Letters that have a second form: Han, Myanmar, Phags-pa, Manichaean.
_OF_TWO_FORMS = re.compile(
    "[\u1000-\u109f\u3400-\u4dbf\u4e00-\u9fff\ua840-\ua877\uf900-\ufaff\U00010ac0-\U00010aff"
    "\U00020000-\U0003ffff]"
)
# Numbers, and letters of which an emoji is made: 1️⃣, ℹ️.
_BASES = frozenset("0123456789#*\u2139")
_FLAG = re.compile(
    "\U0001f3f4[\U000e0061-\U000e007a]{2}[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,3}"
    "\U000e007f"
)
_LONGEST_FLAG = 7
_SYMBOLS = frozenset({"So", "Sm", "Sk", "Sc", "Po", "Pd", "Ps", "Pe", "Nl", "No", "Me", "Cn"})


def belongs(text: str, place: int) -> bool:
    """Whether the unseen sign at this place is one of which a script or an emoji is made."""
    sign = text[place]
    if sign <= "\u00ac":  # what a terminal obeys
        return False
    before = text[place - 1 : place]
    after = text[place + 1 : place + 2]
    if "\U000e0020" <= sign <= "\U000e007f":
        return _is_of_a_flag(text, place)
    if sign == "\u200d" and _joins_emoji(text, place):
        return True
    if "\ufe00" <= sign <= "\ufe0f" or sign >= "\U000e0100":
        return _is_a_variant(before, sign)
    if sign == "\u00ad":
        return _divides_a_word(text, place)
    if _UNSEEN.match(before):
        return False
    return _is_of_a_script(before, sign, after)


def _divides_a_word(text: str, place: int) -> bool:
    """Where a long word may be divided: two letters on either side, as in print."""
    before = text[max(0, place - 2) : place]
    after = text[place + 1 : place + 3]
    return len(before) == len(after) == 2 and (before + after).isalpha()


def _is_of_a_script(before: str, sign: str, after: str) -> bool:
    """A sign that stands beside a letter of a script that has it."""
    sides = before + after
    if sign in "\u200c\u200d":
        return _JOINED.search(sides) is not None
    if sign == "\u200b":
        return _SPACELESS.search(sides) is not None
    if sign == "\u034f":
        return _HEBREW_POINT.match(before) is not None
    if "\u180b" <= sign <= "\u180f":
        return _MONGOLIAN.match(before) is not None
    if sign == "\u115f":
        return _HANGUL_VOWEL.match(after) is not None
    if sign == "\u1160":
        return _HANGUL_START.match(before) is not None
    if "\U00013430" <= sign <= "\U0001343f":
        return _HIEROGLYPH.search(sides) is not None
    if "\U0001bca0" <= sign <= "\U0001bca3":
        return _SHORTHAND.search(sides) is not None
    return False


def _is_of_a_flag(text: str, place: int) -> bool:
    """A tag behind a black flag: together they are the flag of a country's part (England)."""
    start = text.rfind("\U0001f3f4", max(0, place - _LONGEST_FLAG), place)
    if start < 0:
        return False
    flag = _FLAG.match(text, start)
    return flag is not None and place < flag.end()


def _joins_emoji(text: str, place: int) -> bool:
    """A joiner between two emoji: a family; the first one may have its colour or a selector."""
    before = text[max(0, place - 2) : place].removesuffix("\ufe0f")
    after = text[place + 1 : place + 2]
    return _is_emoji(before[-1:]) and _is_emoji(after)


def _is_emoji(sign: str) -> bool:
    """A picture or symbol: also of a Unicode later than this Python's."""
    if sign <= "\u2000":
        return False
    is_arrow = "\u2190" <= sign <= "\u21ff"
    is_skin = "\U0001f3fb" <= sign <= "\U0001f3ff"
    is_picture = unicodedata.category(sign) in ("So", "Cn") and not _UNSEEN.match(sign)
    return is_arrow or is_skin or is_picture


def _is_a_variant(before: str, sign: str) -> bool:
    """A selector right behind a sign that has variants."""
    if not before or _UNSEEN.match(before):
        return False
    if sign >= "\U000e0100":
        return sign <= "\U000e01ef" and _HAN.match(before) is not None
    is_symbol = before in _BASES
    if before > "\u007f":
        is_symbol = is_symbol or unicodedata.category(before) in _SYMBOLS
    if sign >= "\ufe0e":  # as text, as a picture
        return is_symbol
    if _HIEROGLYPH.match(before):
        return sign <= "\ufe06"
    return sign <= "\ufe02" and (is_symbol or _OF_TWO_FORMS.match(before) is not None)
