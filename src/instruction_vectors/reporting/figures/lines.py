"""A panel of curves over the stages of training, with interval bands and labels at the line's end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..palette import Paint
from ..svg import Drawing, Scale, el, labelled_ticks, shorten, text, title, wrap
from ..values import Estimate, show, show_full

_LEFT, _RIGHT, _TOP, _BOTTOM = 30.0, 88.0, 48.0, 40.0


@dataclass(frozen=True)
class Line:
    """One curve: an estimate a stage (None where there is none), a colour name and a marker."""

    label: str
    points: Sequence[Estimate | None]
    colour: str
    square: bool = False
    dash: str | None = None


def domain_of(lines: Sequence[Line]) -> tuple[float, float]:
    """A range from 0 (or below, if a value is) to a round number above every value and interval."""
    found = [p for line in lines for p in line.points if p]
    low = min([0.0, *(p.value if p.low is None else p.low for p in found)])
    high = max([0.1, *(p.value if p.high is None else p.high for p in found)])
    step = 0.2 if high - low > 0.5 else 0.1
    floor = -step * int(-low / step + 0.999) if low < -0.005 else 0.0
    return floor, step * int(high / step + 0.999)


def panel(
    name: str,
    note: str,
    stages: Sequence[str],
    lines: Sequence[Line],
    domain: tuple[float, float],
    paint: Paint,
    *,
    width: float = 300,
    height: float = 276,
    size: int | None = None,
) -> Drawing:
    """Curves over stages. ``note`` is a second title line; ``size`` is the number of rows behind each point."""
    right = width - _RIGHT
    bottom = height - _BOTTOM
    inset = 10.0
    xs = Scale((0, max(len(stages) - 1, 1)), (_LEFT + inset, right - inset))
    ys = Scale(domain, (bottom, _TOP + 6))
    parts = [
        text(0, 14, shorten(name, width, 14), size=14, font_weight=600, fill=paint["ink"]),
        text(0, 31, shorten(note, width, 11.5), size=11.5, fill=paint["muted"]),
        *_axes(stages, domain, xs, ys, right, paint),
    ]
    for line in lines:
        parts.append(_band(line, xs, ys, paint))
    for line in lines:
        parts.append(_curve(line, stages, xs, ys, paint, size))
    parts.append(_end_labels(lines, ys, right, paint))
    described = "; ".join(f"{line.label}: {_in_words(line, stages)}" for line in lines)
    return Drawing(Markup("").join(parts), width, height, name, f"{note}. {described}.")


def _in_words(line: Line, stages: Sequence[str]) -> str:
    return ", ".join(f"{stage} {show(p.value)}" for stage, p in zip(stages, line.points, strict=False) if p)


def _axes(stages: Sequence[str], domain: tuple[float, float], xs: Scale, ys: Scale, right: float, paint: Paint) -> list[Markup]:
    parts = []
    for value, label in labelled_ticks(*domain):
        y = ys(value)
        strong = abs(value) < 1e-9
        parts.append(
            el(
                "line",
                x1=_LEFT,
                x2=right,
                y1=y,
                y2=y,
                stroke=paint["muted" if strong else "rule"],
                stroke_width=1,
            )
        )
        parts.append(text(_LEFT - 6, y + 4, label, size=11, text_anchor="end", fill=paint["muted"]))
    slot = (xs.range[1] - xs.range[0]) / max(len(stages) - 1, 1)
    bottom = ys.range[0]
    for i, stage in enumerate(stages):
        x = xs(i)
        parts.append(el("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, stroke=paint["muted"], stroke_width=1))
        labels = [str(i)] if slot < 40 and len(stages) > 6 else wrap(stage, slot - 3, 10.5, 2)
        tick = [el("tspan", part, x=x, dy=0 if row == 0 else 12.5) for row, part in enumerate(labels if i else ["M0"])]
        full = title(f"before training ({stage})" if i == 0 else f"after learning {stage}")
        parts.append(
            text(
                x,
                bottom + 17,
                Markup("").join([full, *tick]),
                size=10.5,
                text_anchor="middle",
                fill=paint["muted"],
            )
        )
    return parts


def _band(line: Line, xs: Scale, ys: Scale, paint: Paint) -> Markup:
    runs: list[list[tuple[float, float, float]]] = [[]]
    for i, p in enumerate(line.points):
        if p and p.low is not None and p.high is not None:
            runs[-1].append((xs(i), ys(p.low), ys(p.high)))
        elif runs[-1]:
            runs.append([])
    parts = []
    for run in runs:
        if len(run) > 1:
            ring = [(x, high) for x, _, high in run] + [(x, low) for x, low, _ in reversed(run)]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in ring)
            parts.append(el("polygon", points=points, fill=paint[line.colour], fill_opacity=0.15))
    return Markup("").join(parts)


def _curve(line: Line, stages: Sequence[str], xs: Scale, ys: Scale, paint: Paint, size: int | None) -> Markup:
    found = [(i, p) for i, p in enumerate(line.points) if p]
    path = " ".join(f"{xs(i):.1f},{ys(p.value):.1f}" for i, p in found)
    colour = paint[line.colour]
    parts = [
        el(
            "polyline",
            points=path,
            fill="none",
            stroke=colour,
            stroke_width=2.25,
            stroke_dasharray=line.dash,
            stroke_linejoin="round",
        )
    ]
    for i, p in found:
        x, y = xs(i), ys(p.value)
        stage = stages[i] if i < len(stages) else str(i)
        when = "before training" if i == 0 else f"after {stage}"
        rows = f", n = {size}" if size else ""
        tip = title(f"{line.label}, {when}: {show_full(p)}{rows}")
        shape = (
            el("rect", x=x - 3.4, y=y - 3.4, width=6.8, height=6.8, fill=colour, stroke=paint["surface"])
            if line.square
            else el("circle", cx=x, cy=y, r=3.9, fill=colour, stroke=paint["surface"])
        )
        parts.append(el("g", tip, el("circle", cx=x, cy=y, r=11, fill="transparent"), shape))
    return Markup("").join(parts)


def _end_labels(lines: Sequence[Line], ys: Scale, right: float, paint: Paint) -> Markup:
    """Name and last value beside each line's end, pushed apart where two ends are close."""
    ends = [(ys(last.value), line, last) for line in lines if (last := next((p for p in reversed(line.points) if p), None))]
    ends.sort(key=lambda end: end[0])
    gap = 29.0
    places: list[float] = []
    for y, _, _ in ends:
        places.append(max(y, places[-1] + gap) if places else max(y, ys.range[1] + 4))
    floor = ys.range[0] - 8
    for i in reversed(range(len(places))):
        places[i] = min(places[i], floor - gap * (len(places) - 1 - i))
    parts = []
    for place, (y, line, last) in zip(places, ends, strict=True):
        ink = paint[f"{line.colour}-text"]
        if abs(place - y) > 6:
            parts.append(el("line", x1=right - 5, y1=y, x2=right + 4, y2=place - 2, stroke=ink, stroke_opacity=0.5))
        label = shorten(line.label, _RIGHT - 8, 12.5)
        parts.append(text(right + 7, place - 1, label, size=11.5, font_weight=600, fill=ink))
        parts.append(text(right + 7, place + 13, show(last.value), size=11.5, fill=paint["ink"]))
    return Markup("").join(parts)
