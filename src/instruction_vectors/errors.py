"""The errors a user can meet. Each message says what happened, where, and what to do.

Each class has a stable `code`, which the command line prints behind the message; `docs/errors/CODE.md` has its causes and
their fixes.
"""

from typing import ClassVar


class IVError(Exception):
    """Base class: anything this package refuses, with the reason and the remedy in one message.

    Raised itself for an unknown name, an option out of range, or an extra that is not installed.
    """

    code: ClassVar[str] = "use"


class ModelError(IVError):
    """A model could not be found, opened or understood."""

    code = "model"


class AnatomyError(ModelError):
    """The attention heads of a model could not be located, or failed their numerical self-check."""

    code = "anatomy"


class DataError(IVError):
    """A task file or row is malformed."""

    code = "data"


class VectorError(IVError):
    """An instruction vector is malformed or does not belong to the model it is applied to."""

    code = "vector"


class HookError(IVError):
    """A hook did not do its work: it never fired, or could not tell which positions to edit."""

    code = "hook"


class TrainingError(IVError):
    """Training cannot go on, or would not mean what the user thinks."""

    code = "training"


def install_extra(name: str) -> str:
    """The command that installs one of this package's extras, as it works for whoever has its repository."""
    return f"pip install '.[{name}]' in the repository's folder"
