"""The checks of a run: prompts, benchmarks, models, students, names, packages, data."""

from __future__ import annotations

import configparser
import importlib.util
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from reasondistill.config import (
    DEFAULT_SAMPLER,
    EnvironmentSettings,
    ModelSettings,
    ProblemSource,
    StudentSettings,
    TraceSettings,
    capabilities_of,
)
from reasondistill.curation.filter_rules import compiled
from reasondistill.curation.filters import active_filters
from reasondistill.curation.filters.lengths import tokenizers_of
from reasondistill.curation.rows import find_path
from reasondistill.curation.sources import naming
from reasondistill.doctor.registry import all_checks, run_check
from reasondistill.errors import ConfigError, MissingDependencyError
from reasondistill.foreign_files import read_text
from reasondistill.grading import find_policy
from reasondistill.launch.launcher import launcher_of
from reasondistill.models.folders import require_sound_weights, require_tokenizer
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import identity_of
from reasondistill.models.samplers.stored.sampler import check_first_rows
from reasondistill.models.templates import check_prompt
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.weights import (
    hub_commit,
    model_folder,
    model_identity,
    named_folder,
    tokenizer_identity,
)
from reasondistill.pipeline import (
    Run,
    benchmarks,
    eval_models,
    located,
    served_teachers,
    teacher_of,
)
from reasondistill.pipeline.measured import baselines, step_benchmarks
from reasondistill.records import VARIANT
from reasondistill.runs.store import read_manifest
from reasondistill.sections import short
from reasondistill.stages import problems, students, verdicts

log = logging.getLogger(__name__)


def check(run: Run, *, reads_data: bool = False) -> None:
    """Make every check that needs no weights, before a GPU starts.

    `reads_data` also reads the first row of each source that needs no network. Raises ConfigError,
    DataError, StageError or MissingDependencyError.
    """
    for one in all_checks():
        if reads_data or not one.reads_data:
            one.examine(run)


@run_check()
def prompts(run: Run) -> None:
    """Every named prompt can be read."""
    written, settings = run.pipeline.traces, run.pipeline.evals
    named = [run.pipeline.student_prompt, settings.prompt, *settings.prompts]
    if written is not None:
        named.insert(0, written.prompt)
    for model in eval_models(run).values():
        named.append(model.prompt)
        if model.sampling is not None:
            named.append(model.sampling.prompt)
    named += [benchmark.prompt for benchmark in benchmarks(run)]
    for prompt in named:
        if prompt:
            load_prompt(prompt)


@run_check()
def variants(run: Run) -> None:
    """Further prompts have distinct names; finished students have the snapshots that are
    measured.
    """
    for prompt in run.pipeline.evals.prompts:
        if VARIANT in load_prompt(prompt).name:
            raise ConfigError(
                f"[evals] prompts: {prompt!r} has an @ in its name, which marks variants of "
                "a model; rename the file."
            )
    step_benchmarks(run)
    if run.pipeline.evals.checkpoints.count:
        for student in run.pipeline.all_students():
            done = read_manifest(run.stage("students") / student.name)
            if done is not None and done.status == "complete":
                students.snapshots(run.stage("students") / student.name)


@run_check()
def names(run: Run) -> None:
    """Students and teachers have different names, because they share one table and one folder."""
    taken = [student.name for student in run.pipeline.all_students()]
    teachers = [
        teacher for teacher in run.pipeline.teachers if teacher.capabilities.answers_anything
    ]
    measured: list[str] = []
    if run.pipeline.evals.teacher:
        measured = list(served_teachers(run))
    if measured and len(measured) < len(teachers):
        raise ConfigError("[traces.teachers] two teachers have the same name; give each a `name`.")
    taken += measured
    taken += [model.name for model in run.pipeline.evals.models]
    twice = [name for name in taken if taken.count(name) > 1 or name == "problems"]
    if twice:
        raise ConfigError(
            f"the name {twice[0]!r} is taken (by a student, a teacher, another model, or a "
            "folder of the run); choose another."
        )


