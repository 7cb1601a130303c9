"""Reading and writing files so that nothing is ever half written and every complaint names file and line."""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from instruction_vectors.errors import DataError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: into a temporary neighbour, then renamed over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Complain now of a file that could not be written later: make its folder, and a temporary neighbour for an instant.

    Raises:
        OSError: its folder cannot be made, or takes no file; the error names the folder.
    """
    try:
        with suppress(FileExistsError):  # a file stands there: the neighbour is refused with better words
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
    os.close(handle)
    Path(name).unlink()


_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_TORCH_SAVE = re.compile(r"PytorchStreamWriter|unexpected pos \d+ vs \d+")
"""What `torch.save` says when less was written than it gave, for whatever reason."""


def storage_failure(error: BaseException) -> str | None:
    """Why the disk takes no more, if that is what an error is about; libraries pass it on in types of their own."""
    reasons = [os.strerror(number) for number in _STORAGE]
    if _TORCH_SAVE.search(str(error)):
        return "a file was not taken whole"
    return next((reason for reason in reasons if reason in str(error)), None)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, as_json(value))


def as_json(value: Any) -> str:
    """JSON as it is written here, keys in the order given, numbers finite."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: missing, not UTF-8, or not JSON, with the place.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists nested thousands deep
        raise DataError(f"{path}: not JSON that can be read ({error})") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file.

    Raises:
        DataError: missing, not UTF-8, not YAML, or anything but a mapping.
    """
    try:
        value = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected keys and values, got {type(value).__name__}")
    return value


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSON-lines file with their line numbers; blank lines are passed over.

    Raises:
        DataError: missing, not UTF-8, a line that is not a JSON object.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON that can be read ({error})") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: expected an object, got {type(value).__name__}")
        yield number, value


def read_text(path: Path) -> str:
    """A whole text file.

    Raises:
        DataError: missing, cannot be read, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # a mark of the byte order, as some editors write it, is no text
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text (byte {error.start} of the file)") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_NAMED = 8
"""More names than that do not help whoever reads the complaint."""


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder whose `config.json`, if it has one, holds other settings.

    Raises:
        DataError: it does, and the message names those that differ (`stage.rank`); or the file holds no settings.
    """
    path = folder / "config.json"
    before = read_json(path) if path.exists() else settings
    if not isinstance(before, dict):
        raise DataError(f"{path}: expected settings by name, got {type(before).__name__}")
    check_same(folder, before, settings)


def check_same(folder: Path, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a folder whose run had other settings.

    Raises:
        DataError: with the names of those that differ (`stage.rank`).
    """
    before, given = (json.loads(json.dumps(settings)) for settings in (before, given))  # as they are read back: tuples are lists
    # Outer ones first: where one of them differs, digests of data within often do on its account.
    if changed := sorted(_changed(before, given), key=lambda name: (name.count("."), name)):
        named = ", ".join(changed[:_NAMED]) + (f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else "")
        raise DataError(f"{folder} holds a run with other settings ({named}); choose another folder, or delete it")


def _changed(before: Any, given: Any, name: str = "") -> Iterator[str]:
    if not isinstance(before, dict) or not isinstance(given, dict):
        yield from [name] if before != given else []
        return
    for key in before.keys() | given.keys():
        yield from _changed(before.get(key), given.get(key), f"{name}.{key}" if name else key)
