"""Sequences as a padded batch of prefix trees: as many as make the fewest operations.

One tree shares the most, but its attention is among all its tokens. Sequences that share little are cheaper in several
trees, side by side as the rows of a batch; at the other end every sequence is a row of its own, which is ordinary padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instruction_vectors.models.anatomy import Anatomy
from instruction_vectors.models.tree import TokenTree, packed_mask

Private = Sequence[tuple[int, object]]
"""For each sequence a place and its owner; see `TokenTree.of`."""


@dataclass(frozen=True)
class Forest:
    """Trees as rows of a batch, and for each sequence its row and the nodes of its tokens there."""

    trees: tuple[TokenTree, ...]
    places: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], private: Private, cost: Callable[[int], float]) -> "Forest":
        """Part the sequences so that `rows * width * cost(width)` is as low as can be found.

        Args:
            sequences: token ids.
            private: as `TokenTree.of` takes it.
            cost: what a token costs in a row of so many tokens, attention included.
        """
        groups = _parted(sequences, private, cost)
        trees = tuple(TokenTree.of([sequences[i] for i in group], [private[i] for i in group]) for group in groups)
        placed = {i: (row, path) for row, group in enumerate(groups) for i, path in zip(group, trees[row].paths, strict=True)}
        return cls(trees, tuple(placed[i] for i in range(len(sequences))))

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(len(tree) for tree in self.trees)

    def model_inputs(self, anatomy: Anatomy, device: torch.device | None = None) -> dict[str, Any]:
        """Keyword arguments for one forward over all trees, `[tree, width]`, on the model's device or another."""
        device = device or anatomy.device
        if len(self.trees) == 1:
            return self.trees[0].model_inputs(anatomy, device)
        shape = len(self.trees), self.width
        ids, depths = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        real = torch.zeros(shape, dtype=torch.bool)
        # Padding sees itself alone: a token that sees nothing would make its row's softmax undefined.
        reach = torch.eye(self.width, dtype=torch.bool).repeat(len(self.trees), 1, 1)
        for row, tree in enumerate(self.trees):
            ids[row, : len(tree)], depths[row, : len(tree)], real[row, : len(tree)] = tree.tokens, tree.depths, True
            reach[row, : len(tree), : len(tree)] = tree.ancestors()
        inputs = {"input_ids": ids.to(device), "use_cache": False}
        if all(len(tree) == int(tree.depths.max()) + 1 for tree in self.trees):  # nothing branches: an ordinary padded batch
            return inputs | {"attention_mask": real.long().to(device)}
        return inputs | {
            "position_ids": depths.to(device),
            "attention_mask": packed_mask(anatomy, reach[:, None], depths, device),
        }


def _parted(sequences: Sequence[Sequence[int]], private: Private, cost: Callable[[int], float]) -> list[list[int]]:
    """The cheapest of the partings that first-fit by length makes, one for each number of rows aimed at."""
    marked = [
        [(token, owner if depth == place else None) for depth, token in enumerate(sequence)]
        for sequence, (place, owner) in zip(sequences, private, strict=True)
    ]
    shared = [[_common(one, other) for other in marked] for one in marked]
    lengths = [len(sequence) for sequence in sequences]
    whole = sum(length - max(shared[i][:i], default=0) for i, length in enumerate(lengths))
    widths = dict.fromkeys(max(max(lengths), -(-whole // rows)) for rows in range(1, len(sequences) + 1))
    partings = [_filled(lengths, shared, width) for width in widths]

    def price(parting: list[tuple[list[int], int]]) -> float:
        width = max(size for _, size in parting)
        return len(parting) * width * cost(width)

    return [group for group, _ in min(partings, key=price)]


def _filled(lengths: Sequence[int], shared: Sequence[Sequence[int]], width: int) -> list[tuple[list[int], int]]:
    """Groups of at most `width` tokens with their sizes: the longest first, each to where it adds the fewest tokens."""
    groups: list[tuple[list[int], int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        added = [lengths[i] - max(shared[i][j] for j in group) for group, _ in groups]
        fitting = [number for number, (_, size) in enumerate(groups) if size + added[number] <= width]
        if not fitting:
            groups.append(([i], lengths[i]))
            continue
        best = min(fitting, key=lambda number: added[number])
        group, size = groups[best]
        groups[best] = ([*group, i], size + added[best])
    return groups


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many elements two sequences begin with alike."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
