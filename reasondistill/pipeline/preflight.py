"""What is looked at of a whole run before it starts: prompts, benchmarks, models, names, packages,
sources, and whether its folder was made from other settings.
"""

from __future__ import annotations

import configparser
import importlib.util
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from reasondistill.checks import Advice, Fault, check
from reasondistill.config import (
    DEFAULT_SAMPLER,
    EnvironmentSettings,
    ModelSettings,
    ProblemSource,
    StudentSettings,
    capabilities_of,
)
from reasondistill.curation.filter_rules import compiled
from reasondistill.curation.filters import active_filters
from reasondistill.curation.filters.lengths import tokenizers_of
from reasondistill.curation.golds import REMEDIES
from reasondistill.curation.rows import find_path
from reasondistill.curation.sources import naming
from reasondistill.errors import ConfigError, DataError, MissingDependencyError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.grading import find_policy
from reasondistill.models.adapters import config_source
from reasondistill.models.folders import require_sound_weights, require_tokenizer
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import identity_of
from reasondistill.models.samplers.stored.sampler import check_first_rows
from reasondistill.models.topk import bytes_of_token
from reasondistill.models.weights import (
    model_folder,
    model_identity,
    named_folder,
    tokenizer_identity,
)
from reasondistill.pipeline.foreseeing import foresee_run, is_complete
from reasondistill.pipeline.measured import (
    baselines,
    eval_models,
    scoring_model,
    served_teachers,
    step_benchmarks,
    teacher_of,
)
from reasondistill.pipeline.runs import Run, benchmarks, located
from reasondistill.records import VARIANT, Problem, SetAside
from reasondistill.runs.metrics import WorkLine
from reasondistill.runs.store import read_manifest
from reasondistill.runs.work_sharing import worker_folders
from reasondistill.sections import short
from reasondistill.stages import problems, students, verdicts

# So many rows of a source are looked at where one after the other is set aside.
_FIRST_ROWS = 100


@check(Run, "prompts", cost="files", remedy="reasondistill list prompts")
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


@check(Run, "variants", cost="files", remedy="reasondistill list benchmarks")
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


@check(Run, "names", cost="files", remedy="reasondistill run FILE --set students.0.name=another")
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


@check(Run, "against", cost="files", remedy="reasondistill run FILE --set evals.against=[]")
def compared_with(run: Run) -> None:
    """The named baselines exist."""
    baselines(run)


@check(
    Run,
    "grading-policy",
    cost="files",
    remedy="reasondistill run FILE --set verdicts.policy=default",
)
def grading_policy(run: Run) -> None:
    """The grading policy exists."""
    find_policy(run.pipeline.verdicts.policy)


@check(Run, "models", cost="files", remedy="hf download MODEL")
def models(run: Run) -> None:
    """Teachers, measured models and the one that scores traces are at the named path or on the
    hub.
    """
    for model in (*run.pipeline.teachers, *run.pipeline.also, *run.pipeline.evals.models):
        identity_of(located(model))
    if run.pipeline.examples.scored_by is not None:
        scoring_model(run).section()


@check(Run, "whole-models", cost="files", remedy="hf download MODEL --force-download")
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
    served: list[ModelSettings] = [*run.pipeline.teachers, *run.pipeline.also]
    served += run.pipeline.evals.models
    if judge is not None:
        served.append(judge)
    for model in map(located, served):
        if model.capabilities.has_weights:
            yield config_source(model).model  # an adapter's own folder was looked at before
    if written is not None and written.logprobs_model is not None:
        yield written.logprobs_model
    scores = run.pipeline.examples.scores
    if run.pipeline.examples.scored_by is not None and scores.model is not None:
        yield scores.model
    for student in run.pipeline.all_students():
        if student.starts_from is None and student.base is not None:
            yield student.base
        if student.distils() and student.teacher is not None:
            yield student.teacher


