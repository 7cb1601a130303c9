"""A grid goes on when a cell fails, in this process and on Ray, and when its folder is held for a while."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_world
from click.testing import CliRunner

from instruction_vectors.cli import main
from instruction_vectors.continual import ray_grid
from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.grid import run_grid, standing
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.runner import Runner
from instruction_vectors.errors import DataError, IVError

CELLS = list(grid(Cell("shipped", "antonym"), methods=("sequential", "ewc", "replay")))
FAILURES = {
    "refused": (DataError("rows.jsonl, line 3: no output"), "rows.jsonl, line 3: no output"),
    "files": (PermissionError(13, "Permission denied", "model"), "PermissionError: [Errno 13] Permission denied: 'model'"),
    "memory": (RuntimeError("out of memory:\n  tried 2 GB"), "RuntimeError: out of memory: tried 2 GB"),
}


class Failing:
    """A runner's `run` of which only the second cell fails; remembers which runner ran which cell."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.runners, self.names = error, [], []

    def __call__(self, runner: Runner, cell: Cell) -> dict[str, Any]:
        self.runners.append(runner)
        self.names.append(cell.name)
        if cell == CELLS[1]:
            raise self.error
        return {"name": cell.name}


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Failing:
    run = Failing(error)
    monkeypatch.setattr(Runner, "run", lambda self, cell: run(self, cell))
    return run


@pytest.mark.parametrize("kind", FAILURES)
def test_whatever_a_cell_fails_of_the_others_run_and_it_is_told_at_the_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, told = FAILURES[kind]
    run = failing(monkeypatch, error)
    finished: list[str] = []
    with pytest.raises(IVError) as caught:
        run_grid(CELLS, tmp_path, finished=lambda cell, _: finished.append(cell.name))
    assert str(caught.value) == f"1 of 3 cells failed: {CELLS[1].name}: {told}"
    assert run.names == [cell.name for cell in CELLS]
    assert finished == [CELLS[0].name, CELLS[2].name]
    # A model that a failure nobody foresaw has left half changed is not handed on.
    assert run.runners[0] is run.runners[1]
    assert (run.runners[1] is run.runners[2]) is (kind == "refused")
    # The trace of what this package has no words for is not lost.
    assert ("Traceback" in capsys.readouterr().err) is (kind != "refused")


@pytest.mark.parametrize("kind", FAILURES)
def test_ray_tells_a_failure_as_this_process_does(kind: str) -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    error, told = FAILURES[kind]
    failed = exceptions.RayTaskError("_run_cell", "Traceback: ...", error, "ray::_run_cell", 1, "127.0.0.1").as_instanceof_cause()
    outcomes = {cell.name: {"name": cell.name} for cell in CELLS} | {CELLS[1].name: failed}

    def get(done: str) -> Any:
        if isinstance(outcomes[done], Exception):
            raise outcomes[done]
        return outcomes[done]

    ray = SimpleNamespace(wait=lambda left, num_returns: (left[:1], left[1:]), get=get, exceptions=exceptions)
    finished: list[str] = []
    with pytest.raises(IVError) as caught:
        ray_grid._collect(ray, {cell.name: cell for cell in CELLS}, CELLS, lambda cell, _: finished.append(cell.name))
    assert str(caught.value) == f"1 of 3 cells failed: {CELLS[1].name}: {told}"
    assert finished == [CELLS[0].name, CELLS[2].name]


def test_a_cell_that_is_alone_fails_with_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, error := MemoryError())
    with pytest.raises(MemoryError) as caught:
        run_grid([CELLS[1]], tmp_path)
    assert caught.value is error


def test_ctrl_c_stops_the_grid_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = failing(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_grid(CELLS, tmp_path)
    assert run.names == [CELLS[0].name, CELLS[1].name]


def test_the_command_ends_with_exit_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = failing(monkeypatch, PermissionError(13, "Permission denied", "model"))
    asked = ["bench", "--benchmark", "shipped", "--sequence", "antonym", "--methods", "sequential,ewc,replay"]
    result = CliRunner().invoke(main, [*asked, "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert f"iv: 1 of 3 cells failed: {CELLS[1].name}: PermissionError" in result.stderr
    assert len(run.names) == 3


def test_a_cell_on_ray_waits_for_its_folder_a_while_and_then_is_refused(tmp_path: Path) -> None:
    cell = tiny_world.cell(tiny_world.save(tmp_path / "model"), sequence=tiny_world.TASKS[0])
    config = {**cell.resolved(), "data": Curriculum.of(cell, None).fingerprints()}

    def run(lock_seconds: float) -> dict[str, Any]:
        return ray_grid._run_cell(cell.resolved(), str(tmp_path), None, 1, False, lock_seconds)

    orphan = Ledger(Runner(tmp_path).folder(cell), config)
    with orphan, pytest.raises(DataError, match="another process is running in"):
        run(0.3)
    orphan.__enter__()
    end = threading.Timer(0.5, orphan.__exit__, (None, None, None))
    end.start()
    assert run(60)["name"] == cell.name
    assert not end.is_alive()
    assert standing(cell, tmp_path).state == "finished"
