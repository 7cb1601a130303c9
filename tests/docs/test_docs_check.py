"""`make docs-check` sees everything shown, says what it does not run, and fails on what does not work."""

import json

import check
import notebooks
import pytest
import shown

from instruction_vectors.cli import main

PAGE = """# Page

```bash
iv tasks   # lists them
# only a comment
echo "a#b" \\
  c
```

```python
x = 1
```

```text
not printed by bash
```

```json title="rows.json"
{}
```

```python
print(x + 1)
```

```text
2
```

```
no language
```
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_commands_scripts_files_and_outputs_of_a_page(page):
    first, second, script = shown.on_page(page, "page.md")
    assert (first.name, first.text) == ("iv tasks", "iv tasks   # lists them")
    assert second.name == 'echo "a#b" c'
    assert script.text == "x = 1\n\nprint(x + 1)\n"
    assert script.prints == ("not printed by bash", "2")
    assert shown.files(page) == {"rows.json": "{}\n"}


def test_the_code_of_a_notebook_is_one_script_and_its_page_shows_words_code_and_the_file(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Name\n", "\n", "See [the other](b.ipynb)."]},
        {"cell_type": "code", "source": ["x = 1\n", "y = 2"], "outputs": []},
        {"cell_type": "code", "source": ["print(x + y)"], "outputs": []},
    ]
    (path := tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert shown.in_notebook(path, "a").text == "x = 1\ny = 2\n\nprint(x + y)"
    page = notebooks.on_page_markdown(notebooks.page(path))
    assert page.startswith('# Name\n\n<a href="a.ipynb" download>')
    assert "See [the other](b.md)." in page
    assert "```python\nx = 1\ny = 2\n```" in page


@pytest.mark.parametrize("path", sorted(check.ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_clean_and_run_by_the_check(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert str(path.relative_to(check.ROOT)) in check.TABLE["notebooks"]
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]


def test_every_verb_with_an_example_is_seen():
    found = shown.in_help(main)
    assert {f"iv {name} --help" for name in main.commands} <= {each.where for each in found}
    assert "iv tasks validate --help" in {each.where for each in found}
    assert all(each.text.startswith("iv ") for each in found)


def test_nothing_in_the_table_is_stale_and_every_entry_has_a_reason():
    assert check.stale(check.everything()) == []
    assert all(entry["why"] for entry in check.TABLE["instead"])


def test_an_entry_that_nobody_shows_is_told(monkeypatch):
    monkeypatch.setitem(check.TABLE, "instead", [{"where": "README.md", "shown": "iv fly", "why": "x"}])
    assert check.stale(check.everything()) == ["README.md: iv fly"]


@pytest.mark.parametrize(
    ("name", "text", "prints", "state"),
    [
        ("python", "print(2)", ("2",), "ok"),
        ("python", "print(2)", ("3",), "failed"),
        ("python", "1 / 0", (), "failed"),
        ("true", "true", (), "ok"),
        ("false", "false", (), "failed"),
    ],
)
def test_what_fails_or_prints_otherwise_is_told(tmp_path, name, text, prints, state):
    assert check.run(shown.Shown("page.md", name, text, prints), tmp_path).state == state


def test_what_is_not_run_is_listed_with_its_reason(monkeypatch, tmp_path, capsys):
    entries = [
        {"where": "p", "shown": "a", "why": "too long"},
        {"where": "p", "shown": "b", "run": "echo small", "why": "smaller"},
        {"where": "p", "shown": "c", "needs": "NO_SUCH_VARIABLE", "why": "needs data"},
    ]
    monkeypatch.setitem(check.TABLE, "instead", entries)
    found = [check.run(shown.Shown("p", name, "false"), tmp_path) for name in "abc"]
    assert [outcome.state for outcome in found] == ["not run", "ok", "not run"]
    assert check.report(found) == 0
    told = capsys.readouterr().out
    assert all(reason in told for reason in ("too long", "smaller", "needs data"))
    assert "1 ran, 2 did not, 0 failed" in told
    assert check.report([check.run(shown.Shown("p", "d", "false"), tmp_path)]) == 1


@pytest.mark.parametrize(
    ("html", "asks"),
    [
        ('<script src="https://cdn.example/x.js">', True),
        ('<link rel="stylesheet" href="https://fonts.example/x.css">', True),
        ("@font-face{src:url(https://fonts.example/x)}", True),
        ('<a href="https://arxiv.org/abs/2406.12227">', False),
        ('<script src="assets/x.js">', False),
    ],
)
def test_requests_are_told_from_links(html, asks):
    assert bool(check._REQUEST.search(html)) == asks


def test_the_documentation_builds_strictly_and_asks_the_network_for_nothing():
    assert check.build() == []
