"""How far a grid is and how long it still takes, on folders made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from instruction_vectors.continual.bench import cells_of
from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.pace import paces, seconds_left
from instruction_vectors.continual.watching import table, watch

THREE = {"a/train": "x", "a/test": "x", "b/train": "x", "b/test": "x", "c/train": "x", "c/test": "x", "p/probe": "x"}


def cells(methods: str = "sequential,ewc,replay", sequence: str | list[str] = "A") -> list[Cell]:
    return cells_of({"benchmark": "func", "sequence": sequence, "methods": methods.split(",")})


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def begin(out: Path, cell: Cell, *, train: tuple[float, ...] = (), measure: tuple[float, ...] = (), whole: bool = False) -> None:
    """A cell's folder with so many finished steps, each of so many seconds."""
    folder = out / "cells" / cell.name
    put(folder / "config.json", {"data": THREE})
    put(folder / "steps/made.json", {"step": "made with", "seconds": 0.0, "value": {}})
    for kind, steps in (("train", train), ("measure", measure)):
        for number, seconds in enumerate(steps, start=1):
            step = {"step": f"{kind}/{cell.method}/{number}", "seconds": seconds, "value": {}}
            put(folder / "steps" / f"{kind}{number}.json", step)
    if whole:
        put(folder / "result.json", {"data": THREE})


def shown(grid: list[Cell], out: Path) -> tuple[str, dict[str, list[str]]]:
    """The table's title, and what it says of each method."""
    found = table(grid, out)
    rows = zip(*(column._cells for column in found.columns), strict=True)
    return str(found.title), {cell.method: [*map(str, row)][1:] for cell, row in zip(grid, rows, strict=True)}


def test_before_any_step_nothing_is_foretold(tmp_path: Path) -> None:
    title, rows = shown(cells(), tmp_path)
    assert title == "0 of 3 cells finished"
    assert rows["ewc"] == ["waiting", "0 of ?", "", "0 s", "?"]


def test_time_left_comes_from_begun_cells_before_any_has_finished(tmp_path: Path) -> None:
    grid = cells()
    begin(tmp_path, grid[0], train=(100.0, 140.0), measure=(30.0,))
    begin(tmp_path, grid[1], train=(60.0,))
    title, rows = shown(grid, tmp_path)
    # Its own: one training of 120 s and two measurements of 30 s. Three steps in 270 s.
    assert rows["sequential"] == ["begun", "4 of 7", "0.67", "4 min", "3 min"]
    # Two trainings of its own 60 s, three measurements as the other's.
    assert rows["ewc"] == ["begun", "2 of 7", "1.00", "60 s", "4 min"]
    # Nothing of its own: three trainings as the grid's, of (100 + 140 + 60) / 3 s, and three measurements.
    assert rows["replay"] == ["waiting", "0 of 7", "", "0 s", "6 min"]
    found = paces(grid, tmp_path)
    assert [seconds_left(pace, found) for pace in found] == pytest.approx([180, 210, 390])
    assert title == "0 of 3 cells finished, about 13 min of computing left"


def test_a_first_step_speaks_for_all_until_others_are_measured(tmp_path: Path) -> None:
    (cell,) = grid = cells("sequential")
    begin(tmp_path, cell, train=(20.0,))
    found = paces(grid, tmp_path)
    assert seconds_left(found[0], found) == 5 * 20
    assert found[0].steps == 7
    begin(tmp_path, cell, train=(20.0,), measure=(4.0,))
    found = paces(grid, tmp_path)
    assert seconds_left(found[0], found) == 2 * 20 + 2 * 4
    assert found[0].a_minute == 60 * 2 / 24


def test_finished_cells_need_nothing_and_tell_the_others_how_long(tmp_path: Path) -> None:
    grid = cells("sequential,ewc")
    begin(tmp_path, grid[0], train=(10.0, 20.0, 30.0), measure=(1.0, 2.0, 3.0), whole=True)
    title, rows = shown(grid, tmp_path)
    assert rows["sequential"] == ["finished", "7 of 7", "5.45", "66 s", "0 s"]
    assert rows["ewc"] == ["waiting", "0 of 7", "", "0 s", "66 s"]
    assert title == "1 of 2 cells finished, about 66 s of computing left"
    begin(tmp_path, grid[1], train=(3600.0, 3600.0, 0.0), measure=(3600.0, 3600.0, 0.0), whole=True)
    title, rows = shown(grid, tmp_path)
    assert rows["ewc"] == ["finished", "7 of 7", "0.03", "4 h 00 min", "0 s"]
    assert title == "2 of 2 cells finished"


def test_a_sequence_of_which_no_cell_has_begun_is_of_unknown_length(tmp_path: Path) -> None:
    grid = cells("sequential", ["A", "B"])
    begin(tmp_path, grid[0], train=(60.0, 60.0, 60.0), measure=(60.0, 60.0))
    found = paces(grid, tmp_path)
    assert [pace.steps for pace in found] == [7, None]
    assert [seconds_left(pace, found) for pace in found] == [60, None]
    assert table(grid, tmp_path).title == "0 of 2 cells finished, more than 60 s of computing left"


def test_shipped_tasks_are_counted_before_anything_has_begun(tmp_path: Path) -> None:
    (cell,) = cells_of({"benchmark": "shipped", "sequence": "capitalize,present-past"})
    assert paces([cell], tmp_path)[0].steps == 5


def test_a_committed_cell_has_its_result_alone(tmp_path: Path) -> None:
    grid = cells("sequential,ewc")
    put(tmp_path / "cells" / grid[0].name / "result.json", {"data": THREE})
    assert [pace.tasks for pace in paces(grid, tmp_path)] == [3, 3]
    assert table(grid, tmp_path).title == "1 of 2 cells finished"


def test_where_there_is_no_terminal_the_table_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not Console().is_terminal
    watch(cells(), tmp_path)
    assert capsys.readouterr().out.count("0 of 3 cells finished") == 1
