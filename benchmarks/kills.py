"""Kill a small grid at random moments, in one process and on Ray, and compare what it ends with.

    python benchmarks/kills.py --json            # 20 kills, about ten minutes on two cores
    python benchmarks/kills.py --kills 4 --engine local

Every kill is `kill -9`, its moment drawn by seed: after some number of further finished steps and a while into the next one, so
that with either engine it falls on work and not on the start of processes. Killed is the process that runs the grid, or with
Ray a worker that runs a cell (which Ray starts again) and now and then the process that started the grid. Workers are known by
the lock of a cell that they have open in this benchmark's own folder (Linux only), so nobody else's Ray is hit.

Prints `kills`, `cells`, `lost` (cells that did not finish), `doubled` (results written again after they were finished),
`byte_equal` (every `result.json` equals that of the undisturbed run), `engines`, `seed`, and under `killed` each kill: `engine`,
`seed`, `process` (`grid` or `worker`), `cells` (those it was running, and the step each had finished last), and how many steps
(`finished_steps`) and cells (`finished_cells`) its grid had finished.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("sequential", "ewc", "olora", "replay")
GUIDES = ("none", "iv")
DRIVERS = 0.2
"""Share of the kills on Ray that hit the process that started the grid."""
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
    if not Path("/proc/self/fd").is_dir():
        sys.exit("whom to kill is read from /proc, which only Linux has")
    engines = ("local", "ray") if options.engine == "both" else (options.engine,)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), engines, options.kills, options.seed)
    print(json.dumps(report, indent=None if options.json else 1))
    sys.exit(0 if report["byte_equal"] and not report["lost"] and not report["doubled"] else 1)


def measure(
    folder: Path,
    engines: Sequence[str],
    kills: int,
    seed: int,
    *,
    methods: Sequence[str] = METHODS,
    guides: Sequence[str] = GUIDES,
    drivers: float = DRIVERS,
) -> dict[str, Any]:
    """The undisturbed run, then grids of all `methods` and `guides` under fire until all kills are spent.

    Raises:
        RuntimeError: a grid failed without having been killed.
    """
    folder = folder.resolve()  # as the kernel tells the paths of open files
    names = make_cells(folder, methods, guides)
    say("the undisturbed run")
    began = time.monotonic()
    undisturbed = Grid(folder, "undisturbed", "local")
    if (run := undisturbed.start()).wait():
        raise undisturbed.failed(run)
    steps = undisturbed.finished_steps()
    killer = Killer(random.Random(seed), seed, steps, (time.monotonic() - began) / steps, drivers)
    expected = undisturbed.results(names)
    report: dict[str, Any] = {"kills": 0, "cells": 0, "lost": 0, "doubled": 0, "byte_equal": True, "engines": list(engines)}
    killed: list[dict[str, Any]] = []
    for number, engine in enumerate(engines, start=1):
        share = kills * number // len(engines)
        while len(killed) < share:
            grid = Grid(folder, f"{engine}-{report['cells']}", engine)
            struck, doubled = disturbed(grid, share - len(killed), killer)
            found = grid.results(names)
            killed += struck
            report["cells"] += len(names)
            report["doubled"] += doubled
            report["lost"] += sum(name not in found for name in names)
            report["byte_equal"] &= found == expected
    return {**report, "kills": len(killed), "seed": seed, "killed": killed}


@dataclass(frozen=True)
class Grid:
    """The cells of `folder/cells.json`, run by one engine into a folder of their own."""

    folder: Path
    name: str
    engine: str

    @property
    def out(self) -> Path:
        """Where it keeps everything."""
        return self.folder / self.name

    def start(self) -> subprocess.Popen[bytes]:
        """The grid in a process of its own."""
        command = [sys.executable, "-c", PROGRAM, str(self.folder / "cells.json"), str(self.out), self.engine]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def failed(self, run: subprocess.Popen[bytes]) -> RuntimeError:
        """What to raise when it ended by itself and not well."""
        said = self._log.read_text(errors="replace").strip()[-2000:]
        return RuntimeError(f"the grid {self.name} failed by itself with exit status {run.returncode}:\n{said}")

    def finished_steps(self) -> int:
        """Steps that any of its ledgers has finished."""
        return sum(1 for path in self.out.rglob("steps/*.json") if path.is_file())

    def last_step(self, cell: str) -> str | None:
        """The step that a cell finished last."""
        steps = (self.out / "cells" / cell / "steps").glob("*.json")
        newest = max(steps, key=lambda path: path.stat().st_mtime_ns, default=None)
        return json.loads(newest.read_text())["step"] if newest else None

    def finished(self) -> list[Path]:
        """Every `result.json` there is."""
        return list(self.out.glob("cells/*/*/result.json"))

    def results(self, names: Sequence[str]) -> dict[str, bytes]:
        """Their bytes by the cell's name."""
        paths = {name: self.out / "cells" / name / "result.json" for name in names}
        return {name: path.read_bytes() for name, path in paths.items() if path.exists()}

    def running(self) -> dict[int, str]:
        """Processes that run its cells: nobody else's has a cell's lock in this folder open.

        Not told by their names: Ray calls its workers alike, whoever's they are.
        """
        cells, found = self.out / "cells", {}
        for process in Path("/proc").glob("[0-9]*"):
            locks = [path for path in opened(process) if path.name == ".lock" and path.is_relative_to(cells)]
            found |= {int(process.name): str(path.parent.relative_to(cells)) for path in locks}
        return found

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"


