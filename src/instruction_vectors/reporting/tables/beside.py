"""Guided training against each other arm of its sequence, and above the front of those that are used instead of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..values import DASH, estimate, mapping, number
from .cells import Cell, Table, value_cell
from .compared import guided_sequences

FRONTS = {"no_anchors": "the front", "anchors_without_vectors": "the front, with anchors without vectors"}
"""What a headline's `fronts` are called."""
_REMARK = (
    "Guided training minus the arm, on the seeds and rows that both have: above 0 where guided training is higher. AP is what is "
    "learnt, FP what is left of it at the end, IP and GP (five-shot and zero-shot accuracy at the end) are over those tasks "
    "never trained on that the original model can do. The front: of all arms without vectors, anchors or earlier rows the best "
    "IP that one of them, or a straight line between two, keeps where it learns as much as guided training (where none does, "
    "the one that learns most). Intervals are 95%, over tasks and rows, and over seeds where there are several; a front's arms "
    "may stand on fewer seeds than guided training."
)
_ABOVE = (
    "IP at the end minus that of the front at this arm's AP, as for guided training above. None of these arms is part of the "
    "first front; the second, from which an arm's own cells are left out, is shown where it then holds more than the first. "
    "Some arms show rows of earlier tasks again."
)


def beside(results: Mapping[str, Any]) -> Table | None:
    """One row an arm, and of each sequence one a front."""
    rows = [row for order, guided in guided_sequences(results) for row in _rows(order, guided)]
    columns = ["sequence", "guided training minus", "AP", "FP", "IP", "GP", "seeds"]
    return Table("Guided training against the other arms", columns, rows, _REMARK, sortable=True) if rows else None


def above(results: Mapping[str, Any]) -> Table | None:
    """One row an arm that spans no front without anchors: how far it lies above each."""
    rows = [
        _above(order, arm, mapping(fronts))
        for order, guided in guided_sequences(results)
        for arm, fronts in mapping(guided.get("above")).items()
    ]
    columns = ["sequence", "arm", *(f"above {called}" for called in FRONTS.values()), "seeds"]
    return Table("The other arms above the front", columns, rows, _ABOVE, sortable=True) if rows else None


def _above(order: str, arm: str, fronts: Mapping[str, Any]) -> list[Cell]:
    found = [mapping(fronts.get(name)) for name in FRONTS]
    gaps = [value_cell(estimate(each.get("gap"), each.get("gap_interval")), plus=True) for each in found]
    seeds = _seeds(count for each in found for count in mapping(each.get("arms")).values())
    return [Cell(order), Cell(arm.replace("_", " ")), *gaps, seeds]


def _rows(order: str, guided: Mapping[str, Any]) -> Iterator[list[Cell]]:
    for arm, raw in mapping(guided.get("beside")).items():
        found = mapping(raw)
        learnt = [estimate(found.get(f"{score}_delta"), found.get(f"{score}_interval")) for score in ("ap", "fp")]
        kept = [estimate(part.get("gain"), part.get("gain_interval")) for part in (mapping(found.get(f)) for f in ("ip", "gp"))]
        values = [value_cell(each, plus=True) for each in (*learnt, *kept)]
        yield [Cell(order), Cell(arm.replace("_", " ")), *values, _seeds([found.get("seeds")])]
    for name, called in FRONTS.items():
        found = mapping(mapping(guided.get("fronts")).get(name))
        if (gap := estimate(found.get("gap"), found.get("gap_interval"))) is not None:
            dash = Cell(DASH)
            seeds = _seeds(mapping(found.get("arms")).values())
            yield [Cell(order), Cell(called), dash, dash, value_cell(gap, plus=True), dash, seeds]


def _seeds(raw: Iterable[object]) -> Cell:
    """How many, or from how many to how many."""
    counts = sorted({int(count) for count in map(number, raw) if count is not None})
    text = "" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return Cell(text, order=float(counts[0]) if counts else None)
