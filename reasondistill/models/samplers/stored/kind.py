"""How `sampler = "stored"` is found: what it can do, without a data set being read."""

from __future__ import annotations

from collections.abc import Sequence

from reasondistill.config import Cluster, ModelSettings
from reasondistill.models.samplers.base import Sampler, SamplerKind
from reasondistill.models.samplers.stored.naming import stored_identity
from reasondistill.records import Problem


def open_stored(model: ModelSettings, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
    """The traces of the data set. Raises ConfigError, DataError or MissingDependencyError."""
    from reasondistill.models.samplers.stored.sampler import StoredSampler

    return StoredSampler(model, problems)


SAMPLER = SamplerKind(
    open=open_stored, identity=stored_identity, reads_problems=True, reads_dataset=True
)
