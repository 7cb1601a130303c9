"""The heat map of all heads as lines of text."""

import math
from collections.abc import Sequence

_SHADES = " ░▒▓█"


def heat_lines(effects: Sequence[Sequence[float | None]]) -> list[str]:
    """A line a head, layers from left to right; shades of the square root of a positive effect, the largest full.

    Args:
        effects: `[layer][head]`; a head without a number was not measured and shows as a dot, a negative effect as a minus
            where it is as large as the faintest shade.

    Returns:
        Lines of equal width under a first one that numbers every tenth layer; none for a map without heads.
    """
    heads = max((len(row) for row in effects), default=0)
    largest = max((abs(e) for row in effects for e in row if e is not None), default=0.0) or 1.0
    margin = len(str(heads - 1)) + 6

    def mark(effect: float | None) -> str:
        if effect is None:
            return "·"
        shade = round(math.sqrt(abs(effect) / largest) * (len(_SHADES) - 1))
        return _SHADES[shade] if effect > 0 or not shade else "-"

    if not heads:
        return []
    numbered = (layer for layer in range(0, len(effects), 10) if layer + len(str(layer)) <= len(effects))
    ruler = "".join(f"{layer:<10}" for layer in numbered)[: len(effects)].ljust(len(effects))
    lines = [" " * (margin - 6) + "layer " + ruler]
    for head in range(heads):
        row = "".join(mark(layer[head]) if head < len(layer) else " " for layer in effects)
        lines.append(f"head {head:<{margin - 5}}{row}")
    return lines
