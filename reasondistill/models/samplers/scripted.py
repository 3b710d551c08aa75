"""Completions from a script instead of a model: for tests and dry runs. Deterministic; tokens are
words.

ScriptedSampler({"demo/train/0": ["<think>2+2</think> \\\\boxed{4}"]})
ScriptedSampler(lambda request: f"answer {request.seed}")
ScriptedSampler.from_file(Path("script.jsonl"), problems)
ScriptedSampler(script, at_once=4)      writes four samples word by word, and can be stopped in them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from reasondistill import foreign_json
from reasondistill.config import Cluster, ModelSettings
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_json import read_whole
from reasondistill.models.samplers.base import SamplerBase, SamplerKind, named_identity
from reasondistill.models.samplers.loops import LoopWatch
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.models.samplers.requests import (
    Rendered,
    Request,
    Sampled,
    failed,
    opened_by_turns,
    problem_and_sample,
)
from reasondistill.records import Begun, Completion, Finish, Message, Problem, fingerprint
from reasondistill.thinking import ReasoningFormat, pairs_of, shape_of, split

Script = Callable[[Request], str | Completion] | Mapping[str, Sequence[str]]


@dataclass
class _InFlight:
    """A sample of which so many words are written."""

    request: Request
    completion: Completion
    words: int


class ScriptedSampler(SamplerBase):
    """Answers each request from a function, or from texts per problem id (sample i gets text i,
    cyclically).

    A text of more than `max_tokens` words is cut and finishes with `length`, one that goes round in
    circles with `repetition`; reasoning of more than `thinking_budget` words is cut out of its
    middle. A problem without a text is a failed completion.

    With `at_once` it writes so many samples beside each other, a word of each in turn, as an engine
    does. The ids of the words are their places in the script's text, which is the same however
    often the sample was continued.
    """

    def __init__(
        self,
        script: Script,
        *,
        model: str = "scripted",
        max_model_len: int | None = None,
        reasoning: ReasoningFormat = "auto",
        at_once: int = 0,
    ) -> None:
        super().__init__(max_model_len=max_model_len)
        self.model = model
        self._at_once = at_once
        self._in_flight: list[_InFlight] = []
        self._script = script
        self._reasoning: ReasoningFormat = reasoning

    @classmethod
    def from_file(
        cls, path: Path, problems: Sequence[Problem], *, reasoning: ReasoningFormat = "auto"
    ) -> ScriptedSampler:
        """Read JSONL rows {"problem_id" or "question", "text"}. Raises ConfigError (no file) or
        DataError (`path:line`).
        """
        ids = {problem.question: problem.id for problem in problems}
        texts: dict[str, list[str]] = {}
        for problem_id, text in _read_script(path, ids):
            texts.setdefault(problem_id, []).append(text)
        return cls(texts, model=script_identity(path), reasoning=reasoning)

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        return Rendered(messages, opens=opened_by_turns(messages))

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        if self._at_once:
            yield from self._word_by_word(iter(requests))
            return
        for request in requests:
            if self.should_stop():
                return
            yield Sampled(request, self._complete(request))

    def _word_by_word(self, requests: Iterator[Request]) -> Iterator[Sampled]:
        self._in_flight = []
        try:
            while not self.should_stop():
                room = self._at_once - len(self._in_flight)
                self._in_flight += map(self._begin, islice(requests, room))
                if not self._in_flight:
                    return
                for one in self._in_flight:
                    one.words += 1
                ended = [one for one in self._in_flight if one.words >= one.completion.tokens]
                for one in ended:
                    self._in_flight.remove(one)
                    yield Sampled(one.request, one.completion)
                self.keep_unfinished(now=False)
        finally:
            self.keep_unfinished(now=True)
            self._in_flight = []

    def _begin(self, request: Request) -> _InFlight:
        completion = self._complete(request)
        if request.begun is None:
            return _InFlight(request, completion, 0)
        completion = completion.model_copy(update={"continued_at": request.continued_at})
        return _InFlight(request, completion, len(request.begun.token_ids))

    def unfinished(self) -> list[Begun]:
        begun: list[Begun] = []
        for one in self._in_flight:
            text = one.completion.answer_text
            so_far = one.request.begun_so_far(range(one.words), text, 0.0)
            if so_far is not None:
                begun.append(so_far)
        return begun

    def _complete(self, request: Request) -> Completion:
        prompt_tokens = sum(len(message.content.split()) for message in request.rendered.messages)
        text = self._text(request)
        if isinstance(text, Completion):
            return text
        if text is None:
            return failed("the script has no text for this problem", prompt_tokens=prompt_tokens)
        return split_words(text, request, prompt_tokens, self._reasoning)

    def _text(self, request: Request) -> str | Completion | None:
        if callable(self._script):
            return self._script(request)
        problem_id, sample = problem_and_sample(request.id)
        texts = self._script.get(problem_id, ())
        if not texts:
            return None
        return texts[sample % len(texts)]


def split_words(
    text: str, request: Request, prompt_tokens: int, reasoning: ReasoningFormat = "auto"
) -> Completion:
    """The completion that `text` makes when every word is a token."""
    cut = _thinking_cut(text, request, reasoning)
    completion = _split_whole(cut or text, request, prompt_tokens, reasoning)
    if cut is not None and completion.think == "closed":
        return completion.model_copy(update={"thinking_is_cut": True})
    return completion


def _thinking_cut(text: str, request: Request, reasoning: ReasoningFormat) -> str | None:
    """The text with as much of its reasoning as the budget allows; None where that is all."""
    budget = request.sampling.thinking_budget
    if budget is None:
        return None
    opens = request.rendered.opens
    parts = split(text, reasoning, opens=opens)
    words = (parts.reasoning or "").split()
    if parts.think != "closed" or len(words) <= budget:
        return None
    opener, closer = pairs_of(shape_of(text, opens=opens) or "think")[0]
    if opens is not None:
        opener = ""
    return f"{opener}{' '.join(words[:budget])}{closer}{parts.answer}"


def _split_whole(
    text: str, request: Request, prompt_tokens: int, reasoning: ReasoningFormat
) -> Completion:
    words = len(text.split())
    finish: Finish = "stop"
    most = request.sampling.max_tokens
    loop = _words_to_a_loop(text, request)
    if loop is not None and loop <= most:
        words, finish = loop, "repetition"
    elif words > most:
        words, finish = most, "length"
    if finish != "stop":
        text = " ".join(text.split()[:words])
    return split_reasoning(
        text,
        shape=reasoning,
        opens=request.rendered.opens,
        finish=finish,
        prompt_tokens=prompt_tokens,
        tokens=words,
        seconds=0.0,
    )


def _words_to_a_loop(text: str, request: Request) -> int | None:
    """How many words there are when a loop is sure; None where none is, or nobody looks."""
    if request.sampling.loops is None:
        return None
    numbers: dict[str, int] = {}
    signs = [numbers.setdefault(word, len(numbers)) for word in text.split()]
    return LoopWatch.of_tokens(request.sampling.loops).feed_signs(signs)


def script_identity(path: Path) -> str:
    """`<file name>@<hash of its content>`. Raises ConfigError when there is no such file."""
    try:
        return f"{path.stem}@{fingerprint(_text_of(path, 'replace'))[:12]}"
    except OSError as error:
        raise ConfigError(f"{path}: no such script file ({error.strerror}).") from None


def _text_of(path: Path, errors: str) -> str:
    """Each end of a line as a newline: a script is the same on every system."""
    text = read_whole(path).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_script(path: Path, ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    try:
        lines = _text_of(path, "strict").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: no such script file ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}).") from None
    for number, line in enumerate(lines, start=1):
        try:
            row: dict[str, Any] = foreign_json.loads(line)
            problem_id: Any = row.get("problem_id") or ids.get(row["question"])
            text: Any = row["text"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{path}:{number}: expected {{"problem_id" or "question", "text"}}: {error!r}'
            ) from None
        if problem_id is None:
            continue
        if not isinstance(problem_id, str) or not isinstance(text, str):
            raise DataError(f"{path}:{number}: problem_id and text must be texts.")
        yield problem_id, text


def _open(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> ScriptedSampler:
    return ScriptedSampler.from_file(Path(model.model), problems, reasoning=model.reasoning)


def _identity(model: ModelSettings) -> str:
    """The script's name and content; the plain name where no such file is."""
    path = Path(model.model)
    if path.is_file():
        return script_identity(path)
    return named_identity(model)


SAMPLER = SamplerKind(
    open=_open,
    identity=_identity,
    goes_on=True,
    stops_loops=True,
    ends_thinking=True,
    reads_file=True,
    reads_problems=True,
)
