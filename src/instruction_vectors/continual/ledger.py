"""What a long run has finished, so that it can be stopped at any instant and go on."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.files import read_json, write_json


class Ledger:
    """Finished steps of one run, one file each under `folder/steps`, valid for one configuration only.

    Args:
        folder: the run's folder.
        config: everything the results depend on. A folder begun with another one is refused.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = json.loads(json.dumps(config))
        path = folder / "config.json"
        if path.exists() and read_json(path) != self.config:
            before = read_json(path)
            changed = sorted(key for key in before.keys() | self.config.keys() if before.get(key) != self.config.get(key))
            raise DataError(
                f"{folder} holds a run with other settings ({', '.join(changed)}); choose another folder, or delete it"
            )
        write_json(path, self.config)

    def step(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of step `name`: read if finished, else computed and written."""
        path = self._path(name)
        if path.exists():
            return read_json(path)["value"]
        start = time.monotonic()
        value = compute()
        write_json(path, {"step": name, "seconds": round(time.monotonic() - start, 2), "value": value})
        return read_json(path)["value"]

    def finished(self, name: str) -> bool:
        """Whether step `name` is done."""
        return self._path(name).exists()

    def seconds(self) -> dict[str, float]:
        """Seconds each finished step took, in the order of finishing."""
        paths = sorted((self.folder / "steps").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        return {(entry := read_json(path))["step"]: entry["seconds"] for path in paths}

    def _path(self, name: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
        # Two names that read alike once made safe still get two files.
        return self.folder / "steps" / f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
