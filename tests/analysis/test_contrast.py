"""Intervals of paired rows: hand-computed values, and their coverage where truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_vectors.analysis.contrast import contrast, level, share, standard_error, upper_bound
from instruction_vectors.errors import DataError


def test_rows_that_all_agree_have_an_interval_of_some_width():
    # Bonett & Price with n = 12 and no disagreement: 0 ± 1.96 * sqrt((2/14) / 14).
    found = contrast([0.0] * 12, 1.0)
    half = 1.959964 * math.sqrt(2 / 14 / 14)
    assert found.value == 0
    assert found.interval == pytest.approx((-half, half), abs=1e-6)


def test_a_mixed_sample_by_hand():
    # 6 rows lost, 1 gained, 3 alike; with one more of each: p = 7/12 and 2/12.
    found = contrast([1.0] * 6 + [-1.0] + [0.0] * 3, 1.0)
    centre, variance = 5 / 12, 9 / 12 - (5 / 12) ** 2
    half = 1.959964 * math.sqrt(variance / 12)
    assert found.value == 0.5
    assert found.interval == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert standard_error([1.0] * 6 + [-1.0] + [0.0] * 3, 1.0) == pytest.approx(math.sqrt(variance / 12))


def test_the_one_sided_bound_is_the_end_of_the_wider_level():
    rows = [1.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0]
    assert upper_bound(rows, 1.0, confidence=0.975) == pytest.approx(contrast(rows, 1.0).interval[1])
    assert upper_bound(rows, 1.0) < contrast(rows, 1.0).interval[1]


def test_scores_scale_with_their_width():
    plain, corrected = contrast([1.0, 0.0, -1.0, 1.0], 1.0), contrast([4 / 3, 0.0, -4 / 3, 4 / 3], 4 / 3)
    assert corrected.interval == pytest.approx([4 / 3 * end for end in plain.interval])


def test_a_perfect_score_has_a_lower_end_below_one():
    # Agresti & Coull, 10 of 10: centre 12/14, half 1.96 * sqrt(12/14 * 2/14 / 14).
    found = level([1.0] * 10, 0.0)
    assert found.interval == pytest.approx((12 / 14 - 1.959964 * math.sqrt(24 / 196 / 14), 1.0), abs=1e-6)


def test_a_share_is_refused_where_the_whole_may_be_nothing():
    assert share([1.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 1.0], 1.0) is None
    assert share([1.0] * 5, [-1.0] * 5, 1.0) is None


def test_a_share_s_interval_ends_where_its_contrast_is_on_the_edge():
    generator = np.random.default_rng(0)
    wholes = (generator.random(60) < 0.8).astype(float)
    parts = wholes * (generator.random(60) < 0.5)
    found = share(parts.tolist(), wholes.tolist(), 1.0)
    assert found is not None
    assert found.value == pytest.approx(parts.sum() / wholes.sum())
    table = np.concatenate([np.stack([parts, wholes]), [[1, -1, 0, 0], [0, 0, 1, -1]]], axis=1)
    for end in found.interval:
        left = table[0] - end * table[1]  # Fieller: at an end, part - share * whole is 1.96 errors from 0
        assert abs(left.mean()) == pytest.approx(1.959964 * left.std() / math.sqrt(64), rel=1e-5)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(1)
    draws = generator.choice([1.0, 0.0, -1.0], p=[0.3, 0.65, 0.05], size=(1500, 16))
    held = [low <= 0.25 <= high for low, high in (contrast(rows, 1.0).interval for rows in draws)]
    assert 0.93 <= np.mean(held) <= 0.985


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=30))
def test_an_interval_holds_its_value_s_sign_and_stays_in_range(rows):
    found = contrast(rows, 1.0)
    low, high = found.interval
    assert -1 <= low < high <= 1
    mirrored = contrast([-r for r in rows], 1.0)
    assert mirrored.interval == pytest.approx((-high, -low))


def test_bad_use_is_refused():
    with pytest.raises(DataError, match="at least one row"):
        contrast([], 1.0)
    with pytest.raises(DataError, match="width above 0"):
        contrast([0.0], 0.0)
    with pytest.raises(DataError, match="in pairs"):
        share([1.0], [], 1.0)
