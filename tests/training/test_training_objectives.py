"""The losses, against arithmetic one can do by hand."""

import math

import pytest
import torch

from instruction_vectors.training.objectives import kl_divergence, language_model_loss

UNEVEN = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
EVEN = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
UNEVEN_TO_EVEN = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
EVEN_TO_UNEVEN = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)


def test_cross_entropy_is_the_mean_negative_log_probability_of_the_labels():
    logits = UNEVEN.repeat(2, 1) + 3.0  # a constant added to logits changes nothing
    loss = language_model_loss(logits, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-12)


def test_cross_entropy_over_a_given_total_is_the_sum_divided_by_it():
    loss = language_model_loss(UNEVEN.repeat(2, 1), torch.tensor([0, 1]), total=5)
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 5, abs=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_window_cut_into_micro_batches_has_the_loss_and_the_gradient_of_the_whole(parts):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([0, 4, 1, 1, 3, 2, 0, 4])
    whole = language_model_loss(logits, tokens)
    (expected,) = torch.autograd.grad(whole, logits)
    pieces = [
        language_model_loss(some, labels, total=8) for some, labels in zip(logits.chunk(parts), tokens.chunk(parts), strict=True)
    ]
    (gradient,) = torch.autograd.grad(sum(pieces), logits)
    assert sum(pieces).item() == pytest.approx(whole.item(), abs=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("direction", "expected"), [("student_teacher", UNEVEN_TO_EVEN), ("teacher_student", EVEN_TO_UNEVEN)])
def test_kl_in_both_directions(direction, expected):
    assert kl_divergence(UNEVEN, EVEN, direction=direction).item() == pytest.approx(expected, abs=1e-12)


def test_the_two_directions_of_kl_differ():
    assert abs(UNEVEN_TO_EVEN - EVEN_TO_UNEVEN) > 0.01


def test_temperature_divides_both_logits_and_brings_no_further_factor():
    # Two-way probabilities (.75, .25) at temperature 2 are proportional to their square roots.
    p = math.sqrt(0.75) / (math.sqrt(0.75) + math.sqrt(0.25))
    expected = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert kl_divergence(UNEVEN, EVEN, temperature=2.0).item() == pytest.approx(expected, abs=1e-12)


def test_kl_is_the_mean_over_places_or_the_sum_over_a_total():
    student, teacher = torch.cat([UNEVEN, EVEN]), torch.cat([EVEN, EVEN])
    assert kl_divergence(student, teacher).item() == pytest.approx(UNEVEN_TO_EVEN / 2, abs=1e-12)
    assert kl_divergence(student, teacher, total=8).item() == pytest.approx(UNEVEN_TO_EVEN / 8, abs=1e-12)


def test_the_hinge_lets_small_divergences_go_and_charges_what_exceeds_it():
    student, teacher = torch.cat([UNEVEN, EVEN]), torch.cat([EVEN, EVEN])
    cost = kl_divergence(student, teacher, threshold=0.1)
    assert cost.item() == pytest.approx((UNEVEN_TO_EVEN - 0.1) / 2, abs=1e-12)
    assert kl_divergence(student, teacher, threshold=0.2).item() == 0.0


def test_the_gradient_of_kl_reaches_the_student():
    student = UNEVEN.clone().requires_grad_()
    kl_divergence(student, EVEN).backward()
    # d KL / d logit_i = p_i (log(p_i / q_i) - KL)
    expected = [p * (math.log(p / 0.5) - UNEVEN_TO_EVEN) for p in (0.75, 0.25)]
    assert student.grad.tolist()[0] == pytest.approx(expected, abs=1e-12)


def test_half_precision_logits_are_compared_in_single_precision():
    logits = torch.tensor([[10.0, 9.0]], dtype=torch.bfloat16)
    loss = language_model_loss(logits, torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_double_precision_is_kept():
    assert language_model_loss(UNEVEN, torch.tensor([0])).dtype == torch.float64
    assert kl_divergence(UNEVEN, EVEN).dtype == torch.float64
