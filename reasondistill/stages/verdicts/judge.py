"""A judge: what it is asked about an answer that the rules left undecided, and how its reply is
read.

    judge = Judge.of(settings, Serving(cluster))
    question = question_of(judge, verdict, problem)

The judge sees the question, the gold answer and the extracted answer, never the solution around it:
less to be talked into. It is believed only when its last line is, by the letter, `VERDICT: EQUAL`
or `VERDICT: DIFFERENT`; else the answer stays undecided. Its verdicts carry `how="judge"`, and its
name as their reason. Not covered: a judge that is wrong. Look at `judge.jsonl` beside the verdicts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reasondistill.config import JudgeSettings
from reasondistill.errors import ConfigError
from reasondistill.grading import ENGINE_ERROR, INPUT_FAULT, LONGEST_SHOWN
from reasondistill.models.prompts import NamedPrompt, load_prompt
from reasondistill.models.samplers import InputFault, Request, Sampler, context_of, seed_of
from reasondistill.models.samplers.opening import Serving, identity_of
from reasondistill.records import (
    Completion,
    JudgeReply,
    Message,
    Outcome,
    Problem,
    Verdict,
    fingerprint,
)

# The engine failed, or the gold answer says nothing: there is nothing to compare.
_NOT_ASKED = (ENGINE_ERROR, INPUT_FAULT, "gold_empty", "gold_says_nothing", "no_majority", "tie")
_VERDICT = re.compile(r"VERDICT: (EQUAL|DIFFERENT|UNCLEAR)")
_OUTCOMES: dict[str, Outcome] = {"EQUAL": "correct", "DIFFERENT": "wrong", "UNCLEAR": "undecided"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judge:
    """A judge with its prompt and the way to reach it. `how` is what its replies are a function of,
    besides the prompt.
    """

    judge: JudgeSettings
    prompt: NamedPrompt
    how: Mapping[str, Any]
    serving: Serving

    @classmethod
    def of(cls, judge: JudgeSettings, serving: Serving) -> Judge:
        """Raises ConfigError when there is no such prompt or model folder."""
        how = {
            "model": identity_of(judge),
            "sampling": judge.resolve().model_dump(mode="json"),
            "template_options": judge.template_options,
            **judge.shaping(),
        }
        return cls(judge, load_judge_prompt(judge.prompt), how, serving)

    @property
    def identity(self) -> str:
        """`model@revision prompt@hash hash`: verdicts of another judge are made anew."""
        return f"{self.how['model']} {self.prompt.tag} {fingerprint(self.how)[:8]}"


@dataclass(frozen=True)
class Question:
    """What is asked about one answer; equal keys mean the same question."""

    trace_id: str
    key: str
    turns: tuple[Message, ...]


def load_judge_prompt(name: str) -> NamedPrompt:
    """Find and read the prompt of a judge. Raises ConfigError when it cannot be asked with it."""
    named = load_prompt(name)
    missing = [part for part in ("{gold}", "{answer}") if part not in named.prompt.user]
    if missing:
        fault = f"the user text must contain {missing[0]}"
    elif named.prompt.few_shot:
        fault = "it has few_shot turns, which show no gold answers"
    else:
        return named
    raise ConfigError(
        f"[verdicts.judge] prompt = {name!r}: {fault}. `reasondistill copy judge` gives "
        "you one to change."
    )


# ---- what is asked -------------------------------------------------------------------------------


def is_open(verdict: Verdict) -> bool:
    """The rules came to no decision, and there are two whole answers to compare."""
    grade = verdict.grade
    if verdict.how != "rule" or grade.outcome != "undecided" or grade.reason in _NOT_ASKED:
        return False
    return grade.extracted is not None and len(grade.extracted) <= LONGEST_SHOWN


def question_of(judge: Judge, verdict: Verdict, problem: Problem) -> Question:
    """What the judge is asked about the answer of an undecided verdict."""
    prompt = judge.prompt.prompt
    answer = verdict.grade.extracted or ""
    turns = prompt.render(problem.question, gold=problem.answer, answer=answer)
    shown = [turn.as_turn() for turn in turns]
    key = fingerprint({**judge.how, "plain": prompt.plain, "turns": shown})
    return Question(verdict.trace_id, key, turns)


def requests_of(judge: Judge, sampler: Sampler, questions: Iterable[Question]) -> Iterator[Request]:
    """One request for each question; one that leaves no room for a reply is not asked."""
    context = context_of(sampler)
    sampling = judge.judge.resolve()
    for question in questions:
        try:
            rendered = sampler.render(question.turns, plain=judge.prompt.prompt.plain)
        except InputFault as fault:
            log.warning(
                "judge %s, %s: cannot be asked: %s", sampler.model, question.trace_id, fault
            )
            continue
        tokens = rendered.token_ids
        if context is not None and tokens is not None and len(tokens) >= context:
            log.warning(
                "judge %s, %s: the prompt is longer than its context of %d tokens",
                sampler.model,
                question.trace_id,
                context,
            )
            continue
        yield Request(question.trace_id, question.key, rendered, sampling, seed_of(question.key))


# ---- reading -------------------------------------------------------------------------------------


def read_verdict(completion: Completion) -> Outcome:
    """`correct` or `wrong` when the reply's last line says so by the letter and no line says
    otherwise; else `undecided`.
    """
    lines = [line.strip() for line in completion.answer_text.splitlines() if line.strip()]
    matches = [_VERDICT.fullmatch(line) for line in lines]
    rulings = {match[1] for match in matches if match is not None}
    if completion.finish != "stop" or len(rulings) != 1 or matches[-1] is None:
        return "undecided"
    return _OUTCOMES[rulings.pop()]


def with_reply(verdict: Verdict, reply: JudgeReply | None) -> Verdict:
    """The verdict with what the judge replied; as it was where no reply came."""
    if reply is None:
        return verdict
    outcome = read_verdict(reply.completion)
    if outcome == "undecided":
        reason = "judge_unclear"
    else:
        reason = short_name(reply.judge)
    changes = {"outcome": outcome, "layer": "judge", "reason": reason}
    grade = verdict.grade.model_copy(update=changes)
    return verdict.model_copy(update={"grade": grade, "how": "judge"})


def short_name(model: str) -> str:
    """`Qwen/Qwen2.5-7B-Instruct@a09a35458c70…` → `Qwen2.5-7B-Instruct@a09a3545`."""
    name, at, revision = model.partition("@")
    last_part = name.rpartition("/")[2]
    return f"{last_part}{at}{revision[:8]}"
