"""Kill a small grid at random moments, in one process and on Ray, and compare what it ends with.

    python benchmarks/kills.py --json            # 20 kills, about ten minutes on two cores
    python benchmarks/kills.py --kills 4 --engine local

Every kill is `kill -9`, its moment drawn by seed: after some number of further finished steps and a while into the next one, so
that with either engine it falls on work and not on the start of processes. Killed is the process that runs the grid, or with
Ray a worker that runs a cell (which Ray starts again) and now and then the process that started the grid.

Prints `kills`, `cells`, `lost` (cells that did not finish), `doubled` (results written again after they were finished),
`byte_equal` (every `result.json` equals that of the undisturbed run) and `engines`.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from instruction_vectors.continual.cell import Cell
cells = [Cell.of(cell) for cell in json.loads(Path(sys.argv[1]).read_text())]
if sys.argv[3] == "ray":
    from instruction_vectors.continual.ray_grid import run_on_ray
    run_on_ray(cells, Path(sys.argv[2]), cpus=1, memory_gb=1, retries=-1)
else:
    from instruction_vectors.continual.grid import run_grid
    run_grid(cells, Path(sys.argv[2]))
"""


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="in all, shared between the engines")
    parser.add_argument("--engine", choices=("local", "ray", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    engines = ("local", "ray") if options.engine == "both" else (options.engine,)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), engines, options.kills, random.Random(options.seed))
    report["seed"] = options.seed
    print(json.dumps(report, indent=None if options.json else 1))
    sys.exit(0 if report["byte_equal"] and not report["lost"] and not report["doubled"] else 1)


def measure(folder: Path, engines: tuple[str, ...], kills: int, generator: random.Random) -> dict[str, Any]:
    """The undisturbed run, then grids under fire until all kills are spent."""
    cells = make_cells(folder)
    say("the undisturbed run")
    began = time.monotonic()
    if start(folder, folder / "undisturbed", "local").wait():
        sys.exit("the undisturbed run failed")
    steps = finished_steps(folder / "undisturbed")
    pace = Pace(steps, (time.monotonic() - began) / steps, generator)
    expected = results(folder / "undisturbed", cells)
    report: dict[str, Any] = {"kills": 0, "cells": 0, "lost": 0, "doubled": 0, "byte_equal": True, "engines": list(engines)}
    for number, engine in enumerate(engines, start=1):
        share = kills * number // len(engines)
        while report["kills"] < share:
            out = folder / f"{engine}-{report['cells']}"
            done, doubled = disturbed(folder, out, engine, share - report["kills"], pace, generator)
            found = results(out, cells)
            report["kills"] += done
            report["cells"] += len(cells)
            report["doubled"] += doubled
            report["lost"] += sum(name not in found for name in cells)
            report["byte_equal"] &= found == expected
    return report


@dataclass(frozen=True)
class Pace:
    """How many steps the undisturbed grid has, and how long one takes."""

    steps: int
    seconds: float
    generator: random.Random

    def further(self) -> int:
        """After how many more steps the next kill is due."""
        return self.generator.randint(1, max(1, self.steps // 4))

    def wait(self) -> None:
        """Some way into the next step."""
        time.sleep(self.generator.uniform(0, self.seconds))


def finished_steps(out: Path) -> int:
    """Steps that any ledger of the grid has finished."""
    return sum(1 for path in out.rglob("steps/*") if path.is_file())


def disturbed(folder: Path, out: Path, engine: str, kills: int, pace: Pace, generator: random.Random) -> tuple[int, int]:
    """Run until the grid is finished, killing on the way; how many kills, and how many results were written again."""
    done = doubled = 0
    written: dict[Path, int] = {}
    while True:
        run = start(folder, out, engine)
        due = finished_steps(out) + pace.further()
        while run.poll() is None:
            doubled += noted(out, written)
            if done < kills and finished_steps(out) >= due:
                pace.wait()
                if pid := victim(run, engine, generator):
                    kill(pid)
                    done += 1
                    say(f"{engine}: kill {done} after {finished_steps(out)} steps, {len(written)} cells finished")
                due = finished_steps(out) + pace.further()
            time.sleep(0.02)
        doubled += noted(out, written)
        stop_ray(run)
        if run.returncode == 0:
            return done, doubled
        if run.returncode > 0:
            sys.exit(f"the grid in {out} failed by itself")


def noted(out: Path, written: dict[Path, int]) -> int:
    """How many finished results changed since they were first seen."""
    changed = 0
    for path in out.glob("cells/*/*/result.json"):
        stamp = path.stat().st_mtime_ns
        changed += written.setdefault(path, stamp) != stamp
        written[path] = stamp
    return changed


def victim(run: subprocess.Popen[bytes], engine: str, generator: random.Random) -> int | None:
    """Whom to kill: the grid's process, or on Ray mostly a worker that is running a cell."""
    if engine == "local" or generator.random() < 0.2:
        return run.pid
    listed = subprocess.run(["pgrep", "-f", "ray::_run_cell"], capture_output=True, text=True, check=False).stdout.split()
    return int(generator.choice(listed)) if listed else None


def kill(pid: int) -> None:
    """`kill -9`, unless it has ended by itself just now."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def start(folder: Path, out: Path, engine: str) -> subprocess.Popen[bytes]:
    """The grid in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(folder / "cells.json"), str(out), engine]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def stop_ray(run: subprocess.Popen[bytes]) -> None:
    """What a killed driver left of its local cluster: workers notice by themselves, but not at once."""
    if run.returncode:
        subprocess.run(["pkill", "-9", "-f", "ray::_run_cell"], check=False)


def results(out: Path, cells: list[str]) -> dict[str, bytes]:
    """Bytes of every `result.json` there is."""
    paths = {name: out / "cells" / name / "result.json" for name in cells}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def make_cells(folder: Path) -> list[str]:
    """Write a tiny model and the grid's cells; returns their names."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_world

    from instruction_vectors.continual.cell import grid

    base = tiny_world.cell(tiny_world.save(folder / "model"), train_rows=24, test_rows=20, probe_rows=16)
    cells = list(grid(base, methods=("sequential", "ewc", "olora", "replay"), guides=("none", "iv")))
    (folder / "cells.json").write_text(json.dumps([cell.resolved() for cell in cells]))
    return [cell.name for cell in cells]


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
