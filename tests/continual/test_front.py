"""The front of other arms, and how far one lies above it, on points and results made by hand."""

import numpy as np
import pytest
from test_compare import result, rows

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
        (0.95, 0.0),  # nothing learns as much: what learns most stands for it
    ],
)
def test_the_front_at_an_ap_is_the_best_of_the_arms_and_of_the_lines_between_them(at, kept):
    points = np.array([[[0.5, 0.8], [0.9, 0.0], [0.7, 0.3]]])
    assert front(points, np.array([at])) == pytest.approx(kept, abs=1e-6)


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


def test_an_ap_that_differs_by_rounding_is_the_same_ap():
    one, other = 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1
    assert one != other
    for high, low in ((one, other), (other, one)):
        assert front(np.array([[[low, 0.9], [high, 0.2]]]), np.array([high]))[0] == pytest.approx(0.9, abs=1e-6)


def test_how_far_an_arm_lies_above_the_front():
    # AP .7 and .5, IP .2 and .8 (of 40 rows): at AP .6 the line between them is at .5.
    plain = [result(seed, (36, 8), (28, 28)) for seed in (0, 1)]
    low = [result(0, (36, 32), (20, 20), lr=3e-4)]
    guided = [result(seed, (36, 30), (24, 24)) for seed in (0, 1)]
    found = above_front(guided, {"plain": plain, "low": low})
    assert found["gap"] == pytest.approx(0.75 - 0.5)
    assert found["gap_interval"][0] < found["gap"] < found["gap_interval"][1]
    assert found["arms"] == {"plain": 2, "low": 1}


def test_an_arm_is_placed_on_the_seeds_that_it_shares():
    # Guided training at seed 1 is far better, the other arm was run at seed 0 alone, where both are alike.
    guided = [result(0, (36, 20), (24, 24)), result(1, (36, 36), (24, 24))]
    found = above_front(guided, {"other": [result(0, (36, 20), (24, 24)), result(7, (36, 36), (40, 40))]})
    assert (found["gap"], found["gap_interval"], found["arms"]) == (0, [0, 0], {"other": 1})


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_an_arm_lies_neither_above_nor_below_itself_in_any_draw(seeds):
    arm = [result(seed, (36, 20 + 5 * seed), (25, 30 - seed)) for seed in range(seeds)]
    assert above_front(arm, {"the same": arm})["gap_interval"] == [0, 0]


def test_an_arm_that_another_beats_in_both_lies_below_the_front_in_every_draw():
    best, arm = result(0, (36, 36), (36, 36)), result(0, (36, 8), (16, 16))
    found = above_front([arm], {"best": [best]})
    assert found["gap"] == pytest.approx(-28 / 40)
    assert found["gap_interval"][1] < 0


def test_learning_a_row_more_than_all_others_is_not_to_lie_above_what_keeps_far_more():
    found = above_front([result(0, (36, 2), (25, 24))], {"keeps": [result(0, (36, 36), (24, 24))]})
    assert found["gap"] == pytest.approx(-34 / 40)


def test_seeds_that_differ_widen_the_interval():
    def width(*hits):
        arm = [result(seed, (36, own), (24, 24)) for seed, own in enumerate(hits)]
        low, high = above_front(arm, {"other": [result(seed, (36, 10), (24, 24)) for seed in range(2)]})["gap_interval"]
        return high - low

    assert width(30, 10) > width(20, 20)


def test_ap_and_ip_of_a_seed_are_drawn_together():
    # At either seed the other arm learns as much less as it keeps more, so that drawn apart it would sometimes do both.
    arm = [result(0, (36, 20), (24, 24)), result(1, (36, 20), (24, 24))]
    for one in arm:
        for stage in one["stages"][1:]:
            stage["matrix"] |= {name: [0.5] * 40 for name in stage["matrix"]}
            stage["probes"] = {name: {**probe, "in_context": [0.5] * 40} for name, probe in stage["probes"].items()}
    others = [
        one | {"stages": [one["stages"][0], *(_shifted(stage, by) for stage in one["stages"][1:])]}
        for one, by in zip(arm, (0.2, -0.2), strict=True)
    ]
    # The mean of the two is level with the arm; a draw of one seed alone is (+.2, -.2) or (-.2, +.2): clamped at most .2 apart.
    low, high = above_front(arm, {"other": others})["gap_interval"]
    assert (low, high) == (pytest.approx(-0.2, abs=1e-6), pytest.approx(0.2, abs=1e-6))


