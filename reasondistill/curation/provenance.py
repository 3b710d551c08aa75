"""Where a student comes from and what it scores, read from the folders of its run: the content of
its card.

    made = MadeStudent.of(run.student("distilled"))
    facts = card_facts(made, stages_of(run), results=read_results(run, "distilled"))

A run that has no scores yet gives a card without scores. Paths of this machine are cut down to
their last part.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from reasondistill import foreign_json
from reasondistill.curation.card import FunnelRow
from reasondistill.curation.model_card import (
    QUESTION,
    Asked,
    Benchmarked,
    ModelCardFacts,
    ModelFile,
    Results,
    percent_of,
)
from reasondistill.durations import duration
from reasondistill.errors import DataError
from reasondistill.foreign_files import regular
from reasondistill.records import (
    VARIANT,
    Difference,
    Example,
    Message,
    Problem,
    Score,
    Student,
    TrainingFigures,
)
from reasondistill.runs import layout
from reasondistill.runs.figures import (
    ExamplesFigures,
    ProblemsFigures,
    SourceFigures,
    TracesFigures,
    read_student_record,
)
from reasondistill.runs.growth import also_writers
from reasondistill.runs.layout import RunFolder, StudentFolder
from reasondistill.runs.missing import UNTIL
from reasondistill.runs.packing import without_places
from reasondistill.runs.scores import ScoresFile, SeedGroups, read_scores
from reasondistill.runs.store import (
    Manifest,
    content_of,
    read_bytes_verified,
    read_manifest,
    read_records,
    require_complete,
)

log = logging.getLogger(__name__)

# What a student learns from, by method; the others have a teacher beside them.
_LEARNS = {
    "sft": "trained on {examples} verified solutions",
    "answer_only": "trained on the gold answers alone of {examples} problems, as a baseline",
    "unverified": "trained on {examples} solutions that nobody verified, as a baseline",
    "base": "untrained, as a baseline",
}
_DISTILS = "trained by {method} on {examples} verified solutions and a teacher's distributions"
# The settings that a reader of a card looks for, in this order.
_SETTINGS = (
    *("epochs", "max_steps", "batch_size", "learning_rate", "schedule", "warmup_ratio"),
    *("min_lr_ratio", "weight_decay", "max_grad_norm", "optimizer", "max_length", "packing"),
    *("bf16", "lora", "keep", "early_stopping_patience", "examples", "loss_mean"),
)
_FUNNEL = ("problems", "traces", "verdicts", "examples")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# The sampler of published traces.
_PUBLISHED = "stored"
# Between several teachers, each of which may be a list of writers.
_LIST = "; "
# So many of those who wrote published traces are named.
_MOST_WRITERS = 5
_OF_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")


@dataclass(frozen=True)
class MadeStudent:
    """A student, and what its stage says of its making."""

    record: Student
    section: Mapping[str, Any]
    counts: Mapping[str, int]
    dropped: Mapping[str, int]
    fingerprint: str
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, folder: StudentFolder) -> MadeStudent:
        """A finished student. Raises StageError for one that is not, DataError for damage."""
        manifest = require_complete(folder.path)
        return cls(
            read_student_record(folder.record),
            manifest.section,
            manifest.counts,
            manifest.dropped,
            manifest.fingerprint,
            manifest.environment,
        )


def stages_of(run: RunFolder) -> dict[str, Manifest]:
    """The manifests of the stages before the students, as far as they are there."""
    stages: dict[str, Manifest] = {}
    for stage in _FUNNEL:
        manifest = read_manifest(run.stage(stage))
        if manifest is not None:
            stages[stage] = manifest
    return stages


def stages_behind(run: RunFolder, student: StudentFolder) -> dict[str, Manifest]:
    """The manifests of the stages that a finished student was made from. One that is another now is
    left out, and so are those before it: the run has grown, or was made anew, and this student was
    not.
    """
    stages = stages_of(run)
    inputs: dict[str, str] = dict(require_complete(student.path).identity["inputs"])
    unverified = inputs.get("unverified")
    if unverified is not None and unverified_in(run) != unverified:
        return {}
    standing: dict[str, Manifest] = {}
    for name in reversed(_FUNNEL):
        manifest = stages.get(name)
        if manifest is None:
            continue
        if inputs.get(name, manifest.output) != manifest.output:
            break
        standing[name] = manifest
        inputs = {**manifest.identity["inputs"], **inputs}
    return {name: stages[name] for name in _FUNNEL if name in standing}


def unverified_in(run: RunFolder) -> str | None:
    """What an unverified student would learn from now."""
    if not run.unverified.exists():
        return None
    return content_of(run.stage("examples"), [layout.UNVERIFIED])


def card_facts(
    made: MadeStudent,
    stages: Mapping[str, Manifest],
    *,
    parents: Mapping[str, Student] | None = None,
    asked: Asked | None = None,
    results: Results | None = None,
    files: Sequence[ModelFile] = (),
) -> ModelCardFacts:
    """The content of a student's card. `parents` are students of the run by the identity of their
    weights: one of them may be what this one goes on from.
    """
    record = made.record
    line = [record, *students_before(record, parents or {})]
    examples = stages.get("examples")
    fingerprints = {"student": made.fingerprint, "examples": record.examples}
    fingerprints |= {name: manifest.output for name, manifest in stages.items()}
    teachers = teachers_of(stages)
    return ModelCardFacts(
        title=record.name,
        summary=summary_of(made, line, teachers),
        is_trained=record.method != "base",
        base_model=hub_id(line[-1].base),
        datasets=hub_datasets(stages),
        tags=("reasondistill", "distillation", "reasoning", record.method),
        origins=without_places(origins_of(made, line, stages, teachers)),
        settings=without_places(settings_of(made.section)),
        funnel=funnel_of(made, stages),
        data=data_of(examples),
        training=without_places(training_of(record.figures, made.environment)),
        results=results or Results(record.name),
        asked=asked,
        files=files,
        fingerprints={name: value for name, value in fingerprints.items() if value},
    )


def hub_id(identity: str) -> str | None:
    """The hub's id in `name@revision` of weights; None for a folder's, or a model from scratch."""
    name, _, revision = identity.rpartition("@")
    if _HUB_ID.fullmatch(name):
        return name
    # Ids without an owner (`gpt2`) look like folders, whose revision is shorter.
    if _COMMIT.fullmatch(revision) and re.fullmatch(r"[\w.-]+", name):
        return name
    return None


# ---- how it was made -----------------------------------------------------------------------------


def students_before(record: Student, parents: Mapping[str, Student]) -> Iterator[Student]:
    """The students that one goes on from, the first of them last."""
    seen = {record.name}
    parent = parents.get(record.base)
    while parent is not None and parent.name not in seen:
        yield parent
        seen.add(parent.name)
        parent = parents.get(parent.base)


def summary_of(made: MadeStudent, line: Sequence[Student], teachers: Sequence[str]) -> str:
    """One sentence: from what, how, by whom."""
    method = made.record.method
    learns = _LEARNS.get(method, _DISTILS)
    figures = made.record.figures
    examples = 0
    if figures is not None:
        examples = figures.examples
    said = learns.format(method=method, examples=f"{examples:,}")
    by = ""
    if teachers and method not in ("base", "answer_only"):
        by = f" by {_LIST.join(teachers)}"
    return without_places(f"{_base_words(line)}, {said}{by}. Made by reasondistill.")


def _base_words(line: Sequence[Student]) -> str:
    """`Qwen/Qwen3-0.6B-Base@c1899de, by way of warm`."""
    base = line[-1].base
    if base.startswith("scratch@"):
        base = "A model from scratch"
    ways = [student.name for student in reversed(line[1:])]
    if ways:
        return f"{base}, by way of {', '.join(ways)}"
    return base


def origins_of(
    made: MadeStudent,
    line: Sequence[Student],
    stages: Mapping[str, Manifest],
    teachers: Sequence[str],
) -> dict[str, str]:
    """What a student was made from, as names and values."""
    record = made.record
    origins = {
        "student": record.name,
        "base": _base_words(line),
        "method": record.method,
        "seed": str(record.seed),
    }
    if record.shrunk is not None:
        layers = ", ".join(map(str, record.shrunk.layers))
        origins["cut out of it"] = (
            f"{record.shrunk.parameters_before:,} → {record.shrunk.parameters:,} parameters, "
            f"layers {layers}"
        )
    problems = stages.get("problems")
    if problems is not None:
        figures = ProblemsFigures.of(problems)
        origins["problems"] = "; ".join(map(_read_from, figures.sources or [figures]))
    traces = stages.get("traces")
    if traces is not None:
        origins["teacher"] = _LIST.join(teachers)
        origins |= _drawn(traces)
    verdicts = stages.get("verdicts")
    if verdicts is not None:
        origins["graded by"] = _graded_by(verdicts)
    origins["prompt"] = str(made.section.get("prompt", ""))
    return {name: value for name, value in origins.items() if value}


def _read_from(source: ProblemsFigures | SourceFigures) -> str:
    """`openai/gsm8k, revision 0123abc, split train`."""
    named = {"revision": source.revision, "split": source.split}
    said = [f"{name} {value}" for name, value in named.items() if value]
    return ", ".join([source.dataset or "unknown", *said])


def teachers_of(stages: Mapping[str, Manifest]) -> list[str]:
    """`name@revision` of those who wrote the traces; of published ones who is said to have written
    them, and which data set has them.
    """
    traces = stages.get("traces")
    if traces is None:
        return []
    told = traces.section.get("teachers")
    if isinstance(told, list):
        return [str(name) for name in cast("list[Any]", told)]
    writers = {one.teacher: one.writers() for one in TracesFigures.of(traces).servers}
    teachers: list[str] = []
    for about in _mapping(told).values():
        model = str(_mapping(about).get("model", ""))
        if _is_published(about):
            model = f"{_writers(writers.get(model, ()))}, published in {model}"
        teachers.append(model)
    return [*teachers, *also_writers(traces)]


def _is_published(about: object) -> bool:
    """Whether a teacher of a manifest is a data set."""
    return _mapping(about).get("sampler") == _PUBLISHED


def _writers(names: Sequence[str]) -> str:
    """`deepseek-ai/DeepSeek-R1 and gemini`."""
    shown = list(names[:_MOST_WRITERS])
    if len(names) > _MOST_WRITERS:
        shown.append(f"{len(names) - _MOST_WRITERS} others")
    return " and ".join(shown) or "unknown"


def _drawn(traces: Manifest) -> dict[str, str]:
    """How the traces came to be; of published ones nobody knows."""
    drawn = _drawn_by_teachers(traces)
    for name, about in also_writers(traces).items():
        drawn[f"samples of {name}"] = _sampled(about.get("n"), _mapping(about.get("sampling")))
    return drawn


def _drawn_by_teachers(traces: Manifest) -> dict[str, str]:
    section = traces.section
    n = section.get("n")
    if are_published(traces):
        return {"teacher's samples": f"published, at most {n} each"}
    samples = _sampled(n, _mapping(section.get("sampling")))
    until = _mapping(section.get(UNTIL)).get("accepted")
    if until is not None:
        samples = f"until {until} are correct, at most {samples}"
    if any(map(_is_published, _mapping(section.get("teachers")).values())):
        samples += "; published ones as they are"
    return {"teacher's prompt": str(section.get("prompt", "")), "teacher's samples": samples}


def are_published(traces: Manifest) -> bool:
    """Whether all traces stand in data sets: the stage's prompt and sampling are not theirs."""
    told = _mapping(traces.section.get("teachers")).values()
    return bool(told) and all(map(_is_published, told))


