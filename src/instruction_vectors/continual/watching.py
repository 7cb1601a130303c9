"""The grid filling, on a screen."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.grid import standing
from instruction_vectors.continual.pace import paces, seconds_left
from instruction_vectors.progress import duration


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
    """The grid as it stands: of each cell, and of all, how far, how fast and how long still."""
    found = paces(cells, out)
    left = [seconds_left(pace, found) for pace in found]
    finished = sum(pace.standing.state == "finished" for pace in found)
    shown = Table(title=f"{finished} of {len(found)} cells finished{_left(left)}")
    for column in ("cell", "state", "steps", "steps a minute", "spent", "left"):
        shown.add_column(column, justify="left" if column in ("cell", "state") else "right", overflow="fold")
    for pace, seconds in zip(found, left, strict=True):
        each, rate = pace.standing, pace.a_minute
        steps = f"{each.steps} of {'?' if pace.steps is None else pace.steps}"
        speed = "" if rate is None else f"{rate:,.2f}"
        still = "?" if seconds is None else duration(seconds)
        shown.add_row(each.cell.name, each.state, steps, speed, duration(each.seconds), still)
    return shown


def _left(seconds: Sequence[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    if not sum(known):
        return ""
    return f", {'about' if len(known) == len(seconds) else 'more than'} {duration(sum(known))} of computing left"
