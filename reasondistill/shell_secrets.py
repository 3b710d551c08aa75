"""Secrets in shell lines and options, which would be written to disk: they are refused.

    found_in_shell("export HF_TOKEN=abc")       HF_TOKEN
    found_in_shell("wandb login abc")           a key (login)
    found_in_shell("export HF_TOKEN=$TOKEN")    None: it only names one

The usual forms are found. A shell can put a secret together in ways that no reading finds
(`x=pla; export HF_TOKEN=${x}nted`, `eval`, a file that is sourced): this guards against a slip, not
against somebody who wants to hide one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from reasondistill.secret_names import Secrecy, how_secret, is_secret_name, words_of
from reasondistill.secrets import SWITCHES, found_in, is_placeholder, is_secret

# One word of a shell, with its quotes; what is taken is never given back.
_ONE = (
    r"(?:\"(?:[^\"\\]|\\.)*+\"|'[^']*+'|\$\((?:[^()]|\([^()]*+\))*+\)|`[^`]*+`|\$\{[^}]*+\}"
    r"|\\.|[^\s;&|()\"'`\\])++"
)
_VALUE = rf"(?P<value>{_ONE})"
_NAME = r"(?P<name>[A-Za-z_][\w-]*)"
_SETTINGS = [
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w$?&{{-]){_NAME}(?:\[\w*\])?\+?=\(?[ \t]*{_VALUE}",
        rf"\$\{{{_NAME}:?[-=+](?P<value>[^}}]*)",
        rf"(?<![^\s\"'=,])--?{_NAME}(?:=|[ \t]+)(?!-){_VALUE}",
        rf"\bsetenv\s+{_NAME}\s+{_VALUE}",
        # csh and fish
        rf"\bset\s+(?:-\w+\s+){{0,4}}{_NAME}\s+(?:=\s*)?{_VALUE}",
        r"\bconfig(?:ure)?\s+(?:set\s+|-\S{1,40}\s+){0,4}"
        rf"(?P<name>[\w./:@-]+)(?:\s+|=){_VALUE}",
    )
]
_READ = re.compile(
    r"\bread(?P<names>(?:[ \t]+[\w-]+){1,8})[ \t]*"
    rf"(?:<<<[ \t]*|<<-?[ \t]*[\"']?\w+[\"']?[ \t]*\n\s*){_VALUE}"
)
_PRINTF = re.compile(rf"\bprintf\s+-v\s*{_NAME}(?P<value>[^;&|\n]*)")
_HEADERS = [
    re.compile(pattern)
    for pattern in (
        r"(?i)(?<![\w-])"
        r"(?P<name>(?:[\w-]{1,40}-)?(?:authorization|api-?key|auth-?key|token|secret|cookie))"
        r"\s*:\s*"
        r"(?:(?:bearer|basic|token)\s+)?(?P<value>[^\s\"']{3,})",
        r"(?i)\b(?P<name>bearer)\s+(?P<value>[A-Za-z0-9._~+/=-]{8,})",
    )
]
# Not `-u 1000:1000`, a user and a group.
_CURL_USER = r"(?!\d+:\d+(?!\S))[^\s:]*:(?P<value>[^\s:@/]\S*)"
# What a command of this kind takes as a secret, and how to call it.
_COMMANDS = [
    (re.compile(command), re.compile(argument), kind)
    for command, argument, kind in (
        (
            r"\b(?:curl|wget|http|https|xh)\b",
            rf"(?<!\S)(?:-[A-Za-z]*[uUa]|--[\w-]*(?:user|auth))[= ]?\s*[\"']?{_CURL_USER}",
            "a user's password (-u)",
        ),
        # Elsewhere it is a user and a group as well: `-u me:staff`.
        (
            r"\s",
            rf"(?<!\S)-u[= ]+[\"']?(?=[^\s:]*:[^\s:]*\d){_CURL_USER}",
            "a user's password (-u)",
        ),
        (r"\b(?:sshpass|mongo\w*|7z\w?)\b", rf"(?<!\S)-p[= ]?\s*{_VALUE}", "a password (-p)"),
        (r"\b(?:mysql\w*|mariadb[\w-]*)\b", rf"(?<!\S)-p{_VALUE}", "a password (-p)"),
        (r"\bredis-cli\b", rf"(?<!\S)-a\s*{_VALUE}", "a password (-a)"),
        (r"\b(?:un)?zip\b", rf"(?<!\S)-P\s*{_VALUE}", "a password (-P)"),
        (r"\bldap\w+\b", rf"(?<!\S)-w\s*{_VALUE}", "a password (-w)"),
        (r"\bsmbclient\b", r"(?<!\S)-U\s*[^\s%]+%(?P<value>[^\s$]\S*)", "a password (-U)"),
        (r"\bopenssl\b", rf"\bpass:{_VALUE}", "a password (pass:)"),
        (r"\bmachine\s", rf"\b(?:password|passwd)\s+{_VALUE}", "a password (netrc)"),
        (r"\blogin\b", rf"(?<!\S)-[pt][= ]?\s*{_VALUE}", "a key (login)"),
        (r"\blogin\b", rf"<<<\s*{_VALUE}", "a key (login)"),
        (
            r"\b(?:wandb|swanlab)\s+login\b",
            r"\blogin(?:[ \t]+--(?:host|entity|base-url|timeout)[= ]\S+|[ \t]+--?\w[\w-]*)*+[ \t]+"
            rf"(?!-){_VALUE}",
            "a key (login)",
        ),
    )
]
# What is printed into something that takes secrets.
_PRINTED = re.compile(
    r"\b(?:echo|printf)\s+(?P<value>[^;&|<>\n]*)(?P<to>\||>+)[ \t]*(?P<target>[^;&\n]*)"
)
_TAKES_SECRETS = re.compile(r"\blogin\b|stdin|with-token|\bsudo\b[^|]* -S|\bpasswd\b")
_SECRET_FILE = re.compile(
    r"(?i)^\S*(?:token|netrc|pgpass|credential|secret|passw|api[-_]?key|my\.cnf)"
)
_HAS_USER = re.compile(r"[\"']?[^\s:/@]+:(?!//)[^\s]*@")

# Quotes in quotes.
_DEEPEST = 2

_A_WORD = re.compile(_ONE)
_A_VARIABLE = re.compile(r"\$\{?[A-Z_][A-Z0-9_]*\}?")
_OF_A_COMMAND = re.compile(r"(?:\$\(|`)(?P<inner>.*)", re.DOTALL)
_PRINTS = re.compile(r"\s*(?:echo|printf)\s+(?P<value>[^|<>)`]*)")
_HERE = re.compile(rf"<<<\s*{_VALUE}")
# Behind what else a secret stands in a file as a rule.
_FILED = frozenset({"CREDENTIAL", "CREDENTIALS", "CRED", "CREDS", "COOKIE", "COOKIES"})
_KEY_FILES = frozenset({"PRIVATE", "CLIENT", "SIGNING", "DEPLOY", "SSH", "TLS", "SSL"})


def found_in_shell(text: str, depth: int = 0) -> str | None:
    """What kind of secret stands in shell lines or options, in words that do not repeat it; None
    where there is none. What only names a secret (`$HF_TOKEN`, a file) is none. Values in quotes
    are read as lines too, `depth` says how often that was done.
    """
    kind = found_in(text)
    if kind is not None:
        return kind
    for pattern in _SETTINGS:
        for setting in pattern.finditer(text):
            if _sets_secret(setting["name"], setting["value"]):
                return setting["name"]
            if setting["value"].startswith(("'", '"')) and depth < _DEEPEST:
                kind = found_in_shell(setting["value"][1:-1], depth + 1)
                if kind is not None:
                    return kind
    for read in _READ.finditer(text):
        for name in read["names"].split():
            if not name.startswith("-") and _sets_secret(name, read["value"]):
                return name
    for setting in _PRINTF.finditer(text):
        if is_secret_name(setting["name"]) and _prints_secret(setting["value"]):
            return setting["name"]
    for pattern in _HEADERS:
        for header in pattern.finditer(text):
            if _is_secret_word(header["value"]):
                return f"a header ({header['name']})"
    return _found_in_commands(text)


def _found_in_commands(text: str) -> str | None:
    for command, argument, kind in _COMMANDS:
        if command.search(text) is None:
            continue
        for found in argument.finditer(text):
            if _is_secret_word(found["value"]):
                return kind
    for printed in _PRINTED.finditer(text):
        takes = _TAKES_SECRETS.search
        if printed["to"] != "|":
            takes = _SECRET_FILE.search
        if takes(printed["target"]) and _prints_secret(printed["value"]):
            return "a secret that is printed into something"
    return None


def _sets_secret(name: str, value: str) -> bool:
    if name.lower().endswith("proxy") and _HAS_USER.match(value):
        return True
    # `--auth munge` and `--key 3` are none; `--token abc` is.
    is_one = is_secret(name, value) or (is_secret_name(name) and "token" in name.lower())
    return is_one and _is_secret_word(value, takes_file=_is_of_a_file(name))


def is_secret_setting(name: str, value: str) -> bool:
    """Whether a variable of this name and value, which no shell reads, holds a secret: `$` and
    quotes mean nothing here.
    """
    if name.lower().endswith("proxy") and _HAS_USER.match(value):
        return True
    bare = value.strip()
    if not is_secret(name, bare) or bare.lower() in SWITCHES or is_placeholder(bare):
        return False
    return not _is_path(bare, takes_file=_is_of_a_file(name))


def _is_of_a_file(name: str) -> bool:
    """Whether what is named so is a file as often as not: `TLS_KEY`, `MY_CREDENTIALS`."""
    words = ["", *words_of(name)]
    if words[-1] in _FILED:
        return True
    is_key = words[-1] == "KEY"
    return is_key and (how_secret(name) is Secrecy.LIKELY or words[-2] in _KEY_FILES)


def _is_path(value: str, *, takes_file: bool) -> bool:
    if value.startswith(("~/", "./")):
        return True
    return value.startswith("/") and (takes_file or os.path.exists(value))


def _is_secret_word(word: str, *, takes_file: bool = False) -> bool:
    """Whether a shell's word is a secret itself: not where it is empty or a switch, or only says
    where the secret is.
    """
    bare = word.strip().strip("\"'")
    if bare.lower() in SWITCHES or is_placeholder(bare) or _is_path(bare, takes_file=takes_file):
        return False
    # Nothing is put in for it between single quotes, and $'…' is no name.
    if word.startswith(("'", "$'")):
        return _A_VARIABLE.fullmatch(bare) is None
    command = _OF_A_COMMAND.match(bare)
    if command is not None:
        return _is_printed_by(command["inner"])
    return not bare.startswith(("$", "<"))


def _is_printed_by(command: str) -> bool:
    """Whether a command that stands for a value only repeats one: `$(echo abc)`."""
    printed = _PRINTS.match(command)
    if printed is not None:
        return _prints_secret(printed["value"])
    here = _HERE.search(command)
    return here is not None and _is_secret_word(here["value"])


def _prints_secret(arguments: str) -> bool:
    """Whether something stands behind `echo` or `printf` that is neither option nor format."""
    return any(map(_is_secret_word, _printed_words(arguments)))


def _printed_words(arguments: str) -> Iterator[str]:
    for word in _A_WORD.findall(arguments):
        bare = word.strip("\"'")
        if not bare.startswith(("-", "%")):
            yield word