def _shifted(stage, by):
    matrix = {name: [value + by for value in values] for name, values in stage["matrix"].items()}
    probes = {
        name: {**probe, "in_context": [value - by for value in probe["in_context"]]} for name, probe in stage["probes"].items()
    }
    return {"matrix": matrix, "probes": probes}


@pytest.mark.parametrize("change", [{"data": {"t1/test": "1"}}, {"model_fingerprint": "b"}])
def test_arms_of_other_rows_or_another_model_span_no_front(change):
    arm, other = (result(0, (36, 20), (24, 24)) for _ in range(2))
    with pytest.raises(DataError, match="unlike data or begin with unlike models"):
        above_front([arm], {"other": [other | change]})


def test_seeds_of_unlike_rows_span_no_front():
    arms = [[result(seed, (36, ends), (24, 24)) for seed in (0, 1)] for ends in (20, 10)]
    for arm in arms:
        arm[1]["data"] = {**arm[1]["data"], "p/probe": "fewer rows"}
    with pytest.raises(DataError, match="unlike data"):
        above_front(arms[0], {"other": arms[1]})


def test_no_front_of_nothing_and_none_where_nothing_could_be_kept():
    arm = result(0, (36, 20), (24, 24))
    for others in ({}, {"other": []}, {"other": [result(1, (36, 20), (24, 24))]}):
        with pytest.raises(DataError, match="at least one other arm"):
            above_front([arm], others)
    floor = result(0, (1, 1), (24, 24))
    with pytest.raises(DataError, match="floor on every probe"):
        above_front([floor], {"other": [floor]})


def grid():
    six = result(0, (36, 20), (36, 36))
    six["cell"]["stage"]["epochs"] = 6
    return [
        result(0, (36, 34), (20, 12), lr=3e-4),
        result(0, (36, 12), (30, 30)),
        result(1, (36, 12), (30, 30)),
        result(0, (36, 11), (28, 28), lr=3e-3),
        result(0, (36, 30), (28, 20), guide="iv"),
        result(1, (36, 30), (28, 20), guide="iv"),
        result(2, (36, 36), (28, 20), guide="iv"),  # a seed that plain training has not
        result(0, (36, 34), (12, 10), guide="iv", lr=3e-4),
        result(0, (36, 18), (30, 20), method="osf rank=3", lr=1e-4),
        result(0, (36, 36), (30, 20), method="replay"),
        result(0, (36, 35), (30, 20), method="zero_shot_anchors", guide="anchors_kl"),
        result(0, (36, 34), (30, 20), method="ewc+zero_shot_anchors", guide="anchors_kl"),
        result(0, (36, 36), (36, 36), method="replay+zero_shot_anchors", guide="anchors_kl"),
        result(0, (36, 36), (36, 36), method="ewc+steered_anchors", guide="anchors_kl"),
        result(0, (36, 35), (30, 20), method="steered_anchors", guide="anchors_iv", lr=3e-4),
        result(0, (36, 36), (30, 20), method="steered_anchors", guide="anchors_kl"),  # answered under vectors
        *(result(0, (36, 15), (20, 20), method=name) for name in ("averaging", "frozen_bottom", "ewc")),
        result(0, (36, 15), (20, 20), guide="plain_kl"),
    ]


def test_the_headline_sets_guided_training_beside_every_arm_at_each_of_its_rates():
    found = headline(grid())["func"]["A"]
    assert {name: values["ip"]["gain"] for name, values in found["beside"].items()} == pytest.approx(
        {
            "sequential": 18 / 40,
            "sequential, lr 0.003": 19 / 40,
            "sequential, lr 0.0003": -4 / 40,
            "iv, lr 0.0003": -4 / 40,
            "plain_kl": 15 / 40,
            "model_averaging": 15 / 40,
            "steered_anchors_iv, lr 0.0003": -5 / 40,
            "zero_shot_anchors_kl": -5 / 40,
            "steered_anchors + anchors_kl": -6 / 40,
            "ewc": 15 / 40,
            "frozen_bottom": 15 / 40,
            "osf rank=3, lr 0.0001": 12 / 40,
            "replay": -6 / 40,
            "ewc+zero_shot_anchors + anchors_kl": -4 / 40,
            "replay+zero_shot_anchors + anchors_kl": -6 / 40,
            "ewc+steered_anchors + anchors_kl": -6 / 40,
        }
    )
    assert next(iter(found["beside"])) == "sequential"
    assert found["beside"]["sequential"]["seeds"] == 2
    assert found["beside"]["sequential"]["ap_delta"] == pytest.approx(-12 / 80)


