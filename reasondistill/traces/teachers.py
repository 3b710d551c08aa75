"""Which sampler a teacher means, who it is, and which problems are its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from reasondistill.config import Cluster, Teacher
from reasondistill.records import Problem
from reasondistill.samplers import Sampler
from reasondistill.weights import model_identity


def open_sampler(teacher: Teacher, cluster: Cluster, problems: Sequence[Problem]) -> Sampler:
    """The sampler that a teacher means, with the cluster's settings. Raises ConfigError or MissingDependencyError."""
    if teacher.sampler == "vllm":
        from reasondistill.samplers.vllm import VllmSampler

        options = cluster.vllm.model_dump() | teacher.model_dump(include={"template_options", "trust_remote_code"})
        return VllmSampler(teacher.model, revision=teacher.revision, **options)
    if teacher.sampler == "openai":
        from reasondistill.samplers.openai import OpenAISampler

        options = cluster.openai.model_dump() | teacher.model_dump(include={"template_options"})
        return OpenAISampler(teacher.model, revision=teacher.revision, **options)
    if teacher.sampler == "scripted":
        from reasondistill.samplers.scripted import ScriptedSampler

        return ScriptedSampler.from_file(Path(teacher.model), problems)
    from reasondistill.samplers.reference import ReferenceSampler

    return ReferenceSampler(problems)


def teacher_identity(teacher: Teacher) -> str:
    """`name@revision` of the teacher's weights, found without starting an engine. Raises ConfigError when they are missing."""
    if teacher.sampler == "vllm":
        return model_identity(teacher.model, teacher.revision)
    if teacher.sampler == "scripted" and Path(teacher.model).is_file():
        from reasondistill.samplers.scripted import script_identity

        return script_identity(Path(teacher.model))
    return f"{teacher.model}@{teacher.revision}" if teacher.revision else teacher.model


def deal(problem_id: str, shares: Sequence[float]) -> int:
    """Which teacher gets this problem: a stable hash of its id against the cumulative shares.

    >>> deal("gsm8k/train/12", [1.0])
    0
    """
    digest = hashlib.sha256(f"deal:{problem_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares)
    for index, share in enumerate(shares):
        point -= share
        if point < 0:
            return index
    return len(shares) - 1
