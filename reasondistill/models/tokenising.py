"""Text → token ids, such that text from outside never becomes a special token.

    prompt = tokenise_prompt(tokenizer, messages, plain=False)
    ids = tokenise_answer(tokenizer, [Piece("<think>\\n", is_ours=True), Piece("say <|im_end|>")])

A question, a worked example or a trace may hold `<|im_end|>` or `</think>` as text; read as tokens
they would end the turn, or be learnt as an end. So only a chat template, a system turn and our
own tags may contain such tokens; all other text is read as plain characters. A text without token
strings gets the ids that the tokenizer gives.

How: foreign token strings are marked before the template renders them. Then the intended tokens get
other names, and the text is read by a copy of the tokenizer that has its tokens only under these
names. A template that changes a text (drops its line breaks, say) or writes next to it could still
make a token string of it: then foreign text is marked more closely, and the tokens that both ways
have are the template's own.

Tokenizers are transformers'; `tokenizers` is imported late.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from reasondistill.errors import ConfigError, DataError, is_panic
from reasondistill.models.rendering import render, render_ahead
from reasondistill.models.tokenizer_parts import Measure
from reasondistill.records import Message
from reasondistill.thinking import (
    ReasoningFormat,
    ends_in_empty_block,
    ends_in_tag,
    opened_by,
    opener_at_end,
)

log = logging.getLogger(__name__)

InputReason = Literal[
    "template_refuses", "not_unicode", "not_given_back", "prompt_too_long", "holds_an_end"
]


class InputFault(DataError):
    """A row that cannot be given to any model: `reason` is the kind of fault, the text describes
    it.
    """

    def __init__(self, reason: InputReason, text: str) -> None:
        super().__init__(text)
        self.reason: InputReason = reason


@dataclass(frozen=True)
class Piece:
    """A part of a text. `is_ours`: token strings in it become tokens."""

    text: str
    is_ours: bool = False


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as text and as ids; `opens` is the format of the reasoning block that its end leaves
    open, if any; `has_empty_block` says that it ends with one that is closed.

    Tags that stand in foreign text are neither.
    """

    text: str
    ids: list[int]
    opens: ReasoningFormat | None
    has_empty_block: bool = False


P = ParamSpec("P")
T = TypeVar("T")


def _told(tokenise: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Faults of the tokenizer's library are told: one of a row (a character that it knows nothing
    for) is an InputFault, one after which it gives up a ConfigError.
    """

    @wraps(tokenise)
    def told(tokenizer: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tokenise(tokenizer, *args, **kwargs)
        except BaseException as error:
            if is_panic(error):
                raise ConfigError(
                    f"{tokenizer.name_or_path}: its tokenizer is no good: the library gave up "
                    f"({error})."
                ) from error
            if type(error) is Exception:  # the library raises nothing narrower
                raise InputFault("not_given_back", f"the tokenizer refuses: {error}") from error
            raise

    return told


@_told
def tokenise_prompt(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    plain: bool,
    options: Mapping[str, Any] | None = None,
) -> TokenisedPrompt:
    """The prompt before the assistant's turn, by the chat template with its `options`, or `plain`
    as joined text.

    System turns are by the prompt's author: token strings in them become tokens, as does an opening
    reasoning tag at the very end of a plain prompt, unless its turn `quotes_tag`. Raises InputFault
    for a row that cannot be rendered, ConfigError when there is no chat template or it refuses
    turns of these roles.
    """
    codec = _codec_of(tokenizer)
    contents = [message.content for message in messages]
    _require_unicode("".join(contents))
    mark = _unused_character(contents)
    if plain:
        prompt = _joined(codec, messages, mark)
    else:
        prompt = _rendered(tokenizer, messages, mark, options or {})
    marked = prompt.text
    # A chat template writes its own BOS; plain text gets the tokenizer's.
    ids = codec.encode(tokenizer, marked, mark, add_special_tokens=plain)
    text = marked.replace(mark, "")
    _require_given_back(
        tokenizer, codec.stretches_of_text(marked, mark), codec.stretches_of_ids(ids)
    )
    return TokenisedPrompt(
        text, ids, opened_by(prompt.end), has_empty_block=ends_in_empty_block(prompt.end)
    )


def prepare_prompts(
    tokenizer: Any,
    prompts: Iterable[Sequence[Message]],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Render and read these prompts by the chat template in one go: `tokenise_prompt` of each finds
    what was made of it, and takes a third of its time. What is wrong with one is left to that.
    """
    if not tokenizer.chat_template:
        return
    codec = _codec_of(tokenizer)
    several: list[list[dict[str, Any]]] = []
    for messages in prompts:
        contents = [message.content for message in messages]
        try:
            _require_unicode("".join(contents))
            mark = _unused_character(contents)
        except InputFault:
            continue
        turns = _marked_turns(codec, messages, mark)
        is_marked = any(mark in turn["content"] for turn in turns)
        form = codec.fit_of(tokenizer, turns, options or {}).form
        if not is_marked and form == "text":
            several.append(_given(turns, in_parts=False))
    texts = render_ahead(tokenizer, several, options or {})
    with suppress(InputFault, ConfigError):
        _encode_ahead(tokenizer, texts)


