"""Damage one file of a finished run in one place, give the same command again, say how it ended.

    python tests/torture/corrupt.py runs/tiny tiny.toml --damages 60 --seed 1
    python tests/torture/corrupt.py runs/tiny tiny.toml --damages 60 --seed 1 --remake --repair

Each damage is drawn from the seed and its number alone, so that one can be repeated (`--first 17
--damages 1`). Every second one keeps the file's modification time. With `--remake` some cheap later
stages are removed first, so that what is damaged may be read again. The run itself is left alone:
all happens in a temporary folder. Ends with 1 where anything was silent or crashed.

    recovered   exit 0, every record is that of the undisturbed run
    refused     exit 2, one message that names the file or its folder
    repaired    refused; then `reasondistill repair`, and the same command ends with every record of
                the undisturbed run (with --repair)
    WRONG       refused, repaired without complaint, and a record differs afterwards
    unread      exit 0, size and time are those that were: nothing was read, nothing shown differs
    harmless    exit 0, in a file that is no data (logs, marks)
    SILENT      exit 0, and a record or what is shown differs, or a visible damage was passed over
    UNCLEAR     another exit, or a message that does not name the file
    CRASH       a traceback
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAULTS = ("SILENT", "UNCLEAR", "CRASH", "WRONG")
# What a clock or a machine writes, in JSON files.
_OF_THE_CLOCK = {"seconds", "load_seconds", "tokens_per_s", "peak_memory_gib", "time"}
_OF_THE_CLOCK |= {"environment", "files", "guard", "content"}
# Text files that are no data of the run.
_NO_DATA = ("logs/", "settled/", ".lock", ".times.json")
# Made anew with every change, and with the seconds of each stage in them: report.json is compared.
_NOT_COMPARED = ("7-report/manifest.json", "7-report/report.html", "7-report/report.md")
# Not damaged here: what no command reads as data, and what only a training in the middle reads.
_NOT_DRAWN = (*_NO_DATA, ".", "tokens/")
# Stages that are made again without a model: what is removed for it.
REMAKES: tuple[tuple[str, ...], ...] = (
    ("7-report",),
    ("6-evals/manifest.json", "6-evals/records.jsonl", "6-evals/scores.json", "7-report"),
    ("4-examples", "7-report"),
    ("3-verdicts", "7-report"),
)


# ---- damages -------------------------------------------------------------------------------------


def flip(content: bytes, dice: random.Random) -> bytes:
    """One bit is another."""
    place = dice.randrange(len(content))
    changed = content[place] ^ (1 << dice.randrange(8))
    return content[:place] + bytes([changed]) + content[place + 1 :]


def cut(content: bytes, dice: random.Random) -> bytes:
    """The end is missing."""
    return content[: dice.randrange(len(content))]


def zero(content: bytes, dice: random.Random) -> bytes:
    """The size is right, the end is zeros: what a power cut leaves."""
    kept = dice.randrange(len(content))
    return content[:kept] + bytes(len(content) - kept)


def lose_lines(content: bytes, dice: random.Random) -> bytes:
    """Some lines in a row are missing."""
    lines = content.splitlines(keepends=True)
    first = dice.randrange(len(lines))
    last = first + dice.randint(1, max(1, len(lines) // 3))
    return b"".join([*lines[:first], *lines[last:]])


def change_digit(content: bytes, dice: random.Random) -> bytes:
    """A digit is another one, as an editor may leave it."""
    places = [match.start() for match in re.finditer(rb"[0-9]", content)]
    if not places:
        return flip(content, dice)
    place = dice.choice(places)
    other = dice.choice([digit for digit in b"0123456789" if digit != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


_OUTCOMES = {b'"correct"': b'"wrong"', b'"wrong"': b'"correct"', b'"complete"': b'"partial"'}


def change_outcome(content: bytes, dice: random.Random) -> bytes:
    """An outcome or a status is another one."""
    found = list(re.finditer(b"|".join(_OUTCOMES), content))
    if not found:
        return change_digit(content, dice)
    match = dice.choice(found)
    return content[: match.start()] + _OUTCOMES[match[0]] + content[match.end() :]


Damage = Callable[[bytes, random.Random], bytes]
KINDS: Mapping[str, Damage | None] = {
    "flip": flip,
    "cut": cut,
    "zero": zero,
    "lines": lose_lines,
    "digit": change_digit,
    "outcome": change_outcome,
    "delete": None,
}


@dataclass(frozen=True)
class Case:
    """One damage: of which file, how, and whether its time stays."""

    number: int
    place: str
    kind: str
    keeps_time: bool
    removed: Sequence[str]
    seed: str

    def do(self, run: Path) -> None:
        """Do it to a copy of the run."""
        path = run / self.place
        damage = KINDS[self.kind]
        if damage is None:
            path.unlink()
            return
        before, content = path.stat(), path.read_bytes()
        dice = random.Random(self.seed)
        damaged = damage(content, dice)
        while damaged == content:
            damaged = damage(content, dice)
        path.write_bytes(damaged)
        if self.keeps_time:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def is_visible(self, whole: Path, run: Path) -> bool:
        """Whether size or time say that the file is another one."""
        path = run / self.place
        if not path.exists():
            return True
        was, now = (whole / self.place).stat(), path.stat()
        return (was.st_size, was.st_mtime_ns) != (now.st_size, now.st_mtime_ns)

    def __str__(self) -> str:
        time = "old time" if self.keeps_time else "new time"
        again = f" · made again: {', '.join(self.removed)}" if self.removed else ""
        return f"{self.number:4} {self.kind:8} {self.place} ({time}){again}"


def drawn(run: Path, number: int, seed: int, *, remakes: bool) -> Case:
    """The damage of this number. A stage is drawn first, so that each counts as much."""
    dice = random.Random(f"{seed}:{number}")
    removed: tuple[str, ...] = ()
    if remakes:
        able = [parts for parts in REMAKES if all((run / part).exists() for part in parts)]
        removed = dice.choice(able)
    files = [
        path.relative_to(run).as_posix()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.stat().st_size > 0
    ]
    stands = [
        place
        for place in files
        if not place.startswith((*removed, *_NOT_DRAWN)) and "/checkpoints/" not in place
    ]
    by_stage: dict[str, list[str]] = {}
    for place in stands:
        by_stage.setdefault(place.partition("/")[0], []).append(place)
    stage = dice.choice(sorted(by_stage))
    return Case(
        number,
        dice.choice(by_stage[stage]),
        dice.choice(list(KINDS)),
        number % 2 == 1,
        removed,
        f"{seed}:{number}:how",
    )


# ---- what came of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, what it printed, and what the run holds then."""

    code: int
    printed: str
    records: Mapping[str, Any]


