"""Intervals and tests for what is measured: rows within tasks within seeds, resampled level by level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest, norm, permutation_test, t, wilcoxon

from instruction_vectors.errors import DataError

Interval = tuple[float, float]
Alternative = Literal["two-sided", "greater", "less"]
Nested = Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
"""Values of rows; of tasks and their rows; or of seeds, their tasks and their rows."""


@cache
def proportion_interval(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson interval of a proportion (one task, independent rows)."""
    interval = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_of_means(groups: Nested) -> float:
    """Mean over groups (seeds, tasks) of the mean over what they hold: every task counts alike."""
    if _depth(groups) == 1:
        return float(np.mean(groups))
    return float(np.mean([mean_of_means(group) for group in groups]))  # type: ignore[arg-type]


def paired_differences(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> list[list[float]]:
    """First minus second, row by row, of tasks of rows."""
    return [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(first, second, strict=True)]


def bootstrap_interval(groups: Nested, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Hierarchical percentile bootstrap of `mean_of_means`: seeds are redrawn, then tasks within each, then their rows.

    Args:
        groups: the value of each row, in one to three levels: rows; tasks of rows; seeds of tasks of rows.
        confidence: coverage.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        DataError: an empty level, or values at unequal depths.
    """
    return percentile_interval(bootstrap_means(groups, resamples=resamples, seed=seed), confidence)


def percentile_interval(draws: np.ndarray, confidence: float = 0.95) -> Interval:
    """The middle `confidence` of bootstrap draws `[draw]`."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_means(groups: Any, *, resamples: int = 2000, seed: int = 0, width: int = 0) -> np.ndarray:
    """Draws of `mean_of_means`, `[draw]`; with `width` each row is a tuple of that many values and draws are `[draw, width]`.

    (Values of one row stay together, so that differences between columns are paired.)
    """
    generator = np.random.default_rng(seed)
    depth = _depth(groups) - (1 if width else 0)
    if not 1 <= depth <= 3:
        raise DataError(f"values stand {depth} levels deep; expected rows, tasks of rows, or seeds of tasks of rows")
    if depth == 2 and not width:
        return _two_levels(groups, resamples, generator)
    return _resampled(groups, depth, resamples, generator)


def crossed_means(seeds: Sequence[Sequence[Sequence[float]]], *, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Draws `[draw]` of `mean_of_means` where every seed stands on the same tasks and rows.

    Seeds are redrawn, and apart from them tasks and their rows, the same ones for all seeds of a draw: more seeds do not make
    more tasks, as they would where tasks were redrawn within each.

    Args:
        seeds: for each seed the values of its tasks' rows, tasks and rows in the same order.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        DataError: seeds with other numbers of tasks or rows.
    """
    means = joint_means(seeds, resamples=resamples, seed=seed)
    chosen = np.random.default_rng([seed, 1]).integers(len(seeds), size=means.shape)
    drawn: np.ndarray = np.take_along_axis(means, chosen, axis=1).mean(axis=1)
    return drawn


def joint_means(parts: Sequence[Sequence[Sequence[float]]], *, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Draws `[draw, part]` of each part's `mean_of_means`, tasks and their rows redrawn once for all parts.

    Args:
        parts: for each (a seed, say, or an arm's seed) the values of its tasks' rows, tasks and rows in the same order.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        DataError: parts with other numbers of tasks or rows.
    """
    if len({tuple(len(rows) for rows in tasks) for tasks in parts}) > 1:
        raise DataError("the seeds stand on unlike tasks or rows")
    rows = [list(zip(*task, strict=True)) for task in zip(*parts, strict=True)]
    return bootstrap_means(rows, resamples=resamples, seed=seed, width=len(parts))


def _two_levels(groups: Sequence[Sequence[float]], resamples: int, generator: np.random.Generator) -> np.ndarray:
    arrays = [np.asarray(group, dtype=float) for group in groups]
    row_means = np.stack([_resampled_means(a, resamples, len(arrays), generator) for a in arrays])  # [task, draw, slot]
    tasks = generator.integers(len(arrays), size=(resamples, len(arrays)))
    slots = np.arange(len(arrays))
    means: np.ndarray = row_means[tasks, np.arange(resamples)[:, None], slots[None]].mean(axis=1)
    return means


def _resampled_means(rows: np.ndarray, resamples: int, slots: int, generator: np.random.Generator) -> np.ndarray:
    """Independent resampled means of one task's rows, `[draw, slot]`: a task drawn twice has its rows redrawn twice."""
    means: np.ndarray = rows[generator.integers(len(rows), size=(resamples, slots, len(rows)))].mean(axis=-1)
    return means


def _resampled(groups: Sequence[Any], depth: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` independent resampled means of a group, only what was drawn being drawn further: `[count, ...]`."""
    if depth == 1:
        rows = np.asarray(groups, dtype=float)
        block = max(1, 2_000_000 // rows.size)  # bounds memory
        parts = [
            _means_of(rows, generator.integers(len(rows), size=(min(block, count - start), len(rows))))
            for start in range(0, count, block)
        ]
        return np.concatenate(parts) if parts else np.empty((0, *rows.shape[1:]))
    chosen = generator.integers(len(groups), size=(count, len(groups)))
    means: np.ndarray | None = None
    for number, group in enumerate(groups):
        here = chosen == number
        drawn = _resampled(group, depth - 1, int(here.sum()), generator)
        means = np.empty((*chosen.shape, *drawn.shape[1:])) if means is None else means
        means[here] = drawn
    assert means is not None
    average: np.ndarray = means.mean(axis=1)
    return average


def _means_of(rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Mean of the drawn rows, `[draw, ...]`: of tuples by how often each was drawn, which copies none of them.

    The last digit is the same on every processor: sums of whole numbers, such as hits, are exact in any order, and others are
    added up row by row (a matrix product need not be).
    """
    if rows.ndim == 1:
        return np.asarray(rows[drawn].mean(axis=1))
    draws, count = drawn.shape
    places = drawn + count * np.arange(draws)[:, None]
    times = np.bincount(places.ravel(), minlength=draws * count).reshape(draws, count)
    if (rows == np.rint(rows)).all():
        return np.asarray(times.astype(float) @ rows / count)
    total = np.zeros((draws, rows.shape[1]))
    for often, row in zip(times.T, rows, strict=True):
        total += often[:, None] * row
    return total / count


def _depth(groups: Any) -> int:
    """How many levels deep the values stand; every level filled, all equally deep."""
    if isinstance(groups, np.ndarray):
        groups = groups.tolist()
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        return 0
    if not groups:
        raise DataError("nothing to average: a group of values is empty")
    if not any(isinstance(group, Sequence | np.ndarray) for group in groups):
        return 1
    depths = {_depth(group) for group in groups}
    if len(depths) > 1:
        raise DataError("values stand at unequal depths; expected rows, tasks of rows, or seeds of tasks of rows")
    return 1 + depths.pop()


def sign_flip_test(
    differences: Sequence[float], *, alternative: Alternative = "two-sided", resamples: int = 9999, seed: int = 0
) -> float:
    """p that paired differences average 0: signs flipped at random, all 2^n ways where they are few (scipy).

    One difference for each independent unit (a seed, or a row where rows are what is sampled).
    """
    values = _differences(differences)
    if not values.any():
        return 1.0
    if len(values) == 1:  # scipy wants two; of one, both signs are as far from 0
        return 1.0 if alternative == "two-sided" or (values[0] > 0) != (alternative == "greater") else 0.5
    result = permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples, alternative=alternative,
        random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.pvalue)


def wilcoxon_test(differences: Sequence[float], *, alternative: Alternative = "two-sided") -> float:
    """p that paired differences are symmetric about 0 (Wilcoxon's signed ranks, zeros dropped; scipy)."""
    values = _differences(differences)
    return float(wilcoxon(values, alternative=alternative).pvalue) if values.any() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the chance of any false rejection stays below the level."""
    if any(not 0 <= p <= 1 for p in p_values):
        raise DataError(f"p-values lie between 0 and 1, got {list(p_values)}")
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Whether something costs less than a margin: `lower`, the one-sided bound of the difference, lies above `-margin`."""

    lower: float
    margin: float
    holds: bool


def non_inferior(
    differences: Nested, margin: float, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> NonInferiority:
    """Test that new minus old is not below `-margin`, by the lower one-sided bootstrap bound.

    Args:
        differences: new minus old by row, in the levels of `bootstrap_interval`; higher is better.
        margin: the loss that would still be accepted, above 0, fixed before looking.
        confidence: one-sided coverage.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    if not margin > 0:
        raise DataError(f"a margin is above 0, got {margin}")
    lower = float(np.quantile(bootstrap_means(differences, resamples=resamples, seed=seed), 1 - confidence))
    return NonInferiority(lower, margin, lower > -margin)


def standard_error(groups: Nested, *, resamples: int = 2000, seed: int = 0) -> float:
    """Standard deviation of the bootstrap draws of `mean_of_means`."""
    return float(bootstrap_means(groups, resamples=resamples, seed=seed).std(ddof=1))


def minimum_detectable_effect(error: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference that a two-sided test would find with `power`: (z_{1-level/2} + z_power) * error.

    (Bloom 1995.) `error` is the standard error of the difference.
    """
    if error < 0 or not 0 < level < 1 or not 0 < power < 1:
        raise DataError("a standard error is 0 or more, level and power lie between 0 and 1")
    return float((norm.ppf(1 - level / 2) + norm.ppf(power)) * error)


def noise_floor(*things: Sequence[float], confidence: float = 0.95) -> float:
    """How far two runs of the same thing may differ: t_{(1+confidence)/2, d} * s * sqrt(2).

    `things` holds the scores of repeated base runs, two or more, of one thing or of several that are taken to be equally
    noisy: then s is pooled over them and d is the sum of their runs, each less one. A smaller difference between single
    runs says nothing.
    """
    if not things or any(len(runs) < 2 for runs in things):
        raise DataError("a noise floor needs two or more repeated runs")
    free = sum(len(runs) - 1 for runs in things)
    squares = sum(float(np.var(runs) * len(runs)) for runs in things)
    return float(t.ppf((1 + confidence) / 2, free) * math.sqrt(2 * squares / free))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio, or None and the reason why it would mean nothing."""

    value: float | None
    reason: str | None = None


def ratio(numerator: float, denominator: float, interval: Interval) -> Ratio:
    """`numerator / denominator`, refused where the denominator's interval holds 0."""
    low, high = interval
    if math.isnan(numerator) or math.isnan(denominator) or math.isnan(low) or math.isnan(high):
        return Ratio(None, "not measured")
    if low <= 0 <= high or denominator == 0:
        return Ratio(
            None, f"the denominator {denominator:.3g} is not clearly different from 0 (interval {low:.3g} to {high:.3g})"
        )
    return Ratio(numerator / denominator)


def _differences(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise DataError("a paired test needs one finite difference for each pair, and at least one pair")
    return array
