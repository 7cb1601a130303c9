"""`iv train`: an adapter over a user's rows, guided or plain, that goes on from its last checkpoint when it was stopped."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from instruction_vectors.environment import default_device, peak_rss_mb, versions
from instruction_vectors.errors import TrainingError
from instruction_vectors.evaluation.abilities import Probe
from instruction_vectors.files import read_json, sha256_of, storage_failure, write_json
from instruction_vectors.models.adapters import adaptable
from instruction_vectors.models.loading import load, model_fingerprint
from instruction_vectors.progress import duration
from instruction_vectors.training.anchors import steered_anchors
from instruction_vectors.training.forgetting import ForgettingCallback, usual_probes
from instruction_vectors.training.packed import packed_trainer
from instruction_vectors.training.recipe import Recipe
from instruction_vectors.training.rows import Row, encode_rows, read_rows
from instruction_vectors.training.run_folder import check, keep, last_checkpoint
from instruction_vectors.training.trainers import IVTrainer
from instruction_vectors.vectors.vector import InstructionVector

Say = Callable[[str], None]
_LOOKS = 4
"""How often forgetting is measured after the beginning."""
_OPTIMIZER_BYTES = 12
"""A weight that trains: its gradient and AdamW's two moments, in float32."""
_LOGS = 20
"""How often loss, KL and scale are told."""


