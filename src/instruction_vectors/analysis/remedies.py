"""What a diagnosis leaves in a folder: its numbers, its words, its tables, and what the remedies need."""

import shutil
from dataclasses import asdict
from itertools import product
from pathlib import Path

from instruction_vectors.analysis.frames import TABLES, table_library, write_frames
from instruction_vectors.analysis.result import BAD, Diagnosis
from instruction_vectors.analysis.summary import markdown
from instruction_vectors.errors import DataError
from instruction_vectors.files import check_writable, read_json, write_atomic, write_json
from instruction_vectors.training.config import IVGuidanceConfig


def check_folder(folder: Path) -> None:
    """Complain now of what would stop `write_diagnosis` after hours of measuring.

    Raises:
        DataError: the folder holds a `diagnosis.json` that is no diagnosis, or the results of another kind of run.
        IVError: pandas is not installed.
        OSError: nothing can be written there.
    """
    check_writable(folder / "diagnosis.json")
    table_library()
    if (folder / "results.json").exists() and not (folder / "diagnosis.json").exists():
        raise DataError(f"{folder} holds the results of another run; choose another folder")
    _bad_before(folder)


def write_diagnosis(diagnosis: Diagnosis, folder: Path) -> list[Path]:
    """Write `diagnosis.json`, `diagnosis.md`, `tables/`; for tasks that got worse `vectors/TASK` and `guidance.json`.

    `results.json` holds the same numbers for `iv report`. Returns what was written.
    """
    _forget(folder)
    written = [folder / "diagnosis.json", folder / "diagnosis.md", folder / "results.json"]
    found = diagnosis.to_dict()
    write_json(written[0], found)
    write_atomic(written[1], markdown(diagnosis))
    write_json(written[2], {"schema": 1, "title": "What happened to the model", "diagnosis": found})
    written += write_frames(diagnosis, folder / "tables")
    for name, task in diagnosis.tasks.items():
        if task.bad:
            target = _vector(folder, name)
            diagnosis.vectors[name].save_pretrained(target)
            written.append(target)
    if diagnosis.bad:
        # The settings to train with again: for each task the vector in `vectors/`, measured scale in the teacher.
        config = asdict(IVGuidanceConfig(teacher_scale=diagnosis.scale))
        write_json(folder / "guidance.json", config)
        written.append(folder / "guidance.json")
    return written


def _vector(folder: Path, task: str) -> Path:
    return folder / "vectors" / task.replace("/", "-")


def _forget(folder: Path) -> None:
    """Take away the tables and remedies that an earlier diagnosis wrote here, and nothing else."""
    if (folder / "diagnosis.json").exists():
        for name, ending in product(TABLES, (".parquet", ".csv")):
            (folder / "tables" / f"{name}{ending}").unlink(missing_ok=True)
    bad = _bad_before(folder)
    for name in bad:
        shutil.rmtree(_vector(folder, name), ignore_errors=True)
    if bad:
        (folder / "guidance.json").unlink(missing_ok=True)


def _bad_before(folder: Path) -> list[str]:
    """The tasks that an earlier diagnosis in the folder wrote remedies for."""
    path = folder / "diagnosis.json"
    if not path.exists():
        return []
    try:
        tasks = read_json(path)["tasks"].items()
        return [name for name, task in tasks if {task["verdict"]["name"], task["written"]["name"]} & set(BAD)]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no diagnosis of this tool; choose another folder") from error
