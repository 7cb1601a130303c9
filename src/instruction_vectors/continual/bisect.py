"""Which task of a sequence broke an ability: the first stage after which it is below M0 beyond chance, and stays there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from instruction_vectors.evaluation.statistics import bootstrap_interval, mean_of_means, paired_differences


@dataclass(frozen=True, slots=True)
class Break:
    """Where an ability broke.

    Attributes:
        ability: a probe's form (`country-capital/in_context`), all probes' form (`all/in_context`) or a trained task.
        after: the task after whose training it was below M0 (a trained task: below its own best) for good; None if never.
        drop: change at the last stage, negative where it is lower.
        low: lower end of the drop's 95% interval.
        high: upper end.
    """

    ability: str
    after: str | None
    drop: float
    low: float
    high: float


def bisect(result: dict[str, Any], *, seed: int = 0) -> list[Break]:
    """Read a cell's result; abilities that broke come first, the largest drop first."""
    tasks, stages = result["tasks"], result["stages"]
    found = []
    for form in sorted({form for rows in stages[0]["probes"].values() for form in rows}):
        names = [name for name, rows in stages[0]["probes"].items() if form in rows]
        found.append(_break(f"all/{form}", tasks, [[s["probes"][name][form] for name in names] for s in stages], seed))
        found += [_break(f"{name}/{form}", tasks, [[s["probes"][name][form]] for s in stages], seed) for name in names]
    for number, task in enumerate(tasks, start=1):
        learnt = [[stage["matrix"][task]] for stage in stages[number:]]
        if len(learnt) > 1:
            found.append(_break(task, tasks[number:], learnt, seed))
    return sorted(found, key=lambda b: (b.after is None, b.drop))


def _break(ability: str, tasks: Sequence[str], stages: Sequence[Sequence[Sequence[float]]], seed: int) -> Break:
    changes = [_change(stage, stages[0], seed) for stage in stages[1:]]
    below = [high < 0 for _, _, high in changes]
    first = next((i for i in range(len(below)) if all(below[i:])), None)
    return Break(ability, None if first is None else tasks[first], *changes[-1])


def _change(stage: Sequence[Sequence[float]], start: Sequence[Sequence[float]], seed: int) -> tuple[float, float, float]:
    rows = paired_differences(stage, start)
    return mean_of_means(rows), *bootstrap_interval(rows, seed=seed)
