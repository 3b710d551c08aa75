"""Variants of one pipeline file, which differ in what was varied and in nothing else: `ablate`.

    asked = variants_of(path, ["examples.k=1,4", "students.0.method=sft,kd"], count=3)
    asked.student                       # the student that is compared: "distilled"
    [variant.name for variant in asked.variants]
    # ["k-1_method-sft", "k-1_method-kd", "k-4_method-sft", "k-4_method-kd"]

Every combination of the values is a variant, the first values of all keys come first. A variant is
a pipeline file of its own. It holds the student that is compared, once for each seed, and those
that it goes on from; nothing else of the file is trained or measured.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from reasondistill.config.loading import load_pipeline
from reasondistill.config.pipeline import Pipeline, seed_name
from reasondistill.config.students import CONTROLS, StudentSettings
from reasondistill.errors import ConfigError
from reasondistill.methods.settings import CommonSettings, RolloutSettings
from reasondistill.secrets import cleaned
from reasondistill.sections import VARY, is_place, nearest, override_value, short

# From the seeds of a value to those of the same value again, however many seeds there are.
_SEEDS_APART = 1_000
# More variants than this are a slip of the pen.
_MOST_VARIANTS = 64
# Of a value, in the name of a folder.
_LONGEST_WORD = 24
_LONGEST_NAME = 100
# Keys that cannot be varied, as patterns, and why.
_FIXED: tuple[tuple[str, str], ...] = (
    (r"name|about", "says what the run is called; each variant gets a name by itself"),
    (r"rounds(\..*)?", "makes rounds behind the first, which ablate does not do"),
    (r"(evals|report)(\..*)?", "says how models are measured: all variants are measured alike"),
    (
        r"verdicts(\.(policy|deadline_s|judge(\..*)?))?",
        "grades the answers of evals too: all variants are measured alike. `matrix` grades stored "
        "answers by other rules; verdicts.majority can be varied",
    ),
    (r"students(\.\d+)?", "holds all of a student: vary keys of it, such as students.0.method"),
    (r"students\.\d+\.name", "says what a student is called; each variant gets a name by itself"),
    (
        r"students\.\d+\.seeds?",
        "makes another student of the same recipe: that is what --seeds does",
    ),
    (
        r"students\.\d+\.(epochs|max_steps)",
        "says how long is trained, which is set so that all variants have the same tokens in the "
        "loss. Vary what there is to learn (problems.limit, examples.k, traces.n): few rows are "
        "then seen many times, many rows a few; --tokens sets how much",
    ),
    (r"students\.\d+\.baselines", "adds controls, which ablate does not train"),
)


@dataclass(frozen=True)
class Choice:
    """One of the values that a key is given; `place` counts them. `meaning` is the same for equal
    values in other words; `again` counts those before it: one that is tried twice tells what chance
    does.
    """

    key: str
    value: str
    place: int
    meaning: str
    again: int = 0

    @property
    def label(self) -> str:
        """`examples.k = 4`; of an equal value `examples.k = 4 (again)`."""
        text = f"{self.key} = {short(self.value)}"
        if self.again == 0:
            return text
        if self.again == 1:
            return f"{text} (again)"
        return f"{text} (again, {self.again + 1}.)"

    @property
    def word(self) -> str:
        """`k-4`, for the name of a folder."""
        # Keys of tables may be anything, too.
        last = re.sub(r"[^A-Za-z0-9._]+", "-", self.key.rpartition(".")[2]).strip("-._") or "key"
        value = re.sub(r"[^A-Za-z0-9.]+", "-", cleaned(self.value)).strip("-.")
        word = f"{last}-{value[:_LONGEST_WORD]}".rstrip("-.")
        if self.again:
            word += f".again{self.again}"
        return word


@dataclass(frozen=True)
class Variant:
    """One combination of the values, as a pipeline file of its own. `seeds` are those of the
    student that is compared.
    """

    name: str
    choices: tuple[Choice, ...]
    pipeline: Pipeline
    seeds: tuple[int, ...]

    @property
    def label(self) -> str:
        """`examples.k = 4, traces.n = 8`."""
        return ", ".join(choice.label for choice in self.choices)

    @property
    def student(self) -> StudentSettings:
        """The student that is compared, as the file has it."""
        return self.pipeline.students[-1]

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the compared student's seeds, in their order."""
        return tuple(seed_name(self.student.name, seed) for seed in self.seeds)

    @property
    def ancestors(self) -> tuple[StudentSettings, ...]:
        """The students that the compared one goes on from, one for each of their seeds."""
        every = self.pipeline.all_students()
        return tuple(student for student in every if student.name not in self.members)


