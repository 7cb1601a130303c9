"""The heads with the largest causal effects over one task or many, with intervals."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from instruction_vectors.evaluation.statistics import bootstrap_interval
from instruction_vectors.vectors.choosing import top_heads


def strongest(effects: Sequence[Float[Tensor, "_ layer head"]], k: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The k heads with the largest effect, largest first; every task counts alike, however many prompts it had.

    Args:
        effects: for each task the change in probability by prompt, layer and head (`causal_effects`).
        k: how many heads.
        seed: of the bootstrap over tasks and their prompts.

    Returns:
        For each head `layer`, `head`, `effect`, and its 95% interval `low`, `high`.

    Raises:
        VectorError: k below 1 or above the number of heads.
    """
    mean = torch.stack([task.mean(0) for task in effects]).mean(0)
    found = []
    for layer, head in top_heads(mean, k):
        low, high = bootstrap_interval([task[:, layer, head].tolist() for task in effects], seed=seed)
        found.append({"layer": layer, "head": head, "effect": mean[layer, head].item(), "low": low, "high": high})
    return found
