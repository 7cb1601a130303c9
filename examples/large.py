"""A model of 7 or 8 billion weights on several GPUs: weights sharded by FSDP2 or ZeRO-3, or optimizer states alone by ZeRO-2.

iv extract present-past --model meta-llama/Llama-3.1-8B-Instruct --dtype bfloat16 --out vectors/llama-3.1
accelerate launch --config_file examples/fsdp2.yaml examples/large.py meta-llama/Llama-3.1-8B-Instruct vectors/llama-3.1 [STEPS]

The vector is made beforehand, on one GPU, and the rows of its task are trained on. Every process holds all weights in main memory
until they are sharded (4 bytes a weight), and runs the model alone on a few short prompts: can it read packed ones?
"""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments

from instruction_vectors import InstructionVector, IVTrainer, load
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.rows import encode_rows, read_rows

if len(sys.argv) < 3:
    sys.exit("give a model and the folder of its vector, as the first lines of this file show")
name, folder, steps = [*sys.argv[1:], "-1"][:3]

model, tokenizer = load(name, device="cpu")  # before the TrainingArguments, which may shard what is loaded after them
vector = InstructionVector.from_pretrained(folder)
rows = read_rows(Path(__file__).parent / "rows.jsonl")
rows = [each for each in rows if each[1]["instruction"] == vector.metadata.get("instruction")] or sys.exit("no rows of its task")
adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
use = {"max_steps": int(steps), "save_strategy": "no", "logging_steps": 2, "use_cpu": not torch.accelerator.is_available()}
trainer = IVTrainer(
    model=adapted,
    args=TrainingArguments("runs/large", learning_rate=1e-4, **use),
    train_dataset=encode_rows(tokenizer, rows, max_length=512)[0],
    data_collator=TreeCollator(adapted),
    processing_class=tokenizer,
    vector=vector,
)
trainer.train()
trainer.save_model("runs/large/adapter")
