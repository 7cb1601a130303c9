"""What the heads and the vectors do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contents import (
    CONDITIONS,
    arm_name,
    arms_named,
    arms_of,
    condition_means,
    condition_values,
    effect_cells,
    first_token_tasks,
    top_heads,
)
from ..values import Estimate, combine, mapping, paired, show, show_full
from .courses import FEWEST_TASKS, Course
from .wording import capital, change, plural


def effects(results: Mapping[str, Any]) -> list[str]:
    """Which heads matter most, and how much of the effect they hold."""
    cells, heads = effect_cells(results), top_heads(results)
    out = []
    if heads:
        layer, head, effect = heads[0]
        verb = "raises" if effect.value > 0 else "lowers"
        size = effect if effect.value > 0 else -effect
        clear = "" if effect.sure or not effect.bounded else ", an effect whose interval holds 0"
        measured = mapping(results.get("effects")).get("measured") or "the probability of the right answer"
        out.append(
            f"The strongest head is layer {layer}, head {head}: its replacement {verb} {measured} by {show_full(size, 3)}{clear}."
        )
    if cells:
        up = [value for _, _, value in cells if value > 0]
        text = f"Of {len(cells):,} heads, {len(up):,} have a positive mean effect"
        chosen = {(layer, head) for layer, head, _ in heads}
        held = sum(value for layer, head, value in cells if value > 0 and (layer, head) in chosen)
        if up and chosen:
            spread = sorted(layer for layer, _ in chosen)
            text += f"; the {len(chosen)} outlined ones, in layers {spread[0]} to {spread[-1]}, hold {held / sum(up):.0%} of it"
        out.append(text + ".")
    return [" ".join(out)] if out else []


def steering(results: Mapping[str, Any], section: str = "steering") -> list[str]:
    """What a task's own vector adds to its instruction, and whether other vectors add as much."""
    rows = [condition_values(row) for row in first_token_tasks(results, section).values()]
    rows = [row for row in rows if "x+c" in row and "x+c+iv" in row]
    means = condition_means(results, section)
    if not rows or "x+c" not in means or "x+c+iv" not in means:
        return []

    def apart(condition: str) -> Estimate:
        by_task = [row["x+c+iv"].value - row[condition].value for row in rows]
        return paired(by_task) if len(rows) >= FEWEST_TASKS and len(set(by_task)) > 1 else means["x+c+iv"] - means[condition]

    what = f"with the task's own vector added to its instruction, mean accuracy over {len(rows)} task{plural(len(rows))}"
    out = [capital(change(what, Course(means["x+c"], means["x+c+iv"], 0, apart("x+c")))) + "."]
    gains = [row["x+c+iv"] - row["x+c"] for row in rows]
    if all(gain.bounded for gain in gains):
        up, down = sum(g.sure and g.value > 0 for g in gains), sum(g.sure and g.value < 0 for g in gains)
        out.append(f"The gain is clear in {up} of {len(gains)} tasks, a loss is clear in {down}.")
    for condition, name in (
        ("x+c+other_iv", "another task's vector"),
        ("x+c+random", "a random vector of equal norm"),
    ):
        if condition not in means:
            continue
        gap = apart(condition)
        told = f"{capital(name)} gives {show(means[condition].value)} instead"
        if gap.bounded and not gap.sure:
            out.append(f"{told}: not clearly different ({show_full(gap, plus=True)}).")
        elif gap.value > 0:
            out.append(f"{told}, {show_full(gap)} less.")
        else:
            out.append(f"{told}, no less than the task's own ({show_full(gap, plus=True)}).")
    return [" ".join(out)]


def hypothesis(results: Mapping[str, Any]) -> list[str]:
    """The grid of conditions and models: the best cell, and what the vector adds in each model."""
    grid = {model: v for model, row in arms_of(results, "hypothesis").items() if (v := condition_values(row))}
    if not grid:
        return []
    model, condition = max(((m, c) for m in grid for c in grid[m]), key=lambda mc: grid[mc[0]][mc[1]].value)
    best = f"The best cell is {arm_name(model)} with {CONDITIONS[condition]} ({show_full(grid[model][condition])})."
    out = [best]
    gains = {m: v["x+c+iv"] - v["x+c"] for m, v in grid.items() if "x+c" in v and "x+c+iv" in v}
    for name, gain in gains.items():
        where = "in M0" if name == "M0" else f"after {arms_named(name)}"
        if gain.bounded and not gain.sure:
            out.append(f"{capital(where)} the vector changes nothing clearly ({show_full(gain, plus=True)}).")
        else:
            verb = "adds" if gain.value >= 0 else "takes away"
            out.append(f"{capital(where)} the vector {verb} {show_full(gain if gain.value >= 0 else -gain)}.")
    return [" ".join(out)]


def recovery(results: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """A trained model's (share recovered, ratio to M0 with the vector, difference in differences), as text.

    A share is given only where the loss it is divided by has an interval without 0.
    """
    grid = {model: condition_values(row) for model, row in arms_of(results, "hypothesis").items()}
    base = grid.get("M0", {})
    out = {}
    for model, v in grid.items():
        if model == "M0" or not all(c in row for c in ("x+c", "x+c+iv") for row in (v, base)):
            continue
        gain, lost = v["x+c+iv"] - v["x+c"], base["x+c"] - v["x+c"]
        share = f"{gain.value / lost.value:.0%}" if lost.sure and lost.value > 0 else "no clear loss to recover"
        top = base["x+c+iv"]
        ratio = f"{v['x+c+iv'].value / top.value:.0%}" if top.sure and top.value > 0 else "M0 + vector not clearly above 0"
        extra = combine([(1, v["x+c+iv"]), (-1, v["x+c"]), (-1, top), (1, base["x+c"])])
        out[model] = (share, ratio, show_full(extra, plus=True))
    return out
