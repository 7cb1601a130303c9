"""From prompts to an instruction vector: mean head outputs, causal heads, the vector."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, VectorError
from instruction_vectors.models.anatomy import anatomy_of, evaluating
from instruction_vectors.models.hooks import capture_heads
from instruction_vectors.models.loading import model_fingerprint
from instruction_vectors.models.tokens import encode
from instruction_vectors.models.tree import TokenTree, chunks
from instruction_vectors.tasks.prompts import PLAIN, Template, check_answers, counterfactual, draw_shots, instructed
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.choosing import check_count, top_heads
from instruction_vectors.vectors.mediation import causal_effects
from instruction_vectors.vectors.screening import estimated_effects
from instruction_vectors.vectors.vector import Head, InstructionVector
from instruction_vectors.version import __version__

Progress = Callable[[int], None]


@torch.no_grad()
def mean_head_outputs(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | Sequence[int]], *, max_nodes: int = 512
) -> Float[Tensor, "layer head head_dim"]:
    """Mean output of every head at the last token of the prompts, `h̄_{lj}^c` (Todd et al. 2310.15213, eq. 3).

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        prompts: texts, or their token ids, that end where the answer would begin. Prefixes they share are computed once.
        max_nodes: tokens a forward; bounds memory, does not change the result.

    Returns:
        Tensor `[layer, head, head_dim]`, float32 (float64 for a float64 model), on the CPU.

    Raises:
        DataError: no prompt, or one that tokenises to nothing.
        AnatomyError: the model's heads cannot be found.
    """
    if not prompts:
        raise DataError("mean head outputs need at least one prompt")
    anatomy = anatomy_of(model)
    ids = [encode(tokenizer, prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    total = torch.zeros(anatomy.n_layers, anatomy.n_heads, anatomy.head_dim, dtype=torch.float64)
    with evaluating(anatomy.causal_lm):
        for group in chunks(anatomy, ids, max_nodes):
            tree = TokenTree.of([ids[i] for i in group])
            ends = torch.tensor([path[-1] for path in tree.paths])
            where = torch.zeros(1, len(tree), dtype=torch.bool)
            where[0, ends] = True
            with capture_heads(anatomy, where) as captured:
                anatomy.backbone(**tree.model_inputs(anatomy))
            # Captured rows stand in node order; a node that ends several prompts counts once for each.
            rows = torch.searchsorted(ends.unique(), ends).to(anatomy.device)
            total += torch.stack([layer[rows].cpu().double().sum(0) for layer in captured])
    return (total / len(ids)).to(torch.float64 if anatomy.dtype == torch.float64 else torch.float32)


def demonstrations(
    task: Task, *, prompts: int, shots: int, contexts: int | None = None, template: Template = PLAIN, seed: int = 0
) -> list[tuple[str, str]]:
    """Few-shot prompts under the instruction, with their answers' text: `[(x_1, c, y_1) ... x_i, c]`.

    Args:
        task: rows to draw shots and queries from (training rows only).
        prompts: how many, N.
        shots: shots a prompt, n.
        contexts: how many different sets of shots; queries share them in turn, which costs less. Default: one a prompt.
        template: the layout.
        seed: what the draw depends on.
    """
    queries = draw_shots(task, prompts, seed=f"queries/{seed}")
    contexts = min(contexts or prompts, len(queries))
    built = []
    for number, query in enumerate(queries):
        drawn = draw_shots(task, shots + 1, seed=f"shots/{seed}/{number % contexts}")
        context = [row for row in drawn if row != query][:shots]
        prompt = instructed(task, query, shots=context, template=template)
        built.append((prompt.text, prompt.target))
    return built


def counterfactuals(task: Task, *, prompts: int, shots: int, template: Template = PLAIN, seed: int = 0) -> list[tuple[str, str]]:
    """Prompts whose shots have shuffled answers and no instruction, with the right answers' text (Todd et al. 2310.15213)."""
    built = []
    for number, query in enumerate(draw_shots(task, prompts, seed=f"effects/{seed}")):
        context = draw_shots(task, shots, exclude=query, seed=f"effects/{seed}/{number}")
        prompt = counterfactual(task, query, shots=context, template=template, seed=seed)
        built.append((prompt.text, prompt.target))
    return built


