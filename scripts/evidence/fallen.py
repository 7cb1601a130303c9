"""Abilities that plain training took, and what brings them back: diagnoses of several seeds, pooled."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evidence.signs import MINUS
from instruction_vectors.analysis.repairs import WRITTEN_ADDED
from instruction_vectors.evaluation.statistics import percentile_interval
from instruction_vectors.files import read_json

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


def covered(paths: Sequence[Path]) -> str:
    """A row a condition, a column a sequence; intervals are over tasks and seeds, of the means that a diagnosis holds."""
    found = fallen(paths)
    lines = [
        f"| five-shot answers, written out | {' | '.join(found)} |",
        "| :-- |" + " --: |" * len(found),
        f"| tasks that fell, at one seed or more | {' | '.join(str(len(_names(seeds))) for seeds in found.values())} |",
        f"| seeds | {' | '.join(str(len(seeds)) for seeds in found.values())} |",
    ]
    shown = {key: _grids(found, lambda task, key=key: _score(task)[key]) for key in _CONDITIONS}
    for key, label in _CONDITIONS.items():
        lines.append(_row(label, shown[key]))
    gains = [with_vector - without for with_vector, without in zip(shown[WRITTEN_ADDED.name], shown["after"], strict=True)]
    lines.append(_row("gain by θ", gains))
    for label, holds in _COUNTS.items():
        counts = Counter[str]()
        for sequence, seeds in found.items():
            counts[sequence] = sum(holds(task) for tasks in seeds for task in tasks.values())
        of = {sequence: sum(map(len, seeds)) for sequence, seeds in found.items()}
        lines.append(f"| {label} | {' | '.join(f'{counts[sequence]} of {of[sequence]}' for sequence in found)} |")
    return "\n".join(lines) + "\n"


def as_diagnosis(paths: Sequence[Path]) -> dict[str, Any]:
    """The same means in the shape of a diagnosis, a sequence in the place of a task, for its figure."""
    tasks = {}
    for sequence, seeds in fallen(paths).items():
        means = {key: _estimate(_grid(seeds, lambda task, key=key: _score(task)[key])) for key in _CONDITIONS}
        vector = means[WRITTEN_ADDED.name]
        over = {key: {"value": vector["value"] - means[key]["value"]} for key in WRITTEN_ADDED.controls}
        rungs = [{"name": WRITTEN_ADDED.name, "accuracy": vector, "over": over}, {"name": _HALF, "accuracy": means[_HALF]}]
        changes = {"in_context": {"base": means["before"], "tuned": means["after"], "worse": True}}
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


def _grid(seeds: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> np.ndarray:
    """`[seed, task]`, nan where a task did not fall at a seed."""
    return np.array([[value(tasks[name]) if name in tasks else np.nan for name in _names(seeds)] for tasks in seeds])


def _grids(found: Fallen, value: Callable[[dict[str, Any]], float]) -> list[np.ndarray]:
    return [_grid(seeds, value) for seeds in found.values()]


def _row(label: str, grids: Sequence[np.ndarray]) -> str:
    told = [(each["value"], *each["interval"]) for each in map(_estimate, grids)]
    cells = [f"{mean:.2f} [{low:.2f}, {high:.2f}]".replace("-", MINUS) for mean, low, high in told]
    return f"| {label} | {' | '.join(cells)} |"


def _estimate(grid: np.ndarray, *, resamples: int = 2000) -> dict[str, Any]:
    """Mean over tasks of the mean over seeds; its interval by redrawing seeds and, apart from them, tasks."""
    generator = np.random.default_rng(0)
    seeds, tasks = (generator.integers(size, size=(resamples, size)) for size in grid.shape)
    drawn = grid[seeds[:, :, None], tasks[:, None, :]]
    fell = ~np.isnan(drawn)
    means = np.nansum(drawn, axis=1) / np.maximum(fell.sum(axis=1), 1)
    known = fell.any(axis=1)  # a task that fell at no drawn seed is left out of a draw, and a draw where none did
    draws = (means * known).sum(axis=1)[known.any(axis=1)] / known.sum(axis=1)[known.any(axis=1)]
    return {"value": float(np.nanmean(grid, axis=0).mean()), "interval": list(percentile_interval(draws))}
