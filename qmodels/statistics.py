"""How much of a difference is chance: intervals and tests for counts of right answers."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927): honest near 0 and 1, where the usual one is not."""
    from scipy.stats import binomtest

    if n == 0:
        return 0.0, 1.0
    interval = binomtest(right, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of at least two repetitions, and Student's interval of it."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def paired_p_value(lower: NDArray[np.bool_], higher: NDArray[np.bool_]) -> float:
    """One-sided exact sign test on paired answers (McNemar 1947): chance that `lower` is not really lower."""
    from scipy.stats import binomtest

    gained = int(np.sum(~lower & higher))
    changed = gained + int(np.sum(lower & ~higher))
    return float(binomtest(gained, changed, alternative="greater").pvalue) if changed else 1.0


def unpaired_p_value(lower: float, higher: float, n_lower: int, n_higher: int) -> float:
    """One-sided test that two shares of separate samples are equal, with Agresti and Caffo's (2000) correction."""
    a, b = (lower * n_lower + 1) / (n_lower + 2), (higher * n_higher + 1) / (n_higher + 2)
    spread = sqrt(a * (1 - a) / (n_lower + 2) + b * (1 - b) / (n_higher + 2))
    return 1.0 - NormalDist().cdf((b - a) / spread)
