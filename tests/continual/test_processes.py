"""Cells run by processes of their own: one that may not write, and two at one folder."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_world

from instruction_vectors.continual.runner import run_sequence

NOBODY = 65534
# What needs reading is read first: another user may not reach the interpreter's folder or the model's.
RUN = """
import os, sys
sys.path.insert(0, {tests!r})
import tiny_world
import torch
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.runner import run_sequence
from instruction_vectors.errors import DataError

torch.set_num_threads(1)
cell = tiny_world.cell({model!r})
Curriculum.of(cell, None)
print("ready", flush=True)
sys.stdin.readline()
if {user} is not None:
    os.setgid({user})
    os.setuid({user})
try:
    run_sequence(cell, {out!r})
except DataError as error:
    sys.exit(f"refused: {{error}}")
"""


def ready(model: str, out: Path, user: int | None = None) -> subprocess.Popen[str]:
    """A process that has read everything and begins on a word."""
    code = RUN.format(tests=str(Path(tiny_world.__file__).parent), model=model, out=str(out), user=user)
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How it ended, and its last word."""
    _, words = process.communicate()
    return process.returncode, (words.strip().splitlines() or [""])[-1]


@pytest.fixture
def shown() -> Iterator[Path]:
    """A folder that every user of the machine may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("begun", [False, True], ids=["grid", "cell"])
def test_a_folder_that_may_not_be_written_is_refused_in_one_sentence(shown: Path, tmp_path: Path, begun: bool) -> None:
    user = None if os.getuid() else NOBODY  # root may write anywhere
    model = tiny_world.save(tmp_path / "model")
    folder = shown / "grid" / "cells" / tiny_world.cell(model).name
    read_only = folder if begun else shown / "grid"
    read_only.mkdir(parents=True)
    read_only.chmod(0o555)
    try:
        process = ready(model, shown / "grid", user)
        begin(process)
        assert said(process) == (1, f"refused: cannot write to {folder}: Permission denied")
        assert not list(read_only.iterdir())
    finally:
        read_only.chmod(0o755)


def test_of_two_processes_at_one_folder_the_second_is_refused_and_the_first_ends_undisturbed(tmp_path: Path) -> None:
    model, out = tiny_world.save(tmp_path / "model"), tmp_path / "grid"
    folder = out / "cells" / tiny_world.cell(model).name
    first, second = ready(model, out), ready(model, out)
    begin(first)
    while not (folder / "config.json").exists():
        assert first.poll() is None, said(first)
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)  # the folder stays held for as long as the second looks at it
    try:
        begin(second)
        refusal = f"refused: another process is running in {folder}; wait for it, or choose another folder"
        assert said(second) == (1, refusal)
        assert not (folder / "result.json").exists()
    finally:
        first.send_signal(signal.SIGCONT)
    assert said(first)[0] == 0
    run_sequence(tiny_world.cell(model), tmp_path / "undisturbed")
    undisturbed = tmp_path / "undisturbed" / "cells" / folder.relative_to(out / "cells") / "result.json"
    assert (folder / "result.json").read_bytes() == undisturbed.read_bytes()
