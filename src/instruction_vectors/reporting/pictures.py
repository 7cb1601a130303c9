"""Single figures as SVG files, for a README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from markupsafe import Markup

from . import figures, findings
from .palette import LIGHT
from .svg import Drawing, grid, text
from .values import printable

FigureName = Literal["forgetting", "steering", "effects", "front", "repairs", "cost"]
_WIDTH = 912.0


def figure_svg(results: Mapping[str, Any], name: str) -> str:
    """A standalone SVG file of one of the figures that ``FigureName`` names, on a light card of its own.

    Under the heading stands what was measured. Without the data the picture says "not run yet". Raises ValueError
    for another name.
    """
    results = printable(results)
    if name == "forgetting":
        both = (figures.curves(results, LIGHT), figures.knowing_and_doing(results, LIGHT))
        rows = [list(panels.values()) for panels in both if panels]
        drawing = grid(rows, "Forgetting") if rows else None
        heading, found = (
            "Accuracy while a sequence of tasks is trained",
            [findings.curve(results, "in_context")],
        )
    elif name == "steering":
        drawing = figures.steering(results, LIGHT, _WIDTH)
        heading, found = "Accuracy with and without the instruction vector", findings.steering(results)
    elif name == "effects":
        drawing = figures.heat_map(results, LIGHT, _WIDTH)
        heading, found = (
            "Effect of each attention head on the right answer",
            findings.effects(results),
        )
    elif name == "front":
        fronts = figures.fronts(results, LIGHT)
        drawing = grid([[each] for each in fronts.values()], "Fronts") if fronts else None
        heading, found = "Learnt (AP) and kept (IP)", []
    elif name == "repairs":
        drawing = figures.repairs(results, LIGHT, _WIDTH)
        heading, found = "What brings back what a fine-tune took", []
    elif name == "cost":
        panels = figures.costs(results, LIGHT)
        drawing = grid([list(panels.values())], "Costs") if panels else None
        heading, found = "What exact effects of all heads cost", []
    else:
        raise ValueError(f"no figure {name!r}: choose forgetting, steering, effects, front, repairs or cost")
    if drawing is None:
        note = Markup(text(0, 20, "not run yet", size=14, fill=LIGHT["muted"]))
        drawing = Drawing(note, _WIDTH, 30, heading, "not run yet")
    return drawing.standalone(heading, found[0] if found else "")
