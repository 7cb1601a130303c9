"""How strongly the vector is added to the student as training goes on: s(p), p from 0 to 1."""

import math
from typing import Literal

Schedule = Literal["progressive", "linear", "cosine", "constant", "off"]


def scale_at(progress: float, schedule: Schedule = "progressive") -> float:
    """The scale s(p) at progress p = step / steps.

    `progressive` holds 1 for the first quarter and 0 for the last; between, it steps down by tenths:
    `1 - ceil(10 (p - 1/4) / (1/2)) / 10` (Jiang et al. 2406.12227, as their code has it).
    """
    p = min(max(progress, 0.0), 1.0)
    match schedule:
        case "progressive":
            # Rounded first: (p - 1/4) * 20 must not reach the next step by a rounding error.
            return 1.0 if p < 0.25 else 0.0 if p > 0.75 else 1.0 - math.ceil(round((p - 0.25) * 20, 9)) / 10
        case "linear":
            return 1.0 - p
        case "cosine":
            return (1.0 + math.cos(math.pi * p)) / 2
        case "constant":
            return 1.0
        case "off":
            return 0.0
    raise ValueError(f"unknown schedule {schedule!r}")
