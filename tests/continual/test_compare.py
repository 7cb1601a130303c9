"""Two arms compared, on results made by hand."""

import pytest

from instruction_vectors.continual.compare import compare
from instruction_vectors.errors import DataError


def rows(hits: int, count: int = 40) -> list[float]:
    return [1.0] * hits + [0.0] * (count - hits)


def result(seed: int, ip: tuple[int, int], learnt: tuple[int, int], gp: tuple[int, int] = (8, 8)) -> dict:
    def stage(i: int, matrix: dict) -> dict:
        probes = {name: {"in_context": rows(ip[i]), "zero_shot": rows(gp[i])} for name in ("p", "q")}
        return {"matrix": matrix, "probes": probes}

    return {
        "cell": {"seed": seed},
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
