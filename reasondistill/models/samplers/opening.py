"""Which sampler a file's `model` and `sampler` mean, and who that is, without starting an engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from reasondistill.config import Cluster, SampledModel
from reasondistill.models.samplers import Sampler
from reasondistill.models.weights import model_identity
from reasondistill.records import Problem

OpenSampler = Callable[[SampledModel, Cluster, Sequence[Problem]], AbstractContextManager[Sampler]]


def open_sampler(teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
    """The sampler that a teacher means, with the cluster's settings. Raises ConfigError or
    MissingDependencyError.
    """
    if teacher.sampler == "vllm":
        from reasondistill.models.samplers.vllm import VllmSampler

        options = cluster.vllm.model_dump() | teacher.model_dump(
            include={"template_options", "trust_remote_code", "reasoning"}
        )
        return VllmSampler(teacher.model, revision=teacher.revision, **options)
    if teacher.sampler == "openai":
        from reasondistill.models.samplers.openai import OpenAISampler

        options = cluster.openai.model_dump() | teacher.model_dump(
            include={"template_options", "request", "omit", "reasoning"}
        )
        return OpenAISampler(teacher.model, revision=teacher.revision, **options)
    if teacher.sampler == "scripted":
        from reasondistill.models.samplers.scripted import ScriptedSampler

        return ScriptedSampler.from_file(Path(teacher.model), problems, reasoning=teacher.reasoning)
    from reasondistill.models.samplers.reference import ReferenceSampler

    return ReferenceSampler(problems)


@contextmanager
def kept_open() -> Generator[OpenSampler]:
    """An opener that starts the engine of *one* teacher at most once and lends it to whoever opens
    it until the block ends.
    """
    kept: list[Sampler] = []

    def lend(
        teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]
    ) -> AbstractContextManager[Sampler]:
        if teacher.sampler in (
            "scripted",
            "reference",
        ):  # these hold the problems that they were opened with, and no engine
            return open_sampler(teacher, cluster, problems)
        if not kept:
            kept.append(open_sampler(teacher, cluster, problems))
        return nullcontext(kept[0])

    try:
        yield lend
    finally:
        for sampler in kept:
            sampler.close()


def teacher_identity(teacher: SampledModel) -> str:
    """`name@revision` of the teacher's weights, found without starting an engine. Raises
    ConfigError when they are missing.
    """
    if teacher.sampler == "vllm":
        return model_identity(teacher.model, teacher.revision)
    if teacher.sampler == "scripted" and Path(teacher.model).is_file():
        from reasondistill.models.samplers.scripted import script_identity

        return script_identity(Path(teacher.model))
    return f"{teacher.model}@{teacher.revision}" if teacher.revision else teacher.model
