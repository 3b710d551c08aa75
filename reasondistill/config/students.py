"""What a student is trained on and how: `[examples]`, `[[students]]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, create_model, model_validator

from reasondistill.config.basics import Name, Scalar
from reasondistill.config.sampling import require_options_of_a_template
from reasondistill.config.shrinking import ShrinkSettings
from reasondistill.methods import METHODS, MethodSettings
from reasondistill.nearest import nearest
from reasondistill.records import Copies
from reasondistill.sections import Section

ScoreRule = Literal["rsr", "ln", "gn", "das"]
SelectRule = Literal[
    "all",
    "shortest",
    "longest",
    "random",
    "first",
    "diverse",
    "majority",
    "rsr",
    "ln",
    "gn",
    "das",
    "best_teacher",
]
# The rules of `select` that go by what a model says of the traces.
SCORE_RULES: tuple[ScoreRule, ...] = get_args(ScoreRule)


class ScoreSettings(Section):
    """The model that scores traces, and what its scores are: `[examples.scores]`. Only the rules
    `rsr`, `ln`, `gn`, `das` and `best_teacher` of `select` need it (docs/selection.md).

    What the papers leave open is a setting: `window`, `unit`, `with_question` (LN), `margin` and
    `unit` (DAS).
    """

    model: str | None = None
    """The model that scores: a folder or hub id; without one what the first student starts from,
    with its chat template. Example: "Qwen/Qwen3-0.6B-Base"
    """
    revision: str | None = None
    """The branch, tag or commit of that model. Example: "main"
    """
    trust_remote_code: bool = False
    """Whether code that comes with that model may be executed."""
    rank_limit: Annotated[int, Field(ge=1)] = 100
    """The rank at which RSR clips the rank of a token."""
    unit: Literal["sentences", "lines"] = "sentences"
    """What a step of a trace is, for LN and DAS."""
    window: Annotated[int, Field(ge=1)] = 2
    """How many steps before its own LN lets a step see. [steps]"""
    with_question: bool = False
    """Whether the prompt stands before that window too where it does not begin the trace."""
    margin: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """By how much a step must be likelier to the teacher than to the model for DAS to count it."""
    best_by: ScoreRule = "rsr"
    """The score by which `best_teacher` knows the best teacher of a problem."""


# The groups of a mixture that are not names of the run's own.
_GROUPS = {
    "length": ("short", "long"),
    "difficulty": ("never", "seldom", "mostly", "always", "unknown"),
}


class MixtureSettings(Section):
    """How much of each group of examples is trained on: `[examples.mixture]`. A group with more
    generated tokens than its share is under-sampled, one with fewer over-sampled: some examples
    are trained on several times. Validation examples stay as they are.
    """

    by: Literal["source", "tag", "teacher", "length", "difficulty"] = "source"
    """What tells the groups apart: the source or the tag of a problem, the teacher of a trace, its
    length, or how often the teacher solved the problem.
    """
    weights: dict[str, Annotated[float, Field(ge=1e-9, le=1e9)]]
    """The share of each group, as parts of all; what is not named is left out. Lengths are `short`
    and `long`; problems are solved `never`, `seldom` (in half of the samples or fewer), `mostly` or
    `always`, and `unknown` where no sample was decided. Example: { short = 4, long = 1 }
    """
    tokens: Annotated[int, Field(ge=1)] | None = None
    """The tokens of all groups together; without it as many as there are without a copy. [tokens]
    Example: 2000000
    """
    short_tokens: Annotated[int, Field(ge=1)] = 1000
    """Up to so many tokens a trace is short. [tokens]"""
    most_copies: Copies = 4
    """How often an example may be trained on in one epoch."""

    @model_validator(mode="after")
    def _names_groups(self) -> MixtureSettings:
        if not self.weights:
            raise ValueError("weights: names no group")
        known = _GROUPS.get(self.by)
        if known is None:
            return self
        for name in self.weights:
            if name not in known:
                raise ValueError(
                    f"weights: by = {self.by!r} tells {', '.join(known)} apart, not {name!r}"
                )
        return self


class ExampleSettings(Section):
    """Which verified traces become training examples. An `unverified` student uses the same
    settings except `outcomes`.

    `select`: `all`, or `k` traces of each problem: the `shortest` / `longest` / `random` / `first`,
    the most `diverse`, those that give the `majority`'s answer, those that are best by a score of a
    model (`rsr`, `ln`, `gn`, `das`), or those of the `best_teacher` (docs/selection.md).
    `outcomes` are the outcomes that make a trace usable. `min_tokens` and `max_tokens` bound the
    generated tokens. `validation` is a share of problems, not of traces. `filters` has a table for
    each further filter, by name (curation/filters).

    A gold is under suspicion when more than `suspect_share` of a problem's samples, and two, agree
    on another answer; `suspect_golds = "leave_out"` makes no examples of such problems.
    """

    select: SelectRule = "all"
    """Which usable traces of a problem become examples: all, or `k` of them."""
    scores: ScoreSettings = Field(
        default=ScoreSettings(), exclude_if=lambda scores: scores == ScoreSettings()
    )
    """The model that scores traces, for the rules of `select` that go by scores."""
    mixture: MixtureSettings | None = Field(
        default=None, exclude_if=lambda mixture: mixture is None
    )
    """How much of each group of examples is trained on; on where the table stands."""
    k: Annotated[int, Field(ge=1)] = 1
    """How many traces of each problem become examples. [traces]"""
    outcomes: tuple[Literal["correct", "wrong", "no_answer", "truncated", "undecided"], ...] = (
        "correct",
    )
    """The outcomes that make a trace usable."""
    min_tokens: Annotated[int, Field(ge=0)] = 0
    """The least tokens of a trace that is used. [tokens]"""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The most tokens of a trace that is used. [tokens]"""
    require_think: bool = False
    """Whether a trace needs a closed think block."""
    require_boxed: bool = False
    """Whether a trace needs a boxed answer."""
    cut_thinking: bool = Field(default=False, exclude_if=lambda is_kept: not is_kept)
    """Whether a trace whose reasoning was ended at the thinking budget is usable: its answer may be
    right, but it teaches to break off in the middle of a thought.
    """
    # Written only where there are any, so that the fingerprint of runs without them stays the same.
    filters: dict[str, dict[str, Any]] = Field(
        default_factory=dict[str, dict[str, Any]], exclude_if=lambda filters: not filters
    )
    """Further filters of traces, a table for each that is on (`list filters`). Example: {
    language = { most = 0.05 } }
    """
    suspect_golds: Literal["keep", "leave_out"] = Field(
        default="keep", exclude_if=lambda choice: choice == "keep"
    )
    """Whether problems whose gold is under suspicion make examples."""
    suspect_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, exclude_if=lambda share: share == 0.5
    )
    """The share of a problem's samples that must agree on another answer for its gold to be
    under suspicion.
    """
    prompt: str | None = None
    """The prompt of the examples, and of the students; without one that of the traces. Example:
    "think"
    """
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of problems whose examples are kept out of training."""
    seed: int = 0
    """What the split and random choices begin with."""
    export: tuple[
        Literal["prompt_completion", "messages", "sharegpt", "axolotl", "openai_chat"], ...
    ] = ()
    """Formats in which the examples are written for other trainers."""

    @property
    def scored_by(self) -> ScoreRule | None:
        """The score by which `select` chooses; None for a rule that needs none."""
        if self.select == "best_teacher":
            return self.scores.best_by
        if self.select in SCORE_RULES:
            return self.select
        return None


Rate = Annotated[float, Field(ge=0, le=1)]


class StudentExamples(Section):
    """Which of the examples one student is trained on: `[students.examples]`, below its
    `[[students]]`. In a chain of students, each of which has the one before as its base, it is a
    curriculum. Examples to validate on stay.
    """

    sources: tuple[str, ...] = ()
    """Only those of problems of these sources. Example: ["gsm"]"""
    tags: tuple[str, ...] = ()
    """Only those of problems with one of these tags; `untagged` are those without. Example:
    ["competition"]
    """
    teachers: tuple[str, ...] = ()
    """Only those that one of these teachers wrote, named without a revision; of published traces
    that do not say who did, `unknown`. Example: ["Qwen/Qwen3-8B"]
    """
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    """Only traces of so many generated tokens or more. [tokens] Example: 500"""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Only traces of so many generated tokens or fewer. [tokens] Example: 2000"""
    min_temperature: Annotated[float, Field(ge=0)] | None = None
    """Only traces that were sampled at this temperature or above. Example: 0.9"""
    max_temperature: Annotated[float, Field(ge=0)] | None = None
    """Only traces that were sampled at this temperature or below. Example: 0.7"""
    min_pass_rate: Rate | None = None
    """Only problems that the teacher solved this often or more often. Example: 0.5"""
    max_pass_rate: Rate | None = None
    """Only problems that the teacher solved this often or less often. Example: 0.5"""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many of them, by a hash of `seed` and trace: a larger limit keeps those of a
    smaller one. [examples] Example: 400
    """
    seed: int = 0
    """What the choice of `limit` begins with."""

    @model_validator(mode="after")
    def _chooses(self) -> StudentExamples:
        for name in ("tokens", "temperature", "pass_rate"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{name}: {low} is above max_{name} = {high}")
        return self

    @property
    def words(self) -> str:
        """What is set, as it is written."""
        given = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{key} = {value}" for key, value in given.items())


class ArchitectureSettings(Section):
    """A from-scratch model. `tokenizer` is a folder or hub id, or `train`: a byte-level BPE that
    splits digits, trained on the examples.
    """

    type: Literal["llama", "qwen2", "qwen3"] = "llama"
    """The family of the model."""
    hidden_size: Annotated[int, Field(ge=8)]
    """The width of its hidden states."""
    intermediate_size: Annotated[int, Field(ge=8)]
    """The width of its feed-forward layers."""
    num_hidden_layers: Annotated[int, Field(ge=1)]
    """Its number of layers."""
    num_attention_heads: Annotated[int, Field(ge=1)]
    """Its attention heads in each layer."""
    num_key_value_heads: Annotated[int, Field(ge=1)] | None = None
    """Its key-value heads in each layer; without it as many as attention heads. Example: 2"""
    max_position_embeddings: Annotated[int, Field(ge=16)] = 1024
    """The longest text that it can read. [tokens]"""
    rope_theta: float = 10000.0
    """The base of its rotary positions."""
    tie_word_embeddings: bool = True
    """Whether the output layer shares the weights of the embeddings."""
    tokenizer: str = "train"
    """A folder or hub id, or "train": a byte-level BPE that splits digits, trained on the
    examples.
    """
    vocab_size: Annotated[int, Field(ge=300)] = 1024
    """The size of a trained tokenizer's vocabulary. [tokens]"""


