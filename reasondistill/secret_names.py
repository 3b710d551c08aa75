"""What the name of a variable, option, header or query key says about its value.

    how_secret("HF_TOKEN")        CERTAIN: whatever stands there is a secret
    how_secret("SESSION_KEY")     LIKELY: a secret, where it looks like one
    how_secret("PRIMARY_KEY")     NOT
    how_secret("HF_TOKEN_PATH")   NOT: it says where the secret is

A name is read word by word, without a plural and without digits at a word's end; `DBPASS` and
`APIKEY` are words too.
"""

from __future__ import annotations

import re
from enum import IntEnum


class Secrecy(IntEnum):
    """How surely a name means a secret."""

    NOT = 0
    LIKELY = 1
    CERTAIN = 2


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CERTAIN = _words(
    "PASSWORD PASSWD PASSPHRASE PASSCODE PASSWRD SECRET CRED CREDENTIAL AUTHORIZATION BEARER "
    "PWD PW PAT JWT"
)
_LIKELY = _words("COOKIE DSN SIGNATURE")
# They mean much else where they do not end a name (`--pass-through`).
_LAST_WORDS = {
    "PASS": Secrecy.CERTAIN,
    "AUTH": Secrecy.LIKELY,
    "OAUTH": Secrecy.CERTAIN,
    "SIG": Secrecy.LIKELY,
}
# Anywhere in a word: SECRETKEYBASE, MYPASSWORDS.
_GLUED = (
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASSCODE",
    "APIKEY",
    "APITOKEN",
    "ACCESSKEY",
    "ACCESSTOKEN",
    "AUTHTOKEN",
    "SECRETKEY",
    "PRIVATEKEY",
    "CONNECTIONSTRING",
    "CONNSTR",
)
_NOT_GLUED = ("LESS", "FILE", "PATH", "DIR")
# Before AUTH: `user:password`.
_OF_LOGINS = frozenset({"BASIC", "HTTP", "PROXY", "REGISTRY", "DOCKER"})
_KEYLIKE = ("KEY", "TOKEN")
# Before KEY or TOKEN: what opens something.
_OPENS = _words(
    "API APP ACCESS SECRET PRIVATE AUTH AUTHORIZATION BEARER REFRESH SESSION OAUTH ENCRYPTION "
    "SIGNING MASTER SERVICE DEPLOY ACCOUNT BOT CSRF CI JOB STORAGE SHARED CLIENT ADMIN ROOT "
    "USER HF HUB HUGGINGFACE HUGGING GH GITHUB GITLAB OPENAI ANTHROPIC AZURE AWS GCP GOOGLE "
    "GEMINI WANDB SLACK NPM PYPI REPLICATE TOGETHER MISTRAL DEEPSEEK NVIDIA NGC KAGGLE VAULT "
    "RAY"
)
# Before KEY: what finds, sorts or is for everybody to see.
_FINDS = _words(
    "PRIMARY SORT SORTING PARTITION FOREIGN ANSWER CACHE HASH RANGE ROW GROUP INDEX LOOKUP MAP "
    "DICT JSON COLUMN FIELD PUBLIC PUB GPG PGP HOT QUESTION PROBLEM LABEL TEXT PROMPT RESPONSE "
    "MESSAGE MESSAGES UNIQUE SHARD ROUTING OBJECT REGISTRY CONFIG COMPOSE OUTPUT INPUT TARGET "
    "SOURCE RESULT REASONING SOLUTION CONTENT IMAGE METRIC JOIN MERGE SAMPLE DATASET TRAIN EVAL "
    "IDEMPOTENCY PARENT CHILD COMPOSITE CANDIDATE CLUSTERING ESCAPE META ARROW ANY"
)
# Before TOKEN: a token of a text.
_OF_A_TEXT = _words(
    "EOS BOS PAD UNK SEP CLS MASK SPECIAL STOP END START BEGIN FIRST LAST NEXT PREVIOUS THINK "
    "IMAGE VIDEO AUDIO PER EOT EOM EOD ADDED EXTRA WORD SUB TEXT INPUT OUTPUT PROMPT COMPLETION "
    "SYSTEM ASSISTANT TOOL CONTROL PLACEHOLDER DECODER ENCODER FORCED MAX MIN NUM TOTAL FIM "
    "PREFIX SUFFIX MIDDLE NEWLINE"
)
_COUNTS = ("MAX", "MIN", "NUM", "TOTAL", "NEW", "SUB", "INPUT", "OUTPUT", "SPECIAL", "STOP")
# After any of these words: how much of it, how it is dealt with.
_DEALS_WITH = _words(
    "LIMIT LIMITS PER COUNT COUNTS IDS COLUMN FIELD INDEX PREFIX SUFFIX POLICY MIN MAX LENGTH "
    "RATE BUDGET USAGE BACKEND PROVIDER MANAGER STORE ENGINE HEADER HEADERS PROMPT ROTATION "
    "BUCKET COMPRESSION ENABLED DISABLED REQUIRED"
)
# PASS, of a filter or over data.
_OVER_DATA = _words(
    "FORWARD BACKWARD LOW HIGH BAND ALL FIRST SECOND THIRD LAST SINGLE ONE TWO DOUBLE MULTI NO "
    "PER EACH NUM"
)
_NO_SECRETS = _words(
    "MONKEY DONKEY TURKEY HOTKEY WHISKEY HOCKEY JOCKEY LACKEY MICKEY HICKEY FLUNKEY PUBKEY "
    "COMPASS ENCOMPASS BYPASS TRESPASS SURPASS OVERPASS UNDERPASS KEEPASS IMPASS LASTPASS "
    "PREPASS SUBPASS ASKPASS MULTIPASS ONEPASS TWOPASS LOWPASS HIGHPASS BANDPASS ALLPASS FIRSTPASS "
    "SINGLEPASS NOPASS"
)
# A name that ends so says where a secret is or what kind it is, not what it is.
_ABOUT = _words(
    "FILE FILES PATH DIR FOLDER ENV URL URI HOST PORT NAME TYPE MODE METHOD SOCK SOCKET LENGTH "
    "SIZE COUNT LIMIT RATE TTL TIMEOUT EXPIRY ALGORITHM HEADER HEADERS FORMAT VERSION STDIN "
    "FD COMMAND CMD HELPER JAR"
)
_ARE_LOGINS = _words("AUTH AUTHORIZATION BEARER COOKIE")
_SHELLS_OWN = frozenset({"PWD", "OLDPWD"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BETWEEN_WORDS = re.compile(r"[^A-Za-z0-9]+")


def is_secret_name(name: str) -> bool:
    """Whether a variable, option, header or query key of this name holds a secret, or may:
    `HF_TOKEN`, `api-key`, `dbPassword`; not `TOKEN_FILE`, `max_tokens`, `PRIMARY_KEY`.
    """
    return how_secret(name) is not Secrecy.NOT


def how_secret(name: str) -> Secrecy:
    """How surely a name means a secret."""
    if name in _SHELLS_OWN:
        return Secrecy.NOT
    words = words_of(name)
    if not words:
        return Secrecy.NOT
    before_last, last = ["", *words][-2:]
    if names_webhook(words):
        return Secrecy.CERTAIN
    if last in _ABOUT:
        if last in ("HEADER", "HEADERS") and before_last in _ARE_LOGINS:
            return Secrecy.CERTAIN
        return Secrecy.NOT
    if last in ("STRING", "STR") and before_last in ("CONNECTION", "CONN"):
        return Secrecy.CERTAIN
    befores = ["", *words]
    afters = [*words[1:], ""]
    return max(map(_secrecy_of, words, befores, afters))


def words_of(name: str) -> list[str]:
    """The words of a name in capitals, without digits at their ends."""
    spaced = _CAMEL.sub("_", name).upper()
    words = [word.rstrip("0123456789") for word in _BETWEEN_WORDS.split(spaced)]
    return [word for word in words if word]


def names_webhook(words: list[str]) -> bool:
    """Whether a variable of these words holds a webhook: whoever knows its URL may post there."""
    is_one = any("WEBHOOK" in word for word in words)
    return is_one and (words[-1] in ("URL", "URI") or words[-1] not in _ABOUT)


def is_plural(name: str) -> bool:
    """Whether a name speaks of several secrets: `API_KEYS`."""
    words = words_of(name)
    return bool(words) and words[-1] != _singular(words[-1])


def _singular(word: str) -> str:
    if word.endswith("S") and not word.endswith("SS"):
        return word[:-1]
    return word


def _secrecy_of(word: str, before: str, after: str) -> Secrecy:
    """What one word of a name says between its neighbours; no neighbour is empty."""
    one = _singular(word)
    if after in _DEALS_WITH or one in _NO_SECRETS:
        return Secrecy.NOT
    if one in _CERTAIN:
        return Secrecy.CERTAIN
    if one in _LIKELY:
        return Secrecy.LIKELY
    if one in _LAST_WORDS:
        if after or (one == "PASS" and before in _OVER_DATA):
            return Secrecy.NOT
        if one == "AUTH" and before in _OF_LOGINS:
            return Secrecy.CERTAIN
        return _LAST_WORDS[one]
    if one in _KEYLIKE:
        return _secrecy_of_key(one, before, is_many=one != word, is_glued=False)
    return _secrecy_of_glued(one, is_many=one != word, is_last=not after)


def _secrecy_of_key(kind: str, before: str, *, is_many: bool, is_glued: bool) -> Secrecy:
    """What KEY or TOKEN mean behind a word."""
    harmless = _FINDS
    if kind == "TOKEN":
        harmless = _OF_A_TEXT
    if before in harmless:
        return Secrecy.NOT
    if before in _OPENS:
        return Secrecy.CERTAIN
    # Tokens are counted far more often than they open something.
    if kind == "TOKEN" and is_many and (not is_glued or before.startswith(_COUNTS)):
        return Secrecy.NOT
    return Secrecy.LIKELY


def _secrecy_of_glued(word: str, *, is_many: bool, is_last: bool) -> Secrecy:
    """Of a word that ends in another one: DBPASS, MYPWD, MYTOKEN."""
    if any(glued in word for glued in _GLUED) or word.endswith("SECRET"):
        if word.endswith(_NOT_GLUED):
            return Secrecy.NOT
        return Secrecy.CERTAIN
    for kind in _KEYLIKE:
        if word.endswith(kind):
            before = word.removesuffix(kind)
            return _secrecy_of_key(kind, before, is_many=is_many, is_glued=True)
    if word.endswith(("PWD", "PW")) or (word.endswith("PASS") and is_last):
        return Secrecy.CERTAIN
    if word.endswith("AUTH") and is_last:
        return Secrecy.LIKELY
    return Secrecy.NOT
