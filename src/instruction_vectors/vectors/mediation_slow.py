"""Causal effects the plain way: one whole forward for every head, or every set of heads, several a batch.

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
from instruction_vectors.models.memory import Room, out_of_memory
from instruction_vectors.vectors.vector import Head

Patch = Literal["replace", "add"]

_ROOM = Room()
"""Of whole forwards."""


def whole_forwards(
    anatomy: Anatomy,
    ids: Sequence[int],
    answer: Sequence[int],
    mean_heads: Float[Tensor, "layer head head_dim"],
    patch: Patch,
    sets: Sequence[Sequence[Head]],
    *,
    tokens_at_once: int = 4096,
) -> Float[Tensor, " set"]:
    """Log-probability of `answer` after the prompt `ids`, all heads of a set patched at its last token; of none: clean.

    Fewer sets go together where memory does not hold them, which is said once.

    Raises:
        torch.OutOfMemoryError: one set does not fit (a CPU raises a plain RuntimeError).
    """
    length = len(ids) + len(answer) - 1
    known = room = _ROOM.of(anatomy, tokens_at_once)
    found: list[Tensor] = []
    while len(found) < len(sets):
        part = sets[len(found) :][: max(1, room // length)]
        try:
            found += _forward(anatomy, ids, answer, mean_heads, patch, part).unbind()
        except Exception as error:
            if len(part) == 1 or not out_of_memory(error):
                raise
            room = len(part) // 2 * length
        else:
            known = _ROOM.settle(anatomy, known, room)
    return torch.stack(found)


def _forward(
    anatomy: Anatomy,
    ids: Sequence[int],
    answer: Sequence[int],
    mean_heads: Tensor,
    patch: Patch,
    sets: Sequence[Sequence[Head]],
) -> Float[Tensor, " set"]:
    last = len(ids) - 1
    patched = [(place, *head) for place, heads in enumerate(sets) for head in heads]

    def edit(layer: int, value: Tensor) -> Tensor:
        value = value.clone()
        for place, at, head in patched:
            if at == layer:
                base = value[place, last, head] if patch == "add" else 0
                value[place, last, head] = mean_heads[layer, head].to(value) + base
        return value

    tokens = torch.tensor([*ids, *answer[:-1]], device=anatomy.device).repeat(len(sets), 1)
    with edit_heads(anatomy, range(anatomy.n_layers), edit):
        hidden = anatomy.backbone(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)[0]
    return log_probability(anatomy.logits(hidden[:, last:]), torch.tensor(answer, device=hidden.device)).sum(-1)


def log_probability(logits: Float[Tensor, "*batch vocabulary"], answer: Tensor) -> Float[Tensor, "*batch"]:
    """Log-probability of one token a row, computed in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    picked = logits.gather(-1, answer.expand(logits.shape[:-1])[..., None]).squeeze(-1)
    return picked - logits.logsumexp(-1)
