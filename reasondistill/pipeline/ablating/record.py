"""ablation.json: what was compared, and what came out.

    found = read_ablation(Path("runs/demo-ablate"))
    found.rules[0].sentence

It holds no time and no path of the machine: the same ablation gives the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from reasondistill.errors import DataError
from reasondistill.records import Int64, Record
from reasondistill.runs.store import read_guarded

ABLATION = "ablation.json"
ABLATION_MARKDOWN = "ablation.md"
# Tokens or steps of a training: more than any machine does.
MOST_TOKENS = 10**15
Amount = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class VariantScore(Record):
    """pass@1 of a variant on a benchmark, over the samples of all its seeds: `low` and `high` are
    for these trained models. `seeds` has the score of each by the name of its student.
    """

    benchmark: str
    mean: float
    low: float
    high: float
    n: Int64
    k: Int64
    seeds: dict[str, float]


class VariantRecord(Record):
    """A variant. `loss_tokens` has the tokens in the loss by the name of the student of each seed;
    where `is_exact` they are known before it is trained. `tokens_before` are those of the students
    that it goes on from, as they were trained. `rows` are the different rows that are
    learnt from, `of_rows` all that there are; `epochs` is how often training goes through all.
    `teacher_tokens` is what teachers wrote for it, whether it was used or not. `taken` says of each
    folder of the run which variant made it, where that is another one.
    """

    name: str
    label: str
    choices: dict[str, str]
    student: str
    method: str
    seeds: tuple[Int64, ...]
    steps: Amount | None = None
    epochs: float | None = None
    rows: Int64 | None = None
    of_rows: Int64 | None = None
    loss_tokens: dict[str, Int64] = {}
    is_exact: bool = True
    tokens_before: Int64 = 0
    teacher_tokens: Int64 | None = None
    taken: dict[str, str] = {}
    scores: tuple[VariantScore, ...] = ()


Word = Literal["helps", "hurts", "cannot be told", "not compared"]


class RuleRecord(Record):
    """A value of a key against the first value of that key, averaged over the values of the other
    keys (`variants` and `against` are named pair by pair).

    `low`, `high` and `p_value` hold problems and samples, and seeds where there are several;
    `p_adjusted` is Holm's over all rules and benchmarks. `model_low` and `model_high` are for these
    trained models, without seeds. `seed_deviation` is how far two seeds of one variant are apart
    beyond what their samples explain. `needed_problems` (None: more than a million) with
    `needed_seeds` would show a difference of the size that was seen; this size shows `smallest`.
    `is_again` says that both values are equal. `tokens_apart` is how far the tokens in the loss of
    these trainings are apart, as a share; `before_apart` the same of the students that they go on
    from, as a share of the larger. `left_out` counts problems that one of them has not answered.
    """

    rule: str
    baseline: str
    variants: tuple[str, ...]
    against: tuple[str, ...]
    benchmark: str
    is_again: bool = False
    word: Word
    mean: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    n: Int64
    k: Int64
    seeds: Int64
    left_out: Int64
    model_low: float
    model_high: float
    model_p_value: float
    seed_deviation: float | None
    tokens_apart: float
    before_apart: float = 0.0
    needed_problems: Int64 | None = None
    needed_seeds: Int64 | None = None
    smallest: float | None = None
    sentence: str


class AblationRecord(Record):
    """All of an ablation. `tokens` is the budget of each training, None until it is known."""

    name: str
    file: str
    vary: tuple[str, ...]
    student: str
    tokens: Amount | None
    state: Literal["planned", "measured"]
    variants: tuple[VariantRecord, ...]
    rules: tuple[RuleRecord, ...] = ()
    notes: tuple[str, ...] = ()


def read_ablation(folder: Path) -> AblationRecord | None:
    """What an ablation's folder says of it; None where there is nothing yet. Raises DataError for
    other content.
    """
    path = folder / ABLATION
    if not path.exists():
        return None
    ways_out = "Remove the file: the same command writes it again."
    value = read_guarded(path, "an ablation", ways_out)
    try:
        return AblationRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise DataError(
            f"{path}: not an ablation of this version of reasondistill ({first}). {ways_out}"
        ) from None
