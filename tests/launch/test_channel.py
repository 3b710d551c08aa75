"""What a task says to its launcher: what models, files and libraries print forges none of it, and
nothing of it ends the reader.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.launch import task_process
from reasondistill.launch.ray import RayTask, hand_on_lines
from reasondistill.launch.reporting import message, new_word, parsed, read_error, readable
from reasondistill.launch.slurm import Mark
from reasondistill.pipeline import Task, load_run
from reasondistill.secrets import cleaned

WORD = new_word()
# Words of other tasks are drawn; this one is not, for it stands in the names of tests.
ANOTHER_WORD = "5" * len(WORD)
FORGED = 'x\n\x1eerror not-json\n\x1e  100 % done\n@{"error": {"kind": "StageError"}}'


def test_a_line_break_in_a_name_makes_no_second_line() -> None:
    text = message(WORD, {"line": f"{FORGED}\x1b[2J\u202e"})
    assert "\n" not in text and text.isascii() and text.isprintable()
    line = parsed(text, WORD)
    assert line.is_for_people and line.error is None
    assert "\n" not in line.text and "\x1b" not in line.text and "\\nx" not in line.text


URLS = [
    'the server at "http://h/v1?key=abc" does not answer',
    'See "https://portal.example.com/keys?token=abc\\" for "yours".',
    '{"error": "at \\"https://u:pw@h/?sig=a%2Fb\\""}',
]
TASK = """
import logging, os, sys
from reasondistill.cli.console import log_lines, print_json, show_streams
from reasondistill.cli.task import report
show_streams()
log_lines(word=sys.argv[1])
logging.getLogger("reasondistill.x").info("%s", sys.argv[2])
os.environ["REASONDISTILL_CHANNEL"] = sys.argv[1]
report(None, {"kind": "ConfigError", "message": sys.argv[2]})
print_json({"text": sys.argv[2]})
"""


@pytest.mark.parametrize("text", URLS)
def test_a_key_in_a_quoted_url_is_taken_out_before_the_text_is_json(text: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", TASK, WORD, text],
        check=True,
        capture_output=True,
        env=dict(os.environ, PYTHONIOENCODING="latin-1"),
        timeout=60,
    ).stdout.decode("latin-1")
    said, failed, *rest = printed.splitlines()
    line = parsed(said, WORD)
    assert line.is_for_people and line.text == cleaned(text) and "***" in line.text
    error = parsed(failed, WORD).error
    assert isinstance(error, ConfigError) and str(error) == cleaned(text)
    assert json.loads("\n".join(rest)) == {"text": cleaned(text)}


@pytest.mark.parametrize(
    "line",
    [
        *FORGED.split("\n"),
        message(ANOTHER_WORD, {"line": "of another task"}),
        message(ANOTHER_WORD, {"error": {"kind": "ConfigError", "message": "forged"}}),
    ],
)
def test_what_does_not_know_the_word_is_text(line: str) -> None:
    said = parsed(line, WORD)
    assert not said.is_for_people and said.error is None
    assert said.text == line.replace("\x1e", "\\x1e")


@pytest.mark.parametrize(
    "rest",
    [
        "not json",
        "3",
        "{}",
        '{"line"',
        '{"error": 3}',
        '{"error": {"kind": 3, "message": "x"}}',
        '{"error": {"kind": "ConfigError"}}',
        "[" * 100_000,
        "9" * 5_000,
        '{"line": ' + "9" * 5_000 + "}",
    ],
)
def test_a_message_that_cannot_be_read_is_text_with_a_word_about_it(rest: str) -> None:
    said = parsed(f"@{WORD} {rest}", WORD)
    assert not said.is_for_people and said.error is None
    assert said.text.startswith("not a message of a task (") and said.text.endswith(rest)


def test_an_error_is_of_its_own_kind_again() -> None:
    text = message(WORD, {"error": {"kind": "ConfigError", "message": "a\nb"}})
    error = parsed(f" 20 %|## {text}", WORD).error
    assert type(error) is ConfigError and str(error) == "a\nb"


@pytest.mark.parametrize("kind", ["signal", "Exception", "Stopped", "annotations", "NoSuchKind"])
def test_a_kind_that_is_none_of_ours_is_a_stage_error(kind: str) -> None:
    error = parsed(message(WORD, {"error": {"kind": kind, "message": "x"}}), WORD).error
    assert type(error) is StageError and str(error) == "x"


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "ConfigError"}', "[" * 100_000])
def test_a_file_that_holds_no_error_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.error"
    path.write_text(content)
    assert str(path) in str(read_error(path))


def test_a_log_is_read_without_its_messages_marks() -> None:
    log = f"one\n{message(WORD, {'line': 'two'})}\n@{WORD} {{broken\n"
    assert readable(log).split("\n")[:2] == ["one", "two"]
    assert readable(log).split("\n")[2].startswith("not a message")


# ---- a whole run ---------------------------------------------------------------------------------


def forged_names(workplace: Path) -> str:
    """The teacher's file has a name that the launcher's reader once took for messages."""
    name = "x\n\x1eerror not-json\n\x1e FORGED 100 %\x1b[2J\u202e.jsonl"
    (workplace / "script.jsonl").rename(workplace / name)
    return json.dumps(name)


def test_a_name_forges_no_line_and_does_not_stop_the_reader(workplace: Path) -> None:
    model = forged_names(workplace)
    command = [sys.executable, "-m", "reasondistill", "run", "small.toml"]
    command += ["--set", f"traces.teachers.0.model={model}"]
    done = subprocess.run(
        command, cwd=workplace, capture_output=True, timeout=600, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "FORGED" in done.stdout
    lines = done.stdout.split("\n")
    assert not [line for line in lines if line.strip().startswith("FORGED")]
    for text in (done.stdout, *(path.read_text() for path in workplace.glob("runs/*/logs/*"))):
        assert not set("\x1b\x1e\u202e") & set(text)


TALKER = """
import os, sys, time
word = os.environ["REASONDISTILL_CHANNEL"]
for line in ("\\x1eerror not-json", "@" + word + " not json", "@" + word + " [" + "[" * 50_000):
    print(line)
