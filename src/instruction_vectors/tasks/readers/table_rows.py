"""The rows of a table with their places, from CSV, TSV, JSON lines, parquet, a saved dataset or one of the hub."""

import csv
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError, install_extra
from instruction_vectors.files import read_json_lines
from instruction_vectors.tasks.readers.rows import MAX_CHARACTERS

Row = tuple[str, Mapping[str, Any]]
"""Where it stands (file and row), and its columns."""


def table_rows(path: Path, settings: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of what `settings["data"]` names, beside the YAML at `path` or on the hub.

    Raises:
        DataError: missing or malformed, with file and row, or a library of the extra `data` is not installed.
    """
    data = path.parent / settings["data"]
    kind = data.suffix.lower()
    if kind in (".csv", ".tsv", ".jsonl", ".parquet") and not data.is_dir():
        if taken := [key for key in ("split", "config", "revision") if key in settings]:
            raise DataError(f"{path}: {', '.join(taken)} only apply to a dataset, and {data.name} is one file")
        return {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[kind](data)
    return _dataset(path, data, settings)


_UNQUOTED = "where quote marks are text, save the table as JSON lines, or as CSV with its quote marks doubled"


def _csv(path: Path) -> Iterator[Row]:
    tabs = path.suffix.lower() == ".tsv"
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            csv.field_size_limit(max(csv.field_size_limit(), 8 * MAX_CHARACTERS))
            reader = csv.DictReader(file, delimiter="\t" if tabs else ",", strict=True)
            names = list(reader.fieldnames or ())
            if twice := sorted({name for name in names if name.strip() and names.count(name) > 1}):
                raise DataError(f"{path}: the header names {', '.join(map(repr, twice))} more than once")
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {number}: not {len(reader.fieldnames or ())} fields as in the header")
                if tabs and any("\t" in field for field in row.values()):
                    raise DataError(f"{path}, row {number}: a quote mark holds columns together; {_UNQUOTED}")
                yield f"{path}, row {number}", row
    except OSError as error:
        raise DataError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}") from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.reader.line_num}: not a table ({error}){f'; {_UNQUOTED}' if tabs else ''}"
        ) from error


def _json_lines(path: Path) -> Iterator[Row]:
    for number, row in read_json_lines(path):
        yield f"{path}, line {number}", row


def _parquet(path: Path) -> Iterator[Row]:
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


def _dataset(path: Path, folder: Path, settings: Mapping[str, Any]) -> Iterator[Row]:
    datasets = _extra("datasets")
    name, split = settings["data"], settings.get("split")
    if folder.is_file():
        raise DataError(f"{folder}: tables are read from .csv, .tsv, .jsonl and .parquet")
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
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{module} is needed to read this: {install_extra('data')}") from error
