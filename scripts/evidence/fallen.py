"""Abilities that plain training took, and what brings them back: diagnoses of several seeds, pooled."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from evidence.signs import MINUS
from instruction_vectors.evaluation.statistics import bootstrap_interval, mean_of_means
from instruction_vectors.files import read_json

_REPAIR = "few-shot+iv(base)"
_CONTROLS = (
    "few-shot+iv(other task)",
    "few-shot+iv(mean of all tasks)",
    "few-shot+iv(random)",
    "few-shot+iv(shuffled heads)",
)
_CONDITIONS = {
    "before": "before training",
    "before, steered": "before training, with θ",
    "after": "after plain training",
    "few-shot+iv(base)": "after, with the θ of before",
    "few-shot+iv(other task)": "after, with another task's",
    "few-shot+iv(mean of all tasks)": "after, with the mean of all tasks'",
    "few-shot+iv(random)": "after, with a random one",
    "few-shot+iv(shuffled heads)": "after, with θ at shuffled heads",
    "few-shot, 0.5 of the fine-tune": "half of the fine-tune",
    "effect_before": "causal effect of the ten heads, before",
    "effect_after": "causal effect of the ten heads, after",
    "cosine": "cosine of θ before and after",
}
Fallen = dict[str, dict[str, list[list[float]]]]
"""By sequence and measure: tasks of seeds."""


def _fallen(paths: list[Path]) -> tuple[Fallen, dict[str, int]]:
    """Five-shot answers of plainly trained models with repairs and controls, of the tasks that fell; and how many seeds."""
    tasks: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    seeds: Counter[str] = Counter()
    for path in paths:
        benchmark, sequence, _ = path.stem.split("-")
        sequence = sequence if benchmark == "func" else f"{sequence}, {benchmark.title()}"
        seeds[sequence] += 1
        for name, task in read_json(path)["tasks"].items():
            if task["written_rungs"]:
                tasks[sequence][name].append(_few_shot(task))
    found = {
        sequence: {key: [[values[key] for values in own] for own in by_task.values()] for key in _CONDITIONS}
        for sequence, by_task in tasks.items()
    }
    return found, seeds


def covered(paths: list[Path]) -> str:
    """A row a condition, a column a sequence; a diagnosis holds means of tasks, so intervals are over tasks and seeds."""
    fallen, seeds = _fallen(paths)
    lines = [
        f"| five-shot answers, written out | {' | '.join(fallen)} |",
        "| :-- |" + " --: |" * len(fallen),
        f"| tasks that fell | {' | '.join(str(len(found['before'])) for found in fallen.values())} |",
        f"| seeds | {' | '.join(str(seeds[sequence]) for sequence in fallen)} |",
    ]
    for key, label in _CONDITIONS.items():
        digits = 4 if "effect" in label else 2
        means = [(mean_of_means(found[key]), *bootstrap_interval(found[key])) for found in fallen.values()]
        told = " | ".join(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" for mean, low, high in means)
        lines.append(f"| {label} | {told.replace('-', MINUS)} |")
    return "\n".join(lines) + "\n"


def as_diagnosis(paths: list[Path]) -> dict[str, Any]:
    """The same means in the shape of a diagnosis, a sequence in the place of a task, for its figure."""

    def estimate(values: list[list[float]]) -> dict[str, Any]:
        return {"value": mean_of_means(values), "interval": list(bootstrap_interval(values))}

    fallen, seeds = _fallen(paths)
    tasks = {}
    for sequence, found in fallen.items():
        means = {key: estimate(values) for key, values in found.items()}
        vector = means[_REPAIR]["value"]
        over = {key: {"value": vector - means[key]["value"]} for key in _CONDITIONS if key in _CONTROLS}
        rungs = [{"name": _REPAIR, "accuracy": means[_REPAIR], "over": over}]
        rungs += [{"name": key, "accuracy": means[key]} for key in found if key.endswith("of the fine-tune")]
        changes = {"in_context": {"base": means["before"], "tuned": means["after"]}}
        name = f"{sequence} ({seeds[sequence]} seed{'s' * (seeds[sequence] > 1)})"
        tasks[name] = {"changes": changes, "written_rungs": rungs}
    return {"diagnosis": {"tasks": tasks}}


def _few_shot(task: dict[str, Any]) -> dict[str, float]:
    """Accuracy of answers written out after examples, with each repair and control, and what changed inside."""
    found = {when: task["changes"]["in_context"][was]["value"] for when, was in (("before", "base"), ("after", "tuned"))}
    for rung in task["written_rungs"]:
        found[rung["name"]] = rung["accuracy"]["value"]
        found |= {name: rung["accuracy"]["value"] - over["value"] for name, over in rung["over"].items()}
        if rung["name"] == _REPAIR:
            found["before, steered"] = rung["accuracy"]["value"] / rung["of_base"]
    return found | task["trace"]
