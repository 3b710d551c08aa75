"""The same evals by us and by EleutherAI's lm-evaluation-harness (`lm_eval`): one folder of files,
two programs, one table of rows.

As a program, `crosscheck_kit.py FOLDER` times our grader on the harness's completions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from reasondistill.config import ProblemSource
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.models.prompts import Prompt
from reasondistill.models.weights import model_folder
from reasondistill.records import Grade, Problem, Trace, Verdict
from reasondistill.runs.store import read_records
from reasondistill.stages.problems import read_problems

TASK = "crosscheck"
STRICT, FLEXIBLE = "strict-match", "flexible-extract"
TEACHER_TEMPLATES = [
    3,
    5,
    6,
    9,
    10,
    13,
    14,
    16,
    23,
    24,
    31,
    34,
    39,
    40,
    41,
    43,
    45,
    48,
    50,
    54,
    55,
    57,
    58,
    59,
    62,
    72,
    78,
    88,
    95,
    96,
]


@dataclass(frozen=True)
class Setting:
    """What both sides are told. `plain`: the turns are joined as text, else the model's chat
    template is applied.
    """

    model: str
    prompt: Prompt
    max_tokens: int
    max_model_len: int
    stop: tuple[str, ...] = ()


def gsm_symbolic_rows(count: int, seed: int = 21) -> list[dict[str, str]]:
    """Problems of the shipped teacher's templates in GSM8K's own form: a worked solution, then
    `#### 1,234` with thousands commas.
    """
    source = ProblemSource(
        source="procedural",
        dataset="gsm_symbolic",
        seed=seed,
        limit=count,
        solution="metadata.answer_cot",
        filter={"template": list(TEACHER_TEMPLATES)},
    )
    problems = [entry for entry in read_problems(source) if isinstance(entry, Problem)]
    return [
        {"question": p.question, "answer": f"{_worked(p)}\n#### {int(p.answer):,}"}
        for p in problems
    ]


def _worked(problem: Problem) -> str:
    return (problem.reference_solution or "").partition("####")[0].strip()


# ---- both sides' files ---------------------------------------------------------------------------


def write_side_by_side(folder: Path, rows: Sequence[Mapping[str, str]], setting: Setting) -> None:
    """One GSM8K file; a benchmark, prompt, cluster and pipeline file for us (one that only
    measures); a task file for the harness.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _write_ours(folder, setting)
    _write_theirs(folder, data, setting)


BENCHMARK = """
name = "crosscheck"

[problems]
source = "file"
dataset = "test.jsonl"
name = "crosscheck"
split = "test"
answer_after = "####"
solution = "answer"
"""
PIPELINE = """
name = "ours"

[evals]
benchmarks = ["./benchmark.toml"]
prompt = "./prompt.toml"
settings = "greedy"
max_tokens = {max_tokens}
stop = {stop}

[[evals.models]]
name = "model"
model = {model}
"""
CLUSTER = """
[vllm]
dtype = "float32"
enforce_eager = true
max_num_seqs = 64
max_model_len = {max_model_len}
cpu_kvcache_gib = 1
"""


def _write_ours(folder: Path, setting: Setting) -> None:
    shots = "".join(
        f"[[few_shot]]\nquestion = {_toml(shot.question)}\nanswer = {_toml(shot.answer)}\n"
        for shot in setting.prompt.few_shot
    )
    plain = str(setting.prompt.plain).lower()
    texts = {
        "prompt.toml": f'about = "the prompt of both"\nplain = {plain}\nuser = '
        f"{_toml(setting.prompt.user)}\n{shots}",
        "benchmark.toml": BENCHMARK,
        "pipeline.toml": PIPELINE.format(
            model=_toml(setting.model), max_tokens=setting.max_tokens, stop=json.dumps(setting.stop)
        ),
        "cluster.toml": CLUSTER.format(max_model_len=setting.max_model_len),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML basic string


def _write_theirs(folder: Path, data: Path, setting: Setting) -> None:
    """The harness's own gsm8k.yaml, filters and metric as they are, on the local file and with our
    prompt.
    """
    import lm_eval

    gsm8k = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    doc_to_text = "\n\n".join(message.content for message in setting.prompt.render("{{question}}"))
    task = {
        "include": str(gsm8k),
        "task": TASK,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "training_split": None,
        "fewshot_split": None,
        "num_fewshot": 0,
        "doc_to_text": doc_to_text,
        "generation_kwargs": {
            "until": list(setting.stop),
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": setting.max_tokens,
        },
    }
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / "crosscheck.yaml").write_text(
        json.dumps(task), encoding="utf-8"
    )  # JSON is YAML
    model_args = {
        "pretrained": str(model_folder(setting.model)),
        "dtype": "float32",
        "max_model_len": setting.max_model_len,
        "enforce_eager": True,
        "max_num_seqs": 64,
        "kv_cache_memory_bytes": 1 << 30,
    }
    asked = {"model_args": model_args, "apply_chat_template": not setting.prompt.plain}
    (folder / "harness_arguments.json").write_text(json.dumps(asked), encoding="utf-8")


# ---- both sides' programs ------------------------------------------------------------------------

OURS = Path("runs") / "ours" / "6-evals" / "crosscheck"


def run_ours(folder: Path) -> float:
    """`reasondistill run` of a file that only measures; the seconds it took."""
    return _run(
        folder,
        "-m",
        "reasondistill",
        "run",
        "pipeline.toml",
        "--on",
        "cluster.toml",
        "--only",
        "evals",
    )


