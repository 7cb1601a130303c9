"""See what a fine-tune breaks, find out whether it is gone or only covered, and keep it from breaking."""

import importlib
from typing import Any

from instruction_vectors.version import __version__

_WHERE = {
    "load": "models.loading",
    "Example": "tasks",
    "Task": "tasks",
    "load_task": "tasks",
    "task_names": "tasks",
    "Benchmark": "tasks",
    "load_benchmark": "tasks",
    "benchmark_names": "tasks",
    "mean_head_outputs": "vectors.extraction",
    "causal_effects": "vectors.mediation",
    "top_heads": "vectors.choosing",
    "extract": "vectors.extraction",
    "InstructionVector": "vectors.vector",
    "IVGuidance": "training.guidance",
    "IVGuidanceConfig": "training.config",
    "IVTrainer": "training.trainers",
    "IVSFTTrainer": "training.sft",
    "ForgettingCallback": "training.forgetting",
    "run_sequence": "continual.runner",
    "diagnose": "analysis.diagnosis",
    "write_report": "reporting",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    """Import public names on first use: `import instruction_vectors` itself stays fast."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
