"""The main tables and findings as Markdown, for a README, an issue or a model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import findings, tables
from .tables import Cell, Table
from .tables.main import main_tables
from .values import printable

_SPECIAL = re.compile(r"[\\`*|~#$]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def write_markdown(results: Mapping[str, Any]) -> str:
    """Findings and main tables as GitHub-flavoured Markdown; parts without data are left out.

    Strings from ``results`` are escaped, so that they show as they are and start no markup.
    """
    results = printable(results)
    parts = [f"# {escape(str(results.get('title') or 'Instruction vectors and forgetting'))}"]
    parts.append(escape(findings.subject(results)))
    if headline := findings.headline(results):
        parts.append("\n".join(f"- {escape(sentence)}" for sentence in headline))
    parts.extend(markdown_table(table) for table in main_tables(results))
    return "\n\n".join(parts) + "\n"


def write_summary(results: Mapping[str, Any]) -> str:
    """What a README has room for: findings, the course of forgetting and the steering table; of a grid its cells; verdicts."""
    results = printable(results)
    parts = ["\n".join(f"- {escape(sentence)}" for sentence in findings.headline(results))]
    demo = (tables.stages(results), tables.steering(results, "steering"))
    grid = (
        tables.compared(results),
        tables.beside(results),
        tables.above(results),
        tables.cells(results),
        tables.course(results),
    )
    diagnosis = (tables.verdicts(results), tables.repairs(results))
    parts.extend(markdown_table(table) for table in (*demo, *grid, *diagnosis) if table)
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(content: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    content = re.sub(r"[&<>]", lambda m: _ENTITIES[m.group()], " ".join(content.split()))
    return _SPECIAL.sub(lambda m: "\\" + m.group(), content)


def markdown_table(table: Table) -> str:
    """A table under a heading; intervals stand behind their values."""
    wide = max([len(table.columns), *(len(row) for row in table.rows)])
    heads = [escape(column) for column in table.columns] + [""] * (wide - len(table.columns))
    align = [":--" if i == 0 or not _numeric(table, i) else "--:" for i in range(wide)]
    lines = [f"### {escape(table.caption)}", "", _row(heads), _row(align)]
    lines += [_row([_cell(cell) for cell in row] + [""] * (wide - len(row))) for row in table.rows]
    if table.remark:
        lines += ["", escape(table.remark)]
    return "\n".join(lines)


def _numeric(table: Table, column: int) -> bool:
    return any(row[column].order is not None for row in table.rows if column < len(row))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    text = escape(f"{cell.text} {cell.note}".strip())
    return f"**{text}**" if cell.marked else text
