"""Near-duplicates and leaks of many problems and traces, and all filters, beside datasketch and
plain scripts.

    python tests/perf/bench_near.py [--problems 5000 10000] [--traces] [--whole] [--skip datasketch]

Made-up problems of 50 words, of which one in twenty is an edited copy of an earlier one; traces of
2 kB, two a problem. Each way runs in a process of its own on the same texts:

- ours: `near_duplicates` (compared exactly, numbers count), `LeakIndex` against 2,000 questions of
  which one in a hundred problems holds one, and `common_sentences`; the problems stage with both
  tables, beside the same stage without (golds are not graded here); the filter of traces;
- with `--whole` all of curation as a run does it: the problems stage with both tables, then the
  examples stage over a trace of 2 kB of each problem that is left, of every tenth also a second in
  nearly the same words, with every filter of what is wrong with a trace; nine of a hundred traces
  have one fault each. Words are counted, no model's tokens. What makes the texts is not counted;
- datasketch (`pip install datasketch`; left out where it is missing): MinHash of as many hashes,
  MinHashLSH of the same bands, candidates not compared;
- scripts: an inverted index of 5-grams in dictionaries, and a set of 13-grams.

Told: seconds of processor, peak memory, how many of the planted were found and how many others;
and by which power of the size the seconds grow. Ours must find 99 % of the planted and grow by less
than the power 1.2; of 1M problems or more `--whole` must end within 30 minutes and 4 GiB. For them

    python tests/perf/bench_near.py --problems 10000 100000 1000000 --whole \\
        --only texts_alone ours_whole datasketch_near script_leaks

writes about 10 GB into TMPDIR, and datasketch alone wants some 8 GiB of memory: leave it out where
there are less.
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
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reasondistill.config import ExampleSettings, ProblemSource
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.filters.earlier import EarlierTraces
from reasondistill.curation.instructions import common_sentences
from reasondistill.curation.leaks import LeakIndex
from reasondistill.curation.near_duplicates import banding, near_duplicates
from reasondistill.curation.shingles import Text
from reasondistill.grading import GradeItem
from reasondistill.models.prompts import load_prompt
from reasondistill.records import Completion, Grade, Sampling, Trace, Verdict
from reasondistill.runs import layout, store
from reasondistill.stages.examples import ExampleInputs, run_examples
from reasondistill.stages.problems import run_problems

WORDS_EACH, EDITED, LEAKED, QUESTIONS = 50, 20, 100, 2_000
TRACE_WORDS, TRACES_EACH = 340, 2
RECALL, POWER = 0.99, 1.2
LARGE, MOST_SECONDS, MOST_MIB = 1_000_000, 30 * 60, 4 * 1024

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


# ---- what is measured ----------------------------------------------------------------------------


class Uncounted:
    """Seconds of processor and on the clock that are none of a way's."""

    seconds = 0.0
    wall = 0.0


@contextmanager
def not_counted() -> Generator[None]:
    started, wall = time.process_time(), time.monotonic()
    yield
    Uncounted.seconds += time.process_time() - started
    Uncounted.wall += time.monotonic() - wall


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


def problems_stage(folder: Path, size: int, **tables: dict[str, Any]) -> set[str]:
    """What is set aside of the leaking problems."""
    path = folder / "rows.jsonl"
    with not_counted(), open(path, "w", encoding="utf-8") as file:
        for text in leaking(size):
            file.write(json.dumps({"question": text.text, "answer": "1"}) + "\n")
    keys: dict[str, Any] = {"source": "file", "dataset": str(path)}
    questions = (question(number) for number in range(QUESTIONS))
    held_out = [HeldOut("made up", str(n), text) for n, text in enumerate(questions)]
    out = folder / "1-problems"
    source = ProblemSource.model_validate(keys | tables)
    run_problems(source, out, pool=EveryGoldIsRight(), held_out=held_out)
    return {name.split("/")[-1] for name in store.read_keys(out / "set_aside.jsonl")}


def ours_stage(size: int) -> set[str]:
    with tempfile.TemporaryDirectory() as name:
        return problems_stage(Path(name), size, near_duplicates={}, decontaminate={})


def stage_alone(size: int) -> set[str]:
    with tempfile.TemporaryDirectory() as name:
        return problems_stage(Path(name), size)


# ---- all of curation -----------------------------------------------------------------------------

FILTERS = ("structure", "repetition", "language", "phrases", "reasoning", "agreement")
ANSWER = "So the answer is \\boxed{1}."
SENTENCE = "We have seen this before, and we come back to it."
# Reasoning and answer of a trace whose words are `{}`, by the problem's number in a hundred.
FAULTS = {
    1: ("{}", "So the answer is 1."),
    2: ("{} <|im_end|>", ANSWER),
    3: ("As an AI language model, I count. {}", ANSWER),
    4: ("{} " + "\u6211\u4eec\u77e5\u9053" * 60, ANSWER),
    5: ("{} " + SENTENCE * 20, ANSWER),
    6: ("{} so it is \\boxed{{2}}.", ANSWER),
    7: ("Yes.", ANSWER),
    8: ("{} {}", ANSWER),
    # In the middle of a hundred: boxes that differ have to be compared by the grader.
    51: ("{}", "It is \\boxed{2}. No: \\boxed{1}."),
}
SECOND_OF = 10


