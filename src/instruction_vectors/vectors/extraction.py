"""From prompts to an instruction vector: mean head outputs, causal heads, the vector."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.environment import versions
from instruction_vectors.errors import DataError, VectorError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating
from instruction_vectors.models.hooks import capture_heads
from instruction_vectors.models.loading import fingerprint_if_here, tokenizer_fingerprint
from instruction_vectors.models.memory import Room, out_of_memory
from instruction_vectors.models.tokens import encode, encode_pair
from instruction_vectors.models.tree import TokenTree, chunks
from instruction_vectors.tasks.prompts import PLAIN, Corruption, Template, check_answers
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.choosing import check_count, top_heads
from instruction_vectors.vectors.mediation import Measure, causal_effects, check_finite
from instruction_vectors.vectors.mediation_slow import Patch
from instruction_vectors.vectors.prompting import Source, counterfactuals, demonstrations
from instruction_vectors.vectors.screening import estimated_effects
from instruction_vectors.vectors.vector import Head, InstructionVector, check_heads, shape_of
from instruction_vectors.version import __version__

Progress = Callable[[int], None]

_ROOM = Room()
"""Of a tree of prompts."""


@torch.no_grad()
def mean_head_outputs(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Sequence[int]],
    *,
    answers: Sequence[str] | None = None,
    max_nodes: int = 512,
) -> Float[Tensor, "layer head head_dim"]:
    """Mean output of every head at the last token of the prompts, `h̄_{lj}^c` (Todd et al. 2310.15213, eq. 3).

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        prompts: texts, or their token ids, that end where the answer would begin. Prefixes they share are computed once.
        answers: the right answers; then only prompts count after which the model finds their answer's first token likeliest
            (the filter of Todd et al.).
        max_nodes: tokens a forward; bounds memory, does not change the result. Where memory does not hold them, half as many
            go together, which is said once.

    Returns:
        Tensor `[layer, head, head_dim]`, float32 (float64 for a float64 model), on the CPU.

    Raises:
        DataError: no prompt, one that tokenises to nothing, or none that the model answers right.
        HookError: NaN or infinite activations.
        AnatomyError: the model's heads cannot be found.
        torch.OutOfMemoryError: one prompt does not fit (a CPU raises a plain RuntimeError).
    """
    if isinstance(prompts, str) or not prompts:
        raise DataError("mean head outputs need a list of at least one prompt")
    anatomy = anatomy_of(model)
    ids = [encode(tokenizer, prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    if not all(ids):
        raise DataError(f"prompt {[len(each) for each in ids].index(0) + 1} has no tokens")
    wanted = None if answers is None else _first_tokens(tokenizer, prompts, answers)
    total = torch.zeros(anatomy.n_layers, anatomy.n_heads, anatomy.head_dim, dtype=torch.float64)
    count = 0
    known = room = _ROOM.of(anatomy, max_nodes)
    with evaluating(anatomy.causal_lm):
        groups = chunks(anatomy, ids, room)
        while groups:
            tree = TokenTree.of([ids[i] for i in groups[0]])
            try:
                part, counted = _sums(anatomy, tree, None if wanted is None else wanted[groups[0]])
            except Exception as error:
                if len(groups[0]) == 1 or not out_of_memory(error):
                    raise
                room = min(room, len(tree)) // 2
                left = [i for group in groups for i in group]
                groups = [[left[i] for i in group] for group in chunks(anatomy, [ids[i] for i in left], room)]
            else:
                known = _ROOM.settle(anatomy, known, room)
                total, count, groups = total + part, count + counted, groups[1:]
    if not count:
        raise DataError(f"the model answers none of {len(ids)} prompts right; average over all of them, or give more shots")
    check_finite(total, "mean head outputs are not finite")
    return (total / count).to(torch.float64 if anatomy.dtype == torch.float64 else torch.float32)


def _sums(
    anatomy: Anatomy, tree: TokenTree, wanted: Int[Tensor, " prompt"] | None
) -> tuple[Float[Tensor, "layer head head_dim"], int]:
    """Every head's outputs summed over the ends of a tree's prompts, or of those after which the wanted token is likeliest."""
    ends = torch.tensor([path[-1] for path in tree.paths])
    where = torch.zeros(1, len(tree), dtype=torch.bool)
    where[0, ends] = True
    with capture_heads(anatomy, where) as captured:
        hidden = anatomy.backbone(**tree.model_inputs(anatomy))[0]
    if wanted is not None:
        ends = ends[anatomy.logits(hidden[:, ends])[0].argmax(-1).cpu() == wanted]
    # Captured rows stand in node order; a node that ends several prompts counts once for each.
    rows = torch.searchsorted(where[0].nonzero()[:, 0], ends)
    return torch.stack([layer[rows.to(layer.device)].cpu().double().sum(0) for layer in captured]), len(ends)


def _first_tokens(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | Sequence[int]], answers: Sequence[str]
) -> Int[Tensor, " prompt"]:
    """First token of each prompt's answer, which depends on where the prompt's text ends."""
    if len(prompts) != len(answers) or not all(isinstance(prompt, str) for prompt in prompts):
        raise DataError("answers are looked for after prompts given as texts, one answer each")
    return torch.tensor([encode_pair(tokenizer, p, a)[1][0] for p, a in zip(prompts, answers, strict=True)])  # type: ignore[arg-type]


def told_means(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    prompts: int,
    shots: int,
    contexts: int | None = None,
    source: Source = "demonstrations",
    only_right: bool = False,
    template: Template = PLAIN,
    seed: int = 0,
) -> Float[Tensor, "layer head head_dim"]:
    """`mean_head_outputs` over a task's prompts under its instruction (`demonstrations`), or those of them answered right."""
    built = demonstrations(task, prompts=prompts, shots=shots, contexts=contexts, source=source, template=template, seed=seed)
    answers = [answer for _, answer in built] if only_right else None
    return mean_head_outputs(model, tokenizer, [text for text, _ in built], answers=answers)


