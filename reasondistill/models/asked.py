"""A model that writes traces or is measured, as it will be asked, and what is looked at before it
is: its template, where its turns end, its context, its prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from reasondistill.checks import Advice, Fault, check, setting, text_setting
from reasondistill.config import ModelSettings
from reasondistill.errors import ConfigError
from reasondistill.models.adapters import config_source, tokenizer_source
from reasondistill.models.at_hand import (
    config_of,
    generation_ends,
    is_at_hand,
    is_out_of_reach,
    loaded_tokenizer,
    tokenizer_of,
)
from reasondistill.models.context import context_of
from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.templates import (
    QUESTION,
    check_prompt,
    check_worked_examples,
    end_of_turn,
)
from reasondistill.models.thinking_tokens import thinking_tokens
from reasondistill.models.tokenising import InputFault, tokenise_prompt


@dataclass(frozen=True)
class AskedModel:
    """A model whose weights this machine can read. `whose` says where it stands in the file, `key`
    by which key; `max_tokens` is how long the file lets an answer be (None: it does not say), and
    `max_model_len` what of its context is used here. `made_for` is the prompt that it was trained
    with, where that is known; `stop` are texts that end an answer; `thinking_is_bounded` says that
    its reasoning has a budget.
    """

    whose: str
    key: str
    model: ModelSettings
    prompt: NamedPrompt
    max_tokens: int | None = None
    max_model_len: int | None = None
    made_for: str | None = None
    stop: tuple[str, ...] = ()
    thinking_is_bounded: bool = False

    @cached_property
    def is_here(self) -> bool:
        """Whether anything can be said of it."""
        source = tokenizer_source(self.model)
        return is_at_hand(source.model, source.revision)

    @cached_property
    def is_out_of_reach(self) -> bool:
        """Whether the hub would have to answer for it, and does not."""
        source = tokenizer_source(self.model)
        return is_out_of_reach(source.model, source.revision)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, or None."""
        if not self.is_here:
            return None
        source = tokenizer_source(self.model)
        return loaded_tokenizer(source.model, partial(tokenizer_of, source))

    @cached_property
    def context(self) -> int | None:
        """How many tokens it reads here, as far as that is known."""
        config = None
        if self.is_here:
            own_code = self.model.trust_remote_code
            source = config_source(self.model)
            config = config_of(source.model, source.revision, trust_remote_code=own_code)
        limits = [self.max_model_len]
        if config is not None:
            limits.append(context_of(config))
        return min((limit for limit in limits if limit is not None), default=None)


@check(
    AskedModel,
    "question-in-template",
    cost="tokens",
    remedy="reasondistill copy think",
)
def question_comes_through(asked: AskedModel) -> None:
    """A question, and the system text, stand once each in what the chat template makes of them."""
    prompt = asked.prompt.prompt
    if prompt.plain or asked.tokenizer is None:
        return
    options = asked.model.template_options
    check_prompt(asked.tokenizer, prompt, asked.whose, options=options)


@check(
    AskedModel,
    "worked-examples",
    cost="tokens",
    remedy="reasondistill copy gsm8k_few_shot",
)
def worked_examples_come_through(asked: AskedModel) -> None:
    """The worked examples of a prompt come whole through the chat template."""
    if asked.tokenizer is not None:
        options = asked.model.template_options
        check_worked_examples(asked.tokenizer, asked.prompt.prompt, asked.whose, options=options)


@check(
    AskedModel,
    "turn-end",
    cost="tokens",
    remedy="hf download MODEL generation_config.json tokenizer_config.json",
)
def turns_end_where_sampling_does(asked: AskedModel) -> Iterator[Fault]:
    """The token that ends a turn in a model's template ends its samples too, or is among the texts
    that do. Of a teacher a run stops without it: every trace would be drawn to its last token.
    """
    tokenizer = asked.tokenizer
    if tokenizer is None or asked.prompt.prompt.plain:
        return
    end = end_of_turn(tokenizer, asked.model.template_options)
    if end is None:
        return
    if end in asked.stop:
        return
    source = config_source(asked.model)
    ends = {*generation_ends(source.model, source.revision), tokenizer.eos_token_id}
    if tokenizer.convert_tokens_to_ids(end) in ends:
        return
    ends.discard(None)
    known = ", ".join(repr(_token_of(tokenizer, one)) for one in sorted(ends))
    fault = ConfigError(
        f"{asked.whose}: its chat template ends a turn with {end!r}, and its texts end at "
        f"{known or 'nothing'}: they would go on to max_tokens. Its generation_config.json or "
        "tokenizer_config.json names another end than its template."
    )
    if asked.key.startswith("traces."):
        yield Fault(fault, setting("traces.stop", json.dumps([end], ensure_ascii=False)))
    else:
        yield Fault(fault, stops=False)


def _token_of(tokenizer: Any, number: int) -> str:
    """The token of an id, which a configuration has from anywhere."""
    if number >= len(tokenizer):
        return f"id {number}"
    return tokenizer.decode([number])


@check(
    AskedModel,
    "context",
    cost="tokens",
    remedy="reasondistill run FILE --set traces.max_tokens=1024",
)
def answers_fit_the_context(asked: AskedModel) -> Iterator[Fault]:
    """A prompt and an answer as long as the file allows fit into what a model reads."""
    context = asked.context
    if context is None or asked.tokenizer is None:
        return
    prompt = asked.prompt.prompt
    options = asked.model.template_options
    try:
        made = tokenise_prompt(
            asked.tokenizer, prompt.render(QUESTION), plain=prompt.plain, options=options
        )
    except (InputFault, ConfigError):
        return  # another check says so
    used = len(made.ids)
    if used >= context:
        yield Fault(
            ConfigError(
                f"{asked.whose}: a short question in prompt {asked.prompt.name!r} has {used:,} "
                f"tokens, and the model reads {context:,}."
            ),
            setting(f"{asked.key.partition('.')[0]}.prompt", "question"),
        )
    elif asked.max_tokens is not None and used + asked.max_tokens > context:
        stage = asked.key.partition(".")[0]
        room = context - used
        yield Fault(
            ConfigError(
                f"{asked.whose}: max_tokens = {asked.max_tokens:,}, and behind a short question "
                f"the model has room for {room:,} (its context here is {context:,}): longer "
                "answers are cut off."
            ),
            setting(f"{stage}.max_tokens", str(room)),
            stops=False,
        )


@check(
    AskedModel,
    "thinking-budget",
    cost="tokens",
    remedy="reasondistill run FILE --set traces.thinking_budget=none",
)
def thinking_can_be_ended(asked: AskedModel) -> None:
    """Where reasoning has a budget, each of its tags is one token of the model's tokenizer."""
    if asked.thinking_is_bounded and asked.tokenizer is not None:
        thinking_tokens(asked.tokenizer, asked.model.reasoning, asked.whose)


@check(
    AskedModel,
    "other-prompt",
    cost="files",
    remedy="reasondistill run FILE --set evals.prompt=none",
)
def is_asked_as_it_was_trained(asked: AskedModel) -> Iterator[Fault | Advice]:
    """A model is measured with the prompt that it was trained with."""
    if asked.made_for is None or asked.made_for == asked.prompt.name:
        return
    fault = ConfigError(
        f"{asked.whose}: was trained with the prompt {asked.made_for!r} and is measured with "
        f"{asked.prompt.name!r}: what it lost is the prompt's doing. Measure it with its own, and "
        f"name the other in [evals] prompts, which compares both."
    )
    yield Fault(fault, text_setting("evals.prompt", asked.made_for), stops=False)
