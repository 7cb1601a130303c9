"""The finished cells of a grid's folder as one results mapping, for the report."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruction_vectors.continual.headline import headline
from instruction_vectors.continual.result import read_result, way
from instruction_vectors.errors import DataError


def gather(out: Path) -> dict[str, Any]:
    """Everything finished in `out`; its `grid` holds one entry a cell.

    Raises:
        DataError: no cell is finished.
    """
    results = finished(out)
    if not results:
        raise DataError(f"{out}: no finished cell yet; iv bench --watch shows how far they are")
    grid = {"cells": [_entry(result) for result in results], "headline": headline(results)}
    return {"schema": 1, "title": "Task sequences", "grid": grid}


def finished(out: Path) -> list[dict[str, Any]]:
    """What every finished cell in `out` wrote.

    Raises:
        DataError: a file that is no cell's result.
    """
    return [read_result(path, "stages") for path in sorted((out / "cells").glob("*/*/result.json"))]


def _entry(result: dict[str, Any]) -> dict[str, Any]:
    cell, forms = result["cell"], result["forms"]
    entry = {name: cell[name] for name in ("benchmark", "sequence", "seed", "train_rows")}
    entry["method"], entry["guide"] = way(result)
    entry |= {name: cell["stage"][name] for name in ("learning_rate", "epochs")}
    entry |= {name: _value(result[name]) for name in ("ap", "fp", "forget")}
    entry["cut"] = sum(sum(counts.values()) for counts in result.get("cut", {}).values())
    for form, stages in forms.items():
        if stages:
            entry[form] = _value(stages[-1])
            entry[f"{form}_change"] = _value(stages[-1]["change"])
    for form, stages in result.get("general", {}).items():
        if stages:
            entry[f"general_{form}_change"] = _value(stages[-1]["change"])
    return entry | {"tasks": result["tasks"], "matrix": result["matrix"], "stages": list(_stages(result))}


def _stages(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, name in enumerate(["M0", *result["tasks"]]):
        yield {"after": name, **{form: _value(stages[number]) for form, stages in result["forms"].items() if stages}}


def _value(raw: dict[str, float]) -> dict[str, Any]:
    return {"value": raw["mean"], "interval": [raw["low"], raw["high"]]}