@_told
def _encode_ahead(tokenizer: Any, texts: Sequence[str]) -> None:
    _codec_of(tokenizer).encode_ahead(tokenizer, texts)


@_told
def tokenise_answer(tokenizer: Any, pieces: Iterable[Piece]) -> list[int]:
    """The ids of the text after a prompt, without an end. Raises InputFault when decoding does not
    give the text back.
    """
    pieces = list(pieces)
    text = "".join(piece.text for piece in pieces)
    _require_unicode(text)
    codec, mark = _codec_of(tokenizer), _unused_character([text])
    ids = codec.encode(tokenizer, codec.marked(pieces, mark), mark, add_special_tokens=False)
    back = _decoded(tokenizer, ids)
    if not _same(back, text):
        raise _lossy(text, back)
    return ids


@_told
def tokenise_text(tokenizer: Any, text: str) -> list[int]:
    """The ids of a foreign text that stands alone, whatever decoding makes of them."""
    codec, mark = _codec_of(tokenizer), _unused_character([text])
    return codec.encode(tokenizer, codec.broken(text, mark), mark, add_special_tokens=False)


def opened_by_ids(tokenizer: Any, ids: Sequence[int]) -> ReasoningFormat | None:
    """The format of the reasoning block that the end of a tokenised prompt leaves open, if any.

    A tag that the tokenizer has a token for opens one where it stands as that token.
    """
    text = _decoded(tokenizer, ids)
    codec = _codec_of(tokenizer)
    opener = opener_at_end(text)
    if not codec.tokens_in(opener):
        return opened_by(text)
    control = codec.last_token(ids)
    if not control or not opener.endswith(_decoded(tokenizer, control).rstrip()):
        return None
    return opened_by(text)


def is_end_ordinary(tokenizer: Any) -> bool:
    """Whether text alone can give the EOS: it is an ordinary token of this tokenizer."""
    return tokenizer.eos_token_id not in _codec_of(tokenizer).ids


def rewrites_text(tokenizer: Any) -> bool:
    """Whether the chat template changes a question, or writes next to it what could be a part of a
    token string.
    """
    turns = [{"role": "user", "content": _ODD}]
    codec = _codec_of(tokenizer)
    fit = codec.fit_of(tokenizer, turns, {})
    if fit.form not in ("text", "parts"):
        return False
    from jinja2 import TemplateError

    try:
        text = _render(tokenizer, turns, {}, in_parts=fit.form == "parts")
    except TemplateError:
        return False
    return fit.touches or _ODD not in text


# ---- foreign text --------------------------------------------------------------------------------


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise InputFault(
            "not_unicode",
            f"character {error.start} is {character!r}, half of a surrogate pair; no tokenizer "
            f"accepts it",
        ) from None


