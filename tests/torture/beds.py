"""What the crash matrix hurts: small real runs, kept at the beginning and the end of each stage.

    bed = Bed(SUMS, folder)
    bed.restore("traces", finished=False)     # the run as it is before its traces are drawn
    bed.command("run", "sums.toml")           # (exit code, what it printed)
    bed.expected("traces")                    # every file of a run that nothing happened to

`SUMS` has every stage that needs no model, a judge and evals, and takes seconds. `ENGINES` has the
shipped teacher in vLLM, its top-K cache, two students trained by TRL, and their evals.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corrupt import records_of, shown_at_the_end

HERE = Path(__file__).parent
PROBLEMS, SAMPLES = 60, 4
# The mark that every process of a command carries in its environment.
MARK = "REASONDISTILL_TORTURE"
# Files that a clock writes, or of which a stopped and resumed stage rightly has other ones.
_OF_TIMES = ("metrics.jsonl", "servers.jsonl", "report.html", "report.md")
# What lies in the order in which it came; whoever reads it looks for a record by its name.
_IN_ANY_ORDER = ("judge.jsonl", "topk.jsonl")
# What no two runs may differ in on one machine: else nothing could be compared.
_MUST_BE_EQUAL = (".jsonl", ".safetensors", ".parquet", "scores.json", "topk.bin")

SUMS_FILE = """\
name = "sums"
[problems]
source = "file"
dataset = "problems.jsonl"

[traces]
prompt = "question"
n = {samples}
temperature = 0.7
max_tokens = 60

[[traces.teachers]]
name = "teacher"
model = "slow"
sampler = "slow_sampler:SLOW"

[verdicts.judge]
model = "slow judge"
sampler = "slow_sampler:SLOW"

[examples]
validation = 0.2
export = ["messages"]

[evals]
benchmarks = ["first.toml"]
n = 4
temperature = 0.7
max_tokens = 60
"""
BENCHMARK = """\
name = "first"
rows = 40
n = 4
prompt = "question"
[problems]
source = "file"
dataset = "first.jsonl"
"""
ENGINES_FILE = """\
name = "engines"
[problems]
source = "procedural"
dataset = "gsm_symbolic"
name = "gsm_symbolic"
seed = 3
limit = 200
question = "question"
answer = "answer"
filter = {{ template = [9, 10, 13, 16, 31, 40, 43, 45, 48, 55, 58, 62] }}
level = "template"

[traces]
prompt = "question"
n = 1
temperature = 0.7
max_tokens = 160
continue = false  # records are compared with those of a run that nothing happened to
{logprobs}

[[traces.teachers]]
model = "shipped:demo-teacher"

[examples]
validation = 0.05

[[students]]
name = "first"
max_steps = 12
batch_size = 8
learning_rate = 3e-3
max_length = 512
save_every = 4
baselines = []

[students.architecture]
type = "llama"
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 2
max_position_embeddings = 1024
tokenizer = "shipped:demo-teacher"

