"""Where a student or a data set is published: a repository of the hub, or a folder.

    place = destination_of("me/small")              # the hub's; "./small" and "file:///x" a folder
    sent = place.send(files, kind="model", public=False, message="…")
    sent.where, sent.new, sent.same

What is there already is not sent again, so the same command goes on where one was stopped. Nothing
is removed there; other weights that a library would load beside these are refused.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from reasondistill.curation.uploads import Kind, Upload
from reasondistill.errors import ConfigError, MissingDependencyError, StageError
from reasondistill.foreign_files import regular
from reasondistill.foreign_text import shortened
from reasondistill.runs import layout
from reasondistill.runs.store import disk_errors, replacing
from reasondistill.secrets import cleaned

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_AS_FOLDERS = ("/", "./", "../", "~/")
# Files that a library finds by their names, whatever an index or a card says of others.
_LOADED = (".safetensors", ".bin", ".safetensors.index.json", ".parquet")
# The tag in the head of a card of ours.
_OUR_CARD = re.compile(r'\A---\n(?:(?!---\n).*\n)*?- "?reasondistill"?\n')
_LOGIN = "Set HF_TOKEN to a token with the right to write, or log in once: `hf auth login`."
# Clients of HTTP under the hub's library, whose errors are no fault of ours.
_CLIENTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet"})
_LONGEST_ERROR = 600


@dataclass(frozen=True)
class Sent:
    """What a sending did: where it is now, files that were sent, files that were there already."""

    where: str
    new: int
    same: int


class Destination(ABC):
    """A place to publish at. `name` is what a library loads from there, in a card."""

    name: str

    @abstractmethod
    def describe(self, kind: Kind, *, public: bool) -> str:
        """The place in words. Raises ConfigError for one that cannot be used, asking nobody."""

    @abstractmethod
    def send(self, files: Sequence[Upload], *, kind: Kind, public: bool, message: str) -> Sent:
        """Publish these files. Raises ConfigError and StageError."""


def destination_of(text: str, run: Path) -> Destination:
    """What a place means that somebody typed. Raises ConfigError for neither a repository nor a
    folder, and for a folder in the run's own.
    """
    if text.startswith("file://"):
        return Folder(Path(unquote(urlsplit(text).path)), run)
    if text in (".", "..") or text.startswith(_AS_FOLDERS):
        return Folder(Path(text).expanduser(), run)
    if _REPOSITORY.fullmatch(text):
        return Repository(text)
    raise ConfigError(
        f"{shortened(text, 200)}: want a repository of the hub, USER/NAME, or a folder, ./NAME or "
        "file:///PATH."
    )


def refuse_others(there: Iterable[str], files: Sequence[Upload], where: str) -> None:
    """Raise StageError for files at a place that a library would load beside those that come."""
    coming = {file.name for file in files}
    others = [name for name in there if name.endswith(_LOADED) and name not in coming]
    in_the_way = [name for name in others if "/" not in name]
    if in_the_way:
        names = ", ".join(sorted(in_the_way)[:5])
        raise StageError(
            f"{where}: holds {names}, which would be loaded with what comes. Remove that there, "
            "or push to another place."
        )


# ---- a folder ------------------------------------------------------------------------------------


class Folder(Destination):
    """A folder of this machine, or one that is mounted."""

    def __init__(self, path: Path, run: Path) -> None:
        self.path = path
        self.name = "."
        if path.resolve().is_relative_to(run.resolve()):
            raise ConfigError(f"{path}: lies in the run's own folder. Name another one.")

    def describe(self, kind: Kind, *, public: bool) -> str:
        return f"the folder {self.path}"

    def send(self, files: Sequence[Upload], *, kind: Kind, public: bool, message: str) -> Sent:
        """Each file appears whole; the card, which names the others, is the last."""
        if self.path.exists() and not self.path.is_dir():
            raise StageError(f"{self.path}: is a file, where a folder is needed. Name another one.")
        there: list[str] = []
        if self.path.is_dir():
            there = [path.name for path in self.path.iterdir()]
        if layout.MANIFEST in there or layout.RUN in there:
            raise StageError(f"{self.path}: is a folder of a run. Name another one.")
        refuse_others(there, files, str(self.path))
        refuse_to_replace(self.path, files)
        new = 0
        for file in files:
            target = self.path / file.name
            if is_same(target, file):
                continue
            with replacing(target) as out:
                copy_into(file, out)
            new += 1
        return Sent(str(self.path), new, len(files) - new)


def refuse_to_replace(folder: Path, files: Sequence[Upload]) -> None:
    """Raise StageError for files under the names of those that come, where nothing says that they
    were pushed: a README.md, or weights, of somebody's own.
    """
    card = folder / layout.CARD
    if card.is_file() and _OUR_CARD.search(card.read_text("utf-8", "replace")):
        return
    targets = ((folder / file.name, file) for file in files)
    others = [file.name for path, file in targets if path.exists() and not is_same(path, file)]
    if others:
        names = ", ".join(others[:5])
        raise StageError(
            f"{folder}: holds other files of the same names ({names}), and no card of an earlier "
            "push, so they may be yours. Remove them, or push to another folder."
        )


def is_same(path: Path, file: Upload) -> bool:
    """Whether a file at a place is the one that comes."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != file.size:
        return False
    with open(path, "rb", opener=regular) as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def copy_into(file: Upload, out: Any) -> None:
    """Write the content of an upload into an open file."""
    if file.path is None:
        out.write(file.content)
        return
    with disk_errors(file.path), open(file.path, "rb", opener=regular) as content:
        shutil.copyfileobj(content, out, 1 << 20)


