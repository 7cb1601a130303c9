"""The vectors of base and tuned model over the same heads, the base's; and how strongly they go in."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.conditions import Condition, ask
from instruction_vectors.analysis.plan import Plan, Subject
from instruction_vectors.models.loading import model_fingerprint
from instruction_vectors.tasks.prompts import PLAIN
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.extraction import head_effects, mean_head_outputs, provenance
from instruction_vectors.vectors.prompting import demonstrations
from instruction_vectors.vectors.vector import Head, InstructionVector

Means = dict[str, Tensor]
"""By task, mean head outputs `[layer, head, head_dim]`."""
Progress = Callable[[], None]


@dataclass(frozen=True)
class Vectors:
    """One model's vectors by task, with their controls."""

    by_task: Mapping[str, InstructionVector]
    mean: InstructionVector
    shuffled: Mapping[str, InstructionVector] = field(default_factory=dict)
    """The same head outputs, each at another head; empty where there is but one head."""

    @classmethod
    def of(cls, model: nn.Module, means: Means, heads: Sequence[Head], records: Mapping[str, Any] | None = None) -> "Vectors":
        """Vectors over `heads`, and the mean vector of all tasks; `records` says by task what each was made from."""
        everything = torch.stack(list(means.values())).mean(0)
        facts = records or {}
        each = {
            name: InstructionVector.from_means(model, mean, tuple(heads), metadata=facts.get(name, {}))
            for name, mean in means.items()
        }
        moved = {name: _shuffled(model, name, mean, heads) for name, mean in means.items()} if len(heads) > 1 else {}
        return cls(each, InstructionVector.from_means(model, everything, tuple(heads)), moved)

    def random(self, name: str, seed: int) -> InstructionVector:
        """A random vector of a task's norm, another for every task and seed."""
        return self.by_task[name].random_like(f"{seed}/{name}")


def _shuffled(model: nn.Module, name: str, mean: Tensor, heads: Sequence[Head]) -> InstructionVector:
    order, moved = list(heads), mean.clone()
    random.Random(name).shuffle(order)
    for head, source in zip(order, order[1:] + order[:1], strict=True):  # one cycle, so that none stays where it was
        moved[head] = mean[source]
    return InstructionVector.from_means(model, moved, tuple(heads))


def means_of(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, subjects: Mapping[str, Subject], plan: Plan, step: Progress
) -> Means:
    """Mean head outputs of every task under its instruction, over rows that are neither measured nor validated on."""
    means = {}
    for name, subject in subjects.items():
        built = demonstrations(
            subject.probe.demonstrations, prompts=plan.mean_prompts, shots=plan.shots, contexts=-(-plan.mean_prompts // 5),
            seed=plan.seed,
        )  # fmt: skip
        means[name] = mean_head_outputs(model, tokenizer, [text for text, _ in built])
        step()
    return means


def records_of(
    model: nn.Module, subjects: Mapping[str, Subject], plan: Plan, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """What each task's vector is made from, for its artefact."""
    fingerprint = model_fingerprint(model)
    settings: dict[str, Any] = {"template": PLAIN, "prompts": plan.mean_prompts, "shots": plan.shots, "seed": plan.seed}
    settings["tokenizer"] = tokenizer
    return {name: provenance(model, fingerprint, subject.task, **settings) for name, subject in subjects.items()}


def effects_of(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    subjects: Mapping[str, Subject],
    means: Means,
    plan: Plan,
    step: Progress,
) -> dict[str, Float[Tensor, "layer head"]]:
    """Causal effects of every head by task, mean over its share of the counterfactual prompts."""
    each = max(1, plan.effect_prompts // len(subjects))
    effects = {}
    for name, subject in subjects.items():
        found = head_effects(
            model, tokenizer, subject.probe.demonstrations, means[name], prompts=each, shots=plan.shots, seed=plan.seed
        )
        effects[name] = found.mean(0)
        step()
    return effects


def heads_of(effects: Mapping[str, Tensor], plan: Plan) -> tuple[Head, ...]:
    """The heads with the largest mean effect over tasks, as many as the plan says and the model has."""
    mean = torch.stack(list(effects.values())).mean(0)
    return top_heads(mean, min(plan.heads, mean.numel()))


def choose_scale(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, subjects: Mapping[str, Subject], vectors: Vectors, plan: Plan
) -> float:
    """The scale with the best mean x + c + θ score of the base on validation rows; the smallest of equals."""
    if len(plan.scales) == 1:
        return plan.scales[0]
    totals = dict.fromkeys(plan.scales, 0.0)
    for name, subject in subjects.items():
        vector = vectors.by_task[name]
        asked = {str(scale): Condition("validation", vector, scale) for scale in plan.scales}
        found = ask(model, tokenizer, subject, asked)
        for scale in plan.scales:
            totals[scale] += sum(found[str(scale)]) / len(found[str(scale)])
    return max(sorted(plan.scales), key=lambda scale: totals[scale])
