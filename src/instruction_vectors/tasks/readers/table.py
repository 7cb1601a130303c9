"""A user's own task from a table: CSV, TSV, JSON lines, parquet or a Hugging Face dataset, described in a short YAML.

    name: reviews                       # optional, else the file's name
    instruction: Say whether the review is positive or negative.
    data: reviews.csv                   # a file or saved dataset beside the YAML, or a hub id such as stanfordnlp/imdb
    config: plain_text                  # of a hub dataset, optional; likewise revision
    split: train                        # of a dataset, required for one
    input: text                         # a column, or a text with columns in braces: "{title}\\n{body}"
    output: label                       # a column of texts, or of whole numbers that count the options from 0
    options: [negative, positive]       # optional
    knowledge: ["{input}\\nThis review is"]   # optional

`instructions` takes a list of wordings. Parquet and datasets need the extra `data`.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.readers.rows import MAX_CHARACTERS, checked
from instruction_vectors.tasks.task import Example, Task

KEYS = ("name", "instruction", "instructions", "data", "config", "revision", "split", "input", "output", "options", "knowledge")
_LISTS = ("instructions", "options", "knowledge")
_Row = tuple[str, Mapping[str, Any]]


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
    options = tuple(settings["options"]) if "options" in settings else None
    rows: dict[str, Example] = {}
    first: dict[str, str] = {}
    for place, row in _table(path, settings):
        example = Example(_input(place, row, settings["input"]), _output(place, row, settings["output"], options))
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
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected keys and values, got {type(value).__name__}")
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


def _output(place: str, row: Mapping[str, Any], column: str, options: tuple[str, ...] | None) -> str:
    value = _cell(place, row, column)
    if options is not None and isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(options):
            raise DataError(f"{place}: column {column!r} is {value}, but there are options 0 to {len(options) - 1}")
        return options[value]
    output = checked(place, value, f"column {column!r}")
    if options is not None and output not in options:
        raise DataError(f"{place}: the output {output!r} is not among the options: {', '.join(options)}")
    return output


def _cell(place: str, row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise DataError(f"{place}: no column {column!r}; there are {', '.join(map(str, row))}")
    return row[column]


def _table(path: Path, settings: Mapping[str, Any]) -> Iterator[_Row]:
    data = path.parent / settings["data"]
    kind = data.suffix.lower()
    if kind in (".csv", ".tsv", ".jsonl", ".parquet") and not data.is_dir():
        if taken := [key for key in ("split", "config", "revision") if key in settings]:
            raise DataError(f"{path}: {', '.join(taken)} only apply to a dataset, and {data.name} is one file")
        return {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[kind](data)
    return _dataset(path, data, settings)


def _csv(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            csv.field_size_limit(max(csv.field_size_limit(), 8 * MAX_CHARACTERS))
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {number}: not {len(reader.fieldnames or ())} fields as in the header")
                yield f"{path}, row {number}", row
    except OSError as error:
        raise DataError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a table ({error})") from error


def _json_lines(path: Path) -> Iterator[_Row]:
    from instruction_vectors.files import read_json_lines

    for number, row in read_json_lines(path):
        yield f"{path}, line {number}", row


def _parquet(path: Path) -> Iterator[_Row]:
    pyarrow = _extra("pyarrow")
    parquet = _extra("pyarrow.parquet")
    try:
        rows = parquet.read_table(path).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a parquet file that can be read ({error})") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _dataset(path: Path, folder: Path, settings: Mapping[str, Any]) -> Iterator[_Row]:
    datasets = _extra("datasets")
    name, split = settings["data"], settings.get("split")
    if split is None:
        raise DataError(f"{path}: no 'split' of the dataset {name!r} (train, test …)")
    try:
        if folder.is_dir():
            loaded = datasets.load_from_disk(str(folder))
            loaded = loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            loaded = datasets.load_dataset(name, settings.get("config"), split=split, revision=settings.get("revision"))
    except Exception as error:  # the library raises many kinds; each means: not this dataset
        raise DataError(f"{path}: the dataset {name!r}, split {split!r}: {type(error).__name__}: {error}") from error
    for number, row in enumerate(loaded, start=1):
        yield f"{name}, {split} row {number}", row


def _extra(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{module} is needed to read this: pip install 'instruction-vectors[data]'") from error