def test_an_arm_is_called_by_its_epochs_where_they_are_not_the_usual():
    other = result(0, (36, 20), (20, 20))
    other["cell"]["stage"]["epochs"] = 6
    found = headline([result(0, (36, 12), (30, 30)), other, result(0, (36, 30), (28, 20), guide="iv")])["func"]["A"]
    assert list(found["beside"]) == ["sequential", "sequential, 6 epochs"]


def test_the_fronts_are_of_what_needs_no_vector_and_no_earlier_rows_with_anchors_and_without():
    fronts = headline(grid())["func"]["A"]["fronts"]
    usual = {"sequential": 2, "sequential, lr 0.003": 1, "sequential, lr 0.0003": 1, "osf rank=3, lr 0.0001": 1, "ewc": 1}
    usual |= dict.fromkeys(("plain_kl", "model_averaging", "frozen_bottom"), 1)
    assert fronts["no_anchors"]["arms"] == usual
    assert fronts["anchors_without_vectors"]["arms"] == usual | {
        "zero_shot_anchors_kl": 1,
        "ewc+zero_shot_anchors + anchors_kl": 1,
    }
    # At AP 48/80 the line from plain training (60/80, 12/40) to that at the lower rate (32/80, 34/40) is the front; the anchors
    # keep 35/40 at 50/80.
    assert fronts["no_anchors"]["gap"] == pytest.approx(30 / 40 - (34 - 22 * 16 / 28) / 40)
    assert fronts["anchors_without_vectors"]["gap"] == pytest.approx(-5 / 40)


def test_arms_that_span_no_front_without_anchors_are_placed_above_both():
    found = headline(grid())["func"]["A"]
    above = found["above"]
    assert above.keys() == {
        "iv, lr 0.0003",
        "steered_anchors_iv, lr 0.0003",
        "zero_shot_anchors_kl",
        "steered_anchors + anchors_kl",
        "replay",
        *(f"{name}+zero_shot_anchors + anchors_kl" for name in ("ewc", "replay")),
        "ewc+steered_anchors + anchors_kl",
    }
    # Learnt 72/80, beyond all others but plain training at 60/80, which learns most of those that span the front.
    assert above["replay+zero_shot_anchors + anchors_kl"]["no_anchors"]["gap"] == pytest.approx((36 - 12) / 40)
    assert above["replay+zero_shot_anchors + anchors_kl"]["no_anchors"]["arms"]["sequential"] == 1
    # An arm is not set beside itself.
    assert "zero_shot_anchors_kl" not in above["zero_shot_anchors_kl"]["anchors_without_vectors"]["arms"]
    # 50/80 and 35/40 on the line between plain training at its two rates.
    assert above["zero_shot_anchors_kl"]["no_anchors"]["gap"] == pytest.approx((35 - 34 + 22 * 18 / 28) / 40)


def test_an_arm_with_more_seeds_than_guided_training_is_placed_on_all_of_its_own():
    kept = (20, 24, 40)
    cells = [result(0, (36, 30), (28, 20), guide="iv")]
    cells += [result(seed, (36, 12), (30, 30)) for seed in range(3)]
    cells += [result(seed, (36, 14), (30, 30), method="osf") for seed in range(3)]
    way = {"method": "osf+steered_anchors", "guide": "anchors_iv"}
    cells += [result(seed, (36, hits), (30, 30), **way) for seed, hits in enumerate(kept)]
    found = headline(cells)["func"]["A"]
    assert found["fronts"]["no_anchors"]["arms"] == {"sequential": 1, "osf": 1}
    placed = found["above"]["osf+steered_anchors + anchors_iv"]["no_anchors"]
    assert placed["arms"] == {"sequential": 3, "osf": 3}
    assert placed["gap"] == pytest.approx((28 - 14) / 40)