def without_clock(value: Any) -> Any:
    """A JSON value without what differs from one minute to the next."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _OF_THE_CLOCK}
        return {key: without_clock(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_clock(item) for item in value]
    return value


def content_of(path: Path) -> Any:
    """What a file holds, without clock; its bytes where it is no JSON."""
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            return without_clock(json.loads(content))
        if path.suffix == ".jsonl":
            return [without_clock(json.loads(line)) for line in content.splitlines()]
    except ValueError:
        pass
    return content


def records_of(run: Path) -> dict[str, Any]:
    """All files of a run that are data."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        place = path.relative_to(run).as_posix()
        if path.is_file() and not place.startswith(_NO_DATA) and not path.name.startswith("."):
            found[place] = content_of(path)
    return found


class Bench:
    """A finished run, a copy of it that is damaged, and the command. With `repairs` what is refused
    is repaired, and the command given again.
    """

    def __init__(self, run: Path, pipeline: Path, work: Path, *, repairs: bool = False) -> None:
        self.repairs = repairs
        self.whole, self.pipeline, self.work = run, pipeline.resolve(), work
        self.copy = work / "runs" / run.name
        self._undisturbed: dict[tuple[str, ...], Ending] = {}
        for path in Path.cwd().iterdir():
            if path.name != "runs":
                (work / path.name).symlink_to(path)

    def _restore(self, removed: Sequence[str]) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.whole, self.copy)
        for part in removed:
            path = self.copy / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _run(self, *arguments: str) -> Ending:
        """Give the command of the run, or another one."""
        given = arguments or ("run", str(self.pipeline))
        command = [sys.executable, "-m", "reasondistill", *given]
        variables = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
        done = subprocess.run(
            command, cwd=self.work, env=variables, capture_output=True, text=True, check=False
        )
        return Ending(done.returncode, done.stdout + done.stderr, records_of(self.copy))

    def undisturbed(self, removed: Sequence[str]) -> Ending:
        """How it ends without damage; what two of them differ in is no record."""
        key = tuple(removed)
        if key not in self._undisturbed:
            self._restore(removed)
            first = self._run()
            self._restore(removed)
            second = self._run()
            if first.code != 0:
                raise SystemExit(f"without damage: exit {first.code}:\n{first.printed}")
            same = {
                place: content
                for place, content in first.records.items()
                if second.records.get(place) == content and place not in _NOT_COMPARED
            }
            self._undisturbed[key] = Ending(0, shown_at_the_end(first.printed), same)
        return self._undisturbed[key]

    def outcome(self, case: Case) -> tuple[str, str]:
        """In one word how a damage ended, and the message or what differs."""
        expected = self.undisturbed(case.removed)
        self._restore(case.removed)
        case.do(self.copy)
        damaged_at = _time_of(self.copy / case.place)
        ended = self._run()
        if "Traceback (most recent call last)" in ended.printed:
            return "CRASH", ended.printed.strip().splitlines()[-1]
        if ended.code != 0:
            word, why = self._of_refusal(case, ended)
            if word == "refused" and self.repairs:
                return self._of_repair(case, expected)
            return word, why
        differing = [
            place
            for place, content in expected.records.items()
            if ended.records.get(place) != content
        ]
        others = [place for place in differing if place != case.place]
        if others:
            return "SILENT", f"{', '.join(others[:3])} differ"
        if shown_at_the_end(ended.printed) != expected.printed:
            return "SILENT", "what is shown differs"
        path = self.copy / case.place
        is_written_again = path.exists() and _time_of(path) != damaged_at
        is_right = case.place in _NOT_COMPARED or case.place not in differing
        if is_written_again and is_right:
            return "recovered", ""
        if case.place.startswith(_NO_DATA):
            return "harmless", ""
        if case.is_visible(self.whole, self.copy):
            return "SILENT", "passed over"
        return "unread", ""

    def _of_repair(self, case: Case, expected: Ending) -> tuple[str, str]:
        """What becomes of it when it is repaired."""
        said = self._run("repair", self.copy.name)
        words = " ".join(said.printed.split())[:300]
        if "Traceback (most recent call last)" in said.printed:
            return "CRASH", said.printed.strip().splitlines()[-1]
        if said.code != 0:
            return "refused", words
        ended = self._run()
        if ended.code != 0:
            return "WRONG", f"{words} · then exit {ended.code}: {ended.printed[-300:]}"
        differing = [
            place
            for place, content in expected.records.items()
            if ended.records.get(place) != content and not _is_of_times(place)
        ]
        if differing or shown_at_the_end(ended.printed) != expected.printed:
            return "WRONG", f"{words} · then {', '.join(differing[:3]) or 'what is shown'} differs"
        return "repaired", words

    def _of_refusal(self, case: Case, ended: Ending) -> tuple[str, str]:
        printed = " ".join(ended.printed.split())
        message = printed[printed.find("Error") :][:600]
        path = Path(case.place)
        names = {path.name} if path.parent == Path() else {path.name, path.parent.name}
        if ended.code == 2 and any(name in printed for name in names):
            return "refused", message
        return "UNCLEAR", f"exit {ended.code}: {message}"


