"""Which models write traces and how they are sampled and graded: `[traces]`, `[verdicts]`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from reasondistill.config.basics import Name, Scalar
from reasondistill.config.sampler_kinds import (
    DEFAULT_SAMPLER,
    Capabilities,
    SamplerName,
    capabilities_of,
)
from reasondistill.config.stored import StoredSettings
from reasondistill.errors import ConfigError
from reasondistill.nearest import nearest
from reasondistill.records import Sampling
from reasondistill.secret_names import Secrecy, how_secret
from reasondistill.sections import Section
from reasondistill.thinking import ReasoningFormat


def _is_none(value: object) -> bool:
    return value is None


class SamplingSettings(Section):
    """How completions are sampled: a vendor's recommendation by name (`settings`), overridden by
    single keys; defaults for the rest.
    """

    settings: str | None = None
    """What a vendor recommends for its model, by name (`list settings`); single keys override
    it.
    """
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    """How random sampling is; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only the most likely tokens that make up this much probability are drawn."""
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Only so many of the most likely tokens are drawn; 0 or -1 for all. [tokens]"""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Only tokens with at least this share of the most likely one's probability are drawn."""
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    """By what the score of tokens that were there already is divided; 1 changes nothing."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The most tokens of an answer, its reasoning included. [tokens]"""
    stop: tuple[str, ...] | None = None
    """Texts that end an answer."""
    thinking_budget: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    """The most tokens of a block of reasoning; then it is closed and the answer begins (vLLM).
    [tokens] Example: 8192
    """

    usual: ClassVar[dict[str, Any]] = {}

    def resolve(self) -> Sampling:
        """The complete Sampling. Raises ConfigError when `settings` is unknown."""
        vendor = self.settings
        if vendor is not None and vendor not in VENDOR_SETTINGS:
            raise ConfigError(f"settings = {vendor!r}: unknown. {nearest(vendor, VENDOR_SETTINGS)}")
        recommended: dict[str, Any] = {}
        if vendor is not None:
            recommended = VENDOR_SETTINGS[vendor]
        single_keys = self.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        return Sampling(**{**self.usual, **recommended, **single_keys})


# What vendors recommend for their models, by name; the link is the source.
VENDOR_SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    # https://huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B (usage recommendations)
    "deepseek-r1": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768},
    # https://huggingface.co/Qwen/QwQ-32B (usage guidelines)
    "qwq": {"temperature": 0.6, "top_p": 0.95, "top_k": 40, "min_p": 0.0, "max_tokens": 32768},
    # https://huggingface.co/Qwen/Qwen3-8B (best practices)
    "qwen3-thinking": {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "min_p": 0.0,
        "max_tokens": 32768,
    },
    "qwen3-instruct": {
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "min_p": 0.0,
        "max_tokens": 16384,
    },
    # generation_config.json of Qwen/Qwen2.5-*-Instruct
    "qwen2.5-instruct": {
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "repetition_penalty": 1.05,
        "max_tokens": 4096,
    },
    # https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct generation_config.json
    "llama3-instruct": {"temperature": 0.6, "top_p": 0.9, "max_tokens": 4096},
}


