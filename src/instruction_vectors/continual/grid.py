"""Many cells: which are finished, and running the rest, in this process or on Ray."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.runner import Runner
from instruction_vectors.errors import IVError
from instruction_vectors.files import read_json
from instruction_vectors.progress import console

State = Literal["finished", "begun", "waiting"]


@dataclass(frozen=True)
class Standing:
    """How far a cell is.

    Attributes:
        cell: which.
        state: whether it is begun and finished.
        done: seconds of every finished step of its ledger, by name.
    """

    cell: Cell
    state: State
    done: Mapping[str, float]

    @property
    def steps(self) -> int:
        """Finished steps."""
        return len(self.done)

    @property
    def seconds(self) -> float:
        """Of all of them."""
        return sum(self.done.values())


def standing(cell: Cell, out: Path) -> Standing:
    """How far a cell is, read from its folder alone."""
    folder = Runner(out).folder(cell)
    steps = [read_json(path) for path in sorted((folder / "steps").glob("*.json"))]
    state: State = "finished" if (folder / "result.json").exists() else "begun" if steps else "waiting"
    return Standing(cell, state, {step["step"]: step["seconds"] for step in steps})


def run_grid(
    cells: Sequence[Cell],
    out: Path,
    data_dir: Path | None = None,
    *,
    keep_stages: bool = False,
    finished: Callable[[Cell, dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run cells one after another in this process; finished ones are only read.

    Args:
        cells: what to run; names must differ.
        out: the grid's folder.
        data_dir: where benchmarks are read from.
        keep_stages: leave the adapters after every task in finished cells, not only the last.
        finished: called after each cell with its result.

    Raises:
        IVError: two cells with one name, or a cell failed, for whatever reason; the others are finished first. The error of
            a cell that is alone is passed on.
    """
    check_names(cells)
    runner = Runner(out, data_dir, keep_stages)
    results = []
    failures = []
    for number, cell in enumerate(cells, start=1):
        console().print(f"cell {number} of {len(cells)}: {cell.name}", markup=False)
        try:
            results.append(runner.run(cell))
        except Exception as error:
            if len(cells) == 1:
                raise
            failures.append(failure(cell, error, traceback.format_exc()))
            if not isinstance(error, IVError):
                # A failure nobody foresaw may have left the model half changed, or holding the memory that ran out.
                runner = Runner(out, data_dir, keep_stages)
            continue
        if finished:
            finished(cell, results[-1])
    check_failures(failures, cells)
    return results


def failure(cell: Cell, error: BaseException, trace: str) -> str:
    """What is said of a failed cell at the grid's end; the trace of an error that is none of this package's is shown now."""
    if isinstance(error, IVError):
        return f"{cell.name}: {error}"
    console().print(f"{cell.name} failed\n{trace}", markup=False)
    return f"{cell.name}: {type(error).__name__}: {' '.join(str(error).split())}"


def check_failures(failures: Sequence[str], cells: Sequence[Cell]) -> None:
    """Raise IVError if any of the cells failed, with what is said of each that did."""
    if failures:
        raise IVError(f"{len(failures)} of {len(cells)} cells failed: {'; '.join(failures)}")


def check_names(cells: Sequence[Cell]) -> None:
    """Raise IVError if two cells would share a folder."""
    seen: set[str] = set()
    for cell in cells:
        if cell.name in seen:
            raise IVError(f"two cells are called {cell.name}; they would share a folder")
        seen.add(cell.name)
