"""What a method of continual fine-tuning is: sequential LoRA, and the places where others differ from it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftModel
from torch import Tensor, nn

from instruction_vectors.continual.stage import StageConfig, add_adapter
from instruction_vectors.errors import IVError
from instruction_vectors.models.adapters import adaptable
from instruction_vectors.settings import settings_of

Row = Mapping[str, Any]


class Method:
    """Base of every method, and by itself sequential LoRA: one adapter trained on task after task.

    A method is one file in `continual/methods` with one subclass; it is found by its `name`. The runner calls `check` and
    `attach`, then for each task `begin`, trains with `penalty` added to the loss, and calls `end`; it measures inside
    `evaluating`. Between tasks the whole state is in a folder (`save`, `restore`), so that a run can stop there.

    Args:
        stage: how each task is trained on.
        settings: values in place of the method's own, for attributes that `settings` names.

    Attributes:
        name: what users call it.
        source: the publication it follows.
        settings: its attributes that a user may set; their values here are the defaults.
        parts: those of them that are a part of a whole, so at most 1.
        needs_instructions: whether general instruction rows are to be read for it.
        keeps_rows: whether rows of earlier tasks are kept and trained on again.
        trains_on_instructions: whether they are trained on, under no task's vector.
        instructions: those rows, given before `attach`.
        anchors_share: how many anchors are to be made on each task's inputs, as a share of its rows (`methods.anchors`).
        anchors_shots: solved examples before each, as many as a cell's other prompts have by default.
        anchors_steered: whether they are answered under their instruction's vector.
        anchors: those of the task that is trained on next, given before `begin`.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    needs_instructions: ClassVar[bool] = False
    keeps_rows: ClassVar[bool] = False
    trains_on_instructions: ClassVar[bool] = False
    instructions: Sequence[Row] = ()
    anchors_share: ClassVar[float] = 0.0
    anchors_shots: ClassVar[int | None] = None
    anchors_steered: ClassVar[bool] = False
    anchors: Sequence[Row] = ()
    model: PeftModel

    def __init__(self, stage: StageConfig, settings: Mapping[str, Any] | None = None) -> None:
        self.stage = stage
        vars(self).update(self.changed(settings or {}))

    @classmethod
    def changed(cls, given: Any) -> dict[str, int | float]:
        """Those of the given settings that are not the method's own anyway, each as a number of the right kind.

        Raises:
            IVError: a setting that the method has not, a value that is no such number, or one that is not above 0, or for a
                part above 1.
        """
        if given and not cls.settings:
            raise IVError(f"method {cls.name!r} has no settings, got {given!r}")
        own = {name: getattr(cls, name) for name in cls.settings}
        kind = make_dataclass("Settings", [(name, type(value), field(default=value)) for name, value in own.items()])
        asked = vars(settings_of(kind, given, f"method_settings.{cls.name}"))
        for name, value in asked.items():
            if not (value > 0 and isfinite(value)):
                raise IVError(f"method_settings.{cls.name}.{name} must be a number above 0, got {value}")
            if name in cls.parts and value > 1:
                raise IVError(f"method_settings.{cls.name}.{name} is a part of the whole, at most 1, got {value}")
        return {name: value for name, value in asked.items() if value != own[name]}

    def chosen(self) -> dict[str, int | float]:
        """Every setting with the value it has here."""
        return {name: getattr(self, name) for name in self.settings}

    def check(self, base: nn.Module) -> None:
        """Refuse a model that the method cannot train, before anything is computed.

        Raises:
            TrainingError: a target module that the model has not.
        """
        adaptable(base, self.stage.target_modules)

    def attach(self, base: nn.Module) -> None:
        """Put the method's parameters over the base model, before the first task."""
        self.model = add_adapter(base, self.stage)

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """Prepare for task `number` (from 1); returns the rows to train on.

        Under guidance a row is under the vector of the task that its `vector` names; one that names none trains plainly.
        """
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

    def merged(self) -> nn.Module:
        """The model as it is to be measured, in weights of its own: the base, changed for good; the method is done with."""
        with self.evaluating() as model:
            whole: nn.Module = model.merge_and_unload(safe_merge=True, adapter_names=model.active_adapters)
        return whole.eval()

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
