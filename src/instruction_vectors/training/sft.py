"""TRL's `SFTTrainer` with guidance (extra `trl`), in one file.

TRL changes its trainers from one minor version to the next, so only those that the tests ran with are accepted.
"""

from collections.abc import Mapping
from typing import Any

import torch
from packaging.specifiers import SpecifierSet
from torch import Tensor, nn

from instruction_vectors.errors import IVError, TrainingError, install_extra
from instruction_vectors.models.precision import widest
from instruction_vectors.training.guidance import IVGuidance
from instruction_vectors.training.targets import Targets, model_inputs

TESTED = ">=1.16,<1.17"
"""Versions of TRL that `IVSFTTrainer` is tested with."""


def check_version(version: str) -> None:
    """Raise IVError unless this version of TRL is one of those tested."""
    if version not in SpecifierSet(TESTED):
        raise IVError(f"IVSFTTrainer is tested with TRL {TESTED}, here is {version}; run `pip install 'trl{TESTED}'`")


try:
    import trl
    from trl import SFTTrainer
except ImportError as error:
    raise IVError(f"IVSFTTrainer needs the trl extra; run {install_extra('trl')}") from error
check_version(trl.__version__)


class IVSFTTrainer(IVGuidance, SFTTrainer):
    """`trl.SFTTrainer` with IV guidance: change the class name, pass `vector` and `guidance`.

    Takes what `SFTTrainer` takes: text or chat datasets, prompt and completion columns, `peft_config`, an `SFTConfig`; see
    `IVGuidance` for the arguments it adds. Logs what TRL logs (`entropy`, `mean_token_accuracy`, `num_tokens`). With a
    vector, the loss must leave the prompts out (prompt and completion columns, `assistant_only_loss`, or labels), since
    the vector goes in where an answer begins.

    `padding_free` is supported, and packing where samples stay whole (`packing_strategy="bfd"`); packed rows lose their
    `vector` column in TRL, so packing takes a single vector, and no rows that train plainly.

    Raises:
        TrainingError: a loss or a way of packing that guidance cannot go with, beside what `IVGuidance` raises.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.loss_type != "nll":
            raise TrainingError(f"guidance adds to the plain loss: set loss_type='nll', not {self.args.loss_type!r}")
        if self.vectors:
            self._check_packing()
            self._check_prompts_masked()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The guided loss of one micro-batch."""
        inputs["use_cache"] = False  # with a cache, models do not keep the samples of a padding-free batch apart
        loss, outputs = self._guided_loss(model, inputs, num_items_in_batch)
        self._note(inputs, outputs.logits[0].detach(), model.training)
        if not return_outputs:
            return loss
        if self._evaluates and not self._predicts:
            return loss, outputs
        with torch.no_grad():  # metrics read the logits of every place
            return loss, model(**model_inputs(inputs))

    def _model_costs(self, model: nn.Module, outputs: Any, window: Any) -> dict[str, tuple[float, Tensor]]:
        """The balance of a mixture of experts as TRL adds it: its mean over an accumulation window."""
        if not self.aux_loss_enabled:
            return {}
        steps = self.current_gradient_accumulation_steps if window is not None and model.training else 1
        return {"balance": (self.router_aux_loss_coef / steps, outputs.aux_loss)}

    def _note(self, inputs: Mapping[str, Any], logits: Tensor, training: bool) -> None:
        """What TRL logs, over all devices."""
        targets, metrics = Targets.of(inputs), self._metrics["train" if training else "eval"]
        found = torch.log_softmax(logits.float(), -1)[targets.rows]
        hits = (found.argmax(-1) == targets.tokens).sum()
        mask = inputs.get("attention_mask")
        read = mask.sum() if isinstance(mask, Tensor) and mask.dim() == 2 else inputs["input_ids"].numel()
        counted = [len(found), -(found.exp() * found).sum(), hits, read]
        own = torch.tensor([float(value) for value in counted], dtype=widest(logits.device), device=logits.device)
        labels, entropy, right, tokens = self.accelerator.gather(own[None]).sum(0).tolist()
        metrics["entropy"].append(entropy / labels)
        metrics["mean_token_accuracy"].append(right / labels)
        if training:
            self._total_train_tokens += int(tokens) // self._tp_size
        metrics["num_tokens"] = [self._total_train_tokens]

    def _check_packing(self) -> None:
        args = self.args
        if not (args.packing or args.eval_packing):
            return
        if args.packing_strategy != "bfd":
            raise TrainingError(
                f"packing_strategy={args.packing_strategy!r} cuts samples apart, so it is not known where an answer begins; "
                "use packing_strategy='bfd' or packing=False"
            )
        if len(self.vectors) + len(self.unguided) > 1:
            raise TrainingError(
                "packing drops the column that names each row's vector; pass a single vector, or set packing=False "
                "(padding_free=True keeps the names)"
            )

    def _check_prompts_masked(self) -> None:
        first: Mapping[str, Any] = next(iter(self.train_dataset), {})
        if "labels" in first and int(first["labels"][0]) != -100:
            raise TrainingError(
                "the loss covers the prompts too, so no answer has a beginning where the vector could go in; give prompt and "
                "completion columns, or set assistant_only_loss=True for chats"
            )

    def _reject_skip_prepare_without_labels(self, datasets: dict[str, Any], data_collator: Any) -> None:
        super()._reject_skip_prepare_without_labels(datasets, getattr(data_collator, "inner", data_collator))