{second}
[evals]
benchmarks = ["gsm_symbolic_12"]
n = 1
limit = 24
teacher = false
temperature = 0.7
max_tokens = 40
continue = false
"""

SECOND = """\
[[students]]
name = "second"
method = "topk_kd"
base = "student:first"
max_steps = 6
batch_size = 8
max_length = 512
save_every = 2
baselines = []
"""


def _lines(rows: Sequence[Mapping[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _sums(first: int, count: int) -> str:
    numbers = range(first, first + count)
    return _lines([{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in numbers])


@dataclass(frozen=True)
class Part:
    """A stage that is hurt.

    `stage` is its folder; `begins` a pattern of files in the run of which one says that it is at
    work; `before` and `finished` name the states between which it works; `at_work` and `after` are
    the last stage of the commands that are given when it is hurt at work and when it is finished.
    `files` is a pattern of the files that are damaged. `has_own_past`: its beginning is no state of
    the run that goes straight on from nothing.
    """

    name: str
    stage: str
    begins: str
    before: str
    finished: str
    at_work: str = "report"
    after: str = "report"
    files: str = "**/*"
    has_own_past: bool = False


@dataclass(frozen=True)
class Plan:
    """A bed's files, the commands that make its states, each from the one before or from the one
    that `branches` names, and its stages.
    """

    name: str
    files: Mapping[str, str]
    states: Mapping[str, Sequence[str]]
    parts: Sequence[Part]
    command: str
    branches: Mapping[str, str] = field(default_factory=dict[str, str])

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


SUMS = Plan(
    "sums",
    {
        "sums.toml": SUMS_FILE.format(samples=SAMPLES),
        "first.toml": BENCHMARK,
        "problems.jsonl": _sums(0, PROBLEMS),
        "first.jsonl": _sums(1000, 40),
        "slow_sampler.py": (HERE / "slow_sampler.py").read_text(),
    },
    {
        stage: ("run", "sums.toml", "--until", stage)
        for stage in ("problems", "traces", "verdicts", "examples", "evals", "report")
    },
    (
        Part("problems", "1-problems", "1-problems/manifest.json", "nothing", "problems"),
        Part("traces", "2-traces", "2-traces/manifest.json", "problems", "traces"),
        Part("verdicts", "3-verdicts", "3-verdicts/manifest.json", "traces", "verdicts"),
        Part(
            "judge",
            "3-verdicts",
            "3-verdicts/judge.jsonl",
            "traces",
            "verdicts",
            files="judge.jsonl",
        ),
        Part("examples", "4-examples", "4-examples/manifest.json", "verdicts", "examples"),
        Part("evals", "6-evals", "6-evals/*/*/traces/manifest.json", "examples", "evals"),
        Part("report", "7-report", "7-report/manifest.json", "evals", "report"),
    ),
    "sums.toml",
)
ENGINES = Plan(
    "engines",
    {
        "engines.toml": ENGINES_FILE.format(logprobs="logprobs = 16", second=SECOND),
        "plain.toml": ENGINES_FILE.format(logprobs="", second=""),
    },
    {
        "problems": ("run", "engines.toml", "--until", "problems"),
        "traces": ("run", "engines.toml", "--until", "traces"),
        "examples": ("run", "engines.toml", "--until", "examples"),
        "students": ("run", "engines.toml", "--until", "students"),
        "evals": ("run", "engines.toml", "--until", "evals"),
        "report": ("run", "engines.toml", "--until", "report"),
        # Without a cache, and without the student that needs it.
        "plain": ("run", "plain.toml", "--only", "traces"),
        "captured": ("run", "engines.toml", "--until", "traces"),
    },
    (
        Part(
            "traces",
            "2-traces",
            "2-traces/manifest.json",
            "problems",
            "traces",
            at_work="examples",
            after="examples",
            files="*.*",
        ),
        Part(
            "topk",
            "2-traces",
            "2-traces/topk/topk.json",
            "plain",
            "captured",
            at_work="traces",
            after="students",
            files="topk/*",
            has_own_past=True,
        ),
        Part(
            "students",
            "5-students",
            "5-students/*/manifest.json",
            "examples",
            "students",
            at_work="students",
            after="evals",
        ),
        Part("evals", "6-evals", "6-evals/*/*/traces/manifest.json", "students", "evals"),
    ),
    "engines.toml",
    {"plain": "problems"},
)
PLANS = {plan.name: plan for plan in (SUMS, ENGINES)}


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit code (−9 for kill -9), what it printed, how long it took."""

    code: int
    printed: str
    seconds: float = 0.0

    @property
    def crashed(self) -> bool:
        return "Traceback (most recent call last)" in self.printed


