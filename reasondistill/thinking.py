"""Where the reasoning ends and the answer begins in what a model wrote, in every shape in which
models write it.

    split("[THINK]3+4[/THINK]7")   # reasoning "3+4", answer "7", think "closed"

| shape | written as | by | |---|---|---| | `think` | `<think>…</think>` | Qwen3, DeepSeek-R1 and
most others | | `thinking` | `<thinking>…</thinking>`, the same with `thought` or `reasoning` |
whoever is asked for it | | `mistral` | `[THINK]…[/THINK]` | Magistral | | `kimi` |
`◁think▷…◁/think▷` | Kimi | | `gemma` | `<|channel>thought\n…<channel|>` | Gemma 4 | | `harmony` |
`<|channel|>analysis<|message|>…<|channel|>final<|message|>…` | gpt-oss |

Harmony also comes without its special tokens: `analysis…assistantfinal…`. Gemma's block cannot be
told then. Sources: https://ai.google.dev/gemma/docs/core/prompt-formatting-gemma4 and
https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

ReasoningFormat = Literal[
    "auto", "none", "think", "thinking", "mistral", "harmony", "kimi", "gemma"
]
Think = Literal["closed", "open", "none"]


@dataclass(frozen=True, slots=True)
class Split:
    """What a model wrote, in two parts.

    `closed`: a block of reasoning and what follows it. `open`: a block that never ended, so no
    answer. `none`: no block.
    """

    reasoning: str | None
    answer: str
    think: Think


@dataclass(frozen=True, slots=True)
class _Tags:
    shape: ReasoningFormat
    opener: str
    closer: str


_TAGS = (
    _Tags("think", "<think>", "</think>"),
    _Tags("thinking", "<thinking>", "</thinking>"),
    _Tags("thinking", "<thought>", "</thought>"),
    _Tags("thinking", "<reasoning>", "</reasoning>"),
    _Tags("mistral", "[THINK]", "[/THINK]"),
    _Tags("kimi", "◁think▷", "◁/think▷"),
    _Tags("gemma", "<|channel>thought", "<channel|>"),
)
_ANY_TAG = re.compile(
    "|".join(re.escape(tag) for tags in _TAGS for tag in (tags.opener, tags.closer))
)
# Each tag begins with one of these, which most texts have not: a look spares the search.
_BEGINNINGS = frozenset(tag[0] for tags in _TAGS for tag in (tags.opener, tags.closer))
_ANALYSIS = "<|channel|>analysis<|message|>"
_OPENERS = (_ANALYSIS, *(tags.opener for tags in _TAGS))


def pairs_of(shape: ReasoningFormat) -> list[tuple[str, str]]:
    """Opener and closer of this shape's blocks; `auto`: of all shapes. Harmony has no such pair."""
    return [(tags.opener, tags.closer) for tags in _TAGS if shape in ("auto", tags.shape)]


def opener_at_end(prompt: str) -> str:
    """The opener of a block of reasoning with which a prompt ends, whatever spaces follow it; empty
    when there is none.
    """
    end = prompt.rstrip()
    if not end.endswith(_OPENERS):
        return ""
    return next(opener for opener in _OPENERS if end.endswith(opener))


def opened_by(prompt: str) -> ReasoningFormat | None:
    """The shape of the block that the end of a prompt opens, if it opens one."""
    opener = opener_at_end(prompt)
    if opener == _ANALYSIS:
        return "harmony"
    return next((tags.shape for tags in _TAGS if tags.opener == opener), None)


# How the prompt of a template that is told not to think ends.
_EMPTY_BLOCK = re.compile(r"<think>\s*</think>\s*\Z")


def ends_in_empty_block(prompt: str) -> bool:
    """Whether a prompt ends with a block of reasoning that is closed and empty."""
    return _EMPTY_BLOCK.search(prompt) is not None


def ends_in_tag(prompt: str) -> bool:
    """Whether a prompt ends with what opens a block of reasoning, or with an empty one."""
    return bool(opener_at_end(prompt)) or ends_in_empty_block(prompt)


