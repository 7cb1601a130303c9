"""Markdown: the numbers are there, tables keep their columns, names start no markup."""

import re

from instruction_vectors.reporting import write_markdown


def columns(line):
    return len(re.findall(r"(?<!\\)\|", line))


def test_tables_hold_the_numbers(make_results):
    text = write_markdown(make_results())
    assert text.startswith("# Three tasks on SmolLM2-135M")
    assert "| present-past | 30 | 0.00 [0.00, 0.05] |" in text
    assert "### Scores at each stage" in text
    assert "### Mean accuracy on the untouched tasks" in text


def test_hostile_names_start_no_markup_and_break_no_table(hostile_results):
    text = write_markdown(hostile_results)
    assert not re.search(r"<(?!/?br)", text)
    assert "\x00" not in text
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({columns(row) for row in rows}) <= 1
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    assert not re.search(r"(?<!\\)`", text)


def test_partial_results_give_what_there_is(make_results):
    full = make_results()
    assert write_markdown({}).startswith("# ")
    text = write_markdown({"effects": full["effects"]})
    assert "### Strongest heads" in text
    assert "### Scores" not in text
