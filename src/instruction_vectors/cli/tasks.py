"""`iv tasks`: list, show, check, fetch."""

import json
from pathlib import Path
from typing import Any

import click

from instruction_vectors.cli import options


class TaskVerbs(click.Group):
    """`iv tasks` alone lists, `iv tasks NAME...` shows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the verb that is meant."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            names = [argument for argument in args if not argument.startswith("-")]
            args = ["show" if names else "list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=TaskVerbs)
def tasks() -> None:
    """List and show tasks, check data, fetch benchmarks; `iv tasks` alone lists, `iv tasks NAME...` shows.

    \b
    Example:
      iv tasks
      iv tasks country-capital my_task.jsonl
      iv tasks validate trace --data-dir data
    """


@tasks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_tasks(as_json: bool) -> None:
    """List the shipped tasks.

    \b
    Example:
      iv tasks list
    """
    from instruction_vectors.tasks import load_task, task_names

    _print_tasks([load_task(name) for name in task_names()], as_json, rows=False)


@tasks.command("show")
@click.argument("names", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show_tasks(names: tuple[str, ...], as_json: bool) -> None:
    """Show tasks with their first rows: a shipped name, or a .jsonl or .yaml file of your own.

    \b
    Example:
      iv tasks show country-capital my_task.jsonl
    """
    from instruction_vectors.tasks import load_task

    _print_tasks([load_task(name) for name in names], as_json, rows=True)


@tasks.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the benchmark.")
@click.option("--task", "only", multiple=True, help="Only this task of the benchmark; may be given again.")
@click.option("--tokenizer", help="Short name, folder or hub id of a model: lengths in its tokens.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Count the rows that are longer.")
@click.option("--model", help="Short name, folder or hub id of a model to ask on up to 50 test rows of each task.")
@options.dtype
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def validate(
    name: str,
    data_dir: Path | None,
    only: tuple[str, ...],
    tokenizer: str | None,
    max_tokens: int | None,
    model: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    """Check NAME: a benchmark, a shipped task, or a .jsonl or .yaml file of your own.

    Counts rows, repeats, overlaps between train and test, labels and lengths, and finds test rows that other sets of the
    folder train on. With --model, also what that model scores without examples, beside the share of the most common answer:
    what it cannot do, it cannot forget. Exit status 1 where the data is malformed, with file and row; overlaps and repeats are
    reported, not refused, since published benchmarks have some.

    \b
    Example:
      iv tasks validate trace --data-dir data --tokenizer smollm2-135m-instruct --max-tokens 512
      iv tasks validate my_task.yaml --model smollm2-135m-instruct
    """
    from instruction_vectors.tasks import benchmark_names, load_benchmark, load_task
    from instruction_vectors.tasks.validate import tokenizer_of
    from instruction_vectors.tasks.validate import validate as check
    from instruction_vectors.tasks.validation_report import render

    if name in benchmark_names() and data_dir is None:
        raise click.UsageError(f"{name} is read from a folder of yours: give --data-dir")
    if data_dir is None:
        options.refuse_unheard(("only",), "a benchmark and its --data-dir")
    if model is None:
        options.refuse_unheard(("dtype",), "--model")
    if max_tokens is not None and tokenizer is None:
        raise click.UsageError("--max-tokens needs --tokenizer")
    subject = load_benchmark(name, data_dir, tasks=only or None) if data_dir is not None else load_task(name)
    measured = tokenizer_of(tokenizer) if tokenizer else None
    report = check(subject, measured, max_tokens, base=_floor(model, dtype) if model else None, data_dir=data_dir)
    click.echo(json.dumps(report.to_dict(), ensure_ascii=False) if as_json else render(report))


@tasks.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where to put it.")
@click.option("--json", "as_json", is_flag=True, help="Print the files' names as JSON.")
def fetch(name: str, data_dir: Path, as_json: bool) -> None:
    """Download the published files of benchmark NAME (func or trace), each checked against its SHA-256.

    Stop it with Ctrl-C; the same command goes on where it stopped.

    \b
    Example:
      iv tasks fetch func --data-dir data
    """
    from instruction_vectors.cli.group import goes_on
    from instruction_vectors.tasks.fetch import fetch as download

    goes_on()
    files = download(name, data_dir)
    click.echo(json.dumps([str(path) for path in files]) if as_json else f"{data_dir}: {len(files)} files")


def _floor(model: str, dtype: str) -> Any:
    from instruction_vectors.cli.screen import open_model, quiet

    quiet()
    from instruction_vectors.evaluation.answers import Floor

    return Floor(*open_model(model, dtype))


def _print_tasks(loaded: Any, as_json: bool, rows: bool) -> None:
    if as_json:
        click.echo(json.dumps([_task_summary(task, rows) for task in loaded], ensure_ascii=False))
    for task in () if as_json else loaded:
        forms = "both forms" if task.knowledge else "instruction form only"
        click.echo(f"{task.name:26}{len(task.rows):5} rows  {forms:22} {task.instruction}")
        for row in task.rows[:5] if rows else ():
            click.echo(f"    {row.input} → {row.output}")


def _task_summary(task: Any, rows: bool) -> dict[str, Any]:
    summary = {
        "name": task.name,
        "rows": len(task.rows),
        "instructions": task.instructions,
        "knowledge": task.knowledge,
        "options": task.options,
        "kind": task.kind,
        "sources": task.sources,
        "fingerprint": task.fingerprint,
    }
    return summary | ({"examples": [{"input": r.input, "output": r.output} for r in task.rows[:5]]} if rows else {})
