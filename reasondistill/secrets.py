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
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote

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
    }
)


# ---- names ---------------------------------------------------------------------------------------

_WORDS = frozenset(
    [
        "KEY",
        "KEYS",
        "TOKEN",
        "SECRET",
        "SECRETS",
        "PASSWORD",
        "PASSWORDS",
        "PASSWD",
        "PASSPHRASE",
        "PWD",
        "PW",
        "PAT",
        "CRED",
        "CREDS",
        "CREDENTIAL",
        "CREDENTIALS",
        "AUTHORIZATION",
        "BEARER",
        "COOKIE",
        "COOKIES",
        "JWT",
        "DSN",
        "SIGNATURE",
    ]
)
# They mean much else where they do not end a name (`--pass-through`).
_LAST_WORDS = frozenset({"PASS", "AUTH", "SIG"})
_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE")
_NO_KEYS = frozenset({"MONKEY", "DONKEY", "TURKEY", "HOTKEY", "WHISKEY", "HOCKEY", "JOCKEY"})
# A name that ends so says where a secret is or what kind it is, not what it is.
_ABOUT = frozenset(
    [
        "FILE",
        "FILES",
        "PATH",
        "DIR",
        "FOLDER",
        "ENV",
        "URL",
        "URI",
        "HOST",
        "PORT",
        "NAME",
        "TYPE",
        "MODE",
        "METHOD",
        "SOCK",
        "SOCKET",
        "LENGTH",
        "SIZE",
        "COUNT",
        "LIMIT",
        "RATE",
        "TTL",
        "TIMEOUT",
        "EXPIRY",
        "ALGORITHM",
    ]
)
_SHELLS_OWN = frozenset({"PWD", "OLDPWD"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BETWEEN_WORDS = re.compile(r"[^A-Za-z0-9]+")


def is_secret_name(name: str) -> bool:
    """Whether a variable, option, header or query key of this name holds a secret: `HF_TOKEN`,
    `api-key`, `dbPassword`; not `TOKEN_FILE` and not `max_tokens`.
    """
    if name in _SHELLS_OWN:
        return False
    spaced = _CAMEL.sub("_", name)
    words = [word.upper() for word in _BETWEEN_WORDS.split(spaced) if word]
    if not words or words[-1] in _ABOUT:
        return False
    return words[-1] in _LAST_WORDS or any(_is_secret_word(word) for word in words)


def _is_secret_word(word: str) -> bool:
    if word in _WORDS:
        return True
    return word.endswith(_ENDINGS) and word not in _NO_KEYS


# ---- what looks like a key -----------------------------------------------------------------------

# Of well-known services. A digit is wanted where words with dashes may begin like that.
_KEY_FORMATS = {
    "sk-…": r"sk-(?=[\w-]*\d)[A-Za-z0-9_-]{12,}",
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
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20}://)(?P<user>[^\s/?#\"'<>]*@)?(?P<rest>[^\s\"'<>]*)"
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

# A shell's $NAME or `command`, or a file that holds it: no secret itself.
_REFERENCE = re.compile(r"[\"']?(?:\$|`|/|~/|\./|\{\{|<)")
_SWITCH = frozenset({"", "0", "1", "true", "false", "yes", "no", "on", "off", "none"})
_SETTING = re.compile(
    r"(?<![\w$?&{-])(?P<name>[A-Za-z_][\w-]*)=(?P<value>\"[^\"]*\"|'[^']*'|[^\s;&|,)\"']*)"
)
_OPTION = re.compile(r"(?<!\S)--?(?P<name>[A-Za-z][\w-]*)[= ]+(?P<value>[^\s-]\S*)")
_HEADER = re.compile(
    r"(?i)(?P<name>\b(?:[\w-]+-)?(?:authorization|api-?key|token|secret|cookie))\s*:\s*"
    r"(?:(?:bearer|basic|token)\s+)?(?P<value>[^\s\"']+)"
)
_BEARER = re.compile(r"(?i)\b(?P<name>bearer)\s+(?P<value>[A-Za-z0-9._~+/=-]{8,})")
_CURL_USER = re.compile(r"(?<!\S)(?P<name>-u|--user)[= ]+(?P<value>[^\s:$]+:[^\s$]\S*)")


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
            if _is_secret_pair(pair) and not _REFERENCE.match(pair["value"]):
                name = pair["name"][1:-1]
                return f"a key in a URL ({name}=…)"
    return None


def found_in_shell(text: str) -> str | None:
    """As `found_in`, of shell lines and options: also `export HF_TOKEN=…`, `--api-key …`,
    `Authorization: Bearer …`. What only names a secret (`$HF_TOKEN`, a file) is none.
    """
    kind = found_in(text)
    if kind is not None:
        return kind
    for pattern in (_SETTING, _OPTION):
        for setting in pattern.finditer(text):
            if is_secret_name(setting["name"]) and is_secret_value(setting["value"]):
                return setting["name"]
    for pattern in (_HEADER, _BEARER):
        for header in pattern.finditer(text):
            if is_secret_value(header["value"]):
                return f"a header ({header['name']})"
    if _CURL_USER.search(text):
        return "a user's password (-u)"
    return None


def is_secret_value(value: str) -> bool:
    """Whether the value of a setting with a secret's name is one: not where it is empty or a
    switch, or only says where the secret is.
    """
    bare = value.strip().strip("\"'")
    return bare.lower() not in _SWITCH and _REFERENCE.match(bare) is None


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
            if is_leaf and is_secret_name(str(name)) and is_secret_value(str(inner)):
                yield str(name)
            yield from secret_names_in(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from secret_names_in(inner)


# ---- the secrets of the environment --------------------------------------------------------------


def is_worth_masking(value: str) -> bool:
    """Whether a value is no word or number that a text may hold by chance: 10 characters or more,
    or 8 with letters and digits; digits alone from 16 on. What people write where no key is wanted
    (`not-needed`) is none, and neither is the name of a file.
    """
    if len(value) < SHORTEST or value.lower() in _PLACEHOLDERS:
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


def _values_of(variable: str, value: str) -> Iterator[str]:
    """The secrets in the value of a variable: lines of a private key, the password of a URL."""
    if "://" in value:
        yield from _secrets_of_url(value)
    elif is_secret_name(variable) or _KEY.search(value):
        yield value.strip()
        lines = value.splitlines()
        if len(lines) > 1:
            yield from (line.strip() for line in lines)


def _secrets_of_url(value: str) -> Iterator[str]:
    """Passwords and keys of the URLs that a value holds, as they stand there and unquoted."""
    for url in _URL.finditer(value):
        user = url["user"]
        if user and _has_password(url["scheme"], user):
            yield user[:-1]
            name, _, password = user[:-1].partition(":")
            yield password or name
        for pair in _QUERY_PAIR.finditer(url["rest"]):
            if _is_secret_pair(pair):
                yield pair["value"]


@dataclass(frozen=True)
class _Known:
    """The secrets of this process in all their `forms`, the longest first, as one pattern, and
    which of the forms are base64: what stands around these is a part of them.
    """

    forms: tuple[str, ...] = ()
    pattern: re.Pattern[str] = re.compile("")
    in_base64: frozenset[str] = frozenset()

    def is_in(self, text: str) -> bool:
        """Three times as fast as the pattern, for texts without secrets: nearly all."""
        return any(form in text for form in self.forms)


def _forms(secret: str) -> set[str]:
    """How a secret may come back, but for base64."""
    forms = {secret, unquote(secret), quote(secret), quote(secret, safe=""), quote_plus(secret)}
    for plain in tuple(forms):
        forms.add(json.dumps(plain)[1:-1])
        forms.add(json.dumps(plain, ensure_ascii=False)[1:-1])
        forms.add(html.escape(plain))
        forms.add(repr(plain)[1:-1])
    return {form for form in forms if len(form) >= SHORTEST}


def _base64_forms(secret: str) -> set[str]:
    """What is the same of a secret's base64, whatever stands before and behind it: it may begin at
    any of three places in a group of four characters.
    """
    content = secret.encode("utf-8", "surrogatepass")
    forms: set[str] = set()
    for before in range(3):
        padded = b"\0" * before + content
        encoded = base64.b64encode(padded).decode("ascii")
        first = (8 * before + 5) // 6
        last = 8 * len(padded) // 6
        core = encoded[first:last]
        if len(core) >= _SHORTEST_BASE64:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    return forms


def _known_of(secrets: Iterable[str]) -> _Known:
    plain: set[str] = set()
    in_base64: set[str] = set()
    for secret in secrets:
        plain |= _forms(secret)
        in_base64 |= _base64_forms(secret) | _base64_forms(unquote(secret))
    forms = tuple(sorted(plain | in_base64, key=lambda form: (-len(form), form)))
    pattern = re.compile("|".join(map(re.escape, forms)))
    return _Known(forms, pattern, frozenset(in_base64 - plain))


# Variables that a cluster file names, whatever they are called; and what no variable holds.
_named: set[str] = set()
_told: set[str] = set()
_known: _Known | None = None


def look_again(*variables: str, values: Iterable[str] = ()) -> None:
    """Read the environment anew, for these variables too, which a cluster file names; these values
    are secrets as well.
    """
    global _known
    _named.update(variables)
    _told.update(values)
    _known = None


def _know() -> _Known:
    """The secrets of the environment: read once, until it is to be looked at again."""
    global _known
    if _known is None:
        secrets = set(_told)
        for variable, value in os.environ.items():
            secrets.update(_values_of(variable, value))
        secrets.update(os.environ.get(variable, "").strip() for variable in _named)
        _known = _known_of(filter(is_worth_masking, secrets))
    return _known


_AROUND = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


def masked(text: str) -> str:
    """The text with `***` in the place of each secret of the environment; the same text where it
    holds none. Cut a text after this, not before: half a key would stay.
    """
    known = _know()
    if not known.is_in(text):
        return text
    hit = known.pattern.search(text)
    pieces: list[str] = []
    begin = 0
    while hit is not None:
        start, end = hit.span()
        if hit[0] in known.in_base64:
            start = _first_around(text, begin, start)
            while end < len(text) and text[end] in _AROUND:
                end += 1
        pieces += [text[begin:start], MASK]
        begin = end
        hit = known.pattern.search(text, begin)
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
    return _know().is_in(text)


def masked_json(text: str) -> str:
    """JSON whose texts are masked; the same text where it holds no secret."""
    if not holds_secret(text):
        return text
    clean = _masked_values(json.loads(text))
    return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))


def _masked_values(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {masked(name): _masked_values(inner) for name, inner in pairs}
    if isinstance(value, list):
        return [_masked_values(inner) for inner in cast("list[Any]", value)]
    return value


def variable_in(text: str) -> str | None:
    """The name of an environment variable whose secret stands in a text."""
    if not holds_secret(text):
        return None
    for variable, value in os.environ.items():
        own = set(_values_of(variable, value))
        if variable in _named:
            own.add(value.strip())
        if _known_of(filter(is_worth_masking, own)).is_in(text):
            return variable
    return None


def cleaned(text: str) -> str:
    """A text for people (log, terminal, message, report): without the environment's secrets, what
    looks like anybody's key, and passwords and keys of URLs.
    """
    return clean_urls(_KEY.sub(MASK, masked(text)))
