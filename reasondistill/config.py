"""The whole shape of a pipeline file (WHAT is done) and of a cluster file (WHERE it is done).

Every section is a stage, a module and a run folder. Unknown keys fail with the nearest known one. What stands in a
pipeline file bears identity; what stands in a cluster file never does.

    pipeline = load_pipeline(Path("pipelines/demo.toml"), ["traces.temperature=1.0"])
    cluster = load_cluster(Path("pipelines/clusters/local.toml"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from reasondistill.errors import ConfigError
from reasondistill.records import Sampling
from reasondistill.sections import Section, load_section, nearest

Scalar = str | int | float | bool
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


# ---- WHAT: a pipeline file ----------------------------------------------------------------------------------------


class ProblemSource(Section):
    """Where problems come from and how their rows map to a Problem.

    `source="hub"`: `dataset` is a Hugging Face dataset id (`config`, `split`, `revision`).
    `source="file"`: `dataset` is a .jsonl, .json, .csv or .parquet file.
    `source="procedural"`: `dataset` is a reasoning-gym name; `seed` and `options` make the stream, `limit` its length.
    The field keys may be dotted (`metadata.answer_cot`). `answer_after="####"` takes the text after the last such mark. `answer=""`:
    nobody knows the answers; the samples vote (`[verdicts] majority`).
    `filter` keeps rows whose field is one of the listed values.
    """

    source: Literal["hub", "file", "procedural"]
    dataset: str
    name: Name | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    question: str = "question"
    answer: str = "answer"
    solution: str | None = None
    id: str | None = None
    subject: str | None = None
    level: str | None = None
    answer_after: str | None = None
    filter: dict[str, list[Scalar]] = {}
    shuffle: bool = False
    seed: int = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    options: dict[str, Scalar | list[Scalar]] = {}
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _procedural_has_length(self) -> ProblemSource:
        if self.source == "procedural" and self.limit is None:
            raise ValueError("limit: a procedural set has no end; say how many problems you want")
        return self


class SamplingSettings(Section):
    """How completions are drawn: a vendor's recommendation by name (`settings`), single keys over it, the rest by default."""

    settings: str | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: tuple[str, ...] | None = None

    usual: ClassVar[dict[str, Any]] = {}

    def resolve(self) -> Sampling:
        """The complete Sampling. Raises ConfigError when `settings` names no known vendor setting."""
        values = dict(self.usual)
        if self.settings is not None:
            if self.settings not in VENDOR_SETTINGS:
                raise ConfigError(f"settings = {self.settings!r}: unknown. {nearest(self.settings, VENDOR_SETTINGS)}")
            values |= VENDOR_SETTINGS[self.settings]
        own = self.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        return Sampling(**(values | own))


# What vendors recommend for their models, by name; the link is the source.
VENDOR_SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    # https://huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B (usage recommendations)
    "deepseek-r1": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768},
    # https://huggingface.co/Qwen/QwQ-32B (usage guidelines)
    "qwq": {"temperature": 0.6, "top_p": 0.95, "top_k": 40, "min_p": 0.0, "max_tokens": 32768},
    # https://huggingface.co/Qwen/Qwen3-8B (best practices)
    "qwen3-thinking": {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "max_tokens": 32768},
    "qwen3-instruct": {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0, "max_tokens": 16384},
    # generation_config.json of Qwen/Qwen2.5-*-Instruct
    "qwen2.5-instruct": {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "max_tokens": 4096},
    # https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct generation_config.json
    "llama3-instruct": {"temperature": 0.6, "top_p": 0.9, "max_tokens": 4096},
}


class Teacher(Section):
    """One model that writes traces. Problems are dealt to teachers by `share`, the same way every time.

    `sampler="vllm"`: `model` is a hub id or folder. `"openai"`: a model name at any OpenAI-compatible server (address in
    the cluster file). `"reference"`: the problems' own reference solutions. `"scripted"`: a JSONL of completions, for dry runs.
    """

    model: str
    name: Name | None = None
    revision: str | None = None
    sampler: Literal["vllm", "openai", "reference", "scripted"] = "vllm"
    share: Annotated[float, Field(gt=0)] = 1.0
    template_options: dict[str, Scalar] = {}
    trust_remote_code: bool = False


class Traces(SamplingSettings):
    """n samples per problem from one or several teachers. Raising `n` tops up."""

    prompt: str = "think"
    n: Annotated[int, Field(ge=1)] = 4
    teachers: Annotated[tuple[Teacher, ...], Field(min_length=1)]