@check(Run, "judge", cost="files", remedy="reasondistill copy judge")
def judge(run: Run) -> None:
    """The judge's prompt, model folder or script exist."""
    settings = run.pipeline.verdicts.judge
    if settings is None:
        return
    verdicts.load_judge_prompt(settings.prompt)
    identity_of(located(settings))
    if settings.capabilities.reads_file and not Path(settings.model).is_file():
        raise ConfigError(f"[verdicts.judge] model = {settings.model!r}: no such script file.")


@check(Run, "model-of-log-probs", cost="files", remedy="hf download MODEL")
def model_of_log_probabilities(run: Run) -> None:
    """The model that scores other models' traces exists."""
    written = run.pipeline.traces
    if written is not None and written.logprobs_model is not None:
        model_identity(written.logprobs_model)


@check(Run, "filters", cost="files", remedy="reasondistill list filters")
def filters(run: Run) -> None:
    """Every table of `[examples.filters]` belongs to a filter and fits its settings; the tokenizers
    that they name exist.
    """
    active_filters(run.pipeline.examples)
    for tokenizer in tokenizers_of(run.pipeline.examples):
        tokenizer_identity(tokenizer.name, tokenizer.revision)


@check(Run, "student-settings", cost="files", remedy="reasondistill schema pipeline")
def student_settings(run: Run) -> Iterator[Advice]:
    """Each student's settings fit together, and a student that distils has a teacher."""
    for student in run.pipeline.students:
        students.check_settings(student)
        if student.method == "base" and student.examples is not None:
            yield Advice(
                f"[students] {student.name}: method = 'base' is trained on nothing, so its "
                "[students.examples] has no effect."
            )
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


@check(Run, "packages", cost="files", remedy='pip install "reasondistill[vllm,train]"')
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
    writers = (*run.pipeline.teachers, *run.pipeline.also)
    samplers = [("traces", model.capabilities) for model in writers]
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
    if run.pipeline.examples.scored_by is not None:
        yield NeededPackage("examples", "transformers", "train")
    for student in run.pipeline.students:
        if student.method != "base":
            yield NeededPackage("students", "trl", "train")
        for tracker in student.report_to:
            yield NeededPackage("students", tracker, TRACKER_EXTRAS[tracker])


# What a file of wandb's beside the pipeline file may say.
_HARMLESS_TRACKING = {"entity", "project", "mode"}


@check(Run, "tracking", cost="files", remedy="rm wandb/settings")
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


@check(
    Run,
    "sources",
    cost="rows",
    remedy="reasondistill run FILE --only problems --set problems.limit=10",
)
def sources(run: Run) -> Iterator[Fault]:
    """Of the first rows of each source that needs no network one becomes a problem; the filters of
    all can be read; files of questions that training must not hold have some.
    """
    settings, base = run.pipeline.problems, run.source.parent
    asked = set(run.only or run.stages)
    named: list[tuple[ProblemSource, bool]] = []
    several = settings.parts if settings is not None and len(settings.parts) > 1 else ()
    is_made = "problems" not in asked or is_complete(run.stage("problems"))
    if settings is not None:
        named += [(part, not is_made) for part in settings.parts]
    for benchmark in benchmarks(run):
        there = is_complete(run.layout.benchmark(benchmark.name).problems_folder)
        named.append((benchmark.problems, not there and bool(asked & {"problems", "evals"})))
    for source, is_to_be_read in named:
        for field, rule in source.filter.items():
            with naming(source.name):
                compiled(field, rule)
        path = find_path(source.dataset, base)
        is_here = source.source != "hub" or (path is not None and path.is_dir())
        if is_here and is_to_be_read:
            fault = _without_problems(source, base)
            if fault is not None:
                yield replace(fault, stops=fault.stops and source not in several)
    if settings is None or settings.decontaminate is None or is_made:
        return
    for name in settings.decontaminate.files:
        next(problems.held_out_of_file(settings.decontaminate, name, base), None)


