"""The tasks that ship with the package, and how a name becomes a task."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.files import read_json
from instruction_vectors.tasks.readers.json_lines import read_task_file
from instruction_vectors.tasks.readers.table import read_table_task
from instruction_vectors.tasks.task import Example, Task

_DATA = Path(str(files("instruction_vectors.tasks") / "data"))


def task_names() -> tuple[str, ...]:
    """Names of all shipped tasks, sorted."""
    return tuple(sorted(path.stem for path in _DATA.glob("*.json")))


def load_task(name: str | Path) -> Task:
    """A shipped task by name, or a user's own: a JSON-lines file (see `readers.json_lines`), or a YAML that describes a
    table of any other kind (see `readers.table`).

    Raises:
        DataError: unknown name, or a malformed file, with file and row.
    """
    if Path(name).suffix.lower() == ".jsonl":
        return read_task_file(Path(name))
    if Path(name).suffix.lower() in (".yaml", ".yml"):
        return read_table_task(Path(name))
    if name not in task_names():
        raise DataError(f"unknown task {str(name)!r}; shipped tasks: {', '.join(task_names())}; or give a .jsonl or .yaml file")
    return _shipped(str(name))


@cache
def _shipped(name: str) -> Task:
    return task_from_dict(read_json(_DATA / f"{name}.json"))


def task_from_dict(data: dict[str, Any]) -> Task:
    """A task from the fields of its JSON file."""
    return Task(
        name=data["name"],
        instructions=tuple(data["instructions"]),
        rows=tuple(Example(row["input"], row["output"]) for row in data["rows"]),
        knowledge=tuple(data["knowledge"]),
        options=tuple(data["options"]) if data["options"] else None,
        kind=data["kind"],
        sources=tuple(data["sources"]),
    )
