"""The `iv` command: output, exit status, and that bad use is told before a model is opened."""

import errno
import json
import os
import tempfile

import pytest
from click.testing import CliRunner

import instruction_vectors.demo
import instruction_vectors.files
import instruction_vectors.models.loading
import instruction_vectors.tasks
from instruction_vectors.cli import main
from instruction_vectors.tasks import task_names
from instruction_vectors.version import __version__


@pytest.fixture
def iv(monkeypatch):
    """Run `iv`; opening a model would fail the test."""

    def opened(*args, **kwargs):
        raise AssertionError("a model was opened")

    monkeypatch.setattr(instruction_vectors.models.loading, "load", opened)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def failed(result, message):
    """Exit status 1 and one line on standard error."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("iv: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_tasks_are_listed_one_a_line(iv):
    result = iv("tasks")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(task_names())
    assert "both forms" in next(line for line in lines if line.startswith("country-capital "))
    assert "instruction form only" in next(line for line in lines if line.startswith("choose-first-of-3 "))


def test_tasks_can_be_had_as_json(iv):
    listed = json.loads(iv("tasks", "--json").stdout)
    assert [task["name"] for task in listed] == list(task_names())
    assert "examples" not in listed[0]
    (one,) = json.loads(iv("tasks", "present-past", "--json").stdout)
    assert len(one["examples"]) == 5
    assert set(one["examples"][0]) == {"input", "output"}
    assert len(one["fingerprint"]) == 64


def test_a_task_of_ones_own_is_shown_with_its_rows(iv, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"instruction": "Say the opposite."}\n{"input": "hot", "output": "cold"}\n', encoding="utf-8")
    result = iv("tasks", path)
    assert result.exit_code == 0
    assert result.stdout.split("\n")[0].split()[:3] == ["mine", "1", "rows"]
    assert "    hot → cold\n" in result.stdout


def test_an_unknown_task_fails_in_one_line(iv):
    failed(iv("tasks", "capitals"), "unknown task 'capitals'")
    failed(iv("extract", "capitals", "--out", "nowhere"), "unknown task 'capitals'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "no rows"),
        ('{"instruction": "x"}\n{"input": "a"}', ", line 2: no 'output'"),
        ("not json", ", line 1: not JSON"),
    ],
)
def test_a_malformed_task_file_fails_before_a_model_is_opened(iv, tmp_path, content, message):
    path = tmp_path / "task.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    result = iv("extract", path, "--out", tmp_path / "vector")
    failed(result, message)
    assert str(path) in result.stderr
    assert not (tmp_path / "vector").exists()


def test_a_folder_that_is_no_vector_fails_before_a_model_is_opened(iv, tmp_path):
    failed(iv("generate", "x", "--vector", tmp_path), "is not an instruction vector")


def test_a_size_out_of_range_fails_before_a_model_is_opened(iv, tmp_path):
    failed(iv("demo", "--size", "0", "--out", tmp_path / "run"), "size must lie above 0")


def test_a_run_begun_with_other_settings_is_refused_before_a_model_is_opened(iv, tmp_path):
    (tmp_path / "config.json").write_text('{"size": 0.5}')
    failed(iv("demo", "--size", "0.1", "--out", tmp_path), "holds a run with other settings")


def test_a_report_needs_results(iv, tmp_path):
    failed(iv("report", tmp_path), "results.json: no such file")
    (tmp_path / "results.json").write_text("{")
    failed(iv("report", tmp_path), "results.json: not JSON")
    (tmp_path / "results.json").write_text("[1]")
    failed(iv("report", tmp_path), "results.json: expected an object, got list")
    assert not (tmp_path / "report.html").exists()


_FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("told", [(errno.ENOSPC, _FULL), (f"I/O error: {_FULL} (os 28)",)])
def test_a_full_disk_is_told_in_one_line(iv, tmp_path, monkeypatch, told):
    def full(*_):
        raise OSError(*told)

    monkeypatch.setattr(instruction_vectors.files, "write_atomic", full)
    (tmp_path / "results.json").write_text("{}")
    failed(iv("report", tmp_path, "--markdown"), "iv: No space left on device")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks", "--nonsense"],
        ["frobnicate"],
        ["extract", "present-past"],
        ["extract", "present-past", "--out", "v", "--heads", "many"],
        ["generate"],
        ["generate", "x", "--mode", "sideways"],
        ["generate", "x", "--vector", "no/such/folder"],
        ["report", "no/such/folder"],
        ["demo", "--size", "large"],
    ],
    ids=" ".join,
)
def test_bad_use_exits_with_2_and_shows_the_usage(iv, arguments):
    result = iv(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize("verb", sorted(main.commands))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_helps_with_an_example(iv, verb, flag):
    result = iv(verb, flag)
    assert result.exit_code == 0
    assert f"Example:\n    iv {verb}" in result.stdout


def test_the_help_lists_every_verb_and_the_exit_statuses(iv):
    text = iv("--help").stdout
    assert all(f"\n  {verb} " in text for verb in main.commands)
    assert "Exit status: 0 done, 1 the work failed, 2 bad use, 3 a bad verdict" in " ".join(text.split())


def test_the_version_is_told(iv):
    assert iv("--version").stdout.strip().endswith(__version__)


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (["tasks", "present-past"], False),
        (["extract", "present-past", "--out", "vector"], False),
        (["demo", "--out", "demo"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_ctrl_c_says_how_to_go_on_where_steps_are_kept_and_only_there(iv, monkeypatch, tmp_path, arguments, goes_on):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(instruction_vectors.tasks, "load_task", interrupted)
    monkeypatch.setattr(instruction_vectors.demo, "run_demo", interrupted)
    result = iv(*arguments)
    assert result.exit_code == 130
    promised = "; finished steps are kept, the same command goes on from here" if goes_on else ""
    assert result.stderr == f"iv: stopped{promised}\n"


def test_a_folder_that_cannot_be_made_is_told_before_any_work(iv, tmp_path):
    (tmp_path / "taken").write_text("a file, so no folder for anything inside it")
    inside = tmp_path / "taken" / "vector"
    failed(iv("extract", "present-past", "--out", inside), f"{inside}: Not a directory")


@pytest.mark.parametrize("option", ["--out", "--svg"])
@pytest.mark.parametrize("inside", ["taken", "taken/deeper"])
def test_a_file_that_cannot_be_written_is_told_before_any_work(iv, tmp_path, option, inside):
    (tmp_path / "taken").write_text("a file, so no folder for anything inside it")
    folder = tmp_path / inside
    failed(iv("effects", "present-past", option, folder / "effects"), f"{folder}: Not a directory")


@pytest.mark.parametrize(
    "arguments",
    [
        ["effects", "present-past", "--out", "effects.json"],
        ["effects", "present-past", "--svg", "effects.svg"],
        ["extract", "present-past", "--out", "."],
    ],
    ids=" ".join,
)
def test_a_folder_that_is_there_but_read_only_is_told_before_any_work(iv, tmp_path, monkeypatch, arguments):
    def read_only(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "some neighbour")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    failed(iv(*arguments), "iv: .: Permission denied")


@pytest.mark.parametrize("unfit", ["--own-answers", "--measure answer", "--measure log_probability"])
def test_heads_are_not_tried_together_on_another_measure_than_was_asked_for(iv, unfit):
    result = iv("effects", "present-past", "--check", *unfit.split())
    assert result.exit_code == 2
    assert f"the probability of the task's answers' first token only: leave out {unfit}" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x", "--scale", "2"], "--scale would go unheard without --vector"),
        (["generate", "x", "--scale", "1", "--mode", "summed"], "--scale, --mode would go unheard without --vector"),
        (["generate", "x", "--vector", ".", "--mode", "replace", "--scale", "2"], "without a --mode that adds"),
        (["eval", "present-past", "--scale", "2"], "--scale would go unheard without --vector"),
        (["extract", "present-past", "--out", "v", "--validation-rows", "9"], "without several numbers of --heads"),
        (
            ["bench", "--benchmark", "shipped", "--cpus", "3", "--memory-gb", "2"],
            "--cpus, --memory-gb would go unheard without --ray",
        ),
        (["tasks", "validate", "present-past", "--task", "x"], "--task would go unheard without a benchmark and its --data-dir"),
        (["train", "--data", "d.jsonl", "--out", "o", "--anchors", "0.5"], "--anchors would go unheard without --vector anchors"),
        (["train", "--data", "d", "--out", "o", "--plain", "--teacher-cache", "c"], "--teacher-cache would go unheard without"),
        (["bench", "--replay", "r.json", "--model", "other", "--seeds", "1"], "--seeds, --model would go unheard beside"),
        (["bench", "--bisect", "r.json", "--replay", "q.json"], "--replay would go unheard beside --bisect"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_would_go_unheard_is_refused(iv, arguments, message):
    result = iv(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
