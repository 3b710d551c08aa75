"""Text → token ids, such that text from outside never becomes a special token.

    prompt = tokenise_prompt(tokenizer, messages, plain=False)
    ids = tokenise_answer(tokenizer, [Piece("<think>\\n", is_ours=True), Piece("say <|im_end|>")])

A question, a worked example or a trace may hold `<|im_end|>` or `</think>` as text; read as tokens
they would end the turn, or be learnt as an end. So only a chat template, a system turn and our
own tags may contain such tokens; all other text is read as plain characters. A text without token
strings gets the ids that the tokenizer gives.

How: foreign token strings are marked before the template renders them. Then the intended tokens get
other names, and the text is read by a copy of the tokenizer that has its tokens only under these
names.

Tokenizers are transformers'; `tokenizers` is imported late.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal
from weakref import WeakKeyDictionary

from reasondistill.errors import ConfigError, DataError
from reasondistill.records import Message
from reasondistill.thinking import ReasoningFormat, opened_by, opener_at_end

log = logging.getLogger(__name__)

InputReason = Literal["template_refuses", "not_unicode", "not_given_back", "prompt_too_long"]


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
    open, if any.
    """

    text: str
    ids: list[int]
    opens: ReasoningFormat | None


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
    reasoning tag at the very end of a plain prompt. Raises InputFault for a row that cannot be
    rendered, ConfigError when there is no chat template or it refuses turns of these roles.
    """
    codec = _codec_of(tokenizer)
    contents = [message.content for message in messages]
    _require_unicode("".join(contents))
    mark = _unused_character(contents)
    if plain:
        marked = codec.marked(_plain_pieces(messages), mark)
    else:
        marked = _apply_template(tokenizer, _marked_turns(codec, messages, mark), options or {})
    # A chat template writes its own BOS; plain text gets the tokenizer's.
    ids = codec.encode(tokenizer, marked, mark, add_special_tokens=plain)
    text = marked.replace(mark, "")
    _require_given_back(
        tokenizer, codec.stretches_of_text(marked, mark), codec.stretches_of_ids(ids)
    )
    return TokenisedPrompt(text, ids, opened_by(text))


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


def _marked_turns(codec: _Codec, messages: Sequence[Message], mark: str) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for message in messages:
        piece = Piece(message.content, is_ours=message.role == "system")
        turns.append({"role": message.role, "content": codec.marked([piece], mark)})
    return turns


def _plain_pieces(messages: Sequence[Message]) -> list[Piece]:
    """The turns joined as text, the opener at their end apart."""
    pieces: list[Piece] = []
    for message in messages:
        pieces.append(Piece(message.content, is_ours=message.role == "system"))
        pieces.append(Piece("\n\n"))
    last = messages[-1].content if messages else ""
    opener = opener_at_end(last)
    if opener:
        at = last.rindex(opener)
        pieces[-2:] = [Piece(last[:at]), Piece(last[at:], is_ours=True)]
        return pieces
    return pieces[:-1]


def _apply_template(
    tokenizer: Any, turns: Sequence[Mapping[str, str]], options: Mapping[str, Any]
) -> str:
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template. Use a prompt "
            "with plain = true."
        )
    from jinja2 import TemplateError

    form = _codec_of(tokenizer).form_of(tokenizer, turns, options)
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
    given: list[dict[str, Any]] = []
    for turn in turns:
        content: Any = turn["content"]
        if in_parts:
            content = [{"type": "text", "text": content}]
        given.append({**turn, "content": content})
    return tokenizer.apply_chat_template(
        given, tokenize=False, add_generation_prompt=True, **options
    )


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


_Form = Literal["text", "parts", "neither", "refused"]


def _form_of(
    tokenizer: Any, turns: Sequence[Mapping[str, str]], options: Mapping[str, Any]
) -> _Form:
    """In which form of the contents the last turn stands in what the template makes.

    `refused`: it takes no turns of these roles, or not such ones, so that nothing can be said.
    """
    as_text = _shows_question(tokenizer, turns, options, in_parts=False)
    if as_text:
        return "text"
    if _shows_question(tokenizer, turns, options, in_parts=True):
        return "parts"
    if as_text is None:
        return "refused"
    return "neither"


def _shows_question(
    tokenizer: Any,
    turns: Sequence[Mapping[str, str]],
    options: Mapping[str, Any],
    *,
    in_parts: bool,
) -> bool | None:
    """Whether the content of the last turn stands in what the template makes; None where it refuses
    such turns.
    """
    from jinja2 import TemplateError

    asked = [{**turn, "content": f"1 + {place}?"} for place, turn in enumerate(turns)]
    asked[-1]["content"] = _PROBE
    try:
        return _PROBE in _render(tokenizer, asked, options, in_parts=in_parts)
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
_NAME = "<reasondistill:"


def _is_ordinary(token: str, *, is_special: bool) -> bool:
    """Text like any other though it is an added token: one character, runs of spaces or newlines,
    HTML.
    """
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
        self._ids = frozenset(self.controls.values())
        self._lengths = sorted({len(token) for token in self.controls}, reverse=True)
        firsts = "".join(sorted({token[0] for token in self.controls}))
        self._first = re.compile(f"[{re.escape(firsts)}]") if firsts else re.compile(r"(?!)")
        self._renamed_copy: _RenamedCopy | None = None
        self._has_told = False
        self._forms: dict[tuple[Any, ...], _Form] = {}

    def form_of(
        self, tokenizer: Any, turns: Sequence[Mapping[str, str]], options: Mapping[str, Any]
    ) -> _Form:
        """The form in which the chat template takes the contents of turns of these roles;
        cached.
        """
        roles = tuple(turn["role"] for turn in turns)
        key = (str(tokenizer.chat_template), roles, repr(sorted(options.items())))
        if key not in self._forms:
            self._forms[key] = _form_of(tokenizer, turns, options)
        return self._forms[key]

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

    def encode(
        self, tokenizer: Any, marked: str, mark: str, *, add_special_tokens: bool
    ) -> list[int]:
        """The ids of a marked text, the mark itself left out. Token strings without a mark become
        their tokens.
        """
        if mark not in marked:
            ids: list[int] = tokenizer(marked, add_special_tokens=add_special_tokens)["input_ids"]
            if not self._has_more_than_meant(tokenizer, marked, ids, add_special_tokens):
                return ids
        if self._renamed_copy is None:
            self._renamed_copy = _RenamedCopy(tokenizer, self.controls)
        return self._renamed_copy.encode(
            self._named(marked).replace(mark, ""), add_special_tokens=add_special_tokens
        )

    def stretches_of_text(self, marked: str, mark: str) -> list[str]:
        """A marked text cut at the tokens that are meant, the mark left out."""
        return [text.replace(mark, "") for text, _ in self._cut(marked)]

    def stretches_of_ids(self, ids: Sequence[int]) -> list[list[int]]:
        """Ids cut at the tokens of `controls`."""
        stretches: list[list[int]] = [[]]
        for number in ids:
            if number in self._ids:
                stretches.append([])
            else:
                stretches[-1].append(number)
        return stretches

    def _has_more_than_meant(
        self, tokenizer: Any, text: str, ids: Sequence[int], add_special_tokens: bool
    ) -> bool:
        """A normaliser (lower case, for one) may have turned other text into a token string."""
        meant = sum(1 for _, token in self._cut(text) if token)
        if add_special_tokens:
            meant += tokenizer.num_special_tokens_to_add(pair=False)
        return sum(number in self._ids for number in ids) > meant

    def _named(self, marked: str) -> str:
        """The text with the tokens that are meant under the names that the copy knows."""
        if _NAME in marked:
            raise InputFault(
                "not_given_back", f"the text holds {_NAME!r}, which this program uses itself"
            )
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
