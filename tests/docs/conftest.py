"""The documentation's own scripts are importable here."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "docs"), str(ROOT / "scripts")]


@pytest.fixture(scope="session")
def docs():
    """The folder of pages."""
    return ROOT / "docs"
