"""The layout of a run's folder: this module alone defines the names of its folders and files.

    run = RunFolder(Path("runs/demo"))
    run.traces                                  # runs/demo/2-traces/traces.jsonl
    run.student("distilled").model              # runs/demo/5-students/distilled/model
    run.benchmark("gsm8k").cell("base").traces  # runs/demo/6-evals/gsm8k/base/traces/traces.jsonl

A stage gets folders, not a run, and finds its files by the names below. Changing a name makes every
run folder of earlier versions unreadable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reasondistill.errors import DataError
from reasondistill.foreign_text import shortened, shown_line

STAGES = ("problems", "traces", "verdicts", "examples", "students", "evals", "report")
FOLDERS = {stage: f"{number}-{stage}" for number, stage in enumerate(STAGES, start=1)}

# Of a file system, in bytes.
_LONGEST_NAME = 255

# The run's own files and folders, beside its stages.
RUN = "run.json"
FORECAST = "forecast.json"
LOGS = "logs"
# What launchers keep of jobs that they have sent.
SLURM = "slurm"
RAY = "ray"
SETTLED = "settled"
LOCK = ".lock"
# What a run folder that is published at a URL remembers of the URL's files.
JOURNAL = ".remote.jsonl"
# The list of the files of a packed run, in its folder (packing.py).
PACK = "pack.json"
# Files of every stage folder: what it was made from, and a line per progress report.
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
# Where workers write while several of them fill a stage folder (work_sharing.py).
PARTS = "parts"
ATTEMPT = "attempt.json"
CLAIMS = "claims"
# Records of the stages.
PROBLEMS = "problems.jsonl"
SET_ASIDE = "set_aside.jsonl"
NEAR_DUPLICATES = "near_duplicates.jsonl"
LEAKS = "leaks.jsonl"
LEAKS_MARKDOWN = "leaks.md"
# Problems with traces of which no more examples are made: a benchmark has them now, or they lie
# beyond the limit.
LEFT_OUT = "left_out.jsonl"
TRACES = "traces.jsonl"
# What was begun and is not finished: gone when the stage is.
UNFINISHED = "unfinished.jsonl"
SERVERS = "servers.jsonl"
# Problems of which a data set holds fewer published traces than were asked for.
FEWER = "fewer.jsonl"
# How the drawing of each problem ended, and what was drawn behind its end, where a problem is drawn
# until it has enough correct samples.
ENDINGS = "endings.jsonl"
TRIMMED = "trimmed.jsonl"
# The cache of a teacher's distributions, in its own folder.
TOPK = "topk"
TOPK_HEADER = "topk.json"
TOPK_VOCABULARY = "vocabulary.json"
TOPK_BLOCKS = "topk.bin"
TOPK_INDEX = "topk.jsonl"
# What models say of the traces, in a folder for each model and kind of score beside them.
TRACE_SCORES = "scores"
TRACE_SCORES_FILE = "scores.jsonl"
VERDICTS = "verdicts.jsonl"
JUDGE_REPLIES = "judge.jsonl"
VOTED_LABELS = "labels.jsonl"
EXAMPLES = "examples.jsonl"
DROPPED = "dropped.jsonl"
SUSPECTS = "suspects.jsonl"
UNVERIFIED = "unverified.jsonl"
DATASET = "dataset"
EXPORTS = "exports"
STUDENT = "student.json"
MODEL = "model"
ADAPTER = "adapter"
# In a student's model folder: the prompt and the method that it was trained with. Like its card it
# is no part of the weights' identity.
OWN_FACTS = "reasondistill.json"
# The card of a student's model, of a data set and of its exports, by the name that the hub knows.
CARD = "README.md"
# Beside a student's model folder in a packed run, which leaves the weights out: which they were.
WEIGHTS_LEFT_OUT = "weights.json"
CHECKPOINTS = "checkpoints"
# Written by the trainer's library into each checkpoint, last.
TRAINER_STATE = "trainer_state.json"
# Sums of the files of a checkpoint, in it; those of tokenised rows end with this name.
CHECKPOINT_SUMS = "sums.json"
SNAPSHOTS = "snapshots"
# How the large files end, which only training and sampling read.
WEIGHTS = (".safetensors", ".bin", ".pt")
# Tokenised rows that the trainings of a run share; made again where they are missing.
TOKENS = "tokens"
# The weights with which a training starts vLLM, which samples the student's own texts.
ROLLOUTS = "rollouts"
EVAL_RECORDS = "records.jsonl"
SCORES = "scores.json"
LATENCY = "latency.json"
REPORT_JSON = "report.json"
REPORT_MARKDOWN = "report.md"
REPORT_PAGE = "report.html"
# The traces behind the report: a page of its own with its files.
BROWSER = "browser"
BROWSER_PAGE = "index.html"

# What stages write into their folders, as the first part of a file's path there: what they finish,
# and what only a process reads that is at work. Anything else in a stage folder is somebody else's.
STAGE_FILES = frozenset(
    {
        *(METRICS, PROBLEMS, SET_ASIDE, LEFT_OUT, NEAR_DUPLICATES, LEAKS, LEAKS_MARKDOWN),
        *(TRACES, SERVERS, FEWER, ENDINGS, TRIMMED, TOPK, TRACE_SCORES_FILE),
        *(VERDICTS, JUDGE_REPLIES),
        *(VOTED_LABELS, EXAMPLES, DROPPED, SUSPECTS, UNVERIFIED, DATASET, EXPORTS),
        *(
            STUDENT,
            MODEL,
            ADAPTER,
            SNAPSHOTS,
            EVAL_RECORDS,
            SCORES,
            REPORT_JSON,
            REPORT_MARKDOWN,
            REPORT_PAGE,
            BROWSER,
        ),
    }
)
AT_WORK = (PARTS, UNFINISHED, CHECKPOINTS, ROLLOUTS, TOKENS)

# The folders in a run's folder that are no stages.
BESIDE_STAGES = (LOGS, SETTLED, TOKENS, SLURM, RAY)

# The folders that stages finish, as patterns in the run's folder. Other manifests (a data set's, a
# model's) are not the run's.
STAGE_FOLDERS = (
    *FOLDERS.values(),
    f"{FOLDERS['traces']}/{TRACE_SCORES}/*",
    f"{FOLDERS['students']}/*",
    f"{FOLDERS['evals']}/*/problems",
    f"{FOLDERS['evals']}/*/*/traces",
    f"{FOLDERS['evals']}/*/*/verdicts",
)


def is_named_as_stage(folder: Path) -> bool:
    """Whether a folder has the name of a stage's, in whatever run."""
    return any(folder.match(pattern) for pattern in STAGE_FOLDERS)


