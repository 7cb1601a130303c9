"""lm-eval tasks before and after: what others measure models by, beside the tasks that get a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.verdict import Rules
from instruction_vectors.analysis.worse import Change, change_of
from instruction_vectors.errors import DataError


@dataclass(frozen=True, slots=True)
class LmEval:
    """Which lm-eval tasks to run (extra `lm-eval`).

    Attributes:
        tasks: their names.
        include_path: folder of local task YAMLs; if it holds all of them, no network is needed.
        limit: first rows of each only.
    """

    tasks: tuple[str, ...]
    include_path: Path | None = None
    limit: int | None = None

    def rows(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[float]]:
        """By `task, metric`, a value between 0 and 1 a row; metrics of another range, or lower at best, are left out.

        Raises:
            IVError: lm-eval is missing, a task is unknown or needs sampling.
            DataError: a task has no such metric.
        """
        from instruction_vectors.evaluation.lm_eval_bridge import run_lm_eval

        run = run_lm_eval(model, tokenizer, self.tasks, include_path=self.include_path, limit=self.limit)
        better = run.results.get("higher_is_better", {})
        found: dict[str, list[float]] = {}
        for task, rows in run.rows.items():
            right_way = better.get(task.split("/")[0], {})
            usable = [m for m in rows[0].metrics if right_way.get(m) and all(_fits(row.metrics[m]) for row in rows)]
            if not usable:
                raise DataError(f"lm-eval task {task!r} has no metric between 0 and 1 for each row, so drops cannot be paired")
            found |= {f"{task}, {metric}": [float(row.metrics[metric]) for row in rows] for metric in usable}
        return found


def outside_changes(base: Mapping[str, list[float]], tuned: Mapping[str, list[float]], rules: Rules) -> dict[str, Change]:
    """How each metric of each task changed, paired row by row."""
    return {name: change_of(rows, tuned[name], 1.0, rules) for name, rows in base.items()}


def _fits(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1