def _graded_by(verdicts: Manifest) -> str:
    """`reasondistill-grader@7, policy default`."""
    told = {**verdicts.section, **verdicts.identity["inputs"]}
    parts = [str(told.get("grader", ""))]
    for name in ("policy", "judge", "majority"):
        if told.get(name):
            parts.append(f"{name} {told[name]}")
    return ", ".join(filter(None, parts))


def _sampled(n: object, sampling: Mapping[str, Any]) -> str:
    """`4 each, temperature 0.7, top_p 0.95, at most 2,048 tokens`."""
    parts: list[str] = []
    if n:
        parts.append(f"{n} each")
    for name in ("temperature", "top_p", "top_k"):
        value = sampling.get(name)
        if value is not None and (name, value) not in (("top_k", -1), ("top_p", 1.0)):
            parts.append(f"{name} {value:g}")
    if sampling.get("max_tokens"):
        parts.append(f"at most {sampling['max_tokens']:,} tokens")
    return ", ".join(parts)


def hub_datasets(stages: Mapping[str, Manifest]) -> list[str]:
    """The data sets of the hub that the problems and published traces are from."""
    return list(dict.fromkeys([*_problems_from(stages), *_traces_from(stages)]))


def _traces_from(stages: Mapping[str, Manifest]) -> Iterator[str]:
    traces = stages.get("traces")
    if traces is None:
        return
    for about in _mapping(traces.section.get("teachers")).values():
        dataset = None
        if _is_published(about):
            dataset = hub_id(str(_mapping(about).get("model", "")))
        if dataset is not None:
            yield dataset


