"""How fast the grader is, beside plain math-verify on the same traces in the same run.

    python tests/perf/bench_grading.py [--traces 20000] [--heavy 400] [--million] [--cases
    rows.jsonl]

Two mixes, made here from a fixed seed: GSM8K-type traces (a few hundred characters, `#### n` or a
box with a number) and LaTeX-heavy ones (500 to 8,000 characters, answers with roots, fractions,
sets, intervals). Prints verdicts per second of one core for both and their ratio, and on how many
both agree; then what one hostile answer in a hundred costs at a deadline of 2 s. `--million` grades
a file of a million rows with `grade_file` on all cores and says how much memory that took.
`--cases` compares graders on rows with an expected verdict.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reasondistill.grade_file import grade_file
from reasondistill.grading import POLICIES, GradeItem, GradingPool

FILLER = (
    "We add the two amounts and simplify, so that $a_{k} = \\frac{%d}{%d}$ holds for each of them. "
)


def simple(count: int, seed: int = 0) -> Iterator[GradeItem]:
    """GSM8K-type traces, seven of ten right."""
    draw = random.Random(seed)
    for i in range(count):
        gold = draw.randint(2, 5_000)
        said = gold if draw.random() < 0.7 else gold + draw.randint(1, 9)
        body = (
            f"There are {draw.randint(2, 90)} boxes with {draw.randint(2, 90)} pens each. "
            * draw.randint(3, 8)
        )
        text = (
            f"{body}\n#### {said:,}"
            if draw.random() < 0.5
            else f"{body}The answer is \\boxed{{{said}}}."
        )
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
    """LaTeX-heavy traces of 500 to 8,000 characters with distinct answers, so that no cache decides
    alone.
    """
    draw = random.Random(seed)
    for i in range(count):
        said, gold = draw.choice(PAIRS)
        number = draw.randint(2, 9_999)
        body = "".join(
            FILLER % (draw.randint(1, 99), draw.randint(1, 99)) for _ in range(draw.randint(6, 90))
        )
        scale = draw.random() < 0.3
        said, gold = (
            (f"{number}\\sqrt{{{number}}}", f"\\sqrt{{{number**3}}}") if scale else (said, gold)
        )
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
        verify(
            parse(f"\\boxed{{{item.gold}}}", parsing_timeout=None),
            parse(item.answer_text, parsing_timeout=None),
            timeout_seconds=None,
        )
        for item in items
    ]
    return len(items) / (time.perf_counter() - started), found


HOSTILE = [
    r"\boxed{9^{9^{9^{%d}}}}",
    r"\boxed{\sum_{k=1}^{10000000%d} \frac{1}{k^k}}",
    r"\boxed{\binom{100000000%d}{500000000}}",
    r"\boxed{(a+b+c+d+e)^{80%d}-1}",
    r"\boxed{\int_0^\infty \frac{x^{9%d}}{e^{x}-1}\ln(1+x^5) dx}",
    r"\boxed{(((10!)!)!)!+%d}",
    r"\[ \boxed{1 " * 400 + "%d",
    r"\boxed{\sqrt{" * 40 + "%d",
    "answer is " * 800 + "%d",
    r"\boxed{" + "{" * 2_000 + "%d" + "}" * 2_000 + "}",
]


def with_hostile(items: list[GradeItem], kinds: int, seed: int = 0) -> list[GradeItem]:
    """The same items with one hostile answer more for every hundred: `kinds` different ones of each
    of ten sorts, drawn again and again.
    """
    draw = random.Random(seed)
    mixed: list[GradeItem] = []
    for i, item in enumerate(items):
        mixed.append(item)
        if i % 100 == 99:
            mixed.append(GradeItem(f"h{i}", draw.choice(HOSTILE) % draw.randrange(kinds), "5"))
    return mixed


def hostile(items: list[GradeItem]) -> None:
    """Print how much longer a hundredth of hostile answers makes it, at a deadline of 2 s."""
    for kinds in (1, 4):
        times: list[float] = []
        for batch in (items, with_hostile(items, kinds)):
            with GradingPool(deadline_s=2.0) as pool:
                pool.grade_one(GradeItem("warm", "\\boxed{\\int_0^1 x dx}", "0.5"))
                started = time.perf_counter()
                for _ in pool.grade_many(batch):
                    pass
                times.append(time.perf_counter() - started)
        print(
            f"hostile  +1 % of {10 * kinds} different answers: {times[0]:.1f} s → "
            f"{times[1]:.1f} s, {times[1] / times[0]:.2f}×"
        )


def million(rows: int = 1_000_000) -> None:
    """Print the time and the memory that a file of that many GSM8K-type traces takes."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        with open(source, "w", encoding="utf-8") as file:
            for item in simple(rows):
                file.write(
                    json.dumps({"id": item.id, "prediction": item.answer_text, "gold": item.gold})
                    + "\n"
                )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        outcomes = grade_file(source, Path(folder) / "verdicts.jsonl")
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    speed = rows / seconds
    print(
        f"million  {outcomes.total():,} rows in {seconds:.0f} s, {speed:,.0f}/s, "
        f"{memory >> 10} MiB (before: {before >> 10})"
    )


