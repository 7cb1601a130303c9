"""Two runs side by side: every number that both have, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contents import METRICS, arm_name, arms_of, condition_means, tasks_of
from ..values import Estimate, estimate_of, mapping, sequence, series
from .cells import Cell, Table, value_cell
from .training import continual_metrics

Named = tuple[str, str, Estimate]
"""What it is of, the measure, the value."""


def against(results: Mapping[str, Any]) -> Table | None:
    """This run, the other run (``results["against"]``) and the difference, for all numbers that both hold."""
    other = mapping(results.get("against"))
    before = {(of, measure): value for of, measure, value in numbers(mapping(other.get("results")))}
    rows = []
    for of, measure, value in numbers(results):
        if (was := before.get((of, measure))) is not None:
            rows.append([Cell(of), Cell(measure), value_cell(value), value_cell(was), value_cell(value - was, plus=True)])
    remark = (
        "The difference is this run minus the other; its interval treats the two as independent, which is too wide where both "
        "measured the same rows. Arms of one grid, seed by seed: `instruction_vectors.continual.compare`."
    )
    name = str(other.get("name") or "the other run")
    return Table("Both runs", ["of", "measure", "this run", name, "difference"], rows, remark, sortable=True) if rows else None


def numbers(results: Mapping[str, Any]) -> Iterator[Named]:
    """The main numbers of a run, a grid or a diagnosis."""
    for arm, data in arms_of(results, "forgetting").items():
        for metric, name in METRICS.items():
            if points := [point for point in series(data, metric) if point]:
                yield f"{arm_name(arm)}, last stage", name, points[-1]
        for name, score in continual_metrics(data).items():
            if score is not None:
                yield arm_name(arm), name, Estimate(score)
    for section, template in (("steering", "plain template"), ("steering_chat", "chat template")):
        for condition, mean in condition_means(results, section).items():
            yield f"mean over tasks, {template}", condition, mean
    for raw in sequence(mapping(results.get("grid")).get("cells")):
        cell = mapping(raw)
        parts = ("benchmark", "sequence", "method", "guide", "learning_rate", "epochs", "train_rows", "seed")
        name = ", ".join(str(cell.get(part)) for part in parts)
        for measure, shown in _CELL.items():
            if value := estimate_of(cell.get(measure)):
                yield name, shown, value
    for name, task in tasks_of(mapping(results.get("diagnosis")), "tasks").items():
        for form, change in mapping(task.get("changes")).items():
            if drop := estimate_of(mapping(change).get("drop")):
                yield name, f"drop, {METRICS.get(form, form)}", drop


_CELL = {"ap": "AP", "fp": "FP", "forget": "Forget"} | {form: f"{name} at the end" for form, name in METRICS.items()}
