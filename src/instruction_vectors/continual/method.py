"""What a method of continual fine-tuning is: sequential LoRA, and the places where others differ from it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftModel
from torch import Tensor, nn

from instruction_vectors.continual.stage import StageConfig, add_adapter

Row = Mapping[str, Any]


class Method:
    """Base of every method, and by itself sequential LoRA: one adapter trained on task after task.

    A method is one file in `continual/methods` with one subclass; it is found by its `name`. The runner calls `attach`, then for
    each task `begin`, trains with `penalty` added to the loss, and calls `end`; it measures inside `evaluating`. Between
    tasks the whole state is in a folder (`save`, `restore`), so that a run can stop there.

    Attributes:
        name: what users call it.
        source: the publication it follows.
        needs_instructions: whether general instruction rows are to be read for it.
        instructions: those rows, given before `attach`.
        anchors_share: how many anchors are to be made on each task's inputs, as a share of its rows (`methods.anchors`).
        anchors_shots: solved examples before each, as many as a cell's other prompts have by default.
        anchors_steered: whether they are answered under their instruction's vector.
        anchors: those of the task that is trained on next, given before `begin`.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs_instructions: ClassVar[bool] = False
    instructions: Sequence[Row] = ()
    anchors_share: ClassVar[float] = 0.0
    anchors_shots: ClassVar[int | None] = None
    anchors_steered: ClassVar[bool] = False
    anchors: Sequence[Row] = ()
    model: PeftModel

    def __init__(self, stage: StageConfig) -> None:
        self.stage = stage

    def attach(self, base: nn.Module) -> None:
        """Put the method's parameters over the base model, before the first task."""
        self.model = add_adapter(base, self.stage)

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """Prepare for task `number` (from 1); returns the rows to train on."""
        return list(rows)

    def penalty(self) -> Tensor | None:
        """What is added to the loss of every step, or None."""
        return None

    def end(self, number: int, rows: Sequence[Row]) -> None:
        """Keep what later tasks need of task `number`; `rows` are its own."""

    @contextmanager
    def evaluating(self) -> Iterator[PeftModel]:
        """The model as it is to be measured."""
        yield self.model

    def save(self, folder: Path) -> None:
        """Write the state after a task."""
        self.model.save_pretrained(str(folder))

    def restore(self, base: nn.Module, folder: Path) -> None:
        """Take up the state that `save` wrote."""
        self.model = PeftModel.from_pretrained(base, str(folder), is_trainable=True)

    def detach(self) -> None:
        """Take everything off the base model again."""
        self.model.unload()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that train now, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}
