"""Which examples each of several students is trained on: a chain of them is a curriculum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from test_examples import PROMPT, Run, graded, problem

from reasondistill.config import ExampleSettings, StudentExamples, StudentSettings, TrainSettings
from reasondistill.curation.decisions import Graded
from reasondistill.errors import StageError
from reasondistill.models.prompts import load_prompt
from reasondistill.records import Problem, Published
from reasondistill.runs import store
from reasondistill.stages.examples import ExampleInputs, run_examples
from reasondistill.stages.students.identity import student_identity
from reasondistill.stages.students.job import StudentJob
from reasondistill.stages.students.material import training_examples


def warmer(pair: Graded, temperature: float) -> Graded:
    sampling = pair.trace.sampling
    assert sampling is not None
    update = {"sampling": sampling.model_copy(update={"temperature": temperature})}
    return replace(pair, trace=pair.trace.model_copy(update=update))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Eight problems with two right traces each, of 10 and 90 tokens, at T = 0.6 and 1.0; the even
    problems are tagged hard, and a third sample of theirs is wrong.
    """
    pairs: list[Graded] = []
    problems: list[Problem] = []
    for number in range(8):
        origin = problem(number).origin.model_copy(
            update={"source": "mine", "tag": ("hard", "easy")[number % 2]}
        )
        problems.append(problem(number).model_copy(update={"origin": origin}))
        pairs.append(graded(number, 0, tokens=10))
        pairs.append(warmer(graded(number, 1, tokens=90), 1.0))
        if number % 2 == 0:
            pairs.append(graded(number, 2, "wrong", tokens=20))
    made = Run(tmp_path, pairs, problems)
    made.make(validation=0.3)
    return made


def job(run: Run, **keys: Any) -> StudentJob:
    examples = StudentExamples(**keys) if keys else None
    return StudentJob(
        StudentSettings(name="s", base="b", examples=examples),
        load_prompt("question"),
        run.problems,
        run.out,
        run.folder / "s",
        TrainSettings(),
        traces=run.traces,
        verdicts=run.verdicts,
    )


def trained_on(run: Run, **keys: Any) -> set[str]:
    examples = training_examples(job(run, **keys))
    return {example.id for example in examples if example.split == "train"}


@pytest.mark.parametrize(
    ("keys", "samples", "parities"),
    [
        ({"max_tokens": 50}, {0}, {0, 1}),
        ({"min_tokens": 50}, {1}, {0, 1}),
        ({"max_temperature": 0.7}, {0}, {0, 1}),
        ({"min_temperature": 0.9, "tags": ["hard"]}, {1}, {0}),
        ({"tags": ["easy"]}, {0, 1}, {1}),
        ({"sources": ["mine"], "teachers": ["teacher"]}, {0, 1}, {0, 1}),
        ({"max_pass_rate": 0.9}, {0, 1}, {0}),  # two of three are right
        ({"min_pass_rate": 0.9}, {0, 1}, {1}),
    ],
)
def test_a_student_is_trained_on_what_its_table_chooses(
    run: Run, keys: dict[str, Any], samples: set[int], parities: set[int]
) -> None:
    everything = trained_on(run)
    expected: set[str] = set()
    for name in everything:
        number, sample = name.removeprefix("d/train/").split(":")
        if int(sample) in samples and int(number) % 2 in parities:
            expected.add(name)
    assert trained_on(run, **keys) == expected != set()


def test_samples_beyond_a_lowered_n_do_not_count_for_a_pass_rate(tmp_path: Path) -> None:
    pairs = [graded(1, 0), graded(1, 1, "wrong"), graded(2, 0), graded(2, 1)]
    made = Run(tmp_path, pairs)
    inputs = ExampleInputs(made.problems, made.traces, made.verdicts, samples=1)
    manifest = store.read_manifest(made.traces)
    assert manifest is not None
    identity = {**manifest.identity, "section": {"n": 2}}
    store.write_manifest(made.traces, replace(manifest, identity=identity))
    run_examples(ExampleSettings(validation=0.0), PROMPT, inputs, made.out, about={})
    assert trained_on(made, min_pass_rate=0.9) == {"d/train/1:0", "d/train/2:0"}


def test_what_is_validated_on_stays_the_same(run: Run) -> None:
    def validated(**keys: Any) -> list[str]:
        examples = training_examples(job(run, **keys))
        return [example.id for example in examples if example.split == "validation"]

    assert validated() == validated(max_tokens=50, limit=1) != []


def test_a_larger_limit_keeps_the_examples_of_a_smaller_one(run: Run) -> None:
    few, more = trained_on(run, limit=3), trained_on(run, limit=6)
    assert len(few) == 3 and len(more) == 6 and few < more
    assert trained_on(run, limit=3, seed=1) != few
    assert trained_on(run, limit=99) == trained_on(run)


def test_those_without_a_tag_or_a_teacher_have_a_name(tmp_path: Path) -> None:
    pairs = [graded(number, 0) for number in range(3)]
    nobody = Published(dataset="d", revision="r", split="s", row=0, place=0)
    first = pairs[0].trace.model_copy(update={"published": nobody, "sampling": None})
    pairs[0] = replace(pairs[0], trace=first)
    hard = problem(1).origin.model_copy(update={"tag": "hard"})
    problems = [problem(0), problem(1).model_copy(update={"origin": hard}), problem(2)]
    made = Run(tmp_path, pairs, problems)
    made.make(validation=0.0)
    assert trained_on(made, teachers=["unknown"]) == {"d/train/0:0"}
    assert trained_on(made, tags=["untagged"]) == {"d/train/0:0", "d/train/2:0"}


def test_what_no_example_has_is_refused_with_what_there_is(run: Run) -> None:
    with pytest.raises(StageError, match=r"s examples.tags: .* 'hrad'. There are: easy, hard"):
        trained_on(run, tags=["hard", "hrad"])
    with pytest.raises(StageError, match=r"teachers: .* There are: teacher"):
        trained_on(run, teachers=["teacher@abc"])
    with pytest.raises(StageError, match=r"none of the \d+ training examples .*min_tokens = 500"):
        trained_on(run, min_tokens=500)
    with pytest.raises(ValidationError, match="min_tokens: 5 is above max_tokens = 4"):
        StudentExamples(min_tokens=5, max_tokens=4)


def test_a_published_trace_is_known_by_who_wrote_it(tmp_path: Path) -> None:
    pair = graded(1, 0)
    published = Published(dataset="d", revision="r", split="s", row=0, place=0, teacher="R1")
    trace = pair.trace.model_copy(update={"published": published, "sampling": None})
    run = Run(tmp_path, [replace(pair, trace=trace), graded(2, 0)])
    run.make(validation=0.0)
    assert trained_on(run, teachers=["R1"]) == {"d/train/1:0"}
    assert trained_on(run, min_temperature=0.1) == {"d/train/2:0"}  # unknown fits no bound


def test_the_choice_is_part_of_what_a_student_is(run: Run, tmp_path: Path) -> None:
    from tiny_model import make_tiny_model

    base = str(make_tiny_model(tmp_path / "tiny"))

    def identity(**keys: Any) -> Any:
        one = job(run, **keys)
        return student_identity(replace(one, student=one.student.model_copy(update={"base": base})))

    plain = identity()
    assert "examples" not in plain.section and "chosen" not in plain.inputs
    short = identity(max_tokens=50)
    assert short.section["examples"] == {"max_tokens": 50}
    assert short.inputs["chosen"] != identity(max_tokens=95).inputs["chosen"]
    assert training_examples(job(run)).content != training_examples(job(run, limit=2)).content
