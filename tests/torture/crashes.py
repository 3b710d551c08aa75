"""The crash matrix: each stage × each way in which a run is hurt; then the same command again.

    make torture                                          # all of it: hours, in pieces as you like
    python tests/torture/crashes.py --list
    python tests/torture/crashes.py --only sums/traces --minutes 10
    python tests/torture/crashes.py --only engines/students/kill/0

A cell is `bed/stage/fault/round`. The run is brought to the stage, hurt, and the same command is
given again. Where that refuses, the way out is taken that it names: `reasondistill repair`, or
moving the file that is in the way. Then all files are compared with those of runs that nothing
happened to, less what a clock writes. Results are appended to `results.jsonl` of the work folder,
and cells that stand there are not done again (`--retry`: those that ended in a fault are).
Everything is drawn from the seed and the cell's name. Ends with 1 where there is a fault.

    recovered      the same command ends with the records of an undisturbed run
    after repair   it refuses with one clear message; `repair`, then the same command does
    after --again  `repair` names what cannot be mended; so with `repair --again`
    by hand        it refuses and names the file in the way; so when that is moved
    refused        it refuses with one clear message, and none of the ways out helps
    skipped        this machine cannot do it (no right to mount a file system)

    SILENT         exit 0, and a record differs, or a damage that can be seen was passed over
    WRONG          repaired without complaint, and a record differs afterwards
    UNCLEAR        another exit than that of a stop or a clear error
    CRASH          a traceback
    HANGS          no end, or processes are left
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from beds import MARK, PLANS, Bed, Part, Said, compared
from corrupt import change_digit, cut, flip, shown_at_the_end
from warm import Warm

FAULTS = ("SILENT", "WRONG", "UNCLEAR", "CRASH", "HANGS")
_LIMIT_S = 400.0
# After a command has ended, what it started is gone in so many seconds.
_GONE_S = 15.0


@dataclass(frozen=True)
class Cell:
    """One place of the matrix."""

    bed: str
    part: str
    fault: str
    round: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.bed}/{self.part}/{self.fault}/{self.round}"

    def dice(self) -> random.Random:
        return random.Random(f"{self.seed}:{self.name}")


@dataclass(frozen=True)
class Result:
    """How a cell ended, in one word; what was done; and the message or what differs."""

    cell: str
    seed: int
    word: str
    done: str
    why: str
    seconds: float


@dataclass
class Hurt:
    """What was done to a run: in words, how the command ended in which it was done (None where
    none was at work), the file that was damaged, and how what is in the way is taken away.
    """

    done: str
    said: Said | None = None
    damaged: str = ""
    take_away: Callable[[], None] | None = None


class CannotHere(Exception):
    """This machine cannot do that."""


# ---- processes -----------------------------------------------------------------------------------


def processes_of(mark: str) -> dict[int, int]:
    """The processes that a command has started and itself, with their resident bytes."""
    found: dict[int, int] = {}
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                pages = int((folder / "statm").read_text().split()[1])
                found[int(folder.name)] = pages * resource.getpagesize()
    return found


def end_all(mark: str) -> list[int]:
    """Wait for what a command has started to be gone; kill and return what is not."""
    ends_at = time.monotonic() + _GONE_S
    while (left := processes_of(mark)) and time.monotonic() < ends_at:
        time.sleep(0.1)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return list(left)


class Disturbed:
    """The command of a part, disturbed at a drawn moment of its work."""

    def __init__(self, bed: Bed, part: Part, last: str, dice: random.Random, mark: str) -> None:
        self.bed, self.part, self.last, self.dice, self.mark = bed, part, last, dice, mark
        self.share = dice.random()

    @property
    def moment(self) -> str:
        """When, in words."""
        return f"at {self.share:.0%} of {self.bed.work_seconds(self.part):.2f} s"

    def run(self, disturb: Callable[[subprocess.Popen[str]], None]) -> Said:
        """Start it, disturb it when it is at work, and wait for its end."""
        bed, part = self.bed, self.part
        delay_s = self.share * bed.work_seconds(part)
        bed.restore(part.before)
        process = bed.start(*bed.until(self.last), mark=self.mark)
        bed.wait_for_beginning(part, process)
        time.sleep(delay_s)
        if process.poll() is None:
            disturb(process)
        process.wait(timeout=_LIMIT_S)
        return Said(process.returncode, bed.printed())

    def largest(self, process: subprocess.Popen[str]) -> int | None:
        """The process that the kernel would kill: the largest one below the command."""
        below = {pid: size for pid, size in processes_of(self.mark).items() if pid != process.pid}
        if not below:
            return None
        return max(below, key=lambda pid: below[pid])


# ---- the ways to hurt a run ----------------------------------------------------------------------


def kill(at: Disturbed) -> Hurt:
    """kill -9 of the command."""
    return Hurt(f"kill -9 {at.moment}", at.run(lambda process: process.kill()))


def terminate(at: Disturbed) -> Hurt:
    """SIGTERM to the command."""
    return Hurt(f"SIGTERM {at.moment}", at.run(lambda process: process.terminate()))


def interrupt_twice(at: Disturbed) -> Hurt:
    """Ctrl-C, and again before it has ended."""
    pause_s = at.dice.uniform(0, 0.5)

    def disturb(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)

    return Hurt(f"SIGINT {at.moment}, again after {pause_s:.2f} s", at.run(disturb))


def kill_worker(at: Disturbed) -> Hurt:
    """What the kernel does when memory is out: kill -9 of the largest process."""

    def disturb(process: subprocess.Popen[str]) -> None:
        pid = at.largest(process)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return Hurt(f"kill -9 of the largest worker {at.moment}", at.run(disturb))


def no_memory(at: Disturbed) -> Hurt:
    """The largest process gets no more address space than it has, and a little."""
    room = at.dice.choice([0, 1 << 20, 16 << 20])

    def disturb(process: subprocess.Popen[str]) -> None:
        pid = at.largest(process)
        with suppress(OSError, TypeError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            hard = resource.prlimit(int(pid or 0), resource.RLIMIT_AS)[1]
            most = pages * resource.getpagesize() + room
            resource.prlimit(int(pid or 0), resource.RLIMIT_AS, (most, hard))

    done = f"{room >> 20} MiB more memory for the largest worker {at.moment}"
    return Hurt(done, at.run(disturb))


def _damage(path: Path, kind: str, dice: random.Random, *, keeps_time: bool) -> None:
    """Damage one file in place."""
    if kind == "delete":
        path.unlink()
        return
    how = {"cut": cut, "flip": flip, "edit": change_digit}[kind]
    if kind == "edit" and path.name == "manifest.json":
        how = change_count
    before, content = path.stat(), path.read_bytes()
    damaged = how(content, dice)
    while damaged == content:
        damaged = how(content, dice)
    path.write_bytes(damaged)
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_count(content: bytes, dice: random.Random) -> bytes:
    """A digit in the counts of a manifest is another one."""
    match = re.search(rb'"counts": \{[^}]*[0-9][^}]*\}', content)
    if match is None:
        return change_digit(content, dice)
    return content[: match.start()] + change_digit(match[0], dice) + content[match.end() :]


def _files_of(bed: Bed, part: Part) -> list[Path]:
    """The files that say something; hidden ones, such as copies, only a repair reads, verified."""
    files = sorted((bed.run / part.stage).rglob(part.files))
    shown = [path for path in files if not path.name.startswith(".")]
    return [path for path in shown if path.is_file() and path.stat().st_size > 0]


def _drawn_file(bed: Bed, part: Part, kind: str, dice: random.Random) -> Path | None:
    files = _files_of(bed, part)
    manifests = [path for path in files if path.name == "manifest.json"]
    if kind == "edit" and manifests and dice.random() < 0.5:
        return dice.choice(manifests)
    if not files:
        return None
    return dice.choice(files)


def damage_finished(kind: str) -> Callable[[Disturbed], Hurt]:
    """A file of the finished stage is damaged; the command goes on to the stages that read it."""

    def hurt(at: Disturbed) -> Hurt:
        at.bed.restore(at.part.finished)
        path = _drawn_file(at.bed, at.part, kind, at.dice)
        if path is None:
            return Hurt("nothing is there that could be damaged")
        keeps_time = at.dice.random() < 0.5
        _damage(path, kind, at.dice, keeps_time=keeps_time)
        place = path.relative_to(at.bed.run).as_posix()
        time_words = "old time" if keeps_time else "new time"
        return Hurt(f"{kind} {place} ({time_words})", damaged=place)

    return hurt


def damage_unfinished(kind: str) -> Callable[[Disturbed], Hurt]:
    """A file of a stage that kill -9 has stopped is damaged."""

    def hurt(at: Disturbed) -> Hurt:
        at.run(lambda process: process.kill())
        end_all(at.mark)
        path = _drawn_file(at.bed, at.part, kind, at.dice)
        if path is None:
            return Hurt(f"kill -9 {at.moment}; nothing is there that could be damaged")
        _damage(path, kind, at.dice, keeps_time=False)
        place = path.relative_to(at.bed.run).as_posix()
        return Hurt(f"kill -9 {at.moment}, {kind} {place}", damaged=place)

    return hurt


def fill_disk(at: Disturbed) -> Hurt:
    """The disk has not enough room for the stage; then room is made."""
    bed, part = at.bed, at.part
    bed.state(part.finished)
    unmount(bed.runs)  # a matrix that was killed leaves it
    shutil.rmtree(bed.runs, ignore_errors=True)
    bed.runs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(bed.runs)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise CannotHere("no right to mount a file system here")
    bed.restore(part.finished)
    finished_kib = shutil.disk_usage(bed.runs).used >> 10
    bed.restore(part.before)
    used_kib = shutil.disk_usage(bed.runs).used >> 10
    room_kib = 4 * at.dice.randint(0, max(1, (finished_kib - used_kib) // 4 - 1))
    _resize(bed.runs, f"{used_kib + room_kib}k")
    said = bed.command(*bed.until(at.last), mark=at.mark, limit_s=_LIMIT_S)
    _resize(bed.runs, "1g")
    done = f"{room_kib} KiB of the {finished_kib - used_kib} KiB that the stage needs are free"
    if said.code == 2 and not re.search("disk is (too )?full", said.printed):
        said = Said(1, said.printed)  # the message must say what it is
    return Hurt(done, said)


def unmount(place: Path) -> None:
    """Unmount a file system where one is mounted."""
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


def _resize(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def file_for_folder(at: Disturbed) -> Hurt:
    """A file is where a folder of the stage belongs, before the stage or after it."""
    bed, part, dice = at.bed, at.part, at.dice
    bed.restore(part.finished)
    stage = bed.run / part.stage
    folders = [stage, *(path for path in sorted(stage.rglob("*")) if path.is_dir())]
    if part.files != "**/*":
        folders = [(stage / part.files).parent]
    folder = dice.choice(folders)
    is_before = dice.random() < 0.5
    if is_before:
        bed.restore(part.before)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder\n")
    place = folder.relative_to(bed.run).as_posix()
    when = "before the stage" if is_before else "after the stage"

    def take_away() -> None:
        if folder.is_file():
            folder.unlink()

    return Hurt(f"a file is {place} {when}", damaged=place, take_away=take_away)


WAYS: Mapping[str, Callable[[Disturbed], Hurt]] = {
    "kill": kill,
    "term": terminate,
    "int-twice": interrupt_twice,
    "oom-kill": kill_worker,
    "no-memory": no_memory,
    "disk-full": fill_disk,
    "file-for-folder": file_for_folder,
    "cut": damage_finished("cut"),
    "flip": damage_finished("flip"),
    "delete": damage_finished("delete"),
    "edit": damage_finished("edit"),
    "open-cut": damage_unfinished("cut"),
    "open-flip": damage_unfinished("flip"),
    "open-delete": damage_unfinished("delete"),
    "open-edit": damage_unfinished("edit"),
}
# How a command may end that is hurt while it works; 0 where it was done before.
ENDS: Mapping[str, Sequence[int]] = {
    "kill": (-signal.SIGKILL, 0),
    # At its very end a signal ends it as if nobody listened: a shell shows the same code.
    "term": (128 + signal.SIGTERM, -signal.SIGTERM, 0),
    "int-twice": (128 + signal.SIGINT, -signal.SIGINT, 0),
    "oom-kill": (2, 0),
    "no-memory": (2, 0),
    "disk-full": (2, 0),
}


# ---- what came of it -----------------------------------------------------------------------------


class Trial:
    """One cell, from the restored run to the word for how it ended. `last` is the last stage of the
    command, if not the part's.
    """

    def __init__(self, bed: Bed, cell: Cell, last: str = "") -> None:
        self.bed, self.cell = bed, cell
        self.part = bed.plan.part(cell.part)
        self.mark = uuid.uuid4().hex
        self.last = self.part.after
        if cell.fault in ENDS or cell.fault.startswith("open-"):
            self.last = self.part.at_work
        if last:
            self.last = last

    def result(self) -> Result:
        """Hurt the run, give the command again, and say what came of it."""
        expected = self.bed.expected(self.part)
        began = time.monotonic()
        hurt = Hurt("")
        at = Disturbed(self.bed, self.part, self.last, self.cell.dice(), self.mark)
        try:
            hurt = WAYS[self.cell.fault](at)
            word, why = self._judged(hurt, expected)
        except CannotHere as error:
            word, why = "skipped", str(error)
        except subprocess.TimeoutExpired as error:
            word, why = "HANGS", f"{error}: {self.bed.printed()[-300:]}"
        finally:
            left = end_all(self.mark)
            unmount(self.bed.runs)
        if left:
            word, why = "HANGS", f"{len(left)} processes are left; {word}: {why}"
        seconds = round(time.monotonic() - began, 1)
        return Result(self.cell.name, self.cell.seed, word, hurt.done, why, seconds)

    def _judged(self, hurt: Hurt, expected: Mapping[str, object]) -> tuple[str, str]:
        if hurt.said is not None:
            if hurt.said.crashed:
                return "CRASH", _end_of(hurt.said)
            if hurt.said.code not in ENDS[self.cell.fault]:
                return "UNCLEAR", f"exit {hurt.said.code}: {_end_of(hurt.said)}"
        damaged_at = _state_of(self.bed.run / hurt.damaged)
        said = self._again()
        if said.crashed:
            return "CRASH", _end_of(said)
        if said.code == 2:
            return self._refused(said, hurt, expected)
        if said.code != 0:
            return "UNCLEAR", f"exit {said.code}: {_end_of(said)}"
        differing = self.differing(said, expected)
        is_as_damaged = _state_of(self.bed.run / hurt.damaged) == damaged_at
        # A file in the way of a folder that nobody needs does no harm.
        has_damaged_file = bool(hurt.damaged) and hurt.take_away is None
        if has_damaged_file and is_as_damaged and differing in ([], [hurt.damaged]):
            return self._unread(hurt, expected)
        if differing:
            return "SILENT", f"{', '.join(differing[:3])} differ"
        return "recovered", ""

    def _again(self) -> Said:
        return self.bed.command(*self.bed.until(self.last), mark=self.mark, limit_s=_LIMIT_S)

    def differing(self, said: Said, expected: Mapping[str, object]) -> list[str]:
        """The files that are not those of an undisturbed run, as far as the command goes."""
        found = compared(self.bed.run)
        names = ("problems", "traces", "verdicts", "examples", "students", "evals", "report")
        ends = names.index(self.last) + 1
        wanted = {place for place in expected if int(place[0]) <= ends or place in found}
        wanted = {place for place in wanted if int(place[0]) <= ends or _is_of_benchmark(place)}
        differing = [place for place in sorted(wanted) if found.get(place) != expected[place]]
        if self.last == "report" and not differing:
            shown = self.bed.place / "shown-nothing.txt"
            if shown.exists() and shown.read_text() != shown_at_the_end(said.printed):
                differing.append("what is shown")
        return differing

    def _unread(self, hurt: Hurt, expected: Mapping[str, object]) -> tuple[str, str]:
        """A damage that nothing has read: its size and time are right. `check` must find it."""
        said = self.bed.command("check", self.bed.plan.name, mark=self.mark)
        if said.code != 2 or hurt.damaged not in said.printed:
            return "SILENT", f"{hurt.damaged} was passed over"
        return self._repaired(hurt, expected, "not read; `check` finds it")

    def _refused(self, said: Said, hurt: Hurt, expected: Mapping[str, object]) -> tuple[str, str]:
        message = _message_of(said)
        if hurt.damaged and not any(part in message for part in Path(hurt.damaged).parts[-2:]):
            return "UNCLEAR", message
        if hurt.take_away is not None:
            hurt.take_away()
            said = self._again()
            if said.code == 0 and not said.crashed and not self.differing(said, expected):
                return "by hand", message
        return self._repaired(hurt, expected, message)

    def _repaired(
        self, hurt: Hurt, expected: Mapping[str, object], message: str
    ) -> tuple[str, str]:
        """Repair, and give the command again; with --again where that is what `repair` says."""
        for word, options in (("after repair", ()), ("after --again", ("--again",))):
            repaired = self.bed.command("repair", self.bed.plan.name, *options, mark=self.mark)
            if repaired.crashed:
                return "CRASH", _end_of(repaired)
            if repaired.code != 0:
                message = f"{message} · {_message_of(repaired)}"
                continue
            said = self._again()
            if said.crashed:
                return "CRASH", _end_of(said)
            if said.code == 2:
                message = f"{message} · repaired, then {_message_of(said)}"
                continue
            if said.code != 0:
                return "UNCLEAR", f"exit {said.code}: {_end_of(said)}"
            differing = self.differing(said, expected)
            if differing:
                return "WRONG", f"{', '.join(differing[:3])} differ · {message}"
            return word, message
        return "refused", message


def _is_of_benchmark(place: str) -> bool:
    """A benchmark's problems are read before the first stage."""
    return place.startswith("6-evals/") and "/problems/" in place


