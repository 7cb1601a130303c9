"""Abilities that plain training took, and what brings them back: diagnoses of several seeds, pooled."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instruction_vectors.analysis.repairs import WRITTEN_ADDED
from instruction_vectors.evaluation.statistics import percentile_interval
from instruction_vectors.files import read_json
from instruction_vectors.reporting.values import Estimate, show_full

_HALF = "few-shot, 0.5 of the fine-tune"
_OTHER, _RANDOM, _MEAN, _SHUFFLED = WRITTEN_ADDED.controls
_CONDITIONS = {
    "before": "before training",
    "before, steered": "before training, with θ",
    "after": "after plain training",
    WRITTEN_ADDED.name: "after, with the θ of before",
    _OTHER: "after, with another task's",
    _MEAN: "after, with the mean of all tasks'",
    _RANDOM: "after, with a random one",
    _SHUFFLED: "after, with θ at shuffled heads",
    _HALF: "half of the fine-tune",
}
_COUNTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "θ clearly above all four controls": lambda task: all(over["interval"][0] > 0 for over in _vector(task)["over"].values()),
    "called covered by `iv diagnose`": lambda task: task["written"]["name"] == "suppressed",
    "called gone": lambda task: task["written"]["name"] == "lost",
}
"""What is counted over fallen tasks of all seeds."""
Fallen = dict[str, list[dict[str, dict[str, Any]]]]
"""By sequence: of each seed the tasks whose five-shot answers got worse."""


def fallen(paths: Sequence[Path]) -> Fallen:
    """Read diagnoses called BENCHMARK-SEQUENCE-sSEED.json."""
    found: Fallen = defaultdict(list)
    for path in paths:
        benchmark, sequence, _ = path.stem.split("-")
        tasks = {name: task for name, task in read_json(path)["tasks"].items() if task["changes"]["in_context"]["worse"]}
        found[sequence if benchmark == "func" else f"{sequence}, {benchmark.title()}"].append(tasks)
    return found


def covered(found: Fallen) -> str:
    """A row a condition, a column a sequence; intervals are over tasks and seeds, of the means that a diagnosis holds."""
    grids = {key: [_grid(seeds, key) for seeds in found.values()] for key in _CONDITIONS}
    gains = [repaired - after for repaired, after in zip(grids[WRITTEN_ADDED.name], grids["after"], strict=True)]
    shown = [*((label, grids[key]) for key, label in _CONDITIONS.items()), ("gain by θ", gains)]
    rows = [
        ("tasks that fell, at one seed or more", [str(len(_names(seeds))) for seeds in found.values()]),
        ("seeds", [str(len(seeds)) for seeds in found.values()]),
        *((label, [show_full(_estimate(grid)) for grid in own]) for label, own in shown),
        *((label, [_count(seeds, holds) for seeds in found.values()]) for label, holds in _COUNTS.items()),
    ]
    head = [f"| five-shot answers, written out | {' | '.join(found)} |", "| :-- |" + " --: |" * len(found)]
    return "\n".join([*head, *(f"| {label} | {' | '.join(cells)} |" for label, cells in rows)]) + "\n"


def as_diagnosis(found: Fallen) -> dict[str, Any]:
    """The same means in the shape of a diagnosis, a sequence in the place of a task, for its figure."""
    tasks = {}
    for sequence, seeds in found.items():
        means = {key: _estimate(_grid(seeds, key)) for key in _CONDITIONS}
        shown = {key: {"value": mean.value, "interval": [mean.low, mean.high]} for key, mean in means.items()}
        vector = means[WRITTEN_ADDED.name]
        over = {key: {"value": vector.value - means[key].value} for key in WRITTEN_ADDED.controls}
        rungs = [{"name": WRITTEN_ADDED.name, "accuracy": shown[WRITTEN_ADDED.name], "over": over}]
        rungs.append({"name": _HALF, "accuracy": shown[_HALF]})
        changes = {"in_context": {"base": shown["before"], "tuned": shown["after"], "worse": True}}
        name = f"{sequence} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
        tasks[name] = {"changes": changes, "written_rungs": rungs}
    return {"diagnosis": {"tasks": tasks}}


def _score(task: dict[str, Any]) -> dict[str, float]:
    """Accuracy of answers written out after examples: before and after, and with each repair and control."""
    found = {when: task["changes"]["in_context"][was]["value"] for when, was in (("before", "base"), ("after", "tuned"))}
    for rung in task["written_rungs"]:
        found[rung["name"]] = rung["accuracy"]["value"]
    repair = _vector(task)
    with_vector = repair["accuracy"]["value"]
    # `beyond` is the gain by the vector after training minus that before.
    found["before, steered"] = found["before"] + (with_vector - found["after"]) - repair["beyond"]["value"]
    return found | {name: with_vector - over["value"] for name, over in repair["over"].items()}


def _vector(task: dict[str, Any]) -> dict[str, Any]:
    return next(rung for rung in task["written_rungs"] if rung["name"] == WRITTEN_ADDED.name)


def _names(seeds: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for tasks in seeds for name in tasks))


def _count(seeds: Sequence[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> str:
    every = [holds(task) for tasks in seeds for task in tasks.values()]
    return f"{sum(every)} of {len(every)}"


def _grid(seeds: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """A score, `[seed, task]`, nan where a task did not fall at a seed."""
    return np.array([[_score(tasks[name])[key] if name in tasks else np.nan for name in _names(seeds)] for tasks in seeds])


def _estimate(grid: np.ndarray, *, resamples: int = 2000) -> Estimate:
    """Mean over tasks of the mean over seeds; its interval by redrawing seeds and, apart from them, tasks."""
    generator = np.random.default_rng(0)
    seeds, tasks = (generator.integers(size, size=(resamples, size)) for size in grid.shape)
    drawn = grid[seeds[:, :, None], tasks[:, None, :]]
    fell = ~np.isnan(drawn)
    means = np.nansum(drawn, axis=1) / np.maximum(fell.sum(axis=1), 1)
    known = fell.any(axis=1)  # a task that fell at no drawn seed is left out of a draw, and a draw where none did
    draws = (means * known).sum(axis=1)[known.any(axis=1)] / known.sum(axis=1)[known.any(axis=1)]
    return Estimate(float(np.nanmean(grid, axis=0).mean()), *percentile_interval(draws))
