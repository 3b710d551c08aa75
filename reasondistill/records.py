"""Every record that stages exchange: frozen, checked, linked by id.

    Problem ─▶ Trace ─▶ Verdict ─▶ Example ─▶ Student ─▶ EvalRecord ─▶ Report

Stages meet on disk in these records, one JSON object per line. Nothing here has a free-form
metadata field: what matters has a name.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reasondistill.secrets import masked

# `unknown`: the publisher of the text does not say.
Finish = Literal["stop", "length", "repetition", "unknown", "error"]
EndOfDrawing = Literal["accepted", "exhausted", "hopeless", "budget"]
# Whose fault a failed sample is: the service's (server, quota, engine), the input's (a prompt that
# no model takes), or nobody's: a data set of published traces has no such one (absent).
Fault = Literal["service", "input", "absent"]
Outcome = Literal["correct", "wrong", "no_answer", "truncated", "undecided"]
Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation"]

# What arrays, and other programs, hold as whole numbers: counts of any run are far below.
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0, lt=1 << 63)]
# Of a sum of logarithms of probabilities; what rounding adds is far less.
LogProb = Annotated[float, Field(le=1, allow_inf_nan=False)]
# How often an example may be trained on in one epoch.
Copies = Annotated[int, Field(ge=1, le=1_000)]

OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "no_answer", "truncated", "undecided")


class Record(BaseModel):
    """Frozen, unknown fields refused, one JSON line each. `foreign` are the fields whose texts
    others wrote: data sets, models, servers; all else is ours (ids, names, keys of objects).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    foreign: ClassVar[frozenset[str]] = frozenset()

    def without_secrets(self) -> Self:
        """The record with `***` for each secret of the environment in what others wrote, also in
        records inside it. What is ours stays, even where a secret reads like it: another id or name
        would be another record.
        """
        clean: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, str) and name in self.foreign:
                clean[name] = masked(value)
            elif isinstance(value, Record):
                clean[name] = value.without_secrets()
            elif isinstance(value, tuple):
                items = cast("tuple[Any, ...]", value)
                clean[name] = tuple(map(_without_secrets, items))
        return self.model_copy(update=clean)

    def to_json(self) -> str:
        """The record as one JSON line without its newline.

        Lone surrogates, which a broken decoder can emit, are escaped: the line is always valid
        UTF-8.
        """
        try:
            return self.model_dump_json()
        except ValueError:  # pydantic refuses lone surrogates; the stdlib escapes them
            return json.dumps(self.model_dump(mode="python"))


def _without_secrets(item: Any) -> Any:
    if isinstance(item, Record):
        return item.without_secrets()
    return item


class Origin(Record):
    """Where a problem was read: enough to find the row again. Of several sources also the name of
    its own, and the tag that it has.
    """

    dataset: str
    revision: str
    split: str
    row: Int64
    source: str | None = Field(default=None, exclude_if=lambda name: name is None)
    tag: str | None = Field(default=None, exclude_if=lambda tag: tag is None)


class Problem(Record):
    """One question with its gold answer, which grades itself correct, else it is a `SetAside`.
    Empty where nobody knows the answer.
    """

    foreign = frozenset({"question", "answer", "reference_solution", "subject", "level"})

    id: str
    question: str
    answer: str
    reference_solution: str | None = None
    subject: str | None = None
    level: str | None = None
    origin: Origin


class SetAside(Record):
    """A row that did not become a problem, and why."""

    foreign = frozenset({"detail"})

    id: str
    reason: str
    detail: str
    origin: Origin


class NearDuplicate(Record):
    """A text that is all but the same as an earlier one, `of`, which stands for the whole cluster.

    `similarity` is that of these two: below the threshold where others of the cluster lie between
    them.
    """

    id: str
    of: str
    similarity: float


