"""Many token sequences as one packed forward in which every shared prefix is computed once.

Attention is causal, so what a token computes depends on its prefix alone: sequences that begin alike share that work.
A `TokenTree` merges sequences into a prefix tree, lays its nodes out in one row, and lets each node attend to its
ancestors only (a 4-D attention mask) at its own depth (position ids). Values equal those of separate forwards.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from instruction_vectors.errors import ModelError
from instruction_vectors.models.anatomy import Anatomy, evaluating, in_mode, text_config, tolerance
from instruction_vectors.models.blockwise import CALL, BlockwiseMask, in_blocks
from instruction_vectors.models.memory import out_of_memory

Masks = Tensor | dict[str, Tensor]
"""A mask, or one a layer type where a window slides."""


@dataclass(frozen=True)
class TokenTree:
    """A prefix tree over token sequences, parents before children."""

    tokens: Int[Tensor, " node"]
    parents: Int[Tensor, " node"]
    """Index of the node before, -1 for a first token."""
    depths: Int[Tensor, " node"]
    paths: tuple[tuple[int, ...], ...]
    """For each sequence, the nodes its tokens became."""

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], private: Sequence[tuple[int, object]] | None = None) -> "TokenTree":
        """Merge sequences; `private[i] = (place, owner)` keeps the token at `place` apart from other owners' tokens.

        A place where an activation is edited must not be shared with a sequence in which it is not.
        """
        nodes: dict[tuple[int, int, object], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        paths: list[tuple[int, ...]] = []
        for number, sequence in enumerate(sequences):
            place, owner = private[number] if private else (-1, None)
            parent = -1
            path: list[int] = []
            for depth, token in enumerate(sequence):
                key = (parent, int(token), owner if depth == place else None)
                if key not in nodes:
                    nodes[key] = len(tokens)
                    tokens.append(int(token))
                    parents.append(parent)
                    depths.append(depth)
                parent = nodes[key]
                path.append(parent)
            paths.append(tuple(path))
        return cls(torch.tensor(tokens), torch.tensor(parents), torch.tensor(depths), tuple(paths))

    def __len__(self) -> int:
        return len(self.tokens)

    def ancestors(self) -> Bool[Tensor, "node node"]:
        """`[i, j]` is True where node j lies on the path to node i, itself included."""
        reach = torch.eye(len(self), dtype=torch.bool)
        for node, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                reach[node] |= reach[parent]
        return reach

    def model_inputs(self, anatomy: Anatomy, device: torch.device | None = None) -> dict[str, Any]:
        """Keyword arguments for one forward over the whole tree (batch of one), on the model's device or another.

        Raises:
            ModelError: the tree branches and the model cannot read branches (see `packs`).
        """
        if len(self) == int(self.depths.max()) + 1:  # a single path is an ordinary sequence
            return {
                "input_ids": self.tokens[None].to(device or anatomy.device),
                "attention_mask": torch.ones(1, len(self), dtype=torch.long, device=device or anatomy.device),
                "use_cache": False,
            }
        if not packs(anatomy):
            name = type(anatomy.causal_lm).__name__
            raise ModelError(f"{name} cannot read many sequences as one packed tree: run them apart, or padded")
        return self._packed(anatomy, packed_mask(anatomy, self.ancestors()[None, None], self.depths[None], device), device)

    def _packed(self, anatomy: Anatomy, mask: Masks, device: torch.device | None = None) -> dict[str, Any]:
        return {
            "input_ids": self.tokens[None].to(device or anatomy.device),
            "position_ids": self.depths[None].to(device or anatomy.device),
            "attention_mask": mask,
            "use_cache": False,
        }

    def _mask(self, anatomy: Anatomy) -> Masks:
        return attention_mask(anatomy, self.ancestors()[None, None], self.depths[None], self.depths[None])


def packed_mask(
    anatomy: Anatomy,
    allowed: Bool[Tensor, "tree 1 token token"],
    depths: Int[Tensor, "tree token"],
    device: torch.device | None = None,
) -> Tensor | dict[str, Tensor]:
    """The mask of packed rows, in which a model that can skips what is hidden."""
    mask = attention_mask(anatomy, allowed, depths, depths, device)
    return _blockwise(mask) if skips_what_is_hidden(anatomy) else mask


def _blockwise(mask: Masks, call: int = CALL) -> Masks:
    if isinstance(mask, dict):
        return {name: in_blocks(one, call) for name, one in mask.items()}
    return in_blocks(mask, call)


def attention_mask(
    anatomy: Anatomy,
    allowed: Bool[Tensor, "batch 1 query key"],
    positions: Int[Tensor, "batch query"],
    key_positions: Int[Tensor, "batch key"],
    device: torch.device | None = None,
) -> Tensor | dict[str, Tensor]:
    """An additive 4-D mask in the form the model takes: one tensor, or one a layer type where a window slides.

    It lies on the model's device, if no other is named.

    A sliding window of size w keeps keys that lie less than w positions before a query.
    """
    if "position_ids" not in signature(anatomy.backbone.forward).parameters:
        raise ModelError(f"{type(anatomy.causal_lm).__name__} counts its tokens' places itself (it takes no position ids)")
    config = text_config(anatomy.causal_lm)
    if "flash" in _attention(anatomy):
        # Its kernels would read it as a mask of padding: on a GPU that ends in an error from which nothing recovers.
        raise ModelError(f"{_attention(anatomy)} takes no 4-D mask; open the model with attn_implementation='sdpa'")
    window = getattr(config, "sliding_window", None)
    types = set(getattr(config, "layer_types", None) or [])
    # Layers that cut their own window out of the packed row (GPT-Neo's local ones) hide near ancestors stored far away.
    own_window = {"local"} & set(getattr(config, "attention_layers", None) or [])
    if unknown := (types - {"full_attention", "sliding_attention"}) | own_window:
        raise ModelError(f"{type(anatomy.causal_lm).__name__} has {', '.join(sorted(unknown))} layers: no mask is known")
    full = _additive(allowed, anatomy, device or anatomy.device)
    if window is None or types == {"full_attention"} or getattr(config, "use_sliding_window", True) is False:
        return full
    gap = positions[:, None, :, None] - key_positions[:, None, None]
    sliding = _additive(allowed & (gap < window), anatomy, device or anatomy.device)
    if len(types) > 1:
        return {"full_attention": full, "sliding_attention": sliding}
    return sliding


def _additive(allowed: Tensor, anatomy: Anatomy, device: torch.device) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=anatomy.dtype, device=device)
    return mask.masked_fill_(~allowed.to(device), torch.finfo(anatomy.dtype).min)


def _attention(anatomy: Anatomy) -> str:
    return getattr(text_config(anatomy.causal_lm), "_attn_implementation", None) or ""


class _Trial(NamedTuple):
    attention: str
    reads_branches: bool
    goes_by_blocks: bool


_TRIALS: "weakref.WeakKeyDictionary[Anatomy, _Trial]" = weakref.WeakKeyDictionary()


def packs(anatomy: Anatomy) -> bool:
    """Whether the model reads a branching tree as it reads its sequences apart; tried out once a model.

    Families that take no 4-D mask or count places themselves (ALiBi: BLOOM, MPT, some Falcons) do not.

    Raises:
        torch.OutOfMemoryError: memory does not hold the trial (a CPU raises a plain RuntimeError).
    """
    return _tried(anatomy).reads_branches


def skips_what_is_hidden(anatomy: Anatomy) -> bool:
    """Whether attention costs the model no more than the pairs that a mask shows (`models.blockwise`); tried out with `packs`.

    So it is on a CPU where every layer's attention is PyTorch's own, without dropout in training.
    """
    # A model may have been moved since it was tried out.
    return anatomy.device.type == "cpu" and _tried(anatomy).goes_by_blocks


def _tried(anatomy: Anatomy) -> _Trial:
    """Both at once: whoever asks the second may have hooks set by then that a trial would meet."""
    trial, attention = _TRIALS.get(anatomy), _attention(anatomy)
    if trial is None or trial.attention != attention:  # which can be set anew
        reads = _reads_branches(anatomy)
        trial = _Trial(attention, reads, reads and anatomy.device.type == "cpu" and _goes_by_blocks(anatomy))
        _TRIALS[anatomy] = trial
    return trial


def _reads_branches(anatomy: Anatomy) -> bool:
    try:
        return _as_apart(anatomy, _EXAMPLE._mask(anatomy))
    except Exception as error:  # whatever a modelling file trips over when it meets a mask it does not know
        if out_of_memory(error):
            raise
        return False


_EXAMPLE = TokenTree.of([[2, 3, 4, 5], [2, 3, 6], [1, 2]])


@torch.no_grad()
def _as_apart(anatomy: Anatomy, mask: Masks) -> bool:
    """Whether the trial's packed row says what its sequences say apart."""
    with evaluating(anatomy.causal_lm):
        rows = [_EXAMPLE.tokens[list(path)].tolist() for path in _EXAMPLE.paths]
        apart = [anatomy.backbone(**TokenTree.of([row]).model_inputs(anatomy))[0][0] for row in rows]
        packed = anatomy.backbone(**_EXAMPLE._packed(anatomy, mask))[0][0]
    allowed = tolerance(anatomy.dtype, anatomy.device) * max(float(one.abs().max()) for one in apart)
    return all(float((packed[list(path)] - one).abs().max()) <= allowed for path, one in zip(_EXAMPLE.paths, apart, strict=True))


