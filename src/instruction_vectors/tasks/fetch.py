"""Downloading the originals of a benchmark, each file pinned by size and SHA-256, resumed where a download broke off.

`originals.json` lists them, from the commits named there: all of FUNC, and TRACE's 500-row variant but for MeetingBank's
train file, whose original is not at hand to take its checksum from (name the other tasks, or put the file there). LONG is
left out, since the copies we know are cut or rebuilt, and SuperNI, of which we know none. Some of the data is for research
only: look at the licence.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.files import sha256_of
from instruction_vectors.progress import track

_CHUNK = 1 << 16
_ATTEMPTS = 3
_SECONDS = 30.0


@dataclass(frozen=True)
class Original:
    """One published file: where it is, where it goes below the data folder, its size in bytes and its SHA-256."""

    url: str
    path: str
    size: int
    sha256: str


def originals(name: str) -> tuple[Original, ...]:
    """The files of a benchmark that can be fetched.

    Raises:
        DataError: none are known.
    """
    if name not in _table():
        raise DataError(f"no originals are pinned for {name!r}, only for {', '.join(_table())}; download them by hand")
    entry = _table()[name]
    return tuple(Original(entry["base"] + at, path, size, sha256) for at, path, size, sha256 in entry["files"])


def fetch(name: str, data_dir: Path, *, files: tuple[Original, ...] | None = None) -> tuple[Path, ...]:
    """Put a benchmark's originals under `data_dir`, in the layout its reader expects; what is there already stays.

    Args:
        name: `func` or `trace`.
        data_dir: where to put them; made if need be.
        files: other files than the pinned ones, for a mirror.

    Raises:
        DataError: a file cannot be had, is not the pinned one, or another one stands in its place.
    """
    wanted = originals(name) if files is None else files
    paths = []
    with track(f"Fetching {name}", sum(file.size for file in wanted), "B") as advance:
        done = 0
        for file in wanted:
            paths.append(download(file, data_dir, lambda now, before=done: advance(before + now)))
            done += file.size
            advance(done)
    return tuple(paths)


def download(file: Original, data_dir: Path, progress: Callable[[int], None] = lambda done: None) -> Path:
    """Fetch one file: into a `.part` neighbour, which a later call goes on with, checked, then renamed.

    Args:
        file: what to fetch.
        data_dir: the folder that `file.path` is under.
        progress: called with the bytes there so far.

    Raises:
        DataError: not an http(s) address, no such file there, no connection, a wrong size or checksum.
    """
    path = data_dir / file.path
    if path.exists():
        if sha256_of(path) != file.sha256:
            raise DataError(f"{path} is there, but not the file at {file.url}; move it away to fetch that one")
        return path
    if not file.url.startswith(("https://", "http://")):
        raise DataError(f"{file.url}: only http and https addresses can be fetched")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _append(file, part, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == _ATTEMPTS:
                raise DataError(f"{file.url}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS:
                there = part.stat().st_size if part.exists() else 0
                raise DataError(f"{file.url}: {error}; {there:,} of {file.size:,} bytes are kept for the next try") from error
    size, found = part.stat().st_size, sha256_of(part)
    if found != file.sha256 or size != file.size:
        part.unlink()
        raise DataError(
            f"{file.url}: not the file that was pinned: {size:,} bytes with SHA-256 {found}, "
            f"expected {file.size:,} with {file.sha256}; nothing was kept"
        )
    part.replace(path)
    return path


def _append(file: Original, part: Path, progress: Callable[[int], None]) -> None:
    """Bring `part` to its full size, from where it ends; never reads past the pinned size by more than a chunk."""
    there = part.stat().st_size if part.exists() else 0
    if there > file.size:
        part.unlink()
        there = 0
    if there == file.size and part.exists():
        return
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={there}-"} if there else {})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        there = there if goes_on else 0  # a server that knows no ranges sends the whole
        with part.open("ab" if goes_on else "wb") as out:
            while there <= file.size and (data := answer.read(_CHUNK)):
                out.write(data)
                there += len(data)
                progress(min(there, file.size))
            out.flush()
            os.fsync(out.fileno())
    if there < file.size:
        raise http.client.IncompleteRead(b"", file.size - there)


@cache
def _table() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("originals.json").read_text(encoding="utf-8"))
