"""Reads pipeline files, cluster files and benchmark files, with `key=value` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasondistill.config.cluster import Cluster
from reasondistill.config.pipeline import Pipeline
from reasondistill.config.sources import Benchmark
from reasondistill.errors import ConfigError
from reasondistill.sections import check_section, load_section


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file and apply `key=value` overrides. Raises ConfigError, which names
    file, key, value and remedy.
    """
    return _sampling_checked(path, load_section(path, Pipeline, overrides), overrides)


def make_pipeline(
    values: dict[str, Any], overrides: Sequence[str] = (), *, source: Path
) -> Pipeline:
    """A pipeline from a mapping instead of a file; errors name it `source`. Raises ConfigError."""
    pipeline = check_section(source, Pipeline, values, overrides)
    return _sampling_checked(source, pipeline, overrides)


def _sampling_checked(path: Path, pipeline: Pipeline, overrides: Sequence[str]) -> Pipeline:
    """The pipeline itself; raises ConfigError for unknown vendor settings."""
    sections = [
        ("traces", pipeline.traces),
        ("evals", pipeline.evals),
        ("verdicts.judge", pipeline.verdicts.judge),
    ]
    sections += [(f"evals.models.{model.name}", model) for model in pipeline.evals.models]
    for name, section in sections:
        try:
            if section is not None:
                section.resolve()
        except ConfigError as error:
            where = f"{path} [{name}]"
            if any(override.startswith(f"{name}.settings=") for override in overrides):
                where = f"--set {name}.settings:"
            raise ConfigError(f"{where} {error}") from None
    return pipeline


def load_cluster(path: Path, overrides: Sequence[str] = ()) -> Cluster:
    """Read a cluster file. Raises ConfigError."""
    return load_section(path, Cluster, overrides)


def load_benchmark(path: Path) -> Benchmark:
    """Read a benchmark file. Raises ConfigError."""
    return load_section(path, Benchmark)