@dataclass(frozen=True)
class Asked:
    """All variants of a file; the first is what the others are compared with. `student` is the name
    of the one that is compared.
    """

    student: str
    varied: tuple[tuple[Choice, ...], ...]
    variants: tuple[Variant, ...]


def variants_of(
    path: Path,
    vary: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    count: int = 3,
    student: str | None = None,
) -> Asked:
    """The variants of a pipeline file, with `count` seeds each: `vary` holds `key=value,value,…`.
    Raises ConfigError.
    """
    varied = tuple(_choices(text) for text in vary)
    _require_different_keys(varied)
    combinations = list(product(*varied))
    if len(combinations) > _MOST_VARIANTS:
        raise ConfigError(
            f"{VARY}: {len(combinations)} combinations, more than {_MOST_VARIANTS}. Vary fewer "
            "keys at once."
        )
    pipelines: list[Pipeline] = []
    for choices in combinations:
        settings = [f"{choice.key}={choice.value}" for choice in choices]
        pipelines.append(load_pipeline(path, overrides, settings))
    keys = [choices[0].key for choices in varied]
    place = _place_of_compared(path, pipelines[0], keys, student)
    names = _names(combinations)
    variants: list[Variant] = []
    for choices, pipeline, name in zip(combinations, pipelines, names, strict=True):
        compared = pipeline.students[place]
        # An equal value again is trained with other seeds, on the same data.
        first = next(iter(compared.seeds), compared.seed)
        first += _SEEDS_APART * _number_again(choices, varied)
        seeds = tuple(range(first, first + count))
        variants.append(Variant(name, choices, _only(pipeline, place, name, seeds), seeds))
    for variant in variants:
        _require_full_length(path, variant.student)
    _require_different(variants, pipelines)
    return Asked(pipelines[0].students[place].name, varied, tuple(variants))


# ---- --vary --------------------------------------------------------------------------------------


def _choices(text: str) -> tuple[Choice, ...]:
    """`key=value,value` → its values. Raises ConfigError."""
    key, equals, rest = text.partition("=")
    key = ".".join(part.strip() for part in key.split("."))
    shown = short(text.encode("utf-8", "backslashreplace").decode())
    values = [value.strip() for value in split_values(rest)]
    if not equals or not key or "" in values:
        raise ConfigError(
            f"{VARY} {shown}: want key=value,value,…, for example {VARY} examples.k=1,4"
        )
    if len(values) < 2:
        raise ConfigError(
            f"{VARY} {shown}: a single value; name two or more, with commas between them: the "
            "others are compared with the first. The same value twice shows what chance does."
        )
    for pattern, why in _FIXED:
        if re.fullmatch(pattern, key):
            raise ConfigError(f"{VARY} {short(key)}: {why}.")
    seen: Counter[str] = Counter()
    choices: list[Choice] = []
    for place, value in enumerate(values):
        meaning = _meaning(override_value(value, f"{VARY} {shown}"))
        choices.append(Choice(key, value, place, meaning, seen[meaning]))
        seen[meaning] += 1
    return tuple(choices)


def _meaning(value: Any) -> str:
    """The same for equal values, however they are written: 1 and 1.0, `"a"` and a."""
    if isinstance(value, list):
        return f"[{', '.join(map(_meaning, value))}]"
    if isinstance(value, dict):
        return repr({key: _meaning(value[key]) for key in sorted(value)})
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return repr(value)


def split_values(text: str) -> list[str]:
    """The parts of a text between its commas; those inside brackets, braces and quotes are none.

    >>> split_values('["correct"],["correct", "wrong"]')
    ['["correct"]', '["correct", "wrong"]']
    >>> split_values("don't,do")
    ["don't", 'do']
    """
    parts, depth, quote = [""], 0, ""
    is_escaped = False
    for sign in text:
        if quote:
            if sign == quote and not is_escaped:
                quote = ""
            is_escaped = sign == "\\" and quote == '"' and not is_escaped
        elif sign in "\"'" and (depth or not parts[-1].strip()):
            quote = sign  # amid a word it is an apostrophe
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += sign
    return parts


def _require_different_keys(varied: Iterable[Sequence[Choice]]) -> None:
    """Raise ConfigError where one key stands in or above another."""
    keys = [choices[0].key for choices in varied]
    if not keys:
        raise ConfigError(f"{VARY}: missing. Name a key and its values: {VARY} examples.k=1,4")
    for place, key in enumerate(keys):
        for other in keys[:place]:
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                raise ConfigError(
                    f"{VARY} {short(key)}: varied twice. Name all its values in one {VARY}."
                )


