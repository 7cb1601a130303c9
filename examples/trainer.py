"""Guided LoRA with `transformers.Trainer`: the class name and `vector` are all that is added.

python examples/trainer.py [MODEL] [STEPS]
"""

import sys
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, TrainingArguments

from instruction_vectors import ForgettingCallback, IVTrainer, load
from instruction_vectors.training.rows import encode_rows, read_rows

name, steps = [*sys.argv[1:], *("smollm2-135m-instruct", "-1")[len(sys.argv) - 1 :]]
model, tokenizer = load(name)
rows, _ = encode_rows(tokenizer, read_rows(Path(__file__).parent / "rows.jsonl"), max_length=512)

trainer = IVTrainer(
    model=get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")),
    args=TrainingArguments(
        "runs/trainer",
        max_steps=int(steps),
        num_train_epochs=3,
        learning_rate=3e-4,
        logging_steps=2,
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=rows,
    data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    processing_class=tokenizer,
    vector="auto",
)
trainer.add_callback(ForgettingCallback(trainer, every=10))
trainer.train()
trainer.save_model("runs/trainer/adapter")
