"""`iv bench`: grids of task sequences, methods and guidance."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import quiet


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML of settings, named as these flags are (--guided is `guides: [none, iv]`), and any other of a cell; "
    "those of a stage under `stage:`.",
)
@click.option("--benchmark", help="func, long, trace, superni, or shipped (the package's own tasks).")
@click.option(
    "--sequence", multiple=True, help="Order of the benchmark; with shipped, task names parted by commas. May be repeated."
)
@click.option("--methods", help="Parted by commas; sequential by default.")
@click.option("--guided", type=click.Choice(["no", "yes", "both"]), help="Without guidance, with it, or each method both ways.")
@click.option("--guides", help="Guidance and its controls by name, in place of --guided: none,iv,plain_kl,random,...")
@click.option("--seeds", help="Parted by commas.")
@click.option("--learning-rates", help="Parted by commas.")
@click.option("--epochs", help="Parted by commas.")
@click.option("--train-rows", type=int, help="Rows a task.")
@click.option("--test-rows", type=int, help="Rows a task of the score matrix.")
@click.option("--general", multiple=True, help="Also measure this set of eval/ in the data folder (arc_easy, ...); repeatable.")
@click.option("--batch-size", type=int, help="Rows a step.")
@click.option("--triangle", is_flag=True, default=None, help="Measure only the tasks learnt so far.")
@click.option("--model", help="Short name, hub id or folder.")
@click.option(
    "--data-dir", envvar="IV_DATA_DIR", type=click.Path(file_okay=False, path_type=Path), help="Where benchmarks are read from."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/bench"), show_default=True)
@click.option("--keep-stages", is_flag=True, help="Keep the adapters after every task of a finished cell, for `iv diagnose`.")
@click.option("--list-cells", is_flag=True, help="Print the cells' names and stop.")
@click.option("--cell", "only", help="Run this cell only (SLURM: one job a cell), or those of a shell pattern: '*/olora-*'.")
@click.option("--ray", "on_ray", is_flag=True, help="Run the cells on a local Ray cluster.")
@click.option("--ray-address", help="Run the cells on this Ray cluster.")
@click.option("--cpus", default=2.0, show_default=True, help="On Ray: processors a cell.")
@click.option("--gpus", default=0.0, show_default=True, help="On Ray: accelerators a cell.")
@click.option("--memory-gb", default=4.0, show_default=True, help="On Ray: memory a cell.")
@click.option("--watch", is_flag=True, help="Show how far the grid is, until it is finished; runs nothing.")
@click.option(
    "--replay",
    "replayed",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run the cell of this result.json again and compare.",
)
@click.option(
    "--bisect",
    "bisected",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Which task of this result.json, or checkpoint of this diagnosis.json, broke what.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    out: Path,
    data_dir: Path | None,
    keep_stages: bool,
    list_cells: bool,
    only: str | None,
    on_ray: bool,
    ray_address: str | None,
    cpus: float,
    gpus: float,
    memory_gb: float,
    watch: bool,
    replayed: Path | None,
    bisected: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Task sequences under many methods, guided or not: a grid of cells, each resumable.

    Finished cells are never run again; a cell that was stopped goes on from its last finished step. With --replay the
    exit status is 1 if a number differs.

    \b
    Example:
      iv bench --benchmark shipped --sequence english-french,sentiment-word --guided both --train-rows 100
      iv bench --benchmark func --sequence A --methods sequential,olora,ewc --guided both --seeds 0,1,2 --data-dir data
    """
    if not on_ray and not ray_address:
        options.refuse_unheard(("cpus", "gpus", "memory_gb"), "--ray")
    quiet()
    from instruction_vectors.continual import bench as grids

    if bisected:
        options.refuse_beside("--bisect", "bisected", "as_json")
        _bisect(bisected, as_json)
        return
    if replayed:
        options.refuse_beside("--replay", "replayed", "out", "data_dir", "as_json")
        from instruction_vectors.continual.replay import replay

        different = replay(replayed, out / "replay", data_dir)
        click.echo(json.dumps({"different": different}) if as_json else ", ".join(different) or "the same numbers")
        ctx.exit(1 if different else 0)
    cells = grids.cells_of(_bench_settings(flags))
    if only:
        cells = [cell for cell in cells if cell.name == only] or [cell for cell in cells if fnmatchcase(cell.name, only)]
        if not cells:
            raise click.BadParameter(f"no cell {only!r}; --list-cells names them", param_hint="--cell")
    if list_cells:
        names = [cell.name for cell in cells]
        click.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    if watch:
        from instruction_vectors.continual import watching

        watching.watch(cells, out) if not as_json else _print_paces(cells, out)
        return
    if on_ray or ray_address:
        from instruction_vectors.continual.ray_grid import run_on_ray

        needs: dict[str, Any] = {"cpus": cpus, "gpus": gpus, "memory_gb": memory_gb}
        results = run_on_ray(cells, out, data_dir, address=ray_address, keep_stages=keep_stages, **needs)
    else:
        from instruction_vectors.continual.grid import run_grid

        results = run_grid(cells, out, data_dir, keep_stages=keep_stages)
    click.echo(json.dumps(results) if as_json else "\n".join(str(out / "cells" / cell.name / "result.json") for cell in cells))


def _bench_settings(flags: dict[str, Any]) -> dict[str, Any]:
    from instruction_vectors.continual.bench import AXES, check_heard, overridden
    from instruction_vectors.files import read_yaml

    guided = {"no": ["none"], "yes": ["iv"], "both": ["none", "iv"], None: None}[flags.pop("guided")]
    path = flags.pop("config")
    settings: dict[str, Any] = read_yaml(path) if path else {}
    check_heard(settings)
    batch = flags.pop("batch_size")
    asked = {
        name: value.split(",") if name in AXES else value for name, value in flags.items() if value is not None and value != ()
    }
    if guided is not None and "guides" in asked:
        raise click.UsageError("--guided and --guides both say what guides; give one of them")
    if guided is not None:
        asked["guides"] = guided
    stage = settings.get("stage") or {}
    # Anything else under that name is refused where the cell is read.
    if batch is not None and isinstance(stage, dict):
        asked["stage"] = {"batch_size": batch}
    variants = settings.get("variants")
    varied = {name for each in variants for name in each if isinstance(each, dict)} if isinstance(variants, list) else set()
    if both := sorted(asked.keys() & varied):
        raise click.UsageError(
            f"the variants of {path} have {', '.join(both)} of their own: change them there, or choose cells with --cell"
        )
    return overridden(settings, asked)


def _print_paces(cells: Any, out: Path) -> None:
    from instruction_vectors.continual.pace import paces, seconds_left

    found = paces(cells, out)
    click.echo(json.dumps([{**_numbers(pace), "seconds_left": seconds_left(pace, found)} for pace in found]))


def _numbers(pace: Any) -> dict[str, Any]:
    done = pace.standing
    reached = {"cell": done.cell.name, "state": done.state, "steps": done.steps, "steps_in_all": pace.steps}
    return reached | {"steps_a_minute": pace.a_minute, "seconds": done.seconds}


def _bisect(path: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from instruction_vectors.continual.bisect import read_breaks

    breaks = read_breaks(path)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in breaks]))
        return
    for each in breaks:
        change = f"{each.drop:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"
        click.echo(f"{each.ability}: {change}, {'not broken' if each.after is None else f'broken by {each.after}'}")
