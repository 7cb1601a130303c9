"""`iv export`: a vector in another tool's format."""

import json
from pathlib import Path

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import quiet, waiting


@click.command()
@click.argument("vector")
@click.option("--to", "kind", type=click.Choice(["gguf", "lm-eval"]), required=True, help="llama.cpp, or lm-eval's `steered`.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file.")
@click.option("--layer", type=click.IntRange(min=0), help="After which layer it is added; the vector's own by default.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--model", help="For lm-eval; the model the vector was made from by default.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def export(vector: str, kind: str, out: Path, layer: int | None, scale: float, model: str | None, as_json: bool) -> None:
    """Write VECTOR (a folder or hub id), summed, for tools that add one vector after one layer at every token.

    \b
    Example:
      iv export vectors/present-past --to gguf --layer 12 --out vectors/present-past.gguf
    """
    quiet()
    from instruction_vectors.models.loading import load
    from instruction_vectors.vectors.exports import export_gguf, export_lm_eval
    from instruction_vectors.vectors.vector import InstructionVector

    read = InstructionVector.from_pretrained(vector)
    if kind == "gguf":
        options.refuse_unheard(("model",), "--to lm-eval")
        export_gguf(read, out, layer=layer, scale=scale)
    else:
        name = model or str(read.metadata.get("model") or "")
        if not name:
            raise click.UsageError("the vector does not record its model: name it with --model")
        with waiting(f"Opening {name}"):
            opened, tokenizer = load(name)
        read.check_fits(opened, tokenizer)
        export_lm_eval(read, opened, out, layer=layer, scale=scale)
    after = read.layer if layer is None else layer
    if as_json:
        click.echo(json.dumps({"file": str(out), "format": kind, "layer": after, "scale": scale}))
        return
    click.echo(f"{out}: added after layer {after}, times {scale:g}, at every token")
