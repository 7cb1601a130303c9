"""Many token sequences as one packed forward in which every shared prefix is computed once.

Attention is causal, so what a token computes depends on its prefix alone: sequences that begin alike share that work.
A `TokenTree` merges sequences into a prefix tree, lays its nodes out in one row, and lets each node attend to its
ancestors only (a 4-D attention mask) at its own depth (position ids). Values equal those of separate forwards.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from instruction_vectors.errors import ModelError
from instruction_vectors.models.anatomy import Anatomy, evaluating, text_config, tolerance
from instruction_vectors.models.block_mask import in_blocks
from instruction_vectors.models.memory import out_of_memory


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

    def model_inputs(self, anatomy: Anatomy) -> dict[str, Any]:
        """Keyword arguments for one forward over the whole tree (batch of one).

        Raises:
            ModelError: the tree branches and the model cannot read branches (see `packs`).
        """
        if len(self) == int(self.depths.max()) + 1:  # a single path is an ordinary sequence
            return {
                "input_ids": self.tokens[None].to(anatomy.device),
                "attention_mask": torch.ones(1, len(self), dtype=torch.long, device=anatomy.device),
                "use_cache": False,
            }
        if not packs(anatomy):
            name = type(anatomy.causal_lm).__name__
            raise ModelError(f"{name} cannot read many sequences as one packed tree: run them apart, or padded")
        return self._packed(anatomy)

    def _packed(self, anatomy: Anatomy) -> dict[str, Any]:
        gap = self.depths[:, None] - self.depths[None, :]
        return {
            "input_ids": self.tokens[None].to(anatomy.device),
            "position_ids": self.depths[None].to(anatomy.device),
            "attention_mask": attention_mask(anatomy, self.ancestors()[None, None], gap[None, None]),
            "use_cache": False,
        }


def attention_mask(
    anatomy: Anatomy, allowed: Bool[Tensor, "batch 1 query key"], gap: Int[Tensor, "batch 1 query key"]
) -> Tensor | dict[str, Tensor]:
    """An additive 4-D mask in the form the model takes: one tensor, or one a layer type where a window slides.

    `gap` is how many positions a query lies after a key; a sliding window of size w keeps gaps below w.
    """
    if "position_ids" not in signature(anatomy.backbone.forward).parameters:
        raise ModelError(f"{type(anatomy.causal_lm).__name__} counts its tokens' places itself (it takes no position ids)")
    config = text_config(anatomy.causal_lm)
    window = getattr(config, "sliding_window", None)
    types = set(getattr(config, "layer_types", None) or [])
    # Layers that cut their own window out of the packed row (GPT-Neo's local ones) hide near ancestors stored far away.
    own_window = {"local"} & set(getattr(config, "attention_layers", None) or [])
    if unknown := (types - {"full_attention", "sliding_attention"}) | own_window:
        raise ModelError(f"{type(anatomy.causal_lm).__name__} has {', '.join(sorted(unknown))} layers: no mask is known")
    full = _additive(allowed, anatomy)
    if window is None or types == {"full_attention"} or getattr(config, "use_sliding_window", True) is False:
        return full
    sliding = _additive(allowed & (gap < window), anatomy)
    if len(types) > 1:
        return {"full_attention": full, "sliding_attention": sliding}
    return sliding


def _additive(allowed: Tensor, anatomy: Anatomy) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=anatomy.dtype, device=anatomy.device)
    return in_blocks(mask.masked_fill_(~allowed.to(anatomy.device), torch.finfo(anatomy.dtype).min))


_PACKS: "weakref.WeakKeyDictionary[Anatomy, bool]" = weakref.WeakKeyDictionary()


def packs(anatomy: Anatomy) -> bool:
    """Whether the model reads a branching tree as it reads its sequences apart; tried out once a model.

    Families that take no 4-D mask or count places themselves (ALiBi: BLOOM, MPT, some Falcons) do not.

    Raises:
        torch.OutOfMemoryError: memory does not hold the trial (a CPU raises a plain RuntimeError).
    """
    if anatomy not in _PACKS:
        _PACKS[anatomy] = _reads_branches(anatomy)
    return _PACKS[anatomy]


@torch.no_grad()
def _reads_branches(anatomy: Anatomy) -> bool:
    sequences = [[2, 3, 4, 5], [2, 3, 6], [1, 2]]
    tree = TokenTree.of(sequences)
    with evaluating(anatomy.causal_lm):
        apart = [anatomy.backbone(**TokenTree.of([s]).model_inputs(anatomy))[0][0] for s in sequences]
        try:
            packed = anatomy.backbone(**tree._packed(anatomy))[0][0]
        except Exception as error:  # whatever a modelling file trips over when it meets a mask it does not know
            if out_of_memory(error):
                raise
            return False
    allowed = tolerance(anatomy.dtype) * max(float(one.abs().max()) for one in apart)
    return all(float((packed[list(path)] - one).abs().max()) <= allowed for path, one in zip(tree.paths, apart, strict=True))


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