@run_check()
def compared_with(run: Run) -> None:
    """The named baselines exist."""
    baselines(run)


@run_check()
def grading_policy(run: Run) -> None:
    """The grading policy exists."""
    find_policy(run.pipeline.verdicts.policy)


@run_check()
def models(run: Run) -> None:
    """Teachers and measured models are at the named path or on the hub."""
    for model in (*run.pipeline.teachers, *run.pipeline.evals.models):
        identity_of(located(model))


@run_check()
def whole_models(run: Run) -> None:
    """Folders of models are whole: the weights that their headers and index name, and a tokenizer.

    They are looked at again when they are loaded; here it costs nothing yet.
    """
    for name in dict.fromkeys(model_names(run)):
        folder = named_folder(name)
        if folder.is_dir() and model_folder(name) is not None:
            require_sound_weights(folder)
            require_tokenizer(folder)


def model_names(run: Run) -> Iterator[str]:
    """The models that this run loads: teachers, a judge, models that are measured, bases, whom
    students learn from.
    """
    written, judge = run.pipeline.traces, run.pipeline.verdicts.judge
    served: list[ModelSettings] = [*run.pipeline.teachers, *run.pipeline.evals.models]
    if judge is not None:
        served.append(judge)
    for model in map(located, served):
        if model.capabilities.has_weights:
            yield model.model
    if written is not None and written.logprobs_model is not None:
        yield written.logprobs_model
    for student in run.pipeline.all_students():
        if student.starts_from is None and student.base is not None:
            yield student.base
        if student.distils() and student.teacher is not None:
            yield student.teacher


@run_check()
def judge(run: Run) -> None:
    """The judge's prompt, model folder or script exist."""
    settings = run.pipeline.verdicts.judge
    if settings is None:
        return
    verdicts.load_judge_prompt(settings.prompt)
    identity_of(located(settings))
    if settings.capabilities.reads_file and not Path(settings.model).is_file():
        raise ConfigError(f"[verdicts.judge] model = {settings.model!r}: no such script file.")


@run_check()
def model_of_log_probabilities(run: Run) -> None:
    """The model that scores other models' traces exists."""
    written = run.pipeline.traces
    if written is not None and written.logprobs_model is not None:
        model_identity(written.logprobs_model)


@run_check()
def filters(run: Run) -> None:
    """Every table of `[examples.filters]` belongs to a filter and fits its settings; the tokenizers
    that they name exist.
    """
    active_filters(run.pipeline.examples)
    for tokenizer in tokenizers_of(run.pipeline.examples):
        tokenizer_identity(tokenizer.name, tokenizer.revision)


@run_check()
def training_processes(run: Run) -> None:
    """Batch sizes and strategy fit the processes that share a training."""
    nodes = launcher_of(run).resources("students").nodes
    processes = run.cluster.train.processes * nodes
    for student in run.pipeline.all_students():
        students.check_strategy(student, run.cluster.train, processes)


@run_check()
def student_settings(run: Run) -> None:
    """Each student's settings fit together, and a student that distils has a teacher."""
    for student in run.pipeline.students:
        students.check_settings(student)
        if student.distils():
            _find_what_it_learns_from(run, student)


def _find_what_it_learns_from(run: Run, student: StudentSettings) -> None:
    stored_tokens = student.method_settings().stored_tokens
    if stored_tokens is not None:
        written = run.pipeline.traces
        if written is None or (written.logprobs or 0) < stored_tokens:
            raise ConfigError(
                f"[students] {student.name} method = {student.method!r} learns from stored "
                "log-probabilities: "
                f"set [traces] logprobs = {stored_tokens}."
            )
    else:
        teacher = teacher_of(run, student)
        if teacher is None:
            raise students.no_teacher(student)
        model_identity(teacher.model, teacher.revision)


