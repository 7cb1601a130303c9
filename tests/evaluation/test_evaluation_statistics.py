"""Intervals, against known values and simulated truth."""

import numpy as np
import pytest

from instruction_vectors.evaluation.statistics import bootstrap_interval, mean_of_means, proportion_interval, sign_flip_test


def test_the_wilson_interval_of_a_known_case():
    # z = 1.959964: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) at 8 of 10
    z, n, p = 1.959963984540054, 10, 0.8
    middle, spread = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    expected = ((middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n))
    assert proportion_interval(8, 10) == pytest.approx(expected, abs=1e-9)
    assert expected == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_wilson_interval_has_width_even_where_all_or_none_hit():
    assert proportion_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert proportion_interval(10, 10) == pytest.approx((0.72247, 1.0), abs=1e-4)


def test_more_confidence_is_a_wider_interval():
    narrow, wide = proportion_interval(5, 20, confidence=0.8), proportion_interval(5, 20, confidence=0.99)
    assert wide[0] < narrow[0] < 0.25 < narrow[1] < wide[1]


def test_every_group_counts_alike_in_the_mean_of_means():
    assert mean_of_means([[1.0], [0.0, 0.0, 0.0, 0.5]]) == pytest.approx((1.0 + 0.125) / 2)


def test_groups_without_spread_have_an_interval_of_no_width():
    assert bootstrap_interval([[0.4] * 5, [0.4] * 9]) == pytest.approx((0.4, 0.4))


def test_the_same_seed_draws_the_same_interval():
    groups = [[0, 1, 1, 0, 1], [1, 1, 0], [0, 0, 1, 0]]
    assert bootstrap_interval(groups, seed=3) == bootstrap_interval(groups, seed=3)
    assert bootstrap_interval(groups, seed=3) != bootstrap_interval(groups, seed=4)


def test_redrawing_tasks_as_well_as_rows_is_wider_than_redrawing_rows():
    generator = np.random.default_rng(0)
    groups = [list(generator.normal(center, 1.0, 40)) for center in (-2, -1, 0, 1, 2)]
    low, high = bootstrap_interval(groups)
    arrays = [np.asarray(g) for g in groups]
    rows_only = [np.mean([generator.choice(a, len(a)).mean() for a in arrays]) for _ in range(1000)]
    rows_low, rows_high = np.quantile(rows_only, [0.025, 0.975])
    assert high - low > 3 * (rows_high - rows_low)


def test_the_interval_has_the_width_that_the_spread_of_tasks_gives():
    # Rows without spread: the bootstrap of k task means has standard deviation s / sqrt(k).
    centers = [0.1, 0.3, 0.4, 0.5, 0.7, 0.8, 0.2, 0.6]
    low, high = bootstrap_interval([[c] * 3 for c in centers], resamples=4000)
    deviation = np.std(centers) / len(centers) ** 0.5
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert low < np.mean(centers) < high


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        centers = generator.normal(0.0, 1.0, 20)
        groups = [list(generator.normal(center, 1.0, 10)) for center in centers]
        low, high = bootstrap_interval(groups, resamples=200, seed=trial)
        covered += low <= 0.0 <= high
    assert 51 <= covered < 60


def test_wider_confidence_is_a_wider_bootstrap_interval():
    groups = [[0.0, 1.0, 1.0, 0.0, 1.0, 0.3], [0.9, 0.2, 0.4], [0.1, 0.0, 0.5, 0.6]]
    narrow, wide = bootstrap_interval(groups, confidence=0.5), bootstrap_interval(groups, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_one_difference_has_no_small_p():
    assert sign_flip_test([0.4]) == 1.0
    assert [sign_flip_test([0.4], alternative=side) for side in ("greater", "less")] == [0.5, 1.0]
