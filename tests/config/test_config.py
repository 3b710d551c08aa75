"""A pipeline file says what is done; every fault names file, section, key and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reasondistill.config import (
    VENDOR_SETTINGS,
    Pipeline,
    SamplingSettings,
    StudentSettings,
    load_benchmark,
    load_cluster,
    load_pipeline,
)
from reasondistill.errors import ConfigError

SMALLEST = """
name = "small"
[problems]
source = "file"
dataset = "x.jsonl"
[[traces.teachers]]
model = "some/teacher"
"""
STUDENT = """
[[students]]
name = "s"
base = "some/base"
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Pipeline:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    return load_pipeline(path, overrides)


def fault(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


# ---- what a file may say -------------------------------------------------------------------------


def test_the_smallest_file_is_completed_with_defaults(tmp_path: Path) -> None:
    pipeline = load(tmp_path, SMALLEST)
    assert (pipeline.traces.n, pipeline.traces.prompt, pipeline.students) == (4, "think", ())
    assert pipeline.student_prompt == "think"


def test_examples_prompt_is_what_students_and_evals_use(tmp_path: Path) -> None:
    assert load(tmp_path, SMALLEST, "examples.prompt=question").student_prompt == "question"


def test_a_loaded_file_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(tmp_path, SMALLEST).traces.n = 9  # pyright: ignore[reportAttributeAccessIssue]


def test_equal_files_are_equal_whatever_their_order_and_spelling(tmp_path: Path) -> None:
    other = (
        '[traces]\nteachers = [{model = "some/teacher"}]\n[problems]\ndataset = '
        '"x.jsonl"\nsource = "file"\n'
    )
    assert load(tmp_path, f'name = "small"\n{other}') == load(tmp_path, SMALLEST)


# ---- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (SMALLEST + "temprature = 1.0", ["[traces.teachers.0] temprature", "unknown key"]),
        (
            SMALLEST + "[verdict]\npolicy = 'x'",
            ["p.toml verdict", "unknown key", "Did you mean verdicts?"],
        ),
        (
            SMALLEST + "[evals]\nbenchmark = ['x']",
            ["[evals] benchmark", "Did you mean benchmarks?"],
        ),
        (
            SMALLEST + STUDENT + "learning_rat = 1",
            ["[students.0] learning_rat", "Did you mean learning_rate?"],
        ),
        (
            SMALLEST + STUDENT + "[students.lora]\nrank = 8",
            ["[students.0.lora] rank", "Known: alpha, dropout, r, targets, use_dora, use_rslora"],
        ),
        (SMALLEST + STUDENT + "epochs = 'many'", ["[students.0] epochs", "found 'many'"]),
        (SMALLEST + STUDENT + "epochs = -1", ["[students.0] epochs", "greater than 0", "found -1"]),
        (SMALLEST + "[evals]\nn = 2.5", ["[evals] n", "found 2.5"]),
        (SMALLEST + "[evals]\nn = 0", ["[evals] n", "greater than or equal to 1"]),
        (
            SMALLEST + "[examples]\nselect = 'best'",
            ["[examples] select", "'shortest'", "found 'best'"],
        ),
        (
            SMALLEST + STUDENT + "keep = 'best'\nevaluate_every = 5\n[examples]\nvalidation = 0",
            ["goes by the validation loss", "examples.validation = 0"],
        ),
        (SMALLEST.replace('name = "small"', ""), ["p.toml name", "missing"]),
        (SMALLEST.replace('dataset = "x.jsonl"', ""), ["[problems] dataset", "missing"]),
        (SMALLEST.replace('"small"', '"../etc"'), ["name", "pattern"]),
        (SMALLEST.replace('"small"', "7"), ["name", "found 7"]),
        (
            SMALLEST.replace('"file"', '"procedural"'),
            ["[problems] limit: a procedural dataset has no end"],
        ),
        (SMALLEST.split("[[")[0] + "[traces]\nteachers = []", ["[traces] teachers", "at least 1"]),
        (SMALLEST.split("[[")[0], ["traces", "missing"]),
        (SMALLEST + "[[students]]\nname = 's'", ["[students.0] base: give either base"]),
        (SMALLEST + STUDENT + STUDENT, ["students: the name 's' is used twice"]),
        (SMALLEST + STUDENT.replace('"s"', '"base"'), ["students: the name 'base' is used twice"]),
        (
            SMALLEST + "[evals]\nsettings = 'deepseek-r2'",
            ["[evals]", "unknown", "Did you mean deepseek-r1?"],
        ),
        ("name = ", ["not valid TOML", "end of document"]),
        (SMALLEST + "[problems]\nsource = 'hub'", ["not valid TOML"]),
    ],
)
def test_a_fault_names_the_file_the_key_and_what_to_do(
    tmp_path: Path, broken: str, words: list[str]
) -> None:
    message = fault(tmp_path, broken)
    assert str(tmp_path / "p.toml") in message
    for word in words:
        assert word in message, message


