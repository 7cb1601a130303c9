"""The report's sections: what is shown, how to read it, what was found; parts without data are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from . import figures, findings, tables
from .contents import METRICS
from .figures.effect_maps import effect_maps
from .figures.stage_curves import stage_curves
from .palette import LIVE
from .svg import Drawing
from .tables import Table, inside, worse
from .values import mapping, part_of

_WIDE, _NARROW = 912.0, 360.0
_MOST_CELLS, _MOST_MATRICES = 200, 24
"""Cells of a grid that the page shows one by one, and with all their scores; it stays small, Markdown and LaTeX hold all."""


@dataclass(frozen=True)
class Block:
    """A figure or tables, how to read them, and what was found; each panel has a sentence of its own (or none)."""

    heading: str = ""
    reading: str = ""
    found: list[str] = field(default_factory=list)
    panels: list[tuple[Markup, str]] = field(default_factory=list)
    wide: Markup | None = None
    narrow: Markup | None = None
    tables: list[Table] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)

    @property
    def shows(self) -> bool:
        """True if there is a figure or a table."""
        return bool(self.panels or self.wide or self.tables or self.folded)


@dataclass(frozen=True)
class Section:
    """A heading, the question it answers and its blocks."""

    ident: str
    heading: str
    question: str
    blocks: list[Block]


def build(results: Mapping[str, Any]) -> tuple[list[Section], list[str]]:
    """The sections that have something to show, and the headings of those that do not."""
    sections = [
        Section("diagnosis", "What kind of loss", _DIAGNOSIS, _diagnosis(results)),
        Section("grid", "Methods over task sequences", _GRID, _grid(results)),
        Section("forgetting", "What was forgotten", _FORGETTING, _forgetting(results)),
        Section("knowing", "Knowing and doing", _KNOWING, _knowing(results)),
        Section("heads", "Where the instruction lives", _HEADS, _heads(results)),
        Section("steering", "What the vector does", _STEERING, _steering(results)),
        Section("hypothesis", "Instruction, vector, or both", _HYPOTHESIS, _hypothesis(results)),
        Section("against", "Beside another run", "", [Block(tables=_against(results))]),
        Section("run", "How it was run", "", _run(results)),
    ]
    shown = [Section(s.ident, s.heading, s.question, [b for b in s.blocks if b.shows]) for s in sections]
    # A diagnosis or a grid stands alone: a run that has none is not unfinished, nor are they without a run.
    alone = any(mapping(results.get(name)) for name in ("diagnosis", "grid"))
    missing = [] if alone else [s.heading for s in shown if not s.blocks and s.ident not in ("against", "diagnosis", "grid")]
    return [s for s in shown if s.blocks], missing


_DIAGNOSIS = (
    "A score that fell does not say whether the ability is gone or only covered. Repairs that leave the tuned weights as they "
    "are, each beside controls, can tell."
)
_GRID = (
    "Learning a sequence of tasks is a trade: what is learnt (AP), what of it is kept (FP), and what becomes of abilities that "
    "were never trained (IP, GP). A method is better only where it gives up less of one for the same of the other."
)
_FORGETTING = (
    "Training on new tasks can cost a model other abilities. The tasks scored here were never trained, so a fall is "
    "forgetting; the last panel shows what was learnt in exchange."
)
_KNOWING = (
    "A model that answers wrongly may have lost the fact, or only the habit of doing what it is told. Each question is "
    "asked twice over the same options: bare, as a sentence to complete (knowledge form), and under an instruction "
    "(instruction form)."
)
_HEADS = (
    "Given a prompt that hides the task, one attention head at a time is handed the output it has on average when the "
    "instruction is there. Heads that lift the right answer are taken to carry the instruction; their outputs "
    "together are the instruction vector."
)
_STEERING = (
    "The vector is added while the model answers. If it carries the instruction, the task's own vector should help, "
    "and another task's vector or a random one of the same length should not."
)
_HYPOTHESIS = (
    "If training only covers an ability, the model from before training with instruction and vector should do best, "
    "and adding the vector to a trained model should give back what was lost."
)


def _diagnosis(results: Mapping[str, Any]) -> list[Block]:
    found = [tables.verdicts(results), worse.changes(results), tables.repairs(results), tables.conditions(results)]
    kinds = [
        _repairs(results),
        Block(tables=[table for table in found if table]),
        _stages(results),
        *_plane(results, "diagnosis"),
    ]
    return [*kinds, _inside(results)]


def _repairs(results: Mapping[str, Any]) -> Block:
    return _lanes_block(
        "What brings it back",
        "From the ring to the orange dot is what the fine-tune took. A green square near the ring, with the crosses left behind, "
        "is an ability that is covered and not gone; a square that stays with the dot does not tell whether it is gone.",
        {w: figures.repairs(results, LIVE, w) for w in (_WIDE, _NARROW)},
        [],
        "repairs",
    )


def _inside(results: Mapping[str, Any]) -> Block:
    maps, table = effect_maps(results, LIVE, _NARROW), inside.traces(results)
    return Block(
        "Where it happened",
        "Each cell is one head, layers left to right; green lifts the probability of the right answer, purple lowers it. Each "
        "map has a colour scale of its own.",
        panels=[(d.inline(f"map-{i}"), f"{name[:1].upper()}{name[1:]}.") for i, (name, d) in enumerate(maps.items())],
        tables=[table] if table else [],
    )


def _stages(results: Mapping[str, Any]) -> Block:
    drawings, table = stage_curves(results, LIVE), worse.stage_scores(results)
    return Block(
        "Stage by stage",
        "Each point is a stage of the sequence, left to right, the mean over the tasks that were trained on and over those that "
        "were not. The cosine says how far the tasks' vectors have turned from the base's.",
        panels=[(d.inline(f"stages-{measure}"), "") for measure, d in drawings.items()],
        folded=[table] if table else [],
    )


def _against(results: Mapping[str, Any]) -> list[Table]:
    return [table] if (table := tables.against(results)) else []


def _grid(results: Mapping[str, Any]) -> list[Block]:
    drawings = figures.fronts(results, LIVE)
    front = Block(
        reading="Each point is a cell: to the right more is learnt, upwards more is kept. The dashed line joins the cells that "
        "no other beats in both; a method is worth its cost only where it moves that line.",
        panels=[(d.inline(f"front-{i}"), "") for i, d in enumerate(drawings.values())],
    )
    arms = [table for measure in ("ap", "in_context") if (table := tables.arms(results, measure))]
    cells = (tables.cells(results, _MOST_CELLS), tables.course(results, _MOST_CELLS))
    found = [table for table in (tables.compared(results), tables.beside(results), tables.above(results), *arms, *cells) if table]
    matrices = tables.cell_matrices(results)
    every = Block(
        f"Every task at every stage{part_of(_MOST_MATRICES, len(matrices), 'cells')}",
        "Rows are tasks, columns are stages; the outlined cell is the stage that trained the task. To its right "
        "stands how much of it was kept, to its left what was there before its turn.",
        folded=matrices[:_MOST_MATRICES],
    )
    return [front, Block(tables=found), every, *_plane(results, "grid")]


def _plane(results: Mapping[str, Any], part: str) -> list[Block]:
    """The plane of the two forms for one part of the results."""
    drawing = figures.forms({part: results.get(part)}, LIVE)
    reading = (
        "Rings are before training, filled marks after the last task. A fall straight down keeps what is known and loses what is "
        "done on request; on the dashed line both forms are equal."
    )
    return [Block("Knowledge against instruction", reading, panels=[(drawing.inline(f"plane-{part}"), "")])] if drawing else []


def _curves_table(results: Mapping[str, Any]) -> list[Table]:
    return [table] if (table := tables.stages(results)) else []


def _forgetting(results: Mapping[str, Any]) -> list[Block]:
    drawings = figures.curves(results, LIVE)
    curves = Block(
        reading="Each point is a stage of training, left to right; bands are intervals. A line that falls is forgetting.",
        panels=[(d.inline(f"curve-{m}"), findings.curve(results, m)) for m, d in drawings.items()],
        folded=_curves_table(results),
    )
    blocks = [curves]
    for metric in ("in_context", "zero_shot"):
        table = tables.per_task(results, metric)
        blocks.append(
            _lanes_block(
                f"Task by task, {METRICS[metric]}",
                "Each row is a task; the grey ring is the model before training, the filled marks are where training left it. "
                "At the right stand the values, before → after.",
                {w: figures.per_task(results, LIVE, w, metric) for w in (_WIDE, _NARROW)},
                [table] if table else [],
                f"tasks-{metric}",
            )
        )
    metrics = tables.continual(results)
    blocks.append(
        Block(
            heading="The trained tasks one by one",
            reading="Rows are tasks, columns are stages; the outlined cell is the stage that trained the task. To its "
            "right stands how much of it was kept.",
            tables=tables.matrices(results) + ([metrics] if metrics else []),
        )
    )
    return blocks


def _lanes_block(
    heading: str,
    reading: str,
    by_width: Mapping[float, Drawing | None],
    folded: list[Table],
    ident: str,
    found: list[str] | None = None,
) -> Block:
    wide, narrow = by_width[_WIDE], by_width[_NARROW]
    return Block(
        heading=heading,
        reading=reading,
        found=found or [],
        wide=wide.inline(f"{ident}-w") if wide else None,
        narrow=narrow.inline(f"{ident}-n") if narrow else None,
        folded=folded,
    )


def _knowing(results: Mapping[str, Any]) -> list[Block]:
    drawings, found = figures.knowing_and_doing(results, LIVE), findings.knowledge(results)
    reading = (
        "0 is guessing, 1 is every question right. Where the coloured line falls away from the dashed one, the model "
        "still knows but no longer does."
    )
    by_task = [t for metric in ("instruction", "knowledge") if (t := tables.per_task(results, metric))]
    return [
        Block(
            reading=reading,
            panels=[(d.inline(f"knowing-{i}"), found.get(arm, "")) for i, (arm, d) in enumerate(drawings.items())],
            folded=by_task if drawings else [],
        ),
        *_plane(results, "forgetting"),
    ]


def _heads(results: Mapping[str, Any]) -> list[Block]:
    wide, narrow = (figures.heat_map(results, LIVE, width) for width in (_WIDE, _NARROW))
    rank = figures.ranking(results, LIVE, 400)
    table = tables.heads(results)
    return [
        Block(
            reading="Each cell is one head, layers left to right. Green lifts the probability of the right answer, purple "
            "lowers it (square-root colour scale, so that weak heads can be seen); outlined cells are the strongest heads.",
            found=findings.effects(results),
            wide=wide.inline("heat-w") if wide else None,
            narrow=narrow.inline("heat-n") if narrow else None,
            panels=[(rank.inline("rank"), "")] if rank else [],
            folded=[table] if table else [],
        )
    ]


def _steering(results: Mapping[str, Any]) -> list[Block]:
    blocks = []
    for section, heading in (("steering", "Plain template"), ("steering_chat", "Chat template")):
        found = [t for part in ("", "exact", "copying") if (t := tables.steering(results, section, part))]
        blocks.append(
            _lanes_block(
                heading if mapping(results.get("steering_chat")) else "",
                "Each row is a task with four lines: without the instruction, with it, and with each control vector. "
                "Grey is without a vector, green with the task's own; a long green bar to the right is a strong effect.",
                {w: figures.steering(results, LIVE, w, section) for w in (_WIDE, _NARROW)},
                found,
                section,
                findings.steering(results, section),
            )
        )
    return blocks


def _hypothesis(results: Mapping[str, Any]) -> list[Block]:
    grid, recovered = tables.hypothesis(results), tables.recovered(results)
    return [
        Block(
            reading="Rows are what the model is given, columns are models; the stronger the tint, the higher the accuracy.",
            found=findings.hypothesis(results),
            tables=[table for table in (grid, recovered) if table],
        )
    ]


def _run(results: Mapping[str, Any]) -> list[Block]:
    found = [
        tables.summary(results),
        tables.seconds(results),
        tables.flat(results, "config", "Settings"),
        tables.flat(results, "environment", "Environment"),
    ]
    why = mapping(results.get("config")).get("why")
    return [Block(found=[f"Why these settings: {why}"] if why else [], tables=[table for table in found if table])]
