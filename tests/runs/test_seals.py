"""What this user has written is known by a key outside of all run folders."""

from __future__ import annotations

import logging
import os
import pwd
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reasondistill.errors import ConfigError
from reasondistill.runs import seals
from reasondistill.runs.seals import KEY, handed_on, is_ours, key_file, own_key, seal


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "reasondistill"


def test_a_seal_fits_its_text_its_kind_and_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seal("run", "touch EXECUTED \ud800")
    assert len(found) == 64 and is_ours("run", "touch EXECUTED \ud800", found)
    assert not is_ours("run", "touch EXECUTED", found)
    assert not is_ours("checkpoint", "touch EXECUTED \ud800", found)
    assert not is_ours("run", "touch EXECUTED \ud800", "")
    assert not is_ours("run", "touch EXECUTED \ud800", "ä")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert not is_ours("run", "touch EXECUTED \ud800", found)


def test_the_key_is_for_its_user_alone(state: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: own_key(), range(32)))
    assert len(keys) == 1, "of several processes at once one makes it"
    assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert os.listdir(state) == ["key"]
    (state / "key").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read or write this key"):
        own_key()


def test_a_key_that_is_no_key_is_named(state: Path) -> None:
    state.mkdir(parents=True)
    (state / "key").write_text("")
    (state / "key").chmod(0o600)
    with pytest.raises(ConfigError, match="no key"):
        own_key()


def test_where_no_key_can_be_kept_it_is_said_once_and_nothing_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(seals, "_told", set())
    with caplog.at_level(logging.WARNING):
        assert [seal("run", "a"), seal("run", "b")] == ["", ""]
    (record,) = caplog.records
    assert "cannot be kept there" in record.getMessage() and KEY in record.getMessage()
    assert not is_ours("run", "a", "") and handed_on() == {}


def test_a_machine_without_the_home_folder_is_given_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, told = seal("run", "a"), handed_on()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "there"))
    assert not is_ours("run", "a", found)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert is_ours("run", "a", found)
    monkeypatch.setenv(KEY, "short")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        own_key()


def test_the_key_never_lies_in_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert key_file() == tmp_path / "home" / ".local" / "state" / "reasondistill" / "key"


@pytest.mark.parametrize("home", [None, "", "~", "here", "./here"])
def test_where_there_is_no_home_no_key_is_made_in_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    home: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`docker run -u 1234`: no HOME, and nobody of that number in the list of users."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(seals.pwd, "getpwuid", unknown)
    monkeypatch.setattr(seals, "_told", set())
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"no home folder.*XDG_STATE_HOME.*{KEY}"):
        own_key()
    with caplog.at_level(logging.WARNING):
        assert seal("run", "a") == "" and handed_on() == {}
    assert "no home folder" in caplog.text
    assert os.listdir(tmp_path) == []
    monkeypatch.setenv(KEY, "ab" * 32)
    assert is_ours("run", "a", seal("run", "a"))


def test_a_home_in_the_list_of_users_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    home = pwd.getpwuid(os.getuid()).pw_dir
    monkeypatch.delenv("XDG_STATE_HOME")
    for relative in ("", "here"):
        monkeypatch.setenv("HOME", relative)
        assert key_file() == Path(home, ".local", "state", "reasondistill", "key")


def test_a_task_makes_no_key_and_uses_the_one_that_it_is_given(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container with a home of its own the next task would not find it."""
    seals.make_key_where_none_is(False)
    with pytest.raises(ConfigError, match=f"not there, nor in {KEY}"):
        own_key()
    assert seal("checkpoint", "a") == "" and not seals.has_key() and not state.exists()
    seals.make_key_where_none_is(True)
    found = seal("checkpoint", "a")
    seals.make_key_where_none_is(False)
    assert is_ours("checkpoint", "a", found), "one that is there is used"
    monkeypatch.setenv("XDG_STATE_HOME", str(state / "there"))
    assert not is_ours("checkpoint", "a", found)
