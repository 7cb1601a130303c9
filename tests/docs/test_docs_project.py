"""Project files hold together: what they name is there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from instruction_vectors.settings import settings_of
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/quickstart.md", "docs/reproducibility.md", "docs/support.md"]
)
def test_every_make_target_that_is_named_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"^make (?:\w+=\S+ )*([a-z-]+)|`make (?:\w+=\S+ )*([a-z-]+)[ `]", text, re.MULTILINE))
    assert {first or second for first, second in named} <= TARGETS


def test_every_target_is_phony():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == {*TARGETS, "help"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_hooks_before_a_commit_run_what_make_check_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    checked = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in hooks:
        tool, *rest = shlex.split(hook["entry"])
        assert " ".join([f"$(BIN)/{Path(tool).name}", *rest[:1]]) in checked


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.stem != "config"], ids=lambda path: path.stem)
def test_issue_templates_ask_for_something_under_unlike_ids(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_what_the_documentation_is_built_with_is_pinned():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    wanted = ("mkdocs", "mkdocs-material", "mkdocstrings", "mkdocstrings-python", "pymdown-extensions", "latex2mathml")
    assert all(f"\n{name}==" in pins for name in wanted)


def test_numbers_in_readme_and_docs_are_those_of_results():
    command = [sys.executable, str(ROOT / "scripts" / "results_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_the_recommended_settings_are_those_that_the_evidence_was_measured_with():
    measured = [
        json.loads(path.read_text())["cell"]
        for sequence in ("func-A", "func-B", "func-C", "func-tuning")
        for path in ROOT.glob(f"results/*/cells/{sequence}/steered_anchors+anchors_iv-lr*/result.json")
    ]
    assert len(measured) >= 9
    assert all(settings_of(IVGuidanceConfig, cell["guidance"]) == IVGuidanceConfig.recommended() for cell in measured)
    assert Recipe.__dataclass_fields__["guidance"].default_factory() == IVGuidanceConfig.recommended()
