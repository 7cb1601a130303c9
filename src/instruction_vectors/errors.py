"""The errors a user can meet. Each message says what happened, where, and what to do."""


class IVError(Exception):
    """Base class: anything this package refuses, with the reason and the remedy in one message."""


class ModelError(IVError):
    """A model could not be found, opened or understood."""


class AnatomyError(ModelError):
    """The attention heads of a model could not be located, or failed their numerical self-check."""


class DataError(IVError):
    """A task file or row is malformed."""


class VectorError(IVError):
    """An instruction vector is malformed or does not belong to the model it is applied to."""


class HookError(IVError):
    """A hook did not do its work: it never fired, or could not tell which positions to edit."""


class TrainingError(IVError):
    """Training cannot go on, or would not mean what the user thinks."""
