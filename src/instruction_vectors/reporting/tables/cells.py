"""Cells and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..values import DASH, Estimate, show, show_interval


@dataclass(frozen=True)
class Cell:
    """A table cell: text, a smaller note under it, a tint (colour name and strength 0 to 1), a value to sort by."""

    text: str
    note: str = ""
    tint: str = ""
    strength: float = 0.0
    order: float | None = None
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """A caption, column heads and rows; the first cell of a row names it."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    remark: str = ""
    sortable: bool = False


def value_cell(e: Estimate | None, tint: str = "", *, digits: int = 2, plus: bool = False, marked: bool = False) -> Cell:
    """A number with its interval below it, tinted by its size between 0 and 1."""
    if e is None:
        return Cell(DASH)
    strength = min(max(e.value, 0.0), 1.0) if tint else 0.0
    return Cell(show(e.value, digits, plus=plus), show_interval(e, digits, plus=plus), tint, strength, e.value, marked)
