"""The same on several processes: data parallel, every process a share of each step's rows.

torchrun --nproc_per_node 2 examples/distributed.py [MODEL] [STEPS]
accelerate launch --config_file examples/distributed.yaml examples/distributed.py [MODEL] [STEPS]
"""

import os
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments

from instruction_vectors import IVTrainer, load
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.rows import encode_rows, read_rows

if int(os.environ.get("WORLD_SIZE", "1")) < 2:
    sys.exit("one process only: start this with torchrun or accelerate launch, as its first lines show")

name, steps = [*sys.argv[1:], *("smollm2-135m-instruct", "-1")[len(sys.argv) - 1 :]]
model, tokenizer = load(name, device="cpu")  # the Trainer moves it to this process's own device
rows, _ = encode_rows(tokenizer, read_rows(Path(__file__).parent / "rows.jsonl"), max_length=512)
adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
cpu = not torch.accelerator.is_available()
trainer = IVTrainer(
    model=adapted,
    args=TrainingArguments(
        "runs/distributed", max_steps=int(steps), learning_rate=3e-4, save_strategy="no", logging_steps=2, use_cpu=cpu
    ),
    train_dataset=rows,
    data_collator=TreeCollator(adapted),
    processing_class=tokenizer,
    vector="auto",
    teacher_cache="runs/teacher",
)
trainer.train()
trainer.save_model("runs/distributed/adapter")
