"""The tables that Markdown and LaTeX hold, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .against import against
from .arms import arms
from .beside import above, beside
from .cells import Table
from .compared import compared
from .diagnosis import conditions, repairs, verdicts
from .grid import cell_matrices, cells, course
from .run import seconds, summary
from .training import continual, matrices, stages
from .vectors import heads, hypothesis, recovered, steering


def main_tables(results: Mapping[str, Any]) -> list[Table]:
    """Every table that has something to show."""
    chat = steering(results, "steering_chat")
    found = [
        against(results),
        verdicts(results),
        repairs(results),
        conditions(results),
        compared(results),
        beside(results),
        above(results),
        arms(results, "ap"),
        arms(results, "in_context"),
        cells(results),
        course(results),
        *cell_matrices(results),
        stages(results),
        *matrices(results),
        continual(results),
        steering(results, "steering"),
        replace(chat, caption="First answer token, chat template") if chat else None,
        hypothesis(results),
        recovered(results),
        heads(results),
        summary(results),
        seconds(results),
    ]
    return [table for table in found if table]
