"""A model of transformers that measures texts. Imports torch; imported late.

Of a causal model any part of a sequence can be read behind what was read before it (its cache), so
the logits of no more than `_AT_ONCE` tokens are ever in memory, and nothing has to be known of the
model's head. Each trace is measured by itself: what comes out does not depend on its neighbours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reasondistill.errors import ConfigError
from reasondistill.models.attention import attention_options
from reasondistill.models.context import context_of
from reasondistill.models.loading import loading
from reasondistill.models.prompts import after_prompt, render_assistant
from reasondistill.models.samplers.requests import TopK
from reasondistill.models.scores.job import SAMPLING_FAILED, ScoreJob, ScoringModel
from reasondistill.models.scores.steps import Pieces, step_ends
from reasondistill.models.templates import set_template_and_end
from reasondistill.models.tokenising import (
    InputFault,
    TokenisedPrompt,
    tokenise_answer,
    tokenise_prompt,
)
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.topk import FOLDER, TopKReader
from reasondistill.models.weights import (
    only_safetensors,
    require_sound_snapshot,
    verified_folder,
)
from reasondistill.records import Trace, TraceScore

log = logging.getLogger(__name__)

WHERE = "[examples.scores]"
# Tokens whose logits are computed at once: 0.3 GB in float32 at 152,000 tokens in the vocabulary.
_AT_ONCE = 512
# A probability below which a stored teacher's tail is not told apart from 0.
_LEAST = 1e-12
# Log-probabilities are stored in float16, to this part of each.
_STORED_TO = 2.0**-11
_DIGITS = 5


@dataclass(frozen=True)
class TokenScores:
    """Of some tokens in a row: log q of each, and its rank, 1 where none is likelier."""

    log_probs: torch.Tensor
    ranks: torch.Tensor


def load(scoring: ScoringModel) -> tuple[Any, Any]:
    """Model and tokenizer. Raises ConfigError for what cannot be loaded."""
    folder = verified_folder(scoring.name)
    source = str(folder or scoring.name)
    where = f"{WHERE} model = {scoring.name}"
    own_code = scoring.trust_remote_code
    with loading(f"{where}: its tokenizer", source):
        tokenizer = open_tokenizer(source, revision=scoring.revision, trust_remote_code=own_code)
    set_template_and_end(
        tokenizer,
        where,
        chat_template=scoring.chat_template,
        options=scoring.template_options,
        eos_token=scoring.eos_token,
    )
    with loading(f"{where}: its config.json", source):
        config = AutoConfig.from_pretrained(
            source, revision=scoring.revision, trust_remote_code=own_code
        )
    attention = attention_options(config, None, where)
    device, dtype = "cpu", torch.float32
    if torch.cuda.is_available():
        device = "cuda"
        if torch.cuda.is_bf16_supported():
            dtype = torch.bfloat16
    if folder is None:
        require_sound_snapshot(source, scoring.revision)
    with loading(f"{where}:", source), only_safetensors(source):
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=scoring.revision,
            config=config,
            dtype=dtype,
            trust_remote_code=own_code,
            use_safetensors=True,
            **attention,
        )
    log.info("%s scores the traces, in %s on %s", scoring.name, str(dtype)[6:], device)
    placed: Any = model
    return placed.to(device).eval(), tokenizer


@torch.no_grad()
def token_scores(model: Any, ids: Sequence[int], start: int) -> TokenScores:
    """What a model says of ids[start:], each behind all before it; `start` is at least 1."""
    whole = torch.tensor([list(ids)], device=model.device)
    last = len(ids) - 1  # the last token predicts nothing here
    log_probs: list[torch.Tensor] = []
    ranks: list[torch.Tensor] = []
    cache: Any = None
    for begin in range(0, last, _AT_ONCE):
        end = min(begin + _AT_ONCE, last)
        inputs: dict[str, Any] = {"input_ids": whole[:, begin:end], "use_cache": end < last}
        if cache is not None:
            inputs["past_key_values"] = cache
            inputs["use_cache"] = True
        outputs = model(**inputs)
        if end < last:
            cache = getattr(outputs, "past_key_values", None)
            if cache is None:
                raise ConfigError(
                    f"{WHERE} model: {type(model).__name__} keeps no cache, so texts of more than "
                    f"{_AT_ONCE} tokens cannot be read in parts. Take another model."
                )
        first = max(start - 1 - begin, 0)
        if first >= end - begin:
            continue
        logits = outputs.logits[0, first : end - begin].float()
        own = logits.gather(-1, whole[0, begin + first + 1 : end + 1, None])
        log_probs.append((own[:, 0] - logits.logsumexp(-1)).double().cpu())
        ranks.append(1 + (logits > own).sum(-1).cpu())
    return TokenScores(torch.cat(log_probs), torch.cat(ranks))


@dataclass(frozen=True)
class Stretch:
    """Some ids, of which those from `start` on are to be measured."""

    ids: list[int]
    start: int


@torch.no_grad()
def stretch_log_probs(model: Any, stretches: Sequence[Stretch], pad: int) -> list[float]:
    """Σ log q over the measured ids of each stretch, several short ones read side by side."""
    sums: list[float] = []
    for several in _side_by_side(stretches):
        if len(several) == 1:
            (one,) = several
            sums.append(float(token_scores(model, one.ids, one.start).log_probs.sum()))
            continue
        longest = max(len(one.ids) for one in several)
        rows = [one.ids + [pad] * (longest - len(one.ids)) for one in several]
        mask = [[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in several]
        ids = torch.tensor(rows, device=model.device)
        outputs = model(
            input_ids=ids, attention_mask=torch.tensor(mask, device=model.device), use_cache=False
        )
        for row, one in enumerate(several):
            logits = outputs.logits[row, one.start - 1 : len(one.ids) - 1].float()
            own = logits.gather(-1, ids[row, one.start : len(one.ids), None])[:, 0]
            sums.append(float((own - logits.logsumexp(-1)).double().sum()))
    return sums


def _side_by_side(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Neighbours of which no more than `_AT_ONCE` tokens are read at once, padding counted."""
    several: list[Stretch] = []
    longest = 0
    for one in stretches:
        longest = max(longest, len(one.ids))
        if several and longest * (len(several) + 1) > _AT_ONCE:
            yield several
            several, longest = [], len(one.ids)
        several.append(one)
    if several:
        yield several


