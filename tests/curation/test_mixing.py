"""Mixtures of examples by tokens, against numbers that are worked out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from pydantic import ValidationError
from test_examples import PROMPT, Run, graded, problem

from reasondistill.config import ExampleSettings, MixtureSettings
from reasondistill.curation.decisions import Decision, Tally
from reasondistill.curation.mixing import BEYOND_SHARE, NO_WEIGHT, Mixed, Mixer
from reasondistill.errors import DataError, StageError
from reasondistill.records import Example, Problem
from reasondistill.runs.figures import ExamplesFigures
from reasondistill.runs.store import read_records
from reasondistill.stages.examples import make_examples
from reasondistill.stages.report.facts import read_facts, read_stages
from reasondistill.stages.report.wording import mixture_table
from reasondistill.stages.students.material import Material


def tagged(number: int, tag: str | None) -> Problem:
    plain = problem(number)
    return plain.model_copy(update={"origin": plain.origin.model_copy(update={"tag": tag})})


def mixed(lengths: dict[str, list[int]], seed: int = 0, **settings: Any) -> Mixed:
    """What becomes of examples of these tokens; the trace of the third of tag b is `b/3`."""
    mixer = Mixer(MixtureSettings(by="tag", **settings), seed=seed)
    for tag, tokens in lengths.items():
        for number, count in enumerate(tokens, start=1):
            trace = graded(number, 0, tokens=count).trace
            named = trace.model_copy(update={"id": f"{tag}/{number}"})
            mixer.see(tagged(number, tag or None), named)
    return mixer.mixed()


def rows_of(found: Mixed) -> dict[str, int]:
    rows: Counter[str] = Counter()
    for name, copies in found.copies.items():
        rows[name.partition("/")[0]] += copies
    return dict(rows)


HUNDREDS = {"a": [100] * 4, "b": [100] * 2}


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        # Half of as much as there is without a copy: 200 of b, so 200 of a.
        ({"weights": {"a": 1, "b": 1}}, {"a": 2, "b": 2}),
        # 4 : 1 without a copy: 400 of a, 100 of b.
        ({"weights": {"a": 4, "b": 1}}, {"a": 4, "b": 1}),
        # 1,000 tokens, 4 : 1: 800 of a, which has 400, and 200 of b.
        ({"weights": {"a": 4, "b": 1}, "tokens": 1000}, {"a": 8, "b": 2}),
        # 500 tokens, 1 : 4: 100 of a, 400 of b, which has 200.
        ({"weights": {"a": 1, "b": 4}, "tokens": 500}, {"a": 1, "b": 4}),
        # 300 of b: each once and one twice.
        ({"weights": {"b": 1}, "tokens": 300}, {"b": 3}),
    ],
)
def test_each_group_has_its_share_of_the_tokens(
    settings: dict[str, Any], rows: dict[str, int]
) -> None:
    assert rows_of(mixed(HUNDREDS, **settings)) == rows


def test_a_group_ends_as_near_to_its_share_as_its_next_example_allows() -> None:
    # 100 wanted: of 60 and 90 one (both is 150), of 70 and 50 both (120 is nearer than 70 or 50),
    # whatever comes first.
    for seed in range(5):
        found = mixed({"a": [60, 90], "b": [100]}, seed, weights={"a": 1, "b": 1}, tokens=200)
        assert rows_of(found) == {"a": 1, "b": 1}
        found = mixed({"a": [70, 50], "b": [100]}, seed, weights={"a": 1, "b": 1}, tokens=200)
        assert rows_of(found) == {"a": 2, "b": 1}


def test_which_examples_are_taken_is_fixed_by_the_seed_and_not_by_their_order() -> None:
    def kept(seed: int, lengths: list[int]) -> set[str]:
        found = mixed({"a": lengths}, seed, weights={"a": 1}, tokens=500)
        return set(found.copies)

    assert kept(1, [50] * 40) == kept(1, [50] * 40) != kept(2, [50] * 40)
    assert len(kept(1, [50] * 40)) == 10


def test_what_is_left_out_has_its_reason_and_a_group_says_what_became_of_it() -> None:
    found = mixed({"a": [100] * 4, "b": [100], "": [100]}, weights={"a": 1, "b": 2}, tokens=600)
    assert Counter(found.reasons.values()) == {BEYOND_SHARE: 2, NO_WEIGHT: 1}
    assert [group.model_dump() for group in found.groups] == [
        {
            "name": "a",
            "weight": 1,
            "examples": 4,
            "tokens": 400,
            "rows": 2,
            "mixed_tokens": 200,
            "left_out": 2,
        },
        {
            "name": "b",
            "weight": 2,
            "examples": 1,
            "tokens": 100,
            "rows": 4,
            "mixed_tokens": 400,
            "left_out": 0,
        },
    ]
    assert [group.fate for group in found.groups] == [
        "under-sampled to 50 %",
        "over-sampled 4.00 times",
    ]


def test_a_share_that_whole_examples_miss_is_told(caplog: pytest.LogCaptureFixture) -> None:
    mixed({"a": [100] * 9, "b": [140]}, weights={"a": 9, "b": 1}, tokens=1000)
    assert "'b' has 13.5 % of the tokens, and 10.0 % were asked for" in caplog.text
    caplog.clear()
    mixed({"a": [100] * 9, "b": [100]}, weights={"a": 9, "b": 1}, tokens=1000)
    assert caplog.text == ""


def test_a_share_of_nothing_and_too_many_copies_are_refused_by_name() -> None:
    with pytest.raises(StageError, match="no example of 'c' .* There are: a, b"):
        mixed(HUNDREDS, weights={"a": 1, "c": 1})
    with pytest.raises(StageError, match="'b': its examples have 200 .* most_copies = 4"):
        mixed(HUNDREDS, weights={"a": 1, "b": 9}, tokens=1000)
    # 100 of 1,010 tokens: no example of 500 is nearer to that than none.
    with pytest.raises(StageError, match="'b': its share is 100 tokens, .* no nearer"):
        mixed({"a": [100] * 10, "b": [500]}, weights={"a": 9.1, "b": 1}, tokens=1010)
    with pytest.raises(ValidationError, match="tells short, long apart, not 'middle'"):
        MixtureSettings(by="length", weights={"middle": 1})
    with pytest.raises(ValidationError, match="never, seldom, .* not 'hard'"):
        MixtureSettings(by="difficulty", weights={"hard": 1})
    with pytest.raises(ValidationError, match="names no group"):
        MixtureSettings(weights={})


@pytest.mark.parametrize(
    ("by", "groups"),
    [("source", {"mine", "d"}), ("tag", {"hard", "untagged"}), ("length", {"short", "long"})],
)
def test_groups_are_told_apart_by_what_is_asked(by: Any, groups: set[str]) -> None:
    from reasondistill.curation.mixing import group_of

    settings = MixtureSettings(by=by, weights={"short": 1}, short_tokens=10)
    origin = problem(1).origin.model_copy(update={"source": "mine", "tag": "hard"})
    first = problem(1).model_copy(update={"origin": origin})
    pairs = [(first, graded(1, 0, tokens=10)), (problem(2), graded(2, 0, tokens=11))]
    assert {group_of(one, pair.trace, settings) for one, pair in pairs} == groups
    teachers = MixtureSettings(by="teacher", weights={"teacher": 1})
    assert group_of(first, pairs[0][1].trace, teachers) == "teacher"  # without its revision


# ---- the stage -----------------------------------------------------------------------------------

MIXTURE = {"by": "length", "weights": {"short": 1, "long": 1}, "short_tokens": 50, "tokens": 400}


def test_a_mixture_is_in_examples_dropped_manifest_card_report_and_training(tmp_path: Path) -> None:
    pairs = [graded(number, 0, tokens=20) for number in range(4)]  # 80 tokens: 200 wanted
    pairs += [graded(number, 0, tokens=100) for number in range(4, 8)]  # 400: 200 wanted
    run = Run(tmp_path, pairs)
    manifest = run.make(mixture=MIXTURE, validation=0.0)
    copies = {example.id: example.copies for example in run.examples}
    assert sorted(copies.values()) == [1, 1, 2, 2, 3, 3]  # 10 rows of 20, 2 of 100
    assert manifest.counts == {"in": 8, "out": 6, "train": 6, "validation": 0}
    assert manifest.dropped == {BEYOND_SHARE: 2} and set(run.dropped.values()) == {BEYOND_SHARE}
    assert set(run.dropped) | set(copies) == {pair.trace.id for pair in pairs}
    short, long = ExamplesFigures.of(manifest).mixture
    assert (short.rows, short.mixed_tokens, long.rows, long.mixed_tokens) == (10, 200, 2, 200)
    card = (run.out / "dataset" / "README.md").read_text()
    assert "| short | 1 | 4 | 80 | 10 | 200 | over-sampled 2.50 times |" in card
    assert pyarrow.parquet.read_metadata(run.out / "dataset" / "train.parquet").num_rows == 12
    stages = read_stages(tmp_path, besides=tmp_path / "7-report")
    table = mixture_table(read_facts(tmp_path, stages, traces=0))
    assert [row[-1] for row in table.rows] == ["over-sampled 2.50 times", "under-sampled to 50 %"]
    rows = list(Material(run.examples).split("train"))
    assert Counter(row.id for row in rows) == copies

    # From Python the same; and asked for again nothing is made anew.
    settings = ExampleSettings(mixture=MixtureSettings.model_validate(MIXTURE), validation=0.0)
    traces, verdicts = [p.trace for p in pairs], [p.verdict for p in pairs]
    problems = [problem(number) for number in range(8)]
    chosen = make_examples(problems, traces, verdicts, PROMPT, settings)
    assert list(chosen.kept) == run.examples
    assert {drop.trace_id: drop.reason for drop in chosen.dropped} == run.dropped
    assert run.make(mixture=MIXTURE, validation=0.0).fingerprint == manifest.fingerprint


def test_examples_are_weighed_by_how_often_their_problem_was_solved() -> None:
    """One problem is solved in one of four samples, the other in all of them."""
    pairs = [graded(1, 0, tokens=40)]
    pairs += [graded(1, sample, "wrong", tokens=40) for sample in (1, 2, 3)]
    pairs += [graded(2, sample, text=f"{sample}: \\boxed{{1}}", tokens=40) for sample in range(4)]
    mixture = MixtureSettings(by="difficulty", weights={"seldom": 1, "always": 1}, tokens=160)
    chosen = make_examples(
        [problem(1), problem(2)],
        [pair.trace for pair in pairs],
        [pair.verdict for pair in pairs],
        PROMPT,
        ExampleSettings(mixture=mixture, validation=0.0),
    )
    copies = Counter({"d/train/1": 0, "d/train/2": 0})
    for example in chosen.kept:
        copies[example.problem_id] += example.copies
    assert copies == {"d/train/1": 2, "d/train/2": 2}


def test_examples_to_validate_on_are_left_as_they_are(tmp_path: Path) -> None:
    pairs = [graded(number, 0, tokens=20 + 80 * (number % 2)) for number in range(40)]
    plain, weighed = Run(tmp_path / "a", pairs), Run(tmp_path / "b", pairs)
    plain.make(validation=0.3)
    weighed.make(validation=0.3, mixture={**MIXTURE, "tokens": None})

    def to_validate(examples: list[Example]) -> list[Example]:
        return [example for example in examples if example.split == "validation"]

    assert to_validate(plain.examples) == to_validate(weighed.examples) != []
    assert len(weighed.examples) < len(plain.examples)


def test_an_example_is_trained_on_once_at_least_and_not_without_end() -> None:
    pair = graded(1, 0)
    settings = ExampleSettings()
    (example,) = make_examples([problem(1)], [pair.trace], [pair.verdict], PROMPT, settings).kept
    for copies in (0, 1 << 60):
        with pytest.raises(ValidationError, match="copies"):
            Example.model_validate(example.model_dump() | {"copies": copies})


def test_an_example_without_copies_is_written_as_ever() -> None:
    chosen = make_examples(
        [problem(1)],
        [graded(1, 0).trace],
        [graded(1, 0).verdict],
        PROMPT,
        ExampleSettings(),
    )
    assert "copies" not in chosen.kept[0].to_json()


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), 1e308, 1e-320, 0, -1])
def test_a_weight_is_a_number_of_which_shares_can_be_made(weight: float) -> None:
    with pytest.raises(ValidationError):
        MixtureSettings(by="tag", weights={"a": weight, "b": weight})
    heavy = mixed({"a": [10, 10], "b": [10, 10]}, weights={"a": 1e9, "b": 1e9})
    assert heavy.copies == mixed({"a": [10, 10], "b": [10, 10]}, weights={"a": 1, "b": 1}).copies


def test_groups_of_any_number_and_length_make_a_short_message() -> None:
    lengths = {f"tag {number:02} {'x' * 1000}": [10] for number in range(30)}
    with pytest.raises(StageError, match="no example of 'c' .* and 18 more") as caught:
        mixed(lengths, weights={"c": 1})
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize("copies", [0, -1, 1001, 1 << 62])
def test_copies_of_somebody_elses_example_come_to_an_end(tmp_path: Path, copies: int) -> None:
    made = Example(
        id="d/train/1:0",
        problem_id="d/train/1",
        trace_id="d/train/1:0",
        messages=(),
        tokens=1,
        split="train",
        copies=1000,
    )
    line = made.model_dump_json().replace(":1000", f":{copies}")
    (tmp_path / "examples.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"examples\.jsonl:1: "):
        list(read_records(tmp_path / "examples.jsonl", Example))


def test_what_a_writer_has_kept_and_lost_adds_up_behind_a_mixture() -> None:
    mixer = Mixer(MixtureSettings(by="tag", weights={"a": 1, "b": 1}), seed=0)
    tally = Tally(by_writer={})
    for number, (tag, model) in enumerate([("a", "m@1"), ("a", "m@1"), ("a", "n@1"), ("b", "n@1")]):
        pair = graded(number, 0, tokens=100)
        pair = replace(pair, trace=pair.trace.model_copy(update={"model": model}))
        decision = Decision(tagged(number, tag), (pair,), {})
        tally.see(decision, 0.5, "train")
        mixer.see(decision.problem, pair.trace)
    mixed = mixer.mixed()
    assert sum(map(Counter.total, mixed.lost.values())) == len(mixed.reasons) == 2
    tally.see_mixed((), mixed.lost, lambda _: 0.5)
    assert tally.dropped == {BEYOND_SHARE: 2}
    writers = tally.writers()
    assert sum(writer.kept for writer in writers) == 2
    for writer in writers:
        assert writer.kept + sum(writer.dropped.values()) == writer.traces == 2