@run_check()
def templates(run: Run) -> None:
    """A question comes whole through the chat templates of teachers and students, and a trace
    through a student's with one block of reasoning.

    Of models whose tokenizer is not here, and which no hub answers for, nothing can be said.
    """
    if importlib.util.find_spec("transformers") is None:
        return
    written = run.pipeline.traces
    if written is not None and not is_complete(run.stage("traces")):
        prompt = load_prompt(written.prompt).prompt
        for teacher in map(located, written.teachers):
            is_here = teacher.capabilities.has_weights and is_at_hand(
                teacher.model, teacher.revision
            )
            if is_here and not prompt.plain:
                tokenizer = loaded_tokenizer(teacher.model, partial(tokenizer_of, teacher))
                if tokenizer is None:
                    continue
                whose = f"[traces] teacher {teacher.model}"
                check_prompt(tokenizer, prompt, whose, options=teacher.template_options)
    if written is not None:
        _check_students_templates(run, written)


def _check_students_templates(run: Run, written: TraceSettings) -> None:
    prompt = load_prompt(run.pipeline.student_prompt).prompt
    seen: set[tuple[str, bool]] = set()
    for student in run.pipeline.all_students():
        thinks = student.method not in ("base", "answer_only") and may_think(written)
        start = with_its_tokenizer(run, student)
        known = (start.start(), thinks)
        if known in seen or is_complete(run.stage("students") / student.name):
            continue
        seen.add(known)
        source = start.base
        if start.architecture is not None:
            source = start.architecture.tokenizer
        is_trained = start.architecture is not None and source == "train"
        if is_trained or source is None or not is_at_hand(source, start.revision):
            continue
        from reasondistill.stages.students.bases import load_tokenizer

        tokenizer = loaded_tokenizer(source, partial(load_tokenizer, start, []))
        if tokenizer is None:
            continue
        whose = f"[students] {student.name} base = {source!r}"
        students.check_rendering(tokenizer, prompt, whose, thinks=thinks)


def is_complete(folder: Path) -> bool:
    """Whether a stage, or a student, is finished: nothing is paid for it again."""
    done = read_manifest(folder)
    return done is not None and done.status == "complete"


def may_think(written: TraceSettings) -> bool:
    """Whether a teacher may write reasoning, as far as the file says."""
    for teacher in written.teachers:
        is_told_not_to = teacher.template_options.get("enable_thinking") is False
        writes = not teacher.capabilities.reads_solutions
        if writes and teacher.reasoning != "none" and not is_told_not_to:
            return True
    return False


def is_at_hand(model: str, revision: str | None) -> bool:
    """Whether a tokenizer lies here or the hub answers for it."""
    return named_folder(model).is_dir() or hub_commit(model, revision) is not None


def loaded_tokenizer(name: str, load: Callable[[], Any]) -> Any:
    """What `load` loads; None, and a word in the log, for a hub id whose files do not come here.
    Raises ConfigError for a folder without a tokenizer that can be read.
    """
    try:
        return load()
    except (OSError, ValueError) as error:
        if named_folder(name).is_dir():
            fault = f"model {name}: its tokenizer cannot be loaded: {error}"
            raise ConfigError(fault) from error
        log.info("%s: its chat template is not looked at: %s", name, error)
        return None


def tokenizer_of(model: ModelSettings) -> Any:
    """The tokenizer of a model's folder or hub id."""
    source = named_folder(model.model)
    name = model.model
    if source.is_dir():
        name = str(source)
    return open_tokenizer(name, revision=model.revision, trust_remote_code=model.trust_remote_code)


def with_its_tokenizer(run: Run, student: StudentSettings) -> StudentSettings:
    """The student with what its tokenizer comes from, where it starts from another student."""
    by_name = {other.name: other for other in run.pipeline.all_students()}
    start = student
    while start.starts_from is not None:
        parent = by_name[start.starts_from]
        start = start.model_copy(
            update={
                "base": parent.base,
                "revision": parent.revision,
                "architecture": parent.architecture,
                "chat_template": start.chat_template or parent.chat_template,
                "template_options": parent.template_options | start.template_options,
            }
        )
    return start


