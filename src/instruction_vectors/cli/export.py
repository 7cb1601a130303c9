"""`iv export`: a vector in another tool's format, or the model that a finished cell ended with."""

import json
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import open_model, quiet, waiting


@click.command()
@click.argument("source")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["gguf", "lm-eval", "model"]),
    required=True,
    help="Of a vector: llama.cpp, or lm-eval's `steered`. Of a finished cell of `iv bench`: its trained model in whole weights.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file; of a model the folder.")
@click.option("--layer", type=click.IntRange(min=0), help="After which layer it is added; the vector's own by default.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--model", help="For lm-eval; the model the vector was made from by default.")
@options.dtype
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def export(
    source: str, kind: str, out: Path, layer: int | None, scale: float, model: str | None, dtype: str, as_json: bool
) -> None:
    """Write SOURCE in another form: a vector (folder or hub id) for another tool, or a finished cell's model.

    A vector is summed, for tools that add one vector after one layer at every token. The model of a cell (its folder) is written
    in whole weights with its tokenizer, whatever method trained it: transformers opens it, and `iv diagnose --tuned` does.

    \b
    Example:
      iv export vectors/present-past --to gguf --layer 12 --out vectors/present-past.gguf
      iv export runs/bench/cells/func-A/osf-lr0.0001-e3-s0 --to model --out models/trained
    """
    if kind == "model":
        options.refuse_unheard(("layer", "scale"), "a vector (--to gguf or lm-eval)")
    if kind != "lm-eval":
        options.refuse_unheard(("model", "dtype"), "--to lm-eval")
    if kind != "model" and out.is_dir():
        raise click.BadParameter(f"{str(out)!r} is a directory; a vector goes into a file", param_hint="--out")
    quiet()
    told = _model(Path(source), out) if kind == "model" else _vector(source, kind, out, layer, scale, model, dtype)
    click.echo(json.dumps({"format": kind, **told}) if as_json else _line(told))


def _vector(source: str, kind: str, out: Path, layer: int | None, scale: float, model: str | None, dtype: str) -> dict[str, Any]:
    from instruction_vectors.vectors.exports import export_gguf, export_lm_eval
    from instruction_vectors.vectors.vector import InstructionVector

    read = InstructionVector.from_pretrained(source)
    if kind == "gguf":
        export_gguf(read, out, layer=layer, scale=scale)
    else:
        name = model or str(read.metadata.get("model") or "")
        if not name:
            raise click.UsageError("the vector does not record its model: name it with --model")
        opened, tokenizer = open_model(name, dtype)
        read.check_fits(opened, tokenizer)
        export_lm_eval(read, opened, out, layer=layer, scale=scale)
    return {"file": str(out), "layer": read.layer if layer is None else layer, "scale": scale}


def _model(cell: Path, out: Path) -> dict[str, Any]:
    from instruction_vectors.continual.trained import export_model

    with waiting(f"Opening what {cell.name} ended with"):
        export_model(cell, out)
    return {"folder": str(out)}


def _line(told: dict[str, Any]) -> str:
    if "folder" in told:
        return str(told["folder"])
    return f"{told['file']}: added after layer {told['layer']}, times {told['scale']:g}, at every token"
