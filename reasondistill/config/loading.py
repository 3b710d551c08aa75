"""Reads pipeline files, cluster files and benchmark files, with `key=value` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasondistill.config.cluster import Cluster
from reasondistill.config.pipeline import Pipeline
from reasondistill.config.sampling import SamplingSettings
from reasondistill.config.sources import Benchmark
from reasondistill.errors import ConfigError
from reasondistill.sections import (
    SET,
    VARY,
    check_section,
    keys_set,
    load_section,
    read_toml,
)


def load_pipeline(
    path: Path, overrides: Sequence[str] = (), varied: Sequence[str] = ()
) -> Pipeline:
    """Read a pipeline file and apply `key=value` overrides, then those that are `varied`. Raises
    ConfigError, which names file, key, value and remedy.
    """
    pipeline = check_section(path, Pipeline, read_toml(path), overrides, varied)
    return _sampling_checked(path, pipeline, overrides, varied)


def make_pipeline(
    values: dict[str, Any], overrides: Sequence[str] = (), *, source: Path
) -> Pipeline:
    """A pipeline from a mapping instead of a file; errors name it `source`. Raises ConfigError."""
    pipeline = check_section(source, Pipeline, values, overrides)
    return _sampling_checked(source, pipeline, overrides)


def _sampling_checked(
    path: Path, pipeline: Pipeline, overrides: Sequence[str], varied: Sequence[str] = ()
) -> Pipeline:
    """The pipeline itself; raises ConfigError for unknown vendor settings."""
    sections: list[tuple[str, SamplingSettings | None]] = [
        ("traces", pipeline.traces),
        ("evals", pipeline.evals),
        ("verdicts.judge", pipeline.verdicts.judge),
    ]
    sections += [(f"evals.models.{model.name}", model) for model in pipeline.evals.models]
    if pipeline.traces is not None:
        sections += [(f"traces.also.{model.model}", model) for model in pipeline.traces.also]
    if pipeline.rounds is not None:
        sections.append(("rounds", pipeline.rounds))
    for name, section in sections:
        try:
            if section is not None:
                section.resolve()
        except ConfigError as error:
            key = f"{name}.settings"
            where = f"{path} [{name}]"
            for option, given in ((SET, overrides), (VARY, varied)):
                if key in keys_set(given):
                    where = f"{option} {key}:"
            raise ConfigError(f"{where} {error}") from None
    return pipeline


def load_cluster(path: Path, overrides: Sequence[str] = ()) -> Cluster:
    """Read a cluster file. Raises ConfigError."""
    return load_section(path, Cluster, overrides)


def load_benchmark(path: Path) -> Benchmark:
    """Read a benchmark file. Raises ConfigError."""
    return load_section(path, Benchmark)
