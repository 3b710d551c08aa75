"""The report says what the folder holds, in one file that loads nothing, and survives whatever a
model wrote.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fake_run import STAGES, fail_samples, fake_run

from reasondistill.config import ReportSettings
from reasondistill.errors import StageError
from reasondistill.grading import GradingPool
from reasondistill.records import Score, Student, SuspectGold, Trace
from reasondistill.runs.figures import seconds_spent
from reasondistill.runs.store import read_manifest, read_records, write_manifest, write_records
from reasondistill.stages import evals
from reasondistill.stages.report import plots, run_report
from reasondistill.stages.report.markdown import fenced, inline
from reasondistill.tables import ScoreRow, score_table

MODELS = ["sft", "answer-only", "base", "teacher"]
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> | `````` \x00\x1b[31m & \" '"


def make(run: Path, *, title: str = "Demo", about: str = "A demo.", **settings: Any) -> Path:
    run_report(run, run / "7-report", settings=ReportSettings(**settings), title=title, about=about)
    return run / "7-report"


def full_run(path: Path, **changes: Any) -> Path:
    """All stages, evals collected."""
    run = fake_run(path, **changes)
    collect(run, **changes)
    return run


def collect(run: Path, failures_allowed: float = 0.0, **changes: Any) -> None:
    benchmarks = list(changes.get("benchmarks", ["gsm_symbolic"]))
    baselines = {"sft": ["answer-only", "base", "teacher"]}
    asked = dict.fromkeys(benchmarks, changes.get("samples", 1))
    plan = evals.EvalPlan(asked, MODELS, baselines)
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool, failures_allowed=failures_allowed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full run without a report; `run` is a copy of it to change."""
    return full_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full run's report, read by many tests and changed by none."""
    return make(full_run(tmp_path_factory.mktemp("run"), problems=60))


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def json_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def change_trace(run: Path, place: str, change: Callable[[Trace], Trace]) -> None:
    path = run / place / "traces.jsonl"
    write_records(path, [change(trace) for trace in read_records(path, Trace)])


class Outline(HTMLParser):
    """Checks that tags nest, and keeps what a reader or a browser would act on."""

    VOID = ("meta", "br", "img", "input", "link", "hr", "line", "rect", "circle", "polyline")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# ---- what it says


def test_json_has_the_promised_keys_and_the_numbers_of_the_evals(report: Path) -> None:
    found = json_of(report)
    assert set(found) == {
        "scores",
        "differences",
        "parts",
        "prompts",
        "overlap",
        "published",
        "funnel",
        "stages",
        "students",
    }
    assert all(
        {"model", "benchmark", "metric", "mean", "low", "high", "n", "k"} <= set(row)
        for row in found["scores"]
    )
    assert all(
        {"model", "baseline", "benchmark", "mean", "low", "high"} <= set(row)
        for row in found["differences"]
    )
    source = json.loads((report.parent / "6-evals" / "scores.json").read_text())
    assert [row["mean"] for row in found["scores"]] == [row["mean"] for row in source["scores"]]
    assert [row["low"] for row in found["differences"]] == [
        row["low"] for row in source["differences"]
    ]
    assert {row["name"]: row["method"] for row in found["students"]} == {
        "sft": "sft",
        "answer-only": "answer_only",
        "base": "base",
    }


