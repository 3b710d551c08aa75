from __future__ import annotations

from pathlib import Path

import pytest

from reasondistill.config import Cluster, SampledModel
from reasondistill.errors import ConfigError, DataError
from reasondistill.models.samplers import Rendered, Request
from reasondistill.models.samplers.opening import open_sampler
from reasondistill.models.samplers.reference import ReferenceSampler, reference_completion
from reasondistill.models.samplers.scripted import ScriptedSampler, script_identity
from reasondistill.records import Message, Origin, Problem, Sampling
from reasondistill.runs.store import Identity, finish_stage, open_stage
from reasondistill.thinking import ReasoningFormat


def request(
    request_id: str = "p/0:0", *, max_tokens: int = 100, opens: ReasoningFormat | None = None
) -> Request:
    rendered = Rendered((Message(role="user", content="one two three"),), opens=opens)
    return Request(request_id, "0" * 16, rendered, Sampling(max_tokens=max_tokens), seed=1)


def problem(solution: str | None) -> Problem:
    origin = Origin(dataset="d", revision="1", split="train", row=0)
    return Problem(id="p/0", question="q", answer="42", reference_solution=solution, origin=origin)


def test_a_script_gives_sample_i_its_ith_text() -> None:
    sampler = ScriptedSampler({"p/0": ["a", "b"]})
    texts = [
        s.completion.answer_text
        for s in sampler.sample([request("p/0:0"), request("p/0:1"), request("p/0:2")])
    ]
    assert texts == ["a", "b", "a"]


def test_a_scripted_text_longer_than_max_tokens_is_truncated() -> None:
    (sampled,) = ScriptedSampler({"p/0": ["<think>one two three"]}).sample([request(max_tokens=2)])
    assert (sampled.completion.finish, sampled.completion.tokens, sampled.completion.reasoning) == (
        "length",
        2,
        "one two",
    )
    assert sampled.completion.prompt_tokens == 3


def test_a_problem_without_a_text_is_a_failed_sample_not_a_crash() -> None:
    (sampled,) = ScriptedSampler({}).sample([request()])
    assert sampled.completion.finish == "error"


def test_a_script_knows_when_the_prompt_opens_the_think_block() -> None:
    rendered = ScriptedSampler({}).render(
        (Message(role="user", content="Go.\n<think>\n"),), plain=True
    )
    assert rendered.opens == "think"


def test_a_bad_script_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    with pytest.raises(ConfigError, match="no such script file"):
        ScriptedSampler.from_file(path, [])
    path.write_text('{"problem_id": "p/0", "text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"script\.jsonl:2"):
        ScriptedSampler.from_file(path, [])
    for row in ('{"problem_id": ["p"], "text": "a"}', '{"problem_id": "p", "text": 1}'):
        path.write_text(row, encoding="utf-8")
        with pytest.raises(DataError, match=r"script\.jsonl:1: .* must be texts"):
            ScriptedSampler.from_file(path, [])


def test_a_reference_loses_its_answer_line_and_boxes_the_gold_answer() -> None:
    completion = reference_completion(problem("6*7 = 42\n#### 42\n"))
    assert (completion.reasoning, completion.answer_text, completion.think) == (
        "6*7 = 42",
        "\\boxed{42}",
        "closed",
    )
    assert (
        reference_completion(problem("#### is a mark\nso 42")).reasoning == "#### is a mark\nso 42"
    )


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("Six sevens are \\boxed{42}.", "42"),
        ("Six sevens are \\boxed{42.0}.", "42"),
        ("Six sevens are \\boxed{43}.", "43"),
        ("Six sevens are 43.", "42"),  # says nothing for sure
    ],
)
def test_a_reference_that_boxes_another_answer_keeps_it(solution: str, answer: str) -> None:
    assert reference_completion(problem(solution)).answer_text == f"\\boxed{{{answer}}}"


def test_of_several_golds_a_reference_boxes_the_first() -> None:
    several = problem("Half of it.").model_copy(update={"answer": '["1/2", "0.5"]'})
    assert reference_completion(several).answer_text == "\\boxed{1/2}"


def test_a_problem_without_a_reference_is_a_failed_sample() -> None:
    (sampled,) = ReferenceSampler([problem(None)]).sample([request()])
    assert sampled.completion.finish == "error"
    assert "no reference solution" in (sampled.completion.error or "")


def test_damaged_weights_of_a_student_are_not_served(tmp_path: Path) -> None:
    open_stage(tmp_path / "s", Identity("students", 1, {}, {}))
    weights = tmp_path / "s" / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(bytes(1000))
    finish_stage(tmp_path / "s", counts={"in": 1, "out": 1}, seconds=0.0)
    weights.write_bytes(bytes(999) + b"1")
    with pytest.raises(DataError, match="model.safetensors: damaged: bytes 0 to 1,000"):
        open_sampler(SampledModel(model=str(weights.parent)), Cluster(), ())


def test_a_script_is_read_whole_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "script.jsonl"
    path.write_bytes(b'{"problem_id": "p", "text": "1"}\r\n')
    unix = tmp_path / "unix" / "script.jsonl"
    unix.parent.mkdir()
    unix.write_bytes(path.read_bytes().replace(b"\r", b""))
    assert script_identity(path) == script_identity(unix)
    monkeypatch.setenv("REASONDISTILL_MOST_JSON_FILE_BYTES", "20")
    for read in (script_identity, lambda path: ScriptedSampler.from_file(path, [])):
        with pytest.raises(DataError, match=r"script\.jsonl: is read whole, and is beyond 20"):
            read(path)