def trace(problem_id: str, number: int, sample: int) -> Trace:
    words = words_of(f"trace {number}", TRACE_WORDS)
    if sample:
        words[100:101] = ["thus"]
    reasoning, answer = FAULTS.get(number % 100, ("{}", ANSWER))
    completion = Completion(
        reasoning=reasoning.replace("{}", " ".join(words)).replace("{{2}}", "{2}"),
        answer_text=answer,
        think="closed",
        finish="stop",
        prompt_tokens=80,
        tokens=500,
        seconds=1.0,
    )
    return Trace(
        id=f"{problem_id}:{sample}",
        problem_id=problem_id,
        sample=sample,
        model="made up",
        prompt="question@1",
        sampling=Sampling(),
        key="k",
        seed=1,
        completion=completion,
    )


def samples_of_run(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Problem, its number, and the sample."""
    for name in store.read_keys(folder / "1-problems" / layout.PROBLEMS):
        number = int(name.split("/")[-1])
        yield name, number, 0
        if number % SECOND_OF == 0:
            yield name, number, 1


def verdict_on(name: str, sample: int) -> Verdict:
    keys = {"extracted": "1", "layer": "l", "reason": "r", "grader": "g", "seconds": 0.0}
    grade = Grade(outcome="correct", **keys)
    return Verdict(trace_id=f"{name}:{sample}", problem_id=name, grade=grade)


def write_stage(folder: Path, name: str, records: Iterable[Any]) -> Path:
    place = folder / f"of-{name}"
    store.open_stage(place, store.Identity(name, 1, {}, {}))
    count = store.write_records(place / f"{name}.jsonl", records)
    store.finish_stage(place, counts={"in": count, "out": count}, seconds=0.0)
    return place


def ours_whole(size: int) -> set[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = problems_stage(folder, size, near_duplicates={}, decontaminate={})
        with not_counted():
            samples = samples_of_run(folder)
            traces = write_stage(folder, "traces", (trace(*one) for one in samples))
            samples = samples_of_run(folder)
            given = (verdict_on(name, sample) for name, _, sample in samples)
            verdicts = write_stage(folder, "verdicts", given)
        filters: dict[str, dict[str, Any]] = {one: {} for one in (*FILTERS, "near_duplicates")}
        out = folder / "4-examples"
        inputs = ExampleInputs(folder / "1-problems", traces, verdicts)
        settings = ExampleSettings(filters=filters)
        run_examples(settings, load_prompt("question"), inputs, out, about={})
        with not_counted():
            dropped = store.read_rows(out / layout.DROPPED)
            return found | {row["trace_id"].split("/")[-1] for row in dropped}


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
    if way.endswith("whole"):
        return planted("stage", size) | set(planted_traces(size))
    if way.endswith("stage"):
        leaks = set(range(0, size, LEAKED))
        return set(map(str, leaks | set(range(EDITED - 1, size, EDITED))))
    return {f"{number - 1} {number}" for number in range(EDITED - 1, size, EDITED)}


def planted_traces(size: int) -> Iterator[str]:
    for number in range(size):
        if number % LEAKED == 0 or number % EDITED == EDITED - 1:
            continue  # set aside
        if number % 100 in FAULTS:
            yield f"{number}:0"
        if number % SECOND_OF == 0:
            yield f"{number}:1"


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
        ours_whole,
    )
}


def measured(way: str, size: int) -> dict[str, Any]:
    """In this process."""
    started, wall = time.process_time(), time.monotonic()
    found = WAYS[way](size)
    seconds = time.process_time() - started - Uncounted.seconds
    wall_s = time.monotonic() - wall - Uncounted.wall
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Of the graders, where any were asked: one beside each core.
    kib += 2 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    wanted = planted(way, size)
    return {
        "way": way,
        "size": size,
        "seconds": round(seconds, 2),
        "wall_s": round(wall_s, 2),
        "peak_mib": round(kib / 1024),
        "found": len(found & wanted),
        "of": len(wanted),
        "others": len(found - wanted),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", "--problems", type=int, nargs="+", default=[5_000, 10_000], dest="sizes"
    )
    parser.add_argument("--traces", action="store_true", help="traces of 2 kB too")
    parser.add_argument("--whole", action="store_true", help="both stages, with all filters")
    parser.add_argument("--only", nargs="+", help="these ways alone")
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
    if not given.whole:
        skipped.append("ours_whole")
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        for way in WAYS:
            if way.startswith(tuple(skipped)) or way not in (given.only or WAYS):
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
                "{way:18} {size:9,} {seconds:9.2f} s ({wall_s:.0f} on the clock) {peak_mib:6,} MiB"
                "  found {found:,} of {of:,} and {others:,} others".format(**row),
                flush=True,
            )
    passed = all(row["found"] >= RECALL * row["of"] for row in rows if row["way"][:4] == "ours")
    for way, power in powers(rows).items():
        print(f"{way}: seconds grow by the power {power:.2f} of the size")
        passed = passed and (not way.startswith("ours") or power < POWER)
    for row in rows:
        if row["way"] == "ours_whole" and row["size"] >= LARGE:
            passed = passed and row["wall_s"] <= MOST_SECONDS and row["peak_mib"] <= MOST_MIB
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
