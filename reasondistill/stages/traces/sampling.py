"""Problems in, traces out: what is asked of a sampler, and what comes back as a record.

    for trace in sample_traces(problems, sampler, prompt, Sampling(temperature=0.7), n=4):
        print(trace.id, trace.completion.finish)

A sample's key is the fingerprint of model revision, prompt as the model sees it, sampling and
sample index; its seed is derived from the key. So the same samples come out in whatever order, in
however many pieces and by however many workers they are drawn. Nothing here knows a folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.samplers import (
    InputFault,
    Rendered,
    Request,
    Sampled,
    Sampler,
    SamplerBase,
    failed,
    problem_and_sample,
    seed_of,
)
from reasondistill.models.topk import TopK
from reasondistill.records import Problem, Sampling, Trace, fingerprint


def sample_traces(
    problems: Iterable[Problem],
    sampler: Sampler,
    prompt: NamedPrompt,
    sampling: Sampling,
    *,
    n: int = 1,
) -> Iterator[Trace]:
    """Yield `n` traces of each problem as they finish, in any order.

        prompt = load_prompt("question")
        with ReferenceSampler(problems) as sampler:
            traces = list(sample_traces(problems, sampler, prompt, Sampling(), n=2))

    What failed is a trace too, with `finish="error"`: a request that the service lost, and a
    problem that the model cannot be asked (too long for its context). Problems are read as the
    sampler needs them. Not covered: sampling failed ones again.
    """
    prompts = Prompts(sampler, prompt)
    wanted = (Wanted(problem, range(n)) for problem in problems)
    for drawn in draw(wanted, prompts, sampling):
        yield drawn.trace


@dataclass(frozen=True)
class Wanted:
    """The sample numbers of one problem that are to be drawn."""

    problem: Problem
    samples: Sequence[int]


@dataclass(frozen=True)
class Drawn:
    """A trace with the most likely tokens at each of its tokens, where they were asked for."""

    trace: Trace
    top_k: TopK | None


# Prompts that are kept between being looked at and being asked: 200 tokens take 8 kB, so 80 MB.
# Of a larger set the others are made again.
MOST_KEPT = 10_000


class Prompts:
    """Prompts as the model of one sampler sees them.

    Tokenising a prompt is work: one that `unaskable` has looked at is kept until it is asked, the
    first MOST_KEPT of them.
    """

    def __init__(self, sampler: Sampler, prompt: NamedPrompt) -> None:
        self.sampler = sampler
        self.prompt = prompt
        self._kept: dict[str, Rendered | InputFault] = {}

    @property
    def context(self) -> int | None:
        """The sampler's context in tokens, which it may know only once it has started."""
        if isinstance(self.sampler, SamplerBase):
            return self.sampler.max_model_len
        return None

    def render(self, problem: Problem) -> Rendered:
        """The prompt of a problem, however long. Raises InputFault when it cannot be made."""
        turns = self.prompt.prompt.render(problem.question)
        return self.sampler.render(turns, plain=self.prompt.prompt.plain)

    def take(self, problem: Problem) -> Rendered:
        """The prompt of a problem that is about to be asked. Raises InputFault when it leaves no
        room for one token, or cannot be made.
        """
        kept = self._kept.pop(problem.id, None)
        if isinstance(kept, InputFault):
            raise kept
        return kept or self._fitting(problem)

    def unaskable(self, problems: Iterable[Problem]) -> dict[str, InputFault]:
        """Which of these problems the model cannot be asked, and why, before any of them is."""
        faults: dict[str, InputFault] = {}
        for problem in problems:
            try:
                rendered = self._fitting(problem)
            except InputFault as fault:
                self._kept[problem.id] = fault
                faults[problem.id] = fault
                continue
            if len(self._kept) < MOST_KEPT:
                self._kept[problem.id] = rendered
        return faults

    def _fitting(self, problem: Problem) -> Rendered:
        rendered = self.render(problem)
        if rendered.token_ids is None or self.context is None:
            return rendered  # a server tokenises it, and knows its own context
        tokens = len(rendered.token_ids)
        if tokens + 1 > self.context:
            raise InputFault(
                "prompt_too_long",
                f"prompt longer than the context: {tokens} tokens, max_model_len {self.context}",
            )
        return rendered


def draw(
    wanted: Iterable[Wanted], prompts: Prompts, sampling: Sampling, *, logprobs: int = 0
) -> Generator[Drawn]:
    """Yield each wanted sample once, as it finishes, with the `logprobs` most likely tokens at each
    of its tokens. Close it to let go of what is in flight.
    """
    sampler = prompts.sampler
    refused: deque[Sampled] = deque()
    requests = _requests(wanted, prompts, sampling, logprobs, refused.append)
    with closing(_generator(sampler.sample(requests))) as finished:
        for sampled in finished:
            while refused:
                yield _drawn(refused.popleft(), prompts)
            yield _drawn(sampled, prompts)
    while refused:
        yield _drawn(refused.popleft(), prompts)


def _requests(
    wanted: Iterable[Wanted],
    prompts: Prompts,
    sampling: Sampling,
    logprobs: int,
    refuse: Callable[[Sampled], None],
) -> Iterator[Request]:
    """One request for each sample. Those of a problem that the model cannot be asked go to
    `refuse`.
    """
    model = prompts.sampler.model
    for one in wanted:
        fault = None
        try:
            rendered = prompts.take(one.problem)
        except InputFault as error:
            fault = error
            rendered = Rendered(prompts.prompt.prompt.render(one.problem.question))
        for sample in one.samples:
            key = sample_key(model, rendered, sampling, sample)
            name = f"{one.problem.id}:{sample}"
            request = Request(name, key, rendered, sampling, seed_of(key), logprobs)
            if fault is None:
                yield request
            else:
                refuse(Sampled(request, failed(str(fault), fault="input")))


def sample_key(model: str, rendered: Rendered, sampling: Sampling, sample: int) -> str:
    """The sample's identity: equal keys mean the same draw."""
    if rendered.token_ids is not None:
        prompt = list(rendered.token_ids)
    else:
        prompt = [message.model_dump() for message in rendered.messages]
    identity = {
        "model": model,
        "prompt": prompt,
        "sampling": sampling.model_dump(mode="json"),
        "sample": sample,
    }
    return fingerprint(identity)


def _drawn(sampled: Sampled, prompts: Prompts) -> Drawn:
    request = sampled.request
    problem_id, sample = problem_and_sample(request.id)
    trace = Trace(
        id=request.id,
        problem_id=problem_id,
        sample=sample,
        model=prompts.sampler.model,
        prompt=prompts.prompt.tag,
        sampling=request.sampling,
        key=request.key,
        seed=request.seed,
        completion=sampled.completion,
    )
    return Drawn(trace, sampled.top_k)


def _generator(finished: Iterable[Sampled]) -> Generator[Sampled]:
    """Any iterable as a generator, which can be closed."""
    yield from finished
