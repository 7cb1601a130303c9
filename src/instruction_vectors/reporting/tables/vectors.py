"""Heads, steering and the hypothesis grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import CONDITIONS, arm_name, arms_of, condition_means, condition_values, first_token_tasks, tasks_of, top_heads
from ..findings import recovery
from ..palette import arm_colours
from ..values import DASH, mapping, number
from .cells import Cell, Table, value_cell


def heads(results: Mapping[str, Any]) -> Table | None:
    """The strongest heads with their effects."""
    rows = [
        [
            Cell(str(rank)),
            Cell(str(layer), order=layer),
            Cell(str(head), order=head),
            value_cell(e, digits=4, plus=True),
        ]
        for rank, (layer, head, e) in enumerate(top_heads(results), 1)
    ]
    return Table("Strongest heads", ["rank", "layer", "head", "effect"], rows, sortable=True) if rows else None


def steering(results: Mapping[str, Any], section: str, part: str = "") -> Table | None:
    """The six conditions by task: first answer token, or ``part`` = ``exact`` or ``copying``."""
    rows = []
    for task, data in (tasks_of if part else first_token_tasks)(results, section).items():
        inner = mapping(data.get(part)) if part else data
        values = condition_values(inner)
        if not values:
            continue
        n = number(inner.get("n")) or (number(data.get("n")) if part != "copying" else None)
        cells = [value_cell(values.get(c), "vector" if c == "x+c+iv" else "base") for c in CONDITIONS]
        other = str(data.get("other_task") or DASH)
        rows.append([Cell(task), Cell(f"{n:.0f}" if n else DASH, order=n), *cells, Cell(other)])
    if not rows:
        return None
    if not part and len(rows) > 1 and (means := condition_means(results, section)):
        cells = [value_cell(means.get(c), "vector" if c == "x+c+iv" else "base") for c in CONDITIONS]
        rows.append([Cell("mean"), Cell(DASH), *cells, Cell(DASH)])
    name = {
        "": "First answer token",
        "exact": "Exact match",
        "copying": "Rows whose answer starts like the input",
    }[part]
    remark = "These rows can be answered by copying, so they are kept out of the scores above." if part == "copying" else ""
    return Table(name, ["task", "rows", *CONDITIONS.values(), "the other task"], rows, remark, sortable=True)


def hypothesis(results: Mapping[str, Any]) -> Table | None:
    """Conditions by models."""
    models = {model: v for model, row in arms_of(results, "hypothesis").items() if (v := condition_values(row))}
    colours = arm_colours(list(models))
    rows = [
        [Cell(name), *(value_cell(values.get(c), colours[model]) for model, values in models.items())]
        for c, name in CONDITIONS.items()
        if any(c in values for values in models.values())
    ]
    caption = "Mean accuracy on the untouched tasks"
    return Table(caption, ["the model is given", *(arm_name(model) for model in models)], rows) if rows else None


def recovered(results: Mapping[str, Any]) -> Table | None:
    """What the vector gives back to each trained model, as share, ratio and difference in differences."""
    rows = [[Cell(arm_name(model)), *(Cell(text) for text in texts)] for model, texts in recovery(results).items()]
    columns = ["model", "share of the loss recovered", "of M0 + vector", "gain beyond M0's gain"]
    remark = "The vector may lift M0 too, so a gain after training counts only beside M0's own gain."
    return Table("Recovery", columns, rows, remark) if rows else None
