"""Rows to batches: padded, or as prefix trees in which what rows share (an instruction, shots) is computed once.

Gradients of a packed tree equal those of the padded batch: a shared token's output feeds every row that continues it,
and its gradient is the sum of theirs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, text_config
from instruction_vectors.models.forest import Forest
from instruction_vectors.models.tokens import encode_pair
from instruction_vectors.models.tree import packs, skips_what_is_hidden
from instruction_vectors.tasks.prompts import Prompt
from instruction_vectors.training.rows import without_padding
from instruction_vectors.training.targets import ALL_MASKED

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
    """Packs the rows of a batch into prefix trees, or pads them where the model reads no trees or balances its experts.

    A tree saves what rows share and every padding token, but its attention is among all its tokens: rows that share little
    go into several trees, each a row of the batch (`models.forest`). Loss and gradients are the same.

    The last input token of a row is shared only with rows that use the same vector, since that is where it goes in. A row
    may hold several answers, each a run of labels; the vector goes in before each.

    Raises:
        TrainingError: a row whose labels are all masked.
    """

    model: nn.Module

    def __post_init__(self) -> None:
        # Tried out now: later the weights may lie with several processes, or this in a worker of a data loader.
        packs(anatomy_of(self.model))

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch with the fields `Targets.of` reads; of rows that are padded already, the tokens that their mask calls real."""
        rows = [without_padding(row) for row in rows]
        starts = [_starts(row) for row in rows]
        vectors = [row.get("vector", "") for row in rows]
        anatomy = anatomy_of(self.model)
        if not packs(anatomy) or getattr(text_config(anatomy.causal_lm), "output_router_logits", False):
            return _padded(rows)  # experts are balanced over the rows' tokens, each as often as it stands there
        # The last answer token predicts nothing, so it is left out.
        sequences = [row["input_ids"][:-1] for row in rows]
        private = [(min(s, default=-1), (v, s)) for v, s in zip(vectors, starts, strict=True)]
        forest = Forest.of(sequences, private, _token_cost(anatomy))
        placed = [(row, tree, path, where) for row, (tree, path), where in zip(rows, forest.places, starts, strict=True)]
        predicted = [((tree, path[i - 1]), row["input_ids"][i]) for row, tree, path, _ in placed for i in _labelled(row)]
        predicts = sorted({place for place, _ in predicted})
        number = {place: i for i, place in enumerate(predicts)}
        places = torch.zeros(len(forest.trees), forest.width, dtype=torch.bool)
        places[tuple(torch.tensor(predicts).T)] = True
        answer_starts: dict[str, torch.Tensor] = {}
        for vector, (_, tree, path, where) in zip(vectors, placed, strict=True):
            if where:
                answer_starts.setdefault(vector, torch.zeros_like(places))[tree, [path[start] for start in where]] = True
        labels = torch.tensor([token for _, token in predicted])
        # Not on the model's device: the Trainer moves batches, pins their memory first, and may collate in other processes.
        return forest.model_inputs(anatomy, torch.device("cpu")) | {
            "target_places": places,
            "target_rows": torch.tensor([number[place] for place, _ in predicted]),
            "labels": labels,
            # The Trainer counts labels itself; under this name it does not take the first for one that nothing predicts.
            "shift_labels": labels,
            "answer_places": torch.tensor([number[tree, path[i]] for _, tree, path, where in placed for i in where]),
            "answer_starts": answer_starts,
        }


@dataclass
class KeepsNames:
    """Any other collator, with the rows' `vector` column kept: names are no numbers, so padding drops or refuses them."""

    inner: Callable[[Sequence[Any]], Any]

    def __call__(self, rows: Sequence[Any]) -> Any:
        """What `inner` makes of the rows, and under `vector` a tuple of their names if they have any."""
        if isinstance(self.inner, TreeCollator) or not any(isinstance(row, Mapping) and "vector" in row for row in rows):
            return self.inner(rows)
        batch = self.inner([{name: value for name, value in row.items() if name != "vector"} for row in rows])
        batch["vector"] = tuple(row.get("vector") or "" for row in rows)
        return batch

    def __getattr__(self, name: str) -> Any:
        # Trainers look at a collator's own attributes, such as its tokenizer. A copy is asked before it has `inner`.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


WIDEST = 4096
"""Tokens of the widest row that is taken for its sharing alone: its mask is the square of that, 64 MB in 32 bits."""


def _token_cost(anatomy: Anatomy) -> Callable[[int], float]:
    """Multiplications a token takes in a row of some width, forward and backward, in those of its products with weights.

    A layer's weights are about 12 hidden^2, multiplied forward and, being frozen under an adapter, once backward. Attention
    is 2 hidden for each token of the row forward, and backward, where a fused kernel computes it anew, 2.5 times that; next
    to nothing where only what a token sees is multiplied.
    """
    free = WIDEST if skips_what_is_hidden(anatomy) else 0
    return lambda width: 1.0 if width <= free else 1 + 3.5 * 2 * width / (2 * 12 * anatomy.hidden_size)


def _padded(rows: Sequence[Row]) -> dict[str, Any]:
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[number, :length], mask[number, :length] = torch.tensor(row["input_ids"]), 1
        labels[number, 1:length] = torch.tensor(row["labels"][1:])
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    names = [row.get("vector", "") for row in rows]
    return batch | ({"vector": names} if any(names) else {})


def _labelled(row: Row) -> list[int]:
    """Places of the labels; one on the first token has nothing before it that could predict it."""
    return [i for i, label in enumerate(row["labels"]) if label != -100 and i > 0]


def _starts(row: Row) -> tuple[int, ...]:
    """The token before each run of labels."""
    labelled = _labelled(row)
    if not labelled:
        raise TrainingError(ALL_MASKED)
    return tuple(i - 1 for i in labelled if row["labels"][i - 1] == -100)
