"""`iv report`: results as one page."""

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(run: Path) -> None:
    """Render RUN/results.json, or the finished cells of a grid, as RUN/report.html; an unfinished run shows what there is.

    \b
    Example:
      iv report runs/demo
    """
    from instruction_vectors.continual.gather import gather
    from instruction_vectors.files import read_json
    from instruction_vectors.reporting import write_report

    results = gather(run) if (run / "cells").is_dir() else read_json(run / "results.json")
    click.echo(write_report(results, run / "report.html"))
