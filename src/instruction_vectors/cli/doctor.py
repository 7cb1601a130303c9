"""`iv doctor`: what is wrong with an installation."""

import json

import click

from instruction_vectors.cli import options
from instruction_vectors.cli.screen import quiet


@click.command()
@click.option("--model", help="Also open this model (short name, folder or hub id) and check that its heads are found.")
@options.dtype
@click.option("--json", "as_json", is_flag=True, help="Print every finding as JSON.")
@click.pass_context
def doctor(ctx: click.Context, model: str | None, dtype: str, as_json: bool) -> None:
    """Check versions, devices, threads, processes, cache, disk and data, and say what to fix.

    Exit status 1 where something stops the work; a warning does not.

    \b
    Example:
      iv doctor
      iv doctor --model smollm2-135m-instruct --json
    """
    if model is None:
        options.refuse_unheard(("dtype",), "--model")
    import contextlib

    from rich.console import Console

    from instruction_vectors.doctor import examine, healthy, show, to_dict

    with Console(stderr=True).status("Looking around"):
        with contextlib.suppress(Exception):  # a broken installation is what this verb is for
            quiet()
        findings = examine(model, dtype)
    if as_json:
        click.echo(json.dumps(to_dict(findings), ensure_ascii=False))
    else:
        show(findings, Console())
    ctx.exit(0 if healthy(findings) else 1)
