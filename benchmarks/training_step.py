"""Training steps: plain and guided, against the stock Trainer and the published way, on the same batches in one run.

    python benchmarks/training_step.py --json --data-dir DATA

SmolLM2-135M-Instruct in float32 under LoRA (r 8 on q and v), real FUNC and LONG rows, batches of 8 rows of one task as they
come in a sequence of tasks, three epochs. Four ways are timed, each epoch from its first batch to its last step:

- `stock`: `transformers.Trainer` + PEFT on padded batches;
- `plain`: `IVTrainer` without a vector, batches as prefix trees (`TreeCollator`);
- `published`: guidance as published code computes it at every step: all logits of student and teacher, the teacher run anew;
- `guided`: `IVTrainer` with a vector, whose teacher is asked in the first epoch and remembered.

The four take turns (the machine's speed drifts), ratios are taken within a turn, and the median turn counts.
`plain_vs_stock` and `guided_vs_published` are the other way's time over ours; `guided_vs_plain_3_epochs` and
`guided_vs_plain_cached` (epochs after the first) our guided time over our plain time. Of FUNC and LONG the worse is given, each
alone under `data`. Losses are compared step by step. `guided_memory_vs_plain` compares peak resident memory of a process of
its own each (Linux), weights included and loading left out, on the LONG rows. `fastest`: the LONG rows with batches of like
length, which pads less but shares less, and how fast this machine multiplies bfloat16 against float32.
"""

import argparse
import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from instruction_vectors import InstructionVector, IVTrainer, load, load_benchmark, mean_head_outputs
from instruction_vectors.errors import IVError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.tokens import pad
from instruction_vectors.models.tree import packs
from instruction_vectors.progress import track
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.truncate import fit
from instruction_vectors.training.collator import TreeCollator, rows_of
from instruction_vectors.training.objectives import kl_divergence
from instruction_vectors.training.schedule import scale_at
from instruction_vectors.vectors.injection import label_starts

WAYS = ("stock", "plain", "published", "guided")
EPOCHS, BATCH, MAX_TOKENS = 3, 8, 512
TEMPERATURE = 2.0
TOLERANCE = 1e-4
HEADS = ((20, 5), (24, 4), (18, 6), (29, 0), (20, 6), (14, 1), (11, 2), (9, 5), (12, 3), (13, 7))
"""Ten heads; which ones they are costs nothing."""
Row = dict[str, Any]


class PublishedTrainer(Trainer):
    """IV guidance as published code has it: padded batches, every logit of student and teacher, no teacher remembered."""

    def __init__(self, *args, vector: InstructionVector, **kwargs):
        super().__init__(*args, **kwargs)
        self.vector = vector

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Language model loss of the steered student, and KL to the steered original model where the answers begin."""
        where = label_starts(inputs["labels"])
        scale = scale_at(self.state.global_step / self.state.max_steps)
        with self.vector.applied(model, scale=scale, positions=where) if scale else nullcontext():
            student = model(**inputs, num_items_in_batch=num_items_in_batch)
        was_training = model.training
        model.eval()
        with torch.no_grad(), model.disable_adapter(), self.vector.applied(model, positions=where):
            teacher = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        model.train(was_training)
        divergence = kl_divergence(student.logits[where], teacher.logits[where], temperature=TEMPERATURE)
        loss = student.loss + divergence
        return (loss, student) if return_outputs else loss


class Clock(TrainerCallback):
    """Seconds of every epoch."""

    def __init__(self):
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Start the clock; the epoch's first batch is collated after this."""
        self._begun = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._begun)


