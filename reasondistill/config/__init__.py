"""The whole shape of a pipeline file (WHAT is done) and of a cluster file (WHERE it is done).

Every section is a stage, a module and a run folder. Unknown keys fail with the nearest known one.
What stands in a pipeline file bears identity; what stands in a cluster file never does.

    pipeline = load_pipeline(Path("pipelines/demo.toml"), ["traces.temperature=1.0"])
    cluster = load_cluster(Path("pipelines/clusters/local.toml"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasondistill.config.basics import Name, Scalar
from reasondistill.config.cluster import (
    Cluster,
    EnvironmentSettings,
    GradeSettings,
    OpenAISettings,
    ResourceSettings,
    TrainSettings,
    VllmSettings,
)
from reasondistill.config.pipeline import (
    CheckpointSettings,
    EvalModel,
    EvalSettings,
    Pipeline,
    ReportSettings,
)
from reasondistill.config.sampler_kinds import (
    DEFAULT_SAMPLER,
    Capabilities,
    capabilities_of,
    sampler_names,
)
from reasondistill.config.sampling import (
    VENDOR_SETTINGS,
    JudgeSettings,
    ModelSettings,
    SampledModel,
    SamplingSettings,
    TraceSettings,
    VerdictSettings,
)
from reasondistill.config.shrinking import ShrinkSettings
from reasondistill.config.sources import AnswerKind, Benchmark, Erratum, ProblemSource
from reasondistill.config.students import (
    CONTROLS,
    START,
    STUDENT,
    TEACHING,
    WATCHING,
    ArchitectureSettings,
    ExampleSettings,
    LoraSettings,
    StudentSettings,
)
from reasondistill.errors import ConfigError
from reasondistill.sections import check_section, load_section

__all__ = [
    "TEACHING",
    "CONTROLS",
    "STUDENT",
    "AnswerKind",
    "ArchitectureSettings",
    "Benchmark",
    "Capabilities",
    "CheckpointSettings",
    "DEFAULT_SAMPLER",
    "Cluster",
    "EnvironmentSettings",
    "EvalModel",
    "Erratum",
    "EvalSettings",
    "ExampleSettings",
    "GradeSettings",
    "JudgeSettings",
    "LoraSettings",
    "ModelSettings",
    "Name",
    "OpenAISettings",
    "Pipeline",
    "ProblemSource",
    "ReportSettings",
    "START",
    "ResourceSettings",
    "SamplingSettings",
    "Scalar",
    "ShrinkSettings",
    "StudentSettings",
    "SampledModel",
    "TraceSettings",
    "TrainSettings",
    "VENDOR_SETTINGS",
    "VerdictSettings",
    "VllmSettings",
    "WATCHING",
    "capabilities_of",
    "sampler_names",
    "load_benchmark",
    "load_cluster",
    "load_pipeline",
    "make_pipeline",
]


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file and apply `key=value` overrides. Raises ConfigError: file, key, what we
    found, what to do.
    """
    return _sampling_checked(path, load_section(path, Pipeline, overrides))


def make_pipeline(
    values: dict[str, Any], overrides: Sequence[str] = (), *, source: Path
) -> Pipeline:
    """A pipeline that stands in no file: `source` is what messages name. Raises ConfigError."""
    return _sampling_checked(source, check_section(source, Pipeline, values, overrides))


def _sampling_checked(path: Path, pipeline: Pipeline) -> Pipeline:
    """The same; raises ConfigError for vendor settings that we do not know."""
    sections = [
        ("traces", pipeline.traces),
        ("evals", pipeline.evals),
        ("verdicts.judge", pipeline.verdicts.judge),
    ]
    sections += [(f"evals.models.{model.name}", model) for model in pipeline.evals.models]
    for name, section in sections:
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
