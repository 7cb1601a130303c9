"""All checks, one after the other; a check that breaks down is itself a finding."""

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from instruction_vectors.doctor.finding import Finding
from instruction_vectors.errors import IVError

Check = Callable[[], Sequence[Finding]]


def examine(model: str | None = None, dtype: str = "float32") -> list[Finding]:
    """Every finding, in a fixed order.

    Args:
        model: short name, folder or hub id of a model to open, whose heads are then located and checked; None opens none.
        dtype: of its weights in memory.
    """
    return [finding for name, check in _checks(model, dtype).items() for finding in guarded(name, check)]


def _checks(model: str | None, dtype: str) -> dict[str, Check]:
    checks = {
        # Packages come first: they explain why a later check cannot even start.
        "python": _late("packages", "python"),
        "packages": _late("packages", "packages"),
        "devices": _late("machine", "devices"),
        "threads": _late("machine", "threads"),
        "world size": _late("machine", "world"),
        "cache folder": _late("storage", "cache"),
        "default model": _late("storage", "default_model"),
        "free disk": _late("storage", "disk"),
        "data folders": _late("data", "data_folders", os.environ.get("IV_DATA_DIR")),
    }
    return checks | ({f"anatomy of {model}": _late("anatomy", "anatomy", model, dtype)} if model is not None else {})


def _late(module: str, function: str, *arguments: Any) -> Check:
    """A check whose module is imported when it runs: most need torch, which may be what is broken."""
    return lambda: getattr(importlib.import_module(f"instruction_vectors.doctor.{module}"), function)(*arguments)


def guarded(name: str, check: Check) -> Sequence[Finding]:
    """What `check` finds, or that it broke down."""
    try:
        return check()
    except ImportError as error:
        return [Finding(name, "problem", f"cannot be checked: {error}", "repair the packages reported above, then look again")]
    except IVError as error:
        return [Finding(name, "problem", str(error), f"see the page of the error {error.code!r} in docs/errors")]
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            return [Finding(name, "problem", f"cannot be checked: {error}", "make the file or folder readable, then look again")]
        # A library that is broken, or a device that is full, says so in any type.
        said = str(error).strip().partition("\n")[0] or "no message"
        fix = "repair the packages reported above, if any, and free the device; then look again"
        return [Finding(name, "problem", f"cannot be checked: {type(error).__name__}: {said}", fix)]
