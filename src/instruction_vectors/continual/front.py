"""How far an arm lies above the front of others: what it keeps beyond what they keep where they learn as much."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from instruction_vectors.continual.result import Result, counted_probes, learnt, measured_on, probes
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.statistics import bootstrap_means, mean_of_means, percentile_interval

Points = np.ndarray
"""AP and IP at the end, `[..., 2]`."""


def above_front(arm: Sequence[Result], others: Mapping[str, Sequence[Result]], *, seed: int = 0) -> dict[str, Any]:
    """The arm's five-shot accuracy (IP) at the end, minus that of the front of `others` at its AP.

    The front at an AP is the best that the others, or a straight line between two of them, keep where they learn at least as
    much: 0 where none does.

    Args:
        arm: cells' results of one sequence, any number of seeds.
        others: the same for each arm that spans the front; seeds need not be the same.
        seed: of the bootstrap. Tasks and rows are drawn together for all arms, seeds within each. The best of several arms is
            as lucky in a draw as it is in the results, so the gap is rather too small than too large.

    Returns:
        `gap`: in IP, above 0 where the arm lies above the front; `gap_interval`, 95%; `above`: the share of draws in which it
        does; `arms`: those that span the front, and of how many seeds.

    Raises:
        DataError: no other arm, or results that were not measured on the same tasks and rows.
    """
    if not arm or not others or not all(others.values()):
        raise DataError("a front wants an arm and at least one other, each with a finished cell")
    groups = [list(arm), *map(list, others.values())]
    results = [result for group in groups for result in group]
    if any(measured_on(result) != measured_on(results[0]) for result in results):
        raise DataError("the arms of a front were not measured on the same tasks and rows, or begin with unlike models")
    names = counted_probes(results[0], "in_context")
    if not names:
        raise DataError("the model before training is at its floor on every probe: nothing can be kept there")
    scores = [[learnt(r) for r in results], [probes(r, -1, "in_context", names) for r in results]]
    means = np.asarray([[mean_of_means(values) for values in measure] for measure in scores]).T  # [result, 2]
    exact = np.stack([means[columns].mean(axis=0) for columns in _columns(groups)])
    drawn = np.stack([_together(measure, seed=seed + number) for number, measure in enumerate(scores)], axis=-1)
    generator = np.random.default_rng([seed, 1])
    draws = np.stack([_redrawn(drawn[:, columns], generator) for columns in _columns(groups)], axis=1)
    gaps = _gap(draws)
    return {
        "gap": float(_gap(exact[None])[0]),
        "gap_interval": list(percentile_interval(gaps)),
        "above": float((gaps > 0).mean()),
        "arms": {name: len(cells) for name, cells in others.items()},
    }


def _columns(groups: Sequence[Sequence[Result]]) -> list[slice]:
    """Where each group stands among all results."""
    ends = np.cumsum([len(group) for group in groups])
    return [slice(end - len(group), end) for end, group in zip(ends, groups, strict=True)]


def _together(measure: Sequence[Sequence[Sequence[float]]], *, seed: int) -> np.ndarray:
    """Draws of each result's mean, tasks and rows drawn once for all results: `[draw, result]`."""
    rows = [list(zip(*task, strict=True)) for task in zip(*measure, strict=True)]
    return bootstrap_means(rows, seed=seed, width=len(measure))


def _redrawn(means: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means over seeds redrawn, AP and IP of a seed staying together: `[draw, seed, 2]` to `[draw, 2]`."""
    chosen = generator.integers(means.shape[1], size=means.shape[:2])
    return np.asarray(np.take_along_axis(means, chosen[..., None], axis=1).mean(axis=1))


def front(points: Points, at: np.ndarray) -> np.ndarray:
    """The front's IP at an AP.

    Args:
        points: of the arms that span it, `[draw, arm, 2]`.
        at: the AP, `[draw]`.

    Returns:
        `[draw]`.
    """
    ap, ip = points[..., 0], points[..., 1]
    best = np.where(ap >= at[:, None], ip, 0.0).max(axis=1)
    for more, less in permutations(range(points.shape[1]), 2):
        between = (ap[:, less] < at) & (at < ap[:, more])
        weight = (at - ap[:, less]) / np.where(between, ap[:, more] - ap[:, less], 1.0)
        best = np.where(between, np.maximum(best, ip[:, less] + weight * (ip[:, more] - ip[:, less])), best)
    return best


def _gap(points: Points) -> np.ndarray:
    """Of the first arm over the others, `[draw]`."""
    return np.asarray(points[:, 0, 1] - front(points[:, 1:], points[:, 0, 0]))