def _without_problems(source: ProblemSource, base: Path) -> Fault | None:
    """What is wrong with a source whose first rows are all set aside; a run stops where it has no
    others.
    """
    set_aside: list[SetAside] = []
    for entry in islice(problems.read_problems(source, base=base), _FIRST_ROWS):
        if isinstance(entry, Problem):
            return None
        set_aside.append(entry)
    if not set_aside:
        return None
    first, rows = set_aside[0], len(set_aside)
    reasons = Counter(one.reason for one in set_aside)
    counts = "; ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
    which = "all" if rows < _FIRST_ROWS else "the first"
    text = (
        f"{source.dataset}: {which} {rows:,} rows are set aside: {counts}. The first, {first.id}: "
        f"{first.detail or first.reason}. {REMEDIES.get(first.reason, '')}"
    )
    error = DataError(text.rstrip())
    return Fault(error, stops=rows < _FIRST_ROWS)


@check(Run, "published-traces", cost="rows", remedy="reasondistill schema pipeline")
def published_traces(run: Run) -> None:
    """The first rows of each data set of published traces that lies here are of a known shape, or
    have the named fields; its texts are texts.
    """
    for teacher in map(located, run.pipeline.teachers):
        is_here = teacher.capabilities.reads_dataset and Path(teacher.model).exists()
        is_asked = "traces" in (run.only or run.stages)
        if is_here and is_asked and not is_complete(run.stage("traces")):
            check_first_rows(teacher)


# ---- the folder ----------------------------------------------------------------------------------


@check(
    Run,
    "other-settings",
    cost="files",
    remedy="reasondistill run FILE --set name=ANOTHER",
)
def made_from_these_settings(run: Run) -> Iterator[Fault]:
    """What stands in the run's folder was made from these settings, or goes on with them, and is
    whole. Of a folder that lives at a URL only the run itself can tell, when it has fetched it.
    """
    if not run.folder.is_dir() or run.cluster.storage is not None:
        return
    try:
        foresee_run(run, run.only or run.stages)
    except DataError as error:
        yield Fault(error, f"reasondistill repair {shlex.quote(str(run.folder))}")


@check(
    Run,
    "unpinned",
    cost="files",
    remedy="reasondistill run FILE --set traces.teachers.0.revision=COMMIT",
)
def revisions_are_pinned(run: Run) -> Iterator[Advice]:
    """Models and data sets of the hub are named with their commit: another one is another run."""
    for key, name in _unpinned(run):
        remedy = f"reasondistill run FILE --set {key}.revision=COMMIT"
        if key.startswith("benchmark "):  # its file says so
            remedy = f"reasondistill copy {shlex.quote(key.removeprefix('benchmark '))} mine.toml"
        yield Advice(
            f"{key}: {name} without a revision is whatever the hub has on that day.", remedy
        )


def _unpinned(run: Run) -> Iterator[tuple[str, str]]:
    """Key and name of each data set and model of the hub without a revision."""
    pipeline = run.pipeline
    yield from _unpinned_sources(run)
    yield from _unpinned_benchmarks(run)
    served: list[tuple[str, ModelSettings]] = []
    for number, teacher in enumerate(pipeline.teachers):
        served.append((f"traces.teachers.{number}", teacher))
    for number, model in enumerate(pipeline.also):
        served.append((f"traces.also.{number}", model))
    for number, model in enumerate(pipeline.evals.models):
        served.append((f"evals.models.{number}", model))
    if pipeline.verdicts.judge is not None:
        served.append(("verdicts.judge", pipeline.verdicts.judge))
    for key, model in served:
        is_of_hub = model.capabilities.has_weights or model.capabilities.reads_dataset
        if is_of_hub and model.revision is None and _is_on_hub(model.model):
            yield key, model.model
    for number, student in enumerate(pipeline.students):
        base = student.base or ""
        is_named = bool(base) and student.starts_from is None and student.revision is None
        if is_named and _is_on_hub(base):
            yield f"students.{number}", base
    scores = pipeline.examples.scores
    is_used = pipeline.examples.scored_by is not None and scores.revision is None
    if is_used and scores.model is not None and _is_on_hub(scores.model):
        yield "examples.scores", scores.model