def head_effects(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    mean_heads: Float[Tensor, "layer head head_dim"],
    *,
    prompts: int = 8,
    shots: int = 5,
    screen: int | None = None,
    template: Template = PLAIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "prompt layer head"]:
    """Causal effects of all heads on a task's counterfactual prompts.

    With `screen`, of so many heads only, those with the largest first-order estimates on the same prompts (`screening`);
    the others are NaN.
    """
    built = counterfactuals(task, prompts=prompts, shots=shots, template=template, seed=seed)
    texts, answers = [text for text, _ in built], [answer for _, answer in built]
    heads = None if screen is None else top_heads(estimated_effects(model, tokenizer, texts, answers, mean_heads), screen)
    return causal_effects(model, tokenizer, texts, answers, mean_heads, heads=heads, progress=progress)


def extract(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    heads: Sequence[Head] | None = None,
    k: int = 10,
    prompts: int = 25,
    shots: int = 5,
    contexts: int | None = None,
    effect_prompts: int = 8,
    screen: int | None = None,
    layer: int | None = None,
    template: Template = PLAIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> InstructionVector:
    """The instruction vector of a task.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: its training rows.
        heads: the causal heads, if already known (universal heads over many tasks); else found here.
        k: how many heads to keep otherwise (10 in the papers, for 7B).
        prompts: prompts to average over, N.
        shots: shots a prompt, n (10 in Jiang et al. 2502.11019; fewer fit small models).
        contexts: how many different sets of shots the prompts share (see `demonstrations`).
        effect_prompts: counterfactual prompts to find the heads on.
        screen: measure only so many heads, those with the largest first-order estimates (`screening`); all by default.
        layer: where a summed intervention would go.
        template: the layout of prompts.
        seed: what every draw depends on.
        progress: called with the number of counterfactual prompts done.

    Raises:
        VectorError: k or `screen` larger than the number of heads, k larger than `screen`, or a head that does not exist.
        DataError: an answer that tokenises to nothing, with its row.
    """
    anatomy = anatomy_of(model)
    if heads is None:
        check_count(k, anatomy.n_layers, anatomy.n_heads)
        if screen is not None:
            check_count(screen, anatomy.n_layers, anatomy.n_heads)
            if screen < k:
                raise VectorError(f"a shortlist of {screen} heads cannot hold the {k} that are wanted")
    check_answers(tokenizer, task, template)
    built = demonstrations(task, prompts=prompts, shots=shots, contexts=contexts, template=template, seed=seed)
    means = mean_head_outputs(model, tokenizer, [text for text, _ in built])
    if heads is None:
        effects = head_effects(
            model,
            tokenizer,
            task,
            means,
            prompts=effect_prompts,
            shots=shots,
            screen=screen,
            template=template,
            seed=seed,
            progress=progress,
        )
        heads = top_heads(effects, k)
    metadata = provenance(model, model_fingerprint(model), task, template=template, prompts=len(built), shots=shots, seed=seed)
    return InstructionVector.from_means(model, means, tuple(heads), layer=layer, metadata=metadata)


def provenance(
    model: nn.Module, fingerprint: str, task: Task, *, template: Template, prompts: int, shots: int, seed: int
) -> dict[str, Any]:
    """What a vector's `config.json` records of its making; `fingerprint` is the model's (`model_fingerprint`)."""
    causal_lm = anatomy_of(model).causal_lm
    return {
        "architecture": type(causal_lm).__name__,
        "model": getattr(causal_lm.config, "_name_or_path", ""),
        "model_fingerprint": fingerprint,
        "task": task.name,
        "instruction": task.instruction,
        "task_fingerprint": task.fingerprint,
        "position": "last input token",
        "template": template.name,
        "prompts": prompts,
        "shots": shots,
        "seed": seed,
        "instruction_vectors": __version__,
    }
