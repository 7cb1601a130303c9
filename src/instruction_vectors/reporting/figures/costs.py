"""What exact effects cost: measured seconds against prompts and their length, beside what cannot be saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..palette import Paint
from ..svg import Drawing
from ..values import Estimate, mapping, number, sequence
from .scatter import Point, Trail, scatter

_KEY = (("measured", "dot", "vector"), ("the multiplications alone, at this machine's rate", "ring", "base"))


def costs(results: Mapping[str, Any], paint: Paint) -> dict[str, Drawing]:
    """A panel for the length of a prompt and one for the number of prompts, as `benchmarks/mediation.py` measured them."""
    measured = mapping(results.get("mediation"))
    lengths = [mapping(each) for each in mapping(measured.get("lengths")).values()]
    many = mapping(measured.get("many_prompts"))
    count, floor = number(many.get("prompts")), number(many.get("floor_seconds"))
    pairs = [sequence(pair) for pair in sequence(many.get("seconds_by_prompts"))]
    by_count = [(number(pair[0]), number(pair[1])) for pair in pairs if len(pair) == 2]
    panels = {
        "length": _panel(
            "Seconds for all heads on one prompt",
            "tokens of the prompt",
            [(number(each.get("tokens")), number(each.get("seconds_a_prompt"))) for each in lengths],
            [(number(each.get("tokens")), number(each.get("floor_seconds_a_prompt"))) for each in lengths],
            paint,
        ),
        "prompts": _panel(
            "Seconds for all heads on many prompts",
            "prompts",
            by_count,
            [(k, k * floor / count) for k, _ in by_count if k is not None and floor is not None and count],
            paint,
        ),
    }
    return {name: drawing for name, drawing in panels.items() if drawing}


def _panel(
    name: str,
    across: str,
    measured: Iterable[tuple[float | None, float | None]],
    floor: Iterable[tuple[float | None, float | None]],
    paint: Paint,
) -> Drawing | None:
    trails = []
    for (label, shape, colour), pairs in zip(_KEY, (measured, floor), strict=True):
        points = [Point(label, Estimate(x), Estimate(y)) for x, y in pairs if x is not None and y is not None]
        trails.append(Trail(points, shape, colour))
    if not trails[0].points:
        return None
    return scatter(name, (across, "seconds"), trails, _KEY, paint, width=440)
