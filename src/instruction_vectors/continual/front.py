"""How far an arm lies above the front of others: what it keeps beyond what they keep where they learn as much."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from instruction_vectors.continual.result import Result, counted_probes, course, learnt, measured, probes, stands_on
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.statistics import joint_means, mean_of_means, paired_differences, percentile_interval

_TIE = 1e-9
"""Means that differ by less are equal but for the order in which they were summed."""


def front(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The most that one of the arms, or a straight line between two, keeps where it learns at least as much.

    Args:
        points: what each arm learns and keeps, AP and IP, `[draw, arm, 2]`.
        at: the AP, `[draw]`; where no arm learns as much, that of the arm that learns most stands for it.

    Returns:
        IP, `[draw]`.
    """
    ap, ip = points[..., 0], points[..., 1]
    at = np.minimum(at, ap.max(axis=1)) - _TIE
    best = np.where(ap >= at[:, None], ip, -np.inf).max(axis=1)
    for more, less in permutations(range(points.shape[1]), 2):
        between = (ap[:, less] < at) & (at < ap[:, more])
        weight = (at - ap[:, less]) / np.where(between, ap[:, more] - ap[:, less], 1.0)
        best = np.where(between, np.maximum(best, ip[:, less] + weight * (ip[:, more] - ip[:, less])), best)
    return best


def above_front(arm: Sequence[Result], others: Mapping[str, Sequence[Result]], *, seed: int = 0) -> dict[str, Any]:
    """The arm's five-shot accuracy (IP) at the end, minus that of the `front` of `others` at its AP.

    Every other arm is placed by its differences to this one on the seeds, tasks and rows that both have, so that arms of
    fewer seeds are not set beside other seeds.

    Args:
        arm: cells' results of one sequence, one a seed.
        others: the same for each arm that spans the front, with at least one seed of `arm`'s.
        seed: of the bootstrap; a draw's seeds, tasks and rows are the same for all arms.

    Returns:
        `gap`: in IP, above 0 where the arm lies above the front; `gap_interval`: 95%; `arms`: those that span the front, and
        on how many seeds each is compared.

    Raises:
        DataError: no other arm, one that shares no seed, other tasks or rows at a seed, or a model at its floor on every probe.
    """
    seeds = {course(result): result for result in arm}
    shared = {name: [r for r in cells if course(r) in seeds] for name, cells in others.items()}
    if not others or not all(shared.values()):
        raise DataError("a front wants at least one other arm, and of each a seed that both have")
    pairs = [(seeds[course(other)], other) for cells in shared.values() for other in cells]
    if any(stands_on(own) != stands_on(other) or measured(own) != measured(arm[0]) for own, other in pairs):
        raise DataError("the arms of a front stand on unlike data or begin with unlike models")
    counted = [set(counted_probes(own, "in_context")) for own, _ in pairs]
    names = [name for name in counted_probes(arm[0], "in_context") if all(name in each for each in counted)]
    if not names:
        raise DataError("the model before training is at its floor on every probe: nothing can be kept there")
    measures = [
        [paired_differences(scores(other), scores(own)) for own, other in pairs]
        for scores in (learnt, lambda result: probes(result, -1, "in_context", names))
    ]
    exact = np.array([[mean_of_means(rows) for rows in measure] for measure in measures]).T[None]  # [1, pair, 2]
    drawn = np.stack([joint_means(measure, seed=seed + number) for number, measure in enumerate(measures)], axis=-1)
    counts = np.random.default_rng([seed, 1]).multinomial(len(seeds), [1 / len(seeds)] * len(seeds), size=len(drawn))
    order = list(seeds)
    columns = [[order.index(course(result)) for result in cells] for cells in shared.values()]
    gaps = -_front_at_the_arm(drawn, counts, columns)
    return {
        "gap": float(-_front_at_the_arm(exact, np.ones((1, len(seeds))), columns)[0]),
        "gap_interval": list(percentile_interval(gaps)),
        "arms": {name: len(cells) for name, cells in shared.items()},
    }


def _front_at_the_arm(pairs: np.ndarray, counts: np.ndarray, columns: Sequence[Sequence[int]]) -> np.ndarray:
    """The front of arms placed by their differences to one that so lies at (0, 0).

    Args:
        pairs: differences of AP and IP of every arm's every seed, `[draw, pair, 2]`, arm after arm.
        counts: how often each seed was drawn, `[draw, seed]`.
        columns: of each arm its seeds. Where none of them was drawn, all count alike.

    Returns:
        Difference of IP, `[draw]`.
    """
    ends = np.cumsum([len(own) for own in columns])
    points = []
    for end, own in zip(ends, columns, strict=True):
        weights = counts[:, own].astype(float)
        weights[weights.sum(axis=1) == 0] = 1.0
        points.append((pairs[:, end - len(own) : end] * weights[..., None]).sum(axis=1) / weights.sum(axis=1)[:, None])
    return front(np.stack(points, axis=1), np.zeros(len(pairs)))
