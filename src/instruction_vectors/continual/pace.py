"""How far the cells of a grid are and how fast they go, from the grid's folder alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.grid import Standing, standing
from instruction_vectors.continual.runner import Runner
from instruction_vectors.files import read_json

WORK = ("train", "measure")
"""A cell's steps on each task; one more, before them, keeps what the cell is made with and takes no time."""


@dataclass(frozen=True)
class Pace:
    """How far a cell is and how fast it goes.

    Attributes:
        standing: what is finished.
        tasks: how many the sequence has; None while no cell of it has begun that could tell.
    """

    standing: Standing
    tasks: int | None

    @cached_property
    def seconds(self) -> Mapping[str, Sequence[float]]:
        """Of the finished steps, by what they do (`train`, `measure`)."""
        done = self.standing.done
        return {kind: [seconds for step, seconds in done.items() if step.partition("/")[0] == kind] for kind in WORK}

    @property
    def steps(self) -> int | None:
        """Steps in all."""
        return None if self.tasks is None else 1 + len(WORK) * self.tasks

    @property
    def a_minute(self) -> float | None:
        """Steps that train or measure, in a minute of computing."""
        done = [seconds for steps in self.seconds.values() for seconds in steps]
        return 60 * len(done) / sum(done) if sum(done) else None


def paces(cells: Sequence[Cell], out: Path) -> list[Pace]:
    """Of each cell how far it is and how fast it goes, from the grid's folder alone."""
    # All cells of a sequence have as many tasks: one that has begun tells it for those that wait.
    lengths = {(cell.benchmark, cell.sequence): len(cell.sequence.split(",")) for cell in cells if cell.benchmark == "shipped"}
    for cell in cells:
        folder = Runner(out).folder(cell)
        # A committed cell has its result alone.
        if path := next((p for p in (folder / "config.json", folder / "result.json") if p.exists()), None):
            lengths[cell.benchmark, cell.sequence] = sum(name.endswith("/train") for name in read_json(path)["data"])
    return [Pace(standing(cell, out), lengths.get((cell.benchmark, cell.sequence))) for cell in cells]


def seconds_left(pace: Pace, grid: Sequence[Pace]) -> float | None:
    """Seconds of computing that a cell still needs; None where nothing tells yet.

    A step is taken to last as long as the cell's own of its kind have on average; before there is one, as the grid's of its
    kind; before there is one anywhere, as the grid's of any kind.
    """
    if pace.standing.state == "finished":
        return 0.0
    if pace.tasks is None:
        return None
    total = 0.0
    for kind in WORK:
        own, others = pace.seconds[kind], [s for each in grid for s in each.seconds[kind]]
        known = own or others or [s for each in grid for steps in each.seconds.values() for s in steps]
        if not known:
            return None
        total += (pace.tasks - len(own)) * mean(known)
    return total
