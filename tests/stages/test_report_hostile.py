"""A report of a stranger's run folder: nothing that stands in it runs, loads, leads away or becomes
a part of the page, in a real browser too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_run import fake_run
from markdown_it import MarkdownIt
from test_report import Outline, full_run, make

from reasondistill.bounds import MARKDOWN_TEXT
from reasondistill.errors import DataError
from reasondistill.grading import GradingPool
from reasondistill.runs.figures import read_latency
from reasondistill.runs.store import read_manifest
from reasondistill.stages import evals
from reasondistill.stages.report.markdown import fenced, inline

# PORT becomes that of a server that listens meanwhile.
HERE = "http://127.0.0.1:PORT/"
RUN = f"fetch('{HERE}run');document.documentElement.dataset.ran=1"
PAYLOADS = [
    f"<script>{RUN}</script>",
    f"<script src={HERE}script></script>",
    f"<ScRiPt\x0c>{RUN}</sCrIpT\n>",
    f"</script><script>{RUN}</script>",
    f'";{RUN};//',
    f"');{RUN};//",
    f"`${{{RUN}}}`",
    f"{{{{constructor.constructor(`{RUN}`)()}}}}",
    f"<img src=x onerror={RUN}>",
    f"<img src={HERE}img>",
    f"<img srcset={HERE}srcset>",
    f'"><img src={HERE}attribute onerror="{RUN}">',
    f"'><img src={HERE}attribute onerror='{RUN}'>",
    f'" onmouseover="{RUN}" onfocus="{RUN}" autofocus tabindex=0 x="',
    f"' onmouseover='{RUN}' onfocus='{RUN}' autofocus tabindex=0 x='",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><image href={HERE}svg /><use href={HERE}use /></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s></svg>",
    f"<math><mtext></form><mglyph><style></math><img src onerror={RUN}>",
    f"<meta http-equiv=refresh content='0;url={HERE}refresh'>",
    f"<base href={HERE}base>",
    f"<form action={HERE}form><input type=submit name=x autofocus></form>",
    f"<button formaction={HERE}formaction>x</button>",
    f"<a href=\"javascript:{RUN}\" ping={HERE}ping>x</a>",
    f"<a href={HERE}link>x</a> {HERE}bare www.example.com [x]({HERE}md) ![x]({HERE}mdimg)",
    f"[x](javascript:{RUN}) <{HERE}auto>",
    f"<iframe src={HERE}iframe></iframe>",
    f"<iframe src=\"javascript:{RUN}\"></iframe>",
    f'<iframe srcdoc="&lt;script&gt;parent.{RUN}&lt;/script&gt;"></iframe>',
    f"<object data={HERE}object></object><embed src={HERE}embed>",
    f"<link rel=stylesheet href={HERE}link><link rel=prefetch href={HERE}prefetch>",
    f"<link rel=icon href={HERE}icon><link rel=manifest href={HERE}manifest>",
    f"<style>@import '{HERE}import';*{{background:url({HERE}css)}}</style>",
    f'" style="background:url({HERE}style)',
    f"</style><style>*{{background:url({HERE}style)}}</style>",
    f"<video src={HERE}video poster={HERE}poster autoplay onerror={RUN}></video>",
    f"<audio src={HERE}audio autoplay></audio><track src={HERE}track>",
    f"<details open ontoggle={RUN}><summary>x</summary></details>",
    f"<body onload={RUN} background={HERE}background>",
    f"<input autofocus onfocus={RUN}><select autofocus onfocus={RUN}></select>",
    f"<marquee onstart={RUN}>x</marquee><dialog open onclose={RUN}>",
    f"<template><script>{RUN}</script></template><slot></slot>",
    f"<noscript><p title=\"</noscript><img src=x onerror={RUN}>\">",
    f"\u2028{RUN}\u2029 \u202e\u2066\u200b\U000e0041 \x1b]0;x\x07\x9b2J \x00 \ufeff",
    f"+ADw-script+AD4-{RUN}+ADw-/script+AD4-",
    f"\xbcscript\xbe{RUN}\xbc/script\xbe ＜script＞{RUN}＜/script＞",
    f"&lt;script&gt;{RUN}&lt;/script&gt; &#60;script&#62;{RUN}&#60;/script&#62; &NewLine;",
    f"\\u003cscript\\u003e{RUN}\\x3c/script\\x3e %3Cscript%3E",
    f"]]><script>{RUN}</script><![CDATA[ <?php x ?> <!DOCTYPE x>",
    f"</title><script>{RUN}</script>",
    f"</textarea></select></pre></details></section></main><script>{RUN}</script>",
    "</dd></dl></td></tr></table></figure></svg></div></header></body></html>",
    "~~~", "# heading", "```", "---", "===", "| a | b |\n|---|---|", "> quote", "1. one",
    "[ref]: http://127.0.0.1:PORT/ref", "    code", "$x$ @someone #12", "\\",
    "--><script></script><!--", "<!--", "<plaintext>", "<textarea>", "<title>", "<xmp>",
]  # fmt: skip
assert len(PAYLOADS) > 60
# What must be one of a few known words, or holds the run together.
KEPT = {
    "status", "outcome", "finish", "think", "role", "split", "word", "metric", "kind", "method",
    "stage", "version", "format", "guard", "prompt", "key", "fault", "sampler", "measure", "how",
    "part",
}  # fmt: skip


# ---- a run folder full of them -------------------------------------------------------------------


@dataclass
class Visited:
    """A server that nobody should ask anything."""

    paths: list[str] = field(default_factory=list[str])
    port: int = 0

    def payloads(self) -> list[str]:
        return [payload.replace("PORT", str(self.port)) for payload in PAYLOADS]


@pytest.fixture(scope="module")
def visited() -> Iterator[Visited]:
    found = Visited()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()


def planted(value: Any, plant: Callable[[str], str], key: str = "") -> Any:
    """A JSON value with payloads in each of its texts and in its keys where they are free."""
    if isinstance(value, str) and key not in KEPT:
        return plant(value)
    if isinstance(value, list):
        return [planted(item, plant, key) for item in value]
    if isinstance(value, dict):
        free = key in ("section", "environment", "packages", "hardware", "dropped", "lost")
        return {
            plant(name) if free else name: planted(item, plant, name)
            for name, item in value.items()
        }
    return value


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, visited: Visited) -> Path:
    """The report of a run in which all that is free holds all payloads: names of folders, records,
    manifests, scores.
    """
    everything = " ".join(visited.payloads())
    short = "<img src=x onerror=alert(1)>\x1b[2J\u202e"  # a folder's name has few characters
    models = {f"sft{short}": "sft", "base<script>\n": "base", "teacher": "teacher"}
    right = dict.fromkeys(models, 0.5)
    del models["teacher"]
    benchmark = f"gsm{short}"
    folder = tmp_path_factory.mktemp("hostile") / "run"
    run = fake_run(folder, problems=6, made=models, right=right, benchmarks=[benchmark])
    plan = evals.EvalPlan({benchmark: 1}, list(right), {f"sft{short}": ["base<script>\n"]})
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool)

    def plant(text: str) -> str:
        # What links files stays the same word in all of them.
        is_name = text in right or text == benchmark
        return text if is_name else f"{text} {everything}"

    for path in run.rglob("*.json*"):
        rows = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        values = [json.loads(row) for row in rows]
        for value in values:
            if isinstance(value, dict):
                value.pop("files", None)
                value.pop("guard", None)
                value.pop("format", None)
        changed = [json.dumps(planted(value, plant)) for value in values]
        path.write_text("\n".join(changed) + "\n")
    for copy in run.rglob(".manifest*"):
        copy.unlink()
    return make(run, title=f"title {everything}", about=f"about {everything}", traces=6)


def test_the_payloads_are_in_the_page_as_text(hostile: Path, visited: Visited) -> None:
    page = (hostile / "report.html").read_text()
    outline = Outline(page)
    shown = "".join(outline.texts)
    for payload in visited.payloads():
        if payload.isascii() and payload.isprintable():
            assert shown.count(payload) >= 10, payload
    tags = {tag for tag, _ in outline.tags}
    assert tags.isdisjoint({"img", "iframe", "base", "form", "object", "embed", "link", "video"})
    assert len(outline.all("script")) == len(outline.all("style")) == 1
    assert len(outline.all("meta")) == 3
    for _, attributes in outline.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
    links = {link["href"] or "" for link in outline.all("a")}
    assert {link for link in links if link[0] != "#"} == {"browser/index.html"}
    assert not set("\x00\x1b\x07\x9b\u202e\u2066\u200b\u2028\U000e0041") & set(page)


def test_the_policy_of_the_page_lets_nothing_in_or_out(hostile: Path) -> None:
    metas = Outline((hostile / "report.html").read_text()).all("meta")
    policy = [meta["content"] for meta in metas if "http-equiv" in meta][0] or ""
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    ours = re.fullmatch(r"'sha256-[\w+/=]+' 'strict-dynamic'", parts.pop("script-src"))
    assert ours is not None
    assert re.fullmatch(r"'sha256-[\w+/=]+'", parts.pop("style-src"))
    assert parts == {
        "default-src": "'none'",
        "font-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


# ---- a real browser ------------------------------------------------------------------------------


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("no chromium here")


def opened(page: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """The page as a browser has it after some seconds, and what it says meanwhile."""
    return subprocess.run(
        [
            browser(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_that_opens_the_report_does_nothing_of_it(
    hostile: Path, visited: Visited, tmp_path: Path
) -> None:
    visited.paths.clear()
    done = opened(hostile / "report.html", tmp_path)
    assert console(done) == []
    assert visited.paths == []
    outline = Outline(re.sub(r"</(?:line|rect|circle|polyline)>", "", done.stdout))
    assert "data-ran" not in outline.all("html")[0]
    as_written = Outline((hostile / "report.html").read_text())
    assert Counter(tag for tag, _ in outline.tags) == Counter(tag for tag, _ in as_written.tags)
    counted = done.stdout.partition('id="found"')[2].partition("</span>")[0]
    assert re.search(r"\d+ of \d+", counted), "the page's own script has run"


def test_the_same_payloads_do_something_where_they_are_not_escaped(
    visited: Visited, tmp_path: Path
) -> None:
    """What the test above would see if one of them got through."""
    visited.paths.clear()
    page = tmp_path / "open.html"
    body = [payload for payload in visited.payloads()[:40] if "refresh" not in payload]
    page.write_text(f"<!doctype html><html><body>{' '.join(body)}</body></html>")
    done = opened(page, tmp_path / "profile")
    assert "/run" in visited.paths and "/img" in visited.paths
    assert "data-ran" in done.stdout
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    page.write_text(f"<!doctype html><html><head>{policy}</head><body>{body[8]}</body></html>")
    assert console(opened(page, tmp_path / "profile"))


# ---- report.md -----------------------------------------------------------------------------------


def test_the_markdown_has_only_our_own_headings_and_no_html_or_links(hostile: Path) -> None:
    text = (hostile / "report.md").read_text()
    assert not set("\x00\x1b\x07\x9b\u202e\u2066\u200b\u2028") & set(text)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    kinds = {token.type for token in tokens}
    assert kinds.isdisjoint({"html_block", "code_block", "hr", "bullet_list_open"})
    assert "ordered_list_open" not in kinds
    for token in tokens:
        for child in token.children or ():
            assert child.type in ("text", "text_special", "strong_open", "strong_close"), child
        if token.type == "heading_open":
            assert token.markup.startswith("#")
        if token.type == "fence":
            assert token.info == "text"
    levels = [token.tag for token in tokens if token.type == "heading_open"]
    assert levels.count("h1") == 1 and levels.count("h2") >= 5
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert not re.search(r"(?<!\\)://|(?<!\\)<|www\.", outside)


BREAKERS = ["~~~", "# ", "```", "````\n```", "    x", "<pre>", "<!--", "- ", "---", "> ", "| a |"]


@pytest.mark.parametrize("beginning", BREAKERS)
def test_a_question_is_quoted_whatever_it_begins_with(beginning: str) -> None:
    question = f"{beginning}\nnext\n\n# no heading\n~~~"
    tokens = MarkdownIt().parse(
        f"## before\n\n{fenced(question)}\n\n{inline(question)}\n\n## after"
    )
    kinds = [
        token.type for token in tokens if token.type.endswith("_open") or "fence" in token.type
    ]
    assert kinds == ["heading_open", "fence", "paragraph_open", "heading_open"]
    assert tokens[3].content.strip("\n") == question.strip("\n")
    assert tokens[5].content.startswith("\\") or beginning == "    x"


def test_long_texts_are_shortened_with_a_count() -> None:
    text = "# x" * 1_000_000
    for made in (fenced(text), inline(text)):
        assert len(made) < 2 * MARKDOWN_TEXT.most
        assert "… 2,996,000 characters more" in made


def test_a_report_of_long_texts_stays_short(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=4, until="verdicts")
    path = run / "1-problems" / "problems.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    for row in rows:
        row["question"] = row["answer"] = "~~~ " * 500_000
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    edit_manifest(run / "1-problems", put("identity", "section", "x", value="y" * 1_000_000))
    folder = make(run)
    assert (folder / "report.md").stat().st_size < 200_000
    assert (folder / "report.html").stat().st_size < 1_500_000


# ---- manifests -----------------------------------------------------------------------------------


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    value.pop("guard", None)
    value.pop("format", None)
    edit(value)
    path.write_text(json.dumps(value))


def put(*place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(manifest: dict[str, Any]) -> None:
        for name in place[:-1]:
            manifest = manifest[name]
        manifest[place[-1]] = value

    return edit


WRONG = {
    "status": ("status", "<meta http-equiv=refresh content='0;url=http://127.0.0.1:8999/'>"),
    "a list as status": ("status", ["complete"]),
    "identity": ("identity", "x"),
    "identity.stage": ("identity", "stage", 3),
    "identity.version": ("identity", "version", "<script>"),
    "identity.section": ("identity", "section", [["a", "b"]]),
    "identity.inputs": ("identity", "inputs", []),
    "identity.inputs.problems": ("identity", "inputs", "problems", {"x": 1}),
    "fingerprint": ("fingerprint", ["<img>"]),
    "content": ("content", {}),
    "counts": ("counts", []),
    "counts.in": ("counts", "in", "<b>3</b>"),
    "counts.out": ("counts", "out", 1.5),
    "a truth as count": ("counts", "out", True),
    "dropped.x": ("dropped", "x", None),
    "figures": ("figures", "x"),
    "seconds": ("seconds", "long"),
    "endless seconds": ("seconds", float("inf")),
    "a count of 400 digits": ("counts", "in", 10**400),
    "environment": ("environment", ["x"]),
    "a sampling": ("identity", "section", "sampling", "hot"),
    "a sampling of numbers": ("identity", "section", "sampling", 3),
    "a temperature": ("identity", "section", "sampling", "temperature", "hot"),
    "a temperature that is none": ("identity", "section", "sampling", "temperature", float("nan")),
    "a budget of 400 digits": ("identity", "section", "sampling", "max_tokens", 10**400),
    "n": ("identity", "section", "n", [1]),
    "limit": ("identity", "section", "limit", "all"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_manifest_of_other_types_is_refused_by_name(name: str, tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=2, until="traces")
    folder = run / "2-traces"
    *place, value = WRONG[name]
    edit_manifest(folder, put(*place, value=value))
    with pytest.raises(DataError) as caught:
        read_manifest(folder)
    assert str(folder / "manifest.json") in str(caught.value)
    assert ".".join(place) in str(caught.value)
    with pytest.raises(DataError):
        make(run)


def test_what_a_manifest_lacks_is_named_or_told_as_unknown(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=2, until="verdicts")
    edit_manifest(run / "3-verdicts", put("figures", "judged_correct", value=1))
    make(run)
    assert "by a judge without a name" in (run / "7-report" / "report.md").read_text()
    edit_manifest(run / "3-verdicts", lambda manifest: manifest["counts"].pop("out"))
    with pytest.raises(DataError, match="manifest of the stage verdicts: counts has no out"):
        make(run)


@pytest.mark.parametrize(
    "change",
    [{"asked": None}, {"ms_per_token": "7"}, {"ms_per_token": True}, {"seconds_per_answer": 1e400}],
)
def test_a_latency_of_other_types_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "latency.json"
    good = {"asked": 2, "ms_per_token": 7.25, "seconds_per_answer": 0.5}
    path.write_text(json.dumps(good))
    assert read_latency(path) == good
    path.write_text(json.dumps(good | change))
    with pytest.raises(DataError, match=f"latency of a model: {next(iter(change))} is no number"):
        read_latency(path)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def replace_in_line(path: Path, *place: str, value: object) -> int:
    """Change a value of the last line; its number."""
    lines = lines_of(path)
    if place:
        put(*place, value=value)(lines[-1])
    else:
        lines[-1] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which nothing says what its files were."""
    run = full_run(tmp_path_factory.mktemp("whole") / "run", problems=4)
    (run / "5-students" / "sft" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    for path in run.rglob("manifest.json"):
        edit_manifest(path.parent, lambda manifest: manifest.pop("files", None))
    for path in run.rglob(".*"):
        if path.is_file():
            path.unlink()
    return run


LINES = {
    "a split in lists": ("4-examples/examples.jsonl", "split", [[[]]]),
    "an endless split": ("4-examples/examples.jsonl", "split", float("inf")),
    "a split that is none": ("4-examples/examples.jsonl", "split", None),
    "tokens of 30 digits": ("6-evals/records.jsonl", "tokens", 10**30),
    "tokens of a trace": ("2-traces/traces.jsonl", "completion", "tokens", 10**30),
    "metrics in a list": ("5-students/sft/metrics.jsonl", [1]),
    "metrics that are true": ("5-students/sft/metrics.jsonl", True),
    "a step of 400 digits": ("5-students/sft/metrics.jsonl", "step", 10**400),
    "a loss of 400 digits": ("5-students/sft/metrics.jsonl", "loss", 10**400),
}


@pytest.mark.parametrize("name", LINES)
def test_an_odd_record_is_refused_with_its_line(name: str, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    file, *place, value = LINES[name]
    number = replace_in_line(run / str(file), *map(str, place), value=value)
    with pytest.raises(DataError) as caught:
        make(run)
    assert f"{file}:{number}" in str(caught.value)


def test_an_odd_line_of_an_unfinished_sampling_is_refused_with_its_line(tmp_path: Path) -> None:
    run = fake_run(tmp_path, problems=2, until="traces")
    edit_manifest(run / "2-traces", lambda manifest: manifest.pop("files", None))
    edit_manifest(run / "2-traces", put("status", value="partial"))
    number = replace_in_line(run / "2-traces/traces.jsonl", value={"": {"": {}}})
    with pytest.raises(DataError, match=rf"traces\.jsonl:{number}: not a"):
        make(run)


@pytest.mark.parametrize("field", ["n", "k"])
def test_a_score_of_400_digits_is_refused_by_name(field: str, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    path = run / "6-evals/scores.json"
    scores = json.loads(path.read_text())
    scores["scores"][0][field] = 10**400
    path.write_text(json.dumps(scores))
    with pytest.raises(DataError, match=r"scores\.json"):
        make(run)


def test_the_reports_json_is_for_strict_readers_and_for_cat(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    signs = "a\u202eb\x9bc\x7f"

    def plant(manifest: dict[str, Any]) -> None:
        manifest["figures"] |= {"dataset": float("nan"), "more": [float("inf")], "name": signs}
        manifest["environment"] |= {"command": signs, "load": float("-inf")}
        manifest["environment"]["packages"] = {signs: signs}

    edit_manifest(run / "2-traces", plant)
    folder = make(run)
    text = (folder / "report.json").read_text()
    assert not set("\u202e\x9b\x7f") & set(text)

    def refused(name: str) -> None:
        raise ValueError(name)

    content = json.loads(text, parse_constant=refused)
    stage = next(row for row in content["stages"] if row["stage"] == "2-traces")
    assert stage["figures"]["dataset"] is None and stage["figures"]["more"] == [None]
    assert stage["figures"]["name"] == signs
    assert stage["environment"]["load"] is None
    assert stage["environment"]["packages"] == {signs: signs}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pass@1 of a@1a2b.", "pass@1 of a@1a2b."),
        ("@someone", "\\@someone"),
        ("(@someone)", "(\\@someone)"),
        ("a_@b", "a\\_\\@b"),
        ("me@a.example", "me\\@a.example"),
        ("a@@b-c.d", "a@\\@b-c.d"),
    ],
)
def test_metrics_stand_as_they_are_and_no_person_or_address_becomes_a_link(
    text: str, shown: str
) -> None:
    assert inline(text) == shown


def test_a_pipe_in_the_place_of_a_latency_is_not_waited_for(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    place = run / "6-evals" / "some" / "model"
    place.mkdir(parents=True)
    os.mkfifo(place / "latency.json")
    with pytest.raises(DataError, match=r"latency\.json: is a pipe"):
        make(run)
