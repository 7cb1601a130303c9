"""Intervals for what is measured: rows within tasks within seeds, resampled level by level."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

Interval = tuple[float, float]


def proportion_interval(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson interval of a proportion (one task, independent rows)."""
    interval = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_of_means(groups: Sequence[Sequence[float]]) -> float:
    """Mean over groups (tasks) of the mean over their rows: every task counts alike."""
    return float(np.mean([np.mean(group) for group in groups]))


def bootstrap_interval(
    groups: Sequence[Sequence[float]], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Hierarchical percentile bootstrap of `mean_of_means`: tasks are redrawn, then rows within each.

    Args:
        groups: for each task the value of each row.
        confidence: coverage.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    arrays = [np.asarray(group, dtype=float) for group in groups]
    row_means = np.stack([_resampled_means(a, resamples, len(arrays), generator) for a in arrays])  # [task, draw, slot]
    tasks = generator.integers(len(arrays), size=(resamples, len(arrays)))
    slots = np.arange(len(arrays))
    draws = row_means[tasks, np.arange(resamples)[:, None], slots[None]].mean(axis=1)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled_means(rows: np.ndarray, resamples: int, slots: int, generator: np.random.Generator) -> np.ndarray:
    """Independent resampled means of one task's rows, `[draw, slot]`: a task drawn twice has its rows redrawn twice."""
    return rows[generator.integers(len(rows), size=(resamples, slots, len(rows)))].mean(axis=-1)
