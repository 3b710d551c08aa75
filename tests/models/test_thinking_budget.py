"""Reasoning that is ended at its budget: who can do it, how it is counted, what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_model import make_tokenizer
from traces_kit import opener, settings, traces_in, write_problems

from reasondistill.config import Cluster, make_pipeline
from reasondistill.errors import ConfigError
from reasondistill.models.samplers import Request
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.thinking_tokens import ThinkingTokens, thinking_tokens
from reasondistill.pipeline import Run
from reasondistill.pipeline.measured import eval_models, sampling_of
from reasondistill.pipeline.runs import benchmarks
from reasondistill.records import Sampling
from reasondistill.runs.figures import TracesFigures, cost_of_verified
from reasondistill.stages.traces import run_traces

TOKENS = ThinkingTokens("<think>", "</think>", 1, 2)


@pytest.mark.parametrize(
    ("prompt", "ids", "longest", "still_open"),
    [
        ([9, 1], [5, 5, 2, 7], 2, 0),
        ([9, 1, 8], [5, 5, 2, 7], 3, 0),  # the template's line break counts
        ([9, 1, 8], [5, 5], 0, 3),
        ([9, 1, 8, 2], [5, 5, 2, 7], 0, 0),  # a worked example; the block is another one's
        ([9], [1, 5, 2, 7, 1, 5, 5, 5, 2], 3, 0),
        ([9], [1, 5, 1, 5, 2], 3, 0),
        ([], [], 0, 0),
    ],
)
def test_the_tokens_between_two_tags_are_counted(
    prompt: list[int], ids: list[int], longest: int, still_open: int
) -> None:
    assert TOKENS.longest(prompt, ids) == longest
    assert TOKENS.open_count([*prompt, *ids]) == still_open


def test_tags_are_those_of_the_tokenizer_and_one_token_each() -> None:
    tokenizer = make_tokenizer()
    assert thinking_tokens(tokenizer, "auto", "m").opener == "<think>"
    with pytest.raises(ConfigError, match=r"m has no tags of reasoning that are one token each"):
        thinking_tokens(tokenizer, "mistral", "m")
    tokenizer.add_tokens(["[THINK]", "[/THINK]"])
    assert thinking_tokens(tokenizer, "mistral", "m").closer == "[/THINK]"
    with pytest.raises(ConfigError, match=r"has tokens for <think>, \[THINK\]; name the format"):
        thinking_tokens(tokenizer, "auto", "m")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"thinking_budget": 0}, "greater than or equal to 1"),
        ({"teachers": ({"model": "m", "sampler": "openai"},)}, "request = {thinking_token_budget"),
        ({"teachers": ({"model": "m", "sampler": "reference"},)}, "'reference' of m has none"),
        ({"teachers": ({"model": "m", "reasoning": "harmony"},)}, "m has reasoning = 'harmony'"),
        ({"also": ({"model": "a", "sampler": "openai", "n": 1},)}, "'openai' of a has none"),
        (
            {
                "thinking_budget": None,
                "also": ({"model": "a", "sampler": "openai", "n": 1, "thinking_budget": 8},),
            },
            "'openai' of a has none",
        ),
    ],
)
def test_who_cannot_end_reasoning_is_refused_by_name(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        settings(**{"thinking_budget": 64, **values})


def test_a_budget_leaves_room_for_an_answer() -> None:
    with pytest.raises(ConfigError, match=r"max_tokens = 64 leaves nothing of the answer"):
        settings(thinking_budget=64, max_tokens=64).resolve()
    assert settings(thinking_budget=64, max_tokens=65).resolve().thinking_budget == 64
    assert "thinking_budget" not in Sampling().model_dump(mode="json")
    other = {"model": "a", "sampler": "scripted", "n": 1}
    beside = settings(thinking_budget=64, max_tokens=65, also=(other | {"max_tokens": 64},))
    with pytest.raises(ConfigError, match=r"max_tokens = 64 leaves nothing of the answer"):
        beside.sampling_of(beside.also[0])


def test_an_engine_is_started_for_the_budget_of_whoever_is_asked(tmp_path: Path) -> None:
    """A model of `also` has one of its own."""
    opened: list[Any] = []
    open_one = opener(lambda request: "<think>so so so so so</think> \\boxed{2}")

    def watched(*values: Any) -> Any:
        opened.append(open_one(*values))
        return opened[-1]

    other = {"model": "a", "sampler": "scripted", "n": 1, "thinking_budget": 3}
    problems = write_problems(tmp_path / "1-problems", 1)
    run_traces(settings(n=1, also=(other,)), problems, tmp_path / "t", Serving(Cluster(), watched))
    assert {one.model: one.ends_thinking for one in opened} == {"fake": False, "a": True}
    cut = [trace.completion.thinking_is_cut for trace in traces_in(tmp_path / "t")]
    assert sorted(cut) == [False, True]


def test_reasoning_beyond_the_budget_is_cut_counted_and_no_example(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 3)

    def script(request: Request) -> str:
        words = 3 if request.id.endswith("/1:0") else 9
        return f"<think>{'so ' * words}</think> \\boxed{{2}}"

    done = run_traces(
        settings(n=1, thinking_budget=4),
        problems,
        tmp_path / "t",
        Serving(Cluster(), opener(script)),
    )
    assert TracesFigures.of(done).cut_thinking == 2
    assert any(
        "2 of 3 traces used up the thinking budget" in one for one in cost_of_verified(done, None)
    )
    completions = [trace.completion for trace in traces_in(tmp_path / "t")]
    assert [one.thinking_is_cut for one in completions] == [True, False, True]
    assert completions[0].reasoning == "so so so so" and completions[0].finish == "stop"
    assert "thinking_is_cut" not in completions[1].model_dump(mode="json")


def test_models_are_measured_with_a_budget_of_their_own_alone(tmp_path: Path) -> None:
    model = "shipped:demo-teacher"
    other = {"name": "other", "model": model}
    values: dict[str, Any] = {
        "name": "x",
        "problems": {"source": "file", "dataset": "p.jsonl"},
        "traces": {"thinking_budget": 64, "max_tokens": 512, "teachers": [{"model": model}]},
        "evals": {"benchmarks": ["gsm8k"], "models": [other]},
    }

    def asked() -> int | None:
        job = Run(make_pipeline(values, source=tmp_path / "p"), Cluster(), tmp_path, tmp_path / "p")
        sampling = sampling_of(job, eval_models(job)["other"], benchmarks(job)[0]).resolve()
        assert sampling.max_tokens == 512
        return sampling.thinking_budget

    assert asked() is None
    values["evals"]["thinking_budget"] = 128
    assert asked() == 128
    other["sampler"] = "openai"
    with pytest.raises(ConfigError, match="thinking_budget: the sampler 'openai'"):
        asked()
