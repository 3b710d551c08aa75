"""A sampler of one's own for the crash matrix: `sampler = "slow_sampler:SLOW"`.

It adds the two numbers of a question, rightly, wrongly, not at all or so that the grader cannot
decide, as the request's seed has it; and it takes its time, so that it can be met half-way. A judge
that is asked decides by the same seed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator

from reasondistill.models.samplers import (
    Rendered,
    Request,
    Sampled,
    SamplerBase,
    SamplerKind,
)
from reasondistill.models.samplers.scripted import split_words
from reasondistill.records import Message

DELAY_S = 0.004
# The grader does not try such a number: undecided.
HUGE = "9^{9^{9^{9}}}"


def text_of(request: Request) -> str:
    """What is answered: a function of the request's words and seed."""
    asked = request.rendered.messages[-1].content
    if "VERDICT: EQUAL" in asked:
        return "They agree.\nVERDICT: EQUAL"
    numbers = [int(number) for number in re.findall(r"(\d+) \+ (\d+)", asked)[-1]]
    kind = request.seed % 10
    answer = str(sum(numbers))
    if kind < 2:
        answer = str(sum(numbers) + 1)
    elif kind == 2:
        answer = HUGE
    elif kind == 3:
        return "I do not know."
    return f"<think>\n{numbers[0]} and {numbers[1]}: draft {kind}\n</think>\n\n\\boxed{{{answer}}}"


class SlowSampler(SamplerBase):
    """One answer after the other."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        return Rendered(messages)

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        for request in requests:
            if self.should_stop():
                return
            time.sleep(DELAY_S)
            yield Sampled(request, split_words(text_of(request), request, 9))


SLOW = SamplerKind(
    answers_anything=True, open=lambda model, cluster, problems: SlowSampler(model.model)
)
