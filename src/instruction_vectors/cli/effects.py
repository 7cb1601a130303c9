"""`iv effects`: what every attention head does for a task."""

import json
import math
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
@click.option("--screen", type=click.IntRange(min=1), help="Measure only so many heads, chosen by first-order estimates.")
@click.option("--check", is_flag=True, help="Also try the listed heads together, beside random sets of as many.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for all effects.")
@click.option("--json", "as_json", is_flag=True, help="Print the listed heads as JSON.")
def effects(
    task: str,
    model: str,
    prompts: int,
    mean_prompts: int,
    shots: int,
    top: int,
    screen: int | None,
    check: bool,
    seed: int,
    out: Path | None,
    as_json: bool,
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
    from instruction_vectors.vectors.choosing import check_count
    from instruction_vectors.vectors.joint import joint_check

    with waiting(f"Opening {model}"):
        opened, tokenizer = load(model)
    anatomy = anatomy_of(opened)
    for count in (top, *([] if screen is None else [screen])):
        check_count(count, anatomy.n_layers, anatomy.n_heads)
    if screen is not None and screen < top:
        raise click.UsageError(f"--screen {screen} measures fewer heads than --top {top} lists")
    cost = (screen or anatomy.n_heads * anatomy.n_layers) // 2  # a head's row goes up half the layers on average
    own = "its own tokens" if screen is None else "its own tokens three times"  # the estimate's forward and backward
    click.echo(f"cost: {prompts} prompts, each {own} and about {cost} more (half a token a head)", err=True)
    built = extraction.demonstrations(loaded, prompts=mean_prompts, shots=shots, seed=seed)
    with waiting("Mean output of every head"):
        means = extraction.mean_head_outputs(opened, tokenizer, [text for text, _ in built])
    with track("Exact effects of every head", prompts, "prompt") as advance:
        found = extraction.head_effects(
            opened, tokenizer, loaded, means, prompts=prompts, shots=shots, screen=screen, seed=seed, progress=advance
        )
    heads = strongest([found], top, seed=seed)
    together = {}
    if check:
        chosen = [(head["layer"], head["head"]) for head in heads]
        with track("The listed heads together", 2, "side") as advance:
            tried = joint_check(
                opened,
                tokenizer,
                loaded,
                chosen,
                prompts=prompts,
                mean_prompts=mean_prompts,
                shots=shots,
                seed=seed,
                progress=advance,
            )
        together = {side: getattr(tried, side).summary() for side in ("sufficiency", "necessity")}
    if out:
        effects = [[[None if math.isnan(e) else e for e in row] for row in prompt] for prompt in found.tolist()]
        more = {"together": together} if check else {}
        write_json(out, {"task": task, "model": model, "shots": shots, "seed": seed, "effects": effects, **more})
    if as_json:
        click.echo(json.dumps({"heads": heads, "together": together} if check else heads))
        return
    for head in heads:
        click.echo("({layer}, {head})  {effect:+.4f}  [{low:+.4f}, {high:+.4f}]".format(**head))
    for side, told in together.items():
        click.echo(
            "{side}: {clean:.3f} becomes {patched:.3f} with all of them, {random:.3f} with random sets, p = {p:.2f}".format(
                side=side, **told
            )
        )
