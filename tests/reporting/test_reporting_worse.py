"""What got worse and the stages of a sequence, as the report shows them."""

import pytest

from instruction_vectors.reporting.figures.effect_maps import effect_maps
from instruction_vectors.reporting.figures.stage_curves import stage_curves
from instruction_vectors.reporting.palette import LIVE
from instruction_vectors.reporting.report import render_html
from instruction_vectors.reporting.tables.inside import traces
from instruction_vectors.reporting.tables.worse import changes, stage_scores


def estimate(value):
    return {"value": value, "interval": (value - 0.1, value + 0.1)}


def change(base, tuned, worse):
    values = {"base": estimate(base), "tuned": estimate(tuned), "drop": estimate(base - tuned)}
    return {**values, "bound": 0.7, "smallest": 0.2, "floor": 0.15, "worse": worse}


def score(stage, task, trained, value, cosine):
    return {"stage": stage, "task": task, "trained": trained, "forms": {"instruction": estimate(value)}, "cosine": cosine}


NAME = "<b>task</b>"
TRACE = {"cosine": 0.6, "effect_before": 0.03, "effect_after": 0.001, "last_layer": 0.9}
RESULTS = {
    "diagnosis": {
        "tasks": {NAME: {"changes": {"instruction": change(0.9, 0.2, True), "knowledge": 3}, "trace": TRACE}},
        "effects": {"before": [[0.2, 0.0], [0.1, -0.1]], "after": [[0.1, 0.0], [0.1, 0.3]]},
        "explained": {"cosine of the vectors": 0.873},
        "lm_eval": {"hellaswag, acc": change(0.4, 0.35, False)},
        "stages": [
            score("M0", NAME, False, 0.9, 1.0),
            score("M0", "other", False, 0.5, 1.0),
            score("M0", "new", True, 0.1, 1.0),
            score("first", NAME, False, 0.3, 0.6),
            score("first", "other", False, 0.1, 0.2),
            score("first", "new", True, 1.0, 0.3),
        ],
    }
}
LM_EVAL = ("hellaswag, acc", "lm-eval")


def text(table):
    return [[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows]


def test_what_got_worse_holds_forms_and_lm_eval_tasks():
    assert text(changes(RESULTS)) == [
        [NAME, "instruction form", "0.90 [0.80, 1.00]", "0.20 [0.10, 0.30]", "+0.70 [+0.60, +0.80]", "0.15", "0.20", "yes"],
        [*LM_EVAL, "0.40 [0.30, 0.50]", "0.35 [0.25, 0.45]", "+0.05 [\N{MINUS SIGN}0.05, +0.15]", "0.15", "0.20", "no"],
    ]
    assert changes({}) is None


def test_where_it_happened_holds_traces_and_three_maps():
    table = traces(RESULTS)
    assert text(table) == [[NAME, "0.60", "+0.0300", "+0.0010", "0.90"]]
    assert table.remark == "R² against the drop, over tasks: cosine of the vectors 0.87."
    maps = effect_maps(RESULTS, LIVE, 360)
    assert list(maps) == ["before", "after", "after minus before"]
    assert "layer 1, head 1, +0.400" in maps["after minus before"].description
    assert list(effect_maps({"diagnosis": {"effects": {"before": [[0.1]], "after": 3}}}, LIVE, 360)) == ["before"]
    assert (traces({}), effect_maps({}, LIVE, 360)) == (None, {})


def test_stages_are_columns():
    table = stage_scores(RESULTS)
    assert table.columns == ["task", "", "measure", "M0", "first"]
    assert text(table)[0] == [NAME, "untouched", "instruction form", "0.90 [0.80, 1.00]", "0.30 [0.20, 0.40]"]
    assert text(table)[-1] == ["new", "trained", "cosine of vectors", "1.00", "0.30"]
    assert stage_scores({}) is None


def test_a_curve_is_the_mean_over_its_kind_of_task():
    drawings = stage_curves(RESULTS, LIVE)
    assert list(drawings) == ["instruction", "cosine"]
    assert "untouched: M0 0.70, first 0.20; trained: M0 0.10, first 1.00" in drawings["instruction"].description
    assert "untouched: M0 1.00, first 0.40" in drawings["cosine"].description
    assert stage_curves({}, LIVE) == {}


@pytest.mark.parametrize("stages", [[], [{"stage": 1}], "nonsense", [None]])
def test_unfinished_stages_do_no_harm(stages):
    render_html({"diagnosis": {**RESULTS["diagnosis"], "stages": stages}})


def test_the_report_shows_them_and_escapes_names():
    html = render_html(RESULTS)
    assert "What got worse" in html
    assert "Stage by stage" in html
    assert NAME not in html
