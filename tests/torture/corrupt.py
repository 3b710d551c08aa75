"""Damage one file of a finished run in one place, give the same command again, say how it
ended.

    python tests/torture/corrupt.py runs/torture torture.toml --damages 60 --seed 1
    python tests/torture/corrupt.py runs/torture torture.toml --damages 60 --seed 1 \\
        --remake --models --repair --again

Each damage is drawn from the seed and its number alone, so that one can be repeated (`--first 17
--damages 1`): a stage, a kind of file in it, a file, a kind of damage. Every second one keeps the
file's modification time. With `--remake` later stages are removed first, so that what is damaged
may be read again: cheap ones; with `--models` also a student, half of a student's training, and the
samples of a measured model. First `reasondistill check` must find the damage, then the command is
given. The run itself is left alone: all happens in a temporary folder. Ends with 1 where anything
was silent or crashed.

    recovered   exit 0, every record is that of the undisturbed run
    refused     exit 2, one message that names the file or its folder
    repaired    refused; then `reasondistill repair`, and the same command ends with every record of
                the undisturbed run (with --repair; with --again also what takes long to make
                again). A top-K cache that another pass has captured is in another order, and
                its numbers may be a rounding apart: how far is said
    WRONG       refused, repaired without complaint, and a record differs afterwards
    unread      exit 0, nothing was read and nothing shown differs: size and time are those that
                were, or it is a file that only a training in the middle reads
    UNFOUND     `check` says that all is what was written
    SILENT      exit 0, and a record or what is shown differs, or a visible damage was passed over
    UNCLEAR     another exit, or a message that does not name the file
    CRASH       a traceback

A finished run for it: `reasondistill run` with tests/torture/torture.toml (two minutes).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from warm import Warm

from reasondistill.models.topk import TopK, unpack
from reasondistill.runs.store import read_manifest

FAULTS = ("SILENT", "UNCLEAR", "CRASH", "WRONG", "UNFOUND")
# Keys of JSON files: what a clock or a machine writes.
_KEYS_NOT_COMPARED = frozenset(
    {
        "seconds",
        "load_seconds",
        "seconds_per_answer",
        "latency_ms_per_token",
        "latency_s_per_answer",
        "tokens_per_s",
        "time",
        "peak_memory_gib",
        "environment",
        # How a forecast of seconds compares with what they came to.
        "facts",
        # How an engine was started each time.
        "engine",
        # Digests of what holds seconds: the contents themselves are compared.
        "files",
        "guard",
        "content",
        "fingerprint",
        # The index of a top-K cache names places in it, which come in the order of the capture.
        "topk_bytes",
        "topk_bytes_per_token",
    }
)
# A set in PEFT, so that its order is another one in each process.
_UNORDERED = "target_modules"
# Text files that are no data of the run.
_NO_DATA = ("logs/", "settled/", ".lock", ".times.json")
# Made anew with every change, and with the seconds of each stage in them: report.json is compared.
_NOT_COMPARED = (
    "7-report/manifest.json",
    "7-report/report.html",
    "7-report/report.md",
    "4-examples/dataset/README.md",
)
# Made of the records with their seconds.
_BROWSER = "7-report/browser/"
# Not damaged here: what no command reads, but people and other programs.
_NOT_DRAWN = (*_NO_DATA, ".")
_NOT_DRAWN_IN = ("checkpoints/README.md", "checkpoints/runs/")
# What only a training reads: a finished run passes them over.
_OF_TRAININGS = re.compile(r"tokens/|5-students/[^/]+/checkpoints/")
# Files that guard themselves, and may be there or not: nothing says that one was deleted.
_LISTED_NOWHERE = ("run.json", "latency.json", "sums.json")
_TOPK = "2-traces/topk/"
# How far apart two passes of one model may be, in nats: bfloat16 and half precision on disk.
_CLOSE_NATS = 0.05
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


def drawn(run: Path, number: int, seed: int, *, remakes: bool, models: bool = False) -> Case:
    """The damage of this number. A stage is drawn first, then a kind of file in it, so that each
    counts as much.
    """
    dice = random.Random(f"{seed}:{number}")
    removed: tuple[str, ...] = ()
    if remakes:
        able = [parts for parts in REMAKES if all((run / part).exists() for part in parts)]
        if models:
            able = [*model_remakes(run), *able[:2]]
        removed = dice.choice(able)
    by_stage: dict[str, dict[str, list[str]]] = {}
    for place in places_to_damage(run, removed):
        stage, has_folder, _ = place.partition("/")
        if not has_folder:
            stage = ""
        by_stage.setdefault(stage, {}).setdefault(kind_of(place), []).append(place)
    by_kind = by_stage[dice.choice(sorted(by_stage))]
    return Case(
        number,
        dice.choice(by_kind[dice.choice(sorted(by_kind))]),
        dice.choice(list(KINDS)),
        number % 2 == 1,
        removed,
        f"{seed}:{number}:how",
    )


def places_to_damage(run: Path, removed: Sequence[str]) -> Iterator[str]:
    """The files that stand, and are data."""
    for path in sorted(run.rglob("*")):
        place = path.relative_to(run).as_posix()
        is_data = path.is_file() and path.stat().st_size > 0
        is_hidden = path.name.startswith(".")
        if not is_data or is_hidden or place.startswith((*removed, *_NOT_DRAWN)):
            continue
        if not any(part in place for part in _NOT_DRAWN_IN):
            yield place


def kind_of(place: str) -> str:
    """What a file is, whichever student or model it belongs to: "model/config.json"."""
    parts = place.split("/")
    words = parts[-1]
    if len(parts) > 3:
        words = "/".join(parts[-2:])
    return re.sub(r"[0-9a-f]{16}|[0-9]+", "", words)


def model_remakes(run: Path) -> list[tuple[str, ...]]:
    """What may be made again with a model: a trained student on which no other stands, and the
    samples of a model.
    """
    students = {path.parent.name: read_manifest(path.parent) for path in _manifests(run, "5-*/*")}
    bases = {str(one.section.get("base")) for one in students.values() if one is not None}
    remakes: list[tuple[str, ...]] = []
    for name in students:
        is_trained = (run / "5-students" / name / "metrics.jsonl").exists()
        if is_trained and f"student:{name}" not in bases:
            remakes.append((f"5-students/{name}", "7-report"))
    for path in _manifests(run, "6-evals/*/*/traces"):
        if "@" not in path.parent.parent.name:
            remakes.append((run_path(run, path.parent.parent), "7-report"))
    return remakes


def _manifests(run: Path, pattern: str) -> list[Path]:
    return sorted(run.glob(f"{pattern}/manifest.json"))


def run_path(run: Path, path: Path) -> str:
    """The path of a file in the run."""
    return path.relative_to(run).as_posix()


def remove(run: Path, names: Sequence[str]) -> None:
    """Remove what is to be made again."""
    for name in names:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# ---- what came of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, what it printed, and what the run holds then."""

    code: int
    printed: str
    records: Mapping[str, Any]


