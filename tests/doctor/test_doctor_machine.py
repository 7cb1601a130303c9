"""Devices, threads, and processes that were started together but do not know of each other."""

import json
import os
import subprocess
import sys

import pytest

from instruction_vectors.doctor.machine import devices, judge_cpu, judge_threads, judge_world


@pytest.mark.parametrize(
    ("count", "cores", "processes", "status", "fix"),
    [
        (2, 2, 1, "ok", ""),
        (1, 1, 1, "ok", ""),
        (8, 8, 1, "ok", ""),
        (5, 8, 1, "ok", ""),
        (16, 8, 1, "warning", "OMP_NUM_THREADS=8"),
        (1, 8, 1, "warning", "unset MKL_NUM_THREADS, or set it to 8"),
        (4, 8, 1, "warning", "unset MKL_NUM_THREADS, or set it to 8"),
        (4, 8, 2, "ok", ""),
        (8, 8, 2, "warning", "OMP_NUM_THREADS=4"),
        (1, 2, 2, "ok", ""),
        (1, 2, 4, "ok", ""),
    ],
)
def test_threads_fit_the_cores_and_the_processes(count, cores, processes, status, fix):
    finding = judge_threads(count, cores, processes, limit="MKL_NUM_THREADS")
    assert finding.status == status
    assert fix in finding.fix
    # Half of the system's count is what torch takes by itself where a physical core counts as two.
    free = judge_threads(count, cores, processes)
    assert free.status == ("ok" if count * processes <= cores else status)


@pytest.mark.parametrize(
    ("environment", "status", "said"),
    [
        ({}, "ok", "1"),
        ({"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "ok", "1"),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "node1"}, "ok", "4, this is rank 3"),
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, "warning", "MASTER_ADDR"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "warning", "OMPI_COMM_WORLD_SIZE is 2"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "warning", "on GPUs each would train alone, on CPUs they need a MASTER_ADDR"),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "warning", "SLURM_STEP_NUM_TASKS is 8, but this process has no RANK"),
        ({"SLURM_STEP_NUM_TASKS": "8", "RANK": "0", "WORLD_SIZE": "1"}, "warning", "is RANK 0 of WORLD_SIZE 1: each would"),
        ({"SLURM_STEP_NUM_TASKS": "8", "RANK": "5", "WORLD_SIZE": "8"}, "ok", "8, this is rank 5"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, "ok", "1"),
        ({"WORLD_SIZE": "2"}, "warning", "WORLD_SIZE is 2"),
    ],
)
def test_processes_that_would_train_alone_are_told(environment, status, said):
    finding = judge_world(environment)
    assert finding.status == status
    assert said in finding.found
    assert ("torchrun" in finding.fix) == (status == "warning")


def test_a_gpu_that_torch_cannot_see_is_told():
    assert judge_cpu("2.13.0+cpu", nvidia=False, hidden=None).status == "ok"
    assert "CUDA build" in judge_cpu("2.13.0+cpu", nvidia=True, hidden=None).fix
    assert judge_cpu("2.13.0", nvidia=True, hidden="").fix == "unset CUDA_VISIBLE_DEVICES"
    assert devices()[0].found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "status"),
    [
        (
            ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"],
            "warning",
        ),
        (["torch.distributed.run", "--nproc_per_node", "2"], "ok"),
    ],
    ids=["accelerate", "torchrun"],
)
def test_what_real_launchers_set_is_understood(tmp_path, launcher, status):
    script = tmp_path / "script.py"
    script.write_text("import json\nfrom instruction_vectors.doctor.machine import world\nprint(json.dumps(world()[0].status))\n")
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(script)], capture_output=True, text=True, timeout=120, env=clean, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {json.loads(line) for line in done.stdout.split()} == {status}
