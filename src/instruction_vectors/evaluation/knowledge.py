"""Does a model still know, and does it still do what it is told? The same rows in both forms, and what a drop consists of.

From the row-by-row results of `abilities.measure`: K = knowledge probability, the chance-corrected rank-classification
accuracy of the bare cloze; I = instruction probability, the same of the instructed prompt, over the same options
(Jiang et al. 2406.12227, Figures 2 and 3). The instruction score is what is known times how far it is told on
request, I = K F with F = I / K; so a drop from before (0) to after (1) is

    I_0 - I_1 = F_0 (K_0 - K_1)  +  (F_0 - F_1) K_1        F_0 = I_0 / K_0
              = knowledge part   +  instruction-following part

(a two-fold decomposition in the manner of Kitagawa 1955, the state before as reference). The knowledge part is what would
be lost if the model still followed instructions as before; the rest, I_0 K_1 / K_0 - I_1, is following lost. Only K_0 is
divided by, and where its interval holds 0 the split is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import Rows
from instruction_vectors.evaluation.statistics import Interval, bootstrap_means, percentile_interval, ratio


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its bootstrap interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Linked:
    """Knowledge and instruction probability of the same rows.

    Attributes:
        knowledge: K, 0 at chance, 1 at best.
        instruction: I, on the same scale.
        tasks: the tasks that have both forms; only they count.
        rows: number of rows.
    """

    knowledge: Estimate
    instruction: Estimate
    tasks: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Split:
    """A drop of the instruction score and its two parts, which add up to it.

    Attributes:
        before: the model before.
        after: the model after.
        knowledge_drop: K_0 - K_1.
        instruction_drop: I_0 - I_1.
        knowledge_part: F_0 (K_0 - K_1), or None where refused.
        instruction_part: I_0 K_1 / K_0 - I_1, or None where refused.
        reason: why the split was refused.
    """

    before: Linked
    after: Linked
    knowledge_drop: Estimate
    instruction_drop: Estimate
    knowledge_part: Estimate | None
    instruction_part: Estimate | None
    reason: str | None = None


def linked(results: Mapping[str, Rows], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Linked:
    """Knowledge and instruction probability of one model.

    Args:
        results: by task, what `abilities.measure` gave; tasks without a knowledge form are left out.
        confidence: coverage of the intervals (tasks redrawn, then their rows, both forms of a row together).
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        DataError: no task with both forms, or a task whose forms have different numbers of rows.
    """
    table = _table([results])
    draws = bootstrap_means(table.rows, resamples=resamples, seed=seed, width=2)
    return _linked(table, _means(table), draws, 0, confidence)


def split_drop(
    before: Mapping[str, Rows], after: Mapping[str, Rows], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Split:
    """What a drop in following instructions consists of.

    Args:
        before: by task, results of the model before (M0).
        after: by task, results of the model after, on the same rows in the same order.
        confidence: coverage of the intervals; before and after of a row are redrawn together.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        DataError: no task with both forms, or results that are not of the same rows.
    """
    table = _table([before, after])
    means = _means(table)
    draws = bootstrap_means(table.rows, resamples=resamples, seed=seed, width=4)
    start = _linked(table, means, draws, 0, confidence)
    end = _linked(table, means, draws, 2, confidence)
    points, drawn = means[None].T, draws.T
    k_drop, i_drop = ((points[c] - points[c + 2], drawn[c] - drawn[c + 2]) for c in (0, 1))
    drops = _estimate(*k_drop, confidence), _estimate(*i_drop, confidence)
    if reason := ratio(start.instruction.value, start.knowledge.value, start.knowledge.interval).reason:
        return Split(start, end, *drops, None, None, f"no split, since the knowledge before is the denominator: {reason}")
    if start.knowledge.value < 0:
        return Split(start, end, *drops, None, None, "no split: the knowledge before is below chance")
    known, told = (_knowledge_part(values) for values in (points, drawn))
    return Split(
        start, end, *drops, _estimate(known, told, confidence), _estimate(i_drop[0] - known, i_drop[1] - told, confidence)
    )


@dataclass(frozen=True)
class _Table:
    tasks: tuple[str, ...]
    rows: list[list[tuple[float, ...]]]
    """By task and row: knowledge, instruction of the first model, then of the second."""


def _table(models: Sequence[Mapping[str, Rows]]) -> _Table:
    names = tuple(name for name in models[0] if all("knowledge" in results.get(name, {}) for results in models))
    if not names:
        raise DataError("no task has a knowledge form: knowledge and instruction cannot be linked")
    rows = []
    for name in names:
        columns = [
            list(results[name][form]) for results in models for form in ("knowledge", "instruction") if form in results[name]
        ]
        if len(columns) != 2 * len(models) or len({len(column) for column in columns}) != 1:
            raise DataError(f"task {name!r}: the two forms are not of the same rows, so they cannot be linked")
        rows.append(list(zip(*columns, strict=True)))
    return _Table(names, rows)


def _means(table: _Table) -> np.ndarray:
    means: np.ndarray = np.mean([np.mean(rows, axis=0) for rows in table.rows], axis=0)
    return means


def _linked(table: _Table, means: np.ndarray, draws: np.ndarray, column: int, confidence: float) -> Linked:
    knowledge, instruction = (_estimate(means[c : c + 1], draws[:, c], confidence) for c in (column, column + 1))
    return Linked(knowledge, instruction, table.tasks, sum(len(rows) for rows in table.rows))


def _knowledge_part(columns: np.ndarray) -> np.ndarray:
    k_before, i_before, k_after, _ = columns
    with np.errstate(divide="ignore", invalid="ignore"):  # a rare draw may hold no knowledge at all
        part: np.ndarray = i_before * (k_before - k_after) / k_before
    return part


def _estimate(value: np.ndarray, draws: np.ndarray, confidence: float) -> Estimate:
    return Estimate(float(value[0]), percentile_interval(draws[np.isfinite(draws)], confidence))