def _state_of(path: Path) -> tuple[int, int]:
    if not path.is_file():
        return (-1, 0)
    return path.stat().st_size, path.stat().st_mtime_ns


def _message_of(said: Said) -> str:
    words = " ".join(said.printed.split())
    return words[max(0, words.find("Error: ") - 10) :][:500]


def _end_of(said: Said) -> str:
    return " ".join(said.printed.split())[-400:]


# ---- the matrix ----------------------------------------------------------------------------------


def cells(seed: int, rounds: int) -> Iterator[Cell]:
    """Every cell: beds, rounds, stages, ways."""
    for name, plan in PLANS.items():
        for number in range(rounds):
            for part in plan.parts:
                for fault in WAYS:
                    yield Cell(name, part.name, fault, number, seed)


def known_results(path: Path) -> dict[tuple[str, int], Result]:
    """The latest result of each cell and seed."""
    found: dict[tuple[str, int], Result] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            result = Result(**json.loads(line))
            found[result.cell, result.seed] = result
    return found


def print_table(results: Sequence[Result]) -> None:
    """A row for each stage, a column for each way; then all counts."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for result in results:
        bed, part, fault, _ = result.cell.split("/")
        by_place.setdefault((f"{bed}/{part}", fault), []).append(result.word)
    stages = list(dict.fromkeys(stage for stage, _ in by_place))
    short = {"after repair": "repair", "after --again": "again", "by hand": "hand"}
    print(f"\n{'':18}" + "".join(f"{way[:11]:>12}" for way in WAYS))
    for stage in stages:
        row = f"{stage:18}"
        for way in WAYS:
            words = by_place.get((stage, way), [])
            worst = [word for word in words if word in FAULTS] or words[:1]
            shown = short.get(worst[0], worst[0]) if worst else "·"
            row += f"{shown:>12}"
        print(row)
    counts = Counter(result.word for result in results)
    print(f"\n{len(results)} cells:", ", ".join(f"{n} {word}" for word, n in counts.most_common()))


def main() -> int:
    """Do the cells that are not done yet, a line for each, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/crashes"))
    parser.add_argument("--only", default="", help="cells whose name begins so, by commas")
    parser.add_argument("--ways", default="", help="only these ways, by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="begin no cell after so long")
    parser.add_argument("--retry", action="store_true", help="do cells that ended in a fault again")
    parser.add_argument("--list", action="store_true", help="print the cells, do none")
    parser.add_argument("--warm", action="store_true", help="fork what nothing disturbs (warm.py)")
    asked = parser.parse_args()
    wanted = [cell for cell in cells(asked.seed, asked.rounds) if _is_wanted(cell, asked)]
    results = asked.work / "results.jsonl"
    done = known_results(results)
    if asked.list:
        for cell in wanted:
            result = done.get((cell.name, cell.seed))
            print(f"{cell.name:40} {result.word if result else ''}")
        return 0
    asked.work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with ExitStack() as stack:
        python = Path(sys.executable)
        if asked.warm:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            python = stack.enter_context(Warm(place, of="all")).python
        beds = {name: Bed(plan, asked.work.resolve(), python) for name, plan in PLANS.items()}
        began = time.monotonic()
        for cell in wanted:
            result = done.get((cell.name, cell.seed))
            if result is not None and not (asked.retry and result.word in FAULTS):
                continue
            if asked.minutes and time.monotonic() - began > 60 * asked.minutes:
                print(f"{asked.minutes:g} minutes are over; the same command goes on")
                break
            result = Trial(beds[cell.bed], cell).result()
            done[cell.name, cell.seed] = result
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
            done_words = f"(seed {cell.seed}, {result.seconds} s): {result.done}"
            print(f"{result.word:13} {cell.name} {done_words}  {result.why}", flush=True)
    shown = [done[cell.name, cell.seed] for cell in wanted if (cell.name, cell.seed) in done]
    print_table(shown)
    return 1 if any(result.word in FAULTS for result in shown) else 0


def _is_wanted(cell: Cell, asked: argparse.Namespace) -> bool:
    ways = [way for way in asked.ways.split(",") if way]
    if ways and cell.fault not in ways:
        return False
    return any(cell.name.startswith(start) for start in asked.only.split(","))


if __name__ == "__main__":
    sys.exit(main())
