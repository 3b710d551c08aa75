"""What becomes of each key of a pipeline or cluster file, and whether a run of somebody else shows
it before it is gone on with.

    decision_of(ResourceSettings, "options").is_shown(("--export=ALL",), None)     # True

Numbers and words of a fixed list (Literal) can do nothing and stand in no table. A key without a
decision is shown, and a test fails for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from reasondistill.config import Cluster, EnvironmentSettings, Pipeline, ResourceSettings
from reasondistill.config.cluster import (
    OpenAISettings,
    RaySettings,
    SlurmSettings,
    TrainSettings,
    VllmSettings,
)
from reasondistill.config.pipeline import (
    CheckpointSettings,
    EvalModel,
    EvalSettings,
    ReportSettings,
)
from reasondistill.config.rounds import RoundSettings
from reasondistill.config.sampling import (
    AlsoSampled,
    JudgeSettings,
    ModelSettings,
    SampledModel,
    SamplingSettings,
    TraceSettings,
    VerdictSettings,
)
from reasondistill.config.sources import (
    Benchmark,
    Conditions,
    DecontaminateSettings,
    Erratum,
    FieldRule,
    MixedSource,
    ProblemMixture,
    ProblemSource,
    UngradedAnswers,
)
from reasondistill.config.stored import StoredSettings
from reasondistill.config.students import (
    ArchitectureSettings,
    ExampleSettings,
    LoraSettings,
    MixtureSettings,
    ScoreSettings,
    StudentExamples,
    StudentSettings,
)
from reasondistill.config.words import SchedulerValue
from reasondistill.methods.settings import MethodSettings
from reasondistill.sections import Section, sections_in

# A value, and the folder that its relative paths are also tried in.
IsShown = Callable[[Any, Path | None], bool]


@dataclass(frozen=True)
class Decision:
    """Where the value of a key ends up, and of which values a stranger's run needs a word."""

    place: str
    is_shown: IsShown


def _harmless(place: str) -> Decision:
    return Decision(place, lambda value, base: False)


def _shown(place: str) -> Decision:
    return Decision(place, lambda value, base: True)


def _shown_where(place: str, is_shown: Callable[[Any], bool]) -> Decision:
    return Decision(place, lambda value, base: is_shown(value))


def _formed(place: str, form: Any) -> Decision:
    """Harmless in the form that the file's reader asks for."""
    adapter: TypeAdapter[Any] = TypeAdapter(form)

    def is_shown(value: Any, base: Path | None) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return True
        return False

    return Decision(place, is_shown)


def is_outside(text: str, base: Path | None = None) -> bool:
    """Whether a name means a file or folder that lies outside of the working directory, or is
    hidden in it; False for the id of a model, a dataset or a prompt.
    """
    if text.startswith("~") or "://" in text:
        return True
    here = Path.cwd().resolve()
    places = [Path(text)]
    if base is not None and not Path(text).is_absolute():
        places.append(base / text)
    try:
        found = [place for place in places if place.exists()]
        # The file itself counts, not a link to it.
        real = (found or places)[0].resolve()
    except (OSError, ValueError):
        return True
    if not real.is_relative_to(here):
        return True
    return any(part.startswith(".") for part in real.relative_to(here).parts)


def _any_outside(value: Any, base: Path | None) -> bool:
    if isinstance(value, str):
        return is_outside(value, base)
    return any(is_outside(str(text), base) for text in value)


def _read(place: str) -> Decision:
    """A file that is read: shown where it lies elsewhere."""
    return Decision(f"{place}, read", lambda value, base: _any_outside(value, None))


def _tokenizers_in(tables: Any) -> list[str]:
    """The tokenizers that tables of filters name."""
    return [str(table["tokenizer"]) for table in tables.values() if "tokenizer" in table]


