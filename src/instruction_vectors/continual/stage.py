"""One stage of a sequence: a task's rows, an adapter that trains on them, with or without guidance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from instruction_vectors.errors import TrainingError
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.packed import packed_trainer
from instruction_vectors.training.trainers import IVTrainer
from instruction_vectors.vectors.vector import InstructionVector

Penalty = Callable[[], Tensor | None]


@dataclass(frozen=True, slots=True)
class StageConfig:
    """How one task is trained on.

    A batch whose rows may hold more than `tokens_at_once` tokens is cut into micro-batches of equally many rows, which changes
    neither loss nor gradient: what is kept for the backward pass grows with a forward's tokens (1.4 MB a token for
    SmolLM2-135M).

    Defaults: LoRA r = 8 on the query and value projections, AdamW with weight decay 1e-4 (likely the authors'
    setting); batch 8 and the learning rate are for models of about 10^8 parameters.
    """

    epochs: int = 2
    learning_rate: float = 1e-3
    batch_size: int = 8
    weight_decay: float = 1e-4
    rank: int = 8
    lora_alpha: int = 16
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    seed: int = 0
    tokens_at_once: int = 2048

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size", "rank", "lora_alpha", "tokens_at_once"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.weight_decay >= 0:
            raise TrainingError(f"weight_decay cannot be negative, got {self.weight_decay}")


def lora_config(config: StageConfig, *, seed: int, layers: Sequence[int] | None = None) -> LoraConfig:
    """The adapter's configuration; its random start is drawn from `seed`."""
    torch.manual_seed(seed)
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.lora_alpha,
        target_modules=list(config.target_modules),
        layers_to_transform=list(layers) if layers is not None else None,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def add_adapter(model: nn.Module, config: StageConfig, layers: Sequence[int] | None = None) -> PeftModel:
    """A fresh LoRA adapter over `model`, on all layers or those named, drawn by seed."""
    return get_peft_model(model, lora_config(config, seed=config.seed, layers=layers))


class StageTrainer(IVTrainer):
    """`IVTrainer` with a method's penalty added to the loss of every step."""

    def __init__(self, *args: Any, penalty: Penalty | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.penalty = penalty

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The guided loss and the penalty, which is divided over an accumulation window's micro-batches."""
        loss = super().compute_loss(*args, **kwargs)
        added = self.penalty() if self.penalty and self.model.training else None
        if added is None:
            return loss
        return loss + added / self.current_gradient_accumulation_steps


class _Report(TrainerCallback):
    def __init__(self, progress: Callable[[int], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.progress(state.global_step)


def train_stage(
    model: PeftModel,
    rows: Sequence[Mapping[str, Any]],
    config: StageConfig,
    *,
    folder: Path,
    vector: InstructionVector | Mapping[str, InstructionVector | None] | None = None,
    guidance: IVGuidanceConfig | None = None,
    penalty: Penalty | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Train the adapter on `rows` and return loss and step count.

    Args:
        model: the adapted model; trained in place.
        rows: from `training.collator.rows_of`.
        config: the recipe.
        folder: for the Trainer's own files (none are written for a run this short).
        vector: the task's vector, or one for each name in the rows; None trains plainly.
        guidance: how it guides.
        penalty: what a method adds to the loss.
        progress: called with the number of optimizer steps done.
    """
    together = rows_together(rows, config)
    options = {
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": config.batch_size // together,
        "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    callbacks = [_Report(progress)] if progress else None
    trainer = packed_trainer(
        StageTrainer, model, rows, folder, seed=config.seed, options=options, callbacks=callbacks, vector=vector,
        guidance=None if vector is None else guidance, penalty=penalty,
    )  # fmt: skip
    output = trainer.train()
    model.eval()
    teacher_forwards = 0 if trainer.teacher is None else trainer.teacher.forwards
    return {"loss": output.training_loss, "steps": output.global_step, "teacher_forwards": teacher_forwards}


def rows_together(rows: Sequence[Mapping[str, Any]], config: StageConfig) -> int:
    """Rows of a forward: the largest share of a batch of which even the longest rows stay within `tokens_at_once`, or one."""
    lengths = sorted((len(row["input_ids"]) for row in rows), reverse=True)
    shares = [count for count in range(config.batch_size, 0, -1) if config.batch_size % count == 0]
    return next((count for count in shares if sum(lengths[:count]) <= config.tokens_at_once), 1)


def steps_of(rows: int, config: StageConfig) -> int:
    """Optimizer steps of a stage."""
    return -(-rows // config.batch_size) * config.epochs