def padded(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """A batch the stock way."""
    ids, mask = pad([row["input_ids"] for row in rows])
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": pad([row["labels"] for row in rows], -100)[0]}


def rows_for(name: str, tokenizer: Any, data_dir: Path, count: int) -> list[Row]:
    """`count` training rows, a batch of them from each task, tasks spread over the benchmark's sequences."""
    benchmark = load_benchmark(name, data_dir=data_dir)
    sequences = {"func": ("A", "B"), "long": ("order_4",)}[name]
    sides = [side for sequence in sequences for side in benchmark.sequence(sequence)]
    batches = max(1, count // BATCH)
    rows: list[Row] = []
    for number in range(batches):
        task = sides[number * len(sides) // batches % len(sides)].train
        part = task.split(min(BATCH, len(task.rows)), seed=number)[0]
        prompts = [fit(part, row, tokenizer, MAX_TOKENS, template=template_of(part)).prompt for row in part.rows]
        rows += rows_of(tokenizer, prompts)
    return rows


def vector_for(model: Any, tokenizer: Any, rows: Sequence[Row]) -> InstructionVector:
    """A vector of the model's own mean head outputs."""
    prompts = [tokenizer.decode([t for t, label in zip(r["input_ids"], r["labels"], strict=True) if label == -100]) for r in rows]
    return InstructionVector.from_means(model, mean_head_outputs(model, tokenizer, prompts[:4]), HEADS)


def train(way: str, base: Any, rows: Sequence[Row], vector: InstructionVector, epochs: int = EPOCHS) -> dict[str, Any]:
    """One way from a fresh adapter on: seconds an epoch, the loss of every step."""
    torch.manual_seed(0)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    kind, given = {
        "stock": (Trainer, {"data_collator": padded}),
        "plain": (IVTrainer, {"data_collator": TreeCollator(model)}),
        "published": (PublishedTrainer, {"data_collator": padded, "vector": vector}),
        "guided": (IVTrainer, {"data_collator": TreeCollator(model), "vector": vector}),
    }[way]
    packs(anatomy_of(model))  # looked at once a model, not a step
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            learning_rate=1e-4,
            weight_decay=1e-4,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
        )
        trainer = kind(model=model, args=arguments, train_dataset=list(rows), callbacks=[clock], **given)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.unload()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": clock.seconds, "losses": losses}


def measure(name: str, base: Any, rows: Sequence[Row], vector: InstructionVector, repeats: int) -> dict[str, Any]:
    """All ways on one benchmark's rows, in turns."""
    turns: list[dict[str, dict[str, Any]]] = []
    with track(f"{name}: four ways in turns", repeats * len(WAYS), "way") as advance:
        for way in WAYS:
            train(way, base, rows[:BATCH], vector, epochs=1)  # warm up
        for turn in range(repeats):
            turns.append({})
            for number, way in enumerate(WAYS, start=1):
                turns[-1][way] = train(way, base, rows, vector)
                advance(turn * len(WAYS) + number)

    def ratio(over: str, under: str, epochs: slice = slice(None)) -> float:
        each = [sum(turn[over]["seconds"][epochs]) / sum(turn[under]["seconds"][epochs]) for turn in turns]
        return round(statistics.median(each), 4)

    def apart(one: str, other: str) -> float:
        pairs = [zip(turn[one]["losses"], turn[other]["losses"], strict=True) for turn in turns]
        return max(abs(a - b) for pair in pairs for a, b in pair)

    return {
        "rows": len(rows),
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "tree_tokens": _tree_tokens(base, rows),
        "labels": sum(label != -100 for row in rows for label in row["labels"]),
        "plain_vs_stock": ratio("stock", "plain"),
        "guided_vs_plain_3_epochs": ratio("guided", "plain"),
        "guided_vs_plain_cached": ratio("guided", "plain", slice(1, None)),
        "guided_vs_published": ratio("published", "guided"),
        "max_loss_diff": {"plain_vs_stock": apart("plain", "stock"), "guided_vs_published": apart("guided", "published")},
        "seconds_an_epoch": {way: [[round(s, 3) for s in turn[way]["seconds"]] for turn in turns] for way in WAYS},
    }


def _tree_tokens(base: Any, rows: Sequence[Row]) -> int:
    collate = TreeCollator(base)
    return sum(collate(rows[i : i + BATCH])["input_ids"].numel() for i in range(0, len(rows), BATCH))


def run(data_dir: Path, rows: int, repeats: Mapping[str, int]) -> dict[str, Any]:
    """Both benchmarks, and memory."""
    base, tokenizer = load()
    found = {}
    for name, turns in repeats.items():
        some = rows_for(name, tokenizer, data_dir, rows)
        found[name] = measure(name, base, some, vector_for(base, tokenizer, some), turns)
        if name == "long":
            quickest = fastest(base, some, vector_for(base, tokenizer, some))
    peaks = {way: peak_mb(way, data_dir, rows) for way in ("plain", "guided")}
    differences = [value for data in found.values() for value in data["max_loss_diff"].values()]
    return {
        "plain_vs_stock": {name: data["plain_vs_stock"] for name, data in found.items()},
        "guided_vs_plain_3_epochs": max(data["guided_vs_plain_3_epochs"] for data in found.values()),
        "guided_vs_plain_cached": max(data["guided_vs_plain_cached"] for data in found.values()),
        "guided_vs_published": min(data["guided_vs_published"] for data in found.values()),
        "guided_memory_vs_plain": round(peaks["guided"] / peaks["plain"], 4),
        "losses_equal": max(differences) <= TOLERANCE,
        "data": found,
        "fastest": quickest,
        "peak_mb": peaks,
        "settings": {"batch": BATCH, "epochs": EPOCHS, "repeats": dict(repeats), "max_tokens": MAX_TOKENS, "lora": "r 8 on q, v"},
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("instruction-vectors", "peft", "torch", "transformers")},
    }


def fastest(base: Any, rows: Sequence[Row], vector: InstructionVector) -> dict[str, Any]:
    """Seconds an epoch where rows of like length share a batch, and whether this machine multiplies bfloat16 any faster."""
    grouped = sorted(rows, key=lambda row: len(row["input_ids"]))
    seconds = {
        f"{way}, grouped by length": train(way, base, grouped, vector, epochs=1)["seconds"][0] for way in ("stock", "plain")
    }
    seconds |= {way: train(way, base, rows, vector, epochs=1)["seconds"][0] for way in ("stock", "plain")}
    rates = {dtype: _matmul_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "seconds_an_epoch": {way: round(each, 2) for way, each in seconds.items()},
        "bfloat16_matmul_vs_float32": round(rates[torch.bfloat16] / rates[torch.float32], 3),
    }


def _matmul_rate(dtype: torch.dtype, repeats: int = 5) -> float:
    """Products a second of matrices as they stand in the model."""
    left, right = torch.randn(2048, 576).to(dtype), torch.randn(576, 1536).to(dtype)
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - began)
    return 1 / statistics.median(times[1:])


