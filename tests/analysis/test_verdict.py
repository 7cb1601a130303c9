"""The rules of the verdict, one hand-made case for every way through them."""

from dataclasses import replace

import pytest

from instruction_vectors.analysis.result import TaskDiagnosis
from instruction_vectors.analysis.verdict import Evidence, Rules, Rung, judge
from instruction_vectors.analysis.words import remedy
from instruction_vectors.evaluation.knowledge import Estimate

RULES = Rules(margin=0.2, recovered=0.25, unrecovered=0.5)


def about(value, half=0.1):
    return Estimate(value, (value - half, value + half))


def repair(name="few-shot", share=0.9, *, evidence=True, over=0.5, half=0.1):
    return Rung(
        name, evidence, about(0.8), about(0.5), None if share is None else about(share, half),
        over={"control": about(over)}, required=("control",),
    )  # fmt: skip


WORSE = Evidence(
    base=about(0.9), drop=about(0.7), drop_bound=0.78, knowledge=about(0.9), knowledge_drop=about(0.7), knowledge_bound=0.78
)


def judged(evidence=WORSE, *rungs, **changes):
    return judge(replace(evidence, rungs=rungs, **changes), RULES)


def test_a_small_drop_is_intact():
    assert judged(drop=about(0.05), drop_bound=0.14).name == "intact"


def test_a_gain_is_intact():
    assert judged(drop=about(-0.3), drop_bound=-0.2).name == "intact"


def test_the_margin_itself_is_not_within_the_margin():
    assert judged(drop=about(0.1), drop_bound=0.2).name == "inconclusive"


def test_a_drop_that_may_lie_on_either_side_of_the_margin_is_inconclusive():
    verdict = judged(WORSE, repair(), drop=about(0.3), drop_bound=0.38)
    assert verdict.name == "inconclusive"
    assert "more rows" in verdict.reason


def test_what_the_base_cannot_do_cannot_be_lost():
    for drop, bound in ((0.0, 0.1), (0.25, 0.4)):
        verdict = judged(base=about(0.25), drop=about(drop), drop_bound=bound)
        assert verdict.name == "inconclusive"
        assert "base itself" in verdict.reason
        assert not verdict.nothing_to_lose  # between 0.15 and 0.35, at a margin of 0.2: more rows would tell
        assert judged(base=about(0.1), drop=about(drop), drop_bound=bound).nothing_to_lose
    assert not judged(drop=about(0.25), drop_bound=0.4).nothing_to_lose


@pytest.mark.parametrize(
    ("ranked", "written", "said"),
    [
        ("intact", "never", "nothing to do"),
        ("never", "never", "the base itself does not do it"),
        ("open", "never", "measure more rows"),
        ("never", "lost", "train again on it"),
    ],
)
def test_what_the_base_never_did_asks_for_no_more_rows(ranked, written, said):
    made = {
        "intact": judged(drop=about(0), drop_bound=0.1),
        "never": judged(base=about(0)),
        "open": judged(drop=about(0.25), drop_bound=0.4),
        "lost": judge(replace(WORSE, rungs=(repair(share=0.0),)), RULES),
    }
    assert {name: verdict.name for name, verdict in made.items()} == dict.fromkeys(("never", "open"), "inconclusive") | {
        "intact": "intact",
        "lost": "lost",
    }
    task = TaskDiagnosis({}, None, {}, [], made[ranked], [], made[written])
    assert said in remedy(task)
    assert ("more rows" in remedy(task)) == (ranked == "open")


def test_a_repair_that_beats_its_controls_shows_suppression():
    verdict = judged(WORSE, repair())
    assert (verdict.name, verdict.by) == ("suppressed", ("few-shot",))


def test_a_repair_that_its_control_matches_shows_nothing():
    assert judged(WORSE, repair(over=0.05)).name == "inconclusive"


def test_a_control_that_need_not_be_beaten_may_match():
    assert judged(WORSE, replace(repair(over=0.0), required=())).name == "suppressed"


def test_a_share_that_may_be_small_shows_nothing():
    assert judged(WORSE, repair(share=0.45, half=0.25)).name == "inconclusive"


def test_the_base_s_own_weights_brought_back_are_no_evidence_either_way():
    turned = repair("0.5 of the fine-tune", evidence=False)
    assert judged(WORSE, turned).name == "inconclusive"
    assert judged(WORSE, turned, repair(share=0.0)).name == "lost"


def test_kept_knowledge_shows_suppression_without_any_repair():
    verdict = judged(knowledge_drop=about(0.0), knowledge_bound=0.09)
    assert (verdict.name, verdict.by) == ("suppressed", ("knowledge",))


def test_knowledge_that_the_base_never_had_is_not_kept():
    assert judged(knowledge=about(0.1), knowledge_drop=about(0.0), knowledge_bound=0.09).name == "inconclusive"


def test_lost_needs_every_repair_ruled_out():
    assert judged(WORSE, repair(share=0.1), repair("vector", share=0.0)).name == "lost"
    assert judged(WORSE, repair(share=0.1), repair("vector", share=0.45, half=0.3)).name == "inconclusive"
    assert judged(WORSE, repair(share=0.1), repair("vector", share=None)).name == "inconclusive"


def test_lost_needs_a_repair_to_have_been_tried():
    assert judged(WORSE).name == "inconclusive"


def test_lost_needs_the_knowledge_to_have_fallen_where_there_is_a_form_of_it():
    few = repair(share=0.0)
    assert judged(WORSE, few, knowledge_drop=about(0.08), knowledge_bound=0.3).name == "inconclusive"
    assert judged(WORSE, few, knowledge=None, knowledge_drop=None, knowledge_bound=None).name == "lost"


def test_knowledge_measured_another_way_can_rule_out_a_loss_but_not_show_suppression():
    kept = {"knowledge": None, "knowledge_drop": about(0.0), "knowledge_bound": None}
    assert judged(WORSE, repair(share=0.0), **kept).name == "inconclusive"
    assert judged(WORSE, repair(), **kept).name == "suppressed"


@pytest.mark.parametrize("drop", [x / 20 for x in range(-10, 21)])
def test_a_larger_drop_never_turns_worse_into_intact(drop):
    names = [judged(WORSE, repair(), drop=about(d), drop_bound=d + 0.08).name for d in (drop, drop + 0.2)]
    order = ["intact", "inconclusive", "suppressed"]
    assert order.index(names[0]) <= order.index(names[1])