# ---- the hub -------------------------------------------------------------------------------------


class Repository(Destination):
    """A repository of the hub (`HF_ENDPOINT` names another hub)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self, kind: Kind, *, public: bool) -> str:
        seen = "private"
        if public:
            seen = "public"
        return f"the {kind} {self.name} of the hub, {seen} where it is new"

    def send(self, files: Sequence[Upload], *, kind: Kind, public: bool, message: str) -> Sent:
        """One commit, after all that is large was sent; the hub says what it has already."""
        api = self.client()
        where = f"{kind} {self.name}"
        with self.hub_errors(where):
            info = info_of(api, self.name, kind)
            if info is None:
                api.create_repo(self.name, repo_type=kind, private=not public)
            else:
                refuse_public(info, where, public=public)
                names = [file.rfilename for file in info.siblings or ()]
                refuse_others(names, files, where)
            commit = self.commit(api, files, kind, message)
        same = 0
        if info is not None and info.sha == commit.oid:
            same = len(files)
        return Sent(commit.commit_url, len(files) - same, same)

    def commit(self, api: HfApi, files: Sequence[Upload], kind: Kind, message: str) -> Any:
        """One commit of all files, and what the hub says of it."""
        from huggingface_hub import CommitOperationAdd

        operations = [
            CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path or file.content)
            for file in files
        ]
        return api.create_commit(
            self.name, operations, commit_message=message, repo_type=kind, revision="main"
        )

    def client(self) -> HfApi:
        """The hub's client with the user's token. Raises ConfigError without one, and offline."""
        try:
            from huggingface_hub import HfApi, constants, get_token
        except ModuleNotFoundError as error:
            raise MissingDependencyError("huggingface_hub", "data") from error
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"{self.name}: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, so nothing is sent "
                "to the hub. Unset it, or push to a folder: ./NAME."
            )
        token = get_token()
        if token is None:
            raise ConfigError(f"{self.name}: there is no token for the hub. {_LOGIN}")
        return HfApi(token=token, library_name="reasondistill")

    @contextmanager
    def hub_errors(self, where: str) -> Generator[None]:
        """What the hub or its network says, as one clear error."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            yield
        except HfHubHTTPError as error:
            raise StageError(f"{where}: {refusal_of(error)}") from error
        except ValueError as error:
            raise StageError(f"{where}: the hub's library refuses it: {_said(error)}") from error
        except (OSError, RuntimeError) as error:
            cause = ""
            if isinstance(error.__cause__, HfHubHTTPError):
                cause = f" {_said(error.__cause__)}"
            raise StageError(f"{where}: {_said(error)}{cause} {_GOES_ON}") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _CLIENTS:
                raise
            raise StageError(
                f"{where}: the hub cannot be reached: {_said(error)} {_GOES_ON}"
            ) from error


_GOES_ON = "The same command goes on: what the hub has is not sent again."


def info_of(api: HfApi, name: str, kind: Kind) -> Any:
    """What the hub says of a repository; None where there is none that this token may see."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.repo_info(name, repo_type=kind)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:  # the token, not the repository
            raise
        return None


def refuse_public(info: Any, where: str, *, public: bool) -> None:
    """Raise StageError for a repository that everybody sees, where that was not asked for."""
    if not public and info.private is False:
        raise StageError(
            f"{where}: is there already, and public: everybody would see what is pushed. Say "
            "--public if that is meant, or name another repository."
        )


def refusal_of(error: Any) -> str:
    """What a status of the hub means, and what to do."""
    status = error.response.status_code
    said = _said(error)
    if status == 401:
        return f"the hub does not know this token (401). {_LOGIN}"
    if status == 403:
        return f"this token may not write there (403). {_LOGIN} The hub says: {said}"
    if status == 404:
        return f"there is no such user, organisation or repository (404). The hub says: {said}"
    if status == 429 or status >= 500:
        return f"the hub cannot take it now ({status}): {said} {_GOES_ON}"
    return f"the hub refuses it ({status}): {said}"


def _said(error: Exception) -> str:
    """An error of a library on one line, without secrets."""
    text = getattr(error, "server_message", None) or str(error) or type(error).__name__
    line = " ".join(cleaned(str(text)).split())
    return f"{shortened(line, _LONGEST_ERROR).rstrip('.')}."
