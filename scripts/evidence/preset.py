"""The preset, one factor at a time."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from instruction_vectors.continual.headline import GUIDED, Arm, against
from instruction_vectors.continual.result import Result, rate, way
from instruction_vectors.reporting.values import DASH, MINUS

_FORMS = ("in_context", "zero_shot", "instruction")


def preset(cells: Sequence[Result]) -> str:
    """One factor changed at a time: where each ends, and how far that is from the usual settings on the same seeds and rows."""
    arms: dict[Arm, list[Result]] = defaultdict(list)
    for cell in cells:
        arms[way(cell), rate(cell)].append(cell)
    kept = next(arm for arm in arms if arm[0] == GUIDED[0])
    usual = arms.pop(kept)
    lines = [
        "| method | guide | seeds | AP | FP | IP | GP | instruction | AP, difference | IP, difference |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: |",
        f"| {' | '.join((*GUIDED[0], *_ends(usual), DASH, DASH))} |",
    ]
    for ((method, guide), (lr, epochs)), others in sorted(arms.items()):
        called = method if (lr, epochs) == kept[1] else f"{method}, lr {lr:g}"
        lines.append(f"| {' | '.join((called, guide, *_ends(others), *_apart(against(usual, others))))} |")
    return "\n".join(lines) + "\n"


def _ends(cells: Sequence[Result]) -> list[str]:
    """How many seeds, and the means over them of what the table shows."""
    ends = [[cell["ap"]["mean"], cell["fp"]["mean"], *(cell["forms"][form][-1]["mean"] for form in _FORMS)] for cell in cells]
    return [str(len(cells)), *(f"{fmean(column):.3f}" for column in zip(*ends, strict=True))]


def _apart(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [DASH, DASH]
    low, high = found["ip"]["gain_interval"]
    parts = f"{found['ap_delta']:+.3f}", f"{found['ip']['gain']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [part.replace("-", MINUS) for part in parts]
