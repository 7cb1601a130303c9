"""`iv generate`: a prompt continued with a vector."""

import json
from pathlib import Path

import click

from instruction_vectors.cli.screen import quiet, waiting


@click.command()
@click.argument("prompt")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--vector", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a vector to apply.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--mode", type=click.Choice(["distributed", "summed", "replace"]), default="distributed", show_default=True)
@click.option("--tokens", default=20, show_default=True, help="New tokens at most.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def generate(prompt: str, model: str, vector: Path | None, scale: float, mode: str, tokens: int, as_json: bool) -> None:
    """Continue PROMPT greedily, with a vector applied where the prompt ends (\\n is a line break).

    \b
    Example:
      iv generate "Give the past tense of the verb.\\nInput: bring\\nOutput:" --vector vectors/present-past --tokens 3

    That writes "brought"; without --vector it does not.
    """
    quiet()
    from contextlib import nullcontext

    from instruction_vectors.models.loading import load
    from instruction_vectors.vectors.vector import InstructionVector

    loaded = InstructionVector.from_pretrained(vector) if vector else None
    with waiting(f"Opening {model}"):
        opened, tokenizer = load(model)
    text = prompt.replace("\\n", "\n")
    inputs = tokenizer(text, return_tensors="pt").to(opened.device)
    with loaded.applied(opened, mode=mode, scale=scale) if loaded else nullcontext():  # type: ignore[arg-type]
        ids = opened.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    written = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    click.echo(json.dumps({"prompt": text, "continuation": written}, ensure_ascii=False) if as_json else written)
