"""A run: a pipeline file, a cluster file and a folder, which every stage and every process of the
run needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from reasondistill.config import (
    CONTROLS,
    Benchmark,
    Cluster,
    ModelSettings,
    Pipeline,
    StudentSettings,
    load_benchmark,
    resources,
)
from reasondistill.errors import ConfigError, DataError, StageError
from reasondistill.pipeline.executed import imported_samplers, refusal
from reasondistill.records import canonical_json
from reasondistill.runs import seals
from reasondistill.runs.environment import describe_environment
from reasondistill.runs.layout import (
    ATTEMPT,
    FOLDERS,
    MANIFEST,
    PARTS,
    RUN,
    SETTLED,
    STAGES,
    TRACES,
    RunFolder,
)
from reasondistill.runs.remote import is_weights
from reasondistill.runs.store import Manifest, read_guarded, write_guarded, write_manifest
from reasondistill.runs.work_sharing import Share
from reasondistill.secrets import look_again, variable_in
from reasondistill.sections import explain

_SEAL = "seal"
_SAID = ("pipeline", "cluster", "source", "keep_old", "asked")


@dataclass(frozen=True)
class Run:
    """One pipeline file in one folder on one cluster. `source` is the pipeline file; relative data
    paths are also tried beside it.

    `only` are the stages that this command runs (none: all), as `resume` needs to know them.
    """

    pipeline: Pipeline
    cluster: Cluster
    folder: Path
    source: Path
    keep_old: bool = False
    only: tuple[str, ...] = ()
    # Whether it was asked for by this user, or comes from a run.json that he has not written.
    is_own: bool = True
    has_own_cluster: bool = True

    def __post_init__(self) -> None:
        look_again(self.cluster.openai.api_key_env)

    @property
    def layout(self) -> RunFolder:
        """The paths of all files of the run."""
        return RunFolder(self.folder)

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.layout.stage(name)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this pipeline file: all seven, or only evals and report."""
        return STAGES if self.pipeline.traces is not None else ("evals", "report")


@dataclass(frozen=True)
class Task:
    """A piece of a stage that one process does: all of it, one student, the samples of some models,
    or a share in what many workers do.
    """

    stage: str
    units: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    share: Share | None = None

    @property
    def name(self) -> str:
        return self._named("+".join(self.units))

    @property
    def is_parallel(self) -> bool:
        """Others of its kind may run beside it: students, and workers of one stage."""
        return self.stage == "students" or (self.share is not None and self.share.role == "work")

    @property
    def label(self) -> str:
        """The name as people read it before every line: of many units the first, and how many more
        there are.
        """
        rest = len(self.units) - 3
        if rest < 2:
            return self.name
        first = "+".join(self.units[:3])
        return self._named(f"{first} and {rest} more")

    def _named(self, units: str) -> str:
        name = self.stage
        if units:
            name += f":{units}"
        if self.share is not None:
            name += f"[{self.share}]"
        return name


# The folders that a stage reads besides its own.
_READS = {
    "problems": ("evals",),
    "traces": ("problems",),
    "verdicts": ("problems", "traces"),
    "examples": ("problems", "traces", "verdicts"),
    # A student that is trained anew is kept, with what was measured of it.
    "students": ("problems", "traces", "examples", "evals"),
    "evals": ("problems", "students"),
}


def is_needed(task: Task, name: str) -> bool:
    """Whether a process that does a task reads this file of the run folder; the report reads all
    but weights.
    """
    top, _, rest = name.partition("/")
    # What a stage does may depend on which others are finished.
    if name.endswith(f"/{MANIFEST}"):
        return True
    if task.stage == "report":
        return not is_weights(name)
    if top not in FOLDERS.values():
        return top in (RUN, SETTLED)
    parts = rest.split("/")
    if task.stage == "problems" and top == FOLDERS["traces"]:
        return parts[-1].startswith(TRACES)  # which problems have traces
    read = {FOLDERS[stage] for stage in (task.stage, *_READS[task.stage])}
    if top not in read:
        return False
    if PARTS in parts and task.share is not None and task.share.role == "work":
        # Not what other workers write.
        mark = f"w{task.share.number}-"
        return parts[-1] == ATTEMPT or any(part.startswith(mark) for part in parts)
    return True


def benchmarks(run: Run) -> list[Benchmark]:
    """The benchmark files that [evals] names. Raises ConfigError."""
    loaded = [named_benchmark(run, name) for name in run.pipeline.evals.benchmarks]
    names = [benchmark.name for benchmark in loaded]
    if len(set(names)) < len(names):
        raise ConfigError(f"[evals] benchmarks: two of {names} have the same name.")
    return loaded


def named_benchmark(run: Run, name: str) -> Benchmark:
    """The benchmark of a file's name, also of one beside the pipeline file. Data that is neither in
    the working directory nor beside the pipeline file is looked for beside the benchmark's own.
    Raises ConfigError.
    """
    home = run.source.parent
    path = resources.find("benchmarks", name, beside=home)
    benchmark = load_benchmark(path)
    source = benchmark.problems
    own = path.parent / source.dataset
    if source.source == "procedural" or not own.exists():
        return benchmark
    if Path(source.dataset).exists() or (home / source.dataset).exists():
        return benchmark
    located = source.model_copy(update={"dataset": str(own)})
    return benchmark.model_copy(update={"problems": located})


