"""The effects of all heads before and after a fine-tune, and their difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..palette import Paint
from ..svg import Drawing
from ..values import mapping, number, sequence
from .effects import heat_map


def effect_maps(results: Mapping[str, Any], paint: Paint, width: float) -> dict[str, Drawing]:
    """A map each for before, after, and after minus before; each has its own colour scale."""
    effects = mapping(mapping(results.get("diagnosis")).get("effects"))
    before, after = (_grid(effects.get(when)) for when in ("before", "after"))
    maps = {"before": before, "after": after}
    if [len(row) for row in before] == [len(row) for row in after]:
        pairs = [zip(first, second, strict=True) for first, second in zip(before, after, strict=True)]
        maps["after minus before"] = [[b - a for a, b in row] for row in pairs]
    drawn = {name: heat_map({"effects": {"map": cells}}, paint, width) for name, cells in maps.items()}
    return {name: drawing for name, drawing in drawn.items() if drawing}


def _grid(value: object) -> list[list[float]]:
    """`[layer][head]`; what is no number counts as no effect."""
    return [[number(cell) or 0.0 for cell in sequence(row)] for row in sequence(value)]
