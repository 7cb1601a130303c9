"""What a batch asks the model to predict, and where: the same questions for padded batches and packed trees.

An answer is a run of labels, and what it answers ends at the token before it. So in a chat of several turns every
assistant turn that has labels is an answer: the vector goes in at the last token before each of them, which under a chat
template is the end of the assistant's header; turns without labels are left alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from instruction_vectors.errors import TrainingError
from instruction_vectors.vectors.injection import label_starts

ALL_MASKED = (
    "every label of a batch is masked (-100), so there is nothing to learn from it; check that prompts are not longer than "
    "the maximum length and that completion-only masking finds the answers"
)


@dataclass(frozen=True)
class Targets:
    """The labelled part of a batch.

    Attributes:
        places: bool `[batch, seq]`, tokens after which something is to be predicted. Only they pass through the head.
        rows: for each label, which of the True places (in reading order) predicts it.
        tokens: the label itself.
        answers: for each answer, which of the True places is its last input token.
        starts: for each vector's name (`""` if rows name none) a bool `[batch, seq]`, the last input token of each
            answer it belongs to: where it goes in.
    """

    places: Bool[Tensor, "batch seq"]
    rows: Int[Tensor, " label"]
    tokens: Int[Tensor, " label"]
    answers: Int[Tensor, " answer"]
    starts: Mapping[str, Bool[Tensor, "batch seq"]]

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> "Targets":
        """Read a batch: the fields of a packed tree if it has them, else `labels` aligned with `input_ids`.

        Beside the labels, `vector` may hold the name of each sample's vector.

        Raises:
            TrainingError: every label of the batch is masked.
        """
        if "target_rows" in batch:
            return cls(
                batch["target_places"], batch["target_rows"], batch["labels"], batch["answer_places"], batch["answer_starts"]
            )
        labels = batch["labels"]
        places = torch.zeros_like(labels, dtype=torch.bool)
        places[:, :-1] = labels[:, 1:] != -100
        tokens = labels[:, 1:][places[:, :-1]]
        if not tokens.numel():
            raise TrainingError(ALL_MASKED)
        starts = label_starts(labels, batch.get("attention_mask"))
        answers = starts[places].nonzero()[:, 0]
        return cls(places, torch.arange(tokens.numel(), device=tokens.device), tokens, answers, _by_name(starts, batch))

    def under(self, guided: Callable[[str], bool]) -> "Targets":
        """The same labels, with the answers of those vectors alone that `guided` says yes to, by name."""
        starts = {name: where for name, where in self.starts.items() if guided(name)}
        if len(starts) == len(self.starts):
            return self
        begins = torch.zeros_like(self.places)
        for where in starts.values():
            begins |= where
        return replace(self, answers=self.answers[begins[self.places][self.answers]], starts=starts)

    def shared_by(self, name: str) -> Int[Tensor, " start"]:
        """How many answers begin at each place of a vector; in a packed tree equal prompts share one."""
        number = torch.zeros_like(self.places, dtype=torch.long)
        number[self.places] = torch.arange(int(self.places.sum()), device=number.device)
        return torch.bincount(self.answers, minlength=int(self.places.sum()))[number[self.starts[name]]]


def _by_name(starts: Bool[Tensor, "batch seq"], batch: Mapping[str, Any]) -> dict[str, Bool[Tensor, "batch seq"]]:
    """Where each vector goes in, given every sample's name."""
    names = batch.get("vector")
    if names is None:
        return {"": starts} if starts.any() else {}
    samples = samples_of(batch)
    own = {name: [i for i, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    parted = {name: starts & torch.isin(samples, samples.new_tensor(mine)) for name, mine in own.items()}
    return {name: where for name, where in parted.items() if where.any()}


def samples_of(batch: Mapping[str, Any]) -> Int[Tensor, "batch seq"]:
    """Which sample each token belongs to: its row, or without padding (no attention mask) the run of its positions."""
    ids, positions = batch["input_ids"], batch.get("position_ids")
    if positions is None or batch.get("attention_mask") is not None:
        return torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    begins = torch.diff(positions, prepend=positions[:, :1] - 2) != 1
    return begins.flatten().cumsum(0).view_as(positions) - 1


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of a batch goes to the model."""
    ours = ("labels", "shift_labels", "target_places", "target_rows", "answer_places", "answer_starts", "vector")
    return {name: value for name, value in batch.items() if name not in ours}
