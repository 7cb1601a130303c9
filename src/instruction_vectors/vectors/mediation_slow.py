"""Causal effects the plain way: one whole forward for every head, several heads a batch.

For models that the sweep of `mediation` does not fit (ALiBi families, or those that take no 4-D mask), and what the sweep
is checked against.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from instruction_vectors.models.anatomy import Anatomy
from instruction_vectors.models.hooks import edit_heads

Patch = Literal["replace", "add"]


def whole_forwards(
    anatomy: Anatomy,
    ids: Sequence[int],
    answer: int,
    mean_heads: Float[Tensor, "layer head head_dim"],
    patch: Patch,
    rows: Sequence[int],
    *,
    tokens_at_once: int = 4096,
) -> Float[Tensor, " row"]:
    """Log-probability of `answer` after the prompt `ids` in the given rows of the sweep.

    Row 0 is the clean prompt; in row `1 + layer * n_heads + head` that head is patched at the last token.
    """
    step = max(1, tokens_at_once // len(ids))
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    return torch.cat([_forward(anatomy, ids, answer, mean_heads, patch, part) for part in parts])


def _forward(
    anatomy: Anatomy, ids: Sequence[int], answer: int, mean_heads: Tensor, patch: Patch, rows: Sequence[int]
) -> Float[Tensor, " row"]:
    patched = [(place, *divmod(row - 1, anatomy.n_heads)) for place, row in enumerate(rows) if row > 0]

    def edit(layer: int, value: Tensor) -> Tensor:
        value = value.clone()
        for place, at, head in patched:
            if at == layer:
                base = value[place, -1, head] if patch == "add" else 0
                value[place, -1, head] = mean_heads[layer, head] + base
        return value

    tokens = torch.tensor(ids, device=anatomy.device).repeat(len(rows), 1)
    with edit_heads(anatomy, range(anatomy.n_layers), edit):
        hidden = anatomy.backbone(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)[0]
    return log_probability(anatomy.logits(hidden[:, -1:])[:, 0], torch.tensor(answer, device=hidden.device))


def log_probability(logits: Float[Tensor, "*batch vocabulary"], answer: Tensor) -> Float[Tensor, "*batch"]:
    """Log-probability of one token a row, computed in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    picked = logits.gather(-1, answer.expand(logits.shape[:-1])[..., None]).squeeze(-1)
    return picked - logits.logsumexp(-1)
