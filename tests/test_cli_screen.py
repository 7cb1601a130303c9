"""`iv` on a terminal and off it: colours, progress, JSON, completion, reports beside one another, statuses."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
import tiny
import torch
from click.testing import CliRunner

import instruction_vectors.models.loading
from instruction_vectors import causal_effects, progress
from instruction_vectors.analysis import kept_effects, pair
from instruction_vectors.cli import main
from instruction_vectors.cli.screen import waiting
from instruction_vectors.doctor import anatomy
from instruction_vectors.errors import ModelError
from instruction_vectors.vectors import extraction

WATCHED = """
from instruction_vectors.progress import track
with track("Working", 3, "step") as advance:
    for done in (1, 2, 3):
        advance(done)
"""


@pytest.fixture
def iv():
    return lambda *arguments, **env: CliRunner().invoke(main, [str(a) for a in arguments], env=env)


def leaves(group, path=()):
    for name, verb in group.commands.items():
        yield from leaves(verb, (*path, name)) if isinstance(verb, click.Group) else [((*path, name), verb)]


@pytest.mark.parametrize(("path", "verb"), leaves(main), ids=lambda part: " ".join(part) if isinstance(part, tuple) else "")
def test_every_verb_speaks_json(path, verb):
    assert "--json" in {flag for option in verb.params for flag in option.opts}


def on_a_terminal(program, **env):
    """What a program writes to a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env={**os.environ, "TERM": "xterm-256color", **env}):
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return said.decode()


def test_progress_is_a_coloured_bar_on_a_terminal_and_has_no_colour_where_none_is_wanted():
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    assert "NO_COLOR" not in env
    coloured, plain = on_a_terminal(WATCHED), on_a_terminal(WATCHED, NO_COLOR="1")
    assert "3/3" in coloured
    assert "3/3" in plain
    colour = "\x1b[38;5;"
    assert colour in coloured
    assert colour not in plain
    assert "\x1b[3" not in plain.replace("\x1b[3A", "")


def test_off_a_terminal_short_work_is_silent_and_long_work_speaks_now_and_then(capsys, monkeypatch):
    with progress.track("Short", 2, "step") as advance:
        advance(1)
        advance(2)
    assert capsys.readouterr().err == ""
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.track("Long", 4, "step") as advance:
        for done in range(1, 5):
            advance(done)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "Long: 2/4, 15.0 s/step, about 30 s left",
        "Long: 4/4, 15.0 s/step, about 0 s left",
        "Long: 4/4 in 75 s (18.8 s/step)",
    ]


def test_off_a_terminal_a_long_line_stays_one_and_long_times_are_told_in_hours_and_minutes(capsys, monkeypatch):
    clock = iter([0.0, 30.0, 7200.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.track("A name " * 20 + "[bold]", 303, "row") as advance:
        advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "A name " * 20 + "[bold]: 1/303, 30.0 s/row, about 2 h 31 min left",
        "A name " * 20 + "[bold]: 303/303 in 2 h 00 min (23.8 s/row)",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (3569, "59 min"), (3571, "1 h 00 min")]
)
def test_times_have_two_units_at_most(seconds, told):
    assert progress.duration(seconds) == told


