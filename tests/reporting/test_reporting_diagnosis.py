"""The report's section on a diagnosis: what it shows, and that hostile names stay text."""

from instruction_vectors.reporting import figure_svg, figures, sections, tables
from instruction_vectors.reporting.palette import LIVE
from instruction_vectors.reporting.report import render_html
from instruction_vectors.reporting.tables.main import main_tables

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


def test_markdown_holds_every_table_of_the_page():
    captions = {table.caption for section in sections.build(RESULTS)[0] for block in section.blocks for table in block.tables}
    assert captions == {table.caption for table in main_tables(RESULTS)}
    assert "What got worse" in captions


def test_markdown_holds_every_table_of_a_run_s_page(make_results):
    results = make_results()
    blocks = [block for section in sections.build(results)[0] if section.ident != "run" for block in section.blocks]
    captions = {table.caption for block in blocks for table in (*block.tables, *block.folded)}
    assert captions <= {table.caption for table in main_tables(results)}
    assert {"Exact match", "Untouched tasks, zero-shot"} <= captions


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


def fallen(repair=0.7, **task):
    """A diagnosis of one task whose few-shot answers fell, with the base's vector tried on it."""
    rungs = [
        {"name": "few-shot+iv(base)", "accuracy": estimate(repair), "over": {"few-shot+iv(random)": estimate(0.45)}},
        {"name": "few-shot, 0.5 of the fine-tune", "accuracy": estimate(0.75), "over": {}},
    ]
    usual = {"changes": {"in_context": change(0.8, 0.2)}, "written_rungs": rungs}
    return {"diagnosis": {"tasks": {"plural": usual | task}}}


def test_the_figure_of_repairs_shows_what_the_vector_and_its_controls_bring_back():
    drawing = figures.repairs(fallen(), LIVE, 912.0)
    for mark in (
        "before: 0.80 [0.70, 0.90]",
        "after: 0.20 [0.10, 0.30]",
        "with the base&#39;s vector: 0.70 [0.60, 0.80]",
    ):
        assert f"plural, five-shot, {mark}" in drawing.body
    assert "plural, five-shot, few-shot+iv(random): 0.25" in drawing.body  # 0.7 less the 0.45 by which it is beaten
    assert "plural, five-shot, few-shot, 0.5 of the fine-tune: 0.75 [0.65, 0.85]" in drawing.body
    assert "0.80 \N{RIGHTWARDS ARROW} 0.20 \N{RIGHTWARDS ARROW} 0.70" in drawing.body
    assert "What brings it back" in render_html(fallen())
    assert "not run yet" not in figure_svg(fallen(), "repairs")


def test_the_instruction_form_has_a_lane_of_its_own():
    rungs = [{"name": "x+c+iv(base)", "accuracy": estimate(0.6), "over": {}}]
    both = {"in_context": change(0.8, 0.2), "instruction": change(0.9, 0.3)}
    body = figures.repairs(fallen(changes=both, rungs=rungs), LIVE, 912.0).body
    assert "plural, instruction, with the base&#39;s vector: 0.60 [0.50, 0.70]" in body
    assert "plural, five-shot, with the base&#39;s vector: 0.70 [0.60, 0.80]" in body


def test_nothing_fell_or_nothing_was_tried_no_figure():
    level = {"in_context": change(0.8, 0.78) | {"worse": False}}
    odd = (fallen(written_rungs=[]), fallen(changes={}), fallen(written_rungs=[{"name": 3}, 4]), fallen(changes=level))
    for results in ({}, RESULTS, *odd):
        assert figures.repairs(results, LIVE, 912.0) is None
        assert "What brings it back" not in render_html(results)
    assert "not run yet" in figure_svg({}, "repairs")
