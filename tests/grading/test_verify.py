"""`verify`, the call shaped like math-verify's, and the reward functions on top of it."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import math_verify
import numpy as np
import pytest
from tiny_model import make_tiny_model
from trl.rewards import accuracy_reward as accuracy_reward_of_trl

from reasondistill.errors import ConfigError
from reasondistill.grading import accuracy_reward, compute_score, verify

HANGING = r"\int_0^{\infty} \sin(x^x) \cos(x!) dx"  # sympy does not come back from it
NEEDS_WORKER = (r"\sqrt{8}", r"\boxed{2\sqrt{2}}")


@pytest.mark.parametrize(
    ("gold", "target", "expected"),
    [
        (r"\frac12", "The answer is $0.5$.", True),
        ("34", r"\boxed{35}", False),
        ("34", "I do not see it.", False),
        ("x^2+2x+1", r"\boxed{(x+1)^2}", True),
        (34, "so it is 34", True),
        (0.5, r"\boxed{\frac{1}{2}}", True),
        ("34", 34, True),
        ("34", None, False),
        ("34", "", False),
        (None, "34", None),
        ("", "34", None),
        ([], "34", None),
        (["34", "68/3"], r"\boxed{34}", True),
        (["12", "34"], r"\boxed{34}", True),
        (("12", 34), r"\boxed{35}", False),
        (["35", ""], r"\boxed{34}", False),
        (["", "see solution"], r"\boxed{34}", None),
        (["it's 5", 'the "34"', "\\frac{68}{2}"], r"\boxed{34}", True),
        (np.array(["12", "34"]), r"\boxed{34}", True),
        (np.array([12, 34]), np.int64(35), False),
        ("7", r"<think>perhaps \boxed{3}</think> It is \boxed{7}.", True),
        ("3", r"<think>perhaps \boxed{3}</think> It is \boxed{7}.", False),
        ("3", r"<think>perhaps \boxed{3}", False),
    ],
)
def test_the_gold_is_answered_or_not_or_nobody_can_tell(
    gold: Any, target: Any, expected: bool | None
) -> None:
    assert verify(gold, target) is expected


@pytest.mark.parametrize(
    "gold",
    [b"34", {"34"}, {"answer": "34"}, ["34", ["35"]], True, ["34", None], object()],
    ids=lambda gold: type(gold).__name__,
)
def test_a_gold_that_is_no_text_is_refused_by_name(gold: Any) -> None:
    with pytest.raises(TypeError, match="^gold: this is a"):
        verify(gold, "34")


@pytest.mark.parametrize("target", [b"34", ["34"], True])
def test_an_answer_that_is_no_text_is_refused_by_name(target: Any) -> None:
    with pytest.raises(TypeError, match="^target: this is a"):
        verify("34", target)


def test_what_math_verify_has_parsed_is_refused_rather_than_misread() -> None:
    with pytest.raises(TypeError, match="nothing that was parsed"):
        verify(math_verify.parse("$34$"), "34")


def test_a_list_that_is_too_long_to_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        verify(["34"] * 10_000, "34")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        verify("34", "34", policy="severe")


def test_a_policy_is_followed() -> None:
    assert verify("28", r"\boxed{28\%}") is True
    assert verify("28", r"\boxed{28\%}", policy="strict") is False


def test_the_call_has_the_shape_of_math_verify() -> None:
    ours = inspect.signature(verify).parameters
    theirs = inspect.signature(math_verify.verify).parameters
    assert list(ours)[:2] == list(theirs)[:2] == ["gold", "target"]
    assert ours["timeout_seconds"].default == theirs["timeout_seconds"].default


def test_what_does_not_come_to_an_end_is_undecided_at_the_deadline() -> None:
    assert verify("0.5", r"\int_0^1 x dx") is True  # sympy is loaded from here on
    started = time.monotonic()
    assert verify(r"\frac{\pi}{7}", rf"\boxed{{{HANGING}}}", timeout_seconds=0.5) is None
    assert time.monotonic() - started < 3


def test_without_a_deadline_there_still_is_one() -> None:
    started = time.monotonic()
    assert verify(r"\frac{\pi}{11}", rf"\boxed{{{HANGING}}}", timeout_seconds=None) is None
    assert time.monotonic() - started < 15


def test_a_longer_deadline_is_not_answered_with_what_a_shorter_one_came_to() -> None:
    gold = r"\int_0^1 x^{17} \ln x dx"
    target = r"\boxed{-\frac{1}{324}}"
    assert verify(gold, target, timeout_seconds=0.01) is None
    assert verify(gold, target, timeout_seconds=30) is True


def test_it_works_in_threads_where_signals_do_not() -> None:
    golds = [rf"{number}\sqrt{{2}}" for number in range(2, 10)]
    targets = [rf"\boxed{{\sqrt{{{2 * number * number}}}}}" for number in range(2, 10)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(verify, golds, targets)) == [True] * 8


def _verified_in_child(connection: Any) -> None:
    connection.send(verify(*NEEDS_WORKER))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_works_in_a_process_of_multiprocessing(method: str) -> None:
    assert verify(*NEEDS_WORKER) is True
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=_verified_in_child, args=(theirs,), daemon=True)
    child.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() is True
    child.join(30)
    assert child.exitcode == 0
    assert verify("3\\sqrt{2}", "\\sqrt{18}") is True


def test_a_fork_while_another_thread_verifies_has_workers_of_its_own() -> None:
    is_done = threading.Event()
    answers: list[bool | None] = []

    def go_on() -> None:
        number = 3
        while not is_done.is_set():
            answers.append(verify(rf"{number}\sqrt{{3}}", rf"\sqrt{{{3 * number * number}}}"))
            number += 1

    thread = threading.Thread(target=go_on)
    thread.start()
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        ours, theirs = context.Pipe()
        child = context.Process(target=_verified_in_child, args=(theirs,))
        child.start()
        theirs.close()
        assert ours.poll(60)
        assert ours.recv() is True
        child.join(30)
    is_done.set()
    thread.join(30)
    assert set(answers) == {True}


def test_nothing_is_left_when_the_process_ends() -> None:
    script = """
        from reasondistill.grading import verify
        from reasondistill.grading.serve.verify import shared_pool
        assert verify(r"\\sqrt{8}", r"2\\sqrt{2}") is True
        assert verify(r"\\int_0^2 x dx", "2") is True
        print([mother._process.pid for mother in shared_pool()._mothers.values()
               if mother._process is not None])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    processes = json.loads(done.stdout)
    assert len(processes) == 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_importing_it_is_light() -> None:
    script = """
        import sys
        from reasondistill.grading import accuracy_reward, compute_score, verify
        assert verify("1/2", "0.5") is True
        print({"sympy", "math_verify", "torch", "trl", "mpmath", "numpy"} & set(sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "set()\n"


# ---- rewards -------------------------------------------------------------------------------------


def as_chat(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_a_reward_is_one_or_nothing_and_none_where_nobody_can_tell() -> None:
    texts = (r"\boxed{\frac{1}{3}}", r"\boxed{\frac{1}{2}}", r"\boxed{1}", "no idea")
    golds = [r"\frac{1}{3}", r"\frac{1}{3}", "", "5"]
    assert accuracy_reward(as_chat(*texts), golds) == [1.0, 0.0, None, 0.0]
    assert accuracy_reward(list(texts), golds) == [1.0, 0.0, None, 0.0]


def test_the_example_of_trl_gets_the_rewards_of_trl() -> None:
    solutions = [r"\frac{1}{3}", r"\frac{1}{3}"]
    completions = as_chat(r"My answer is \boxed{\frac{1}{3}}", r"My answer is \boxed{\frac{1}{2}}")
    theirs = accuracy_reward_of_trl(completions, solutions)
    assert accuracy_reward(completions, solutions) == theirs == [1.0, 0.0]


def test_the_last_message_of_the_model_is_its_answer() -> None:
    conversation = [
        {"role": "assistant", "content": r"I ask: \boxed{1}"},
        {"role": "tool", "content": r"\boxed{2}"},
        {"role": "assistant", "content": [{"type": "text", "text": r"So \boxed{3}"}]},
    ]
    silent = [{"role": "assistant", "content": None}]
    assert accuracy_reward([conversation, silent, []], ["3", "3", "3"]) == [1.0, 0.0, 0.0]


def test_alternatives_and_missing_golds_are_rewarded_as_they_are() -> None:
    completions = as_chat(r"\boxed{34}", r"\boxed{34}", r"\boxed{34}")
    assert accuracy_reward(completions, [["35", "34"], ["35", "36"], None]) == [1.0, 0.0, None]


def test_as_many_solutions_as_completions_are_asked_for() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        accuracy_reward(as_chat("1", "2"), ["1"])


def test_the_table_of_completions_shows_what_was_found_and_why() -> None:
    columns: dict[str, list[Any]] = {}
    accuracy_reward(as_chat(r"\boxed{34}", "x"), ["35", "35"], log_extra=columns.__setitem__)
    assert columns["solution"] == ["35", "35"]
    assert columns["extracted"][0] == "34"
    assert columns["grade"][0] == "wrong: different_value"


def test_a_reward_function_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(accuracy_reward)) is accuracy_reward
    assert pickle.loads(pickle.dumps(compute_score)) is compute_score


def test_verl_gets_its_score_and_the_value_that_was_set_for_undecided() -> None:
    assert compute_score("gsm8k", r"\boxed{34}", "34") == 1.0
    assert compute_score(
        data_source="gsm8k", solution_str="35", ground_truth="34", extra_info={"num_turns": 1}
    ) == 0.0  # fmt: skip
    assert compute_score("gsm8k", r"\boxed{34}", "") is None
    assert compute_score("gsm8k", r"\boxed{34}", "", undecided=0.25) == 0.25


def test_grpo_leaves_an_undecided_completion_out(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer of TRL itself, on a tiny model, for two steps."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    model = str(make_tiny_model(tmp_path / "model", seed=3))
    rows = Dataset.from_dict({"prompt": ["What is 1+1?", "What is 2+2?"], "solution": ["2", ""]})
    rewards: list[list[float | None]] = []

    def watched_reward(**given: Any) -> list[float | None]:
        found = accuracy_reward(**given)
        rewards.append(found)
        return found

    trainer = GRPOTrainer(
        model,
        reward_funcs=watched_reward,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(model),
        args=GRPOConfig(
            str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=4, num_generations=2,
            max_completion_length=4, use_cpu=True, report_to=[], logging_steps=1, bf16=False,
            gradient_checkpointing=False,
        ),
    )  # fmt: skip
    trainer.train()
    flat = [reward for batch in rewards for reward in batch]
    assert len(flat) == 8
    assert flat.count(None) == 4  # every completion of the row without a gold
    means = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    assert len(means) == 2
    assert all(mean == mean for mean in means)  # no NaN: what is left has a mean
