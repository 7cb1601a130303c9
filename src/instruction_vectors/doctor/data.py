"""The folder of benchmarks that `IV_DATA_DIR` names."""

import os
from pathlib import Path

from instruction_vectors.doctor.finding import Finding
from instruction_vectors.tasks import benchmark_names

GENERAL = "eval"
"""Where general sets and instructions lie."""


def data_folders(named: str | None) -> list[Finding]:
    """One finding for the folder, one for each benchmark in it: that its files can be read, not what they hold."""
    if not named:
        return [Finding("data folders", "ok", "IV_DATA_DIR is not set; only benchmarks need it")]
    folder = Path(named)
    if not folder.is_dir():
        return [_problem("data folders", f"IV_DATA_DIR is {named}: no such folder", "name the folder that holds the benchmarks")]
    there = [name for name in (*benchmark_names(), GENERAL) if (folder / name).is_dir()]
    if not there and folder.name in benchmark_names():
        return [_benchmark(folder)]
    if not there and folder.name == GENERAL:
        return [
            _problem("data folders", f"{folder} is that of general sets itself", f"name the folder above it, {folder.parent}")
        ]
    if not there:
        names = ", ".join(benchmark_names())
        return [_problem("data folders", f"{folder} holds none of {names}", f"`iv tasks fetch func --data-dir {folder}`")]
    return [_benchmark(folder / name) for name in there]


def _benchmark(folder: Path) -> Finding:
    name = f"data {folder.name}"
    shut: list[str] = []
    count = 0
    for place, _, files in os.walk(folder, onerror=lambda error: shut.append(str(error.filename))):
        count += len(files)
        shut.extend(str(path) for file in files if not os.access(path := Path(place) / file, os.R_OK))
    if shut:
        return _problem(name, f"cannot be read: {', '.join(shut[:3])}", "give yourself the right to read them (chmod -R u+rX)")
    if not count:
        then = "" if folder.name == GENERAL else f", then `iv tasks validate {folder.name} --data-dir {folder.parent}`"
        return _problem(name, f"{folder} is empty", f"put its files there (docs/tasks/data-folders.md){then}")
    return Finding(name, "ok", f"{count} files")


def _problem(name: str, found: str, fix: str) -> Finding:
    return Finding(name, "problem", found, fix)
