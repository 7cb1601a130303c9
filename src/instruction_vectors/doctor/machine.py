"""Devices, threads, and whether several processes know of each other."""

import os
import shutil
from collections.abc import Mapping

from instruction_vectors.doctor.finding import Finding

LAUNCHED = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where torchrun, MPI and Slurm say how many processes they started."""
_MPI = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"}


def devices() -> list[Finding]:
    """The accelerators torch can use, else the CPU; a GPU that torch cannot see is told."""
    import torch

    if torch.cuda.is_available():
        return [Finding("devices", "ok", ", ".join(_cuda(i) for i in range(torch.cuda.device_count())))]
    if torch.accelerator.is_available():
        return [Finding("devices", "ok", f"{torch.accelerator.device_count()} × {torch.accelerator.current_accelerator()}")]
    nvidia = shutil.which("nvidia-smi") is not None
    return [judge_cpu(torch.__version__, nvidia=nvidia, hidden=os.environ.get("CUDA_VISIBLE_DEVICES"))]


def _cuda(index: int) -> str:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    return f"{torch.cuda.get_device_name(index)} ({free / 2**30:.0f} of {total / 2**30:.0f} GiB free)"


def judge_cpu(torch_version: str, *, nvidia: bool, hidden: str | None) -> Finding:
    """No accelerator: fine where there is none."""
    if not nvidia:
        return Finding("devices", "ok", "CPU only")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return Finding("devices", "warning", f"CUDA_VISIBLE_DEVICES={hidden!r} hides the GPU", "unset CUDA_VISIBLE_DEVICES")
    return Finding(
        "devices",
        "warning",
        f"torch {torch_version} sees no GPU, though NVIDIA's driver is installed",
        "install a CUDA build of torch (https://pytorch.org/get-started), or look at what `nvidia-smi` says",
    )


def threads() -> list[Finding]:
    """Threads torch computes with, against the cores this process may use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    processes = _number(os.environ.get("LOCAL_WORLD_SIZE")) or 1
    return [judge_threads(torch.get_num_threads(), cores, processes, limit=next(iter(limits), None))]


def judge_threads(count: int, cores: int, processes: int = 1, *, limit: str | None = None) -> Finding:
    """`count` threads in each of `processes` processes on `cores` cores.

    Few are a mistake only where a variable (`limit`) asks for them: left to itself torch takes a thread a physical core, of
    which there may be half as many as the system counts.
    """
    found = f"{count} on {cores} cores" + (f", in each of {processes} processes" if processes > 1 else "")
    fair = max(1, cores // processes)
    if count * processes > cores and count > 1:
        return Finding("threads", "warning", f"{found}: they wait for each other", f"set OMP_NUM_THREADS={fair}")
    if limit and count * 2 <= fair:
        told = f"{found}, as {limit} says: most of the machine may idle"
        return Finding("threads", "warning", told, f"unset {limit}, or set it to {fair}; fine where other work has the rest")
    return Finding("threads", "ok", found)


def world() -> list[Finding]:
    """How many processes train together."""
    return [judge_world(os.environ)]


def judge_world(environment: Mapping[str, str]) -> Finding:
    """Whether processes that were started together also know of each other.

    They do where a launcher tells each its own `RANK` and the `WORLD_SIZE`. `accelerate launch --cpu --num_processes 2` sets
    an address to meet at and neither of the two, Slurm tells names of its own: then every process trains alone. Of MPI's names
    accelerate makes a world on CPUs (and stops without an address), and none on GPUs.
    """
    size, rank = _number(environment.get("WORLD_SIZE")) or 1, environment.get("RANK")
    if size > 1 and rank is not None:
        return Finding("world size", "ok", f"{size}, this is rank {rank}")
    launched = {name: number for name in LAUNCHED if (number := _number(environment.get(name))) and number > 1}
    told = ", ".join(f"{name} is {number}" for name, number in launched.items())
    lacks = "has no RANK" if rank is None else f"is RANK {rank} of WORLD_SIZE {size}"
    if launched.keys() & _MPI:
        return _apart(f"{told}, but this process {lacks}: on GPUs each would train alone, on CPUs they need a MASTER_ADDR")
    if launched:
        return _apart(f"{told}, but this process {lacks}: each would train alone, at world size 1")
    if "MASTER_ADDR" in environment and rank is None:
        return _apart("MASTER_ADDR is set, and no RANK: if a launcher started several processes, each would train alone")
    return Finding("world size", "ok", "1")


def _apart(found: str) -> Finding:
    return Finding("world size", "warning", found, "start with `torchrun --nproc_per_node N ...`, which sets RANK and WORLD_SIZE")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
