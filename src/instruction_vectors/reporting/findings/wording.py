"""Turns of phrase whose verbs follow from signs and intervals."""

from __future__ import annotations

from ..values import Estimate, show, show_full
from .courses import Course


def change(what: str, course: Course) -> str:
    """``what`` fell, rose, or shows no clear change, with the size and its interval."""
    gap = course.gap
    path = f"from {show(course.first.value)} to {show(course.last.value)}"
    if gap.bounded and not gap.sure:
        return f"{what} went {path}: no clear change ({show_full(gap, plus=True)})"
    if show(abs(gap.value)) == "0.00":
        return f"{what} stayed at {show(course.last.value)}"
    verb, size = ("rose", gap) if gap.value > 0 else ("fell", -gap)
    unknown = "" if gap.bounded else " (no interval)"
    return f"{what} {verb} by {show_full(size)}{unknown}, {path}"


def against(name: str, other: str, gap: Estimate) -> str:
    """How ``name`` stands against ``other``, given their difference."""
    if gap.bounded and not gap.sure:
        return f"{name} and {other} cannot be told apart (difference {show_full(gap, plus=True)})"
    if float(f"{abs(gap.value):.2f}") == 0:
        return f"{name} and {other} are level"
    where = "above" if gap.value > 0 else "below"
    size = gap if gap.value > 0 else -gap
    return f"{name} ends {show_full(size)} {where} {other}{'' if gap.bounded else ' (no interval)'}"


def capital(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]


def plural(count: int) -> str:
    """An s, or nothing for one."""
    return "" if count == 1 else "s"
