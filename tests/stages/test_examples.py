"""Graded traces become examples, or are dropped with a reason; nothing is lost on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import make_tokenizer

from reasondistill.config import ExampleSettings
from reasondistill.curation.decisions import Decision, Graded, Tally, pass_rate_bin
from reasondistill.errors import ConfigError, DriftError, StageError
from reasondistill.models.counting import token_counter
from reasondistill.models.prompts import NamedPrompt, Prompt
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.records import (
    OUTCOMES,
    Completion,
    Dropped,
    Example,
    Grade,
    Origin,
    Outcome,
    Problem,
    Sampling,
    SuspectGold,
    Trace,
    Verdict,
    fingerprint,
)
from reasondistill.runs import store
from reasondistill.stages.examples import (
    ExampleInputs,
    decide,
    make_examples,
    render_assistant,
    run_examples,
    split_of,
)
from reasondistill.stages.report.building import build_report
from reasondistill.stages.report.facts import read_facts, read_stages

PROMPT = NamedPrompt(
    name="ask", prompt=Prompt(about="a", system="Be brief.", user="Solve: {question}")
)


def problem(number: int) -> Problem:
    origin = Origin(dataset="d", revision="r", split="train", row=number)
    return Problem(
        id=f"d/train/{number}", question=f"What is {number}+0?", answer=str(number), origin=origin
    )


def completion(
    text: str = "\\boxed{1}", reasoning: str | None = "let me see", tokens: int = 10, **keys: Any
) -> Completion:
    values = {
        "think": "none" if reasoning is None else "closed",
        "finish": "stop",
        "prompt_tokens": 5,
        "seconds": 0.1,
    } | keys
    return Completion(reasoning=reasoning, answer_text=text, tokens=tokens, **values)


def graded(number: int, sample: int, outcome: Outcome = "correct", **keys: Any) -> Graded:
    name = f"d/train/{number}"
    grade = Grade(outcome=outcome, extracted="1", layer="l", reason="r", grader="g@1", seconds=0.0)
    keys.setdefault("text", f"sample {sample}: \\boxed{{1}}")
    trace = Trace(
        id=f"{name}:{sample}",
        problem_id=name,
        sample=sample,
        model="teacher@abc",
        prompt="ask@1",
        sampling=Sampling(temperature=0.6),
        key="k",
        seed=1,
        completion=completion(**keys),
    )
    return Graded(trace, Verdict(trace_id=trace.id, problem_id=name, grade=grade))


def finished(folder: Path, stage: str, **files: Sequence[Any]) -> Path:
    """A complete stage folder that holds these records."""
    count = max(len(records) for records in files.values())
    inputs = {
        name: fingerprint([record.to_json() for record in records])
        for name, records in files.items()
    }
    store.open_stage(folder, store.Identity(stage, 1, {}, inputs), derived=True)
    for name, records in files.items():
        store.write_records(folder / f"{name}.jsonl", records)
    store.finish_stage(folder, counts={"in": count, "out": count}, seconds=0.0)
    return folder


class Run:
    """A run folder with the three stages before this one."""

    def __init__(
        self, folder: Path, pairs: Sequence[Graded], problems: Sequence[Problem] | None = None
    ) -> None:
        self.folder = folder
        numbers = sorted({int(pair.trace.problem_id.split("/")[-1]) for pair in pairs})
        self.problems = finished(
            folder / "1-problems",
            "problems",
            problems=problems or [problem(number) for number in numbers],
        )
        self.traces = finished(folder / "2-traces", "traces", traces=[pair.trace for pair in pairs])
        self.verdicts = finished(
            folder / "3-verdicts", "verdicts", verdicts=[pair.verdict for pair in pairs]
        )
        self.out = folder / "4-examples"

    def make(self, **keys: Any) -> store.Manifest:
        prompt = keys.pop("prompt_file", PROMPT)
        options = {key: keys.pop(key, False) for key in ("unverified", "keep_old")}
        about = {"name": "demo", "pipeline": "demo.toml"}
        return run_examples(
            ExampleSettings(**keys),
            prompt,
            ExampleInputs(self.problems, self.traces, self.verdicts),
            self.out,
            about=about,
            **options,
        )

    @property
    def examples(self) -> list[Example]:
        return list(store.read_records(self.out / "examples.jsonl", Example))

    @property
    def dropped(self) -> dict[str, str]:
        return {
            drop.trace_id: drop.reason
            for drop in store.read_records(self.out / "dropped.jsonl", Dropped)
        }


# ---- rendering -----------------------------------------------------------------------------------


def test_the_assistant_turn_has_one_canonical_think_block() -> None:
    assert (
        render_assistant(completion(" \nIt is 1.\n", "\n hm \n"))
        == "<think>\nhm\n</think>\n\nIt is 1."
    )
    assert render_assistant(completion(" It is 1.\n", None)) == "It is 1."
    assert render_assistant(completion("", "hm, and", think="open")) == "<think>\nhm, and"


def test_rendering_and_splitting_again_gives_the_same_turn() -> None:
    first = completion("It is 1.", "I write </think> and go on")
    again = split_reasoning(
        render_assistant(first), opens=None, finish="stop", prompt_tokens=5, tokens=10, seconds=0.1
    )
    assert render_assistant(again) == render_assistant(first)
    assert (
        again.answer_text.strip() == "It is 1."
        and again.reasoning is not None
        and "</think>" in again.reasoning
    )


def test_an_example_is_the_rendered_prompt_and_the_trace(tmp_path: Path) -> None:
    run = Run(tmp_path, [graded(7, 0, text="So \\boxed{7}", tokens=42)])
    run.make()
    (example,) = run.examples
    assert [(m.role, m.content) for m in example.messages] == [
        ("system", "Be brief."),
        ("user", "Solve: What is 7+0?"),
        ("assistant", "<think>\nlet me see\n</think>\n\nSo \\boxed{7}"),
    ]
    assert (example.id, example.trace_id, example.problem_id, example.tokens) == (
        "d/train/7:0",
        "d/train/7:0",
        "d/train/7",
        42,
    )


# ---- filters and selection -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (graded(1, 0, "wrong"), "outcome wrong"),
        (graded(1, 0, "undecided"), "outcome undecided"),
        (graded(1, 0, finish="error", error="boom"), "sampling failed"),
        (graded(1, 0, text="  ", reasoning=None), "empty text"),
        (graded(1, 0, text="half \ud800 \\boxed{1}"), "broken text"),
        (graded(1, 0, tokens=4), "too short"),
        (graded(1, 0, tokens=21), "too long"),
        (graded(1, 0, reasoning=None), "no think block"),
        (graded(1, 0, reasoning=" \n"), "no think block"),
        (graded(1, 0, text="It is 1."), "no boxed answer"),
        (graded(1, 0, thinking_is_cut=True), "reasoning cut off"),
        (graded(1, 0, tokens=5), None),
        (graded(1, 0, tokens=20), None),
    ],
)
def test_each_dropped_trace_says_why(pair: Graded, reason: str | None) -> None:
    strict = ExampleSettings(min_tokens=5, max_tokens=20, require_think=True, require_boxed=True)
    assert decide(problem(1), [pair], strict).reasons.get(pair.trace.id) == reason


def test_a_failed_sample_is_never_an_example_whatever_outcomes_are_wanted() -> None:
    pair = graded(1, 0, "undecided", finish="error", error="boom", text="", reasoning=None)
    assert decide(problem(1), [pair], ExampleSettings(outcomes=OUTCOMES)).kept == ()


def test_reasoning_that_was_cut_off_can_be_asked_for() -> None:
    pair = graded(1, 0, thinking_is_cut=True)
    assert decide(problem(1), [pair], ExampleSettings(cut_thinking=True)).kept == (pair,)
    assert "cut_thinking" not in ExampleSettings().model_dump(mode="json")


def test_other_outcomes_can_be_asked_for() -> None:
    pairs = [graded(1, 0), graded(1, 1, "wrong"), graded(1, 2, "truncated")]
    assert [
        p.trace.sample
        for p in decide(problem(1), pairs, ExampleSettings(outcomes=("wrong", "truncated"))).kept
    ] == [1, 2]


def test_the_same_text_of_the_same_problem_is_kept_once() -> None:
    pairs = [
        graded(1, 0, text="\\boxed{1}"),
        graded(1, 1, text="\\boxed{1} "),
        graded(1, 2, text="so \\boxed{1}"),
    ]
    assert decide(problem(1), pairs, ExampleSettings()).reasons == {"d/train/1:1": "duplicate text"}


LENGTHS = [30, 10, 40, 20]


@pytest.mark.parametrize(
    ("select", "k", "samples"),
    [
        ("all", 1, [0, 1, 2, 3]),
        ("shortest", 1, [1]),
        ("shortest", 2, [1, 3]),
        ("longest", 2, [0, 2]),
        ("first", 3, [0, 1, 2]),
    ],
)
def test_selection_takes_k_of_each_problem_in_sample_order(
    select: str, k: int, samples: list[int]
) -> None:
    pairs = [graded(1, sample, tokens=tokens) for sample, tokens in enumerate(LENGTHS)]
    decision = decide(problem(1), pairs, ExampleSettings(select=cast(Any, select), k=k))
    assert [pair.trace.sample for pair in decision.kept] == samples
    assert set(decision.reasons.values()) <= {f"select: passed over by {select}"}


def test_selection_looks_only_at_what_passed_the_filters() -> None:
    pairs = [graded(1, 0, "wrong", tokens=1), graded(1, 1, tokens=5), graded(1, 2, tokens=9)]
    assert decide(problem(1), pairs, ExampleSettings(select="shortest")).reasons == {
        "d/train/1:0": "outcome wrong",
        "d/train/1:2": "select: passed over by shortest",
    }


def test_random_selection_is_fixed_by_the_seed_and_spread_over_samples() -> None:
    def chosen(seed: int) -> list[int]:
        made: list[Decision] = []
        for number in range(60):
            pairs = [graded(number, sample) for sample in range(4)]
            made.append(decide(problem(number), pairs, ExampleSettings(select="random", seed=seed)))
        return [decision.kept[0].trace.sample for decision in made]

    assert chosen(1) == chosen(1) != chosen(2)
    assert (
        all(5 <= count <= 30 for count in Counter(chosen(1)).values())
        and len(Counter(chosen(1))) == 4
    )


# ---- splits --------------------------------------------------------------------------------------


def test_the_validation_share_is_near_what_was_asked_and_other_problems_have_no_say() -> None:
    names = [f"d/train/{number}" for number in range(4000)]
    splits = {name: split_of(name, ExampleSettings(validation=0.1, seed=3)) for name in names}
    assert 0.08 < Counter(splits.values())["validation"] / len(names) < 0.12
    assert splits != {
        name: split_of(name, ExampleSettings(validation=0.1, seed=4)) for name in names
    }
    larger = {name: split_of(name, ExampleSettings(validation=0.2, seed=3)) for name in names}
    assert {name for name in names if splits[name] == "validation"} < {
        name for name in names if larger[name] == "validation"
    }


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_two_problems_are_enough_for_both_splits(tmp_path: Path, share: float) -> None:
    run = Run(tmp_path, [graded(number, sample) for number in (1, 2) for sample in (0, 1)])
    manifest = run.make(validation=share)
    assert {example.split for example in run.examples} == {"train", "validation"}
    assert manifest.counts == {"in": 4, "out": 4, "train": 2, "validation": 2}


def test_without_validation_all_is_for_training(tmp_path: Path) -> None:
    run = Run(tmp_path, [graded(number, 0) for number in range(30)])
    assert run.make(validation=0).counts["validation"] == 0
    assert not (run.out / "dataset" / "validation.parquet").exists()
    assert "validation.parquet" not in (run.out / "dataset" / "README.md").read_text()


OUTCOME_LISTS = st.lists(
    st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(1, 30)), min_size=1, max_size=5),
    min_size=1,
    max_size=8,
)


@given(
    outcomes=OUTCOME_LISTS,
    select=st.sampled_from(["all", "shortest", "longest", "random", "first"]),
    k=st.integers(1, 3),
    validation=st.sampled_from([0.0, 0.05, 0.5]),
    max_tokens=st.integers(1, 40),
    seed=st.integers(0, 5),
)
@settings(max_examples=draws(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_and_dropped_are_all_traces_and_no_problem_is_in_both_splits(
    tmp_path_factory: pytest.TempPathFactory,
    outcomes: list[list[tuple[Outcome, int]]],
    max_tokens: int,
    **keys: Any,
) -> None:
    pairs = [
        graded(number, sample, outcome, tokens=tokens, text=f"{tokens % 3} \\boxed{{1}}")
        for number, group in enumerate(outcomes)
        for sample, (outcome, tokens) in enumerate(group)
    ]
    run = Run(tmp_path_factory.mktemp("run"), pairs)
    try:
        manifest = run.make(max_tokens=max_tokens, **keys)
    except StageError:
        assert not run.examples
    else:
        assert (
            manifest.counts["in"]
            == len(pairs)
            == manifest.counts["out"] + sum(manifest.dropped.values())
        )
        assert (
            manifest.counts["out"]
            == manifest.counts["train"] + manifest.counts["validation"]
            == len(run.examples)
        )
    kept = [example.id for example in run.examples]
    assert sorted([*kept, *run.dropped]) == sorted(pair.trace.id for pair in pairs)
    train, validation = (
        {e.problem_id for e in run.examples if e.split == split}
        for split in ("train", "validation")
    )
    assert not train & validation
    if keys["validation"] and len(train | validation) >= 2:
        assert train and validation


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Run:
    outcomes: list[Outcome] = ["correct", "correct", "wrong", "no_answer"]
    pairs = [
        graded(n, s, outcome, tokens=10 * (s + 1))
        for n in range(20)
        for s, outcome in enumerate(outcomes[n % 4 :] + outcomes[: n % 4])
    ]
    return Run(tmp_path / "run", pairs)


def test_the_folder_loads_as_a_hugging_face_dataset(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    run.make(validation=0.3)
    loaded = datasets.load_dataset(str(run.out / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation"}
    rows = {
        split: [example for example in run.examples if example.split == split] for split in loaded
    }
    for split, table in loaded.items():
        assert table.column_names == ["id", "problem_id", "trace_id", "messages", "tokens"]
        assert [row["id"] for row in table] == [example.id for example in rows[split]]
        assert table[0]["messages"] == [message.model_dump() for message in rows[split][0].messages]


def test_the_card_states_funnel_origin_and_hashes(run: Run) -> None:
    manifest = run.make(validation=0.3)
    card = (run.out / "dataset" / "README.md").read_text()
    assert "| examples | 80 | 40 | outcome no_answer: 20, outcome wrong: 20 |" in card
    for text in (
        "teacher@abc",
        "ask@1",
        '"temperature":0.6',
        "g@1",
        manifest.fingerprint,
        "demo.toml",
        "no problem",
    ):
        assert text in card
    for name in ("train", "validation"):
        assert (
            hashlib.sha256((run.out / "dataset" / f"{name}.parquet").read_bytes()).hexdigest()
            in card
        )


def test_figures_count_problems_lengths_and_pass_rates(tmp_path: Path) -> None:
    pairs = [graded(0, s, tokens=10 * (s + 1)) for s in range(4)]
    pairs += [
        graded(1, 0, tokens=50),
        graded(1, 1, "wrong"),
        graded(2, 0, "wrong"),
        graded(2, 1, "truncated"),
    ]
    figures = Run(tmp_path, pairs).make().figures
    assert (figures["problems"], figures["kept_problems"], figures["problems_without_example"]) == (
        3,
        2,
        1,
    )
    assert (figures["tokens_mean"], figures["tokens_p50"], figures["tokens_max"]) == (30, 30, 50)
    assert (figures["pass_rate_0"], figures["pass_rate_25_50"], figures["pass_rate_100"]) == (
        1,
        1,
        1,
    )
    assert [pass_rate_bin(share) for share in (0.0, 0.25, 0.26, 0.75, 0.76, 1.0)] == [
        "pass_rate_0",
        "pass_rate_0_25",
        "pass_rate_25_50",
        "pass_rate_50_75",
        "pass_rate_75_100",
        "pass_rate_100",
    ]


def test_a_pass_rate_is_of_the_traces_that_were_written(tmp_path: Path) -> None:
    lost = [
        graded(0, sample, "undecided", finish="error", error="HTTP 402") for sample in (1, 2, 3)
    ]
    pairs = [
        graded(0, 0),
        *lost,
        graded(1, 0),
        graded(1, 1, "wrong"),
        graded(2, 0, "undecided", finish="error", error="HTTP 402"),
    ]
    figures = Run(tmp_path, pairs).make().figures
    found = {
        name: count for name, count in figures.items() if name.startswith("pass_rate") and count
    }
    assert found == {"pass_rate_100": 1, "pass_rate_25_50": 1} and figures["problems"] == 3


# ---- what nobody verified ------------------------------------------------------------------------


def unverified(run: Run) -> list[Example]:
    return list(store.read_records(run.out / "unverified.jsonl", Example))


def test_without_a_grader_wrong_traces_are_chosen_too_but_none_that_are_known_to_be_cut_off(
    tmp_path: Path,
) -> None:
    pairs = [
        graded(1, 0, "wrong"),
        graded(1, 1, "no_answer"),
        graded(1, 2, "undecided"),
        graded(1, 3, "truncated", finish="length"),
        graded(1, 4, "undecided", finish="error", error="boom"),
        graded(1, 5, "truncated"),
        graded(2, 0),
        graded(2, 1, finish="repetition"),
    ]
    run = Run(tmp_path, pairs)
    run.make(validation=0, unverified=True)
    assert [example.id for example in run.examples] == ["d/train/2:0"]
    assert [example.id for example in unverified(run)] == [
        f"d/train/1:{sample}" for sample in (0, 1, 2, 5)
    ] + ["d/train/2:0"]
    assert unverified(run)[-1] == run.examples[0]


def test_without_a_grader_the_other_rules_are_the_same(tmp_path: Path) -> None:
    pairs = [
        graded(1, sample, "wrong" if sample == 1 else "correct", tokens=tokens)
        for sample, tokens in enumerate(LENGTHS)
    ]
    pairs += [
        graded(2, 0, "wrong", tokens=90),
        graded(2, 1, tokens=20, text="It is 1."),
        graded(2, 2, "wrong", tokens=30),
    ]
    run = Run(tmp_path, pairs)
    run.make(select="shortest", max_tokens=50, require_boxed=True, validation=0, unverified=True)
    assert [example.id for example in run.examples] == ["d/train/1:3"]
    assert [example.id for example in unverified(run)] == ["d/train/1:1", "d/train/2:2"]


def test_no_verdict_has_a_say_in_what_nobody_verified(run: Run) -> None:
    run.make(validation=0.3, select="random", unverified=True)
    first = (run.out / "unverified.jsonl").read_bytes()
    verdicts = list(store.read_records(run.verdicts / "verdicts.jsonl", Verdict))
    others = [
        v.model_copy(update={"grade": v.grade.model_copy(update={"outcome": OUTCOMES[n % 5]})})
        for n, v in enumerate(verdicts)
    ]
    finished(run.verdicts, "verdicts", verdicts=others)
    before = run.examples
    run.make(validation=0.3, select="random", unverified=True)
    assert run.examples != before
    assert (run.out / "unverified.jsonl").read_bytes() == first


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_problem_stands_in_one_split_whether_verified_or_not(
    tmp_path: Path, share: float
) -> None:
    """Also the one that was moved because a split was empty."""
    run = Run(
        tmp_path,
        [
            graded(number, sample, outcome)
            for number in (1, 2)
            for sample, outcome in enumerate(("correct", "wrong"))
        ],
    )
    run.make(validation=share, unverified=True)
    splits = {example.problem_id: example.split for example in run.examples}
    assert set(splits.values()) == {"train", "validation"}
    assert {example.problem_id: example.split for example in unverified(run)} == splits
    assert len(unverified(run)) == 4


def test_unverified_examples_are_written_only_when_asked_for_also_later(run: Run) -> None:
    first = run.make()
    before = dict(contents(run.out))
    assert "unverified.jsonl" not in before
    assert run.make(unverified=True) == first
    after = dict(contents(run.out))
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"unverified.jsonl"} and len(unverified(run)) == 80


def test_unverified_examples_follow_the_traces(run: Run) -> None:
    run.make(unverified=True)
    traces = list(store.read_records(run.traces / "traces.jsonl", Trace))
    wrong = run.dropped.keys()
    changed = [
        t.model_copy(update={"completion": t.completion.model_copy(update={"reasoning": "else"})})
        if t.id in wrong
        else t
        for t in traces
    ]
    finished(run.traces, "traces", traces=changed)
    before = run.examples
    run.make(unverified=True)
    assert run.examples == before
    assert sum("else" in example.messages[-1].content for example in unverified(run)) == len(wrong)
    finished(run.traces, "traces", traces=traces)
    run.make()  # nobody asks any more: none is left that belongs to other traces
    assert not (run.out / "unverified.jsonl").exists()


def test_unverified_examples_are_not_added_to_examples_of_other_settings(run: Run) -> None:
    run.make()
    with pytest.raises(
        StageError, match="made from other settings, unverified.jsonl cannot be added"
    ):
        run.make(select="shortest", keep_old=True, unverified=True)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_exports_have_the_shapes_that_other_tools_read(run: Run) -> None:
    run.make(validation=0.3, export=["prompt_completion", "messages", "sharegpt"])
    exports = run.out / "exports"
    train = [example for example in run.examples if example.split == "train"]
    pc, chat, sharegpt = (
        lines(exports / f"{shape}.train.jsonl")
        for shape in ("prompt_completion", "messages", "sharegpt")
    )
    assert len(pc) == len(chat) == len(sharegpt) == len(train)
    assert [turn["role"] for turn in pc[0]["prompt"]] == ["system", "user"] and [
        turn["role"] for turn in pc[0]["completion"]
    ] == ["assistant"]
    assert (
        pc[0]["prompt"] + pc[0]["completion"]
        == chat[0]["messages"]
        == [message.model_dump() for message in train[0].messages]
    )
    assert [turn["from"] for turn in sharegpt[0]["conversations"]] == ["system", "human", "gpt"]
    assert sharegpt[0]["conversations"][2]["value"] == train[0].messages[2].content
    assert len(lines(exports / "messages.validation.jsonl")) == len(run.examples) - len(train)


def test_an_export_can_be_asked_for_later_without_making_the_examples_again(run: Run) -> None:
    first = run.make()
    assert not (run.out / "exports").exists()
    assert run.make(export=["sharegpt"]) == first
    assert (run.out / "exports" / "sharegpt.train.jsonl").exists()


# ---- golds under suspicion -----------------------------------------------------------------------


def doubtful(tmp_path: Path) -> Run:
    """Three samples of problem 1 say one thing and one says the gold; problem 2 is sound."""
    against: list[Outcome] = ["wrong", "wrong", "correct", "wrong"]
    pairs = [graded(1, sample, outcome) for sample, outcome in enumerate(against)]
    return Run(tmp_path, [*pairs, graded(2, 0), graded(2, 1, "wrong")])


def test_golds_under_suspicion_are_listed_and_the_manifest_names_the_list(tmp_path: Path) -> None:
    run = doubtful(tmp_path)
    manifest = run.make(validation=0)
    (suspect,) = store.read_records(run.out / "suspects.jsonl", SuspectGold)
    assert (suspect.problem_id, suspect.gold, suspect.answer) == ("d/train/1", "1", "1")
    assert (suspect.votes, suspect.n, suspect.correct) == (3, 4, 1)
    assert "suspects.jsonl" in manifest.files and manifest.figures["suspect_golds"] == 1
    assert "| suspect_golds | 1 |" in (run.out / "dataset" / "README.md").read_text()
    assert [example.id for example in run.examples] == ["d/train/1:2", "d/train/2:0"]


def test_problems_whose_gold_is_under_suspicion_can_be_left_out(tmp_path: Path) -> None:
    run = doubtful(tmp_path)
    manifest = run.make(validation=0, suspect_golds="leave_out", unverified=True)
    assert [example.id for example in run.examples] == ["d/train/2:0"]
    assert manifest.dropped == {"outcome wrong": 4, "gold under suspicion": 1}
    assert run.dropped["d/train/1:2"] == "gold under suspicion"
    # Nobody's verdict counts there, so nobody's doubt does.
    assert len(unverified(run)) == 6


def test_leaving_out_and_its_share_are_part_of_what_the_examples_are(tmp_path: Path) -> None:
    run = doubtful(tmp_path)
    first = run.make()
    assert not {"suspect_golds", "suspect_share"} & set(first.section)
    assert run.make(suspect_golds="keep", suspect_share=0.5) == first
    with pytest.raises(DriftError, match="suspect_share"):
        run.make(suspect_share=0.9)


# ---- filters that look further -------------------------------------------------------------------


def test_the_longest_traces_of_a_run_are_dropped_by_percentile(tmp_path: Path) -> None:
    pairs = [graded(n, s, tokens=10 * n + s) for n in range(1, 11) for s in (0, 1)]
    pairs += [graded(11, 0, "wrong", tokens=9_999)]
    run = Run(tmp_path, pairs)
    manifest = run.make(filters={"length_percentiles": {"lowest": 10, "highest": 90}})
    assert manifest.dropped == {
        "outcome wrong": 1,
        "among the shortest": 2,
        "among the longest": 2,
    }
    assert {name for name, why in run.dropped.items() if why == "among the longest"} == {
        "d/train/10:0",
        "d/train/10:1",
    }


def test_the_plain_function_filters_and_doubts_as_the_stage_does(tmp_path: Path) -> None:
    against: list[Outcome] = ["wrong", "wrong", "correct", "wrong"]
    pairs = [graded(1, sample, outcome) for sample, outcome in enumerate(against)]
    pairs += [graded(n, s, tokens=10 * n + s) for n in range(2, 12) for s in (0, 1)]
    tables: dict[str, dict[str, Any]] = {"length_percentiles": {}, "agreement": {}}
    run = Run(tmp_path, pairs)
    run.make(filters=tables, suspect_golds="leave_out")
    chosen = make_examples(
        list(store.read_records(run.problems / "problems.jsonl", Problem)),
        [pair.trace for pair in pairs],
        [pair.verdict for pair in pairs],
        PROMPT,
        ExampleSettings(filters=tables, suspect_golds="leave_out"),
    )
    assert list(chosen.kept) == run.examples
    assert {drop.trace_id: drop.reason for drop in chosen.dropped} == run.dropped
    assert set(run.dropped.values()) >= {"among the longest", "gold under suspicion"}
    suspects = store.read_records(run.out / "suspects.jsonl", SuspectGold)
    assert list(chosen.suspects) == list(suspects)


def test_lengths_are_counted_in_the_students_own_tokens(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / "student")
    pairs = [graded(n, 0, tokens=1, text="word " * 10 * n + "\\boxed{1}") for n in (1, 2, 3)]
    run = Run(tmp_path / "run", pairs)
    count = token_counter(str(tmp_path / "student"))
    texts = [render_assistant(pair.trace.completion) for pair in pairs]
    lengths = [count(text) for text in texts]
    assert lengths[0] is not None and lengths == sorted(set(lengths))
    table = {"tokenizer": str(tmp_path / "student"), "most": lengths[1]}
    manifest = run.make(validation=0, filters={"student_tokens": table})
    assert manifest.dropped == {"too long for the student": 1}
    assert any(name.startswith("tokenizer ") for name in manifest.identity["inputs"])
    with pytest.raises(ConfigError, match="nowhere"):
        run.make(filters={"student_tokens": {"tokenizer": str(tmp_path / "nowhere")}})


def test_each_revision_of_a_tokenizer_counts_in_what_the_examples_are(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / "student")
    name = str(tmp_path / "student")
    filters = {
        "student_tokens": {"tokenizer": name},
        "length_percentiles": {"tokenizer": name, "revision": "b"},
    }
    manifest = Run(tmp_path / "run", [graded(1, 0)]).make(filters=filters)
    inputs = set(manifest.identity["inputs"])
    assert {f"tokenizer {name}", f"tokenizer {name}@b"} <= inputs


def test_near_duplicates_of_a_problem_are_dropped_and_counted_where_the_table_stands(
    tmp_path: Path,
) -> None:
    text = "Half of the {} apples are red, so there are 4 red ones, and the rest is \\boxed{{1}}"
    pairs = [graded(n, s, text=text.format(word)) for n in (1, 2) for s, word in enumerate("abc")]
    pairs.append(graded(2, 3, text="Each of them is green, none is left: \\boxed{1}"))
    run = Run(tmp_path, pairs)
    assert run.make(validation=0).dropped == {}
    shutil.rmtree(run.out)
    manifest = run.make(validation=0, filters={"near_duplicates": {"words": 2, "threshold": 0.6}})
    assert [one.id for one in run.examples] == ["d/train/1:0", "d/train/2:0", "d/train/2:3"]
    assert manifest.dropped == {"near-duplicate trace": 4}
    assert "near-duplicate trace: 4" in (run.out / "dataset" / "README.md").read_text()


# ---- random funnels ------------------------------------------------------------------------------

TEXTS = (
    "so \\boxed{1}",
    "\\boxed{1} no \\boxed{2}",
    "As an AI language model I say \\boxed{1}",
    "\\boxed{1}<|im_end|>",
    "so \\boxed{2}",
    "",
)
THOUGHTS = (None, "", "let me see", "Wait, let me see. " * 5, "\\boxed{2}", "看看" * 9)
TABLES: dict[str, dict[str, Any]] = {
    "structure": {},
    "repetition": {},
    "language": {},
    "phrases": {},
    "reasoning": {"least_words": 2},
    "agreement": {},
    "length_percentiles": {"lowest": 20, "highest": 80},
    "of_problems": {"ids": ["d/train/1", "d/train/0"]},
    "near_duplicates": {"words": 1, "threshold": 0.5},
}
SAMPLES = st.tuples(
    st.sampled_from(OUTCOMES),
    st.integers(1, 30),
    st.sampled_from(TEXTS),
    st.sampled_from(THOUGHTS),
)


@given(
    samples=st.lists(st.lists(SAMPLES, min_size=1, max_size=5), min_size=1, max_size=5),
    tables=st.sets(st.sampled_from(sorted(TABLES))),
    suspect_golds=st.sampled_from(["keep", "leave_out"]),
    select=st.sampled_from(["all", "shortest"]),
    outcomes=st.sampled_from([("correct",), OUTCOMES]),
)
@settings(max_examples=draws(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_add_up_in_files_manifest_card_and_report_whatever_is_filtered(
    tmp_path_factory: pytest.TempPathFactory,
    samples: list[list[tuple[Outcome, int, str, str | None]]],
    tables: set[str],
    **keys: Any,
) -> None:
    pairs = [
        graded(number, sample, outcome, tokens=tokens, text=text, reasoning=thought)
        for number, group in enumerate(samples)
        for sample, (outcome, tokens, text, thought) in enumerate(group)
    ]
    run = Run(tmp_path_factory.mktemp("run"), pairs)
    filters = {name: TABLES[name] for name in tables}
    try:
        manifest = run.make(filters=filters, **keys)
    except StageError:
        assert not run.examples and len(run.dropped) == len(pairs)
        return
    by_reason = Counter(run.dropped.values())
    assert sorted([*run.dropped, *(one.id for one in run.examples)]) == sorted(
        pair.trace.id for pair in pairs
    )
    assert manifest.dropped == by_reason
    assert manifest.counts["in"] == len(pairs)
    assert manifest.counts["out"] == len(run.examples) == len(pairs) - by_reason.total()
    suspects = list(store.read_records(run.out / "suspects.jsonl", SuspectGold))
    assert manifest.figures["suspect_golds"] == len(suspects)
    if keys["suspect_golds"] == "leave_out":
        doubted = {suspect.problem_id for suspect in suspects}
        assert doubted.isdisjoint(one.problem_id for one in run.examples)
    card = (run.out / "dataset" / "README.md").read_text(encoding="utf-8")
    funnel = f"| examples | {len(pairs)} | {len(run.examples)} |"
    (row,) = [line for line in card.splitlines() if line.startswith(funnel)]
    assert all(f"{reason}: {count}" in row for reason, count in by_reason.items())
    stages = read_stages(run.folder, besides=run.folder / "7-report")
    report = build_report(read_facts(run.folder, stages, traces=0))
    (step,) = [step for step in report.funnel if step.stage == "4-examples"]
    assert step.came_in == step.came_out + sum(step.dropped.values()) == len(pairs)
    assert step.dropped == by_reason


# ---- the stage -----------------------------------------------------------------------------------


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("manifest.json", ".manifest.copy.json"):
            yield str(path.relative_to(folder)), path.read_bytes()


def test_a_stage_that_was_killed_half_way_ends_with_the_same_files(
    run: Run, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"validation": 0.3, "export": ["messages"], "unverified": True}
    run.make(**keys)
    whole = dict(contents(run.out))
    manifest = store.read_manifest(run.out)
    assert manifest is not None
    store.write_manifest(
        run.out, store.Manifest(manifest.identity, manifest.fingerprint, "partial")
    )
    for name in ("examples.jsonl", "dropped.jsonl", "unverified.jsonl"):
        (run.out / name).write_bytes(whole[name][: len(whole[name]) // 2])
    (run.out / "dataset" / "validation.parquet").unlink()
    run.make(**keys)
    assert dict(contents(run.out)) == whole


def test_new_verdicts_make_the_examples_anew_and_other_settings_are_drift(run: Run) -> None:
    first = run.make()
    assert run.make() == first
    with pytest.raises(DriftError, match='select was "all", is "shortest"'):
        run.make(select="shortest")
    with pytest.raises(DriftError, match="prompt was"):
        run.make(prompt_file=NamedPrompt(name="other", prompt=Prompt(about="a", user="{question}")))
    verdicts = list(store.read_records(run.verdicts / "verdicts.jsonl", Verdict))
    changed = [
        v.model_copy(update={"grade": v.grade.model_copy(update={"outcome": "correct"})})
        for v in verdicts
    ]
    finished(run.verdicts, "verdicts", verdicts=changed)
    assert run.make().counts["out"] == 80 != first.counts["out"]


def test_no_kept_trace_is_an_error_that_says_why(tmp_path: Path) -> None:
    run = Run(tmp_path, [graded(1, 0, "wrong"), graded(1, 1, "truncated")])
    with pytest.raises(
        StageError,
        match=r"no example is left of 2 traces: outcome wrong \(1\); outcome truncated \(1\)",
    ):
        run.make()
    assert len(run.dropped) == 2


def test_inputs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    pairs = [graded(1, 0), graded(1, 1), graded(2, 0)]
    run = Run(tmp_path / "a", pairs)
    finished(run.verdicts, "verdicts", verdicts=[pair.verdict for pair in pairs[:2]])
    with pytest.raises(StageError, match="the verdict on d/train/2:0 is missing"):
        run.make()
    finished(run.verdicts, "verdicts", verdicts=[pair.verdict for pair in [*pairs, graded(2, 1)]])
    with pytest.raises(StageError, match="the verdict on d/train/2:1 has no trace"):
        run.make()
    with pytest.raises(StageError, match="traces of d/train/2: no such problem"):
        Run(tmp_path / "b", pairs, problems=[problem(1)]).make()


def test_problems_without_traces_are_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path, [graded(3, 0)], problems=[problem(number) for number in range(6)])
    assert run.make().counts["out"] == 1


def test_an_unfinished_stage_before_this_one_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path, [graded(1, 0)])
    (run.verdicts / "manifest.json").unlink()
    with pytest.raises(StageError, match="3-verdicts: missing"):
        run.make()


def test_of_very_many_who_wrote_traces_the_card_names_the_most_frequent() -> None:
    tally = Tally()
    tally.teachers.update({f"writer {number}": number for number in range(1, 1001)})
    teachers = tally.origins()["teacher"]
    assert "writer 1000 (1,000 traces)" in teachers and teachers.endswith("and 980 others")
    assert "writer 980 " not in teachers and len(teachers) < 1_000
