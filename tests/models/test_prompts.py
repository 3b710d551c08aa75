"""The shipped prompt files, and how a prompt becomes turns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reasondistill.config import resources
from reasondistill.errors import ConfigError
from reasondistill.models.prompts import NamedPrompt, Prompt, load_prompt

FOLDER = Path(__file__).parents[2] / "prompts"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.toml"))


def test_the_prompts_that_pipelines_name_are_shipped() -> None:
    assert {"think", "question", "qwen_math", "deepseek_r1", "gsm8k_few_shot", "open_r1"} <= set(
        SHIPPED
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prompt_says_what_it_is_and_ends_with_the_question(name: str) -> None:
    prompt = load_prompt(str(FOLDER / f"{name}.toml")).prompt
    turns = prompt.render("How many {sets} of $\\frac{1}{2}$?")
    assert len(prompt.about) > 20
    assert turns[-1].role == "user" and "How many {sets} of $\\frac{1}{2}$?" in turns[-1].content


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in ("question", "judge")])
def test_a_prompt_that_asks_for_a_box_keeps_its_backslash(name: str) -> None:
    turns = load_prompt(str(FOLDER / f"{name}.toml")).prompt.render("q")
    assert "\\boxed{" in "".join(turn.content for turn in turns)
    assert "\x08" not in "".join(turn.content for turn in turns), (
        "\\b in a basic TOML string is a backspace"
    )


def test_deepseek_r1_has_no_system_turn_and_qwen_math_has_one() -> None:
    r1, qwen = (
        load_prompt(str(FOLDER / f"{name}.toml")).prompt for name in ("deepseek_r1", "qwen_math")
    )
    assert [turn.role for turn in r1.render("q")] == ["user"]
    assert [turn.role for turn in qwen.render("q")] == ["system", "user"]
    assert qwen.render("q")[1].content == "q"


def test_the_worked_examples_of_the_few_shot_prompt_are_right() -> None:
    prompt = load_prompt(str(FOLDER / "gsm8k_few_shot.toml")).prompt
    assert prompt.plain and len(prompt.few_shot) == 8
    for shot in prompt.few_shot:
        sums = re.findall(r"(\d+(?: [-+*/] \d+)+) = \$?(\d+)", shot.answer)
        assert sums, shot.answer
        for left, right in sums:
            assert eval(left) == int(right), left
        assert f"\\boxed{{{sums[-1][1]}}}" in shot.answer


def test_worked_examples_stand_before_the_question_as_turns() -> None:
    prompt = Prompt.model_validate(
        {"about": "a", "user": "Q: {question}", "few_shot": [{"question": "1+1", "answer": "2"}]}
    )
    assert [(turn.role, turn.content) for turn in prompt.render("2+2")] == [
        ("user", "Q: 1+1"),
        ("assistant", "2"),
        ("user", "Q: 2+2"),
    ]


def test_the_tag_changes_with_what_the_model_sees_and_not_with_about() -> None:
    prompt = Prompt(about="a", user="{question}")
    same, other = (
        prompt.model_copy(update={"about": "b"}),
        prompt.model_copy(update={"user": "{question}!"}),
    )
    tags = [NamedPrompt(name="x", prompt=each).tag for each in (prompt, same, other)]
    assert tags[0] == tags[1] != tags[2] and tags[0].startswith("x@")


def test_a_prompt_without_the_question_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('about = "a"\nuser = "solve it"\n')
    with pytest.raises(ConfigError, match="question"):
        load_prompt(str(path))


def test_an_unknown_prompt_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="deepseek_r1"):
        load_prompt("deepseek-r1")
    assert "think" in resources.available("prompts")
