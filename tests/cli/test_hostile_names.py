"""Whatever others wrote, no command sends a byte of it that a terminal obeys or that turns the
direction of reading: standard output and error, log files, both reports.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from warm import forking

from reasondistill.cli.jobs import LogFile

# The clipboard, the title, an empty screen, C1, marks of direction, tags, rich's markup, a line.
SIGNS = "\x1b]52;c;aGk=\x1b\\\x1b]0;t\x07\x1b[2J\x9b2J\x85\x1e\u202e\u2066\u200b\U000e0041"
NAME = f"{SIGNS}[link=x]click[@click=x][blink][red]:cat:\n✓ FORGED"
# Of the evil name letters and digits are left.
PROBLEM = "data-52-c-aGk-0-t-2J-2J-link-x-click-click-x-blink-red-cat-FORGED/train/0"
TEXT = f"{NAME}[/] [/link] [/nothing] <b>&amp; \\"
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def quoted(text: str) -> str:
    """As a string of TOML."""
    signs = ""
    for sign in text:
        number = ord(sign)
        if sign in '"\\' or number < 0x20 or number > 0x7E:
            signs += f"\\U{number:08X}"
        else:
            signs += sign
    return f'"{signs}"'


def lines(*rows: dict[str, str]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


PIPELINE = """
name = "evil"
about = {text}
[problems]
source = "file"
dataset = {data}
subject = "kind"
[traces]
prompt = {prompt}
n = 2
[[traces.teachers]]
model = {model}
sampler = "scripted"
[report]
title = {text}
"""
BENCHMARK = """
name = "bench"
about = {text}
rows = 4
n = 1
prompt = "question"
[problems]
source = "file"
dataset = {data}
subject = "kind"
"""
PROMPT = """
about = {text}
user = {content}
"""


def printed(folder: Path, *words: str, code: int | None = 0, in_colour: bool = False) -> str:
    """What a command prints, looked through. Without colours it is forked: that saves the imports,
    which look for colours.
    """
    python, variables = str(forking().python), {"COLUMNS": "200"}
    if in_colour:
        python = sys.executable
        variables |= {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        [python, "-m", "reasondistill", *words],
        cwd=folder,
        capture_output=True,
        timeout=900,
        check=False,
        env=os.environ | variables,
    )
    text = f"{done.stdout.decode()}\n{done.stderr.decode()}"
    assert code is None or done.returncode == code, text
    left = FORBIDDEN.search(COLOURS.sub("", text) if in_colour else text)
    assert left is None, (words, left, text)
    assert "Traceback" not in text
    return text


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files with such names and contents, and two runs made of them."""
    folder = tmp_path_factory.mktemp("evil")
    rows = [
        {"question": f"{TEXT} {i} + {i}?", "answer": str(2 * i), "kind": TEXT} for i in range(4)
    ]
    data = f"data{NAME}.jsonl"
    (folder / data).write_text(lines(*rows))
    model = f"model{NAME}.jsonl"
    script = [
        {"question": row["question"], "text": f"<think>{TEXT}</think>\\boxed{{{row['answer']}}}"}
        for row in rows
        for _ in range(2)
    ]
    script[0]["text"] = TEXT
    (folder / model).write_text(lines(*script))
    (folder / "weak.jsonl").write_text(lines(*[row | {"text": TEXT} for row in script]))
    for kind in ("prompts", "pipelines", "eval/benchmarks"):
        (folder / kind).mkdir(parents=True)
    prompt = f"ask{NAME}.toml"
    content = "\n".join([TEXT, "{question}"])
    (folder / "prompts" / prompt).write_text(
        PROMPT.format(text=quoted(TEXT), content=quoted(content))
    )
    for name in ("evil.toml", f"pipelines/evil{NAME}.toml"):
        (folder / name).write_text(
            PIPELINE.format(
                text=quoted(TEXT),
                data=quoted(str(folder / data)),
                prompt=quoted(f"prompts/{prompt}"),
                model=quoted(model),
            )
        )
    bench = BENCHMARK.format(text=quoted(TEXT), data=quoted(str(folder / data)))
    (folder / "bench.toml").write_text(bench)
    (folder / "eval" / "benchmarks" / f"b{NAME}.toml").write_text(bench)
    text = printed(folder, "run", "evil.toml")
    assert "FORGED" in text and "[link=x]" in text and ":cat:" in text
    models = [f"strong={model}", "weak=weak.jsonl"]
    options = ["--benchmarks", "bench.toml", "--name", "trial", "--sampler", "scripted"]
    printed(folder, "eval", *models, *options, "--against", "weak")
    return folder


def no_line_is_forged(text: str) -> None:
    assert "FORGED" in text, text
    assert not [line for line in text.split("\n") if line.startswith("✓ FORGED")]


def test_a_walk_shows_the_texts_as_text(evil: Path) -> None:
    text = printed(evil, "walk", "evil", PROBLEM)
    assert "\\x1b]52;c;aGk=\\x1b\\" in text and "‹U+202E›" in text and "\\x9b2J" in text
    assert "[link=x]click[@click=x][blink][red]:cat:" in text
    assert not [line for line in text.split("\n") if line.startswith("✓ FORGED")]


def test_colours_are_all_that_a_terminal_gets(evil: Path) -> None:
    for words in (("walk", "evil", PROBLEM), ("list", "prompts"), ("logs", "evil")):
        text = printed(evil, *words, in_colour=True)
        assert COLOURS.search(text)
        for code in COLOURS.findall(text):
            assert code.strip("\x1b[m") in ("", "0", "1", "2", "31", "32", "33", "36", "1;31"), code


