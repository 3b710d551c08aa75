"""Near-duplicates beside a comparison of each text with each, at the edge of the threshold, and of
hostile sets.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

from reasondistill.curation import near_duplicates as module
from reasondistill.curation.near_duplicates import THRESHOLD, banding, near_duplicates
from reasondistill.curation.shingles import Numbers, Text, shingled
from reasondistill.curation.words import read
from reasondistill.errors import ConfigError

CERTAIN = 1 - 1e-9


def named(texts: Sequence[str]) -> list[Text]:
    return [Text(str(number), text) for number, text in enumerate(texts)]


def found_in(texts: Sequence[str], numbers: Numbers = "count") -> list[tuple[str, str]]:
    return [(found.id, found.of) for found in near_duplicates(named(texts), numbers=numbers)]


# ---- beside a comparison of each with each -------------------------------------------------------


def shingle_set(text: str, numbers: Numbers) -> frozenset[tuple[str, ...]]:
    words = read(text).words
    if numbers == "ignored":
        words = tuple("0" if word.isdecimal() else word for word in words)
    if len(words) < 5:
        return frozenset({words} if words else ())
    return frozenset(words[place : place + 5] for place in range(len(words) - 4))


def brute_force(texts: Sequence[str], numbers: Numbers) -> list[tuple[str, str]]:
    """All pairs compared as sets of tuples of words; then clusters by following links."""
    sets = [shingle_set(text, numbers) for text in texts]
    heads = list(range(len(texts)))
    for one, other in combinations(range(len(texts)), 2):
        left, right = read(texts[one]), read(texts[other])
        if numbers == "count" and left.numbers != right.numbers:
            continue
        if numbers != "words" and sorted(left.signs) != sorted(right.signs):
            continue
        union = len(sets[one] | sets[other])
        if union and len(sets[one] & sets[other]) / union >= THRESHOLD:
            first, second = sorted((heads[one], heads[other]))
            heads = [first if head == second else head for head in heads]
    return [(str(place), str(head)) for place, head in enumerate(heads) if place != head]


BASES = [
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "f 3 apples and g 4 pears and h + i over 5 rows of j trees in k fields",
    "one two three four",
    "",
]


@st.composite
def sets_of_texts(draw: st.DrawFn) -> list[str]:
    """A few texts, each a base with a few words put in, taken out or changed."""
    texts: list[str] = []
    for _ in range(draw(st.integers(0, 12))):
        words = draw(st.sampled_from(BASES)).split()
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(words)))
            word = draw(st.sampled_from(["a", "b", "q", "3", "4", "+ 2", "", ". "]))
            words[place : place + draw(st.integers(0, 2))] = [word]
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize("numbers", ["count", "words", "ignored"])
@settings(max_examples=draws(60))
@given(texts=sets_of_texts())
def test_they_are_those_that_a_comparison_of_all_pairs_finds(
    numbers: Numbers, texts: list[str]
) -> None:
    """With bands enough to miss nothing; the usual ones miss what `probability` says."""
    found = near_duplicates(named(texts), numbers=numbers, recall=CERTAIN)
    pairs = [(each.id, each.of) for each in found]
    assert pairs == brute_force(texts, numbers)


@settings(max_examples=draws(40))
@given(texts=sets_of_texts())
def test_the_usual_banding_joins_nothing_that_all_pairs_would_not(texts: list[str]) -> None:
    together = dict(brute_force(texts, "count"))
    for found, of in found_in(texts):
        assert together.get(found, found) == together.get(of, of)


# ---- at the edge of the threshold ----------------------------------------------------------------


def test_the_banding_finds_a_pair_at_the_threshold_in_99_of_100_cases() -> None:
    plan = banding(0.8)
    assert (plan.bands, plan.rows) == (16, 6)
    assert plan.probability(0.8) == pytest.approx(1 - (1 - 0.8**6) ** 16)
    for threshold in (0.3, 0.5, 0.7, 0.9, 0.95, 1.0):
        assert banding(threshold).probability(threshold) >= 0.99
        assert banding(threshold).hashes <= module.MOST_HASHES
    for threshold in (0.0, -1.0, 1.1, 0.01):
        with pytest.raises(ConfigError, match="similarity"):
            banding(threshold)
    for recall in (0.0, 1.0, 2.0):
        with pytest.raises(ConfigError, match="recall"):
            banding(0.8, recall=recall)


def pairs_of_similarity(shared: int, own: int, count: int) -> list[str]:
    """Two texts of `shared` + `own` shingles each, `count` times with words of their own."""
    texts: list[str] = []
    chance = np.random.default_rng(0)
    for _ in range(count):
        word = iter(chance.integers(0, 26**6, shared + 2 * own + 9).tolist())
        common = [letters(next(word)) for _ in range(shared + 4)]
        texts.append(" ".join([*common, *(letters(next(word)) for _ in range(own))]))
        texts.append(" ".join([*common, *(letters(next(word)) for _ in range(own))]))
    return texts


def letters(number: int) -> str:
    return "".join(chr(97 + number // 26**place % 26) for place in range(6))


def test_nearly_all_pairs_just_above_the_threshold_are_found_and_none_just_below() -> None:
    count = 300
    above = pairs_of_similarity(40, 5, count)  # 40 of 50 shingles: 0.8
    below = pairs_of_similarity(39, 5, count)  # 39 of 49: 0.796
    assert {found.similarity for found in near_duplicates(named(above))} == {0.8}
    # 298 are to be expected: below 290 comes by chance once in 10,000 sets of words.
    assert len(found_in(above)) >= 290
    assert found_in(below) == []


# ---- which texts ---------------------------------------------------------------------------------

LONG = (
    "The library of the village owns many books about birds, and each autumn the children of the "
    "school count how many of them are still on their shelves, write the number {} on a card, and "
    "hang the card on the door so that everybody who comes by can read it."
)


def test_the_first_of_a_cluster_stands_for_it() -> None:
    other = LONG.format(7).replace("village", "town")
    third = other.replace("autumn", "spring")
    texts = [LONG.format(8), other, "something else", third, LONG.format(7)]
    found = list(near_duplicates(named(texts)))
    assert [(each.id, each.of) for each in found] == [("3", "1"), ("4", "1")]
    assert all(each.similarity >= 0.8 for each in found)


def test_a_cluster_holds_what_only_its_middle_is_like() -> None:
    """The first and the third are below the threshold; the record says how far."""
    words = [letters(number * 7919) for number in range(54)]
    texts = [" ".join(words[start : start + 44]) for start in (0, 4, 8)]
    found = list(near_duplicates(named(texts)))
    assert [(each.id, each.of) for each in found] == [("1", "0"), ("2", "0")]
    assert found[0].similarity == round(36 / 44, 4)
    assert found[1].similarity == round(32 / 48, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("What is 3 * 4?", "What is 3 / 4?"),
        (LONG.format(7), LONG.format(8)),
        (LONG.format("three"), LONG.format("four")),
        (LONG.format("2 < 3"), LONG.format("2 > 3")),
        (LONG.format("3.5"), LONG.format("35")),
        (f"{LONG.format(1)} f(2) = 3", f"{LONG.format(1)} f(3) = 2"),
        ("", ""),
        ("?!", "!?"),
        ("go", "stop"),
    ],
)
def test_other_numbers_and_signs_make_another_problem(one: str, other: str) -> None:
    assert found_in([one, other]) == []


def test_the_same_template_is_a_duplicate_where_it_is_asked_for() -> None:
    texts = [LONG.format(7), LONG.format(8), LONG.format("twelve")]
    assert found_in(texts, "ignored") == [("1", "0"), ("2", "0")]
    assert found_in(["Add 3 + 4.", "Add 5 + 6.", "Add 5 - 6."], "ignored") == [("1", "0")]


def test_short_texts_are_the_same_or_different() -> None:
    texts = ["One.", "one", "one two", "Two, one", "a b c d", "A B c: d!", "a b c d e"]
    assert found_in(texts) == [("1", "0"), ("5", "4")]


def test_shorter_shingles_and_a_lower_threshold_find_edits_of_short_problems() -> None:
    problem = (
        "Tom has 5 apples and gives 2 of them to Ann. How many apples does he have left after "
        "lunch today?"
    )
    texts = [problem, problem.replace("gives", "hands"), problem.replace("2", "3")]
    assert found_in(texts) == []
    found = near_duplicates(named(texts), words=3, threshold=0.7)
    assert [(each.id, each.of, each.similarity) for each in found] == [("1", "0", 0.7273)]


def test_texts_of_other_groups_are_not_compared() -> None:
    texts = [Text("a", LONG, "p/1"), Text("b", LONG, "p/2"), Text("c", LONG, "p/1")]
    assert [(each.id, each.of) for each in near_duplicates(texts)] == [("c", "a")]


# ---- large and hostile sets ----------------------------------------------------------------------


def test_a_cluster_of_many_variants_is_not_compared_pair_by_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2,000 texts that differ in a word have 2 million pairs; each is looked at a few times."""
    looked_at = 0
    exact = module._Linking.similarities

    def counted(self: module._Linking, one: int, others: module.Places) -> object:
        nonlocal looked_at
        looked_at += len(others)
        return exact(self, one, others)

    monkeypatch.setattr(module._Linking, "similarities", counted)
    texts = [f"{LONG.format(7)} {letters(number * 7919)}" for number in range(2_000)]
    assert found_in(texts) == [(str(number), "0") for number in range(1, 2_000)]
    assert looked_at < 20 * len(texts)


