"""What holds on a CPU, checked on an accelerator: effects, steering, guided steps, bfloat16; and how much faster it is.

    python benchmarks/gpu_check.py --json            # the default model on the first accelerator
    python benchmarks/gpu_check.py --json --model FOLDER --device cuda:1

Everything is computed twice, on the CPU and on the device, from the same prompts and seeds. Printed are the largest differences
of effects (probabilities), of steered logits and of the losses of guided steps, each beside its limit; how many of the ten
strongest heads bfloat16 finds too; seconds of all heads' effects on both; and the device's peak memory. The exit status is 0 if
all limits hold, 1 if one does not, 2 if there is no such device.

`results/benchmarks/gpu_check.json` is from one H100; `--device cpu` compares the CPU with itself.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainingArguments

from instruction_vectors import InstructionVector, IVTrainer, causal_effects, load, mean_head_outputs
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.training.collator import TreeCollator, rows_of
from instruction_vectors.vectors.choosing import top_heads

LIMITS = {"effects": 1e-4, "steered_logits": 1e-2, "guided_losses": 1e-3}
"""In float32; matrix products on some devices round to fewer bits by default (TF32), which is switched off here."""
TASK, ROWS, HEADS, STEPS = "present-past", 16, 10, 4


def found(name: str, device: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Effects, steered logits, losses of guided steps and seconds, on one device."""
    model, tokenizer = load(name, dtype=dtype, device=device)
    task = load_task(TASK)
    prompts = [instructed(task, row) for row in task.rows[:ROWS]]
    texts, answers = [p.text for p in prompts], [p.target for p in prompts]
    means = mean_head_outputs(model, tokenizer, texts)
    effects, seconds = timed(lambda: causal_effects(model, tokenizer, texts, answers, means))
    heads = top_heads(effects.float(), HEADS)
    vector = InstructionVector.from_means(model, means, heads)
    ids = tokenizer(texts[0], return_tensors="pt").to(model.device)
    with torch.no_grad(), vector.applied(model):
        logits = model(**ids).logits[0, -1].float().cpu()
    losses = guided_losses(model, tokenizer, prompts, vector) if dtype == torch.float32 else []
    return {"effects": effects.float(), "heads": heads, "logits": logits, "losses": losses, "seconds": round(seconds, 4)}


def guided_losses(model: Any, tokenizer: Any, prompts: list[Any], vector: InstructionVector) -> list[float]:
    """The loss of each of a few guided steps, from a seeded adapter."""
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM"))
    adapted.to(model.device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=4, max_steps=STEPS, learning_rate=1e-3, logging_steps=1,
            train_sampling_strategy="sequential", save_strategy="no", report_to=[], disable_tqdm=True,
            remove_unused_columns=False, dataloader_pin_memory=False, use_cpu=model.device.type == "cpu",
        )  # fmt: skip
        rows = rows_of(tokenizer, prompts)
        trainer = IVTrainer(model=adapted, args=arguments, train_dataset=rows, data_collator=TreeCollator(adapted), vector=vector)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    adapted.unload()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds of a second run, when all is warm; what it returns is on the CPU, so it is waited for."""
    run()
    began = time.perf_counter()
    return run(), time.perf_counter() - began


def compared(name: str, device: str) -> dict[str, Any]:
    """The device against the CPU."""
    torch.set_float32_matmul_precision("highest")
    here, there = found(name, "cpu"), found(name, device)
    half = found(name, device, torch.bfloat16)
    differences = {
        "effects": float((here["effects"] - there["effects"]).abs().max()),
        "steered_logits": float((here["logits"] - there["logits"]).abs().max()),
        "guided_losses": max(abs(a - b) for a, b in zip(here["losses"], there["losses"], strict=True)),
    }
    return {
        "device": device,
        "name": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "differences": differences,
        "limits": LIMITS,
        "holds": all(differences[each] <= LIMITS[each] for each in LIMITS),
        "largest_effect": float(here["effects"].mean(0).max()),
        "bf16_shared_heads": len(set(half["heads"]) & set(here["heads"])),
        "seconds": {
            "cpu": round(here["seconds"], 3),
            "device": round(there["seconds"], 3),
            "device_bf16": round(half["seconds"], 3),
        },
        "speedup": round(here["seconds"] / max(there["seconds"], 1e-4), 2),
        "peak_mb": round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.startswith("cuda") else None,
        "torch": torch.__version__,
    }


def shown_alone(device: str | None) -> str | None:
    """The device as it is called when no other GPU is seen: a Trainer takes all that it sees. Before CUDA is first asked."""
    kind, _, number = (device or "cuda").partition(":")
    if kind != "cuda" or "CUDA_VISIBLE_DEVICES" in os.environ:
        return device
    os.environ["CUDA_VISIBLE_DEVICES"] = number or "0"
    return device and "cuda:0"


def main() -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="short name, folder or hub id")
    parser.add_argument("--device", help="as torch names it (default: the first accelerator)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    device = shown_alone(options.device) or (
        f"{torch.accelerator.current_accelerator()}:0" if torch.accelerator.is_available() else None
    )
    if device is None:
        print("no accelerator here: nothing to check (--device cpu compares the CPU with itself)", file=sys.stderr)
        return 2
    report = json.dumps(compared(options.model, device), indent=None if options.json else 1)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")
    return 0 if json.loads(report)["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