@pytest.mark.parametrize("kind", ["prompts", "pipelines", "benchmarks"])
def test_a_list_has_one_row_for_each_file(evil: Path, kind: str) -> None:
    no_line_is_forged(printed(evil, "list", kind))


COMMANDS = [
    ["show", "evil"],
    ["check", "evil"],
    ["repair", "evil"],
    ["logs", "evil"],
    ["forecast", "evil.toml", "--json"],
    ["forecast", "evil.toml"],
    ["run", "evil.toml"],
    ["run", "evil.toml", "--dry-run"],
    ["resume", "evil"],
    ["show", "trial"],
    ["compare", "trial/strong", "trial/weak", "--flips", "3"],
    ["diff", "trial/strong", "trial/weak"],
    ["diff", "trial/strong", "trial/weak", "--json"],
    ["matrix", "trial", "--benchmark", "bench", "--workers", "1"],
]
FAILING = [
    ["status", "evil"],
    ["show", NAME],
    ["run", f"none{NAME}.toml"],
    ["run", "evil.toml", "--set", f"traces.{NAME}=3"],
    ["run", "evil.toml", "--set", f'problems.dataset="{SIGNS}"'],
    ["run", "evil.toml", "--set", f"problems.dataset={quoted(NAME)}", "--set", "name=b"],
    ["copy", f"none{NAME}"],
    ["list", NAME],
    ["logs", "evil", NAME],
    ["walk", "evil", NAME],
    ["compare", f"trial/{NAME}", "trial/weak"],
    ["grade", f"none{NAME}", "--out", "x.jsonl"],
    ["schema", NAME],
    ["cancel", NAME],
    ["check", NAME],
    [f"no-such-command{NAME}"],
    ["run", f"--no-such-option{NAME}"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words[:3]))
def test_a_command_sends_nothing_that_a_terminal_obeys(evil: Path, words: list[str]) -> None:
    text = printed(evil, *words)
    assert not [line for line in text.split("\n") if line.startswith("✓ FORGED")]
    if "--json" in words:
        assert json.loads(text[text.index("{") : text.rindex("}") + 1])


@pytest.mark.parametrize("words", FAILING, ids=lambda words: words[0][:20])
def test_an_error_sends_nothing_that_a_terminal_obeys(evil: Path, words: list[str]) -> None:
    text = printed(evil, *words, code=2)
    assert not [line for line in text.split("\n") if line.startswith("✓ FORGED")]


def test_a_graded_file_and_its_faults_are_shown(evil: Path) -> None:
    rows = [{"id": NAME, "prediction": TEXT, "gold": TEXT}]
    (evil / "in.jsonl").write_text(lines(*rows))
    printed(evil, "grade", "in.jsonl", "--out", f"out{NAME}.jsonl", "--workers", "1")
    (evil / "in.jsonl").write_text(lines({"id": NAME, NAME: TEXT}))
    printed(evil, "grade", "in.jsonl", "--out", "other.jsonl", "--workers", "1", code=2)


def test_logs_and_reports_hold_nothing_of_it(evil: Path) -> None:
    places = [*evil.glob("runs/*/logs/*"), *evil.glob("runs/*/7-report/report.[mh]*")]
    assert len(places) > 10
    for place in places:
        left = FORBIDDEN.search(place.read_text())
        assert left is None, (place, left)
    report = (evil / "runs" / "evil" / "7-report" / "report.md").read_text()
    assert "‹U+202E›" in report and "\\x9b2J" in report


def test_a_log_that_somebody_else_wrote_is_shown_line_by_line(evil: Path) -> None:
    log = evil / "runs" / "evil" / "logs" / f"a{NAME}.log"
    log.write_bytes(f"{TEXT}\r 10 %\r 20 %\x85x\u2028y\n".encode() + b"\xff\xfe\x9b\n")
    text = printed(evil, "logs", "evil", "a")
    log.unlink()
    assert " 10 %\n 20 %\\x85x‹U+2028›y\n" in text


def test_a_log_that_does_not_grow_prints_nothing(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    log.path.write_bytes(b"one\n\ntwo\n")
    assert log.new_lines() == ["one", "", "two"]
    assert log.new_lines() == []


def test_of_a_log_without_end_the_last_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", "8")
    log = LogFile(tmp_path / "a.log")
    log.path.write_bytes(b"x" * 100 + b"\nlast\n")
    assert log.new_lines() == ["xx", "last"]
    assert log.new_lines() == []


@pytest.fixture
def rude_server() -> Iterator[str]:
    """Refuses everything, in words that a terminal would obey."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps({"error": {"message": TEXT, "type": TEXT, "code": TEXT}}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            body = f"<title>{TEXT}</title>".encode()
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


def test_what_a_server_says_is_shown(evil: Path, rude_server: str) -> None:
    (evil / "rude.toml").write_text(f'[openai]\nbase_url = "{rude_server}"\n')
    teacher = ["--set", f"traces.teachers.0.model={quoted(NAME)}"]
    teacher += ["--set", "traces.teachers.0.sampler=openai", "--set", "name=rude"]
    text = printed(evil, "run", "evil.toml", "--on", "rude.toml", *teacher, code=None)
    assert "FORGED" in text
