"""`iv effects`: what every attention head does for a task."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.group import goes_on
from instruction_vectors.cli.screen import open_model, quiet

if TYPE_CHECKING:
    from instruction_vectors.vectors.mediation import Measure


@click.command()
@click.argument("task")
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@options.dtype
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
    type=click.Choice(["probability", "log_probability", "answer"]),
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
def effects(
    task: str, model: str, dtype: str, only_right: bool, patch: str, measure: "Measure", own_answers: bool, chat: bool, top: int,
    screen: int | None, check: bool, out: Path | None, svg: Path | None, as_json: bool, **drawn: Any,
) -> None:  # fmt: skip
    """Exact causal effect of every attention head on TASK (a shipped name or a .jsonl file), the strongest listed.

    \b
    Example:
      iv effects present-past --prompts 2 --out effects.json --svg effects.svg
    """
    if screen is not None and screen < top:
        raise click.UsageError(f"--screen {screen} measures fewer heads than --top {top} lists")
    if check and (own_answers or measure != "probability"):
        unfit = "--own-answers" if own_answers else f"--measure {measure}"
        raise click.UsageError(f"--check looks at the probability of the task's answers' first token only: leave out {unfit}")
    from instruction_vectors.files import check_writable, write_atomic, write_json
    from instruction_vectors.tasks import load_task

    loaded = load_task(task)  # complains before a model is opened
    for path in filter(None, (out, svg)):
        check_writable(path)
    quiet()
    from instruction_vectors.analysis.heads import strongest
    from instruction_vectors.analysis.kept_effects import DRAWS, FoundHeads, effects_ledger, kept_check, kept_effects
    from instruction_vectors.environment import versions
    from instruction_vectors.models.anatomy import anatomy_of
    from instruction_vectors.models.loading import fingerprint_if_here
    from instruction_vectors.progress import track
    from instruction_vectors.reporting import figure_svg
    from instruction_vectors.reporting.terminal import heat_lines
    from instruction_vectors.tasks.prompts import PLAIN, ChatTemplate
    from instruction_vectors.vectors.choosing import check_count
    from instruction_vectors.vectors.cost import Cost

    opened, tokenizer = open_model(model, dtype)
    anatomy = anatomy_of(opened)
    for count in filter(None, (top, screen)):
        check_count(count, anatomy.n_layers, anatomy.n_heads)
    template, draws = ChatTemplate(tokenizer) if chat else PLAIN, DRAWS if check else None
    counted: dict[str, Any] = {"measure": measure, "own_answers": own_answers, "screen": screen, "draws": draws}
    cost = Cost.of_task(tokenizer, anatomy, loaded, template=template, **counted, **drawn)
    click.echo(str(cost), err=True)
    asked = {**drawn, "only_right": only_right, "patch": patch}
    settings = {**asked, "measure": measure, "target": "own" if own_answers else "task"}
    parts = out and out.with_name(f"{out.name}.parts")
    if parts:
        goes_on()
    of = {"model": model, "dtype": dtype}
    begun = {"task": loaded.name, "rows": loaded.fingerprint, **of, "chat": chat, "screen": screen, **settings}
    with effects_ledger(parts, begun, opened) as ledger:
        on: Any = (ledger, opened, tokenizer, loaded)
        with track("Exact effects of every head", cost.prompts, "prompt") as advance:
            measured = kept_effects(*on, screen=screen, template=template, progress=advance, **settings)
        heads, together = strongest([measured], top, seed=drawn["seed"]), {}
        if check:
            with track("The listed heads together", 2, "side") as advance:
                together = kept_check(*on, heads=heads, template=template, progress=advance, **asked)
    found = FoundHeads(measured, heads, together)
    if out and parts:
        made_with = {"model_fingerprint": fingerprint_if_here(opened), "versions": versions()}
        write_json(out, {**begun, "task": task, **made_with, **found.record(seed=drawn["seed"])})
        shutil.rmtree(parts, ignore_errors=True)
    if svg:
        write_atomic(svg, figure_svg(found.figure(loaded, measure, own=own_answers), "effects"))
    if as_json:
        click.echo(json.dumps({"heads": heads, "together": together} if check else heads))
        return
    click.echo("\n".join(heat_lines(found.mean())))
    for head in heads:
        click.echo("({layer}, {head})  {effect:+.4f}  [{low:+.4f}, {high:+.4f}]".format(**head))
    words = "{}: {clean:.3f} becomes {patched:.3f} with all of them, {random:.3f} with random sets, p = {p:.2f}"
    for side, tried in together.items():
        click.echo(words.format(side, **tried))
