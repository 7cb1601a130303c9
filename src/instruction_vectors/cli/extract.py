"""`iv extract`: the vector of a task."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import open_model, quiet, waiting


class Counts(click.ParamType):
    """One number of heads, or several to choose among."""

    name = "integer[,integer...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, all at least 1."""
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            counts = ()
        if not counts or min(counts) < 1:
            self.fail(f"{value!r} is no number of heads; give one (10), or several to choose among (5,10,20)", param, ctx)
        return counts


@click.command()
@click.argument("tasks", nargs=-1, required=True)
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@options.dtype
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the vector.")
@click.option(
    "--heads",
    "ks",
    type=Counts(),
    default="10",
    show_default=True,
    help="How many heads; of several (5,10,20) the best on validation rows.",
)
@click.option("--prompts", type=click.IntRange(min=1), default=25, show_default=True, help="Prompts to average over.")
@click.option("--shots", type=click.IntRange(min=0), default=5, show_default=True, help="Shots a prompt.")
@options.source
@options.only_right
@options.chat
@click.option("--layer", type=click.IntRange(min=0), help="After which layer the vector goes in when it is used summed.")
@click.option("--effect-prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts to find the heads on.")
@click.option(
    "--validation-rows",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Rows set apart to choose among several numbers of heads.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the vector's config.json; of several vectors a list.")
def extract(
    tasks: tuple[str, ...],
    model: str,
    dtype: str,
    out: Path,
    ks: tuple[int, ...],
    effect_prompts: int,
    validation_rows: int,
    chat: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Extract the instruction vector of each of TASKS (shipped names or .jsonl files).

    Several tasks share their heads, those with the largest effect in the mean over the tasks; each gets a folder in --out. With
    --heads 5,10,20 as many heads are kept as steer best on rows set apart.

    \b
    Example:
      iv extract present-past --out vectors/present-past
    """
    from instruction_vectors.tasks import load_task

    loaded = [load_task(task) for task in tasks]  # complains before a model is opened
    if len(ks) == 1:
        options.refuse_unheard(("validation_rows",), "several numbers of --heads")
    if len(ks) > 1 and len(tasks) > 1:
        raise click.UsageError("--heads names several numbers to choose among, which needs one task")
    quiet()
    from instruction_vectors.files import check_writable
    from instruction_vectors.models.anatomy import anatomy_of
    from instruction_vectors.progress import track
    from instruction_vectors.tasks.prompts import PLAIN, ChatTemplate
    from instruction_vectors.vectors import extraction, universal
    from instruction_vectors.vectors.cost import Cost

    check_writable(out / "config.json")
    opened, tokenizer = open_model(model, dtype)
    template = ChatTemplate(tokenizer) if chat else PLAIN
    anatomy = anatomy_of(opened)
    if more["layer"] is not None and more["layer"] >= anatomy.n_layers:
        raise click.UsageError(f"--layer {more['layer']}: the model's layers with attention are 0 to {anatomy.n_layers - 1}")
    validation = None
    if len(ks) > 1:
        validation, *loaded = loaded[0].split(min(validation_rows, len(loaded[0].rows) // 2), -1, seed=more["seed"])
    counted: dict[str, Any] = {name: more[name] for name in ("shots", "source", "seed")} | {"template": template}
    counted |= {"prompts": effect_prompts, "mean_prompts": more["prompts"], "validation": validation, "tried": len(set(ks))}
    for task in loaded:
        click.echo(f"{task.name}: {Cost.of_task(tokenizer, anatomy, task, **counted)}", err=True)
    more |= {"template": template, "effect_prompts": effect_prompts}
    if len(tasks) > 1:
        with track("Vectors over universal heads", len(tasks), "task") as advance:
            vectors = universal.extract_all(opened, tokenizer, loaded, k=ks[0], progress=advance, **more)
        folders = {out / name: vector for name, vector in vectors.items()}
    else:
        with track("Exact effects of every head", effect_prompts, "prompt") as advance:
            vector = extraction.extract(opened, tokenizer, loaded[0], k=max(ks), progress=advance, **more)
        folders = {out: _best(opened, tokenizer, validation, vector, ks, template) if validation else vector}
    for folder, vector in folders.items():
        vector.save_pretrained(folder)
        if not as_json:
            click.echo(f"{folder}: {len(vector.heads)} heads {list(vector.heads)}")
    if as_json:
        configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
        click.echo(json.dumps(configs if len(tasks) > 1 else configs[0], indent=1, ensure_ascii=False))


def _best(opened: Any, tokenizer: Any, validation: Any, vector: Any, ks: tuple[int, ...], template: Any) -> Any:
    """The vector of as many of its heads as steer best on the validation rows, with a record of that."""
    from instruction_vectors.analysis.sweep import sweep

    with waiting("Choosing the number of heads"):
        best = sweep(opened, tokenizer, validation, validation.rows, vector, ks=ks, template=template)[0]
    record = {**vector.metadata, "validation": best.as_dict() | {"rows": len(validation.rows)}}
    return replace(vector.first(opened, best.k), metadata=record)