def holds_tag(text: str) -> bool:
    """Whether a tag of reasoning stands in a text, in whatever shape."""
    may_hold = any(sign in text for sign in _BEGINNINGS)
    return may_hold and _ANY_TAG.search(text) is not None


# What begins and ends turns and texts in the tokenizers of well-known models.
_WELL_KNOWN = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|<(?:bos|eos|pad)>"
    r"|<(?:start|end)_of_turn>|\[/?(?:INST|SYSTEM_PROMPT)\]"
)


def well_known_token(text: str) -> str:
    """The first string in a text that is a special token to well-known models; empty without one.
    For texts whose tokenizer is elsewhere. Tags of reasoning, which prompts name, are none.
    """
    if "<" not in text and "[" not in text:
        return ""
    match = _WELL_KNOWN.search(text)
    if match is None:
        return ""
    return match[0]


def split(
    text: str,
    shape: ReasoningFormat = "auto",
    *,
    opens: ReasoningFormat | None = None,
    is_cut: bool = False,
) -> Split:
    """Split a completion at its reasoning; survives an opener that stands in the prompt, is
    missing, or is never closed.

    A block is there when the prompt opened it (`opens`), when the text begins with an opener, or
    when only a closer stands in the text (the opener was in the prompt and a server cut it off).
    The *last* closer ends it, so a model that quotes it while it thinks is not cut in half. `auto`
    finds the shape in the text; a text that merely mentions tags within its lines stays whole, but
    for `</think>`, which is always taken for an end. `none` never splits.

    Harmony without its special tokens begins with `analysis` and, directly behind it, the text, and
    has `assistantfinal` later. One that ran out of tokens before that is known under
    `shape="harmony"`; `auto` knows it where `is_cut` says that tokens ran out and a capital follows
    (`analysisWe need`), which no English text has.
    """
    whole = Split(None, text, "none")
    if shape == "none":
        return whole
    is_named = shape != "auto"
    actual = shape if is_named else shape_of(text, opens=opens, is_cut=is_cut)
    if is_cut and _is_cut_inside(text, actual):
        return Split(text, "", "open")
    if actual is None:
        return whole
    opened = opens == actual
    if actual == "harmony":
        return _split_harmony(text, opened=opened, is_named=is_named, is_cut=is_cut)
    return _split_tags(text, _tags_of(text, actual), opened=opened)


def _is_cut_inside(text: str, shape: ReasoningFormat | None) -> bool:
    """Whether a text that ran out of tokens did so in a block that begins on a line of its own,
    behind other words or blocks.
    """
    for tags in _TAGS:
        if shape not in (None, tags.shape):
            continue
        before, opener, after = text.rpartition(tags.opener)
        line_before = before.rpartition("\n")[2]
        begins_a_line = bool(opener and before.strip()) and not line_before.strip()
        if begins_a_line and tags.closer not in after:
            return True
    return False


def shape_of(
    text: str, *, opens: ReasoningFormat | None = None, is_cut: bool = False
) -> ReasoningFormat | None:
    """The shape of the reasoning in a text; None where there is none."""
    if opens is not None and _has_closer(text, opens):
        return opens
    body = text.lstrip()
    if _begins_harmony(body, is_cut=is_cut):
        return "harmony"
    for tags in _TAGS:
        if body.startswith(tags.opener):
            return tags.shape
    if opens is not None:
        return opens
    for tags in _TAGS:
        if _closes_alone(text, tags):
            return tags.shape
    if _FINAL.search(text):
        return "harmony"
    return None


def _has_closer(text: str, shape: ReasoningFormat) -> bool:
    if shape == "harmony":
        return bool(_FINAL.search(text)) or _STRIPPED_FINAL in text
    return any(tags.closer in text for tags in _TAGS if tags.shape == shape)


def _closes_alone(text: str, tags: _Tags) -> bool:
    """A closer whose opener stood in the prompt, or behind a few words on a line of its own."""
    before, closer, _ = text.rpartition(tags.closer)
    if not closer:
        return False
    if tags.shape == "think" or tags.opener not in before:
        return True
    return any(line.lstrip().startswith(tags.opener) for line in before.splitlines())


