"""What a results mapping holds, read defensively, and what its arms, conditions and metrics are called for readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .values import Estimate, estimate, mapping, mean, number, sequence

CONDITIONS: dict[str, str] = {
    "x": "input only",
    "x+c": "instruction",
    "x+iv": "vector",
    "x+c+iv": "instruction + vector",
    "x+c+other_iv": "instruction + another task's vector",
    "x+c+random": "instruction + random vector",
}
METRICS: dict[str, str] = {
    "in_context": "5-shot",
    "zero_shot": "zero-shot",
    "instruction": "instruction form",
    "knowledge": "knowledge form",
    "trained": "trained tasks",
}
_ARM_NAMES = {"iv_guided": "IV-guided"}
_ARM_ORDER = ("M0", "sequential", "iv_guided")


def arm_name(arm: str) -> str:
    """An arm's name as readers see it."""
    return _ARM_NAMES.get(arm, arm)


def order_name(benchmark: object, sequence: object) -> str:
    """A benchmark and an order of tasks as readers see them; an order that only lists its tasks is told by its ends."""
    tasks = str(sequence).split(",")
    return f"{benchmark} {sequence}" if len(tasks) < 3 else f"{benchmark} {tasks[0]} \N{HORIZONTAL ELLIPSIS} {tasks[-1]}"


def order_of(cell: Mapping[str, Any]) -> tuple[str, str]:
    """Benchmark and sequence of a cell of a grid."""
    return str(cell.get("benchmark")), str(cell.get("sequence"))


def order_names(cells: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """`order_name` of each benchmark and sequence of a grid, in full where two of them would be called alike."""
    orders = list(dict.fromkeys(map(order_of, cells)))
    names = [order_name(*order) for order in orders]
    return {order: name if names.count(name) == 1 else " ".join(order) for order, name in zip(orders, names, strict=True)}


def ordered(arms: Iterable[str]) -> list[str]:
    """M0, sequential and guided first, then the others as they come."""
    arms = list(arms)
    return [arm for arm in _ARM_ORDER if arm in arms] + [arm for arm in arms if arm not in _ARM_ORDER]


def arms_of(results: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    """The arms (or models) of a section of the results, in reading order; entries that are not mappings are dropped."""
    found = mapping(results.get(section))
    return {arm: found[arm] for arm in ordered(found) if isinstance(found[arm], Mapping)}


def tasks_of(results: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    """The tasks of a section of the results."""
    return {task: row for task, row in mapping(results.get(section)).items() if isinstance(row, Mapping)}


def arms_named(arm: str) -> str:
    """An arm within a sentence, ``sequential training``."""
    return f"{arm_name(arm)} training"


def stages_of(arm: Mapping[str, Any]) -> list[str]:
    """The stages of an arm of ``forgetting``, M0 first."""
    stages = arm.get("stages")
    return [str(stage) for stage in stages] if isinstance(stages, list | tuple) else []


def condition_values(row: Mapping[str, Any]) -> dict[str, Estimate]:
    """The measured conditions of one task or model, with their intervals."""
    intervals = mapping(row.get("intervals"))
    found = {c: estimate(row.get(c), intervals.get(c)) for c in CONDITIONS}
    return {c: e for c, e in found.items() if e is not None}


def first_token_tasks(results: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    """The steered tasks whose first answer token tells something: not those in which copying the input always gives it."""
    return {name: row for name, row in tasks_of(results, section).items() if not row.get("note")}


def condition_means(results: Mapping[str, Any], section: str) -> dict[str, Estimate]:
    """Mean over tasks of each condition that every task has."""
    rows = [condition_values(row) for row in first_token_tasks(results, section).values()]
    rows = [row for row in rows if row]
    return {c: mean([row[c] for row in rows]) for c in CONDITIONS if rows and all(c in row for row in rows)}


def effect_cells(results: Mapping[str, Any]) -> list[tuple[int, int, float]]:
    """All (layer, head, effect) of the map, layers by their index in the model."""
    effects = mapping(results.get("effects"))
    layers = sequence(effects.get("layers"))
    cells = []
    for row, heads in enumerate(sequence(effects.get("map"))):
        index = number(layers[row]) if row < len(layers) else None
        layer = row if index is None else int(index)
        for head, raw in enumerate(sequence(heads)):
            value = number(raw)
            if value is not None:
                cells.append((layer, head, value))
    return cells


def top_heads(results: Mapping[str, Any]) -> list[tuple[int, int, Estimate]]:
    """The strongest heads as (layer, head, effect), largest first."""
    found = []
    for entry in sequence(mapping(results.get("effects")).get("top")):
        item = mapping(entry)
        layer, head = number(item.get("layer")), number(item.get("head"))
        effect = estimate(item.get("effect"), [item.get("low"), item.get("high")])
        if layer is not None and head is not None and effect is not None:
            found.append((int(layer), int(head), effect))
    return sorted(found, key=lambda item: -item[2].value)