class Bed:
    """A plan in a folder: its states are made when they are first asked for, and kept.

    Commands that nothing disturbs are given to `python`, which may be a quicker one (warm.py).
    """

    def __init__(self, plan: Plan, folder: Path, python: Path = Path(sys.executable)) -> None:
        self._python = python
        self.plan, self.place = plan, folder / plan.name
        self.runs = self.place / "runs"
        self.run = self.runs / plan.name
        self._kept = self.place / "kept"
        self._expected: dict[str, dict[str, Any]] = {}
        self._kept.mkdir(parents=True, exist_ok=True)
        for name, text in plan.files.items():
            (self.place / name).write_text(text)

    # ---- commands

    def start(
        self, *arguments: str, mark: str = "", python: Path = Path(sys.executable)
    ) -> subprocess.Popen[str]:
        """A command in a session of its own, as a terminal would start it; its output goes into a
        file, so that nobody has to read while it works.
        """
        variables = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", MARK: mark or "a"}
        # Where the sampler of this matrix lies.
        places = (os.environ.get("PYTHONPATH"), str(self.place.resolve()))
        variables["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        with open(self.place / "printed.txt", "w", encoding="utf-8") as printed:
            return subprocess.Popen(
                [str(python), "-m", "reasondistill", *arguments],
                cwd=self.place,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def printed(self) -> str:
        """What the latest command has printed."""
        return (self.place / "printed.txt").read_text(encoding="utf-8", errors="replace")

    def command(self, *arguments: str, mark: str = "", limit_s: float = 400) -> Said:
        """Give a command and wait for its end. Raises subprocess.TimeoutExpired."""
        began = time.monotonic()
        process = self.start(*arguments, mark=mark, python=self._python)
        process.wait(timeout=limit_s)
        return Said(process.returncode, self.printed(), time.monotonic() - began)

    def until(self, stage: str) -> tuple[str, ...]:
        """The command that is given again and again."""
        return ("run", self.plan.command, "--until", stage)

    # ---- states

    def restore(self, state: str) -> None:
        """Put the run's folder back into a state: nothing, or one of the plan."""
        kept: Path | None = None
        if state != "nothing":
            kept = self.state(state)
        shutil.rmtree(self.run, ignore_errors=True)
        if kept is not None:
            shutil.copytree(kept, self.run)

    def state(self, name: str) -> Path:
        """The kept run of a state; the ones before it are made where they are missing."""
        kept = self._kept / name
        if kept.exists():
            return kept
        names = list(self.plan.states)
        parent = "nothing"
        if names.index(name) > 0:
            parent = names[names.index(name) - 1]
        self.restore(self.plan.branches.get(name, parent))
        self._undisturbed(self.plan.states[name])
        self._keep(kept)
        return kept

    def _undisturbed(self, arguments: Sequence[str]) -> Said:
        said = self.command(*arguments)
        if said.code != 0:
            raise SystemExit(f"without any fault, exit {said.code}:\n{said.printed}")
        return said

    def _keep(self, kept: Path) -> None:
        part = kept.with_name(f"{kept.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(self.run, part)
        part.rename(kept)

    def expected(self, part: Part) -> dict[str, Any]:
        """Every file of an undisturbed run by its path, and what it holds; what two such runs
        differ in is left out.
        """
        begins, last = "nothing", "report"
        if part.has_own_past:
            begins, last = part.before, part.after
        key = begins
        if key not in self._expected:
            first = self._whole(begins, last, "first")
            if part.has_own_past:
                second = self._whole(begins, last, "second")
            else:
                second = compared(self.state(last))  # made one stage at a time
            differing = [place for place in first if second.get(place) != first[place]]
            if any(place.endswith(_MUST_BE_EQUAL) for place in differing):
                raise SystemExit(f"two undisturbed runs differ: {', '.join(differing)}")
            self._expected[key] = {
                place: content for place, content in first.items() if place not in differing
            }
        return self._expected[key]

    def _whole(self, begins: str, last: str, turn: str) -> dict[str, Any]:
        """What an undisturbed run from here to there holds."""
        kept = self._kept / f"from-{begins}-{turn}"
        if not kept.exists():
            self.restore(begins)
            said = self._undisturbed(self.until(last))
            shown = self.place / f"shown-{begins}.txt"
            shown.write_text(shown_at_the_end(said.printed), encoding="utf-8")
            self._keep(kept)
        return compared(kept)

    def work_seconds(self, part: Part) -> float:
        """How long the part is at work in an undisturbed run."""
        path = self.place / "seconds.json"
        known: dict[str, float] = {}
        if path.exists():
            known = json.loads(path.read_text())
        if part.name not in known:
            self.restore(part.before)
            process = self.start(*self.plan.states[part.finished])
            self.wait_for_beginning(part, process)
            began = time.time()
            process.wait()
            files = (self.run / part.stage).rglob(part.files)
            times = [file.stat().st_mtime for file in files if file.is_file()]
            known[part.name] = max(times) - began
            path.write_text(json.dumps(known))
        return max(0.02, known[part.name])

    def wait_for_beginning(self, part: Part, process: subprocess.Popen[str]) -> None:
        """Wait until a part is at work, or its command has ended."""
        there = set(self.run.glob(part.begins))
        while process.poll() is None and not set(self.run.glob(part.begins)) - there:
            time.sleep(0.002)


def compared(run: Path) -> dict[str, Any]:
    """The files of a run that a stop or a damage must not change."""
    found: dict[str, Any] = {}
    records = records_of(run)
    for place, content in records.items():
        parts = place.split("/")
        is_at_work = {"checkpoints", "parts", "rollouts", "tokens"} & set(parts)
        has_clock = place.endswith(_OF_TIMES) or place.startswith("7-report/browser/")
        if parts[0][0].isdigit() and not is_at_work and not has_clock:
            found[place] = content
        if parts[-1] in _IN_ANY_ORDER and isinstance(content, list):
            found[place] = sorted(map(_without_place, content))
        if parts[-1] == "topk.bin":
            found[place] = _blocks_by_trace(content, records.get(f"{place[:-3]}jsonl"))
    return found


def _blocks_by_trace(content: bytes, index: Any) -> object:
    """The blocks of a top-K cache, in any order; its bytes where the index cannot be read."""
    if not isinstance(index, list):
        return content
    return {
        line["trace_id"]: content[line["offset"] : line["offset"] + line["bytes"]] for line in index
    }


def _without_place(record: dict[str, Any]) -> str:
    """A record less where it stands in another file."""
    kept = {key: value for key, value in record.items() if key != "offset"}
    return json.dumps(kept, sort_keys=True)