def _in_box(text: str) -> str:
    """A bare answer as math-verify wants it; a text with a formula or a box in it stays."""
    return (
        text
        if any(mark in text for mark in ("$", "\\boxed", "\\(", "\\[")) or len(text.split()) > 12
        else f"\\boxed{{{text}}}"
    )


def cases(path: Path) -> None:
    """Print the agreement of each policy, and of plain math-verify, with the rows whose verdict
    nobody disputes.
    """
    from math_verify import parse, verify

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if not row.get("convention") and row["quality"] in ("test", "ours")]
    items = [GradeItem(str(i), row["prediction"], row["gold"]) for i, row in enumerate(rows)]
    found: dict[str, list[bool]] = {}
    with GradingPool(deadline_s=10.0) as pool:
        for policy in POLICIES:
            found[policy] = [grade.is_correct for _, grade in pool.grade_many(items, policy=policy)]
    found["math-verify, as they are"] = [
        verify(parse(row["gold"]), parse(row["prediction"])) for row in rows
    ]
    boxed = [{key: _in_box(row[key]) for key in ("gold", "prediction")} for row in rows]
    found["math-verify, bare ones in a box"] = [
        verify(parse(row["gold"]), parse(row["prediction"])) for row in boxed
    ]
    for name, verdicts in found.items():
        right = sum(verdict == row["expected"] for verdict, row in zip(verdicts, rows, strict=True))
        false = sum(
            verdict and not row["expected"] for verdict, row in zip(verdicts, rows, strict=True)
        )
        print(
            f"cases    {name:32} {right:4} of {len(rows)} = {100 * right / len(rows):5.1f} "
            f"%   {false:3} false accepts"
        )


def compare(name: str, items: list[GradeItem], sample: int) -> None:
    """Print one line: both rates, their ratio, and the verdicts that differ on the sample that both
    did.
    """
    rate, verdicts = ours(items)
    plain_rate, plain_verdicts = plain(items[:sample])
    differing = [
        item for item, a, b in zip(items, verdicts, plain_verdicts, strict=False) if a != b
    ]
    print(
        f"{name:8} ours {rate:9,.0f}/s   math-verify {plain_rate:7,.0f}/s   "
        f"{rate / plain_rate:6.1f}×   {len(differing)} of {sample} differ"
    )
    for answer in sorted(
        {(item.answer_text.rpartition("\\boxed")[2][:60], item.gold) for item in differing}
    ):
        print("         differ:", *answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=20_000)
    parser.add_argument("--heavy", type=int, default=400)
    parser.add_argument(
        "--sample", type=int, default=100, help="how many of each mix math-verify does"
    )
    parser.add_argument("--million", action="store_true", help="grade a file of a million rows too")
    parser.add_argument("--cases", type=Path, help="rows with an expected verdict")
    arguments = parser.parse_args()
    compare("gsm8k", list(simple(arguments.traces)), min(arguments.sample, arguments.traces))
    compare("heavy", list(heavy(arguments.heavy)), min(arguments.sample, arguments.heavy))
    hostile(list(simple(10 * arguments.traces)))
    if arguments.million:
        million()
    if arguments.cases is not None:
        cases(arguments.cases)


if __name__ == "__main__":
    main()
