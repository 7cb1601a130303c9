"""What a sequence of tasks did to a model: the matrix of scores and the measures read off it.

`a_{i,j}` is the score on task j after learning task i, tasks counted from 1, row 0 the model before any training (M0).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from instruction_vectors.errors import DataError


@dataclass(frozen=True)
class ScoreMatrix:
    """The matrix `a_{i,j}`.

    Attributes:
        tasks: names of the N tasks in the order learned.
        scores: N + 1 rows of N scores, row 0 of M0. NaN stands where nothing was measured (a lower triangle leaves out
            the tasks not yet learned); a measure that needs such a score says so.
    """

    tasks: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.tasks)
        if not n or len(set(self.tasks)) != n:
            raise DataError(f"a score matrix needs tasks, each once; got {self.tasks}")
        if len(self.scores) != n + 1 or any(len(row) != n for row in self.scores):
            raise DataError(f"{n} tasks need {n + 1} rows (row 0 is M0) of {n} scores; got {[len(row) for row in self.scores]}")
        if any(math.isinf(score) for row in self.scores for score in row):
            raise DataError("scores must be finite, or NaN where nothing was measured")

    @classmethod
    def of(cls, tasks: Sequence[str], stages: Sequence[Mapping[str, float]]) -> "ScoreMatrix":
        """From the scores of M0 and of each stage by task name; a name left out becomes NaN."""
        for number, stage in enumerate(stages):
            if unknown := sorted(set(stage) - set(tasks)):
                raise DataError(f"stage {number} has scores of {', '.join(unknown)}, not in the sequence")
        return cls(tuple(tasks), tuple(tuple(float(stage.get(task, math.nan)) for task in tasks) for stage in stages))

    def a(self, i: int, j: int) -> float:
        """`a_{i,j}`, i from 0 (M0), j from 1.

        Raises:
            DataError: out of range, or not measured.
        """
        if not (0 <= i <= len(self.tasks) and 1 <= j <= len(self.tasks)):
            raise DataError(f"a_{{{i},{j}}} is outside a matrix of {len(self.tasks)} tasks")
        score = self.scores[i][j - 1]
        if math.isnan(score):
            raise DataError(
                f"{self.tasks[j - 1]!r} was not measured {f'after task {i}' if i else 'on M0'}: a_{{{i},{j}}} is missing"
            )
        return score

    @property
    def n(self) -> int:
        """Number of tasks N."""
        return len(self.tasks)

    @property
    def ap(self) -> float:
        """AP = mean_j a_{j,j}: each task right after it was learned."""
        return _mean([self.a(j, j) for j in range(1, self.n + 1)])

    @property
    def fp(self) -> float:
        """FP = mean_j a_{N,j}: all tasks at the end."""
        return _mean([self.a(self.n, j) for j in range(1, self.n + 1)])

    @property
    def forget(self) -> float:
        """Forget = AP - FP, over all N tasks (the last contributes 0)."""
        return self.ap - self.fp

    @property
    def bwt(self) -> float | None:
        """BWT = mean_{j<N}(a_{N,j} - a_{j,j}): divided by N - 1, gains not clipped at 0; None for a single task.

        (Lopez-Paz & Ranzato 2017.) So Forget = -BWT (N - 1) / N.
        """
        return _mean([self.a(self.n, j) - self.a(j, j) for j in range(1, self.n)]) if self.n > 1 else None

    @property
    def fwt(self) -> float | None:
        """FWT = mean_{j>1}(a_{j-1,j} - a_{0,j}): a task just before it is learned, against M0; None for a single task."""
        return _mean([self.a(j - 1, j) - self.a(0, j) for j in range(2, self.n + 1)]) if self.n > 1 else None


@dataclass(frozen=True)
class General:
    """Scores on general sets after task N (zero-shot: GP; 5-shot: IP) beside those of M0.

    Attributes:
        value: mean over the sets that count.
        base: the same of M0.
        counted: the sets on which M0 is clearly above its floor.
        left_out: the others: nothing can be forgotten at the floor.
    """

    value: float
    base: float
    counted: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def delta(self) -> float:
        """Change against M0; negative where ability was lost."""
        return self.value - self.base


def general(scores: Mapping[str, float], base: Mapping[str, float], above_floor: Mapping[str, bool] | None = None) -> General:
    """GP from zero-shot scores, IP from 5-shot scores.

    Args:
        scores: by set, after task N.
        base: by set, of M0.
        above_floor: by set, whether M0 is clearly above chance (e.g. its interval is); all count if None.

    Raises:
        DataError: the sets differ, or none counts.
    """
    if set(scores) != set(base):
        raise DataError(f"sets measured only once: {', '.join(sorted(set(scores) ^ set(base)))}")
    counted = tuple(name for name in scores if above_floor is None or above_floor[name])
    if not counted:
        raise DataError("no general set on which M0 is above its floor")
    return General(
        _mean([scores[name] for name in counted]),
        _mean([base[name] for name in counted]),
        counted,
        tuple(name for name in scores if name not in counted),
    )


def deltas(scores: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    """Change of each score against M0."""
    if missing := sorted(set(scores) - set(base)):
        raise DataError(f"M0 has no score of {', '.join(missing)}")
    return {name: score - base[name] for name, score in scores.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
