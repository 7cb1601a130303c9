"""Keys and values of a prompt's prefix, computed once and read by many continuations without a copy each."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from instruction_vectors.models.anatomy import Anatomy


class SharedPrefix(DynamicCache):
    """A read-only key-value cache: a forward sees the prefix's keys and values before its own, and leaves no trace.

    Continuations stand beside each other in the *sequence* dimension of one row, each at the same position and hidden
    from the others by the mask; so keys and values of the prefix are never expanded over them.
    """

    def __init__(self, prefix: DynamicCache) -> None:
        super().__init__()
        self.layers = prefix.layers

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The prefix's keys and values with the new ones after them."""
        if layer_idx >= len(self.layers):
            return key_states, value_states
        stored = self.layers[layer_idx]
        return torch.cat([stored.keys, key_states], dim=-2), torch.cat([stored.values, value_states], dim=-2)


@torch.no_grad()
def prefill(anatomy: Anatomy, input_ids: Int[Tensor, "batch seq"]) -> SharedPrefix:
    """Run right-padded prefixes through the backbone once and keep their keys and values (a `seq` of 0 is allowed)."""
    cache = DynamicCache()
    if input_ids.shape[1]:
        ids = input_ids.to(anatomy.device)
        # No logits are wanted, so the backbone is run without the head. Padding is not masked: it stands to the right, where
        # no real token looks, and a row of nothing but padding would turn to NaN under a mask.
        anatomy.backbone(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True)
    return SharedPrefix(cache)