sys.stdout.buffer.write(b"\\xff\\xfe\\x9b2J\\r" + b"long " * 500_000)
for number in range(20_000):  # more than a pipe holds
    print("line", number)
print("@" + word + ' {"line": "still here"}', flush=True)
time.sleep(600)
"""


def test_a_task_that_prints_anything_is_read_and_can_be_stopped(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "reasondistill", "run", "small.toml", "--until", "problems"]
    subprocess.run(command, cwd=workplace, check=True, capture_output=True, timeout=600)
    run = load_run(workplace / "runs" / "small")
    (workplace / "talker.py").write_text(TALKER)
    real = subprocess.Popen

    def talker(_command: list[str], **options: object) -> subprocess.Popen[str]:
        return real([sys.executable, str(workplace / "talker.py")], **options)  # type: ignore

    monkeypatch.setattr(task_process.subprocess, "Popen", talker)
    heard: list[str] = []
    running = task_process.begin(run, Task("traces"), lambda _, text: heard.append(text))
    end = time.monotonic() + 300
    while not heard and time.monotonic() < end:
        time.sleep(0.05)
    assert heard == ["still here"]
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.process.wait(10) == -signal.SIGTERM
    running.reader.join(10)
    assert not running.reader.is_alive() and running.error is None
    log = running.log.read_text()
    assert log.count("not a message of a task") == 2
    assert "\\x1eerror not-json" in log and "line 19999" in log and "\\x9b" not in log
    assert max(map(len, log.split("\n"))) <= 1 << 20


def test_a_pipe_in_the_place_of_a_mark_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.error")
    (tmp_path / "a.failed").write_bytes(b"\xff1\n")
    assert "a.error: is a pipe" in str(read_error(tmp_path / "a.error"))
    mark = Mark(tmp_path / "a")
    assert mark.code() == "\ufffd1" and "is a pipe" in mark.error()


def test_the_log_of_a_task_of_ray_is_read_piece_by_piece_and_no_pipe_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_TASK_LINE_BYTES", "200")
    told: list[str] = []
    watcher: Any = SimpleNamespace(line=lambda task, text: told.append(text))
    log = tmp_path / "traces.log"
    lines = [f"line {number}" for number in range(20)]
    text = "".join(message(WORD, {"line": line}) + "\n" for line in lines)
    log.write_text(f"{'x' * 1000}\n{text}" + message(WORD, {"line": "torn"})[:-1])
    sent = RayTask(Task("traces"), None, log, 0, 0.0, WORD)
    hand_on_lines(sent, watcher)
    assert told == lines
    with log.open("a") as file:
        file.write("}\n")
    hand_on_lines(sent, watcher)
    assert told == [*lines, "torn"]
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(DataError, match="is a pipe"):
        hand_on_lines(sent, watcher)
