"""What a diagnosis leaves in a folder: its numbers, its words, its tables, and what the remedies need."""

import shutil
from dataclasses import asdict
from pathlib import Path

from instruction_vectors.analysis.frames import write_frames
from instruction_vectors.analysis.result import BAD, Diagnosis
from instruction_vectors.analysis.summary import markdown
from instruction_vectors.files import read_json, write_atomic, write_json
from instruction_vectors.training.config import IVGuidanceConfig


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
    """Take away the remedies that an earlier diagnosis wrote here, and nothing else."""
    if not (folder / "diagnosis.json").exists():
        return
    before = read_json(folder / "diagnosis.json")
    bad = [name for name, task in before["tasks"].items() if {task["verdict"]["name"], task["written"]["name"]} & set(BAD)]
    for name in bad:
        shutil.rmtree(_vector(folder, name), ignore_errors=True)
    if bad:
        (folder / "guidance.json").unlink(missing_ok=True)
