"""`[examples.filters.language]`: reasoning that falls into another script than the question's."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.sections import Section

Script = Literal[
    "latin",
    "han",
    "kana",
    "hangul",
    "cyrillic",
    "arabic",
    "hebrew",
    "devanagari",
    "bengali",
    "tamil",
    "telugu",
    "thai",
    "georgian",
    "armenian",
    "ethiopic",
    "khmer",
    "myanmar",
]

# Formulas are of no language: commands, names of environments, variables, `sin` and `max`.
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[^{}\n]{0,30}\}|\\[A-Za-z]+")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ɏ]{4,}")
# ª, µ and º; letterlike symbols such as ℝ and ℵ.
_SYMBOL = re.compile("[\u00aa\u00b5\u00ba\u2100-\u218f]")
_FORMULA_LETTERS = ("GREEK", "MATHEMATICAL", "ARABIC MATHEMATICAL", "FULLWIDTH")
_NAMES = {"cjk": "han", "hiragana": "kana", "katakana": "kana", "halfwidth": "kana"}
# A script is the question's with this share of its letters: below it is a word that is asked about.
_SHARE_OF_QUESTION = 0.1


class Language(Section):
    """`most`: the share of letters of other scripts than the question's, or than `scripts` where
    they are given (`["latin"]`).
    """

    most: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The largest share of letters of other scripts than the question's, or than `scripts`."""
    scripts: tuple[Script, ...] = ()
    """The scripts that a trace may be written in; without them the question's.

    Example: ["latin"]
    """


@example_filter(Language)
def language(candidate: Candidate, settings: Language) -> str | None:
    """More than a few letters in scripts that the question is not written in.

    A share of 5 % is that of open-instruct's `filter_chinese`, here for any scripts. Greek letters,
    letters of formulas and Latin words of up to three letters belong to every question; a question
    without letters lets everything pass. Not covered: languages of the same script.
    """
    wanted: set[str] = set(settings.scripts)
    if not wanted and candidate.problem is not None:
        wanted = _scripts_of(candidate.problem.question)
    if not wanted:
        return None
    text = candidate.written
    if "latin" in wanted and text.isascii():
        return None  # its letters are Latin, if it has any
    if "kana" in wanted:
        wanted.add("han")
    letters = letters_by_script(text)
    others = sum(count for script, count in letters.items() if script not in wanted)
    if others > settings.most * letters.total():
        return "other script"
    return None


def _scripts_of(question: str) -> set[str]:
    letters = letters_by_script(question)
    least = _SHARE_OF_QUESTION * letters.total()
    return {script for script, count in letters.items() if count >= least}


def letters_by_script(text: str) -> Counter[str]:
    """How many letters of words a text has in each script.

    >>> letters_by_script(r"Let \\alpha x = 水")
    Counter({'han': 1})
    """
    words = text
    if "\\" in text:
        words = _COMMAND.sub(" ", text)
    letters: Counter[str] = Counter()
    if not words.isascii():
        for sign, count in Counter(words).items():
            script = script_of(sign)
            if script not in ("", "latin"):
                letters[script] += count
    latin = sum(map(len, _LATIN_WORD.findall(words)))
    if latin:
        letters["latin"] = latin
    return letters


@lru_cache(maxsize=65_536)
def script_of(sign: str) -> str:
    """The script that a letter is written in, by its name in Unicode; empty for what is of none.

    >>> script_of("a"), script_of("水"), script_of("π"), script_of("7")
    ('latin', 'han', '', '')
    """
    if not sign.isalpha() or unicodedata.category(sign) == "Lm" or _SYMBOL.match(sign):
        return ""
    name = unicodedata.name(sign, "")
    if name.startswith(_FORMULA_LETTERS):
        return ""
    first = name.partition(" ")[0].lower()
    return _NAMES.get(first, first)
