"""A tiny SVG builder: elements that escape what they are given, scales, ticks, and drawings that can be composed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from .palette import LIGHT
from .values import show

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")


def el(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element. Children that are not Markup are escaped; attribute names use ``_`` for ``-``; None is left out."""
    parts = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is None:
            continue
        if not _NAME.match(name):
            raise ValueError(f"not an attribute name: {name!r}")
        parts.append(f'{name}="{escape(value if isinstance(value, str) else num(value))}"')
    if not _NAME.match(tag):
        raise ValueError(f"not an element name: {tag!r}")
    opened = " ".join(parts)
    body = Markup("").join(children)
    return Markup(f"<{opened}>{body}</{tag}>") if children else Markup(f"<{opened}/>")


def num(value: float) -> str:
    """A coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text(x: float, y: float, content: str, *, size: float = 12, **attributes: str | float | None) -> Markup:
    """A text element."""
    return el("text", content, x=x, y=y, font_size=size, **attributes)


def title(content: str) -> Markup:
    """What is shown when the pointer rests on the parent element."""
    return el("title", content)


@dataclass(frozen=True)
class Scale:
    """Linear map from ``domain`` to ``range`` (both as (from, to))."""

    domain: tuple[float, float]
    range: tuple[float, float]

    def __call__(self, value: float) -> float:
        """Position of a value."""
        (a, b), (p, q) = self.domain, self.range
        return p + (value - a) / (b - a) * (q - p) if b != a else (p + q) / 2


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between low and high, some ``about`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def decimals(values: Sequence[float]) -> int:
    """As many as tell every one of some round numbers exactly, 4 at most."""
    return next((count for count in range(1, 4) if all(abs(round(v, count) - v) < 1e-9 for v in values)), 4)


def labelled_ticks(low: float, high: float, about: int = 5) -> list[tuple[float, str]]:
    """``ticks``, each with its value as text, all to as many decimals."""
    places = ticks(low, high, about)
    return [(place, show(place, decimals(places))) for place in places]


def shorten(content: str, width: float, size: float = 12) -> str:
    """The text cut to about ``width`` pixels at a font size, with an ellipsis where something was cut."""
    fits = max(2, int(width / (size * 0.56)))
    return content if len(content) <= fits else content[: fits - 1] + "\N{HORIZONTAL ELLIPSIS}"


def wrap(content: str, width: float, size: float = 12, lines: int = 2, *, breaks: str = r"(?<=[-_ /])") -> list[str]:
    """The text broken at separators into at most ``lines`` lines of about ``width`` pixels."""
    fits = max(2, int(width / (size * 0.56)))
    pieces = re.split(breaks, content)
    if lines == 2 and len(content) > fits and len(pieces) > 1:
        halves = (["".join(pieces[:i]), "".join(pieces[i:])] for i in range(1, len(pieces)))
        return [shorten(half.rstrip(" "), width, size) for half in min(halves, key=lambda pair: max(map(len, pair)))]
    out = [""]
    for piece in pieces:
        if out[-1] and len(out[-1]) + len(piece.rstrip()) > fits and len(out) < lines:
            out.append(piece)
        else:
            out[-1] += piece
    return [shorten(line.rstrip(" "), width, size) for line in out]


@dataclass(frozen=True)
class Drawing:
    """An SVG fragment with its size and its description in words; ``body`` starts at (0, 0)."""

    body: Markup
    width: float
    height: float
    name: str
    description: str

    def inline(self, ident: str) -> Markup:
        """An ``<svg>`` for an HTML page; ``ident`` must be unique in the page."""
        return el(
            "svg",
            el("title", self.name, id=f"{ident}-t"),
            el("desc", self.description, id=f"{ident}-d"),
            self.body,
            viewBox=f"0 0 {num(self.width)} {num(self.height)}",
            role="img",
            aria_labelledby=f"{ident}-t {ident}-d",
            style=f"max-width:{num(self.width * 1.25)}px",
        )

    def standalone(self, heading: str, subheading: str = "", margin: float = 24) -> str:
        """A complete SVG file on a light card of its own, readable on any background."""
        lines = wrap(subheading, self.width, 13, 3, breaks=r"(?<= )") if subheading else []
        top = margin + 24 + 19 * len(lines) + (14 if lines else 8)
        width, height = self.width + 2 * margin, top + self.height + margin
        card = el(
            "rect",
            x=0.5,
            y=0.5,
            width=width - 1,
            height=height - 1,
            rx=10,
            fill=LIGHT["surface"],
            stroke=LIGHT["rule"],
        )
        head = text(margin, margin + 16, shorten(heading, self.width, 18), size=18, fill=LIGHT["ink"], font_weight=600)
        sub = [text(margin, margin + 38 + 19 * i, s, size=13, fill=LIGHT["muted"]) for i, s in enumerate(lines)]
        svg = el(
            "svg",
            el("title", heading, id="t"),
            el("desc", self.description, id="d"),
            el("g", card, head, *sub, at(margin, top, self.body), font_family=FONT),
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {num(width)} {num(height)}",
            width=width,
            height=height,
            role="img",
            aria_labelledby="t d",
        )
        return str(svg) + "\n"


def at(x: float, y: float, *children: Markup) -> Markup:
    """Children moved to (x, y)."""
    return el("g", *children, transform=f"translate({num(x)} {num(y)})")


def grid(rows: Sequence[Sequence[Drawing]], name: str, gap: float = 28) -> Drawing:
    """Drawings side by side in rows, as one drawing."""
    parts: list[Markup] = []
    y = width = 0.0
    for row in rows:
        x = 0.0
        for drawing in row:
            parts.append(at(x, y, drawing.body))
            x += drawing.width + gap
        width = max(width, x - gap)
        y += max(drawing.height for drawing in row) + gap
    described = " ".join(f"{d.name}: {d.description}" for row in rows for d in row)
    return Drawing(Markup("").join(parts), width, y - gap, name, described)