def copy_of(name: str) -> str:
    """The name of the hidden copy of a small file without which others cannot be read."""
    path = PurePosixPath(name)
    return f".{path.stem}.copy{path.suffix}"


# From it a repair puts back a damaged manifest.
MANIFEST_COPY = copy_of(MANIFEST)
# No manifest lists the run's own files: without a copy nobody would miss a forecast.
FORECAST_COPY = copy_of(FORECAST)


def _below(folder: Path, name: str) -> Path:
    """The folder of this name in a folder. Raises DataError for what is no name: of a record that
    somebody else wrote `../../other` would be read.
    """
    is_name = name not in ("", ".", "..") and not set(name) & set("/\\\0")
    if not is_name or len(name.encode("utf-8", "replace")) > _LONGEST_NAME:
        raise DataError(f"{folder}: {shown_line(shortened(name, 100))!r} is no name of a folder.")
    return folder / name


def is_listed(name: str) -> bool:
    """Whether the lines of the file with this path in a stage's folder are listed beside it while
    the stage is at work.
    """
    return name.endswith(".jsonl") or name == f"{TOPK}/{TOPK_HEADER}"


def is_of_a_stage(name: str) -> bool:
    """Whether a stage writes the file with this path in its folder."""
    return name.partition("/")[0] in STAGE_FILES


@dataclass(frozen=True)
class StudentFolder:
    """The folder of one student."""

    path: Path

    @property
    def record(self) -> Path:
        """student.json: the student's record and how it was trained; written last."""
        return self.path / STUDENT

    @property
    def model(self) -> Path:
        """The student's weights and tokenizer, with an adapter merged in."""
        return self.path / MODEL

    @property
    def adapter(self) -> Path:
        """The LoRA adapter alone."""
        return self.path / ADAPTER

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def metrics(self) -> Path:
        return self.path / METRICS


@dataclass(frozen=True)
class CellFolder:
    """The samples of one model on one benchmark."""

    path: Path

    @property
    def name(self) -> str:
        """The model's name."""
        return self.path.name

    @property
    def traces_folder(self) -> Path:
        return self.path / "traces"

    @property
    def verdicts_folder(self) -> Path:
        return self.path / "verdicts"

    @property
    def traces(self) -> Path:
        return self.traces_folder / TRACES

    @property
    def verdicts(self) -> Path:
        return self.verdicts_folder / VERDICTS

    @property
    def latency(self) -> Path:
        return self.path / LATENCY


