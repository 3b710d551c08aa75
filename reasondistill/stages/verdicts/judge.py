"""Ask a judge about the answers that the rules left undecided; what it replies is kept, so that
nothing is asked twice.

    judge = Judge.of(settings, cluster, open_sampler)
    figures = judge_undecided(judge, run / "1-problems" / layout.PROBLEMS, run / "3-verdicts")

The judge sees the question, the gold answer and the extracted answer, never the solution around it:
less to be talked into. It is believed only when its last line is, by the letter, `VERDICT: EQUAL`
or `VERDICT: DIFFERENT`; else the answer stays undecided. Its verdicts carry `how="judge"`, and its
name as their reason. Not covered: a judge that is wrong. Look at `judge.jsonl` beside the verdicts.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasondistill.config import Cluster, JudgeSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.grading import ENGINE_ERROR, INPUT_FAULT, LONGEST_SHOWN
from reasondistill.models.prompts import NamedPrompt, load_prompt
from reasondistill.models.samplers import (
    InputFault,
    Request,
    Sampled,
    Sampler,
    context_of,
    make_ready,
    seed_of,
)
from reasondistill.models.samplers.opening import OpenSampler, identity_of
from reasondistill.records import (
    Completion,
    JudgeReply,
    Message,
    Outcome,
    Problem,
    Verdict,
    fingerprint,
)
from reasondistill.runs import layout
from reasondistill.runs.figures import VerdictsFigures
from reasondistill.runs.limits import allowed_losses
from reasondistill.runs.missing import cause_of, causes_text
from reasondistill.runs.store import Shard, StopSignal, read_records, repair_tail, write_records

REPLIES = layout.JUDGE_REPLIES
_TELL_SECONDS = 10.0
# The engine failed, or the gold answer says nothing: there is nothing to compare.
_NOT_ASKED = (ENGINE_ERROR, INPUT_FAULT, "gold_empty", "gold_says_nothing", "no_majority")
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
    cluster: Cluster
    open_sampler: OpenSampler

    @classmethod
    def of(cls, judge: JudgeSettings, cluster: Cluster, open_sampler: OpenSampler) -> Judge:
        """Raises ConfigError when there is no such prompt or model folder."""
        how = {
            "model": identity_of(judge),
            "sampling": judge.resolve().model_dump(mode="json"),
            "template_options": judge.template_options,
            **judge.shaping(),
        }
        return cls(judge, load_judge_prompt(judge.prompt), how, cluster, open_sampler)

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


# ---- the stage's part ----------------------------------------------------------------------------


def judge_undecided(
    judge: Judge,
    problems: Path,
    folder: Path,
    stop: StopSignal | None = None,
    *,
    failures_allowed: float = 0.01,
) -> VerdictsFigures:
    """Put the judge's verdicts in the place of the undecided ones in `verdicts.jsonl`; return how
    many there are of each outcome.

    A request that failed leaves its answer undecided; the figure `judge_failed` counts them. Raises
    Interrupted, and StageError with the causes when the service lost a larger share of the answers
    than `failures_allowed`.
    """
    still_open = open_questions(judge, problems, folder)
    questions = {question.trace_id: question for question in still_open}
    wanted: dict[str, Question] = {}
    for question in questions.values():
        wanted.setdefault(question.key, question)
    rulings = _known_rulings(folder / REPLIES, wanted)
    missing = [question for key, question in wanted.items() if key not in rulings]
    if missing:
        asked_ids = {question.trace_id.rpartition(":")[0] for question in missing}
        stored = read_records(problems, Problem)
        asked_problems = [problem for problem in stored if problem.id in asked_ids]
        lost = write_replies(judge, missing, asked_problems, folder, stop)
        rulings = _known_rulings(folder / REPLIES, wanted)
        if lost.total() > allowed_losses(failures_allowed, len(wanted)):
            raise StageError(
                f"{folder}: the judge {judge.how['model']} lost {lost.total()} of "
                f"{len(wanted)} answers, failures_allowed = "
                f"{failures_allowed:g}: {causes_text(lost)}. Its other replies are kept; "
                "the same command asks for the rest."
            )
    if stop is not None:
        stop.check()
    ruled = {
        trace_id: rulings[question.key]
        for trace_id, question in questions.items()
        if question.key in rulings
    }
    if ruled:
        verdicts = read_records(folder / layout.VERDICTS, Verdict)
        mended = (with_reply(verdict, ruled.get(verdict.trace_id)) for verdict in verdicts)
        write_records(folder / layout.VERDICTS, mended)
    return judge_figures(folder, failed=len(questions) - len(ruled))


def is_open(verdict: Verdict) -> bool:
    """The rules came to no decision, and there are two whole answers to compare."""
    grade = verdict.grade
    if verdict.how != "rule" or grade.outcome != "undecided" or grade.reason in _NOT_ASKED:
        return False
    return grade.extracted is not None and len(grade.extracted) <= LONGEST_SHOWN


def open_questions(judge: Judge, problems: Path, folder: Path) -> Iterator[Question]:
    """What the judge is to be asked about the verdicts of the folder, in their order."""
    stored = read_records(folder / layout.VERDICTS, Verdict)
    verdicts = [verdict for verdict in stored if is_open(verdict)]
    if not verdicts:
        return
    wanted = {verdict.problem_id for verdict in verdicts}
    known: dict[str, Problem] = {}
    for problem in read_records(problems, Problem):
        if problem.id in wanted:
            known[problem.id] = problem
    for verdict in verdicts:
        yield question_of(judge, verdict, known[verdict.problem_id])


def question_of(judge: Judge, verdict: Verdict, problem: Problem) -> Question:
    """What the judge is asked about the answer of an undecided verdict."""
    prompt = judge.prompt.prompt
    answer = verdict.grade.extracted or ""
    turns = prompt.render(problem.question, gold=problem.answer, answer=answer)
    shown = [turn.model_dump() for turn in turns]
    key = fingerprint({**judge.how, "plain": prompt.plain, "turns": shown})
    return Question(verdict.trace_id, key, turns)


def _known_rulings(path: Path, wanted: Mapping[str, Question]) -> dict[str, JudgeReply]:
    repair_tail(path)
    if not path.exists():
        return {}
    replies = read_records(path, JudgeReply)
    return {reply.key: reply for reply in replies if reply.key in wanted}


def judge_figures(folder: Path, *, failed: int) -> VerdictsFigures:
    """How many answers of the folder the judge decided, by outcome; `failed` where any did."""
    verdicts = read_records(folder / layout.VERDICTS, Verdict)
    judged = Counter(verdict.grade.outcome for verdict in verdicts if verdict.how == "judge")
    figures = VerdictsFigures(
        judged=judged.total(), judged_correct=judged["correct"], judged_wrong=judged["wrong"]
    )
    if failed:
        figures = figures.joined(VerdictsFigures(judge_failed=failed))
    return figures


# ---- asking --------------------------------------------------------------------------------------


def write_replies(
    judge: Judge,
    questions: Sequence[Question],
    problems: Sequence[Problem],
    folder: Path,
    stop: StopSignal | None,
) -> Counter[str]:
    """Ask each question once and put the replies on disk as they come; failed ones are left out.
    Returns early when asked to stop.

    Returns what the service lost, by cause.
    """
    lost: Counter[str] = Counter()
    log.info("judge %s: %d undecided answers to ask about", judge.how["model"], len(questions))
    with (
        judge.open_sampler(judge.judge, judge.cluster, problems) as sampler,
        Shard(folder / REPLIES) as shard,
    ):
        requests = list(_requests(judge, sampler, questions))
        if requests:
            make_ready(sampler, lambda: stop is not None and stop.requested)
        outcomes: Counter[str] = Counter()
        last_report = time.monotonic()
        for sampled in sampler.sample(requests):
            request, completion = sampled.request, sampled.completion
            if completion.finish == "error":
                log.warning("judge %s, %s: %s", sampler.model, request.id, completion.error)
                outcomes["failed"] += 1
                if completion.is_lost:
                    lost[cause_of(completion)] += 1
            else:
                reply = JudgeReply(
                    key=request.key,
                    judge=sampler.model,
                    trace_id=request.id,
                    completion=completion,
                )
                shard.append([reply])
                outcomes[read_verdict(completion)] += 1
            is_last = outcomes.total() == len(requests)
            if time.monotonic() - last_report > _TELL_SECONDS or is_last:
                last_report = time.monotonic()
                counts = ", ".join(f"{n} {name}" for name, n in outcomes.items())
                log.info("judge: %d/%d · %s", outcomes.total(), len(requests), counts)
            if stop is not None and stop.requested:
                break
    return lost


def ask_judge(judge: Judge, sampler: Sampler, questions: Iterable[Question]) -> Iterator[Sampled]:
    """Yield what the judge's model replies to each question that fits into its context, as it
    comes.
    """
    return sampler.sample(list(_requests(judge, sampler, questions)))


def _requests(judge: Judge, sampler: Sampler, questions: Iterable[Question]) -> Iterator[Request]:
    """One request each; a question that leaves no room for a reply is not asked."""
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
