"""Rows to batches: padded, or as one prefix tree in which what rows share (an instruction, shots) is computed once.

Gradients of a packed tree equal those of the padded batch: a shared token's output feeds every row that continues it,
and its gradient is the sum of theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.tokens import encode_pair
from instruction_vectors.models.tree import TokenTree
from instruction_vectors.tasks.prompts import Prompt

Row = Mapping[str, Any]


def rows_of(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], *, end: str = "\n", vector: str = ""
) -> list[dict[str, Any]]:
    """Training rows: the prompt masked, the answer and the `end` that stops it labelled.

    `vector` names the instruction vector of these rows (see `IVGuidance`).
    """
    rows = []
    for prompt in prompts:
        context, answer = encode_pair(tokenizer, prompt.text, prompt.target + end)
        rows.append({"input_ids": context + answer, "labels": [-100] * len(context) + answer, "vector": vector})
    return rows


@dataclass
class TreeCollator:
    """Packs the rows of a batch into one prefix tree.

    The last input token of a row is shared only with rows that use the same vector, since that is where it goes in.
    """

    model: nn.Module

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch of one packed sequence with the fields `Targets.of` reads."""
        starts = [_first_label(row["labels"]) - 1 for row in rows]
        # The last answer token predicts nothing, so it is left out.
        sequences = [row["input_ids"][:-1] for row in rows]
        tree = TokenTree.of(sequences, [(s, row.get("vector", "")) for s, row in zip(starts, rows, strict=True)])
        predicts = sorted({path[i - 1] for row, path in zip(rows, tree.paths, strict=True) for i in _labelled(row)})
        number = {node: i for i, node in enumerate(predicts)}
        places = torch.zeros(1, len(tree), dtype=torch.bool)
        places[0, predicts] = True
        answer_starts: dict[str, torch.Tensor] = {}
        for row, path, start in zip(rows, tree.paths, starts, strict=True):
            answer_starts.setdefault(row.get("vector", ""), torch.zeros_like(places))[0, path[start]] = True
        pairs = [
            (number[path[i - 1]], row["input_ids"][i]) for row, path in zip(rows, tree.paths, strict=True) for i in _labelled(row)
        ]
        batch = tree.model_inputs(anatomy_of(self.model))
        return batch | {
            "target_places": places,
            "target_rows": torch.tensor([r for r, _ in pairs]),
            "labels": torch.tensor([t for _, t in pairs]),
            "answer_starts": answer_starts,
        }


def _first_label(labels: Sequence[int]) -> int:
    return next(i for i, label in enumerate(labels) if label != -100)


def _labelled(row: Row) -> list[int]:
    return [i for i, label in enumerate(row["labels"]) if label != -100]