def test_a_crowd_that_is_not_alike_is_compared_in_part_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_COMPARED", 3)
    same = " ".join(letters(number) for number in range(30))
    texts = [
        f"{same} {' '.join(letters(1_000 + 50 * text + place) for place in range(16))}"
        for text in range(40)
    ]
    assert found_in(texts) == []
    assert "were not compared with all of them" in caplog.text


def test_equal_texts_and_empty_ones_take_no_time() -> None:
    texts = [LONG.format(7)] * 20_000 + [""] * 20_000
    found = found_in(texts)
    assert len(found) == 19_999
    assert {of for _, of in found} == {"0"}


def test_a_giant_text_is_read_in_pieces_and_compared() -> None:
    giant = " ".join(letters(number) for number in range(100_000))
    unbroken = "x" * 3_000_000
    texts = [giant, f"{giant} and more", unbroken, unbroken, "[asy]" * 100_000]
    assert found_in(texts) == [("1", "0"), ("3", "2")]


def test_texts_that_no_encoding_takes_are_texts() -> None:
    assert found_in(["\ud800 lone", "\ud800 lone", "\x00", "\u200b"]) == [("1", "0")]


def test_nothing_in_is_nothing_out() -> None:
    assert found_in([]) == []
    assert found_in([""]) == []


