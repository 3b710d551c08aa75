"""How fast the grader is, beside plain math-verify on the same traces in the same run.

    python tests/perf/bench_grading.py [--traces 20000] [--heavy 200]

Two mixes, made here from a fixed seed: GSM8K-type traces (a few hundred characters, `#### n` or a box with a number) and LaTeX-heavy ones
(500 to 8,000 characters, answers with roots, fractions, sets, intervals). Prints verdicts per second of one core for both and their ratio,
and on how many both agree.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator

from reasondistill.grading import GradeItem, GradingPool

FILLER = "We add the two amounts and simplify, so that $a_{k} = \\frac{%d}{%d}$ holds for each of them. "


def simple(count: int, seed: int = 0) -> Iterator[GradeItem]:
    """GSM8K-type traces, seven of ten right."""
    draw = random.Random(seed)
    for i in range(count):
        gold = draw.randint(2, 5_000)
        said = gold if draw.random() < 0.7 else gold + draw.randint(1, 9)
        body = f"There are {draw.randint(2, 90)} boxes with {draw.randint(2, 90)} pens each. " * draw.randint(3, 8)
        text = f"{body}\n#### {said:,}" if draw.random() < 0.5 else f"{body}The answer is \\boxed{{{said}}}."
        yield GradeItem(str(i), text, str(gold))


PAIRS = [
    ("2\\sqrt{2}", "\\sqrt{8}"),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
    ("x^2-1", "(x-1)(x+1)"),
    ("\\{1,2\\}", "\\{2,1\\}"),
    ("(0,\\frac{1}{2}]", "(0,0.5]"),
    ("\\frac{3\\pi}{4}", "0.75\\pi"),
    ("1\\pm\\sqrt{5}", "1+\\sqrt{5}, 1-\\sqrt{5}"),
    ("y=2x+1", "2x-y+1=0"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\3\\end{pmatrix}"),
    ("2^{10}", "1024"),
    ("\\frac{7}{12}", "\\frac{7}{11}"),
    ("(3,-2)", "(3,-2)"),
    ("\\text{Monday}", "\\text{Tuesday}"),
    ("10\\%", "0.1"),
    ("x>3", "(3,\\infty)"),
    ("n(n+1)/2", "\\frac{n^2+n}{2}"),
]


def heavy(count: int, seed: int = 0) -> Iterator[GradeItem]:
    """LaTeX-heavy traces of 500 to 8,000 characters with distinct answers, so that no cache decides alone."""
    draw = random.Random(seed)
    for i in range(count):
        said, gold = draw.choice(PAIRS)
        number = draw.randint(2, 9_999)
        body = "".join(FILLER % (draw.randint(1, 99), draw.randint(1, 99)) for _ in range(draw.randint(6, 90)))
        scale = draw.random() < 0.3
        said, gold = (f"{number}\\sqrt{{{number}}}", f"\\sqrt{{{number**3}}}") if scale else (said, gold)
        yield GradeItem(str(i), f"{body}Therefore the answer is $\\boxed{{{said}}}$.", gold)


def ours(items: list[GradeItem]) -> tuple[float, list[bool]]:
    """Verdicts per second with one worker, after the pool is warm."""
    with GradingPool(workers=1, deadline_s=10.0) as pool:
        pool.grade_one(GradeItem("warm", "\\boxed{\\int_0^1 x dx}", "0.5"))
        started = time.perf_counter()
        found = [grade.is_correct for _, grade in pool.grade_many(items)]
        return len(items) / (time.perf_counter() - started), found


def plain(items: list[GradeItem]) -> tuple[float, list[bool]]:
    """Verdicts per second of math-verify's own two calls, its timeouts off."""
    from math_verify import parse, verify

    parse("\\boxed{1}", parsing_timeout=None)
    started = time.perf_counter()
    found = [
        verify(parse(f"\\boxed{{{item.gold}}}", parsing_timeout=None), parse(item.answer_text, parsing_timeout=None), timeout_seconds=None)
        for item in items
    ]
    return len(items) / (time.perf_counter() - started), found


def compare(name: str, items: list[GradeItem], sample: int) -> None:
    """Print one line: both rates, their ratio, and the verdicts that differ on the sample that both did."""
    rate, verdicts = ours(items)
    plain_rate, plain_verdicts = plain(items[:sample])
    differing = sum(a != b for a, b in zip(verdicts, plain_verdicts, strict=False))
    print(f"{name:8} ours {rate:9,.0f}/s   math-verify {plain_rate:7,.0f}/s   {rate / plain_rate:6.1f}×   {differing} of {sample} differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=20_000)
    parser.add_argument("--heavy", type=int, default=400)
    parser.add_argument("--sample", type=int, default=100, help="how many of each mix math-verify does")
    arguments = parser.parse_args()
    compare("gsm8k", list(simple(arguments.traces)), min(arguments.sample, arguments.traces))
    compare("heavy", list(heavy(arguments.heavy)), min(arguments.sample, arguments.heavy))


if __name__ == "__main__":
    main()
