"""What a student is trained on and how: `[examples]`, `[[students]]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from reasondistill.config.basics import Name, Scalar
from reasondistill.config.sampling import require_options_of_a_template
from reasondistill.config.shrinking import ShrinkSettings
from reasondistill.methods import METHODS, MethodSettings
from reasondistill.sections import Section, nearest


class ExampleSettings(Section):
    """Which verified traces become training examples. An `unverified` student uses the same
    settings except `outcomes`.

    `select`: `all`, or the `k` `shortest` / `longest` / `random` / `first` traces of each problem.
    `outcomes` are the outcomes that make a trace usable. `min_tokens` and `max_tokens` bound the
    generated tokens. `validation` is a share of *problems*. `filters` has a table for each further
    filter, by name (curation/filters).

    A gold is under suspicion when more than `suspect_share` of a problem's samples, and two, agree
    on another answer; `suspect_golds = "leave_out"` makes no examples of such problems.
    """

    select: Literal["all", "shortest", "longest", "random", "first"] = "all"
    k: Annotated[int, Field(ge=1)] = 1
    outcomes: tuple[Literal["correct", "wrong", "no_answer", "truncated", "undecided"], ...] = (
        "correct",
    )
    min_tokens: Annotated[int, Field(ge=0)] = 0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    require_think: bool = False
    require_boxed: bool = False
    # Written only where there are any, so that the fingerprint of runs without them stays the same.
    filters: dict[str, dict[str, Any]] = Field(
        default_factory=dict[str, dict[str, Any]], exclude_if=lambda filters: not filters
    )
    suspect_golds: Literal["keep", "leave_out"] = Field(
        default="keep", exclude_if=lambda choice: choice == "keep"
    )
    suspect_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, exclude_if=lambda share: share == 0.5
    )
    prompt: str | None = None
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.05
    seed: int = 0
    export: tuple[
        Literal["prompt_completion", "messages", "sharegpt", "axolotl", "openai_chat"], ...
    ] = ()


class ArchitectureSettings(Section):
    """A from-scratch model. `tokenizer` is a folder or hub id, or `train`: a byte-level BPE that
    splits digits, trained on the examples.
    """

    type: Literal["llama", "qwen2", "qwen3"] = "llama"
    hidden_size: Annotated[int, Field(ge=8)]
    intermediate_size: Annotated[int, Field(ge=8)]
    num_hidden_layers: Annotated[int, Field(ge=1)]
    num_attention_heads: Annotated[int, Field(ge=1)]
    num_key_value_heads: Annotated[int, Field(ge=1)] | None = None
    max_position_embeddings: Annotated[int, Field(ge=16)] = 1024
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True
    tokenizer: str = "train"
    vocab_size: Annotated[int, Field(ge=300)] = 1024


class LoraSettings(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): rank, scale and which linear layers.

    `use_dora` learns magnitude and direction apart (DoRA, Liu et al. 2024, arXiv 2402.09353);
    `use_rslora` scales by alpha/√r in place of alpha/r (Kalajdzievski 2023, arXiv 2312.03732).
    """

    r: Annotated[int, Field(ge=1)] = 32
    alpha: Annotated[int, Field(ge=1)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    # Written only where they are on, so that the fingerprint of students without them stays the
    # same.
    use_dora: bool = Field(default=False, exclude_if=lambda is_on: not is_on)
    use_rslora: bool = Field(default=False, exclude_if=lambda is_on: not is_on)


# Settings of logging, saving and evaluation; the weights do not depend on them.
WATCHING = {"report_to", "save_every", "evaluate_every", "baselines"}
# Methods that only serve for comparison.
CONTROLS = ("base", "answer_only", "unverified")
# The prefix of a base that is another student of the same file: `base = "student:warm"`.
STUDENT = "student:"
# Methods that learn from text alone.
PLAIN_METHODS = ("sft", "answer_only", "unverified", "base")
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
        tables[name] = (method.settings_class | None, None)
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
    method: MethodName = "sft"
    teacher: str | None = None
    teacher_revision: str | None = None
    # Of the teacher that is named here; one of [[traces.teachers]] says it itself.
    teacher_trust_remote_code: bool = Field(default=False, exclude_if=lambda is_on: not is_on)
    base: str | None = None
    revision: str | None = None
    architecture: ArchitectureSettings | None = None
    trust_remote_code: bool = False
    epochs: Annotated[float, Field(gt=0)] = 3.0
    max_steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    max_length: Annotated[int, Field(ge=16)] = 4096
    packing: bool = False
    bf16: bool = True
    # Written only where it is given, so that the fingerprint of students without it stays the same.
    attn_implementation: Attention | None = Field(
        default=None, exclude_if=lambda attention: attention is None
    )
    lora: LoraSettings | None = None
    shrink: ShrinkSettings | None = None
    eos_token: str | None = None
    chat_template: str | None = None
    # Written only where there are any: students without them stay what they were.
    template_options: dict[str, Scalar] = Field(
        default_factory=dict[str, Scalar], exclude_if=lambda options: not options
    )
    rope_theta: float | None = None
    max_position_embeddings: int | None = None
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    # Written only where they are given: students without them stay what they were.
    keep: Literal["last", "best"] = Field(default="last", exclude_if=lambda keep: keep == "last")
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = Field(
        default=None, exclude_if=lambda patience: patience is None
    )
    save_every: Annotated[int, Field(ge=1)] = 500
    report_to: tuple[Literal["wandb", "tensorboard"], ...] = ()
    seed: int = 0
    seeds: tuple[int, ...] = ()
    baselines: tuple[Literal["base", "answer_only", "unverified"], ...] = ("base", "answer_only")

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
