"""The figures, each a function of the results and a paint; None where the results do not hold what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import (
    CONDITIONS,
    METRICS,
    arm_name,
    arms_of,
    condition_means,
    condition_values,
    first_token_tasks,
    stages_of,
)
from ..palette import Paint, arm_colours
from ..svg import Drawing
from ..values import Estimate, mapping, number, part_of, series, show
from .costs import costs
from .effects import heat_map, ranking
from .lanes import MOST_LANES, Lane, Mark, lanes
from .lines import Line, domain_of, panel
from .planes import forms, fronts
from .repairs import repairs

__all__ = ["costs", "curves", "forms", "fronts", "heat_map", "knowing_and_doing", "per_task", "ranking", "repairs", "steering"]

_PANELS = {
    "in_context": ("Tasks never trained, 5-shot", "mean accuracy, five examples and instruction"),
    "zero_shot": ("Tasks never trained, zero-shot", "mean accuracy, instruction only"),
    "trained": ("The tasks being trained", "mean accuracy over the whole sequence"),
}
_STEERING_KEY = (
    ("input only", "tick", "base"),
    ("+ vector", "square", "vector"),
    ("instruction", "ring", "base"),
    ("+ the task's own vector", "dot", "vector"),
    ("+ another task's vector", "diamond", "other"),
    ("+ random vector", "cross", "muted"),
)
_LOOK = dict(zip(CONDITIONS, ("tick", "ring", "square", "dot", "diamond", "cross"), strict=True))
_COLOUR = dict(zip(CONDITIONS, ("base", "base", "vector", "vector", "other", "muted"), strict=True))
_TRACKS = (("x", "x+iv"), ("x+c", "x+c+iv"), ("x+c+other_iv",), ("x+c+random",))
_WEIGHTS = (3.0, 6.0, 0.0, 0.0)


def _rows_behind(arms: Mapping[str, Mapping[str, Any]], metric: str) -> int | None:
    sizes = [number(mapping(arm.get("n")).get(metric)) for arm in arms.values()]
    return int(sizes[0]) if sizes and sizes[0] and len(set(sizes)) == 1 else None


def curves(results: Mapping[str, Any], paint: Paint) -> dict[str, Drawing]:
    """A panel a metric (5-shot, zero-shot, trained tasks), a curve an arm."""
    arms = arms_of(results, "forgetting")
    colours = arm_colours(list(arms))
    panels: dict[str, list[Line]] = {}
    for metric in _PANELS:
        lines = [
            Line(arm_name(arm), points, colours[arm], square=colours[arm] != "sequential")
            for arm, data in arms.items()
            if (points := series(data, metric))
        ]
        if lines:
            panels[metric] = lines
    domain = domain_of([line for lines in panels.values() for line in lines])
    stages = max((stages_of(data) for data in arms.values()), key=len, default=[])
    return {
        metric: panel(*_PANELS[metric], stages, lines, domain, paint, size=_rows_behind(arms, metric))
        for metric, lines in panels.items()
    }


def knowing_and_doing(results: Mapping[str, Any], paint: Paint) -> dict[str, Drawing]:
    """A panel an arm: the same questions in their knowledge form and in their instruction form."""
    arms = arms_of(results, "forgetting")
    colours = arm_colours(list(arms))
    panels = {}
    for arm, data in arms.items():
        lines = [
            Line("knowledge", series(data, "knowledge"), "base", dash="5 3"),
            Line("instruction", series(data, "instruction"), colours[arm], square=colours[arm] != "sequential"),
        ]
        if lines[1].points:
            panels[arm] = [line for line in lines if line.points]
    domain = domain_of([line for lines in panels.values() for line in lines])
    return {
        arm: panel(
            f"{arm_name(arm)[:1].upper()}{arm_name(arm)[1:]} training",
            "the same questions in both forms, corrected for chance",
            stages_of(arms[arm]),
            lines,
            domain,
            paint,
            width=464 if len(panels) < 3 else 300,
            size=_rows_behind({arm: arms[arm]}, "instruction"),
        )
        for arm, lines in panels.items()
    }


def _lane(label: str, values: Mapping[str, Estimate], *, strong: bool = False) -> Lane:
    tracks = [[Mark(CONDITIONS[c], values[c], _LOOK[c], _COLOUR[c]) for c in track if c in values] for track in _TRACKS]
    before, after = values.get("x+c"), values.get("x+c+iv")
    remark = f"{show(before.value)} \N{RIGHTWARDS ARROW} {show(after.value)}" if before and after else ""
    return Lane(label, tracks, _WEIGHTS, remark, strong)


def steering(results: Mapping[str, Any], paint: Paint, width: float, section: str = "steering") -> Drawing | None:
    """A lane a task, the six conditions in four tracks; the mean of all tasks first."""
    tasks = {task: values for task, row in first_token_tasks(results, section).items() if (values := condition_values(row))}
    if not tasks:
        return None
    rows = [_lane(task, values) for task, values in list(tasks.items())[:MOST_LANES]]
    means = condition_means(results, section)
    if means and len(tasks) > 1:
        rows.insert(0, _lane(f"mean of {len(tasks)} tasks", means, strong=True))
    some = part_of(MOST_LANES, len(tasks), "tasks")
    name, axis = "Accuracy with and without the instruction vector", f"accuracy (first answer token){some}"
    return lanes(name, _STEERING_KEY, rows, paint, width=width, axis=axis, track_height=12)


def per_task(results: Mapping[str, Any], paint: Paint, width: float, metric: str) -> Drawing | None:
    """A lane an untouched task: where M0 stood and where each arm ended."""
    arms = {
        arm: data
        for arm, data in arms_of(results, "forgetting").items()
        if any(mapping(row).get(metric) for row in mapping(data.get("per_task")).values())
    }
    colours = arm_colours(list(arms))
    tasks = list(dict.fromkeys(task for data in arms.values() for task in mapping(data.get("per_task"))))
    rows = []
    for task in tasks[:MOST_LANES]:
        tracks = []
        by_arm = {arm: series(mapping(mapping(data.get("per_task")).get(task)), metric) for arm, data in arms.items()}
        reached = min((len(points) for points in by_arm.values() if len(points) > 1), default=0)
        for arm, every in by_arm.items():
            points = [p for p in every[:reached] if p]
            if len(points) > 1:
                shape = "dot" if colours[arm] == "sequential" else "square"
                start = Mark("M0", points[0], "ring", "base")
                tracks.append([start, Mark(f"{arm_name(arm)}, last stage", points[-1], shape, colours[arm])])
        if tracks:
            ends = " / ".join(show(track[-1].value.value) for track in tracks)
            remark = f"{show(tracks[0][0].value.value)} \N{RIGHTWARDS ARROW} {ends}" if len(tracks) < 4 else ""
            rows.append(Lane(task, tracks, [4.0] * len(tracks), remark))
    if not rows:
        return None
    key = [("M0", "ring", "base")]
    key += [(f"after {arm_name(arm)} training", "dot" if c == "sequential" else "square", c) for arm, c in colours.items()]
    name, axis = f"Each untouched task, {METRICS[metric]}", f"accuracy{part_of(MOST_LANES, len(tasks), 'tasks')}"
    return lanes(name, key, rows, paint, width=width, axis=axis, track_height=13)