class Judge(SamplingSettings):
    """A model that is asked whether an answer that the grader could not decide equals the gold answer: `[verdicts.judge]`.

    `sampler` and `model` as for a teacher; `prompt` also has `{gold}` and `{answer}` in it. Greedy unless the file says otherwise.
    """

    model: str
    revision: str | None = None
    sampler: Literal["vllm", "openai", "scripted"] = "vllm"
    prompt: str = "judge"
    template_options: dict[str, Scalar] = {}
    trust_remote_code: bool = False

    usual: ClassVar[dict[str, Any]] = {"temperature": 0.0}

    def as_teacher(self) -> Teacher:
        """The same model as samplers are opened for."""
        return Teacher(**self.model_dump(include={"model", "revision", "sampler", "template_options", "trust_remote_code"}))


class Verdicts(Section):
    """How traces are graded: by rules, and by a `judge`, if there is one, where the rules come to no decision.

    `majority`: where a problem has no gold answer, the answer that at least this share of its samples gives stands in for it.
    """

    policy: str = "default"
    deadline_s: Annotated[float, Field(gt=0)] = 5.0
    judge: Judge | None = None
    majority: Annotated[float, Field(gt=0, le=1)] | None = None


class Examples(Section):
    """Which verified traces become training examples.

    `select`: `all`, or the `k` `shortest` / `longest` / `random` / `first` ones of each problem. `outcomes` says what counts as
    usable. `min_tokens` and `max_tokens` bound the generated tokens. `validation` is a share of *problems*.
    """

    select: Literal["all", "shortest", "longest", "random", "first"] = "all"
    k: Annotated[int, Field(ge=1)] = 1
    outcomes: tuple[Literal["correct", "wrong", "no_answer", "truncated", "undecided"], ...] = ("correct",)
    min_tokens: Annotated[int, Field(ge=0)] = 0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    require_think: bool = False
    require_boxed: bool = False
    prompt: str | None = None
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.05
    seed: int = 0
    export: tuple[Literal["prompt_completion", "messages", "sharegpt"], ...] = ()


class Architecture(Section):
    """A from-scratch model. `tokenizer` is a folder or hub id, or `train`: a byte-level BPE that splits digits, trained on the examples."""

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