_DECISIONS: Mapping[type[Section], Mapping[str, Decision]] = {
    # ---- the cluster file ------------------------------------------------------------------------
    Cluster: {
        "kind": _harmless("one of our launchers, else refused"),
        "about": _harmless("shown to people"),
        "storage": _shown("a server that gets the run's files"),
        "launcher": _shown("a launcher of one's own"),
    },
    ResourceSettings: {
        "memory": _harmless("#SBATCH --mem; digits and a unit"),
        "time": _harmless("#SBATCH --time; digits, - and :"),
        "partition": _formed("#SBATCH --partition", SchedulerValue),
        "account": _formed("#SBATCH --account", SchedulerValue),
        "qos": _formed("#SBATCH --qos", SchedulerValue),
        "constraint": _formed("#SBATCH --constraint", SchedulerValue),
        "options": _shown("#SBATCH lines: --export and --output do anything"),
        "environment": _harmless("the name of a table of [environments]"),
    },
    EnvironmentSettings: {
        "modules": _shown("module load"),
        "setup": _shown("lines of a shell"),
        "variables": _shown("exported by a shell"),
        "container": _shown("words of a shell before the command"),
        "python": _shown("the program that is started"),
    },
    VllmSettings: {"enforce_eager": _harmless("yes or no")},
    OpenAISettings: {
        "base_url": _shown("a server that gets prompts and the key"),
        "api_key_env": _shown("the variable whose value the server gets"),
        "redirects": _shown("servers that get prompts and the key"),
    },
    TrainSettings: {
        "gradient_checkpointing": _harmless("yes or no"),
        "rollouts_url": _shown("a server that gets prompts and weights"),
        "strategy": _shown_where(
            "the name of a strategy, or a file of accelerate's", lambda value: _is_path(str(value))
        ),
    },
    SlurmSettings: {"requeue": _harmless("yes or no")},
    RaySettings: {
        "address": _shown_where("a cluster that does the tasks", lambda value: value != "auto")
    },
    # ---- the pipeline file -----------------------------------------------------------------------
    Pipeline: {
        "name": _harmless("letters, digits and . _ -"),
        "about": _harmless("shown to people"),
    },
    ProblemSource: {
        "dataset": Decision("a file that is read, or a hub's dataset", _any_outside),
        "name": _harmless("letters, digits and . _ -"),
        **dict.fromkeys(("config", "split", "revision"), _harmless("asked of the hub")),
        **dict.fromkeys(
            (
                *("question", "answer", "solution", "id", "subject", "level"),
                *("choices", "choice_labels"),
            ),
            _harmless("fields of a row"),
        ),
        "answer_after": _harmless("looked for in a row"),
        "shuffle": _harmless("yes or no"),
        "options": _harmless("numbers and words for reasoning-gym"),
        "trust_remote_code": _shown("runs the dataset's code"),
    },
    MixedSource: {"tag": _harmless("letters, digits and . _ -")},
    ProblemMixture: {"shuffle": _harmless("yes or no")},
    Conditions: {
        **dict.fromkeys(("in", "one_of"), _harmless("compared with fields of a row")),
        "regex": _harmless("looked for in a row, in linear time"),
        "null": _harmless("yes or no"),
    },
    FieldRule: dict.fromkeys(("not", "none_of"), _harmless("compared with fields of a row")),
    DecontaminateSettings: {
        "files": Decision("files that are read", _any_outside),
        "question": _harmless("a field of a row"),
    },
    SamplingSettings: {
        "settings": _harmless("one of our own names"),
        "stop": _harmless("texts that end a sample"),
    },
    ModelSettings: {
        "model": _read("a folder or file, or a hub's id"),
        "revision": _harmless("asked of the hub"),
        "base": _read("a folder, or a hub's id"),
        "sampler": _shown_where("a module that is imported", lambda value: ":" in str(value)),
        "template_options": _harmless("variables of a chat template"),
        "request": _shown("fields of each request: tools and servers that the server is to call"),
        "omit": _harmless("fields of requests that are left out"),
        "trust_remote_code": _shown("runs the model's code"),
    },
    StoredSettings: {
        **dict.fromkeys(("config", "split"), _harmless("asked of the hub")),
        **dict.fromkeys(
            ("text", "thinking", "question", "turn", "teacher_field"), _harmless("fields of a row")
        ),
        "teacher": _harmless("shown to people"),
    },
    AlsoSampled: {"name": _harmless("letters, digits and . _ -"), "prompt": _read("a prompt")},
    SampledModel: {
        "name": _harmless("letters, digits and . _ -"),
        "tags": _harmless("compared with tags of problems"),
    },
    TraceSettings: {
        "prompt": _read("a prompt"),
        "logprobs_model": _read("a folder or a hub's id"),
        **dict.fromkeys(("continue", "goes_on"), _harmless("yes or no")),
    },
    VerdictSettings: {"policy": _harmless("one of our own names")},
    JudgeSettings: {"prompt": _read("a prompt")},
    ExampleSettings: {
        "require_think": _harmless("yes or no"),
        "require_boxed": _harmless("yes or no"),
        "cut_thinking": _harmless("yes or no"),
        "filters": Decision(
            "settings of our own filters; a tokenizer, a folder or a hub's id, is read",
            lambda value, base: _any_outside(_tokenizers_in(value), None),
        ),
        "prompt": _read("a prompt"),
    },
    StudentExamples: dict.fromkeys(
        ("sources", "tags", "teachers"), _harmless("compared with records of the run")
    ),
    MixtureSettings: {"weights": _harmless("names of groups and numbers")},
    ScoreSettings: {
        "model": _read("a folder or a hub's id"),
        "revision": _harmless("asked of the hub"),
        "trust_remote_code": _shown("runs the model's code"),
        "with_question": _harmless("yes or no"),
    },
    ArchitectureSettings: {
        "tie_word_embeddings": _harmless("yes or no"),
        "tokenizer": _read("a folder or a hub's id"),
    },
    LoraSettings: {
        "targets": _harmless("names of layers"),
        "use_dora": _harmless("yes or no"),
        "use_rslora": _harmless("yes or no"),
    },
    StudentSettings: {
        "name": _harmless("letters, digits and . _ -"),
        "method": _harmless("one of our own names"),
        "teacher": _read("a folder or a hub's id"),
        "teacher_revision": _harmless("asked of the hub"),
        "teacher_trust_remote_code": _shown("runs the teacher's code"),
        "base": _read("a folder or a hub's id"),
        "revision": _harmless("asked of the hub"),
        "trust_remote_code": _shown("runs the base's code"),
        "packing": _harmless("yes or no"),
        "bf16": _harmless("yes or no"),
        "eos_token": _harmless("a token of the tokenizer"),
        "chat_template": _read("a template, which is rendered within bounds"),
        "template_options": _harmless("variables of a chat template"),
        "report_to": _shown_where(
            "wandb gets settings and figures, with its key", lambda value: "wandb" in value
        ),
    },
    MethodSettings: {
        "divergence": _harmless("one of our own names"),
        "length_normalised": _harmless("yes or no"),
        "reverse": _harmless("yes or no"),
    },
    EvalModel: {"name": _harmless("letters, digits and . _ -"), "prompt": _read("a prompt")},
    EvalSettings: {
        "benchmarks": _read("files of benchmarks"),
        "prompt": _read("a prompt"),
        "prompts": _read("prompts"),
        **dict.fromkeys(("continue", "goes_on"), _harmless("yes or no")),
        "teacher": _harmless("yes or no"),
        "against": _harmless("names of models"),
        "difficulty": _harmless("the name of a model"),
    },
    CheckpointSettings: {"benchmarks": _read("files of benchmarks")},
    RoundSettings: {
        "student": _harmless("the name of a student"),
        "keep_teacher": _harmless("yes or no"),
        "sampler": _shown_where("a module that is imported", lambda value: ":" in str(value)),
    },
    ReportSettings: {
        "title": _harmless("shown to people"),
        "published": _harmless("yes or no"),
    },
    # ---- a benchmark that a pipeline file names --------------------------------------------------
    Benchmark: {
        **dict.fromkeys(("name", "about", "licence", "paper", "url"), _harmless("shown to people")),
        "prompt": _harmless("letters, digits and . _ -"),
        "content": _harmless("compared with the rows"),
    },
    UngradedAnswers: {
        "answer": _harmless("a pattern, matched in linear time"),
        "reason": _harmless("shown to people"),
    },
    Erratum: {
        **dict.fromkeys(("id", "question_starts"), _harmless("compared with the rows")),
        "answer": _harmless("a gold answer"),
        "drop": _harmless("yes or no"),
        **dict.fromkeys(("reason", "source"), _harmless("shown to people")),
    },
}
_UNDECIDED = _shown("nobody has said where")
_SAFE_BY_FORM = _harmless("a number, or a word of a fixed list")


