"""The basis of this package: the confidence level, the shape of a sheet of outcomes, two
quantiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def shape_of(correct: NDArray[Any]) -> tuple[int, int]:
    """Problems and samples. Raises ValueError unless there is at least one of each."""
    if correct.ndim != 2 or 0 in correct.shape:
        raise ValueError(
            "want a (problems, samples) array with at least one of each, found shape "
            f"{correct.shape}"
        )
    return int(correct.shape[0]), int(correct.shape[1])


def hits_of(correct: NDArray[Any]) -> Ints:
    """Correct samples of each problem."""
    return np.asarray(np.sum(correct, axis=1), dtype=np.int64)


def normal_quantile(level: float) -> float:
    """How many standard errors a two-sided normal interval of this level reaches: 1.96 for 0.95."""
    # A quarter of the time that every process of a run starts in, and most compute no interval.
    from scipy import special

    return float(special.ndtri((1 + level) / 2))


def student_quantile(level: float, n: int) -> float:
    """The same by Student's t of n − 1 degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(max(1, n - 1), (1 + level) / 2))
