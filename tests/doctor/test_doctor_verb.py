"""`iv doctor`: exit status, JSON, a table on a terminal, few words elsewhere; a broken check never breaks the others."""

import io
import json

import pytest
import tiny
import torch
from click.testing import CliRunner
from rich.console import Console

import instruction_vectors.doctor.anatomy
from instruction_vectors.cli import main
from instruction_vectors.doctor import Finding, examine, healthy, show, to_dict
from instruction_vectors.doctor.examine import guarded
from instruction_vectors.errors import DataError, ModelError

GOOD = Finding("threads", "ok", "2 on 2 cores")
ODD = Finding("disk [C]", "warning", "1.0 GB at [/x]", "free some space")
BAD = Finding("python", "problem", "3.9", "install 3.11")


def shown(findings, *, terminal):
    out = io.StringIO()
    show(findings, Console(file=out, force_terminal=terminal, width=120, color_system="standard" if terminal else None))
    return out.getvalue()


def test_a_fix_belongs_to_what_is_not_ok():
    with pytest.raises(ValueError, match="fix"):
        Finding("x", "warning", "y")
    with pytest.raises(ValueError, match="fix"):
        Finding("x", "ok", "y", "z")


def test_off_a_terminal_only_what_is_not_ok_is_said():
    assert shown([GOOD], terminal=False) == "1 checks: 1 ok, 0 warnings, 0 problems\n"
    assert shown([GOOD, ODD, BAD], terminal=False).split("\n")[:2] == [
        "warning: disk [C]: 1.0 GB at [/x]. Fix: free some space",
        "problem: python: 3.9. Fix: install 3.11",
    ]


def test_on_a_terminal_everything_is_shown_in_colour():
    text = shown([GOOD, ODD, BAD], terminal=True)
    assert "2 on 2 cores" in text
    assert "disk [C]" in text
    assert "\x1b[32mok" in text
    assert "\x1b[1;31mproblem" in text


def test_a_warning_is_healthy_a_problem_is_not():
    assert healthy([GOOD, ODD])
    assert not healthy([GOOD, BAD])
    assert to_dict([BAD]) == {
        "ok": False,
        "checks": [{"name": "python", "status": "problem", "found": "3.9", "fix": "install 3.11"}],
    }


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (ImportError("No module named 'torch'"), "repair the packages"),
        (DataError("bad"), "docs/errors"),
        (PermissionError(13, "Permission denied", "/data"), "readable"),
        (OSError("libcudart.so.13: cannot open shared object file"), "repair the packages"),
        (RuntimeError("operator torchvision::nms does not exist"), "repair the packages"),
        (torch.OutOfMemoryError("CUDA out of memory.\nMore"), "free the device"),
    ],
)
def test_a_check_that_breaks_down_is_a_finding(error, fix):
    def broken():
        raise error

    (finding,) = guarded("devices", broken)
    assert (finding.name, finding.status) == ("devices", "problem")
    assert str(error).partition("\n")[0] in finding.found
    assert "\n" not in finding.found
    assert fix in finding.fix


def test_the_verb_exits_by_what_it_finds(monkeypatch):
    monkeypatch.setenv("IV_DATA_DIR", "/no/such/folder")
    result = CliRunner().invoke(main, ["doctor", "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"]) == (1, False)
    assert next(c for c in told["checks"] if c["name"] == "data folders")["status"] == "problem"
    names = [c["name"] for c in told["checks"]]
    assert names[0] == "python"
    assert names[-7:] == ["devices", "threads", "world size", "cache folder", "default model", "free disk", "data folders"]
    assert "\x1b[" not in CliRunner().invoke(main, ["doctor"]).stdout


@pytest.mark.parametrize(
    ("family", "said"),
    [("llama", "3 layers × 4 heads of width 8, checked"), ("gemma2", "no summed mode"), ("bloom", "no packed prompts")],
)
def test_the_anatomy_of_a_model_is_told(monkeypatch, family, said):
    monkeypatch.setattr(instruction_vectors.doctor.anatomy, "load", lambda name, dtype: (tiny.shared(family), None))
    finding = examine("a-model")[-1]
    assert (finding.name, finding.status) == ("anatomy of a-model", "ok")
    assert said in finding.found


def test_a_model_that_cannot_be_opened_is_a_problem(monkeypatch):
    def missing(name, dtype):
        raise ModelError(f"{name!r} is not there")

    monkeypatch.setattr(instruction_vectors.doctor.anatomy, "load", missing)
    finding = examine("a-model")[-1]
    assert (finding.status, finding.found) == ("problem", "'a-model' is not there")
