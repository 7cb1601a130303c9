"""`iv eval`: what a model can do."""

import json
from pathlib import Path

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import open_model, quiet


@click.command("eval")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@options.dtype
@click.option("--adapter", help="Folder or hub id of a PEFT adapter to put over it.")
@click.option("--vector", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a vector to apply.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly; negative subtracts.")
@click.option("--rows", type=click.IntRange(min=1), default=40, show_default=True, help="Rows a task.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, row by row.")
def evaluate(
    tasks: tuple[str, ...],
    model: str,
    dtype: str,
    adapter: str | None,
    vector: Path | None,
    scale: float,
    rows: int,
    seed: int,
    as_json: bool,
) -> None:
    """What a model can do on TASKS: five-shot, zero-shot, and knowledge against instruction on the same rows.

    \b
    Example:
      iv eval country-capital present-past --rows 10
    """
    from instruction_vectors.evaluation.abilities import RANKED, Probe, measure
    from instruction_vectors.tasks import load_task

    if vector is None:
        options.refuse_unheard(("scale",), "--vector")
    probes = {name: Probe.of(load_task(name), rows, seed=seed) for name in tasks}  # complains before a model is opened
    quiet()
    from instruction_vectors.analysis.contrast import level
    from instruction_vectors.progress import track
    from instruction_vectors.vectors.vector import InstructionVector

    loaded = InstructionVector.from_pretrained(vector) if vector else None
    opened, tokenizer = open_model(model, dtype, adapter=adapter)
    if loaded:
        loaded.check_fits(opened, tokenizer)
    edit = (lambda where: loaded.applied(opened, scale=scale, positions=where)) if loaded else None
    measured = {}
    with track("Measuring", len(probes), "task") as advance:
        for done, (name, probe) in enumerate(probes.items(), start=1):
            measured[name] = measure(opened, tokenizer, probe, edit=edit)
            advance(done)
    if as_json:
        click.echo(json.dumps(measured))
        return
    for name, forms in measured.items():
        for form, values in forms.items():
            found = level(values, 1 - probes[name].width if form in RANKED else 0.0)
            low, high = found.interval
            click.echo(f"{name}  {form}  {found.value:.2f}  [{low:.2f}, {high:.2f}]  n={len(values)}")
