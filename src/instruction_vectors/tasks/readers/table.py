"""A user's own task from a table: CSV, TSV, JSON lines, parquet or a Hugging Face dataset, described in a short YAML.

    name: reviews                       # optional, else the file's name
    instruction: Say whether the review is positive or negative.
    data: reviews.csv                   # a file or saved dataset beside the YAML, or a hub id such as stanfordnlp/imdb
    config: plain_text                  # of a hub dataset, optional; likewise revision
    split: train                        # of a dataset, required for one
    input: text                         # a column, or a text with columns in braces: "{title}\\n{body}"
    output: label                       # a column of texts, or of whole numbers: options from 0, unless all are options
    options: [negative, positive]       # optional
    knowledge: ["{input}\\nThis review is"]   # optional

`instructions` takes a list of wordings. Parquet and datasets need the extra `data`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.files import read_yaml
from instruction_vectors.tasks.readers.rows import checked
from instruction_vectors.tasks.readers.table_rows import Row, table_rows
from instruction_vectors.tasks.task import Example, Task

KEYS = ("name", "instruction", "instructions", "data", "config", "revision", "split", "input", "output", "options", "knowledge")
_LISTS = ("instructions", "options", "knowledge")


def read_table_task(path: Path) -> Task:
    """Read the task that a YAML file describes.

    Raises:
        DataError: the YAML or the table is missing or malformed; the message names file and row.
    """
    settings = _settings(path)
    instructions = tuple(settings.get("instructions", ()))
    if "instruction" in settings:
        instructions = (settings["instruction"], *instructions)
    if not instructions:
        raise DataError(f"{path}: no 'instruction'")
    options = tuple(option.strip() for option in settings["options"]) if "options" in settings else None
    rows: dict[str, Example] = {}
    first: dict[str, str] = {}
    table = list(table_rows(path, settings))
    counted = options is not None and _counts(settings["output"], table, options)
    for place, row in table:
        example = Example(_input(place, row, settings["input"]), _output(place, row, settings["output"], options, counted))
        if example.input in rows:
            raise DataError(f"{place}: the input {example.input[:80]!r} is already in {first[example.input].rpartition(', ')[2]}")
        rows[example.input], first[example.input] = example, place
    if not rows:
        raise DataError(f"{path}: {settings['data']} has no rows")
    return Task(
        name=settings.get("name", path.stem),
        instructions=instructions,
        rows=tuple(rows.values()),
        knowledge=tuple(settings.get("knowledge", ())),
        options=options,
        kind="classify" if options else "generate",
        sources=(settings["data"],),
    )


def _settings(path: Path) -> dict[str, Any]:
    value = read_yaml(path)
    if unknown := [str(key) for key in value if key not in KEYS]:
        raise DataError(f"{path}: unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}")
    if missing := [key for key in ("data", "input", "output") if key not in value]:
        raise DataError(f"{path}: no {', '.join(map(repr, missing))}")
    for key, entry in value.items():
        if key not in _LISTS:
            checked(str(path), entry, repr(key))
        elif not isinstance(entry, list) or not entry:
            raise DataError(f"{path}: {key!r} must be a list of texts")
        else:
            for number, item in enumerate(entry, start=1):
                checked(str(path), item, f"{key!r}, entry {number}")
    return value


def _input(place: str, row: Mapping[str, Any], column: str) -> str:
    names = re.findall(r"\{([^{}]+)\}", column)
    if not names:
        return checked(place, _cell(place, row, column), f"column {column!r}")
    cells = {name: checked(place, _cell(place, row, name), f"column {name!r}") for name in names}
    return checked(place, re.sub(r"\{([^{}]+)\}", lambda match: cells[match[1]], column), "the input")


def _counts(column: str, table: Sequence[Row], options: tuple[str, ...]) -> bool:
    """Whether a column counts the options: all are whole numbers, written as such or not (CSV has no others), some no option."""
    cells = [row.get(column) for _, row in table]
    values = [str(cell).strip() for cell in cells if _names_an_option(cell)]
    return all(value.removeprefix("-").isdecimal() for value in values) and not set(values) <= set(options)


def _names_an_option(cell: Any) -> bool:
    return isinstance(cell, str | int) and not isinstance(cell, bool)


def _output(place: str, row: Mapping[str, Any], column: str, options: tuple[str, ...] | None, counted: bool) -> str:
    value = _cell(place, row, column)
    if options is not None and _names_an_option(value):
        value = str(value)
    if isinstance(value, str):
        value = value.strip()  # blanks around an answer are no part of it
    if options is not None and counted and isinstance(value, str):
        by_number = {str(number): option for number, option in enumerate(options)}
        if value not in by_number:
            raise DataError(f"{place}: column {column!r} is {value[:20]}, but there are options 0 to {len(options) - 1}")
        return by_number[value]
    output = checked(place, value, f"column {column!r}")
    if options is not None and output not in options:
        raise DataError(f"{place}: the output {output!r} is not among the options: {', '.join(options)}")
    return output


def _cell(place: str, row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise DataError(f"{place}: no column {column!r}; there are {', '.join(map(str, row))}")
    return row[column]
