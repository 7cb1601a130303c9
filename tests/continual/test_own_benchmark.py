"""A benchmark of one's own: one new file takes a cell to its end, and its data are part of what the cell is."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_world

from instruction_vectors import run_sequence
from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.course import Course
from instruction_vectors.errors import DataError
from instruction_vectors.tasks import readers
from instruction_vectors.tasks.benchmarks import _readers

READER = '''"""Colours: a file a task, a list of {"input", "output"}; the last four rows are to test on."""

from instruction_vectors.tasks.benchmark import Benchmark, Sides, complete
from instruction_vectors.tasks.readers.rows import chosen, folder_of, numbered, read_any, text
from instruction_vectors.tasks.task import Example, Task

NAME = "colours"
SEQUENCES = {"paper": ("sky", "earth")}


def read(data_dir, *, tasks=None, seed=0):
    folder = folder_of(data_dir, NAME)
    names = chosen([path.stem for path in sorted(folder.glob("*.json"))], tasks, folder)
    sides = {name: Sides(train=_task(folder, name, slice(-4)), test=_task(folder, name, slice(-4, None))) for name in names}
    return Benchmark(NAME, sides, complete(SEQUENCES, sides))


def _task(folder, name, side):
    path = folder / f"{name}.json"
    rows = [Example(text(place, row, "input"), text(place, row, "output")) for place, row in numbered(path, read_any(path))]
    return Task(name, ("Which colour?",), tuple(rows[side]))
'''


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the benchmark's data, its reader among those of the package."""
    (tmp_path / "readers").mkdir()
    (tmp_path / "readers/colours.py").write_text(READER)
    (tmp_path / "data/colours").mkdir(parents=True)
    for name, colours in (("sky", ("blue", "grey")), ("earth", ("brown", "green"))):
        rows = [{"input": f"{name} {i}", "output": colours[i % 2]} for i in range(12)]
        (tmp_path / f"data/colours/{name}.json").write_text(json.dumps(rows))
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path / "readers")])
    _readers.cache_clear()
    yield tmp_path / "data"
    monkeypatch.undo()
    _readers.cache_clear()
    sys.modules.pop("instruction_vectors.tasks.readers.colours", None)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return tiny_world.cell(tiny_world.save(tmp_path / "model"), benchmark="colours", sequence="paper")


def test_a_benchmark_is_one_new_file(data: Path, cell: Cell, tmp_path: Path) -> None:
    result = run_sequence(cell, tmp_path / "grid", data)
    assert result["name"].startswith("colours-paper/")
    assert result["tasks"] == ["sky", "earth"]
    assert [len(scores) for scores in result["matrix"]] == [2, 2, 2]
    assert {name: len(rows) for name, rows in result["stages"][-1]["matrix"].items()} == {"sky": 4, "earth": 4}
    assert {"sky/train", "sky/test", "earth/train", "earth/test"} <= result["data"].keys()
    steps = [json.loads(p.read_text()) for p in (tmp_path / "grid/cells" / cell.name / "steps").glob("train_*.json")]
    assert sorted((step["step"], step["value"]["rows"]) for step in steps) == [
        ("train/sequential/1-sky", 8), ("train/sequential/2-earth", 8)
    ]  # fmt: skip


def test_data_edited_between_two_sittings_are_named_and_refused(
    data: Path, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Course, "measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_sequence(cell, tmp_path / "grid", data)
    path = data / "colours/earth.json"
    whole = path.read_text()
    path.write_text(whole.replace("brown", "black", 1))
    with pytest.raises(DataError, match=r"holds a run with other settings \(data\.earth/train\); choose another folder"):
        run_sequence(cell, tmp_path / "grid", data)
    path.write_text(whole)
    run_sequence(cell, tmp_path / "grid", data)
    run_sequence(cell, tmp_path / "undisturbed", data)
    first, second = (tmp_path / name / "cells" / cell.name / "result.json" for name in ("grid", "undisturbed"))
    assert first.read_bytes() == second.read_bytes()
