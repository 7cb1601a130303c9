"""Finding benchmarks: every module of `readers/` with a `NAME` and a `read` is one, so a new one is a new file."""

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import readers
from instruction_vectors.tasks.benchmark import Benchmark


def benchmark_names() -> tuple[str, ...]:
    """Names of all benchmarks with a reader, sorted."""
    return tuple(sorted(_readers()))


def load_benchmark(name: str, data_dir: str | Path, *, tasks: Sequence[str] | None = None, seed: int = 0) -> Benchmark:
    """Read a benchmark from a folder the user names; nothing is downloaded (see `fetch.py`).

    Args:
        name: `func`, `long`, `superni`, `trace`, or any other module of `readers/`.
        data_dir: the folder that holds the benchmark's own folder, or that folder itself.
        tasks: names of the tasks to read; all by default. Only orders whose tasks were all read are kept.
        seed: what a split depends on, where the benchmark was published without one.

    Raises:
        DataError: unknown name or task, nothing there, or a malformed file, with file and row.
    """
    if name not in _readers():
        raise DataError(f"unknown benchmark {name!r}; there are readers for: {', '.join(benchmark_names())}")
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such folder")
    return _readers()[name].read(data_dir, tasks=tasks, seed=seed)


@cache
def _readers() -> dict[str, ModuleType]:
    modules = (importlib.import_module(f"{readers.__name__}.{found.name}") for found in pkgutil.iter_modules(readers.__path__))
    return {module.NAME: module for module in modules if hasattr(module, "NAME") and hasattr(module, "read")}
