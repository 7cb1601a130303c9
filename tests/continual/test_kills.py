"""`benchmarks/kills.py`: a grid that is killed now and then ends with the same bytes, and only its own processes are hit."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from instruction_vectors.continual.ledger import Ledger

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="whom to kill is read from Linux's /proc")


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import kills

    return kills


def test_only_processes_of_the_grid_itself_are_hit(tmp_path: Path, kills: ModuleType) -> None:
    mine, other = (kills.Grid(tmp_path, name, "ray") for name in ("mine", "other"))
    held = other.out / "cells" / "antonym" / "ewc" / ".lock"
    held.parent.mkdir(parents=True)
    # Called as Ray calls every worker that runs a cell, whoever started it, and at work in another grid.
    program = f"import sys; lock = open({str(held)!r}, 'w'); print(flush=True); sys.stdin.read()"
    worker = subprocess.Popen(
        ["ray::_run_cell", "-c", program], executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert worker.stdout.readline()
        assert other.running() == {worker.pid: "antonym/ewc"}
        assert mine.running() == {}
        with Ledger(mine.out / "cells" / "antonym" / "replay", {}) as ledger, Ledger(mine.out / "shared" / "antonym", {}):
            ledger.step("measure/M0", int)
            assert mine.running() == {os.getpid(): "antonym/replay"}
            assert mine.last_step("antonym/replay") == "measure/M0"
    finally:
        worker.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_grid_loses_nothing_does_nothing_twice_and_ends_with_the_same_bytes(
    engine: str, tmp_path: Path, kills: ModuleType
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    report = kills.measure(tmp_path, (engine,), 3, seed=0, methods=("sequential", "replay"), guides=("none",), drivers=0.5)
    assert (report["kills"], report["lost"], report["doubled"], report["byte_equal"]) == (3, 0, 0, True)
    assert report["cells"] >= 2
    assert len(report["killed"]) == 3
    for struck in report["killed"]:
        assert (struck["engine"], struck["seed"]) == (engine, 0)
        assert struck["process"] in {"local": ("grid",), "ray": ("grid", "worker")}[engine]
        assert struck["cells"]
        assert struck["finished_steps"] >= 1
