"""Students that differ in their seed alone, taken together: `kd-seed0`, `kd-seed1`, … → `kd`.

    found = pool_seeds(sheets, {"kd": ("kd-seed0", "kd-seed1"), "sft": ("sft-seed0", "sft-seed1")}, {"kd-seed0": ["sft-seed0"], …})
    found["differences"]          # kd − sft, paired over the problems

A group's sheet holds the samples of all its seeds side by side, (problems, seeds × samples).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reasondistill.evals.comparing import Sheets, differences
from reasondistill.evals.scoring import pass_at_1
from reasondistill.evals.sheets import Sheet
from reasondistill.records import SeedSpread

Groups = Mapping[str, Sequence[str]]

NOTE = (
    "Students that differ in their seed alone are taken together, their samples side by side. Intervals and p-values are over problems and "
    "samples, for these trained models; how far other seeds would fall is not in them. The spread over the seeds stands beside them."
)


def pool_seeds(own: Sheets, groups: Groups, baselines: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What scores.json says under `groups`: every comparison with groups in place of their members, in families of its own.

    Raises StageError when a model or baseline did not answer the benchmark.
    """
    sheets = together(own, groups)
    pooled = [sheet for (_, model), sheet in sheets.items() if model in groups]
    outcomes: dict[str, dict[str, Any]] = {}
    tokens: dict[str, dict[str, Any]] = {}
    for sheet in pooled:
        outcomes.setdefault(sheet.benchmark, {})[sheet.model] = sheet.shares()
        tokens.setdefault(sheet.benchmark, {})[sheet.model] = float(sheet.tokens.mean())
    return {
        "members": {name: list(members) for name, members in groups.items()},
        "scores": [pass_at_1(sheet).model_dump() for sheet in pooled],
        "differences": [row.model_dump() for row in differences(sheets, grouped(baselines, groups))],
        "spread": [row.model_dump() for row in _spreads(own, groups)],
        "outcomes": outcomes,
        "tokens": tokens,
        "note": NOTE,
    }


def together(own: Sheets, groups: Groups) -> dict[tuple[str, str], Sheet]:
    """One sheet for each group and for each model of none, by benchmark and name."""
    group_of = members_of(groups)
    sheets: dict[tuple[str, str], Sheet] = {}
    for (benchmark, model), sheet in own.items():
        name = group_of.get(model, model)
        if (benchmark, name) not in sheets:
            sheets[benchmark, name] = pooled_sheet(name, [own[benchmark, one] for one in groups[name]]) if name in groups else sheet
    return sheets


def members_of(groups: Groups) -> dict[str, str]:
    """Member → its group."""
    return {member: name for name, members in groups.items() for member in members}


def pooled_sheet(name: str, sheets: Sequence[Sheet]) -> Sheet:
    """The samples of several models on the same problems of one benchmark, side by side."""
    first = sheets[0]
    return Sheet(
        name,
        first.benchmark,
        first.problems,
        np.hstack([sheet.correct for sheet in sheets]),
        np.hstack([sheet.tokens for sheet in sheets]),
        max_tokens=first.max_tokens,
        outcomes=sum((sheet.outcomes for sheet in sheets), Counter[str]()),
        wrong=[sum(answers, Counter[str]()) for answers in zip(*(sheet.wrong for sheet in sheets), strict=True)],
    )


def grouped(baselines: Mapping[str, Sequence[str]], groups: Groups) -> dict[str, list[str]]:
    """Who is compared with whom, members named by their group: `kd-seed0` with `sft-seed0` is `kd` with `sft`."""
    group_of = members_of(groups)
    compared: dict[str, list[str]] = {}
    for model, others in baselines.items():
        name = group_of.get(model, model)
        known = compared.setdefault(name, [])
        known += dict.fromkeys(other for single in others if (other := group_of.get(single, single)) not in (name, *known))
    return compared


def _spreads(own: Sheets, groups: Groups) -> Iterator[SeedSpread]:
    """The score of each seed, and how far apart they are."""
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in own):
        for name, members in groups.items():
            means = {member: float(own[benchmark, member].correct.mean()) for member in members}
            seen = list(means.values())
            yield SeedSpread(
                model=name,
                benchmark=benchmark,
                metric="pass@1",
                seeds=means,
                mean=float(np.mean(seen)),
                deviation=float(np.std(seen, ddof=1)),
                low=min(seen),
                high=max(seen),
            )
