"""Which task broke what, on results made by hand."""

from instruction_vectors.continual.bisect import bisect

GOOD, BAD = [1.0] * 20, [0.0] * 20


def result(in_context: list[list[float]], first_task: list[list[float]]) -> dict:
    stages = [
        {"matrix": {"t1": first, "t2": GOOD, "t3": GOOD}, "probes": {"p": {"in_context": rows}}}
        for rows, first in zip(in_context, first_task, strict=True)
    ]
    return {"tasks": ["t1", "t2", "t3"], "stages": stages}


def found(*args) -> dict:
    return {each.ability: each for each in bisect(result(*args))}


def test_the_first_stage_after_which_an_ability_stays_below_is_named():
    breaks = found([GOOD, GOOD, BAD, BAD], [BAD, GOOD, GOOD, BAD])
    assert breaks["p/in_context"].after == breaks["all/in_context"].after == "t2"
    assert breaks["p/in_context"].drop == breaks["p/in_context"].high == -1.0
    assert breaks["t1"].after == "t3"


def test_what_came_back_is_not_broken():
    assert found([GOOD, BAD, GOOD, GOOD], [BAD, GOOD, BAD, GOOD])["p/in_context"].after is None


def test_a_drop_within_chance_is_not_broken():
    slightly = [0.0, *GOOD[1:]]
    one = found([GOOD, GOOD, GOOD, slightly], [BAD, GOOD, GOOD, GOOD])["p/in_context"]
    assert one.after is None
    assert one.drop == -0.05


def test_what_broke_comes_first():
    order = [each.after is not None for each in bisect(result([GOOD, GOOD, BAD, BAD], [BAD, GOOD, GOOD, GOOD]))]
    assert order == sorted(order, reverse=True)
    assert any(order)
    assert not all(order)
