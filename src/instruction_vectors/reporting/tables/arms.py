"""Methods against benchmarks: means over seeds, the best marked only where a paired test says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...evaluation.statistics import holm, sign_flip_test
from ..contents import order_names, order_of
from ..values import mapping, number, sequence, show
from .cells import Cell, Table

_MEASURES = {"ap": "AP", "in_context": "IP at the end"}
_LEVEL = 0.05
Seeds = dict[float, float]
"""A measure by seed."""


def arms(results: Mapping[str, Any], measure: str) -> Table | None:
    """One row an arm (method, guide, learning rate, epochs, rows), one column a sequence; ``measure`` is ap or in_context."""
    found: dict[str, dict[str, Seeds]] = {}
    cells = [mapping(raw) for raw in sequence(mapping(results.get("grid")).get("cells"))]
    called = order_names(cells)
    for cell in cells:
        value, seed = number(mapping(cell.get(measure)).get("value")), number(cell.get("seed"))
        if value is not None and seed is not None:
            parts = (("method", ""), ("guide", ""), ("learning_rate", "lr "), ("epochs", "epochs "), ("train_rows", "rows "))
            arm = ", ".join(f"{lead}{cell.get(part)}" for part, lead in parts)
            order = called[order_of(cell)]
            found.setdefault(order, {}).setdefault(arm, {})[seed] = value
    names = list(dict.fromkeys(arm for column in found.values() for arm in column))
    if len(names) < 2:
        return None
    best = {column: clearly_best(by_arm) for column, by_arm in found.items()}
    rows = [
        [Cell(arm), *(_cell(by_arm.get(arm), marked=best[column] == arm) for column, by_arm in found.items())] for arm in names
    ]
    remark = (
        "Means over seeds. The best of a column is marked only where it is above every other arm on the same seeds, two-sided "
        "sign-flip tests over seeds, p below 0.05 after Holm; no fewer than six seeds can show that."
    )
    caption = f"Methods and benchmarks, {_MEASURES[measure]}"
    return Table(caption, ["method, guide, learning rate, epochs, rows", *found], rows, remark, sortable=True)


def clearly_best(by_arm: Mapping[str, Seeds]) -> str | None:
    """The arm that is above each other one on the same seeds, if there is one."""
    best = max(by_arm, key=lambda arm: sum(by_arm[arm].values()) / len(by_arm[arm]))
    others = [seeds for arm, seeds in by_arm.items() if arm != best]
    if not others or any(seeds.keys() != by_arm[best].keys() for seeds in others):
        return None
    differences = [[by_arm[best][seed] - seeds[seed] for seed in seeds] for seeds in others]
    ahead = all(sum(each) > 0 for each in differences)
    return best if ahead and all(p < _LEVEL for p in holm([sign_flip_test(each) for each in differences])) else None


def _cell(seeds: Seeds | None, *, marked: bool) -> Cell:
    if not seeds:
        return Cell("\N{EN DASH}")
    mean = sum(seeds.values()) / len(seeds)
    return Cell(show(mean, 3), f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}", order=mean, marked=marked)
