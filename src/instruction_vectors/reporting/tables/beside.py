"""Guided training against each other arm of its sequence, and above the front of those that are used instead of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contents import order_names
from ..values import estimate, mapping, number
from .cells import Cell, Table, value_cell

_REMARK = (
    "Guided training minus the arm, on the seeds that both have: above 0 where guided training is higher. AP is what is learnt, "
    "FP what is left of it at the end, IP and GP (five-shot and zero-shot accuracy at the end) are over those tasks never "
    "trained on that the original model can do. The front: plain training at every rate, plain KL, averaging, frozen bottom "
    "layers and OSF, as far as they were run; its IP is the best that one of them, or a straight line between two, keeps where "
    "at least as much is learnt, and in brackets stands in what share of bootstrap draws guided training lies above it. "
    "Intervals are 95%, over tasks and rows, and over seeds where there are several."
)


def beside(results: Mapping[str, Any]) -> Table | None:
    """One row an arm, and of each sequence one for the front."""
    rows = [row for order, guided in _sequences(results) for row in _rows(order, guided)]
    columns = ["sequence", "guided training minus", "AP", "FP", "IP", "GP", "seeds"]
    return Table("Guided training against the other arms", columns, rows, _REMARK, sortable=True) if rows else None


def _sequences(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = mapping(mapping(results.get("grid")).get("headline"))
    orders = [(benchmark, sequence) for benchmark, sequences in found.items() for sequence in mapping(sequences)]
    called = order_names({"benchmark": benchmark, "sequence": sequence} for benchmark, sequence in orders)
    for benchmark, sequence in orders:
        if benchmark != "controls":
            yield called[benchmark, sequence], mapping(mapping(found[benchmark])[sequence])


def _rows(order: str, guided: Mapping[str, Any]) -> Iterator[list[Cell]]:
    for arm, raw in mapping(guided.get("beside")).items():
        found = mapping(raw)
        learnt = [estimate(found.get(f"{score}_delta"), found.get(f"{score}_interval")) for score in ("ap", "fp")]
        kept = [estimate(part.get("gain"), part.get("gain_interval")) for part in (mapping(found.get(f)) for f in ("ip", "gp"))]
        seeds = number(found.get("seeds"))
        values = [value_cell(each, plus=True) for each in (*learnt, *kept)]
        yield [Cell(order), Cell(arm.replace("_", " ")), *values, Cell("" if seeds is None else f"{seeds:g}", order=seeds)]
    front = mapping(guided.get("front"))
    if (gap := estimate(front.get("gap"), front.get("gap_interval"))) is not None:
        dash, share = Cell("\N{EN DASH}"), number(front.get("above"))
        above = "" if share is None else f" ({share:.0%} above)"
        yield [Cell(order), Cell(f"the front{above}"), dash, dash, value_cell(gap, plus=True), dash, _seeds(front)]


def _seeds(front: Mapping[str, Any]) -> Cell:
    """From how many seeds to how many the arms of a front stand on."""
    counts = sorted({int(n) for n in (number(raw) for raw in mapping(front.get("arms")).values()) if n is not None})
    text = "" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return Cell(text, order=float(counts[0]) if counts else None)
