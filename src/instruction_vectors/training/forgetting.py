"""Watching a Trainer forget: a callback for an unmodified `transformers.Trainer` or `trl.SFTTrainer`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from instruction_vectors.errors import TrainingError
from instruction_vectors.evaluation.abilities import RANKED, Form, Probe
from instruction_vectors.models.anatomy import evaluating
from instruction_vectors.settings import one_of
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.prompts import PLAIN, Template
from instruction_vectors.training.watch import Watch
from instruction_vectors.vectors.vector import InstructionVector

Action = Literal["warn", "stop", "roll_back"]
TASKS = ("country-capital", "animal-or-object", "singular-plural")
"""What is watched by default: shipped tasks that have a knowledge form."""
ROWS = 16
"""Rows a task by default."""
DEFAULT_FORMS: tuple[Form, ...] = ("in_context", "instruction", "knowledge")
"""Answers written out after solved examples, where forgetting was seen (docs/evidence.md), and ranked options."""
logger = logging.getLogger(__name__)


def usual_probes() -> list[Probe]:
    """What is watched by default."""
    return [Probe.of(load_task(name), ROWS) for name in TASKS]


class ForgettingCallback(TrainerCallback):
    """Measures untouched rows before training, every so many steps and at the end, and acts when abilities are lost.

        trainer.add_callback(ForgettingCallback(trainer))

    Everything is logged through the trainer as `forgetting/...`, so it reaches the state's `log_history` and `report_to`;
    `Watch.values` says what each number is. Training itself is left alone: weights are bit for bit those without the
    callback. Only the main process measures, unless the weights are sharded (FSDP, DeepSpeed), where all must run.

    A drop is how far a form's mean has fallen below its first measurement (of a resumed run: the run's, read from
    `log_history`). Beyond `margin`:

    - `warn`: says so in the log;
    - `stop`: and ends training;
    - `roll_back`: and puts back the trained weights of the last measurement that was not beyond the margin. They are kept
      in memory (of an adapter: little; of full fine-tuning: a copy of the model).

    Args:
        trainer: the trainer the callback is added to.
        probes: tasks and the rows of them to measure; by default 16 rows each of three shipped tasks.
        every: optimizer steps between measurements.
        forms: what is measured and must not drop; by default `DEFAULT_FORMS`, those of them that a probe has. Forms that a
            probe's task lacks are left out.
        vectors: by task name, instruction vectors whose heads are watched too (`forgetting/cosine`).
        action: what to do on a drop.
        margin: the drop that is let pass, as a share of 1. With 48 rows one row is 0.02 to 0.03, so 0.1 is a handful.
        template: the layout of prompts.
        tokenizer: the trainer's `processing_class` if left out.

    Raises:
        TrainingError: an unknown action, no tokenizer, or numbers that make no sense.
    """

    def __init__(
        self,
        trainer: Trainer,
        probes: Sequence[Probe] | None = None,
        *,
        every: int = 100,
        forms: Sequence[Form] | None = None,
        vectors: Mapping[str, InstructionVector] | None = None,
        action: Action = "warn",
        margin: float = 0.1,
        template: Template = PLAIN,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        tokenizer = tokenizer or trainer.processing_class
        if tokenizer is None:
            raise TrainingError(
                "there is no tokenizer to make prompts with: pass `tokenizer`, or `processing_class` to the trainer"
            )
        one_of(Action, action, "action", TrainingError)
        if every < 1 or not margin >= 0:
            raise TrainingError(f"every must be at least 1 and margin not below 0, got {every} and {margin}")
        if probes is None:
            probes = usual_probes()
        if forms is None:
            ranked = any(probe.task.knowledge for probe in probes)
            forms = [form for form in DEFAULT_FORMS if ranked or form not in RANKED]
        self.trainer, self.every, self.forms, self.action, self.margin = trainer, every, tuple(forms), action, margin
        self.watch = Watch(tokenizer, probes, self.forms, vectors or {}, template)
        self._first: dict[str, float] | None = None
        self._good: tuple[int, dict[str, Tensor]] | None = None
        self._looked_at = -1

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The first measurement, which later ones are held against.

        Raises:
            TrainingError: weights are to be rolled back, and those of the best checkpoint would replace them at the end.
        """
        from peft import PeftModel

        if self.action == "roll_back" and args.load_best_model_at_end:
            raise TrainingError("action 'roll_back' and load_best_model_at_end both choose the last weights; take one of them")
        self._first = next((e for e in state.log_history if any(f"forgetting/{form}" in e for form in self.forms)), None)
        self._good, self._looked_at = None, -1
        # Of a fully fine-tuned model that goes on from a checkpoint the original is not at hand.
        if self._measures() and (state.global_step == 0 or isinstance(self.trainer.model, PeftModel)):
            self.watch.remember(self.trainer.model)
        self._look(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A measurement, where it is time."""
        if state.global_step % self.every == 0:
            self._look(state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The last measurement; the best checkpoint, if it is wanted, has been loaded by now."""
        if self._looked_at != state.global_step or args.load_best_model_at_end:
            self._look(state, control)

    def _measures(self) -> bool:
        sharded = self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled
        return sharded or self.trainer.is_world_process_zero()

    def _look(self, state: TrainerState, control: TrainerControl) -> None:
        self._looked_at = state.global_step
        found = [self.watch.values(self.trainer.model) if self._measures() else None]
        if self.trainer.args.world_size > 1:  # every process logs and decides alike
            broadcast_object_list(found)
        values = {f"forgetting/{name}": value for name, value in (found[0] or {}).items()}
        self._log(values, control)
        self._first = self._first or values
        drops = {f: self._first.get(f"forgetting/{f}", 0.0) - values.get(f"forgetting/{f}", 0.0) for f in self.forms}
        worst = max(drops, key=drops.__getitem__, default=None)
        if worst is None or not drops[worst] > self.margin:
            self._good = (state.global_step, self._trained()) if self.action == "roll_back" else None
            return
        then, now = self._first[f"forgetting/{worst}"], values[f"forgetting/{worst}"]
        text = f"{worst} fell from {then:.2f} to {now:.2f} by step {state.global_step}, more than the margin of {self.margin:g}"
        logger.warning("%s%s", text, self._act(control))

    def _act(self, control: TrainerControl) -> str:
        if self.action == "warn":
            return ""
        control.should_training_stop = True
        if self.action == "stop":
            return "; training stops"
        if self._good is None:
            return "; training stops; no measurement of this run was good, so the weights stay as they are"
        step, weights = self._good
        with torch.no_grad():
            for name, weight in self._parameters().items():
                weight.copy_(weights[name])
        return f"; training stops with the weights of step {step}"

    def _parameters(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.trainer.model.named_parameters() if weight.requires_grad}

    def _trained(self) -> dict[str, Tensor]:
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self._parameters().items()}

    def _log(self, values: dict[str, float], control: TrainerControl) -> None:
        due = control.should_log
        # TRL's trainers empty their training metrics into what is logged while the model trains.
        with evaluating(self.trainer.model):
            self.trainer.log(dict(values))
        control.should_log = due  # the trainer's own log of this step is still to come
