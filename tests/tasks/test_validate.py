"""What `validate` counts, and `iv tasks` with its verbs."""

import json
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

from instruction_vectors.cli import main
from instruction_vectors.errors import DataError, ModelError
from instruction_vectors.tasks import Benchmark, Example, Sides, Task, load_task, task_names
from instruction_vectors.tasks.validate import overlaps, tokenizer_of, validate
from instruction_vectors.tasks.validation_report import render


def task(*rows: tuple[str, str], **more: object) -> Task:
    return Task("t", ("w1 w2",), tuple(Example(*row) for row in rows), repeats=True, **more)  # type: ignore[arg-type]


TRAIN = task(("w1", "a"), ("w1", "b"), ("w2", "a"), ("w3", "a"), options=("a", "b", "c"), layout="{instruction} {input} w9")
TEST = task(("w1", "a"), ("w1", "a"), ("w4", "b"))
BENCHMARK = Benchmark("b", {"t": Sides(TRAIN, TEST, task(("w4", "a")))}, {"only": ("t",)}, ("seen",))


def test_rows_repeats_conflicts_labels() -> None:
    side = validate(TRAIN).tasks[0].sides["rows"]
    assert (side.rows, side.inputs, side.repeated, side.conflicting, side.several) == (4, 3, 1, 1, 0)
    assert side.labels == {"a": 3, "b": 1, "c": 0}
    assert side.majority == 0.75
    assert side.characters.longest == len("w1 w2 w1 w9 a")
    assert side.tokens is None
    assert side.over is None


def test_lengths_in_tokens_and_rows_over_the_limit() -> None:
    tokenizer = tiny.tokenizer()
    rows = task(("w1", "w3"), ("w1 w1", "w3"), ("w1 w1 w1", "w3"), layout="{instruction} {input} w9")
    side = validate(rows, tokenizer, max_tokens=7).tasks[0].sides["rows"]
    assert side.tokens is not None
    assert side.tokens.shortest == len(tokenizer("w1 w2 w1 w9 w3")["input_ids"]) == 6
    assert (side.tokens.median, side.tokens.longest, side.over) == (7, 8, 1)
    with pytest.raises(DataError, match="needs a tokenizer"):
        validate(rows, max_tokens=7)


def test_overlaps_between_all_sides() -> None:
    found = {(over.first, over.second): (over.inputs, over.rows) for over in overlaps(BENCHMARK.tasks["t"])}
    assert found == {("train", "test"): (1, 2), ("eval", "test"): (1, 1)}


def test_the_report_says_it_in_words_and_in_json() -> None:
    report = validate(BENCHMARK)
    text = render(report)
    for part in ("8 rows", "1 inputs in both train and test (2 rows of test)", "a 3, b 1, c 0", "sequence only: t", "note: seen"):
        assert part in text
    assert json.loads(json.dumps(report.to_dict()))["tasks"][0]["sides"]["test"]["rows"] == 3


def test_shipped_tasks_have_no_repeats() -> None:
    for name in task_names():
        side = validate(load_task(name)).tasks[0].sides["rows"]
        assert side.repeated == side.conflicting == 0, name


def test_an_unknown_tokenizer_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer there"):
        tokenizer_of(str(tmp_path))


# --- the command ---


def iv(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["tasks", *arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "func" / "abstractive" / "antonym.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"input": f"w{i % 9}", "output": "v"} for i in range(10)]))
    return tmp_path


def test_plain_tasks_lists_and_names_show() -> None:
    assert iv() == iv("list")
    assert len(iv().splitlines()) == len(task_names())
    assert iv("present-past") == iv("show", "present-past")
    assert iv("present-past", "--json") == iv("--json", "present-past") == iv("show", "--json", "present-past")
    assert "examples" in json.loads(iv("present-past", "--json"))[0]
    assert len(json.loads(iv("--json"))) == len(task_names())
    assert "validate" in iv("--help")
    assert "fetch" in iv("-h")


def test_bad_use_and_bad_data_have_their_status(folder: Path) -> None:
    iv("--nosuch", status=2)
    iv("show", status=2)
    iv("validate", status=2)
    iv("nosuch", status=1)
    assert "give --data-dir" in iv("validate", "func", status=2)
    assert "needs --tokenizer" in iv("validate", "func", "--data-dir", str(folder), "--max-tokens", "5", status=2)
    (folder / "func/abstractive/antonym.json").write_text('[{"input": "a"}]')
    assert "antonym.json, row 1: no 'output'" in iv("validate", "func", "--data-dir", str(folder), status=1)


def test_validate_a_benchmark_a_shipped_task_and_a_file(folder: Path) -> None:
    assert "1 rows merged" in iv("validate", "func", "--data-dir", str(folder))
    report = json.loads(iv("validate", "func", "--data-dir", str(folder), "--task", "antonym", "--json"))
    assert [side["rows"] for side in report["tasks"][0]["sides"].values()] == [6, 1, 2]
    assert "present-past" in iv("validate", "present-past")
    own = folder / "own.jsonl"
    own.write_text('{"instruction": "Judge."}\n{"input": "a", "output": "b"}\n')
    assert json.loads(iv("validate", str(own), "--json"))["tasks"][0]["sides"]["rows"]["rows"] == 1


def test_validate_with_a_tokenizer_from_a_folder(folder: Path) -> None:
    tiny.tokenizer().save_pretrained(folder / "model")
    arguments = ("validate", "func", "--data-dir", str(folder), "--tokenizer", str(folder / "model"))
    assert "tokens" in iv(*arguments)
    sides = json.loads(iv(*arguments, "--max-tokens", "3", "--json"))["tasks"][0]["sides"]
    assert sides["train"]["over"] == 6


def test_fetch_of_an_unpinned_benchmark(tmp_path: Path) -> None:
    assert "no originals are pinned" in iv("fetch", "long", "--data-dir", str(tmp_path), status=1)