def _is_compared(place: str) -> bool:
    return place not in _NOT_COMPARED and not place.startswith(_BROWSER)


def without_clock(value: Any) -> Any:
    """A JSON value without what differs from one minute to the next."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _KEYS_NOT_COMPARED}
        if isinstance(kept.get(_UNORDERED), list):
            kept[_UNORDERED] = sorted(kept[_UNORDERED])
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
    is repaired, and the command given again; with `again` whatever it costs.
    """

    def __init__(
        self,
        run: Path,
        pipeline: Path,
        work: Path,
        warm: Warm,
        *,
        repairs: bool = False,
        again: bool = False,
    ) -> None:
        self.warm, self.repairs, self.again = warm, repairs, again
        self.whole, self.pipeline, self.work = run, pipeline.resolve(), work
        self.copy = work / "runs" / run.name
        self._undisturbed: dict[tuple[str, ...], Ending] = {}
        for path in Path.cwd().iterdir():
            if path.name != "runs":
                (work / path.name).symlink_to(path)

    def _restore(self, removed: Sequence[str]) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.whole, self.copy)
        remove(self.copy, removed)

    def _run(self, *arguments: str) -> Ending:
        """Give the command of the run, or another one."""
        given = arguments or ("run", str(self.pipeline))
        done = self.warm.run(*given, cwd=self.work)
        records: dict[str, Any] = {}
        if done.returncode == 0 and not arguments:
            records = records_of(self.copy)
        return Ending(done.returncode, done.stdout + done.stderr, records)

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
                if second.records.get(place) == content
                and _is_compared(place)
                and _OF_TRAININGS.match(place) is None
            }
            self._undisturbed[key] = Ending(0, shown_at_the_end(first.printed), same)
        return self._undisturbed[key]

    def outcome(self, case: Case) -> tuple[str, str]:
        """In one word how a damage ended, and the message or what differs."""
        expected = self.undisturbed(case.removed)
        self._restore(case.removed)
        case.do(self.copy)
        damaged_at = _time_of(self.copy / case.place)
        checked = self._run("check", self.copy.name)
        if crashed(checked):
            return "CRASH", f"check: {checked.printed.strip().splitlines()[-1]}"
        is_listed = not (case.kind == "delete" and case.place.endswith(_LISTED_NOWHERE))
        if is_listed and not self._is_named(case, checked):
            return "UNFOUND", " ".join(checked.printed.split())[-300:]
        ended = self._run()
        if crashed(ended):
            return "CRASH", ended.printed.strip().splitlines()[-1]
        if ended.code != 0:
            word, why = self._of_refusal(case, ended)
            if word == "refused" and self.repairs:
                return self._of_repair(case, expected)
            return word, why
        differing = [
            place
            for place, content in expected.records.items()
            if ended.records.get(place) != content and not is_measured_anew(case, place)
        ]
        others = [place for place in differing if place != case.place]
        if others:
            return "SILENT", f"{', '.join(others[:3])} differ"
        if shown_at_the_end(ended.printed) != expected.printed:
            return "SILENT", "what is shown differs"
        path = self.copy / case.place
        is_written_again = path.exists() and _time_of(path) != damaged_at
        is_right = not _is_compared(case.place) or case.place not in differing
        if is_written_again and is_right:
            return "recovered", ""
        is_passed_over = _OF_TRAININGS.match(case.place) is None
        if is_passed_over and case.is_visible(self.whole, self.copy):
            return "SILENT", "passed over"
        return "unread", ""

    def _of_repair(self, case: Case, expected: Ending) -> tuple[str, str]:
        """What becomes of it when it is repaired."""
        said = self._run("repair", self.copy.name)
        words = " ".join(said.printed.split())[:300]
        if said.code != 0 and self.again and not crashed(said):
            said = self._run("repair", self.copy.name, "--again")
            words = "--again: " + " ".join(said.printed.split())[:300]
        if crashed(said):
            return "CRASH", said.printed.strip().splitlines()[-1]
        if said.code != 0:
            return "refused", words
        ended = self._run()
        if ended.code != 0:
            return "WRONG", f"{words} · then exit {ended.code}: {ended.printed[-300:]}"
        differing = [
            place
            for place, content in expected.records.items()
            if ended.records.get(place) != content
            and not _is_of_times(place)
            and not is_measured_anew(case, place)
        ]
        apart = captured_anew(case, differing, expected.records, ended.records)
        if apart:
            return "repaired", f"{words} · {apart}"
        if differing or shown_at_the_end(ended.printed) != expected.printed:
            return "WRONG", f"{words} · then {', '.join(differing[:3]) or 'what is shown'} differs"
        checked = self._run("check", self.copy.name)
        if checked.code != 0:
            return "WRONG", f"{words} · then check: {checked.printed[-300:]}"
        return "repaired", words

    def _is_named(self, case: Case, said: Ending) -> bool:
        """Whether a command refuses and names the damaged file, or its folder."""
        printed = " ".join(said.printed.split())
        path = Path(case.place)
        names = {path.name} if path.parent == Path() else {path.name, path.parent.name}
        return said.code == 2 and any(name in printed for name in names)

    def _of_refusal(self, case: Case, ended: Ending) -> tuple[str, str]:
        printed = " ".join(ended.printed.split())
        message = printed[printed.find("Error") :][:600]
        if self._is_named(case, ended):
            return "refused", message
        return "UNCLEAR", f"exit {ended.code}: {message}"


