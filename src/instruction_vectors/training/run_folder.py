"""The folder of one training run: what it was begun with, its checkpoints, what it ended with."""

import shutil
import time
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from instruction_vectors.environment import machine, peak_rss_mb
from instruction_vectors.errors import DataError, TrainingError
from instruction_vectors.files import check_settings, read_json, write_json


def check(out: Path, given: dict[str, Any]) -> None:
    """Refuse a folder that holds another run, or cannot be written.

    Args:
        out: the folder; made if it is not there.
        given: all that the result depends on.

    Raises:
        DataError: the folder was begun with other settings, or cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from error
    check_settings(out, given)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: what a Trainer writes last is `trainer_state.json`."""
    found = (path for path in folder.glob("checkpoint-*") if path.name.partition("-")[2].isdigit())
    for path in sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        try:
            read_json(path / "trainer_state.json")
        except DataError:
            continue
        return path
    return None


def keep(trainer: Any, out: Path, result: dict[str, Any], started: float) -> None:
    """Write adapter, vectors, `run.json` and, when all else is there, `result.json`; the checkpoints go.

    Raises:
        TrainingError: the disk is full.
    """
    try:
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(out / "adapter")
        trainer.processing_class.save_pretrained(out / "adapter")
        for number, name in enumerate(sorted(trainer.vectors)):
            trainer.vectors[name].save_pretrained(out / "vectors" / str(number))
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        forwards = 0 if trainer.teacher is None else trainer.teacher.forwards
        run = {"finished": finished, "last_sitting_seconds": round(time.time() - started, 1), "teacher_forwards": forwards}
        write_json(out / "run.json", {**run, "processes": trainer.args.world_size, "peak_rss_mb": peak_rss_mb(), **machine()})
        write_json(out / "result.json", result)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"cannot write to {out} ({error}); free some space and run the same again") from error
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
