"""One sweep up the layers: an answer's log-probability after each of many patches of the prompt's last token.

The prefix is computed once and kept. Then one forward carries a growing row of copies of the last token: row 0 is the clean one;
at layer l a copy for each of its heads joins, with that head patched, and travels up with all that joined below.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from instruction_vectors.models.anatomy import Anatomy
from instruction_vectors.models.hooks import Firings, edit_heads
from instruction_vectors.models.prefix import SharedPrefix, prefill
from instruction_vectors.models.tokens import pad
from instruction_vectors.models.tree import attention_mask
from instruction_vectors.vectors.mediation_slow import Patch, log_probability
from instruction_vectors.vectors.vector import Head


class Question(NamedTuple):
    """Tokens of a prompt and of the answer that is looked for after it."""

    prompt: list[int]
    answer: list[int]


class Patches(NamedTuple):
    """What is done to the last token, one head at a time.

    Attributes:
        heads: whose output is patched, by layer.
        mean_heads: `[layer, head, head_dim]`, what with.
        patch: whether that replaces the output or is added to it.
    """

    heads: Sequence[Head]
    mean_heads: Tensor
    patch: Patch


def sweep(
    anatomy: Anatomy, questions: Sequence[Question], patches: Patches, tokens_at_once: int
) -> Float[Tensor, "question row"]:
    """Log-probability of each answer, for the clean token (row 0) and for each patch, in order (rows 1...)."""
    prefix_ids, prefix_mask = pad([question.prompt[:-1] for question in questions])
    cache = prefill(anatomy, prefix_ids)
    at_once = heads_at_once(questions, tokens_at_once)
    parts = [
        _part(anatomy, cache, prefix_mask, questions, patches._replace(heads=patches.heads[start : start + at_once]))
        for start in range(0, len(patches.heads), at_once)
    ]
    return torch.cat([parts[0], *(part[:, 1:] for part in parts[1:])], dim=1)


def heads_at_once(questions: Sequence[Question], tokens: int) -> int:
    """Heads of these questions that a sweep of so many tokens holds, or one."""
    return max(1, tokens // (len(questions) * max(len(question.answer) for question in questions)) - 1)


def _part(
    anatomy: Anatomy,
    cache: SharedPrefix,
    prefix_mask: Bool[Tensor, "question prefix"],
    questions: Sequence[Question],
    patches: Patches,
) -> Float[Tensor, "question row"]:
    """One sweep over a few of the heads. A row is the last input token and, after it, the answer's tokens but the last."""
    mine = [[head for at, head in patches.heads if at == layer] for layer in range(anatomy.n_layers)]
    rows = 1 + len(patches.heads)
    read, _ = pad([[prompt[-1], *answer[:-1]] for prompt, answer in questions])
    position = torch.tensor([[len(prompt) - 1] for prompt, _ in questions]) + torch.arange(read.shape[1])
    tokens, positions = read.repeat(1, rows), position.repeat(1, rows)
    (batch, prefix), (_, width), (_, total) = prefix_mask.shape, read.shape, tokens.shape
    own = torch.kron(torch.eye(rows), torch.ones(width, width).tril()).bool().expand(batch, 1, total, total)
    allowed = torch.cat([prefix_mask[:, None, None].expand(batch, 1, total, prefix), own], dim=-1)
    key_positions = torch.cat([torch.arange(prefix).expand(batch, prefix), positions], dim=-1)
    with _growing_rows(anatomy, [len(one) for one in mine], width), _one_head_each(anatomy, patches, mine, width):
        hidden = anatomy.backbone(
            input_ids=tokens.to(anatomy.device),
            position_ids=positions.to(anatomy.device),
            attention_mask=attention_mask(anatomy, allowed, positions, key_positions),
            past_key_values=cache,
            use_cache=True,
        )[0]
    wanted, real = pad([answer for _, answer in questions])
    by_token = _log_probabilities(anatomy, hidden, wanted.repeat(1, rows).to(hidden.device)).unflatten(1, (rows, width))
    return by_token.where(real[:, None].to(hidden.device), 0).sum(-1)


def _log_probabilities(
    anatomy: Anatomy, hidden: Float[Tensor, "question token hidden"], answers: Int[Tensor, "question token"], at_once: int = 256
) -> Float[Tensor, "question token"]:
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
    anatomy: Anatomy, patches: Patches, mine: Sequence[Sequence[int]], width: int
) -> AbstractContextManager[Firings]:
    """At each layer, the rows that have just joined get one of its heads replaced each, at the first of their tokens."""

    def edit(layer: int, value: Tensor) -> Tensor:
        value = value.clone()
        heads = torch.tensor(mine[layer], device=value.device)
        joined = value[:, -width * len(heads) :: width]
        rows = torch.arange(len(heads), device=value.device)
        base = joined[:, rows, heads] if patches.patch == "add" else 0
        joined[:, rows, heads] = patches.mean_heads[layer, mine[layer]].to(value) + base
        return value

    return edit_heads(anatomy, {layer for layer, heads in enumerate(mine) if heads}, edit)
