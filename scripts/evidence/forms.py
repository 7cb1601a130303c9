"""Which form of the tasks never trained on falls."""

from collections import defaultdict
from typing import Any

from instruction_vectors.continual.headline import GUIDED, PLAIN, best_rate
from instruction_vectors.continual.result import probes, rate, way
from instruction_vectors.evaluation.statistics import crossed_means, mean_of_means, paired_differences, percentile_interval
from instruction_vectors.reporting.values import MINUS

_FORMS = {
    "in_context": "IP, written after five examples",
    "zero_shot": "GP, written without any",
    "instruction": "instruction form, ranked",
    "knowledge": "knowledge form, ranked",
}


def forms(cells: list[dict[str, Any]]) -> str:
    """How plain training at its best rate and guided training at the same change each form, over seeds."""
    sequences: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        sequences[cell["cell"]["sequence"]].append(cell)
    lines = [f"| sequence | training | seeds | {' | '.join(_FORMS.values())} |", "| :-- | :-- | --: |" + " --: |" * len(_FORMS)]
    for sequence, own in sorted(sequences.items()):
        best = best_rate(own)
        for arm, called in ((PLAIN, "plain"), (GUIDED[0], GUIDED[0][0].replace("_", " "))):
            if seeds := [cell for cell in own if way(cell) == arm and rate(cell) == best]:
                lines.append(f"| {sequence} | {called} | {len(seeds)} | {' | '.join(_change(seeds, form) for form in _FORMS)} |")
    return "\n".join(lines) + "\n"


def _change(seeds: list[dict[str, Any]], form: str) -> str:
    """Before and after, and the interval of the difference over seeds, tasks and rows."""
    names = [name for name, probe in seeds[0]["stages"][0]["probes"].items() if form in probe]
    before, after = ([probes(cell, stage, form, names) for cell in seeds] for stage in (0, -1))
    differences = [paired_differences(*each) for each in zip(after, before, strict=True)]
    low, high = percentile_interval(crossed_means(differences))
    told = f"{mean_of_means(before):.2f} → {mean_of_means(after):.2f} [{low:+.2f}, {high:+.2f}]"
    return told.replace("-", MINUS)
