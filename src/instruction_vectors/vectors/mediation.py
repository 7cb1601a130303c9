r"""Exact causal effects of every attention head, in one sweep up the layers.

$$CE_{lj} = P_{M[z_{lj} := \bar h_{lj}^c]}(y \mid \hat p, x) - P_M(y \mid \hat p, x)$$

(Todd et al. 2310.15213, eq. 4-5; Jiang et al. 2406.12227 §4.) Only the last token is patched and attention is causal,
so the prefix's keys and values never change: they are computed once, and all patches go up the layers in one forward (`sweep`).
Cost: one pass over the prefix and `n_heads * L^2 / 2` one-token layer passes, against `L * n_heads` whole forwards. Where a model
does not fit this, found out numerically, whole forwards are run.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, HookError, ModelError, VectorError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating, tolerance
from instruction_vectors.models.hooks import refuse_ends_edited
from instruction_vectors.models.memory import Room, out_of_memory
from instruction_vectors.models.tokens import encode, encode_pair
from instruction_vectors.settings import one_of
from instruction_vectors.vectors.mediation_slow import Patch, whole_forwards
from instruction_vectors.vectors.sweep import Patches, Question, heads_at_once, sweep
from instruction_vectors.vectors.vector import Head, check_heads

logger = logging.getLogger(__name__)

Measure = Literal["probability", "log_probability", "answer"]
"""Of the answer's first token, or the log-probability of the whole answer."""


@torch.no_grad()
def causal_effects(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    targets: Sequence[str],
    mean_heads: Float[Tensor, "layer head head_dim"],
    *,
    measure: Measure = "probability",
    patch: Patch = "replace",
    heads: Sequence[Head] | None = None,
    batch_size: int | None = None,
    tokens_at_once: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "prompt layer head"]:
    """Change in the target's probability when one head's output at the last prompt token is replaced.

    The causal indirect effect of Todd et al. 2310.15213 (CE_{lj} in Jiang et al. 2502.11019, App. A), exact.

    Args:
        model: a decoder-only causal language model.
        tokenizer: its tokenizer.
        prompts: counterfactual prompts (shots with shuffled labels, no instruction).
        targets: the right answers, each with its leading space.
        mean_heads: `[layer, head, head_dim]`, mean head outputs under the instruction (`mean_head_outputs`).
        measure: a difference of probabilities of the answer's first token (the papers'), of its log-probabilities, or of
            those of the whole answer, whose cost is that of the first token times the answer's tokens.
        patch: replace the head's output (the papers') or add to it.
        heads: the heads to measure, such as a shortlist of `screening`; all by default. The cost falls with their number.
        batch_size: prompts swept together at most; as many as `tokens_at_once` allows by default. Results do not change.
        tokens_at_once: tokens of one forward at most: the prompts' own, or those that a sweep carries up for all their heads;
            bounds memory, does not change results. Where memory does not hold them, fewer prompts go together, then fewer
            heads of one, which is said once.
        progress: called with the number of prompts finished after each batch.

    Returns:
        Tensor `[prompt, layer, head]` on the CPU, in the units of `measure`; float32 (float64 for a float64 model). NaN for
        heads that were not asked for.

    Raises:
        DataError: an empty list, an answer that tokenises to nothing, or a batch of fewer than one prompt.
        VectorError: a head that does not exist, or another word for `measure` or `patch`.
        HookError: the sweep's hooks did not run at every layer, the model produced NaN or infinite activations, or
            a vector goes in at the ends of prompts meanwhile.
        torch.OutOfMemoryError: one prompt and one head do not fit (a CPU raises a plain RuntimeError).
    """
    one_of(Measure, measure, "measure", VectorError)
    one_of(Patch, patch, "patch", VectorError)
    anatomy = anatomy_of(model)
    expected = (anatomy.n_layers, anatomy.n_heads, anatomy.head_dim)
    if tuple(mean_heads.shape) != expected:
        raise DataError(f"mean_heads has shape {tuple(mean_heads.shape)}, the model's heads need {expected}")
    check_pairs(prompts, targets)
    refuse_ends_edited(anatomy, "measure effects outside of the `with` block")
    if batch_size is not None and batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    questions = [
        Question(encode(tokenizer, prompt), measured_tokens(tokenizer, prompt, target, measure))
        for prompt, target in zip(prompts, targets, strict=True)
    ]
    asked = sorted(set(check_heads(all_heads(anatomy) if heads is None else heads, anatomy)))
    patches = Patches(asked, mean_heads.to(anatomy.device, anatomy.dtype), patch)
    effects: list[Tensor] = []
    with evaluating(anatomy.causal_lm):
        for scores in _scores(anatomy, questions, patches, tokens_at_once, batch_size):
            scores = scores.exp() if measure == "probability" else scores
            effects.append((scores[:, 1:] - scores[:, :1]).cpu())
            check_finite(effects[-1], "effects are not finite")
            if progress:
                progress(sum(map(len, effects)))
    found = torch.cat(effects)
    result = found.new_full((len(questions), *expected[:2]), float("nan"))
    result[:, *torch.tensor(asked).T] = found
    return result


def check_pairs(prompts: Sequence[str], targets: Sequence[str]) -> None:
    """Complain of prompts without their answers, or of none.

    Raises:
        DataError: so it is.
    """
    if isinstance(prompts, str) or isinstance(targets, str) or len(prompts) != len(targets) or not prompts:
        raise DataError(f"need as many targets as prompts, and at least one: got {len(prompts)} and {len(targets)}")


