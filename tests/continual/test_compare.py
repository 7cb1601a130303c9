"""Two arms compared, on results made by hand."""

import pytest

from instruction_vectors.continual.compare import compare
from instruction_vectors.continual.headline import best_rate, headline
from instruction_vectors.errors import DataError


def rows(hits: int, count: int = 40) -> list[float]:
    return [1.0] * hits + [0.0] * (count - hits)


def result(seed: int, ip: tuple[int, int], learnt: tuple[int, int], gp: tuple[int, int] = (8, 8), **cell: object) -> dict:
    def stage(i: int, matrix: dict) -> dict:
        probes = {name: {"in_context": rows(ip[i]), "zero_shot": rows(gp[i])} for name in ("p", "q")}
        return {"matrix": matrix, "probes": probes}

    return {
        "cell": {
            **{"benchmark": "func", "sequence": "A", "method": "sequential", "guide": "none", "seed": seed},
            **{"stage": {"learning_rate": cell.pop("lr", 1e-3), "epochs": 3}, **cell},
        },
        "ap": {"mean": sum(learnt) / 80},
        "data": {"t1/train": "0", "p/probe": "1"},
        "tasks": ["t1", "t2"],
        "stages": [
            stage(0, {"t1": rows(0), "t2": rows(0)}),
            stage(1, {"t1": rows(learnt[0]), "t2": rows(0)}),
            stage(1, {"t1": rows(0), "t2": rows(learnt[1])}),
        ],
    }


def test_the_share_of_the_loss_that_is_kept_and_what_it_costs():
    plain = [result(seed, (36, 12), (30, 20)) for seed in (0, 1)]
    guided = [result(seed, (36, 30), (28, 20)) for seed in (0, 1)]
    found = compare(plain, guided)
    assert found["ip"]["base"] == pytest.approx(0.9)
    assert found["ip"]["loss"] == pytest.approx(24 / 40)
    assert found["ip_recovered"] == pytest.approx(18 / 24)
    # AP: (28 + 20) / 2 against (30 + 20) / 2, of 40 rows.
    assert found["ap_delta"] == pytest.approx(-1 / 40)
    assert found["ap_delta_low"] < -1 / 40
    assert found["seeds"] == 2
    assert found["p"] is None


def test_six_seeds_that_agree_give_the_smallest_p_there_is():
    plain = [result(seed, (36, 12), (30, 20)) for seed in range(6)]
    guided = [result(seed, (36, 20 + seed), (30, 20)) for seed in range(6)]
    assert compare(plain, guided)["p"] == pytest.approx(2 / 2**6)


def test_probes_at_the_floor_of_m0_do_not_count():
    plain, guided = (result(0, ends, (30, 20)) for ends in ((36, 12), (36, 24)))
    for arm in (plain, guided):
        for stage in arm["stages"]:
            stage["probes"]["floor"] = {"in_context": rows(1), "zero_shot": rows(0)}
    found = compare([plain], [guided])
    assert found["ip"]["base"] == pytest.approx(0.9)
    assert found["ip_recovered"] == pytest.approx(0.5)


def test_no_share_of_a_loss_that_is_not_clear():
    found = compare([result(0, (36, 12), (30, 20))], [result(0, (36, 12), (30, 20))])
    assert found["gp_recovered"] is None
    assert found["ip_recovered"] == 0
    gained = compare([result(0, (12, 36), (30, 20))], [result(0, (12, 30), (30, 20))])
    assert gained["ip_recovered"] is None


def test_arms_that_do_not_belong_together_are_refused():
    arm = [result(0, (36, 12), (30, 20))]
    with pytest.raises(DataError, match="unlike seeds"):
        compare(arm, [result(1, (36, 12), (30, 20))])
    other = result(0, (36, 12), (30, 20))
    other["data"] = {}
    with pytest.raises(DataError, match="seed 0: the two arms stand on unlike data"):
        compare(arm, [other])


