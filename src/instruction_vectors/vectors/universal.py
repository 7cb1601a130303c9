"""Vectors of many tasks over the same heads: those with the largest effect in the mean over the tasks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.loading import fingerprint_if_here
from instruction_vectors.tasks.prompts import PLAIN, Template, check_answers
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.choosing import check_count, top_heads
from instruction_vectors.vectors.extraction import head_effects, head_scores, provenance, told_means
from instruction_vectors.vectors.prompting import Source
from instruction_vectors.vectors.vector import Head, InstructionVector


def extract_all(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    heads: Sequence[Head] | None = None,
    k: int = 10,
    prompts: int = 25,
    shots: int = 5,
    contexts: int | None = None,
    source: Source = "demonstrations",
    only_right: bool = False,
    effect_prompts: int = 8,
    layer: int | None = None,
    template: Template = PLAIN,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, InstructionVector]:
    """A vector for each task over universal heads (Todd et al. 2310.15213, §2.3); each task counts alike.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        tasks: their training rows.
        heads: the universal heads, if already known; else found here.
        k: how many heads otherwise.
        prompts: prompts a task to average over.
        shots: shots a prompt.
        contexts: how many different sets of shots the prompts of a task share.
        source: what the prompts show (see `extract`).
        only_right: average only over prompts that the model answers right.
        effect_prompts: counterfactual prompts a task to find the heads on.
        layer: where a summed intervention would go.
        template: the layout of prompts.
        seed: what every draw depends on.
        progress: called with the number of tasks done.

    Returns:
        The vectors by task name, in the given order.

    Raises:
        DataError: no task, two of one name, an answer that tokenises to nothing, or a task of which no prompt is answered right.
        VectorError: more heads than the model has.
    """
    names = [task.name for task in tasks]
    if not names or len(set(names)) < len(names):
        raise DataError(f"universal heads need tasks of different names, got: {', '.join(names) or 'none'}")
    anatomy = anatomy_of(model)
    if heads is None:
        check_count(k, anatomy.n_layers, anatomy.n_heads)
    for task in tasks:
        check_answers(tokenizer, task, template)
    means, effects = [], []
    for done, task in enumerate(tasks, start=1):
        drawn: dict[str, Any] = {"shots": shots, "template": template, "seed": seed}
        how: dict[str, Any] = {"contexts": contexts, "source": source, "only_right": only_right}
        means.append(told_means(model, tokenizer, task, prompts=prompts, **how, **drawn))
        if heads is None:
            effects.append(head_effects(model, tokenizer, task, means[-1], prompts=effect_prompts, **drawn).mean(0))
        if progress:
            progress(done)
    chosen: dict[str, Any] = {"scores": None}
    if heads is None:
        heads = top_heads(torch.stack(effects), k)
        chosen = {"scores": head_scores(torch.stack(effects), heads), "universal": names}
    fingerprint = fingerprint_if_here(model)
    vectors = {}
    for task, mean in zip(tasks, means, strict=True):
        drawn = {"template": template, "prompts": min(prompts, len(task.rows)), "shots": shots, "seed": seed}
        metadata = provenance(model, fingerprint, task, **drawn, tokenizer=tokenizer)
        metadata |= {"source": source, "only_right": only_right, **chosen}
        vectors[task.name] = InstructionVector.from_means(model, mean, tuple(heads), layer=layer, metadata=metadata)
    return vectors
