"""The report in a real browser, from disk: nothing is cut at 1300 px, tables scroll in their box at
390 px, pictures say their numbers to pointer and keyboard, folded parts are there on paper.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import ANSWER_S, Chromium, Page
from fake_run import fake_run
from test_browser import FORMULAS
from test_report import change_trace, make

from reasondistill.grading import GradingPool
from reasondistill.records import Trace
from reasondistill.stages import evals

RIGHT = {"teacher": 0.83, "sft": 0.6, "answer-only": 0.2, "base": 0.04, "sft@step@20": 0.3}
# Boxes of tables, and whatever else is wider than the page.
BOXES = (
    "Array.from(document.querySelectorAll('.scroll'), "
    "(box) => [box.getAttribute('aria-label'), box.scrollWidth, box.clientWidth])"
)
IS_CUT = (
    "Array.from(document.querySelectorAll('main *')).filter((part) => part.checkVisibility() && "
    "!part.closest('.scroll, svg, pre, .names') && "
    "part.getBoundingClientRect().right > innerWidth + 1).map((part) => part.outerHTML)"
)
NAMES = ("Students", "Differences", "Scores of gsm_symbolic")
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TIP = "document.getElementById('tip').textContent"


def opened_all(page: Page) -> None:
    page.value("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with snapshots, long names, formulas, and a folder beside it."""
    run = fake_run(
        tmp_path_factory.mktemp("seen") / "run",
        problems=20,
        samples=2,
        right=RIGHT,
        figures={"sft": {"delivered_step": 45}},
    )
    plan = evals.EvalPlan({"gsm_symbolic": 2}, list(RIGHT), {"sft": ["answer-only", "base"]})
    with GradingPool(workers=1) as pool:
        evals.collect(run / "6-evals", plan, pool)

    def write_formulas(trace: Trace) -> Trace:
        completion = trace.completion.model_copy(update={"reasoning": FORMULAS})
        return trace.model_copy(update={"completion": completion})

    change_trace(run, "2-traces", write_formulas)
    return make(run, title="A long-named-demo " * 6) / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def page(report: Path, chromium: Chromium) -> Page:
    page = chromium.open(report.as_uri())
    page.wait("document.getElementById('found').textContent")
    return page


@pytest.mark.parametrize("dark", [False, True])
def test_at_1300_px_every_table_is_whole(page: Page, dark: bool) -> None:
    page.resize(1300, 900, dark=dark)
    opened_all(page)
    boxes = page.value(BOXES)
    names = [name for name, _, _ in boxes]
    assert {f"Table: {name}" for name in NAMES} <= set(names)
    assert len(set(names)) == len(names), "one name for two regions"
    assert [box for box in boxes if box[1] > box[2]] == []
    assert page.value(IS_CUT) == []


def test_at_390_px_wide_tables_scroll_in_their_own_box_and_the_page_does_not(page: Page) -> None:
    page.resize(390, 800)
    opened_all(page)
    assert page.value("document.documentElement.scrollWidth") == 390
    assert page.value(IS_CUT) == []
    wide = {name for name, inside, box in page.value(BOXES) if inside > box}
    assert {"Table: Students", "Table: Differences"} <= wide
    box = "document.querySelector('.scroll[aria-label$=Students]')"
    page.value(f"{box}.scrollIntoView(); {box}.scrollLeft = 9999")
    last = f"{box}.querySelector('tr:last-child > :last-child').getBoundingClientRect()"
    edge = f"{box}.getBoundingClientRect()"
    assert page.value(f"{last}.right <= {edge}.right + 1 && {last}.left > {edge}.left")
    assert page.value(f"{box}.tabIndex == 0 && {box}.getAttribute('role')") == "region"
    page.resize(1300, 900)


def test_every_picture_says_its_numbers_to_the_pointer(page: Page) -> None:
    pictures = page.value("document.querySelectorAll('svg.picture').length")
    assert pictures == page.value("document.querySelectorAll('svg').length") > 20
    silent = (
        "Array.from(document.querySelectorAll('svg')).filter((one) => !one.querySelector('.mark'))"
    )
    assert page.value(f"{silent}.length") == 0
    dot = "document.querySelector('.forest circle').getBoundingClientRect()"
    page.value(
        "document.querySelector('.forest').scrollIntoView({behavior: 'instant', block: 'center'})"
    )
    said = ""
    end = time.monotonic() + ANSWER_S
    # Scrolling hides what the pointer showed, and on a busy machine is told of late.
    while not said and time.monotonic() < end:
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
        page.value(FRAMES)
        x, y = page.value(f"[{dot}.x + 20, {dot}.y + 5]")
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        page.value(FRAMES)
        said = page.value(TIP)
    assert said.startswith("teacher on gsm_symbolic: ") and said.endswith("%, n=20, k=2")
    assert "[" in said
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    page.wait(f"!{TIP}")


def test_the_arrow_keys_go_from_mark_to_mark(page: Page) -> None:
    picture = "document.querySelector('svg[aria-label^=\"Accuracy on gsm_symbolic over\"]')"
    page.value(f"{picture}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
    page.value(FRAMES)
    page.wait(f"{picture}.blur() || {picture}.focus({{focusVisible: true}}) || {TIP}")
    assert page.value(TIP).startswith("step 20, sft@step@20, pass@1: ")
    page.press("ArrowRight")
    assert page.value(TIP).startswith("step 45, sft, pass@1: ")
    page.press("ArrowRight")
    assert page.value(TIP).startswith("step 45, ")
    page.press("Escape")
    assert page.value(TIP) == ""


def test_formulas_of_a_trace_are_set_when_it_is_opened(page: Page) -> None:
    trace = "document.querySelector('details.trace')"
    page.value(f"{trace}.open = false")
    page.value(
        f"new Promise((done) => setTimeout(done, 50)).then(() => {{ {trace}.open = true; }})"
    )
    page.wait(f"{trace}.querySelectorAll('.katex').length >= 3")
    assert page.value(f"{trace}.querySelector('.katex-display') !== null")


def test_on_paper_nothing_is_folded_dark_or_cut(page: Page) -> None:
    page.value("document.querySelectorAll('details').forEach((part) => { part.open = false; })")
    page.resize(720, 1000, dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", media="print", features=features)
    page.value("dispatchEvent(new Event('beforeprint'))")
    assert page.value("document.querySelectorAll('details:not([open])').length") == 0
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.value(f"{BOXES}.filter((box) => box[1] > box[2])") == []
    assert page.value(IS_CUT) == []
    page.value("dispatchEvent(new Event('afterprint'))")
    assert page.value("document.querySelectorAll('details[open]').length") == 0
    page.resize(1300, 900)


def test_it_asks_for_nothing_outside_its_folder_and_complains_of_nothing(
    report: Path, page: Page
) -> None:
    asked = {url.partition("#")[0] for url in page.requests if not url.startswith("data:font/")}
    assert asked == {
        report.as_uri(),
        (report.parent / "browser" / "katex.js").as_uri(),
    }
    assert page.complaints == []
