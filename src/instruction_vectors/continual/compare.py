"""Two arms of a grid, seed by seed on the same rows: how much of what plain training lost another arm keeps, and at what cost."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instruction_vectors.continual.result import Result, counted_probes, course, data, kept, learnt, probes
from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.statistics import (
    Interval,
    crossed_means,
    mean_of_means,
    paired_differences,
    percentile_interval,
    ratio,
    sign_flip_test,
)

Rows = list[list[list[float]]]
"""Seeds of tasks of rows."""
_FEWEST = 6
"""Seeds below which no p is given: with n of them it is at least 2 / 2^n."""


def compare(plain: Sequence[Result], other: Sequence[Result], *, margin: float = 0.02) -> dict[str, Any]:
    """`other` against `plain`, cells' results with one entry a seed (of each sequence, where there are several).

    Args:
        plain: the arm that loses.
        other: the arm set beside it, on the same seeds, tasks and rows.
        margin: loss of AP that would still be accepted, above 0 (2 points by default).

    Returns:
        `ip_recovered` and `gp_recovered`: the share of plain training's five-shot (zero-shot) loss on tasks never trained on
        that the other arm does not have, over the tasks that count (`summary.counted`), with its parts and intervals under
        `ip` and `gp`; None where the loss itself is not clear. `ap_delta`: difference of AP, other minus
        plain, with `ap_interval` (95%) and `ap_delta_low`, the lower end of its one-sided 95% interval; `ap_non_inferior`: that
        this lies above `-margin`. `fp_delta` and `fp_interval`: the same of FP.
        `p`: of the difference in five-shot accuracy at the end, signs flipped over seeds (the tasks of one trained model are
        not independent); None below six seeds, where it could not fall below 0.05. `seeds`: how many, anew for each sequence.

    Raises:
        DataError: other seeds, tasks or rows in one arm than in the other.
    """
    plain, other = _matched(plain, other)
    ip, gp = (_recovered(plain, other, form) for form in ("in_context", "zero_shot"))
    ap, fp = (_paired(plain, other, scores) for scores in (learnt, kept))
    ap_draws = _draws(plain, ap)
    low = percentile_interval(ap_draws, 0.9)[0]
    return {
        "ip_recovered": ip["share"],
        "gp_recovered": gp["share"],
        "ap_delta": mean_of_means(ap),
        "ap_interval": list(percentile_interval(ap_draws)),
        "ap_delta_low": low,
        "ap_non_inferior": low > -margin,
        "fp_delta": mean_of_means(fp),
        "fp_interval": list(_interval(plain, fp)),
        "p": _p(plain, other) if len(plain) >= _FEWEST and "gain" in ip else None,
        "seeds": len(plain),
        "ip": ip,
        "gp": gp,
    }


def _recovered(plain: Sequence[Result], other: Sequence[Result], form: str) -> dict[str, Any]:
    names = _names(plain, form)
    if not all(names):
        return {"share": None, "note": "M0 is at its floor on every task: nothing can be forgotten there"}
    before, after = ([probes(r, stage, form, own) for r, own in zip(plain, names, strict=True)] for stage in (0, -1))
    loss = [paired_differences(*each) for each in zip(before, after, strict=True)]  # positive where plain training lost
    gain = _ends(plain, other, form)
    interval = _interval(plain, loss)
    share = ratio(mean_of_means(gain), mean_of_means(loss), interval) if mean_of_means(loss) > 0 else None
    return {
        "tasks": len({name for own in names for name in own}),
        "base": mean_of_means(before),
        "loss": mean_of_means(loss),
        "loss_interval": list(interval),
        "gain": mean_of_means(gain),
        "gain_interval": list(_interval(plain, gain)),
        "share": share.value if share else None,
    }


def _p(plain: Sequence[Result], other: Sequence[Result]) -> float:
    seeds = _ends(plain, other, "in_context")
    return sign_flip_test([mean_of_means(seed) for seed in seeds])


def _interval(results: Sequence[Result], values: Rows) -> Interval:
    return percentile_interval(_draws(results, values))


def _draws(results: Sequence[Result], values: Rows) -> np.ndarray:
    """Of the mean over all results; the seeds of a sequence share their tasks and rows, sequences are as given."""
    sequences = sorted({course(result)[:2] for result in results})
    parts = [[v for r, v in zip(results, values, strict=True) if course(r)[:2] == each] for each in sequences]
    drawn = [len(part) * crossed_means(part, seed=number) for number, part in enumerate(parts)]
    return np.asarray(np.sum(drawn, axis=0) / len(values))


def _names(results: Sequence[Result], form: str) -> list[list[str]]:
    """Of each result the probes that count."""
    return [counted_probes(result, form) for result in results]


def _ends(plain: Sequence[Result], other: Sequence[Result], form: str) -> Rows:
    """How much higher `other` ends, on the probes that count for `plain`."""
    return [
        paired_differences(probes(b, -1, form, own), probes(a, -1, form, own))
        for a, b, own in zip(plain, other, _names(plain, form), strict=True)
    ]


def _paired(plain: Sequence[Result], other: Sequence[Result], rows: Callable[[Result], list[list[float]]]) -> Rows:
    return [paired_differences(rows(b), rows(a)) for a, b in zip(plain, other, strict=True)]


def _matched(plain: Sequence[Result], other: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    first, second = ({course(result): result for result in arm} for arm in (plain, other))
    if not first or first.keys() != second.keys() or len(first) != len(plain) or len(second) != len(other):
        raise DataError(f"arms of unlike seeds cannot be compared: {sorted(first)} and {sorted(second)}")
    for each in first:
        if data(first[each]) != data(second[each]):
            raise DataError(f"seed {each[-1]}: the two arms stand on unlike data")
        if first[each].get("model_fingerprint") != second[each].get("model_fingerprint"):
            raise DataError(f"seed {each[-1]}: the two arms begin with unlike models")
    return [first[each] for each in sorted(first)], [second[each] for each in sorted(first)]
