"""IV-guided training as a mixin over any `transformers.Trainer`."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftType
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import anatomy_of, text_config, unwrap
from instruction_vectors.models.hooks import head_at
from instruction_vectors.training.automatic import automatic_vectors, named, names_of
from instruction_vectors.training.collator import KeepsNames
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.consistency import heads_read
from instruction_vectors.training.keeping import TeacherKeeper, load_beside, teacher_identity
from instruction_vectors.training.objectives import language_model_loss
from instruction_vectors.training.penalties import Said
from instruction_vectors.training.schedule import scale_at
from instruction_vectors.training.sharding import refuse_parts
from instruction_vectors.training.shelf import TeacherShelf
from instruction_vectors.training.targets import Targets, model_inputs
from instruction_vectors.training.teacher import Teacher
from instruction_vectors.training.views import frozen
from instruction_vectors.vectors.vector import InstructionVector

logger = logging.getLogger(__name__)

_BALANCE = ("router_aux_loss_coef", "aux_loss_coef")
"""What models call the weight of their experts' balance in their own loss."""
Vectors = InstructionVector | Mapping[str, InstructionVector | None]


class IVGuidance:
    r"""Mixin that trains with $L = L_{LM}(\text{student at scale } s(p)) + \lambda\,KL$ (Jiang et al. 2406.12227, §5).

    With `consistency_weight`, α_1 times the squared distance of the vector's heads to the teacher's is added (Jiang et al.
    2502.11019).

    Put it before a Trainer class: `class MyTrainer(IVGuidance, Trainer)`. Beside the Trainer's own arguments it takes:

        vector: an `InstructionVector`, or one for each name in the rows' `vector` column (`naming.vector_names` fills it;
            the one called "" is for every other row). "auto" makes them from the training rows: one for each instruction
            or system prompt that enough rows share, one for the rest (`automatic`). None trains plainly; a name that has None
            for its vector leaves the rows of that name out of guidance, with the language-model loss alone.
        guidance: an `IVGuidanceConfig`; its defaults if left out.
        reference: a frozen copy of the original model to teach, needed when the model is not a PEFT model (then the
            original is the model with its adapters off) and the teacher not the previous model.
        teacher_cache: a folder where what the teacher says is kept for other runs over the same rows (`shelf`).

    With or without a vector only labelled positions pass through the head. With `kl_weight=0` and `sign=0`, losses and
    weights equal plain training bit for bit. Loss and KL are means over the labels and answers of a whole accumulation
    window, however it is cut. In a chat of several turns every turn with labels is steered at its beginning (`targets`).
    What the teacher said is kept in every checkpoint where rows come twice, so that a resumed run goes on bit for bit.
    Evaluation gives the language-model loss of the model as it will be used, without vector or teacher: `eval_loss` compares
    with plain training's.

    Raises:
        TrainingError: no way to have the original model, another loss asked for, labels all masked, or a loss that is not
            finite.
    """

    def __init__(
        self,
        *args: Any,
        vector: Vectors | Literal["auto"] | None = None,
        guidance: IVGuidanceConfig | None = None,
        reference: nn.Module | None = None,
        teacher_cache: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._refuse_lone_processes()
        self._refuse_other_losses()
        self.model_accepts_loss_kwargs = True
        self.data_collator: Any = KeepsNames(self.data_collator)
        if guidance is not None and vector is None:
            logger.warning(
                "guidance was given without a vector, so this trains plainly; for the KL term alone give a vector and "
                "IVGuidanceConfig(teacher_scale=0, sign=0)"
            )
        self.guidance = guidance or IVGuidanceConfig()
        if reference is not None and self.guidance.teacher == "previous" and vector != "auto":
            raise TrainingError(
                "teacher='previous' is the model that trains as it was, so `reference` would not be asked: leave it out"
            )
        self.reference = None if reference is None else self._beside_model(reference)
        given = self._vectors_of(vector)
        self.vectors = {name: each for name, each in given.items() if each is not None}
        self.unguided = frozenset(given) - frozenset(self.vectors)
        self._refuse_names_in_streams()
        if self.unguided and self.guidance.kl_positions == "answer":
            raise TrainingError("kl_positions='answer' compares every answer token of a batch: give every row a vector")
        self._parts: dict[str, Tensor] = {}
        self._scale = 0.0
        self._window_answers: Tensor | None = None
        self._evaluates = self._predicts = False
        model = self.model  # type: ignore[attr-defined]
        processing = self.processing_class  # type: ignore[attr-defined]
        tokenizer = processing if isinstance(processing, PreTrainedTokenizerBase) else None
        for each in self.vectors.values():
            each.check_fits(model, tokenizer)
        asked = self.guidance.kl_weight > 0 or self.guidance.consistency_weight > 0
        self.teacher = self._make_teacher(model) if self.vectors and asked else None
        if self.teacher is not None:
            once = self.args.max_steps <= 0 and self.args.num_train_epochs <= 1  # type: ignore[attr-defined]
            if once and teacher_cache is None:
                self.teacher.forget_at_once()  # no row comes twice
            else:
                self.add_callback(TeacherKeeper(self.teacher))  # type: ignore[attr-defined]
            if teacher_cache is not None:
                self.add_callback(TeacherShelf(self.teacher, teacher_cache))  # type: ignore[attr-defined]

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The guided loss of one micro-batch."""
        loss, outputs = self._guided_loss(model, inputs, num_items_in_batch)
        return (loss, self._as_predicted(model, inputs, outputs)) if return_outputs else loss

    def _guided_loss(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any) -> tuple[Tensor, Any]:
        """The loss, and outputs whose logits are those of labelled places alone."""
        targets = Targets.of(inputs)
        guided = bool(self.vectors) and not self._evaluates
        if guided and not len(targets.answers):
            raise TrainingError(
                "no answer of a batch has an input before it, so there is no place for the vector; mask the labels of the "
                "prompts (-100)"
            )
        targets = targets.under(self._guides)
        config = self.guidance
        window = self._labels_of_window(num_items_in_batch)
        scale = config.sign * scale_at(self._progress(), config.schedule) if guided else 0.0
        said = self._ask(inputs, targets) if guided else None
        with ExitStack() as stack:
            read = stack.enter_context(self._read(model, targets)) if said is not None and said.heads else {}
            stack.enter_context(_steered(self.vectors, self.guidance, model, targets.starts, scale))
            stack.enter_context(head_at(anatomy_of(model), targets.places, said.states if said is not None else None))
            outputs = model(**model_inputs(inputs))
        logits, taught = said.parted(outputs.logits[0]) if said is not None else (outputs.logits[0], None)
        outputs.logits = logits[None]
        loss = language_model_loss(logits[targets.rows], targets.tokens, window)
        answers = self._answers_of_window(len(targets.answers), model, window)
        heads = {name: head() for name, head in read.items()}
        costs = said.costs(logits, taught, heads, window, answers) if said is not None else {}
        costs |= self._model_costs(model, outputs, window)
        if not self._evaluates:
            self._add_parts(scale, {"lm": loss, **{name: value for name, (_, value) in costs.items()}}, window)
        for weight, value in costs.values():
            loss = loss + weight * value.to(loss.device)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step} ({self.last_parts}); lower the learning rate "  # type: ignore[attr-defined]
                f"or check the rows of this batch, whose tokens begin: {self._beginnings(inputs)}"
            )
        return loss, outputs

    @property
    def last_parts(self) -> dict[str, float]:
        """What the loss of the last step is made of, each part unweighted, and the scale of the vector; on this process."""
        parts = {name: value.item() for name, value in self._parts.items()}
        return {"lm": parts.pop("lm"), "scale": self._scale, **parts} if parts else {}

    def _add_parts(self, scale: float, parts: Mapping[str, Tensor], window: Any) -> None:
        """Parts of a micro-batch join those of its window, by whose counts they are divided; read only when asked for."""
        before = self._parts if window is not None else {}
        told = {name: before[name] + value.detach() if name in before else value.detach() for name, value in parts.items()}
        self._parts, self._scale = {**before, **told}, scale

    def _model_costs(self, model: nn.Module, outputs: Any, window: Any) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of what a model adds to its own loss: a mixture of experts' balance, if its config asks for that.

        As in the model's own loss it is added for every micro-batch of an accumulation window.

        Raises:
            TrainingError: it is not known how much it weighs.
        """
        balance = getattr(outputs, "aux_loss", None)
        if balance is None:
            return {}
        causal_lm = unwrap(model)
        told = (getattr(where, name, None) for where in (causal_lm, text_config(causal_lm)) for name in _BALANCE)
        weight = next((each for each in told if each is not None), None)
        if weight is None:
            raise TrainingError(
                f"{type(causal_lm).__name__} adds the balance of its experts to its loss, and does not say at what weight: set "
                "output_router_logits=False in its config"
            )
        return {"balance": (weight, balance)}

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kwargs: Any
    ) -> Any:
        """A step of evaluation: without guidance, since that is how the model will be used."""
        self._evaluates, self._predicts = True, not prediction_loss_only
        try:
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)
        finally:
            self._evaluates = self._predicts = False

    def _as_predicted(self, model: nn.Module, inputs: dict[str, Any], outputs: Any) -> Any:
        """Outputs as metrics read them, with the logits of every place, where predictions are wanted."""
        if not self._predicts:
            return outputs
        if "target_rows" in inputs:
            raise TrainingError(
                "a packed batch's predictions do not stand row by row beside its labels: evaluate with a collator that pads, or "
                "with prediction_loss_only=True"
            )
        with torch.no_grad():
            return model(**model_inputs(inputs))

    def _beginnings(self, inputs: Mapping[str, Any], tokens: int = 24) -> str:
        """The first tokens of a batch's rows, as text if the trainer has a tokenizer: enough to find the rows by."""
        rows = [row[:tokens].tolist() for row in inputs["input_ids"]]
        decode = getattr(getattr(self, "processing_class", None), "decode", str)
        return "; ".join(repr(decode(row)) for row in rows)

    def _ask(self, inputs: Mapping[str, Any], targets: Targets) -> Said | None:
        """What the teacher says, None if nothing; asked before the student's graph takes up memory.

        Asked even where no row of this batch is guided: other processes may have one, and all must ask as often.
        """
        if self.teacher is None:
            return None
        heads = {name: _named(self.vectors, name).heads for name in targets.starts}
        said = Said.of(self.teacher, self.guidance, inputs, targets, heads, same_head=self._same_head)
        return said if targets.starts else None

    @cached_property
    def _same_head(self) -> bool:
        """First asked in training, when it is settled what trains."""
        return self.teacher is not None and self.teacher.has_the_head_of(anatomy_of(self.model))  # type: ignore[attr-defined]

    @contextmanager
    def _read(self, model: nn.Module, targets: Targets) -> Iterator[dict[str, Callable[[], Tensor]]]:
        """What each vector's heads put out themselves where it goes in."""
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(heads_read(anatomy_of(model), _named(self.vectors, name).heads, where))
                for name, where in targets.starts.items()
            }

    def _labels_of_window(self, counted: Any) -> Any:
        """Labels of a whole accumulation window, a device: devices' gradients are averaged, the Trainer counts over all."""
        args = self.args  # type: ignore[attr-defined]
        return counted / args.world_size if counted is not None and args.average_tokens_across_devices else counted

    def _answers_of_window(self, here: int, model: nn.Module, labels: Any) -> Any:
        """Answers of a whole accumulation window, a device, where the labels too are those of a window."""
        counted = self._window_answers if model.training else None
        return None if labels is None else here if counted is None else counted

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of an accumulation window, as the Trainer draws them; their answers are counted as it counts labels."""
        batches, labels = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._window_answers, self._parts = None, {}
        if self.teacher is not None and batches:
            args = self.args  # type: ignore[attr-defined]
            count = torch.tensor(sum(len(Targets.of(batch).under(self._guides).answers) for batch in batches), device=device)
            if args.average_tokens_across_devices and args.world_size > 1:
                count = self.accelerator.gather(count).sum() / args.world_size  # type: ignore[attr-defined]
            self._window_answers = count
        return batches, labels

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "vector" not in self._signature_columns:
            self._signature_columns: list[str] = [*self._signature_columns, "vector"]

    def _refuse_lone_processes(self) -> None:
        """Several processes that do not know of each other would each train on all rows and overwrite the others' files.

        One process with several GPUs cuts batches apart (`DataParallel`), and places for the vector do not go with the parts.
        """
        args = self.args  # type: ignore[attr-defined]
        if args.n_gpu > 1 and not getattr(self.model, "is_loaded_in_8bit", False):  # type: ignore[attr-defined]
            raise TrainingError(
                f"one process would spread each batch over {args.n_gpu} GPUs; show it one (CUDA_VISIBLE_DEVICES=0), or start a "
                "process for each with torchrun"
            )
        started, seen = int(os.environ.get("WORLD_SIZE", "1")), args.world_size
        if started > 1 and seen == 1:
            raise TrainingError(
                f"{started} processes were started but the Trainer sees only itself, so each would train alone; check the "
                "launcher's settings (on CPUs: use_cpu=True, torchrun, and neither FSDP nor DeepSpeed)"
            )

    def _refuse_names_in_streams(self) -> None:
        args, rows = self.args, getattr(self, "train_dataset", None)  # type: ignore[attr-defined]
        config = getattr(args, "accelerator_config", None)
        dispatched = getattr(config, "dispatch_batches", None)  # None: of streams
        handed_on = isinstance(rows, IterableDataset) if dispatched is None else dispatched
        if len(self.vectors) + len(self.unguided) > 1 and handed_on and args.world_size > 1:
            raise TrainingError(
                "a stream's batches are read by one process and handed to the others as tensors, which names of vectors are not: "
                "set accelerator_config={'dispatch_batches': False}, or give a dataset that is no stream"
            )

    def _refuse_other_losses(self) -> None:
        """Whatever else would be added to the model's own loss, which is not asked for here."""
        args = self.args  # type: ignore[attr-defined]
        configs = getattr(self.model, "peft_config", {}).values()  # type: ignore[attr-defined]
        if any(getattr(config, "peft_type", None) == PeftType.ADALORA for config in configs):
            raise TrainingError("AdaLoRA adds a term to the model's own loss, which is not asked for here: take LoRA")
        if args.label_smoothing_factor or self.compute_loss_func is not None:  # type: ignore[attr-defined]
            raise TrainingError("guidance has a loss of its own: leave out label_smoothing_factor and compute_loss_func")

    def _progress(self) -> float:
        state = self.state  # type: ignore[attr-defined]
        return state.global_step / state.max_steps if state.max_steps > 0 else 0.0

    def _vectors_of(self, vector: Vectors | str | None) -> Mapping[str, InstructionVector | None]:
        """By name; made from the rows, which get their names, if that is asked for."""
        if not isinstance(vector, str):
            return {} if vector is None else {"": vector} if isinstance(vector, InstructionVector) else dict(vector)
        if vector != "auto":
            raise TrainingError(f"vector must be an InstructionVector, one for each name, or 'auto', got {vector!r}")
        model, tokenizer = self.reference or self.model, self.processing_class  # type: ignore[attr-defined]
        rows, held = getattr(self, "train_dataset", None), getattr(self, "eval_dataset", None)
        self.train_dataset, vectors = automatic_vectors(model, tokenizer, rows)
        parts = held if isinstance(held, dict) else {} if held is None else {"": held}
        parts = {part: named(rows, names_of(rows, vectors)) if hasattr(rows, "__len__") else rows for part, rows in parts.items()}
        self.eval_dataset = parts if isinstance(held, dict) else parts.get("")
        return vectors

    def _guides(self, name: str) -> bool:
        """Whether rows of that name are guided."""
        return name in self.vectors or (name not in self.unguided and "" not in self.unguided)

    def _make_teacher(self, model: nn.Module) -> Teacher:
        config = self.guidance
        shards = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        if self.is_fsdp_enabled and not self.accelerator.is_fsdp2:  # type: ignore[attr-defined]
            raise TrainingError(
                "the teacher runs parts of the model by themselves, which FSDP 1 does not gather; set fsdp_version: 2"
            )
        if shards and config.teacher == "previous":
            raise TrainingError("teacher='previous' keeps a copy of the weights, which are sharded here; use teacher='original'")
        teaches, bare = frozen(model, self.reference, config.teacher)
        # Nothing of the teacher's names the trainer: a circle would keep optimizer and snapshot on the device after training.
        accelerator = self.accelerator  # type: ignore[attr-defined]

        @contextmanager
        def view() -> Iterator[None]:
            """The teacher computes as the student does, whose forward alone the Trainer runs in mixed precision."""
            with accelerator.autocast(), bare():
                yield

        steer = partial(_steered, self.vectors, config, teaches, scale=config.teacher_scale)
        told = partial(teacher_identity, teaches, self.vectors, config, accelerator.mixed_precision)
        teacher = Teacher(anatomy_of(teaches), view, steer, told)
        if shards:
            refuse_parts(teaches, "the teacher")
            teacher.fingerprint  # noqa: B018 (kept from now on: later no process has all weights)
        return teacher

    def _beside_model(self, reference: nn.Module) -> nn.Module:
        """The reference on the device that trains, unless it was put in its place: over several devices, or quantised."""
        causal_lm = unwrap(reference)
        placed = getattr(causal_lm, "hf_device_map", None) or getattr(causal_lm.config, "quantization_config", None)
        return reference if placed else reference.to(self.args.device)  # type: ignore[attr-defined]

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, or go on from a checkpoint with what the teacher said before."""
        if self.teacher is not None and resume_from_checkpoint:
            load_beside(self.teacher, resume_from_checkpoint, self.args.output_dir)  # type: ignore[attr-defined]
        return super().train(resume_from_checkpoint, *args, **kwargs)


@contextmanager
def _steered(
    vectors: Mapping[str, InstructionVector],
    config: IVGuidanceConfig,
    model: nn.Module,
    starts: Mapping[str, Tensor],
    scale: float,
) -> Iterator[None]:
    """Every row's own vector at its last input tokens."""
    with ExitStack() as stack:
        for name, where in starts.items() if scale else ():
            stack.enter_context(_named(vectors, name).applied(model, mode=config.mode, scale=scale, positions=where))
        yield


def _named(vectors: Mapping[str, InstructionVector], name: str) -> InstructionVector:
    vector = vectors.get(name, vectors.get(""))
    if vector is None:
        raise TrainingError(f"a row asks for the vector {name!r}; there are {sorted(vectors)}")
    return vector
