"""The tables, built once and written as HTML by the template and as Markdown by ``write_markdown``."""

from .against import against
from .arms import arms
from .beside import above, beside
from .cells import Cell, Table
from .compared import compared
from .diagnosis import conditions, repairs, verdicts
from .grid import cell_matrices, cells, course
from .run import as_text, flat, seconds, summary
from .training import continual, continual_metrics, matrices, per_task, stages
from .vectors import heads, hypothesis, recovered, steering

__all__ = [
    "Cell",
    "Table",
    "against",
    "arms",
    "as_text",
    "above",
    "beside",
    "cell_matrices",
    "cells",
    "compared",
    "conditions",
    "continual",
    "continual_metrics",
    "course",
    "flat",
    "heads",
    "hypothesis",
    "matrices",
    "per_task",
    "recovered",
    "repairs",
    "seconds",
    "stages",
    "steering",
    "summary",
    "verdicts",
]