def _is_path(text: str) -> bool:
    return "/" in text or "." in text


def decision_of(kind: type[Section], key: str) -> Decision:
    """What was decided of a key of a section, or of the one that it stands for."""
    for parent in kind.__mro__:
        decision = _DECISIONS.get(parent, {}).get(key)
        if decision is not None:
            return decision
    field = kind.model_fields.get(key)
    if field is not None and _is_safe(field.annotation):
        return _SAFE_BY_FORM
    return _UNDECIDED


def is_decided(kind: type[Section], key: str) -> bool:
    """Whether anybody has thought about a key."""
    return decision_of(kind, key) is not _UNDECIDED


def _is_safe(annotation: Any) -> bool:
    """Whether a type holds numbers and words of a fixed list alone."""
    if annotation in (int, float, NoneType, Ellipsis):
        return True
    if get_origin(annotation) is Literal:
        return True
    inner = get_args(annotation)
    if getattr(annotation, "__metadata__", None):
        inner = inner[:1]
    return bool(inner) and all(_is_safe(part) for part in inner)


def section_in(annotation: Any, value: object = None) -> type[Section] | None:
    """The section inside a type such as `tuple[X, ...] | None`; of several the one that has most of
    the keys of `value`, which is the one that a file with no unknown key means.
    """
    kinds = [kind for kind in sections_in(annotation) if issubclass(kind, Section)]
    keys: set[str] = set()
    if isinstance(value, Mapping):
        keys = set(cast("Mapping[str, Any]", value))

    def known(kind: type[Section]) -> int:
        fields = kind.model_fields.items()
        return len(keys & {field.alias or name for name, field in fields})

    return max(kinds, key=known, default=None)