def test_several_faults_are_told_at_once_one_line_each(tmp_path: Path) -> None:
    message = fault(tmp_path, SMALLEST + "[evals]\nn = 0\nlimt = 3\n[report]\ntraces = -1")
    assert len(message.splitlines()) == 3


def test_a_missing_file_a_folder_and_binary_data_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_pipeline(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_pipeline(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8 text .* at byte 8"):
        load_pipeline(tmp_path / "binary.toml")


def test_cluster_and_benchmark_files_have_the_same_manners(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[vllm]\ntensor_paralel_size = 2")
    with pytest.raises(
        ConfigError,
        match=r"\[vllm\] tensor_paralel_size: unknown key. Did you mean tensor_parallel_size?",
    ):
        load_cluster(path)
    with pytest.raises(ConfigError, match="problems: missing"):
        load_benchmark(path)
    assert load_cluster(path, ["vllm={}"]).vllm.tensor_parallel_size == 1
    path.write_text("[train]\nrollouts = 'vllm_server'")
    with pytest.raises(ConfigError, match="needs rollouts_url"):
        load_cluster(path)


# ---- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("traces.temperature=1.0", lambda p: p.traces.temperature == 1.0),
        ("traces.n=16", lambda p: p.traces.n == 16),
        ("name=other-run", lambda p: p.name == "other-run"),
        ("name='quoted'", lambda p: p.name == "quoted"),
        ("problems.dataset=data/a=b.jsonl", lambda p: p.problems.dataset == "data/a=b.jsonl"),
        ("evals.benchmarks=['gsm8k']", lambda p: p.evals.benchmarks == ("gsm8k",)),
        ("evals.teacher=false", lambda p: p.evals.teacher is False),
        ("students.0.lora.r=8", lambda p: p.students[0].lora.r == 8),
        ("traces.teachers.0.model=mine", lambda p: p.traces.teachers[0].model == "mine"),
        ("problems.filter={level = [1, 2]}", lambda p: p.problems.filter == {"level": [1, 2]}),
        (" traces.n = 3 ", lambda p: p.traces.n == 3),
    ],
)
def test_an_override_sets_one_key(tmp_path: Path, override: str, read: object) -> None:
    assert callable(read)
    assert read(load(tmp_path, SMALLEST + STUDENT, override))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("traces.n", "want key=value"),
        ("=3", "want key=value"),
        ("students.1.name=x", "1 is no place in a list of 1"),
        ("students.first.name=x", "first is no place in a list of 1"),
        ("name.first=x", "name is a value, not a section"),
        ("traces.tempratur=1", "Did you mean temperature?"),
        ("traces.n=many", "found 'many'"),
        ("..=1", "want key=value"),
    ],
)
def test_a_wrong_override_says_so(tmp_path: Path, override: str, words: str) -> None:
    assert words in fault(tmp_path, SMALLEST + STUDENT, override)


def test_a_key_that_is_a_word_of_pythons_is_read_and_written_by_its_own_name(
    tmp_path: Path,
) -> None:
    """`continue`, in the file, on the command line and in run.json."""
    usual = load(tmp_path, SMALLEST)
    assert usual.traces is not None and usual.traces.goes_on and usual.evals.goes_on
    whole = load(tmp_path, SMALLEST, "traces.continue=false", "evals.continue=false")
    assert whole.traces is not None and not whole.traces.goes_on and not whole.evals.goes_on
    stored = whole.model_dump(mode="json")
    assert stored["traces"]["continue"] is False and "goes_on" not in stored["traces"]
    assert Pipeline.model_validate(stored) == whole
    assert "unknown key. Did you mean continue?" in fault(tmp_path, SMALLEST, "traces.contine=1")


def test_later_overrides_win(tmp_path: Path) -> None:
    assert load(tmp_path, SMALLEST, "traces.n=2", "traces.n=3").traces.n == 3


# ---- sampling ------------------------------------------------------------------------------------


def test_single_keys_stand_over_the_vendors_settings() -> None:
    sampling = SamplingSettings(settings="qwen2.5-instruct", top_k=5, max_tokens=64).resolve()
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (
        0.7,
        0.8,
        5,
        64,
    )


def test_a_key_set_to_zero_is_set() -> None:
    assert SamplingSettings(settings="deepseek-r1", temperature=0).resolve().temperature == 0


@pytest.mark.parametrize("name", VENDOR_SETTINGS)
def test_every_vendor_setting_is_within_the_bounds_of_its_keys(name: str) -> None:
    values = SamplingSettings(settings=name).resolve().model_dump()
    SamplingSettings(**values)


