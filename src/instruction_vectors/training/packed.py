"""Training on rows that are tokens already: packed batches, and silence but for what is asked for."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from peft import PeftModel
from torch import nn
from transformers import PrinterCallback, TrainingArguments

from instruction_vectors.environment import default_device
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.trainers import IVTrainer

T = TypeVar("T", bound=IVTrainer)


def packed_trainer(
    kind: type[T],
    model: nn.Module | PeftModel,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    seed: int,
    options: Mapping[str, Any],
    **given: Any,
) -> T:
    """A trainer over prefix trees, its learning rate falling linearly.

    Args:
        kind: `IVTrainer` or a child of it.
        model: the adapted model.
        rows: from `collator.rows_of` or `rows.encode_rows`.
        folder: the Trainer's own.
        seed: of everything that is drawn.
        options: further `TrainingArguments`.
        **given: what `kind` takes besides.
    """
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    arguments = TrainingArguments(
        output_dir=str(folder),
        lr_scheduler_type="linear",
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=default_device().type == "cpu",
        **options,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # the model lies on one GPU; a Trainer would cut batches apart over all that it sees
    trainer = kind(model=model, args=arguments, train_dataset=list(rows), data_collator=TreeCollator(model), **given)
    # The Trainer's own summary goes to standard output, which is for results.
    trainer.remove_callback(PrinterCallback)
    return trainer