def test_a_method_that_mixes_in_general_instructions_stands_on_the_same_data():
    plain, mixing = result(0, (36, 12), (30, 20)), result(0, (36, 24), (30, 20))
    mixing["data"] = {**mixing["data"], "instructions_alpaca/instructions": "0"}
    assert compare([plain], [mixing])["ip"]["gain"] > 0


def test_the_headline_compares_with_plain_training_at_its_best_rate():
    grid = [
        result(0, (36, 12), (30, 20)),
        result(0, (36, 34), (20, 12), lr=3e-4),  # keeps more, learns less: not the one to beat
        result(0, (36, 30), (28, 20), guide="iv"),
        result(0, (36, 34), (12, 10), guide="iv", lr=3e-4),
        result(0, (36, 18), (30, 20), guide="plain_kl"),
        result(1, (36, 18), (30, 20), guide="plain_kl"),  # a seed that plain training has not
        result(0, (36, 12), (30, 20), sequence="B"),
        result(0, (36, 24), (30, 20), sequence="B", method="osf"),
    ]
    found = headline(grid)
    assert found["func"].keys() == {"A"}  # B has no guided cell
    assert found["func"]["A"]["ip_recovered"] == pytest.approx(18 / 24)
    assert (found["func"]["A"]["learning_rate"], found["func"]["A"]["epochs"]) == (1e-3, 3)
    assert {name: each["ip_recovered"] for name, each in found["controls"].items()} == pytest.approx(
        {"iv": 18 / 24, "plain_kl": 6 / 24, "osf": 12 / 24, "lower_lr": 22 / 24}
    )
    own = found["func"]["A"]["controls"]
    assert {name: each["ip_recovered"] for name, each in own.items()} == pytest.approx({"plain_kl": 6 / 24, "lower_lr": 22 / 24})
    assert found["controls"]["lower_lr"]["ap_delta"] == pytest.approx((20 + 12 - 30 - 20) / 80)


def test_the_recommended_way_is_what_guidance_is_judged_by_where_it_was_run():
    grid = [
        result(0, (36, 12), (30, 20)),
        result(0, (36, 24), (28, 20), guide="iv"),
        result(0, (36, 36), (30, 20), guide="anchors_iv", method="anchors"),
    ]
    found = headline(grid)["func"]["A"]
    assert (found["method"], found["guide"], found["ip_recovered"]) == ("anchors", "anchors_iv", 1.0)
    assert {name: each["ip_recovered"] for name, each in found["controls"].items()} == {"iv": 0.5}


def test_every_method_and_guide_found_is_an_arm_called_by_both_unless_it_has_a_name_of_its_own():
    kept = {
        ("sequential", "random"): "random_vector",
        ("averaging", "none"): "model_averaging",
        ("anchors", "iv"): "anchors_guided_throughout",
        ("inclora", "none"): "inclora",
        ("replay", "iv"): "replay + iv",
        ("sequential", "tomorrow"): "sequential + tomorrow",  # neither method nor guide need be known here
        ("tomorrow", "none"): "tomorrow",
        ("tomorrow", "iv"): "tomorrow + iv",
    }
    hits = {way: 20 + number for number, way in enumerate(kept)}
    arms = [result(0, (36, end), (30, 20), method=method, guide=guide) for (method, guide), end in hits.items()]
    plain, guided = result(0, (36, 12), (30, 20)), result(0, (36, 30), (28, 20), guide="iv")
    found = headline([*reversed(arms), guided, plain])
    want = {kept[way]: (end - 12) / 24 for way, end in hits.items()}
    own = found["func"]["A"]["controls"]
    assert {name: each["ip_recovered"] for name, each in own.items()} == pytest.approx(want)
    assert list(own) == list(want)  # in one order, whatever that of the cells
    assert {name: each["ip_recovered"] for name, each in found["controls"].items()} == pytest.approx(want | {"iv": 18 / 24})


