"""The machine and the versions that numbers come from."""

import os
import platform
import resource
import sys
from importlib.metadata import version
from typing import Any

import torch

_LIBRARIES = ("torch", "transformers", "peft", "instruction-vectors")


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {name: version(name) for name in _LIBRARIES}


def machine() -> dict[str, Any]:
    """Interpreter, system, processors, threads and device."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"),
    }


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
