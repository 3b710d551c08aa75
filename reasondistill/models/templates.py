"""Chat templates: options that are always on, and the proof that a prompt comes through one whole.

    tokenizer.chat_template = with_options(tokenizer.chat_template, {"enable_thinking": True})
    check_prompt(tokenizer, load_prompt("think").prompt, "teacher Qwen/Qwen3-8B", options={})

Tokenizers are transformers'; nothing of them is imported here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from reasondistill.errors import ConfigError
from reasondistill.foreign_files import read_text
from reasondistill.models.prompts import Prompt
from reasondistill.models.rendering import render
from reasondistill.models.tokenising import InputFault, TokenisedPrompt, tokenise_prompt

# ChatML with think tags left alone: the assistant's turn is rendered exactly as it was written.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Template = TypeVar("Template", str, dict[str, str])

log = logging.getLogger(__name__)

# A question that no prompt holds, and no template has a rule for.
QUESTION = "Of 4711 marbles 1234 are blue. How many are not?"


def with_options(template: Template, options: Mapping[str, Any]) -> Template:
    """A chat template with options that hold wherever it is rendered and the caller says nothing of
    them: in training, in evals, and by whoever serves the model.

    Tokenizers with several templates have a dict of them.
    """
    if isinstance(template, dict):
        return {name: with_options(one, options) for name, one in template.items()}
    lines: list[str] = []
    for name, value in options.items():
        literal = json.dumps(value, ensure_ascii=False)
        lines.append(f"{{% if {name} is not defined %}}{{% set {name} = {literal} %}}{{% endif %}}")
    if not lines:
        return template
    # A block swallows a line break behind it, this does not.
    return "".join(lines) + "{{ '' }}" + template


def set_template_and_end(
    tokenizer: Any,
    where: str,
    *,
    chat_template: str | None,
    options: Mapping[str, Any],
    eos_token: str | None,
) -> None:
    """Give a tokenizer the chat template of a file (without one its own, else ChatML), with these
    options, and this end of a text. `where` is whose it is, for messages. Raises ConfigError.
    """
    if chat_template is not None:
        file = Path(chat_template)
        if not file.is_file():
            raise ConfigError(f"{where} chat_template = {chat_template!r}: no such file.")
        tokenizer.chat_template = read_text(file)
    elif tokenizer.chat_template is None:
        log.info("%s: the tokenizer has no chat template; using ChatML", where)
        tokenizer.chat_template = CHATML
    if options:
        tokenizer.chat_template = with_options(tokenizer.chat_template, options)
    if eos_token is not None:
        if eos_token not in tokenizer.get_vocab():
            raise ConfigError(
                f"{where} eos_token = {eos_token!r}: not one token of this tokenizer."
            )
        tokenizer.eos_token = eos_token
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{where}: the tokenizer has no EOS token; set eos_token.")


def check_prompt(
    tokenizer: Any, prompt: Prompt, whose: str, *, options: Mapping[str, Any]
) -> TokenisedPrompt:
    """A question as this tokenizer is given it. Raises ConfigError unless the question and the
    system text stand in it, once each.
    """
    turns = prompt.render(QUESTION)
    try:
        made = tokenise_prompt(tokenizer, turns, plain=prompt.plain, options=options)
    except InputFault as fault:
        raise ConfigError(f"{whose}: {fault}") from fault
    wanted = {"the question": QUESTION}
    if prompt.system is not None and prompt.system.strip():
        wanted["the system text of the prompt"] = prompt.system.strip()
    for what, text in wanted.items():
        times = made.text.count(text)
        # A short system text may be words of the question's frame too.
        expected = sum(turn.content.count(text) for turn in turns)
        if times != expected:
            raise ConfigError(
                f"{whose}: its chat template shows {what} {times} times, where the turns hold it "
                f"{expected} times. Give the prompt merge_system = true or plain = true, or take "
                "another template."
            )
    return made


def check_worked_examples(
    tokenizer: Any, prompt: Prompt, whose: str, *, options: Mapping[str, Any]
) -> None:
    """Raise ConfigError unless the worked examples of a prompt come whole through the chat
    template: some take the reasoning out of earlier turns.
    """
    if prompt.plain or not prompt.few_shot:
        return
    try:
        made = tokenise_prompt(tokenizer, prompt.render(QUESTION), plain=False, options=options)
    except InputFault:
        return  # `check_prompt` says so
    for shot in prompt.few_shot:
        if shot.answer.strip() not in made.text:
            raise ConfigError(
                f"{whose}: its chat template leaves out a part of a worked example (reasoning of "
                f"earlier turns, perhaps), which begins {shot.answer.strip()[:40]!r}. Give the "
                "prompt plain = true, or worked examples without that part."
            )


_ANSWER = "4711 - 1234 = 3477"


def end_of_turn(tokenizer: Any, options: Mapping[str, Any]) -> str | None:
    """The token with which the chat template ends a turn of the assistant; None where it writes
    none of the tokenizer's, or refuses such a turn.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return None
    turns = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": _ANSWER},
    ]
    told = {**options, "add_generation_prompt": False}
    try:
        text = render(tokenizer, turns, told)
    except (TemplateError, ValueError, TypeError):  # the last one where it renders by itself
        return None
    _, answer, behind = text.rpartition(_ANSWER)
    if not answer:
        return None
    behind = behind.lstrip()
    special = {str(token) for token in tokenizer.all_special_tokens}
    known = special | set(tokenizer.get_added_vocab())
    ends = [token for token in known if token and behind.startswith(token)]
    return max(ends, key=len, default=None)
