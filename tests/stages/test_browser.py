"""The trace browser: what it holds is what the run holds, and it opens from disk in a real browser,
asks for nothing outside its folder, and shows whatever was written as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, Page, chromium_path
from fake_run import fail_samples, fake_run
from test_report import change_trace
from test_report import make as make_report
from test_report_hostile import PAYLOADS
from typer.testing import CliRunner

from reasondistill.cli.entry import app
from reasondistill.errors import StageError
from reasondistill.models.samplers.requests import TopK
from reasondistill.models.topk import Source, TopKWriter
from reasondistill.records import Problem, SuspectGold, Trace
from reasondistill.runs.store import read_records, write_records
from reasondistill.stages.report.browser import (
    count_traces,
    one_page,
    serve_browser,
    write_browser,
)
from reasondistill.stages.report.browser import folder as folder_module
from reasondistill.stages.report.browser import words as words_module
from reasondistill.stages.report.browser.words import WordIndex, words_of

ROWS = 1 << 31
RIGHT = {"teacher": 0.83, "sft": 0.5, "base": 0.2}
MADE = {"sft": "sft", "base": "base"}
FORMULAS = "So $\\frac{3}{4}$ of zebras, \\(x^2\\) and $$\\int_0^1 x\\,dx$$ cost $5."
BAD_TAGS = (
    "img, iframe, base, form, object, embed, video, audio, marquee, dialog, template, svg script"
)


# ---- what stands in the files --------------------------------------------------------------------


@dataclass
class Files:
    """A browser's folder, unpacked as the page does it."""

    folder: Path

    def __post_init__(self) -> None:
        page = (self.folder / "index.html").read_text()
        found = re.search(r'<meta name="index" content="(\w+)">', page)
        assert found is not None
        self.index = self.read("index.js", found[1])

    def read(self, name: str, digest: str) -> Any:
        text = (self.folder / name).read_text(encoding="ascii")
        call = re.fullmatch(r'reasondistill\("\w+",\d+,"([A-Za-z0-9+/=]*)"\)\n', text)
        assert call is not None, f"{name} is more than one call with base64"
        assert hashlib.sha256(call[1].encode()).hexdigest() == digest
        return json.loads(zlib.decompress(base64.b64decode(call[1])))

    def all(self, kind: str) -> list[Any]:
        """The content of every file of a kind, in order."""
        sums = self.index["files"][kind]["sums"]
        return [self.read(f"{kind}-{n:05}.js", digest) for n, digest in enumerate(sums)]

    def rows(self, kind: str) -> list[Any]:
        return [row for rows in self.all(kind) for row in rows]

    def column(self, name: str) -> list[str]:
        return [self.index["names"][name][number] for number in self.index["rows"][name]]

    def documents(self, word: str) -> list[int]:
        for content in self.all("words"):
            if word in content["words"]:
                distances = content["documents"][content["words"].index(word)]
                return np.cumsum(distances).tolist()
        return []


def make(run: Path, title: str = "Demo") -> Path:
    folder = run / "7-report" / "browser"
    shutil.rmtree(folder, ignore_errors=True)
    write_browser(run, folder, title=title)
    return folder


