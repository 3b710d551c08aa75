"""Students that differ in their seed alone, taken together: `kd-seed0`, `kd-seed1`, … → `kd`.

    groups = {"kd": ("kd-seed0", "kd-seed1"), "sft": ("sft-seed0", "sft-seed1")}
    pooled = pool_seeds(sheets, groups, baselines={"kd-seed0": ["sft-seed0"], …})
    pooled.differences            # kd − sft, paired over the problems

A group's sheet holds the samples of all its seeds side by side, (problems, seeds × samples); a
problem that one of them lost is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from reasondistill.errors import StageError
from reasondistill.records import SeedSpread
from reasondistill.runs.scores import Outcomes, SeedGroups, Tokens
from reasondistill.stages.evals.comparing import Sheets, differences
from reasondistill.stages.evals.outcomes import Sheet
from reasondistill.stages.evals.scoring import pass_at_1

Groups = Mapping[str, Sequence[str]]

NOTE = (
    "Students that differ in their seed alone are taken together, their samples side "
    "by side. Intervals and p-values are over problems and "
    "samples, for these trained models; how far other seeds would fall is not in "
    "them. The spread over the seeds stands beside them."
)


def pool_seeds(
    sheets: Sheets, groups: Groups, baselines: Mapping[str, Sequence[str]]
) -> SeedGroups:
    """What scores.json says under `groups`: every comparison with groups in place of their members,
    in families of its own.

    Raises StageError when a model or baseline did not answer the benchmark.
    """
    joined = together(sheets, groups)
    pooled = [sheet for (_, model), sheet in joined.items() if model in groups]
    outcomes: Outcomes = {}
    tokens: Tokens = {}
    for sheet in pooled:
        outcomes.setdefault(sheet.benchmark, {})[sheet.model] = sheet.shares()
        tokens.setdefault(sheet.benchmark, {})[sheet.model] = sheet.mean_tokens()
    return SeedGroups(
        members={name: tuple(members) for name, members in groups.items()},
        scores=tuple(pass_at_1(sheet) for sheet in pooled),
        differences=tuple(differences(joined, grouped(baselines, groups))),
        spread=tuple(_spreads(sheets, groups)),
        outcomes=outcomes,
        tokens=tokens,
        note=NOTE,
    )


def together(sheets: Sheets, groups: Groups) -> dict[tuple[str, str], Sheet]:
    """One sheet for each group and for each model of none, by benchmark and name."""
    group_of = members_of(groups)
    joined: dict[tuple[str, str], Sheet] = {}
    for (benchmark, model), sheet in sheets.items():
        name = group_of.get(model, model)
        if (benchmark, name) not in joined:
            members = [sheets[benchmark, one] for one in groups.get(name, ())]
            if members:
                sheet = pooled_sheet(name, members)
            joined[benchmark, name] = sheet
    return joined


def members_of(groups: Groups) -> dict[str, str]:
    """Member → its group."""
    group_of: dict[str, str] = {}
    for name, members in groups.items():
        group_of.update(dict.fromkeys(members, name))
    return group_of


def _on_common_problems(sheets: Sequence[Sheet]) -> list[Sheet]:
    """The same sheets without the problems that any of them lost."""
    gone = set[str]().union(*(sheet.lost_problems for sheet in sheets))
    common = [name for name in sheets[0].problems if name not in gone]
    if not common:
        names = ", ".join(sheet.model for sheet in sheets)
        raise StageError(
            f"{sheets[0].benchmark}: {names} lost samples of every problem together; there "
            "is nothing to score."
        )
    return [sheet.only(common) for sheet in sheets]


def pooled_sheet(name: str, sheets: Sequence[Sheet]) -> Sheet:
    """The samples of several models on the problems of one benchmark that all of them have, side by
    side.
    """
    sheets = _on_common_problems(sheets)
    first = sheets[0]
    refused: dict[str, str] = {}
    lost: list[str] = []
    for sheet in sheets:
        refused = sheet.refused | refused  # the first model's reason counts
        lost += sheet.lost
    return Sheet(
        name,
        first.benchmark,
        first.problems,
        np.hstack([sheet.correct for sheet in sheets]),
        np.hstack([sheet.tokens for sheet in sheets]),
        max_tokens=first.max_tokens,
        outcomes=_added(sheet.outcomes for sheet in sheets),
        wrong=_added(sheet.wrong for sheet in sheets),
        refused=refused,
        lost=tuple(lost),
    )


def _added(counters: Iterable[list[Counter[str]]]) -> list[Counter[str]]:
    """Row by row."""
    return [sum(row, Counter[str]()) for row in zip(*counters, strict=True)]


def grouped(baselines: Mapping[str, Sequence[str]], groups: Groups) -> dict[str, list[str]]:
    """Who is compared with whom, members named by their group: `kd-seed0` with `sft-seed0` is `kd`
    with `sft`.
    """
    group_of = members_of(groups)
    compared: dict[str, list[str]] = {}
    for model, others in baselines.items():
        name = group_of.get(model, model)
        known = compared.setdefault(name, [])
        for single in others:
            other = group_of.get(single, single)
            if other != name and other not in known:
                known.append(other)
    return compared


def _spreads(sheets: Sheets, groups: Groups) -> Iterator[SeedSpread]:
    """The score of each seed, and how far apart they are."""
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in sheets):
        for name, members in groups.items():
            of_seeds = _on_common_problems([sheets[benchmark, member] for member in members])
            means = {sheet.model: float(sheet.correct.mean()) for sheet in of_seeds}
            values = list(means.values())
            yield SeedSpread(
                model=name,
                benchmark=benchmark,
                metric="pass@1",
                seeds=means,
                mean=float(np.mean(values)),
                deviation=float(np.std(values, ddof=1)),
                low=min(values),
                high=max(values),
            )