def test_one_arm_is_no_front():
    found = headline([result(0, (36, 12), (30, 20)), result(0, (36, 30), (28, 20), guide="iv")])["func"]["A"]
    assert (found["fronts"], found["above"]) == ({}, {})
    assert found["beside"].keys() == {"sequential"}


def test_a_grid_whose_model_is_at_its_floor_has_no_front_either():
    cells = [result(0, (1, 1), (30, 20), **each) for each in ({}, {"lr": 3e-4}, {"guide": "iv"})]
    found = headline(cells)["func"]["A"]
    assert found["fronts"] == {}
    assert found["beside"]["sequential, lr 0.0003"]["ap_delta"] == 0


@pytest.mark.parametrize("name", ["t1/train", "t1/test", "p/probe"])
@pytest.mark.parametrize("arm", [{"lr": 3e-4}, {"method": "averaging"}, {"guide": "plain_kl"}])
def test_cells_of_other_rows_are_not_compared_and_do_not_stop_the_report(name, arm):
    other = result(0, (36, 34), (20, 12), **arm)
    other["data"] = {**other["data"], name: "other rows"}
    cells = [result(0, (36, 12), (30, 20)), result(0, (36, 30), (28, 20), guide="iv"), other]
    for order in (cells, cells[::-1]):
        found = headline(order)["func"]["A"]
        assert found["beside"].keys() == {"sequential"}
        assert found["controls"] == {}


def test_a_seed_measured_on_other_rows_than_the_first_is_left_out():
    cells = [
        result(seed, (36, ends), learnt, **each)
        for seed in (0, 1)
        for ends, learnt, each in ((12, (30, 20), {}), (30, (28, 20), {"guide": "iv"}), (20, (20, 20), {"lr": 3e-4}))
    ]
    for cell in cells[3:]:
        cell["data"] = {**cell["data"], "t1/test": "fewer rows"}
        for stage in cell["stages"]:
            stage["matrix"]["t1"] = stage["matrix"]["t1"][:20]
    for order in (cells, cells[::-1]):
        found = headline(order)["func"]["A"]
        assert (found["seeds"], found["beside"]["sequential"]["seeds"]) == (1, 1)
        assert found["fronts"]["no_anchors"]["arms"] == {"sequential": 1, "sequential, lr 0.0003": 1}


def test_seeds_that_begin_with_another_model_are_compared_with_themselves():
    cells = [
        result(seed, (36, ends), learnt, **each) | fingerprint
        for seed, fingerprint in ((0, {}), (1, {"model_fingerprint": "b"}))
        for ends, learnt, each in ((12, (30, 20), {}), (30, (28, 20), {"guide": "iv"}), (20, (20, 20), {"lr": 3e-4}))
    ]
    found = headline(cells)["func"]["A"]
    assert found["fronts"]["no_anchors"]["arms"] == {"sequential": 2, "sequential, lr 0.0003": 2}


def test_a_guided_seed_that_plain_training_has_not_changes_nothing():
    cells = [result(0, (36, 12), (30, 20)), result(0, (36, 20), (20, 20), lr=3e-4), result(0, (36, 30), (28, 20), guide="iv")]
    more = result(1, (36, 36), (40, 40), guide="iv") | {"data": {"t1/train": "other rows"}}
    want = headline(cells)["func"]["A"]
    for order in ([*cells, more], [more, *cells]):
        assert headline(order)["func"]["A"] == want


def test_what_is_left_of_the_tasks_at_the_end_with_its_interval():
    plain, guided = result(0, (36, 12), (30, 20)), result(0, (36, 30), (28, 20), guide="iv")
    plain["stages"][-1]["matrix"]["t1"] = rows(4)
    guided["stages"][-1]["matrix"]["t1"] = rows(16)
    found = headline([plain, guided])["func"]["A"]
    assert found["fp_delta"] == pytest.approx((16 - 4) / 80)
    low, high = found["fp_interval"]
    assert 0 <= low < found["fp_delta"] < high <= (16 - 4) / 40 + 0.2
    low, high = found["ap_interval"]
    assert low <= found["ap_delta_low"] < found["ap_delta"] < high
