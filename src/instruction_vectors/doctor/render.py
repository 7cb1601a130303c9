"""Findings as JSON, as a table on a terminal, and as a few lines elsewhere."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instruction_vectors.doctor.finding import Finding

_COLOUR = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether work can go on: no finding is a problem."""
    return all(finding.status != "problem" for finding in findings)


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """`{"ok": bool, "checks": [{"name", "status", "found", "fix"}]}`."""
    checks = [{"name": f.name, "status": f.status, "found": f.found, "fix": f.fix} for f in findings]
    return {"ok": healthy(findings), "checks": checks}


def show(findings: Sequence[Finding], console: Console) -> None:
    """On a terminal everything, as a table; elsewhere only what is not ok, a line each; then the count."""
    if console.is_terminal:
        console.print(_table(findings))
    else:
        for finding in findings:
            if finding.status != "ok":
                line = f"{finding.status}: {finding.name}: {finding.found}. Fix: {finding.fix}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_summary(findings), markup=False, highlight=False, soft_wrap=True)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("check", "", "found", "fix", box=None, pad_edge=False)
    for finding in findings:
        # Text, not markup: what was found may hold brackets.
        state = Text(finding.status, style=_COLOUR[finding.status])
        table.add_row(Text(finding.name), state, Text(finding.found), Text(finding.fix))
    return table


def _summary(findings: Sequence[Finding]) -> str:
    number = {status: sum(finding.status == status for finding in findings) for status in _COLOUR}
    return f"{len(findings)} checks: {number['ok']} ok, {number['warning']} warnings, {number['problem']} problems"
