"""`iv demo`: the main job end to end."""

import json
from pathlib import Path

import click

from instruction_vectors.cli.screen import quiet


@click.command()
@click.option("--size", default=1.0, show_default=True, help="How large; 1.0 takes about ten minutes on two cores.")
@click.option("--seed", default=0, show_default=True, help="What every draw depends on.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print results.json to standard output.")
def demo(size: float, seed: int, out: Path, as_json: bool) -> None:
    """The main job end to end on a real model: vectors, steering, forgetting with and without guidance.

    Stop it with Ctrl-C; the same command goes on from the last finished step.

    \b
    Example:
      iv demo --size 0.2 --out runs/quick
    """
    quiet()
    from instruction_vectors.continual.stage import StageConfig
    from instruction_vectors.demo import DemoConfig, run_demo

    results = run_demo(DemoConfig(size=size, seed=seed, stage=StageConfig(seed=seed)), out)
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo(f"{out / 'report.html'}\n{out / 'results.json'}")
