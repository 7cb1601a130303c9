"""The teacher of the KL term: the frozen original model, steered, computed once a row and remembered.

It never changes, so what it says at a place depends on the tokens before that place alone. Its final hidden state there
(`hidden_size` numbers, not a vocabulary) is kept and sent through the head when needed, which is exact.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instruction_vectors.models.anatomy import Anatomy, evaluating
from instruction_vectors.training.targets import Targets, model_inputs, samples_of

Key = tuple[str, tuple[int, ...], bytes]


class Teacher:
    """Final hidden states of the steered original model, by prefix.

    Args:
        anatomy: of the model that teaches.
        view: a context in which that model is the original one (adapters off).
        steer: makes the intervention for given positions by vector name.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        view: Callable[[], AbstractContextManager[Any]],
        steer: Callable[[Mapping[str, Tensor]], AbstractContextManager[Any]],
    ) -> None:
        self.anatomy, self._view, self._steer = anatomy, view, steer
        self._known: dict[Key, Tensor] = {}
        self.forwards = 0

    def __len__(self) -> int:
        return len(self._known)

    @torch.no_grad()
    def logits(
        self, batch: Mapping[str, Any], targets: Targets, which: Int[Tensor, " asked"]
    ) -> Float[Tensor, "asked vocabulary"]:
        """What the teacher predicts after the targets' places of the given numbers."""
        rows, columns = targets.places.nonzero()[which].T
        keys = _keys(batch, targets, rows, columns)
        if any(key not in self._known for key in keys):
            for key, state in zip(keys, self._run(batch, targets)[rows, columns], strict=True):
                self._known.setdefault(key, state.cpu())
        hidden = torch.stack([self._known[key] for key in keys]).to(self.anatomy.device)
        with self._view():
            return self.anatomy.logits(hidden[None])[0]

    def _run(self, batch: Mapping[str, Any], targets: Targets) -> Float[Tensor, "batch seq hidden"]:
        self.forwards += 1
        with evaluating(self.anatomy.causal_lm), self._view(), self._steer(targets.starts):
            return self.anatomy.backbone(**model_inputs(batch))[0]


def _keys(batch: Mapping[str, Any], targets: Targets, rows: Tensor, columns: Tensor) -> list[Key]:
    """What the teacher's state at each place depends on: the tokens it sees, and which vector went in where."""
    ids = batch["input_ids"].cpu()
    mask, samples = batch.get("attention_mask"), samples_of(batch).cpu()
    keys = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        seen = _visible(mask, samples, row, column).nonzero().flatten()
        edited = {name: starts[row].cpu()[seen].nonzero().flatten().tolist() for name, starts in targets.starts.items()}
        name = next((name for name, where in edited.items() if where), "")
        keys.append((name, tuple(edited.get(name, ())), ids[row, seen].numpy().tobytes()))
    return keys


def _visible(mask: Any, samples: Tensor, row: int, column: int) -> Tensor:
    """Which tokens of a row the token at `column` attends to."""
    if isinstance(mask, dict):
        mask = mask["full_attention"]
    if mask is not None and mask.dim() == 4:
        return mask[row, 0, column].cpu() == 0
    earlier = (torch.arange(samples.shape[1]) <= column) & (samples[row] == samples[row, column])
    return earlier if mask is None else earlier & mask[row].bool().cpu()


@contextmanager
def original(model: Any) -> Iterator[None]:
    """A PEFT model without its adapters, for the length of a `with` block.

    PEFT unfreezes every active adapter on the way back; earlier ones stay as they were.
    """
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for parameter, flag in trained:
            parameter.requires_grad_(flag)
