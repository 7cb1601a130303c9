"""Conventions of continual-learning measures, each pinned by a matrix worked out by hand."""

import math

import pytest

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.continual_metrics import ScoreMatrix, deltas, general

#            task   1    2    3
MATRIX = ScoreMatrix(
    ("a", "b", "c"),
    (
        (0.10, 0.20, 0.30),  # M0
        (0.90, 0.25, 0.20),  # after a
        (0.60, 0.80, 0.10),  # after b
        (0.95, 0.40, 0.70),  # after c
    ),
)


def test_ap_fp_forget():
    assert MATRIX.ap == pytest.approx((0.90 + 0.80 + 0.70) / 3)
    assert MATRIX.fp == pytest.approx((0.95 + 0.40 + 0.70) / 3)
    assert MATRIX.forget == pytest.approx(0.35 / 3)


def test_bwt_divides_by_n_minus_1_and_keeps_gains():
    # Task a gained 0.05, task b lost 0.40; the last task does not count.
    assert MATRIX.bwt == pytest.approx((0.05 - 0.40) / 2)
    assert MATRIX.forget == pytest.approx(-MATRIX.bwt * 2 / 3)


def test_fwt_reads_the_stage_just_before_against_m0():
    assert MATRIX.fwt == pytest.approx(((0.25 - 0.20) + (0.10 - 0.30)) / 2)


def test_a_single_task_has_no_transfer():
    alone = ScoreMatrix(("a",), ((0.1,), (0.9,)))
    assert alone.ap == alone.fp == 0.9
    assert alone.bwt is None
    assert alone.fwt is None


def test_a_lower_triangle_gives_what_it_can():
    nan = math.nan
    lower = ScoreMatrix(("a", "b"), ((nan, nan), (0.9, nan), (0.5, 0.8)))
    assert (lower.ap, lower.fp, lower.bwt) == pytest.approx((0.85, 0.65, -0.4))
    with pytest.raises(DataError, match=r"'b' was not measured after task 1: a_\{1,2\}"):
        _ = lower.fwt
    named = ScoreMatrix.of(("a", "b"), [{}, {"a": 0.9}, {"a": 0.5, "b": 0.8}])
    assert named.bwt == lower.bwt
    assert math.isnan(named.scores[1][1])


@pytest.mark.parametrize(
    ("tasks", "scores"),
    [
        ((), ()),
        (("a", "a"), ((0, 0),) * 3),
        (("a", "b"), ((0, 0),) * 2),
        (("a", "b"), ((0, 0), (0, 0), (0,))),
        (("a",), ((0,), (math.inf,))),
    ],
)
def test_malformed_matrices_are_refused(tasks, scores):
    with pytest.raises(DataError):
        ScoreMatrix(tasks, scores)


def test_places_outside_and_unknown_tasks_are_refused():
    for i, j in ((4, 1), (0, 0), (1, 4), (-1, 1)):
        with pytest.raises(DataError, match="outside"):
            MATRIX.a(i, j)
    with pytest.raises(DataError, match="not in the sequence"):
        ScoreMatrix.of(("a",), [{"b": 1.0}, {}])


def test_general_ability_counts_only_sets_above_the_floor():
    scores, base = {"hellaswag": 0.3, "arc": 0.5, "bbh": 0.4}, {"hellaswag": 0.4, "arc": 0.6, "bbh": 0.1}
    gp = general(scores, base, {"hellaswag": True, "arc": True, "bbh": False})
    assert (gp.value, gp.base, gp.delta) == pytest.approx((0.4, 0.5, -0.1))
    assert gp.counted == ("hellaswag", "arc")
    assert gp.left_out == ("bbh",)
    assert general(scores, base).value == pytest.approx(0.4)
    assert deltas(scores, base) == pytest.approx({"hellaswag": -0.1, "arc": -0.1, "bbh": 0.3})
    with pytest.raises(DataError, match="above its floor"):
        general(scores, base, dict.fromkeys(scores, False))
    with pytest.raises(DataError, match="arc"):
        general({"arc": 1.0}, {})