def peak_mb(way: str, data_dir: Path, rows: int) -> float:
    """Peak resident memory of a fresh process that trains one way."""
    command = [sys.executable, __file__, "--only", way, "--data-dir", str(data_dir), "--rows", str(rows)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["peak_mb"]


def only(way: str, data_dir: Path, rows: int) -> None:
    """One way on the LONG rows, two epochs; prints the peak memory. Or the fastest settings."""
    base, tokenizer = load()
    some = rows_for("long", tokenizer, data_dir, rows)
    vector = vector_for(base, tokenizer, some)
    if way == "fastest":
        print(json.dumps(fastest(base, some, vector), indent=1))
        return
    # Linux forgets its highest mark on this word; loading would stand above everything.
    Path("/proc/self/clear_refs").write_text("5")
    train(way, base, some, vector, epochs=2)
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
    print(json.dumps({"peak_mb": round(peak, 1)}))


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"{'':<6}{'rows':>6}{'plain/stock':>14}{'guided/plain':>14}{'once cached':>13}{'guided/published':>18}"]
    for name, data in result["data"].items():
        lines.append(
            f"{name:<6}{data['rows']:>6}{data['plain_vs_stock']:>13.2f}×{data['guided_vs_plain_3_epochs']:>13.2f}×"
            f"{data['guided_vs_plain_cached']:>12.2f}×{data['guided_vs_published']:>17.2f}×"
        )
    lines.append(
        f"peak memory, guided over plain: {result['guided_memory_vs_plain']:.3f}; losses equal: {result['losses_equal']}"
    )
    return "\n".join(lines)


def main() -> int:
    """Measure and print; exit 0, or 1 if losses differ or the data cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with func/ and long/")
    parser.add_argument("--rows", type=int, default=40, help="rows of each benchmark, in batches of 8 (default: 40)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of all four ways (default: 3)")
    parser.add_argument(
        "--long-repeats", type=int, help="turns on the LONG rows, which take most of the time (default: as --repeats)"
    )
    parser.add_argument("--only", choices=(*WAYS, "fastest"), help="one way's memory, or the fastest settings, alone")
    arguments = parser.parse_args()
    try:
        if arguments.only:
            only(arguments.only, arguments.data_dir, arguments.rows)
            return 0
        turns = {"func": arguments.repeats, "long": arguments.long_repeats or arguments.repeats}
        result = run(arguments.data_dir, arguments.rows, turns)
    except IVError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result, indent=1) if arguments.json else _table(result))
    return 0 if result["losses_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
