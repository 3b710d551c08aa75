"""What is measured of a problem with several samples, from counts alone: exact over all subsets of the samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill.statistics.basics import Floats


def pass_at_k(correct: NDArray[Any], n: int, k: int) -> Floats:
    """The unbiased estimate of P(at least one of k samples is correct), for each problem with `correct` of `n` samples.

    1 − C(n−c, k) / C(n, k), Chen et al. 2021 (arXiv 2107.03374), eq. 1. Raises ValueError unless 1 ≤ k ≤ n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 ≤ k ≤ samples = {n}")
    wrong = n - np.asarray(correct, dtype=np.float64)
    draws = np.arange(k, dtype=np.float64)
    # C(n−c, k) / C(n, k) is a product of k ratios: never overflows. A negative factor means fewer than k wrong ones.
    ratios = np.clip((wrong[..., None] - draws) / (n - draws), 0.0, None)
    return 1.0 - np.prod(ratios, axis=-1)
