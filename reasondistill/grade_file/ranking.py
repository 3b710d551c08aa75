"""Who of several models is best under a policy, and who cannot be told apart from it.

    sentence = ranking({"distilled": correct, "base": other}, policy="default")

The best one is chosen by the same answers, so every pair is tested, and Holm's correction is over
all of them: naming one of several equals best is a false rejection in at most 5 % of such tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics import LEVEL, holm, paired_difference
from reasondistill.tables import counted, percent

# Of more models each pair would be a long list of tests.
_MOST_MODELS = 60
# So many are named.
_MOST_NAMES = 4


def ranking(correct: Mapping[str, NDArray[np.bool_]], policy: str) -> str:
    """One sentence over models by name, each (problems, samples) of the same problems; nothing for
    one model, or for very many.
    """
    names = list(correct)
    if not 2 <= len(names) <= _MOST_MODELS:
        return ""
    means = {name: float(correct[name].mean()) for name in names}
    highest = max(means.values())
    first = [name for name in names if means[name] == highest]
    pairs = list(combinations(names, 2))
    p_values = [paired_difference(correct[a], correct[b]).p_value for a, b in pairs]
    adjusted = dict(zip(pairs, holm(p_values).tolist(), strict=True))
    alike: list[str] = []
    worse: list[str] = []
    for name in sorted(names, key=lambda name: -means[name]):
        if name in first:
            continue
        p = max(adjusted.get((one, name), adjusted.get((name, one), 1.0)) for one in first)
        if p <= 1 - LEVEL:
            worse.append(name)
        else:
            alike.append(name)
    problems, samples = correct[first[0]].shape
    size = f"n = {counted(problems, 'problem')} × {samples}"
    tests = f"Holm over {counted(len(pairs), 'paired test')}"
    if len(first) == 1:
        parts, whom = [f"{first[0]} is best by {policy}: {percent(highest)} %"], "it"
    else:
        parts, whom = [f"equal by {policy}, {percent(highest)} % each: {_some(first)}"], "them"
    if alike:
        parts.append(f"not told apart from {whom}: {_some(alike)}")
    if worse:
        parts.append(f"worse: {_some(worse)}")
    return f"{'; '.join(parts)} ({size}, {tests})."


def _some(names: Sequence[str]) -> str:
    text = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    if more > 0:
        text += f" and {more:,} more"
    return text