def _problems_from(stages: Mapping[str, Manifest]) -> list[str]:
    problems = stages.get("problems")
    if problems is None:
        return []
    # Of several sources each stands under its name, and so do its inputs.
    sources: dict[str, object] = {"content": problems.section}
    for name, several in _mapping(problems.section.get("sources")).items():
        sources[f"{name}: content"] = several
    named: dict[str, None] = {}
    for content, source in sources.items():
        told = _mapping(source)
        dataset = str(told.get("dataset", ""))
        is_here = content in problems.identity["inputs"]  # a folder of this machine
        if told.get("source") == "hub" and not is_here and _HUB_ID.fullmatch(dataset):
            named[dataset] = None
    return list(named)


def funnel_of(made: MadeStudent, stages: Mapping[str, Manifest]) -> list[FunnelRow]:
    """What came into each stage and out of it, the training last."""
    rows: list[FunnelRow] = []
    for name, manifest in stages.items():
        counts = manifest.counts
        rows.append(FunnelRow(name, counts.get("in", 0), counts.get("out", 0), manifest.dropped))
    if made.record.method != "base":
        counts = made.counts
        row = FunnelRow("training", counts.get("in", 0), counts.get("out", 0), made.dropped)
        rows.append(row)
    return rows


def data_of(examples: Manifest | None) -> dict[str, str]:
    """The examples in numbers."""
    if examples is None:
        return {}
    figures = ExamplesFigures.of(examples)
    kept = examples.counts.get("out", 0)
    data = {"examples": f"{kept:,}"}
    for split in ("train", "validation"):
        if split in examples.counts:
            data[f"{split} examples"] = f"{examples.counts[split]:,}"
    if figures.tokens_mean:
        data["tokens of their traces"] = f"{round(figures.tokens_mean * kept):,}"
        data["tokens of a trace"] = (
            f"mean {figures.tokens_mean:,.0f}, median {figures.tokens_p50:,}, "
            f"90 % below {figures.tokens_p90:,}, longest {figures.tokens_max:,}"
        )
    if figures.problems:
        data["problems with an example"] = percent_of(figures.kept_problems, figures.problems)
    if figures.suspect_golds:
        data["golds that most samples speak against"] = f"{figures.suspect_golds:,}"
    return data


