r"""Exact causal effects of every attention head, in one sweep up the layers.

$$CE_{lj} = P_{M[z_{lj} := \bar h_{lj}^c]}(y \mid \hat p, x) - P_M(y \mid \hat p, x)$$

(Todd et al. 2310.15213, eq. 4-5; Jiang et al. 2406.12227 §4.) Only the last token is patched and attention is causal,
so the prefix's keys and values never change: they are computed once. Then one forward carries a growing row of copies of
the last token: row 0 is the clean token; at layer l, `n_heads` copies of it join, each with one head replaced, and travel
up together with all that joined below. Cost: one pass over the prefix and `n_heads * L^2 / 2` one-token layer passes,
against `L * n_heads` whole forwards. Where a model does not fit this, found out numerically, whole forwards are run.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, HookError, ModelError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, evaluating, tolerance
from instruction_vectors.models.hooks import Firings, edit_heads
from instruction_vectors.models.memory import Room, out_of_memory
from instruction_vectors.models.prefix import SharedPrefix, prefill
from instruction_vectors.models.tokens import encode, encode_pair, pad
from instruction_vectors.models.tree import attention_mask
from instruction_vectors.vectors.mediation_slow import Patch, log_probability, whole_forwards
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
        VectorError: a head that does not exist.
        HookError: the sweep's hooks did not run at every layer, or the model produced NaN or infinite activations.
        torch.OutOfMemoryError: one prompt and one head do not fit (a CPU raises a plain RuntimeError).
    """
    anatomy = anatomy_of(model)
    expected = (anatomy.n_layers, anatomy.n_heads, anatomy.head_dim)
    if tuple(mean_heads.shape) != expected:
        raise DataError(f"mean_heads has shape {tuple(mean_heads.shape)}, the model's heads need {expected}")
    if len(prompts) != len(targets) or not prompts:
        raise DataError(f"need as many targets as prompts, and at least one: got {len(prompts)} and {len(targets)}")
    if batch_size is not None and batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    answers = [measured_tokens(tokenizer, p, t, measure) for p, t in zip(prompts, targets, strict=True)]
    ids = [encode(tokenizer, p) for p in prompts]
    mean_heads = mean_heads.to(anatomy.device, anatomy.dtype)
    asked = sorted(set(all_heads(anatomy) if heads is None else heads))
    check_heads(asked, anatomy)
    effects: list[Tensor] = []
    with evaluating(anatomy.causal_lm):
        for scores in _scores(anatomy, ids, answers, mean_heads, patch, asked, tokens_at_once, batch_size):
            scores = scores.exp() if measure == "probability" else scores
            effects.append((scores[:, 1:] - scores[:, :1]).cpu())
            check_finite(effects[-1], "effects are not finite")
            if progress:
                progress(sum(map(len, effects)))
    found = torch.cat(effects)
    result = found.new_full((len(ids), *expected[:2]), float("nan"))
    result[:, *torch.tensor(asked).T] = found
    return result


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
    anatomy: Anatomy,
    ids: list[list[int]],
    answers: list[list[int]],
    mean_heads: Tensor,
    patch: Patch,
    asked: Sequence[Head],
    tokens_at_once: int,
    most: int | None,
) -> Iterator[Float[Tensor, "prompt row"]]:
    """The sweep's log-probabilities of one batch of prompts after another, of whole forwards if it does not fit the model."""
    known = room = _ROOM.of(anatomy, tokens_at_once)
    start = 0
    while start < len(ids):
        if _CHECKED.get(anatomy) is _NEVER:
            sets = [(), *((head,) for head in asked)]
            given = anatomy, ids[start], answers[start], mean_heads, patch, sets
            yield whole_forwards(*given, tokens_at_once=tokens_at_once)[None]
            start += 1
            continue
        batch = _batch(ids, answers, start, len(asked), room, most)
        try:
            scores = _checked_sweep(anatomy, ids[batch], answers[batch], mean_heads, patch, asked, room)
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
            elif not (room := _halved(ids[batch], answers[batch], len(asked), room)):
                raise
        else:
            known = _ROOM.settle(anatomy, known, room)
            start = batch.stop
            yield scores


def _batch(
    ids: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], start: int, heads: int, room: int, most: int | None
) -> slice:
    """The next prompts side by side, so that weights are read once for all: as many as a forward has room for."""
    stop = start + 1
    while stop < len(ids) and stop - start != most and _tokens(ids[start : stop + 1], answers[start : stop + 1], heads) <= room:
        stop += 1
    return slice(start, stop)


