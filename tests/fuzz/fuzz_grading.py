"""Fuzz what the grader does before and beside sympy: extraction, cleaning, cheap comparison,
structural comparison.

    pip install atheris
    python tests/fuzz/fuzz_grading.py --found found.jsonl [--seeds rows.jsonl …]
        [libFuzzer's options, e.g. -max_total_time=3600]

It goes on after a finding and writes each kind of finding once: an exception, more than half a
second of CPU, a verdict that depends on the order of the arguments, an answer that is not equal to
itself. Findings become rows of tests/gold/cases.jsonl before they are fixed.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["reasondistill.grading"]):
    from reasondistill.grading import policies
    from reasondistill.grading.decide import compare, evaluate, regions
    from reasondistill.grading.decide import layers as equivalence
    from reasondistill.grading.extract import answer as extract
    from reasondistill.grading.read import clean, quantity, structure, syntax, words
    from reasondistill.grading.serve import items

    del evaluate, quantity, regions, structure, syntax, words  # imported to be instrumented

SLOW_S, STUCK_S = 0.5, 5.0
_FRAGMENTS = r"""
\boxed{ } { \frac \sqrt \sqrt[3]{ ^ _ ( ) [ ] | 0 1 2 3 7 23 100 1,000 0.5 .25 , . ; : x
y n k e i a b = < > \leq \geq
\neq \pm \mp \cup \cap \in \text{ and or answer is $ \( \) \[ \] % ! - + * / \cdot
\times \begin{pmatrix} \end{pmatrix}
\\ & \{ \} #### </think> <think> \circ \sin \cos \log_2 \ln \infty \pi \left \right
\overline{ \binom{ \lfloor \rfloor
\ldots \mathbb{R} \setminus \langle \rangle ² ½ √ − ∞ π ± × ° 三 cm m/s minutes dollars A
B C (A) Monday no solution
\sum_{k=1}^ \int_0^ \lim_{x\to d \pmod{ \equiv \approx ' \prime \vec{ \operatorname{
\begin{cases} \end{cases}
\begin{array}{cc} \end{array} \quad \, \! \; ~ ** `
"""
FRAGMENTS = re.findall(r"\S+", _FRAGMENTS)
SEPARATOR = "\x1f"


def decode(data: bytes) -> tuple[str, str]:
    """A prediction and a gold: plain text behind `T`, else one fragment per byte."""
    if data[:1] == b"T":
        text = _decoded(data[1:])
    else:
        text = "".join(_fragment(byte) for byte in data)
    left, _, right = text.partition(SEPARATOR)
    return left, right


def _decoded(data: bytes) -> str:
    """UTF-8 where it is that, lone surrogates too; else one character per byte."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _fragment(byte: int) -> str:
    if byte == 0:
        return SEPARATOR
    if byte == 255:
        return " "
    return FRAGMENTS[byte % len(FRAGMENTS)]


class Fuzzer:
    """Runs one input through every check, and writes each new kind of finding down."""

    def __init__(self, found: Path) -> None:
        self._found = found
        self._seen: set[str] = set()
        self._policy = policies.find_policy("default")

    def __call__(self, data: bytes) -> None:
        a, b = decode(data)
        self._try("extract", lambda: extract.extract(a), a, b)
        self._try("begin", lambda: items.begin(items.GradeItem("", a, b), self._policy), a, b)
        self._both_ways("cheap", self._cheaply, a, b)
        first = self._try("clean", lambda: clean.clean(a), a, b) or ""
        second = self._try("clean", lambda: clean.clean(b), a, b) or ""
        if len(first) + len(second) >= 2 * equivalence.LONGEST_ANSWER:
            return
        self._both_ways("compare", self._compare, first, second)
        same = self._try("same", lambda: self._compare(first, first), first, first)
        if same == "wrong":
            self._report("unequal_to_itself", "", first, first)

    def _compare(self, a: str, b: str) -> str:
        return compare.compare(a, b, self._policy).outcome

    def _cheaply(self, a: str, b: str) -> str:
        return equivalence.decide_cheaply(a, b, self._policy).outcome

    def _both_ways(self, name: str, decide: Callable[[str, str], Any], a: str, b: str) -> None:
        there = self._try(name, lambda: decide(a, b), a, b)
        back = self._try(name, lambda: decide(b, a), b, a)
        if there != back:
            self._report(f"{name}_order", f"{there} {back}", a, b)

    def _try(self, name: str, call: Callable[[], Any], a: str, b: str) -> Any:
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, STUCK_S)
        try:
            return call()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__} {Path(place.filename).name}:{place.lineno}"
            self._report(f"{name}_raises", detail, a, b)
            return None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            if time.process_time() - started > SLOW_S:
                self._report(f"{name}_slow", f"{len(a) + len(b):.0e}", a, b)

    def _report(self, kind: str, detail: str, a: str, b: str) -> None:
        shape = detail
        if "order" in kind or "itself" in kind:
            shape = f"{detail} {sorted(set(a + b))[:6]}"
        key = f"{kind} {shape}"
        if key in self._seen:
            return
        if sum(other.startswith(kind) for other in self._seen) > 200:
            return
        self._seen.add(key)
        row = {"kind": kind, "detail": detail, "prediction": a, "gold": b}
        with open(self._found, "a", encoding="ascii") as file:
            file.write(json.dumps(row) + "\n")


def _stuck(*_: object) -> None:
    raise TimeoutError


def seeds(paths: list[Path], folder: Path) -> None:
    """One corpus file for each row of the given files."""
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            text = f"T{row['prediction']}{SEPARATOR}{row.get('gold', '')}"[:4_000]
            (folder / f"{path.stem}-{number}").write_bytes(text.encode("utf-8", "surrogatepass"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--found", type=Path, default=Path("found.jsonl"))
    parser.add_argument(
        "--seeds",
        type=Path,
        nargs="*",
        default=[Path(__file__).parents[1] / "gold" / "cases.jsonl"],
    )
    arguments, rest = parser.parse_known_args()
    signal.signal(signal.SIGPROF, _stuck)
    with tempfile.TemporaryDirectory() as corpus:
        seeds(arguments.seeds, Path(corpus))
        atheris.Setup(
            [sys.argv[0], corpus, "-max_len=400", "-timeout=60", "-rss_limit_mb=4096", *rest],
            Fuzzer(arguments.found),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
