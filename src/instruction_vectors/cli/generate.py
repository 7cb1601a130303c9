"""`iv generate`: a prompt continued with a vector."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import open_model, quiet

if TYPE_CHECKING:
    from instruction_vectors.vectors.injection import Mode


@click.command()
@click.argument("prompt")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@options.dtype
@click.option("--vector", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a vector to apply.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--mode", type=click.Choice(["distributed", "summed", "replace"]), default="distributed", show_default=True)
@click.option("--tokens", type=click.IntRange(min=1), default=20, show_default=True, help="New tokens at most.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def generate(
    prompt: str, model: str, dtype: str, vector: Path | None, scale: float, mode: "Mode", tokens: int, as_json: bool
) -> None:
    """Continue PROMPT greedily: as the model is and, beside it, with a vector put in where the prompt ends (\\n is a line break).

    \b
    Example:
      iv generate "Give the past tense of the verb.\\nInput: bring\\nOutput:" --vector vectors/present-past --tokens 3

    With the vector that writes "brought", without it does not. The dose is how large what is added is beside the residual
    stream, at the layer where it is largest.
    """
    quiet()
    from instruction_vectors.evaluation.generation import generate as written
    from instruction_vectors.vectors.dose import dose
    from instruction_vectors.vectors.vector import InstructionVector

    if vector is None:
        options.refuse_unheard(("scale", "mode"), "--vector")
    if mode == "replace":
        options.refuse_unheard(("scale",), "a --mode that adds (distributed, summed)")
    loaded = InstructionVector.from_pretrained(vector) if vector else None
    opened, tokenizer = open_model(model, dtype)
    if loaded:
        loaded.check_fits(opened, tokenizer)
    text = prompt.replace("\\n", "\n")
    (plain,) = written(opened, tokenizer, [text], max_new_tokens=tokens)
    told: dict[str, Any] = {"prompt": text, "plain": plain}
    if loaded:

        def edit(where: Literal["prefill_end"]) -> AbstractContextManager[None]:
            return loaded.applied(opened, mode=mode, scale=scale, positions=where)

        (told["steered"],) = written(opened, tokenizer, [text], max_new_tokens=tokens, edit=edit)
        told["dose"] = dose(opened, tokenizer, loaded, [text], mode=mode, scale=scale)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    elif loaded:
        layer = max(told["dose"], key=told["dose"].__getitem__)
        click.echo(f"plain:   {plain}\nsteered: {told['steered']}\ndose:    {told['dose'][layer]:.2f} at layer {layer}")
    else:
        click.echo(plain)
