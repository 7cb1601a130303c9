"""Guidance and its controls against plain training at its best learning rate and epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contents import order_names
from ..values import DASH, Estimate, estimate, mapping, number
from .cells import Cell, Table, value_cell

_REMARK = (
    "Against plain sequential LoRA at the learning rate and epochs with the best AP, on the same rows and seeds; an arm that "
    "names no sequence stands over all of them. Loss: what plain training lost of the accuracy before training (IP five-shot, "
    "GP zero-shot), over those tasks never trained on that the original model can do (tasks: how many, "
    "for IP and GP). Gain: how much higher the arm ends. "
    "Share = gain / loss, where the loss is clear. AP change: what the arm costs (or gains) in learning; low end: of its "
    "one-sided 95% interval. Intervals are over tasks and rows, and over seeds where there are several."
)


def compared(results: Mapping[str, Any]) -> Table | None:
    """One row an arm: what it keeps of what plain training lost, and at what cost."""
    rows = [[Cell(where), Cell(arm), *_values(found)] for where, arm, found in _arms(results)]
    columns = [
        "sequence",
        "arm",
        "IP loss",
        "IP gain",
        "IP share",
        "GP loss",
        "GP gain",
        "GP share",
        "AP change",
        "low end",
        "tasks",
        "seeds",
    ]
    return Table("Against plain training", columns, rows, _REMARK, sortable=True) if rows else None


def guided_sequences(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Of each sequence with guided training its name and what the headline says of it."""
    found = {name: mapping(raw) for name, raw in _headline(results).items()}
    orders = [(benchmark, order) for benchmark, sequences in found.items() if benchmark != "controls" for order in sequences]
    called = order_names({"benchmark": benchmark, "sequence": order} for benchmark, order in orders)
    return [(called[benchmark, order], mapping(found[benchmark][order])) for benchmark, order in orders]


def _headline(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(results.get("grid")).get("headline"))


def _arms(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    several = guided_sequences(results)
    for order, values in several:
        way = " + ".join(str(values[part]).replace("_", " ") for part in ("method", "guide") if part in values)
        yield order, f"guided: {way}" if way else "guided", values
        for name, control in mapping(values.get("controls")).items():
            yield order, name.replace("_", " "), mapping(control)
    if len(several) != 1 or not several[0][1].get("controls"):
        for name, values in mapping(_headline(results).get("controls")).items():
            yield DASH, name.replace("_", " "), mapping(values)


def _values(found: Mapping[str, Any]) -> list[Cell]:
    cells = []
    for form in ("ip", "gp"):
        kept = mapping(found.get(form))
        cells += [
            value_cell(estimate(kept.get(name), kept.get(f"{name}_interval")), plus=name == "gain") for name in ("loss", "gain")
        ]
        cells.append(value_cell(_plain(kept.get("share"))))
    # Margins of non-inferiority are hundredths.
    cells += [value_cell(_plain(found.get(name)), digits=3, plus=True) for name in ("ap_delta", "ap_delta_low")]
    counts = [number(mapping(found.get(form)).get("tasks")) for form in ("ip", "gp")]
    told = ", ".join(DASH if count is None else f"{count:g}" for count in counts)
    seeds = number(found.get("seeds"))
    return [*cells, Cell(told), Cell("" if seeds is None else f"{seeds:g}", order=seeds)]


def _plain(value: object) -> Estimate | None:
    exact = number(value)
    return None if exact is None else Estimate(exact)
