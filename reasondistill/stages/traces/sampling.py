"""Problems in, traces out: what is asked of a sampler, and what comes back as a record.

    for trace in sample_traces(problems, sampler, prompt, Sampling(temperature=0.7), n=4):
        print(trace.id, trace.completion.finish)

A sample's key is the fingerprint of model revision, prompt as the model sees it, sampling and
sample index; its seed is derived from the key. So the same samples come out in whatever order, in
however many pieces and by however many workers they are drawn. Nothing here knows a folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.samplers import (
    InputFault,
    Rendered,
    Request,
    Sampled,
    Sampler,
    context_of,
    failed,
    problem_and_sample,
    seed_of,
    without_secrets,
)
from reasondistill.records import (
    Begun,
    Problem,
    Sampling,
    Trace,
    canonical_json,
    fingerprint_of_json,
)

# The prompt of a trace that was published: its row may say it.
PUBLISHED = "published"
FindBegun = Callable[[str, str], Begun | None]


def nothing_begun(trace_id: str, key: str) -> None:
    """Every sample begins at its beginning."""


def sample_traces(
    problems: Iterable[Problem],
    sampler: Sampler,
    prompt: NamedPrompt,
    sampling: Sampling,
    *,
    n: int = 1,
    have: Container[str] = frozenset(),
    missing: Mapping[str, Sequence[int]] | None = None,
    refuse: Callable[[Trace], None] | None = None,
    find_begun: FindBegun = nothing_begun,
) -> Generator[Trace]:
    """Yield `n` traces of each problem as they finish, in any order, but for those that you `have`
    by their ids; or the `missing` samples, whose numbers are given by problem.

        prompt = load_prompt("question")
        with ReferenceSampler(problems) as sampler:
            traces = list(sample_traces(problems, sampler, prompt, Sampling(), n=2))

    What failed is a trace too, with `finish="error"`: a request that the service lost, and a
    problem that the model cannot be asked (too long for its context). The latter go to `refuse` at
    once, where you give it, else they come with the next trace that finishes. Problems are read as
    the sampler needs them. Close it to let go of what is in flight. A sample goes on from what
    `find_begun` has of it by its id and key. Not covered: sampling failed ones again.
    """
    refused: deque[Trace] = deque()
    if refuse is None:
        refuse = refused.append
    asking = _Asking(sampler, prompt, sampling, refuse, find_begun)

    def missing_of(problem: Problem) -> Sequence[int]:
        if missing is not None:
            return missing.get(problem.id, ())
        return [sample for sample in range(n) if f"{problem.id}:{sample}" not in have]

    requests = asking.requests(problems, missing_of)
    with closing(as_generator(sampler.sample(requests))) as finished:
        for sampled in finished:
            while refused:
                yield refused.popleft()
            yield asking.trace_of(sampled)
    yield from refused


def render_prompt(problem: Problem, sampler: Sampler, prompt: NamedPrompt) -> Rendered:
    """The prompt of a problem as the model sees it, however long. Raises InputFault when it cannot
    be made.
    """
    turns = prompt.prompt.render(problem.question)
    return sampler.render(turns, plain=prompt.prompt.plain)


def check_fits(rendered: Rendered, sampler: Sampler) -> None:
    """Raise InputFault when a prompt leaves no room for one token in the sampler's context."""
    context = context_of(sampler)
    if rendered.token_ids is None or context is None:
        return  # a server tokenises it, and knows its own context
    tokens = len(rendered.token_ids)
    if tokens + 1 > context:
        raise InputFault(
            "prompt_too_long",
            f"prompt longer than the context: {tokens} tokens, max_model_len {context}",
        )


class _Asking:
    """From problems to requests, and from what came of one to a trace."""

    def __init__(
        self,
        sampler: Sampler,
        prompt: NamedPrompt,
        sampling: Sampling,
        refuse: Callable[[Trace], None],
        find_begun: FindBegun,
    ) -> None:
        self._sampler, self._prompt, self._sampling = sampler, prompt, sampling
        self._refuse, self._find_begun = refuse, find_begun
        self._tag = prompt.tag

    def requests(
        self, problems: Iterable[Problem], missing_of: Callable[[Problem], Sequence[int]]
    ) -> Iterator[Request]:
        """One request for each sample that is missing. Those of a problem that the model cannot be
        asked are refused.
        """
        for problem in problems:
            missing = missing_of(problem)
            if not missing:
                continue
            fault = None
            try:
                rendered = render_prompt(problem, self._sampler, self._prompt)
                check_fits(rendered, self._sampler)
            except InputFault as error:
                fault = error
                rendered = Rendered(self._prompt.prompt.render(problem.question))
            keys = sample_keys(self._sampler.model, rendered, self._sampling, missing)
            for sample, key in zip(missing, keys, strict=True):
                name = f"{problem.id}:{sample}"
                begun = self._find_begun(name, key)
                request = Request(name, key, rendered, self._sampling, seed_of(key), begun=begun)
                if fault is None:
                    yield request
                else:
                    completion = failed(str(fault), fault="input")
                    self._refuse(self.trace_of(Sampled(request, completion)))

    def trace_of(self, sampled: Sampled) -> Trace:
        """What came of a request, as a record."""
        request = sampled.request
        problem_id, sample = problem_and_sample(request.id)
        trace = Trace(
            id=request.id,
            problem_id=problem_id,
            sample=sample,
            model=self._sampler.model,
            prompt=self._tag,
            sampling=request.sampling,
            key=request.key,
            seed=request.seed,
            completion=without_secrets(sampled.completion),
        )
        if sampled.published is None:
            return trace
        unknown = {"prompt": PUBLISHED, "sampling": None, "seed": None}
        published = sampled.published.without_secrets()
        return trace.model_copy(update={**unknown, "published": published})


def sample_key(model: str, rendered: Rendered, sampling: Sampling, sample: int) -> str:
    """The sample's identity: equal keys mean the same draw."""
    return next(sample_keys(model, rendered, sampling, [sample]))


def sample_keys(
    model: str, rendered: Rendered, sampling: Sampling, samples: Iterable[int]
) -> Iterator[str]:
    """The identities of these samples of one prompt."""
    if rendered.token_ids is not None:
        prompt = list(rendered.token_ids)
    else:
        prompt = [message.as_turn() for message in rendered.messages]
    # The fingerprint of all four, written out: of many samples only the number differs.
    before = canonical_json({"model": model, "prompt": prompt}).removesuffix("}")
    behind = canonical_json({"sampling": sampling.model_dump(mode="json")}).removeprefix("{")
    for sample in samples:
        yield fingerprint_of_json(f'{before},"sample":{sample},{behind}')


def as_generator(finished: Iterable[Sampled]) -> Generator[Sampled]:
    """Any iterable as a generator: closing it closes what it goes through."""
    yield from finished
