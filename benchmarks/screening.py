"""How well first-order estimates find the heads with the largest exact effects, and whether those carry a task together.

    python benchmarks/screening.py --json

For each task, on the same counterfactual prompts: exact effects of all heads, their estimates from a forward and a backward a
prompt (`vectors.screening`), and `recall`: the share of the `--k` heads with the largest exact mean effects among the 10, 20, 40
and 80 largest estimates. `recall_mean_over_tasks` ranks means over all tasks, as universal heads are chosen. `speedup` is the
time of exact effects of all heads over that of estimates and exact effects of the 40 largest. `together` tries the exact top
heads as a set on other prompts, beside 20 random sets of as many (`vectors.joint`).
"""

import argparse
import json
import statistics
import time

import torch

from instruction_vectors import causal_effects, load, load_task, mean_head_outputs, top_heads
from instruction_vectors.progress import track
from instruction_vectors.vectors.joint import joint_check
from instruction_vectors.vectors.prompting import counterfactuals, demonstrations
from instruction_vectors.vectors.screening import estimated_effects, recall

TASKS = ("present-past", "singular-plural", "country-capital", "english-french", "sentiment-word", "capitalize")
SHORTLISTS = (10, 20, 40, 80)
TIMED = 40


def measure(model, tokenizer, name: str, prompts: int, k: int, seed: int) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """One task's numbers, its exact effects and its estimates."""
    task = load_task(name)
    means = mean_head_outputs(model, tokenizer, [text for text, _ in demonstrations(task, prompts=25, shots=5, seed=seed)])
    built = counterfactuals(task, prompts=prompts, shots=5, seed=seed)
    asked = model, tokenizer, [text for text, _ in built], [answer for _, answer in built], means
    began = time.perf_counter()
    exact = causal_effects(*asked)
    everything = time.perf_counter() - began
    began = time.perf_counter()
    estimate = estimated_effects(*asked)
    causal_effects(*asked, heads=top_heads(estimate, TIMED))
    screened = time.perf_counter() - began
    tried = joint_check(model, tokenizer, task, top_heads(exact, k), prompts=prompts, seed=seed)
    return (
        {
            "recall": {str(count): recall(exact, estimate, k, count) for count in SHORTLISTS},
            "speedup": everything / screened,
            "together": {"sufficiency": tried.sufficiency.summary(), "necessity": tried.necessity.summary()},
        },
        exact,
        estimate,
    )


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tasks", default=",".join(TASKS), help="shipped tasks, parted by commas")
    parser.add_argument("--prompts", type=int, default=8, help="counterfactual prompts a task")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    names = options.tasks.split(",")
    model, tokenizer = load(options.model)
    found = {}
    with track("Exact effects and their estimates", len(names), "task") as advance:
        for number, name in enumerate(names, start=1):
            found[name] = measure(model, tokenizer, name, options.prompts, options.k, options.seed)
            advance(number)
    tasks = {name: numbers for name, (numbers, _, _) in found.items()}
    exact, estimate = (torch.stack([one[side].mean(0) for one in found.values()]) for side in (1, 2))
    report = {
        "recall": {str(c): statistics.mean(task["recall"][str(c)] for task in tasks.values()) for c in SHORTLISTS},
        "recall_mean_over_tasks": {str(count): recall(exact, estimate, options.k, count) for count in SHORTLISTS},
        "speedup": statistics.median(task["speedup"] for task in tasks.values()),
        "tasks": tasks,
        "settings": {"model": options.model, "prompts": options.prompts, "k": options.k, "seed": options.seed, "timed": TIMED},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
