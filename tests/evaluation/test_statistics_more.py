"""Hierarchical bootstrap over three levels, paired tests, Holm, non-inferiority, detectable effects, noise floor, ratios."""

import numpy as np
import pytest
from scipy.stats import norm

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.statistics import (
    _means_of,
    bootstrap_interval,
    bootstrap_means,
    crossed_means,
    holm,
    mean_of_means,
    minimum_detectable_effect,
    noise_floor,
    non_inferior,
    ratio,
    sign_flip_test,
    standard_error,
    wilcoxon_test,
)

GENERATOR = np.random.default_rng(1)


def test_every_level_counts_alike():
    assert mean_of_means([1.0, 2.0, 3.0]) == 2
    assert mean_of_means([[1.0], [2.0, 4.0]]) == 2
    assert mean_of_means([[[1.0], [2.0, 4.0]], [[6.0]]]) == 4


def test_two_levels_give_what_they_always_gave():
    groups = [[0.0, 1.0, 1.0], [1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    generator = np.random.default_rng(3)
    arrays = [np.asarray(g) for g in groups]
    rows = np.stack([a[generator.integers(len(a), size=(500, 3, len(a)))].mean(-1) for a in arrays])
    tasks = generator.integers(3, size=(500, 3))
    expected = rows[tasks, np.arange(500)[:, None], np.arange(3)[None]].mean(1)
    assert bootstrap_interval(groups, resamples=500, seed=3) == tuple(np.quantile(expected, [0.025, 0.975]))


def test_one_level_agrees_with_theory():
    rows = GENERATOR.normal(size=200)
    assert standard_error(rows.tolist()) == pytest.approx(rows.std() / 200**0.5, rel=0.1)


def test_three_levels_agree_with_nested_variances():
    # Between seeds (sd 3, 6 seeds), tasks within (sd 1, 5 tasks), rows within (sd 0.5, 40 rows), drawn level by level.
    seeds = [3 * s + np.zeros((5, 40)) for s in GENERATOR.normal(size=6)]
    nested = [(s + GENERATOR.normal(size=(5, 1)) + 0.5 * GENERATOR.normal(size=(5, 40))).tolist() for s in seeds]
    means = np.array([[np.mean(task) for task in seed] for seed in nested])
    within_rows = np.mean([np.var(task) / 40 for seed in nested for task in seed]) / 30
    expected = means.mean(1).var() / 6 + means.var(axis=1).mean() / 5 / 6 + within_rows
    assert standard_error(nested) == pytest.approx(expected**0.5, rel=0.1)


def test_a_level_of_one_adds_nothing():
    rows = GENERATOR.normal(size=50).tolist()
    assert standard_error([[rows]]) == pytest.approx(standard_error(rows), rel=0.1)
    assert bootstrap_interval([[[2.0, 2.0]], [[2.0]]]) == (2, 2)


def test_columns_of_a_row_stay_together():
    rows = [[(x, x + 1.0) for x in GENERATOR.normal(size=20)] for _ in range(3)]
    draws = bootstrap_means(rows, width=2, resamples=300)
    assert draws.shape == (300, 2)
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 1)


def test_drawn_tuples_are_averaged_by_how_often_each_was_drawn():
    rows, drawn = GENERATOR.normal(size=(30, 3)), GENERATOR.integers(30, size=(40, 30))
    np.testing.assert_allclose(_means_of(rows, drawn), rows[drawn].mean(axis=1), rtol=1e-12)
    hits = np.rint(rows)
    assert len(np.unique(hits)) > 1
    assert np.array_equal(_means_of(hits, drawn), hits[drawn].sum(axis=1) / drawn.shape[1])


@pytest.mark.parametrize("bad", [[], [[]], [[1.0], []], [1.0, [2.0]], [[[[1.0]]]]])
def test_malformed_levels_are_refused(bad):
    with pytest.raises(DataError):
        bootstrap_interval(bad)


def test_sign_flips_by_hand():
    # Of 2^4 sign patterns only the one observed and its mirror are as extreme: p = 2/16, one-sided 1/16.
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0]) == pytest.approx(2 / 16)
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0], alternative="greater") == pytest.approx(1 / 16)
    assert sign_flip_test([0.0, 0.0]) == 1
    with pytest.raises(DataError):
        sign_flip_test([])