# ---- pairs of tags -------------------------------------------------------------------------------


def _tags_of(text: str, shape: ReasoningFormat) -> _Tags:
    """The pair that the text begins with, else the pair that it closes, else the shape's first."""
    pairs = [tags for tags in _TAGS if tags.shape == shape]
    body = text.lstrip()
    for tags in pairs:
        if body.startswith(tags.opener):
            return tags
    return max(pairs, key=lambda tags: text.rfind(tags.closer))


def _split_tags(text: str, tags: _Tags, *, opened: bool) -> Split:
    body = text.lstrip()
    begins = body.startswith(tags.opener)
    inner = text
    if begins:
        inner = body.removeprefix(tags.opener)
    reasoning, closer, answer = inner.rpartition(tags.closer)
    if closer:
        return Split(reasoning, answer, "closed")
    if begins or opened:
        return Split(inner, "", "open")
    return Split(None, text, "none")


# ---- harmony -------------------------------------------------------------------------------------

# <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>
_HEADER = (
    r"(?:<\|start\|>assistant[^<]*)?"
    r"<\|channel\|>{channel}[^<]*"
    r"(?:<\|constrain\|>[^<]*)?"
    r"<\|message\|>"
)
_ANY_HEADER = re.compile(_HEADER.format(channel=r"\w+"))
_FINAL = re.compile(_HEADER.format(channel="final"))
_RAW = re.compile(r"(?:<\|start\|>assistant[^<]*)?<\|channel\|>")
# A message ends with <|end|>, the last one with <|return|>, one that calls a tool with <|call|>.
_MESSAGE_END = re.compile(r"<\|(?:return|call)\|>|<\|end\|>(?=\s*(?:\Z|<\|start\|>))")
_STRIPPED = re.compile(r"analysis(?=\S)")
_STRIPPED_CUT = re.compile(r"analysis(?=[A-Z])")
_STRIPPED_FINAL = "assistantfinal"
_STRIPPED_NEXT = re.compile(r"assistant(?:analysis|commentary)")


def _begins_harmony(body: str, *, is_cut: bool) -> bool:
    if _RAW.match(body):
        return True
    if _STRIPPED.match(body) and _STRIPPED_FINAL in body:
        return True
    return is_cut and _STRIPPED_CUT.match(body) is not None


def _split_harmony(text: str, *, opened: bool, is_named: bool, is_cut: bool) -> Split:
    """All messages before the last final one are reasoning, those of the commentary channel too."""
    body = text.lstrip()
    finals = list(_FINAL.finditer(body))
    if finals:
        reasoning = _raw_reasoning(body[: finals[-1].start()])
        answer = _message(body[finals[-1].end() :])
        if reasoning or opened:
            return Split(reasoning, answer, "closed")
        return Split(None, answer, "none")
    if _RAW.match(body) or (opened and _STRIPPED_FINAL not in body):
        return Split(_raw_reasoning(body), "", "open")
    return _split_stripped(text, opened=opened, is_named=is_named, is_cut=is_cut)


def _raw_reasoning(text: str) -> str:
    messages = [_message(part) for part in _ANY_HEADER.split(text)]
    return "\n\n".join(message for message in messages if message)


def _message(text: str) -> str:
    """A message without what ends it and what follows its end."""
    end = _MESSAGE_END.search(text)
    if end is None:
        return text
    return text[: end.start()]


def _split_stripped(text: str, *, opened: bool, is_named: bool, is_cut: bool) -> Split:
    body = text.lstrip()
    begins = _STRIPPED.match(body)
    inner = text
    if begins is not None:
        inner = body[begins.end() :]
    reasoning, final, answer = inner.rpartition(_STRIPPED_FINAL)
    if final and (begins or opened or is_named):
        return Split(_STRIPPED_NEXT.sub("\n\n", reasoning), answer, "closed")
    is_open = begins and (is_named or _begins_harmony(body, is_cut=is_cut))
    if is_open:
        return Split(_STRIPPED_NEXT.sub("\n\n", inner), "", "open")
    return Split(None, text, "none")
