"""`iv diagnose`: what a fine-tune did to each task."""

import json
from pathlib import Path

import click

from instruction_vectors.cli.screen import quiet


@click.command()
@click.option("--base", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option("--tuned", help="Its fine-tuned child: folder or hub id of whole weights, or folder of an adapter.")
@click.option("--adapter", type=click.Path(exists=True, file_okay=False), help="Folder of an adapter over the base.")
@click.option("--task", "tasks", multiple=True, help="Shipped name or .jsonl/.yaml file; repeat. Default: all with both forms.")
@click.option("--last", help="The task last trained on: its vector is then tried subtracted.")
@click.option("--rows", type=click.IntRange(min=1), default=24, show_default=True, help="Rows a task.")
@click.option("--relearn", type=click.IntRange(min=0), default=0, help="Also try this many steps of relearning (slow).")
@click.option("--seed", default=0, show_default=True, help="What every draw depends on.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for numbers, tables, vectors.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON instead of Markdown.")
@click.pass_context
def diagnose(
    ctx: click.Context, base: str, tuned: str | None, adapter: str | None, tasks: tuple[str, ...], last: str | None, rows: int,
    relearn: int, seed: int, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Say what a fine-tune did to each task: intact, suppressed, lost, or inconclusive.

    Exit status 1 where a task is suppressed or lost (or the work failed), fit for a CI gate.

    \b
    Example:
      iv diagnose --adapter runs/demo/adapters/sequential/3 --task antonym --task present-past --out runs/diagnosis
    """
    if (tuned is None) == (adapter is None):
        raise click.UsageError("give --tuned or --adapter, one of the two")
    quiet()
    from instruction_vectors.analysis.diagnosis import diagnose as examine
    from instruction_vectors.analysis.plan import Plan
    from instruction_vectors.analysis.remedies import write_diagnosis
    from instruction_vectors.analysis.words import markdown

    plan = Plan(rows=rows, relearn_steps=relearn, seed=seed)
    found = examine(base, tuned or adapter, tasks or None, last=last, plan=plan)
    if out:
        write_diagnosis(found, out)
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else markdown(found))
    ctx.exit(1 if found.bad else 0)
