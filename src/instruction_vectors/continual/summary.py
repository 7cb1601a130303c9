"""A cell in numbers: the matrix of scores, AP, FP, Forget, BWT, FWT, and GP, IP, knowledge, instruction, with intervals."""

from collections.abc import Sequence
from typing import Any

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.abilities import FORMS
from instruction_vectors.evaluation.continual_metrics import ScoreMatrix
from instruction_vectors.evaluation.statistics import bootstrap_interval, mean_of_means, paired_differences, proportion_interval

Rows = Sequence[Sequence[float]]


def summary(tasks: Sequence[str], stages: Sequence[dict[str, dict[str, Any]]], *, seed: int = 0) -> dict[str, Any]:
    """Everything a table needs of a cell.

    Args:
        tasks: the sequence.
        stages: row-by-row results of M0 and after each task: `matrix` by task, `probes` and `general` by set and form.
        seed: of the bootstrap over tasks and rows.

    Returns:
        `matrix` (N + 1 rows), `ap`, `fp`, `forget`, `bwt`, `fwt` (None for a lower triangle), and for each form
        (`in_context` is IP, `zero_shot` GP) a list over stages: `{"mean", "low", "high"}`, and its change against M0 with
        an interval over the same rows; the same of the general sets under `general`, over those only that `counted_general`
        names (an empty list where there is none). `counted` names the probes that count for each form (see `counted`).
    """
    matrix = ScoreMatrix.of(tasks, [{name: _mean(rows) for name, rows in stage["matrix"].items()} for stage in stages])
    last = len(tasks)
    learnt = [stages[number]["matrix"][name] for number, name in enumerate(tasks, start=1)]
    kept = [stages[last]["matrix"][name] for name in tasks]
    general = {form: counted_general(stages[0], form) for form in ("zero_shot", "in_context")}
    return {
        "matrix": [[None if score != score else score for score in row] for row in matrix.scores],
        "ap": _with_interval(learnt, seed),
        "fp": _with_interval(kept, seed),
        "forget": _with_interval(paired_differences(learnt, kept), seed),
        "bwt": matrix.bwt,
        "fwt": _or_none(matrix),
        "counted": {form: counted(stages[0], form) for form in FORMS},
        "forms": {form: _over_stages(form, [stage["probes"] for stage in stages], seed) for form in FORMS},
        "counted_general": general,
        "general": {
            form: _over_stages(form, [{name: stage["general"][name] for name in names} for stage in stages], seed)
            for form, names in general.items()
        },
    }


def counted(base: dict[str, dict[str, Any]], form: str, *, floor: float = 0.05) -> list[str]:
    """The probes on which M0 lies clearly above the floor: nothing can be forgotten at it.

    Whole answers of greedy decoding count where the 95% interval of M0's share lies above `floor`; ranked options, whose
    scores are corrected for chance, where M0's mean does.
    """
    rows = {name: probe[form] for name, probe in base["probes"].items() if form in probe}
    if form in ("in_context", "zero_shot"):
        return [name for name, hits in rows.items() if proportion_interval(round(sum(hits)), len(hits))[0] > floor]
    return [name for name, scores in rows.items() if _mean(scores) > floor]


def counted_general(base: dict[str, dict[str, Any]], form: str, *, floor: float = 0.05, seed: int = 0) -> list[str]:
    """The general sets on which the 95% interval of M0's mean (a bootstrap over rows) lies above `floor`.

    Scores of multiple choice are corrected for chance, and nothing is earned by chance in the others.
    """
    sets = base.get("general", {})
    return [name for name, rows in sets.items() if form in rows and bootstrap_interval(rows[form], seed=seed)[0] > floor]


def _over_stages(form: str, stages: Sequence[dict[str, dict[str, list[float]]]], seed: int) -> list[dict[str, Any]]:
    groups = [[rows[form] for rows in sets.values() if form in rows] for sets in stages]
    if not groups[0]:
        return []
    return [
        {
            **_with_interval(group, seed),
            "n": sum(map(len, group)),
            "change": _with_interval(paired_differences(group, groups[0]), seed),
        }
        for group in groups
    ]


def _with_interval(groups: Rows, seed: int) -> dict[str, float]:
    low, high = bootstrap_interval(groups, seed=seed)
    return {"mean": mean_of_means(groups), "low": low, "high": high}


def _mean(rows: Sequence[float]) -> float:
    return sum(rows) / len(rows)


def _or_none(matrix: ScoreMatrix) -> float | None:
    try:
        return matrix.fwt
    except DataError:  # a lower triangle knows no task before it is learnt
        return None
