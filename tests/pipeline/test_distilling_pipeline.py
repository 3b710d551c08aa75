"""A pipeline file with methods, seeds and a student that goes on from another: planned, checked and
refused before anything starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reasondistill.config import Cluster, Pipeline
from reasondistill.doctor import check
from reasondistill.errors import ConfigError
from reasondistill.pipeline import Run, plan
from reasondistill.pipeline.measured import baselines, teacher_of

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "tokenizer": "shipped:demo-teacher",
}
WARM: dict[str, Any] = {"name": "warm", "architecture": SHAPE, "seeds": [0, 1]}


def pipeline(
    *students: dict[str, Any],
    teachers: list[dict[str, Any]] | None = None,
    evals: Any = None,
    **traces: Any,
) -> Pipeline:
    values = {
        "name": "p",
        "problems": {
            "source": "procedural",
            "dataset": "gsm_symbolic",
            "name": "g",
            "limit": 9,
            "question": "question",
            "answer": "answer",
        },
        "traces": {
            "prompt": "question",
            "n": 1,
            "teachers": teachers or [{"model": "shipped:demo-teacher"}],
            **traces,
        },
        "students": list(students),
        "evals": {"benchmarks": ["gsm_symbolic_12"], **(evals or {})},
    }
    return Pipeline.model_validate(values)


def run_of(pipeline: Pipeline, folder: Path) -> Run:
    return Run(pipeline, Cluster(), folder / "run", folder / "p.toml")


def test_each_seed_is_a_student_that_goes_on_from_the_one_of_its_seed() -> None:
    made = pipeline(WARM, {"name": "kd", "method": "kd", "base": "student:warm", "seeds": [0, 1]})
    found = {
        student.name: (student.method, student.base, student.seed)
        for student in made.all_students()
    }
    assert found["kd-seed1"] == ("kd", "student:warm-seed1", 1)
    assert found["base-seed0"][0] == "base" and found["answer-only-seed1"] == (
        "answer_only",
        None,
        1,
    )
    # What kd starts from is in the table as `warm`; its answer-only control goes on from there too.
    assert set(found) == {
        f"{name}-seed{seed}"
        for name in ("warm", "base", "answer-only", "kd", "kd-answer-only")
        for seed in (0, 1)
    }
    assert made.seed_groups()["kd"] == ("kd-seed0", "kd-seed1")


def test_weights_that_were_there_before_know_no_seed() -> None:
    made = pipeline({"name": "kd", "method": "kd", "base": "some/model", "seeds": [3, 4]})
    assert [s.name for s in made.all_students()] == [
        "kd-seed3",
        "kd-seed4",
        "base",
        "answer-only-seed3",
        "answer-only-seed4",
    ]


def test_tasks_come_after_the_student_they_start_from(tmp_path: Path) -> None:
    made = pipeline(
        WARM,
        {
            "name": "kd",
            "method": "kd",
            "base": "student:warm",
            "seeds": [0, 1],
            "baselines": ["answer_only"],
        },
    )
    after = {
        task.units[0]: task.after
        for task in plan(run_of(made, tmp_path), ["students"], share_engine_process=True)
    }
    assert after["kd-seed1"] == ("students:warm-seed1",)
    assert set(after["kd-answer-only-seed0"]) == {
        "students:warm-seed0",
        "students:kd-seed0",
    }  # starts from one, counts the other's steps


@pytest.mark.parametrize(
    ("students", "message"),
    [
        (
            [{"name": "kd", "method": "kd", "base": "student:warm"}, WARM],
            "no student before it is called that",
        ),
        (
            [WARM, {"name": "kd", "method": "kd", "base": "student:warm"}],
            r"made with seeds \[0, 1\]; give it such seeds",
        ),
        (
            [WARM, {"name": "kd", "method": "kd", "base": "student:warm", "seeds": [2]}],
            r"made with seeds \[0, 1\]",
        ),
        ([WARM, {"name": "warm-seed0", "base": "x"}], "'warm-seed0' is used twice"),
    ],
)
def test_a_start_that_is_not_there_is_refused(students: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(*students)


def test_each_seed_is_compared_with_the_same_seed_of_the_reference(tmp_path: Path) -> None:
    students = [
        WARM,
        *(
            {"name": m, "method": m, "base": "student:warm", "seeds": [0, 1], "baselines": []}
            for m in ("sft", "kd")
        ),
    ]
    compared = baselines(run_of(pipeline(*students, evals={"against": ["sft"]}), tmp_path))
    assert "sft-seed1" in compared["kd-seed1"] and "sft-seed0" not in compared["kd-seed1"]
    assert "sft-seed1" not in compared["sft-seed1"]
    # What the warm start is compared with, those that go on from it are compared with as well.
    assert {"base-seed1", "answer-only-seed1", "teacher"} <= set(
        compared["kd-seed1"]
    ) and "base-seed0" not in compared["kd-seed1"]


def test_the_teacher_is_the_one_of_the_traces_unless_the_student_names_another(
    tmp_path: Path,
) -> None:
    made = pipeline(
        {"name": "kd", "method": "kd", "base": "some/model"},
        {"name": "k2", "method": "kd", "base": "some/model", "teacher": "a/b"},
        {
            **{"name": "k3", "method": "kd", "base": "some/model", "teacher": "a/b"},
            "teacher_trust_remote_code": True,
        },
        {"name": "k4", "method": "kd", "base": "some/model", "trust_remote_code": True},
    )
    run = run_of(made, tmp_path)
    found = [teacher_of(run, student) for student in made.students]
    # Whose code is run is said of each model by itself.
    trusted = [teacher is not None and teacher.trust_remote_code for teacher in found]
    assert trusted == [False, False, True, False]
    assert (
        found[0] is not None
        and found[0].model.endswith("demo-teacher")
        and found[1] is not None
        and found[1].model == "a/b"
    )


def test_traces_without_a_teacher_that_can_be_loaded_are_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    two = [
        {"model": "shipped:demo-teacher", "name": "a"},
        {"model": "shipped:demo-teacher", "name": "b"},
    ]
    made = pipeline({**WARM, "seeds": [], "name": "kd", "method": "kd"}, teachers=two)
    with pytest.raises(
        ConfigError, match="needs a teacher in memory; the traces have no single one"
    ):
        check(run_of(made, tmp_path))


def test_top_k_distillation_wants_as_many_stored_as_it_reads(tmp_path: Path) -> None:
    student = {**WARM, "seeds": [], "name": "t", "method": "topk_kd", "topk_kd": {"k": 16}}
    for stored in ({}, {"logprobs": 8}):
        with pytest.raises(ConfigError, match=r"set \[traces\] logprobs = 16"):
            check(run_of(pipeline(student, **stored), tmp_path))
    check(run_of(pipeline(student, logprobs=16), tmp_path))


def test_a_task_of_many_models_is_called_by_the_first_of_them() -> None:
    from reasondistill.pipeline import Task

    assert Task("evals", ("a", "b", "c", "d")).label == "evals:a+b+c+d"
    assert Task("evals", ("a", "b", "c", "d", "e")).label == "evals:a+b+c and 2 more"
    assert Task("report").label == "report"
