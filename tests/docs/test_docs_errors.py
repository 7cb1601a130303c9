"""Every error a user can meet has a stable code and a page, and the pages quote what the code really says."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import instruction_vectors
from instruction_vectors.cli import main
from instruction_vectors.errors import IVError

SOURCE = Path(instruction_vectors.__file__).parent
PAGES = sorted(p for p in (Path(__file__).parents[2] / "docs" / "errors").glob("*.md") if p.stem != "index")


def classes():
    """IVError and all below it, wherever the package defines them."""
    for module in pkgutil.walk_packages([str(SOURCE)], "instruction_vectors."):
        importlib.import_module(module.name)
    found, queue = [], [IVError]
    while queue:
        found.append(each := queue.pop())
        queue += each.__subclasses__()
    return [each for each in found if each.__module__.startswith("instruction_vectors")]


def said():
    """Every text in the source, the values of an f-string left out."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


TEXTS = list(said())


def test_every_class_has_a_code_of_its_own_and_a_page_and_no_page_lacks_a_class():
    codes = {each: vars(each).get("code") for each in classes()}
    assert all(codes.values()), "a subclass of IVError needs a `code` of its own, and docs/errors/CODE.md"
    assert len(set(codes.values())) == len(codes)
    assert {path.stem for path in PAGES} == set(codes.values())
    for each, code in codes.items():
        page = next(path for path in PAGES if path.stem == code)
        assert page.read_text(encoding="utf-8").startswith(f"# `{code}`: {each.__name__}\n")


def test_the_codes_of_released_versions_stay():
    assert {"use", "model", "anatomy", "data", "vector", "hook", "training"} <= {path.stem for path in PAGES}


def test_the_index_lists_every_page(docs):
    index = (docs / "errors" / "index.md").read_text(encoding="utf-8")
    assert all(f"| [`{path.stem}`]({path.name}) | `" in index for path in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_has_symptom_cause_and_fix_and_quotes_real_messages(page):
    text = page.read_text(encoding="utf-8")
    assert "\n## Symptom\n" in text
    assert "\n## Cause and fix\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) >= 5
    for row in rows:
        quote, cause, fix = (cell.strip() for cell in row.strip("|").split(" | "))
        assert cause
        assert fix
        for fragment in re.findall("`([^`]+)`", quote):
            assert any(fragment in one for one in TEXTS), f"nothing says {fragment!r} any more"


def test_the_command_line_prints_the_code_behind_the_message():
    result = CliRunner().invoke(main, ["tasks", "capitals"])
    assert result.exit_code == 1
    assert result.stderr.endswith(" [data]\n")
