"""Rewards for training with reinforcement learning: 1 for a right answer, 0 for another, and None,
not 0, where the grader cannot tell.

    from reasondistill.grading import accuracy_reward

    GRPOTrainer(model, reward_funcs=accuracy_reward, train_dataset=rows)    # prompt, solution

An undecided answer that counts as 0 teaches the model to avoid what the grader cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reasondistill.grading.serve.verify import DEADLINE_S, Gold, as_bool, grade_pairs
from reasondistill.records import Grade


def accuracy_reward(
    completions: Sequence[str | Sequence[Mapping[str, Any]]],
    solution: Sequence[Gold],
    log_extra: Callable[[str, list[Any]], None] | None = None,
    **_: object,
) -> list[float | None]:
    """A reward function of TRL, as `trl.rewards.accuracy_reward` is one: 1.0, 0.0, or None when
    undecided.

    `completions` are texts, or lists of messages of which the model's last one counts; `solution`
    holds a gold answer, or a list of alternatives, for each. TRL leaves a completion without any
    reward out of its group's mean, and it has no advantage. With `log_extra` the table of
    completions shows the answers that were found and the reasons. Raises ValueError when there are
    not as many solutions as completions.
    """
    targets = [completion_text(completion) for completion in completions]
    grades = grade_pairs(solution, targets)
    if log_extra is not None:
        log_extra("solution", list(solution))
        log_extra("extracted", [grade.extracted for grade in grades])
        log_extra("grade", [f"{grade.outcome}: {grade.reason}" for grade in grades])
    return [as_reward(grade) for grade in grades]


def as_reward(grade: Grade) -> float | None:
    """1.0 for correct, None for undecided, else 0.0."""
    is_right = as_bool(grade)
    if is_right is None:
        return None
    return float(is_right)


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """The text of a completion; of a conversation the last message of the model."""
    if isinstance(completion, str):
        return completion
    for message in reversed(completion):
        if message.get("role", "assistant") == "assistant":
            return message_text(message.get("content"))
    return ""


def message_text(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """The text of a message, which may stand in several parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def compute_score(
    data_source: str | None,
    solution_str: str,
    ground_truth: Gold,
    extra_info: Mapping[str, Any] | None = None,
    *,
    undecided: float | None = None,
    policy: str = "default",
    timeout_seconds: float = DEADLINE_S,
    **_: object,
) -> float | None:
    """A reward function of verl: 1.0, 0.0, or `undecided` where the grader cannot tell.

    verl's own reward managers know no sample without a reward: they stop at None. One that leaves
    such samples out takes it; else say in `reward_kwargs` what they shall count (`undecided`).
    """
    grades = grade_pairs(
        [ground_truth], [solution_str], timeout_seconds=timeout_seconds, policy=policy
    )
    reward = as_reward(grades[0])
    if reward is None:
        return undecided
    return reward
