"""Greedy answers to many prompts at once: padded on the left, batched by length, each cut at its first stop string."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from instruction_vectors.errors import DataError, ModelError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating, text_config
from instruction_vectors.models.tokens import encode

TOKENS_AT_ONCE = 8192
"""Tokens whose keys and values a batch keeps at most; a step of decoding reads all weights, so few large batches cost least."""

PrefillEdit = Callable[[Literal["prefill_end"]], AbstractContextManager[None]]
"""Makes an intervention at the end of the prefill: `lambda where: vector.applied(model, positions=where)`."""


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    batch_size: int | None = None,
    edit: PrefillEdit | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """What greedy decoding writes after each prompt.

    Sampling settings that a model brings along (temperature, repetition penalty, ...) are set aside.

    Args:
        model: a decoder-only causal language model, possibly with an adapter on.
        tokenizer: its tokenizer.
        prompts: texts that end where an answer begins.
        max_new_tokens: most tokens written for a prompt; an end-of-sequence token ends it earlier.
        stop: strings that end an answer; the answer is cut before the first of them.
        batch_size: prompts a forward; by default as many as `TOKENS_AT_ONCE` holds with their answers. Does not change results.
        edit: an intervention at the last token of each prompt, once, at the end of the prefill.
        progress: called with the number of prompts done.

    Returns:
        For each prompt, in the given order, the text after it as decoded (a leading space stays).

    Raises:
        DataError: a prompt that tokenises to nothing, or does not fit into the context with its answer.
        ModelError: logits that are not numbers (half precision overflowed, or the attention cannot read padding).
    """
    ids = [encode(tokenizer, prompt) for prompt in prompts]
    return generate_tokens(
        model, tokenizer, ids, max_new_tokens=max_new_tokens, stop=stop, batch_size=batch_size, edit=edit, progress=progress
    )


@torch.no_grad()
def generate_tokens(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    batch_size: int | None = None,
    edit: PrefillEdit | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """`generate` for prompts that are token ids already."""
    anatomy = anatomy_of(model)
    context = context_length(anatomy)
    for number, prompt in enumerate(prompts, start=1):
        if context is not None and len(prompt) + max_new_tokens > context:
            raise DataError(
                f"prompt {number} has {len(prompt)} tokens: with {max_new_tokens} new ones it exceeds the model's {context}"
            )
    stop = [s for s in stop if s]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    with evaluating(anatomy.causal_lm):
        done = 0
        for batch in _batches(order, [len(prompt) + max_new_tokens for prompt in prompts], batch_size):
            with edit("prefill_end") if edit else nullcontext():
                written = _write(anatomy, tokenizer, [prompts[i] for i in batch], max_new_tokens, stop)
            for index, text in zip(batch, written, strict=True):
                texts[index] = text
            done += len(batch)
            if progress:
                progress(done)
    return texts


def _batches(order: Sequence[int], lengths: Sequence[int], most: int | None) -> Iterator[list[int]]:
    """Prompts from short to long in batches of `most`, or as many as `TOKENS_AT_ONCE` holds, each as long as the last."""
    batch: list[int] = []
    for index in order:
        full = len(batch) == most if most else (len(batch) + 1) * lengths[index] > TOKENS_AT_ONCE
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def context_length(anatomy: Anatomy) -> int | None:
    """Most tokens that the model can read, or None where its config states no limit."""
    config = text_config(anatomy.causal_lm)
    limits = [getattr(config, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx")]
    return next((limit for limit in limits if limit), None)


def _write(
    anatomy: Anatomy, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], new: int, stop: Sequence[str]
) -> list[str]:
    ends = _end_tokens(anatomy, tokenizer, stop)
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else 0)
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[filler] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = anatomy.causal_lm.generate(
        input_ids=ids.to(anatomy.device),
        attention_mask=mask.to(anatomy.device),
        max_new_tokens=new,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=ends or None,
        pad_token_id=filler,
        logits_processor=LogitsProcessorList([_Numbers()]),
        stopping_criteria=StoppingCriteriaList([_Stopped(tokenizer, stop, width)]) if stop else None,
    )
    return [_text(tokenizer, row, ends, stop) for row in output[:, width:].tolist()]


def _end_tokens(anatomy: Anatomy, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> list[int]:
    """Tokens that end an answer: the model's, the tokenizer's, and stop strings that are special tokens."""
    configured: Any = anatomy.causal_lm.generation_config.eos_token_id
    tokens = configured if isinstance(configured, list) else [configured]
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return sorted({t for t in (*tokens, tokenizer.eos_token_id, *(special.get(s) for s in stop)) if t is not None})


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int], ends: Sequence[int], stop: Sequence[str]) -> str:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    text: str = tokenizer.decode(ids[:end], skip_special_tokens=True)
    return text[: min([at for s in stop if (at := text.find(s)) >= 0], default=len(text))]


class _Numbers(LogitsProcessor):  # greedy decoding over NaN would write token 0 without a word
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if torch.isnan(scores).any():
            raise ModelError("the model's logits are not numbers; load it in float32, or with attn_implementation='sdpa'")
        return scores


class _Stopped(StoppingCriteria):  # a row is done once a stop string stands in what was written
    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], width: int) -> None:
        self._tokenizer, self._stop, self._width = tokenizer, stop, width

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        written = self._tokenizer.batch_decode(input_ids[:, self._width :], skip_special_tokens=True)
        return torch.tensor([any(s in text for s in self._stop) for text in written], device=input_ids.device)
