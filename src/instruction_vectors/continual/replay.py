"""Running a committed cell again and comparing its numbers."""

from pathlib import Path
from typing import Any

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.result import read_result
from instruction_vectors.continual.runner import Runner
from instruction_vectors.environment import code_fingerprint
from instruction_vectors.errors import DataError
from instruction_vectors.files import read_json

_NUMBERS = ("tasks", "matrix", "ap", "fp", "forget", "bwt", "fwt", "forms", "stages")
_CIRCUMSTANCES = ("code", "versions", "threads", "device")


def replay(path: Path, out: Path, data_dir: Path | None = None) -> list[str]:
    """Run the cell of a `result.json` in `out` and name what came out differently (nothing: an empty list).

    Where numbers differ, `code`, `versions`, `threads` and `device` are among the names if those do too, and so may be why.

    Raises:
        DataError: the file is no cell's result, its data are not the ones that lie here, or `out` holds a replay by other code.
    """
    before = read_result(path)
    cell, runner = Cell.of(before["cell"]), Runner(out, data_dir)
    if (runner.folder(cell) / "result.json").absolute() == path.absolute():
        raise DataError(f"{path} would be compared with itself; replay into another folder")
    theirs, ours = before["data"], Curriculum.of(cell, data_dir).fingerprints()
    if changed := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
        raise DataError(f"{path}: other data than here: {', '.join(changed)}")
    earlier = runner.folder(cell) / "result.json"
    if earlier.exists() and read_json(earlier).get("code") != code_fingerprint():
        raise DataError(f"{earlier.parent} was replayed with other code; choose another folder, or delete it")
    after: dict[str, Any] = runner.run(cell)
    different = [name for name in ("model_fingerprint", *_NUMBERS) if before.get(name) != after.get(name)]
    why = [name for name in _CIRCUMSTANCES if name in before and before[name] != after.get(name)]
    return different + why if different else []
