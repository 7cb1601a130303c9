"""A disk that takes no more, in a process that may write only small files: one sentence, and nothing lost."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_world
import torch

from instruction_vectors.continual.runner import run_sequence

RUN = """
import resource, sys
sys.path.insert(0, {tests!r})
import torch
import tiny_world
from instruction_vectors.continual.runner import run_sequence
from instruction_vectors.errors import DataError

torch.set_num_threads({threads})
cell = tiny_world.cell({model!r})
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))
try:
    run_sequence(cell, {out!r})
except DataError as error:
    sys.exit(f"refused: {{error}}")
"""


def limited(model: str, out: Path, most: int) -> str:
    """What a run says that can write no file longer than `most` bytes."""
    code = RUN.format(
        tests=str(Path(tiny_world.__file__).parent), model=model, out=str(out), most=most, threads=torch.get_num_threads()
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@pytest.mark.parametrize("most", [200, 2500, 6000], ids=["settings", "steps", "adapters"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_once_there_is_room(tmp_path: Path, most: int) -> None:
    model = tiny_world.save(tmp_path / "model")
    said = limited(model, tmp_path / "grid", most)
    assert said.startswith("refused: ")
    assert "cannot be written to: File too large; make room and run the same again, finished steps are kept" in said
    cell = tiny_world.cell(model)
    run_sequence(cell, tmp_path / "grid")
    run_sequence(cell, tmp_path / "undisturbed")
    first, second = (tmp_path / name / "cells" / cell.name / "result.json" for name in ("grid", "undisturbed"))
    assert first.read_bytes() == second.read_bytes()
