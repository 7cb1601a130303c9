"""Rows to be measured on that also stand, word for word or nearly, among the rows of another set that is trained on.

Two sets seldom write a row alike (`Title: ... Text: ...` in one, the bare text in the other), so texts are compared by the
runs of six words they hold, as is usual for contamination (Brown et al. 2005.14165, appendix C, with thirteen), and of a
measured row only the eight runs of the smallest hash are looked for (Broder 1997).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.benchmark import Benchmark
from instruction_vectors.tasks.benchmarks import benchmark_names, load_benchmark
from instruction_vectors.tasks.readers.rows import read_any

WORDS = 6
"""In a run; shorter texts stand in several sets by chance and are not compared."""
SKETCH = 8
_TEXTS = ("instruction", "query", "context", "question", "input")
"""Keys of the questions in `eval/`."""


@dataclass(frozen=True)
class Leak:
    """Rows of a set that stand in another set's rows to train on.

    Attributes:
        measured: the set, as `benchmark/task` or `eval/name`.
        trained: the other set.
        rows: how many of its rows stand there.
        of: how many rows it has.
    """

    measured: str
    trained: str
    rows: int
    of: int


def leaks_in(data_dir: Path, benchmark: Benchmark) -> tuple[tuple[Leak, ...], tuple[str, ...]]:
    """The benchmark's test rows that are trained on in any other task of the folder, and questions of `eval/` in its own.

    Args:
        data_dir: the folder that holds the sets, the benchmark's own among them, or a folder in the benchmark's own.
        benchmark: the one that is looked at.

    Returns:
        The leaks, and a note on every set that could not be compared.
    """
    tests = {f"{benchmark.name}/{name}": _inputs(sides.test) for name, sides in benchmark.tasks.items()}
    own = {f"{benchmark.name}/{name}": _inputs(sides.train) for name, sides in benchmark.tasks.items()}
    root = _root(data_dir, benchmark.name)
    others, unread = _others(root, benchmark.name)
    questions, broken = _questions(root / "eval")
    alone = [] if others or questions or unread else [f"not compared: no other set and no eval/ in {root}"]
    return (*leaks(tests, own | others), *leaks(questions, own)), (*unread, *broken, *alone)


def _root(data_dir: Path, name: str) -> Path:
    """The folder that holds the sets, where a benchmark's own folder, or one in it, was named."""
    if (data_dir / name).is_dir():
        return data_dir
    own = data_dir.resolve()
    return next((folder.parent for folder in (own, own.parent) if folder.name == name), data_dir)


def leaks(measured: Mapping[str, Sequence[str]], trained: Mapping[str, Iterable[str]]) -> tuple[Leak, ...]:
    """Pairs of sets of different names, where a row counts once at least half of its sketch stands in the other set."""
    sketches = {name: [sorted(_runs(text))[:SKETCH] for text in texts] for name, texts in measured.items()}
    wanted = {run for rows in sketches.values() for row in rows for run in row}
    found = []
    for other, texts in trained.items():
        there: set[int] = set()
        for text in texts:
            there |= wanted & _runs(text)
        for name, rows in sketches.items():
            seen = sum(bool(row) and 2 * sum(run in there for run in row) >= len(row) for row in rows)
            if seen and name != other:
                found.append(Leak(name, other, seen, len(rows)))
    return tuple(found)


def _runs(text: str) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {crc32(" ".join(words[start : start + WORDS]).encode()) for start in range(len(words) - WORDS + 1)}


def _inputs(task: Any) -> list[str]:
    return [row.input for row in task.rows]


def _others(data_dir: Path, name: str) -> tuple[dict[str, list[str]], list[str]]:
    found: dict[str, list[str]] = {}
    notes = []
    for other in benchmark_names():
        if other != name and (data_dir / other).is_dir():
            try:
                tasks = load_benchmark(other, data_dir).tasks
            except DataError as error:
                notes.append(f"not compared with {other}: {error}")
            else:
                found |= {f"{other}/{task}": _inputs(sides.train) for task, sides in tasks.items()}
    return found, notes


def _questions(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    found: dict[str, list[str]] = {}
    notes = []
    for path in sorted(folder.rglob("*.json")):
        name = f"eval/{path.relative_to(folder).with_suffix('').as_posix()}"
        try:
            content = read_any(path)
        except DataError as error:
            notes.append(f"not compared with {name}: {error}")
            continue
        rows = content.get("examples", ()) if isinstance(content, dict) else content
        texts = [_text(row) for row in rows] if isinstance(rows, list) else []
        if not any(texts):
            notes.append(f"not compared with {name}: no list of questions")
        found[name] = texts
    return found, notes


def _text(row: Any) -> str:
    return " ".join(row[key] for key in _TEXTS if isinstance(row.get(key), str)) if isinstance(row, dict) else ""
