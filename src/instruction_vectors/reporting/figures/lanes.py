"""Dot plots with a lane a task: each lane has tracks, a track joins marks, each mark has an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..palette import Paint
from ..svg import Drawing, Scale, at, el, labelled_ticks, shorten, text, title, wrap
from ..values import Estimate, show, show_full

MOST_LANES = 40
"""More make a picture that nobody reads; the tables have them all."""


@dataclass(frozen=True)
class Mark:
    """One value: ``shape`` is ring, dot, square, diamond, cross or tick."""

    label: str
    value: Estimate
    shape: str
    colour: str


@dataclass(frozen=True)
class Lane:
    """A row of the plot: marks by track, how thick a bar joins each track's marks (0: none), a remark at the right."""

    label: str
    tracks: Sequence[Sequence[Mark]]
    weights: Sequence[float]
    remark: str = ""
    strong: bool = False


def lanes(
    name: str,
    key: Sequence[tuple[str, str, str]],
    rows: Sequence[Lane],
    paint: Paint,
    *,
    width: float,
    axis: str,
    track_height: float = 15,
) -> Drawing:
    """The plot. ``key`` lists (label, shape, colour) for the line above it; ``axis`` names the horizontal axis."""
    narrow = width < 560
    left = 0.0 if narrow else min(230.0, 20 + 7.2 * max(len(row.label) for row in rows))
    right = width - (4 if narrow else 18 + 6.8 * max((len(row.remark) for row in rows), default=0))
    found = [mark.value for row in rows for track in row.tracks for mark in track]
    low = min([0.0, *(v.value if v.low is None else v.low for v in found)])
    high = max([1.0, *(v.value if v.high is None else v.high for v in found)])
    xs = Scale((low, high), (left + 8, right - 8))
    head, top = legend(key, width, paint)
    y = top + 14
    parts: list[Markup] = []
    for row in rows:
        lane, tall = _lane(row, xs, paint, width, left, track_height, narrow)
        if row.strong:
            parts.append(el("rect", x=0, y=y, width=width, height=tall, rx=5, fill=paint["raised"]))
        parts.append(at(0, y, lane))
        y += tall
    scale = []
    for value, label in labelled_ticks(low, high):
        x = xs(value)
        scale.append(el("line", x1=x, x2=x, y1=top + 8, y2=y + 2, stroke=paint["rule"], stroke_width=1))
        scale.append(text(x, y + 17, label, size=11, text_anchor="middle", fill=paint["muted"]))
    scale.append(text((left + right) / 2, y + 34, axis, size=11.5, text_anchor="middle", fill=paint["muted"]))
    body = Markup("").join([head, *_under(parts, scale)])
    described = "; ".join(f"{row.label}: {_in_words(row)}" for row in rows)
    return Drawing(body, width, y + 40, name, f"{axis}. {described}.")


def _under(lanes_: list[Markup], scale: list[Markup]) -> list[Markup]:
    """Shaded rows first, then the grid, then the marks."""
    shaded = [part for part in lanes_ if part.startswith("<rect")]
    return [*shaded, *scale, *(part for part in lanes_ if not part.startswith("<rect"))]


def _in_words(row: Lane) -> str:
    return ", ".join(f"{mark.label} {show(mark.value.value)}" for track in row.tracks for mark in track)


def _lane(
    row: Lane, xs: Scale, paint: Paint, width: float, left: float, track_height: float, narrow: bool
) -> tuple[Markup, float]:
    pad = 7.0
    header = 17.0 if narrow else 0.0
    tall = header + len(row.tracks) * track_height + 2 * pad
    middle = header + pad + len(row.tracks) * track_height / 2
    weight = 650 if row.strong else 500
    if narrow:
        room = width - 110
        label = text(6, 16, shorten(row.label, room, 12.5), size=12.5, font_weight=weight, fill=paint["ink"])
        remark = text(width - 6, 16, row.remark, size=12, text_anchor="end", fill=paint["muted"])
    else:
        label = text(
            left - 8,
            middle + 4,
            shorten(row.label, left - 12, 12),
            size=12.5,
            text_anchor="end",
            font_weight=weight,
            fill=paint["ink"],
        )
        remark = text(width - 8, middle + 4, row.remark, size=12, text_anchor="end", fill=paint["muted"])
    parts = [label, remark]
    for i, (track, thick) in enumerate(zip(row.tracks, row.weights, strict=True)):
        y = header + pad + (i + 0.5) * track_height
        if thick and len(track) > 1:
            parts.append(
                el(
                    "line",
                    x1=xs(track[0].value.value),
                    x2=xs(track[-1].value.value),
                    y1=y,
                    y2=y,
                    stroke=paint[track[-1].colour],
                    stroke_width=thick,
                    stroke_opacity=0.35,
                )
            )
        parts.extend(_mark(mark, xs, y, paint, row.label) for mark in track)
    return Markup("").join(parts), tall


def _mark(mark: Mark, xs: Scale, y: float, paint: Paint, lane: str) -> Markup:
    x = xs(mark.value.value)
    parts = [title(f"{lane}, {mark.label}: {show_full(mark.value)}")]
    if mark.value.low is not None and mark.value.high is not None:
        a, b = xs(mark.value.low), xs(mark.value.high)
        parts.append(el("line", x1=a, x2=b, y1=y, y2=y, stroke=paint[mark.colour], stroke_width=1.25))
    parts.append(el("circle", cx=x, cy=y, r=9, fill="transparent"))
    parts.append(glyph(mark.shape, x, y, paint[mark.colour], paint["surface"]))
    return el("g", *parts)


def glyph(shape: str, x: float, y: float, colour: str, surface: str) -> Markup:
    """A mark of some 9 px."""
    if shape == "ring":
        return el("circle", cx=x, cy=y, r=5, fill=surface, stroke=colour, stroke_width=1.8)
    if shape == "square":
        return el("rect", x=x - 4, y=y - 4, width=8, height=8, fill=colour, stroke=surface, stroke_width=1)
    if shape == "diamond":
        return el("path", d=f"M{x:.1f} {y - 5.2:.1f}l5.2 5.2-5.2 5.2-5.2-5.2z", fill=colour, stroke=surface)
    if shape == "cross":
        return el("path", d=f"M{x - 3.6:.1f} {y - 3.6:.1f}l7.2 7.2m0-7.2l-7.2 7.2", stroke=colour, stroke_width=2)
    if shape == "tick":
        return el("path", d=f"M{x:.1f} {y - 5:.1f}v10", stroke=colour, stroke_width=2.5)
    return el("circle", cx=x, cy=y, r=4.7, fill=colour, stroke=surface, stroke_width=1)


def legend(key: Sequence[tuple[str, str, str]], width: float, paint: Paint) -> tuple[Markup, float]:
    """The line above a plot, from (label, shape, colour), and its height."""
    parts: list[Markup] = []
    x, y = 6.0, 10.0
    for label, shape, colour in key:
        label = wrap(label, width - 30, 12, 1)[0]
        room = 22 + len(label) * 6.5
        if x > 6 and x + room > width:
            x, y = 6.0, y + 20
        parts.append(glyph(shape, x + 5, y, paint[colour], paint["surface"]))
        parts.append(text(x + 15, y + 4, label, size=12, fill=paint["ink"]))
        x += room + 8
    return Markup("").join(parts), y + 6
