"""`iv report`: results as one page."""

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another run's folder, to stand beside it."
)
@click.option("--markdown", is_flag=True, help="Also write the tables as RUN/report.md.")
@click.option("--latex", is_flag=True, help="Also write the tables as RUN/report.tex.")
@click.option("--json", "as_json", is_flag=True, help="Print the files' names as JSON.")
def report(run: Path, against: Path | None, markdown: bool, latex: bool, as_json: bool) -> None:
    """Render RUN/results.json, or the finished cells of a grid, as RUN/report.html; an unfinished run shows what there is.

    \b
    Example:
      iv report runs/demo
      iv report runs/demo --markdown --latex
    """
    from instruction_vectors.cli.screen import waiting
    from instruction_vectors.files import write_atomic
    from instruction_vectors.reporting import tables, write_latex, write_markdown, write_report

    # The cells of a large grid are compared for seconds.
    with waiting(f"Reading {run} and writing its report"):
        results, raw = _read(run)
        if against:
            results = {**results, "against": {"name": str(against), "results": _read(against)[0]}}
            if tables.against(results) is None:
                click.echo(f"iv: {run} and {against} have no number in common, so none stand side by side", err=True)
        written = {"html": write_report(results, run / "report.html", raw=raw)}
        for kind, wanted, render in (("md", markdown, write_markdown), ("tex", latex, write_latex)):
            if wanted:
                written[kind] = run / f"report.{kind}"
                write_atomic(written[kind], render(results))
    names = {kind: str(path) for kind, path in written.items()}
    click.echo(json.dumps(names) if as_json else "\n".join(names.values()))


def _read(run: Path) -> tuple[dict[str, Any], list[str]]:
    """What a run's folder holds, and the files it comes from."""
    from instruction_vectors.continual.gather import gather
    from instruction_vectors.errors import DataError
    from instruction_vectors.files import read_json

    if (run / "cells").is_dir():
        return gather(run), [str(path.relative_to(run)) for path in sorted((run / "cells").glob("*/*/result.json"))]
    results = read_json(run / "results.json")
    if not isinstance(results, dict):
        raise DataError(f"{run / 'results.json'}: expected an object, got {type(results).__name__}")
    return results, ["results.json"]
