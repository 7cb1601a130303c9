"""What all readers share: a folder, a list of rows from a JSON file, and a text from a row, each complaint with its place."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.task import Example

MAX_CHARACTERS = 2_000_000
"""A longer text is taken for a mistake (the longest published input, a meeting of MeetingBank, has 163,532)."""


def folder_of(data_dir: Path, name: str) -> Path:
    """`data_dir/name` if there is one, else `data_dir` itself is taken for the benchmark's folder."""
    return data_dir / name if (data_dir / name).is_dir() else data_dir


def chosen(there: Iterable[str], tasks: Sequence[str] | None, folder: Path) -> list[str]:
    """The tasks to read: those asked for, else all there are.

    Raises:
        DataError: none there, or one asked for is not.
    """
    known = list(there)
    if not known:
        raise DataError(f"{folder}: no tasks here; expected one file or folder a task")
    if missing := [task for task in tasks or () if task not in known]:
        raise DataError(f"{folder}: no task {', '.join(missing)}; there are: {', '.join(known)}")
    return list(dict.fromkeys(tasks)) if tasks is not None else known


def read_any(path: Path) -> Any:
    """JSON of any shape; bytes that are not UTF-8 become lone surrogates, which `text` then refuses with their row.

    Raises:
        DataError: missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists nested thousands deep
        raise DataError(f"{path}: not JSON that can be read ({error})") from error


def numbered(path: Path, value: Any, what: str = "row") -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, each with its place: file and number, from 1.

    Raises:
        DataError: not a list, an empty one, or an entry that is not an object.
    """
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of {what}s, got {type(value).__name__}")
    if not value:
        raise DataError(f"{path}: no {what}s")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, {what} {number}: expected an object, got {type(row).__name__}")
        yield f"{path}, {what} {number}", row


def text(place: str, row: dict[str, Any], key: str) -> str:
    """A text of a row.

    Raises:
        DataError: missing, not text, empty, too long, or not characters.
    """
    if key not in row:
        raise DataError(f"{place}: no {key!r}")
    return checked(place, row[key], repr(key))


def checked(place: str, value: Any, what: str) -> str:
    """A text that can be tokenised: not empty, at most `MAX_CHARACTERS`, all of it characters."""
    if not isinstance(value, str):
        raise DataError(f"{place}: {what} must be text, got {type(value).__name__}")
    if not value.strip():
        raise DataError(f"{place}: {what} is empty")
    if len(value) > MAX_CHARACTERS:
        raise DataError(f"{place}: {what} has {len(value):,} characters; more than {MAX_CHARACTERS:,} is taken for a mistake")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: {what} is not UTF-8 text (character {error.start})") from error
    return value


def merged(rows: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """One row an input, and a note on what was merged: the first output stays, other outputs become references."""
    answers: dict[str, dict[str, None]] = {}
    for row in rows:
        answers.setdefault(row.input, {}).update(dict.fromkeys(row.answers))
    again = len(rows) - len(answers)
    first = {row.input: row for row in reversed(rows)}
    kept = tuple(Example(input, first[input].output, tuple(all_) if len(all_) > 1 else ()) for input, all_ in answers.items())
    if not again:
        return kept, ()
    differed = sum(len(row.answers) > len(first[row.input].answers) for row in kept)
    return kept, (f"{again} rows merged into the first with the same input; {differed} inputs gained a further right answer",)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are passed over."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
