r"""A shortlist of heads at the cost of a forward and a backward: effects to first order.

$$CE_{lj} \approx \nabla_{z_{lj}} P(y \mid \hat p, x) \cdot (\bar h_{lj}^c - z_{lj})$$

(attribution patching: Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching; Syed et al.
2310.10348.) An estimate for choosing what to measure, never a measurement: exact effects of the shortlist come from
`mediation.causal_effects(..., heads=...)`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import VectorError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating
from instruction_vectors.models.hooks import edit_heads, refuse_ends_edited
from instruction_vectors.models.tokens import encode
from instruction_vectors.settings import one_of
from instruction_vectors.vectors.choosing import top_heads
from instruction_vectors.vectors.mediation import Measure, check_finite, check_pairs, measured_tokens
from instruction_vectors.vectors.mediation_slow import Patch, log_probability


def estimated_effects(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    targets: Sequence[str],
    mean_heads: Float[Tensor, "layer head head_dim"],
    *,
    measure: Measure = "probability",
    patch: Patch = "replace",
) -> Float[Tensor, "prompt layer head"]:
    """First-order estimates of what `causal_effects` measures, in its units, from one forward and one backward a prompt.

    Args:
        model: a decoder-only causal language model; its weights get no gradients.
        tokenizer: its tokenizer.
        prompts: as `causal_effects` takes them, and so the rest.
        targets: the right answers.
        mean_heads: `[layer, head, head_dim]`, mean head outputs under the instruction.
        measure: a difference of probabilities of the first token, of its log-probabilities, or of the whole answer's.
        patch: the head's output is replaced, or added to.

    Raises:
        VectorError: another word for `measure` or `patch`.
        DataError: no prompt, other than a target each, or an answer that tokenises to nothing.
        HookError: estimates that are not finite, or a vector that goes in at the ends of prompts meanwhile.
        torch.OutOfMemoryError: one prompt's forward and backward do not fit, which cannot be cut (a CPU raises a plain
            RuntimeError); measure all heads instead (`causal_effects`), which can.
    """
    one_of(Measure, measure, "measure", VectorError)
    one_of(Patch, patch, "patch", VectorError)
    check_pairs(prompts, targets)
    anatomy = anatomy_of(model)
    refuse_ends_edited(anatomy, "measure effects outside of the `with` block")
    mean_heads = mean_heads.to(anatomy.device, anatomy.dtype)
    found = []
    with evaluating(anatomy.causal_lm):
        for prompt, target in zip(prompts, targets, strict=True):
            answer = measured_tokens(tokenizer, prompt, target, measure)
            outputs, gradients = _slopes(anatomy, encode(tokenizer, prompt), answer, measure)
            change = mean_heads - outputs if patch == "replace" else mean_heads
            found.append((gradients * change).sum(-1).cpu())
    result = torch.stack(found)
    check_finite(result, "estimated effects are not finite")
    return result


def _slopes(anatomy: Anatomy, ids: Sequence[int], answer: Sequence[int], measure: Measure) -> tuple[Tensor, Tensor]:
    """Every head's output at the last token, and the measure's gradient there: both `[layer, head, head_dim]`."""
    shape = anatomy.n_layers, anatomy.n_heads, anatomy.head_dim
    outputs = torch.zeros(shape, dtype=anatomy.dtype, device=anatomy.device)
    added = torch.zeros_like(outputs, requires_grad=True)

    last = len(ids) - 1

    def edit(layer: int, heads: Tensor) -> Tensor:
        outputs[layer] = heads[0, last].detach()
        return torch.cat([heads[:, :last], heads[:, last : last + 1] + added[layer].to(heads), heads[:, last + 1 :]], dim=1)

    tokens = torch.tensor([[*ids, *answer[:-1]]], device=anatomy.device)
    with torch.enable_grad(), edit_heads(anatomy, range(anatomy.n_layers), edit):
        hidden = anatomy.backbone(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)[0]
        value = log_probability(anatomy.logits(hidden[:, last:])[0], torch.tensor(answer, device=hidden.device)).sum()
        (gradient,) = torch.autograd.grad(value.exp() if measure == "probability" else value, added)
    return outputs, gradient


def recall(
    exact: Float[Tensor, "prompt layer head"], estimated: Float[Tensor, "prompt layer head"], k: int, shortlist: int
) -> float:
    """Share of the k heads with the largest exact mean effects that stand among the `shortlist` largest estimates."""
    return len({*top_heads(exact, k)} & {*top_heads(estimated, shortlist)}) / k
