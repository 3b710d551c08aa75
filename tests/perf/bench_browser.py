"""What the trace browser costs: size and time to write, time to open, memory, frames while it is
scrolled, time of a search. Needs chromium.

    .venv/bin/python tests/perf/bench_browser.py --traces 50000 --folder /tmp/bench

Texts are drawn: words by Zipf's law, numbers and formulas, some 400 words a trace. `--steps folder`
alone, when the run is there, says what memory the writing takes.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chromium import Chromium, Page  # noqa: E402
from fake_run import fake_problems, fake_trace, fake_verdict, write_stage  # noqa: E402

from reasondistill.records import OUTCOMES, Problem, Trace, Verdict  # noqa: E402
from reasondistill.stages.report.browser import write_browser  # noqa: E402

SENTENCES, WORDS_OF_A_SENTENCE = 10, 40
MODELS = ("distilled", "base", "teacher", "answer-only", "kd")


class Texts:
    """Texts of a vocabulary whose words come as often as in a language: sentences of a pool, and
    numbers of their own.
    """

    def __init__(self, dice: random.Random) -> None:
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._dice = dice
        words = ["".join(dice.choices(letters, k=dice.randint(2, 10))) for _ in range(30_000)]
        weights = list(accumulate(1 / (rank + 1) for rank in range(30_000)))
        self._sentences: list[str] = []
        for _ in range(20_000):
            sentence = dice.choices(words, cum_weights=weights, k=WORDS_OF_A_SENTENCE)
            self._sentences.append(" ".join(sentence))

    def draw(self) -> str:
        parts: list[str] = []
        for sentence in self._dice.choices(self._sentences, k=SENTENCES):
            a, b = self._dice.randint(1, 9_999), self._dice.randint(2, 99)
            parts.append(f"{sentence} is $\\frac{{{a}}}{{{b}}}$.")
        return " ".join(parts)


def make_run(run: Path, traces: int, dice: random.Random) -> None:
    """A fifth of the traces are samples of five models on a benchmark."""
    texts = Texts(dice)
    train = fake_problems("synthetic/train", traces // 5, dice)
    test = fake_problems("synthetic/test", traces // 25, dice)

    def drawn(problems: list[Problem], n: int, model: str) -> Iterator[Trace]:
        for problem in problems:
            for sample in range(n):
                outcome = dice.choices(OUTCOMES, (70, 20, 4, 5, 1))[0]
                trace = fake_trace(problem, sample, model, outcome, dice)
                completion = trace.completion.model_copy(update={"reasoning": texts.draw()})
                yield trace.model_copy(update={"completion": completion})

    def graded(found: list[Trace]) -> Iterator[Verdict]:
        for trace in found:
            yield fake_verdict(trace, dice.choices(OUTCOMES, (70, 20, 4, 5, 1))[0])

    write_stage(run / "1-problems", "problems", {"problems.jsonl": train}, counts={})
    found = list(drawn(train, 4, "teacher@a1b2"))
    write_stage(run / "2-traces", "traces", {"traces.jsonl": found}, counts={})
    write_stage(run / "3-verdicts", "verdicts", {"verdicts.jsonl": graded(found)}, counts={})
    folder = run / "6-evals/synthetic"
    write_stage(folder / "problems", "problems", {"problems.jsonl": test}, counts={})
    for model in MODELS:
        found = list(drawn(test, 1, f"{model}@c3d4"))
        cell = folder / model
        write_stage(cell / "traces", "traces", {"traces.jsonl": found}, counts={})
        write_stage(cell / "verdicts", "verdicts", {"verdicts.jsonl": graded(found)}, counts={})


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


SCROLL = """
new Promise(function (resolve) {
  const began = performance.now(), frames = [];
  let before = began;
  (function step(now) {
    frames.push(performance.now() - before);
    before = performance.now();
    list.box.scrollTop += 400;
    if (before - began < 5000) requestAnimationFrame(step);
    else {
      frames.sort((a, b) => a - b);
      resolve([frames.length / 5, frames[Math.floor(frames.length * 0.95)]]);
    }
  })();
})
"""
SEARCH = """
(async function () {
  const began = performance.now();
  state.q = QUERY; await ask();
  return [performance.now() - began, selection.length];
})()
"""


def measure_page(folder: Path, profile: Path) -> None:
    with Chromium(profile) as chromium:
        url = (folder / "index.html").as_uri()
        chromium.open("about:blank").wait("document.readyState === 'complete'")
        print(f"all processes of the browser, an empty page: {chromium.memory_mb():.0f} MB (PSS)")
        page: Page | None = None
        for name in ("first", "second"):
            if page is not None:
                page.call("Page.close")
            began = time.monotonic()
            page = chromium.open(url)
            page.wait("document.documentElement.dataset.ready")
            print(f"opened, the {name} time: {time.monotonic() - began:.2f} s")
        assert page is not None
        print(page.value("document.getElementById('found').textContent"))
        rate, slow = page.value(SCROLL)
        print(f"scrolled at {rate:.0f} frames/s, 95 % of them within {slow:.0f} ms")
        for query in ("4711", "frac 4711 ", '"frac{4711}{"', "ab"):
            took, rows = page.value(SEARCH.replace("QUERY", json.dumps(query)))
            print(f"search {query}: {rows:,} rows in {took:.0f} ms")
        page.call("HeapProfiler.enable")
        page.call("HeapProfiler.collectGarbage")
        page.call("Performance.enable")
        found = page.call("Performance.getMetrics")["metrics"]
        values = {metric["name"]: metric["value"] for metric in found}
        print(f"JavaScript holds {values['JSHeapUsedSize'] / 1e6:.0f} MB")
        print(f"all processes of the browser: {chromium.memory_mb():.0f} MB (PSS)")


def measure_writing(run: Path, folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shutil.rmtree(folder, ignore_errors=True)
    began, cpu = time.monotonic(), time.process_time()
    write_browser(run, folder, title="bench")
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"records of the run: {size_mb(run):.0f} MB")
    print(f"written in {took:.0f} s ({cpu:.0f} s of CPU)")
    print(f"{size_mb(folder):.0f} MB in {len(list(folder.iterdir()))} files")
    print(f"memory: {before / 1e3:.0f} MB before, {peak / 1e3:.0f} MB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", nargs="+", default=["run", "folder", "page"])
    options = parser.parse_args()
    run, folder = options.folder / "run", options.folder / "browser"
    if "run" in options.steps:
        make_run(run, options.traces, random.Random(0))
    if "folder" in options.steps:
        measure_writing(run, folder)
    if "page" in options.steps:
        measure_page(folder, options.folder / "profile")


if __name__ == "__main__":
    main()
