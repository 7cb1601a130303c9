"""What a verb does about the screen before it works, and while there is nothing to count."""

from contextlib import AbstractContextManager
from typing import Any


def waiting(words: str) -> AbstractContextManager[Any]:
    """A moving mark beside the words for the length of a `with` block; nothing off a terminal."""
    from rich.markup import escape

    from instruction_vectors.progress import console

    return console().status(escape(words))


def open_model(model: str, dtype: str = "float32", **more: Any) -> Any:
    """`load`, with a mark while it works."""
    import torch

    from instruction_vectors.models.loading import load

    with waiting(f"Opening {model}"):
        return load(model, dtype=getattr(torch, dtype), **more)


def quiet() -> None:
    """Leave the screen to our own progress."""
    import logging
    import warnings

    # Notices of one library to another about coming versions, of no use to whoever runs a command.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
