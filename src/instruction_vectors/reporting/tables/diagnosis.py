"""What a diagnosis found: verdicts, repairs, and the grid of instruction and vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contents import tasks_of
from ..values import DASH, estimate, estimate_of, mapping, number, sequence
from .cells import Cell, Table, value_cell


def verdicts(results: Mapping[str, Any]) -> Table | None:
    """Each task's verdict, what it stands on, and why."""
    rows = []
    for name, task in _tasks(results):
        verdict, changes = mapping(task.get("verdict")), mapping(task.get("changes"))
        told, known, shots = (mapping(changes.get(form)) for form in ("instruction", "knowledge", "in_context"))
        cells = [value_cell(estimate_of(told.get(key)), "base") for key in ("base", "tuned")]
        cells += [value_cell(estimate_of(form.get("drop")), plus=True) for form in (told, known, shots)]
        smallest = value_cell(estimate(told.get("smallest")))
        written = Cell(str(mapping(task.get("written")).get("name") or DASH))
        said = str(verdict.get("reason") or "")
        rows.append([Cell(name), Cell(str(verdict.get("name") or ""), marked=True), *cells, smallest, written, Cell(said)])
    columns = [
        "task",
        "verdict",
        "base",
        "tuned",
        "drop",
        "drop of knowledge",
        "drop of few-shot, written",
        "smallest visible drop",
        "verdict on few-shot, written",
        "why",
    ]
    remark = (
        "Base and tuned: rank classification under the instruction, 0 is guessing, 1 is every question right. Few-shot, "
        "written: the whole answer written out, with a verdict of its own."
    )
    return Table("Verdicts", columns, rows, remark, sortable=True) if rows else None


def repairs(results: Mapping[str, Any]) -> Table | None:
    """The ladder of repairs of each task that got worse."""
    rows = []
    for name, task in _tasks(results):
        for entry in (*sequence(task.get("rungs")), *sequence(task.get("written_rungs"))):
            rung = mapping(entry)
            over = [e for e in (estimate_of(raw) for raw in mapping(rung.get("over")).values()) if e]
            beaten = f"{sum(e.low is not None and e.low > 0 for e in over)} of {len(over)}" if over else DASH
            rows.append([
                Cell(name), Cell(str(rung.get("name") or "")), value_cell(estimate_of(rung.get("accuracy")), "vector"),
                value_cell(estimate_of(rung.get("share"))), value_cell(estimate(rung.get("of_base"))),
                value_cell(estimate_of(rung.get("beyond")), plus=True), Cell(beaten),
                Cell("yes" if rung.get("evidence") else "no"),
            ])  # fmt: skip
    columns = ["task", "repair", "accuracy", "share of the drop", "of the base's", "beyond the base's gain", "controls beaten",
               "counts"]  # fmt: skip
    remark = (
        "A share is given only where the drop is clear. Turning the fine-tune down brings the base's weights back and relearning "
        "teaches, so neither counts towards the verdict."
    )
    return Table("Repairs", columns, rows, remark) if rows else None


def conditions(results: Mapping[str, Any]) -> Table | None:
    """Scores for input, instruction and vector, alone and together, in base and tuned model."""
    rows: list[list[Cell]] = []
    columns: list[str] = []
    for name, task in _tasks(results):
        for model, row in mapping(task.get("grid")).items():
            values = {c: v for c, raw in mapping(row).items() if (v := number(raw)) is not None}
            columns = columns or list(values)
            rows.append([Cell(name), Cell(str(model)), *(value_cell(estimate(values.get(c)), "vector") for c in columns)])
    return Table("Instruction, vector, or both", ["task", "model", *columns], rows, sortable=True) if rows else None


def _tasks(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from tasks_of(mapping(results.get("diagnosis")), "tasks").items()