def _unpinned_benchmarks(run: Run) -> Iterator[tuple[str, str]]:
    """Those whose file says neither a revision of the hub's data nor the hash of their rows."""
    for benchmark in benchmarks(run):
        source = benchmark.problems
        is_pinned = source.revision is not None or benchmark.content is not None
        is_folder = find_path(source.dataset, run.source.parent) is not None
        if source.source == "hub" and not is_pinned and not is_folder:
            yield f"benchmark {benchmark.name}", source.dataset


def _unpinned_sources(run: Run) -> Iterator[tuple[str, str]]:
    settings = run.pipeline.problems
    if settings is None:
        return
    parts: Sequence[ProblemSource] = settings.parts
    for number, source in enumerate(parts):
        key = "problems"
        if len(parts) > 1:
            key = f"problems.sources.{number}"
        is_folder = find_path(source.dataset, run.source.parent) is not None
        if source.source == "hub" and source.revision is None and not is_folder:
            yield key, source.dataset


@check(Run, "topk-disk", cost="files", remedy="reasondistill run FILE --runs /larger/disk")
def disk_has_room_for_top_k(run: Run) -> Iterator[Fault | Advice]:
    """The disk has room for the top-K cache of the traces that are still to be drawn: by the mean
    length of those that stand, else (advice) if each is as long as it may be.
    """
    written, folder = run.pipeline.traces, run.stage("traces")
    asked = "traces" in (run.only or run.stages)
    if written is None or written.logprobs is None or not asked or run.cluster.storage is not None:
        return
    problems = _number_of_problems(run)
    if problems is None or is_complete(folder):
        return
    sampling = written.resolve()
    drawn, tokens = _drawn_so_far(folder)
    is_known = drawn >= _ENOUGH_TO_TELL
    mean = tokens / drawn if is_known else sampling.max_tokens
    left = max(0, problems * written.first_round - drawn)
    needed = left * mean * bytes_of_token(written.logprobs)
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed <= free:
        return
    lengths = f"the {drawn:,} that stand have {mean:,.0f} tokens each"
    if not is_known:
        lengths = f"if each has max_tokens = {sampling.max_tokens:,}"
    text = (
        f"[traces] logprobs = {written.logprobs}: the top-K cache of {left:,} samples takes "
        f"{needed / 2**30:,.1f} GiB ({lengths}), and {free / 2**30:,.1f} GiB are free at {place}. "
        "A smaller logprobs takes less in proportion."
    )
    if is_known:
        yield Fault(StageError(text))
    else:
        yield Advice(text)


# From so many samples on their mean length says something of the others.
_ENOUGH_TO_TELL = 64


def _number_of_problems(run: Run) -> int | None:
    """How many problems there are, or may be at most; None where nobody knows."""
    made = read_manifest(run.stage("problems"))
    if made is not None and made.status == "complete":
        return made.counts.get("out", 0)
    settings = run.pipeline.problems
    if settings is None:
        return None
    return settings.limit


def _drawn_so_far(folder: Path) -> tuple[int, int]:
    """Samples that stand in a folder, and their tokens, as its sessions reported them."""
    latest = {line.session: line for line in WorkLine.of(folder)}
    for part in worker_folders(folder):
        latest |= {line.session: line for line in WorkLine.of(part)}
    lines = latest.values()
    return sum(line.finished for line in lines), round(sum(line.tokens for line in lines))


def _is_on_hub(model: str) -> bool:
    """Whether a name is a hub id, and no folder or file here."""
    return not model.startswith("shipped:") and not named_folder(model).exists()
