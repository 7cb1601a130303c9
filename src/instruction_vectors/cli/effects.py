"""`iv effects`: what every attention head does for a task."""

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import quiet, waiting

_WORDS = {
    "probability": "the probability of the {} first token",
    "log_probability": "the log-probability of the {} first token",
    "answer": "the log-probability of the {}",
}


@click.command()
@click.argument("task")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Counterfactual prompts.")
@click.option("--mean-prompts", type=click.IntRange(min=1), default=25, show_default=True, help="Prompts to average over.")
@click.option("--shots", type=click.IntRange(min=0), default=5, show_default=True, help="Shots a prompt.")
@options.source
@options.only_right
@click.option(
    "--corruption",
    type=click.Choice(["shuffle_and_drop", "shuffle", "drop", "swap", "zero_shot"]),
    default="shuffle_and_drop",
    show_default=True,
    help="What a counterfactual prompt lacks: its answers' order, the instruction (or has another task's), or every example.",
)
@click.option(
    "--patch",
    type=click.Choice(["replace", "add"]),
    default="replace",
    show_default=True,
    help="Replace a head's output by its mean under the instruction, or add that to it.",
)
@click.option(
    "--measure",
    type=click.Choice(list(_WORDS)),
    default="probability",
    show_default=True,
    help="Of the answer's first token, or the whole answer's log-probability.",
)
@click.option("--own-answers", is_flag=True, help="Measure on what the model itself answers when told, right or not.")
@options.chat
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many heads to list.")
@click.option("--screen", type=click.IntRange(min=1), help="Measure only so many heads, chosen by first-order estimates.")
@click.option("--check", is_flag=True, help="Also try the listed heads together, beside random sets of as many.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for all effects; a stopped run goes on.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Heat map of all heads as a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print the listed heads as JSON.")
def effects(task: str, model: str, chat: bool, top: int, screen: int | None, check: bool, as_json: bool, **more: Any) -> None:
    """Exact causal effect of every attention head on TASK (a shipped name or a .jsonl file), the strongest listed.

    \b
    Example:
      iv effects present-past --prompts 2 --out effects.json --svg effects.svg
    """
    from instruction_vectors.tasks import load_task

    loaded = load_task(task)  # complains before a model is opened
    quiet()
    from instruction_vectors.analysis.heads import strongest
    from instruction_vectors.analysis.kept_effects import kept_effects
    from instruction_vectors.continual.ledger import Ledger
    from instruction_vectors.continual.runner import made_with
    from instruction_vectors.files import write_atomic, write_json
    from instruction_vectors.models.anatomy import anatomy_of
    from instruction_vectors.models.loading import load
    from instruction_vectors.progress import track
    from instruction_vectors.reporting import figure_svg
    from instruction_vectors.reporting.terminal import heat_lines
    from instruction_vectors.tasks.prompts import PLAIN, ChatTemplate
    from instruction_vectors.vectors.choosing import check_count
    from instruction_vectors.vectors.cost import Cost
    from instruction_vectors.vectors.prompting import counterfactuals, demonstrations

    out, svg, seed, prompts = more.pop("out"), more.pop("svg"), more["seed"], more["prompts"]
    with waiting(f"Opening {model}"):
        opened, tokenizer = load(model)
    anatomy = anatomy_of(opened)
    for count in (top, *([] if screen is None else [screen])):
        check_count(count, anatomy.n_layers, anatomy.n_heads)
    if screen is not None and screen < top:
        raise click.UsageError(f"--screen {screen} measures fewer heads than --top {top} lists")
    template = ChatTemplate(tokenizer) if chat else PLAIN
    drawn = {"shots": more["shots"], "template": template, "seed": seed}
    told = demonstrations(loaded, prompts=more["mean_prompts"], source=more["source"], **drawn)
    asked = counterfactuals(loaded, prompts=prompts, corruption=more["corruption"], **drawn)
    cost = Cost.of(
        tokenizer,
        [text for text, _ in told],
        asked,
        heads=screen or anatomy.n_heads * anatomy.n_layers,
        estimated=screen is not None,
        whole_answers=more["measure"] == "answer",
    )
    click.echo(str(cost), err=True)
    more["target"] = "own" if more.pop("own_answers") else "task"
    with tempfile.TemporaryDirectory() as nowhere:
        parts = Path(nowhere) if out is None else out.with_name(f"{out.name}.parts")
        settings = {"task": loaded.name, "rows": loaded.fingerprint, "model": model, "chat": chat, "screen": screen, **more}
        with Ledger(parts, settings) as ledger, track("Exact effects of every head", len(asked), "prompt") as advance:
            made_with(ledger, opened)
            found = kept_effects(ledger, opened, tokenizer, loaded, screen=screen, template=template, progress=advance, **more)
    heads = strongest([found], top, seed=seed)
    together = _together(opened, tokenizer, loaded, heads, template, more) if check else {}
    mean = [[None if math.isnan(effect) else effect for effect in row] for row in found.mean(0).tolist()]
    whose = "model's own answer" if more["target"] == "own" else "right answer"
    whose += "'s" if more["measure"] != "answer" else ""
    if out:
        each = [[[None if math.isnan(e) else e for e in row] for row in prompt] for prompt in found.tolist()]
        intervals = strongest([found], int(found[0].isfinite().sum()), seed=seed)
        written = {"task": task, "model": model, **more, "effects": each, "heads": intervals}
        write_json(out, written | ({"together": together} if check else {}))
        shutil.rmtree(parts, ignore_errors=True)
    if svg:
        measured = _WORDS[more["measure"]].format(whose)
        map_of = {"map": mean, "top": heads, "prompts": len(found), "tasks": [loaded.name], "measured": measured}
        write_atomic(svg, figure_svg({"effects": map_of}, "effects"))
    if as_json:
        click.echo(json.dumps({"heads": heads, "together": together} if check else heads))
        return
    click.echo("\n".join(heat_lines(mean)))
    for head in heads:
        click.echo("({layer}, {head})  {effect:+.4f}  [{low:+.4f}, {high:+.4f}]".format(**head))
    for side, told in together.items():
        click.echo(
            "{side}: {clean:.3f} becomes {patched:.3f} with all of them, {random:.3f} with random sets, p = {p:.2f}".format(
                side=side, **told
            )
        )


def _together(
    opened: Any, tokenizer: Any, task: Any, heads: list[dict[str, Any]], template: Any, more: dict[str, Any]
) -> dict[str, Any]:
    from instruction_vectors.progress import track
    from instruction_vectors.vectors.joint import joint_check

    chosen = [(head["layer"], head["head"]) for head in heads]
    asked = {name: more[name] for name in ("prompts", "mean_prompts", "shots", "seed")}
    with track("The listed heads together", 2, "side") as advance:
        tried = joint_check(opened, tokenizer, task, chosen, template=template, progress=advance, **asked)
    return {side: getattr(tried, side).summary() for side in ("sufficiency", "necessity")}
