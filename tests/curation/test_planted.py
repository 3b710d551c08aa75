"""What was planted is found, and what only looks like it is left alone."""

from __future__ import annotations

import random

import pytest
from planted import COUNT, Planted, plant

from reasondistill.curation.instructions import common_sentences
from reasondistill.curation.leaks import HeldOut, LeakIndex
from reasondistill.curation.near_duplicates import near_duplicates
from reasondistill.curation.shingles import Text

MOST_MISSED = COUNT // 20  # recall of at least 0.95


@pytest.fixture(scope="module", params=[1, 2])
def planted(request: pytest.FixtureRequest) -> Planted:
    return plant(request.param)


def named(kind: str, texts: list[str]) -> list[Text]:
    return [Text(f"{kind}/{number}", text) for number, text in enumerate(texts)]


def test_near_duplicates_are_found_and_look_alikes_are_not(planted: Planted) -> None:
    texts = [
        *named("original", planted.originals),
        *named("edited", planted.edited),
        *named("look_alike", planted.look_alikes),
    ]
    random.Random(3).shuffle(texts)
    pairs = {tuple(sorted((found.id, found.of))) for found in near_duplicates(texts)}
    wanted = {(f"edited/{number}", f"original/{number}") for number in range(COUNT)}
    assert pairs <= wanted
    assert len(wanted - pairs) <= MOST_MISSED, sorted(wanted - pairs)


def test_leaks_are_found_and_look_alikes_are_told_apart(planted: Planted) -> None:
    texts = [*named("leaked", planted.leaked), *named("look_alike", planted.look_alikes)]
    questions = named("original", planted.originals)
    index = LeakIndex(
        (HeldOut("ours", question.id, question.text) for question in questions),
        common=common_sentences(text.text for text in texts),
    )
    found = [leak for _, leaks in index.search(texts) for leak in leaks]
    leaks = {(leak.id, leak.question_id) for leak in found if leak.kind == "leak"}
    wanted = {(f"leaked/{number}", f"original/{number}") for number in range(COUNT)}
    assert leaks <= wanted
    assert len(wanted - leaks) <= MOST_MISSED, sorted(wanted - leaks)
    alike = {leak.id for leak in found if leak.kind == "look_alike"}
    assert len([name for name in alike if name.startswith("look_alike/")]) >= COUNT - MOST_MISSED


def test_edited_questions_are_leaks_too(planted: Planted) -> None:
    questions = named("original", planted.originals)
    index = LeakIndex(HeldOut("ours", question.id, question.text) for question in questions)
    found = [leaks for _, leaks in index.search(named("edited", planted.edited))]
    told = [leaks[0].question_id if leaks else "" for leaks in found]
    right = [name == f"original/{number}" for number, name in enumerate(told)]
    assert sum(right) >= COUNT - MOST_MISSED


def test_without_looking_at_numbers_look_alikes_are_found_as_well(planted: Planted) -> None:
    texts = [*named("a", planted.originals), *named("b", planted.look_alikes[::2])]
    counted = list(near_duplicates(texts))
    ignored = list(near_duplicates(texts, numbers="ignored"))
    assert counted == []
    assert len(ignored) >= len(planted.look_alikes[::2])