def _time_of(path: Path) -> int:
    """The modification time of a file; 0 where there is none."""
    if not path.exists():
        return 0
    return path.stat().st_mtime_ns


def shown_at_the_end(printed: str) -> str:
    """The scores and the differences: what follows the line that says how long all took."""
    lines = printed.splitlines()
    ends = [number for number, line in enumerate(lines) if line.endswith(" in all")]
    shown = lines[ends[-1] + 1 :] if ends else lines
    return "\n".join(line for line in shown if not line.startswith("report."))


def _is_of_times(place: str) -> bool:
    """Whether a file tells of times, so that a repair may lose some of it; a manifest has sums of
    them.
    """
    return place.endswith(("metrics.jsonl", "manifest.json"))


def outcomes(bench: Bench, cases: Iterator[Case]) -> Iterator[tuple[Case, str, str]]:
    """Do one damage after the other."""
    for case in cases:
        word, why = bench.outcome(case)
        yield case, word, why


def main() -> int:
    """Print a line for each damage, and how many ended how."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--damages", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--remake", action="store_true", help="make cheap later stages again")
    parser.add_argument("--repair", action="store_true", help="repair what is refused")
    asked = parser.parse_args()
    numbers = range(asked.first, asked.first + asked.damages)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(asked.run, asked.pipeline, Path(work), repairs=asked.repair)
        cases = (drawn(bench.whole, number, asked.seed, remakes=asked.remake) for number in numbers)
        for case, word, why in outcomes(bench, cases):
            counts[word] += 1
            print(f"{word:9} {case}  {why}", flush=True)
    print(
        f"seed {asked.seed}:", ", ".join(f"{count} {word}" for word, count in counts.most_common())
    )
    return 1 if any(counts[word] for word in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