def _unused_character(texts: Sequence[str]) -> str:
    """A character that stands in none of them, of those without a meaning of their own: no template
    trims it.
    """
    for number in range(0xE000, 0xF900):
        if not any(chr(number) in text for text in texts):
            return chr(number)
    raise InputFault("not_given_back", "the text holds every private-use character of Unicode")


@dataclass(frozen=True)
class _Marked:
    """A prompt with the mark in foreign token strings, and the text whose end says whether a block
    of reasoning is open: foreign tags there are marked, or it is empty.
    """

    text: str
    end: str


def _joined(codec: _Codec, messages: Sequence[Message], mark: str) -> _Marked:
    text = codec.marked(_plain_pieces(messages), mark)
    if messages and messages[-1].quotes_tag:
        return _Marked(text, "")
    return _Marked(text, text)


def _rendered(
    tokenizer: Any, messages: Sequence[Message], mark: str, options: Mapping[str, Any]
) -> _Marked:
    """The prompt by the chat template. Raises InputFault where the template makes a token string
    out of a foreign text, or of a marked one by dropping its mark.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template. Use a prompt "
            "with plain = true."
        )
    codec = _codec_of(tokenizer)
    turns = _marked_turns(codec, messages, mark)
    foreign = [turn for turn in turns if turn["role"] != "system"]
    is_marked = any(mark in turn["content"] for turn in foreign)
    fit = codec.fit_of(tokenizer, turns, options)
    text = _apply_template(tokenizer, turns, options, fit.form)
    contents = [turn["content"].strip() for turn in turns]
    is_whole = all(content in text for content in contents)
    may_quote = ends_in_tag(text) and text.rstrip().endswith(contents[-1])
    is_plain = is_whole and not may_quote and not fit.touches
    if is_plain and not is_marked:
        return _Marked(text, text)
    # What the template itself writes: nothing of these foreign texts can be in a token string.
    harmless = [dict(turn) for turn in turns]
    for turn in harmless:
        if turn["role"] != "system":
            turn["content"] = codec.harmless(turn["content"], mark, has_ends=not fit.touches)
    own_tokens = codec.tokens_in(_apply_template(tokenizer, harmless, options, fit.form))
    if is_plain and codec.tokens_in(text) == own_tokens:
        return _Marked(text, text)
    for turn in foreign:
        turn["content"] = codec.closely_broken(turn["content"], mark)
    closely = _apply_template(tokenizer, turns, options, fit.form)
    if codec.tokens_in(closely) != own_tokens:
        raise InputFault(
            "template_refuses",
            "the chat template makes a special token out of its text: it drops the private-use "
            "character that keeps them apart",
        )
    if codec.tokens_in(text) == own_tokens:
        return _Marked(text, closely)
    if closely.replace(mark, "") == text.replace(mark, ""):
        return _Marked(closely, closely)
    raise InputFault(
        "template_refuses", "the chat template would make a special token out of its text"
    )


def _marked_turns(codec: _Codec, messages: Sequence[Message], mark: str) -> list[dict[str, str]]:
    """The turns with a mark inside each token string of foreign text."""
    turns = [message.as_turn() for message in messages]
    for turn in turns:
        if turn["role"] != "system":
            turn["content"] = codec.broken(turn["content"], mark)
    return turns


def _plain_pieces(messages: Sequence[Message]) -> list[Piece]:
    """The turns joined as text, the opener at their end apart."""
    pieces: list[Piece] = []
    for message in messages:
        pieces.append(Piece(message.content, is_ours=message.role == "system"))
        pieces.append(Piece("\n\n"))
    last = messages[-1].content if messages else ""
    opener = opener_at_end(last)
    if opener and not messages[-1].quotes_tag:
        at = last.rindex(opener)
        pieces[-2:] = [Piece(last[:at]), Piece(last[at:], is_ours=True)]
        return pieces
    return pieces[:-1]


def _apply_template(
    tokenizer: Any, turns: Sequence[Mapping[str, str]], options: Mapping[str, Any], form: _Form
) -> str:
    from jinja2 import TemplateError

    in_parts = form == "parts"
    refusal: TemplateError | None = None
    text = ""
    try:
        text = _render(tokenizer, turns, options, in_parts=in_parts)
    except TemplateError as error:
        refusal = error
    if refusal is None and form == "neither":
        raise ConfigError(
            f"{tokenizer.name_or_path}: the chat template leaves out what the last turn asks. Give "
            "another one (chat_template of a student), or a prompt with plain = true."
        )
    if refusal is None:
        return text
    alike = [{**turn, "content": "1 + 1?"} for turn in turns]
    try:
        _render(tokenizer, alike, options, in_parts=in_parts)
    except TemplateError as error:  # it is not this row
        remedy = ""
        if _takes_it_without_system(tokenizer, alike, options, in_parts=in_parts):
            remedy = (
                " It accepts no system turn: set merge_system = true in the prompt file, which "
                "puts "
                "that text before the question, or take its system text out."
            )
        raise ConfigError(
            f"{tokenizer.name_or_path}: the chat template refuses this prompt: {error}.{remedy}"
        ) from error
    raise InputFault(
        "template_refuses", f"the chat template refuses this prompt: {refusal}"
    ) from refusal


def _render(
    tokenizer: Any,
    turns: Sequence[Mapping[str, str]],
    options: Mapping[str, Any],
    *,
    in_parts: bool,
) -> str:
    """The template's text of these turns; `in_parts` hands each content over as a list of one part,
    as templates of vision models want it.
    """
    return render(tokenizer, _given(turns, in_parts=in_parts), options)


def _given(turns: Sequence[Mapping[str, str]], *, in_parts: bool) -> list[dict[str, Any]]:
    given: list[dict[str, Any]] = []
    for turn in turns:
        content: Any = turn["content"]
        if in_parts:
            content = [{"type": "text", "text": content}]
        given.append({**turn, "content": content})
    return given


def _takes_it_without_system(
    tokenizer: Any,
    turns: Sequence[Mapping[str, str]],
    options: Mapping[str, Any],
    *,
    in_parts: bool,
) -> bool:
    """Whether a template that refuses turns takes them without their system turn."""
    from jinja2 import TemplateError

    others = [turn for turn in turns if turn["role"] != "system"]
    if len(others) == len(turns):
        return False
    try:
        _render(tokenizer, others, options, in_parts=in_parts)
    except TemplateError:
        return False
    return True


# What a template is asked with, to see whether it hands a question on.
_PROBE = "reasondistill asks 4711"
# What templates that change a text would change.
_ODD = "Reason  distill\n\n\nasks: <4711> *now*\tor `then`"


_Form = Literal["text", "parts", "neither", "refused"]


@dataclass(frozen=True)
class _Fit:
    """The form of the contents in which the last turn stands in what the template makes, and
    whether the template writes next to a turn's content what could begin or end a token string.

    `refused`: it takes no turns of these roles, or not such ones, so that nothing can be said.
    """

    form: _Form
    touches: bool = False


def _fit_of(
    codec: _Codec,
    tokenizer: Any,
    turns: Sequence[Mapping[str, str]],
    options: Mapping[str, Any],
) -> _Fit:
    asked = [{**turn, "content": f"1 + {place}?"} for place, turn in enumerate(turns)]
    asked[-1]["content"] = _PROBE
    as_text = _tried(tokenizer, asked, options, in_parts=False)
    form: _Form = "text"
    text = as_text
    if text is None or _PROBE not in text:
        form = "parts"
        text = _tried(tokenizer, asked, options, in_parts=True)
    if text is not None and _PROBE in text:
        touches = any(codec.touches(text, turn["content"]) for turn in asked)
        return _Fit(form, touches)
    if as_text is None:
        return _Fit("refused")
    return _Fit("neither")


def _tried(
    tokenizer: Any,
    turns: Sequence[Mapping[str, str]],
    options: Mapping[str, Any],
    *,
    in_parts: bool,
) -> str | None:
    """What the template makes of these turns; None where it refuses them."""
    from jinja2 import TemplateError

    try:
        return _render(tokenizer, turns, options, in_parts=in_parts)
    except (TemplateError, TypeError, ValueError):
        return None


# ---- check of decoding ---------------------------------------------------------------------------


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _require_given_back(
    tokenizer: Any, texts: Sequence[str], stretches: Sequence[Sequence[int]]
) -> None:
    """What stands between the special tokens of a prompt, decoded, is its text.

    But for white space next to them: some tokens swallow it, and SentencePiece adds some.
    """
    wanted = [text.strip() for text in texts if text.strip()]
    decoded = [_decoded(tokenizer, ids).strip() for ids in stretches]
    texts_back = [text for text in decoded if text]
    for text, back in zip(wanted, texts_back, strict=False):
        if not _same(text, back):
            raise _lossy(text, back)
    if len(wanted) != len(texts_back):
        raise _lossy("".join(wanted), "".join(texts_back))


def _lossy(text: str, back: str) -> InputFault:
    change = _first_difference(text, back)
    return InputFault(
        "not_given_back",
        f"tokenising and decoding changes the text ({change}); this tokenizer loses text",
    )


def _same(a: str, b: str) -> bool:
    # Qwen's tokenizers normalise to NFC and SentencePiece may add one leading space; neither loses
    # anything.
    return unicodedata.normalize("NFC", a).lstrip(" ") == unicodedata.normalize("NFC", b).lstrip(
        " "
    )


def _first_difference(a: str, b: str) -> str:
    pairs = enumerate(zip(a, b, strict=False))
    at = next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))
    return f"at character {at}: {a[at : at + 20]!r} became {b[at : at + 20]!r}"


# ---- token strings -------------------------------------------------------------------------------

# Gemma's vocabulary holds the tags of HTML as added tokens, to write text with.
_HTML = re.compile(
    r"</?(?:a|b|bbox|blockquote|body|caption|code|div|em|footer|h[1-6]|html|i|iframe|img|li|s|span"
    r"|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|u|ul)>"
)
# No text can spell what this process has drawn.
_NAME = f"<reasondistill:{secrets.token_hex(8)}:"


def _is_ordinary(token: str, *, is_special: bool) -> bool:
    """Text like any other though it is an added token: one character, runs of spaces or newlines,
    HTML.
    """
    # One character ("!" as CLIP's padding) may be how a text has it too.
    if len(token) < 2 or not token.strip(" \t\r\n\u2581"):
        return True
    return not is_special and _HTML.fullmatch(token) is not None


class _Codec:
    """A tokenizer with the tokens that foreign text must not become, and its copy in which they
    have other names.

    `controls` maps their strings to their ids.
    """

    def __init__(self, tokenizer: Any) -> None:
        added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        self.controls: dict[str, int] = {}
        for number, token in added.items():
            if not _is_ordinary(token.content, is_special=token.special):
                self.controls[token.content] = number
        self.ids = frozenset(self.controls.values())
        self._lengths = sorted({len(token) for token in self.controls}, reverse=True)
        firsts = "".join(sorted({token[0] for token in self.controls}))
        self._first = _any_of(firsts)
        self._first_in_any_case = _any_of(firsts + firsts.lower() + firsts.upper())
        self._sorted = sorted(self.controls)
        self._sorted_backwards = sorted(token[::-1] for token in self.controls)
        self._renamed_copy: _RenamedCopy | None = None
        self._measure = Measure(tokenizer)
        self._has_told = False
        self._fits: dict[tuple[Any, ...], _Fit] = {}
        self._ahead: dict[str, list[int]] = {}

    def fit_of(
        self, tokenizer: Any, turns: Sequence[Mapping[str, str]], options: Mapping[str, Any]
    ) -> _Fit:
        """How the chat template takes the contents of turns of these roles; cached."""
        roles = tuple(turn["role"] for turn in turns)
        key = (str(tokenizer.chat_template), roles, repr(sorted(options.items())))
        if key not in self._fits:
            self._fits[key] = _fit_of(self, tokenizer, turns, options)
        return self._fits[key]

    def marked(self, pieces: Iterable[Piece], mark: str) -> str:
        """The text with a mark inside each token string that is not ours."""
        return "".join(
            piece.text if piece.is_ours else self.broken(piece.text, mark) for piece in pieces
        )

    def broken(self, text: str, mark: str) -> str:
        """A foreign text with a mark behind the first character of each token string, overlapping
        ones too.
        """
        starts = [
            match.start()
            for match in self._first.finditer(text)
            if self._token_at(text, match.start())
        ]
        if starts:
            self._tell(self._token_at(text, starts[0]))
        bounds = [0, *(start + 1 for start in starts), len(text)]
        return mark.join(text[start:end] for start, end in pairwise(bounds))

    def closely_broken(self, text: str, mark: str) -> str:
        """A foreign text with a mark behind each character that could begin a token string, and one
        at both of its ends: no part of it is in one, whatever a template leaves out of it or
        writes beside it.
        """
        body = text.strip()
        if not body:
            return text
        before, _, after = text.partition(body)
        marked = self._first_in_any_case.sub(lambda first: first[0] + mark, body)
        return f"{before}{mark}{marked}{mark}{after}"

    def harmless(self, text: str, mark: str, *, has_ends: bool) -> str:
        """A foreign text with the mark in the place of each character that could begin a token
        string, and at both ends, there too in the place of a character unless it `has_ends`: also
        without its marks it is in no token string.
        """
        body = text.strip()
        if not body:
            return text
        before, _, after = text.partition(body)
        if not has_ends:
            body = body[1:-1]
        body = self._first_in_any_case.sub(mark, body)
        return f"{before}{mark}{body}{mark}{after}"

    def encode(
        self, tokenizer: Any, marked: str, mark: str, *, add_special_tokens: bool
    ) -> list[int]:
        """The ids of a marked text, the mark itself left out. Token strings without a mark become
        their tokens.
        """
        ahead = self._ahead.pop(marked, None)
        if ahead is None or add_special_tokens:
            self._measure.require_bounded(marked)
        if mark not in marked:
            ids = ahead
            if ids is None or add_special_tokens:
                ids = tokenizer(marked, add_special_tokens=add_special_tokens)["input_ids"]
            if not self._has_more_than_meant(tokenizer, marked, ids, add_special_tokens):
                return ids
        if self._renamed_copy is None:
            self._renamed_copy = _RenamedCopy(tokenizer, self.controls)
        return self._renamed_copy.encode(
            self._named(marked).replace(mark, ""), add_special_tokens=add_special_tokens
        )

    def encode_ahead(self, tokenizer: Any, texts: Sequence[str]) -> None:
        """Keep the ids of these texts without a mark for `encode`, in place of what was kept.
        Raises what it raises.
        """
        self._ahead = {}
        if not texts:
            return
        for text in texts:
            self._measure.require_bounded(text)
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        self._ahead = dict(zip(texts, ids, strict=True))

    def stretches_of_text(self, marked: str, mark: str) -> list[str]:
        """A marked text cut at the tokens that are meant, the mark left out."""
        return [text.replace(mark, "") for text, _ in self._cut(marked)]

    def tokens_in(self, marked: str) -> list[str]:
        """The tokens that are meant in a marked text, in order."""
        return [token for _, token in self._cut(marked) if token]

    def last_token(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids from the last token of `controls` on; empty where there is none."""
        for place in range(len(ids) - 1, -1, -1):
            if ids[place] in self.ids:
                return ids[place:]
        return ()

    def touches(self, text: str, content: str) -> bool:
        """Whether what stands before or behind a content in a text could be a part of a token
        string with it.
        """
        for match in re.finditer(re.escape(content), text):
            before, behind = text[: match.start()], text[match.end() :]
            if _meets(before, self._sorted) or _meets(behind[::-1], self._sorted_backwards):
                return True
        return False

    def stretches_of_ids(self, ids: Sequence[int]) -> list[list[int]]:
        """Ids cut at the tokens of `controls`."""
        stretches: list[list[int]] = [[]]
        for number in ids:
            if number in self.ids:
                stretches.append([])
            else:
                stretches[-1].append(number)
        return stretches

    def _has_more_than_meant(
        self, tokenizer: Any, text: str, ids: Sequence[int], add_special_tokens: bool
    ) -> bool:
        """A normaliser (lower case, for one) may have turned other text into a token string."""
        meant = len(self.tokens_in(text))
        if add_special_tokens:
            meant += tokenizer.num_special_tokens_to_add(pair=False)
        return sum(number in self.ids for number in ids) > meant

    def _named(self, marked: str) -> str:
        """The text with the tokens that are meant under the names that the copy knows."""
        return "".join(
            text + (_name_of(self.controls[token]) if token else "")
            for text, token in self._cut(marked)
        )

    def _cut(self, marked: str) -> Iterator[tuple[str, str]]:
        """Each stretch of text with the token behind it, leftmost and longest as tokenizers find
        them; the last has none.
        """
        end = 0
        for match in self._first.finditer(marked):
            token = self._token_at(marked, match.start()) if match.start() >= end else ""
            if token:
                yield marked[end : match.start()], token
                end = match.start() + len(token)
        yield marked[end:], ""

    def _token_at(self, text: str, at: int) -> str:
        for length in self._lengths:
            if text[at : at + length] in self.controls:
                return text[at : at + length]
        return ""

    def _tell(self, token: str) -> None:
        if not self._has_told:
            self._has_told = True
            log.warning(
                "%r stands in a text: it is read as characters, not as the token of that name",
                token,
            )


