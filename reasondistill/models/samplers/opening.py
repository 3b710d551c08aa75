"""Opening the sampler of a model, and the model's identity without starting an engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from reasondistill.config import Cluster, ModelSettings
from reasondistill.errors import ConfigError, DataError
from reasondistill.models.adapters import adapter_of, merged_source
from reasondistill.models.samplers.base import Sampler, SamplerKind
from reasondistill.models.weights import named_folder
from reasondistill.records import Problem
from reasondistill.runs.store import verify_below, verify_sums

OpenSampler = Callable[[ModelSettings, Cluster, Sequence[Problem]], AbstractContextManager[Sampler]]


def kind_of(model: ModelSettings) -> SamplerKind:
    """The sampler that a model names. Raises ConfigError when it cannot be opened."""
    kind = model.capabilities
    if not isinstance(kind, SamplerKind):
        raise ConfigError(
            f"sampler = {model.sampler!r}: has capabilities but no `open`. Make it a "
            "SamplerKind (reasondistill.models.samplers) with `open`."
        )
    return kind


def open_sampler(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
    """The sampler of a model, with the cluster's settings; of an adapter that of its merged model,
    which is there. Raises ConfigError or MissingDependencyError, and DataError for weights that are
    not what their stage wrote.
    """
    adapter = adapter_of(model)
    if adapter is None:
        verify_below(named_folder(model.model))
        return kind_of(model).open(model, cluster, problems)
    if not adapter.is_merged:
        raise ConfigError(
            f"model {model.model}: an adapter that is not merged with {adapter.base} yet; "
            "reasondistill.pipeline.merging.merge_adapter does it."
        )
    try:
        verify_sums(adapter.sums)
    except DataError as error:
        raise DataError(
            f"{error} It is the merged model of {model.model}: delete {adapter.place}, and it is "
            "made anew."
        ) from error
    sampler: Any = kind_of(model).open(merged_source(model, adapter.merged), cluster, problems)
    try:
        # Traces name the adapter and its base, by what both hold.
        sampler.model = adapter.identity
    except AttributeError as error:
        raise ConfigError(
            f"sampler = {model.sampler!r}: its `model` cannot be set, so that its samples would not"
            " name the adapter. Make it a plain attribute."
        ) from error
    return sampler


def identity_of(model: ModelSettings) -> str:
    """`name@revision` of the model's weights, found without starting an engine. Raises ConfigError
    when they are missing. Of an adapter both its own and that of its base.
    """
    adapter = adapter_of(model)
    if adapter is not None:
        return adapter.identity
    return kind_of(model).identity(model)


@dataclass(frozen=True)
class Serving:
    """Where models are served, and how they are opened there."""

    cluster: Cluster = Cluster()
    open_sampler: OpenSampler = open_sampler

    def open(
        self, model: ModelSettings, problems: Sequence[Problem]
    ) -> AbstractContextManager[Sampler]:
        """The sampler of a model that will be asked about these problems. Raises ConfigError or
        MissingDependencyError.
        """
        return self.open_sampler(model, self.cluster, problems)


@contextmanager
def kept_open(open_one: OpenSampler = open_sampler) -> Generator[OpenSampler]:
    """An opener that starts the engine of *one* model at most once, by `open_one`, and lends it to
    whoever opens it until the block ends.
    """
    engine: Sampler | None = None
    opened = ExitStack()

    def lend(
        model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]
    ) -> AbstractContextManager[Sampler]:
        nonlocal engine
        if model.capabilities.reads_problems:
            return open_one(model, cluster, problems)
        if engine is None:
            engine = opened.enter_context(open_one(model, cluster, problems))
        return nullcontext(engine)

    with opened:
        yield lend
