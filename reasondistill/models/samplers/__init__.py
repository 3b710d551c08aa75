"""Samplers, which write completions.

A sampler takes requests and yields completions *as they finish*, in any order, so that a long one
never holds the others up and a kill loses only what is in flight. Each request carries its own
seed: the same samples come out for any number of shards.

    with VllmSampler(model, settings) as sampler:
        for sampled in sampler.sample(requests):
            print(sampled.request.id, sampled.completion.finish)

Each sampler is one module here with a `SAMPLER`; `sampler` in a pipeline file is the module's name.
See `config.sampler_kinds` for samplers of your own.
"""

from reasondistill.models.samplers.base import (
    Keep,
    Running,
    Sampler,
    SamplerBase,
    SamplerKind,
    Scorer,
    context_of,
    kept_by,
    make_ready,
)
from reasondistill.models.samplers.requests import (
    Rendered,
    Request,
    Sampled,
    Scored,
    TopK,
    Written,
    failed,
    problem_and_sample,
    rank,
    seed_of,
    without_secrets,
)
from reasondistill.models.tokenising import InputFault

__all__ = [
    "InputFault",
    "Keep",
    "Rendered",
    "Request",
    "Running",
    "Sampled",
    "Sampler",
    "SamplerBase",
    "SamplerKind",
    "Scored",
    "Scorer",
    "TopK",
    "Written",
    "context_of",
    "failed",
    "kept_by",
    "make_ready",
    "problem_and_sample",
    "rank",
    "seed_of",
    "without_secrets",
]
