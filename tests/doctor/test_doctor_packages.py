"""Versions are held against the supported ranges first, then against those known to work together."""

from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from instruction_vectors.doctor.packages import installed, judge_extra, judge_package, judge_python, packages, pinned, python

TORCH = Requirement("torch>=2.6,<3")


@pytest.mark.parametrize(("running", "status"), [("3.11.0", "ok"), ("3.13.2", "ok"), ("3.14.0rc1", "ok"), ("3.10.14", "problem")])
def test_python_is_held_against_the_supported_range(running, status):
    finding = judge_python(running, ">=3.11")
    assert (finding.status, finding.found) == (status, running)
    assert (">=3.11" in finding.fix) == (status == "problem")


@pytest.mark.parametrize(
    ("have", "pin", "status", "found"),
    [
        ("2.7.0", "2.7.0", "ok", "2.7.0"),
        ("2.7.0+cpu", "2.7.0", "ok", "2.7.0+cpu"),
        ("2.7.0", None, "ok", "2.7.0"),
        ("2.6.1", "2.7.0", "warning", "2.6.1, tested with 2.7.0"),
        ("2.5.9", "2.7.0", "problem", "2.5.9, supported is <3,>=2.6"),
        ("3.0", None, "problem", "3.0, supported is <3,>=2.6"),
        (None, "2.7.0", "problem", "not installed"),
    ],
)
def test_a_package_is_held_against_its_range_then_its_pin(have, pin, status, found):
    finding = judge_package(TORCH, have, pin)
    assert (finding.name, finding.status, finding.found) == ("torch", status, found)
    if status == "problem":
        assert finding.fix == "pip install 'torch<3,>=2.6'"


def test_an_extra_that_is_not_there_is_fine_half_of_one_is_not():
    table, ranked = Requirement("pandas>=2.2"), Requirement("pyarrow>=18")
    assert judge_extra("data", {table: None, ranked: None}, {}).status == "ok"
    whole = judge_extra("data", {table: "2.3", ranked: "18.0"}, {"pandas": "2.3"})
    assert (whole.status, whole.found) == ("ok", "pandas 2.3, pyarrow 18.0")
    half = judge_extra("data", {table: "2.3", ranked: None}, {})
    assert (half.status, half.found) == ("warning", "pyarrow not installed")
    assert half.fix == "pip install '.[data]' in the repository's folder"
    assert judge_extra("data", {table: "2.3", ranked: "18.0"}, {"pyarrow": "19.0"}).found == "pyarrow 18.0, tested with 19.0"


def test_pins_are_read_from_constraints_whatever_the_spelling(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("# versions\nHuggingface_Hub==2.4.0\ntorch==2.13.0  # pinned\n\n")
    assert pinned(path) == {"huggingface-hub": "2.4.0", "torch": "2.13.0"}
    assert pinned(tmp_path / "none.txt") == {}


def test_this_installation_is_told_as_it_is():
    assert python()[0].status == "ok"
    found = {finding.name: finding for finding in packages()}
    assert found["torch"].found == version("torch")
    assert found["transformers"].status == "ok"
    assert {"extra trl", "extra data", "extra gguf"} <= set(found)
    assert not {"extra all", "extra dev", "extra docs"} & set(found)
    assert installed("no-such-package-anywhere") is None
