"""Grids in a report: methods against benchmarks, the front, the plane of forms, two runs side by side, as LaTeX."""

import re

import pytest
import synthetic_grid

from instruction_vectors.continual.guides import guides
from instruction_vectors.reporting import figures, tables, write_latex, write_markdown, write_report
from instruction_vectors.reporting.figures import planes
from instruction_vectors.reporting.figures.scatter import Point, unbeaten
from instruction_vectors.reporting.palette import LIVE
from instruction_vectors.reporting.tables.arms import arms, clearly_best
from instruction_vectors.reporting.values import Estimate


def seeds(*values):
    return dict(enumerate(values))


def test_the_best_is_marked_only_where_the_paired_test_says_so():
    plain, better = seeds(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), seeds(0.2, 0.32, 0.41, 0.53, 0.6, 0.7)
    assert clearly_best({"plain": plain, "better": better}) == "better"  # p = 2 / 2^6
    assert clearly_best({"plain": seeds(*list(plain.values())[:5]), "better": seeds(*list(better.values())[:5])}) is None
    assert clearly_best({"plain": plain, "better": better, "close": {**better, 0: 0.1}}) is None
    assert clearly_best({"plain": plain, "better": dict(list(better.items())[:5])}) is None  # other seeds
    assert clearly_best({"alone": plain}) is None


def test_methods_against_benchmarks_are_means_over_seeds():
    cells = [
        synthetic_grid.cell("m", g, s, ip=ip) for g, ips in (("none", (0.1, 0.3)), ("iv", (0.5, 0.6))) for s, ip in enumerate(ips)
    ]
    table = tables.arms({"grid": {"cells": cells}}, "in_context")
    assert table.columns[1:] == ["func A"]
    assert [(row[1].text, row[1].note, row[1].marked) for row in table.rows] == [
        ("0.200", "2 seeds", False),
        ("0.550", "2 seeds", False),
    ]
    assert tables.arms({"grid": {"cells": cells[:1]}}, "in_context") is None


