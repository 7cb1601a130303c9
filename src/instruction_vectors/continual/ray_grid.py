"""The same grid on Ray: cells as tasks with declared needs, run again when a worker dies."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.grid import check_failures, check_names, failure
from instruction_vectors.errors import IVError, install_extra

LOCK_SECONDS = 120.0
"""Longer than anything dead holds a cell's folder: workers outlive a killed driver by seconds, and a Linux NFS server keeps what
a lost machine had locked for its lease, 90 seconds by default."""


def run_on_ray(
    cells: Sequence[Cell],
    out: Path,
    data_dir: Path | None = None,
    *,
    address: str | None = None,
    cpus: float = 2,
    gpus: float = 0,
    memory_gb: float = 4,
    retries: int = 3,
    lock_seconds: float = LOCK_SECONDS,
    keep_stages: bool = False,
    finished: Callable[[Cell, dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run cells on a Ray cluster; `out` and `data_dir` must be the same folders on every node.

    Args:
        cells: what to run.
        out: the grid's folder.
        data_dir: where benchmarks are read from.
        address: a cluster's address; by default a cluster of its own is started on this machine and stopped again.
        cpus: processors a cell; also the number of threads it computes with.
        gpus: accelerators a cell.
        memory_gb: memory a cell.
        retries: how often a cell is taken up again after its worker died (each time from its last finished step).
        lock_seconds: how long a cell waits for its folder while a process holds it, which may be what is left of a killed grid.
        keep_stages: leave the adapters after every task in finished cells, not only the last.
        finished: called after each cell, in the order of finishing.

    Raises:
        IVError: Ray is not installed, no node can hold a cell, or a cell failed for good, for whatever reason; the others are
            finished first.
    """
    check_names(cells)
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        ray.init(address=address or "local", include_dashboard=False, log_to_driver=False)
    try:
        _check_room(ray, {"CPU": cpus, "GPU": gpus, "memory": memory_gb * 2**30})
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, memory=int(memory_gb * 2**30), max_retries=retries, max_calls=1)(
            _run_cell
        )
        threads = int(max(1, cpus))
        waiting = {
            remote.remote(cell.resolved(), str(out.absolute()), _text(data_dir), threads, keep_stages, lock_seconds): cell
            for cell in cells
        }
        return _collect(ray, waiting, cells, finished)
    finally:
        if own:
            ray.shutdown()


def _check_room(ray: Any, needs: dict[str, float]) -> None:
    """A cell that no node can hold would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= need for name, need in needs.items()) for node in nodes):
        asked = f"{needs['CPU']:g} CPU, {needs['GPU']:g} GPU and {needs['memory'] / 2**30:g} GB of memory"
        raise IVError(f"no node of the Ray cluster has {asked} for a cell; ask for less (--cpus, --gpus, --memory-gb)")


def _run_cell(
    settings: dict[str, Any], out: str, data_dir: str | None, threads: int, keep_stages: bool, lock_seconds: float
) -> dict[str, Any]:
    import torch

    from instruction_vectors.allocator import large_blocks_apart
    from instruction_vectors.continual.runner import Runner

    large_blocks_apart()
    torch.set_num_threads(threads)
    return Runner(Path(out), Path(data_dir) if data_dir else None, keep_stages, lock_seconds).run(Cell.of(settings))


def _collect(ray: Any, waiting: dict[Any, Cell], cells: Sequence[Cell], finished: Any) -> list[dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    failures: list[str] = []
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        cell = waiting.pop(done)
        try:
            results[cell.name] = ray.get(done)
        except ray.exceptions.RayError as error:
            # Of what failed in a worker Ray tells the cause; when the worker itself died there is none.
            failures.append(failure(cell, getattr(error, "cause", None) or error, str(error)))
            continue
        if finished:
            finished(cell, results[cell.name])
    check_failures(failures, cells)
    return [results[cell.name] for cell in cells]


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise IVError(f"a grid on Ray needs Ray: {install_extra('ray')}") from error
    return ray
