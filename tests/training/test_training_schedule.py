"""How the vector is withdrawn from the student."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruction_vectors.training.schedule import scale_at


@pytest.mark.parametrize(
    ("progress", "scale"),
    [
        (0.0, 1.0),
        (0.2499, 1.0),
        (0.25, 1.0),
        (0.26, 0.9),
        (0.3, 0.9),
        (0.3001, 0.8),
        (0.5, 0.5),
        (0.699, 0.1),
        (0.74, 0.0),
        (0.75, 0.0),
        (0.7501, 0.0),
        (1.0, 0.0),
    ],
)
def test_progressive_steps_down_by_tenths_between_a_quarter_and_three_quarters(progress, scale):
    assert scale_at(progress) == pytest.approx(scale, abs=1e-12)


@given(st.integers(1, 3000), st.data())
def test_progressive_is_the_formula_at_every_step_whatever_the_number_of_steps(steps, data):
    step = data.draw(st.integers(0, steps))
    p = Fraction(step, steps)
    if p < Fraction(1, 4):
        expected = Fraction(1)
    elif p > Fraction(3, 4):
        expected = Fraction(0)
    else:
        expected = 1 - Fraction(math.ceil(10 * (p - Fraction(1, 4)) / Fraction(1, 2)), 10)
    assert scale_at(step / steps) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("schedule", ["progressive", "linear", "cosine", "constant", "off"])
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_no_schedule_ever_rises_or_leaves_the_unit_interval(schedule, a, b):
    early, late = scale_at(min(a, b), schedule), scale_at(max(a, b), schedule)
    assert 1.0 >= early >= late >= 0.0


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("linear", (1.0, 0.75, 0.5, 0.0)), ("constant", (1.0, 1.0, 1.0, 1.0)), ("off", (0.0, 0.0, 0.0, 0.0))],
)
def test_the_plain_schedules_at_known_points(schedule, values):
    assert [scale_at(p, schedule) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(values)


def test_cosine_is_half_a_wave():
    assert [scale_at(p, "cosine") for p in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1.0, 0.75, 0.5, 0.0])


def test_progress_beyond_its_range_is_held_at_the_ends():
    assert scale_at(-0.5, "linear") == 1.0
    assert scale_at(1.5, "linear") == 0.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="unknown schedule 'steps'"):
        scale_at(0.5, "steps")