def head_effects(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    mean_heads: Float[Tensor, "layer head head_dim"],
    *,
    prompts: int = 8,
    shots: int = 5,
    corruption: Corruption = "shuffle_and_drop",
    measure: Measure = "probability",
    patch: Patch = "replace",
    answers: Sequence[str] | None = None,
    screen: int | None = None,
    template: Template = PLAIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "prompt layer head"]:
    """Causal effects of all heads on a task's counterfactual prompts.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        task: rows to draw prompts from.
        mean_heads: `[layer, head, head_dim]`, mean head outputs under the instruction.
        prompts: counterfactual prompts.
        shots: shots a prompt.
        corruption: what is taken from a prompt so that it no longer says what to do (`tasks.prompts.counterfactual`).
        measure: as in `causal_effects`.
        patch: as in `causal_effects`.
        answers: what is measured after each prompt instead of the task's answers, such as the model's own
            (`analysis.own_answers`).
        screen: measure so many heads only, those with the largest first-order estimates on the same prompts (`screening`);
            the others are NaN.
        template: the layout of prompts.
        seed: what every draw depends on.
        progress: called with the number of prompts done.
    """
    built = counterfactuals(task, prompts=prompts, shots=shots, corruption=corruption, template=template, seed=seed)
    asked = model, tokenizer, [text for text, _ in built], answers or [answer for _, answer in built], mean_heads
    how: dict[str, Any] = {"measure": measure, "patch": patch}
    heads = None if screen is None else top_heads(estimated_effects(*asked, **how), screen)
    return causal_effects(*asked, heads=heads, progress=progress, **how)


def head_scores(effects: Float[Tensor, "*prompt layer head"], heads: Sequence[Head]) -> list[float]:
    """Mean effect of each head, in the order of `heads`: what they were chosen by (`top_heads`)."""
    mean = effects.reshape(-1, *effects.shape[-2:]).mean(0)
    return [float(mean[head]) for head in heads]


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
    source: Source = "demonstrations",
    only_right: bool = False,
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
        source: prompts with solved examples under the instruction, or under the instruction alone in each of its wordings
            (Davidson et al. 2505.12075), which `shots` then does not concern.
        only_right: average only over prompts that the model answers right.
        effect_prompts: counterfactual prompts to find the heads on.
        screen: measure only so many heads, those with the largest first-order estimates (`screening`); all by default.
        layer: where a summed intervention would go.
        template: the layout of prompts.
        seed: what every draw depends on.
        progress: called with the number of counterfactual prompts done.

    Raises:
        VectorError: k or `screen` larger than the number of heads, k larger than `screen`, or a head that does not exist.
        DataError: an answer that tokenises to nothing, with its row; or no prompt that the model answers right.
        HookError: NaN or infinite activations.
    """
    anatomy = anatomy_of(model)
    if heads is None:
        check_count(k, anatomy.n_layers, anatomy.n_heads)
        if screen is not None:
            check_count(screen, anatomy.n_layers, anatomy.n_heads)
            if screen < k:
                raise VectorError(f"a shortlist of {screen} heads cannot hold the {k} that are wanted")
    else:
        heads = check_heads(heads, anatomy)
    if layer is not None and not 0 <= layer < anatomy.n_layers:
        raise VectorError(f"layer {layer} does not exist: the model has {anatomy.n_layers}")
    check_answers(tokenizer, task, template)
    means = told_means(
        model,
        tokenizer,
        task,
        prompts=prompts,
        shots=shots,
        contexts=contexts,
        source=source,
        only_right=only_right,
        template=template,
        seed=seed,
    )
    scores = None
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
        scores = head_scores(effects, heads)
    metadata = provenance(
        model,
        fingerprint_if_here(model),
        task,
        template=template,
        prompts=min(prompts, len(task.rows)),
        shots=shots,
        seed=seed,
        tokenizer=tokenizer,
    )
    metadata |= {"source": source, "only_right": only_right, "scores": scores}
    return InstructionVector.from_means(model, means, tuple(heads), layer=layer, metadata=metadata)


def provenance(
    model: nn.Module,
    fingerprint: str | None,
    task: Task,
    *,
    template: Template,
    prompts: int,
    shots: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """What a vector's `config.json` records of its making.

    Args:
        model: what the vector is made from.
        fingerprint: the model's (`model_fingerprint`), None where its weights are not all at hand.
        task: the task.
        template: the layout of prompts.
        prompts: how many there were.
        shots: shots a prompt.
        seed: what every draw depended on.
        tokenizer: the model's, whose vocabulary is recorded.
    """
    anatomy = anatomy_of(model)
    config = anatomy.causal_lm.config
    optional = {
        "model_fingerprint": fingerprint,
        "revision": getattr(config, "_commit_hash", None),
        "tokenizer_fingerprint": tokenizer_fingerprint(tokenizer),
    }
    return {
        "architecture": type(anatomy.causal_lm).__name__,
        "shape": shape_of(anatomy),
        "model": getattr(config, "_name_or_path", ""),
        **{name: value for name, value in optional.items() if value},
        "task": task.name,
        "instruction": task.instruction,
        "task_fingerprint": task.fingerprint,
        "position": "last input token",
        "template": template.name,
        "prompts": prompts,
        "shots": shots,
        "seed": seed,
        "instruction_vectors": __version__,
        "versions": versions(),
    }
