"""Where a fine-tune changed the model: vectors, heads, and two controls, task by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import tasks_of
from ..values import estimate, mapping, number, show
from .cells import Cell, Table, value_cell


def traces(results: Mapping[str, Any]) -> Table | None:
    """Cosine of the vectors, the base's heads measured in both models, and the last layer's likeness."""
    diagnosis = mapping(results.get("diagnosis"))
    rows = []
    for name, task in tasks_of(diagnosis, "tasks").items():
        trace = mapping(task.get("trace"))
        if not trace:
            continue
        effects = [value_cell(estimate(trace.get(f"effect_{when}")), digits=4, plus=True) for when in ("before", "after")]
        cosine, likeness = (value_cell(estimate(trace.get(key))) for key in ("cosine", "last_layer"))
        rows.append([Cell(name), cosine, *effects, likeness])
    explained = {str(name): number(raw) for name, raw in mapping(diagnosis.get("explained")).items()}
    remark = ", ".join(f"{name} {show(value)}" for name, value in explained.items() if value is not None)
    columns = ["task", "cosine of vectors", "heads' effect before", "after", "last layer (control)"]
    return Table("Where", columns, rows, f"R² against the drop, over tasks: {remark}." if remark else "") if rows else None
