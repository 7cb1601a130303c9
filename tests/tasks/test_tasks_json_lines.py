"""A user's own task file: what is read, and how every complaint names the file and the line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_vectors.errors import DataError
from instruction_vectors.tasks import Example, load_task
from instruction_vectors.tasks.readers.json_lines import read_task_file

HEADER = {"instruction": "Say the opposite."}
ROWS = [{"input": "hot", "output": "cold"}, {"input": "up", "output": "down"}]


def write(path, *values):
    path.write_text("\n".join(v if isinstance(v, str) else json.dumps(v) for v in values), encoding="utf-8")
    return path


def test_a_file_with_a_header_is_a_task(tmp_path):
    header = {**HEADER, "instructions": ["Give the antonym."], "knowledge": ["The opposite of {input} is"]}
    path = write(tmp_path / "opposites.jsonl", header, *ROWS, "", "  ")
    task = load_task(str(path))
    assert task == load_task(path)
    assert task.name == "opposites"
    assert task.instructions == ("Say the opposite.", "Give the antonym.")
    assert task.knowledge == ("The opposite of {input} is",)
    assert task.rows == (Example("hot", "cold"), Example("up", "down"))
    assert (task.kind, task.options, task.sources) == ("generate", None, ("opposites.jsonl",))


def test_the_first_wording_may_stand_among_the_others(tmp_path):
    header = {"instruction": "B.", "instructions": ["A.", "B.", "C."]}
    assert load_task(write(tmp_path / "t.jsonl", header, *ROWS)).instructions == ("B.", "A.", "C.")


def test_options_make_a_classification(tmp_path):
    task = load_task(write(tmp_path / "t.jsonl", {**HEADER, "options": ["cold", "down", "left"]}, *ROWS))
    assert (task.kind, task.options) == ("classify", ("cold", "down", "left"))


def test_an_instruction_from_elsewhere_replaces_the_files_own(tmp_path):
    assert read_task_file(write(tmp_path / "t.jsonl", *ROWS), "Do this.").instructions == ("Do this.",)
    assert read_task_file(write(tmp_path / "u.jsonl", HEADER, *ROWS), "Do this.").instructions == ("Do this.",)


def test_empty_keys_of_the_header_are_as_if_left_out(tmp_path):
    header = {**HEADER, "instructions": [], "knowledge": [], "options": []}
    task = load_task(write(tmp_path / "t.jsonl", header, *ROWS))
    assert (task.instructions, task.knowledge, task.options) == (("Say the opposite.",), (), None)


def test_blanks_around_an_answer_are_no_part_of_it(tmp_path):
    task = load_task(write(tmp_path / "t.jsonl", HEADER, {"input": "hot", "output": " cold\n"}))
    assert task.rows == (Example("hot", "cold"),)


def test_line_ends_of_other_systems_are_read(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes("\r\n".join(json.dumps(v) for v in (HEADER, *ROWS)).encode())
    assert len(load_task(path).rows) == 2


@pytest.mark.parametrize(
    ("lines", "where", "message"),
    [
        ([HEADER, ROWS[0], {"input": "up"}], ", line 3", "no 'output'"),
        ([HEADER, {"output": "down"}], ", line 2", "no 'input'"),
        ([HEADER, {"input": "a", "output": 5}], ", line 2", "'output' must be text, got int"),
        ([HEADER, {"input": None, "output": "b"}], ", line 2", "'input' must be text, got NoneType"),
        ([HEADER, "", {"input": "a", "output": "  "}], ", line 3", "'output' is empty"),
        ([HEADER, *ROWS, ROWS[0]], ", line 4", "the input 'hot' is already in line 2"),
        ([HEADER, ROWS[0], '{"input": "up", '], ", line 3", "not JSON"),
        ([HEADER, '["a", "b"]'], ", line 2", "expected an object, got list"),
        ([HEADER, "[" * 100_000], ", line 2", "not JSON"),
        ([HEADER, '{"input": ' + "9" * 5000 + "}"], ", line 2", "not JSON"),
        ([HEADER, r'{"input": "half \ud800", "output": "b"}'], ", line 2", "'input' holds half of a surrogate pair"),
        ([{**HEADER, "options": ["cold", "left"]}, *ROWS], ", line 3", "the output 'down' is not among the options"),
        ([{**HEADER, "options": 3}, *ROWS], ", line 1", "'options' must be a list of texts"),
        ([{**HEADER, "options": ["cold", 3]}, *ROWS], ", line 1", "'options' must be a list of texts"),
        ([{**HEADER, "options": ["cold", "down", "cold"]}, *ROWS], ", line 1", "'options' holds the same text twice"),
        ([{**HEADER, "knowledge": "{input} is not"}, *ROWS], ", line 1", "'knowledge' must be a list of texts"),
        ([{**HEADER, "knowledge": ["the opposite is"]}, *ROWS], ", line 1", "lacks {input}"),
        ([{"instructions": "Say it."}, *ROWS], ", line 1", "'instructions' must be a list of texts"),
        ([{"instruction": "Say it.", "instructions": 1}, *ROWS], ", line 1", "'instructions' must be a list of texts"),
        ([{**HEADER, "option": ["cold", "down"]}, *ROWS], ", line 1", "unknown 'option'; known are instruction, instructions, "),
        ([{"instruction": 7}, *ROWS], ", line 1", "'instructions' must be a list of texts"),
        ([{"instruction": " "}, *ROWS], ", line 1", "none of them empty"),
        ([{"instruction": "x" * 10_000_000}, *ROWS], ", line 1", "'instructions' has 10,000,000 characters"),
        ([{**HEADER, "knowledge": ["{input}" + "x" * 10_000_000]}, *ROWS], ", line 1", "'knowledge' has 10,000,007 characters"),
        ([{**HEADER, "options": ["cold", "x" * 10_000_000]}, *ROWS], ", line 1", "'options' has 10,000,000 characters"),
        ([HEADER, {"input": "x" * 10_000_000, "output": "b"}], ", line 2", "'input' has 10,000,000 characters"),
        ([HEADER, HEADER, *ROWS], ", line 2", "no 'input'"),
        (ROWS, "", "no instruction; begin the file with a line"),
        ([{"instruction": ""}, *ROWS], "", "no instruction"),
        ([HEADER], "", "no rows"),
        ([], "", "no rows"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_line(tmp_path, lines, where, message):
    path = write(tmp_path / "bad.jsonl", *lines)
    with pytest.raises(DataError, match=message) as caught:
        load_task(path)
    assert str(caught.value).startswith(f"{path}{where}:")


def test_bytes_that_are_not_utf8_are_refused_with_their_place(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"instruction": "x"}\n{"input": "caf\xe9", "output": "b"}')
    with pytest.raises(DataError, match=r"latin\.jsonl, line 2: not UTF-8 text \(byte 35 of the file\)"):
        load_task(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        load_task(tmp_path / "gone.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match=r"folder\.jsonl: cannot be read"):
        load_task(tmp_path / "folder.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(["input", "output", "instruction", "instructions", "knowledge", "options", "other"])
lines = st.one_of(
    st.dictionaries(keys, json_values | st.lists(st.text(max_size=4), max_size=3), max_size=4).map(json.dumps),
    st.fixed_dictionaries({"input": st.text(max_size=4), "output": st.text(max_size=4)}).map(json.dumps),
    st.text(max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(
    content=st.lists(lines, max_size=5).map("\n".join).map(lambda t: t.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)
)
def test_whatever_a_file_holds_it_is_a_task_or_a_data_error_that_names_it(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    try:
        task = load_task(path)
    except DataError as refused:
        said = str(refused)
    else:
        said = f"{path} was read"
        assert task.rows
        assert len(task.fingerprint) == 64
        assert all(row.output in task.choices(row) for row in task.rows)
    assert said.startswith(str(path))