# ---- students and their baselines ----------------------------------------------------------------


def names(pipeline: Pipeline) -> list[tuple[str, str]]:
    return [(student.name, student.method) for student in pipeline.all_students()]


def test_one_student_brings_its_two_baselines(tmp_path: Path) -> None:
    assert names(load(tmp_path, SMALLEST + STUDENT)) == [
        ("s", "sft"),
        ("base", "base"),
        ("answer-only", "answer_only"),
    ]


def test_students_of_one_base_share_it_and_each_recipe_has_its_control(tmp_path: Path) -> None:
    made = names(
        load(tmp_path, SMALLEST + STUDENT + STUDENT.replace('"s"', '"t"') + "learning_rate = 1e-3")
    )
    assert [name for name, _ in made] == ["s", "base", "answer-only", "t", "t-answer-only"]


def test_a_second_student_takes_no_name_away(tmp_path: Path) -> None:
    one = names(load(tmp_path, SMALLEST + STUDENT))
    two = names(
        load(tmp_path, SMALLEST + STUDENT + STUDENT.replace('"s"', '"t"') + "learning_rate = 1e-3")
    )
    assert two[: len(one)] == one


def test_a_baseline_that_the_file_names_is_enough(tmp_path: Path) -> None:
    own = STUDENT.replace('"s"', '"plain"') + 'method = "base"'
    for text in (own + "\n" + STUDENT, STUDENT + own):
        assert sorted(name for name, _ in names(load(tmp_path, SMALLEST + text))) == [
            "answer-only",
            "plain",
            "s",
        ]


def test_two_seeds_from_scratch_have_two_bases() -> None:
    shape = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    one, two = (
        StudentSettings.model_validate({"name": "s", "architecture": shape, "seed": seed})
        for seed in (0, 1)
    )
    assert one.start() != two.start()
    assert (
        StudentSettings(name="s", base="b", seed=0).start()
        == StudentSettings(name="t", base="b", seed=1).start()
    )


def test_students_that_train_alike_share_the_baselines(tmp_path: Path) -> None:
    made = names(load(tmp_path, SMALLEST + STUDENT + STUDENT.replace('"s"', '"t"')))
    assert made == [("s", "sft"), ("base", "base"), ("answer-only", "answer_only"), ("t", "sft")]


def test_students_of_two_bases_bring_their_own(tmp_path: Path) -> None:
    made = names(
        load(
            tmp_path,
            SMALLEST + STUDENT + STUDENT.replace('"s"', '"t"').replace("some/base", "other/base"),
        )
    )
    assert [name for name, _ in made] == [
        "s",
        "base",
        "answer-only",
        "t",
        "t-base",
        "t-answer-only",
    ]


def test_a_baseline_trains_like_its_student(tmp_path: Path) -> None:
    pipeline = load(tmp_path, SMALLEST + STUDENT + "learning_rate = 3e-4\nepochs = 7")
    answer_only = pipeline.all_students()[2]
    assert (answer_only.learning_rate, answer_only.epochs, answer_only.base) == (
        3e-4,
        7,
        "some/base",
    )


def test_baselines_can_be_left_out(tmp_path: Path) -> None:
    assert names(load(tmp_path, SMALLEST + STUDENT + "baselines = []")) == [("s", "sft")]


def test_an_unverified_control_comes_when_asked_for_and_trains_like_its_student(
    tmp_path: Path,
) -> None:
    both = 'baselines = ["answer_only", "unverified"]\nlearning_rate = 3e-4\n'
    made = load(tmp_path, SMALLEST + STUDENT + both).all_students()
    assert [(s.name, s.method) for s in made] == [
        ("s", "sft"),
        ("answer-only", "answer_only"),
        ("unverified", "unverified"),
    ]
    assert made[2].recipe() == made[0].recipe()
    second = STUDENT.replace('"s"', '"t"') + both + "seed = 1\n"
    assert [name for name, _ in names(load(tmp_path, SMALLEST + STUDENT + both + second))][3:] == [
        "t",
        "t-answer-only",
        "t-unverified",
    ]


def test_no_weights_are_kept_for_the_curve_unless_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, SMALLEST).evals.checkpoints.count == 0
    assert load(tmp_path, SMALLEST, "evals.checkpoints.count=5").evals.checkpoints.count == 5


def test_a_student_has_either_a_base_or_an_architecture() -> None:
    with pytest.raises(ValidationError, match="give either base"):
        StudentSettings.model_validate(
            {
                "name": "s",
                "base": "b",
                "architecture": {
                    "hidden_size": 8,
                    "intermediate_size": 8,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 1,
                },
            }
        )
