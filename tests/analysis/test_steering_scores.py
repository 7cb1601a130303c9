"""Scores under the six conditions, the rows apart that copying the input would answer."""

from instruction_vectors.analysis.steering import summarise
from instruction_vectors.evaluation.scoring import Score
from instruction_vectors.reporting.contents import condition_means
from instruction_vectors.reporting.tables import steering


def scored(*rows):
    return [Score(-1.0, 1, first, whole, 3) for first, whole in rows]


SCORES = {"x": scored((True, False), (False, False)), "x+c": scored((True, True), (True, True))}


def test_rows_that_copying_answers_are_told_apart():
    found = summarise(SCORES, [True, False], "plain")
    assert (found["n"], found["x"], found["x+c"]) == (1, 0.0, 1.0)
    assert found["exact"] == {"x": 0.0, "x+c": 1.0}
    assert found["copying"] == {"n": 1, "x": 1.0, "x+c": 1.0}
    assert "note" not in found


def test_a_task_that_copying_always_begins_right_is_judged_by_whole_answers_alone():
    found = summarise(SCORES, [True, True], "plain")
    assert (found["n"], found["x"], found["x+c"]) == (2, 0.5, 1.0)
    assert found["note"] == "every answer begins with its input's first token"
    assert found["exact"] == {"x": 0.0, "x+c": 1.0}
    assert found["copying"] == {"n": 2, "x": 0.5, "x+c": 1.0}
    results = {"steering": {"tied": found, "free": summarise(SCORES, [False, False], "plain")}}
    first, exact, copying = (steering(results, "steering", part) for part in ("", "exact", "copying"))
    assert [row[0].text for row in first.rows] == ["free"]
    assert condition_means(results, "steering")["x"].value == 0.5
    assert condition_means({"steering": {"tied": found}}, "steering") == {}
    assert [row[0].text for row in exact.rows] == ["tied", "free"]
    assert [row[1].text for row in exact.rows] == ["2", "2"]
    assert [row[0].text for row in copying.rows] == ["tied"]
