"""Adding an instruction vector to a running model, at the right token.

Modes, α being `scale`:

- `distributed`: `z_{lj} ← z_{lj} + α h̄_{lj}^c` at each head of S, before `o_proj`;
- `summed`: `h_l ← h_l + α θ_c` in the residual stream after the vector's layer;
- `replace`: `z_{lj} ← h̄_{lj}^c`.

The place is the *last input token*: the last token before the answer.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from instruction_vectors.errors import HookError, VectorError
from instruction_vectors.models.anatomy import anatomy_of, unwrap
from instruction_vectors.models.hooks import edit_heads, edit_stream, ends_edited

if TYPE_CHECKING:
    from instruction_vectors.vectors.vector import InstructionVector

Mode = Literal["distributed", "summed", "replace"]
Positions = Literal["prefill_end", "labels"] | Tensor
"""Which tokens to edit: the end of the prefill (generation; the last real token of each row), the token before each
first label (scoring and training), or a bool tensor `[batch, seq]`."""


@contextmanager
def applied(
    vector: "InstructionVector",
    model: nn.Module,
    *,
    mode: Mode = "distributed",
    scale: float = 1.0,
    positions: Positions = "prefill_end",
    rows: Sequence[bool] | None = None,
) -> Iterator[None]:
    """Intervene on `model` with `vector` for the length of a `with` block.

    Blocks inside one another add up; with `rows` each acts on its own rows, so that a batch may have a vector a row.

    Raises:
        VectorError: unknown mode, `summed` on a vector without a layer, or no row to edit.
        HookError: on leaving, if the edit never ran or never found a token to edit; inside, if positions cannot be told.
    """
    anatomy = anatomy_of(model)
    with ExitStack() as stack:
        places = stack.enter_context(_tracked(model, positions))
        places.only(rows)
        if mode == "summed":
            if vector.layer is None:
                raise VectorError("a summed intervention needs a layer: set `layer` when extracting, or use mode='distributed'")
            if not anatomy.adds_writes:
                raise VectorError(
                    f"{type(anatomy.causal_lm).__name__} normalises what heads write before adding it to the residual stream, "
                    "so there is no plain sum to add; use mode='distributed'"
                )
            theta = vector.summed.to(anatomy.device)
            # As activations are, not weights: under autocast and over quantised weights the two differ.
            stack.enter_context(edit_stream(anatomy, {vector.layer}, lambda _, h: h + places.column(h) * (theta.to(h) * scale)))
        elif mode in ("distributed", "replace"):
            table = _by_layer(vector, anatomy.device)

            def edit(layer: int, heads: Tensor) -> Tensor:
                index, value = table[layer][0].to(heads.device), table[layer][1].to(heads)
                where = places.column(heads)[..., None]
                old = heads[:, :, index]
                new = old + scale * value if mode == "distributed" else value.expand_as(old)
                return heads.index_copy(2, index, torch.where(where, new, old))

            stack.enter_context(edit_heads(anatomy, set(table), edit))
        else:
            raise VectorError(f"unknown mode {mode!r}; choose distributed, summed or replace")
        yield


def _by_layer(vector: "InstructionVector", device: torch.device) -> dict[int, tuple[Tensor, Tensor]]:
    """For each layer of S, the indices of its heads and their values."""
    table = {}
    for layer in sorted({layer for layer, _ in vector.heads}):
        mine = [i for i, (at, _) in enumerate(vector.heads) if at == layer]
        index = torch.tensor([vector.heads[i][1] for i in mine], device=device)
        table[layer] = index, vector.values[mine].to(device)
    return table


class _Places:
    """The tokens to edit in the forward that is running."""

    def __init__(self, where: Bool[Tensor, "batch seq"] | None = None) -> None:
        self.where = where
        self.found = where is not None
        self.rows: Bool[Tensor, " batch"] | None = None
        self.beams = 1  # of each row, side by side

    def only(self, rows: Sequence[bool] | None) -> None:
        """Leave all other rows alone."""
        if rows is not None and not any(rows):
            raise VectorError("rows must be True for at least one row of the batch")
        self.rows = None if rows is None else torch.tensor([bool(row) for row in rows])

    def set(self, where: Bool[Tensor, "batch seq"] | None) -> None:
        """Say where the next forward is edited (None: it cannot be told)."""
        self.where = where
        self.found = self.found or (where is not None and bool(where.any()))

    def column(self, activations: Tensor) -> Bool[Tensor, "batch seq 1"]:
        """The places as a mask that broadcasts over features."""
        if self.where is None:
            raise HookError("cannot tell which tokens to edit: call the model itself, not a module inside it, or pass positions")
        if self.where.shape != activations.shape[:2]:
            raise HookError(
                f"positions are for a batch of shape {tuple(self.where.shape)}, the model runs {tuple(activations.shape[:2])}"
            )
        return self._chosen(self.where).to(activations.device)[..., None]

    def _chosen(self, where: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        if self.rows is None:
            return where
        if len(where) != len(self.rows) * self.beams:
            raise HookError(f"rows are for a batch of {len(self.rows)}, the model runs {len(where) // self.beams}")
        rows = self.rows.repeat_interleave(self.beams)
        return where & rows.to(where.device)[:, None]


@contextmanager
def _tracked(model: nn.Module, positions: Positions) -> Iterator[_Places]:
    if isinstance(positions, Tensor):
        if positions.dtype != torch.bool or positions.dim() != 2:
            raise VectorError("positions must be a bool tensor of shape [batch, seq], True where the vector goes in")
        if not positions.any():
            raise VectorError("positions are True nowhere, so the vector would go in nowhere; mark the last token of each prompt")
        yield _Places(positions)
        return
    if positions not in ("prefill_end", "labels"):
        raise VectorError(f"unknown positions {positions!r}; choose 'prefill_end', 'labels', or pass a bool tensor")
    places = _Places()
    with _labels_watched(model, places) if positions == "labels" else _prefill_watched(model, places):
        yield places
    if not places.found:
        raise HookError(
            "no token was edited: no answer has an input before it (mask the labels of the prompts, -100, and no others)"
            if positions == "labels"
            else "no token was edited: no forward held the end of a prompt (was its cache filled before the `with` block?)"
        )


@contextmanager
def _labels_watched(model: nn.Module, places: _Places) -> Iterator[None]:
    def watch(module: nn.Module, args: tuple, kwargs: dict) -> None:
        labels = kwargs.get("labels")
        # A wrapper may keep the labels to itself, so a call inside it that brings none changes nothing.
        if labels is not None or module is model:
            places.set(None if labels is None else label_starts(labels, kwargs.get("attention_mask")))

    modules = {id(m): m for m in (model, unwrap(model))}
    with ExitStack() as stack:
        for module in modules.values():
            stack.callback(module.register_forward_pre_hook(watch, with_kwargs=True).remove)
        yield


@contextmanager
def _prefill_watched(model: nn.Module, places: _Places) -> Iterator[None]:
    causal_lm = unwrap(model)
    original, own = causal_lm.generate, causal_lm.__dict__.get("generate")
    prompt_ends: Int[Tensor, " row"] | None = None
    outer: dict[str, Any] = {}

    def note(module: nn.Module, args: tuple, kwargs: dict) -> None:
        # A model that reads images too hands its backbone masks that it has made of the caller's, or of none.
        nonlocal outer
        outer = {"attention_mask": signature(module.forward).bind_partial(*args, **kwargs).arguments.get("attention_mask")}

    def forget(*_: Any) -> None:
        nonlocal outer
        outer = {}

    def generate(*args: Any, **kwargs: Any) -> Any:
        # Without a cache every decoding step runs the prompt again: only `generate` knows where it ended.
        nonlocal prompt_ends
        prompt_ends = _last_tokens(kwargs.get("inputs", args[0] if args else None), kwargs)
        try:
            return original(*args, **kwargs)
        finally:
            prompt_ends = None

    def watch(module: nn.Module, args: tuple, kwargs: dict) -> None:
        tokens = _tokens(args[0] if args else None, kwargs)
        cache = kwargs.get("past_key_values")
        seen = int(cache.get_seq_length()) if cache is not None else 0
        where = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        ends = prompt_ends
        if ends is None and seen == 0:
            ends = _last_tokens(tokens, kwargs | outer)
        if ends is not None:
            places.beams = max(1, len(where) // len(ends))
            ends = ends.to(tokens.device).repeat_interleave(places.beams) - seen
            inside = ((ends >= 0) & (ends < where.shape[1])).nonzero().flatten()
            where[inside, ends[inside]] = True
        places.set(where)

    anatomy = anatomy_of(model)
    # Every path ends in the backbone, PEFT's and generation's included.
    handles = [
        causal_lm.register_forward_pre_hook(note, with_kwargs=True),
        causal_lm.register_forward_hook(forget, always_call=True),
        anatomy.backbone.register_forward_pre_hook(watch, with_kwargs=True),
    ]
    causal_lm.generate = generate
    try:
        with ends_edited(anatomy):
            yield
    finally:
        for handle in handles:
            handle.remove()
        if own is None:
            del causal_lm.generate
        else:
            causal_lm.generate = own


def _tokens(first: Tensor | None, kwargs: dict) -> Tensor:
    given = (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), first)
    tokens = next((value for value in given if value is not None), None)
    if tokens is None:
        raise HookError("cannot tell which tokens to edit: the call brings neither input_ids nor inputs_embeds")
    return tokens


def _last_tokens(first: Tensor | None, kwargs: dict) -> Int[Tensor, " row"]:
    """Index of the last real token of each row."""
    tokens = _tokens(first, kwargs)
    batch, seq = tokens.shape[:2]
    mask = kwargs.get("attention_mask")
    if mask is None:
        return torch.full((batch,), seq - 1, device=tokens.device)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise HookError("with a 4-D attention mask the last token is not known: pass positions as a bool tensor")
    return (mask[:, :seq].long() * torch.arange(1, seq + 1, device=mask.device)).argmax(dim=1)


def label_starts(labels: Tensor, attention_mask: Tensor | None = None) -> Bool[Tensor, "batch seq"]:
    """True at each token that is followed by the first label of a run: the last input token of every answer.

    Never at padding, where `attention_mask` `[batch, seq]` says which it is.
    """
    labelled = labels != -100
    starts = labelled[:, 1:] & ~labelled[:, :-1]
    starts = torch.cat([starts, torch.zeros_like(starts[:, :1])], dim=1)
    if not isinstance(attention_mask, Tensor) or attention_mask.dim() != 2:
        return starts
    return starts & attention_mask[:, -labels.shape[1] :].bool()  # a cache's tokens stand before those of the labels