def fine_tune(
    recipe: Recipe,
    out: Path,
    *,
    teacher_cache: Path | None = None,
    say: Say | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train, or go on training, or read what was trained.

    Into `out` go `adapter/` (with the tokenizer), `vectors/`, `config.json`, `result.json` (what the numbers depend on, and
    the numbers) and `run.json` (times, machine, memory); `checkpoints/` only until it is finished. Under `torchrun` or
    `accelerate launch` the rows of a step are divided among the processes.

    Args:
        recipe: what is trained on what.
        out: the run's folder.
        teacher_cache: where the teacher's states are kept for other runs, see `shelf`.
        say: told the plan, and loss, KL and scale as training goes on.
        progress: called with the steps done and all steps.

    Returns:
        The content of `result.json`.

    Raises:
        DataError: malformed rows, or a folder begun with other settings, another vector or another model.
        TrainingError: training cannot go on; the last checkpoint is kept.
    """
    rows = read_rows(Path(recipe.data))
    vector = _vector(recipe)
    given = recipe.resolved() | {"data_sha256": sha256_of(Path(recipe.data))}
    if isinstance(vector, InstructionVector):
        given |= {"vector_fingerprint": vector.fingerprint}
    check(out, given)
    if (out / "result.json").exists():
        return dict(read_json(out / "result.json"))
    started = time.time()
    model, tokenizer = load(recipe.model, dtype=getattr(torch, recipe.dtype), device="cpu" if _world() > 1 else None)
    encoded, dropped = encode_rows(tokenizer, rows, recipe.max_length)
    fingerprint = model_fingerprint(model)
    begun = {"model_fingerprint": fingerprint}
    check(out / "checkpoints", begun)
    anchors: list[Row] = []
    if recipe.vector == "anchors":
        if say and _main():
            say("asking the original model about the rows' inputs under other instructions")
        anchors, vectors = steered_anchors(model, tokenizer, [row for _, row in rows], recipe.anchors, recipe.seed)
        vector = {"": None, **vectors}
        encoded = [*({**row, "vector": ""} for row in encoded), *anchors]
    trainer = _trainer(recipe, out, _adapted(model, recipe), tokenizer, encoded, vector, teacher_cache)
    steps = _steps(recipe, len(encoded))
    trainer.add_callback(_Tell(trainer, say, progress))
    if recipe.forgetting and (probes := _untouched([row for _, row in rows], say)):
        trainer.add_callback(ForgettingCallback(trainer, probes, every=max(1, steps // _LOOKS)))
    if say and _main():
        say(_plan(trainer, encoded, dropped, steps))
    _train(trainer, out, given, begun)
    made = {"model_fingerprint": fingerprint, "versions": versions()}
    if _main():
        numbers = _numbers(trainer, len(encoded), len(anchors), dropped)
        keep(trainer, out, {"schema": 1, "config": given, **made, **numbers}, started)
    trainer.accelerator.wait_for_everyone()
    return dict(read_json(out / "result.json"))


def _world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _vector(recipe: Recipe) -> Any:
    """What the trainer takes; a folder is read before a model is opened."""
    named = {"none": None, "auto": "auto", "anchors": None}  # those of anchors are made with them
    return named[recipe.vector] if recipe.vector in named else InstructionVector.from_pretrained(recipe.vector)


def _adapted(model: nn.Module, recipe: Recipe) -> nn.Module:
    torch.manual_seed(recipe.seed)
    modules = [name for part in (recipe.target_modules or "").split(",") if (name := part.strip())] or None
    adaptable(model, modules or ())
    config = LoraConfig(r=recipe.lora_rank, lora_alpha=2 * recipe.lora_rank, target_modules=modules, task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(f"PEFT cannot put an adapter on this model: {error}; name modules with target_modules") from error


def _untouched(rows: Sequence[Row], say: Say | None) -> list[Probe]:
    """What is watched by default, but for tasks whose instruction the rows are under: those are learnt."""
    texts = ["\n".join([row.get("instruction", ""), row.get("prompt", ""), *_said(row)]) for row in rows]
    probes = usual_probes()
    trained = [p.task.name for p in probes if any(words in text for words in p.task.instructions for text in texts)]
    if trained and say and _main():
        say(f"not watched for forgetting, since the rows are under its instruction: {', '.join(trained)}")
    return [probe for probe in probes if probe.task.name not in trained]


def _said(row: Row) -> Iterator[str]:
    return (turn["content"] for turn in row.get("messages", ()))


def _trainer(
    recipe: Recipe,
    out: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    vector: Any,
    teacher_cache: Path | None,
) -> IVTrainer:
    parts = recipe.accumulation * _world()
    if recipe.batch_size % parts:
        raise TrainingError(f"batch_size {recipe.batch_size} cannot be divided by accumulation times processes ({parts})")
    options = {
        "per_device_train_batch_size": recipe.batch_size // parts,
        "gradient_accumulation_steps": recipe.accumulation,
        "num_train_epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 0.1,  # of all steps
        "save_total_limit": 2,
    }
    return packed_trainer(
        IVTrainer, model, rows, out / "checkpoints", seed=recipe.seed, options=options, processing_class=tokenizer,
        vector=vector, guidance=None if vector is None else recipe.guidance, teacher_cache=teacher_cache,
    )  # fmt: skip


def _steps(recipe: Recipe, rows: int) -> int:
    """Optimizer steps; a process whose last batch would be empty takes rows from the beginning."""
    micro = recipe.batch_size // recipe.accumulation
    return math.ceil(recipe.epochs * math.ceil(math.ceil(rows / micro) / recipe.accumulation))


def _plan(trainer: IVTrainer, rows: Sequence[Row], dropped: int, steps: int) -> str:
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    longest = max(len(row["input_ids"]) for row in rows)
    tokens = sum(len(row["input_ids"]) for row in rows)
    guided = f"{len(trainer.vectors)} vectors" if len(trainer.vectors) != 1 else "one vector"
    held = sum(weight.numel() * weight.element_size() for weight in trainer.model.parameters())
    held += _OPTIMIZER_BYTES * trained
    return (
        f"{len(rows)} rows ({tokens:,} tokens, the longest {longest}; {dropped} left out), {steps} steps on {_world()} "
        f"process{'es' if _world() > 1 else ''}, {trained:,} weights train, {guided if trainer.vectors else 'plain'}; "
        f"weights, gradients and optimizer hold {held / 2**20:,.0f} MB, activations come on top (told after the first step, "
        "with the time it takes)"
    )


def _train(trainer: IVTrainer, out: Path, given: dict[str, Any], begun: dict[str, Any]) -> None:
    last = last_checkpoint(out / "checkpoints")
    try:
        if _main():  # only now is everything known to fit together
            write_json(out / "config.json", given)
            write_json(out / "checkpoints" / "config.json", begun)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not storage_failure(error):
            raise
        raise TrainingError(
            f"cannot write to {out} ({error}); free some space and run the same again: it goes on from its last checkpoint"
        ) from error


def _numbers(trainer: IVTrainer, rows: int, anchors: int, dropped: int) -> dict[str, Any]:
    history = trainer.state.log_history
    every = max(1, trainer.state.max_steps // _LOOKS)
    looks = {
        entry["step"]: {name: entry[name] for name in sorted(entry) if name.startswith("forgetting/")}
        for entry in history
        if any(name.startswith("forgetting/") for name in entry)
    }
    # Going on from a checkpoint measures there once more.
    regular = {step: look for step, look in looks.items() if step % every == 0 or step == trainer.state.global_step}
    losses = {entry["step"]: entry["loss"] for entry in history if "loss" in entry}
    return {
        "rows": rows,
        "anchors": anchors,
        "left_out": dropped,
        "steps": trainer.state.global_step,
        "vectors": sorted(trainer.vectors),
        "losses": list(losses.values()),
        **({"forgetting": {str(step): regular[step] for step in sorted(regular)}} if regular else {}),
    }


class _Tell(TrainerCallback):
    """Steps done, and now and then the parts of the loss."""

    def __init__(self, trainer: IVTrainer, say: Say | None, progress: Callable[[int, int], None] | None) -> None:
        self.trainer, self.say, self.progress = trainer, say, progress
        self._begun: float | None = None
        self._measured = False

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._begun is None:
            self._begun = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        if self.say and not self._measured and self._begun is not None:
            self._measured = True
            seconds, left = time.monotonic() - self._begun, state.max_steps - state.global_step
            self.say(
                f"a step took {seconds:.1f} s, {left} more: about {duration(seconds * left)}; {_peak_mb():,.0f} MB at most so far"
            )
        if self.progress:
            self.progress(state.global_step, state.max_steps)
        every = max(1, state.max_steps // _LOGS)
        if self.say and state.global_step % every == 0:
            parts = ", ".join(f"{name} {value:z.3f}" for name, value in self.trainer.last_parts.items())
            self.say(f"step {state.global_step} of {state.max_steps}: {parts}")


def _peak_mb() -> float:
    """Of the accelerator, if training runs on one."""
    return torch.cuda.max_memory_allocated() / 2**20 if default_device().type == "cuda" else peak_rss_mb()
