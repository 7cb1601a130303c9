"""Sentences that say what was measured. Every one follows from the numbers; none is written in advance.

A difference counts as clear when its interval does not hold 0; without an interval only its size is told.
"""

from .overview import cards, headline, subject, summary_value
from .training import curve, knowledge
from .vectors import effects, hypothesis, recovery, steering

__all__ = [
    "cards",
    "curve",
    "effects",
    "headline",
    "hypothesis",
    "knowledge",
    "recovery",
    "steering",
    "subject",
    "summary_value",
]
