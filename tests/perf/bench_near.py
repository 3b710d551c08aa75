"""Near-duplicates and leaks of many problems and traces, beside datasketch and plain scripts.

    python tests/perf/bench_near.py [--sizes 5000 10000] [--traces] [--skip datasketch]

Made-up problems of 50 words, of which one in twenty is an edited copy of an earlier one; traces of
2 kB, two a problem. Each way runs in a process of its own on the same texts:

- ours: `near_duplicates` (compared exactly, numbers count), `LeakIndex` against 2,000 questions of
  which one in a hundred problems holds one, and `common_sentences`; the problems stage with both
  tables, beside the same stage without (golds are not graded here); the filter of traces;
- datasketch (`pip install datasketch`; left out where it is missing): MinHash of as many hashes,
  MinHashLSH of the same bands, candidates not compared;
- scripts: an inverted index of 5-grams in dictionaries, and a set of 13-grams.

Told: seconds of processor, peak memory, how many of the planted were found and how many others;
and by which power of the size the seconds grow. Ours must find 99 % of the planted and grow by less
than the power 1.2. 1M problems and 1M traces: `--sizes 10000 100000 1000000 --traces --skip
datasketch script_near`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from reasondistill.config import ProblemSource
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.filters.earlier import EarlierTraces
from reasondistill.curation.instructions import common_sentences
from reasondistill.curation.leaks import LeakIndex
from reasondistill.curation.near_duplicates import banding, near_duplicates
from reasondistill.curation.shingles import Text
from reasondistill.grading import GradeItem
from reasondistill.records import Grade
from reasondistill.runs import store
from reasondistill.stages.problems import run_problems

WORDS_EACH, EDITED, LEAKED, QUESTIONS = 50, 20, 100, 2_000
TRACE_WORDS, TRACES_EACH = 340, 2
RECALL, POWER = 0.99, 1.2

SYLLABLES = ["ba", "ko", "ri", "tun", "sel", "mar", "do", "fi", "lan", "pe", "gu", "zor"]
VOCABULARY = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]
WORD = re.compile(r"\w+")


def words_of(key: str, count: int) -> list[str]:
    chance = random.Random(key)
    # Some words are frequent, as in any language.
    words = [VOCABULARY[int(len(VOCABULARY) * chance.random() ** 3)] for _ in range(count)]
    for place in range(5, count, 12):
        words[place] = str(chance.randrange(2, 500))
    return words


def problem(number: int) -> str:
    """Every twentieth is its predecessor with its last word changed and another beginning."""
    if number % EDITED == EDITED - 1:
        words = words_of(f"problem {number - 1}", WORDS_EACH)
        return " ".join([*words[:-1], "other"]).capitalize() + "?"
    words = words_of(f"problem {number}", WORDS_EACH)
    return f"{' '.join(words)}. Put the answer in a box."


def problems(size: int) -> Iterator[Text]:
    for number in range(size):
        yield Text(str(number), problem(number))


def traces(size: int) -> Iterator[Text]:
    """`size` of them; each second one is the first with an edit."""
    for number in range(size):
        of = number // TRACES_EACH
        words = words_of(f"trace {of}", TRACE_WORDS)
        if number % TRACES_EACH:
            words[100:101] = ["thus"]
        yield Text(str(number), " ".join(words), group=str(of))


def question(number: int) -> str:
    return " ".join(words_of(f"question {number}", WORDS_EACH))


def leaking(size: int) -> Iterator[Text]:
    for number in range(size):
        text = problem(number)
        if number % LEAKED == 0:
            text = f"{text} {question(number // LEAKED % QUESTIONS)} {text}"
        yield Text(str(number), text)


# ---- the ways ------------------------------------------------------------------------------------


def ours_near(size: int) -> set[str]:
    return {f"{found.of} {found.id}" for found in near_duplicates(problems(size))}


def ours_traces(size: int) -> set[str]:
    found = near_duplicates(traces(size), numbers="words")
    return {f"{each.of} {each.id}" for each in found}


def ours_filter_traces(size: int) -> set[str]:
    """Each trace beside the earlier ones of its problem."""
    found: set[str] = set()
    earlier, group = EarlierTraces(), ""
    for text in traces(size):
        if text.group != group:
            earlier, group = EarlierTraces(), text.group
        if earlier.similarity(text.text, words=5, numbers="words") >= 0.8:
            found.add(f"{int(text.id) - 1} {text.id}")
        earlier.keep()
    return found


class EveryGoldIsRight:
    """In the place of a grader."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        keys = {"extracted": "1", "layer": "l", "reason": "r", "grader": "g", "seconds": 0.0}
        grade = Grade(outcome="correct", **keys)
        for item in items:
            yield item.id, grade


def set_aside_by_stage(size: int, **tables: dict[str, Any]) -> set[str]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for text in leaking(size):
                file.write(json.dumps({"question": text.text, "answer": "1"}) + "\n")
        keys: dict[str, Any] = {"source": "file", "dataset": str(path)}
        questions = (question(number) for number in range(QUESTIONS))
        held_out = [HeldOut("made up", str(n), text) for n, text in enumerate(questions)]
        out = Path(name) / "out"
        source = ProblemSource.model_validate(keys | tables)
        run_problems(source, out, pool=EveryGoldIsRight(), held_out=held_out)
        return {name.split("/")[-1] for name in store.read_keys(out / "set_aside.jsonl")}