def test_guided_training_stands_beside_every_arm_and_above_the_front():
    table = tables.beside({"grid": {"headline": synthetic_grid.headline()}})
    assert table.columns == ["sequence", "guided training minus", "AP", "FP", "IP", "GP", "seeds"]
    assert [[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows] == [
        ["func A", "plain kl", "−0.03 [−0.07, +0.01]", "+0.11 [+0.05, +0.17]", "+0.40 [+0.20, +0.60]", "–", "3"],
        ["func A", "the front", "–", "–", "+0.10 [−0.05, +0.30]", "–", "2 to 3"],
    ]
    assert tables.beside({"grid": {"headline": {"controls": {}}}}) is None
    assert (
        tables.beside({"grid": {"headline": {"func": {"A": {"beside": 3, "fronts": {"no_anchors": {"gap": "wide"}}}, "B": 4}}}})
        is None
    )


def test_every_other_arm_without_a_part_in_the_front_has_its_place_above_it():
    table = tables.above({"grid": {"headline": synthetic_grid.headline()}})
    assert table.columns[2:] == ["above the front", "above the front, with anchors without vectors", "seeds"]
    assert [[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows] == [
        ["func A", "osf+anchors iv, lr 0.0001", "+0.10 [−0.05, +0.30]", "–", "2 to 3"],
        ["func A", "replay", "–", "+0.10 [−0.05, +0.30]", "2 to 3"],
    ]
    assert tables.above({"grid": {"headline": {"func": {"A": {"above": 3}}}}}) is None
    (row,) = tables.above({"grid": {"headline": {"func": {"A": {"above": {"x": 3}}}}}}).rows
    assert [cell.text for cell in row[2:]] == ["–", "–", ""]


def test_the_front_holds_what_no_other_beats_in_both():
    places = [(0.1, 0.9), (0.5, 0.5), (0.4, 0.4), (0.9, 0.1), (0.5, 0.3), (0.9, 0.05)]
    points = [Point(str(i), Estimate(x), Estimate(y)) for i, (x, y) in enumerate(places)]
    assert [point.label for point in unbeaten(points)] == ["0", "1", "3"]


def test_of_a_large_grid_the_front_is_shown_whole_and_the_cut_is_told():
    worse = [synthetic_grid.cell(f"m{number}", ap=0.5, ip=0.5) for number in range(300)]
    best = synthetic_grid.cell("last", "iv", ap=0.9, ip=0.9)
    (front,) = figures.fronts({"grid": {"cells": [*worse, best]}}, LIVE).values()
    assert "last, iv" in front.body
    assert "guide: iv" in front.body
    assert front.body.count("<circle") + front.body.count("<rect") >= 250
    assert "AP, learnt (250 of 301 cells shown)</text>" in front.body
    (small,) = figures.fronts({"grid": {"cells": worse[:3]}}, LIVE).values()
    assert "AP, learnt</text>" in small.body


def test_every_guide_has_a_mark_of_its_own_whatever_settings_it_has():
    cells = [synthetic_grid.cell("m", guide) for name in guides() for guide in (name, f"{name} heads=5")]
    (front,) = figures.fronts({"grid": {"cells": cells}}, LIVE).values()
    assert sorted(re.findall(r"guide: ([^<]*)<", front.body)) == sorted(guides())
    assert len({planes._look({"guide": name}) for name in guides()}) == len(guides())


def test_a_page_shows_some_cells_with_all_their_scores_and_markdown_every_one(tmp_path):
    results = {"grid": {"cells": [synthetic_grid.cell(f"m{number}") for number in range(30)]}}
    page = write_report(results, tmp_path / "report.html").read_text()
    assert "Every task at every stage (24 of 30 cells shown)" in page
    named = [len(set(re.findall(r"Scores on each task, func A, (m\d+)", text))) for text in (page, write_markdown(results))]
    assert named == [24, 30]


def test_figures_name_every_point_with_its_exact_values():
    results = {"grid": {"cells": [synthetic_grid.cell(ap=0.6, ip=0.5)]}}
    (front,) = figures.fronts(results, LIVE).values()
    assert "AP, learnt 0.600 [0.550, 0.650], IP at the end, kept 0.500 [0.450, 0.550]" in front.body
    plane = figures.forms(synthetic_grid.diagnosis(("capital",)), LIVE)
    assert "capital, tuned: accuracy, knowledge form 0.850 [0.800, 0.900], accuracy, instruction form 0.200" in plane.body
    assert figures.forms({}, LIVE) is None
    assert figures.fronts({"grid": {"cells": [{"ap": 3}, 4]}}, LIVE) == {}


def test_a_run_has_a_plane_too(make_results):
    body = figures.forms(make_results(), LIVE).body
    assert "IV-guided, M0: accuracy, knowledge form 0.510" in body


def test_the_matrix_of_a_cell_is_turned_and_the_stage_that_trained_is_marked():
    entry = {**synthetic_grid.cell(), "tasks": ["one", "two"], "matrix": [[0.1, 0.2], [0.9, 0.3], [0.6, 0.8]]}
    (table,) = tables.cell_matrices({"grid": {"cells": [entry]}})
    assert table.columns == ["task", "M0", "after one", "after two"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["one", "0.10", "0.90", "0.60"],
        ["two", "0.20", "0.30", "0.80"],
    ]
    assert [[cell.marked for cell in row[1:]] for row in table.rows] == [[False, True, False], [False, False, True]]
    (lower,) = tables.cell_matrices({"grid": {"cells": [{**entry, "matrix": [[0.1], [0.9, None], 3]}]}})
    assert [[cell.text for cell in row] for row in lower.rows] == [["one", "0.10", "0.90", "–"], ["two", "–", "–", "–"]]


def test_two_runs_are_compared_number_by_number():
    def run(ip, guides=("none",)):
        return {"grid": {"cells": [synthetic_grid.cell(guide=g, ip=ip) for g in guides]}}

    table = tables.against({**run(0.7, ("none", "iv")), "against": {"name": "before", "results": run(0.5)}})
    assert table.columns == ["of", "measure", "this run", "before", "difference"]
    (row,) = [row for row in table.rows if row[1].text == "5-shot at the end"]
    assert [cell.text for cell in row[2:]] == ["0.70", "0.50", "+0.20"]
    assert row[4].note == "[+0.13, +0.27]"  # 0.05 √2
    assert {row[0].text.split(", ")[3] for row in table.rows} == {"none"}
    assert tables.against(run(0.7)) is None


def test_runs_of_unlike_kinds_have_nothing_in_common(make_results):
    assert tables.against({**make_results(), "against": {"results": synthetic_grid.grid()}}) is None


@pytest.mark.parametrize("kind", ["run", "grid", "diagnosis"])
def test_latex_holds_the_numbers_and_balances(kind, make_results):
    results = {"run": make_results(), "grid": synthetic_grid.grid(), "diagnosis": synthetic_grid.diagnosis()}[kind]
    text = write_latex(results)
    assert text.count("\\begin{table}") == text.count("\\end{table}") >= 2
    for body, columns in re.findall(r"(\\begin{tabular}{([lr]+)}.*?)\\end{tabular}", text, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns)}
    known = {"run": "0.31 [0.25, 0.37]", "grid": "2 seeds", "diagnosis": "0.97 [0.92, 1.02]"}
    assert known[kind] in text


def test_no_string_is_a_command_in_latex():
    name = r"\input{/etc/passwd} $x_1$ 50% #1 a&b ~ ^ {x}"
    text = write_latex(synthetic_grid.diagnosis((name,)))
    assert r"\textbackslash{}input\{/etc/passwd\} \$x\_1\$ 50\% \#1 a\&b \textasciitilde{} \textasciicircum{} \{x\}" in text
    assert "\\input{" not in text


def test_a_grid_of_a_thousand_cells_stays_small_and_the_tables_keep_all(tmp_path):
    results = synthetic_grid.grid(methods=[f"method-{i}" for i in range(21)], seeds=6)
    count = len(results["grid"]["cells"])
    raw = [f"cells/func-A/method-{i}/result.json" for i in range(count)]
    path = write_report(results, tmp_path / "r.html", raw=raw)
    assert count > 1000
    assert path.stat().st_size <= 1_500_000
    assert f"Cells, the first 200 of {count}" in path.read_text()
    assert len(tables.cells(results).rows) == len(tables.course(results).rows) == count


def test_links_to_raw_files_stay_below_the_folder(tmp_path):
    names = ["results.json", "cells/a b/result.json", "javascript:alert(1)", "//evil.example/x"]
    html = write_report(synthetic_grid.grid(), tmp_path / "r.html", raw=names).read_text()
    found = re.findall(r"<footer>.*?</footer>", html, re.DOTALL)[0]
    assert re.findall(r'href="([^"]+)"', found) == [
        "./results.json", "./cells/a%20b/result.json", "./javascript%3Aalert%281%29", ".///evil.example/x",
    ]  # fmt: skip


def test_arms_stand_beside_plain_training():
    text = write_markdown(synthetic_grid.grid())
    table = text.split("### Against plain training")[1].split("###")[0]
    guided, control = (line for line in table.splitlines() if "| guided |" in line or "| plain kl |" in line)
    assert guided.startswith("| func A | guided | 0.50 [0.30, 0.70] | +0.40 [+0.20, +0.60] | 0.80 |")
    assert guided.endswith("| \N{MINUS SIGN}0.030 | \N{MINUS SIGN}0.070 | 6, \N{EN DASH} | 3 |")
    assert control.endswith("| 2 |")


def test_rows_that_were_cut_are_told():
    results = synthetic_grid.grid()
    assert "cut to fit" not in write_markdown(results)
    results["grid"]["cells"][0]["cut"] = 3
    assert "Rows cut to fit (inputs in their middle, training answers at their end): func A: 3." in write_markdown(results)


def test_one_seed_marks_nothing():
    results = synthetic_grid.grid(seeds=1)
    assert clearly_best({"a": {0.0: 0.9}, "b": {0.0: 0.1}}) is None
    assert not any(cell.marked for row in arms(results, "ap").rows for cell in row)


def test_sequences_that_differ_in_their_middle_stay_apart():
    one, other = "a,b,c,d", "a,c,b,d"
    cells = [synthetic_grid.cell(ap=0.9, sequence=one), synthetic_grid.cell(guide="iv", ap=0.8, sequence=one)]
    cells += [synthetic_grid.cell(ap=0.3, sequence=other), synthetic_grid.cell(guide="iv", ap=0.2, sequence=other)]
    results = {"grid": {"cells": cells}}
    table = arms(results, "ap")
    assert table.columns[1:] == ["func a,b,c,d", "func a,c,b,d"]
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [["0.900", "0.300"], ["0.800", "0.200"]]
