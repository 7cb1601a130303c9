"""Which form of the tasks never trained on falls."""

from collections import defaultdict
from typing import Any

from evidence.signs import MINUS
from instruction_vectors.continual.headline import GUIDED, PLAIN, best_rate
from instruction_vectors.continual.result import probes, rate, way
from instruction_vectors.evaluation.statistics import crossed_means, mean_of_means, paired_differences, percentile_interval

_FORMS = {
    "in_context": "IP, written after five examples",
    "zero_shot": "GP, written without any",
    "instruction": "instruction form, ranked",
    "knowledge": "knowledge form, ranked",
}


def forms(cells: list[dict[str, Any]]) -> str:
    """How plain and guided training change each form of the tasks never trained on, over seeds."""
    arms: dict[tuple[str, tuple[str, str]], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        if way(cell) in (PLAIN, GUIDED[0]) and rate(cell) == best_rate(cells):
            arms[cell["cell"]["sequence"], way(cell)].append(cell)
    lines = [f"| sequence | training | seeds | {' | '.join(_FORMS.values())} |", "| :-- | :-- | --: |" + " --: |" * len(_FORMS)]
    for (sequence, (method, _)), seeds in sorted(arms.items()):
        changes = " | ".join(_change(seeds, form) for form in _FORMS)
        lines.append(f"| {sequence} | {'plain' if method == PLAIN[0] else method.replace('_', ' ')} | {len(seeds)} | {changes} |")
    return "\n".join(lines) + "\n"


def _change(seeds: list[dict[str, Any]], form: str) -> str:
    """Before and after, and the interval of the difference over seeds, tasks and rows."""
    names = [name for name, probe in seeds[0]["stages"][0]["probes"].items() if form in probe]
    before, after = ([probes(cell, stage, form, names) for cell in seeds] for stage in (0, -1))
    differences = [paired_differences(*each) for each in zip(after, before, strict=True)]
    low, high = percentile_interval(crossed_means(differences))
    told = f"{mean_of_means(before):.2f} → {mean_of_means(after):.2f} [{low:+.2f}, {high:+.2f}]"
    return told.replace("-", MINUS)