def run_theirs(folder: Path) -> float:
    """The harness on the same; the seconds it took."""
    return _run(
        folder, str(Path(__file__).with_name("crosscheck_harness.py")), "evaluate", str(folder)
    )


def _run(folder: Path, *command: str) -> float:
    """Both sides run under the same conditions: vLLM's engine in the program's own process, its log
    quiet, no hub.
    """
    alike = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | alike,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - started


# ---- side by side --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One problem: what each side was given, what it wrote and what became of it."""

    question: str
    gold: str
    trace: Trace
    verdict: Verdict
    theirs: dict[str, Any]

    @property
    def our_text(self) -> str:
        """The whole completion, as the model wrote it."""
        done = self.trace.completion
        opened = {"closed": "<think>", "open": "<think>", "none": ""}[done.think]
        closed = "</think>" if done.think == "closed" else ""
        return f"{opened}{done.reasoning or ''}{closed}{done.answer_text}"


def side_by_side(folder: Path) -> list[Row]:
    """Both sides' results, joined by the row of the file."""
    ours = folder / OURS
    problems = read_records(ours / "problems" / "problems.jsonl", Problem)
    traces = read_records(ours / "model" / "traces" / "traces.jsonl", Trace)
    verdicts = read_records(ours / "model" / "verdicts" / "verdicts.jsonl", Verdict)
    theirs = json.loads((folder / "harness.json").read_text(encoding="utf-8"))["rows"]
    joined = zip(problems, traces, verdicts, strict=True)
    return [
        Row(p.question, p.answer, trace, verdict, theirs[p.origin.row])
        for p, trace, verdict in joined
    ]


def item_of(row: Row) -> GradeItem:
    """The harness's completion as our grader takes it: what follows the think block."""
    _, closed, answer = row.theirs["text"].rpartition("</think>")
    return GradeItem(
        row.trace.id,
        answer,
        row.gold,
        row.trace.completion.finish,
        row.trace.completion.think if closed else "none",
    )


def time_scoring(folder: Path, rounds: int = 3) -> tuple[float, float]:
    """Seconds that we and the harness take to score the harness's completions; the fastest of
    several rounds each.

    Starting and ending our workers and building the harness's task are not in it. Each round of
    ours is a process of its own: it must not look its verdicts up in the round before.
    """
    ours = [_seconds(str(Path(__file__)), str(folder))[0] for _ in range(rounds)]
    theirs = _seconds(
        str(Path(__file__).with_name("crosscheck_harness.py")), "score", str(folder), str(rounds)
    )
    return min(ours), min(theirs)


def _seconds(*command: str) -> list[float]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return [float(line.split()[0]) for line in done.stdout.splitlines()]


def score(folder: Path) -> None:
    """Print the seconds of grading all completions once."""
    items = [item_of(row) for row in side_by_side(folder)]
    with GradingPool(workers=1) as pool:
        started = time.perf_counter()
        correct = sum(grade.is_correct for _, grade in pool.grade_many(items))
        print(time.perf_counter() - started, correct / len(items))


# ---- disagreements, explained --------------------------------------------------------------------

_NUMBER = re.compile(
    r"-?[$0-9.,]{2,}|-?[0-9]+"
)  # what the harness's flexible filter takes for a number
_INVALID = "[invalid]"


def agree(grade: Grade, theirs: Mapping[str, Any]) -> bool:
    """The same verdict on the same answer: both found the same value, or both found none."""
    return grade.is_correct == theirs["correct"] and _value(grade.extracted or "") == _value(
        theirs["extracted"]
    )


def explain(text: str, grade: Grade, filter_name: str, theirs: Mapping[str, Any]) -> str | None:
    """Why our grade and the harness's differ on one completion, by rule; None for a difference that
    nobody has explained yet.
    """
    extracted = theirs["extracted"]
    if filter_name == STRICT and extracted == _INVALID:
        return "no mark: there is no `#### number` in the text"
    if grade.outcome == "truncated":
        return (
            "cut off: the tokens ran out before an answer was stated, the harness takes a "
            "number of the unfinished text"
        )
    if not any(sign.isdigit() for sign in extracted):
        return "no digit: the filter takes dots or commas for a number"
    if _value(extracted) == _value(grade.extracted or ""):
        return (
            "spelling: the same number, but the harness compares strings"
            if grade.is_correct
            else None
        )
    if filter_name == FLEXIBLE and 0 <= _end_of_answer(text, grade.extracted) <= _last_number(text):
        return "goes on: numbers follow the stated answer, flexible-extract takes the last of them"
    return None


def _end_of_answer(text: str, answer: str | None) -> int:
    """Where the answer behind the mark or in a box ends, -1 when it stands in neither."""
    found = [
        (place, mark)
        for mark in ("#### ", "####", "\\boxed{")
        if answer and (place := text.rfind(mark + answer)) >= 0
    ]
    return max((place + len(mark + (answer or "")) for place, mark in found), default=-1)


def _last_number(text: str) -> int:
    """Where the last number of the text begins, -1 when there is none."""
    return max((found.start() for found in _NUMBER.finditer(text)), default=-1)


def _value(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").replace("$", "").rstrip("."))
    except (ValueError, ZeroDivisionError):
        return None


if __name__ == "__main__":
    score(Path(sys.argv[1]))
