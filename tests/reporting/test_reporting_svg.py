"""Standalone figures are well-formed XML with a ground of their own; the builder escapes what it is given."""

import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from instruction_vectors.reporting import figure_svg, figures
from instruction_vectors.reporting.palette import LIGHT
from instruction_vectors.reporting.svg import Scale, decimals, el, ticks, wrap

NAMES = ("forgetting", "steering", "effects")
SVG = "{http://www.w3.org/2000/svg}"
TAGS = {SVG + t for t in ("svg", "g", "title", "desc", "rect", "circle", "line", "path", "polyline", "polygon", "text", "tspan")}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["full", "hostile", "empty"])
def test_standalone_files_are_well_formed(name, kind, make_results, hostile_results):
    results = {"full": make_results(), "hostile": hostile_results, "empty": {}}[kind]
    text = figure_svg(results, name)
    root = ET.fromstring(text)
    assert root.tag == SVG + "svg"
    assert {node.tag for node in root.iter()} <= TAGS
    assert not [a for node in root.iter() for a in node.attrib if a.startswith("on") or "href" in a]
    assert "var(" not in text
    ground = root.find(f"{SVG}g/{SVG}rect")
    assert ground is not None
    assert ground.get("fill") == "#ffffff"
    assert float(ground.get("width")) >= float(root.get("width")) - 2
    assert ("not run yet" in text) == (kind == "empty")


def test_marks_lie_inside_the_picture(make_results):
    for name in NAMES:
        root = ET.fromstring(figure_svg(make_results(), name))
        assert 600 <= float(root.get("width")) <= 1100
        assert float(root.get("height")) <= 1200


def test_an_unknown_figure_is_refused(make_results):
    with pytest.raises(ValueError, match="choose forgetting, steering, effects, front, repairs or cost"):
        figure_svg(make_results(), "pie")


def test_elements_escape_text_and_attributes():
    made = el("text", "<b>&", data_x="\"'><script>", stroke_width=1.50, fill=None)
    assert made == '<text data-x="&#34;&#39;&gt;&lt;script&gt;" stroke-width="1.5">&lt;b&gt;&amp;</text>'
    assert el("g", Markup("<i/>")) == "<g><i/></g>"
    with pytest.raises(ValueError, match="attribute"):
        el("g", **{"a b": "c"})
    with pytest.raises(ValueError, match="element"):
        el("g><script")


def test_scale_ticks_and_wrapping():
    scale = Scale((0, 2), (10, 30))
    assert (scale(0), scale(1), scale(2)) == (10, 20, 30)
    assert Scale((1, 1), (10, 30))(1) == 20
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert 0 in ticks(-0.3, 0.6, 3)
    assert ticks(1, 1) == [1]
    assert wrap("english-spanish", 60, 10) == ["english-", "spanish"]
    assert wrap("x" * 50, 60, 10)[0].endswith("…")


def test_the_cost_of_effects_stands_against_length_and_number_of_prompts_beside_the_floor():
    measured = {
        "lengths": {
            "42": {"tokens": 43, "seconds_a_prompt": 2.0, "floor_seconds_a_prompt": 1.5},
            "512": {"tokens": 515, "seconds_a_prompt": 6.0, "floor_seconds_a_prompt": 4.0},
        },
        "many_prompts": {"prompts": 4, "floor_seconds": 6.0, "seconds_by_prompts": [[1, 2.1], [4, 8.0]]},
    }
    panels = figures.costs({"mediation": measured}, LIGHT)
    assert "measured: tokens of the prompt 43.00, seconds 2.00" in panels["length"].description
    assert "tokens of the prompt 515.00, seconds 4.00" in panels["length"].description
    assert "at this machine's rate: prompts 1.00, seconds 1.50" in panels["prompts"].description
    assert "not run yet" in figure_svg({}, "cost")
    assert "What exact effects of all heads cost" in figure_svg({"mediation": measured}, "cost")
    without = {"mediation": {"lengths": {"42": {"tokens": "many"}}, "many_prompts": 3}}
    assert figures.costs(without, LIGHT) == {}


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.2, 1, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0, 0.2, ["0.00", "0.05", "0.10", "0.15", "0.20"]),
        (0, 11, ["0.0", "2.5", "5.0", "7.5", "10.0"]),
    ],
)
def test_the_label_of_a_tick_is_its_value(low, high, labels):
    places = ticks(low, high, 5)
    assert [f"{place:.{decimals(places)}f}" for place in places] == labels


def test_an_axis_that_goes_below_0_is_labelled_with_its_values(make_results):
    results = make_results()
    arm = next(iter(results["forgetting"].values()))
    arm["intervals"]["in_context"][-1][0] = -0.2
    labels = [node.text for node in ET.fromstring(figure_svg(results, "forgetting")).iter(f"{SVG}text")]
    assert {"0.25", "0.75"} <= set(labels)
