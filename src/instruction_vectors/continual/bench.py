"""A benchmark run: which cells, and how far they are."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.continual.grid import Standing, standing
from instruction_vectors.errors import IVError
from instruction_vectors.files import read_text

AXES = ("methods", "guides", "seeds", "learning_rates", "epochs")
"""What a grid varies; every other setting is the same in all its cells."""


def cells_of(settings: dict[str, Any]) -> list[Cell]:
    """Cells of a grid from settings under the names of `Cell`, `StageConfig` and the axes.

    Raises:
        IVError: an unknown name, or no sequence.
    """
    given = dict(settings)
    axes = {name: given.pop(name) for name in AXES if given.get(name) is not None}
    axes.setdefault("methods", ("sequential",))
    for name in ("benchmark", "sequence"):
        if not given.get(name):
            raise IVError(f"a grid needs a {name}")
    return [
        cell for sequence in _several(given.pop("sequence")) for cell in grid(Cell.of({**given, "sequence": sequence}), **axes)
    ]


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a YAML file.

    Raises:
        IVError: not YAML, or not a mapping.
    """
    try:
        settings = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise IVError(f"{path}: not YAML ({error})") from error
    if not isinstance(settings, dict):
        raise IVError(f"{path}: expected settings by name, such as 'benchmark: func'")
    return settings


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


def _several(value: Any) -> list[str]:
    return list(value) if isinstance(value, list | tuple) else [value]
