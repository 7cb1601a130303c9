"""`iv effects`: what every attention head does for a task."""

import json
from pathlib import Path

import click

from instruction_vectors.cli.screen import quiet, waiting


@click.command()
@click.argument("task")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Counterfactual prompts.")
@click.option("--mean-prompts", type=click.IntRange(min=1), default=25, show_default=True, help="Prompts to average over.")
@click.option("--shots", type=click.IntRange(min=0), default=5, show_default=True, help="Shots a prompt.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many heads to list.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for all effects.")
@click.option("--json", "as_json", is_flag=True, help="Print the listed heads as JSON.")
def effects(
    task: str, model: str, prompts: int, mean_prompts: int, shots: int, top: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Exact causal effect of every attention head on TASK (a shipped name or a .jsonl file), the strongest listed.

    \b
    Example:
      iv effects present-past --prompts 2 --out effects.json
    """
    from instruction_vectors.tasks import load_task

    loaded = load_task(task)  # complains before a model is opened
    quiet()
    from instruction_vectors.analysis.heads import strongest
    from instruction_vectors.files import write_json
    from instruction_vectors.models.anatomy import anatomy_of
    from instruction_vectors.models.loading import load
    from instruction_vectors.progress import track
    from instruction_vectors.vectors import extraction

    with waiting(f"Opening {model}"):
        opened, tokenizer = load(model)
    anatomy = anatomy_of(opened)
    extraction.check_count(top, anatomy.n_layers, anatomy.n_heads)
    cost = anatomy.n_heads * anatomy.n_layers // 2
    click.echo(f"cost: {prompts} prompts, each its own tokens and about {cost} more (heads x layers / 2)", err=True)
    built = extraction.demonstrations(loaded, prompts=mean_prompts, shots=shots, seed=seed)
    with waiting("Mean output of every head"):
        means = extraction.mean_head_outputs(opened, tokenizer, [text for text, _ in built])
    with track("Exact effects of every head", prompts, "prompt") as advance:
        found = extraction.head_effects(
            opened, tokenizer, loaded, means, prompts=prompts, shots=shots, seed=seed, progress=advance
        )
    if out:
        write_json(out, {"task": task, "model": model, "shots": shots, "seed": seed, "effects": found.tolist()})
    heads = strongest([found], top, seed=seed)
    if as_json:
        click.echo(json.dumps(heads))
        return
    for head in heads:
        click.echo("({layer}, {head})  {effect:+.4f}  [{low:+.4f}, {high:+.4f}]".format(**head))
