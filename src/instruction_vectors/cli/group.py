"""The group of all verbs: how failures and Ctrl-C end."""

from typing import Any

import click

from instruction_vectors.allocator import large_blocks_apart
from instruction_vectors.errors import IVError
from instruction_vectors.files import storage_failure

_GO_ON = ("bench", "demo", "train")
"""Verbs whose folder always keeps what is finished."""

_TOLD = f"{__name__}.goes_on"


def goes_on() -> None:
    """Called by a verb that keeps finished steps this time, so that Ctrl-C says so."""
    click.get_current_context().meta[_TOLD] = True  # shared with the group's context


class Verbs(click.Group):
    """Turns what this package refuses into one line and exit status 1, Ctrl-C into a word on whether one can go on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        large_blocks_apart()
        try:
            return super().invoke(ctx)
        except IVError as error:
            click.echo(f"iv: {error} [{error.code}]", err=True)
            ctx.exit(1)
        except OSError as error:
            full = storage_failure(error)
            if error.filename is None and not full:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            click.echo(f"iv: {where}{full or error.strerror}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            kept = ctx.invoked_subcommand in _GO_ON or _TOLD in ctx.meta
            click.echo("iv: stopped" + "; finished steps are kept, the same command goes on from here" * kept, err=True)
            ctx.exit(130)
