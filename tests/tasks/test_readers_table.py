"""A user's own task: CSV, TSV, JSON lines, parquet and datasets by a short YAML, and every complaint with file and row."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import Example, load_task
from instruction_vectors.tasks.readers.table import KEYS, read_table_task

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SETTINGS = {"instruction": "Judge.", "data": "rows.csv", "input": "text", "output": "label"}
CSV = 'text,label\n"good, very",up\nbad,down\n'


def describe(folder: Path, table: str | bytes | None = CSV, **changes: Any) -> Path:
    settings_ = {key: value for key, value in (SETTINGS | changes).items() if value is not None}
    if table is not None:
        (folder / settings_["data"]).write_bytes(table.encode() if isinstance(table, str) else table)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(settings_), encoding="utf-8")
    return path


def test_a_csv_becomes_a_task(tmp_path: Path) -> None:
    task = load_task(str(describe(tmp_path, options=["up", "down"], knowledge=["{input}. This is"], instructions=["Say it."])))
    assert task.name == "mine"
    assert task.instructions == ("Judge.", "Say it.")
    assert task.rows == (Example("good, very", "up"), Example("bad", "down"))
    assert task.kind == "classify"
    assert task.knowledge == ("{input}. This is",)
    assert task.sources == ("rows.csv",)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("data", "mark"), [("rows.csv", b","), ("rows.tsv", b"\t")])
def test_separators_byte_order_marks_and_columns_put_together(data: str, mark: bytes, bom: bytes, tmp_path: Path) -> None:
    table = bom + b"a|b|label\r\none|{b}|up\r\n".replace(b"|", mark)
    assert read_table_task(describe(tmp_path, table, data=data, input="{a} and {b}", name="n")).rows == (
        Example("one and {b}", "up"),
    )


def test_a_quoted_cell_of_a_tsv_may_have_several_lines(tmp_path: Path) -> None:
    task = read_table_task(describe(tmp_path, 'text\tlabel\n"one\ntwo ""three"""\tup\n', data="rows.tsv"))
    assert task.rows == (Example('one\ntwo "three"', "up"),)


def test_whole_numbers_of_a_csv_count_the_options_unless_they_are_options_and_blanks_are_no_part_of_an_answer(
    tmp_path: Path,
) -> None:
    table = "text,label\ngood, 1\nbad,0 \n"
    columns = ((["no", "yes"], ["yes", "no"]), (["1", "0"], ["1", "0"]), (["1", "2"], ["2", "1"]), (None, ["1", "0"]))
    for options, outputs in columns:
        task = read_table_task(describe(tmp_path, table, options=options))
        assert [row.output for row in task.rows] == outputs
        if options is not None:  # numbers of JSON are read alike
            (tmp_path / "rows.jsonl").write_text('{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n')
            assert read_table_task(describe(tmp_path, None, data="rows.jsonl", options=options)).rows == task.rows


def test_json_lines_parquet_and_saved_datasets_read_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]
    options = ["down", "up"]
    data = datasets.Dataset.from_list(rows)
    data.to_parquet(str(tmp_path / "rows.parquet"))
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": data}).save_to_disk(str(tmp_path / "all"))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    expected = (Example("good", "up"), Example("bad", "down"))
    assert read_table_task(describe(tmp_path, lines, data="rows.jsonl", options=options)).rows == expected
    assert read_table_task(describe(tmp_path, None, data="rows.parquet", options=options)).rows == expected
    assert read_table_task(describe(tmp_path, None, data="all", split="test", options=options)).rows == expected
    assert read_table_task(describe(tmp_path, None, data="one", split="test", options=options)).rows == expected
    with pytest.raises(DataError, match=r"mine\.yaml: the dataset 'all', split 'train': KeyError"):
        read_table_task(describe(tmp_path, None, data="all", split="train"))
    with pytest.raises(DataError, match="no 'split'"):
        read_table_task(describe(tmp_path, None, data="all"))


