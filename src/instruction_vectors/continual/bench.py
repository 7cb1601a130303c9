"""A benchmark run: which cells, and how far they are."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.continual.grid import Standing, standing
from instruction_vectors.errors import IVError

AXES: dict[str, type] = {"methods": str, "guides": str, "seeds": int, "learning_rates": float, "epochs": int}
"""What a grid varies; every other setting is the same in all its cells."""


def cells_of(settings: dict[str, Any]) -> list[Cell]:
    """Cells of a grid from settings under the names of `Cell` and the axes, one value or a list of them for each axis.

    Raises:
        IVError: an unknown name, a value of the wrong kind, or no sequence.
    """
    given = dict(settings)
    axes = {name: _values(name, given.pop(name)) for name in AXES if given.get(name) is not None}
    for name in ("benchmark", "sequence"):
        if not given.get(name):
            raise IVError(f"a grid needs a {name}")
    bases = [Cell.of({**given, "sequence": sequence}) for sequence in _several(given.pop("sequence"))]
    return [cell for base in bases for cell in grid(base, **axes)]


def _values(name: str, value: Any) -> list[Any]:
    try:
        return [AXES[name](one) for one in _several(value)]  # YAML reads 1e-3 as a text
    except (TypeError, ValueError) as error:
        raise IVError(f"{name}: expected {AXES[name].__name__} values, got {value!r}") from error


def watch(cells: Sequence[Cell], out: Path, *, every: float = 2.0) -> None:
    """Show the grid filling until every cell is finished or Ctrl-C is pressed; once, where there is no terminal."""
    screen = Console()
    if not screen.is_terminal:
        screen.print(table(cells, out))
        return
    with Live(table(cells, out), console=screen) as live:
        while any(standing(cell, out).state != "finished" for cell in cells):
            time.sleep(every)
            live.update(table(cells, out))


def table(cells: Sequence[Cell], out: Path) -> Table:
    """The grid as it stands, with an estimate of the time left from the cells that are finished."""
    standings = [standing(cell, out) for cell in cells]
    shown = Table(title=f"{sum(s.state == 'finished' for s in standings)} of {len(standings)} cells finished{_left(standings)}")
    for column in ("cell", "state", "steps", "seconds"):
        shown.add_column(column, justify="left" if column in ("cell", "state") else "right", overflow="fold")
    for each in standings:
        shown.add_row(each.cell.name, each.state, str(each.steps), f"{each.seconds:,.0f}")
    return shown


def _left(standings: Sequence[Standing]) -> str:
    finished = [s.seconds for s in standings if s.state == "finished"]
    if not finished or len(finished) == len(standings):
        return ""
    mean = sum(finished) / len(finished)
    seconds = sum(max(0.0, mean - s.seconds) for s in standings if s.state != "finished")
    return f", about {seconds / 60:.0f} minutes of computing left"


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
