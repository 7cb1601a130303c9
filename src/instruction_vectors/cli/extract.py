"""`iv extract`: the vector of a task."""

from pathlib import Path

import click

from instruction_vectors.cli.screen import quiet, waiting


@click.command()
@click.argument("task")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the vector.")
@click.option("--heads", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many heads.")
@click.option("--prompts", type=click.IntRange(min=1), default=25, show_default=True, help="Prompts to average over.")
@click.option("--shots", type=click.IntRange(min=0), default=5, show_default=True, help="Shots a prompt.")
@click.option("--effect-prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts to find the heads on.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the vector's config.json.")
def extract(
    task: str, model: str, out: Path, k: int, prompts: int, shots: int, effect_prompts: int, seed: int, as_json: bool
) -> None:
    """Extract the instruction vector of TASK (a shipped name or a .jsonl file).

    \b
    Example:
      iv extract present-past --out vectors/present-past
    """
    from instruction_vectors.tasks import load_task

    loaded = load_task(task)  # complains before a model is opened
    quiet()
    from instruction_vectors.models.loading import load
    from instruction_vectors.progress import track
    from instruction_vectors.vectors import extraction

    with waiting(f"Opening {model}"):
        opened, tokenizer = load(model)
    with track("Exact effects of every head", effect_prompts, "prompt") as advance:
        vector = extraction.extract(
            opened,
            tokenizer,
            loaded,
            k=k,
            prompts=prompts,
            shots=shots,
            effect_prompts=effect_prompts,
            seed=seed,
            progress=advance,
        )
    vector.save_pretrained(out)
    click.echo((out / "config.json").read_text() if as_json else f"{out}: {len(vector.heads)} heads {list(vector.heads)}")
