"""One method's way through a sequence of tasks: train, measure, next task; every step kept in the ledger."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import nn

from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.method import Method, Row
from instruction_vectors.continual.stage import steps_of, train_stage
from instruction_vectors.progress import track
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.vectors.vector import InstructionVector

Vectors = InstructionVector | Mapping[str, InstructionVector | None] | None


class Course:
    """A method on its way through a sequence.

    The method's parameters lie over `base` only while something is really run: a finished step is read from the ledger, and
    what it left behind is taken up from its folder when the next unfinished step needs it.

    Args:
        ledger: where finished steps are kept.
        label: distinguishes this course from others in the same ledger.
        base: the original model, shared between courses.
        method: how the sequence is trained on.
    """

    def __init__(self, ledger: Ledger, label: str, base: nn.Module, method: Method) -> None:
        self.ledger, self.label, self.base, self.method = ledger, label, base, method
        self._done = 0
        self._attached = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._detach()

    def train(
        self,
        name: str,
        rows: Sequence[Row],
        *,
        vector: Vectors = None,
        guidance: IVGuidanceConfig | None = None,
    ) -> dict[str, Any]:
        """Train on the next task of the sequence, unless the ledger has it; returns loss, steps and rows."""
        number = self._done + 1
        label = f"{self.label}/{number}-{name}"

        def compute() -> dict[str, Any]:
            self._attach()
            mixed = self.method.begin(number, rows)
            with track(f"Training {label}", steps_of(len(mixed), self.method.stage), "step") as advance:
                result = train_stage(
                    self.method.model,
                    mixed,
                    self.method.stage,
                    folder=self.ledger.folder / "trainer",
                    vector=_named_by(mixed, vector),
                    guidance=guidance,
                    penalty=self.method.penalty,
                    progress=advance,
                )
            self.method.end(number, rows)
            # Written before the step counts as finished, so that a finished step always has its state.
            self._save(number)
            return {"loss": result["loss"], "steps": result["steps"], "rows": len(mixed)}

        finished = self.ledger.finished(f"train/{label}")
        result: dict[str, Any] = self.ledger.step(f"train/{label}", compute)
        if finished:
            self._detach()
        self._done = number
        return result

    def measure(self, name: str, compute: Callable[[nn.Module], Any]) -> Any:
        """What `compute` finds on the model as it is now, unless the ledger has it."""

        def measured() -> Any:
            self._attach()
            with self.method.evaluating() as model:
                return compute(model)

        return self.ledger.step(f"{name}/{self.label}/{self._done}", measured)

    def _attach(self) -> None:
        if self._attached:
            return
        if self._done:
            self.method.restore(self.base, self._folder(self._done))
        else:
            self.method.attach(self.base)
        self._attached = True

    def _detach(self) -> None:
        if self._attached:
            self.method.detach()
        self._attached = False

    def _folder(self, number: int) -> Path:
        return self.ledger.folder / "adapters" / self.label / str(number)

    def _save(self, number: int) -> None:
        folder = self._folder(number)
        shutil.rmtree(folder, ignore_errors=True)  # what a run stopped while saving left there
        self.method.save(folder)


def _named_by(rows: Sequence[Row], vectors: Vectors) -> Vectors:
    """Of vectors by name, those that a row asks for."""
    if not isinstance(vectors, Mapping):
        return vectors
    names = {row.get("vector", "") for row in rows}
    return {name: vector for name, vector in vectors.items() if name in names}