# ---- the same everywhere -------------------------------------------------------------------------

IN_ANOTHER_PROCESS = """
import sys
from reasondistill.curation.near_duplicates import near_duplicates
from reasondistill.curation.shingles import Text, shingled
texts = [Text(str(n), line) for n, line in enumerate(sys.stdin.read().split("\\n"))]
print([(found.id, found.of, found.similarity) for found in near_duplicates(texts)])
for batch in shingled(texts):
    print(batch.values.tolist(), batch.guards.tolist())
"""


def test_another_process_with_other_hashes_finds_the_same() -> None:
    texts = "\n".join([LONG.format(number % 3) + " and" * (number % 5) for number in range(30)])
    said = [
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS], input=texts, text=True, check=True,
            capture_output=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert said[0].startswith("[('3', '0', ")


SHINGLES = [708046516, 2248826086, 3210942849]
GUARDS = [16509545556136281053]


def test_a_shingle_is_the_same_number_on_every_machine() -> None:
    (batch,) = shingled([Text("a", "Is it 5 % of x²?")])
    assert batch.values.tolist() == SHINGLES
    assert batch.guards.tolist() == GUARDS


def test_how_texts_are_batched_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasondistill.curation import shingles

    texts = [LONG.format(number % 3) + " and" * (number % 5) for number in range(30)]
    usual = found_in(texts)
    monkeypatch.setattr(shingles, "_BATCH_TOKENS", 1)
    monkeypatch.setattr(shingles, "_MOST_KNOWN_PIECES", 1)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    assert found_in(texts) == usual != []