class Leak(Record):
    """A text for training, `id`, that holds a question of a benchmark, side by side.

    `method` is how it was found: equal after normalisation, most of the question's word 5-grams, or
    13 words in a row. `score` is the share of the question's 5-grams that the text has. A
    `look_alike` has the words and other numbers: another problem of the same template. The texts
    are cut.
    """

    foreign = frozenset({"text", "question"})

    id: str
    benchmark: str
    question_id: str
    kind: Literal["leak", "look_alike"]
    method: Literal["equal", "near", "run"]
    score: float
    text: str
    question: str


class LoopRule(Record):
    """What ends a completion as a loop: a piece of at most `window` tokens that comes `repeats`
    times in a row. A piece of fewer than `shortest` tokens must come as often as fills that.
    """

    shortest: Natural
    window: Natural
    repeats: Natural


class Sampling(Record):
    """How completions are drawn. Every field bears identity: another value is another sample.

    `temperature=0` is greedy. `top_k=-1` and `min_p=0` mean "off". `max_tokens` counts generated
    tokens. Where `loops` says what one is, it ends the completion (`finish="repetition"`). A block
    of reasoning of `thinking_budget` tokens is closed there, and the answer begins.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: Int64 = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: Int64 = 2048
    stop: tuple[str, ...] = ()
    # Part of an identity only where it is set: those of earlier samples stay what they were.
    loops: LoopRule | None = Field(default=None, exclude_if=lambda loops: loops is None)
    thinking_budget: Int64 | None = Field(default=None, exclude_if=lambda budget: budget is None)


class Message(Record):
    """One chat turn.

    `quotes_tag`: the tag of reasoning at the very end stands in foreign text (a question that ends
    in `<think>`), so it opens no block. Stored only where it is true.
    """

    foreign = frozenset({"content"})

    role: Role
    content: str
    quotes_tag: bool = Field(default=False, exclude_if=lambda quotes: not quotes)

    def as_turn(self) -> dict[str, str]:
        """The turn as chat templates, servers and other tools know it."""
        return {"role": self.role, "content": self.content}


class Completion(Record):
    """What a model wrote after a prompt, split at its think tags; nothing between the tags is
    altered.

    `think="closed"`: `reasoning` is the think block, `answer_text` what follows it. `"open"`: a
    block was begun and never ended, all of it is reasoning and `answer_text` is empty. `"none"`: no
    block, `reasoning` is None. An error is a completion with `finish="error"`, the message in
    `error` and whose fault it is in `fault`: a service may do better when it is asked again (None,
    in files of earlier versions, means the same), an input will not. `is_estimated` says that
    nobody counted the tokens: they are our guess. `is_masked`: a secret of the environment
    stood in the text, and `***` stands there now. `continued_at`: the sampler was stopped after so
    many tokens and went on from there later, with another seed for the rest. `thinking_is_cut`: the
    reasoning had as many tokens as it may have, and the sampler closed it.
    """

    foreign = frozenset({"reasoning", "answer_text", "error"})

    reasoning: str | None
    answer_text: str
    think: Literal["closed", "open", "none"]
    finish: Finish
    prompt_tokens: Int64
    tokens: Int64
    seconds: float
    error: str | None = None
    # Written only where they say something: records without them stay byte for byte what they were.
    fault: Fault | None = Field(default=None, exclude_if=lambda fault: fault is None)
    is_estimated: bool = Field(default=False, exclude_if=lambda is_estimated: not is_estimated)
    is_masked: bool = Field(default=False, exclude_if=lambda is_masked: not is_masked)
    continued_at: tuple[Natural, ...] = Field(default=(), exclude_if=lambda places: not places)
    thinking_is_cut: bool = Field(default=False, exclude_if=lambda is_cut: not is_cut)

    @property
    def is_lost(self) -> bool:
        """The service failed: another try may bring the sample."""
        return self.finish == "error" and self.fault not in ("input", "absent")

    @property
    def is_refused(self) -> bool:
        """The input is at fault: no try will bring the sample."""
        return self.finish == "error" and self.fault == "input"

    @property
    def is_absent(self) -> bool:
        """A data set has no such published trace."""
        return self.finish == "error" and self.fault == "absent"


class Begun(Record):
    """A sample that was begun and is not finished: the tokens so far, and `seconds` spent on it.

    `id` and `key` are those of the trace that it becomes. Only a request with the same key may go
    on from it, with a seed of its own; `continued_at` are the places where that was done before.
    `text` is what the tokens say. It is not stored.
    """

    foreign = frozenset({"text"})

    id: str
    key: str
    seconds: float
    continued_at: tuple[Natural, ...]
    token_ids: tuple[Natural, ...]
    text: str = Field(default="", exclude=True)

    def cut(self, tokens: int) -> Begun:
        """So many tokens of it, at most."""
        if len(self.token_ids) <= tokens:
            return self
        places = tuple(place for place in self.continued_at if place < tokens)
        return self.model_copy(
            update={"token_ids": self.token_ids[:tokens], "continued_at": places}
        )

    @property
    def next_continued_at(self) -> tuple[int, ...]:
        """The places at which a sample that goes on from here was continued."""
        return (*self.continued_at, len(self.token_ids))


class Published(Record):
    """Where a published trace stands, and what is said there of how it was drawn (None: nothing).

    `place` counts the traces of its row. `mean_logprob` is that of its tokens in nats, where their
    log-probabilities were published.
    """

    foreign = frozenset({"teacher"})

    dataset: str
    revision: str
    split: str
    row: Natural
    place: Natural
    teacher: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: Int64 | None = None
    mean_logprob: float | None = None


class Trace(Record):
    """One completion of one problem. `id` is `<problem id>:<sample>`.

    One that was `published` was not drawn by us: `prompt` is `published`, and nobody knows
    `sampling` and `seed`.
    """

    id: str
    problem_id: str
    sample: Int64
    model: str
    prompt: str
    sampling: Sampling | None
    key: str
    seed: int | None
    completion: Completion
    # Written only where there is one: records without it stay byte for byte what they were.
    published: Published | None = Field(default=None, exclude_if=lambda one: one is None)

    @property
    def teacher(self) -> str:
        """Who wrote it; of a published one also where."""
        if self.published is None:
            return self.model
        return f"{self.published.teacher or 'unknown'}, published in {self.model}"


# An adapter's identity holds that of its base, which has an @ of its own.
_ADAPTED = re.compile(r"([^@]+)@([0-9a-f]{12,40}\+.+@[^@]+)")


def name_and_revision(identity: str) -> tuple[str, str]:
    """Name and revision of `name@revision`; of an adapter the second is of both it and its base.
    Without an @ the name is empty.

    >>> name_and_revision("Qwen/Qwen3-8B@060d")
    ('Qwen/Qwen3-8B', '060d')
    >>> name_and_revision("mine@0123456789ab+Qwen/Qwen3-8B@060d")
    ('mine', '0123456789ab+Qwen/Qwen3-8B@060d')
    """
    adapted = _ADAPTED.fullmatch(identity)
    if adapted is not None:
        return adapted[1], adapted[2]
    name, _, revision = identity.rpartition("@")
    return name, revision


class FewerTraces(Record):
    """A problem of which a data set holds fewer published traces than were asked for."""

    problem_id: str
    traces: Int64
    asked: Int64
    reason: str


class Ending(Record):
    """Why no more samples of a problem were drawn, where it was drawn until enough are correct.

    `accepted`: it has them; `exhausted`: not all candidates together; `hopeless`: none of the first
    round; `budget`: no tokens were left for its next round. Of the `drawn` samples of its rounds
    `kept` are traces, `correct` of these by the rules. What a guess drew besides is not in it.
    """

    problem_id: str
    reason: EndOfDrawing
    drawn: Int64
    kept: Int64
    correct: Int64


class Grade(Record):
    """What the grader found. A crash, a timeout or memory limit of the checker is `undecided`,
    never `wrong`.
    """

    foreign = frozenset({"extracted", "reason"})

    outcome: Outcome
    extracted: str | None
    layer: str
    reason: str
    grader: str
    seconds: float

    @property
    def is_correct(self) -> bool:
        """True only for `correct`."""
        return self.outcome == "correct"


class GradedRow(Record):
    """What `reasondistill grade` says of one row of a file; `id` as it came."""

    foreign = frozenset({"extracted", "reason"})

    id: str | int | float | None
    outcome: Outcome
    extracted: str | None
    layer: str
    reason: str
    seconds: float


class Verdict(Record):
    """The grade of one trace; exactly one per trace. `vote_share` is that of the answer which stood
    in for a gold, by majority.
    """

    trace_id: str
    problem_id: str
    grade: Grade
    how: Literal["rule", "judge", "majority"] = "rule"
    vote_share: float | None = None


@dataclass(frozen=True)
class Graded:
    """A trace with its verdict."""

    trace: Trace
    verdict: Verdict


class PseudoLabel(Record):
    """What the samples of a problem without a gold answer say: the answer of most of them, and how
    many of `n` gave it.
    """

    foreign = frozenset({"answer"})

    problem_id: str
    answer: str
    votes: Int64
    n: Int64
    accepted: bool


class SuspectGold(Record):
    """A gold that the samples of its problem speak against: `votes` of `n` agree on `answer`, and
    `correct` of them gave the gold.
    """

    foreign = frozenset({"gold", "answer"})

    problem_id: str
    gold: str
    answer: str
    votes: Int64
    n: Int64
    correct: Int64


class JudgeReply(Record):
    """What a judge replied about one undecided answer. `key` is the identity of judge, prompt and
    sampling: nothing is asked twice.
    """

    key: str
    judge: str
    trace_id: str
    completion: Completion


class TraceScore(Record):
    """What a model says of the text of a trace, behind the prompt that a student learns it from.

    `tokens` are those of the text and its end, `surprisal` the sum of their −log q in nats, `ranks`
    the sum of their ranks, each clipped. Where steps were measured, `step_tokens` and
    `step_log_probs` (a sum of log q for each step) say more, and `teacher_log_probs` what stands in
    the teacher's top-K cache. `fault` says why a trace has no score.
    """

    trace_id: str
    tokens: Natural = 0
    surprisal: Finite = 0.0
    ranks: Natural | None = None
    step_tokens: tuple[Annotated[Natural, Field(ge=1)], ...] = ()
    step_log_probs: tuple[LogProb, ...] = ()
    teacher_log_probs: tuple[LogProb, ...] = ()
    fault: str | None = None

    @model_validator(mode="after")
    def _measures_each_step(self) -> TraceScore:
        steps = len(self.step_tokens)
        if len(self.step_log_probs) != steps or len(self.teacher_log_probs) not in (0, steps):
            raise ValueError("not one log-probability for each step")
        return self


class Example(Record):
    """One training example: prompt turns, then the assistant's turn that the loss is on.

    `tokens` counts generated tokens of the trace (0 where the text was not generated). One epoch
    goes over it `copies` times.
    """

    id: str
    problem_id: str
    trace_id: str | None
    messages: tuple[Message, ...]
    tokens: Int64
    split: Split
    # Written only where there are several: other examples stay byte for byte what they were.
    copies: Copies = Field(default=1, exclude_if=lambda copies: copies == 1)


class Dropped(Record):
    """A trace that did not become an example, and why. Kept + dropped = traces."""

    trace_id: str
    problem_id: str
    reason: str


class TokenGap(Record):
    """Special tokens that a student and its teacher do not share. `mapped` are the student's that
    mean one of the teacher's under another name; the others have no part in what is compared.
    """

    mapped: dict[str, str]
    only_student: tuple[str, ...]
    only_teacher: tuple[str, ...]


class TrainingFigures(Record):
    """What training cost and reached. `tokens` counts real (unpadded) tokens over all epochs;
    `loss_tokens` those in the loss.

    `perplexity` is that of held-out traces per token, `teacher_kl` KL(teacher‖student) there in
    nats per token. Rollouts are what the student wrote itself while it was trained,
    `rollouts_correct` the share of right answers where they were graded. `delivered_step` is the
    step whose weights are the student where `keep = "best"` chose it; else they are the last one's.
    """

    steps: Int64
    epochs: float
    examples: Int64
    tokens: Int64
    loss_tokens: Int64
    seconds: float
    train_loss: float | None
    validation_loss: float | None
    parameters: Int64
    trained_parameters: Int64
    peak_memory_gib: float
    perplexity: float | None = None
    teacher: str | None = None
    teacher_kl: float | None = None
    teacher_seconds: float = 0.0
    rollout_seconds: float = 0.0
    rollout_tokens: Int64 = 0
    rollouts_correct: float | None = None
    # Written only where there is one: records without it stay what they were.
    teacher_tokens: TokenGap | None = Field(default=None, exclude_if=lambda gap: gap is None)
    delivered_step: Int64 | None = Field(default=None, exclude_if=lambda step: step is None)


class Shrunk(Record):
    """What a student is of the larger model it was cut out of. `layers` are those that stayed, by
    their old number.

    Perplexity, and KL(larger‖student) in nats per token, are over the `tokens` of the validation
    rows: of the larger model itself (`base`), of the student `before` and `after` training. None
    without such rows; `after` also where nothing was trained.
    """

    parameters_before: Int64
    parameters: Int64
    layers: tuple[Int64, ...]
    tokens: Int64 = 0
    perplexity_base: float | None = None
    perplexity_before: float | None = None
    kl_before: float | None = None
    perplexity_after: float | None = None
    kl_after: float | None = None


class Student(Record):
    """A model on disk that evals can serve."""

    name: str
    method: str
    base: str
    path: str
    examples: str
    seed: int
    figures: TrainingFigures | None
    shrunk: Shrunk | None = None


# A model's name may carry what it was measured under: `distilled@qwen_math`, another prompt (no
# prompt has an @ in its name), and `distilled@step@90`, itself after 90 training steps.
VARIANT = "@"
STEP = "@step@"


class EvalRecord(Record):
    """One graded sample of one model on one benchmark problem; the completion stands in the samples
    file under `trace_id`.
    """

    model: str
    benchmark: str
    problem_id: str
    sample: Int64
    trace_id: str
    finish: Finish
    tokens: Int64
    grade: Grade


class Score(Record):
    """A mean with its interval: `n` problems, `k` samples each. `low` and `high` bound 95 %.

    `part` says which problems or budget it is of, when not all: `level: 3`, `overlap: clean`,
    `tokens: 4096`.
    """

    model: str
    benchmark: str
    metric: str
    mean: float
    low: float
    high: float
    n: Int64
    k: Int64
    method: str
    part: str = ""


class Difference(Record):
    """Paired difference `model − baseline` over the same problems, with its 95 % interval and exact
    permutation p-value.

    `p_adjusted` is Holm's on this benchmark: the larger of two, over all models that are compared
    with this baseline and over all baselines that this model is compared with.
    `word` (better, worse, tied at this n) needs the interval and the adjusted p-value to agree.
    With one sample each, `gained` problems are solved by the model alone and `lost` ones by the
    baseline alone (McNemar's counts).
    """

    model: str
    baseline: str
    benchmark: str
    metric: str
    mean: float
    low: float
    high: float
    n: Int64
    k: Int64
    p_value: float
    p_adjusted: float
    word: Literal["better", "worse", "tied"]
    gained: Int64 | None = None
    lost: Int64 | None = None


class SeedSpread(Record):
    """The scores of students that differ in their seed alone: `seeds` maps each to its own,
    `deviation` is the sample's (n − 1).
    """

    model: str
    benchmark: str
    metric: str
    seeds: dict[str, float]
    mean: float
    deviation: float
    low: float
    high: float


class Bounded(Record):
    """A figure with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


HelpWord = Literal["helps", "cannot be told", "hurts"]


class CascadeEnd(Record):
    """One way to ask without a cascade: how often it is right, and the mean cost of a problem."""

    accuracy: Bounded
    cost: float


class CascadeStep(Record):
    """A cascade at one threshold: a student's answer of fewer than `votes` votes is asked of the
    teacher, which is a share `asked` of the problems. `gap` is its accuracy above that of random
    routing at the same cost.
    """

    votes: Int64
    asked: float
    accuracy: Bounded
    cost: Bounded
    gap: Bounded


class ChosenCascade(Record):
    """A cascade whose threshold was chosen without the problems that it is measured on; `votes` are
    those that the folds chose. `cost_share` is its cost by that of the teacher alone,
    `over_student` and `over_teacher` are differences in accuracy.
    """

    votes: tuple[Int64, ...]
    asked: float
    accuracy: Bounded
    cost: Bounded
    gap: Bounded
    over_student: Bounded
    over_teacher: Bounded
    cost_share: Bounded
    word: HelpWord


class Cascade(Record):
    """Accuracy against cost where a teacher is asked what a student's `k` samples disagree about,
    on `n` problems of a benchmark.

    The teacher answers by the majority of `teacher_votes` of its `teacher_k` samples. A cost is a
    mean over problems of tokens that were written, a teacher's token as `price` of the student's.
    `once` is one sample of the student, `voting` the majority of all of them, `teacher_alone` the
    teacher. `chosen` is None where there are too few problems.
    """

    benchmark: str
    student: str
    teacher: str
    n: Int64
    k: Int64
    teacher_k: Int64
    teacher_votes: Int64
    price: float
    once: CascadeEnd
    voting: CascadeEnd
    teacher_alone: CascadeEnd
    steps: tuple[CascadeStep, ...]
    chosen: ChosenCascade | None


class MeasuredModel(Record):
    """Who a measured model is. `base` names the untouched model that its training began with, where
    that one is measured too.

    `parameters` and `size_bytes` are those of its weights on disk; None where they are not on this
    machine.
    """

    name: str
    is_teacher: bool = False
    base: str | None = None
    parameters: Int64 | None = None
    size_bytes: Int64 | None = None


class Range(Record):
    """What is expected, and the bounds that 90 % of the simulated runs stay between; all three are
    equal where it is known.
    """

    expected: float
    low: float
    high: float


class StageForecast(Record):
    """What a stage takes from its beginning to its end: `traces`, one student (`students/NAME`),
    the samples of one model (`evals/NAME`).

    `worker_hours` are those of all workers together, `left_hours` what is still to come of
    `wall_hours`; `bytes` is what stays on disk, `memory_bytes` the most that a process holds. None
    is not known; `unknown` says what would make it known. `money` is in whatever
    the cluster file's prices are in. `source` says where the numbers are from.
    """

    stage: str
    state: Literal["new", "partial", "done"]
    work: str
    tokens: Range | None = None
    wall_hours: Range | None = None
    left_hours: Range | None = None
    worker_hours: Range | None = None
    gpu_hours: Range | None = None
    cpu_hours: Range | None = None
    bytes: Range | None = None
    memory_bytes: Range | None = None
    money: Range | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    unknown: str | None = None


class Forecast(Record):
    """What a run will cost, by the forecast of the time `made`; `total` adds up the stages whose
    cost is known. `assumed` is what stands in for measurements where it is for GPUs on paper.
    """

    run: str
    made: str
    cluster: str
    sources: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    stages: tuple[StageForecast, ...]
    total: StageForecast


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """16 hex digits of the SHA-256 of the value's canonical JSON: equal values, equal fingerprints,
    on any machine.
    """
    return fingerprint_of_json(canonical_json(value))


def fingerprint_of_json(text: str) -> str:
    """The fingerprint of the value that has this canonical JSON."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
