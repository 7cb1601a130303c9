"""Colours: one table for page and figures, light and dark (Okabe & Ito's set, safe for colour-blind readers)."""

from __future__ import annotations

from collections.abc import Mapping

Paint = Mapping[str, str]
"""Colour name to what is written into the SVG: ``var(--name)`` in the page, a literal in a file of its own."""

_COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f7f7f4", "#11151b"),
    "surface": ("#ffffff", "#181d25"),
    "raised": ("#f2f3f1", "#202731"),
    "ink": ("#1b2430", "#e7ebf0"),
    "muted": ("#586472", "#a0abb8"),
    "rule": ("#dfe3e6", "#2f3843"),
    "link": ("#00639c", "#6cc0f0"),
    "sequential": ("#d55e00", "#f0853a"),
    "sequential-text": ("#a94900", "#ff9c57"),
    "guided": ("#0072b2", "#56b4e9"),
    "guided-text": ("#00639c", "#74c4f2"),
    "base": ("#7d8791", "#8e99a5"),
    "base-text": ("#586472", "#a0abb8"),
    "vector": ("#009e73", "#2cc79b"),
    "vector-text": ("#00734f", "#3fd6ab"),
    "other": ("#e69f00", "#f0b73c"),
    "other-text": ("#8a5a00", "#f0b73c"),
    "against": ("#b5508c", "#dd8fba"),
    "against-text": ("#97386f", "#e6a5c8"),
    "extra": ("#8a6d00", "#d9c74a"),
    "extra-text": ("#705800", "#e0d05e"),
}

LIVE: Paint = {name: f"var(--{name})" for name in _COLOURS}
LIGHT: Paint = {name: light for name, (light, _) in _COLOURS.items()}

_ARMS = {"M0": "base", "sequential": "sequential", "iv_guided": "guided"}
_FURTHER_ARMS = ("vector", "against", "other", "extra")


def arm_colour(arm: str, further: int = 0) -> str:
    """Colour name of an arm; arms without a colour of their own take turns, by ``further``."""
    return _ARMS.get(arm, _FURTHER_ARMS[further % len(_FURTHER_ARMS)])


def arm_colours(arms: list[str]) -> dict[str, str]:
    """Colour name of each arm, no two alike as far as the palette goes."""
    unknown = [arm for arm in arms if arm not in _ARMS]
    return {arm: arm_colour(arm, unknown.index(arm) if arm in unknown else 0) for arm in arms}


def variables(*, dark: bool) -> str:
    """The colours as CSS custom properties, each also as ``--name-rgb`` for tints."""
    lines = []
    for name, pair in _COLOURS.items():
        colour = pair[1 if dark else 0]
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        lines.append(f"--{name}:{colour};--{name}-rgb:{red} {green} {blue};")
    return "".join(lines)