def ours_stage(size: int) -> set[str]:
    return set_aside_by_stage(size, near_duplicates={}, decontaminate={})


def stage_alone(size: int) -> set[str]:
    return set_aside_by_stage(size)


def datasketch_near(size: int) -> set[str]:
    from datasketch import MinHash, MinHashLSH

    plan = banding(0.8)
    index = MinHashLSH(num_perm=plan.hashes, params=(plan.bands, plan.rows))
    found: set[str] = set()
    for text in problems(size):
        minhash = MinHash(num_perm=plan.hashes)
        minhash.update_batch([" ".join(gram).encode() for gram in grams(text.text, 5)])
        found.update(f"{other} {text.id}" for other in index.query(minhash))
        index.insert(text.id, minhash)
    return found


def script_near(size: int) -> set[str]:
    """Every 5-gram with the texts that have it."""
    owners: dict[tuple[str, ...], list[int]] = {}
    sizes: list[int] = []
    found: set[str] = set()
    for text in problems(size):
        mine = set(grams(text.text, 5))
        shared = Counter(other for gram in mine for other in owners.get(gram, ()))
        for other, count in shared.items():
            if count >= 0.8 * (len(mine) + sizes[other] - count):
                found.add(f"{other} {text.id}")
        for gram in mine:
            owners.setdefault(gram, []).append(int(text.id))
        sizes.append(len(mine))
    return found


def ours_leaks(size: int) -> set[str]:
    common = common_sentences(text.text for text in leaking(size))
    index = LeakIndex(
        (HeldOut("made up", str(number), question(number)) for number in range(QUESTIONS)),
        common=common,
    )
    return {text.id for text, leaks in index.search(leaking(size)) if leaks}


def script_leaks(size: int) -> set[str]:
    """A set of all 13-grams of the questions."""
    held: set[tuple[str, ...]] = set()
    for number in range(QUESTIONS):
        held.update(grams(question(number), 13))
    return {text.id for text in leaking(size) if not held.isdisjoint(grams(text.text, 13))}


def texts_alone(size: int) -> set[str]:
    """Making the texts, which is in the seconds of all others (of the leaks twice)."""
    for _ in problems(size):
        pass
    return set()


def trace_texts_alone(size: int) -> set[str]:
    for _ in traces(size):
        pass
    return set()


def grams(text: str, size: int) -> list[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]


def planted(way: str, size: int) -> set[str]:
    if way.endswith("leaks"):
        return {str(number) for number in range(0, size, LEAKED)}
    if way.endswith("traces"):
        return {f"{number - 1} {number}" for number in range(1, size, TRACES_EACH)}
    if way.endswith("alone"):
        return set()
    if way.endswith("stage"):
        leaks = set(range(0, size, LEAKED))
        return set(map(str, leaks | set(range(EDITED - 1, size, EDITED))))
    return {f"{number - 1} {number}" for number in range(EDITED - 1, size, EDITED)}


WAYS: dict[str, Callable[[int], set[str]]] = {
    way.__name__: way
    for way in (
        texts_alone,
        ours_near,
        datasketch_near,
        script_near,
        ours_leaks,
        script_leaks,
        trace_texts_alone,
        ours_traces,
        ours_filter_traces,
        stage_alone,
        ours_stage,
    )
}


def measured(way: str, size: int) -> dict[str, Any]:
    """In this process."""
    started, wall = time.process_time(), time.monotonic()
    found = WAYS[way](size)
    seconds, wall_s = time.process_time() - started, time.monotonic() - wall
    wanted = planted(way, size)
    return {
        "way": way,
        "size": size,
        "seconds": round(seconds, 2),
        "wall_s": round(wall_s, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "found": len(found & wanted),
        "of": len(wanted),
        "others": len(found - wanted),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 10_000])
    parser.add_argument("--traces", action="store_true", help="traces of 2 kB too")
    parser.add_argument("--skip", nargs="+", default=[], help="ways, or beginnings of their names")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]))))
        return 0
    skipped = list(given.skip)
    if importlib.util.find_spec("datasketch") is None:
        print("datasketch is not installed: left out")
        skipped.append("datasketch")
    if not given.traces:
        skipped += ["trace_texts", "ours_traces", "ours_filter"]
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        for way in WAYS:
            if way.startswith(tuple(skipped)):
                continue
            done = subprocess.run(
                [sys.executable, __file__, "--one", way, str(size)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            print(
                "{way:18} {size:9,} {seconds:9.2f} s {peak_mib:6,} MiB  found {found:,} of {of:,}"
                " and {others:,} others".format(**row),
                flush=True,
            )
    passed = all(row["found"] >= RECALL * row["of"] for row in rows if row["way"][:4] == "ours")
    for way, power in powers(rows).items():
        print(f"{way}: seconds grow by the power {power:.2f} of the size")
        passed = passed and (not way.startswith("ours") or power < POWER)
    print(json.dumps(rows))
    return 0 if passed else 1


def powers(rows: list[dict[str, Any]]) -> dict[str, float]:
    """From the smallest size to the largest."""
    found: dict[str, float] = {}
    for way in WAYS:
        of_way = [row for row in rows if row["way"] == way]
        if len(of_way) > 1:
            first, last = of_way[0], of_way[-1]
            times = last["seconds"] / max(0.01, first["seconds"])
            found[way] = math.log(times) / math.log(last["size"] / first["size"])
    return found


if __name__ == "__main__":
    raise SystemExit(main())
