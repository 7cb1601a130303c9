"""The sides of a task that was published without a split."""

from pathlib import Path

from instruction_vectors.errors import DataError
from instruction_vectors.tasks.benchmark import Sides
from instruction_vectors.tasks.task import Task

EVAL_SHARE, TEST_SHARE = 0.1, 0.2
"""Of the rows; the rest is for training."""


def seeded(task: Task, seed: int, path: Path) -> Sides:
    """70% of the rows to train on, 10% to choose settings on, 20% to test on, drawn by seed, each at least one.

    Raises:
        DataError: fewer than three rows in the file at `path`.
    """
    count = len(task.rows)
    if count < 3:
        raise DataError(f"{path}: {count} different inputs; a split needs at least 3")
    eval_rows, test_rows = max(1, round(count * EVAL_SHARE)), max(1, round(count * TEST_SHARE))
    test, eval_, train = task.split(test_rows, eval_rows, -1, seed=seed)
    return Sides(train=train, test=test, eval=eval_)
