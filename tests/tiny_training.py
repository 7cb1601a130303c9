"""What the training tests share: rows of word numbers, the stock way to pad them, a small adapter and its trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import TrainingArguments

from instruction_vectors.training.trainers import IVTrainer
from instruction_vectors.vectors.vector import InstructionVector

HEADS = ((0, 1), (1, 0), (1, 3), (2, 2))


def row(prompt: Sequence[int], answer: Sequence[int], vector: str = "") -> dict[str, Any]:
    """One row of token ids, the prompt masked."""
    return {"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + list(answer), "vector": vector}


def distinct_rows(count: int = 8) -> list[dict[str, Any]]:
    """Rows with unlike prompts and answers of one to three tokens."""
    return [row([1, 4 + i, 9, 5 + (3 * i) % 20, 7], [8 + i, 20 + i, 12][: 1 + i % 3]) for i in range(count)]


def padded(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """A batch the stock way: right-padded ids, attention mask, labels with -100."""
    width = max(len(r["input_ids"]) for r in rows)
    gaps = [width - len(r["input_ids"]) for r in rows]
    return {
        "input_ids": torch.tensor([[*r["input_ids"], *[0] * g] for r, g in zip(rows, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(r["input_ids"]) + [0] * g for r, g in zip(rows, gaps, strict=True)]),
        "labels": torch.tensor([[*r["labels"], *[-100] * g] for r, g in zip(rows, gaps, strict=True)]),
    }


def adapted(seed: int = 0, family: str = "llama") -> PeftModel:
    """A tiny model under an adapter that already changes what it says."""
    base = tiny.model(family)
    torch.manual_seed(seed)
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return model.to(torch.float64)


def vector(model: Any, seed: int = 0) -> InstructionVector:
    """A vector with effects one can see."""
    means = torch.randn(tiny.LAYERS, tiny.HEADS, tiny.HEAD_DIM, generator=torch.Generator().manual_seed(seed))
    return InstructionVector.from_means(model, means, HEADS)


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "use_cpu": True,
    }
    return TrainingArguments(**{**settings, **changes})


def trainer(model: Any, folder: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> IVTrainer:
    """An IVTrainer; keywords that the trainer does not know go to its TrainingArguments."""
    own = {
        k: options.pop(k)
        for k in (
            "vector",
            "guidance",
            "reference",
            "data_collator",
            "callbacks",
            "teacher_cache",
            "processing_class",
            "eval_dataset",
        )
        if k in options
    }
    own.setdefault("data_collator", padded)
    return IVTrainer(model=model, args=arguments(folder, **options), train_dataset=list(rows), **own)


def losses(trained: Any) -> list[float]:
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def adapter_weights(model: Any) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}
