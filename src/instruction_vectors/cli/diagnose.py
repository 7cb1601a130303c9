"""`iv diagnose`: what a fine-tune did to each task."""

import json
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import quiet

BAD_VERDICT = 3
"""Exit status where a task is suppressed or lost: not to be mistaken for a failure."""


@click.command()
@click.option("--base", default="smollm2-135m-instruct", show_default=True, help="Short name, folder or hub id.")
@click.option(
    "--tuned",
    help="Its fine-tuned child: folder or hub id of whole weights, folder of an adapter, or a folder of numbered stages.",
)
@click.option(
    "--adapter", type=click.Path(exists=True, file_okay=False), help="Folder of an adapter over the base, or of stages."
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Shipped name or .jsonl/.yaml file; repeat. Default: all with both forms and rows enough.",
)
@click.option("--trained", multiple=True, help="A task it was trained on, measured too; repeat, in order.")
@click.option("--last", help="The task last trained on: its vector is then tried subtracted. Default: the last --trained.")
@click.option("--lm-eval", help="lm-eval tasks to run on both models, parted by commas; they get no verdict.")
@click.option(
    "--include-path", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of local lm-eval task YAMLs."
)
@click.option("--limit", type=click.IntRange(min=1), help="First rows of each lm-eval task only.")
@click.option("--rows", type=click.IntRange(min=1), default=24, show_default=True, help="Rows a task.")
@click.option("--relearn", type=click.IntRange(min=0), default=0, help="Also try this many steps of relearning (slow).")
@click.option("--seed", default=0, show_default=True, help="What every draw depends on.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for numbers, tables, vectors.")
@options.dtype
@click.option("--json", "as_json", is_flag=True, help="Print as JSON instead of Markdown.")
@click.pass_context
def diagnose(
    ctx: click.Context, base: str, tuned: str | None, adapter: str | None, tasks: tuple[str, ...], trained: tuple[str, ...],
    last: str | None, lm_eval: str | None, include_path: Path | None, limit: int | None, rows: int, relearn: int, seed: int,
    out: Path | None, dtype: str, as_json: bool,
) -> None:  # fmt: skip
    """Say what a fine-tune did to each task: intact, suppressed, lost, or inconclusive.

    Of a folder of numbered stages the last is diagnosed, and all are measured for the curves. Exit status 3 where a task is
    suppressed or lost, fit for a CI gate; 1, as everywhere, where the work failed.

    \b
    Example:
      iv diagnose --adapter runs/guided --task country-capital --task singular-plural --last present-past --out runs/diagnosis
    """
    if (tuned is None) == (adapter is None):
        raise click.UsageError("give --tuned or --adapter, one of the two")
    quiet()
    import torch

    from instruction_vectors.analysis.diagnosis import diagnose as examine
    from instruction_vectors.analysis.plan import Plan
    from instruction_vectors.analysis.remedies import check_folder, write_diagnosis
    from instruction_vectors.analysis.summary import markdown

    if out:
        check_folder(out)
    plan = Plan(rows=rows, relearn_steps=relearn, seed=seed)
    outside = _outside(lm_eval, include_path, limit)
    more: dict[str, Any] = {"lm_eval": outside, "plan": plan, "dtype": getattr(torch, dtype)}
    found = examine(base, tuned or adapter, tasks or None, last=last, trained=trained, **more)
    if out:  # first: the terminal may be gone after hours
        write_diagnosis(found, out)
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else markdown(found))
    ctx.exit(BAD_VERDICT if found.bad else 0)


def _outside(lm_eval: str | None, include_path: Path | None, limit: int | None) -> Any:
    from instruction_vectors.analysis.outside import LmEval

    names = tuple(name.strip() for name in (lm_eval or "").split(",") if name.strip())
    if not names and (include_path or limit):
        raise click.UsageError("--include-path and --limit go with --lm-eval")
    return LmEval(names, include_path, limit) if names else None