def _goes_by_blocks(anatomy: Anatomy) -> bool:
    mask = _blockwise(_EXAMPLE._mask(anatomy), call=0)
    masks = list(mask.values()) if isinstance(mask, dict) else [mask]
    if not any(isinstance(one, BlockwiseMask) for one in masks) or not _as_apart(anatomy, mask):
        return False
    before = sum(one.plan.calls for one in masks if isinstance(one, BlockwiseMask))
    with in_mode(anatomy.causal_lm, training=True), torch.no_grad(), torch.random.fork_rng(devices=[]):
        anatomy.backbone(**_EXAMPLE._packed(anatomy, mask))
    calls = sum(one.plan.calls for one in masks if isinstance(one, BlockwiseMask))
    return before == anatomy.n_layers and calls == 2 * before


def chunks(anatomy: Anatomy, sequences: Sequence[Sequence[int]], max_nodes: int) -> list[list[int]]:
    """Split sequences into groups whose trees hold at most about `max_nodes` nodes, neighbours in a tree kept together.

    Returns indices into `sequences`; a single sequence longer than `max_nodes` stands alone, and so does every sequence
    of a model that cannot read packed trees.
    """
    if not packs(anatomy):
        max_nodes = 0
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    groups: list[list[int]] = []
    size = 0
    last: tuple[int, ...] = ()
    for index in order:
        sequence = tuple(sequences[index])
        shared = next((k for k, (a, b) in enumerate(zip(sequence, last, strict=False)) if a != b), min(len(sequence), len(last)))
        new = len(sequence) - shared
        if not groups or size + new > max_nodes:
            groups.append([])
            size, new = 0, len(sequence)
        groups[-1].append(index)
        size += new
        last = sequence
    return groups
