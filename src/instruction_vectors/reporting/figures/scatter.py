"""Two measures against each other: points with intervals both ways, joined where they follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..palette import Paint
from ..svg import Drawing, Scale, el, labelled_ticks, num, shorten, text, title
from ..values import Estimate, show, show_full
from .lanes import glyph, legend

_LEFT, _RIGHT = 46.0, 14.0


@dataclass(frozen=True)
class Point:
    """What it is, and its two measures."""

    label: str
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class Trail:
    """Points that follow one another, or one alone; ``shape`` as in ``lanes.Mark``."""

    points: Sequence[Point]
    shape: str
    colour: str


def scatter(
    name: str,
    axes: tuple[str, str],
    trails: Sequence[Trail],
    key: Sequence[tuple[str, str, str]],
    paint: Paint,
    *,
    width: float = 464,
    height: float = 330,
    front: bool = False,
    even: bool = False,
) -> Drawing:
    """The plot. ``key`` lists (label, shape, colour); ``axes`` names x and y.

    ``front`` joins the points that no other beats in both measures; ``even`` draws the line where both are equal, on a
    common scale.
    """
    points = [point for trail in trails for point in trail.points]
    domains = [_domain([p.x for p in points]), _domain([p.y for p in points])]
    if even:
        domains = [(min(low for low, _ in domains), max(high for _, high in domains))] * 2
    head, top = legend(key, width, paint)
    top, bottom = top + 14, top + height
    xs, ys = Scale(domains[0], (_LEFT, width - _RIGHT)), Scale(domains[1], (bottom, top))
    parts = [head, *_axes(axes, xs, ys, width, paint)]
    if even:
        (low, high), dashes = domains[0], "4 4"
        parts.append(
            el("path", d=_line([(xs(low), ys(low)), (xs(high), ys(high))]), stroke=paint["rule"], stroke_dasharray=dashes)
        )
    if front:
        edge = [(xs(p.x.value), ys(p.y.value)) for p in unbeaten(points)]
        parts.append(el("path", d=_line(edge), fill="none", stroke=paint["muted"], stroke_width=1.25, stroke_dasharray="5 3"))
    parts += [part for trail in trails for part in _trail(trail, axes, xs, ys, paint)]
    described = "; ".join(f"{p.label}: {axes[0]} {show(p.x.value)}, {axes[1]} {show(p.y.value)}" for p in points)
    return Drawing(Markup("").join(parts), width, bottom + 40, name, f"{axes[1]} against {axes[0]}. {described}.")


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """The points that no other exceeds in one measure without falling behind in the other, by x."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.x.value, -p.y.value)):
        if not found or point.y.value > found[-1].y.value:
            found.append(point)
    return found[::-1]


def _domain(values: Sequence[Estimate]) -> tuple[float, float]:
    low = min(v.value if v.low is None else v.low for v in values)
    high = max(v.value if v.high is None else v.high for v in values)
    room = max(0.06 * (high - low), 0.02)
    return low - room, high + room


def _axes(axes: tuple[str, str], xs: Scale, ys: Scale, width: float, paint: Paint) -> list[Markup]:
    (left, right), (bottom, top) = xs.range, ys.range
    parts = []
    for value, label in labelled_ticks(*xs.domain):
        parts.append(el("line", x1=xs(value), x2=xs(value), y1=top, y2=bottom, stroke=paint["rule"]))
        parts.append(text(xs(value), bottom + 16, label, size=11, text_anchor="middle", fill=paint["muted"]))
    for value, label in labelled_ticks(*ys.domain):
        parts.append(el("line", x1=left, x2=right, y1=ys(value), y2=ys(value), stroke=paint["rule"]))
        parts.append(text(left - 6, ys(value) + 4, label, size=11, text_anchor="end", fill=paint["muted"]))
    across, up = (shorten(label, width - _LEFT, 11.5) for label in axes)
    parts.append(text((left + right) / 2, bottom + 33, across, size=11.5, text_anchor="middle", fill=paint["muted"]))
    middle = (top + bottom) / 2
    turned = f"rotate(-90 11 {num(middle)})"
    return [*parts, text(11, middle, up, size=11.5, text_anchor="middle", fill=paint["muted"], transform=turned)]


def _trail(trail: Trail, axes: tuple[str, str], xs: Scale, ys: Scale, paint: Paint) -> list[Markup]:
    colour = paint[trail.colour]
    places = [(xs(p.x.value), ys(p.y.value)) for p in trail.points]
    parts = [el("path", d=_line(places), fill="none", stroke=colour, stroke_width=2, stroke_opacity=0.5)] if places[1:] else []
    for point, (x, y) in zip(trail.points, places, strict=True):
        marks = [title(f"{point.label}: {axes[0]} {show_full(point.x, 3)}, {axes[1]} {show_full(point.y, 3)}")]
        if point.x.low is not None and point.x.high is not None:
            marks.append(el("path", d=_line([(xs(point.x.low), y), (xs(point.x.high), y)]), stroke=colour, stroke_opacity=0.4))
        if point.y.low is not None and point.y.high is not None:
            marks.append(el("path", d=_line([(x, ys(point.y.low)), (x, ys(point.y.high))]), stroke=colour, stroke_opacity=0.4))
        first = point is trail.points[0] and len(places) > 1
        marks += [
            el("circle", cx=x, cy=y, r=10, fill="transparent"),
            glyph("ring" if first else trail.shape, x, y, colour, paint["surface"]),
        ]
        parts.append(el("g", *marks))
    return parts


def _line(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{num(x)} {num(y)}" for x, y in places)
