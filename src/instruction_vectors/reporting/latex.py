"""The main tables as LaTeX (booktabs), with the numbers of the HTML page and the Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .tables import Cell, Table
from .tables.main import main_tables
from .values import printable

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}", "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--", "\N{RIGHTWARDS ARROW}": r"$\rightarrow$", "\N{SUPERSCRIPT TWO}": "$^2$",
}  # fmt: skip
_FIND = re.compile("|".join(map(re.escape, _SPECIAL)))


def write_latex(results: Mapping[str, Any]) -> str:
    """The main tables as LaTeX, each a ``table`` with ``booktabs`` rules; parts without data are left out.

    Strings from ``results`` are escaped, so that none is read as a command. To be compiled with XeLaTeX or LuaLaTeX where
    names hold other than Latin letters.
    """
    lead = "% Needs \\usepackage{booktabs} and \\usepackage{textcomp}."
    return "\n\n".join([lead, *(latex_table(table) for table in main_tables(printable(results)))]) + "\n"


def escape(content: str) -> str:
    """Text that LaTeX sets as it is, on one line."""
    return _FIND.sub(lambda found: _SPECIAL[found.group()], " ".join(content.split()))


def latex_table(table: Table) -> str:
    """A table; intervals stand behind their values, what the page marks is bold."""
    wide = max([len(table.columns), *(len(row) for row in table.rows)])
    numeric = [any(i < len(row) and row[i].order is not None for row in table.rows) for i in range(wide)]
    columns = "".join("r" if i and right else "l" for i, right in enumerate(numeric))
    heads = [escape(column) for column in table.columns] + [""] * (wide - len(table.columns))
    body = [_row([_cell(cell) for cell in row] + [""] * (wide - len(row))) for row in table.rows]
    remark = [f"\\par\\smallskip\\footnotesize {escape(table.remark)}"] if table.remark else []
    return "\n".join([
        "\\begin{table}", "\\centering", f"\\caption{{{escape(table.caption)}}}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule",
        _row(heads), "\\midrule", *body, "\\bottomrule", "\\end{tabular}", *remark, "\\end{table}",
    ])  # fmt: skip


def _row(cells: list[str]) -> str:
    # The group keeps a cell that begins with a bracket from being read as the line end's option.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells) + " \\\\"


def _cell(cell: Cell) -> str:
    text = escape(f"{cell.text} {cell.note}".strip())
    return f"\\textbf{{{text}}}" if cell.marked else text