def is_measured_anew(case: Case, place: str) -> bool:
    """Whether a file is a damaged latency.json, which is removed and measured once more."""
    return place == case.place and place.endswith("latency.json")


def captured_anew(
    case: Case, differing: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> str:
    """In words how far apart two captures are, where the top K of damaged samples were captured by
    another pass that says the same; empty where anything else differs, but for what was trained on
    them.
    """
    others = [place for place in differing if not place.startswith((_TOPK, "5-students/b/"))]
    is_captured = any(place.startswith(_TOPK) for place in differing)
    if others or not is_captured or not case.place.startswith("2-traces/"):
        return ""
    ours, theirs = top_k_of(before), top_k_of(after)
    if ours.keys() != theirs.keys():
        return ""
    apart = max(nats_apart(ours[trace], theirs[trace]) for trace in ours)
    if apart > _CLOSE_NATS:
        return ""
    return f"top K captured again, at most {apart:g} nats apart"


def top_k_of(records: Mapping[str, Any]) -> dict[str, TopK]:
    """The distributions of a top-K cache by trace."""
    header, blocks = records[f"{_TOPK}topk.json"], records[f"{_TOPK}topk.bin"]
    return {
        line["trace_id"]: unpack(
            blocks[line["offset"] : line["offset"] + line["bytes"]],
            line["tokens"],
            line["k"],
            header["id_bytes"],
        )
        for line in records[f"{_TOPK}topk.jsonl"]
    }


def nats_apart(ours: TopK, theirs: TopK) -> float:
    """How far apart two passes are about a sample: in the K largest log-probabilities of each place
    (which of two nearly equal tokens comes first is a matter of rounding); infinity where its
    tokens are others.
    """
    same_tokens = np.array_equal(ours.token_ids, theirs.token_ids)
    if not same_tokens or ours.log_probs.shape != theirs.log_probs.shape:
        return math.inf
    return float(np.abs(ours.log_probs - theirs.log_probs).max())


def crashed(said: Ending) -> bool:
    """Whether a command ended in a traceback."""
    return "Traceback (most recent call last)" in said.printed


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


def table(counts: Mapping[tuple[str, str], int]) -> str:
    """Kinds of damage × outcomes."""
    words = sorted({word for _, word in counts})
    lines = ["damage    " + "".join(f"{word:>11}" for word in words)]
    for kind in KINDS:
        cells = "".join(f"{counts.get((kind, word), 0):11}" for word in words)
        lines.append(f"{kind:10}{cells}")
    return "\n".join(lines)


def main() -> int:
    """Print a line for each damage, and how many ended how."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--damages", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--remake", action="store_true", help="make later stages again")
    parser.add_argument("--models", action="store_true", help="also those that need a model")
    parser.add_argument("--repair", action="store_true", help="repair what is refused")
    parser.add_argument("--again", action="store_true", help="also what takes long to make again")
    asked = parser.parse_args()
    numbers = range(asked.first, asked.first + asked.damages)
    counts: Counter[tuple[str, str]] = Counter()
    os.environ |= {"COLUMNS": "200", "NO_COLOR": "1"}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        warm = stack.enter_context(Warm(place, of="all"))
        bench = Bench(
            asked.run, asked.pipeline, work, warm, repairs=asked.repair, again=asked.again
        )
        cases = (
            drawn(bench.whole, number, asked.seed, remakes=asked.remake, models=asked.models)
            for number in numbers
        )
        for case, word, why in outcomes(bench, cases):
            counts[case.kind, word] += 1
            print(f"{word:9} {case}  {why}", flush=True)
    print(f"seed {asked.seed}, damages {numbers[0]} to {numbers[-1]}")
    print(table(counts))
    return 1 if any(word in FAULTS for _, word in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
