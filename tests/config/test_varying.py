"""`--vary`: which variants there are, what they are called, and what is refused, by that name."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasondistill.config.varying import split_values, variants_of, writes_itself
from reasondistill.errors import ConfigError

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
[[traces.teachers]]
model = "other.jsonl"
sampler = "scripted"
[evals]
benchmarks = ["gsm_symbolic_12"]
against = ["warm"]
[[students]]
name = "warm"
base = "some/model"
seeds = [7, 8]
[[students]]
name = "kd"
base = "student:warm"
method = "kd"
teacher = "some/teacher"
seeds = [7, 8]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(FILE)
    return path


def test_every_combination_is_a_variant_and_first_values_come_first(file: Path) -> None:
    asked = variants_of(
        file, ["examples.k=1,4", "traces.temperature=0.6,1.0"], overrides=["traces.n=8"]
    )
    names = [variant.name for variant in asked.variants]
    assert names == [
        "k-1_temperature-0.6",
        "k-1_temperature-1.0",
        "k-4_temperature-0.6",
        "k-4_temperature-1.0",
    ]
    last = asked.variants[-1].pipeline
    assert last.traces is not None
    found = (last.examples.k, last.traces.temperature, last.traces.n, last.name)
    assert found == (4, 1.0, 8, names[-1])
    assert asked.variants[-1].label == "examples.k = 4, traces.temperature = 1.0"


def test_a_variant_is_one_student_with_those_that_it_goes_on_from(file: Path) -> None:
    asked = variants_of(file, ["students.1.method=kd,gkd"], count=3)
    assert asked.student == "kd"
    for variant in asked.variants:
        names = [student.name for student in variant.pipeline.all_students()]
        seeds = (7, 8, 9)
        # As many warm starts as seeds, because the file has several of those, too.
        assert names == [f"warm-seed{seed}" for seed in seeds] + list(variant.members)
        assert variant.members == tuple(f"kd-seed{seed}" for seed in seeds)
        assert variant.pipeline.evals.teacher is False and variant.pipeline.evals.against == ()
        assert [student.name for student in variant.ancestors] == names[:3]
    warm = variants_of(file, ["students.0.learning_rate=1e-5,1e-4"], student="warm", count=1)
    assert warm.student == "warm"
    assert [student.name for student in warm.variants[0].pipeline.all_students()] == ["warm-seed7"]


def test_an_equal_value_again_is_another_variant_with_other_seeds(file: Path) -> None:
    asked = variants_of(file, ["examples.k=1,1,1"], count=2)
    assert [variant.seeds for variant in asked.variants] == [(7, 8), (1007, 1008), (2007, 2008)]
    assert [variant.name for variant in asked.variants] == ["k-1", "k-1.again1", "k-1.again2"]
    labels = [variant.label for variant in asked.variants]
    assert labels == ["examples.k = 1", "examples.k = 1 (again)", "examples.k = 1 (again, 3.)"]
    # Others have the same seeds: what differs is the value.
    both = variants_of(file, ["examples.k=1,2,1"], count=2)
    assert [variant.seeds for variant in both.variants] == [(7, 8), (7, 8), (1007, 1008)]


def test_an_equal_value_in_other_words_is_the_same_value_again(file: Path) -> None:
    """With the same seeds it would be the same student twice, and a difference of exactly 0."""
    for vary in (
        "examples.k=1,1.0",
        'examples.outcomes=["correct"],[ "correct" ]',
        'traces.prompt=question,"question"',
        "examples.filters={language = {most = 1}},{language={most=1.0}}",
    ):
        first, again = variants_of(file, [vary], count=2).variants
        assert (first.seeds, again.seeds) == ((7, 8), (1007, 1008)), vary
        assert again.label.endswith("(again)") and again.name.endswith(".again1")
    for vary in ("traces.temperature=0,1", "examples.k=1,10", "traces.prompt=question,think"):
        first, other = variants_of(file, [vary], count=2).variants
        assert first.seeds == other.seeds, vary


def test_quotes_are_those_of_toml_and_an_apostrophe_is_none() -> None:
    assert split_values(r'"a\",b","c"') == [r'"a\",b"', '"c"']
    assert split_values(r'"a\\","b,c"') == [r'"a\\"', '"b,c"']
    assert split_values(r"'a\','b,c'") == [r"'a\'", "'b,c'"]
    assert split_values("it's.toml,x") == ["it's.toml", "x"]


def test_values_with_commas_of_their_own_stay_whole(file: Path) -> None:
    text = '["correct"],["correct", "wrong"],{a = 1, b = "x,y"},plain'
    whole = ['["correct"]', '["correct", "wrong"]', '{a = 1, b = "x,y"}', "plain"]
    assert split_values(text) == whole
    asked = variants_of(file, ['examples.outcomes=["correct"],["correct","wrong"]'])
    assert [variant.pipeline.examples.outcomes for variant in asked.variants] == [
        ("correct",),
        ("correct", "wrong"),
    ]
    assert [variant.name for variant in asked.variants] == [
        "outcomes-correct",
        "outcomes-correct-wrong",
    ]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (["examples.k"], r"--vary examples.k: want key=value,value"),
        (["examples.k=1"], r"--vary examples.k=1: a single value"),
        (["examples.k=1,"], r"--vary examples.k=1,: want key=value,value"),
        (["examples.kk=1,2"], r"--vary examples.kk: unknown key. Did you mean k\?"),
        (["examples.k=1,0"], r"--vary examples.k: .*greater than or equal to 1"),
        (["students.1.bf16=true,True"], "are the same setting. Write them alike"),
        (["students.9.method=sft,kd"], r"--vary students.9.method=sft: 9 is no place in a list"),
        (["traces.n.deep=1,2"], r"--vary traces.n.deep=1: n is a value, not a section"),
        (["students.1.method=kd,nonsense"], r"--vary students.1.method: 'nonsense' unknown"),
        (["traces.settings=qwen3-thinking,x"], r"--vary traces.settings:.*x"),
        (["evals.n=1,2"], r"--vary evals.n: says how models are measured"),
        (
            ["verdicts.policy=default,strict"],
            r"--vary verdicts.policy: grades the answers of evals",
        ),
        (["verdicts={policy='default'},{policy='strict'}"], r"--vary verdicts: grades the answers"),
        (["verdicts.deadline_s=1,2"], r"--vary verdicts.deadline_s: grades the answers of evals"),
        (["verdicts.judge.model=a,b"], r"--vary verdicts.judge.model: grades the answers of evals"),
        (["students=[],[]"], r"--vary students: holds all of a student"),
        (["students.1.epochs=1,2"], r"--vary students.1.epochs: says how long is trained"),
        (["students.1.seed=1,2"], r"--vary students.1.seed: .*--seeds"),
        (["examples.k=1,2", "examples.k=3,4"], r"--vary examples.k: varied twice"),
        (["traces=1,2", "traces.n=3,4"], r"--vary traces.n: varied twice"),
        (["examples.k=1,2,3,4,5,6,7,8,9", "traces.n=2,3,4,5,6,7,8,9"], "72 combinations"),
        (["examples.validation=0.1,0.2"], "trains several students"),
    ],
)
def test_what_cannot_be_varied_is_refused_by_the_name_of_the_option(
    file: Path, vary: list[str], message: str
) -> None:
    if "several" in message:
        text = file.read_text() + '[[students]]\nname = "third"\nbase = "some/model"\n'
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        variants_of(file, vary)


def test_a_fault_of_set_is_still_named_by_set(file: Path) -> None:
    with pytest.raises(ConfigError, match="--set traces.temprature: unknown key"):
        variants_of(file, ["examples.k=1,2"], overrides=["traces.temprature=1"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("students.1.packing=true", None),
        ("students.0.packing=true", "packing: which rows share a step"),
        ("students.0.method=base", "trains nothing"),
    ],
)
def test_a_student_whose_tokens_nobody_can_count_is_refused(
    file: Path, key: str, message: str | None
) -> None:
    name = "kd"
    if key.startswith("students.0"):
        name = "warm"
    if message is None:  # what a teacher sits beside keeps our order of rows
        variants_of(file, ["examples.k=1,2"], overrides=[key], student=name)
        return
    with pytest.raises(ConfigError, match=message):
        variants_of(file, ["examples.k=1,2"], overrides=[key], student=name)


def test_a_training_that_ends_by_its_validation_loss_is_refused(file: Path) -> None:
    patience = ["students.1.evaluate_every=5", "students.1.early_stopping_patience=2"]
    with pytest.raises(ConfigError, match="early_stopping_patience: ends each training"):
        variants_of(file, ["examples.k=1,2"], overrides=patience)


def test_a_file_that_measures_nothing_has_nothing_to_compare(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[evals\] benchmarks: missing"):
        variants_of(file, ["examples.k=1,2"], overrides=["evals.benchmarks=[]"])


@pytest.mark.parametrize(
    ("method", "keys", "is_so"),
    [
        ("kd", [], False),
        ("gkd", [], True),
        ("gkd", ["students.1.gkd={on_policy = 0}"], False),
        ("minillm", [], True),
    ],
)
def test_it_is_known_who_learns_from_what_it_writes(
    file: Path, method: str, keys: list[str], is_so: bool
) -> None:
    settings = [f"students.1.method={method}", *keys]
    asked = variants_of(file, ["examples.k=1,2"], overrides=settings)
    assert writes_itself(asked.variants[0].student) is is_so
