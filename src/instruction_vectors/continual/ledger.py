"""What a long run has finished, so that it can be stopped at any instant and go on."""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from instruction_vectors.environment import code_fingerprint
from instruction_vectors.errors import DataError
from instruction_vectors.files import check_settings, read_json, storage_failure, write_json
from instruction_vectors.progress import console

_LOOK_SECONDS = 0.2
"""How often whoever waits for a folder looks again."""


class Ledger:
    """Finished steps of one run, one file each under `folder/steps`, valid for one configuration only.

    Args:
        folder: the run's folder. One process at a time holds it, from entering the `with` block to leaving it.
        config: everything the results depend on. A folder begun with another one is refused.
        wait: seconds to wait for another process that holds the folder, before refusing.

    Raises:
        DataError: on entering, if the folder cannot be written, is held by another process, or holds a run with other
            settings; on leaving, if something inside could not be written because the disk is full or read-only.
    """

    def __init__(self, folder: Path, config: dict[str, Any], *, wait: float = 0.0) -> None:
        self.folder = folder
        self.wait = wait
        self.config = json.loads(json.dumps(config))
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / ".lock").open("w")
            self._take(self._lock)
        except OSError as error:
            raise DataError(f"cannot write to {self.folder}: {error.strerror}") from error
        try:
            self._check_config()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _take(self, lock: IO[str]) -> None:
        """The kernel lets go of the lock when the process ends, however it ends."""
        until, told = time.monotonic() + self.wait, False
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if (left := until - time.monotonic()) <= 0:
                    lock.close()
                    raise DataError(
                        f"another process is running in {self.folder}; wait for it, or choose another folder"
                    ) from error
                if not told:
                    console().print(f"waiting for the process that runs in {self.folder}", markup=False)
                told = True
                time.sleep(min(_LOOK_SECONDS, left))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock:
            self._lock.close()
        if error and not isinstance(error, DataError) and (reason := storage_failure(error)):
            raise DataError(
                f"{self.folder} cannot be written to: {reason}; make room and run the same again, finished steps are kept"
            ) from error

    def _check_config(self) -> None:
        check_settings(self.folder, self.config)
        if not (path := self.folder / "config.json").exists():
            write_json(path, self.config)

    def step(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of step `name`: read if finished, else computed and written, with the seconds it took and by what code."""
        path = self._path(name)
        if path.exists():
            return read_json(path)["value"]
        start = time.monotonic()
        value = compute()
        taken = round(time.monotonic() - start, 2)
        write_json(path, {"step": name, "seconds": taken, "code": code_fingerprint(), "value": value})
        return read_json(path)["value"]

    def finished(self, name: str) -> bool:
        """Whether step `name` is done."""
        return self._path(name).exists()

    def seconds(self) -> dict[str, float]:
        """Seconds each finished step took, in the order of finishing."""
        return {entry["step"]: entry["seconds"] for entry in self._entries()}

    def codes(self) -> set[str]:
        """Fingerprints of all code that finished a step."""
        return {entry["code"] for entry in self._entries() if "code" in entry}

    def _entries(self) -> Iterator[dict[str, Any]]:
        paths = sorted((self.folder / "steps").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        return (read_json(path) for path in paths)

    def _path(self, name: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
        # Two names that read alike once made safe still get two files.
        return self.folder / "steps" / f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
