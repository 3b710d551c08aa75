"""Load a prompt file and render it into chat turns; its identity is name@hash.

A prompt is a TOML file: `about`, optional `system`, `user` with `{question}` in it, `few_shot`
turns, and `plain = true` for base models without a chat template. `merge_system = true` puts the
system text before the first question, for templates without a system turn. A judge's prompt also
has `{gold}` and `{answer}` in it. The assistant's turn after a prompt is rendered here too, in one
place for sampling and training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from reasondistill.config import resources
from reasondistill.models.tokenising import Piece
from reasondistill.records import Completion, Message, fingerprint
from reasondistill.sections import Section, load_section
from reasondistill.thinking import ends_in_tag


class Shot(Section):
    """One worked example shown before the question."""

    question: str
    """The question of the example."""
    answer: str
    """The answer that is shown for it."""


class Prompt(Section):
    """A prompt file's content."""

    about: str
    """What the prompt is for, in a line; `list prompts` shows it."""
    user: str
    """The user's turn, with `{question}` in it."""
    system: str | None = None
    """The system's turn."""
    few_shot: tuple[Shot, ...] = ()
    """Worked examples that are shown before the question, a table each."""
    plain: bool = False
    """Whether the text is sent as it stands, for base models without a chat template."""
    # Named only where it is set: the tags of other prompts stay what they were.
    merge_system: bool = Field(default=False, exclude_if=lambda merges: not merges)
    """Whether the system's text is put before the first question, for templates without a
    system turn.
    """

    @field_validator("user")
    @classmethod
    def _has_question(cls, user: str) -> str:
        if "{question}" not in user:
            raise ValueError("user: the text must contain {question}")
        return user

    @model_validator(mode="after")
    def _has_something_to_merge(self) -> Prompt:
        if self.merge_system and self.system is None:
            raise ValueError("merge_system: there is no system text to merge")
        return self

    def render(self, question: str, **parts: str) -> tuple[Message, ...]:
        """The turns before the model's own; `parts` are the values of further fields of the user
        turn, `{gold}` for example.

        Other braces, in the template or in what is filled in, are left alone.
        """
        turns: list[Message] = []
        if self.system is not None and not self.merge_system:
            turns.append(Message(role="system", content=self.system))
        for shot in self.few_shot:
            shown = _fill(self.user, {"question": shot.question})
            turns.append(Message(role="user", content=shown))
            turns.append(Message(role="assistant", content=shot.answer))
        text = _fill(self.user, {"question": question, **parts})
        # A tag at the end opens a block where the prompt's author wrote it.
        quotes = ends_in_tag(text) and not ends_in_tag(self.user)
        turns.append(Message(role="user", content=text, quotes_tag=quotes))
        if self.system is not None and self.merge_system:
            first = turns[0].content
            merged = f"{self.system}\n\n{first}"
            turns[0] = turns[0].model_copy(update={"content": merged})
        return tuple(turns)


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Put every part in its place, in one pass: `{gold}` inside a question stays as it is."""
    return re.sub(
        "|".join(re.escape(f"{{{name}}}") for name in parts),
        lambda found: parts[found[0][1:-1]],
        template,
    )


class NamedPrompt(Section):
    """A prompt with its name; `tag` is its identity in records."""

    name: str
    prompt: Prompt

    @property
    def tag(self) -> str:
        """`name@hash`: the hash covers everything that reaches the model, not `about`."""
        return f"{self.name}@{fingerprint(self.prompt.model_dump(exclude={'about'}))[:8]}"


def load_prompt(name: str) -> NamedPrompt:
    """Find and read a prompt by name or path. Raises ConfigError."""
    path: Path = resources.find("prompts", name)
    return NamedPrompt(name=path.stem, prompt=load_section(path, Prompt))


# ---- the assistant's turn ------------------------------------------------------------------------


def render_assistant(completion: Completion) -> str:
    """The assistant's turn: `<think>\\n…\\n</think>\\n\\n<answer>`, or the bare answer where there
    was no think block.

    A block that was never closed stays open.
    """
    answer = completion.answer_text.strip()
    if completion.think == "none" or completion.reasoning is None:
        return answer
    reasoning = completion.reasoning.strip()
    if completion.think == "open":
        return f"<think>\n{reasoning}"
    return f"<think>\n{reasoning}\n</think>\n\n{answer}".rstrip()


def after_prompt(text: str, *, opens_think: bool) -> list[Piece]:
    """What of the assistant's turn follows the prompt: a prompt that ends inside a think block has
    written its tag already.

    The tags that `render_assistant` writes are ours: the first `<think>` and the last `</think>`
    that stands between line breaks as it writes them. All else is the model's text, whatever it
    quotes.
    """
    if not text.startswith(_OPEN):
        pieces = [Piece(text)]
        if opens_think:
            # An answer alone ends an open block at once.
            pieces.insert(0, Piece(_CLOSE + "\n\n", is_ours=True))
        return pieces
    body = text.removeprefix(_OPEN)
    pieces: list[Piece] = []
    if opens_think:
        body = body.lstrip("\n")
    else:
        pieces.append(Piece(_OPEN, is_ours=True))
    reasoning, closer, answer = _at_last_close(body)
    if not closer:
        return [*pieces, Piece(body)]
    return [*pieces, Piece(reasoning), Piece(closer, is_ours=True), Piece(answer)]


_OPEN, _CLOSE = "<think>", "\n</think>"


def _at_last_close(text: str) -> tuple[str, str, str]:
    """Reasoning, the tag that ends it (empty where none does), and the answer."""
    if text.endswith(_CLOSE):
        return text.removesuffix(_CLOSE), _CLOSE, ""
    reasoning, closer, answer = text.rpartition(_CLOSE + "\n\n")
    return reasoning, closer, answer
