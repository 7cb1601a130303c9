"""What a task's vector does on rows of FUNC, in both modes, with and without the instruction, beside three controls.

    python benchmarks/steering.py --data-dir DATA --json

Causal heads are universal: the `--k` largest mean exact effects over all `--tasks`. Every vector is made of a task's training
rows under the plain template, and tried on `--rows` of its test rows. Conditions are named `x` or `x+c`, then what is added:
`iv` the task's own vector, `other` that of the task half the list away, `mean` the mean of all tasks' vectors, `random` one of
equal norm. `summed` goes in after layer `--layer` and is left out for families that normalise what heads write. Accuracies are
of the answer's first token, `exact` of the whole answer, by greedy decoding; rows on which copying the input earns the first
token stand apart (`copying`).
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import get_args

import torch

from instruction_vectors import InstructionVector, load, load_benchmark
from instruction_vectors.analysis.steering import summarise
from instruction_vectors.evaluation.scoring import copies_input, score
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.progress import track
from instruction_vectors.tasks.prompts import PLAIN, bare, instructed
from instruction_vectors.vectors.prompting import Source
from instruction_vectors.vectors.universal import extract_all

TASKS = (
    "present-past",
    "singular-plural",
    "capitalize",
    "choose_first_of_3",
    "choose_last_of_3",
    "object_v_concept_3",
    "country-capital",
)
ADDED = ("iv", "other", "mean", "random")


def tried(model, tokenizer, task, rows, vectors: dict[str, InstructionVector], modes, scale: float) -> dict:
    """Accuracy of each condition by mode; a row's prompts run once but for their last token."""
    told = [instructed(task, row) for row in rows]
    edits = {
        (mode, name): lambda where, mode=mode, vector=vector: vector.applied(model, mode=mode, scale=scale, positions=where)
        for mode in modes
        for name, vector in vectors.items()
    }
    asked, edit, names = [], [], []
    for what, prompts in (("x", [bare(row) for row in rows]), ("x+c", told)):
        for added in (None, *edits):
            asked += prompts
            edit += [edits[added] if added else None] * len(rows)
            names.append((what, added))
    scored = score(model, tokenizer, [p.text for p in asked], [[p.target] for p in asked], exact=True, edit=edit)
    of = {name: [row[0] for row in scored[i * len(rows) : (i + 1) * len(rows)]] for i, name in enumerate(names)}
    copying = [copies_input(tokenizer, prompt, row.input) for prompt, row in zip(told, rows, strict=True)]
    tables = {}
    for mode in modes:
        conditions = {what if added is None else f"{what}+{added[1]}": scores for (what, added), scores in of.items()
                      if added is None or added[0] == mode}  # fmt: skip
        tables[mode] = summarise(conditions, copying, PLAIN.name)
    return tables


def measure(model, tokenizer, options) -> dict:
    """Vectors of all tasks over universal heads, and the table of each."""
    tasks = options.tasks.split(",")
    sides = load_benchmark("func", options.data_dir, tasks=tasks).tasks
    anatomy = anatomy_of(model)
    layer = options.layer if options.layer is not None else round(2 / 3 * anatomy.n_layers)
    modes = ("distributed", "summed") if anatomy.adds_writes else ("distributed",)
    with track("Means and exact effects", len(tasks), "task") as advance:
        vectors = extract_all(
            model,
            tokenizer,
            [sides[name].train for name in tasks],
            k=options.k,
            effect_prompts=options.prompts,
            layer=layer,
            source=options.source,
            seed=options.seed,
            progress=advance,
        )
    first, *others = vectors.values()
    mean = sum(others, first) * (1 / len(tasks))
    tables = {}
    with track("Steering", len(tasks), "task") as advance:
        for number, name in enumerate(tasks):
            other = tasks[(number + len(tasks) // 2) % len(tasks)]
            added = (vectors[name], vectors[other], mean, vectors[name].random_like(f"{options.seed}/{name}"))
            test = sides[name].without_seen().test
            rows = test.rows[: options.rows]
            tables[name] = {"other_task": other} | tried(
                model, tokenizer, test, rows, dict(zip(ADDED, added, strict=True)), modes, options.scale
            )
            advance(number + 1)
    conditions = [what + more for what in ("x", "x+c") for more in ("", *(f"+{name}" for name in ADDED))]
    average = {
        mode: {
            "first_token": {name: statistics.mean(table[mode][name] for table in tables.values()) for name in conditions},
            "exact": {name: statistics.mean(table[mode]["exact"][name] for table in tables.values()) for name in conditions},
        }
        for mode in modes
    }
    cosine = {a: {b: round(vectors[a].cosine(vectors[b]), 3) for b in tasks} for a in tasks}
    return {"mean": average, "tasks": tables, "heads": first.heads, "layer": layer, "cosine": cosine}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds func/")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks of FUNC, parted by commas")
    parser.add_argument("--rows", type=int, default=60, help="test rows a task")
    parser.add_argument("--prompts", type=int, default=8, help="counterfactual prompts a task")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--source", default="demonstrations", choices=get_args(Source), help="what means are over")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--layer", type=int, help="after which summed vectors go in; two thirds up by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    model, tokenizer = load(options.model)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "data_dir", "tasks", "layer")}
    settings["model"] = Path(options.model).name  # of a folder, not where it lies
    report = measure(model, tokenizer, options) | {"settings": settings, "threads": torch.get_num_threads()}
    print(json.dumps(report, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
