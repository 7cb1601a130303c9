"""What was run, where and for how long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..findings import summary_value
from ..values import DASH, mapping, number
from .cells import Cell, Table

_LONGEST = 1500


def summary(results: Mapping[str, Any]) -> Table | None:
    """The named numbers of ``summary``."""
    rows = [[Cell(name.replace("_", " ")), Cell(summary_value(v))] for name, v in mapping(results.get("summary")).items()]
    return Table("Further numbers", ["name", "value"], rows) if rows else None


def flat(results: Mapping[str, Any], section: str, caption: str) -> Table | None:
    """A flat mapping such as ``config`` or ``environment``."""
    found: dict[str, Any] = {}
    for name, value in mapping(results.get(section)).items():
        # A nested mapping, such as the settings of guidance, is written out entry by entry.
        found |= {f"{name}: {k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
    rows = [[Cell(name.replace("_", " ")), Cell(as_text(v))] for name, v in found.items() if name != "why"]
    return Table(caption, ["setting", "value"], rows) if rows else None


def seconds(results: Mapping[str, Any]) -> Table | None:
    """How long each phase took, with its share of the total."""
    found = {name: v for name, raw in mapping(results.get("seconds")).items() if (v := number(raw)) is not None}
    total = found.pop("total", None) or sum(found.values())
    rows = [
        [
            Cell(name.replace("_", " ")),
            Cell(f"{v:,.1f}", order=v),
            Cell(f"{v / total:.0%}", tint="guided", strength=min(v / total, 1.0), order=v),
        ]
        for name, v in found.items()
        if total > 0
    ]
    if total:
        rows.append([Cell("total"), Cell(f"{total:,.1f}", order=total), Cell("")])
    remark = f"Largest memory in use: {peak:,.0f} MB." if (peak := number(results.get("peak_rss_mb"))) else ""
    return Table("Time", ["phase", "seconds", "share"], rows, remark) if rows else None


def as_text(value: object) -> str:
    """A config value as a reader wants it: lists joined, nested values as JSON, very long ones cut."""
    if isinstance(value, list | tuple) and not any(isinstance(v, Mapping | list | tuple) for v in value):
        text = ", ".join(as_text(v) for v in value)
    elif isinstance(value, Mapping | list | tuple):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = DASH if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\N{HORIZONTAL ELLIPSIS} ({len(text):,} characters)"
