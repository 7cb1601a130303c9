"""What `iv train` can be told."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.loading import DEFAULT_MODEL, DType
from instruction_vectors.settings import one_of, settings_of
from instruction_vectors.training.config import IVGuidanceConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """One LoRA adapter, trained on one file of rows.

    Attributes:
        data: JSON lines, see `rows.read_rows`.
        model: short name, folder or hub id.
        vector: `auto` (from the rows, see `automatic`), `none` (plain training), the folder of a vector, or `anchors`: the rows
            themselves train plainly, beside other instructions on their inputs that are held under their vectors (`anchors`).
        anchors: with `vector: anchors`, how many of those, as a share of the rows.
        lora_rank: r; α is 2 r.
        target_modules: parted by commas; empty leaves the choice to PEFT.
        epochs: how often every row is learnt.
        learning_rate: at the start; it falls linearly to 0.
        batch_size: rows an optimizer step, over all processes.
        accumulation: micro-batches a step is cut into; the result is the same.
        max_length: tokens after which a row is cut.
        dtype: of the frozen weights; the adapter is float32.
        seed: the adapter's start and the order of rows.
        forgetting: watch untouched tasks while training (`ForgettingCallback`).
        guidance: how the vector guides.
    """

    data: str
    model: str = DEFAULT_MODEL
    vector: str = "auto"
    anchors: float = 0.25
    lora_rank: int = 8
    target_modules: str = ""
    epochs: float = 3.0
    learning_rate: float = 3e-4
    batch_size: int = 8
    accumulation: int = 1
    max_length: int = 1024
    dtype: DType = "float32"
    seed: int = 0
    forgetting: bool = False
    guidance: IVGuidanceConfig = field(default_factory=IVGuidanceConfig.recommended)

    def __post_init__(self) -> None:
        for name in ("anchors", "lora_rank", "epochs", "learning_rate", "batch_size", "accumulation", "max_length"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, got {getattr(self, name)}")
        one_of(DType, self.dtype, "dtype", TrainingError)
        if self.vector in ("auto", "anchors") and self.guidance.mode == "summed":
            raise TrainingError(f"mode 'summed' needs a vector's layer, which vector {self.vector!r} does not choose")
        if self.vector == "anchors" and self.guidance.kl_positions == "answer":
            raise TrainingError("vector 'anchors' leaves the rows themselves alone, so kl_positions must be 'last_input'")

    def resolved(self) -> dict[str, Any]:
        """Every setting, written out; `Recipe.of` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Recipe":
        """From settings by name, those of guidance under `guidance`.

        Raises:
            TrainingError: no data, or a value out of range.
            IVError: an unknown setting, or a value of the wrong kind.
        """
        if not settings.get("data"):
            raise TrainingError("there is nothing to train on: give `data`, a file of JSON lines")
        return settings_of(cls, settings)
