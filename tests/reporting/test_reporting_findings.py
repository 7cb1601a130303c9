"""Sentences follow the numbers: their signs, their intervals, and what is missing."""

import math

import pytest
import synthetic_grid

from instruction_vectors.reporting import findings
from instruction_vectors.reporting.findings.courses import over_sequential
from instruction_vectors.reporting.tables import continual_metrics
from instruction_vectors.reporting.values import Estimate, combine, paired, show


def arms(sequential, guided=None, width=0.05, metric="in_context"):
    def arm(values):
        interval = [[v - width, v + width] for v in values]
        return {"stages": ["M0", "t"], metric: list(values), "intervals": {metric: interval} if width else {}}

    both = {"sequential": arm(sequential)} | ({"iv_guided": arm(guided)} if guided else {})
    return {"forgetting": both}


def test_a_clear_fall_and_a_clear_rescue():
    said = findings.curve(arms((0.8, 0.3), (0.8, 0.7)), "in_context")
    assert "fell by 0.50 [0.43, 0.57], from 0.80 to 0.30" in said
    assert "IV-guided training ends 0.40 [0.33, 0.47] above sequential training, 80% of what" in said


def test_a_worse_guided_arm_is_called_worse():
    said = findings.curve(arms((0.8, 0.7), (0.8, 0.3)), "in_context")
    assert "IV-guided training ends 0.40 [0.33, 0.47] below sequential training." in said
    assert "% of what" not in said
    assert "above" not in said


def test_overlapping_arms_cannot_be_told_apart():
    said = findings.curve(arms((0.8, 0.50), (0.8, 0.52)), "in_context")
    assert "cannot be told apart (difference +0.02 [−0.05, +0.09])" in said


def test_no_loss_means_nothing_to_save():
    said = findings.curve(arms((0.8, 0.79), (0.8, 0.80)), "in_context")
    assert "no clear change (−0.01 [−0.08, +0.06])" in said
    assert "nothing clear to save" in said
    assert "% of what" not in said


def test_a_rise_is_called_a_rise():
    assert "rose by 0.50" in findings.curve(arms((0.1, 0.6), metric="trained"), "trained")


def test_without_intervals_nothing_is_called_clear():
    said = findings.curve(arms((0.8, 0.3), (0.8, 0.7), width=0), "in_context")
    assert "fell by 0.50 (no interval)" in said
    assert "% of what" not in said


def test_a_start_at_the_floor_is_told():
    assert "stood at only 0.04" in findings.curve(arms((0.04, 0.0), metric="zero_shot"), "zero_shot")


@pytest.mark.parametrize(
    ("instruction", "knowledge", "said"),
    [
        ((0.6, 0.1), (0.6, 0.55), "The instruction form lost 0.45 [0.35, 0.55] more than the knowledge form."),
        ((0.6, 0.5), (0.6, 0.1), "The instruction form lost 0.40 [0.30, 0.50] less than the knowledge form."),
        ((0.1, 0.6), (0.5, 0.5), "The instruction form gained 0.50 [0.40, 0.60] more than the knowledge form."),
        ((0.1, 0.3), (0.1, 0.8), "The instruction form gained 0.50 [0.40, 0.60] less than the knowledge form."),
        ((0.6, 0.4), (0.6, 0.41), "The two changes cannot be told apart (difference −0.01 [−0.11, +0.09])."),
    ],
)
def test_knowing_against_doing(instruction, knowledge, said):
    results = arms(instruction, metric="instruction")
    arm = results["forgetting"]["sequential"]
    arm["knowledge"] = list(knowledge)
    arm["intervals"]["knowledge"] = [[v - 0.05, v + 0.05] for v in knowledge]
    assert said in findings.knowledge(results)["sequential"]


def test_swapped_arms_swap_the_verdict(make_results):
    better, worse = (findings.headline(make_results(guided_worse=flag))[0] for flag in (False, True))
    assert "IV-guided training ends 0.47" in better
    assert "above sequential training" in better
    assert "below sequential training" in worse
    assert "above" not in worse


def test_a_useless_vector_is_called_useless(make_results):
    results = make_results()
    for row in results["steering"].values():
        row["x+c"], row["x+c+iv"], row["x+c+other_iv"] = 0.5, 0.2, 0.6
        row["intervals"] = {"x+c": [0.45, 0.55], "x+c+iv": [0.15, 0.25]}
    (said,) = findings.steering(results)
    assert "fell by 0.30" in said
    assert "clear in 0 of 7 tasks, a loss is clear in 7" in said
    assert "Another task's vector gives 0.60 instead, no less than the task's own" in said