def _require_different(variants: Sequence[Variant], pipelines: Sequence[Pipeline]) -> None:
    """Raise ConfigError where two variants would train the same students with the same seeds."""
    for place, variant in enumerate(variants):
        for other, earlier in zip(variants[:place], pipelines, strict=False):
            if earlier == pipelines[place] and other.seeds == variant.seeds:
                raise ConfigError(
                    f"{VARY}: {variant.label} and {other.label} are the same setting. Write them "
                    "alike to see what chance does: the second is then trained with other seeds."
                )


def _number_again(choices: Sequence[Choice], varied: Sequence[Sequence[Choice]]) -> int:
    """A number of its own for each variant with the same values: 0 for the first of them."""
    number = 0
    for choice, all_choices in zip(choices, varied, strict=True):
        number = number * len(all_choices) + choice.again
    return number


def _names(combinations: Sequence[Sequence[Choice]]) -> list[str]:
    """A name for the folder of each variant; none is used twice."""
    names: list[str] = []
    taken: set[str] = set()
    for choices in combinations:
        name = "_".join(choice.word for choice in choices)[:_LONGEST_NAME]
        free, number = name, 1
        # Upper and lower case are one name for some file systems.
        while free.lower() in taken:
            number += 1
            free = f"{name}.{number}"
        taken.add(free.lower())
        names.append(free)
    return names


# ---- one student ---------------------------------------------------------------------------------


def _place_of_compared(
    path: Path, pipeline: Pipeline, keys: Iterable[str], name: str | None
) -> int:
    """Which student of the file is compared: the one that is named, the one whose keys are varied,
    or the only one that no other goes on from. Raises ConfigError.
    """
    students = pipeline.students
    if not students:
        raise ConfigError(f"{path}: trains no student; there is nothing to compare.")
    if not pipeline.evals.benchmarks:
        raise ConfigError(f"{path} [evals] benchmarks: missing; variants are compared on them.")
    known = [student.name for student in students]
    if name is not None:
        if name not in known:
            raise ConfigError(f"--student {short(name)}: unknown. {nearest(name, known)}")
        return known.index(name)
    starts = {student.starts_from for student in students}
    last: list[int] = []
    for place, student in enumerate(students):
        if student.name not in starts and student.method not in CONTROLS:
            last.append(place)
    varied: set[int] = set()
    for key in keys:
        top, _, rest = key.partition(".")
        number = rest.partition(".")[0]
        if top == "students" and is_place(number, len(students)):
            varied.add(int(number))
    for found in (sorted(varied & set(last)), last, sorted(varied)):
        if len(found) == 1:
            return found[0]
    names = ", ".join(known)
    raise ConfigError(f"{path}: trains several students. Say which one: --student with {names}.")


def _only(pipeline: Pipeline, place: int, name: str, seeds: tuple[int, ...]) -> Pipeline:
    """The same file with one of its students, of these seeds, and those that it goes on from."""
    by_name = {student.name: student for student in pipeline.students}
    student = pipeline.students[place]
    chain = [_bare(student, seeds)]
    while student.starts_from is not None:
        student = by_name[student.starts_from]
        of_seeds: tuple[int, ...] = ()
        if student.seeds:
            of_seeds = seeds
        chain.insert(0, _bare(student, of_seeds))
    evals = {"teacher": False, "models": (), "against": (), "difficulty": None}
    update: dict[str, Any] = {
        "name": name,
        "students": tuple(chain),
        "rounds": None,
        "evals": pipeline.evals.model_copy(update=evals),
        "report": pipeline.report.model_copy(update={"title": f"{pipeline.name}: {name}"}),
    }
    return pipeline.model_copy(update=update)


def _bare(student: StudentSettings, seeds: tuple[int, ...]) -> StudentSettings:
    return student.model_copy(update={"baselines": (), "seeds": seeds})


def _require_full_length(path: Path, student: StudentSettings) -> None:
    """Raise ConfigError where what the settings ask leaves tokens that nobody can count before."""
    where = f"{path} [students] {student.name}"
    if student.early_stopping_patience is not None:
        raise ConfigError(
            f"{where} early_stopping_patience: ends each training at other tokens; variants are "
            "compared at equal ones. Leave it out."
        )
    if student.packing and not student.distils():
        raise ConfigError(
            f"{where} packing: which rows share a step is known only while it is trained, so that "
            "the tokens in the loss cannot be made equal to 1 %. Set packing = false."
        )
    if student.method == "base":
        raise ConfigError(f"{where} method = 'base': trains nothing, and so has no tokens.")


def writes_itself(student: StudentSettings) -> bool:
    """Whether a student learns from what it writes itself, whose tokens nobody can count before."""
    if not student.distils():
        return False
    settings = student.method_settings()
    if isinstance(settings, CommonSettings):
        return settings.on_policy > 0
    return isinstance(settings, RolloutSettings)
