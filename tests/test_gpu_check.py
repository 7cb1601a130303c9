"""`benchmarks/gpu_check.py` from end to end, the CPU in the place of the accelerator that few test machines have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_world
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"


def run(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=200, check=False)


def test_a_device_against_the_cpu(tmp_path):
    done = run("--json", "--model", tiny_world.save(tmp_path / "model"), "--device", "cpu", "--out", str(tmp_path / "check.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads((tmp_path / "check.json").read_text()) == report
    assert report["holds"] is True
    assert report["differences"].keys() == report["limits"].keys()
    assert all(difference <= report["limits"][name] for name, difference in report["differences"].items())
    assert report["largest_effect"] > 0
    assert 1 <= report["bf16_shared_heads"] <= 10


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_without_a_device_it_says_so():
    done = run("--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no accelerator here" in done.stderr
