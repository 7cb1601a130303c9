"""Whether chosen heads carry an instruction together: are they enough for it, is it lost without them?

Effects of single heads neither add up nor tell of heads that stand in for one another, so a chosen set is tried as a whole,
beside random sets of the same size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, VectorError
from instruction_vectors.models.anatomy import anatomy_of, evaluating
from instruction_vectors.models.hooks import refuse_ends_edited
from instruction_vectors.models.tokens import encode, encode_pair
from instruction_vectors.settings import one_of
from instruction_vectors.tasks.prompts import PLAIN, Corruption, Template
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.extraction import mean_head_outputs
from instruction_vectors.vectors.mediation import all_heads, check_finite, check_pairs
from instruction_vectors.vectors.mediation_slow import Patch, whole_forwards
from instruction_vectors.vectors.prompting import Source, counterfactuals, demonstrations
from instruction_vectors.vectors.vector import Head, check_heads


@dataclass(frozen=True)
class Trial:
    """What patching a set of heads changes, beside random sets of its size.

    Attributes:
        clean: `[prompt]`, probability of the answer's first token as it is.
        chosen: `[prompt]`, its change when the chosen heads are patched together.
        random: `[draw, prompt]`, its change for each random set.
    """

    clean: Float[Tensor, " prompt"]
    chosen: Float[Tensor, " prompt"]
    random: Float[Tensor, "draw prompt"]

    @property
    def p(self) -> float:
        """Share of sets, the chosen one among them, that change as much in the direction in which the chosen one does."""
        sign = 1 if self.chosen.mean() >= 0 else -1
        reached = (sign * self.random.mean(1) >= sign * self.chosen.mean()).sum()
        return float((1 + reached) / (1 + len(self.random)))

    def summary(self) -> dict[str, float]:
        """Mean probability as it is, with the chosen heads patched, with a random set patched on average, and p."""
        clean = self.clean.mean()
        patched, random = clean + self.chosen.mean(), clean + self.random.mean()
        return {"clean": float(clean), "patched": float(patched), "random": float(random), "p": self.p}


@dataclass(frozen=True)
class JointCheck:
    """Sufficiency and necessity of a set of heads.

    Attributes:
        sufficiency: counterfactual prompts, the heads' outputs replaced by their means under the instruction: what is gained.
        necessity: prompts with instruction and examples, the outputs replaced by their means without: what is lost.
    """

    sufficiency: Trial
    necessity: Trial


@torch.no_grad()
def joint_effects(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    targets: Sequence[str],
    mean_heads: Float[Tensor, "layer head head_dim"],
    sets: Sequence[Sequence[Head]],
    *,
    patch: Patch = "replace",
) -> tuple[Float[Tensor, " prompt"], Float[Tensor, "set prompt"]]:
    """First-token probability of each target, and its change when all heads of a set are patched at the last token at once.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        prompts: texts that end where the answer begins.
        targets: the right answers, each with its leading space.
        mean_heads: `[layer, head, head_dim]`, what the heads are patched with.
        sets: of heads.
        patch: replace their outputs or add to them.

    Raises:
        VectorError: an empty set, a head that does not exist, or another word for `patch`.
        DataError: no prompt, other than a target each, or an answer that tokenises to nothing.
        HookError: NaN or infinite activations, or a vector that goes in at the ends of prompts meanwhile.
        torch.OutOfMemoryError: one set on one prompt does not fit (a CPU raises a plain RuntimeError).
    """
    one_of(Patch, patch, "patch", VectorError)
    check_pairs(prompts, targets)
    anatomy = anatomy_of(model)
    refuse_ends_edited(anatomy, "measure effects outside of the `with` block")
    sets = [check_heads(heads, anatomy) for heads in sets]
    mean_heads = mean_heads.to(anatomy.device, anatomy.dtype)
    rows = []
    with evaluating(anatomy.causal_lm):
        for prompt, target in zip(prompts, targets, strict=True):
            answer = encode_pair(tokenizer, prompt, target)[1][:1]
            rows.append(whole_forwards(anatomy, encode(tokenizer, prompt), answer, mean_heads, patch, [(), *sets]).exp().cpu())
    found = torch.stack(rows, dim=1)
    check_finite(found, "effects are not finite")
    return found[0], found[1:] - found[0]


def joint_check(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    heads: Sequence[Head],
    *,
    prompts: int = 8,
    mean_prompts: int = 25,
    shots: int = 5,
    draws: int = 20,
    source: Source = "demonstrations",
    only_right: bool = False,
    corruption: Corruption = "shuffle_and_drop",
    patch: Patch = "replace",
    template: Template = PLAIN,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> JointCheck:
    """Try chosen heads together, beside `draws` random sets of as many other heads.

    Prompts are drawn with another seed than those that `extract` finds heads on; of few rows some are queries of both.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: rows to draw prompts from.
        heads: the chosen ones.
        prompts: on which each side is tried.
        mean_prompts: prompts that the means are over, on each side.
        shots: shots a prompt.
        draws: random sets.
        source: what prompts under the instruction show (`extract`).
        only_right: average under the instruction only over prompts that the model answers right.
        corruption: what a counterfactual prompt lacks.
        patch: what is done on counterfactual prompts; prompts under the instruction always have outputs replaced, since
            adding to them would take nothing away.
        template: the layout of prompts.
        seed: what every draw depends on.
        progress: called with the number of sides done.

    Raises:
        VectorError: no head, one that does not exist, or more than half of all, beside which no random set is as large.
        DataError: no prompt to average over, or none that the model answers right.
        HookError: NaN or infinite activations.
    """
    anatomy = anatomy_of(model)
    heads = check_heads(heads, anatomy)
    others = [head for head in all_heads(anatomy) if head not in set(heads)]
    if len(others) < len(heads):
        raise VectorError(
            f"{len(heads)} of {len(heads) + len(others)} heads are chosen, so no random sets of as many others exist; take fewer"
        )
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(others), generator=generator)[: len(heads)].tolist() for _ in range(draws)]
    sets = [list(heads), *([others[i] for i in order] for order in orders)]
    drawn: dict[str, Any] = {"prompts": mean_prompts + prompts, "shots": shots, "template": template, "seed": seed + 1}
    told, untold = demonstrations(task, source=source, **drawn), counterfactuals(task, corruption=corruption, **drawn)
    if len(told) <= prompts:
        raise DataError(f"{task.name} gives {len(told)} prompts: all of them are tried and none is left to average over")
    answers = [answer for _, answer in told[prompts:]] if only_right else None
    with_instruction = mean_head_outputs(model, tokenizer, [text for text, _ in told[prompts:]], answers=answers)
    without = mean_head_outputs(model, tokenizer, [text for text, _ in untold[prompts:]])
    trials: list[tuple[list[tuple[str, str]], Tensor, Patch]] = [(untold, with_instruction, patch), (told, without, "replace")]
    sides = []
    for asked, means, how in trials:
        texts, targets = [text for text, _ in asked[:prompts]], [answer for _, answer in asked[:prompts]]
        clean, changed = joint_effects(model, tokenizer, texts, targets, means, sets, patch=how)
        sides.append(Trial(clean, changed[0], changed[1:]))
        if progress:
            progress(len(sides))
    return JointCheck(*sides)
