"""Effects of all heads on a task, a few prompts at a time in a ledger: stopped at any instant, they go on."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.own_answers import own_answers
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.tasks.prompts import PLAIN, Corruption, Template
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.extraction import told_means
from instruction_vectors.vectors.mediation import Measure, causal_effects
from instruction_vectors.vectors.mediation_slow import Patch
from instruction_vectors.vectors.prompting import Source, counterfactuals
from instruction_vectors.vectors.screening import estimated_effects

Target = Literal["task", "own"]
"""Whose answers effects are measured on: the task's, or the model's own."""


def kept_effects(
    ledger: Ledger,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    prompts: int,
    mean_prompts: int,
    shots: int,
    source: Source = "demonstrations",
    only_right: bool = False,
    corruption: Corruption = "shuffle_and_drop",
    measure: Measure = "probability",
    patch: Patch = "replace",
    target: Target = "task",
    screen: int | None = None,
    template: Template = PLAIN,
    seed: int = 0,
    block: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "prompt layer head"]:
    """What `head_effects` measures with means made for it, every few prompts a step of the ledger.

    Args:
        ledger: where steps are kept; its configuration must tell apart whatever is given here.
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: rows to draw prompts from.
        prompts: counterfactual prompts.
        mean_prompts: prompts to average head outputs over.
        shots: shots a prompt.
        source: what those prompts show (`extract`).
        only_right: average only over those that the model answers right.
        corruption: what a counterfactual prompt lacks.
        measure: as in `causal_effects`.
        patch: as in `causal_effects`.
        target: on whose answers.
        screen: measure so many heads only; the others are NaN.
        template: the layout of prompts.
        seed: what every draw depends on.
        block: prompts a step.
        progress: called with the number of prompts finished.
    """

    def means() -> Any:
        told: dict[str, Any] = {"source": source, "only_right": only_right, "template": template, "seed": seed}
        return told_means(model, tokenizer, task, prompts=mean_prompts, shots=shots, **told).tolist()

    mean_heads = torch.tensor(ledger.step("means", means))
    built = counterfactuals(task, prompts=prompts, shots=shots, corruption=corruption, template=template, seed=seed)
    texts, answers = [text for text, _ in built], [answer for _, answer in built]
    if target == "own":
        asked: dict[str, Any] = {"prompts": prompts, "shots": shots, "template": template, "seed": seed}
        answers = ledger.step("own answers", lambda: own_answers(model, tokenizer, task, **asked))
    how: dict[str, Any] = {"measure": measure, "patch": patch}
    heads = None
    if screen is not None:
        estimated = lambda: top_heads(estimated_effects(model, tokenizer, texts, answers, mean_heads, **how), screen)  # noqa: E731
        heads = [(layer, head) for layer, head in ledger.step("shortlist", estimated)]
    found: list[list[list[float]]] = []
    for start in range(0, len(texts), block):
        some = slice(start, start + block)

        def effects(some: slice = some) -> Any:
            each = causal_effects(model, tokenizer, texts[some], answers[some], mean_heads, heads=heads, **how)
            return [[[None if effect != effect else effect for effect in row] for row in one] for one in each.tolist()]

        for one in ledger.step(f"effects of prompts {start + 1} to {min(start + block, len(texts))}", effects):
            found.append([[float("nan") if effect is None else effect for effect in row] for row in one])
        if progress:
            progress(len(found))
    return torch.tensor(found)
