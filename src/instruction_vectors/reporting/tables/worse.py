"""What got worse in a diagnosis: every form of every task and every lm-eval task, before and after, and stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contents import METRICS, tasks_of
from ..values import estimate, estimate_of, mapping, sequence
from .cells import Cell, Table, value_cell


def changes(results: Mapping[str, Any]) -> Table | None:
    """Each measure before and after, its drop, the noise of the base, and whether the drop counts."""
    rows = []
    for name, measure, change in _changes(mapping(results.get("diagnosis"))):
        values = [estimate_of(change.get(key)) for key in ("base", "tuned", "drop")]
        if values[2] is None:
            continue
        cells = [value_cell(values[0], "base"), value_cell(values[1], "base"), value_cell(values[2], plus=True)]
        floor = estimate(change.get("floor")) if change.get("floor") else None
        cells += [value_cell(floor), value_cell(estimate(change.get("smallest")))]
        rows.append([Cell(name), Cell(measure), *cells, Cell("yes" if change.get("worse") else "no")])
    columns = ["task", "measure", "base", "tuned", "drop", "noise of the base", "smallest visible drop", "worse"]
    remark = (
        "Worse: the drop is surely above 0 over these rows, and larger than two runs of the base differ that are asked with "
        "other shots and wordings. This noise is not measured for lm-eval tasks."
    )
    return Table("What got worse", columns, rows, remark, sortable=True) if rows else None


def stage_scores(results: Mapping[str, Any]) -> Table | None:
    """A row a task and measure, a column a stage."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for raw in sequence(mapping(results.get("diagnosis")).get("stages")):
        by_task.setdefault(str(mapping(raw).get("task")), []).append(mapping(raw))
    rows: list[list[Cell]] = []
    stages: list[str] = []
    for name, scores in by_task.items():
        stages = stages or [str(score.get("stage")) for score in scores]
        kind = "trained" if scores[0].get("trained") else "untouched"
        for form in mapping(scores[0].get("forms")):
            cells = [value_cell(estimate_of(mapping(score.get("forms")).get(form)), "base") for score in scores]
            rows.append([Cell(name), Cell(kind), Cell(METRICS.get(form, form)), *cells])
        cosines = [value_cell(estimate(score.get("cosine"))) for score in scores]
        rows.append([Cell(name), Cell(kind), Cell("cosine of vectors"), *cosines])
    whole = [row for row in rows if len(row) == len(stages) + 3]
    return Table("Stage by stage", ["task", "", "measure", *stages], whole, sortable=True) if whole else None


def _changes(diagnosis: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, task in tasks_of(diagnosis, "tasks").items():
        for form, change in mapping(task.get("changes")).items():
            yield name, METRICS.get(str(form), str(form)), mapping(change)
    for name, change in mapping(diagnosis.get("lm_eval")).items():
        yield str(name), "lm-eval", mapping(change)
