"""Which variants are set beside which, on which problems, and in which words."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasondistill.config import Cluster, load_pipeline
from reasondistill.config.varying import variants_of
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.pipeline import Run
from reasondistill.pipeline.ablating.equal_tokens import Training, equal_budget
from reasondistill.pipeline.ablating.folders import Ablation
from reasondistill.pipeline.ablating.record import (
    AblationRecord,
    RuleRecord,
    VariantRecord,
    read_ablation,
)
from reasondistill.pipeline.ablating.results import on_common_problems, rules_of
from reasondistill.pipeline.ablating.sharing import (
    Taken,
    made_by,
    parts_before_students,
    take_over,
    who_makes,
)
from reasondistill.pipeline.ablating.wording import markdown, sentence
from reasondistill.runs.store import (
    Identity,
    finish_stage,
    open_stage,
    write_guarded,
    write_text,
)
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.students.counting import CountedRows

FILE = """
name = "small"
[problems]
source = "file"
dataset = "problems.jsonl"
[traces]
prompt = "question"
n = 4
[[traces.teachers]]
model = "teacher.jsonl"
sampler = "scripted"
[evals]
benchmarks = ["gsm_symbolic_12"]
[[students]]
name = "small"
base = "some/model"
"""
RULE: dict[str, Any] = {
    "rule": "examples.k = 4",
    "baseline": "examples.k = 1",
    "variants": ("k-4",),
    "against": ("k-1",),
    "benchmark": "gsm8k",
    "word": "helps",
    "mean": 0.031,
    "low": 0.004,
    "high": 0.059,
    "p_value": 0.01,
    "p_adjusted": 0.0234,
    "n": 300,
    "k": 4,
    "seeds": 3,
    "left_out": 0,
    "model_low": 0.01,
    "model_high": 0.05,
    "model_p_value": 0.001,
    "seed_deviation": 0.012,
    "tokens_apart": 0.003,
    "needed_problems": 2_873,
    "needed_seeds": 3,
    "smallest": 0.034,
    "sentence": "",
}


def ablation(folder: Path, *vary: str) -> Ablation:
    path = folder / "small.toml"
    path.write_text(FILE)
    like = Run(load_pipeline(path), Cluster(), folder, path)
    return Ablation.of(variants_of(path, vary), folder / "runs", like)


def test_a_value_is_compared_with_the_first_over_all_values_of_the_other_keys(
    tmp_path: Path,
) -> None:
    found = ablation(tmp_path, "examples.k=1,2,4", "students.0.learning_rate=1e-5,1e-4")
    rules = [
        (
            rule.choice.label,
            [run.name for run in rule.ours],
            [run.name for run in rule.theirs],
        )
        for rule in rules_of(found)
    ]
    slow, fast = "learning_rate-1e-5", "learning_rate-1e-4"
    assert rules == [
        ("examples.k = 2", [f"k-2_{slow}", f"k-2_{fast}"], [f"k-1_{slow}", f"k-1_{fast}"]),
        ("examples.k = 4", [f"k-4_{slow}", f"k-4_{fast}"], [f"k-1_{slow}", f"k-1_{fast}"]),
        (
            "students.0.learning_rate = 1e-4",
            [f"k-1_{fast}", f"k-2_{fast}", f"k-4_{fast}"],
            [f"k-1_{slow}", f"k-2_{slow}", f"k-4_{slow}"],
        ),
    ]


@pytest.mark.parametrize(
    ("vary", "shared"),
    [
        ("problems.limit=5,6", []),
        ("traces.temperature=0.6,1.0", ["problems"]),
        ("verdicts.majority=0.5,0.6", []),
        ("examples.k=1,2", ["problems", "traces", "verdicts"]),
        ("examples.prompt=question,think", ["problems", "traces", "verdicts"]),
        ("students.0.learning_rate=1e-5,1e-4", ["problems", "traces", "verdicts", "examples"]),
        ("students.0.method=sft,unverified", ["problems", "traces", "verdicts"]),
    ],
)
def test_stages_are_shared_up_to_the_first_that_may_differ(
    tmp_path: Path, vary: str, shared: list[str]
) -> None:
    first, other = ablation(tmp_path, vary).runs
    parts = {run.name: parts_before_students(run.run) for run in (first, other)}
    assert made_by(who_makes(other, [first], parts)).get(first.name, []) == shared


def sheet(model: str, *names: str, lost: tuple[str, ...] = ()) -> Sheet:
    made = Sheet.empty(model, "gsm8k", names, 1)
    made.lost = lost
    return made


def test_models_are_compared_on_what_all_of_them_have_answered() -> None:
    one, other = sheet("one", "a", "b", "c"), sheet("other", "b", "c", lost=("a:0",))
    other.refused = {"c": "too long"}
    assert [found.problems for found in on_common_problems([one, other])] == [("b",), ("b",)]
    with pytest.raises(StageError, match="one and other did not answer the same problems"):
        on_common_problems([one, sheet("other", "b", "c")])
    with pytest.raises(StageError, match="no problem that all have answered"):
        on_common_problems([sheet("one", "a"), sheet("other", lost=("a:0",))])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "examples.k = 4 helps: +3.1 points [0.4, 5.9] against examples.k = 1 on gsm8k "
            "(p = 0.0234, Holm over 2 comparisons).",
        ),
        ({"word": "hurts", "p_adjusted": 0.0}, "hurts: .*p < 0.0001, Holm"),
        (
            {"before_apart": 0.5},
            r"comparisons\). Not at equal tokens from the beginning: .* one has 50.0 % fewer",
        ),
        ({"is_again": True}, "helps: .*Both values are equal: this is chance"),
        (
            {"word": "cannot be told"},
            r"cannot be told from examples.k = 1 on gsm8k at this size: \+3.1 points \[0.4, 5.9\] "
            "with 300 problems × 4 samples × 3 seeds. One of 3.1 points takes about 2,900 "
            "problems; this size shows one from 3.4 points on.",
        ),
        ({"word": "cannot be told", "needed_seeds": 11}, "2,900 problems and 11 seeds of each;"),
        ({"word": "cannot be told", "needed_problems": None}, "takes more than a million problems"),
        (
            {"word": "cannot be told", "mean": 0.0, "smallest": None},
            r"with 300 problems × 4 samples × 3 seeds\.$",
        ),
        (
            {"word": "not compared", "tokens_apart": 0.07},
            "examples.k = 4 is not compared with examples.k = 1 on gsm8k: the tokens in the loss "
            "are 7.0 % apart.",
        ),
    ],
)
def test_each_rule_is_one_sentence(changes: dict[str, Any], words: str) -> None:
    said = sentence(RuleRecord(**(RULE | changes)), comparisons=2)
    if not changes:
        assert said == words
    pattern = words.replace("(p = 0", r"\(p = 0").replace("ons).", r"ons\).")
    if changes:
        assert re.search(pattern, said), said


def test_the_markdown_holds_nothing_that_markdown_acts_on() -> None:
    rule = RuleRecord(**(RULE | {"rule": "examples.filters = <b>|x|</b>", "sentence": "a | b"}))
    variant = VariantRecord(
        name="k-1", label="examples.k = `1`", choices={}, student="s", method="sft", seeds=(0,)
    )
    record = AblationRecord(
        name="a", file="f", vary=(), student="s", tokens=9, state="measured",
        variants=(variant,), rules=(rule,),
    )  # fmt: skip
    text = markdown(record)
    assert "<b>" not in text and "- a \\| b" in text and "\\`1\\`" in text


def trainings(**rows: tuple[int, ...]) -> dict[str, Training]:
    student = load_student()
    return {
        name: Training(CountedRows(tokens, batch=2), (0, 1), student)
        for name, tokens in rows.items()
    }


def load_student() -> Any:
    from reasondistill.config import StudentSettings

    return StudentSettings(name="s", base="some/model", epochs=2)


def test_the_budget_is_what_the_smallest_has_and_the_others_stop_there() -> None:
    pytest.importorskip("torch")
    many = tuple(np.random.default_rng(0).integers(90, 110, 400).tolist())
    budget = equal_budget(trainings(few=many[:100], many=many))
    assert budget.steps["few"] == 100 and budget.tokens == 2 * sum(many[:100])
    assert budget.steps["many"] == pytest.approx(100, abs=2) and budget.spread <= 0.01
    asked = equal_budget(trainings(few=many[:100], many=many), 60_000)
    # Few rows are seen six times, many once and a half.
    assert asked.steps["few"] == pytest.approx(300, abs=4)
    assert asked.steps["many"] == pytest.approx(300, abs=4) and asked.spread <= 0.01


def test_a_smaller_budget_is_taken_where_whole_batches_fit_together_better() -> None:
    """Steps of 100 and of 80 tokens: at 1,000, 960 and 1,040 are 4 % away; at 800 both fit."""
    pytest.importorskip("torch")
    rows = {"coarse": (50,) * 10, "fine": (40,) * 20}
    budget = equal_budget(trainings(**rows))
    assert budget.tokens < 1000 and budget.steps == {"coarse": 8, "fine": 10}
    with pytest.raises(ConfigError, match="coarse 200 in 2 steps; fine 160 in 2 steps"):
        equal_budget(trainings(**rows), 200)


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        ("traces.teachers.0.template_options./etc/x=1,2", ["etc-x-1", "etc-x-2"]),
        ("traces.teachers.0.template_options.\u00e9=1,2", ["key-1", "key-2"]),
        (f"traces.teachers.0.template_options.{'k' * 300}=1,2", ["k" * 100, "k" * 100 + ".2"]),
        ('traces.teachers.0.template_options.x="../../y","/etc"', ["x-y", "x-etc"]),
    ],
)
def test_whatever_is_varied_a_variants_name_is_that_of_a_folder(
    tmp_path: Path, vary: str, names: list[str]
) -> None:
    runs = ablation(tmp_path, vary).runs
    assert [run.name for run in runs] == names
    assert [run.whole(None).folder.parent for run in runs] == [tmp_path / "runs"] * 2


@pytest.mark.parametrize(
    "forged", [{"tokens": -5}, {"tokens": 10**18}, {"steps": -3}, {"steps": 0}, {"steps": 10**18}]
)
def test_an_ablation_of_somebody_else_with_numbers_that_none_has_is_refused(
    tmp_path: Path, forged: dict[str, int]
) -> None:
    variant = VariantRecord(
        name="k-1", label="", choices={}, student="s", method="sft", seeds=(0,), steps=4
    )
    record = AblationRecord(
        name="x", file="f", vary=(), student="s", tokens=9, state="planned", variants=(variant,)
    )
    value = record.model_dump(mode="json")
    write_guarded(tmp_path / "ablation.json", value)
    assert read_ablation(tmp_path) == record
    for place in (value, value["variants"][0]):
        place.update({key: number for key, number in forged.items() if key in place})
    write_guarded(tmp_path / "ablation.json", value)
    with pytest.raises(DataError, match=r"ablation\.json: not an ablation"):
        read_ablation(tmp_path)


def part(folder: Path) -> None:
    """A finished stage."""
    open_stage(folder, Identity("problems", 1, {}, {}))
    write_text(folder / "problems.jsonl", "{}\n")
    finish_stage(folder, counts={"in": 1, "out": 1}, files=["problems.jsonl"], seconds=1.0)


def test_nothing_is_copied_from_or_through_links_between_variants(tmp_path: Path) -> None:
    first, other = (run.run.folder for run in ablation(tmp_path, "examples.k=1,2").runs)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("KEY")

    def take() -> Taken:
        found = ablation(tmp_path, "examples.k=1,2").runs
        parts = {run.name: parts_before_students(run.run) for run in found}
        return take_over(found[1], [found[0]], parts)

    part(first / "1-problems")
    for name, target in (("a.jsonl", secret / "key"), ("b", secret)):
        (first / "1-problems" / name).symlink_to(target)
        with pytest.raises(StageError, match=f"{name}: is a link; what it leads to is not copied"):
            take()
        (first / "1-problems" / name).unlink()
    os.mkfifo(first / "1-problems" / "pipe")
    assert take().is_new
    assert {path.name for path in (other / "1-problems").iterdir()} >= {"problems.jsonl"}
    assert not (other / "1-problems" / "pipe").exists()

    # A folder, or a variant's run, that leads elsewhere is neither filled nor emptied.
    part(first / "2-traces")
    (other / "2-traces").symlink_to(secret / "new")
    with pytest.raises(StageError, match="2-traces: is a link"):
        take()
    shutil.rmtree(other)
    other.symlink_to(secret)
    with pytest.raises(StageError, match="k-2: is a link; nothing is written through it"):
        take()
    assert [path.name for path in secret.iterdir()] == ["key"]