class Lora(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): rank, scale and which linear layers."""

    r: Annotated[int, Field(ge=1)] = 32
    alpha: Annotated[int, Field(ge=1)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"


# Settings of how training is watched, saved and accompanied; the weights do not depend on them.
WATCHING = {"report_to", "save_every", "evaluate_every", "baselines"}
# What the untouched base of a student depends on.
START = {
    "base",
    "revision",
    "architecture",
    "trust_remote_code",
    "eos_token",
    "chat_template",
    "rope_theta",
    "max_position_embeddings",
    "bf16",
}


class StudentSettings(Section):
    """One model to make: `[[students]]`.

    `method="sft"` trains on the examples; `"answer_only"` on the same problems with the gold answer and no reasoning; `"base"` is
    the untouched base. `base` is a hub id or folder; `architecture` starts from scratch. `batch_size` counts examples per optimizer
    step over all devices (packed rows when `packing`). `baselines` come with it: they need no teacher.
    """

    name: Name
    method: Literal["sft", "answer_only", "base"] = "sft"
    base: str | None = None
    revision: str | None = None
    architecture: Architecture | None = None
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
    lora: Lora | None = None
    eos_token: str | None = None
    chat_template: str | None = None
    rope_theta: float | None = None
    max_position_embeddings: int | None = None
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    save_every: Annotated[int, Field(ge=1)] = 500
    report_to: tuple[Literal["wandb", "tensorboard"], ...] = ()
    seed: int = 0
    baselines: tuple[Literal["base", "answer_only"], ...] = ("base", "answer_only")

    def start(self) -> str:
        """Equal for students whose untouched base is the same model."""
        return self.model_dump_json(include=START | ({"seed"} if self.architecture is not None else set()))

    def recipe(self) -> str:
        """Equal for students that train alike: their answer-only twin is the same model."""
        return self.model_dump_json(exclude=WATCHING | {"name", "method"})

    def kind(self) -> str:
        """Equal for students of one method that come out as the same model."""
        return self.start() if self.method == "base" else self.recipe()

    @model_validator(mode="after")
    def _one_start(self) -> StudentSettings:
        if (self.base is None) == (self.architecture is None):
            raise ValueError("base: give either base (a hub id or folder) or an [students.architecture] table, not both or none")
        return self


class Evals(SamplingSettings):
    """Which benchmarks, with how many samples per problem (`n`), and how they are sampled. Raising `n` tops up."""

    benchmarks: tuple[str, ...] = ()
    n: Annotated[int, Field(ge=1)] = 1
    prompt: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    teacher: bool = True


class ReportSettings(Section):
    """What the report shows besides the table."""

    title: str | None = None
    traces: Annotated[int, Field(ge=0)] = 10


class Pipeline(Section):
    """A pipeline file."""

    name: Name
    about: str = ""
    problems: ProblemSource
    traces: Traces
    verdicts: Verdicts = Verdicts()
    examples: Examples = Examples()
    students: tuple[StudentSettings, ...] = ()
    evals: Evals = Evals()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _somebody_knows_the_answers(self) -> Pipeline:
        if not self.problems.answer and self.verdicts.majority is None:
            raise ValueError('verdicts: the problems have no answers (answer = ""); let the samples vote with majority = 0.5')
        if self.verdicts.majority is not None and self.traces.n < 2:
            raise ValueError("verdicts.majority: traces.n = 1; one sample is no majority")
        return self

    @model_validator(mode="after")
    def _distinct_students(self) -> Pipeline:
        names = [student.name for student in self.all_students()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"students: the name {twice[0]!r} is used twice (a student's baselines have names too: see `baselines`)")
        return self

    @property
    def student_prompt(self) -> str:
        """The prompt that examples and evals use unless they name their own."""
        return self.examples.prompt or self.traces.prompt

    def all_students(self) -> tuple[StudentSettings, ...]:
        """The named students and the baselines that come with them, in the order in which they are made.

        Students that start alike share one untouched base, students that train alike one answer-only twin; one that the file names
        itself is enough. The first of a kind has the plain name, which it keeps when more students come.
        """
        made: list[StudentSettings] = []
        known = {(student.method, student.kind()) for student in self.students if student.method != "sft"}
        for student in self.students:
            made.append(student)
            for method in student.baselines if student.method == "sft" else ():
                twin = student.model_copy(update={"method": method, "baselines": ()})
                if (method, twin.kind()) not in known:
                    label = method.replace("_", "-")
                    first = method not in {other for other, _ in known}
                    known.add((method, twin.kind()))
                    made.append(twin.model_copy(update={"name": label if first else f"{student.name}-{label}"}))
        return tuple(made)


class Benchmark(Section):
    """A file of eval/benchmarks: what is measured."""

    name: Name
    about: str = ""
    licence: str = ""
    problems: ProblemSource

    @model_validator(mode="after")
    def _has_answers(self) -> Benchmark:
        if not self.problems.answer:
            raise ValueError("problems.answer: a benchmark needs gold answers; name the field that holds them")
        return self


# ---- WHERE: a cluster file ----------------------------------------------------------------------------------------


class VllmSettings(Section):
    """How vLLM runs here."""

    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    enforce_eager: bool | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    cpu_kvcache_gib: Annotated[int, Field(ge=1)] = 2
    max_num_seqs: Annotated[int, Field(ge=1)] = 256


class OpenAISettings(Section):
    """How a server is reached. The key is read from the environment variable `api_key_env` and never stored."""

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1)] = 32
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    retries: Annotated[int, Field(ge=0)] = 6


class TrainSettings(Section):
    """How training runs here. `micro_batch_size` is per device; the global batch stays the student's `batch_size`."""

    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_checkpointing: bool = False
    threads: Annotated[int, Field(ge=1)] | None = None
    parallel: Annotated[int, Field(ge=1)] = 1


class GradeSettings(Section):
    """How grading runs here. `workers=None` takes the number of cores."""

    workers: Annotated[int, Field(ge=1)] | None = None
    memory_mib: Annotated[int, Field(ge=128)] = 1024


class Cluster(Section):
    """A cluster file. None of it bears identity."""

    kind: Literal["local"] = "local"
    about: str = ""
    shards: Annotated[int, Field(ge=1)] = 1
    vllm: VllmSettings = VllmSettings()
    openai: OpenAISettings = OpenAISettings()
    train: TrainSettings = TrainSettings()
    grade: GradeSettings = GradeSettings()


# ---- loading ------------------------------------------------------------------------------------------------------


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file and apply `key=value` overrides. Raises ConfigError: file, key, what we found, what to do."""
    pipeline = load_section(path, Pipeline, overrides)
    for name, section in (("traces", pipeline.traces), ("evals", pipeline.evals), ("verdicts.judge", pipeline.verdicts.judge)):
        try:
            _ = section.resolve() if section is not None else None
        except ConfigError as error:
            raise ConfigError(f"{path} [{name}] {error}") from None
    return pipeline


def load_cluster(path: Path, overrides: Sequence[str] = ()) -> Cluster:
    """Read a cluster file. Raises ConfigError."""
    return load_section(path, Cluster, overrides)


def load_benchmark(path: Path) -> Benchmark:
    """Read a benchmark file. Raises ConfigError."""
    return load_section(path, Benchmark)