def test_headline_says_how_much_better_with_intervals(report: Path) -> None:
    found = json_of(report)
    mean = {row["model"]: 100 * row["mean"] for row in found["scores"]}
    text = (report / "report.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("**sft answers"))
    assert f"sft answers {mean['sft']:.1f} % of gsm_symbolic" in line and "(n=60, k=1)" in line
    assert f"better than answer-only (+{mean['sft'] - mean['answer-only']:.1f} points" in line
    assert line.endswith(f"the teacher has {mean['teacher']:.1f} %.**")


def test_equal_models_are_called_tied_and_a_loss_worse(tmp_path: Path) -> None:
    run = full_run(tmp_path, right={"teacher": 0.9, "sft": 0.3, "answer-only": 0.3, "base": 0.9})
    line = (make(run) / "report.md").read_text()
    assert "tied with answer-only at this n" in line and "worse than base" in line


def test_several_samples_show_pass_at_k_and_the_bootstrap(tmp_path: Path) -> None:
    page = page_of(make(full_run(tmp_path, samples=3)))
    assert "pass@3" in page and "hierarchical bootstrap" in page and "k=3" in page


def test_funnel_adds_up_from_problems_to_examples(report: Path) -> None:
    steps = {step["stage"]: step for step in json_of(report)["funnel"]}
    assert list(steps) == ["1-problems", "2-traces", "3-verdicts", "4-examples"]
    for name in ("1-problems", "4-examples"):
        assert steps[name]["in"] == steps[name]["out"] + sum(steps[name]["dropped"].values())
    assert sum(steps["3-verdicts"]["parts"].values()) == steps["2-traces"]["out"] == 120
    assert sum(steps["4-examples"]["parts"].values()) == steps["4-examples"]["out"]
    assert "set aside: duplicate question" in page_of(report)


def test_golds_under_suspicion_are_counted_and_the_first_are_shown(run: Path) -> None:
    folder = run / "4-examples"
    suspects = [
        SuspectGold(problem_id=f"p/{n}", gold=HOSTILE, answer=f"said-{n}", votes=3, n=4, correct=1)
        for n in range(7)
    ]
    write_records(folder / "suspects.jsonl", suspects)
    manifest = read_manifest(folder)
    assert manifest is not None
    figures = manifest.figures | {"suspect_golds": 7}
    write_manifest(folder, replace(manifest, figures=figures))
    made = make(run)
    assert [row["answer"] for row in json_of(made)["suspects"]] == [f"said-{n}" for n in range(5)]
    words = "7 problems have samples that agree with each other and not with the gold"
    for text in (page_of(made), (made / "report.md").read_text(encoding="utf-8")):
        assert words in text and "They make examples like others" in text and "3 of 4" in text
        assert "said-4" in text and "said-5" not in text and "<script>alert" not in text
    Outline(page_of(made))


def test_questions_of_benchmarks_in_the_problems_are_counted_by_the_way_they_were_found(
    run: Path,
) -> None:
    assert "Questions of benchmarks" not in page_of(make(run))
    folder = run / "1-problems"
    manifest = read_manifest(folder)
    assert manifest is not None
    counts = {"gsm8k": {"near": 1234, "look-alike": 4, "equal": 2, "run": 5}, HOSTILE: {}}
    figures = manifest.figures | {"leaks": counts}
    write_manifest(folder, replace(manifest, figures=figures))
    made = make(run)
    markdown = (made / "report.md").read_text(encoding="utf-8")
    assert "| benchmark | equal | near | words in a row | look-alikes |" in markdown
    assert "| gsm8k | 2 | 1,234 | 5 | 4 |" in markdown
    page = page_of(made)
    for text in (markdown, page):
        assert "1-problems/leaks.md" in text and "<script>alert" not in text
    section = page[page.index('id="leaks"') :]
    rows = re.findall(r"<tr>(.*?)</tr>", section[: section.index("</table>")], re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    assert cells[0] == ["benchmark", "equal", "near", "words in a row", "look-alikes"]
    assert cells[1] == ["gsm8k", "2", "1,234", "5", "4"]
    assert len(cells) == 3 and cells[2][1:] == ["0"] * 4
    Outline(page)


def test_traces_to_read_are_a_mix_of_outcomes_with_question_gold_and_reason(report: Path) -> None:
    outline = Outline(page_of(report))
    shown = [d for d in outline.all("details") if d.get("class") == "trace"]
    assert len(shown) == 10 + 5
    single = {d["data-outcomes"] for d in shown[:10]}
    assert {"correct", "wrong", "truncated"} <= single
    text = " ".join(outline.texts)
    for word in (
        "gold answer",
        "extracted",
        "integers differ (integer)",
        "The same problem, every model",
    ):
        assert word in text


def test_eval_problems_tell_the_models_apart(report: Path) -> None:
    page = page_of(report)
    sides = page[page.index("The same problem, every model") :]
    assert "sft: correct" in sides and "sft: wrong" in sides and "teacher: correct" in sides


def test_zero_traces_asked_shows_none(run: Path) -> None:
    page = page_of(make(run, traces=0))
    assert "Traces to read" not in page and 'class="trace"' not in page


def test_how_it_was_made_names_packages_hardware_command_and_fingerprints(report: Path) -> None:
    page = page_of(report)
    manifest = read_manifest(report.parent / "2-traces")
    assert manifest is not None
    for word in (
        "2.13.0+cpu",
        "Xeon, 2 cores",
        "reasondistill run pipelines/demo.toml",
        manifest.fingerprint,
        "think@0a1b2c3d",
    ):
        assert word in page
    assert "One training example as the student sees it" in page


def test_stages_of_different_environments_are_told_apart(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="verdicts")
    manifest = read_manifest(run / "2-traces")
    assert manifest is not None
    write_manifest(run / "2-traces", replace(manifest, environment={"hardware": {"gpu": "H100"}}))
    text = (make(run) / "report.md").read_text()
    assert re.search(r"hardware.gpu \| H100 \| 2-traces", text)
    assert re.search(r"hardware.gpu \| none \| 1-problems, 3-verdicts", text)


def test_speed_is_tokens_by_working_seconds(report: Path) -> None:
    manifest = read_manifest(report.parent / "2-traces")
    assert manifest is not None
    row = next(
        line
        for line in (report / "report.md").read_text().splitlines()
        if line.startswith("| 2-traces | 3 min 32 s")
    )
    assert row.endswith(f"{manifest.figures['tokens'] / 200:,.0f} |")


def test_the_time_of_a_stage_is_that_of_all_its_sittings(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    manifest = read_manifest(run / "2-traces")
    assert manifest is not None
    # Its own seconds are those of the last sitting, its figures' those of all.
    figures = manifest.figures | {"load_seconds": 6.0}
    write_manifest(run / "2-traces", replace(manifest, seconds=12.0, figures=figures))
    report = make(run)
    assert "| 2-traces | 3 min 26 s" in (report / "report.md").read_text()
    rows = json.loads((report / "report.json").read_text())["stages"]
    assert [row["seconds"] for row in rows if row["stage"] == "2-traces"] == [206.0]
    shared = manifest.figures | {"workers": 3}
    assert seconds_spent(replace(manifest, seconds=80.0, figures=shared)) == 80.0


# ---- samples that failed

QUOTA = "HTTP 402: quota exhausted"


def sample_ids(problems: range, samples: int) -> list[str]:
    return [f"gsm_symbolic/train/{row}:{sample}" for row in problems for sample in range(samples)]


@pytest.fixture(params=[False, True], ids=["new", "old"])
def out_of_quota(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """120 samples; the server gave 20, all of them right, and then HTTP 402."""
    run = fake_run(tmp_path, until="verdicts", n=4, right={"teacher": 1.0})
    fail_samples(run / "2-traces", sample_ids(range(5, 30), 4), QUOTA, is_old=request.param)
    return run


def test_a_share_is_never_of_what_was_lost(out_of_quota: Path) -> None:
    text = (make(out_of_quota) / "report.md").read_text()
    said = (
        f"20 of 120 samples; 100 lost ({QUOTA}). 100.0 % of the 20 graded ones correct; "
        "no evals yet."
    )
    assert f"**{said}**" in text
    assert (
        f"> 2-traces: 20 of 120 samples; 100 lost ({QUOTA}). The same command draws the "
        "lost ones again." in text
    )
    assert "16.7" not in text


def test_the_funnel_says_what_was_lost_and_why_and_still_adds_up(out_of_quota: Path) -> None:
    folder = make(out_of_quota)
    steps = {step["stage"]: step for step in json_of(folder)["funnel"]}
    assert steps["2-traces"]["parts"] == {"answered": 20} and steps["2-traces"]["dropped"] == {
        QUOTA: 100
    }
    assert steps["3-verdicts"]["parts"] == {"correct": 20, "lost": 100}
    page = page_of(folder)
    Outline(page)
    assert f"100 lost: {QUOTA}" in page and "20 answered" in page


def test_lengths_are_those_of_answers(out_of_quota: Path) -> None:
    text = (make(out_of_quota, traces=0) / "report.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| traces: correct"))
    assert (
        row.startswith("| traces: correct | 20 |")
        and "traces: lost" not in text
        and "traces: undecided" not in text
    )


def test_a_stage_that_stopped_says_how_far_it_came(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="traces", n=4)
    fail_samples(run / "2-traces", sample_ids(range(5, 7), 4), QUOTA)
    manifest = read_manifest(run / "2-traces")
    assert manifest is not None
    write_manifest(run / "2-traces", replace(manifest, status="partial", counts={}, figures={}))
    path = run / "2-traces" / "traces.jsonl"
    write_records(path, list(read_records(path, Trace))[:28])
    folder = make(run)
    said = f"20 of 120 samples; 8 lost ({QUOTA}), 92 not drawn yet. Not graded yet; no evals yet."
    assert f"**{said}**" in (folder / "report.md").read_text()
    step = next(step for step in json_of(folder)["funnel"] if step["stage"] == "2-traces")
    assert (step["in"], step["out"], step["parts"]) == (
        30,
        28,
        {"answered": 20, "not drawn yet": 92},
    )


def test_refused_problems_have_a_column_and_are_named_with_their_reason(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    names = [f"gsm_symbolic/test/{row}" for row in (3, 4, 5, 6)]
    fail_samples(
        run / "6-evals" / "gsm_symbolic" / "sft" / "traces",
        [f"{name}:0" for name in names],
        "content filter",
        fault="input",
    )
    collect(run)
    folder = make(run, traces=30)
    text = (folder / "report.md").read_text()
    assert "| undecided % | refused % | tokens |" in text
    row = next(line for line in text.splitlines() if line.startswith("| sft | gsm"))
    assert "| 13.3 |" in row
    named = ", ".join(names[:3])
    assert (
        "> sft on gsm_symbolic: 4 problems refused (content filter), which count as "
        f"not correct: {named} and 1 more." in text
    )
    assert "gave up on more than 1 % of the answers of sft" not in text
    page = page_of(folder)
    Outline(page)
    assert "refused 13.3 %" in page and "sft: refused" in page
    assert "| gsm_symbolic: sft | 26 |" in text
    found = json_of(folder)
    assert (
        found["refused"]["gsm_symbolic"]["sft"][names[0]] == "content filter"
        and found["lost"] == {}
    )
    assert {row["n"] for row in found["differences"]} == {26}


def test_a_score_says_how_many_samples_it_does_without(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    fail_samples(
        run / "6-evals" / "gsm_symbolic" / "sft" / "traces", ["gsm_symbolic/test/3:0"], "HTTP 503"
    )
    fail_samples(run / "2-traces", sample_ids(range(1), 2), "HTTP 503")
    collect(run, failures_allowed=0.05)
    text = (make(run) / "report.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("**sft answers"))
    assert "(n=29, k=1; 1 sample lost)" in line
    assert "| 256 | 29 to 30 |" in text
    assert (
        "**The teacher's traces are not all there: 58 of 60 samples; 2 lost (HTTP 503).**" in text
    )
    assert (
        "1 sample lost (HTTP 503), 1 problem left out of its score: "
        "gsm_symbolic/test/3. The same command draws them again." in text
    )


def test_a_run_without_failures_says_nothing_of_them(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "refused" not in text and " lost" not in text.replace("(+), or only", "")


def test_the_report_says_how_many_of_the_traces_it_shows(report: Path, tmp_path: Path) -> None:
    page, markdown = page_of(report), (report / "report.md").read_text()
    # 60 problems: two traces each, one sample of four models each
    words = re.search(r"(\d+) of 360 traces are shown here\.", page)
    assert words is not None and words[0] in markdown
    assert int(words[1]) == page.count('<div class="part">Answer</div>') + page.count(
        "never closed"
    )
    assert (report / "browser" / "index.html").exists()
    assert "browser/index.html" in (read_manifest(report) or pytest.fail("no manifest")).files


def test_without_traces_or_with_too_many_no_browser_is_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (make(run) / "browser").exists()
    assert not (make(run, traces=0) / "browser").exists()
    monkeypatch.setenv("REASONDISTILL_MOST_BROWSER_TRACES", "10")
    folder = make(run, traces=4)
    assert not (folder / "browser").exists()
    assert "; reasondistill view shows all." in page_of(folder)
    assert "<body>" in page_of(folder)


# ---- one file, safe


def test_page_is_well_formed_and_loads_nothing(report: Path) -> None:
    page = page_of(report)
    outline = Outline(page)
    assert {tag for tag, _ in outline.tags}.isdisjoint(
        {"link", "img", "iframe", "object", "embed", "base"}
    )
    assert all("src" not in attributes for _, attributes in outline.tags)
    links = {attributes["href"] or "" for attributes in outline.all("a")}
    assert {link for link in links if link[0] != "#"} == {"browser/index.html"}
    assert not re.search(r"url\(|@import|https?://", page)
    policy = next(
        meta["content"]
        for meta in outline.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert (
        policy is not None
        and "default-src 'none'" in policy
        and re.search(r"style-src 'sha256-\S+'; font-src data:; script-src 'sha256-", policy)
    )


def test_navigation_leads_to_sections_that_exist(report: Path) -> None:
    outline = Outline(page_of(report))
    links = [a["href"] or "" for a in outline.all("a")]
    sections = [f"#{section['id']}" for section in outline.all("section")]
    assert [link for link in links if link[0] == "#"] == sections
    assert len(outline.all("section")) == 9


def test_page_is_accessible(report: Path) -> None:
    page = page_of(report)
    outline = Outline(page)
    assert all(
        attributes.get("role") == "img" and attributes.get("aria-label")
        for attributes in outline.all("svg")
    )
    assert all(attributes.get("scope") in ("col", "row") for attributes in outline.all("th"))
    assert len(outline.all("figcaption")) == len(outline.all("figure")) >= 4
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_what_a_model_wrote_is_never_markup(run: Path) -> None:

    def poison(trace: Trace) -> Trace:
        said = trace.completion.model_copy(
            update={"reasoning": HOSTILE, "answer_text": HOSTILE, "error": HOSTILE}
        )
        return trace.model_copy(update={"completion": said, "model": HOSTILE})

    change_trace(run, "2-traces", poison)
    change_trace(run, "6-evals/gsm_symbolic/sft/traces", poison)
    folder = make(run, title=HOSTILE, about=HOSTILE)
    page = page_of(folder)
    outline = Outline(page)
    assert len(outline.all("script")) == 1 and not outline.all("img")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    assert "\x00" not in page and "\x1b" not in page
    text = (folder / "report.md").read_text()
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert "<script>" in text and not re.search(r"(?<!\\)<script", outside)


def test_lone_surrogates_and_endless_texts_do_not_stop_the_report(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="verdicts")

    def break_it(trace: Trace) -> Trace:
        return trace.model_copy(
            update={
                "completion": trace.completion.model_copy(
                    update={"reasoning": "\ud800" + "x" * 200_000}
                )
            }
        )

    change_trace(run, "2-traces", break_it)
    page = page_of(make(run, traces=3))
    assert "characters more" in page and len(page) < 300_000


def test_markdown_fence_outlives_fences_inside() -> None:
    assert fenced("a\n````\nb").startswith("`````text\n") and fenced("a").startswith("```text\n")
    assert inline("a|b\n<i>`") == "a\\|b \\<i\\>\\`"


# ---- unfinished runs


@pytest.mark.parametrize("until", STAGES)
def test_report_works_after_every_stage(until: str, tmp_path: Path) -> None:
    run = fake_run(tmp_path, until=until, problems=8)
    folder = make(run)
    page = page_of(folder)
    Outline(page)
    reached = STAGES.index(until)
    assert ("Traces to read" in page) == (reached >= 1)
    assert ("Loss by step" in page) == (reached >= 4)
    assert "Against its baselines" not in page  # not collected yet
    assert json_of(folder)["scores"] == []


def test_the_first_lines_say_what_is_missing_stopped_lost_and_not_forecast(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    lost = ["gsm_symbolic/test/3:0", "gsm_symbolic/test/7:0"]
    fail_samples(run / "6-evals" / "gsm_symbolic" / "sft" / "traces", lost, "HTTP 503")
    collect(run, failures_allowed=0.1)
    folder = run / "5-students" / "answer-only"
    (folder / "student.json").unlink()
    manifest = read_manifest(folder)
    assert manifest is not None
    stopped = replace(manifest, status="partial", counts={}, seconds=0.0)
    write_manifest(folder, stopped)
    known = {"stage": "traces", "state": "new", "work": ""}
    unknown = known | {"stage": "students/sft", "unknown": "unknown: use --calibrate 20"}
    forecast = {"run": "demo", "made": "2026-11-22", "cluster": "here", "sources": []}
    forecast |= {"stages": [known, unknown], "total": known | {"stage": "total"}}
    (run / "forecast.json").write_text(json.dumps(forecast))
    expected = ["2-traces", "5-students/sft", "5-students/gkd", "5-students/two", "6-evals"]
    settings = ReportSettings()
    run_report(run, run / "7-report", settings=settings, title="x", about="", expected=expected)
    made = run / "7-report"
    said = [
        "Of what the pipeline file asks for, these are not made: 5-students/gkd, 5-students/two.",
        "This run is not finished: 5-students/answer-only (stopped after step 60). "
        "Numbers here may still change.",
        "Answers are missing: sft on gsm_symbolic (2 samples lost).",
        "The forecast does not know what these take: students/sft.",
    ]
    page = page_of(made)
    assert re.findall(r'<p class="headline fault">(.*?)</p>', page) == said
    markdown = (made / "report.md").read_text()
    for sentence in said:
        assert f"**{inline(sentence)}**" in markdown
    # What a stopped stage has not told is not 0.
    row = next(line for line in markdown.splitlines() if "answer-only (unfinished)" in line)
    assert "| unknown | unknown | unknown |" in row and " 0 " not in row
    figures = read_manifest(made)
    assert figures is not None and said[0] in figures.figures["headline"]


def test_what_has_no_outcomes_has_unknown_shares() -> None:
    score = Score(
        model="a", benchmark="b", metric="pass@1", mean=0.4, low=0.3, high=0.5, n=9, k=1, method=""
    )
    table = score_table([ScoreRow("a", "b", score)], (), ["truncated"])
    assert table.column("truncated %") == ["unknown"]


def test_a_run_with_traces_only_says_so(tmp_path: Path) -> None:
    text = (make(fake_run(tmp_path, until="traces")) / "report.md").read_text()
    assert "60 traces, not graded yet" in text and "not graded" in text


def test_evals_without_students_name_the_scores(run: Path) -> None:
    for name in ("sft", "answer-only", "base"):
        for path in (run / "5-students" / name).iterdir():
            path.unlink()
        (run / "5-students" / name).rmdir()
    assert "teacher answers" in (make(run) / "report.md").read_text()


def test_an_unfinished_student_is_shown_with_its_curve_and_flagged(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="students")
    folder = run / "5-students" / "sft"
    (folder / "student.json").unlink()
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, replace(manifest, status="partial"))
    page = page_of(make(run))
    assert "This run is not finished: 5-students/sft" in page and "unfinished" in page


def test_traces_drawn_after_the_verdicts_are_not_graded(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="verdicts")
    traces = list(read_records(run / "2-traces" / "traces.jsonl", Trace))
    late = [
        trace.model_copy(update={"id": f"{trace.problem_id}:9", "sample": 9})
        for trace in traces[:14:2]
    ]
    write_records(run / "2-traces" / "traces.jsonl", traces + late)
    verdicts = next(step for step in json_of(make(run))["funnel"] if step["stage"] == "3-verdicts")
    assert verdicts["parts"]["not graded"] == 7


def test_numbers_made_from_what_has_changed_since_are_flagged(run: Path) -> None:
    assert "is stale" not in (make(run) / "report.md").read_text()
    for place in ("6-evals/gsm_symbolic/sft/traces", "4-examples"):
        manifest = read_manifest(run / place)
        assert manifest is not None
        write_manifest(run / place, replace(manifest, fingerprint="0123456789abcdef"))
    text = (make(run) / "report.md").read_text()
    assert "6-evals is stale: 6-evals/gsm_symbolic/sft/traces has changed since" in text
    assert "5-students/sft is stale: 4-examples has changed since" in text
    assert "5-students/base is stale" in text and "2-traces is stale" not in text


def test_manifests_of_others_inside_a_student_are_none_of_ours(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="students")
    (run / "5-students" / "sft" / "model").mkdir()
    (run / "5-students" / "sft" / "model" / "manifest.json").write_text("[]")
    assert "5-students/sft/model" not in page_of(make(run))


def test_a_folder_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="nothing to report"):
        make(tmp_path)


def test_the_same_again_is_skipped_and_news_remake_it(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="traces")
    path = make(run) / "report.html"
    before = path.stat().st_mtime_ns
    make(run)
    assert path.stat().st_mtime_ns == before
    make(run, traces=2)
    changed = path.stat().st_mtime_ns
    assert changed != before
    (run / "2-traces" / "metrics.jsonl").write_text('{"done": 1}\n')
    make(run, traces=2)
    assert path.stat().st_mtime_ns != changed


def test_keeping_old_work_still_renews_the_report(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="traces", problems=4)
    make(run)
    run_report(
        run, run / "7-report", settings=ReportSettings(), title="Renewed", about="", keep_old=True
    )
    assert "Renewed" in page_of(run / "7-report")


def test_names_of_others_keep_their_underscores(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="examples")
    manifest = read_manifest(run / "1-problems")
    assert manifest is not None
    write_manifest(
        run / "1-problems",
        replace(manifest, dropped={"held out: in benchmark gsm_symbolic_demo": 3}),
    )
    assert "3 set aside: held out: in benchmark gsm_symbolic_demo" in page_of(make(run))


def test_the_same_folder_gives_the_same_page(run: Path) -> None:
    first = page_of(make(run))
    shutil.rmtree(run / "7-report")
    assert page_of(make(run)) == first


def test_many_models_and_benchmarks_begin_with_one_matrix(tmp_path: Path) -> None:
    page = page_of(make(full_run(tmp_path, problems=5, benchmarks=("a", "b", "c"))))
    Outline(page)
    matrix = page[page.index('id="scores"') : page.index("<h3>a</h3>")]
    assert matrix.count("<tr>") == 1 + 4 and matrix.count('scope="col"') == 4


def test_twenty_models_on_ten_benchmarks_fold_behind_the_overview(tmp_path: Path) -> None:
    names = [f"model-{number}" for number in range(20)]
    benchmarks = [f"set-{number}" for number in range(10)]
    run = fake_run(
        tmp_path,
        problems=6,
        benchmarks=benchmarks,
        right=dict.fromkeys(names, 0.5) | {"teacher": 0.9},
    )
    with GradingPool(workers=1) as pool:
        plan = evals.EvalPlan(dict.fromkeys(benchmarks, 1), names)
        evals.collect(run / "6-evals", plan, pool)
    page = page_of(make(run))
    Outline(page)
    overview = page[page.index('id="scores"') : page.index("Every score with its outcomes")]
    assert overview.count("<tr>") == 1 + 20 and overview.count('scope="col"') == 11


def test_loss_lines_without_numbers_are_passed_over(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="students")
    (run / "5-students" / "sft" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": null}\n{"epoch": 3}\n{"step": 3, "lo'
    )
    Outline(page_of(make(run)))


def test_a_student_without_figures_has_empty_cells(tmp_path: Path) -> None:
    run = fake_run(tmp_path, until="students")
    student = Student.model_validate_json(
        (run / "5-students" / "base" / "student.json").read_text()
    )
    assert student.figures is None
    assert re.search(
        r"\| base \| base \| scratch llama 2.1M \|(  \|){8}", (make(run) / "report.md").read_text()
    )


# ---- plots


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0, 3.7), (12, 12), (0, 0), (-1, 1), (0, 1e-5), (0, 54321), (0.31, 0.33)],
)
def test_ticks_are_few_even_and_enclose_the_range(low: float, high: float) -> None:
    found = plots.ticks(low, high)
    steps = [b - a for a, b in zip(found, found[1:], strict=False)]
    assert 2 <= len(found) <= 8 and found[0] <= low and found[-1] >= high
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_thinning_keeps_short_curves_and_averages_long_ones() -> None:
    assert plots.thin_out([(1, 2), (2, 3)]) == [(1, 2), (2, 3)]
    thin = plots.thin_out([(float(x), 2.0 * x) for x in range(1000)])
    assert len(thin) <= plots.MOST_POINTS
    assert all(y == pytest.approx(2 * x) for x, y in thin)


def test_curves_survive_one_point_spikes_and_nan() -> None:
    for points in (
        [(1.0, 2.0)],
        [(0.0, 1.0), (1.0, float("nan")), (2.0, 1e9), (3.0, 0.9)],
        [(0.0, 0.0), (1.0, 0.0)],
    ):
        drawn = plots.line_chart(
            [plots.Line("a", points, 0)], across="step", up="loss", label="<loss>"
        )
        ElementTree.fromstring(drawn)
        assert "nan" not in drawn
    assert plots.line_chart([plots.Line("a", [], 0)], across="step", up="loss", label="") == ""
    shares = plots.line_chart(
        [plots.Line("a", [(0.0, 3.0), (1.0, 98.0)], 0)], across="step", up="pass@1, %", label=""
    )
    assert ">100<" in shares and ">150<" not in shares


def test_histogram_counts_everything_inside_its_range() -> None:
    drawn = ElementTree.fromstring(
        plots.histogram([0, 1, 39, 40, 40], start=0, end=40, tone="s0", label="x", is_last=True)
    )
    heights = sorted(float(bar.attrib["height"]) for bar in drawn.iter("rect"))
    assert heights == pytest.approx([16, 16, 48])


def test_a_forest_places_the_mean_between_its_bounds_and_draws_the_line_of_no_difference() -> None:
    row = plots.Estimate("<a>", 0.0, -0.1, 0.2, shown="0.0", words="<a>: 0.0 points, n=5")
    drawn = plots.forest([row], start=-0.2, end=0.2, zero=True, label="<b>")
    tree = ElementTree.fromstring(drawn)
    mark = next(part for part in tree.iter("g") if part.attrib["class"] == "mark")
    title, bar, dot = mark
    assert title.text == "<a>: 0.0 points, n=5"
    assert (bar.attrib["x1"], dot.attrib["cx"], bar.attrib["x2"]) == ("26.00%", "50.00%", "98.00%")
    zero = next(part for part in tree.iter("line") if "zero" in part.attrib["class"])
    assert zero.attrib["x1"] == zero.attrib["x2"] == "50.00%"
    ticks = [part.text for part in tree.iter("text")]
    assert ticks == ["−20", "−10", "0", "10", "20"]


def test_every_mark_of_a_picture_says_its_numbers() -> None:
    long = [(float(step), 1.0 / step) for step in range(1, 2001)]
    lines = [
        plots.Line("sft", long, 0),
        plots.Line("x", [(3.0, 40.0)], 1, words=["x at 3: 40.0 [30.0, 50.0] %"], bounds=[(30, 50)]),
    ]
    drawn = plots.line_chart(lines, across="step", up="loss", label="")
    tree = ElementTree.fromstring(drawn)
    marks = [part for part in tree.iter("g") if part.attrib["class"] == "mark"]
    words = [mark[0].text or "" for mark in marks]
    assert len(words) == plots.MOST_MARKS + 1
    assert all(re.fullmatch(r"sft: step [\d.]+k?, loss \S+", said) for said in words[:-1])
    assert words[-1] == "x at 3: 40.0 [30.0, 50.0] %" and "error" in marks[-1][1].attrib["class"]
    bins = plots.histogram([0, 1, 39], start=0, end=40, tone="s0", label="x", is_last=False)
    titles = [part.text for part in ElementTree.fromstring(bins).iter("title")]
    assert titles == ["0 to 1: 1", "1 to 2: 1", "39 to 40: 1"]
