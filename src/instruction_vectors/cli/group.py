"""The group of all verbs: how failures and Ctrl-C end."""

from typing import Any

import click

from instruction_vectors.errors import IVError


class Verbs(click.Group):
    """Turns what this package refuses into one line and exit status 1, and Ctrl-C into a word on how to go on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except IVError as error:
            click.echo(f"iv: {error} [{error.code}]", err=True)
            ctx.exit(1)
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"iv: {error.filename}: {error.strerror}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("iv: stopped; finished steps are kept, the same command goes on from here", err=True)
            ctx.exit(130)
