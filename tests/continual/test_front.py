"""The front of other arms, and how far one lies above it, on points and results made by hand."""

import numpy as np
import pytest
from test_compare import result

from instruction_vectors.continual.front import above_front, front
from instruction_vectors.continual.headline import headline
from instruction_vectors.errors import DataError


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        (0.2, 0.8),  # all learn as much: the best of them
        (0.5, 0.8),
        (0.6, 0.6),  # half way between two
        (0.7, 0.4),
        (0.8, 0.2),  # half way again: the third lies below this line and spans nothing
        (0.9, 0.0),
        (0.95, 0.0),  # nothing learns as much
    ],
)
def test_the_front_at_an_ap_is_the_best_of_the_arms_and_of_the_lines_between_them(at, kept):
    points = np.array([[[0.5, 0.8], [0.9, 0.0], [0.7, 0.3]]])
    assert front(points, np.array([at])) == pytest.approx(kept)


def test_every_draw_has_a_front_of_its_own():
    points = np.array([[[0.5, 0.8], [0.9, 0.4]], [[0.9, 0.5], [0.5, 0.4]]])
    assert front(points, np.array([0.7, 0.7])) == pytest.approx([0.6, 0.5])


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_the_best_of_all_mixtures_that_learn_as_much(seed):
    points = np.random.default_rng(seed).random((1, 5, 2))
    at = float(points[0, :, 0].max() * 0.9)
    weights = np.linspace(0, 1, 2001)[:, None]
    mixed = np.concatenate([weights * a + (1 - weights) * b for a in points[0] for b in points[0]])
    assert front(points, np.array([at]))[0] == pytest.approx(mixed[mixed[:, 0] >= at - 1e-9, 1].max(), abs=2e-3)


def test_how_far_an_arm_lies_above_the_front():
    # AP .7 and .5, IP .2 and .8 (of 40 rows): at AP .6 the line between them is at .5.
    plain = [result(seed, (36, 8), (28, 28)) for seed in (0, 1)]
    low = [result(0, (36, 32), (20, 20), lr=3e-4)]
    guided = [result(seed, (36, 30), (24, 24)) for seed in (0, 1)]
    found = above_front(guided, {"plain": plain, "low": low})
    assert found["gap"] == pytest.approx(0.75 - 0.5)
    assert found["gap_interval"][0] < found["gap"] < found["gap_interval"][1]
    assert found["above"] > 0.9
    assert found["arms"] == {"plain": 2, "low": 1}


def test_an_arm_that_another_beats_in_both_lies_below_the_front_in_most_draws():
    best, arm = result(0, (36, 36), (36, 36)), result(0, (36, 8), (16, 16))
    found = above_front([arm], {"best": [best]})
    assert found["gap"] == pytest.approx(-28 / 40)
    assert found["above"] == 0


def test_tasks_and_rows_are_drawn_together_so_that_an_arm_is_never_above_itself():
    arm = result(0, (36, 20), (25, 30))
    found = above_front([arm], {"the same": [arm]})
    assert (found["gap"], found["gap_interval"], found["above"]) == (0, [0, 0], 0)


def test_seeds_widen_the_interval():
    calm, other = [result(seed, (36, 20), (24, 24)) for seed in (0, 1)], {"other": [result(0, (36, 10), (24, 24))]}
    wild = [result(seed, (36, hits), (24, 24)) for seed, hits in ((0, 30), (1, 10))]
    (low, high), (lower, higher) = (above_front(arm, other)["gap_interval"] for arm in (calm, wild))
    assert higher - lower > high - low


@pytest.mark.parametrize("change", [{"data": {"t1/test": "1"}}, {"model_fingerprint": "b"}])
def test_arms_measured_on_other_rows_or_of_another_model_span_no_front(change):
    arm, other = (result(0, (36, 20), (24, 24)) for _ in range(2))
    with pytest.raises(DataError, match="not measured on the same tasks and rows"):
        above_front([arm], {"other": [other | change]})


def test_rows_trained_on_may_be_others_at_another_seed():
    arm, other = result(0, (36, 20), (24, 24)), result(1, (36, 20), (24, 24))
    other["data"] = {**other["data"], "t1/train": "another draw"}
    above_front([arm], {"other": [other]})


def test_no_front_of_nothing_and_none_where_nothing_could_be_kept():
    arm = result(0, (36, 20), (24, 24))
    for others in ({}, {"other": []}):
        with pytest.raises(DataError, match="at least one other"):
            above_front([arm], others)
    floor = result(0, (1, 1), (24, 24))
    with pytest.raises(DataError, match="floor on every probe"):
        above_front([floor], {"other": [floor]})


def test_the_headline_sets_guided_training_beside_every_arm_at_each_rate_and_above_their_front():
    grid = [
        result(0, (36, 12), (30, 20)),
        result(0, (36, 34), (20, 12), lr=3e-4),
        result(0, (36, 30), (28, 20), guide="iv"),
        result(0, (36, 34), (12, 10), guide="iv", lr=3e-4),
        result(0, (36, 18), (30, 20), method="osf", lr=1e-4),
        result(0, (36, 36), (30, 20), method="replay"),  # keeps earlier rows: beside, but not of the front
    ]
    found = headline(grid)["func"]["A"]
    assert {name: values["ip"]["gain"] for name, values in found["beside"].items()} == pytest.approx(
        {
            "sequential": 18 / 40,
            "sequential, lr 0.0003": -4 / 40,
            "iv, lr 0.0003": -4 / 40,
            "osf, lr 0.0001": 12 / 40,
            "replay": -6 / 40,
        }
    )
    assert found["beside"]["sequential"]["ap_delta"] == pytest.approx(-1 / 40)
    # FP: the second task alone scores at the end, (20 + 0) / 2 of 40 rows in both.
    assert found["beside"]["sequential"]["fp_delta"] == 0
    assert found["front"]["arms"] == {"sequential": 1, "sequential, lr 0.0003": 1, "osf, lr 0.0001": 1}
    # At AP 48/80 the line from OSF (50/80, 18/40) to the lower rate (32/80, 34/40).
    assert found["front"]["gap"] == pytest.approx(30 / 40 - (18 + 16 / 9) / 40)


def test_one_arm_is_no_front():
    found = headline([result(0, (36, 12), (30, 20)), result(0, (36, 30), (28, 20), guide="iv")])["func"]["A"]
    assert "front" not in found
    assert found["beside"].keys() == {"sequential"}


def test_a_grid_whose_model_is_at_its_floor_has_no_front_either():
    grid = [result(0, (1, 1), (30, 20), **each) for each in ({}, {"lr": 3e-4}, {"guide": "iv"})]
    found = headline(grid)["func"]["A"]
    assert "front" not in found
    assert found["beside"]["sequential, lr 0.0003"]["ap_delta"] == 0


def test_cells_measured_on_other_rows_are_not_set_beside_guided_training():
    other = result(0, (36, 34), (20, 12), lr=3e-4) | {"data": {"t1/train": "0", "p/probe": "more rows"}}
    other["cell"]["stage"]["epochs"] = 6
    found = headline([result(0, (36, 12), (30, 20)), result(0, (36, 30), (28, 20), guide="iv"), other])["func"]["A"]
    assert found["beside"].keys() == {"sequential"}
