"""How long one answer takes, and its first token, when nothing else is asked: greedy, one problem
at a time, on the engine that has just drawn the samples.

The first token is that of the same question with a number before it: its prompt itself the engine
may still have in its cache.

6-evals/<benchmark>/<model>/latency.json stands beside the samples and changes none of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.samplers import InputFault, Rendered, Request, Sampler
from reasondistill.records import Completion, Problem, Sampling, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.figures import read_latency
from reasondistill.runs.store import write_guarded

MAX_TOKENS = 128
log = logging.getLogger(__name__)


def is_measured(folder: Path, problems: int) -> bool:
    """True when the folder has the latency over so many problems."""
    path = folder / layout.LATENCY
    return path.exists() and read_latency(path)["asked"] == problems


def measure_latency(
    sampler: Sampler, problems: Iterable[Problem], prompt: NamedPrompt, folder: Path, count: int
) -> None:
    """Write the mean milliseconds per token and seconds per answer over the first `count` answers,
    and seconds to the first token where one came each time; nothing when asked to stop.

    The first answer is given twice and counts once: what an engine prepares at its first request is
    no answering. A problem whose input is refused is passed over; nothing is written when the
    service fails or refuses every one.
    """
    seconds, tokens, answered = 0.0, 0, 0
    first_tokens: list[float] = []
    for request, numbered in latency_requests(sampler, problems, prompt):
        if not answered:
            _timed(sampler, request)
        answer, took = _timed(sampler, request)
        if answer is None or answer.is_lost:
            log.warning(
                "%s: no latency, %s", folder.name, "stopped" if answer is None else answer.error
            )
            return
        if not answer.is_refused:
            seconds, tokens, answered = seconds + took, tokens + answer.tokens, answered + 1
            first, waited = _timed(sampler, numbered)
            if first is not None and first.tokens and first.finish != "error":
                first_tokens.append(waited)
        if answered == count:
            break
    if not answered:
        log.warning("%s: no latency, every problem was refused", folder.name)
        return
    figures = {
        "asked": count,
        "problems": answered,
        "max_tokens": MAX_TOKENS,
        "model": sampler.model,
        "tokens": tokens,
    }
    figures |= {
        "ms_per_token": 1000 * seconds / max(1, tokens),
        "seconds_per_answer": seconds / answered,
    }
    if len(first_tokens) == answered:
        figures["seconds_to_first_token"] = sum(first_tokens) / answered
    write_guarded(folder / layout.LATENCY, figures)
    log.info("%s alone: %.2f ms per token", folder.name, figures["ms_per_token"])


def _timed(sampler: Sampler, request: Request) -> tuple[Completion | None, float]:
    """The answer and the seconds that it took; None when somebody asked to stop."""
    started = time.perf_counter()
    answers = [sampled.completion for sampled in sampler.sample([request])]
    seconds = time.perf_counter() - started
    if not answers:
        return None, seconds
    return answers[0], seconds


def latency_requests(
    sampler: Sampler, problems: Iterable[Problem], prompt: NamedPrompt
) -> Iterator[tuple[Request, Request]]:
    """Of each problem the request for an answer, and that for one token behind a prompt which the
    engine has not seen; a problem that the model cannot be asked is passed over.
    """
    sampling = Sampling(temperature=0, max_tokens=MAX_TOKENS)
    one_token = Sampling(temperature=0, max_tokens=1)
    for number, problem in enumerate(problems, start=1):
        try:
            whole = _rendered(sampler, prompt, problem.question)
            numbered = _rendered(sampler, prompt, f"{number}) {problem.question}")
        except InputFault:
            continue
        name = f"{problem.id}:0"
        identity = fingerprint(["latency", problem.id])
        first = fingerprint(["first token", problem.id])
        yield (
            Request(name, identity, whole, sampling, seed=0),
            Request(name, first, numbered, one_token, seed=0),
        )


def _rendered(sampler: Sampler, prompt: NamedPrompt, question: str) -> Rendered:
    return sampler.render(prompt.prompt.render(question), plain=prompt.prompt.plain)
