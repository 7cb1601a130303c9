"""The tables that Markdown and LaTeX hold, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..contents import METRICS
from .against import against
from .arms import arms
from .beside import above, beside
from .cells import Table
from .compared import compared
from .diagnosis import conditions, repairs, verdicts
from .grid import cell_matrices, cells, course
from .inside import traces
from .run import seconds, summary
from .training import continual, matrices, per_task, stages
from .vectors import heads, hypothesis, recovered, steering
from .worse import changes, stage_scores


def main_tables(results: Mapping[str, Any]) -> list[Table]:
    """Every table that has something to show."""
    found = [
        against(results),
        verdicts(results),
        changes(results),
        repairs(results),
        stage_scores(results),
        traces(results),
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
        *(per_task(results, metric) for metric in METRICS),
        *_steered(results),
        hypothesis(results),
        recovered(results),
        heads(results),
        summary(results),
        seconds(results),
    ]
    return [table for table in found if table]


def _steered(results: Mapping[str, Any]) -> Iterator[Table]:
    for section, template in (("steering", ""), ("steering_chat", ", chat template")):
        for part in ("", "exact", "copying"):
            if table := steering(results, section, part):
                yield replace(table, caption=table.caption + template)
