"""Pages say what is there: names, methods, families; their examples are code that works; equations need no network."""

import ast
import importlib
import json
import re
import sys
import types
from dataclasses import replace
from itertools import count
from pathlib import Path

import mathml
import pytest
import shown
import support_table
import tiny
import torch
import yaml
from tiny_training import distinct_rows

import instruction_vectors
from instruction_vectors import InstructionVector
from instruction_vectors.continual.guides import guides
from instruction_vectors.continual.methods import methods
from instruction_vectors.continual.stage import StageConfig, train_stage
from instruction_vectors.evaluation.multiple_choice import LAYOUTS
from instruction_vectors.tasks.readers import func, long, superni, table, trace

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def python_of(page):
    return [block.text for block in shown.blocks(page) if block.language in ("python", "py")]


def imported(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_python_on_pages_can_be_read_and_imports_what_exists(page):
    for text in python_of(page):
        if text.lstrip().startswith('"'):
            continue  # a line of a dict
        for module, name in imported(text):
            assert hasattr(importlib.import_module(module), name), f"{page.name}: {module}.{name}"


def test_every_public_name_is_in_the_reference(docs):
    reference = "\n".join(page.read_text(encoding="utf-8") for page in (docs / "api").glob("*.md"))
    for name in instruction_vectors.__all__:
        if name != "__version__":
            found = getattr(instruction_vectors, name)
            assert f"::: {found.__module__}.{found.__qualname__}\n" in reference + "\n", name


def test_every_page_is_in_the_navigation(docs):
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", text.partition("\nnav:")[2]))
    pages = [*docs.rglob("*.md"), *(notebook.with_suffix(".md") for notebook in docs.rglob("*.ipynb"))]
    assert listed == {str(page.relative_to(docs)) for page in pages}


def test_the_page_on_data_folders_has_every_sequence_key_and_general_set(docs):
    text = (docs / "tasks" / "data-folders.md").read_text(encoding="utf-8")
    for reader in (func, long, trace, superni):
        for name, order in reader.SEQUENCES.items():
            assert f"| {reader.NAME} | `{name}` | {', '.join(order)} |" in text
    keys = text.partition("## A table of your own")[2]
    assert not [key for key in table.KEYS if f"`{key}`" not in keys]
    general = text.partition("## General ability")[2].partition("\n## ")[0]
    assert not [
        name for name in (*LAYOUTS, "lambada", "nq_open", "bbh/TASK", "instructions_SOURCE") if f"`{name}`" not in general
    ]


@pytest.mark.parametrize(("section", "found"), [("Methods of continual fine-tuning", methods), ("Guides", guides)])
def test_every_method_and_guide_has_a_row_in_reproducibility_with_its_source(docs, section, found):
    text = (docs / "reproducibility.md").read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    for name, each in found().items():
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row, f"{name} needs a row"
        numbers = re.findall(r"\d{4}\.\d{5}", each.source)
        assert all(number in row for number in numbers)


def test_the_support_table_has_every_family_and_no_cell_says_no(docs):
    rows = [line.strip("| ").split(" | ") for line in (docs / "support.md").read_text(encoding="utf-8").splitlines()]
    table = {row[0]: row[3:] for row in rows if row[0] in tiny.FAMILIES}
    assert list(table) == list(tiny.FAMILIES)
    assert not [family for family, cells in table.items() if support_table.NO in cells]
    assert {family for family, cells in table.items() if "refused" in cells} == set(tiny.NORMALISING)
    assert {family for family, cells in table.items() if "forwards" in cells} == set(tiny.WHOLE_FORWARDS)
    assert {family for family, cells in table.items() if "float32" in cells} == set(support_table.equalities.PADDED_IN_FLOAT32)


@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom"])
@pytest.mark.filterwarnings("ignore")
def test_rows_of_the_support_table_are_what_the_checks_find(docs, family):
    row = support_table.page([family]).splitlines()[-1]
    assert row in (docs / "support.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_whole_support_table_is_what_the_checks_find(docs):
    assert support_table.page(list(tiny.FAMILIES)) == (docs / "support.md").read_text(encoding="utf-8")


def test_a_check_of_the_support_table_can_say_no(monkeypatch):
    monkeypatch.setattr(tiny, "o_projs", lambda causal_lm, family: [layer.self_attn.q_proj for layer in causal_lm.model.layers])
    assert support_table.heads("llama") == support_table.NO
    assert support_table.effects("llama") == support_table.NO
    assert support_table.distributed("llama") == support_table.NO


@pytest.mark.parametrize("check", ["adapters", "padding", "beams", "checkpointing", "bfloat16"])
@pytest.mark.filterwarnings("ignore")
def test_a_check_of_the_support_table_says_no_to_a_vector_that_acts_otherwise_each_time(monkeypatch, check):
    applied, times = InstructionVector.applied, count(1)

    def drifting(self, model, mode="distributed", scale=1.0, positions="prefill_end"):
        drifted = replace(self, values=self.values * next(times))
        return applied(drifted, model, mode, scale, positions)

    monkeypatch.setattr(InstructionVector, "applied", drifting)
    assert support_table.ABILITIES[check]("llama") == support_table.NO


def loaded(page, title):
    """The example of a page as a module."""
    text = next(block.text for block in shown.blocks(page) if block.title == title)
    module = types.ModuleType(f"example_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module
    exec(compile(text, str(page), "exec"), module.__dict__)
    return module


def test_the_example_of_a_method_trains_and_pulls(docs, tmp_path):
    method = loaded(docs / "tasks" / "add-a-method.md", "continual/methods/l2.py").L2(StageConfig(epochs=1, rank=2, batch_size=4))
    method.attach(tiny.model("llama", dtype=torch.float32))
    assert method.penalty() is None
    rows = distinct_rows()
    train_stage(method.model, method.begin(1, rows), method.stage, folder=tmp_path, penalty=method.penalty)
    method.end(1, rows)
    assert method.penalty() == 0
    with torch.no_grad():
        next(iter(method.trainable().values())).view(-1)[0] += 0.2
    torch.testing.assert_close(method.penalty(), torch.tensor(0.5 * 0.2**2), rtol=1e-3, atol=0)


def test_the_example_of_a_benchmark_reads(docs, tmp_path):
    module = loaded(docs / "tasks" / "add-a-benchmark.md", "tasks/readers/mine.py")
    for task in ("first", "second"):
        (tmp_path / "mine" / task).mkdir(parents=True)
        for side in ("train", "test"):
            rows = [{"question": f"{task} {side} {n}?", "answer": str(n)} for n in range(3)]
            (tmp_path / "mine" / task / f"{side}.json").write_text(json.dumps(rows))
    benchmark = module.read(tmp_path)
    assert [sides.name for sides in benchmark.sequence("paper")] == ["first", "second"]
    assert benchmark.tasks["second"].test.rows[2].output == "2"


def test_equations_become_mathml_and_keep_their_text():
    page = r'<p>a <span class="arithmatex">\(x &lt; \frac{1}{2}\)</span> b</p><div class="arithmatex">\[\theta_c\]</div>'
    drawn = mathml.on_page_content(page, page=None, config=None, files=None)
    assert "arithmatex" not in drawn
    assert drawn.count("<math ") == 2
    assert "<mfrac>" in drawn
    assert r'aria-label="x &lt; \frac{1}{2}"' in drawn
    assert 'display="block"' in drawn


def test_the_documentation_asks_for_no_font_and_no_script_from_elsewhere():
    # The file names icons with Python tags in some themes; here it must stay plain YAML.
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & set(settings)