def parents_of(run: Run, student: StudentSettings) -> tuple[str, ...]:
    """The students that are made before this one: whose steps it copies, and which one it
    continues.
    """
    names = dict.fromkeys((steps_like(run, student), student.starts_from))
    return tuple(name for name in names if name)


def steps_like(run: Run, student: StudentSettings) -> str | None:
    """The trained student whose number of steps a control copies: the one most like it. None for
    other students, and when the file itself says the steps.

    A packed answer-only control asks in any case: its rows are so short that the batch must be
    counted anew.
    """
    if student.method not in ("answer_only", "unverified"):
        return None
    recounts = student.method == "answer_only" and student.packing
    if student.max_steps is not None and not recounts:
        return None

    def likeness(other: StudentSettings) -> tuple[bool, bool]:
        return other.recipe() == student.recipe(), other.start() == student.start()

    trained = [other for other in run.pipeline.all_students() if other.method not in CONTROLS]
    if not trained:
        return None
    # Of several alike the last one.
    return sorted(trained, key=likeness)[-1].name


AnyModel = TypeVar("AnyModel", bound=ModelSettings)


def located(settings: AnyModel) -> AnyModel:
    """The same model with the folder of a shipped one in place of its `shipped:` name."""
    if not settings.model.startswith("shipped:"):
        return settings
    name = settings.model.removeprefix("shipped:")
    return settings.model_copy(update={"model": str(resources.shipped_model(name))})


def with_environment(folder: Path, manifest: Manifest) -> Manifest:
    """Record where a stage was finished; a folder that was complete before keeps its own."""
    if manifest.environment:
        return manifest
    full = replace(manifest, environment=describe_environment().to_dict())
    write_manifest(folder, full)
    return full


# ---- the run folder's own file -------------------------------------------------------------------


def save_run(run: Run, folder: Path | None = None) -> None:
    """Write `run.json`, from which a task process loads the run, into the run folder or another.
    Its seal says to this user that it is his. The file holds no secret: raises ConfigError where
    that of an environment variable stands in the pipeline or cluster file.
    """
    value = {
        "pipeline": run.pipeline.model_dump(mode="json"),
        # Only what was set: a stage's own keys stand over those of [stages.default].
        "cluster": run.cluster.model_dump(mode="json", exclude_unset=True),
        "source": str(run.source.resolve()),
        "keep_old": run.keep_old,
        "asked": list(run.only),
    }
    variable = variable_in(value)
    if variable is not None:
        raise ConfigError(
            f"{run.source}: it or the cluster file holds the value of the environment variable "
            f"{variable}, which would be written into the run folder. Take it out: it is read from "
            f"there. If it is no secret, start without that variable (env -u {variable} …)."
        )
    value[_SEAL] = seals.seal(RUN, _sealed(value))
    write_guarded((folder or run.folder) / RUN, value)


def _sealed(value: Mapping[str, Any]) -> str:
    """What of a run.json is sealed: all that it makes its user do."""
    return canonical_json([value.get(key) for key in _SAID])


def _is_own(value: Mapping[str, Any]) -> bool:
    return seals.is_ours(RUN, _sealed(value), str(value.get(_SEAL, "")))


def is_own_folder(folder: Path) -> bool:
    """Whether the run.json of a folder was written by this user; False where there is none, or one
    that cannot be read.
    """
    try:
        return _is_own(read_guarded(folder / RUN, "the state of a run", ""))
    except DataError:
        return False


def nearest_run(folder: Path) -> str:
    """Which run beside it may be meant, where there is one of nearly this name."""
    names = [path.parent.name for path in folder.parent.glob(f"*/{RUN}")]
    close = get_close_matches(folder.name, names, n=1, cutoff=0.5)
    if not close:
        return ""
    return f" Did you mean {close[0]}?"


def load_run(folder: Path, *, trust: bool = False) -> Run:
    """The run that `save_run` wrote. Raises StageError when the folder is no run folder, and for
    the run of somebody else that imports modules, unless it is trusted.
    """
    path = folder / RUN
    if not path.exists():
        raise StageError(
            f"{folder}: not a run folder (no run.json). `reasondistill run FILE` makes one; "
            f"runs are listed under runs/.{nearest_run(folder)}"
        )
    ways_out = (
        "Ways out: give the pipeline file again (`reasondistill run FILE`), which writes it anew."
    )
    value = read_guarded(path, "the state of a run", ways_out)
    is_own = _is_own(value)
    imported = imported_samplers(value.get("pipeline"))
    if imported and not (is_own or trust or seals.is_trusted(folder)):
        raise StageError(refusal(str(folder), imported))
    try:
        asked = tuple(value.get("asked", ()))
        if not all(isinstance(stage, str) for stage in asked):
            raise ValueError("asked: want the names of stages")
        return Run(
            Pipeline.model_validate(value["pipeline"]),
            Cluster.model_validate(value["cluster"]),
            folder,
            Path(value["source"]),
            value["keep_old"],
            asked,
            is_own,
            is_own,
        )
    except (ValueError, KeyError, TypeError) as error:
        fault = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            kind = {"Cluster": Cluster}.get(error.title, Pipeline)
            fault = explain(Path(error.title.lower()), kind, error).splitlines()[0]
        raise DataError(
            f"{path}: not written by this version of reasondistill: {fault}. {ways_out}"
        ) from error