def test_wilcoxon_by_hand():
    # Ranks 1, 2, 3, 4, 5 all positive: 2/2^5; zeros are dropped.
    assert wilcoxon_test([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32)
    assert wilcoxon_test([0.0, 0.0]) == 1


def test_holm_by_hand():
    # 0.01*4, max with 0.02*3, 0.03*2, 0.5*1, in the given order.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
    with pytest.raises(DataError):
        holm([1.2])


def test_non_inferiority():
    same = non_inferior([0.0] * 30, margin=0.02)
    assert (same.lower, same.holds) == (0, True)
    assert not non_inferior([-0.05] * 30, margin=0.02).holds
    # A bound exactly at the margin does not hold.
    assert not non_inferior([-0.02] * 30, margin=0.02).holds
    noisy = GENERATOR.normal(size=400)
    bound = non_inferior(noisy.tolist(), margin=1.0).lower
    assert bound == pytest.approx(noisy.mean() - norm.ppf(0.95) * noisy.std() / 20, abs=0.02)
    with pytest.raises(DataError):
        non_inferior([0.0], margin=0.0)


def test_minimum_detectable_effect_by_hand():
    # 1.959964 + 0.841621 = 2.801585 standard errors.
    assert minimum_detectable_effect(0.02) == pytest.approx(0.0560317, rel=1e-5)
    with pytest.raises(DataError):
        minimum_detectable_effect(-1.0)


def test_noise_floor_by_hand():
    # s of (0.4, 0.5, 0.6) is 0.1; t at 97.5% with 2 degrees is 4.302653; times sqrt 2.
    assert noise_floor([0.4, 0.5, 0.6]) == pytest.approx(4.302653 * 0.1 * 2**0.5, rel=1e-6)
    assert noise_floor([0.5, 0.5]) == 0
    # Two tasks pooled: squares 0.02 + 0.08 over 2 + 2 degrees of freedom.
    assert noise_floor([0.4, 0.5, 0.6], [0.1, 0.3, 0.5]) == pytest.approx(2.776445 * (2 * 0.1 / 4) ** 0.5, rel=1e-6)
    with pytest.raises(DataError):
        noise_floor([0.5])


def test_a_ratio_over_what_may_be_zero_is_refused():
    assert ratio(0.1, 0.2, (0.1, 0.3)).value == pytest.approx(0.5)
    assert ratio(0.1, -0.2, (-0.3, -0.1)).value == pytest.approx(-0.5)
    for interval in ((-0.1, 0.5), (0.0, 0.4), (-0.4, 0.0)):
        refused = ratio(0.1, 0.2, interval)
        assert refused.value is None
        assert "not clearly different from 0" in refused.reason
    assert ratio(0.1, float("nan"), (0.1, 0.2)).reason == "not measured"


def test_more_seeds_on_the_same_tasks_make_no_more_tasks():
    """Two tasks, one always right and one always wrong: however many seeds agree, half the draws hold one task twice."""
    tasks = [[1.0] * 20, [0.0] * 20]
    for seeds in (1, 10):
        draws = crossed_means([tasks] * seeds, resamples=4000)
        assert np.mean(draws == 0.5) == pytest.approx(0.5, abs=0.03)
        assert np.mean(draws == 1) == pytest.approx(0.25, abs=0.03)
    assert bootstrap_means([tasks] * 10).std() < crossed_means([tasks] * 10).std() / 2


def test_seeds_are_redrawn_too():
    """Seeds all right or all wrong: the mean of two is 0, 1/2, 1 with 1/4, 1/2, 1/4."""
    draws = crossed_means([[[1.0] * 5] * 3, [[0.0] * 5] * 3], resamples=4000)
    assert [float(np.mean(draws == x)) for x in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_seeds_on_unlike_rows_are_refused():
    with pytest.raises(DataError, match="unlike tasks or rows"):
        crossed_means([[[1.0, 0.0]], [[1.0]]])