def check_finite(values: Tensor, complaint: str) -> None:
    """Complain of values that a model's activations have spoilt.

    Raises:
        HookError: NaN or infinite values.
    """
    if not torch.isfinite(values).all():
        raise HookError(f"{complaint}: the model produced NaN or infinite activations on these prompts")


_CHECKED: "weakref.WeakKeyDictionary[Anatomy, float]" = weakref.WeakKeyDictionary()
"""Length of the longest prompt with its answer on which a model's sweep was found exact, or `_NEVER`."""
_NEVER = float("inf")


_ROOM = Room()
"""Of a sweep, in tokens at once."""


def measured_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, measure: Measure) -> list[int]:
    """The tokens of an answer that a measure is over.

    Raises:
        DataError: an answer that tokenises to nothing.
    """
    tokens = encode_pair(tokenizer, prompt, target)[1]
    return tokens if measure == "answer" else tokens[:1]


def _scores(
    anatomy: Anatomy, questions: Sequence[Question], patches: Patches, tokens_at_once: int, most: int | None
) -> Iterator[Float[Tensor, "question row"]]:
    """The sweep's log-probabilities of one batch of questions after another, of whole forwards if it does not fit the model."""
    known = room = _ROOM.of(anatomy, tokens_at_once)
    start = 0
    while start < len(questions):
        if _CHECKED.get(anatomy) is _NEVER:
            sets = [(), *((head,) for head in patches.heads)]
            yield _whole(anatomy, questions[start], patches, sets, tokens_at_once)[None]
            start += 1
            continue
        batch = _batch(questions[start:], len(patches.heads), room, most)
        try:
            scores = _checked_sweep(anatomy, batch, patches, room)
        except HookError:
            raise
        except Exception as error:  # whatever a modelling file trips over when it meets a mask it does not know
            if not out_of_memory(error):
                logger.warning(
                    "%s does not fit the shared-prefix sweep (%s): running a whole forward for every head, which is slower",
                    type(anatomy.causal_lm).__name__,
                    error,
                )
                _CHECKED[anatomy] = _NEVER
            elif not (room := _halved(batch, len(patches.heads), room)):
                raise
        else:
            known = _ROOM.settle(anatomy, known, room)
            start += len(batch)
            yield scores


def _batch(questions: Sequence[Question], heads: int, room: int, most: int | None) -> Sequence[Question]:
    """The first questions side by side, so that weights are read once for all: as many as a forward has room for."""
    count = 1
    while count < len(questions) and count != most and _tokens(questions[: count + 1], heads) <= room:
        count += 1
    return questions[:count]


def _tokens(questions: Sequence[Question], heads: int) -> int:
    """Tokens of one forward at most: the prompts' own, or those carried up for the heads."""
    longest = [max(map(len, side)) for side in zip(*questions, strict=True)]
    return len(questions) * max(longest[0], (1 + heads) * longest[1])


def _halved(questions: Sequence[Question], heads: int, room: int) -> int:
    """Room for half of a batch that memory did not hold: fewer questions, or fewer heads of one; 0 if it was one of one."""
    if len(questions) > 1:
        return _tokens(questions, heads) // 2
    heads = min(heads, heads_at_once(questions, room))
    return (1 + heads) * len(questions[0].answer) // 2 if heads > 1 else 0


def _checked_sweep(anatomy: Anatomy, questions: Sequence[Question], patches: Patches, room: int) -> Float[Tensor, "question row"]:
    """The sweep, compared with whole forwards on the first questions and on any longer than those before."""
    swept = sweep(anatomy, questions, patches, room)
    lengths = [len(prompt) + len(answer) - 1 for prompt, answer in questions]
    longest = max(range(len(questions)), key=lengths.__getitem__)
    if lengths[longest] > _CHECKED.get(anatomy, 0):
        _compare(anatomy, swept[longest], questions[longest], patches, room)
        _CHECKED[anatomy] = lengths[longest]
    return swept


def _compare(anatomy: Anatomy, swept: Float[Tensor, " row"], question: Question, patches: Patches, room: int) -> None:
    """Raise ModelError unless the clean row and the last of those that go up the farthest equal ordinary forwards.

    Raises:
        HookError: the ordinary forwards are not numbers, so that there is nothing to compare with.
    """
    farthest = sum(layer == patches.heads[0][0] for layer, _ in patches.heads)
    whole = _whole(anatomy, question, patches, [(), (patches.heads[farthest - 1],)], room)
    check_finite(whole.exp(), "effects are not finite")  # of a probability of 0 the logarithm alone is infinite
    gap = float((swept[[0, farthest]] - whole).abs().max())
    allowed = tolerance(anatomy.dtype, anatomy.device) * max(1.0, float(whole.abs().max()))
    if not gap <= allowed:  # a sweep's NaN is no match either
        raise ModelError(f"it is off by {gap:.1e} nats on a prompt of {len(question.prompt)} tokens")


def _whole(
    anatomy: Anatomy, question: Question, patches: Patches, sets: Sequence[Sequence[Head]], tokens_at_once: int
) -> Float[Tensor, " set"]:
    return whole_forwards(anatomy, *question, patches.mean_heads, patches.patch, sets, tokens_at_once=tokens_at_once)


def all_heads(anatomy: Anatomy) -> list[Head]:
    """Every head of the model."""
    return [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
