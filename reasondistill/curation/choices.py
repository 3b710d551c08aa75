"""Multiple choice: options lettered behind the question, and the letter of the right one.

    lettered("How many?", ["3", "4"], right=1)  # ("How many?\\n\\nA) 3\\nB) 4", "B")

What an answer names is looked up in this order: a label of the options where they have labels, a
place where it is a number (counted from 0, unless the section says 1), a letter, the text of
exactly one option. A letter that is the text of another option names nobody knows which, and the
row is set aside. `Counting` sees over a whole source what single rows cannot show.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from reasondistill.curation.cells import as_text
from reasondistill.foreign_text import shortened

LETTERS = string.ascii_uppercase[:10]  # the letters that the grader reads


@dataclass(frozen=True)
class Options:
    """The texts of the options, and the labels by which the source names them, one for each; none
    where it has none.
    """

    texts: Sequence[str]
    labels: Sequence[str] = ()


def lettered(question: str, options: Sequence[str], right: int) -> tuple[str, str]:
    """The question with its options below it, and the letter of `options[right]`."""
    lines = "\n".join(
        f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)
    )
    return f"{question}\n\n{lines}", LETTERS[right]


def without_options(question: str) -> str:
    """The question without the options that `lettered` added."""
    return question.partition(f"\n\n{LETTERS[0]}) ")[0]


def shows_options(question: str, fields: Mapping[str, Any]) -> bool:
    """Whether a row holds the options of a lettered question in their order: in a list or mapping
    of `options_of`, or as they stand in the question.
    """
    bare = without_options(question)
    shown = question[len(bare) :]
    for value in fields.values():
        if isinstance(value, str):
            is_shown = shown in value
        elif isinstance(value, list):
            is_shown = _are_options(cast("list[Any]", value), bare, question)
        elif isinstance(value, Mapping):
            inside = cast("Mapping[str, Any]", value)
            is_shown = _are_options(inside, bare, question) or shows_options(question, inside)
        else:
            is_shown = False
        if is_shown:
            return True
    return False


def _are_options(value: list[Any] | Mapping[str, Any], bare: str, question: str) -> bool:
    if not value:
        return False
    found = options_of(value)
    if isinstance(found, str) or len(found.texts) > len(LETTERS):
        return False
    return lettered(bare, found.texts, 0)[0] == question


# ---- the order -----------------------------------------------------------------------------------

# Such an option means those above it, and stands behind them.
_MEANS_OTHERS = re.compile(
    r"\b(?:all|none|any|both|neither|either|each|two|some)\b.{0,80}"
    r"\b(?:above|preceding|foregoing)\b"
    r"|\b(?:all|none|both|neither|either) of (?:these|them|the other)\b",
    re.IGNORECASE,
)
# "Both A and C": the letters of another order.
_NAMES_LETTERS = re.compile(
    r"(?:(?:both|neither|only|all of|none of|options?|choices?|answers?)\s+)*"
    r"\(?[A-J]\)?(?:\s*(?:,|and|or|nor|&)\s*\(?[A-J]\)?)+(?:\s+only)?\.?",
    re.IGNORECASE,
)


def shuffled(
    question: str, options: Sequence[str], right: int, *, seed: int
) -> tuple[list[str], int]:
    """The options in an order given by seed and question, and the place of the right one. "All of
    the above" and its kin stay behind what is above.

    They are sorted by a hash of their text: the order does not depend on the order of the fields or
    of the rows.
    """

    def rank(place: int) -> tuple[bool, bytes]:
        text = f"{seed}\n{question}\n{options[place]}"
        is_last = _MEANS_OTHERS.search(options[place]) is not None
        return is_last, hashlib.sha256(text.encode("utf-8", "replace")).digest()

    order = sorted(range(len(options)), key=rank)
    return [options[i] for i in order], order.index(right)


def name_letters(options: Sequence[str]) -> bool:
    """Whether an option names others by letters, which mean nothing once they are shuffled."""
    return any(_NAMES_LETTERS.fullmatch(option) for option in options)


# ---- reading -------------------------------------------------------------------------------------

_LABEL_KEYS = ("label", "labels", "key", "keys")


def options_of(value: Any, labels: Any = None) -> Options | str:
    """The options of a cell, or why it holds none: a list of texts, with a list of labels; texts by
    label (`{"A": "…", "B": "…"}`); lists of both (`{"text": […], "label": […]}`); or a list of
    `{"label": "A", "text": "…"}`.
    """
    if isinstance(value, Mapping):
        return _of_mapping(cast("Mapping[str, Any]", value))
    if not isinstance(value, list):
        return f"the options are {type(value).__name__}, not a list of texts"
    listed = cast("list[Any]", value)
    if listed and all(isinstance(one, Mapping) for one in listed):
        return _of_mappings(cast("list[Mapping[str, Any]]", listed))
    if any(isinstance(one, (list, Mapping)) for one in listed):
        return "an option is a list or mapping, no text"
    texts = [as_text(one).strip() for one in listed]
    if not isinstance(labels, list):
        return Options(texts)
    return _labelled(texts, cast("list[Any]", labels))


def _of_mapping(value: Mapping[str, Any]) -> Options | str:
    texts = value.get("text")
    if isinstance(texts, list):
        return options_of(texts, labels_beside(value))
    # Files of one schema give each row the labels of all: those without a text are not its own.
    pairs = [(label.strip(), text) for label, text in value.items() if text is not None]
    if all(len(label) == 1 for label, _ in pairs):
        pairs.sort(key=lambda pair: pair[0])
    return options_of([text for _, text in pairs], [label for label, _ in pairs])


def _of_mappings(options: Sequence[Mapping[str, Any]]) -> Options | str:
    label_key = next((key for key in _LABEL_KEYS if key in options[0]), None)
    if label_key is None or any(not {label_key, "text"} <= set(one) for one in options):
        keys = ", ".join(sorted(options[0])[:5])
        return f"an option is a mapping of {keys}; want texts, or label and text of each"
    return options_of([one["text"] for one in options], [one[label_key] for one in options])


def labels_beside(fields: Mapping[str, Any]) -> Any:
    """The list of labels that stands beside a list of texts; None where there is none."""
    for key in _LABEL_KEYS:
        if isinstance(fields.get(key), list):
            return fields[key]
    return None


def _labelled(texts: list[str], given: list[Any]) -> Options | str:
    labels = [as_text(label).strip() for label in given]
    if len(labels) != len(texts) or len(set(labels)) < len(labels) or not all(labels):
        return f"{len(labels)} labels of {len(texts)} options: want one for each, no two alike"
    return Options(texts, labels)


# ---- the right one -------------------------------------------------------------------------------


class Counting:
    """How the answers of a whole source name their options: places counted from 0 or 1, numbers as
    texts. `counts_from` is what the section says, None where it says nothing.
    """

    def __init__(self, counts_from: int | None) -> None:
        self.counts_from = counts_from
        self.places = 0
        self._zeros = self._ends = 0
        self._as_texts = self._as_places = 0
        self._as_either = 0

    @property
    def first(self) -> int:
        """The number of the first option."""
        return self.counts_from or 0

    def place(self, number: int, count: int, same: Sequence[int]) -> int | None:
        """The place of an option, counted from 0; None where there is no such option. `same` are
        the places of the options whose text is that number.
        """
        self.places += 1
        self._zeros += number == 0
        self._ends += number == count
        place = number - self.first
        self._as_either += len(same) == 1 and place not in same
        return place if 0 <= place < count else None

    def digits(self, *, is_text: bool) -> None:
        """Note that a number as text is the text of an option, or could be a place only."""
        self._as_texts += is_text
        self._as_places += not is_text

    def fault(self) -> str | None:
        """What the whole source shows to be wrong with the way in which its answers are read."""
        if self._ends and not self._zeros and self.first == 0:
            return (
                "counts the options from 1: 0 never occurs, their number does. Say "
                "answer_counts_from = 1"
            )
        if self._zeros and not self._ends and self.first == 1:
            return (
                "counts the options from 0: 0 occurs, their number never does. Say "
                "answer_counts_from = 0"
            )
        # Where options are numbers, a place is now and then the text of another one.
        if self.counts_from is None and self._as_either * 2 > self.places:
            return (
                f"holds {self.places:,} numbers, of which {self._as_either:,} are the text of "
                "another option than the one at that place. Say answer_counts_from = 0 or 1 where "
                "they are places; where they are texts of options, write them as texts"
            )
        # A text or two that is none of the options is dirt, and set aside.
        if self._as_texts and self._as_places * 10 >= self._as_texts:
            return (
                f"holds numbers that are the text of an option in {self._as_texts:,} rows, and "
                f"in {self._as_places:,} can only be a place or a label. Say what they are: "
                "answer_counts_from = 0 or 1 where they are places, choice_labels where the rows "
                "name the labels of their options"
            )
        return None

    @property
    def is_unsure(self) -> bool:
        """Whether the places could be counted either way, and nobody said how."""
        return self.counts_from is None and self.places > 0 and not self._zeros


# Of a place that is written as text, and of an answer in a message.
_MOST_DIGITS = 4
_SHOWN = 60


def find_right(options: Options, answer: Any, counting: Counting) -> int | str:
    """The place of the option that an answer names, or why it names none."""
    texts = options.texts
    text = as_text(answer).strip()
    nowhere = f"{shortened(text, _SHOWN)!r} is none of {len(texts)} options"
    if text in options.labels:
        return options.labels.index(text)
    same = [place for place, option in enumerate(texts) if option == text]
    is_said = counting.counts_from is not None
    if not options.labels or is_said:
        number = _number_of(answer)
        is_digits = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
        if number is None and is_digits and is_said:
            number = int(text)
        if number is not None:
            place = counting.place(number, len(texts), same)
            if place is None:
                return f"{nowhere}, counted from {counting.first}"
            return place
        letter = text.strip("().").upper()
        if len(letter) == 1 and letter in LETTERS[: len(texts)]:
            place = LETTERS.index(letter)
            if same and same != [place]:
                return f"{text!r} is the letter of one option and the text of another"
            return place
        if is_digits:
            counting.digits(is_text=len(same) == 1)
            nowhere += "; answer_counts_from = 0 or 1 says that such a text is a place"
    if len(same) != 1:
        return nowhere
    return same[0]


def _number_of(answer: Any) -> int | None:
    """The whole number that an answer is; a column with missing values makes floats of them."""
    if isinstance(answer, bool):
        return None
    if isinstance(answer, int):
        return answer
    if isinstance(answer, float) and answer.is_integer():
        return int(answer)
    return None


def fault_of(options: Sequence[str], right: int) -> str | None:
    """Why these options make no question: fewer than two, more than there are letters, an empty
    one, the right one twice.
    """
    if not 2 <= len(options) <= len(LETTERS):
        return f"{len(options)} options; there must be 2 to {len(LETTERS)}"
    if any(not option for option in options):
        return "an option is empty"
    if options.count(options[right]) > 1:
        return "the right option is there twice"
    return None
