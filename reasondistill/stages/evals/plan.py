"""What the evals are to hold: who is measured on what, and with whom it is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasondistill.records import STEP, VARIANT, MeasuredModel, fingerprint


@dataclass(frozen=True)
class Variants:
    """Who answered what besides each model under its own prompt: `<model>@<prompt>` and
    `<model>@step@<n>`, by benchmark.

    `steps` are those of each student's snapshots, measured on `step_benchmarks` with `step_n`
    samples per problem.
    """

    prompts: tuple[str, ...] = ()
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    step_benchmarks: tuple[str, ...] = ()
    step_n: int = 1

    def of(self, benchmark: str, models: Sequence[str]) -> Iterator[str]:
        """The names of the variants on a benchmark."""
        for model in models:
            for prompt in self.prompts:
                yield f"{model}{VARIANT}{prompt}"
        if benchmark not in self.step_benchmarks:
            return
        for model in models:
            for step in self.steps.get(model, ()):
                yield f"{model}{STEP}{step}"

    def samples(self, name: str, n: int) -> int:
        """Samples per problem of a model or variant, where models have `n`."""
        return self.step_n if STEP in name else n


@dataclass(frozen=True)
class EvalPlan:
    """Who is measured on what, and with whom it is compared.

    `benchmarks` says how many samples per problem are wanted of each; more than that on disk are
    left aside. `baselines` maps a model to those it is compared with. `training` is the problems
    file that students were trained on: benchmark problems that it may give away are scored apart.
    `groups` maps a name to the models that differ in their seed alone: they are scored and compared
    together too. `about` says who the models are, and `reference` whom the report compares methods
    with; both are handed on as they are. Models in `greedy` answer each problem once, and so
    do their variants, whatever the others do. The first `limit` problems of each benchmark count;
    more of them on disk are left aside. By how often the model `difficulty` solved a problem the
    others are scored apart. `seed` is that of the bootstrap.
    """

    benchmarks: Mapping[str, int]
    models: Sequence[str]
    baselines: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    variants: Variants = Variants()
    training: Path | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    about: Sequence[MeasuredModel] = ()
    reference: str | None = None
    greedy: Sequence[str] = ()
    limit: int | None = None
    difficulty: str | None = None
    seed: int = 0

    def wanted_samples(self) -> dict[tuple[str, str], int]:
        """Benchmark and model or variant → samples per problem."""
        wanted: dict[tuple[str, str], int] = {}
        for benchmark, n in self.benchmarks.items():
            for model in (*self.models, *self.variants.of(benchmark, self.models)):
                wanted[benchmark, model] = self.variants.samples(model, n)
            for model in (*self.greedy, *self.variants.of(benchmark, self.greedy)):
                wanted[benchmark, model] = 1
        return wanted

    def fingerprint(self, policy: str) -> str:
        """Of everything that the scores depend on, with answers graded by this policy."""
        request: dict[str, Any] = {
            "benchmarks": dict(self.benchmarks),
            "models": self.models,
            "baselines": {model: list(others) for model, others in self.baselines.items()},
            "variants": asdict(self.variants),
            "policy": policy,
            "seed": self.seed,
        }
        if self.groups:
            request["groups"] = {name: list(members) for name, members in self.groups.items()}
        if self.reference is not None:
            request["reference"] = self.reference
        if self.difficulty is not None:
            request["difficulty"] = self.difficulty
        if self.greedy:
            request["greedy"] = list(self.greedy)
        return fingerprint(request)
