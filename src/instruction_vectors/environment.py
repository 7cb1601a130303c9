"""The machine and the versions that numbers come from."""

import hashlib
import os
import platform
import resource
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env

_LIBRARIES = ("transformers", "peft", "instruction-vectors")


def versions() -> dict[str, str]:
    """Versions of what computes; torch's own word names its build besides (`2.13.0+cu130`), which its package may not."""
    return {"torch": str(torch.__version__), **{name: version(name) for name in _LIBRARIES}}


@cache
def code_fingerprint() -> str:
    """Short SHA-256 of this package's own Python files: between two releases a version does not tell one code from another."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def default_device() -> torch.device:
    """The first accelerator torch can use, else the CPU; the CPU too where `ACCELERATE_USE_CPU=1` keeps a Trainer there."""
    told = os.environ.get("ACCELERATE_USE_CPU") and parse_flag_from_env("ACCELERATE_USE_CPU")
    if told or not torch.accelerator.is_available():
        return torch.device("cpu")
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def machine() -> dict[str, Any]:
    """Interpreter, system, processors, threads and device."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(default_device()),
    }


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
