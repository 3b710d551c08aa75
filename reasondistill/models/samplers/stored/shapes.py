"""Which fields of a data set hold what: the known shapes of published traces, and those that a file
names.

    fields = find_fields(StoredSettings(), rows, "traces.jsonl")
    fields.text, fields.thinking, fields.question       # "generations", None, "problem"

Sources, read in November 2026: the cards of open-r1/OpenR1-Math-220k and Mixture-of-Thoughts,
open-thoughts/OpenThoughts-114k, OpenThoughts2-1M and OpenThoughts3-1.2M, simplescaling/s1K and
s1K-1.1, Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b, nvidia/OpenMathReasoning; OpenAI's
reference of chat completions, its batches and stored completions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reasondistill.config import StoredSettings
from reasondistill.curation.rows import Row, field_names, has_value
from reasondistill.curation.selection import TEMPLATE
from reasondistill.errors import ConfigError, DataError
from reasondistill.models.samplers.stored.exchanges import is_exchange
from reasondistill.nearest import nearest

# So many of the fields of a row are named in a message.
_MOST_NAMES = 12


@dataclass(frozen=True)
class Fields:
    """The fields of a row: what a teacher wrote (`text`; empty where rows are requests and
    responses), its reasoning where that stands apart, what was asked, why each ended, who wrote it,
    and its `tokens` or their log-probabilities.
    """

    text: str
    thinking: str | None = None
    question: str | None = None
    finish: str | None = None
    teacher: str | None = None
    tokens: tuple[str, ...] = ()

    @property
    def are_exchanges(self) -> bool:
        """Whether rows are requests and responses of a server."""
        return self.text == ""

    def named(self) -> list[str]:
        """The fields that must be there."""
        parts = TEMPLATE.findall(self.question or "") or [self.question]
        names = [self.text, self.thinking, *parts, self.finish, self.teacher, *self.tokens]
        return [name for name in names if name]

    def texts(self) -> list[str]:
        """The fields whose columns must be able to hold text."""
        parts = TEMPLATE.findall(self.question or "") or [self.question]
        return [name for name in (self.text, self.thinking, *parts) if name]


# The columns that say whether a trace is right or whole (correctness_math_verify, grades,
# is_reasoning_complete) are not read.
KNOWN = (
    Fields("generations", question="problem", finish="finish_reasons"),
    Fields("deepseek_solution", thinking="deepseek_reasoning", question="problem"),
    Fields("deepseek_attempt", thinking="deepseek_thinking_trajectory", question="question"),
    Fields("gemini_attempt", thinking="gemini_thinking_trajectory", question="question"),
    Fields("attempt", thinking="thinking_trajectories", question="question"),
    Fields("generated_solution", question="problem", teacher="generation_model"),
    Fields("output", question="input"),
)
TURNS = ("messages", "conversations")
# DASD has them in a set of their own, by the same rows.
TOKEN_IDS, LOGPROBS = "token_ids", "logprobs"


def find_fields(settings: StoredSettings, rows: Sequence[Row], dataset: str) -> Fields:
    """The fields of these first rows. Raises ConfigError where a named one is missing, and where
    none or several of the known shapes are there.
    """
    if not rows:
        raise DataError(f"{dataset}: no rows.")
    names = list(names_in(rows))
    if settings.text is None and is_exchange(rows[0].fields):
        return Fields("")
    fields = known_fields(settings, names, dataset)
    own = settings.model_dump(include={"text", "thinking", "question"}, exclude_none=True)
    tokens = tuple(name for name in (TOKEN_IDS, LOGPROBS) if name in names)
    teacher = settings.teacher_field or fields.teacher
    fields = replace(fields, **own, teacher=teacher, tokens=tokens)
    wanted = {
        "text": [settings.text],
        "thinking": [settings.thinking],
        "question": TEMPLATE.findall(settings.question or "") or [settings.question],
        "teacher_field": [settings.teacher_field],
    }
    for key, several in wanted.items():
        for name in several:
            if name and not any(has_value(row.fields, name) for row in rows):
                raise ConfigError(
                    f'stored.{key} = "{name}": {dataset} has no such field. '
                    f"{nearest(name, names)} {_listed(names)}"
                )
    return fields


def names_in(rows: Sequence[Row]) -> Mapping[str, None]:
    """The (dotted) fields that any of the rows has, in their order."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(field_names(row.fields))
    return names


def known_fields(settings: StoredSettings, names: Sequence[str], dataset: str) -> Fields:
    """The known shape that fits, or the field that the file names with nothing else known."""
    if settings.text is not None:
        for known in KNOWN:
            if known.text == settings.text:
                return as_far_as_there(known, names)
        return Fields(settings.text)
    fitting = [known for known in KNOWN if fits(known, names)]
    turns = [Fields(name) for name in TURNS if name in names]
    if len(fitting) > 1 or (not fitting and len(turns) > 1):
        several = " or ".join(f'text = "{known.text}"' for known in fitting or turns)
        raise ConfigError(
            f"{dataset}: holds several texts that may be meant; say which one in "
            f"[traces.teachers.stored]: {several}."
        )
    if fitting:
        return as_far_as_there(fitting[0], names)
    if turns:
        return turns[0]
    raise ConfigError(
        f"{dataset}: has none of the known shapes of published traces. Name the field of the "
        f'completions in [traces.teachers.stored], text = "…". {_listed(names)}'
    )


def fits(known: Fields, names: Sequence[str]) -> bool:
    """Whether a set with these fields has a known shape."""
    if "instruction" in names:  # then `input` is but a part of what is asked
        return False
    needed = [known.text, known.question]
    if known.thinking is not None:
        needed.append(known.thinking)
    return all(name in names for name in needed)


def as_far_as_there(known: Fields, names: Sequence[str]) -> Fields:
    """Without the fields that this copy of the set lacks."""

    def there(name: str | None) -> str | None:
        return name if name in names else None

    return Fields(
        known.text,
        thinking=there(known.thinking),
        question=there(known.question),
        finish=there(known.finish),
        teacher=there(known.teacher),
    )


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        listed += ", …"
    return f"Fields: {listed}."
