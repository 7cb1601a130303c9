"""The heat map in a terminal."""

from instruction_vectors.reporting.terminal import heat_lines


def test_the_largest_effect_is_full_and_what_was_not_measured_is_a_dot():
    lines = heat_lines([[0.16, None], [0.0, -0.16], [0.01, 0.04]])
    assert lines == [
        " layer 0  ",
        "head 0 █ ░",
        "head 1 ·-▒",
    ]


def test_layers_are_numbered_by_ten_and_lines_are_equally_wide():
    lines = heat_lines([[0.1] * 12 for _ in range(24)])
    assert lines[0] == "  layer 0         10        20  "
    assert {len(line) for line in lines} == {len(lines[0])}
    assert heat_lines([[0.1]] * 21)[0] == " layer 0         10         "  # half of 20 would read 2
    assert lines[10].startswith("head 9  █")
    assert lines[12] == "head 11 " + "█" * 24


def test_a_map_without_effects_or_heads_is_no_error():
    assert heat_lines([]) == []
    assert heat_lines([[0.0]])[1] == "head 0  "
