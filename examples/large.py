"""A model of 7 or 8 billion weights on several GPUs: weights sharded by FSDP2 or ZeRO-3, or optimizer states alone by ZeRO-2.

iv extract present-past --model meta-llama/Llama-3.1-8B-Instruct --out vectors/llama-3.1
accelerate launch --config_file examples/fsdp2.yaml examples/large.py meta-llama/Llama-3.1-8B-Instruct vectors/llama-3.1 [STEPS]

The vector is made beforehand, on one GPU: here every process holds all weights only until they are sharded, in main memory
(4 bytes a weight a process), and never runs the model alone.
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
rows, _ = encode_rows(tokenizer, read_rows(Path(__file__).parent / "rows.jsonl"), max_length=512)
adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
cpu = not torch.accelerator.is_available()
trainer = IVTrainer(
    model=adapted,
    args=TrainingArguments(
        "runs/large", max_steps=int(steps), learning_rate=1e-4, save_strategy="no", report_to=[], logging_steps=2, use_cpu=cpu
    ),
    train_dataset=rows,
    data_collator=TreeCollator(adapted),
    processing_class=tokenizer,
    vector=InstructionVector.from_pretrained(folder),
)
trainer.train()
trainer.save_model("runs/large/adapter")