def settings_of(section: Mapping[str, Any]) -> dict[str, str]:
    """What is set, of the settings that a reader looks for, and the method's own table."""
    method = str(section.get("method", ""))
    settings: dict[str, str] = {}
    for name in (*_SETTINGS, method):
        value = section.get(name)
        if isinstance(value, Mapping):
            for key, inner in cast("Mapping[str, Any]", value).items():
                settings[f"{name}.{key}"] = _value(inner)
        elif value is not None and name != "method":
            settings[name] = _value(value)
    return settings


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def training_of(figures: TrainingFigures | None, environment: Mapping[str, Any]) -> dict[str, str]:
    """What training took and reached; what is not known is left out."""
    if figures is None:
        return {}
    training = {
        "steps": f"{figures.steps:,}",
        "epochs": f"{figures.epochs:g}",
        "examples": f"{figures.examples:,}",
        "tokens": f"{figures.tokens:,}",
        "tokens in the loss": f"{figures.loss_tokens:,}",
        "time": duration(figures.seconds),
        "parameters": f"{figures.parameters:,}",
        "trained parameters": f"{figures.trained_parameters:,}",
        "most memory": f"{figures.peak_memory_gib:.2f} GiB",
    }
    measured = {
        "training loss": figures.train_loss,
        "validation loss": figures.validation_loss,
        "perplexity of held-out traces": figures.perplexity,
        "KL(teacher‖student) there, nats per token": figures.teacher_kl,
    }
    for name, value in measured.items():
        if value is not None:
            training[name] = f"{value:.4g}"
    if figures.delivered_step is not None:
        training["step of these weights"] = f"{figures.delivered_step:,}"
    if figures.teacher is not None:
        training["teacher beside it"] = figures.teacher
    if figures.rollout_tokens:
        training["tokens that it wrote itself"] = f"{figures.rollout_tokens:,}"
    hardware = hardware_words(environment)
    if hardware:
        training["hardware"] = hardware
    packages = _mapping(environment.get("packages"))
    said = [f"{name} {version}" for name, version in packages.items()]
    if said:
        training["packages"] = ", ".join(said)
    return training