def test_waiting_shows_on_a_terminal_only(capsys):
    waited = "import time\nfrom instruction_vectors.cli.screen import waiting\nwith waiting('Opening [it]'): time.sleep(0.3)"
    assert "Opening [it]" in on_a_terminal(waited)
    with waiting("Opening"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_report_that_takes_its_time_says_what_it_does_on_a_terminal(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    asked = f"import sys\nfrom instruction_vectors.cli import main\nsys.stdout = None\nmain(['report', {str(tmp_path)!r}])"
    assert "writing its report" in on_a_terminal(asked)


def test_the_shell_completes_verbs_and_flags(iv):
    asked = {"_IV_COMPLETE": "bash_complete", "COMP_WORDS": "iv di", "COMP_CWORD": "1"}
    assert CliRunner().invoke(main, [], env=asked, prog_name="iv").output.strip() == "plain,diagnose"
    asked |= {"COMP_WORDS": "iv effects --to", "COMP_CWORD": "2"}
    assert CliRunner().invoke(main, [], env=asked, prog_name="iv").output.strip() == "plain,--top"


def test_a_grid_s_cells_and_standing_are_had_as_json(iv, tmp_path):
    flags = ("bench", "--benchmark", "shipped", "--sequence", "english-french,sentiment-word", "--guided", "both", "--json")
    names = json.loads(iv(*flags, "--list-cells").stdout)
    assert [name.split("/")[1] for name in names] == ["sequential-lr0.001-e2-s0", "sequential+iv-lr0.001-e2-s0"]
    standing = json.loads(iv(*flags, "--watch", "--out", tmp_path).stdout)
    assert [(s["cell"], s["state"], s["steps"]) for s in standing] == [(name, "waiting", 0) for name in names]


def test_a_report_stands_beside_another_and_is_had_as_markdown_and_latex(iv, tmp_path):
    for name, value in (("new", 0.7), ("old", 0.5)):
        (tmp_path / name).mkdir()
        arm = {"stages": ["M0", "t"], "in_context": [0.8, value]}
        (tmp_path / name / "results.json").write_text(json.dumps({"forgetting": {"sequential": arm}}))
    result = iv("report", tmp_path / "new", "--against", tmp_path / "old", "--markdown", "--latex", "--json")
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert written == {kind: str(tmp_path / "new" / f"report.{kind}") for kind in ("html", "md", "tex")}
    texts = {kind: Path(path).read_text() for kind, path in written.items()}
    assert all("+0.20" in text for text in texts.values())
    assert 'href="./results.json"' in texts["html"]
    assert str(tmp_path / "old") in texts["html"].replace("<wbr>", "")
    (tmp_path / "old/results.json").write_text("{}")
    result = iv("report", tmp_path / "new", "--against", tmp_path / "old")
    assert result.exit_code == 0
    assert "have no number in common" in result.stderr


def test_more_heads_than_there_are_fail_before_the_sweep(iv, tok, monkeypatch):
    def swept(*args, **kwargs):
        raise AssertionError("something was computed")

    monkeypatch.setattr(instruction_vectors.models.loading, "load", lambda name, **_: (tiny.shared("llama"), tok))
    monkeypatch.setattr(extraction, "mean_head_outputs", swept)
    result = iv("effects", "present-past", "--top", "1000")
    assert result.exit_code == 1
    assert "1000 heads were asked for, but the model has 12 (3 layers × 4)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "goes_on", "again"),
    [
        (["effects", "--prompts", "6", "--out", "effects.json"], True, [4, 2, 2]),
        (["effects", "--prompts", "6", "--svg", "effects.svg"], False, [4, 2, 4, 2]),
        (["extract", "--effect-prompts", "2", "--out", "vector"], False, [2, 2]),
    ],
    ids=["a file", "no file", "a vector"],
)
def test_after_ctrl_c_the_same_command_goes_on_where_it_says_so(iv, tok, monkeypatch, tmp_path, arguments, goes_on, again):
    causal_lm, asked, stop = tiny.model("llama", dtype=torch.float32), [], [True]

    def measured(model, tokenizer, prompts, *args, **how):
        asked.append(len(prompts))
        if stop and len(prompts) == 2:  # the last block
            raise KeyboardInterrupt
        return causal_effects(model, tokenizer, prompts, *args, **how)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(instruction_vectors.models.loading, "load", lambda name, **_: (causal_lm, tok))
    for module in (kept_effects, extraction):
        monkeypatch.setattr(module, "causal_effects", measured)
    verb, *flags = arguments
    sized = [verb, "present-past", "--shots", "1", "--top" if verb == "effects" else "--heads", "2", *flags]
    stopped = iv(*sized)
    assert stopped.exit_code == 130
    said = "iv: stopped; finished steps are kept, the same command goes on from here" if goes_on else "iv: stopped"
    assert stopped.stderr.splitlines()[-1] == said
    stop.clear()
    assert iv(*sized).exit_code == 0
    assert asked == again


def test_a_file_with_too_few_rows_says_what_they_are_for(iv, tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [{"instruction": "Say the opposite."}, *({"input": f"a{i}", "output": f"b{i}"} for i in range(6))]
    path.write_text("\n".join(map(json.dumps, rows)))
    result = iv("eval", path, "--rows", "4")
    assert result.exit_code == 1
    assert "has 6 rows, and 34 are needed: 4 to measure, and 30 others that solved examples" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "present-past", "--out", "vector"],
        ["effects", "present-past"],
        ["generate", "x"],
        ["eval", "present-past", "--rows", "2"],
        ["diagnose", "--tuned", "x"],
        ["doctor", "--model", "x"],
        ["tasks", "validate", "present-past", "--model", "x"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_weights_are_opened_in_the_type_that_is_asked_for(iv, monkeypatch, tmp_path, arguments):
    asked = []

    def opened(name, *, dtype, **_):
        asked.append(dtype)
        raise ModelError("enough")

    for module in (instruction_vectors.models.loading, pair, anatomy):
        monkeypatch.setattr(module, "load", opened)
    monkeypatch.chdir(tmp_path)
    iv(*arguments)
    iv(*arguments, "--dtype", "bfloat16")
    assert asked == [torch.float32, torch.bfloat16]
