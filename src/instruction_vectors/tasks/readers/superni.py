"""SuperNI: the `task*.json` files of natural-instructions, and the six sequences of the function-vector paper.

Wang et al., *Super-NaturalInstructions* (2204.07705); the sequences are those of Jiang et al. (2502.11019), by number. A
file holds `Definition` (a list of texts), `Instances` (`input` and a list of right outputs) and `Positive Examples`. It
comes without a split; we draw one by seed, an input never on two sides.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.benchmark import Benchmark, complete
from instruction_vectors.tasks.readers.rows import checked, chosen, folder_of, merged, numbered, read_any, text
from instruction_vectors.tasks.readers.split import seeded
from instruction_vectors.tasks.task import Example, Task

NAME = "superni"

_NUMBERS = {
    "C1": "195 1343 1310 1292 363",
    "G1": "618 1290 589 511 1357",
    "M1": "360 363 1290 339 1510",
    "C2": "231 1343 220 224 273",
    "G2": "1355 141 619 163 002",
    "M2": "195 611 292 488 024",
}
SEQUENCES = {name: tuple(f"task{number}" for number in numbers.split()) for name, numbers in _NUMBERS.items()}
"""Orders of task names; a name is `task` and the number as natural-instructions writes it, three digits at least."""


def read(data_dir: Path, *, tasks: Sequence[str] | None = None, seed: int = 0) -> Benchmark:
    """Read the tasks of the six sequences that are there, or any others by name (`task363`).

    Raises:
        DataError: a file is missing or malformed, two files have one number, or no sequence is complete.
    """
    folder = folder_of(data_dir, NAME)
    folder = folder / "tasks" if (folder / "tasks").is_dir() else folder
    files = _files(folder)
    orders = complete(SEQUENCES, files)
    if tasks is None and not orders:
        raise DataError(f"{folder}: the {len(files)} tasks here complete none of the six sequences; name tasks to read")
    names = chosen(files, tasks if tasks is not None else [name for order in orders.values() for name in order], folder)
    notes = []
    if tasks is None and len(orders) < len(SEQUENCES):
        notes.append(f"sequences not complete here: {', '.join(name for name in SEQUENCES if name not in orders)}")
    if len(names) < len(files):
        notes.append(f"{len(files) - len(names)} further tasks in the folder not read")
    return Benchmark(
        NAME,
        {name: seeded(_task(files[name], name), seed, files[name]) for name in names},
        complete(SEQUENCES, names),
        tuple(notes),
    )


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("task*.json")):
        if match := re.match(r"task\d+", path.name):
            if match[0] in found:
                raise DataError(f"{path}: {found[match[0]].name} has the same number")
            found[match[0]] = path
    return found


def _task(path: Path, name: str) -> Task:
    data = read_any(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected an object, got {type(data).__name__}")
    rows, notes = merged([_example(place, row) for place, row in numbered(path, _field(path, data, "Instances"), "instance")])
    shown = data.get("Positive Examples") or []
    where = "positive example"
    demonstrations = [_example(place, row) for place, row in numbered(path, shown, where)] if shown else []
    inputs = {row.input for row in rows}
    if known := sum(example.input in inputs for example in demonstrations):
        notes = (*notes, f"{known} positive examples left out: they are also instances")
    return Task(
        name=name,
        instructions=_definition(path, data),
        rows=rows,
        sources=(f"natural-instructions/{path.name}",),
        metric="rouge_l_stemmed",
        demonstrations=tuple(example for example in demonstrations if example.input not in inputs),
        notes=notes,
    )


def _definition(path: Path, data: dict[str, Any]) -> tuple[str, ...]:
    value = _field(path, data, "Definition")
    wordings = [value] if isinstance(value, str) else value
    if not isinstance(wordings, list) or not wordings:
        raise DataError(f"{path}: 'Definition' must be a text or a list of texts")
    return tuple(checked(f"{path}, definition {number}", c, "the text") for number, c in enumerate(wordings, start=1))


def _example(place: str, row: dict[str, Any]) -> Example:
    outputs = row.get("output")
    if not isinstance(outputs, list):  # a positive example has one output, as text
        return Example(text(place, row, "input"), text(place, row, "output"))
    if not outputs:
        raise DataError(f"{place}: 'output' is empty")
    answers = tuple(dict.fromkeys(checked(place, output, f"output {n}") for n, output in enumerate(outputs, start=1)))
    return Example(text(place, row, "input"), answers[0], answers if len(answers) > 1 else ())


def _field(path: Path, data: dict[str, Any], key: str) -> Any:
    if key not in data:
        raise DataError(f"{path}: no {key!r}")
    return data[key]
