"""Text to token ids, with the few rules that decide whether scores mean what they say."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a prompt: with the tokenizer's own start token unless the text begins with it, and with no end token."""
    marked = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    ids = list(tokenizer(text, add_special_tokens=not marked)["input_ids"])
    end = tokenizer.eos_token
    # Some tokenizers close whatever they read; a prompt goes on.
    if end and len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and not text.rstrip().endswith(end.rstrip()):
        del ids[-1]
    if not ids:
        raise DataError(f"the prompt {text!r} tokenises to nothing")
    return ids


def encode_pair(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the target that follows it.

    Both are tokenised as one text and split at the prompt's length, so that the target's tokens are those the model
    would read or write after the prompt (the rule of lm-evaluation-harness).

    Raises:
        DataError: the target adds no token.
    """
    prompt_ids = encode(tokenizer, prompt)
    whole = encode(tokenizer, prompt + target)
    # Merging across the border would change the prompt itself: then the two are encoded apart.
    if whole[: len(prompt_ids)] != prompt_ids:
        whole = prompt_ids + list(tokenizer(target, add_special_tokens=False)["input_ids"])
    if len(whole) <= len(prompt_ids):
        raise DataError(f"the answer {target!r} tokenises to nothing after the prompt ending {prompt[-30:]!r}")
    return prompt_ids, whole[len(prompt_ids) :]


def pad(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Int[Tensor, "row seq"], Bool[Tensor, "row seq"]]:
    """Right-padded ids and the mask of real tokens."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), value)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = True
    return ids, mask