def hardware_words(environment: Mapping[str, Any]) -> str:
    """The GPUs of a stage, else its processor; nothing where it is not known."""
    gpus = environment.get("gpus")
    if isinstance(gpus, list | tuple) and gpus:
        return "; ".join(map(str, cast("Sequence[Any]", gpus)))
    processor = str(environment.get("processor", ""))
    cores = environment.get("cores")
    if processor and cores:
        return f"{processor}, {cores} cores"
    return processor


def _mapping(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    return {}


# ---- how it is asked -----------------------------------------------------------------------------


def read_asked(run: RunFolder, student: StudentFolder, made: MadeStudent) -> Asked | None:
    """The prompt that a student was trained with: as its folder has it, or, in one that an earlier
    version wrote, as the first example has it. None where neither says it.
    """
    needs_code = bool(made.section.get("trust_remote_code", False))
    path = student.model / layout.OWN_FACTS
    if path.is_file():
        try:
            value = foreign_json.loads(read_bytes_verified(path))
            turns = tuple(Message.model_validate(turn) for turn in value.get("messages", ()))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not what a student's stage writes: {error}.") from error
        if turns:
            return Asked(turns, bool(value.get("plain", False)), needs_code=needs_code)
    example = first_example(run)
    if example is None:
        return None
    turns = example.messages[:-1]
    problems = read_records(run.problems, Problem)
    question = next((one.question for one in problems if one.id == example.problem_id), None)
    if question is None or not turns:
        return None
    last = turns[-1].content.replace(question, QUESTION)
    return Asked((*turns[:-1], Message(role="user", content=last)), needs_code=needs_code)


def first_example(run: RunFolder) -> Example | None:
    """The first example of a run; None where there are none, or no problems beside them."""
    if not run.examples.is_file() or not run.problems.is_file():
        return None
    return next(islice(read_records(run.examples, Example), 1), None)


def weights_in(folder: Path) -> list[ModelFile]:
    """The files of weights in a folder, read whole for their digests."""
    files: list[ModelFile] = []
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb", opener=regular) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(ModelFile(path.name, path.stat().st_size, digest))
    return files


# ---- scores --------------------------------------------------------------------------------------


def read_results(run: RunFolder, name: str, weights: str | None = None) -> Results:
    """The scores of a student and of all that it is compared with; those of students that differ in
    their seed alone together too. Empty where nothing was measured, or what was measured is not
    what the run holds now: a student that was trained anew has the name of the one before it.
    """
    summary = read_scores(run.evals.scores)
    if all(score.model != name for score in summary.scores):
        return Results(name)
    if not is_measured(run, summary, name, weights):
        log.warning(
            "%s: the scores are not of what the run holds now, so the card has none; the evals "
            "stage measures it",
            name,
        )
        return Results(name)
    groups = summary.groups or SeedGroups()
    own = {name, *(group for group, members in groups.members.items() if name in members)}
    gaps = [row for row in (*summary.differences, *groups.differences) if is_about(row, own)]
    names = own | names_beside(summary, gaps, name)
    scores = [score for score in (*summary.scores, *groups.scores) if score.model in names]
    measured = [score for score in scores if score.model == name]
    benchmarks = dict.fromkeys(score.benchmark for score in measured)
    ordered: list[Score] = []
    for benchmark in benchmarks:
        here = [score for score in scores if score.benchmark == benchmark]
        ordered += sorted(here, key=lambda score: (score.model != name, score.model not in own))
    return Results(
        model=name,
        scores=ordered,
        differences=[row for row in gaps if row.benchmark in benchmarks],
        outcomes=_joined(summary.outcomes, groups.outcomes),
        tokens=_joined(summary.tokens, groups.tokens),
        benchmarks={one: benchmarked(run, summary, one, name) for one in benchmarks},
    )


def is_measured(run: RunFolder, summary: ScoresFile, name: str, weights: str | None) -> bool:
    """Whether the scores are of the samples that the run holds now, and these of the student with
    these weights.
    """
    collected = read_manifest(run.evals.path)
    if collected is None:
        return False
    here: dict[str, str] = {}
    for cell in run.evals.cells():
        for folder in (cell.traces_folder, cell.verdicts_folder):
            manifest = read_manifest(folder)
            if manifest is not None:
                here[folder.relative_to(run.evals.path).as_posix()] = manifest.output
    for key, output in collected.identity["inputs"].items():
        if key.endswith(("/traces", "/verdicts")) and here.get(key) != output:
            return False
    benchmarks = {score.benchmark for score in summary.scores if score.model == name}
    for benchmark in benchmarks:
        manifest = read_manifest(run.benchmark(benchmark).cell(name).traces_folder)
        if manifest is None or not may_be_of(teachers_of({"traces": manifest}), weights):
            return False
    return True


def may_be_of(models: Sequence[str], weights: str | None) -> bool:
    """Whether samples of these models may be of these weights: what was served under another name
    does not tell.
    """
    if weights is None:
        return True
    name, _, revision = weights.rpartition("@")
    told = [model.rpartition("@") for model in models]
    return all(other != name or found == revision for other, _, found in told)


def is_about(row: Difference, own: set[str]) -> bool:
    """Whether a comparison is of one of these models, under its own prompt and at its end."""
    is_own = row.model in own or row.baseline in own
    return is_own and VARIANT not in f"{row.model}{row.baseline}"


def names_beside(summary: ScoresFile, gaps: Sequence[Difference], name: str) -> set[str]:
    """Who stands beside a student: whom it is compared with, its base, the teachers."""
    beside = {row.baseline for row in gaps} | {row.model for row in gaps}
    for model in summary.models:
        if model.is_teacher:
            beside.add(model.name)
        if model.name == name and model.base is not None:
            beside.add(model.base)
    return beside


def _joined(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    joined = {benchmark: dict(values) for benchmark, values in first.items()}
    for benchmark, values in second.items():
        joined.setdefault(benchmark, {}).update(values)
    return joined


def benchmarked(run: RunFolder, summary: ScoresFile, benchmark: str, name: str) -> Benchmarked:
    """What a benchmark is, and how this student was asked and graded there."""
    folder = run.benchmark(benchmark)
    figures = ProblemsFigures()
    problems = read_manifest(folder.problems_folder)
    if problems is not None:
        figures = ProblemsFigures.of(problems)
    cell = folder.cell(name)
    asked: list[str] = []
    traces = read_manifest(cell.traces_folder)
    if traces is not None:
        section = traces.section
        sampled = _sampled(section.get("n"), _mapping(section.get("sampling")))
        asked += [f"prompt {section.get('prompt', 'unknown')}", sampled]
    verdicts = read_manifest(cell.verdicts_folder)
    if verdicts is not None:
        asked.append(f"graded by {_graded_by(verdicts)}")
    suspect = ""
    overlap = summary.overlap.get(benchmark)
    if overlap is not None:
        part = percent_of(overlap.suspect, overlap.of)
        suspect = f"{part} problems share {overlap.n_gram} words with a training question"
    dataset = without_places(figures.dataset)
    return Benchmarked(
        name=benchmark,
        dataset=dataset or benchmark,
        split=figures.split,
        revision=figures.revision,
        asked=", ".join(asked),
        suspect=suspect,
    )


def sampling_of(run: RunFolder, results: Results) -> dict[str, float]:
    """How a student was sampled where it was first measured; else how its teacher was, as far as
    that is known.
    """
    folders = [run.benchmark(name).cell(results.model).traces_folder for name in results.benchmarks]
    for folder in (*folders, run.stage("traces")):
        manifest = read_manifest(folder)
        if manifest is not None and not are_published(manifest):
            sampling = _mapping(manifest.section.get("sampling"))
            return {name: sampling[name] for name in _OF_SAMPLING if name in sampling}
    return {}