def local_stretches(
    prompt: Sequence[int], ids: Sequence[int], ends: Sequence[int], *, window: int, prompted: bool
) -> list[Stretch]:
    """Each step of a text behind the `window` steps before it; where these reach its beginning, or
    `prompted`, behind the prompt too.
    """
    bounds = [0, *ends]
    stretches: list[Stretch] = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        first = max(0, number - window)
        before = list(ids[bounds[first] : begin])
        if first == 0 or prompted:
            before = [*prompt, *before]
        stretches.append(Stretch([*before, *ids[begin:end]], len(before)))
    return stretches


def stored_log_probs(top_k: TopK) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log p of each token that a teacher wrote, by its stored K best: (tokens,).

    Of a token outside of the K best it is a bound from above: neither the last of them nor all that
    they leave is less likely. The rounding of those that are stored counts as left.
    """
    log_probs = top_k.log_probs.astype(np.float64)
    p = np.exp(log_probs)
    rounded = _STORED_TO * (p * -log_probs).sum(-1)
    left = np.minimum(p.min(-1, initial=1.0), np.maximum(0.0, 1 - p.sum(-1)) + rounded)
    is_own = top_k.ids == top_k.token_ids[:, None]
    own = np.where(is_own, p, 0.0).sum(-1)
    return np.log(np.clip(np.where(is_own.any(-1), own, left), _LEAST, 1.0))


class Measurer:
    """Measures traces as a job asks for."""

    def __init__(self, job: ScoreJob) -> None:
        self._job = job
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        self.model, self.tokenizer = load(job.model)
        self._pieces = Pieces(self.tokenizer)
        self._added: frozenset[int] = frozenset(self.tokenizer.added_tokens_decoder)
        self._last_prompt: tuple[str, TokenisedPrompt] | None = None
        self._known = self.model.get_input_embeddings().num_embeddings
        self._context = context_of(self.model.config)
        if job.kind == "teacher":
            self._reader.check_tokenizer(self.tokenizer)

    @cached_property
    def _reader(self) -> TopKReader:
        return TopKReader(self._job.traces / FOLDER)

    def measure(self, trace: Trace, question: str) -> TraceScore:
        """What the model says of a trace; one that cannot be read has the reason."""
        completion = trace.completion
        if completion.finish == "error":
            return TraceScore(trace_id=trace.id, fault=SAMPLING_FAILED)
        try:
            prompt = self._prompt(question)
            text = render_assistant(completion)
            pieces = after_prompt(text, opens_think=prompt.opens == "think")
            ids = list(tokenise_answer(self.tokenizer, pieces))
        except InputFault as fault:
            return TraceScore(trace_id=trace.id, fault=fault.reason.replace("_", " "))
        if completion.finish not in ("length", "repetition"):
            ids.append(self.tokenizer.eos_token_id)
        if self._job.kind == "teacher":
            return self._beside_teacher(trace.id, prompt.ids, ids)
        fault = self._why_unreadable(prompt.ids, ids)
        if fault is not None:
            return TraceScore(trace_id=trace.id, fault=fault)
        if self._job.kind == "local":
            return self._local(trace.id, prompt.ids, ids)
        return self._whole(trace.id, prompt.ids, ids)

    def _prompt(self, question: str) -> TokenisedPrompt:
        if self._last_prompt is None or self._last_prompt[0] != question:
            named = self._job.prompt.prompt
            turns = named.render(question)
            made = tokenise_prompt(self.tokenizer, turns, plain=named.plain)
            self._last_prompt = (question, made)
        return self._last_prompt[1]

    def _why_unreadable(self, prompt: Sequence[int], ids: Sequence[int]) -> str | None:
        if not ids or not prompt:
            return "no tokens"
        if self._context is not None and len(prompt) + len(ids) > self._context:
            return "longer than the context"
        largest = max(*prompt, *ids)
        if largest >= self._known:
            raise ConfigError(
                f"{WHERE} model = {self._job.model.name}: its tokenizer has a token {largest}, its "
                f"weights know {self._known}. Take another model."
            )
        return None

    def _whole(self, trace_id: str, prompt: Sequence[int], ids: Sequence[int]) -> TraceScore:
        scores = token_scores(self.model, [*prompt, *ids], len(prompt))
        clipped = scores.ranks.clamp(max=self._job.settings.rank_limit)
        return TraceScore(
            trace_id=trace_id,
            tokens=len(ids),
            surprisal=self._sum(-scores.log_probs),
            ranks=int(clipped.sum()),
        )

    def _local(self, trace_id: str, prompt: Sequence[int], ids: Sequence[int]) -> TraceScore:
        settings = self._job.settings
        ends = step_ends(self._pieces.of(ids), settings.unit)
        stretches = local_stretches(
            prompt, ids, ends, window=settings.window, prompted=settings.with_question
        )
        sums = stretch_log_probs(self.model, stretches, self.tokenizer.eos_token_id)
        measured = [len(one.ids) - one.start for one in stretches]
        return TraceScore(
            trace_id=trace_id,
            tokens=len(ids),
            surprisal=self._checked(-math.fsum(sums)),
            step_tokens=tuple(measured),
            step_log_probs=tuple(self._checked(total) for total in sums),
        )

    def _beside_teacher(
        self, trace_id: str, prompt: Sequence[int], ids: Sequence[int]
    ) -> TraceScore:
        """The tokens that the teacher wrote, which another tokenisation of its text need not be."""
        if trace_id not in self._reader:
            return TraceScore(trace_id=trace_id, fault="no stored log-probabilities")
        top_k = self._reader.read(trace_id)
        written = self._with_own_end(top_k.token_ids.tolist(), ids)
        if self._text(written) != self._text(ids):
            return TraceScore(trace_id=trace_id, fault="written after another kind of prompt")
        fault = self._why_unreadable(prompt, written)
        if fault is not None:
            return TraceScore(trace_id=trace_id, fault=fault)
        log_probs = token_scores(self.model, [*prompt, *written], len(prompt)).log_probs
        teacher = stored_log_probs(top_k)
        bounds = [0, *step_ends(self._pieces.of(written), self._job.settings.unit)]
        steps = list(pairwise(bounds))
        return TraceScore(
            trace_id=trace_id,
            tokens=len(written),
            surprisal=self._sum(-log_probs),
            step_tokens=tuple(end - begin for begin, end in steps),
            step_log_probs=tuple(self._sum(log_probs[begin:end]) for begin, end in steps),
            teacher_log_probs=tuple(
                self._checked(float(teacher[begin:end].sum())) for begin, end in steps
            ),
        )

    def _with_own_end(self, written: list[int], ids: Sequence[int]) -> list[int]:
        """What the teacher wrote; where it ends a text with another token than the model, as a
        chat model's teacher and a base do, with the model's end in that place.
        """
        end = self.tokenizer.eos_token_id
        ends_otherwise = bool(written) and written[-1] != end and written[-1] in self._added
        if not ends_otherwise or ids[-1:] != [end] or self._text(written) == self._text(ids):
            return written
        return [*written[:-1], end]

    def _text(self, ids: Sequence[int]) -> str:
        """What ids say, without the end of a text behind it."""
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text.strip()

    def _sum(self, values: torch.Tensor) -> float:
        return self._checked(float(values.sum()))

    def _checked(self, value: float) -> float:
        """As many digits as float32 tells. Raises ConfigError for what is no number."""
        if not math.isfinite(value):
            raise ConfigError(
                f"{WHERE} model = {self._job.model.name}: gives a log-probability that is no "
                "finite number. Its weights may be damaged; take another model."
            )
        return round(value, _DIGITS)
