"""Wrong answers and equivalent rewrites, made from golds by named operators, and graded.

    python tests/fuzz/mutate_golds.py [--golds FILE…] [--limit 20000] [--rewrites 6000]
        [--seed 0] [--policy default] [--failures failures.jsonl] [--summary summary.txt]

Golds are built in (`answers.BUILT_IN`); files of JSON lines with a key gold, answer, final_answer
or solution are added. The same seed and golds give the same rows. Prints, for each operator, how
many were accepted, undecided and rejected, and examples of what went wrong. Ends with status 1 when
more than 1 in 5,000 wrong answers is accepted or fewer than 98.5 % of the rewrites are.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from answers import Gold, built_in, from_files
from mutations import MUTATIONS, Operator
from rewrites import REWRITES
from templates import wrapped, wrapped_wrong

from reasondistill.grading import GradeItem, GradingPool

WRONG_ACCEPTED_AT_MOST = 1 / 5_000
REWRITES_ACCEPTED_AT_LEAST = 0.985
TURNS = 12


@dataclass(frozen=True)
class Row:
    """A completion made from a gold, and what is right to say of it."""

    id: str
    kind: str
    prediction: str
    gold: str
    expected: bool


def make_rows(golds: Sequence[Gold], limit: int, seed: int, wrong: bool) -> list[Row]:
    """At most `limit` different rows, every operator in turn so that each has its share."""
    if wrong:
        return _made(golds, limit, seed, MUTATIONS, _wrap_wrong, expected=False)
    return _made(golds, limit, seed, REWRITES, _wrap_right, expected=True)


Wrap = Callable[[str, Gold, random.Random], str]


def _wrap_wrong(text: str, gold: Gold, draw: random.Random) -> str:
    return wrapped_wrong(text, gold.text, draw)


def _wrap_right(text: str, _: Gold, draw: random.Random) -> str:
    return wrapped(text, draw)


def _made(
    golds: Sequence[Gold],
    limit: int,
    seed: int,
    operators: dict[str, Operator],
    wrap: Wrap,
    *,
    expected: bool,
) -> list[Row]:
    rows: list[Row] = []
    streams = [_stream(name, operators[name], golds, seed, wrap) for name in operators]
    seen: set[tuple[str, str]] = set()
    while streams and len(rows) < limit:
        for stream in list(streams):
            made = next(stream, None)
            if made is None:
                streams.remove(stream)
            elif (made.prediction, made.gold) not in seen:
                seen.add((made.prediction, made.gold))
                rows.append(replace(made, expected=expected))
    return rows[:limit]


def _stream(
    name: str, operator: Operator, golds: Sequence[Gold], seed: int, wrap: Wrap
) -> Iterator[Row]:
    """What one operator makes of all golds in a random order, a dozen times."""
    draw = random.Random(f"{seed} {name}")
    for turn in range(TURNS):
        order = list(golds)
        draw.shuffle(order)
        for gold in order:
            made = operator(gold, draw)
            if made is None:
                continue
            text = made.text
            if not made.whole:
                text = wrap(text, gold, draw)
            yield Row(f"{name}/{gold.id}/{turn}", name, text, gold.text, expected=True)


@dataclass
class Tally:
    """How the rows of one operator were graded."""

    said: Counter[str]
    failures: list[tuple[Row, str]]


def grade_rows(rows: Sequence[Row], policy: str) -> dict[str, Tally]:
    """Grade all rows in one go; a tally for each operator."""
    tallies: dict[str, Tally] = defaultdict(lambda: Tally(Counter(), []))
    items = [GradeItem(str(i), row.prediction, row.gold) for i, row in enumerate(rows)]
    with GradingPool(deadline_s=10.0) as pool:
        for index, grade in pool.grade_many(items, policy=policy):
            row = rows[int(index)]
            tally = tallies[row.kind]
            tally.said[grade.outcome] += 1
            if grade.is_correct != row.expected:
                tally.failures.append((row, grade.outcome))
    return dict(tallies)


def report(tallies: dict[str, Tally], title: str, examples: int = 4) -> str:
    """A line for each operator, the worst first, with examples of its failures."""
    lines = [f"== {title}"]
    ordered = sorted(tallies.items(), key=lambda pair: (-len(pair[1].failures), pair[0]))
    for name, tally in ordered:
        said = tally.said
        total = said.total()
        rejected = total - said["correct"] - said["undecided"]
        lines.append(
            f"{name:28} {total:6,} rows  {said['correct']:6,} accepted  "
            f"{said['undecided']:5,} undecided  {rejected:6,} rejected  "
            f"{len(tally.failures):5,} failures"
        )
        for row, outcome in tally.failures[:examples]:
            lines.append(f"      {outcome:10} {row.prediction!r}  gold {row.gold!r}")
    return "\n".join(lines)


def failure_share(tallies: dict[str, Tally]) -> tuple[int, int]:
    """Failures and rows of all operators."""
    failures = sum(len(tally.failures) for tally in tallies.values())
    return failures, sum(tally.said.total() for tally in tallies.values())


def write_failures(tallies: dict[str, Tally], path: Path) -> None:
    """The failing rows, in the format of tests/gold."""
    with open(path, "a", encoding="utf-8") as file:
        for tally in tallies.values():
            for row, outcome in tally.failures:
                record = {
                    "id": row.id,
                    "kind": row.kind,
                    "prediction": row.prediction,
                    "gold": row.gold,
                    "expected": row.expected,
                    "said": outcome,
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golds", type=Path, nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=20_000, help="wrong answers to make")
    parser.add_argument("--rewrites", type=int, default=6_000, help="rewrites to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--failures", type=Path)
    parser.add_argument("--summary", type=Path, help="the report as a file, too")
    arguments = parser.parse_args()
    golds = built_in() + list(from_files(arguments.golds))
    if arguments.failures is not None:
        arguments.failures.write_text("")
    wrong = grade_rows(make_rows(golds, arguments.limit, arguments.seed, True), arguments.policy)
    right = grade_rows(
        make_rows(golds, arguments.rewrites, arguments.seed, False), arguments.policy
    )
    accepted, wrongs = failure_share(wrong)
    refused, rewrites = failure_share(right)
    goal_of_wrong = accepted <= wrongs * WRONG_ACCEPTED_AT_MOST
    share = (rewrites - refused) / max(1, rewrites)
    goals = [
        f"{len(golds):,} golds, seed {arguments.seed}, policy {arguments.policy}",
        f"wrong: {accepted:,} of {wrongs:,} accepted; at most {WRONG_ACCEPTED_AT_MOST:.2%} wanted",
        f"rewrites: {share:.2%} of {rewrites:,} accepted; {REWRITES_ACCEPTED_AT_LEAST:.1%} wanted",
    ]
    text = "\n\n".join(
        [
            report(wrong, "wrong answers (failures were accepted)"),
            report(right, "equivalent rewrites (failures were not accepted)"),
            "\n".join(goals),
        ]
    )
    print(text)
    if arguments.summary is not None:
        arguments.summary.write_text(text + "\n", encoding="utf-8")
    if arguments.failures is not None:
        write_failures(wrong, arguments.failures)
        write_failures(right, arguments.failures)
    return int(not goal_of_wrong or share < REWRITES_ACCEPTED_AT_LEAST)


if __name__ == "__main__":
    sys.exit(main())