def edit_lines(path: Path, edit: Any) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(json.dumps(edit(number, row)) + "\n" for number, row in enumerate(rows))
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which a few texts are not like the others."""
    run = fake_run(
        tmp_path_factory.mktemp("run") / "demo",
        problems=40, n=3, samples=2, right=RIGHT, made=MADE, benchmarks=["gsm_symbolic"],
    )  # fmt: skip
    problems = list(read_records(run / "1-problems/problems.jsonl", Problem))
    suspect = SuspectGold(
        problem_id=problems[3].id, gold=problems[3].answer, answer="77", votes=3, n=3, correct=0
    )
    write_records(run / "4-examples/suspects.jsonl", [suspect])

    def change(trace: Trace) -> Trace:
        text = {
            f"{problems[1].id}:0": FORMULAS,
            f"{problems[39].id}:2": "A lone Quokka, \u202eback to front\u202c\x1b[2J. 鲸鱼",
        }.get(trace.id)
        if text is None:
            return trace
        completion = trace.completion.model_copy(update={"reasoning": text})
        return trace.model_copy(update={"completion": completion})

    change_trace(run, "2-traces", change)
    return run


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    return make(run)


@pytest.fixture(scope="module")
def files(folder: Path) -> Files:
    return Files(folder)


def test_every_record_is_there_once_with_its_fate(run: Path, files: Files) -> None:
    rows, texts = files.index["rows"], files.rows("texts")
    assert len(texts) == len(rows["stage"]) == 3 + 120 + 3 * 80 == count_traces(run) + 3
    assert Counter(files.column("stage")) == {"problems": 3, "traces": 120, "evals": 240}
    for path, beginning in (("2-traces", 0), ("6-evals/gsm_symbolic/base/traces", 120)):
        stored = [json.loads(line) for line in (run / path / "traces.jsonl").open()]
        found = [row["trace"] for row in texts[beginning : beginning + len(stored)]]
        assert found == stored
    kept = [json.loads(line) for line in (run / "4-examples/examples.jsonl").open()]
    dropped = [json.loads(line) for line in (run / "4-examples/dropped.jsonl").open()]
    expected = {row["trace_id"]: f"kept: {row['split']}" for row in kept}
    expected |= {row["trace_id"]: row["reason"] for row in dropped}
    fates = files.column("fate")
    assert {row["trace"]["id"]: fates[n] for n, row in enumerate(texts[:120])} == expected
    outcomes = files.column("outcome")
    verdicts = [json.loads(line) for line in (run / "3-verdicts/verdicts.jsonl").open()]
    assert outcomes[:120] == [row["grade"]["outcome"] for row in verdicts]
    assert outcomes[360:] == ["set aside"] * 3
    assert files.rows("problems")[3]["suspect"]["answer"] == "77"


def test_a_file_begins_with_the_row_that_the_index_says(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasondistill.stages.report.browser import chunks, folder

    for module in (chunks, folder):
        monkeypatch.setattr(module, "CHUNK_BYTES", 4000)
    write_browser(run, tmp_path, title="x")
    files = Files(tmp_path)
    for kind, whole in (("texts", files.rows("texts")), ("problems", files.rows("problems"))):
        first, contents = files.index["files"][kind]["first"], files.all(kind)
        assert len(first) == len(contents) > 5
        for number, content in zip(first, contents, strict=True):
            assert content == whole[number : number + len(content)]
    ids = files.index["problems"]["id"]
    for number, row in enumerate(files.rows("texts")[:360]):
        assert row["trace"]["problem_id"] == ids[files.index["rows"]["problem"][number]]


def test_words_lead_to_every_text_that_holds_them(files: Files) -> None:
    texts = files.rows("texts")
    by_hand = {
        ROWS + number
        for number, row in enumerate(texts)
        if "trace" in row and "step" in words_of(row["trace"]["completion"]["reasoning"])
    }
    found = files.documents("step")
    assert set(found) == by_hand and found == sorted(by_hand)
    assert len(files.documents("quokka")) == len(files.documents("鲸")) == 1
    assert files.documents("left") == [
        number for number, row in enumerate(files.rows("problems")) if row.get("problem")
    ]
    assert files.documents("nowhere") == []


def test_an_index_that_was_set_down_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the {number % 7} and {number % 3}x é ﬁ Ж{number}" for number in range(200)]

    def merged() -> list[tuple[str, list[int]]]:
        index = WordIndex()
        for number, text in enumerate(texts):
            index.add(number, text)
        found = list(index.merged())
        index.close()
        return found

    whole = merged()
    monkeypatch.setattr(words_module, "_MOST_PAIRS", 50)
    assert merged() == whole
    assert dict(whole)["the"] == list(range(200))
    assert [word for word, _ in whole] == sorted(dict(whole), key=words_module.place)


def test_words_are_those_of_every_script() -> None:
    assert words_of("The \\frac{1}{2}-hour, IT'S 3.5") == {
        *("the", "frac", "1", "2", "hour", "it", "s", "3", "5")
    }
    # Arabic comma, danda, Hebrew hyphen and Greek semicolon end a word; a sign of power is none.
    assert words_of("كتاب، قلم। बेटा। ירח־לבן λόγος· x²") == {
        *("كتاب", "قلم", "बेटा", "ירח", "לבן", "λόγος", "x")
    }
    assert words_of("ﾃｽﾄ 鲸鱼 ไทย") == {"ﾃｽﾄ", "鲸", "鱼", "ไ", "ท", "ย"}


def test_of_more_names_than_anybody_picks_from_the_rest_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path, problems=4, until="verdicts")
    edit_lines(
        run / "3-verdicts/verdicts.jsonl",
        lambda number, row: row | {"grade": row["grade"] | {"reason": f"reason {number}"}},
    )
    monkeypatch.setattr(folder_module, "_MOST_NAMES", 3)
    files = Files(make(run))
    assert files.column("reason")[:8] == [
        *("reason 0", "reason 1", "reason 2"),
        *["one of many others"] * 5,
    ]


def test_a_title_is_no_place_for_links(tmp_path: Path) -> None:
    page = (make(fake_run(tmp_path, problems=2, until="verdicts"), "REPORT") / "index.html").open()
    assert "<h1>REPORT <small>" in page.read()


def test_the_same_run_makes_the_same_bytes(run: Path, folder: Path, tmp_path: Path) -> None:
    write_browser(run, tmp_path, title="Demo")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_unseen_signs_are_shown_and_the_record_stays(files: Files) -> None:
    row = next(row for row in files.rows("texts") if "Quokka" in json.dumps(row))
    assert "\u202e" in row["trace"]["completion"]["reasoning"]
    assert "‹U+202E›back to front‹U+202C›\\x1b[2J" in row["shown"]["reasoning"]


def test_half_signs_and_what_is_no_number_spoil_nothing(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=2, until="verdicts")

    def plant(number: int, row: dict[str, Any]) -> dict[str, Any]:
        written = {"reasoning": "a\ud83db", "seconds": float("nan")}
        return row | {"completion": row["completion"] | written, "model": "a\u202eb"}

    edit_lines(run / "2-traces/traces.jsonl", plant)
    row = Files(make(run)).rows("texts")[0]
    assert row["shown"]["model"] == "a‹U+202E›b"
    completion = row["trace"]["completion"]
    assert (completion["reasoning"], completion["seconds"]) == ("a\ud83db", None)
    assert row["shown"]["reasoning"] == "a‹U+D83D›b"


def test_what_looks_like_a_key_is_left_out(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=2, until="verdicts")
    key = "sk-proj-0123456789abcdef0123"

    def change(trace: Trace) -> Trace:
        completion = trace.completion.model_copy(update={"answer_text": f"my {key}"})
        return trace.model_copy(update={"completion": completion})

    change_trace(run, "2-traces", change)
    files = Files(make(run))
    assert key not in json.dumps(files.rows("texts")) + json.dumps(files.all("words"))
    assert files.rows("texts")[0]["trace"]["completion"]["answer_text"] == "my ***"


def test_a_run_at_work_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=4, until="verdicts")
    path = run / "3-verdicts/verdicts.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    (run / "1-problems/problems.jsonl").write_text("")
    files = Files(make(run))
    assert files.column("outcome").count("not graded") == 5
    assert files.index["problems"]["id"][0].startswith("gsm_symbolic/train/")


def test_traces_that_workers_are_drawing_are_shown(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=4, until="verdicts")
    path = run / "2-traces/traces.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    verdicts = run / "3-verdicts/verdicts.jsonl"
    verdicts.write_text("".join(verdicts.read_text().splitlines(keepends=True)[:2]))
    path.write_text("".join(lines[:2]))
    for worker, own in (("w0-a1b2", lines[2:5]), ("w1-c3d4", lines[5:])):
        part = run / "2-traces/parts/00001" / worker
        part.mkdir(parents=True)
        (part / "traces.jsonl").write_text("".join(own))
    assert count_traces(run) == 8
    files = Files(make(run))
    traces = [row["trace"] for row in files.rows("texts") if "trace" in row]
    assert traces == [json.loads(line) for line in lines]
    assert files.column("outcome").count("not graded") == 6


def test_katex_is_as_it_was_published_and_carries_its_licence(folder: Path) -> None:
    import reasondistill.stages.report.browser as package

    katex = Path(str(package.__file__)).parent / "katex"
    listed = dict(reversed(line.split()) for line in (katex / "sums.txt").open() if line[0] != "#")
    here = {str(path.relative_to(katex)) for path in katex.rglob("*") if path.is_file()}
    assert here - {"sums.txt", "OFL.txt"} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((katex / name).read_bytes()).hexdigest() == digest, name
    script = (folder / "katex.js").read_text()
    assert "The MIT License" in script[:200] and "SIL OPEN FONT LICENSE" in script[:6000]
    assert "url(fonts/" not in script and script.count("font/woff2;base64,") == 11


# ---- probabilities -------------------------------------------------------------------------------


def with_probabilities(run: Path, place: int = 0) -> Path:
    """A run of which one trace, the first, has the probabilities of three tokens."""
    vocabulary = {"So": 0, "Ġit": 1, "Ġis": 2, "Ċ": 3, "é": 4}
    ids = np.array([[0, 1], [2, 1], [3, 2]], dtype=np.int32)
    log_probs = np.log(np.array([[0.9, 0.05], [0.6, 0.3], [0.5, 0.4]], dtype=np.float32))
    top_k = TopK(np.array([0, 1, 4], dtype=np.int32), ids, log_probs)
    trace = list(read_records(run / "2-traces/traces.jsonl", Trace))[place]
    with TopKWriter(run / "2-traces/topk", Source("t", 2, vocabulary, 5)) as writer:
        writer.append([(trace.id, top_k)])
    return run


def test_probabilities_of_tokens_stand_beside_their_trace(tmp_path: Path) -> None:
    run = with_probabilities(fake_run(tmp_path, problems=3, until="verdicts"))
    files = Files(make(run))
    assert files.index["rows"]["logprobs"] == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    rows = files.rows("logprobs")
    assert files.index["files"]["logprobs"]["first"] == [0]
    assert rows[0] == {
        "tokens": ["So", " it", "\ufffd"],
        "percents": [90, 30, 0],
        "best": [None, " is", "\n"],
    }
    assert rows[1:] == [None] * 5


def test_probabilities_that_cannot_be_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = with_probabilities(fake_run(tmp_path, problems=3, until="verdicts"))
    (run / "2-traces/topk/topk.json").write_text("{}")
    files = Files(make(run))
    assert not any(files.index["rows"]["logprobs"])
    assert "Probabilities of tokens are not shown" in caplog.text


def test_damaged_probabilities_spoil_no_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = with_probabilities(fake_run(tmp_path, problems=3, until="verdicts"))
    blocks = run / "2-traces/topk/topk.bin"
    content = bytearray(blocks.read_bytes())
    content[-1] ^= 1
    blocks.write_bytes(content)
    files = Files(make(run))
    assert not any(files.index["rows"]["logprobs"]) and len(files.rows("texts")) == 9
    assert "does not fit its crc32" in caplog.text


def test_probabilities_have_room_whatever_traces_without_them_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = with_probabilities(fake_run(tmp_path, problems=3, until="verdicts"), place=-1)
    tokens = [
        trace.completion.tokens for trace in read_records(run / "2-traces/traces.jsonl", Trace)
    ]
    monkeypatch.setattr(folder_module, "_MOST_TOKENS", tokens[-1])
    assert Files(make(run)).index["rows"]["logprobs"][: len(tokens)] == [0] * 5 + [1]
    monkeypatch.setattr(folder_module, "_MOST_TOKENS", tokens[-1] - 1)
    assert "not beside the report" not in caplog.text
    assert not any(Files(make(run)).index["rows"]["logprobs"])
    assert "of 1 traces are not beside the report" in caplog.text


# ---- view ----------------------------------------------------------------------------------------


def asked(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[str]:
    with serve_browser(run, title="Demo") as server:
        threading.Thread(target=server.serve, daemon=True).start()
        yield server.url
        server.stop()


def test_view_reads_texts_from_the_run_and_they_are_the_same(served: str, files: Files) -> None:
    _, content, _ = asked(served.replace("index.html", "texts-00000.js"))
    payload = content.decode().split('"')[3]
    rows = json.loads(zlib.decompress(base64.b64decode(payload)))
    assert rows == files.rows("texts")[:120]
    _, content, _ = asked(served.replace("index.html", "index.js"))
    payload = content.decode().split('"')[3]
    index = json.loads(zlib.decompress(base64.b64decode(payload)))
    assert index["rows"] == files.index["rows"]
    assert index["files"]["texts"]["first"] == files.index["files"]["texts"]["first"]


def test_view_answers_nobody_else(served: str) -> None:
    status, content, headers = asked(served)
    assert status == 200 and b"<!doctype html>" in content
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    address, token, _ = served.removeprefix("http://").split("/")
    assert address.startswith("127.0.0.1:") and len(token) == 32
    for url in (
        f"http://{address}/",
        f"http://{address}/index.html",
        f"http://{address}/{token[:-1]}/index.html",
        f"http://{address}/{'x' * 32}/index.html",
        f"http://{address}/{token}/../index.html",
        f"http://{address}/{token}/..%2f..%2fetc%2fpasswd",
        f"http://{address}/{token}//etc/passwd",
        f"http://{address}/{token}/texts-99999.js",
    ):
        assert asked(url)[:2] == (404, b""), url
    assert asked(served, Host="evil.example:80")[0] == 404
    request = urllib.request.Request(served, data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request)


def test_view_says_that_its_port_is_taken_before_it_reads(served: str, tmp_path: Path) -> None:
    port = int(served.split("/")[2].partition(":")[2])
    with (
        pytest.raises(StageError, match=f"127.0.0.1:{port}: Address already in use. Name another"),
        serve_browser(tmp_path / "nothing", title="x", port=port),
    ):
        pass


def test_view_says_nothing_of_a_browser_that_went_away(
    served: str, capfd: pytest.CaptureFixture[str]
) -> None:
    address, _, path = served.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as line:
            line.sendall(f"GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            # Closed at once, without waiting for what is on its way.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert asked(served)[0] == 200
    time.sleep(0.3)
    assert capfd.readouterr().err == ""


def command(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reasondistill", "view", *words],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_command_prints_its_address_and_ends_with_ctrl_c(run: Path) -> None:
    with command("demo", "--runs", ".", cwd=run.parent) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(line.strip() for line in lines if line.startswith("http://127.0.0.1:"))
        assert asked(url)[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_what_has_no_traces_is_named(tmp_path: Path) -> None:
    fake_run(tmp_path / "early", problems=2, until="problems")
    for name, words in (("early", "holds no traces yet"), ("nowhere", "no run is there")):
        done = CliRunner().invoke(app, ["view", name, "--runs", str(tmp_path)])
        assert isinstance(done.exception, StageError) and words in str(done.exception)


# ---- a real browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium_path()
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


def ready(page: Page) -> Page:
    page.wait("document.documentElement.dataset.ready")
    return page


def opened(chromium: Chromium, folder: Path, asked: str = "", **look: Any) -> Page:
    return ready(chromium.open(f"{(folder / 'index.html').as_uri()}#{asked}", **look))


def found(page: Page) -> str:
    return page.value("document.getElementById('found').textContent")


def ask(page: Page, asked: str) -> str:
    """Ask by the address, as a link does."""
    link = json.dumps(f"#{asked}")
    page.value(f"history.replaceState(null, '', {link}); readAddress(); fillForm(); ask()")
    return found(page)


def detail(page: Page) -> str:
    return page.value("document.getElementById('detail').textContent")


@pytest.fixture
def page(chromium: Chromium, folder: Path) -> Page:
    return opened(chromium, folder)


def test_it_opens_from_disk_and_asks_for_nothing_outside_its_folder(
    page: Page, folder: Path
) -> None:
    assert found(page) == "363 of 363"
    for _ in range(5):
        page.press("j")
    page.wait("document.querySelector('#detail .written')")
    assert page.complaints == []
    inside = f"{folder.as_uri()}/"
    asked = [url for url in page.requests if not url.startswith("data:font/woff2;base64,")]
    assert len(asked) >= 4 and all(url.startswith(inside) for url in asked)


def test_one_file_carries_all_of_a_small_run(
    chromium: Chromium, run: Path, files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "one file.html"
    done = CliRunner().invoke(app, ["view", str(run), "--file", str(path)])
    assert done.exit_code == 0 and "file://" in done.output, done.output
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', path.read_text())
    assert policy is not None and "strict-dynamic" not in policy[1] and "'none'" in policy[1]
    assert "unsafe" not in policy[1]
    page = ready(chromium.open(path.as_uri()))
    assert found(page) == "363 of 363"
    assert ask(page, "q=quokka") == "1 of 363"
    page.press("j")
    page.wait("document.querySelector('#detail .written')")
    assert ask(page, 'q="of zebras"') == "1 of 363"
    page.press("j")
    page.wait("document.querySelector('#detail .katex')")
    assert page.complaints == []
    asked = [url for url in page.requests if not url.startswith("data:font/woff2;base64,")]
    assert asked == [path.as_uri()]
    again = CliRunner().invoke(app, ["view", str(run), "--file", str(path)])
    assert again.exit_code == 1 and "is there already" in str(again.exception)


def test_a_run_too_large_for_one_file_is_refused_by_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_BROWSER_FILE_BYTES", "2000")
    with pytest.raises(StageError, match="BROWSER_FILE_BYTES") as refused:
        one_page(run, title="Demo")
    assert "reasondistill view" in str(refused.value) and str(run) in str(refused.value)


def test_filters_count_what_they_would_leave(page: Page, files: Files) -> None:
    for facet in ("stage", "outcome", "fate", "model", "benchmark", "finish", "reason"):
        counts = Counter(files.column(facet))
        for name in counts:
            if name:
                assert ask(page, f"{facet}={name}") == f"{counts[name]} of 363", (facet, name)
    both = sum(
        (outcome, model) == ("wrong", "base")
        for outcome, model in zip(files.column("outcome"), files.column("model"), strict=True)
    )
    assert ask(page, "outcome=wrong&model=base") == f"{both} of 363"
    option = page.value("document.getElementById('facet-model').selectedOptions[0].textContent")
    assert option == f"base ({both})"
    assert ask(page, "suspect=under suspicion") == "3 of 363"
    tokens = files.index["rows"]["tokens"]
    assert ask(page, "least=256") == f"{sum(count >= 256 for count in tokens)} of 363"
    ask(page, "stage=evals&order=longest")
    longest = page.value("list.rows.slice(0, 50).map((i) => index.rows.tokens[i])")
    assert longest == sorted(tokens[120:360], reverse=True)[:50]


def test_search_finds_texts_that_were_not_loaded_and_marks_them(page: Page) -> None:
    assert not page.value("Array.from(kept.keys()).some((name) => name.startsWith('texts'))")
    assert ask(page, "q=quokka") == "1 of 363"
    assert ask(page, "q=lone+quok") == "1 of 363"
    assert ask(page, "q=quok+") == "0 of 363"
    assert ask(page, "q=鱼") == "1 of 363"
    assert ask(page, 'q="lone quokka, "') == "1 of 363"
    assert ask(page, 'q="quokka lone"') == "0 of 363"
    assert ask(page, 'q="a lone quok"') == "1 of 363"
    assert ask(page, 'q="one quokka"') == "0 of 363"
    # Signs are in no index; a reference solution is searched like all else.
    assert ask(page, "q=∫") == "0 of 363"
    assert ask(page, "q=\\\\%7B") == ask(page, 'q="\\\\%7B"')
    assert ask(page, 'q="-2%3D"') == "363 of 363".replace("363 of", "360 of")
    assert ask(page, "q=quokka&outcome=no_answer&stage=evals") == "0 of 363"
    ask(page, "q=quokka")
    page.press("j")
    page.wait("document.querySelector('#detail mark')")
    marked = page.value(
        "Array.from(document.querySelectorAll('#detail mark'), (m) => m.textContent)"
    )
    assert marked == ["Quokka"]
    assert "‹U+202E›back to front" in detail(page)


def options(page: Page, pick: str) -> dict[str, str]:
    """The counts that a filter shows, by what is chosen with them."""
    shown = page.value(
        f"Array.from(document.getElementById('{pick}').options, (one) => [one.value, one.text])"
    )
    return {value: text.rpartition(" (")[2].rstrip(")") for value, text in shown}


def test_counts_are_those_of_the_rows_that_hold_the_phrase(page: Page, files: Files) -> None:
    texts = [json.dumps(row) for row in files.rows("texts")]
    stages, outcomes = files.column("stage"), files.column("outcome")
    holds = ["Step 5: I look" in text for text in texts]
    wrong = [
        stage
        for stage, outcome, has in zip(stages, outcomes, holds, strict=True)
        if has and outcome == "wrong"
    ]
    assert ask(page, 'outcome=wrong&q="step 5: i look"') == f"{len(wrong)} of 363"
    assert options(page, "facet-stage") == {
        "": str(len(wrong)),
        **{stage: str(count) for stage, count in Counter(wrong).items()},
    }
    of_outcomes = options(page, "facet-outcome")
    assert of_outcomes["wrong"] == str(len(wrong))
    # Those of the others were not looked at: they hold the words, perhaps not the phrase.
    right = sum(has and outcome == "correct" for has, outcome in zip(holds, outcomes, strict=True))
    assert of_outcomes["correct"].startswith("≤ ")
    assert int(of_outcomes["correct"].removeprefix("≤ ")) >= right


def test_formulas_are_set_and_written_as_they_were(page: Page) -> None:
    ask(page, "q=zebras")
    page.press("j")
    page.wait("document.querySelectorAll('#detail .katex').length === 3")
    assert page.value("document.querySelectorAll('#detail .katex-display').length") == 1
    assert "cost $5." in detail(page)
    page.press("m")
    page.wait("!document.querySelector('#detail .katex')")
    assert "$\\frac{3}{4}$ of zebras" in detail(page)
    assert page.complaints == []


def test_a_formula_neither_grows_nor_leaves_its_box(page: Page) -> None:
    page.value("loadKatex('katex.js')")
    honest = "$\\left(\\frac{1}{2}\\right) \\leftarrow \\text{let x} \\kern1em y \\neq z$"
    for formula, is_set in (
        (honest, True),
        ("$\\begin{matrix}" + "1\\\\" * 40 + "\\end{matrix}$", True),
        ("$\\def\\a{" + "x" * 400 + "}" + "\\a" * 190 + "$", False),
        ("$\\newcommand{\\a}{" + "x" * 400 + "}" + "\\a" * 190 + "$", False),
        ("$\\let\\a=x \\a$", False),
        ("$\\kern-500em x$", False),
        ("$\\raisebox{-9999em}{y}$", False),
    ):
        count = page.value(f"formulasOf({json.dumps(formula)}).length")
        assert count == is_set, formula
    # What is raised within bounds is cut at the edge of its box: it stands over nothing of ours.
    page.value("document.getElementById('detail').replaceChildren(element('div', 'written'))")
    style = "getComputedStyle(document.querySelector('.written')).contain"
    assert "paint" in page.value(style)


def test_formulas_of_the_report_are_set_where_a_trace_is_opened(
    chromium: Chromium, run: Path, tmp_path: Path
) -> None:
    no_report = shutil.ignore_patterns("7-report")
    own = Path(shutil.copytree(run, tmp_path / "run", ignore=no_report))
    report = make_report(own, traces=200)
    page = chromium.open((report / "report.html").as_uri())
    page.wait("document.getElementById('found').textContent.includes(' of ')")
    assert page.value("document.querySelectorAll('.katex').length") == 0
    page.value("""
    for (const trace of document.querySelectorAll('details.trace')) {
      if (trace.textContent.includes('zebras')) trace.open = true;
    }
    """)
    page.wait("document.querySelectorAll('pre .katex').length === 3")
    assert "cost $5." in page.value("document.querySelector('pre:has(.katex)').textContent")
    assert page.complaints == []


def test_gold_and_extracted_answer_are_marked_in_the_text(page: Page, files: Files) -> None:
    ask(page, "stage=traces&outcome=correct")
    page.press("j")
    page.wait("document.querySelector('#detail .extracted')")
    row = page.value("selection[0]")
    extracted = files.rows("texts")[row]["verdict"]["grade"]["extracted"]
    texts = "Array.from(document.querySelectorAll('.written .CLASS'), (one) => one.textContent)"
    assert page.value(texts.replace("CLASS", "extracted")) == [extracted]
    assert set(page.value(texts.replace("CLASS", "gold"))) == {extracted}


def test_an_answer_is_marked_where_it_was_read(page: Page) -> None:
    def places(text: str, answer: str) -> list[int]:
        return page.value(f"placesOf({json.dumps(text)}, {json.dumps(answer)})")

    assert places("12, 312, 12.5, 0.12, 12,000, 12. (12)", "12") == [0, 29, 34]
    assert places("1,250 250 (1,2)", "250") == [6]
    assert places("(1,2)", "2") == [3]

    def read(text: str, answer: str) -> int:
        return page.value(f"placeRead({json.dumps(text)}, {json.dumps(answer)})")

    assert read("5 is \\boxed{5}: there are 5.", "5") == 12
    assert read("It is 5, so 5.", "5") == 12
    # Of a long text the mark is at its end, not at the last place of what is shown at first.
    page.value("""
    const marks = {pattern: /quokka/g, gold: "", extracted: "5"};
    const text = "5 and quokka ".repeat(10000) + "so 5 it is";
    document.getElementById('detail').replaceChildren(written(text, marks, false))
    """)
    marked = "document.querySelectorAll('#detail .extracted').length"
    assert page.value(marked) == 0
    page.value("document.querySelector('#detail button').click()")
    assert page.value(marked) == 1
    around = "document.querySelector('#detail .extracted').previousSibling.textContent"
    assert page.value(around).endswith("so ")


def test_a_problem_with_a_sample_that_was_lost_is_no_flip(
    chromium: Chromium, run: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(run, tmp_path / "run"))
    asked = "a=sft&b=base&flip=gained"
    page = opened(chromium, make(own), asked)
    names = page.value("selection.map((i) => index.problems.id[index.rows.problem[i]])")
    shown = options(page, "flip")
    assert shown["gained"] == str(len(names)) and shown[""] == "40"
    fail_samples(own / "6-evals/gsm_symbolic/base/traces", [f"{names[0]}:1"], "HTTP 500")
    page = opened(chromium, make(own), asked)
    told = page.value("selection.map((i) => index.problems.id[index.rows.problem[i]])")
    assert told == names[1:]
    assert options(page, "flip")[""] == "39"
    # Counts are those of the rows that pass the other filters.
    ask(page, f"{asked}&outcome=wrong")
    counts = options(page, "flip")
    first = page.value("selection.length")
    assert counts["gained"] == str(first) and int(counts[""]) < 39


def test_flips_are_the_problems_that_one_model_solves_more_often(page: Page, run: Path) -> None:
    shares: dict[str, Counter[str]] = {}
    for model in ("sft", "base"):
        path = run / "6-evals/gsm_symbolic" / model / "verdicts/verdicts.jsonl"
        verdicts = [json.loads(line) for line in path.open()]
        shares[model] = Counter(
            row["problem_id"] for row in verdicts if row["grade"]["outcome"] == "correct"
        )
    ids = [f"gsm_symbolic/test/{number}" for number in range(40)]
    gained = {name for name in ids if shares["sft"][name] > shares["base"][name]}
    lost = {name for name in ids if shares["sft"][name] < shares["base"][name]}
    assert gained and lost
    for flip, expected in (("gained", gained), ("lost", lost)):
        told = ask(page, f"a=sft&b=base&flip={flip}")
        assert told == f"{len(expected)} of 363"
        problems = page.value("selection.map((i) => index.problems.id[index.rows.problem[i]])")
        assert set(problems) == expected
    page.press("j")
    page.wait("document.querySelectorAll('#detail .sides > div').length === 2")
    assert page.value("document.querySelectorAll('.gone, .new').length") > 0
    page.press("d")
    page.wait("document.querySelectorAll('.gone, .new').length === 0")
    # Only so much of two texts is compared, and the page says so.
    assert page.value("differing('x '.repeat(40000), 'x').isCut && !differing('x', 'y').isCut")


def test_a_link_leads_to_the_same_trace_and_keys_to_the_others(
    page: Page, chromium: Chromium, folder: Path
) -> None:
    ask(page, "stage=evals&model=base")
    for key in ("j", "j", "ArrowDown", "k"):
        page.press(key)
    page.wait("document.querySelector('#detail h2')")
    address = page.value("location.hash.slice(1)")
    title = page.value("document.querySelector('#detail h2').textContent")
    assert "base · gsm_symbolic/test/0:1" in title and "stage=evals" in address
    again = opened(chromium, folder, address)
    again.wait("document.querySelector('#detail h2')")
    assert again.value("document.querySelector('#detail h2').textContent") == title
    assert found(again) == "80 of 363"
    page.press("]")
    page.wait("document.querySelector('#detail h2').textContent.includes('sft ·')")
    assert "6 of this problem:" in detail(page)
    # Back from a sample that is not in the list one goes on where one was.
    page.press("j")
    page.wait("document.querySelector('#detail h2').textContent.includes('test/1:0')")
    page.press("/")
    assert page.value("document.activeElement.id") == "query"
    page.press("j")
    assert page.value("document.activeElement.value") == "j"
    page.press("Escape")
    assert page.value("document.activeElement.id") == "list"


def test_the_selection_is_exported_as_it_is_stored(page: Page, files: Files, run: Path) -> None:
    ask(page, "stage=traces&outcome=wrong")
    script = """
    new Promise(function (resolve) {
      URL.createObjectURL = function (blob) { blob.text().then(resolve); return "#"; };
      exportSelection();
    })
    """
    lines = [json.loads(line) for line in page.value(script).splitlines()]
    wrong = [
        row for n, row in enumerate(files.rows("texts"))
        if "trace" in row and n < 120 and row["verdict"]["grade"]["outcome"] == "wrong"
    ]  # fmt: skip
    assert [line["trace"] for line in lines] == [row["trace"] for row in wrong]
    assert all(line["fate"] == "wrong" and line["problem"]["answer"] for line in lines)


def test_nothing_is_exported_of_a_run_that_has_changed(chromium: Chromium, tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=4, until="verdicts")
    with serve_browser(run, title="x") as server:
        threading.Thread(target=server.serve, daemon=True).start()
        page = ready(chromium.open(server.url))
        for path in ("2-traces/traces.jsonl", "3-verdicts/verdicts.jsonl"):
            lines = (run / path).read_text().splitlines(keepends=True)
            (run / path).write_text("".join(reversed(lines)))
        page.value("at('export').click()")
        page.wait("at('found').classList.contains('fault')")
        assert "The run has changed since this was opened" in found(page)
        server.stop()


def test_a_file_that_is_damaged_or_missing_is_named(
    chromium: Chromium, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = copy / "texts-00000.js"
    text = path.read_text()
    path.write_text(text[:60] + ("A" if text[60] != "A" else "B") + text[61:])
    page = opened(chromium, copy, "stage=traces")
    page.press("j")
    page.wait("document.querySelector('#detail .fault')")
    assert "texts-00000.js is not the file that was written" in detail(page)
    path.unlink()
    page = opened(chromium, copy, "stage=traces")
    page.press("j")
    page.wait("document.querySelector('#detail .fault')")
    assert "texts-00000.js cannot be read" in detail(page)


def test_probabilities_shade_the_tokens(chromium: Chromium, run: Path, tmp_path: Path) -> None:
    own = with_probabilities(Path(shutil.copytree(run, tmp_path / "run")))
    page = opened(chromium, make(own), "stage=traces")
    page.press("j")
    page.wait("document.querySelector('#detail .written')")
    page.press("p")
    page.wait("document.querySelectorAll('#detail .token').length === 3")
    doubt = "(token) => token.style.getPropertyValue('--doubt')"
    doubts = page.value(f"Array.from(document.querySelectorAll('.token'), {doubt})")
    assert doubts == ["6%", "42%", "60%"]
    assert page.value("document.querySelectorAll('.token')[1].title") == '30 %, less than " is"'


def test_it_fits_a_phone(chromium: Chromium, folder: Path) -> None:
    page = opened(chromium, folder, "stage=traces", width=390, height=800)
    page.press("j")
    page.wait("document.querySelector('#detail .written')")
    assert page.value("document.documentElement.scrollWidth") == 390
    assert page.value("document.getElementById('detail').scrollWidth") <= 390
    page.value("document.getElementById('back').click()")
    assert page.value("getComputedStyle(document.getElementById('detail')).display") == "none"


def test_payloads_and_a_line_of_5_mb_stay_text(chromium: Chromium, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", problems=4, n=1, until="examples")
    payloads = " ".join(PAYLOADS).replace("PORT", "9")
    formulas = "$\\href{javascript:alert(1)}{x}$ $\\includegraphics{http://127.0.0.1:9/x}$ "
    formulas += "$\\htmlData{x=1}{y}$ $\\def\\x{\\x\\x}\\x$ $\\rule{9999em}{9999em}$ " + "$" * 3000

    def plant(number: int, row: dict[str, Any]) -> dict[str, Any]:
        if "question" in row:
            return row | {"question": payloads + formulas, "answer": payloads, "subject": payloads}
        if "completion" in row:
            long = "x " * 2_500_000 if number == 0 else ""
            written = {"reasoning": payloads + long, "answer_text": formulas + payloads}
            return row | {"completion": row["completion"] | written, "model": payloads}
        if "grade" in row:
            grade = row["grade"] | {"extracted": payloads, "reason": payloads}
            return row | {"grade": grade}
        return row | {"reason": payloads}

    for name in (
        "1-problems/problems",
        "2-traces/traces",
        "3-verdicts/verdicts",
        "4-examples/dropped",
    ):
        edit_lines(run / f"{name}.jsonl", plant)
    for hidden in run.rglob(".*"):
        if hidden.is_file():
            hidden.unlink()
    page = opened(chromium, make(run, title=payloads), "stage=traces")
    tags = f"document.querySelectorAll({BAD_TAGS!r}).length"
    for _ in range(4):
        page.press("j")
        page.wait("document.querySelector('#detail .written')")
        page.wait("document.querySelector('#detail .key')")
        assert page.value(tags) == 0
    assert page.value("document.documentElement.dataset.ran") is None
    assert "<script>fetch(" in detail(page)
    ask(page, "stage=traces&order=longest")
    page.press("k")
    page.wait("document.querySelector('#detail').textContent.includes('Show more')")
    more = detail(page)
    assert re.search(r"4,9\d\d,\d\d\d characters are left", more)
    assert page.value("document.getElementById('detail').textContent.length") < 400_000
    assert not [url for url in page.requests if "127.0.0.1" in url]
    assert page.complaints == []


def test_view_opens_in_a_browser_too(chromium: Chromium, served: str) -> None:
    page = ready(chromium.open(f"{served}#q=quokka"))
    assert found(page) == "1 of 363"
    page.press("j")
    page.wait("document.querySelector('#detail mark')")
    assert page.complaints == []
