"""What `iv train` can be told."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.loading import DEFAULT_MODEL
from instruction_vectors.training.config import IVGuidanceConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """One LoRA adapter, trained on one file of rows.

    Attributes:
        data: JSON lines, see `rows.read_rows`.
        model: short name, folder or hub id.
        vector: `auto` (from the rows, see `automatic`), `none` (plain training), or the folder of a vector.
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
    lora_rank: int = 8
    target_modules: str = ""
    epochs: float = 3.0
    learning_rate: float = 3e-4
    batch_size: int = 8
    accumulation: int = 1
    max_length: int = 1024
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    forgetting: bool = False
    guidance: IVGuidanceConfig = field(default_factory=IVGuidanceConfig)

    def __post_init__(self) -> None:
        for name in ("lora_rank", "epochs", "learning_rate", "batch_size", "accumulation", "max_length"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.dtype not in ("float32", "bfloat16"):
            raise TrainingError(f"dtype must be 'float32' or 'bfloat16', got {self.dtype!r}")

    def resolved(self) -> dict[str, Any]:
        """Every setting, written out; `Recipe.of` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Recipe":
        """From settings by name, those of guidance under `guidance`.

        Raises:
            TrainingError: an unknown setting, a missing one, or a value of the wrong kind.
        """
        given = dict(settings)
        guidance = given.pop("guidance", None) or {}
        if not isinstance(guidance, Mapping):
            raise TrainingError(f"guidance: expected settings by name, got {guidance!r}")
        if not given.get("data"):
            raise TrainingError("there is nothing to train on: give `data`, a file of JSON lines")
        return cls(**_typed(cls, given), guidance=IVGuidanceConfig(**_typed(IVGuidanceConfig, guidance)))


def _typed(kind: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the types of a configuration's defaults; YAML reads 3e-4 as a text."""
    defaults = {f.name: "" if f.default is MISSING else f.default for f in fields(kind)}
    if unknown := sorted(set(settings) - set(defaults)):
        raise TrainingError(f"unknown settings: {', '.join(unknown)}; there are {', '.join(defaults)}")
    typed = {}
    for name, value in settings.items():
        wanted = type(defaults[name])
        try:
            typed[name] = float(value) if wanted is float and not isinstance(value, bool) else value
        except (TypeError, ValueError):
            typed[name] = value
        if type(typed[name]) is not wanted:
            raise TrainingError(f"{name}: expected {wanted.__name__}, got {value!r}")
    return typed
