"""How `sampler = "openai"` is found: what it can do, without httpx."""

from __future__ import annotations

from collections.abc import Sequence

from reasondistill.config import Cluster, ModelSettings
from reasondistill.models.samplers.base import Sampler, SamplerKind
from reasondistill.records import Problem


def open_server(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
    """The model at the server that the cluster file names. Raises ConfigError (no key) or
    MissingDependencyError.
    """
    from reasondistill.models.samplers.openai.sampler import OpenAISampler

    asking = model.model_dump(include={"template_options", "request", "omit", "reasoning"})
    return OpenAISampler(
        model.model, revision=model.revision, **cluster.openai.model_dump(), **asking
    )


SAMPLER = SamplerKind(
    open=open_server,
    answers_anything=True,
    sends_requests=True,
    stops_loops=True,
    package="httpx",
    extra="openai",
)
