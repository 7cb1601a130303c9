"""The model that a finished cell ended with: under its method's parameters, or as whole weights of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.continual.cell import Cell
from instruction_vectors.continual.method import Method
from instruction_vectors.continual.methods import method_named
from instruction_vectors.continual.result import read_result
from instruction_vectors.errors import DataError
from instruction_vectors.models.loading import load, model_fingerprint

_AGAIN = "run its cell into another folder, and export from there"
"""A finished cell is only read."""


@contextmanager
def as_trained(base: nn.Module, folder: Path) -> Iterator[nn.Module]:
    """The original model as the cell in `folder` measured it last, for the length of a `with` block.

    Raises:
        DataError: no finished cell, one that has left its adapters elsewhere, or another original model.
    """
    method = _restored(base, folder, *_restorable(folder))
    try:
        with method.evaluating() as model:
            model.eval()
            yield model
    finally:
        method.detach()


def trained_model(folder: str | Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model that a cell ended with, in weights of its own: nothing of PEFT or of the method is left in it.

    Args:
        folder: a finished cell's, with `result.json` and `adapters/`.

    Returns:
        `(model, tokenizer)` as `load` gives them; `model.save_pretrained(...)` writes what transformers opens anywhere. Its
        answers are those that were measured up to the rounding of adding a matrix's change to it.

    Raises:
        DataError: no finished cell, or one that has left its adapters elsewhere.
        ModelError: its original model cannot be opened.
    """
    return _whole(Path(folder), *_restorable(Path(folder)))


def export_model(folder: str | Path, out: str | Path) -> None:
    """Write `trained_model` and its tokenizer into the folder `out`, whole or not at all.

    Raises:
        DataError: as there, or there is something at `out` already.
        OSError: nothing can be written there.
    """
    out = Path(out).resolve()
    if out == Path.cwd() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise DataError(f"{out} is there already; choose another folder for the model")
    found = _restorable(Path(folder))
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
        model, tokenizer = _whole(Path(folder), *found)
        model.save_pretrained(written := Path(beside) / "model")
        tokenizer.save_pretrained(written)
        written.replace(out)


def _whole(folder: Path, cell: Cell, fingerprint: str, kept: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    base, tokenizer = load(cell.model, dtype=getattr(torch, cell.dtype))
    return _restored(base, folder, cell, fingerprint, kept).merged(), tokenizer


def _restored(base: nn.Module, folder: Path, cell: Cell, fingerprint: str, kept: Path) -> Method:
    """A cell's method over the original model, as it was at the end."""
    if model_fingerprint(base) != fingerprint:
        raise DataError(f"{folder} was trained from another model than {cell.model!r} is here: the weights differ")
    method = method_named(cell.method)(cell.stage, cell.own_settings)
    try:
        method.restore(base, kept)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{kept} is damaged ({reason}); {_AGAIN}") from error
    return method


def _restorable(folder: Path) -> tuple[Cell, str, Path]:
    """A finished cell, the fingerprint of its original model, and the folder of what training left."""
    path = folder / "result.json"
    if not path.exists():
        raise DataError(f"{folder} is no finished cell of `iv bench`: it has no result.json")
    result = read_result(path, "tasks", "model_fingerprint")
    cell = Cell.of(result["cell"])
    kept = folder / "adapters" / cell.method / str(len(result["tasks"]))
    if not kept.is_dir():
        raise DataError(f"{folder} has no {kept.relative_to(folder)}, what its training left; {_AGAIN}")
    return cell, result["model_fingerprint"], kept
