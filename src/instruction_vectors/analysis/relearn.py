"""A few steps of relearning: does the tuned model take the task up again at once? Undone afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.plan import Plan, Subject
from instruction_vectors.models.adapters import base_weights
from instruction_vectors.models.anatomy import evaluating, unwrap
from instruction_vectors.models.tokens import encode_pair, pad
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.tasks.task import Example

_BATCH = 8


@contextmanager
def relearned(model: nn.Module, tokenizer: PreTrainedTokenizerBase, subject: Subject, plan: Plan) -> Iterator[nn.Module]:
    """The model after `plan.relearn_steps` steps of AdamW on instructed rows that are not measured.

    Trains the adapter's weights where there is one, else all; they are put back when the `with` block ends.
    """
    adapted = isinstance(model, PeftModel)
    below = {id(weight) for _, weight in base_weights(unwrap(model))} if adapted else set()
    weights = [w for w in (model if adapted else unwrap(model)).parameters() if w.is_floating_point() and id(w) not in below]
    saved = [(w, w.detach().clone(), w.requires_grad) for w in weights]
    rows = subject.probe.demonstrations.rows
    try:
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.AdamW(weights, lr=plan.relearn_rate)
        with evaluating(model), torch.enable_grad():
            for step in range(plan.relearn_steps):
                batch = [rows[(step * _BATCH + k) % len(rows)] for k in range(_BATCH)]
                optimizer.zero_grad()
                _loss(model, tokenizer, subject, batch).backward()
                optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield model
    finally:
        with torch.no_grad():
            for weight, before, wanted in saved:
                weight.copy_(before)
                weight.requires_grad_(wanted)


def _loss(model: nn.Module, tokenizer: PreTrainedTokenizerBase, subject: Subject, rows: Sequence[Example]) -> torch.Tensor:
    prompts = [instructed(subject.task, row) for row in rows]
    pairs = [encode_pair(tokenizer, prompt.text, prompt.target) for prompt in prompts]
    ids, mask = pad([prompt + answer for prompt, answer in pairs])
    labels = ids.masked_fill(~mask, -100)
    for row, (prompt, _) in enumerate(pairs):
        labels[row, : len(prompt)] = -100
    device = unwrap(model).device
    return model(input_ids=ids.to(device), attention_mask=mask.long().to(device), labels=labels.to(device)).loss