@dataclass(frozen=True)
class BenchmarkFolder:
    """One benchmark's problems, and a cell for each model that was measured on them."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def problems_folder(self) -> Path:
        return self.path / "problems"

    @property
    def problems(self) -> Path:
        return self.problems_folder / PROBLEMS

    def cell(self, model: str) -> CellFolder:
        return CellFolder(_below(self.path, model))

    def cells(self) -> Iterator[CellFolder]:
        """The models that have samples, by name."""
        for path in sorted(self.path.glob("*/traces")):
            yield CellFolder(path.parent)


@dataclass(frozen=True)
class EvalsFolder:
    """Stage 6: every benchmark, and the scores of all of them."""

    path: Path

    @property
    def records(self) -> Path:
        return self.path / EVAL_RECORDS

    @property
    def scores(self) -> Path:
        return self.path / SCORES

    def benchmark(self, name: str) -> BenchmarkFolder:
        return BenchmarkFolder(_below(self.path, name))

    def cells(self) -> Iterator[CellFolder]:
        """The samples of every model on every benchmark."""
        for path in sorted(self.path.glob("*/*/traces")):
            yield CellFolder(path.parent)

    def benchmarks(self) -> Iterator[BenchmarkFolder]:
        """The benchmarks whose problems are in this folder, by name."""
        for path in sorted(self.path.glob("*/problems")):
            yield BenchmarkFolder(path.parent)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: a folder for each stage, and the files of the whole run."""

    path: Path

    def stage(self, name: str) -> Path:
        """The folder of a stage, by the stage's name: `2-traces` for "traces"."""
        return self.path / FOLDERS[name]

    def stage_folders(self) -> list[Path]:
        """Every stage folder that was begun, including those of students and measured models."""
        folders: list[Path] = []
        for pattern in STAGE_FOLDERS:
            folders += [path.parent for path in self.path.glob(f"{pattern}/{MANIFEST}")]
        return sorted(folders, key=self.place_of)

    def place_of(self, path: Path) -> str:
        """The path of a file or folder in the run's folder: `6-evals/gsm8k/problems`."""
        return path.relative_to(self.path).as_posix()

    @property
    def state(self) -> Path:
        """run.json, from which a process loads the run."""
        return self.path / RUN

    @property
    def forecast(self) -> Path:
        return self.path / FORECAST

    @property
    def logs(self) -> Path:
        return self.path / LOGS

    @property
    def tokens(self) -> Path:
        """Tokenised rows, for all students."""
        return self.path / TOKENS

    @property
    def lock(self) -> Path:
        return self.path / LOCK

    def settled(self, task: str) -> Path:
        """The mark that a task has finished its folder."""
        return self.path / SETTLED / task

    @property
    def problems(self) -> Path:
        return self.stage("problems") / PROBLEMS

    @property
    def set_aside(self) -> Path:
        return self.stage("problems") / SET_ASIDE

    @property
    def near_duplicates(self) -> Path:
        """Which problems are all but the same as an earlier one."""
        return self.stage("problems") / NEAR_DUPLICATES

    @property
    def leaks(self) -> Path:
        """Problems beside the questions of benchmarks that they hold."""
        return self.stage("problems") / LEAKS

    @property
    def left_out(self) -> Path:
        """Problems with traces of which no more examples are made."""
        return self.stage("problems") / LEFT_OUT

    @property
    def traces(self) -> Path:
        return self.stage("traces") / TRACES

    @property
    def verdicts(self) -> Path:
        return self.stage("verdicts") / VERDICTS

    @property
    def examples(self) -> Path:
        return self.stage("examples") / EXAMPLES

    @property
    def dropped(self) -> Path:
        return self.stage("examples") / DROPPED

    @property
    def fewer(self) -> Path:
        """Problems with fewer published traces than were asked for."""
        return self.stage("traces") / FEWER

    @property
    def endings(self) -> Path:
        """How the drawing of each problem ended."""
        return self.stage("traces") / ENDINGS

    @property
    def trimmed(self) -> Path:
        """Samples that were drawn behind the end of their problem."""
        return self.stage("traces") / TRIMMED

    @property
    def suspects(self) -> Path:
        """Golds that the samples of their problems speak against."""
        return self.stage("examples") / SUSPECTS

    @property
    def unverified(self) -> Path:
        """The examples of an `unverified` student."""
        return self.stage("examples") / UNVERIFIED

    def student(self, name: str) -> StudentFolder:
        return StudentFolder(_below(self.stage("students"), name))

    def students(self) -> Iterator[StudentFolder]:
        """The students that have begun, by name."""
        for path in sorted(self.stage("students").glob("*/")):
            yield StudentFolder(path)

    @property
    def evals(self) -> EvalsFolder:
        return EvalsFolder(self.stage("evals"))

    def benchmark(self, name: str) -> BenchmarkFolder:
        return self.evals.benchmark(name)

    @property
    def report(self) -> Path:
        """report.json; the HTML page and the Markdown are beside it."""
        return self.stage("report") / REPORT_JSON

    @property
    def report_files(self) -> tuple[Path, Path, Path, Path]:
        """The page, that of all traces, the Markdown and the JSON."""
        folder = self.stage("report")
        browser = folder / BROWSER / BROWSER_PAGE
        return folder / REPORT_PAGE, browser, folder / REPORT_MARKDOWN, folder / REPORT_JSON
