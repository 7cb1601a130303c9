"""Rank classification against lm-evaluation-harness: the same rows, the same model, the same process.

    python benchmarks/scoring.py --json --data-dir DATA --rows 40

HellaSwag, ARC-easy, OpenBookQA, and CommonsenseQA under letters (single-token options), SmolLM2-135M-Instruct in float32.
lm-eval's `HFLM` runs at the batch size that is fastest for it on a few of the rows. Runs alternate, the fastest of each counts.
Data: `eval/{hellaswag,arc_easy,openbookqa,commonsense_qa}.json` in `--data-dir` (`{"query", "choices", "gold"}` rows).

lm-eval's default takes the log-softmax over the vocabulary in float32, which on a CPU is off by about 1e-5 a token, always to
the same side, so that it adds up over an option of many tokens. Like is compared with like: the timed runs round as that
default does (`max_score_diff`), and two more runs round as little as they can, lm-eval's by its option
`softmax_dtype="float64"`, ours as it does when nothing is said (`max_score_diff_least_rounding`).
"""

import argparse
import importlib.metadata
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from instruction_vectors import load
from instruction_vectors.errors import IVError
from instruction_vectors.evaluation.multiple_choice import LAYOUTS, Layout, Question, read_questions, score_questions

TASKS = {"hellaswag": "hellaswag", "arc_easy": "arc_easy", "single_token": "commonsense_qa", "openbookqa": "openbookqa"}
BATCH_SIZES = (1, 4, 8, 16)
TRIAL_ROWS = 6
Rows = list[list[float]]


def main() -> int:
    """Run the benchmark; exit 0, or 1 if the data cannot be read."""
    arguments = _arguments()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        result = run(arguments.data_dir, arguments.rows, arguments.repeats)
    except IVError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result, indent=1) if arguments.json else _table(result))
    return 0


def run(data_dir: Path, rows: int, repeats: int) -> dict[str, Any]:
    """All three tasks."""
    questions = {name: read_questions(data_dir / "eval" / f"{file}.json")[:rows] for name, file in TASKS.items()}
    model, tokenizer = load()
    tasks = {name: _compare(model, tokenizer, questions[name], LAYOUTS[file], repeats) for name, file in TASKS.items()}
    return {
        "vs_lm_eval": {name: round(task["seconds"]["lm_eval"] / task["seconds"]["ours"], 3) for name, task in tasks.items()},
        "predictions_equal": all(task["predictions_equal"] for task in tasks.values()),
        **{name: max(task[name] for task in tasks.values()) for name in ("max_score_diff", "max_score_diff_least_rounding")},
        "tasks": tasks,
        "threads": torch.get_num_threads(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("instruction-vectors", "lm_eval", "torch", "transformers")
        },
    }


def _compare(model: Any, tokenizer: Any, questions: Sequence[Question], layout: Layout, repeats: int) -> dict[str, Any]:
    def ours(some: Sequence[Question], rounding: str = "lm_eval") -> Rows:
        return [[one.logprob for one in row] for row in score_questions(model, tokenizer, some, layout, rounding=rounding)]

    trial = questions[:TRIAL_ROWS]
    trials = {size: _harness(model, tokenizer, layout, size) for size in BATCH_SIZES}
    ours(trial[:1]), trials[1](trial[:1])  # warm both up
    seconds = {size: _timed(lambda run=run: run(trial))[0] for size, run in trials.items()}
    best = min(seconds, key=seconds.__getitem__)
    timings: dict[str, list[float]] = {"ours": [], "lm_eval": []}
    scores: dict[str, Rows] = {}
    for _ in range(repeats):
        for name, run in (("ours", ours), ("lm_eval", trials[best])):
            taken, scores[name] = _timed(lambda run=run: run(questions))
            timings[name].append(taken)
    exact = _harness(model, tokenizer, layout, best, softmax_dtype="float64")(questions)
    least = ours(questions, "least")
    lengths = [[len(choice) for choice in layout(question)[1]] for question in questions]
    return {
        "rows": len(questions),
        "seconds": {name: round(min(taken), 3) for name, taken in timings.items()},
        "all_seconds": {name: [round(one, 3) for one in taken] for name, taken in timings.items()},
        "lm_eval_batch_size": best,
        "lm_eval_trial_seconds": {str(size): round(taken, 3) for size, taken in seconds.items()},
        "predictions_equal": all(
            _predictions(a, lengths) == _predictions(b, lengths) for a, b in ((scores["ours"], scores["lm_eval"]), (least, exact))
        ),
        "max_score_diff": _largest_difference(scores["ours"], scores["lm_eval"]),
        "max_score_diff_least_rounding": _largest_difference(least, exact),
    }


def _harness(model: Any, tokenizer: Any, layout: Layout, batch_size: int, **options: Any) -> Callable[[Sequence[Question]], Rows]:
    """lm-eval's own scoring of questions."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, **options)

    def score(questions: Sequence[Question]) -> Rows:
        laid_out = [layout(question) for question in questions]
        requests = [
            Instance("loglikelihood", {}, (context, f" {choice}"), index)
            for context, choices in laid_out
            for index, choice in enumerate(choices)
        ]
        answers = iter(harness.loglikelihood(requests, disable_tqdm=True))
        return [[next(answers)[0] for _ in choices] for _, choices in laid_out]

    return score


def _predictions(scores: Rows, lengths: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """By raw sum (acc) and per character (acc_norm)."""
    raw = [max(range(len(row)), key=row.__getitem__) for row in scores]
    per_character = [max(range(len(row)), key=lambda k: row[k] / length[k]) for row, length in zip(scores, lengths, strict=True)]
    return list(zip(raw, per_character, strict=True))


def _largest_difference(first: Rows, second: Rows) -> float:
    return max(abs(a - b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def _timed(work: Callable[[], Rows]) -> tuple[float, Rows]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'task':<14}{'rows':>6}{'ours, s':>10}{'lm-eval, s':>12}{'batch':>7}{'times faster':>14}"]
    for name, task in result["tasks"].items():
        seconds = task["seconds"]
        lines.append(
            f"{name:<14}{task['rows']:>6}{seconds['ours']:>10.2f}{seconds['lm_eval']:>12.2f}"
            f"{task['lm_eval_batch_size']:>7}{result['vs_lm_eval'][name]:>14.2f}"
        )
    lines.append(f"predictions equal: {result['predictions_equal']}; largest score difference {result['max_score_diff']:.1e}")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with eval/*.json")
    parser.add_argument("--rows", type=int, default=40, help="rows of each task (default: 40)")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, the fastest counts (default: 2)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
