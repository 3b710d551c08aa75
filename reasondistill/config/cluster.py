"""A cluster file: WHERE a run is done. None of its settings are part of an identity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from reasondistill import secrets
from reasondistill.config.basics import Name
from reasondistill.config.words import (
    ModuleName,
    Prefix,
    Program,
    RayAddress,
    SchedulerOption,
    SchedulerValue,
    ServerUrl,
    ShellLine,
    StorageUrl,
    VariableName,
    on_disk,
)
from reasondistill.secret_names import is_secret_name
from reasondistill.sections import Section
from reasondistill.shell_secrets import found_in_shell, is_secret_setting


def refuse_secrets(key: str, lines: Iterable[str]) -> None:
    """Raise ValueError when shell lines or options hold a key or password."""
    for line in lines:
        kind = found_in_shell(line)
        if kind is not None:
            raise ValueError(on_disk(f"{key}: {kind}"))


_OPENAI_BASE_URL = "leave base_url out and export OPENAI_BASE_URL in the shell that starts the run"
_NO_ADDRESS = "no address of a server: want http:// or https://, a host, and a path, usually /v1"
# `2024-02-01`, `2025-04-01-preview`, `v1`, and what is too short for a key.
_A_VERSION = re.compile(
    r"v?\d{1,4}([.-]\d{1,2}){0,3}(-?(preview|alpha|beta|rc)\.?\d{0,2})?|[\w.-]{0,7}"
)


def _more_than_an_address(url: str) -> str | None:
    """What stands in a server's address beside scheme, host, port, path and an API's version.
    Raises ValueError for what is no address.
    """
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    if "@" in parts.netloc:
        return "a user or password"
    is_web = parts.scheme in ("http", "https")
    if not is_address or not is_web or re.search(r"[\s\\]", url):
        raise ValueError(_NO_ADDRESS)
    if parts.fragment:
        return "a fragment, which may be a key"
    for part in unquote(parts.path).split("/"):
        kind = secrets.found_in(part)
        if kind is not None:
            return kind
    for pair in filter(None, parts.query.replace(";", "&").split("&")):
        name, is_set, value = pair.partition("=")
        is_version = bool(is_set) and _A_VERSION.fullmatch(unquote(value)) is not None
        if is_secret_name(name) or not is_version or len(name) > _LONGEST_NAME:
            return "a query that may be a key"
    return None


# Of a query's key; what is longer is no name.
_LONGEST_NAME = 24


def _refuse_user(key: str, address: str | None) -> None:
    """Raise ValueError for an address with a user or password in it, also without a scheme."""
    bare = (address or "").rpartition("://")[2].lstrip("/")
    if "@" in bare.partition("/")[0]:
        raise ValueError(on_disk(f"{key}: what stands before its @"))


class VllmSettings(Section):
    """How vLLM runs on this cluster.

    `threads` is the number of threads that vLLM computes with on a CPU. The default is
    OMP_NUM_THREADS, and without it the number of cores, less one for a model below 100M parameters.
    The manifest records the number under `engine`.
    """

    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Over how many GPUs each layer of a model is split. [GPUs]"""
    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    """How many copies of the model a worker runs. [copies]"""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """The number format of the weights; "auto" is the model's own."""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """The longest text, prompt included; without it what the model can read. [tokens]"""
    enforce_eager: bool | None = None
    """Whether CUDA graphs are left out; without it only on a CPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The share of a GPU's memory that vLLM takes."""
    cpu_kvcache_gib: Annotated[int, Field(ge=1)] = 2
    """The memory for keys and values on a CPU. [GiB]"""
    max_num_seqs: Annotated[int, Field(ge=1)] = 256
    """How many samples are under way at the same time. [samples]"""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads on a CPU; without it OMP_NUM_THREADS, else the cores. [threads]"""


class OpenAISettings(Section):
    """How a server is reached. The key is read from the environment variable `api_key_env` and
    never stored.

    `timeout_s` is how long a server may be silent; a whole reply, however its bytes drip, comes
    within `timeout_s` and another second for each token that was asked for. `retries` is how often
    a request is sent again after a fault that may pass. A server that asks us to wait longer than
    `patience_s` ends the stage; the same command continues it. `redirects` are the origins
    (`https://host:port`) to which the server may send us on, with prompts and key; its own needs no
    naming.
    """

    base_url: str | None = None
    """The server's address; without it OPENAI_BASE_URL of the environment."""
    api_key_env: VariableName = "OPENAI_API_KEY"
    """The variable of the environment that holds the key."""
    redirects: tuple[Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+$")], ...] = ()
    """Origins to which the server may send us on, with prompts and key. Example:
    ["https://eu.example.org"]
    """
    concurrency: Annotated[int, Field(ge=1)] = 32
    """How many requests are under way at the same time. [requests]"""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """The server's limit on requests. [requests per minute]"""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """The server's limit on tokens. [tokens per minute]"""
    timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """How long the server may be silent. [seconds]"""
    retries: Annotated[int, Field(ge=0)] = 6
    """How often a request is sent again after a fault that may pass. [times]"""
    patience_s: Annotated[float, Field(ge=0)] = 600.0
    """The longest wait that a server may ask for; a longer one ends the stage, and the same
    command continues it. [seconds]
    """

    instead: ClassVar[Mapping[str, str]] = {"base_url": _OPENAI_BASE_URL}

    @field_validator("base_url")
    @classmethod
    def _opens_nothing(cls, url: str | None) -> str | None:
        """An address alone. Raises ValueError, which does not quote it."""
        kind = None
        if url:
            kind = _more_than_an_address(url)
        if kind is not None:
            raise ValueError(
                f"holds {kind}, which would be written into the run folder. Secrets come from "
                f"the environment alone; {_OPENAI_BASE_URL}"
            )
        return url


class TrainSettings(Section):
    """How training runs on this cluster. `micro_batch_size` is per device; the global batch stays
    the student's `batch_size`.

    `rollouts`: what samples a student's own texts during training. `auto` is vLLM in the same
    process on a GPU where vLLM is installed, else transformers, which LoRA students always use;
    `vllm_server` is a `trl vllm-serve` at `rollouts_url`, which gets the weights by NCCL.
    `processes` is how many processes, one per GPU, train one student together on each node, through
    `accelerate launch`. `strategy` is how they share the work: `ddp` copies the model, `fsdp2` and
    `zero3` split parameters, gradients and optimizer, `zero2` the last two; or a file of
    accelerate's own. `parallel` students train at the same time, each in one process.
    """

    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples that a device computes at a time. [examples]"""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in place of kept: less memory, more time."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads on a CPU; without it the cores. [threads]"""
    parallel: Annotated[int, Field(ge=1)] = 1
    """How many students train at the same time, each in one process. [students]"""
    rollouts: Literal["auto", "transformers", "vllm", "vllm_server"] = "auto"
    """What samples a student's own texts during training."""
    rollouts_url: ServerUrl | None = None
    """The address of a `trl vllm-serve`. Example: "http://localhost:8000"
    """
    rollouts_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of a GPU's memory that vLLM takes beside a training."""
    processes: Annotated[int, Field(ge=1)] = 1
    """How many processes, one per GPU, train one student together on each node. [processes]"""
    strategy: str = "ddp"
    """How processes share the work: `ddp`, `fsdp2`, `zero2`, `zero3`, or a file of accelerate's
    own.
    """

    @model_validator(mode="after")
    def _has_a_server(self) -> Self:
        _refuse_user("rollouts_url", self.rollouts_url)
        if self.rollouts == "vllm_server" and self.rollouts_url is None:
            raise ValueError(
                "rollouts = 'vllm_server' needs rollouts_url, the address of a running "
                "`trl vllm-serve`"
            )
        return self

    @model_validator(mode="after")
    def _one_at_a_time(self) -> Self:
        if self.parallel > 1 and self.processes > 1:
            raise ValueError(
                "parallel: students trained at the same time would use the same devices; leave it "
                "out "
                "where processes is above 1"
            )
        return self


class GradeSettings(Section):
    """How grading runs on this cluster. `workers=None` is one per core."""

    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes that grade; without it one per core. [processes]"""
    memory_mib: Annotated[int, Field(ge=128)] = 1024
    """The memory of each of them. [MiB]"""


class ResourceSettings(Section):
    """The resources of a stage: `[stages.NAME]`, over `[stages.default]`.

    `shards` is the number of workers that share the stage (traces, verdicts, evals, and examples
    where a model scores the traces), at most `max_concurrent` of them at a time. The other keys are
    per worker, on each of its `nodes`.
    `memory` and `time` are written as for Slurm (`64G`, `1-12:00:00`), and so are further
    `options` (`["--exclusive"]`), one in each text. `environment` names a section of
    `[environments]`.
    """

    shards: Annotated[int, Field(ge=1)] = 1
    """The number of workers that share the stage (traces, verdicts, evals, and examples where a
    model scores the traces). [workers]
    """
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """How many of them run at a time. [workers]"""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Nodes of each worker. [nodes]"""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs on each node. [GPUs]"""
    cpus: Annotated[int, Field(ge=1)] = 1
    """Cores on each node. [cores]"""
    memory: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = None
    """Memory on each node, as Slurm writes it."""
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d+){0,2}$")] | None = None
    """The time limit, as Slurm writes it. Example: "1-12:00:00"
    """
    partition: SchedulerValue | None = None
    """Slurm's partition for its jobs. Example: "gpu"
    """
    account: SchedulerValue | None = None
    """Slurm's account that is charged. Example: "my_project"
    """
    qos: SchedulerValue | None = None
    """Slurm's quality of service. Example: "normal"
    """
    constraint: SchedulerValue | None = None
    """Slurm's constraint on nodes. Example: "h100"
    """
    options: tuple[SchedulerOption, ...] = ()
    """Further options of sbatch, one in each text. Example: ["--exclusive"]"""
    environment: str | None = None
    """The section of `[environments]` in which the stage's command runs. Example: "vllm"
    """

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        refuse_secrets("options", self.options)
        return self


class StageResources(Section):
    """The resources of each stage; keys that a stage does not set come from `default`."""

    default: ResourceSettings = ResourceSettings()
    """What every stage gets that does not say otherwise."""
    problems: ResourceSettings = ResourceSettings()
    """The resources of `problems`."""
    traces: ResourceSettings = ResourceSettings()
    """The resources of `traces`."""
    verdicts: ResourceSettings = ResourceSettings()
    """The resources of `verdicts`."""
    examples: ResourceSettings = ResourceSettings()
    """The resources of `examples`."""
    students: ResourceSettings = ResourceSettings()
    """The resources of `students`."""
    evals: ResourceSettings = ResourceSettings()
    """The resources of `evals`."""
    report: ResourceSettings = ResourceSettings()
    """The resources of `report`."""

    def of(self, name: str) -> ResourceSettings:
        """The stage's own keys over those of `default`."""
        settings: ResourceSettings = getattr(self, name)
        given = {key: getattr(settings, key) for key in settings.model_fields_set}
        return self.default.model_copy(update=given)


class EnvironmentSettings(Section):
    """What a job does before a stage's command: load modules, run shell lines, set variables; or
    the container in which the command runs.

    `container` is put before the command verbatim: `apptainer exec --nv /shared/vllm.sif`.
    All of it is written into scripts and the run folder: export secrets in the shell that submits
    the jobs instead, which inherit its variables.
    """

    modules: tuple[ModuleName, ...] = ()
    """Modules that are loaded. Example: ["cuda/12.8"]"""
    setup: tuple[ShellLine, ...] = ()
    """Shell lines that are run before the command. Example: ["source
    /shared/venvs/vllm/bin/activate"]
    """
    variables: dict[VariableName, ShellLine] = {}
    """Variables of the environment. Example: { HF_HOME = "/shared/hf" }"""
    container: Prefix | None = None
    """What is put before the command. Example: "apptainer exec --nv /shared/vllm.sif"
    """
    python: Program | None = None
    """The Python that runs the command. Example: "/shared/venvs/vllm/bin/python"
    """

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        for name, value in self.variables.items():
            kind = found_in_shell(value)
            if is_secret_setting(name, value):
                kind = name
            if kind is not None:
                raise ValueError(on_disk(f"variables: {kind}"))
        lines = {"setup": self.setup, "modules": self.modules, "container": (self.container or "",)}
        for key, texts in lines.items():
            refuse_secrets(key, texts)
        return self


class SlurmSettings(Section):
    """How Slurm is used. A worker gets a signal `signal_s` seconds before its time limit, saves its
    work, and is queued again.

    A worker that crashed is queued again `restarts` times.
    """

    requeue: bool = True
    """Whether a worker that meets its time limit is queued again."""
    restarts: Annotated[int, Field(ge=0)] = 2
    """How often a worker that crashed is queued again. [times]"""
    signal_s: Annotated[int, Field(ge=10)] = 120
    """How long before its time limit a worker gets a signal, to save its work. [seconds]"""


class RaySettings(Section):
    """The Ray cluster: the `address` of a running one (`auto`, `ray://head:10001`), or none to
    start Ray on this machine.

    A worker whose node or process was lost is started again `restarts` times.
    """

    address: RayAddress | None = None
    """The address of a running Ray (`auto`, `ray://head:10001`); without it Ray is started on
    this machine.
    """
    restarts: Annotated[int, Field(ge=0)] = 3
    """How often a worker that was lost is started again. [times]"""

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        _refuse_user("address", self.address)
        return self


class PriceSettings(Section):
    """What an hour costs, in any currency: for `forecast`."""

    gpu_hour: Annotated[float, Field(ge=0)] = 0.0
    """What a GPU costs, in any currency. [per hour]"""
    cpu_hour: Annotated[float, Field(ge=0)] = 0.0
    """What a core costs, in any currency. [per hour]"""


class Cluster(Section):
    """A cluster file. None of its settings are part of an identity.

    `storage` is a URL (`s3://bucket/runs`, any file system of fsspec) under which run folders are
    stored; the run folder on this machine is then a copy.

    `kind` names the launcher (launch/): `local`, `slurm`, `ray`, or another registered one, whose
    settings are in `[launcher]`.
    """

    kind: str = "local"
    """The launcher: `local`, `slurm`, `ray`, or one of your own."""
    about: str = ""
    """What the file is for, in a line; `list clusters` shows it."""
    storage: StorageUrl | None = None
    """A URL under which run folders are stored; the one on this machine is then a copy.
    Example: "s3://bucket/runs"
    """
    stages: StageResources = StageResources()
    """The resources of each stage."""
    environments: dict[Name, EnvironmentSettings] = {}
    """What a job does before a stage's command, a table each."""
    slurm: SlurmSettings = SlurmSettings()
    """How Slurm is used."""
    ray: RaySettings = RaySettings()
    """The Ray cluster."""
    launcher: dict[str, Any] = {}
    """The settings of a launcher of your own."""
    prices: PriceSettings = PriceSettings()
    """What an hour costs, for `forecast`."""
    vllm: VllmSettings = VllmSettings()
    """How vLLM runs on this cluster."""
    openai: OpenAISettings = OpenAISettings()
    """How a server is reached."""
    train: TrainSettings = TrainSettings()
    """How training runs on this cluster."""
    grade: GradeSettings = GradeSettings()
    """How grading runs on this cluster."""

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        for name in secrets.secret_names_in(self.launcher):
            raise ValueError(on_disk(f"launcher: {name}"))
        return self

    @model_validator(mode="after")
    def _environments_exist(self) -> Self:
        for stage in StageResources.model_fields:
            name = self.stages.of(stage).environment
            if name is not None and name not in self.environments:
                raise ValueError(f"stages.{stage}.environment: there is no [environments.{name}]")
        return self

    def environment(self, stage: str) -> EnvironmentSettings:
        """The environment in which a stage's command runs."""
        name = self.stages.of(stage).environment
        if name is None:
            return EnvironmentSettings()
        return self.environments[name]
