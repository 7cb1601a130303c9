"""Whether the attention heads of a model are found, and pass their numerical self-check."""

import torch

from instruction_vectors.doctor.finding import Finding
from instruction_vectors.errors import AnatomyError, ModelError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.loading import load
from instruction_vectors.models.tree import packs


def anatomy(name: str, dtype: str = "float32") -> list[Finding]:
    """Opens the model `name` and locates its heads; says what it cannot do, where it cannot do everything."""
    return [_anatomy(name, getattr(torch, dtype), f"anatomy of {name}")]


def _anatomy(name: str, dtype: torch.dtype, title: str) -> Finding:
    try:
        model, _ = load(name, dtype=dtype)
        found = anatomy_of(model)
    except AnatomyError as error:
        return Finding(title, "problem", str(error), "use a decoder-only model with softmax attention (docs/support.md)")
    except ModelError as error:
        return Finding(title, "problem", str(error), "do what it says; docs/errors/model.md has more")
    sums = "" if found.adds_writes else "; no summed mode, since it normalises what heads write"
    slower = "" if packs(found) else "; reads no packed prompts, so work on many prompts is slower"
    return Finding(
        title, "ok", f"{found.n_layers} layers × {found.n_heads} heads of width {found.head_dim}, checked{sums}{slower}"
    )
