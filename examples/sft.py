"""Guided LoRA with TRL's `SFTTrainer`: the class name and `vector` are all that is added.

python examples/sft.py [MODEL] [STEPS]
"""

import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig

from instruction_vectors import IVSFTTrainer, load

name, steps = [*sys.argv[1:], *("smollm2-135m-instruct", "-1")[len(sys.argv) - 1 :]]
model, tokenizer = load(name)
on_cpu = model.device.type == "cpu"

trainer = IVSFTTrainer(
    model=model,
    args=SFTConfig(
        "runs/sft",
        max_steps=int(steps),
        num_train_epochs=3,
        learning_rate=3e-4,
        bf16=not on_cpu,
        gradient_checkpointing=not on_cpu,
        logging_steps=2,
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=Dataset.from_json(str(Path(__file__).parent / "rows.jsonl")),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    vector="auto",
)
trainer.train()
trainer.save_model("runs/sft/adapter")
