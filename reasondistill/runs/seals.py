"""Seals: what this user's commands have written can be told from what came from elsewhere.

    seal("run", content)                    # "9f1c…"; "" where there is no key
    is_ours("run", content, found)          # False for what others wrote, whatever it says

A seal is an HMAC-SHA256 of a text under a key that lies outside of all run folders: 32 random bytes
in `$XDG_STATE_HOME/reasondistill/key` (`~/.local/state/reasondistill/key`), readable by the user
alone, made when it is first needed. Machines that share the home folder share the key. Others are
given it in REASONDISTILL_KEY, as 64 hexadecimal digits; it is never written into a run's folder.
Launchers hand it to their jobs by the environment. A task makes no key: in a container with a home
of its own the next one would not find it.

A seal holds wherever its text is: a run may be moved and copied. So it speaks for its own text
alone, never for what lies beside it: whoever has a copy of a sealed run.json gains what this user
has written himself, and no more. What else is used as one's own has a seal of its own.
"""

from __future__ import annotations

import hmac
import logging
import os
import pwd
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from reasondistill.errors import ConfigError

log = logging.getLogger(__name__)

# The environment variable with the key itself, where there is no file.
KEY = "REASONDISTILL_KEY"
# Names the run that its user has taken for his own, for its tasks.
TRUST = "REASONDISTILL_TRUST"
# The kind of the seals of checkpoints.
CHECKPOINT = "checkpoint"
# What a user does whose own run is taken for a stranger's.
SAME_KEY = (
    "If it is yours, from another machine or home folder, give both the same key: copy "
    f"~/.local/state/reasondistill/key, or set {KEY} to what it holds."
)
_DIGITS = re.compile(r"[0-9a-f]{64}")
_told: set[str] = set()
# Whether this process makes a key where there is none.
_makes_key = True


def make_key_where_none_is(makes_key: bool) -> None:
    """Whether this process may make a key; one that does a task uses what there is, or none."""
    global _makes_key
    _makes_key = makes_key


def seal(kind: str, content: str) -> str:
    """The seal of a text, empty where no key can be had, which is said once. `kind` keeps seals of
    one thing from being taken for those of another.
    """
    try:
        key = own_key()
    except ConfigError as error:
        if str(error) not in _told:
            log.warning(
                "%s. What is written now will be taken for a stranger's: the next command asks for "
                "--trust where it would run what it says.",
                error,
            )
        _told.add(str(error))
        return ""
    return _seal(key, kind, content)


def is_ours(kind: str, content: str, found: str) -> bool:
    """Whether this user's key has sealed the text."""
    try:
        return hmac.compare_digest(_seal(own_key(), kind, content).encode(), found.encode())
    except ConfigError:
        return False


def has_key() -> bool:
    """Whether seals can be made and compared here."""
    try:
        own_key()
    except ConfigError:
        return False
    return True


def _seal(key: str, kind: str, content: str) -> str:
    text = f"{kind}\0{content}".encode("utf-8", "surrogatepass")
    return hmac.digest(bytes.fromhex(key), text, "sha256").hex()


def is_trusted(folder: Path) -> bool:
    """Whether the user has taken the run of this folder for his own in this process, or in the one
    that started it.
    """
    return os.environ.get(TRUST) == folder.resolve().name


def trust_only(folder: Path | None) -> None:
    """From here on this process and those that it starts take this run for their user's own; none
    where there is no folder.
    """
    os.environ.pop(TRUST, None)
    if folder is not None:
        os.environ[TRUST] = folder.resolve().name


def handed_on() -> dict[str, str]:
    """What a process on a machine without this home folder is told, so that it knows the same runs
    as its user's.
    """
    variables: dict[str, str] = {}
    if has_key():
        variables[KEY] = own_key()
    if TRUST in os.environ:
        variables[TRUST] = os.environ[TRUST]
    return variables


def own_key() -> str:
    """The key, made now where there is none. Raises ConfigError where there cannot be one, and in a
    task that finds none.
    """
    given = os.environ.get(KEY)
    if given is not None:
        if _DIGITS.fullmatch(given):
            return given
        raise ConfigError(f"{KEY}: want 64 hexadecimal digits")
    path = key_file()
    if not (_makes_key or path.exists()):
        raise ConfigError(
            f"{path}: the key by which your own runs are known is not there, nor in {KEY}, which "
            "launchers set for their tasks: hand it on into the container"
        )
    try:
        with suppress(FileExistsError):
            _make(path)
        return _read(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: the key by which your own runs are known cannot be kept there "
            f"({error.strerror}); set XDG_STATE_HOME to a folder that only you can write, or {KEY}"
        ) from error


def key_file() -> Path:
    """Where the key lies. A relative XDG_STATE_HOME or HOME does not count: it would be in the
    working directory. Raises ConfigError where there is neither, nor a home in the list of users.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or "")
    if not state.is_absolute():
        state = _home() / ".local" / "state"
    return state / "reasondistill" / "key"


def _home() -> Path:
    home = Path(os.environ.get("HOME") or "")
    if home.is_absolute():
        return home
    with suppress(KeyError):
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    if home.is_absolute():
        return home
    raise ConfigError(
        "you have no home folder here (no HOME), and so no place for the key by which your own "
        f"runs are known; set XDG_STATE_HOME to a folder that only you can write, or {KEY}"
    )


def _make(path: Path) -> None:
    """Raises FileExistsError where there is one: of two processes at once one makes it."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(32)}\n")
        os.link(temporary, path)
    finally:
        temporary.unlink()


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, encoding="ascii") as file:
        status = os.fstat(descriptor)
        text = file.read(100).strip()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(
            f"{path}: others may read or write this key, or it is another user's; remove it, and a "
            "new one is made"
        )
    if not _DIGITS.fullmatch(text):
        raise ConfigError(f"{path}: no key (64 hexadecimal digits); remove it, and one is made")
    return text