def test_a_hub_dataset_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def load_dataset(*args: Any, **more: Any) -> Any:
        asked.append((args, more))
        return datasets.Dataset.from_list([{"text": "good", "label": 2}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    path = describe(tmp_path, None, data="some/reviews", config="plain", split="train", revision="abc", options=["a", "b"])
    with pytest.raises(DataError, match="some/reviews, train row 1: column 'label' is 2, but there are options 0 to 1"):
        read_table_task(path)
    assert asked == [(("some/reviews", "plain"), {"split": "train", "revision": "abc"})]


@pytest.mark.parametrize(
    ("table", "changes", "complaint"),
    [
        (CSV, {"colour": "red"}, "mine.yaml: unknown key colour; known are"),
        (CSV, {"input": None}, "mine.yaml: no 'input'"),
        (CSV, {"instruction": None}, "mine.yaml: no 'instruction'"),
        (CSV, {"instruction": 3}, "mine.yaml: 'instruction' must be text, got int"),
        (CSV, {"options": "up"}, "mine.yaml: 'options' must be a list of texts"),
        (CSV, {"options": [True, False]}, "mine.yaml: 'options', entry 1 must be text, got bool"),
        (CSV, {"split": "train"}, "mine.yaml: split only apply to a dataset"),
        (CSV, {"input": "body"}, "rows.csv, row 1: no column 'body'; there are text, label"),
        (CSV, {"input": "{text} {body}"}, "rows.csv, row 1: no column 'body'"),
        (CSV, {"options": ["up", "Down"]}, "rows.csv, row 2: the output 'down' is not among the options: up, Down"),
        (CSV + "bad,up\n", {}, "rows.csv, row 3: the input 'bad' is already in row 2"),
        (CSV + ",up\n", {}, "rows.csv, row 3: column 'text' is empty"),
        ("text,label,label\ngood,up,down\n", {}, "rows.csv: the header names 'label' more than once"),
        ("text,label\ngood,2\n", {"options": ["u", "v"]}, "rows.csv, row 1: column 'label' is 2, but there are options 0 to 1"),
        ("text,label\na,0\nb,2\n", {"options": ["1", "2"]}, "row 2: column 'label' is 2, but there are options 0 to 1"),
        (
            'text\tlabel\n"Never\tup\nso\tdown\nmuch"\tup\n',
            {"data": "rows.tsv"},
            "row 1: a quote mark holds columns together",
        ),
        ('text\tlabel\n"Well," she said\tup\n', {"data": "rows.tsv"}, "where quote marks are text, save the table as JSON lines"),
        ("{}", {"data": "rows.json"}, "rows.json: tables are read from .csv, .tsv, .jsonl and .parquet"),
        (f"text,label\na,{'9' * 5000}\n", {"options": ["u", "v"]}, f"column 'label' is {'9' * 20}, but there are options"),
        (CSV, {"options": ["up"]}, "rows.csv, row 2: the output 'down' is not among the options: up"),
        ("text,label\ngood,up\n", {"options": ["up"]}, "lists fewer than two options, which leaves nothing to choose"),
        (CSV + "x,up,more\n", {}, "rows.csv, row 3: not 2 fields as in the header"),
        (CSV + "x\n", {}, "rows.csv, row 3: not 2 fields as in the header"),
        (CSV + '"x', {}, "rows.csv, line 4: not a table"),
        (CSV.encode() + b"caf\xe9,up\n", {}, "rows.csv, row 3: column 'text' is not UTF-8"),
        (CSV + "x" * 10_000_000 + ",up\n", {}, "rows.csv, row 3: column 'text' has 10,000,000 characters"),
        ("text,label\n", {}, "rows.csv has no rows"),
        ("", {}, "rows.csv has no rows"),
        (None, {}, "rows.csv: no such file"),
        ("x", {"data": "rows.parquet"}, "rows.parquet: not a parquet file"),
        ('{"text": "a", "label": "b"}\n[]\n', {"data": "rows.jsonl"}, "rows.jsonl, line 2: expected an object"),
        ('{"text": 1, "label": "b"}\n', {"data": "rows.jsonl"}, "rows.jsonl, line 1: column 'text' must be text, got int"),
        (
            '{"text": "a", "label": 2}\n',
            {"data": "rows.jsonl", "options": ["u", "v"]},
            "rows.jsonl, line 1: column 'label' is 2, but",
        ),
        (
            '{"text": "a", "label": true}\n',
            {"data": "rows.jsonl", "options": ["u", "v"]},
            "line 1: column 'label' must be text, got bool",
        ),
        (
            '{"text": "a", "label": -1}\n',
            {"data": "rows.jsonl", "options": ["u", "v"]},
            "column 'label' is -1, but there are options 0 to 1",
        ),
    ],
)
def test_what_is_malformed_is_named(table: str | bytes | None, changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table_task(describe(tmp_path, table, **changes))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "a: b: c", "!!python/object:os.system x", "", "a: *b"])
def test_yaml_that_is_no_description(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(text)
    with pytest.raises(DataError, match=r"mine\.yml: "):
        load_task(tmp_path / "mine.yml")
    (tmp_path / "mine.yml").write_bytes(b"# a task\nname: caf\xe9\n")
    with pytest.raises(DataError, match=r"mine\.yml, line 2: not UTF-8 text \(byte 18 of the file\)"):
        load_task(tmp_path / "mine.yml")
    with pytest.raises(DataError, match="no such file"):
        load_task(tmp_path / "nowhere.yaml")


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install '\.\[data\]'"):
        read_table_task(describe(tmp_path, "x", data="rows.parquet"))


def test_json_lines_refuse_a_row_of_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": "Judge."}, {"input": "a", "output": "b"}, {"input": "x" * 10_000_000, "output": "b"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3: 'input' has 10,000,000 characters"):
        load_task(path)


@FEW
@given(content=st.binary(max_size=80))
def test_any_bytes_in_the_table_are_read_or_refused(content: bytes, tmp_path: Path) -> None:
    for head in (b"", b"text,label\n"):
        try:
            task = read_table_task(describe(tmp_path, head + content))
        except DataError as error:
            said = str(error)
        else:
            said = task.sources[0]
            assert task.fingerprint
        assert "rows.csv" in said


@FEW
@given(
    more=st.dictionaries(
        st.sampled_from(KEYS) | st.text(max_size=3),
        st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=5), max_size=3),
        max_size=8,
    )
)
def test_any_settings_are_read_or_refused(more: dict[str, Any], tmp_path: Path) -> None:
    try:
        path = describe(tmp_path, None, **{**more, "data": "rows.csv"})
        (tmp_path / "rows.csv").write_text(CSV)
        read_table_task(path)
    except DataError:
        pass
