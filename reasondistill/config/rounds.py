"""Rounds of self-training: `[rounds]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

from pydantic import Field, model_validator

from reasondistill.config.basics import Name
from reasondistill.config.sampler_kinds import DEFAULT_SAMPLER, SamplerName, capabilities_of
from reasondistill.config.sampling import SamplingSettings


class RoundSettings(SamplingSettings):
    """A student's own verified samples join the next round: `[rounds]`, or `rounds = 2` alone.

    Round 1 is the file as it is. In each later one the student of the round before draws `n`
    samples of every training problem; they are graded by the same rules, what is verified joins the
    teacher's examples, and a student of the same settings is trained on both, from the same base.
    Each round has a run folder of its own, `NAME-round-2`, in which the student of the round before
    is measured too, and compared.

    Training restarts from the base, and the samples of earlier students are not kept, as in ReST-EM
    (Singh et al. 2023, arXiv 2312.06585) and STaR (Zelikman et al. 2022, arXiv 2203.14465);
    distinct verified samples beside what was there are rejection-sampling fine-tuning (Yuan et al.
    2023, arXiv 2308.01825). That a teacher's traces are what was there is ours. Not covered: STaR's
    rationalisation, which shows the gold answer.

    What is not said of sampling is as in `[traces]`.
    """

    count: Annotated[int, Field(ge=1, le=16)] = 2
    """How many rounds there are, the first included."""
    student: Name | None = None
    """Whose samples join, by the name of a `[[students]]` (one of several seeds: `NAME-seed0`);
    without it the only one that no other goes on from. Example: "distilled"
    """
    n: Annotated[int, Field(ge=1, le=1024)] = 4
    """Samples that it draws of each problem. [samples]"""
    most: Annotated[int, Field(ge=1, le=1024)] | None = None
    """How many of its usable samples of a problem become examples at most. [traces] Example: 4"""
    keep_teacher: bool = True
    """Whether the teacher's traces are examples of later rounds too; else the student's alone."""
    sampler: SamplerName = DEFAULT_SAMPLER
    """Who samples the student: `vllm`, or a sampler of your own as `module:OBJECT`."""

    @model_validator(mode="after")
    def _samples_weights(self) -> Self:
        kind = capabilities_of(self.sampler)
        reads = kind.reads_dataset or kind.reads_solutions or kind.reads_file
        if reads or kind.sends_requests:
            raise ValueError(
                f'sampler: "{self.sampler}" loads no weights, so it cannot sample a student of '
                "this run; leave it out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_number(cls, values: Any) -> Any:
        if isinstance(values, int) and not isinstance(values, bool):
            return {"count": values}
        return cast("Mapping[str, Any]", values)
