"""Options that several verbs share."""

from collections.abc import Callable

import click
from click.core import ParameterSource

source = click.option(
    "--source",
    type=click.Choice(["demonstrations", "instructions"]),
    default="demonstrations",
    show_default=True,
    help="Average over solved examples under the instruction, or over the instruction alone in each of its wordings.",
)
only_right = click.option("--only-right", is_flag=True, help="Average only over prompts that the model answers right.")
dtype = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the model's weights in memory; bfloat16 takes half as much and rounds more.",
)
chat = click.option("--chat", is_flag=True, help="Lay prompts out in the model's own chat format.")


def refuse_unheard(names: tuple[str, ...], without: str) -> None:
    """Complain of options on the command line that mean nothing without another.

    Raises:
        UsageError: one of them was given.
    """
    if given := _given(lambda name: name in names):
        raise click.UsageError(f"{', '.join(given)} would go unheard without {without}")


def refuse_beside(flag: str, *heard: str) -> None:
    """Complain of options on the command line that mean nothing beside a flag, all but those that do.

    Raises:
        UsageError: one of them was given.
    """
    if given := _given(lambda name: name not in heard):
        raise click.UsageError(f"{', '.join(given)} would go unheard beside {flag}")


def _given(wanted: Callable[[str], bool]) -> list[str]:
    context = click.get_current_context()
    called = {str(parameter.name): max(parameter.opts, key=len) for parameter in context.command.params}
    given = (name for name in called if context.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return [called[name] for name in given if wanted(name)]
