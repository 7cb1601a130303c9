"""The report's section on a diagnosis: what it shows, and that hostile names stay text."""

from instruction_vectors.reporting import tables
from instruction_vectors.reporting.report import render_html

NAME = '"><svg onload=alert(2)>'


def estimate(value, half=0.1):
    return {"value": value, "interval": (value - half, value + half)}


def change(base, tuned):
    return {"base": estimate(base), "tuned": estimate(tuned), "drop": estimate(base - tuned), "bound": 0.7, "smallest": 0.21}


RUNG = {
    "name": "few-shot", "evidence": True, "accuracy": estimate(0.8), "gain": estimate(0.6), "share": estimate(0.97),
    "of_base": 0.88, "beyond": None, "over": {"a": estimate(0.5), "b": estimate(0.05)}, "required": ["a"],
}  # fmt: skip
RESULTS = {
    "diagnosis": {
        "tasks": {
            NAME: {
                "changes": {"instruction": change(0.9, 0.2), "knowledge": change(0.9, 0.85)},
                "verdict": {"name": "suppressed", "reason": "few-shot brought it back", "by": ["few-shot"]},
                "rungs": [RUNG],
                "grid": {"base": {"x": 0.1, "x+c": 0.9}, "tuned": {"x": 0.0, "x+c": 0.2}},
            },
            "unfinished": {"rungs": None, "changes": 3},
        }
    }
}


def text(table):
    return [[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows]


def test_the_tables_hold_the_numbers():
    verdict = text(tables.verdicts(RESULTS))[0]
    for table in (tables.verdicts(RESULTS), tables.repairs(RESULTS), tables.conditions(RESULTS)):
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert verdict[:5] == [NAME, "suppressed", "0.90 [0.80, 1.00]", "0.20 [0.10, 0.30]", "+0.70 [+0.60, +0.80]"]
    assert text(tables.repairs(RESULTS)) == [
        [NAME, "few-shot", "0.80 [0.70, 0.90]", "0.97 [0.87, 1.07]", "0.88", "–", "1 of 2", "yes"]
    ]
    assert text(tables.conditions(RESULTS)) == [[NAME, "base", "0.10", "0.90"], [NAME, "tuned", "0.00", "0.20"]]


def test_the_report_of_a_diagnosis_stands_alone():
    html = render_html(RESULTS)
    assert "What kind of loss" in html
    assert "Not run yet" not in html
    assert NAME not in html


def test_a_run_without_a_diagnosis_does_not_miss_it():
    html = render_html({"forgetting": {}})
    assert "Not run yet" in html
    assert "What kind of loss" not in html


def test_without_a_diagnosis_there_are_no_tables():
    assert [make({}) for make in (tables.verdicts, tables.repairs, tables.conditions)] == [None] * 3
