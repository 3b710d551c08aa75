"""The settings of a pipeline file (WHAT is done) and of a cluster file (WHERE it is done).

Every section is a stage, a module and a run folder. An unknown key is an error that names the
nearest known key. Settings of a pipeline file are part of a stage's identity, settings of a cluster
file never are.

    pipeline = load_pipeline(Path("pipelines/demo.toml"), ["traces.temperature=1.0"])
    cluster = load_cluster(Path("pipelines/clusters/local.toml"))
"""

from __future__ import annotations

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
from reasondistill.config.loading import (
    load_benchmark,
    load_cluster,
    load_pipeline,
    make_pipeline,
)
from reasondistill.config.pipeline import (
    CheckpointSettings,
    EvalModel,
    EvalSettings,
    Pipeline,
    ReportSettings,
)
from reasondistill.config.rounds import RoundSettings
from reasondistill.config.sampler_kinds import (
    DEFAULT_SAMPLER,
    Capabilities,
    capabilities_of,
    sampler_names,
)
from reasondistill.config.sampling import (
    VENDOR_SETTINGS,
    AlsoSampled,
    JudgeSettings,
    ModelSettings,
    SampledModel,
    SamplingSettings,
    TraceSettings,
    VerdictSettings,
)
from reasondistill.config.shrinking import ShrinkSettings
from reasondistill.config.sources import (
    AnswerKind,
    Benchmark,
    ComparedProblems,
    Conditions,
    DecontaminateSettings,
    Erratum,
    FieldRule,
    MixedSource,
    NearDuplicateSettings,
    ProblemMixture,
    ProblemSource,
    Rule,
    UngradedAnswers,
)
from reasondistill.config.stored import StoredSettings
from reasondistill.config.students import (
    CONTROLS,
    START,
    STUDENT,
    TEACHING,
    WATCHING,
    ArchitectureSettings,
    ExampleSettings,
    LoraSettings,
    MixtureSettings,
    ScoreRule,
    ScoreSettings,
    StudentExamples,
    StudentSettings,
)

__all__ = [
    "TEACHING",
    "CONTROLS",
    "STUDENT",
    "AlsoSampled",
    "AnswerKind",
    "ArchitectureSettings",
    "Benchmark",
    "Capabilities",
    "CheckpointSettings",
    "ComparedProblems",
    "DecontaminateSettings",
    "DEFAULT_SAMPLER",
    "Cluster",
    "EnvironmentSettings",
    "EvalModel",
    "Erratum",
    "UngradedAnswers",
    "EvalSettings",
    "ExampleSettings",
    "GradeSettings",
    "JudgeSettings",
    "LoraSettings",
    "ModelSettings",
    "MixtureSettings",
    "NearDuplicateSettings",
    "Name",
    "OpenAISettings",
    "Pipeline",
    "ProblemSource",
    "Rule",
    "ProblemMixture",
    "MixedSource",
    "FieldRule",
    "Conditions",
    "ReportSettings",
    "START",
    "ResourceSettings",
    "RoundSettings",
    "SamplingSettings",
    "ScoreRule",
    "ScoreSettings",
    "Scalar",
    "ShrinkSettings",
    "StoredSettings",
    "StudentExamples",
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