def test_a_method_that_wants_a_rate_of_its_own_is_compared_at_its_best():
    plain = result(0, (36, 12), (30, 20))
    low, high = (
        result(0, (36, end), learnt, method="osf", lr=rate) for end, learnt, rate in ((30, (30, 18), 1e-4), (36, (20, 9), 1e-5))
    )
    found = headline([plain, low, high])["controls"]
    assert {name: each["ip_recovered"] for name, each in found.items()} == {"osf, lr 0.0001": 18 / 24}


def test_rates_are_compared_on_the_seeds_that_all_of_them_have():
    # The usual rate learns more on the seed that both have, and less over all of its own.
    usual = [result(seed, (36, 12), (learnt, 20)) for seed, learnt in enumerate((32, 10, 10))]
    low = result(0, (36, 34), (28, 20), lr=3e-4)
    guided = [result(seed, (36, 30), (28, 20), guide="iv") for seed in range(3)]
    for grid in ([*usual, low, *guided], [low, *guided, *usual]):
        assert headline(grid)["func"]["A"].items() >= {"learning_rate": 1e-3, "seeds": 3}.items()
    apart = [result(seed, (36, 12), (learnt, 20), lr=rate) for seed, learnt, rate in ((0, 30, 1e-3), (1, 32, 3e-4))]
    assert best_rate(apart) == (3e-4, 3)  # no seed that both have


def test_other_settings_of_a_method_are_another_arm():
    plain, one, other = (
        result(0, (36, end), (30, 20), method=method) for end, method in ((12, "sequential"), (24, "ewc"), (36, "ewc"))
    )
    other["cell"]["method_settings"] = {"ewc": {"strength": 400.0}}
    assert {name: each["ip_recovered"] for name, each in headline([plain, one, other])["controls"].items()} == {
        "ewc": 0.5,
        "ewc strength=400": 1.0,
    }


def test_other_settings_of_guidance_are_another_arm_and_do_not_touch_plain_training():
    plain, usual, other = (result(0, (36, end), (30, 20), guide=guide) for end, guide in ((12, "none"), (30, "iv"), (24, "iv")))
    for each in (plain, other):
        each["cell"] |= {"guidance": {"sign": -1}, "heads": 5}
    assert {name: each["ip_recovered"] for name, each in headline([plain, usual, other])["controls"].items()} == {
        "iv": 0.75,
        "sequential + iv sign=-1 heads=5": 0.5,
    }


def test_guidance_that_is_nowhere_as_usual_still_is_what_a_sequence_is_judged_by():
    plain, guided = (result(0, (36, end), (30, 20), guide=guide) for end, guide in ((12, "none"), (30, "iv")))
    guided["cell"]["heads"] = 20
    found = headline([plain, guided])["func"]["A"]
    assert (found["method"], found["guide"], found["ip_recovered"]) == ("sequential", "iv heads=20", 0.75)


def test_sequences_are_pooled_only_with_themselves():
    plain = [result(0, (36, 12), (30, 20), sequence=name) for name in "AB"]
    other = [result(0, (36, hits), (30, 20), sequence=name) for name, hits in (("B", 12), ("A", 36))]
    assert compare(plain, other)["ip_recovered"] == pytest.approx(12 / 24)
    assert compare(plain, other)["seeds"] == 2


def test_nothing_plain_nothing_to_say():
    assert headline([result(0, (36, 30), (28, 20), guide="iv")]) == {"controls": {}}


def test_arms_that_begin_with_unlike_models_are_refused():
    plain, other = result(0, (36, 24), (20, 10)), result(0, (36, 24), (30, 20), guide="iv")
    compare([{**plain, "model_fingerprint": "a"}], [{**other, "model_fingerprint": "a"}])
    with pytest.raises(DataError, match="begin with unlike models"):
        compare([{**plain, "model_fingerprint": "a"}], [{**other, "model_fingerprint": "b"}])
