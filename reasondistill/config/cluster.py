"""A cluster file: WHERE it is done. None of it bears identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reasondistill.sections import Section


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
    """How training runs here. `micro_batch_size` is per device; the global batch stays the student's `batch_size`.

    `rollouts`: what writes a student's own texts while it is trained. `auto` is vLLM in the same process on a GPU where vLLM is installed,
    else transformers, which LoRA students always take; `vllm_server` is a `trl vllm-serve` at `rollouts_url`.
    """

    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_checkpointing: bool = False
    threads: Annotated[int, Field(ge=1)] | None = None
    parallel: Annotated[int, Field(ge=1)] = 1
    rollouts: Literal["auto", "transformers", "vllm", "vllm_server"] = "auto"
    rollouts_url: str | None = None
    rollouts_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3


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
