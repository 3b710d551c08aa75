"""Training problems of two lengths in one file: three short ones, then one of GSM8K, and so on.

    python examples/short_and_gsm8k.py data/

Reads mawps.jsonl, svamp.jsonl and gsm8k_train.jsonl of a folder and writes short_and_gsm8k.jsonl
beside them, for pipelines/real_traces.toml. However few of its rows have been answered when a run
is stopped, they hold both kinds.

The short ones are MAWPS's parts addsub and multiarith: its part singleop and SVAMP are what the
students are measured on. Both sets have many problems that are another one in other words or with
other numbers, which no comparison of whole texts finds. A training problem is left out when it
shares 60 % of its words with a problem to measure on, numbers and repeated words not counted.
GSM8K's training part was published apart from its test part.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SHORT_PER_LONG = 3
ALIKE = 0.6


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def words_of(question: str) -> frozenset[str]:
    """The different words of a question, without numbers."""
    return frozenset(re.findall(r"[a-z]+", question.lower()))


class Alike:
    """Finds questions that share most of their words with one of those that are given."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._known = [words_of(question) for question in questions]
        self._with_word: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(self._known):
            for word in words:
                self._with_word[word].append(number)

    def has(self, question: str) -> bool:
        """Whether shared words / all words of both reaches ALIKE with any of them."""
        words = words_of(question)
        shared: Counter[int] = Counter()
        for word in words:
            shared.update(self._with_word.get(word, ()))
        for number, count in shared.items():
            together = len(words) + len(self._known[number]) - count
            if count >= ALIKE * together:
                return True
        return False


def by_chance(row: dict[str, Any]) -> bytes:
    """An order that has nothing to do with a row's place in its file."""
    return hashlib.sha256(row["question"].encode()).digest()


def short_problems(mawps: Sequence[dict[str, Any]], measured: Alike) -> list[dict[str, Any]]:
    """Each different problem of the two parts that is not like one to measure on."""
    kept: dict[str, dict[str, Any]] = {}
    for row in mawps:
        question = row["input"]
        if row["type"] not in ("addsub", "multiarith") or measured.has(question):
            continue
        name = f"{row['type']}-{row['idx']}"
        problem = {"id": name, "set": "mawps", "question": question, "answer": row["target"]}
        kept.setdefault(" ".join(question.lower().split()), problem)
    return sorted(kept.values(), key=by_chance)


def gsm8k_problems(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The training problems with the number behind `####` as their answer."""
    problems: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        answer = row["answer"].rpartition("####")[2].strip()
        name = f"gsm8k-{number}"
        problem = {"id": name, "set": "gsm8k", "question": row["question"], "answer": answer}
        problems.append(problem)
    return sorted(problems, key=by_chance)


def interleaved(
    short: Sequence[dict[str, Any]], long: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Three short ones, a long one, and so on; what is left of either follows."""
    mixed: list[dict[str, Any]] = []
    rest = list(short)
    for problem in long:
        mixed += rest[:SHORT_PER_LONG]
        del rest[:SHORT_PER_LONG]
        mixed.append(problem)
    return mixed + rest


def main(folder: Path) -> None:
    mawps = read_rows(folder / "mawps.jsonl")
    svamp = read_rows(folder / "svamp.jsonl")
    gsm8k = read_rows(folder / "gsm8k_train.jsonl")
    singleop = [row["input"] for row in mawps if row["type"] == "singleop"]
    measured = Alike(singleop + [f"{row['Body']} {row['Question']}" for row in svamp])
    short = short_problems(mawps, measured)
    long = gsm8k_problems(gsm8k)
    path = folder / "short_and_gsm8k.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for problem in interleaved(short, long):
            file.write(json.dumps(problem, ensure_ascii=False) + "\n")
    print(f"{path}: {len(short)} short problems and {len(long)} of GSM8K")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
