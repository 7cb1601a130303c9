"""The stages of a diagnosed sequence as curves: a panel a measure, trained and untouched tasks told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..palette import Paint
from ..svg import Drawing
from ..values import Estimate, estimate, estimate_of, mapping, mean, sequence
from .lines import Line, domain_of, panel

_PANELS = {
    "instruction": ("Instruction form", "options ranked, corrected for chance"),
    "knowledge": ("Knowledge form", "the same facts as bare clozes"),
    "in_context": ("Few-shot", "whole answers written out"),
    "cosine": ("Cosine of the vectors", "of the base's and the stage's"),
}
_KINDS = ((False, "untouched", "guided"), (True, "trained", "sequential"))


def stage_curves(results: Mapping[str, Any], paint: Paint) -> dict[str, Drawing]:
    """A panel a measure, a curve each for untouched and trained tasks; each point is the mean over tasks."""
    scores = [mapping(raw) for raw in sequence(mapping(results.get("diagnosis")).get("stages"))]
    stages = list(dict.fromkeys(str(score.get("stage")) for score in scores))
    panels = {}
    for measure, titles in _PANELS.items():
        lines = [
            Line(label, points, colour, square=trained)
            for trained, label, colour in _KINDS
            if any(points := [_point(scores, stage, measure, trained) for stage in stages])
        ]
        if lines:
            panels[measure] = panel(*titles, stages, lines, domain_of(lines), paint)
    return panels


def _point(scores: Sequence[Mapping[str, Any]], stage: str, measure: str, trained: bool) -> Estimate | None:
    mine = [score for score in scores if str(score.get("stage")) == stage and bool(score.get("trained")) == trained]
    found = [value for score in mine if (value := _value(score, measure))]
    return mean(found) if found else None


def _value(score: Mapping[str, Any], measure: str) -> Estimate | None:
    if measure == "cosine":
        return estimate(score.get("cosine"))
    return estimate_of(mapping(score.get("forms")).get(measure))
