"""Paired differences of a task's rows with intervals that stay honest on a dozen rows.

Rows are right or wrong, so a resampling interval collapses to a point where all rows agree. Bonett & Price (2012,
*J. Educ. Behav. Stat.* 37, 479) add one pair to each kind of disagreement before the usual normal interval; here that is
one more row at each end of the scale.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.knowledge import Estimate


def contrast(differences: Sequence[float], width: float, *, confidence: float = 0.95) -> Estimate:
    """Mean of paired differences that lie in `[-width, width]`.

    Args:
        differences: one a row.
        width: the largest difference a row can show, above 0 (1 for plain hits, `1/(1 - chance)` for corrected ones).
        confidence: two-sided coverage.

    Raises:
        DataError: no rows, or a width that is not above 0.
    """
    centre, error = _adjusted(differences, width, (-width, width))
    return _estimate(differences, centre, error, (-width, width), confidence)


def upper_bound(differences: Sequence[float], width: float, *, confidence: float = 0.95) -> float:
    """One-sided upper bound of the mean difference."""
    return contrast(differences, width, confidence=2 * confidence - 1).interval[1]


def standard_error(differences: Sequence[float], width: float) -> float:
    """Standard error of the mean difference, the added rows included."""
    return _adjusted(differences, width, (-width, width))[1]


def level(values: Sequence[float], lowest: float, highest: float = 1.0, *, confidence: float = 0.95) -> Estimate:
    """Mean of values between `lowest` and `highest`, two rows added at each end (Agresti & Coull 1998).

    Raises:
        DataError: no rows, or ends in the wrong order.
    """
    centre, error = _adjusted(values, highest - lowest, (lowest, lowest, highest, highest))
    return _estimate(values, centre, error, (lowest, highest), confidence)


def share(parts: Sequence[float], wholes: Sequence[float], width: float, *, confidence: float = 0.95) -> Estimate | None:
    """Mean part over mean whole, row by row paired, with Fieller's interval (1954); None where it has no end.

    That is where the whole's own interval holds 0: a share of nothing means nothing.

    Args:
        parts: what came back, a row.
        wholes: what was lost, the same row.
        width: the largest value of either.
        confidence: two-sided coverage.
    """
    if len(parts) != len(wholes) or not len(parts):
        raise DataError(f"a share needs rows in pairs, got {len(parts)} and {len(wholes)}")
    z = float(norm.ppf((1 + confidence) / 2))
    table = np.asarray([parts, wholes], dtype=float)
    ends = np.asarray([[width, -width, 0, 0], [0, 0, width, -width]])
    joined = np.concatenate([table, ends], axis=1)
    part, whole = joined.mean(axis=1)
    (v_part, v_both), (_, v_whole) = np.cov(joined, ddof=0) / joined.shape[1]
    a = whole**2 - z**2 * v_whole
    if a <= 0 or whole <= 0:
        return None
    b, c = part * whole - z**2 * v_both, part**2 - z**2 * v_part
    root = math.sqrt(max(0.0, b**2 - a * c))
    return Estimate(float(table[0].mean() / table[1].mean()), (float((b - root) / a), float((b + root) / a)))


def _adjusted(values: Sequence[float], width: float, added: tuple[float, ...]) -> tuple[float, float]:
    if not len(values) or not width > 0:
        raise DataError("an interval needs at least one row and a width above 0")
    joined = np.asarray([*values, *added], dtype=float)
    return float(joined.mean()), float(joined.std() / math.sqrt(len(joined)))


def _estimate(values: Sequence[float], centre: float, error: float, ends: tuple[float, float], confidence: float) -> Estimate:
    half = float(norm.ppf((1 + confidence) / 2)) * error
    return Estimate(float(np.mean(values)), (max(ends[0], centre - half), min(ends[1], centre + half)))