@run_check()
def packages(run: Run) -> None:
    """The packages of each stage are installed, where it runs in this environment and not in one of
    the cluster file.
    """
    for needed in needed_packages(run):
        is_here = run.cluster.environment(needed.stage) == EnvironmentSettings()
        if is_here and importlib.util.find_spec(needed.package) is None:
            raise MissingDependencyError(needed.package, needed.extra)


TRACKER_EXTRAS = {"tensorboard": "tracking", "wandb": "wandb"}


class NeededPackage(NamedTuple):
    """A package that a stage imports, and the extra that installs it."""

    stage: str
    package: str
    extra: str


def needed_packages(run: Run) -> Iterator[NeededPackage]:
    written, settings, judge = run.pipeline.traces, run.pipeline.evals, run.pipeline.verdicts.judge
    default = capabilities_of(DEFAULT_SAMPLER)
    samplers = [("traces", teacher.capabilities) for teacher in run.pipeline.teachers]
    samplers += [("evals", model.capabilities) for model in settings.models]
    if judge is not None:
        samplers.append(("verdicts", judge.capabilities))
    if written is not None and written.logprobs_model is not None:
        samplers.append(("traces", default))
    if run.pipeline.students and settings.benchmarks:
        samplers.append(("evals", default))
    for stage, sampler in samplers:
        if sampler.package:
            yield NeededPackage(stage, sampler.package, sampler.extra)
    for student in run.pipeline.students:
        if student.method != "base":
            yield NeededPackage("students", "trl", "train")
        for tracker in student.report_to:
            yield NeededPackage("students", tracker, TRACKER_EXTRAS[tracker])


# What a file of wandb's beside the pipeline file may say.
_HARMLESS_TRACKING = {"entity", "project", "mode"}


@run_check()
def tracking(run: Run) -> None:
    """Where wandb is used, its settings in the working directory name no server and no proxy: the
    key would go there.
    """
    if not any("wandb" in student.report_to for student in run.pipeline.students):
        return
    for place in (Path("wandb", "settings"), Path(".wandb", "settings")):
        if not place.exists():
            continue
        settings = configparser.ConfigParser(interpolation=None)
        try:
            settings.read_string(read_text(place))
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{place}: not settings of wandb: {error}") from None
        sections = [settings.defaults(), *(settings[name] for name in settings.sections())]
        keys = {key for section in sections for key in section}
        if keys - _HARMLESS_TRACKING:
            others = short(", ".join(sorted(keys - _HARMLESS_TRACKING)))
            raise ConfigError(
                f'{place}: report_to = ["wandb"], and wandb would take {others} from this file of '
                "the working directory, with your key. Set it by its environment variable "
                "(WANDB_BASE_URL) or in ~/.config/wandb/settings, and remove the file."
            )


@run_check(reads_data=True)
def sources(run: Run) -> None:
    """The first row of each source that needs no network becomes a problem; the filters of all can
    be read; files of questions that training must not hold have some.
    """
    named: list[ProblemSource] = []
    if run.pipeline.problems is not None:
        named += run.pipeline.problems.parts
    named += [benchmark.problems for benchmark in benchmarks(run)]
    base = run.source.parent
    for source in named:
        for field, rule in source.filter.items():
            with naming(source.name):
                compiled(field, rule)
        path = find_path(source.dataset, base)
        is_here = source.source != "hub" or (path is not None and path.is_dir())
        if is_here:
            next(problems.read_problems(source, base=base), None)
    settings = run.pipeline.problems
    if settings is not None and settings.decontaminate is not None:
        for name in settings.decontaminate.files:
            next(problems.held_out_of_file(settings.decontaminate, name, base), None)


@run_check(reads_data=True)
def published_traces(run: Run) -> None:
    """The first rows of each data set of published traces that lies here are of a known shape, or
    have the named fields; its texts are texts.
    """
    for teacher in map(located, run.pipeline.teachers):
        if teacher.capabilities.reads_dataset and Path(teacher.model).exists():
            check_first_rows(teacher)
