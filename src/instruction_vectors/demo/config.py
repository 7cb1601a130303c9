"""How large the demo is: one dial, from which everything else follows."""

from dataclasses import asdict, dataclass, field
from typing import Any

from instruction_vectors.continual.cell import LINKED_PROBES
from instruction_vectors.continual.stage import StageConfig
from instruction_vectors.errors import IVError
from instruction_vectors.training.config import IVGuidanceConfig

STEERED = (
    "present-past",
    "singular-plural",
    "capitalize",
    "capitalize-first-letter",
    "lowercase-first-letter",
    "choose-middle-of-3",
    "choose-last-of-3",
    "object-v-concept-3",
    "next-item",
    "country-capital",
    "country-continent",
    "country-currency",
    "english-spanish",
    "animal-or-object",
)
SEQUENCE = ("english-french", "verb-v-adjective-3", "sentiment-word")


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """The demo's settings; `size` is the dial (1.0 takes about ten minutes on two cores).

    Everything counted in rows or prompts grows with `size`; tasks, heads, learning rate and epochs do not.
    """

    size: float = 1.0
    seed: int = 0
    model: str = "smollm2-135m-instruct"
    steered: tuple[str, ...] = STEERED
    sequence: tuple[str, ...] = SEQUENCE
    untouched: tuple[str, ...] = LINKED_PROBES
    heads: int = 10
    shots: int = 5
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    stage: StageConfig = field(default_factory=StageConfig)
    guidance: IVGuidanceConfig = field(default_factory=IVGuidanceConfig)

    def __post_init__(self) -> None:
        if not 0 < self.size <= 3:
            raise IVError(f"size must lie above 0 and at most at 3, got {self.size}")
        overlap = set(self.sequence) & set(self.untouched)
        if overlap:
            raise IVError(f"tasks {sorted(overlap)} are both trained on and called untouched")

    def _scaled(self, full: int, least: int) -> int:
        return max(least, round(full * self.size))

    @property
    def train_rows(self) -> int:
        """Training rows a task, as far as it has them."""
        return self._scaled(160, 8)

    @property
    def test_rows(self) -> int:
        """Rows a measure of abilities stands on, a task."""
        return self._scaled(18, 4)

    @property
    def steering_rows(self) -> int:
        """Test rows a task of the steering table, plain template."""
        return self._scaled(20, 4)

    @property
    def chat_rows(self) -> int:
        """Test rows a task of the steering table, chat template (the first of the plain table's)."""
        return self._scaled(8, 4)

    @property
    def validation_rows(self) -> int:
        """Rows a task on which the scale is chosen."""
        return self._scaled(8, 2)

    @property
    def mean_prompts(self) -> int:
        """Prompts a task that head outputs are averaged over."""
        return self._scaled(25, 3)

    @property
    def effect_prompts(self) -> int:
        """Counterfactual prompts a task that effects are measured on."""
        return self._scaled(2, 1)

    def resolved(self) -> dict[str, Any]:
        """Every setting, written out."""
        counts = ("train_rows", "test_rows", "steering_rows", "chat_rows", "validation_rows", "mean_prompts", "effect_prompts")
        return asdict(self) | {name: getattr(self, name) for name in counts}
