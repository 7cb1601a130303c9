"""Which general sets count, and that only those are averaged."""

import pytest

from instruction_vectors.continual.summary import counted_general, summary

ABLE, GUESSING = [1.0] * 18 + [-0.25] * 2, [1.0, -0.25, -0.25, -0.25] * 5  # corrected for chance among five choices
LUCKY = [1.0] * 6 + [-0.25] * 14  # a mean of 0.125, whose interval holds the floor
LOST = [-0.25] * 10 + [1.0] * 10


def stage(**general):
    rows = {name: {"zero_shot": values, "in_context": values} for name, values in general.items()}
    return {"matrix": {"t": [1.0, 0.0]}, "probes": {"p": {"in_context": [1.0, 1.0], "zero_shot": [1.0, 1.0]}}, "general": rows}


def test_a_general_set_counts_where_the_interval_of_m0_lies_above_the_floor():
    base = stage(able=ABLE, guessing=GUESSING, lucky=LUCKY)
    assert counted_general(base, "zero_shot") == ["able"]
    assert counted_general({"probes": {}}, "zero_shot") == []
    assert counted_general(base, "zero_shot", floor=-1) == ["able", "guessing", "lucky"]


def test_only_sets_that_count_are_averaged_at_any_stage():
    after = stage(able=LOST, guessing=ABLE, lucky=ABLE)
    found = summary(["t"], [stage(able=ABLE, guessing=GUESSING, lucky=LUCKY), after])
    assert found["counted_general"] == {"zero_shot": ["able"], "in_context": ["able"]}
    first, last = found["general"]["zero_shot"]
    assert first["mean"] == pytest.approx(sum(ABLE) / 20)
    assert last["mean"] == pytest.approx(sum(LOST) / 20)
    assert (last["n"], last["change"]["mean"]) == (20, pytest.approx((sum(LOST) - sum(ABLE)) / 20))


def test_without_a_set_that_counts_nothing_is_averaged():
    found = summary(["t"], [stage(guessing=GUESSING), stage(guessing=ABLE)])
    assert found["general"] == {"zero_shot": [], "in_context": []}
    assert found["forms"]["zero_shot"][0]["mean"] == 1
