"""Keys and passwords: which there are, what a text looks like without them, and what must not stand
in a file.

    masked("cannot use sk-0123456789abcdef")        "cannot use ***", where that key is in an
                                                    environment variable
    cleaned("see http://me:pw@host/v1?key=x")       "see http://***@host/v1?key=***"
    found_in("https://me:pw@host/v1")               "a password in a URL"

Secrets come from the environment alone: the values of variables whose names say so (`HF_TOKEN`,
`DB_PASSWORD`), of those that a cluster file names as `api_key_env`, and passwords in URLs that a
variable holds. `masked` takes them out of what is stored, in each form in which they may come back:
as they are, quoted for a URL, for JSON or HTML, and in base64 at any place. `cleaned` is for what
people read: it also takes out what looks like anybody's key.

Not covered: a value that `is_worth_masking` calls no secret, because texts hold it by chance; other
encodings (hex, reversed, encrypted); a part of a key.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from urllib.parse import unquote

from reasondistill.secret_names import (
    Secrecy,
    how_secret,
    is_plural,
    is_secret_name,
    names_webhook,
    words_of,
)

MASK = "***"
# Shorter values are never masked: words and numbers of any text would go with them.
SHORTEST = 8
# From here on a value of letters alone is no word of a text.
_LONG = 10
# From here on digits alone are no number of a text.
_LONG_NUMBER = 16
# A shorter piece of base64 may stand in any text.
_SHORTEST_BASE64 = 10
# What people put where a server wants a key and takes any.
_PLACEHOLDERS = frozenset(
    {
        "not-needed",
        "not_needed",
        "notneeded",
        "not-required",
        "no-key-needed",
        "no-key-required",
        "sk-no-key-required",
        "placeholder",
        "changeme",
        "your-api-key",
        "undefined",
        # What vLLM's and other servers' documents say.
        "empty",
        "dummy",
        "unused",
        "null",
    }
)


# ---- what looks like a key -----------------------------------------------------------------------

# Of well-known services. A digit is wanted where words with dashes may begin like that.
_KEY_FORMATS = {
    # Words with dashes are names: sk-distill-qwen2-5.
    "sk-…": r"sk-(?:(?:proj|ant|or|svcacct|admin|lf)-(?=[\w-]*\d)[\w-]{12,}"
    r"|(?=[A-Za-z_]*\d)[A-Za-z0-9_]{16,})",
    "hf_…": r"hf_[A-Za-z0-9]{16,}",
    "ghp_…": r"gh[pousr]_[A-Za-z0-9]{16,}",
    "github_pat_…": r"github_pat_\w{16,}",
    "glpat-…": r"glpat-[\w-]{16,}",
    "AKIA…": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "xox…": r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "AIza…": r"AIza[\w-]{30,}",
    "gsk_…": r"gsk_[A-Za-z0-9]{20,}",
    "nvapi-…": r"nvapi-[\w-]{20,}",
    "xai-…": r"xai-[A-Za-z0-9]{20,}",
    "r8_…": r"r8_[A-Za-z0-9]{20,}",
    "pypi-…": r"pypi-AgE[\w-]{20,}",
    "eyJ….eyJ…": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",
    "PRIVATE KEY": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_KEY = re.compile(r"(?<![\w/.-])(?:" + "|".join(_KEY_FORMATS.values()) + ")")
_ONE_FORMAT = {name: re.compile(pattern) for name, pattern in _KEY_FORMATS.items()}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20}://)(?P<user>[^\s/?#\"<>]*@(?!sha256:))?"
    r"(?P<rest>[^\s\"'<>]*)"
)
_QUERY_PAIR = re.compile(r"(?P<name>[?&;#][^?&;#=\s]+=)(?P<value>[^&;#\s]+)")
_WEB = ("http://", "https://", "ws://", "wss://")


def _has_password(scheme: str, user: str) -> bool:
    """On the web a name alone opens a door too (`https://TOKEN@host`); elsewhere it is a name."""
    return ":" in user or scheme.lower() in _WEB


def _is_secret_pair(pair: re.Match[str]) -> bool:
    return is_secret_name(pair["name"][1:-1])


def _clean_pair(pair: re.Match[str]) -> str:
    if _is_secret_pair(pair):
        return pair["name"] + MASK
    return pair[0]


def _clean_url(url: re.Match[str]) -> str:
    user = url["user"] or ""
    if user and _has_password(url["scheme"], user):
        user = f"{MASK}@"
    return url["scheme"] + user + _QUERY_PAIR.sub(_clean_pair, url["rest"])


def clean_urls(text: str) -> str:
    """The URLs of a text without user info and without the values of query keys that are secret by
    their name.
    """
    if "://" not in text:
        return text
    return _URL.sub(_clean_url, text)


# ---- what must not stand in a file ---------------------------------------------------------------

# `$HF_TOKEN`, or what takes the place of a value later.
_REFERENCE = re.compile(r"\$\{?[A-Z_][A-Z0-9_]*\}?$|\{\{")
# Values that switch something on or off.
SWITCHES = frozenset({"", "0", "1", "true", "false", "yes", "no", "on", "off", "none"})


def found_in(text: str) -> str | None:
    """What kind of secret stands in a text, in words that do not repeat it; None where there is
    none: `a key (hf_…)`, `a password in a URL`.
    """
    key = _KEY.search(text)
    if key is not None:
        for name, pattern in _ONE_FORMAT.items():
            if pattern.match(key[0]):
                return f"a key ({name})"
    if "://" not in text:
        return None
    for url in _URL.finditer(text):
        if url["user"] and _has_password(url["scheme"], url["user"]):
            return "a password in a URL"
        for pair in _QUERY_PAIR.finditer(url["rest"]):
            if _is_secret_pair(pair) and not pair["value"].startswith(("$", "{{", "<", "`")):
                name = pair["name"][1:-1]
                return f"a key in a URL ({name}=…)"
    return None


def is_placeholder(value: str) -> bool:
    """Whether a value stands for another one, or for a place in a text: `<your key>`, `{{ key }}`,
    `<|im_end|>`; `EMPTY`, where a server wants any key.
    """
    if value.lower() in _PLACEHOLDERS or value.startswith("{{"):
        return True
    return value.startswith("<") and value.endswith(">")


def is_secret_value(value: str) -> bool:
    """Whether the value of a setting with a secret's name is one: not where it is empty or a
    switch, or only says where the secret is.
    """
    bare = value.strip().strip("\"'")
    if bare.lower() in SWITCHES or is_placeholder(bare):
        return False
    return _REFERENCE.match(bare) is None and not bare.startswith(("/", "~/", "./"))


def found_below(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Where secrets stand in a value of TOML or JSON, with their kinds: `headers.Authorization`."""
    if isinstance(value, str):
        kind = found_in(value)
        if kind is not None:
            yield place, kind
    elif isinstance(value, Mapping):
        for name, inner in cast("Mapping[Any, Any]", value).items():
            yield from found_below(inner, f"{place}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(cast("list[Any]", value)):
            yield from found_below(inner, f"{place}.{number}".removeprefix("."))


def secret_names_in(value: Any) -> Iterator[str]:
    """The keys below a value of TOML or JSON that are secret by their name and hold a secret."""
    if isinstance(value, Mapping):
        for name, inner in cast("Mapping[Any, Any]", value).items():
            is_leaf = isinstance(inner, str | int | float)
            if is_leaf and _holds_secret(str(name), str(inner)):
                yield str(name)
            yield from secret_names_in(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from secret_names_in(inner)


# ---- the secrets of the environment --------------------------------------------------------------

# A special token of a tokenizer is one of a text, whatever its variable is called.
_SPECIAL_TOKEN = re.compile(r"<[|｜][^<>]*[|｜]>")
# `problem_id`, `created_at_desc`, `the answer is`: words with a vowel, numbers of two digits.
_WORD = r"(?:(?=[a-z]*[aeiouy])[a-z]{1,14}|(?=[A-Z]*[AEIOUY])[A-Z]{1,14}|[A-Z][a-z]{1,13}|\d{1,2})"
_ONLY_WORDS = re.compile(rf"{_WORD}(?:[ _.:/,-]+{_WORD})*")
# `Password=…;` of a connection string, `"private_key": "…"` of JSON, `api-key=…` of headers.
_SETTING_INSIDE = re.compile(
    r"(?<![A-Za-z0-9_-])(?P<name>[A-Za-z][\w-]{0,60})[\"']?\s?[=:]\s?"
    r"(?P<value>\"[^\"]*\"|'[^']*'|\{[^}]*\}|[^;&,\s\"'{]+)"
)
_SCHEME_OF_HEADER = re.compile(r"(?i)^(?:bearer|basic|token|digest)\s+")


def is_worth_masking(value: str) -> bool:
    """Whether a value is no word or number that a text may hold by chance: 10 characters or more,
    or 8 with letters and digits; digits alone from 16 on. What people write where no key is wanted
    (`not-needed`) is none, and neither is the name of a file, or a special token (`<|im_end|>`).
    """
    if len(value) < SHORTEST or value.lower() in _PLACEHOLDERS:
        return False
    if _SPECIAL_TOKEN.fullmatch(value):
        return False
    if value.isdecimal():
        return len(value) >= _LONG_NUMBER
    if len(value) < _LONG and not _is_mixed(value):
        return False
    is_path = value.startswith(("/", "~/", "./"))
    return not (is_path and os.path.exists(os.path.expanduser(value)))


def _is_mixed(value: str) -> bool:
    has_digit = any(sign.isdigit() for sign in value)
    has_other = any(not sign.isdigit() for sign in value)
    return has_digit and has_other


def is_secret(name: str, value: str) -> bool:
    """Whether a value under a name is a secret: under one that certainly means one, any value (the
    passwords of people are words); else where it reads neither as words nor as a number.
    """
    secrecy = how_secret(name)
    if secrecy is Secrecy.LIKELY:
        bare = value.strip().strip("\"'")
        is_number = bare.isdecimal() and len(bare) < SHORTEST
        return not is_number and _ONLY_WORDS.fullmatch(bare) is None
    return secrecy is Secrecy.CERTAIN


def _values_of(variable: str, value: str) -> Iterator[str]:
    """The secrets in the value of a variable: itself, lines of a private key, the password of a URL
    or of a connection string.
    """
    begins_as_url = _URL.match(value.strip()) is not None
    if "://" in value:
        yield from _secrets_of_url(value)
    if begins_as_url and names_webhook(words_of(variable)):
        yield value.strip()
        yield value.strip().partition("://")[2].partition("/")[2]
    if variable.lower().endswith("proxy") and "://" not in value:
        yield from _secrets_of_user(value.strip().rpartition("@")[0])
    if _KEY.search(value) or (is_secret(variable, value) and not begins_as_url):
        yield from _pieces_of(variable, value.strip())
    for setting in _SETTING_INSIDE.finditer(value):
        inner = setting["value"].strip("\"'{}")
        if is_secret(setting["name"], inner):
            yield inner


def _pieces_of(variable: str, value: str) -> Iterator[str]:
    yield value
    yield _SCHEME_OF_HEADER.sub("", value)
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines)
    if is_plural(variable):
        yield from re.split(r"[\s,;]+", value)


def _secrets_of_url(value: str) -> Iterator[str]:
    """Passwords and keys of the URLs that a value holds, as they stand there and unquoted."""
    for url in _URL.finditer(value):
        user = url["user"]
        if user and _has_password(url["scheme"], user):
            yield from _secrets_of_user(user[:-1])
        for pair in _QUERY_PAIR.finditer(url["rest"]):
            if _is_secret_pair(pair):
                yield pair["value"]
    # Whatever its characters: a password with a slash in it hides the end of the user info.
    user = value.strip().partition("://")[2].rpartition("@")[0]
    password = user.partition(":")[2]
    if "/" in password and not re.match(r"\d{1,5}/", password):
        yield from _secrets_of_user(user)


def _secrets_of_user(user: str) -> Iterator[str]:
    """`me:pw` and `pw`; of a name alone the name."""
    name, _, password = user.partition(":")
    yield user
    yield password or name


# ---- masking -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """One secret, or one of the three middles of its base64. `core` stands in each of its forms: a
    text without it is passed at the speed of `in`. `pattern` matches all forms.
    """

    core: str
    pattern: str
    is_base64: bool

    def is_in(self, text: str) -> bool:
        return self.core in text and _compiled(self.pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_LETTERS_AND_DIGITS = re.compile(r"[A-Za-z0-9]+")
_ESCAPES = {"\n": "n", "\r": "r", "\t": "t"}
_NAMED = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


def _forms_of(sign: str) -> str:
    """A pattern of all ways in which a character that is no ASCII letter or digit may come back: as
    it is, behind backslashes (JSON, PHP, repr), quoted for a URL, escaped for JSON or HTML.
    """
    forms = [r"\\{0,8}" + re.escape(sign)]
    # Also quoted twice.
    bytes_of_sign = sign.encode("utf-8", "surrogatepass")
    forms.append("".join(f"%(?:25)*{_any_case(f'{byte:02x}')}" for byte in bytes_of_sign))
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    pieces = [units[place : place + 4] for place in range(0, len(units), 4)]
    forms.append("".join(rf"\\{{1,8}}u{_any_case(piece)}" for piece in pieces))
    code = ord(sign)
    if code < 256:
        forms.append(rf"\\{{1,8}}x{_any_case(f'{code:02x}')}")
    forms.append(rf"&(?:amp;)?#(?:0*{code}|[xX]0*{_any_case(f'{code:x}')});")
    if sign in _NAMED:
        forms.append(f"&(?:amp;)?{_NAMED[sign]};")
    if sign in _ESCAPES:
        forms.append(rf"\\{{1,8}}{_ESCAPES[sign]}")
    if sign == " ":
        forms.append(r"\+")
    return "(?:" + "|".join(forms) + ")"


def _any_case(digits: str) -> str:
    """A pattern of hex digits in capitals or not."""
    signs = [f"[{sign}{sign.upper()}]" if sign.isalpha() else sign for sign in digits]
    return "".join(signs)


def _core_of(text: str) -> str:
    """The longest run of ASCII letters and digits: no form changes it."""
    return max(_LETTERS_AND_DIGITS.findall(text), key=len, default="")


def _plain(secret: str) -> _Known:
    signs: list[str] = []
    for sign in secret:
        if sign.isascii() and sign.isalnum():
            signs.append(sign)
        else:
            signs.append(_forms_of(sign))
    return _Known(_core_of(secret), "".join(signs), is_base64=False)


def _in_base64(secret: str) -> Iterator[_Known]:
    """What is the same of a secret's base64, whatever stands before and behind it: it may begin at
    any of three places in a group of four characters.
    """
    content = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        padded = b"\0" * before + content
        encoded = base64.b64encode(padded).decode("ascii")
        first = (8 * before + 5) // 6
        last = 8 * len(padded) // 6
        middle = encoded[first:last]
        if len(middle) < _SHORTEST_BASE64:
            continue
        pattern = middle.replace("+", "(?:[+-]|%2[Bb])").replace("/", r"(?:\\{0,8}/|_|%2[Ff])")
        yield _Known(_core_of(middle), pattern, is_base64=True)


def _known_of(secrets: Iterable[str]) -> tuple[_Known, ...]:
    whole: dict[str, None] = {}
    for secret in secrets:
        whole |= dict.fromkeys((secret, unquote(secret)))
    known: dict[_Known, None] = {}
    for secret in whole:
        if len(secret) < SHORTEST:
            continue
        known[_plain(secret)] = None
        known |= dict.fromkeys(_in_base64(secret))
    return tuple(known)


# Variables that a cluster file names, whatever they are called; and what no variable holds.
_named: set[str] = set()
_told: set[str] = set()
_known: tuple[_Known, ...] | None = None


def look_again(*variables: str, values: Iterable[str] = ()) -> None:
    """Read the environment anew, for these variables too, which a cluster file names; these values
    are secrets as well.
    """
    global _known
    _named.update(variables)
    _told.update(values)
    _known = None


def _know() -> tuple[_Known, ...]:
    """The secrets of the environment: read once, until it is to be looked at again."""
    global _known
    if _known is None:
        secrets = set(_told)
        for variable, value in os.environ.items():
            secrets.update(_values_of(variable, value))
        secrets.update(os.environ.get(variable, "").strip() for variable in _named)
        _known = _known_of(sorted(filter(is_worth_masking, secrets)))
    return _known


_AROUND = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


def masked(text: str) -> str:
    """The text with `***` in the place of each secret of the environment; the same text where it
    holds none. Cut a text after this, not before: half a key would stay.
    """
    hits: list[tuple[int, int, bool]] = []
    for known in _know():
        if known.core in text:
            found = _compiled(known.pattern).finditer(text)
            hits += [(hit.start(), -hit.end(), known.is_base64) for hit in found]
    if not hits:
        return text
    pieces: list[str] = []
    begin = 0
    # Of those that begin together the longest first.
    for start, negative_end, is_base64 in sorted(hits):
        end = -negative_end
        if end <= begin:
            continue
        while is_base64 and end < len(text) and text[end] in _AROUND:
            end += 1
        if start >= begin:
            first = start
            if is_base64:
                first = _first_around(text, begin, start)
            pieces += [text[begin:first], MASK]
        begin = end
    return "".join([*pieces, text[begin:]])


def _first_around(text: str, begin: int, start: int) -> int:
    """Where the base64 begins whose middle begins at `start`. A JSON escape before it (`\\n`) stays
    whole: the text may be JSON.
    """
    first = start
    while first > begin and text[first - 1] in _AROUND:
        first -= 1
    if first > begin and text[first - 1] == "\\" and first < start:
        escape = 1
        if text[first] == "u":
            escape = 5
        return min(first + escape, start)
    return first


def holds_secret(text: str) -> bool:
    """Whether a secret of the environment stands in a text."""
    return any(known.core in text and known.is_in(text) for known in _know())


def masked_values(value: Any, but: str = "") -> Any:
    """A value of JSON whose texts are masked, but for one that is ours. The keys of objects stay
    what they are: whoever reads the value back looks for them.
    """
    if isinstance(value, str):
        if value == but:
            return value
        return masked(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {name: masked_values(inner, but) for name, inner in pairs}
    if isinstance(value, list | tuple):
        return [masked_values(inner, but) for inner in cast("list[Any]", value)]
    return value


# Settings that name a thing: a model or a folder may be called as somebody's password.
_NAMES = frozenset({"name", "model", "models", "base", "teacher", "student", "prompt", "source"})
_IDENTIFIER = re.compile(rf"{_WORD}(?:[_.-]+{_WORD})*")


def variable_in(value: Any) -> str | None:
    """The name of an environment variable whose secret stands in a text below a value of JSON. The
    keys of objects are none of its texts, and neither is what names a model, nor the identifier of
    a column (`problem_id`).
    """
    texts = list(_texts_below(value, ""))
    if not any(map(holds_secret, texts)):
        return None
    for variable, content in os.environ.items():
        own = set(_values_of(variable, content))
        if variable in _named:
            own.add(content.strip())
        known = _known_of(sorted(filter(is_worth_masking, own)))
        if any(one.is_in(text) for one in known for text in texts):
            return variable
    return None


def _texts_below(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, str):
        if name not in _NAMES and _IDENTIFIER.fullmatch(value) is None:
            yield value
    elif isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from _texts_below(inner, key)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from _texts_below(inner, name)


def cleaned(text: str) -> str:
    """A text for people (log, terminal, message, report): without the environment's secrets, what
    looks like anybody's key, and passwords and keys of URLs.
    """
    return clean_urls(_KEY.sub(MASK, masked(text)))


def cleaned_setting(name: str, value: str) -> str:
    """The value of a setting that others wrote down, for people: `***` where its name says that it
    is a secret, and for each setting inside it whose name does (`model=x,api_key=…`).
    """

    def clean(setting: re.Match[str]) -> str:
        if _holds_secret(setting["name"], setting["value"]):
            return setting[0].removesuffix(setting["value"]) + MASK
        return setting[0]

    if _holds_secret(name.rpartition(".")[2], value):
        return MASK
    return cleaned(_SETTING_INSIDE.sub(clean, value))


def _holds_secret(name: str, value: str) -> bool:
    return is_secret(name, value) and is_secret_value(value)
