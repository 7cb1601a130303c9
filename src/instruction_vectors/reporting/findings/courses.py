"""Where each arm stood and how far it moved: the arithmetic under the sentences on training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..contents import arms_of, tasks_of
from ..values import Estimate, combine, paired, series

FEWEST_TASKS = 5
"""Least number of tasks for an interval over tasks."""
# Largest gap between a mean and the mean of its tasks at which they are taken to be the same measurement.
_SAME = 0.006


@dataclass(frozen=True)
class Course:
    """Where an arm stood in a metric before training and at a later stage, and the change between them."""

    first: Estimate
    last: Estimate
    stage: int
    gap: Estimate


Point = tuple[str, str, int]
"""An arm, a metric and a stage of ``forgetting``."""


def weigh(results: Mapping[str, Any], terms: Sequence[tuple[float, Point]]) -> Estimate | None:
    """A sum of weighted scores, such as a change; None where a score is missing.

    The interval is a paired one over tasks if the scores are known for at least five tasks and agree with the
    means; otherwise it is put together from the intervals of the means.
    """
    arms = arms_of(results, "forgetting")

    def total(of: Callable[[str], Mapping[str, Any]]) -> Estimate | None:
        parts = []
        for weight, (arm, metric, stage) in terms:
            points = series(of(arm), metric)
            point = points[stage] if stage < len(points) else None
            if point is None:
                return None
            parts.append((weight, point))
        return combine(parts)

    whole = total(lambda arm: arms.get(arm, {}))
    names = list(dict.fromkeys(task for _, (arm, _, _) in terms for task in tasks_of(arms.get(arm, {}), "per_task")))
    each = [total(lambda arm, task=name: tasks_of(arms.get(arm, {}), "per_task").get(task, {})) for name in names]
    by_task = [e.value for e in each if e is not None]
    # Tasks that all moved alike say nothing on how much tasks differ.
    if whole is None or len(by_task) < FEWEST_TASKS or len(set(by_task)) == 1:
        return whole
    over_tasks = paired(by_task)
    return over_tasks if abs(over_tasks.value - whole.value) < _SAME else whole


def courses(results: Mapping[str, Any], metric: str) -> dict[str, Course]:
    """Each arm's course in a metric from M0 on.

    Where one arm is not finished, all arms are taken at the last stage that every one has reached.
    """
    found = {arm: series(data, metric) for arm, data in arms_of(results, "forgetting").items()}
    found = {arm: points for arm, points in found.items() if points and points[0] and any(points[1:])}
    reached = [max(i for i, point in enumerate(points) if point) for points in found.values()]
    stage = min(reached, default=0)
    out: dict[str, Course] = {}
    for arm, points in found.items():
        first, last = points[0], points[stage]
        gap = weigh(results, [(1, (arm, metric, stage)), (-1, (arm, metric, 0))])
        if first and last and gap:
            out[arm] = Course(first, last, stage, gap)
    return out


def over_sequential(results: Mapping[str, Any], metric: str) -> dict[str, Estimate]:
    """Each other arm's score minus that of sequential training, at the last common stage."""
    found = courses(results, metric)
    if "sequential" not in found:
        return {}
    gaps = {
        arm: weigh(results, [(1, (arm, metric, course.stage)), (-1, ("sequential", metric, course.stage))])
        for arm, course in found.items()
        if arm != "sequential"
    }
    return {arm: gap for arm, gap in gaps.items() if gap}
