"""Options that several verbs share."""

import click

source = click.option(
    "--source",
    type=click.Choice(["demonstrations", "instructions"]),
    default="demonstrations",
    show_default=True,
    help="Average over solved examples under the instruction, or over the instruction alone in each of its wordings.",
)
only_right = click.option("--only-right", is_flag=True, help="Average only over prompts that the model answers right.")
chat = click.option("--chat", is_flag=True, help="Lay prompts out in the model's own chat format.")
