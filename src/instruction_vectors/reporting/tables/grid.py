"""A grid of methods over task sequences: one row a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..contents import order_names, order_of
from ..values import DASH, estimate, estimate_of, mapping, number, sequence
from .cells import Cell, Table, value_cell

_MEASURES = {
    "ap": "AP",
    "fp": "FP",
    "forget": "Forget",
    "in_context_change": "IP change",
    "zero_shot_change": "GP change",
    "knowledge_change": "knowledge change",
    "instruction_change": "instruction change",
}
_GENERAL = {
    "general_zero_shot_change": "general sets, zero-shot, change",
    "general_in_context_change": "general sets, five-shot, change",
}
"""Where a grid measured any."""


def cells(results: Mapping[str, Any], most: int | None = None) -> Table | None:
    """Every finished cell with its measures, or the first ``most`` of them."""
    rows = []
    entries = [mapping(raw) for raw in sequence(mapping(results.get("grid")).get("cells"))]
    called = order_names(entries)
    measures = _MEASURES | {name: told for name, told in _GENERAL.items() if any(name in entry for entry in entries)}
    for entry in entries[:most]:
        names = [
            Cell(called[order_of(entry)]),
            Cell(str(entry.get("method"))),
            Cell(str(entry.get("guide"))),
        ]
        names += [_plain(entry.get(name)) for name in ("learning_rate", "epochs", "train_rows", "seed")]
        rows.append(names + [value_cell(estimate_of(entry.get(name)), plus=name.endswith("_change")) for name in measures])
    columns = ["sequence", "method", "guide", "learning rate", "epochs", "rows", "seed", *measures.values()]
    remark = (
        "AP: mean score of each task right after it was learnt; FP: of all tasks at the end; Forget = AP − FP. IP (five-shot), "
        "GP (zero-shot), knowledge and instruction are of all tasks never trained on, also those that the original model cannot "
        "do, after the last task, against the same rows before training. Intervals are over tasks and rows of one cell; seeds "
        "are rows of their own."
    )
    caption = "Cells" if len(rows) == len(entries) else f"Cells, the first {len(rows)} of {len(entries)}"
    return Table(caption, columns, rows, remark + _cut(entries), sortable=True) if rows else None


def _cut(entries: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on rows that were too long, if there are any."""
    called = order_names(entries)
    most: dict[str, int] = {}
    for entry in entries:
        of = called[order_of(entry)]
        most[of] = max(most.get(of, 0), int(number(entry.get("cut")) or 0))
    told = [f"{of}: {count}" for of, count in most.items() if count]
    return f" Rows cut to fit (inputs in their middle, training answers at their end): {', '.join(told)}." if told else ""


def course(results: Mapping[str, Any], most: int | None = None) -> Table | None:
    """Five-shot accuracy on tasks never trained on, stage by stage, of all cells or the first ``most``."""
    entries = [mapping(raw) for raw in sequence(mapping(results.get("grid")).get("cells"))]
    called = order_names(entries)
    depth = max((len(sequence(entry.get("stages"))) for entry in entries), default=0)
    rows = []
    for entry in entries[:most]:
        values = [estimate_of(mapping(stage).get("in_context")) for stage in sequence(entry.get("stages"))]
        rows.append(
            [Cell(_named(entry, called)), *(value_cell(value, "vector") for value in values), *[Cell("")] * (depth - len(values))]
        )
    stages = (f"after task {number}" for number in range(1, depth))
    columns = ["sequence, method, guide, learning rate, epochs, seed", "M0", *stages]
    return Table("Five-shot accuracy (IP) along the sequence", columns, rows) if rows else None


def cell_matrices(results: Mapping[str, Any]) -> list[Table]:
    """For every cell the score on each task (rows) at each stage (columns); the stage that trained it is marked."""
    out = []
    entries = [mapping(raw) for raw in sequence(mapping(results.get("grid")).get("cells"))]
    called = order_names(entries)
    for entry in entries:
        names, stages = [str(name) for name in sequence(entry.get("tasks"))], sequence(entry.get("matrix"))
        scores = [[estimate(row[j]) if j < len(row) else None for row in map(sequence, stages)] for j in range(len(names))]
        rows = [
            [Cell(name), *(value_cell(score, "vector", marked=stage == j + 1) for stage, score in enumerate(scores[j]))]
            for j, name in enumerate(names)
        ]
        if rows and stages:
            caption = f"Scores on each task, {_named(entry, called)}"
            out.append(Table(caption, ["task", "M0", *(f"after {name}" for name in names)][: len(stages) + 1], rows))
    return out


def _named(entry: Mapping[str, Any], called: Mapping[tuple[str, str], str]) -> str:
    parts = ("method", "guide", "learning_rate", "epochs", "seed")
    return ", ".join([called[order_of(entry)], *(str(entry.get(part)) for part in parts)])


def _plain(value: object) -> Cell:
    exact = number(value)
    return Cell(DASH if exact is None else f"{exact:g}", order=exact)
