"""What broke an ability: the first stage after which it is below where it started beyond chance, and stays there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.statistics import bootstrap_interval, mean_of_means, paired_differences
from instruction_vectors.files import read_json

GROUPS = {"probes": "all", "general": "general"}
"""Where a cell's stages keep the abilities that are not trained, and what the mean over each is called."""


@dataclass(frozen=True, slots=True)
class Break:
    """Where an ability broke.

    Attributes:
        ability: a probe's or general set's form (`country-capital/in_context`), all probes' form (`all/in_context`), all
            general sets' (`general/in_context`), or a trained task.
        after: the stage (its task, or its checkpoint) after which it was below M0 for good, a trained task below what it was
            once learnt; None if never.
        drop: change at the last stage, negative where it is lower.
        low: lower end of the drop's 95% interval.
        high: upper end.
    """

    ability: str
    after: str | None
    drop: float
    low: float
    high: float


class _Mean(NamedTuple):
    """A mean, or its change, with its interval."""

    value: float
    low: float
    high: float


def read_breaks(path: Path, *, seed: int = 0) -> list[Break]:
    """Read a cell's `result.json`, or the `diagnosis.json` that `iv diagnose` writes over a folder of stages.

    Raises:
        DataError: it is neither, or damaged.
    """
    found = read_json(path)
    if isinstance(found, dict):
        found = found.get("diagnosis", found)  # as `results.json` beside it has it
    if not isinstance(found, dict) or not isinstance(found.get("stages"), list):
        raise DataError(f"{path}: neither a cell's result.json nor a diagnosis")
    try:
        return bisect(found, seed=seed) if "cell" in found else bisect_scores(found["stages"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def bisect(result: dict[str, Any], *, seed: int = 0) -> list[Break]:
    """Read a cell's result; abilities that broke come first, the largest drop first.

    Raises:
        DataError: tasks, stages or rows are missing, or do not fit together.
    """
    tasks, stages = result.get("tasks"), result.get("stages")
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise DataError("no tasks, so no whole result of a cell")
    if not isinstance(stages, list) or not tasks or len(stages) != len(tasks) + 1:
        raise DataError("not one stage before all tasks and one after each, so no whole result of a cell")
    found = []
    for group, together in GROUPS.items():
        sets = _sets(stages[0], group)
        for form in sorted({form for forms in sets.values() for form in forms}):
            places = [(group, name, form) for name, forms in sets.items() if form in forms]
            found.append(_break(f"{together}/{form}", tasks, _changes(stages, places, seed)))
            found += [_break(f"{name}/{form}", tasks, _changes(stages, [(g, name, form)], seed)) for g, name, form in places]
    for number, task in enumerate(tasks[:-1], start=1):
        found.append(_break(task, tasks[number:], _changes(stages[number:], [("matrix", task)], seed)))
    return _worst_first(found)


def bisect_scores(scores: Sequence[Any]) -> list[Break]:
    """Read a diagnosis' scores by stage and task (`stages`); abilities that broke come first, the largest drop first.

    A diagnosis keeps intervals, not rows: those of two stages are combined as if their rows were not the same (Newcombe 1998,
    *Stat. Med.* 17, 873, method 10), so a drop must be larger to be told than in a cell.

    Raises:
        DataError: no stages, entries that are no scores, or stages with other tasks than the first.
    """
    if not scores:
        raise DataError("the diagnosis of a single model; let iv diagnose read a folder of stages")
    stages: dict[str, dict[tuple[str, str], _Mean]] = {}
    learnt = set()
    for number, each in enumerate(scores, start=1):
        try:
            stage, task, trained = str(each["stage"]), str(each["task"]), each["trained"]
            forms = {form: _Mean(float(e["value"]), *map(float, e["interval"])) for form, e in each["forms"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"stages, entry {number}: not a task's scores at a stage") from error
        stages.setdefault(stage, {}).update({(task, form): mean for form, mean in forms.items()})
        learnt |= {task} if trained else set()
    names, start = list(stages), next(iter(stages.values()))
    if len(names) < 2 or any(means.keys() != start.keys() for means in stages.values()):
        raise DataError("not the same tasks at two stages or more")
    found = []
    for form in sorted({form for _, form in start}):
        untouched = [(task, f) for task, f in start if f == form and task not in learnt]
        if untouched:
            found.append(_break(f"all/{form}", names[1:], _differences(list(stages.values()), untouched)))
        for task in (task for task, f in start if f == form):
            # A stage is called after its task where there is one for each task trained on.
            first = names.index(task) if task in learnt and task in names else 0
            if names[first + 1 :]:
                changes = _differences([stages[name] for name in names[first:]], [(task, form)])
                found.append(_break(f"{task}/{form}", names[first + 1 :], changes))
    return _worst_first(found)


def _break(ability: str, stages: Sequence[str], changes: Sequence[_Mean]) -> Break:
    """Of the stages after the start, each with its change."""
    below = [change.high < 0 for change in changes]
    first = next((i for i in range(len(below)) if all(below[i:])), None)
    return Break(ability, None if first is None else stages[first], *changes[-1])


def _worst_first(found: Sequence[Break]) -> list[Break]:
    return sorted(found, key=lambda b: (b.after is None, b.drop))


def _changes(stages: Sequence[Any], places: Sequence[tuple[str, ...]], seed: int) -> list[_Mean]:
    """Change of the mean over `places` at each stage after the first, rows in pairs."""
    start, *later = [[_rows(stage, place) for place in places] for stage in stages]
    changes = []
    for stage in later:
        for place, before, after in zip(places, start, stage, strict=True):
            if len(before) != len(after):
                raise DataError(f"{'/'.join(place)}: {len(before)} rows at first, {len(after)} at a later stage")
        rows = paired_differences(stage, start)
        changes.append(_Mean(mean_of_means(rows), *bootstrap_interval(rows, seed=seed)))
    return changes


def _rows(stage: Any, place: tuple[str, ...]) -> list[float]:
    found = stage
    for key in place:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(row, int | float) and math.isfinite(row) for row in found):
        raise DataError(f"{'/'.join(place)}: no rows at one of the stages")
    return found


def _sets(stage: Any, group: str) -> dict[str, dict[str, Any]]:
    """Rows by set and form; only general sets may be left out."""
    found = stage.get(group, {} if group == "general" else None) if isinstance(stage, dict) else None
    if not isinstance(found, dict) or not all(isinstance(forms, dict) for forms in found.values()):
        raise DataError(f"{group}: not by name and form")
    return found


def _differences(stages: Sequence[dict[tuple[str, str], _Mean]], places: Sequence[tuple[str, str]]) -> list[_Mean]:
    """Change of the mean over `places` at each stage after the first, from their intervals."""
    start, *later = [[stage[place] for place in places] for stage in stages]
    return [_difference(stage, start) for stage in later]


def _difference(after: Sequence[_Mean], before: Sequence[_Mean]) -> _Mean:
    change = sum(a.value - b.value for a, b in zip(after, before, strict=True)) / len(before)
    down = math.hypot(*(m.value - m.low for m in after), *(m.high - m.value for m in before)) / len(before)
    up = math.hypot(*(m.high - m.value for m in after), *(m.value - m.low for m in before)) / len(before)
    return _Mean(change, change - down, change + up)