class LoraSettings(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): rank, scale and which linear layers.

    `use_dora` learns magnitude and direction apart (DoRA, Liu et al. 2024, arXiv 2402.09353);
    `use_rslora` scales by alpha/√r in place of alpha/r (Kalajdzievski 2023, arXiv 2312.03732).
    """

    r: Annotated[int, Field(ge=1)] = 32
    """The rank of each update."""
    alpha: Annotated[int, Field(ge=1)] = 64
    """The scale of the updates; they are multiplied by alpha/r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of inputs of the updates that is dropped in training."""
    targets: str | tuple[str, ...] = "all-linear"
    """Which linear layers get an update: "all-linear", or names."""
    # Written only where they are on, so that the fingerprint of students without them stays the
    # same.
    use_dora: bool = Field(default=False, exclude_if=lambda is_on: not is_on)
    """Whether magnitude and direction are learnt apart (DoRA)."""
    use_rslora: bool = Field(default=False, exclude_if=lambda is_on: not is_on)
    """Whether updates are scaled by alpha/√r in place of alpha/r (rsLoRA)."""


# Settings of logging, saving and evaluation; the weights do not depend on them.
WATCHING = {"report_to", "save_every", "evaluate_every", "baselines"}
# Methods that only serve for comparison.
CONTROLS = ("base", "answer_only", "unverified")
# The prefix of a base that is another student of the same file: `base = "student:warm"`.
STUDENT = "student:"
# Methods that learn from text alone, and what they learn from.
PLAIN_METHODS = {
    "sft": "The examples: the teacher's verified traces.",
    "answer_only": "The same problems with the gold answer and no reasoning: a control.",
    "unverified": "Traces chosen by the same rules, right or wrong: a control.",
    "base": "Nothing: the untouched base, a control.",
}
# Keys that only methods with a teacher use.
TEACHING = {"teacher", "teacher_revision", "teacher_trust_remote_code", *METHODS}
# Keys that the untouched base of a student depends on.
START = {
    "base",
    "revision",
    "architecture",
    "trust_remote_code",
    "eos_token",
    "chat_template",
    "template_options",
    "rope_theta",
    "max_position_embeddings",
    "bf16",
    "shrink",
}


Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"]


def known_method(name: str) -> str:
    """The name itself. Raises ValueError for an unknown method."""
    known = [*PLAIN_METHODS, *METHODS]
    if name not in known:
        raise ValueError(f"method: {name!r} unknown. {nearest(name, known)}")
    return name


MethodName = Annotated[
    str,
    AfterValidator(known_method),
    Field(json_schema_extra={"enum": [*PLAIN_METHODS, *METHODS]}),
]


def _method_tables() -> type[Section]:
    """A section with one optional table for each registered method."""
    tables: dict[str, Any] = {}
    for name, method in METHODS.items():
        about = f'The settings of `method = "{name}"`; without the table its defaults.'
        tables[name] = (method.settings_class | None, Field(default=None, description=about))
    return create_model("MethodTables", __base__=Section, **tables)


MethodTables = _method_tables()


class StudentSettings(MethodTables):
    """One model to train: `[[students]]`.

    `method="sft"` trains on the examples; `"answer_only"` on the same problems with the gold answer
    and no reasoning; `"unverified"` on traces chosen by the same rules without regard to verdicts,
    wrong ones too; `"base"` is the untouched base; the others learn from a teacher's distributions
    (methods/, one table each), where `teacher` is a hub id or folder (None: the one that wrote the
    traces). `base` is a hub id, a folder, or `student:NAME`, another student of this file;
    `architecture` starts from scratch, `shrink` cuts the student out of `base`. `batch_size` counts
    examples per optimizer step over all devices (packed rows when `packing`, which is refused for
    models that do not keep packed rows apart). `baselines` are trained along with the student; the
    default two need no teacher. `attn_implementation` is transformers' name of the attention that
    student and teacher use (None: transformers' choice, or `eager` for a model with soft-capped
    attention, because sdpa would leave the soft-cap out). `chat_template` is a file, and
    `template_options` are its options, as `{enable_thinking = true}`: in training, in evals, and,
    written into the student's own template, wherever it is served. `keep="best"` delivers the step
    with the lowest validation loss of those that `evaluate_every` measures, and
    `early_stopping_patience` ends a training after so many of them without a lower one; both hold
    for the controls too. `seeds` trains one model for each, `NAME-seed0` and so on, which the
    report takes together.
    """

    name: Name
    """The student's name, in scores and folders."""
    method: MethodName = "sft"
    """How it learns (`list methods`): from examples (`sft`), as a control, or from a teacher's
    distributions.
    """
    teacher: str | None = None
    """The teacher whose distributions it learns from: a hub id or folder; without one the one
    that wrote the traces. Example: "Qwen/Qwen3-8B"
    """
    teacher_revision: str | None = None
    """The branch, tag or commit of that teacher. Example: "main"
    """
    # Of the teacher that is named here; one of [[traces.teachers]] says it itself.
    teacher_trust_remote_code: bool = Field(default=False, exclude_if=lambda is_on: not is_on)
    """Whether code that comes with that teacher may be executed."""
    base: str | None = None
    """What it starts from: a hub id, a folder, or `student:NAME`, another student of this file."""
    revision: str | None = None
    """The branch, tag or commit of the base; without one the newest, which is recorded.
    Example: "main"
    """
    architecture: ArchitectureSettings | None = None
    """A model from scratch in place of a base."""
    trust_remote_code: bool = False
    """Whether code that comes with the base may be executed."""
    epochs: Annotated[float, Field(gt=0)] = 3.0
    """How often training goes through the examples."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """The most optimizer steps, whatever `epochs` says. [steps]"""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples per optimizer step over all devices; packed rows with `packing`. [examples]"""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """The highest learning rate."""
    loss_mean: Literal["token", "sample"] = Field(
        default="token", exclude_if=lambda mean: mean == "token"
    )
    """What the loss of a step is the mean of: all its tokens, so that long examples weigh more, or
    its examples, each of which is the mean of its own tokens. Only of methods without a teacher.
    """
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The last learning rate, as a share of the highest."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """The share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """By how much weights shrink at each step, times the learning rate."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """The decay of AdamW's second moment."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """The norm at which gradients are clipped."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the matrices of the hidden layers."""
    max_length: Annotated[int, Field(ge=16)] = 4096
    """The longest example; what is longer is left out by name. [tokens]"""
    packing: bool = False
    """Whether several examples share a row; refused for models that do not keep them apart."""
    bf16: bool = True
    """Whether computation is in bfloat16."""
    # Written only where it is given, so that the fingerprint of students without it stays the same.
    attn_implementation: Attention | None = Field(
        default=None, exclude_if=lambda attention: attention is None
    )
    """The attention that student and teacher use; without it transformers' choice."""
    lora: LoraSettings | None = None
    """LoRA in place of training all weights; on where the table stands."""
    shrink: ShrinkSettings | None = None
    """Cuts the student out of its base; on where the table stands."""
    examples: StudentExamples | None = Field(
        default=None, exclude_if=lambda examples: examples is None
    )
    """Which of the examples it is trained on; without the table all."""
    eos_token: str | None = None
    """The token that ends an answer, where the base's own is another. Example: "<|im_end|>"
    """
    chat_template: str | None = None
    """A file with the chat template, where the base has none or another one. Example:
    "chat.jinja"
    """
    # Written only where there are any: students without them stay what they were.
    template_options: dict[str, Scalar] = Field(
        default_factory=dict[str, Scalar], exclude_if=lambda options: not options
    )
    """Options of the chat template, in training, in evals and wherever the student is served.
    Example: { enable_thinking = true }
    """
    rope_theta: float | None = None
    """The base of rotary positions, where it is not the base model's. Example: 1000000.0"""
    max_position_embeddings: int | None = None
    """The longest text that it can read, where that is not the base model's. [tokens] Example:
    32768
    """
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    """After how many steps the validation loss is measured. [steps]"""
    # Written only where they are given: students without them stay what they were.
    keep: Literal["last", "best"] = Field(default="last", exclude_if=lambda keep: keep == "last")
    """Which weights are the student: those of the last step, or of the step with the lowest
    validation loss.
    """
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = Field(
        default=None, exclude_if=lambda patience: patience is None
    )
    """After how many measurements without a lower validation loss training ends. Example: 3"""
    save_every: Annotated[int, Field(ge=1)] = 500
    """After how many steps a checkpoint is written. [steps]"""
    report_to: tuple[Literal["wandb", "tensorboard"], ...] = ()
    """Services that training reports to, beside the run's own files."""
    seed: int = 0
    """What order and initial weights begin with."""
    seeds: tuple[int, ...] = ()
    """Trains one model for each, `NAME-seed0` and so on, which the report takes together.
    Example: [0, 1, 2]
    """
    baselines: tuple[Literal["base", "answer_only", "unverified"], ...] = ("base", "answer_only")
    """Controls that are trained and measured along with the student."""

    def start(self) -> str:
        """Equal for students whose untouched base is the same model."""
        keys = set(START)
        if self.architecture is not None:
            keys |= {"seed", "seeds"}
        return self.model_dump_json(include=keys)

    def recipe(self) -> str:
        """Equal for students that train alike: their answer-only and unverified controls are the
        same models.
        """
        return self.model_dump_json(exclude=self.watching() | TEACHING | {"name", "method"})

    def watching(self) -> set[str]:
        """The settings that the weights do not depend on."""
        if self.selects_checkpoint:
            return WATCHING - {"evaluate_every"}
        return WATCHING

    @property
    def selects_checkpoint(self) -> bool:
        """Whether the validation loss has a say in which weights are the student."""
        return self.keep == "best" or self.early_stopping_patience is not None

    @property
    def starts_from(self) -> str | None:
        """The student of the same file that this one starts from."""
        if self.base is None or not self.base.startswith(STUDENT):
            return None
        return self.base.removeprefix(STUDENT)

    def distils(self) -> bool:
        """True for the methods that learn from a teacher's distributions or representations."""
        return self.method in METHODS

    def method_settings(self) -> MethodSettings:
        """The method's own table, or its defaults. Only for students that distil."""
        table: MethodSettings | None = getattr(self, self.method)
        return table or METHODS[self.method].settings_class()

    def kind(self) -> str:
        """Equal for students of one method that would be the same model."""
        return self.start() if self.method == "base" else self.recipe()

    @model_validator(mode="after")
    def _options_of_its_template(self) -> StudentSettings:
        require_options_of_a_template(self.template_options)
        if "chat_template" in self.template_options:
            raise ValueError("template_options: chat_template has a key of its own, a file")
        return self

    @model_validator(mode="after")
    def _own_table_only(self) -> StudentSettings:
        for name in METHODS:
            if name != self.method and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: a table for another method; this student's method is {self.method!r}"
                )
        named = self.teacher or self.teacher_revision or self.teacher_trust_remote_code
        if named and not self.distils():
            raise ValueError(
                f"teacher: method {self.method!r} has no teacher; it learns from the examples alone"
            )
        return self

    @model_validator(mode="after")
    def _means_what_it_can(self) -> StudentSettings:
        if self.loss_mean == "sample" and self.distils():
            raise ValueError(
                f"loss_mean: method {self.method!r} takes the mean over tokens; only methods "
                "without a teacher take that over examples"
            )
        return self

    @model_validator(mode="after")
    def _flash_in_halves(self) -> StudentSettings:
        attention = self.attn_implementation or ""
        if attention.startswith("flash") and not self.bf16:
            raise ValueError(
                "attn_implementation: flash attention computes only in bfloat16; it needs "
                "bf16 = true"
            )
        return self

    @model_validator(mode="after")
    def _validates(self) -> StudentSettings:
        """What is chosen by validation needs it."""
        asked = {
            "keep": self.keep != "last",
            "early_stopping_patience": self.early_stopping_patience is not None,
        }
        for key, is_asked in asked.items():
            if is_asked and self.evaluate_every is None:
                raise ValueError(
                    f"{key}: goes by the validation loss; set evaluate_every, after how many steps "
                    "it is measured"
                )
        return self

    @model_validator(mode="after")
    def _one_start(self) -> StudentSettings:
        if (self.base is None) == (self.architecture is None):
            raise ValueError(
                "base: give either base (a hub id or folder) or an [students.architecture] "
                "table, not both or none"
            )
        if self.shrink is not None and self.base is None:
            raise ValueError(
                "shrink: cuts a student out of its base, so it needs base and excludes "
                "[students.architecture]"
            )
        return self
