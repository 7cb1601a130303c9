"""`iv train`: an adapter over one's own rows, guided or plain."""

import json
import os
import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import quiet


@click.command()
@click.option("--data", help="JSON lines with prompt and completion, or messages.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the adapter and its numbers."
)
@click.option("--model", help="Short name, folder or hub id.  [default: smollm2-135m-instruct]")
@click.option("--guided/--plain", default=None, help="Keep abilities by the vector, or train without it.  [default: guided]")
@click.option("--vector", help="auto (made from the rows), anchors, none, or the folder of a vector.  [default: auto]")
@click.option("--anchors", type=float, help="With --vector anchors: how many, as a share of the rows.  [default: 0.25]")
@click.option("--lora-rank", type=int, help="[default: 8]")
@click.option("--target-modules", help="Parted by commas; left out, PEFT chooses.")
@click.option("--epochs", type=float, help="[default: 3]")
@click.option("--learning-rate", type=float, help="[default: 3e-4]")
@click.option("--batch-size", type=int, help="Rows a step, over all processes.  [default: 8]")
@click.option("--accumulation", type=int, help="Micro-batches a step is cut into.  [default: 1]")
@click.option("--max-length", type=int, help="Tokens after which a row is cut.  [default: 1024]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the frozen weights.  [default: float32]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--forgetting", is_flag=True, default=None, help="Measure tasks that are not trained as it goes.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML of settings, named as these flags are (--plain is `vector: none`), and `guidance:` with any of IVGuidanceConfig.",
)
@click.option(
    "--teacher-cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of teacher states that runs share."
)
@click.option("--json", "as_json", is_flag=True, help="Print result.json to standard output.")
def train(out: Path, config: Path | None, guided: bool | None, teacher_cache: Path | None, as_json: bool, **flags: Any) -> None:
    """Train a LoRA adapter on rows of your own, guided so that the model keeps what it could do.

    Stop it with Ctrl-C; the same command goes on from the last checkpoint. A finished run is only read.

    \b
    Example:
      iv train --data rows.jsonl --out runs/mine --forgetting
      iv train --config train.yaml --out runs/other
    """
    if guided is False and flags["vector"] not in (None, "none"):
        raise click.UsageError("--plain trains without a vector: leave out --vector")
    settings = _settings(config, {**flags, "vector": "none" if guided is False else flags["vector"]})
    if guided and settings.get("vector") == "none":
        raise click.UsageError("--guided needs a vector: auto, or the folder of one")
    if settings.get("vector") != "anchors":
        options.refuse_unheard(("anchors",), "--vector anchors (and with --plain, which trains without any)")
    if settings.get("vector") == "none":
        options.refuse_unheard(("teacher_cache",), "a vector")
    quiet()
    from instruction_vectors.progress import console, track
    from instruction_vectors.training.finetune import fine_tune
    from instruction_vectors.training.recipe import Recipe

    recipe, screen = Recipe.of(settings), console()
    if not (out / "result.json").exists():
        command = " ".join(shlex.quote(word) for word in sys.argv[1:])
        screen.print(
            f"on N devices: torchrun --nproc_per_node N -m instruction_vectors.cli {command}", markup=False, soft_wrap=True
        )
    with ExitStack() as stack:
        bars: list[Any] = []

        def progress(done: int, steps: int) -> None:
            if not bars:
                bars.append(stack.enter_context(track("Training", steps, "step")))
            bars[0](done)

        say = partial(screen.print, markup=False, soft_wrap=True)
        result = fine_tune(recipe, out, teacher_cache=teacher_cache, say=say, progress=progress)
    if os.environ.get("RANK", "0") == "0":
        click.echo(json.dumps(result) if as_json else f"{out / 'adapter'}\n{out / 'result.json'}")


def _settings(config: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The file's settings, flags above them."""
    from instruction_vectors.files import read_yaml

    return {**(read_yaml(config) if config else {}), **{name: value for name, value in flags.items() if value is not None}}
