"""What `iv train` keeps while it learns rows of one's own: a task of FUNC written down as such rows, under each kind of vector.

Every run is one of `iv train` with its usual settings (another learning rate if it is told), as a user would make it. Its adapter is
then asked about the task's test rows without examples, and about every task of FUNC that is neither among those named here nor
among the instructions of anchors. A file a run, row by row, and `M0.json` of the model before training; what is there is not run again:

    OMP_NUM_THREADS=1 python scripts/own_rows.py conll2003_location --data-dir DATA --out results/own_rows
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase
from wider_probes import asked, untouched

from instruction_vectors.environment import peak_rss_mb
from instruction_vectors.evaluation.abilities import Probe, measure
from instruction_vectors.files import read_json, write_atomic
from instruction_vectors.models.loading import load
from instruction_vectors.tasks.benchmarks import load_benchmark
from instruction_vectors.tasks.prompts import PLAIN, instructed
from instruction_vectors.tasks.task import Task
from instruction_vectors.training.finetune import fine_tune
from instruction_vectors.training.recipe import Recipe

VECTORS = ("none", "auto", "anchors")


def main() -> None:
    """Train and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", help="of FUNC, each a file of rows")
    parser.add_argument("--data-dir", type=Path, required=True, help="where FUNC is read from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/own_rows"), help="where adapters are kept")
    parser.add_argument("--vectors", nargs="+", choices=VECTORS, default=VECTORS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--learning-rate", type=float, default=Recipe(data="rows").learning_rate)
    parser.add_argument("--train-rows", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=200)
    parser.add_argument("--rows", type=int, default=25, help="rows a task that is asked about")
    args = parser.parse_args()
    func = load_benchmark("func", args.data_dir)
    probes = untouched(func, args.tasks, args.rows)
    asked_for = {"tasks": sorted(args.tasks), "train_rows": args.train_rows, "test_rows": args.test_rows, "rows": args.rows}
    for path in args.out.glob("*.json"):
        if (other := read_json(path)["asked_for"]) != asked_for:
            parser.error(f"{path} was asked for with {other}; choose another --out")
    if not (before := args.out / "M0.json").exists():
        model, tokenizer = load()
        start = {name: written(model, tokenizer, func.tasks[name].test, args.test_rows) for name in args.tasks}
        keep(before, {"asked_for": asked_for, "learnt": start} | asked(model, tokenizer, probes))
    for seed in args.seeds:
        for task in args.tasks:
            for vector in args.vectors:
                name = f"{task}-{vector}-lr{args.learning_rate:g}-s{seed}"
                if (path := args.out / f"{name}.json").exists():
                    continue
                rows = args.runs / f"{task}-s{seed}.jsonl"
                write_atomic(rows, "".join(own_rows(func.tasks[task].train, args.train_rows, seed)))
                recipe = Recipe.of({"data": str(rows), "vector": vector, "seed": seed, "learning_rate": args.learning_rate})
                started = time.monotonic()
                made = fine_tune(recipe, args.runs / name, say=print)
                run = {"seconds": round(time.monotonic() - started, 1), "peak_rss_mb": peak_rss_mb()}
                model, tokenizer = load(adapter=args.runs / name / "adapter")
                settings = {key: value for key, value in recipe.resolved().items() if key != "data"}
                made = {
                    "asked_for": asked_for,
                    "task": task,
                    "recipe": settings,
                    "rows": made["rows"],
                    "anchors": made["anchors"],
                    "run": run,
                }
                learnt = written(model, tokenizer, func.tasks[task].test, args.test_rows)
                keep(path, made | {"learnt": learnt} | asked(model, tokenizer, probes))


def own_rows(task: Task, count: int, seed: int) -> list[str]:
    """Lines as `iv train` reads them, of rows drawn by the seed."""
    lines = []
    for row in task.split(count, -1, seed=seed)[0].rows:
        line = {"instruction": task.instruction, "prompt": instructed(task, row).text, "completion": PLAIN.answer(row.output)}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return lines


def written(model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, rows: int) -> list[int]:
    """Right or not, row by row, without examples."""
    probe = Probe.of(task, min(rows, len(task.rows)), reserve=0)
    return [int(hit) for hit in measure(model, tokenizer, probe, ("zero_shot",))["zero_shot"]]


def keep(path: Path, found: dict[str, Any]) -> None:
    """Write one run's numbers."""
    write_atomic(path, json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
