"""The heat map of what each attention head contributes, and the ranking of the strongest heads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..contents import effect_cells, top_heads
from ..palette import Paint
from ..svg import Drawing, Scale, el, num, text, ticks, title
from ..values import show, show_full

_SHADES = 24
_MOST_TIPS = 1500


def heat_map(results: Mapping[str, Any], paint: Paint, width: float) -> Drawing | None:
    """Layers across, heads up; colour by the signed square root of the effect, the strongest heads ringed."""
    cells = effect_cells(results)
    if not cells:
        return None
    layers = sorted({layer for layer, _, _ in cells})
    heads = max(head for _, head, _ in cells) + 1
    column = {layer: i for i, layer in enumerate(layers)}
    left, top = 34.0, 4.0
    step = (width - left - 2) / len(layers)
    tall = max(min(step, 22.0), 3.0)
    gap = 1.0 if step > 6 else 0.4
    largest = max(abs(value) for _, _, value in cells) or 1.0
    bottom = top + heads * tall

    def corner(layer: int, head: int) -> tuple[float, float]:
        return left + column[layer] * step, top + (heads - 1 - head) * tall

    ground = el("rect", x=left, y=top, width=len(layers) * step, height=heads * tall, fill=paint["raised"], rx=2)
    shaded: defaultdict[tuple[bool, int], list[str]] = defaultdict(list)
    for layer, head, value in cells:
        shade = math.ceil(math.sqrt(abs(value) / largest) * _SHADES)
        x, y = corner(layer, head)
        shaded[value > 0, shade].append(f"M{num(x)} {num(y)}h{num(step - gap)}v{num(tall - gap)}h{num(gap - step)}z")
    parts = [ground]
    for (positive, shade), paths in sorted(shaded.items()):
        colour = paint["vector" if positive else "against"]
        parts.append(el("path", d="".join(paths), fill=colour, fill_opacity=shade / _SHADES))
    if width > 500:
        tips = sorted(cells, key=lambda cell: -abs(cell[2]))[:_MOST_TIPS]
        parts.append(Markup("").join(_tip(*corner(layer, head), step, tall, (layer, head, value)) for layer, head, value in tips))
    for layer, head, effect in top_heads(results):
        if layer in column and head < heads:
            x, y = corner(layer, head)
            tip = title(f"layer {layer}, head {head}: {show_full(effect, 3, plus=True)}")
            ring = el(
                "rect",
                x=x - 0.9,
                y=y - 0.9,
                width=step - gap + 1.8,
                height=tall - gap + 1.8,
                rx=2.5,
                stroke=paint["ink"],
                stroke_width=1.6,
            )
            parts.append(el("g", tip, ring, fill="transparent"))
    parts.extend(_axes(layers, heads, left, step, tall, top, bottom, width, paint))
    parts.append(_colour_bar(largest, width, bottom + 50, paint))
    strongest = max(cells, key=lambda cell: abs(cell[2]))
    described = (
        f"Heat map of {len(cells)} heads in {len(layers)} layers. Largest effect: layer {strongest[0]}, "
        f"head {strongest[1]}, {show(strongest[2], 3, plus=True)}."
    )
    return Drawing(Markup("").join(parts), width, bottom + 82, "Effect of each attention head", described)


def _tip(x: float, y: float, step: float, tall: float, cell: tuple[int, int, float]) -> Markup:
    tip = title(f"layer {cell[0]}, head {cell[1]}: {show(cell[2], 4, plus=True)}")
    return el("rect", tip, x=x, y=y, width=step, height=tall, fill="transparent")


def _axes(
    layers: Sequence[int],
    heads: int,
    left: float,
    step: float,
    tall: float,
    top: float,
    bottom: float,
    width: float,
    paint: Paint,
) -> list[Markup]:
    parts = []
    every = next(n for n in (1, 2, 5, 10, 20, 50, 1000) if n * step >= 21)
    for i, layer in enumerate(layers):
        if i % every == 0:
            x = left + (i + 0.5) * step
            parts.append(text(x, bottom + 15, str(layer), size=11, text_anchor="middle", fill=paint["muted"]))
    every = next(n for n in (1, 2, 4, 8, 16, 32, 1000) if n * tall >= 13)
    for head in range(0, heads, every):
        y = top + (heads - head - 0.5) * tall
        parts.append(text(left - 6, y + 3.5, str(head), size=10.5, text_anchor="end", fill=paint["muted"]))
    parts.append(text((left + width) / 2, bottom + 32, "layer", size=11.5, text_anchor="middle", fill=paint["muted"]))
    y = (top + bottom) / 2
    parts.append(
        text(
            10,
            y,
            "head",
            size=11.5,
            text_anchor="middle",
            fill=paint["muted"],
            transform=f"rotate(-90 10 {num(y)})",
        )
    )
    return parts


def _colour_bar(largest: float, width: float, y: float, paint: Paint) -> Markup:
    long = min(260.0, width - 60)
    start = width - long - 22
    each = long / (2 * _SHADES)
    parts = [el("rect", x=start, y=y, width=long, height=9, fill=paint["raised"])]
    for i in range(-_SHADES, _SHADES):
        shade = (i + 1 if i >= 0 else -i) / _SHADES
        colour = paint["vector" if i >= 0 else "against"]
        parts.append(
            el(
                "rect",
                x=start + (i + _SHADES) * each,
                y=y,
                width=each,
                height=9,
                fill=colour,
                fill_opacity=shade,
                shape_rendering="crispEdges",
            )
        )
    for share in (-1.0, -0.25, 0.0, 0.25, 1.0):
        x = start + long / 2 * (1 + math.copysign(math.sqrt(abs(share)), share))
        label = show(share * largest, 3 if largest < 0.995 else 2, plus=True) if share else "0"
        parts.append(text(x, y + 23, label, size=10.5, text_anchor="middle", fill=paint["muted"]))
    return Markup("").join(parts)


def ranking(results: Mapping[str, Any], paint: Paint, width: float = 300) -> Drawing | None:
    """The strongest heads, one a line, with whiskers."""
    heads = top_heads(results)[:12]
    if not heads:
        return None
    left, right, row, top = 62.0, width - 52, 21.0, 22.0
    low = min([0.0, *(e.value if e.low is None else e.low for _, _, e in heads)])
    high = max([1e-6, *(e.value if e.high is None else e.high for _, _, e in heads)])
    xs = Scale((low, high), (left, right))
    bottom = top + row * len(heads) + 4
    parts = [text(0, 10, "Strongest heads (layer, head)", size=12, font_weight=600, fill=paint["ink"])]
    for value in ticks(low, high, 3):
        parts.append(el("line", x1=xs(value), x2=xs(value), y1=top, y2=bottom, stroke=paint["rule"]))
        label = f"{value:g}".replace("-", "\N{MINUS SIGN}")
        parts.append(text(xs(value), bottom + 14, label, size=10.5, text_anchor="middle", fill=paint["muted"]))
    for i, (layer, head, e) in enumerate(heads):
        y = top + (i + 0.5) * row
        colour = paint["vector" if e.value > 0 else "against"]
        marks = [title(f"layer {layer}, head {head}: {show_full(e, 4, plus=True)}")]
        marks.append(
            el(
                "line",
                x1=xs(0),
                x2=xs(e.value),
                y1=y,
                y2=y,
                stroke=colour,
                stroke_width=5,
                stroke_opacity=0.35,
            )
        )
        if e.low is not None and e.high is not None:
            marks.append(el("line", x1=xs(e.low), x2=xs(e.high), y1=y, y2=y, stroke=colour, stroke_width=1.4))
        marks.append(el("circle", cx=xs(e.value), cy=y, r=4.4, fill=colour))
        marks.append(text(left - 8, y + 4, f"({layer}, {head})", size=11.5, text_anchor="end", fill=paint["ink"]))
        marks.append(text(width - 2, y + 4, show(e.value, 3, plus=True), size=11.5, text_anchor="end", fill=paint["ink"]))
        parts.append(el("g", *marks))
    described = ", ".join(f"({layer}, {head}) {show(e.value, 3, plus=True)}" for layer, head, e in heads)
    return Drawing(
        Markup("").join(parts),
        width,
        bottom + 20,
        "Strongest heads",
        f"Layer and head with effect: {described}.",
    )