def opened(process: Path) -> Iterator[Path]:
    """Files that a process of `/proc` has open."""
    with suppress(OSError):  # it has ended meanwhile, or is another user's
        for link in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                yield link.readlink()


@dataclass(frozen=True)
class Killer:
    """Decides by seed when to kill and whom.

    Attributes:
        generator: what it draws from.
        seed: that of the generator.
        steps: how many the undisturbed grid has.
        seconds: how long one takes.
        drivers: share of the kills on Ray that hit the process that started the grid.
    """

    generator: random.Random
    seed: int
    steps: int
    seconds: float
    drivers: float

    def further(self) -> int:
        """After how many more steps the next kill is due."""
        return self.generator.randint(1, max(1, self.steps // 4))

    def strike(self, run: subprocess.Popen[bytes], grid: Grid) -> dict[str, Any] | None:
        """Kill some way into the next step; what was hit, if there was anything to hit."""
        time.sleep(self.generator.uniform(0, self.seconds))
        running = grid.running()
        if run.poll() is not None or not running:
            return None
        if grid.engine == "local" or self.generator.random() < self.drivers:
            pid, process, cells = run.pid, "grid", sorted(set(running.values()))
        else:
            pid = self.generator.choice(sorted(running))
            process, cells = "worker", [running[pid]]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended by itself just now
            return None
        return {
            "engine": grid.engine,
            "seed": self.seed,
            "process": process,
            "cells": {cell: grid.last_step(cell) for cell in cells},
            "finished_steps": grid.finished_steps(),
            "finished_cells": len(grid.finished()),
        }


def disturbed(grid: Grid, kills: int, killer: Killer) -> tuple[list[dict[str, Any]], int]:
    """Run until the grid is finished, killing on the way; the kills, and how many results were written again."""
    killed: list[dict[str, Any]] = []
    doubled = 0
    written: dict[Path, int] = {}
    while True:
        run = grid.start()
        due = grid.finished_steps() + killer.further()
        while run.poll() is None:
            doubled += noted(grid, written)
            if len(killed) < kills and grid.finished_steps() >= due:
                if struck := killer.strike(run, grid):
                    killed.append(struck)
                    say(f"kill {len(killed)}: {json.dumps(struck)}")
                due = grid.finished_steps() + killer.further()
            time.sleep(0.02)
        doubled += noted(grid, written)
        if run.returncode == 0:
            return killed, doubled
        if run.returncode > 0:
            raise grid.failed(run)


def noted(grid: Grid, written: dict[Path, int]) -> int:
    """How many finished results changed since they were first seen."""
    changed = 0
    for path in grid.finished():
        stamp = path.stat().st_mtime_ns
        changed += written.setdefault(path, stamp) != stamp
        written[path] = stamp
    return changed


def make_cells(folder: Path, methods: Sequence[str], guides: Sequence[str]) -> list[str]:
    """Write a tiny model and the grid's cells; returns their names."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_world

    from instruction_vectors.continual.cell import grid

    base = tiny_world.cell(tiny_world.save(folder / "model"), train_rows=24, test_rows=20, probe_rows=16)
    cells = list(grid(base, methods=methods, guides=guides))
    (folder / "cells.json").write_text(json.dumps([cell.resolved() for cell in cells]))
    return [cell.name for cell in cells]


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