def _tokens(ids: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], heads: int) -> int:
    """Tokens of one forward at most: the prompts' own, or those carried up for the heads."""
    return len(ids) * max(*map(len, ids), (1 + heads) * max(map(len, answers)))


def _halved(ids: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], heads: int, room: int) -> int:
    """Room for half of a batch that memory did not hold: fewer prompts, or fewer heads of one; 0 if it was one of one."""
    if len(ids) > 1:
        return _tokens(ids, answers, heads) // 2
    heads = min(heads, _heads_a_part(answers, room))
    return (1 + heads) * len(answers[0]) // 2 if heads > 1 else 0


def _heads_a_part(answers: Sequence[Sequence[int]], room: int) -> int:
    return max(1, room // (len(answers) * max(map(len, answers))) - 1)


def _checked_sweep(
    anatomy: Anatomy,
    ids: list[list[int]],
    answers: list[list[int]],
    mean_heads: Tensor,
    patch: Patch,
    asked: Sequence[Head],
    room: int,
) -> Float[Tensor, "prompt row"]:
    """The sweep, compared with whole forwards on the first prompts and on any longer than those before."""
    swept = _sweep(anatomy, ids, answers, mean_heads, patch, asked, room)
    lengths = [len(one) + len(answer) - 1 for one, answer in zip(ids, answers, strict=True)]
    longest = max(range(len(ids)), key=lengths.__getitem__)
    if lengths[longest] > _CHECKED.get(anatomy, 0):
        _compare(anatomy, swept[longest], ids[longest], answers[longest], mean_heads, patch, asked, room)
        _CHECKED[anatomy] = lengths[longest]
    return swept


def _compare(
    anatomy: Anatomy,
    swept: Tensor,
    ids: list[int],
    answer: list[int],
    mean_heads: Tensor,
    patch: Patch,
    asked: Sequence[Head],
    tokens_at_once: int,
) -> None:
    """Raise ModelError unless the clean row and the last of those that go up the farthest equal ordinary forwards.

    Raises:
        HookError: the ordinary forwards are not numbers, so that there is nothing to compare with.
    """
    farthest = sum(layer == asked[0][0] for layer, _ in asked)
    sets = (), (asked[farthest - 1],)
    whole = whole_forwards(anatomy, ids, answer, mean_heads, patch, sets, tokens_at_once=tokens_at_once)
    check_finite(whole.exp(), "effects are not finite")  # of a probability of 0 the logarithm alone is infinite
    gap = float((swept[[0, farthest]] - whole).abs().max())
    if not gap <= tolerance(anatomy.dtype) * max(1.0, float(whole.abs().max())):  # a sweep's NaN is no match either
        raise ModelError(f"it is off by {gap:.1e} nats on a prompt of {len(ids)} tokens")


def _sweep(
    anatomy: Anatomy,
    ids: list[list[int]],
    answers: list[list[int]],
    mean_heads: Tensor,
    patch: Patch,
    asked: Sequence[Head],
    tokens_at_once: int,
) -> Float[Tensor, "prompt row"]:
    """Log-probability of each answer, for the clean token (row 0) and for each head asked for, in order (rows 1...)."""
    prefix_ids, prefix_mask = pad([row[:-1] for row in ids])
    cache = prefill(anatomy, prefix_ids)
    at_once = _heads_a_part(answers, tokens_at_once)
    parts = [
        _sweep_part(anatomy, cache, prefix_mask, ids, answers, mean_heads, patch, asked[start : start + at_once])
        for start in range(0, len(asked), at_once)
    ]
    return torch.cat([parts[0], *(part[:, 1:] for part in parts[1:])], dim=1)


def _sweep_part(
    anatomy: Anatomy,
    cache: SharedPrefix,
    prefix_mask: Bool[Tensor, "prompt prefix"],
    ids: list[list[int]],
    answers: list[list[int]],
    mean_heads: Tensor,
    patch: Patch,
    asked: Sequence[Head],
) -> Float[Tensor, "prompt row"]:
    """One sweep over a few of the heads. A row is the last input token and, after it, the answer's tokens but the last."""
    mine = [[head for at, head in asked if at == layer] for layer in range(anatomy.n_layers)]
    rows = 1 + len(asked)
    read, _ = pad([[row[-1], *answer[:-1]] for row, answer in zip(ids, answers, strict=True)])
    position = torch.tensor([[len(row) - 1] for row in ids]) + torch.arange(read.shape[1])
    tokens, positions = read.repeat(1, rows), position.repeat(1, rows)
    (batch, prefix), (_, width), (_, total) = prefix_mask.shape, read.shape, tokens.shape
    own = torch.kron(torch.eye(rows), torch.ones(width, width).tril()).bool().expand(batch, 1, total, total)
    allowed = torch.cat([prefix_mask[:, None, None].expand(batch, 1, total, prefix), own], dim=-1)
    key_positions = torch.cat([torch.arange(prefix).expand(batch, prefix), positions], dim=-1)
    with _growing_rows(anatomy, [len(one) for one in mine], width), _one_head_each(anatomy, mean_heads, patch, mine, width):
        hidden = anatomy.backbone(
            input_ids=tokens.to(anatomy.device),
            position_ids=positions.to(anatomy.device),
            attention_mask=attention_mask(anatomy, allowed, positions, key_positions),
            past_key_values=cache,
            use_cache=True,
        )[0]
    wanted, real = pad(answers)
    by_token = _log_probabilities(anatomy, hidden, wanted.repeat(1, rows).to(hidden.device)).unflatten(1, (rows, width))
    return by_token.where(real[:, None].to(hidden.device), 0).sum(-1)


def _log_probabilities(
    anatomy: Anatomy, hidden: Float[Tensor, "prompt token hidden"], answers: Int[Tensor, "prompt token"], at_once: int = 256
) -> Float[Tensor, "prompt token"]:
    """Log-probability of the token that each token is to predict; the head runs over a few at a time."""
    parts = zip(hidden.flatten(0, 1).split(at_once), answers.flatten().split(at_once), strict=True)
    found = [log_probability(anatomy.logits(part[None])[0], answer) for part, answer in parts]
    return torch.cat(found).view(answers.shape)


@contextmanager
def _growing_rows(anatomy: Anatomy, joining: Sequence[int], width: int) -> Iterator[None]:
    """Let each layer run only the rows, `width` tokens each, that exist by then: row 0, and those of the heads up to its own."""

    def at(layer: int) -> Callable:
        before = width * (1 + sum(joining[:layer]))
        after = before + width * joining[layer]

        def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            hidden = args[0] if args else kwargs["hidden_states"]
            grown = torch.cat([hidden[:, :before], hidden[:, :width].repeat(1, joining[layer], 1)], dim=1)
            kwargs = {name: _first_tokens(name, value, after) for name, value in kwargs.items()}
            args = tuple(_first_tokens("", value, after) for value in args[1:])
            return ((grown, *args), kwargs) if "hidden_states" not in kwargs else ((), {**kwargs, "hidden_states": grown})

        return hook

    with ExitStack() as stack:
        for layer, module in enumerate(anatomy.layers):
            stack.callback(module.register_forward_pre_hook(at(layer), with_kwargs=True).remove)
        yield


def _first_tokens(name: str, value: Any, count: int) -> Any:
    """Cut a layer's per-token argument down to the first `count` tokens."""
    if name == "position_embeddings" or (isinstance(value, tuple) and all(isinstance(v, Tensor) for v in value)):
        return tuple(v[:, :count] for v in value)
    if not isinstance(value, Tensor):
        return value
    if value.dim() == 4:  # attention mask [batch, 1, token, prefix + token]
        return value[:, :, :count, : value.shape[3] - value.shape[2] + count]
    if value.dim() == 2:  # position ids [batch, token]
        return value[:, :count]
    return value


def _one_head_each(
    anatomy: Anatomy, mean_heads: Tensor, patch: Patch, mine: Sequence[Sequence[int]], width: int
) -> AbstractContextManager[Firings]:
    """At each layer, the rows that have just joined get one of its heads replaced each, at the first of their tokens."""

    def edit(layer: int, value: Tensor) -> Tensor:
        value = value.clone()
        heads = torch.tensor(mine[layer], device=value.device)
        joined = value[:, -width * len(heads) :: width]
        rows = torch.arange(len(heads), device=value.device)
        base = joined[:, rows, heads] if patch == "add" else 0
        joined[:, rows, heads] = mean_heads[layer, mine[layer]].to(value) + base
        return value

    return edit_heads(anatomy, {layer for layer, heads in enumerate(mine) if heads}, edit)


def all_heads(anatomy: Anatomy) -> list[Head]:
    """Every head of the model."""
    return [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