# The fields that every request has, and those of them that a server may refuse.
_OURS = ("model", "messages", "prompt", "n", "best_of", "echo", "stream_options")
OMITTABLE = (
    *("seed", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop"),
    *("max_tokens", "max_completion_tokens", "chat_template_kwargs"),
)
_SET_BY = {
    "seed": "each sample's identity",
    "max_completion_tokens": "max_tokens; the field's name follows the server",
    "chat_template_kwargs": "template_options",
}


# What says how a prompt is rendered, and not what its template is told: parameters of
# `apply_chat_template`.
_OF_RENDERING = frozenset(
    {"conversation", "messages", "tools", "documents", "add_generation_prompt"}
    | {"continue_final_message", "tokenize", "padding", "truncation", "max_length"}
    | {"return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"}
)


def require_options_of_a_template(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a template option that no template could be told."""
    for name in options:
        if name in _OF_RENDERING:
            raise ValueError(
                f"template_options: {name} is no option of a template, and set for every prompt "
                "already; remove it"
            )


# Narrower than names of variables: `prompt_cache_key` and `stop_token` are fields of requests.
_SECRET = re.compile(
    r"api[-_]?key|authorization|secret|passw|passphrase|bearer|cookie|credential|^(key|token|pat)$"
    r"|(access|auth|private|bearer|refresh|session|id)[-_]?(token|key)|^x-.*(token|key)$",
    re.I,
)


def _names_in(value: Any) -> Iterator[str]:
    """The keys of an object, those of objects inside it too."""
    if isinstance(value, Mapping):
        for name, inner in cast("Mapping[str, Any]", value).items():
            yield str(name)
            yield from _names_in(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            yield from _names_in(inner)


class ModelSettings(Section):
    """Which model is sampled, by which sampler, what its requests hold and how its text is read.

    `sampler = "vllm"`: `model` is a hub id or folder. `"openai"`: a model name at any
    OpenAI-compatible server (address in the cluster file). `"reference"`: the problems' own
    reference solutions. `"stored"`: `model` is a data set of published traces, `stored` says where
    they stand in it. `"scripted"`: a JSONL of completions, for dry runs. A sampler of your own:
    `"my_lab.parrot:PARROT"`, see `config.sampler_kinds`.

    `request = {reasoning_effort = "high"}` adds fields to each request to a server, `omit =
    ["seed", "top_p"]` leaves out fields that it refuses: the server then chooses these itself, and
    the report says so. `reasoning` names the format in which the model marks its reasoning; `auto`
    finds it from the text.
    """

    model: str
    """A hub id, a folder, a server's model name, or what else the sampler reads (a data set, a
    file of texts).
    """
    revision: str | None = None
    """The branch, tag or commit of a hub id; without one the newest, which is recorded.
    Example: "main"
    """
    base: str | None = Field(default=None, exclude_if=_is_none)
    """Where `model` is a LoRA adapter: what it was trained on, a folder, a hub id or
    ID@REVISION; without it what the adapter itself names. Example: "Qwen/Qwen2.5-0.5B"
    """
    sampler: SamplerName = DEFAULT_SAMPLER
    """Who samples: `vllm`, `openai` (a server), `stored` (published traces), `reference` (the
    problems' solutions), `scripted` (a file, for dry runs), or one of your own as
    `module:OBJECT`.
    """
    template_options: dict[str, Scalar] = {}
    """Options of the chat template. Example: { enable_thinking = true }"""
    request: dict[str, Any] = {}
    """Fields that are added to each request to a server. Example: { reasoning_effort = "high" }"""
    omit: tuple[str, ...] = ()
    """Fields that the server refuses and then chooses by itself. Example: ["seed", "top_p"]"""
    reasoning: ReasoningFormat = "auto"
    """The format in which the model marks its reasoning; "auto" finds it from the text."""
    stored: StoredSettings | None = Field(default=None, exclude_if=lambda stored: stored is None)
    """Where published traces stand in the rows of a data set."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may be executed."""

    @property
    def capabilities(self) -> Capabilities:
        """What the model's sampler can do."""
        return capabilities_of(self.sampler)

    @model_validator(mode="after")
    def _only_servers_are_sent_requests(self) -> Self:
        if self.capabilities.sends_requests:
            return self
        for key in ("request", "omit"):
            if getattr(self, key):
                raise ValueError(
                    f'{key}: only for samplers that send requests; sampler = "{self.sampler}" '
                    f"does not"
                )
        return self

    @model_validator(mode="after")
    def _only_weights_have_a_base(self) -> Self:
        if self.base is not None and not self.capabilities.has_weights:
            raise ValueError(
                f'base: sampler = "{self.sampler}" loads no weights: nothing is merged; leave '
                "it out (a server is told itself which adapter it serves)"
            )
        return self

    @model_validator(mode="after")
    def _only_data_sets_have_fields(self) -> Self:
        if self.stored is not None and not self.capabilities.reads_dataset:
            raise ValueError(
                f'stored: only for samplers that read a data set; sampler = "{self.sampler}" '
                "does not"
            )
        return self

    @model_validator(mode="after")
    def _what_is_sent_can_be_read(self) -> Self:
        """`request` and `omit` cannot change what a sample is or how its reply is read: this has
        keys of its own, or cannot be changed.
        """
        for key in ("request", "template_options"):
            for name in _names_in(getattr(self, key)):
                if _SECRET.search(name) or how_secret(name) is Secrecy.CERTAIN:
                    raise ValueError(
                        f"{key}: {name} looks like a secret and would be written to disk; export "
                        "it as the key instead"
                    )
        require_options_of_a_template(self.template_options)
        for name in self.request:
            if name in _OURS:
                raise ValueError(f"request: {name} is set for every request already; remove it")
            if name in OMITTABLE:
                setter = _SET_BY.get(name, name)
                raise ValueError(f"request: {name} cannot be added: it is set by {setter}")
        try:
            json.dumps(self.request, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"request: cannot be sent as JSON ({error})") from None
        for name in self.omit:
            if name not in OMITTABLE:
                raise ValueError(f"omit: {name!r} cannot be left out. {nearest(name, OMITTABLE)}")
        return self

    def shaping(self) -> dict[str, Any]:
        """`request`, `omit`, `reasoning` and `stored` as far as the file sets them, so that the
        identities of older files, which have none of them, stay the same. Who is said to have
        written the traces changes none of them.
        """
        keys = self.model_dump(
            mode="json",
            include={"request", "omit", "reasoning", "stored"},
            exclude_defaults=True,
        )
        if self.omit:
            keys["omit"] = sorted(self.omit)
        return keys


class SampledModel(ModelSettings):
    """One model that writes traces. `share` divides the problems among the models, the same way
    every time; with `tags` only those of a domain.
    """

    name: Name | None = None
    """What the teacher is called; without a name its model's. Example: "qwq"
    """
    share: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the problems, beside those of the other teachers."""
    # Written only where there are any, so that earlier traces stay what they were.
    tags: tuple[str, ...] = Field(default=(), exclude_if=lambda tags: not tags)
    """Its domain: problems with one of these tags are dealt among the teachers that name the tag,
    all others among those that name none. Example: ["geometry"]
    """


class AlsoSampled(SamplingSettings, ModelSettings):
    """A model that writes `n` samples of *every* problem, whoever has written others of it:
    `[[traces.also]]`.

    `sampler` and `model` as for a teacher. What it does not say of sampling is as in `[traces]`.
    Its samples are numbered behind those of the teachers, and count like them in every stage. It
    is no teacher: it is not measured, and no student learns its distributions. Rounds are made of
    it: the student of a round writes for the next one.
    """

    name: Name | None = None
    """What its traces say that they are by, before the revision; without a name its model's.
    Example: "second"
    """
    n: Annotated[int, Field(ge=1)] = 4
    """Samples of each problem. [samples]"""
    prompt: str | None = None
    """The prompt that it is asked with; without one that of `[traces]`."""
    of_round: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    """The round whose student it is, where rounds are made of it: then examples without any of its
    samples are refused. `[rounds]` sets it. Example: 1
    """

    @model_validator(mode="after")
    def _answers_questions(self) -> Self:
        can_be_asked(self)
        return self

    def as_sampled_model(self) -> SampledModel:
        """The same model as a SampledModel."""
        return SampledModel(**self.model_dump(include={"name", *ModelSettings.model_fields}))


def can_be_asked(model: ModelSettings) -> None:
    """Raise ValueError for a sampler that repeats what stands somewhere and answers nothing."""
    if model.capabilities.reads_dataset:
        raise ValueError(
            f"sampler: {model.sampler!r} repeats the traces of a data set; "
            "name a sampler that answers what it is asked"
        )
    if model.capabilities.reads_solutions:
        raise ValueError(
            f"sampler: {model.sampler!r} repeats the solutions of [problems]; "
            "name a sampler that answers what it is asked"
        )


def require_an_end_of_thinking(model: ModelSettings) -> None:
    """Raise ValueError for a model whose reasoning nobody ends at `thinking_budget`."""
    if model.reasoning in ("none", "harmony", "gemma"):
        raise ValueError(
            f"thinking_budget: {model.model} has reasoning = {model.reasoning!r}, whose end is no "
            "single token; leave thinking_budget out"
        )
    if model.capabilities.ends_thinking:
        return
    hint = ""
    if model.capabilities.sends_requests:
        hint = (
            ", or ask the server for it in its own words, such as request = {thinking_token_budget "
            "= 8192} of a `vllm serve --reasoning-config`"
        )
    raise ValueError(
        f"thinking_budget: the sampler {model.sampler!r} of {model.model} has none; leave it "
        f"out{hint}"
    )


def _with_an_answer_left(sampling: Sampling) -> Sampling:
    """The same. Raises ConfigError when nothing of the answer is left behind a whole budget."""
    budget = sampling.thinking_budget
    if budget is not None and budget >= sampling.max_tokens:
        raise ConfigError(
            f"thinking_budget = {budget:,}: max_tokens = {sampling.max_tokens:,} leaves "
            "nothing of the answer behind so much reasoning; lower one, or raise the other."
        )
    return sampling


class LoopSettings(Section):
    """What ends a sample because it goes round in circles: `[traces.loops]`.

    A piece of at most `window` tokens that comes `repeats` times in a row, the same to the last
    token; of a piece of fewer than `shortest` tokens as many as make one of that length. vLLM looks
    at the tokens, for each one that it draws, in time that grows with `window`. A server's reply is
    looked at while it streams, four characters for a token.
    """

    shortest: Annotated[int, Field(ge=1, le=1024)] = 16
    """A piece that is shorter has to come as often as makes one of this length. [tokens]"""
    window: Annotated[int, Field(ge=1, le=1024)] = 64
    """The longest piece that is looked for. [tokens]"""
    repeats: Annotated[int, Field(ge=2, le=1024)] = 8
    """How many times in a row a piece comes in a loop."""

    @model_validator(mode="after")
    def _has_pieces(self) -> Self:
        if self.shortest > self.window:
            raise ValueError(f"shortest: more than window = {self.window}, the longest piece")
        return self


_COUNT = TypeAdapter(Annotated[int, Field(ge=1)])
# Samples of each problem in the first round where the file does not say how many.
_FIRST = 4
_ONLY_BESIDE_ACCEPTED = ("first", "candidates", "budget_tokens")


class TraceSettings(SamplingSettings):
    """n samples per problem from one or several teachers. Raising `n` tops up.

    `accepted = m` in the place of `n` draws until a problem has m correct samples: `first` of each
    problem (4), graded by the rules of `[verdicts] policy`; nothing more of a problem with none
    correct; of the others more, round by round, up to `candidates`. With `budget_tokens` no round
    begins once so many tokens are drawn, the first rounds of all problems before any other. `n` is
    `candidates` then. What was drawn behind the m-th correct sample is kept in `trimmed.jsonl`.

    `logprobs = K` keeps the teacher's K most likely tokens at each token (`2-traces/topk`), for
    students that learn from them; the samples are the same with and without. Added later, they
    are captured from the stored texts. Only vLLM gives them: for other teachers `logprobs_model` (a
    hub id or folder) scores the traces.

    `failures_allowed` is the share of the samples that the service (server, quota, engine) may
    lose; above it the stage stays unfinished. It is not part of the traces' identity.

    What is unfinished when the stage stops goes on in its middle the next time, where the sampler
    can do it (vLLM): a valid sample of the same distribution, but not the one that would have come
    without the stop. With `continue = false` it is drawn anew from its beginning, as the same
    sample. Neither is that part of the identity.

    With `[traces.loops]` a sample that goes round in circles ends there (`finish = "repetition"`);
    it counts as truncated. Evals have no such end.

    With `thinking_budget` a longer block of reasoning is closed there and the answer begins; such a
    trace says so (`thinking_is_cut`) and is graded by its answer. Evals have one of their own.
    """

    prompt: str = "think"
    """The prompt that teachers are asked with (`list prompts`)."""
    loops: LoopSettings | None = Field(default=None, exclude_if=_is_none)
    """Ends samples that go round in circles."""
    n: Annotated[int, Field(ge=1)] = 4
    """Samples per problem. Raising it keeps those that are there. [samples]"""
    accepted: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    """In place of n: how many correct samples a problem is to get; then no more are drawn of it.
    [samples]
    """
    first: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    """Beside accepted: how many samples of each problem are drawn whatever comes of them; a problem
    with none of them correct gets no more. [samples]
    """
    candidates: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    """Beside accepted: the most samples of a problem. [samples]"""
    budget_tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    """Beside accepted: the most tokens that are drawn in all. [tokens]"""
    failures_allowed: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of the samples that the service may lose; above it the stage stays unfinished."""
    goes_on: bool = Field(default=True, alias="continue", exclude_if=lambda goes_on: goes_on)
    """Whether a sample that was begun when the stage stopped goes on in its middle (vLLM);
    false draws it anew from its beginning.
    """
    logprobs: Annotated[int, Field(ge=1, le=1024)] | None = None
    """How many of the teacher's most likely tokens are kept at each token, for students that
    learn from them. [tokens]
    """
    logprobs_model: str | None = None
    """A hub id or folder that scores the traces of teachers that give no log-probabilities.
    Example: "Qwen/Qwen3-8B"
    """
    teachers: Annotated[tuple[SampledModel, ...], Field(min_length=1)]
    """The models that write traces, a table each."""
    # Written only where there are any, so that earlier traces stay what they were.
    also: tuple[AlsoSampled, ...] = Field(default=(), exclude_if=lambda also: not also)
    """Models that write samples of every problem besides those of the teachers, a table each."""

    @model_validator(mode="before")
    @classmethod
    def _n_is_the_most(cls, values: Any) -> Any:
        """Beside `accepted` it is not written: whoever asks for the most samples of a problem finds
        `candidates` in it.
        """
        if not isinstance(values, Mapping):
            return values
        settings = cast("Mapping[str, Any]", values)
        if settings.get("accepted") is None:
            return settings
        if "n" in settings:
            raise ValueError(
                "n: not beside accepted, which says when a problem has enough; candidates is the "
                "most that is drawn of each. Leave one of them out"
            )
        try:
            most = _COUNT.validate_python(settings.get("candidates"))
        except ValidationError:  # told of the key itself
            return settings
        return {**settings, "n": most}

    @model_serializer(mode="wrap")
    def _without_what_follows(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        settings: dict[str, Any] = handler(self)
        if self.accepted is not None:
            settings.pop("n", None)
        return settings

    def resolve(self) -> Sampling:
        """Raises ConfigError also when nothing of an answer is left behind a whole budget of
        reasoning.
        """
        return _with_an_answer_left(super().resolve())

    @property
    def samples(self) -> int:
        """How many samples of each problem there are at most, whoever writes them."""
        return self.n + sum(model.n for model in self.also)

    def numbers_of(self, place: int) -> range:
        """The numbers of the samples that the model at this place of `also` writes."""
        first = self.n + sum(model.n for model in self.also[:place])
        return range(first, first + self.also[place].n)

    def sampling_of(self, model: AlsoSampled) -> Sampling:
        """How a model of `also` is sampled: as the teachers are, but for its own keys; recommended
        settings are taken whole. Raises ConfigError when these are unknown.
        """
        ours = self.resolve()
        if model.settings is not None:
            whole = model.resolve().model_copy(update={"loops": ours.loops})
            return _with_an_answer_left(whole)
        own = model.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        return _with_an_answer_left(Sampling(**{**ours.model_dump(), **own}))

    @property
    def first_round(self) -> int:
        """How many samples of each problem are drawn whatever comes of them."""
        if self.accepted is None:
            return self.samples
        return self.first or min(_FIRST, self.n)

    @model_validator(mode="after")
    def _knows_when_a_problem_has_enough(self) -> TraceSettings:
        if self.accepted is None:
            for key in _ONLY_BESIDE_ACCEPTED:
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: has no effect without accepted, the number of correct samples "
                        "that a problem is to get"
                    )
            return self
        if self.candidates is None:
            raise ValueError(
                "candidates: missing. accepted needs the most samples that are drawn of a problem, "
                f"such as candidates = {max(4 * self.accepted, 4 * _FIRST)}"
            )
        for key in ("accepted", "first"):
            if (getattr(self, key) or 0) > self.candidates:
                raise ValueError(
                    f"{key}: more than candidates = {self.candidates}, the most that is drawn"
                )
        for model in self.teachers:
            if model.capabilities.reads_dataset or model.capabilities.reads_solutions:
                raise ValueError(
                    f"accepted: the sampler {model.sampler!r} repeats what stands somewhere, so "
                    "nothing is saved by drawing less of it; use n"
                )
        return self

    @model_validator(mode="after")
    def _others_can_write_too(self) -> TraceSettings:
        if not self.also:
            return self
        if self.accepted is not None:
            raise ValueError(
                "also: not beside accepted, by which a problem ends while the teachers draw it; "
                "use n in place of accepted"
            )
        if self.logprobs is not None:
            raise ValueError(
                "also: not beside logprobs: what somebody else writes has no log-probabilities of "
                "the teacher's; leave logprobs out"
            )
        return self

    @model_validator(mode="after")
    def _somebody_is_sampled(self) -> TraceSettings:
        if not all(model.capabilities.reads_dataset for model in self.teachers):
            return self
        single_keys = self.model_dump(include=set(SamplingSettings.model_fields), exclude_none=True)
        for key in single_keys:
            raise ValueError(
                f"{key}: every teacher is a data set of published traces, which were drawn as they "
                "were; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _everybody_ends_thinking(self) -> TraceSettings:
        ending: list[ModelSettings] = []
        if self.thinking_budget is not None:
            ending += self.teachers
        for also in self.also:
            # Recommended settings are taken whole.
            of_all = self.thinking_budget if also.settings is None else None
            if also.thinking_budget is not None or of_all is not None:
                ending.append(also)
        for model in ending:
            require_an_end_of_thinking(model)
        return self

    @model_validator(mode="after")
    def _everybody_stops_loops(self) -> TraceSettings:
        if self.loops is None:
            return self
        for model in (*self.teachers, *self.also):
            if not model.capabilities.stops_loops:
                raise ValueError(
                    f"loops: the sampler {model.sampler!r} ends no sample that goes round in "
                    "circles; leave the table out"
                )
            if model.capabilities.sends_requests and model.request.get("stream") is False:
                raise ValueError(
                    "loops: a reply that does not stream cannot be ended; take stream = false out "
                    f"of the request of {model.model}"
                )
        return self

    @model_validator(mode="after")
    def _somebody_gives_log_probabilities(self) -> TraceSettings:
        others = [model for model in self.teachers if not model.capabilities.gives_logprobs]
        if self.logprobs is None:
            if self.logprobs_model is not None:
                raise ValueError(
                    "logprobs_model: has no effect without logprobs; add logprobs = 16"
                )
            return self
        if self.logprobs_model is not None and not others:
            raise ValueError(
                "logprobs_model: every teacher runs in vLLM and scores its own traces; leave it out"
            )
        if self.logprobs_model is None and others:
            raise ValueError(
                f'logprobs: {others[0].model} (sampler = "{others[0].sampler}") gives no '
                "log-probabilities. Name a model that scores its "
                'traces, logprobs_model = "hub id or folder", or leave logprobs out'
            )
        return self


class JudgeSettings(SamplingSettings, ModelSettings):
    """A model that decides whether an answer equals the gold where the rules cannot:
    `[verdicts.judge]`.

    `sampler` and `model` as for a teacher; `prompt` also has the fields `{gold}` and `{answer}`.
    Sampling is greedy unless the file says otherwise.
    """

    prompt: str = "judge"
    """The judge's prompt, with `{question}`, `{gold}` and `{answer}` in it."""

    usual: ClassVar[dict[str, Any]] = {"temperature": 0.0}

    @model_validator(mode="after")
    def _answers_questions(self) -> Self:
        can_be_asked(self)
        if self.thinking_budget is not None:
            require_an_end_of_thinking(self)
        return self


class VerdictSettings(Section):
    """How traces are graded: by rules, and where the rules cannot decide, by a `judge` if the file
    has one.

    `majority`: for a problem without a gold answer, the answer that at least this share of its
    samples gives is taken as the gold answer.
    """

    policy: str = "default"
    """How strict the rules are (`list policies`)."""
    deadline_s: Annotated[float, Field(gt=0)] = 5.0
    """How long one answer may take the checker; then it is undecided. [seconds]"""
    judge: JudgeSettings | None = None
    """A model that decides whether an answer equals the gold where the rules cannot."""
    majority: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of a problem's samples that must agree on an answer for it to be taken as the
    gold, where there is none. Example: 0.5
    """
