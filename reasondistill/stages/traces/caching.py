"""What a folder keeps around a sampler: each prompt is made once, and the most likely tokens of a
completion wait here until its trace is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.samplers import (
    InputFault,
    Rendered,
    Request,
    Sampled,
    Sampler,
    SamplerBase,
    context_of,
)
from reasondistill.models.topk import TopK
from reasondistill.records import Message, Problem
from reasondistill.stages.traces.sampling import as_generator, check_fits, render_prompt

# Prompts that are kept between being looked at and being asked: 200 tokens take 8 kB, so 80 MB.
# Of a larger set the others are made again.
MOST_KEPT = 10_000
# Prompts that a sampler makes at once.
_AT_ONCE = 128


class CachingSampler(SamplerBase):
    """Another sampler, asked for the `logprobs` most likely tokens at each token.

    Tokenising a prompt is work: one that `unaskable` has looked at is kept until it is asked, the
    first MOST_KEPT of them. `top_k` holds what came with a sample, by its id, until it is taken.
    """

    def __init__(self, sampler: Sampler, *, logprobs: int = 0) -> None:
        super().__init__(max_model_len=context_of(sampler))
        self.model = sampler.model
        self.top_k: dict[str, TopK] = {}
        self._sampler = sampler
        self._logprobs = logprobs
        self._kept: dict[tuple[Message, ...], Rendered | InputFault] = {}

    def unaskable(self, problems: Iterable[Problem], prompt: NamedPrompt) -> dict[str, InputFault]:
        """Which of these problems the model cannot be asked, and why, before any of them is."""
        faults: dict[str, InputFault] = {}
        rest = iter(problems)
        several = list(islice(rest, _AT_ONCE))
        while several:
            faults |= self._unaskable_of(several, prompt)
            several = list(islice(rest, _AT_ONCE))
        return faults

    def _unaskable_of(
        self, problems: Sequence[Problem], prompt: NamedPrompt
    ) -> dict[str, InputFault]:
        asked = [prompt.prompt.render(problem.question) for problem in problems]
        if isinstance(self._sampler, SamplerBase):
            self._sampler.prepare(asked, plain=prompt.prompt.plain)
        faults: dict[str, InputFault] = {}
        for problem, turns in zip(problems, asked, strict=True):
            try:
                rendered = render_prompt(problem, self._sampler, prompt)
                check_fits(rendered, self._sampler)
            except InputFault as fault:
                self._kept[turns] = fault
                faults[problem.id] = fault
                continue
            if len(self._kept) < MOST_KEPT:
                self._kept[turns] = rendered
        return faults

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        rendered = self._kept.pop(messages, None)
        if isinstance(rendered, InputFault):
            raise rendered
        return rendered or self._sampler.render(messages, plain=plain)

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        # Known for sure once it has started.
        self.max_model_len = context_of(self._sampler)
        if self._logprobs:
            requests = (replace(request, logprobs=self._logprobs) for request in requests)
        with closing(as_generator(self._sampler.sample(requests))) as finished:
            for sampled in finished:
                if sampled.top_k is not None:
                    self.top_k[sampled.request.id] = sampled.top_k
                yield sampled