def _any_of(characters: str) -> re.Pattern[str]:
    if not characters:
        return re.compile(r"(?!)")
    return re.compile(f"[{re.escape(characters)}]")


def _meets(before: str, tokens: Sequence[str]) -> bool:
    """Whether a text ends with the beginning of one of these sorted tokens, but not with all of
    it.
    """
    longest = max(map(len, tokens), default=0)
    for length in range(1, min(longest, len(before) + 1)):
        end = before[-length:]
        place = bisect_left(tokens, end + "\0")
        if place < len(tokens) and tokens[place].startswith(end):
            return True
    return False


_CODECS: WeakKeyDictionary[Any, _Codec] = WeakKeyDictionary()


def _codec_of(tokenizer: Any) -> _Codec:
    """Made once per tokenizer: what is added to it later is not known."""
    if tokenizer not in _CODECS:
        _CODECS[tokenizer] = _Codec(tokenizer)
    return _CODECS[tokenizer]


def _name_of(number: int) -> str:
    return f"{_NAME}{number}>"


class _RenamedCopy:
    """A copy of a tokenizer in which the given tokens have other names; all else, and every id, is
    the same.
    """

    def __init__(self, tokenizer: Any, controls: Mapping[str, int]) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputFault(
                "not_given_back",
                "this tokenizer (a slow one) cannot keep token strings apart from text",
            )
        from tokenizers import Tokenizer

        facts = _renamed(json.loads(backend.to_str()), controls)
        try:
            self._backend = Tokenizer.from_str(json.dumps(facts))
        except Exception as error:  # the Rust side raises nothing narrower
            raise InputFault(
                "not_given_back", f"this tokenizer cannot be copied: {error}"
            ) from error
        # Added tokens that are no part of the model's own vocabulary are numbered anew when they
        # are read.
        self._ids = {
            self._backend.token_to_id(_name_of(number)): number for number in controls.values()
        }

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return [self._ids.get(number, number) for number in ids]


def _renamed(facts: dict[str, Any], controls: Mapping[str, int]) -> dict[str, Any]:
    """A tokenizer.json whose control tokens have other names: among the added ones and in the
    model's own vocabulary.
    """

    def name(token: str) -> str:
        return _name_of(controls[token]) if token in controls else token

    model = facts["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {name(token): number for token, number in model["vocab"].items()}
    else:
        model["vocab"] = [[name(token), score] for token, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = name(model["unk_token"])
    for token in facts["added_tokens"]:
        token["content"] = name(token["content"])
    return facts | {"truncation": None, "padding": None}
