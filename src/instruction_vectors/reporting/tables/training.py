"""Scores by stage and the continual-learning metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import METRICS, arm_name, arms_of, stages_of, tasks_of
from ..palette import arm_colours
from ..values import DASH, estimate, mapping, number, sequence, series, show
from .cells import Cell, Table, value_cell


def stages(results: Mapping[str, Any]) -> Table | None:
    """Every metric and arm, stage by stage."""
    arms = arms_of(results, "forgetting")
    colours = arm_colours(list(arms))
    heads = max((stages_of(data) for data in arms.values()), key=len, default=[])
    rows = []
    for metric, name in METRICS.items():
        for arm, data in arms.items():
            if points := series(data, metric):
                n = number(mapping(data.get("n")).get(metric))
                cells = [value_cell(p, colours[arm]) for p in [*points, *[None] * len(heads)][: len(heads)]]
                rows.append([Cell(name), Cell(arm_name(arm)), Cell(f"{n:.0f}" if n else DASH), *cells])
    return Table("Scores at each stage", ["score", "training", "rows", *heads], rows) if rows else None


def matrices(results: Mapping[str, Any]) -> list[Table]:
    """For each arm the score on each trained task (rows) at each stage (columns); the stage that trained it is marked."""
    out = []
    colours = arm_colours(list(arms_of(results, "forgetting")))
    for arm, data in arms_of(results, "forgetting").items():
        heads = stages_of(data)
        rows = [
            [Cell(task)]
            + [
                value_cell(estimate(v), colours[arm], marked=heads[i] == task)
                for i, v in enumerate(sequence(scores)[: len(heads)])
            ]
            for task, scores in mapping(data.get("matrix")).items()
        ]
        if rows and heads:
            out.append(Table(f"Trained tasks, {arm_name(arm)}", ["task", *heads], rows))
    return out


def continual(results: Mapping[str, Any]) -> Table | None:
    """AP, FP, Forget, BWT, FWT of each arm, with IP and GP on the untouched tasks."""
    rows = []
    for arm, data in arms_of(results, "forgetting").items():
        found = continual_metrics(data)
        for short, metric in (("GP", "zero_shot"), ("IP", "in_context")):
            points = [p for p in series(data, metric) if p]
            found[short] = points[-1].value if points else None
        if any(v is not None for v in found.values()):
            cells = [Cell(show(v), order=v) if v is not None else Cell(DASH) for v in found.values()]
            rows.append([Cell(arm_name(arm)), *cells])
    columns = ["training", "AP", "FP", "Forget", "BWT", "FWT", "GP", "IP"]
    remark = (
        "AP: mean score on each task right after it was trained. FP: mean score on all of them at the end. "
        "Forget = AP \N{MINUS SIGN} FP. BWT: mean change on earlier tasks since they were trained. FWT: mean change on "
        "tasks before their turn. GP, IP: zero-shot and 5-shot accuracy on the untouched tasks at the end."
    )
    return Table("Continual-learning metrics", columns, rows, remark) if rows else None


def continual_metrics(arm: Mapping[str, Any]) -> dict[str, float | None]:
    """AP, FP, Forget, BWT and FWT from ``matrix``, over the tasks trained so far; None where a score is missing."""
    tasks = stages_of(arm)[1:]
    matrix = mapping(arm.get("matrix"))
    score = {t: [number(v) for v in sequence(matrix.get(t))] for t in tasks}
    last = max(0, min((len(values) - 1 for values in score.values()), default=0))
    tasks = tasks[:last]

    def average(values: list[float | None]) -> float | None:
        present = [v for v in values if v is not None]
        return sum(present) / len(present) if values and len(present) == len(values) else None

    def gap(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    learnt = average([score[t][j + 1] for j, t in enumerate(tasks)])
    final = average([score[t][last] for t in tasks])
    back = average([gap(score[t][last], score[t][j + 1]) for j, t in enumerate(tasks[:-1])])
    forward = average([gap(score[t][j], score[t][0]) for j, t in enumerate(tasks) if j > 0])
    return {"AP": learnt, "FP": final, "Forget": gap(learnt, final), "BWT": back, "FWT": forward}


def per_task(results: Mapping[str, Any], metric: str) -> Table | None:
    """Each untouched task at each stage of each arm."""
    arms = {arm: data for arm, data in arms_of(results, "forgetting").items() if tasks_of(data, "per_task")}
    colours = arm_colours(list(arms))
    heads = max((stages_of(data) for data in arms.values()), key=len, default=[])
    rows = []
    for task in dict.fromkeys(task for data in arms.values() for task in tasks_of(data, "per_task")):
        for arm, data in arms.items():
            if points := series(mapping(tasks_of(data, "per_task").get(task)), metric):
                cells = [value_cell(p, colours[arm]) for p in [*points, *[None] * len(heads)][: len(heads)]]
                rows.append([Cell(task), Cell(arm_name(arm)), *cells])
    return Table(f"Untouched tasks, {METRICS[metric]}", ["task", "training", *heads], rows, sortable=True) if rows else None