def test_a_share_needs_a_clear_loss(make_results):
    results = make_results()
    assert findings.recovery(results)["sequential"][0] == "90%"
    results["hypothesis"]["sequential"]["x+c"] = 0.33
    results["hypothesis"]["sequential"]["intervals"]["x+c"] = [0.27, 0.39]
    assert findings.recovery(results)["sequential"][0] == "no clear loss to recover"


def test_intervals_over_tasks_are_paired(make_results):
    results = make_results()
    by_task = results["forgetting"]["iv_guided"]["per_task"]
    other = results["forgetting"]["sequential"]["per_task"]
    differences = [by_task[t]["in_context"][-1] - other[t]["in_context"][-1] for t in by_task]
    want = paired(differences)
    got = over_sequential(results, "in_context")["iv_guided"]
    assert (got.low, got.high) == (want.low, want.high)
    for row in by_task.values():  # numbers that do not belong to the means must not be used
        row["in_context"] = [v / 2 for v in row["in_context"]]
    assert over_sequential(results, "in_context")["iv_guided"].low != want.low


def test_combine_by_hand():
    a, b = Estimate(0.8, 0.7, 0.9), Estimate(0.3, 0.26, 0.38)
    gap = combine([(1, a), (-1, b)])
    assert gap.value == pytest.approx(0.5)
    assert gap.low == pytest.approx(0.5 - math.hypot(0.1, 0.08))
    assert gap.high == pytest.approx(0.5 + math.hypot(0.1, 0.04))
    assert combine([(1, a), (-1, Estimate(0.3))]).low is None


def test_paired_by_hand():
    e = paired([0.1, 0.2, 0.3, 0.4, 0.5])
    half = 2.776 * math.sqrt(0.025) / math.sqrt(5)
    assert (e.value, e.low, e.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_continual_metrics_by_hand():
    arm = {
        "stages": ["M0", "a", "b", "c"],
        "matrix": {"a": [0.1, 0.9, 0.6, 0.4], "b": [0.2, 0.3, 0.8, 0.7], "c": [0, 0.1, 0.1, 1]},
    }
    got = continual_metrics(arm)
    assert got == pytest.approx({"AP": 2.7 / 3, "FP": 0.7, "Forget": 0.2, "BWT": -0.3, "FWT": 0.1})
    arm["matrix"]["b"] = [0.2, 0.3]  # only the first task is scored everywhere
    assert continual_metrics(arm) == pytest.approx({"AP": 0.9, "FP": 0.9, "Forget": 0.0, "BWT": None, "FWT": None})


def test_the_first_sentence_says_what_the_page_is_about(make_results):
    assert findings.subject(make_results()).startswith("smollm2-135m-instruct was fine-tuned on english-spanish, then")
    assert findings.subject(synthetic_grid.grid(seeds=1)).startswith("16 finished cells:")
    assert findings.subject(synthetic_grid.diagnosis(("one",))) == "What a fine-tune did to 1 task, and what brings them back."


def test_numbers_have_no_minus_zero():
    assert show(-0.001) == "0.00"
    assert show(-0.5, plus=True) == "−0.50"
    assert show(0.5, plus=True) == "+0.50"


def test_tasks_that_move_alike_give_no_false_certainty(make_results):
    results = make_results()
    arm = results["forgetting"]["sequential"]
    arm["knowledge"] = [0.5] * 4
    arm["intervals"]["knowledge"] = [[0.4, 0.6]] * 4
    for row in arm["per_task"].values():
        row["knowledge"] = [0.5] * 4
    assert "no clear change (0.00 [−0.14, +0.14])" in findings.knowledge(results)["sequential"]


def test_a_task_whose_first_token_tells_nothing_counts_nowhere_in_the_sentence(make_results):
    results = make_results()
    (before,) = findings.steering(results)
    copied = {"x+c": 0.0, "x+c+iv": 0.0, "x+c+other_iv": 0.0, "note": "copying always gives the first token"}
    results["steering"] |= {"copying one": copied, "copying two": copied}
    assert findings.steering(results) == [before]
